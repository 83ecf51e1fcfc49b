"""A model opens nothing outside its own folder, and says which operators it lacks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from make_onnx import Output, write_network

from epam_extract.bench.onnx_graph import chunk, varint
from epam_extract.errors import PoseModelError
from epam_extract.pose.onnx_file import external_files
from epam_extract.pose.onnx_network import DETECTORS, OnnxNetwork, open_network

BOXES = np.arange(20, dtype=np.float32).reshape(4, 5)
DETS = Output("dets", BOXES)


def opened(path: Path) -> OnnxNetwork:
    return open_network(path, DETECTORS, option="--det-model")


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin"])
def test_numbers_in_a_file_beside_are_read_and_count(location: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    beside = tmp_path / location
    beside.write_bytes(BOXES.tobytes())
    network = opened(write_network(tmp_path / "a.onnx", [DETS], external=location))
    ((_, (found,)),) = network.run(1, lambda index, out: out.fill(0))
    assert np.array_equal(found[0], BOXES)
    first = network.describe()["sha256"]
    beside.write_bytes((BOXES + 1).tobytes())
    assert network.describe()["sha256"] != first


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("../out.bin", "outside its own folder"),
        ("sub/../../out.bin", "outside its own folder"),
        ("/etc/passwd", "outside its own folder"),
        ("C:\\out.bin", "outside its own folder"),
        ("\\\\server\\share", "outside its own folder"),
        ("link.bin", "outside its own folder"),
        ("none.bin", "which is not there"),
        ("pipe", "which is not there"),
        ("folder", "which is not there"),
        ("a\0b", "which is not there"),
        ("x" * 3000, "which is not there"),
    ],
)
def test_numbers_anywhere_else_are_refused(location: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "out.bin").write_bytes(BOXES.tobytes())
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (folder / "link.bin").symlink_to("../out.bin")
    os.mkfifo(folder / "pipe")
    path = write_network(folder / "a.onnx", [DETS], external=location)
    with pytest.raises(PoseModelError, match=told) as error:
        opened(path)
    assert "a model may name files beside it only" in str(error.value)


def test_an_operator_of_another_program_is_named(tmp_path: Path) -> None:
    path = write_network(tmp_path / "a.onnx", [DETS], domain="mmdeploy")
    with pytest.raises(PoseModelError, match="needs the operator Add of mmdeploy") as error:
        opened(path)
    assert "\n" not in str(error.value)
    opened(write_network(tmp_path / "b.onnx", [DETS], domain="ai.onnx"))


def test_graphs_inside_one_another_end_somewhere(tmp_path: Path) -> None:
    graph = b""
    for _ in range(2000):  # graph > node > attribute > graph
        graph = chunk(1, chunk(5, chunk(6, graph)))
    path = tmp_path / "deep.onnx"
    path.write_bytes(chunk(7, graph))
    with pytest.raises(PoseModelError, match="more than 64 deep"):
        opened(path)


@pytest.mark.parametrize(
    "content",
    [b"\x3a", b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 100, b"\x0b\x0c", b"\x3a\x05\x0a\x09ab", b""],
)
def test_what_breaks_off_is_no_network(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(PoseModelError, match=r"is no ONNX network .*Expected the file of a YOLOX"):
        opened(path)


def test_large_tensors_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    size = 1 << 30
    head = b"\x3a" + varint(size + 12) + b"\x2a" + varint(size + 6) + b"\x4a" + varint(size)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    start = time.process_time()
    assert external_files(path) == []
    assert time.process_time() - start < 1
