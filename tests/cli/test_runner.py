"""Where a run's outcome goes: files, links, devices and pipes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from epam_extract.cli.run import check_writable, write_json
from epam_extract.errors import ConfigError, MachineError

OUTCOME = {"done": 3}


def test_the_outcome_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "s.json"
    target.write_text("old")
    write_json(str(target), OUTCOME)
    assert json.loads(target.read_text()) == OUTCOME
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "s.json")
    write_json(str(tmp_path / "link.json"), OUTCOME)
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "s.json").read_text()) == OUTCOME


def test_a_pipe_is_written_in_place(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(str(pipe))
    with pytest.raises(MachineError, match=r"--summary-json .*pipe: cannot be written"):
        write_json(str(pipe), OUTCOME)  # nobody reads it, and nobody waits for that
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(str(pipe), OUTCOME)  # into the pipe's buffer
    text = os.read(reader, 4096)
    os.close(reader)
    assert json.loads(text) == OUTCOME
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_device_is_one_sentence_and_stays_a_device() -> None:
    check_writable("/dev/full")
    with pytest.raises(MachineError, match=r"/dev/full: cannot be written \(No space left"):
        write_json("/dev/full", OUTCOME)
    assert Path("/dev/full").is_char_device()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "none" / "s.json"):
        with pytest.raises(ConfigError, match="cannot be written"):
            check_writable(str(target))
