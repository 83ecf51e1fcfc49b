"""Videos made to mislead: what they claim is not believed, and how they are built ends nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import make_videos as make
import pytest
from stand_ins import CONFIG, StandInPose

from epam_extract.errors import ProbeError, VideoError
from epam_extract.pipeline.run import extract_features
from epam_extract.video import open_video, read_header


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make.write_video(tmp_path_factory.mktemp("small") / "v.mp4", frames=20).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "suffix", "forge"),
    [
        ("libx264", ".mkv", lambda data: forge(data, b"\x44\x89\x88", 3, struct.pack(">d", 1e18))),
        ("libx264", ".mkv", lambda data: forge(data, b"\x44\x89\x88", 3, struct.pack(">d", -1e9))),
        ("libx264", ".mp4", lambda data: forge(data, b"stts", 12, struct.pack(">I", 2**31 - 5))),
        ("mpeg4", ".avi", lambda data: forge(data, b"strh", 40, struct.pack("<I", 2**31 - 5))),
    ],
    ids=["long", "negative", "index", "list"],
)
def test_a_header_that_promises_millions_of_frames_stops_nothing(
    codec: str,
    suffix: str,
    forge: Callable[[bytes], bytes],
    small: bytes,
    stand_ins: StandInPose,
    tmp_path: Path,
) -> None:
    """The plan would need more disk than there is, for windows that do not exist."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(small)
    path = make.write_video(folder / f"claims{suffix}", codec, frames=20)
    path.write_bytes(forge(path.read_bytes()))
    assert 0 <= read_header(path).frames <= path.stat().st_size
    summary = extract_features(folder, tmp_path / "f.h5", CONFIG)
    assert (summary.done, summary.failures, summary.frames) == (2, (), 40)


def forge(data: bytes, mark: bytes, after: int, value: bytes) -> bytes:
    """Replace what lies ``after`` bytes behind the beginning of ``mark``."""
    at = data.index(mark) + after
    return data[:at] + value + data[at + len(value) :]


def boxes(count: int, name: bytes) -> bytes:
    """Boxes of an mp4, each inside the one before."""
    return b"".join(struct.pack(">I4s", 8 * left, name) for left in range(count, 0, -1))


def elements(count: int, name: bytes) -> bytes:
    """Elements of a Matroska file, each inside the one before."""
    each = len(name) + 8
    sizes = ((each * left) | 1 << 56 for left in range(count - 1, -1, -1))
    return b"".join(name + size.to_bytes(8, "big") for size in sizes)


def test_boxes_and_elements_in_one_another_without_end(tmp_path: Path) -> None:
    """Each is read as far as it goes, or refused with a sentence; no reader crashes or hangs."""
    mp4 = make.write_video(tmp_path / "v.mp4", frames=20).read_bytes()
    head, rest = mp4[: mp4.index(b"ftyp") + 28], mp4[mp4.index(b"ftyp") + 28 :]
    mkv = make.write_video(tmp_path / "v.mkv", frames=20).read_bytes()
    segment = mkv.index(b"\x18\x53\x80\x67")
    start = mkv[: segment + 4] + b"\x01" + b"\xff" * 7  # of unknown length
    tags, chapters = elements(50_000, b"\x67\xc8"), elements(50_000, b"\xb6")
    files = {
        "moov.mp4": head + boxes(100_000, b"moov") + rest,
        "udta.mp4": head + boxes(100_000, b"udta") + rest,
        "end.mp4": mp4 + boxes(100_000, b"moov"),
        "tags.mkv": start
        + element(b"\x12\x54\xc3\x67", element(b"\x73\x73", tags))
        + mkv[segment + 12 :],
        "chapters.mkv": start
        + element(b"\x10\x43\xa7\x70", element(b"\x45\xb9", chapters))
        + mkv[segment + 12 :],
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        try:
            with open_video(path, name, stall_seconds=5) as opened:
                assert sum(len(piece.frames) for piece in opened.frames()) == 20
        except ProbeError as error:
            assert "died" not in str(error) and "stood still" not in str(error)


def element(name: bytes, body: bytes) -> bytes:
    """One element of a Matroska file."""
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


@pytest.mark.parametrize("how", ["grows", "is replaced", "is cut", "goes"])
def test_a_video_that_changes_while_it_is_read_fails(how: str, tmp_path: Path) -> None:
    path = make.write_video(tmp_path / "v.ts", format="mpegts", frames=80)
    with open_video(path, "v") as opened:
        pieces = opened.frames(piece_frames=4)
        next(pieces)
        if how == "grows":
            with path.open("ab") as file:
                file.write(path.read_bytes())
        elif how == "is replaced":
            make.write_video(tmp_path / "w.ts", format="mpegts", frames=79).replace(path)
        elif how == "is cut":
            with path.open("rb+") as file:
                file.truncate(path.stat().st_size // 2)
        else:
            path.unlink()
        with pytest.raises(VideoError, match=r"changed while it was read|No such file"):
            for _ in pieces:
                pass
