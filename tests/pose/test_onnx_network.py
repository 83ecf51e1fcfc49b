"""One ONNX network: which kind it is, what goes in, and what bad files are told."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_onnx import Output, write_network

from epam_extract.errors import PoseModelError
from epam_extract.pose.onnx_network import DETECTORS, KINDS, open_network
from epam_extract.pose.preprocess import Crops, letterbox_ratio, put_letterbox, put_planes
from epam_extract.pose.rtmlib_settings import RtmlibSettings

ANYTHING = tuple(KINDS)
DETS = Output("dets", np.zeros((4, 5)))
LABELS = Output("labels", np.zeros(4, np.int64))
SIMCC = (Output("simcc_x", np.zeros((17, 128))), Output("simcc_y", np.zeros((17, 128))))
RTMO = (DETS, Output("keypoints", np.zeros((4, 17, 3))))
ANCHORS = 8 * 8 + 4 * 4 + 2 * 2


def rtmlib_tool(kind: str, path: Path, width: int, height: int) -> Any:
    """rtmlib's own object for a network."""
    import rtmlib

    tools = {"yolox": rtmlib.YOLOX, "rtmdet": rtmlib.RTMDet, "rtmo": rtmlib.RTMO}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints when it loads
        return tools[kind](str(path), model_input_size=(height, width), backend="onnxruntime")


def network(path: Path, outputs, **options):
    return open_network(write_network(path, outputs, **options), ANYTHING, option="--pose-model")


@pytest.mark.parametrize(
    ("outputs", "label", "kind"),
    [
        ([DETS], "graph", "yolox"),
        ([DETS, LABELS], "graph", "yolox"),
        ([Output("output", np.zeros((ANCHORS, 85)))], "graph", "yolox"),
        ([Output("output", np.zeros((ANCHORS, 6)))], "graph", "yolox"),
        ([DETS, LABELS], "bbox_head.rtm_cls.0.weight", "rtmdet"),
        (SIMCC, "graph", "simcc"),
        (RTMO, "graph", "rtmo"),
    ],
)
def test_the_kind_is_read_from_the_graph(tmp_path, outputs, label, kind) -> None:
    for batch in (1, "batch"):
        found = network(tmp_path / "a.onnx", outputs, label=label, batch=batch)
        assert (found.kind, found.width, found.height) == (kind, 64, 64)
        assert found.batched == (batch == "batch")


def test_a_file_called_rtmdet_is_one(tmp_path) -> None:
    assert network(tmp_path / "RTMDet_m.onnx", [DETS, LABELS]).kind == "rtmdet"


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ([Output("x", np.zeros((133, 128))), Output("y", np.zeros((133, 128)))], "133 keypoints"),
        ([DETS, Output("k", np.zeros((4, 14, 3)))], "14 keypoints"),
        ([Output("heat", np.zeros((17, 16, 12)))], "heatmaps"),
        ([Output("output0", np.zeros((56, ANCHORS)))], "no kind that is known"),
        ([Output("logits", np.zeros(1000))], "no kind that is known"),
    ],
)
def test_other_networks_are_refused_with_their_graph(tmp_path, outputs, told) -> None:
    with pytest.raises(PoseModelError, match=told) as error:
        network(tmp_path / "a.onnx", outputs)
    assert outputs[0].name in str(error.value)
    assert "--pose-model" in str(error.value)


def test_the_right_network_in_the_wrong_place_is_named(tmp_path) -> None:
    path = write_network(tmp_path / "a.onnx", SIMCC)
    with pytest.raises(PoseModelError, match=r"YOLOX.*RTMDet.*which is an RTMPose network"):
        open_network(path, DETECTORS, option="--det-model")
    path = write_network(tmp_path / "b.onnx", [DETS])
    with pytest.raises(PoseModelError, match=r"expected an RTMPose.*which is a YOLOX detector"):
        open_network(path, ("simcc", "rtmo"), option="--pose-model")


@pytest.mark.parametrize("options", [{"channels": 1}, {"extra_inputs": ("factor",)}])
def test_a_network_that_takes_no_pictures_is_refused(tmp_path, options) -> None:
    with pytest.raises(PoseModelError, match="does not take pictures"):
        network(tmp_path / "a.onnx", [DETS], **options)


