"""What is not a video is refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import make_videos as make
import numpy as np
import pytest
from video_samples import WRITERS

from epam_extract.errors import ProbeError
from epam_extract.video import probe


def _text(path: Path) -> Path:
    path.write_text("this is a text file\nand no video\n")
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 20000, np.uint8).tobytes())
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _broken_link(path: Path) -> Path:
    path.symlink_to(path.parent / "gone")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_empty, "is empty"),
        (_text, "text file"),
        (_noise, "no video in any format"),
        (WRITERS["no_index.mp4"], "without its index"),
        (make.write_audio, "it has sound but no video"),
        (make.write_cover_only, "it has sound and a cover picture, but no video"),
        (_broken_link, "broken link"),
        (_folder, "is a directory"),
        (lambda path: path, "No such file"),
    ],
)
def test_what_is_no_video_is_one_clear_sentence(
    tmp_path: Path, write: Callable[[Path], Path], sentence: str
) -> None:
    path = write(tmp_path / "x.mp4")
    with pytest.raises(ProbeError, match=sentence) as caught:
        probe(path, "x")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