def test_files_that_are_no_network(tmp_path) -> None:
    good = write_network(tmp_path / "good.onnx", [DETS]).read_bytes()
    for content in (b"", b"this is a text\n", good[: len(good) // 2], b"\x00" * 1000):
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(content)
        with pytest.raises(PoseModelError, match=r"bad\.onnx") as error:
            open_network(bad, DETECTORS, option="--det-model")
        assert "YOLOX" in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(PoseModelError, match=r"--det-model .*is a folder"):
        open_network(tmp_path, DETECTORS, option="--det-model")


def test_a_missing_file_is_not_downloaded(tmp_path, monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a download was tried")

    monkeypatch.setattr("rtmlib.tools.base.download_checkpoint", never)
    monkeypatch.setattr("urllib.request.urlopen", never)
    for name in ("gone.onnx", "https:/example.org/gone.onnx"):
        with pytest.raises(PoseModelError, match="no such file"):
            open_network(tmp_path / name, DETECTORS, option="--det-model")


@pytest.mark.parametrize(
    ("name", "outputs", "given", "size"),
    [
        ("rtmdet_nano.onnx", [DETS, LABELS], None, (320, 320)),
        ("yolox.onnx", [DETS], None, (640, 640)),
        ("yolox.onnx", [DETS], (416, 320), (416, 320)),
        ("yolox_384x512.onnx", [DETS], None, (512, 384)),
        ("rtmpose_8xb256-64x64.onnx", SIMCC, None, (64, 64)),
    ],
)
def test_an_open_input_size_gets_the_usual_one(tmp_path, name, outputs, given, size) -> None:
    path = write_network(tmp_path / name, outputs, height="height", width="width")
    found = open_network(path, ANYTHING, option="--det-model", input_size=given)
    assert (found.width, found.height) == size
    fixed = write_network(tmp_path / name, outputs)
    found = open_network(fixed, ANYTHING, option="--det-model", input_size=(128, 128))
    assert (found.width, found.height) == (64, 64)


def test_a_batch_axis_that_is_fixed_inside_is_noticed(tmp_path) -> None:
    marked = Output("dets", np.zeros((1, 5)), np.ones((1, 5)))
    found = network(tmp_path / "a.onnx", [marked], fixed_inside=True)
    assert not found.batched
    assert _means(found, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("batch", "fixed_shape"), [(1, False), (2, False), (2, True), (8, True)])
def test_every_picture_is_run_once_in_order(tmp_path, batch, fixed_shape) -> None:
    marked = Output("dets", np.zeros((1, 5)), np.ones((1, 5)))
    found = network(tmp_path / "a.onnx", [marked])
    found = dataclasses.replace(found, batch=batch, fixed_shape=fixed_shape)
    assert _means(found, 5) == [0, 1, 2, 3, 4]
    assert _means(found, 0) == []


def _means(found, count: int) -> list[float]:
    values: list[float] = []
    for where, (dets,) in found.run(count, lambda index, out: out.fill(index)):
        assert len(dets) == where.stop - where.start
        values += dets[:, 0, 0].tolist()
    return values


@pytest.mark.parametrize("kind", ["yolox", "rtmdet", "rtmo"])
@pytest.mark.parametrize("shape", [(108, 192), (300, 64), (64, 96), (40, 30), (1, 500), (64, 64)])
def test_whole_pictures_go_in_as_rtmlib_puts_them(tmp_path, kind, shape) -> None:
    outputs = {"yolox": [DETS], "rtmdet": [DETS, LABELS], "rtmo": RTMO}[kind]
    found = network(tmp_path / f"{kind}.onnx", outputs, height=64, width=96)
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    tool = rtmlib_tool(kind, found.path, 96, 64)
    if shape[0] > 1:  # rtmlib fails on a picture that shrinks to no rows
        picture, ratio = tool.preprocess(np.ascontiguousarray(rgb[..., ::-1]))
        expected = picture.transpose(2, 0, 1).astype(np.float32)
    out = np.full((3, 64, 96), np.nan, np.float32)
    put_letterbox(rgb, letterbox_ratio(rgb, found), found.tables, out)
    assert np.isfinite(out).all()
    if shape[0] > 1:
        assert letterbox_ratio(rgb, found) == ratio
        np.testing.assert_array_equal(out, expected)


def test_crops_are_normalised_as_rtmlib_does(tmp_path) -> None:
    found = network(tmp_path / "a.onnx", SIMCC)
    rgb = np.arange(64 * 64 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 64, 3)
    expected = (
        (rgb[..., ::-1] - np.array(found.settings.mean)) / np.array(found.settings.std)
    ).transpose(2, 0, 1)
    out = np.empty((3, 64, 64), np.float32)
    put_planes(rgb, found.tables, out)
    np.testing.assert_array_equal(out, expected.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("width", "height"), [(96, 128), (288, 384), (64, 64), (80, 60)])
def test_crops_lie_where_rtmlib_puts_them(width, height, dtype) -> None:
    from rtmlib.tools.pose_estimation.pre_processings import bbox_xyxy2cs, top_down_affine

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    low = rng.uniform(-20, 150, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.5, 100, (20, 2))], 1).astype(dtype)
    crops = Crops.around(boxes, width=width, height=height)
    for index, box in enumerate(boxes):
        center, scale = bbox_xyxy2cs(box, padding=1.25)
        expected, scale = top_down_affine((width, height), scale, center, frame)
        np.testing.assert_array_equal(crops.centers[index], center)
        np.testing.assert_array_equal(crops.scales[index], scale)
        np.testing.assert_array_equal(crops.cut(index, frame), expected)


@pytest.mark.parametrize("kind", ["yolox", "rtmdet", "simcc", "rtmo"])
def test_the_settings_are_those_of_rtmlibs_objects(tmp_path, kind) -> None:
    import rtmlib

    path = write_network(tmp_path / "a.onnx", [DETS])
    make = {"yolox": rtmlib.YOLOX, "rtmdet": rtmlib.RTMDet, "simcc": rtmlib.RTMPose}
    with contextlib.redirect_stdout(io.StringIO()):
        tool = make.get(kind, rtmlib.RTMO)(str(path), backend="onnxruntime")
    settings = RtmlibSettings.of(kind)
    assert (settings.mean, settings.std) == (tool.mean, tool.std)
    if kind != "simcc":
        # older versions hold RTMDet's thresholds inside their code
        assert settings.score_thr == getattr(tool, "score_thr", 0.3)
        assert settings.nms_thr == getattr(tool, "nms_thr", 0.45)


def test_input_arrays_are_used_again_but_never_by_two_at_once(tmp_path) -> None:
    found = dataclasses.replace(network(tmp_path / "a.onnx", [DETS]), batch=2)
    seen: list[np.ndarray] = []

    def fill(index: int, out: np.ndarray) -> None:
        seen.append(out)
        if index == 0:  # another run begins while this one is filled
            list(found.run(1, lambda _, other: seen.append(other)))

    list(found.run(3, fill))
    outer, inner, second, third = seen
    assert not np.shares_memory(outer, inner)
    assert np.shares_memory(outer.base, second.base)
    assert third.base is outer.base or third.base is inner.base


def test_the_description_tells_files_apart(tmp_path) -> None:
    first = network(tmp_path / "a.onnx", [DETS]).describe()
    second = network(tmp_path / "a.onnx", [DETS], label="other").describe()
    assert first["name"] == "a.onnx"
    assert first["kind"] == "yolox"
    assert first["input"] == [64, 64]
    assert first["sha256"] != second["sha256"]


# ---------------------------------------------------------------- GPU asked for


def test_a_gpu_that_onnxruntime_has_not_got_is_an_error(tmp_path, monkeypatch) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = write_network(tmp_path / "a.onnx", [DETS])
    with pytest.raises(PoseModelError, match=r"onnxruntime-gpu.*--device cpu"):
        open_network(path, DETECTORS, option="--det-model", device="cuda")


def test_a_silent_fall_back_to_the_cpu_is_an_error(tmp_path, monkeypatch) -> None:
    import onnxruntime as ort

    asked = []

    class Fallen:
        def __init__(self, *_: object, providers: list[object], **__: object) -> None:
            asked.append(providers)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: available)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(ort, "InferenceSession", Fallen)
    path = write_network(tmp_path / "a.onnx", [DETS])
    with pytest.raises(PoseModelError, match=r"asked for cuda:3.*CPUExecutionProvider"):
        open_network(path, DETECTORS, option="--det-model", device="cuda:3")
    assert asked[0][0][0] == "CUDAExecutionProvider"
    assert asked[0][0][1]["device_id"] == 3


def test_an_unknown_device_is_refused(tmp_path) -> None:
    path = write_network(tmp_path / "a.onnx", [DETS])
    with pytest.raises(PoseModelError, match="'mps'"):
        open_network(path, DETECTORS, option="--det-model", device="mps")


@pytest.mark.slow
def test_onnxruntime_keeps_no_record_of_what_it_ran(tmp_path) -> None:
    """In a process of its own, since onnxruntime decides once."""
    path = write_network(tmp_path / "a.onnx", [DETS])
    code = (
        "import sys; from pathlib import Path\n"
        "from epam_extract.pose.onnx_network import open_network\n"
        "open_network(Path(sys.argv[1]), ('yolox',), option='--det-model')"
    )
    home = tmp_path / "home"
    home.mkdir()
    names = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")
    environment = {**os.environ, **dict.fromkeys(names, str(home))}
    for name in ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS"):  # would all keep it quiet
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True)
    assert not list(home.rglob("*onnxruntime*"))
