"""Every frame once, in order and at its time, in pieces that stay right."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from video_samples import EXACT, HAS_DECORD, NO_VIDEO, WRITERS, needs_decord, numbers

from epam_extract.errors import ConfigError, DecodeError, ProbeError
from epam_extract.video import (
    close_workers,
    frames,
    open_video,
    probe,
    read_frames,
    read_header,
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "first", "count", "begins", "why"), EXACT)
def test_every_frame_once_in_order_at_its_time(
    sample: Callable[[str], Path], name: str, first: int, count: int, begins: float, why: str
) -> None:
    found = probe(sample(name), name)
    assert found.num_frames == count
    assert found.fps == 25
    assert np.allclose(found.timestamps, begins + np.arange(count) / 25, atol=2e-3)
    assert (found.height, found.width) == ((65, 97) if name.startswith("odd") else (64, 96))
    if why and HAS_DECORD:
        with pytest.raises(ProbeError, match=why):
            probe(sample(name), name, decoder="decord")
    assert numbers(found) == list(range(first, first + count))


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in NO_VIDEO])
def test_reading_once_finds_what_a_probe_measures(sample: Callable[[str], Path], name: str) -> None:
    with open_video(sample(name), "x") as opened:
        shown = [frame for piece in opened.frames() for frame in piece.frames]
    assert opened.video is not None
    if name == "hole.mp4":  # where the packets do not show the damage
        assert opened.video.notes == (f"damaged or cut short: {len(shown)} of 40 frames decode",)
        assert opened.video.num_frames == len(shown) < 40
        assert np.allclose(opened.video.timestamps[:7], np.arange(7) / 25)
        assert opened.video.timestamps[-1] > len(shown) / 25  # what is missing moves no other
        assert opened.video.fps == 25
        return
    found = probe(sample(name), "x")
    assert len(shown) == found.num_frames
    assert repr(opened.video) == repr(found)
    np.testing.assert_array_equal(opened.video.timestamps, found.timestamps)


@pytest.mark.parametrize("name", ["h264_b.mp4", "ntsc.mp4", "mpeg4_b.avi", "vp9.webm", "h264.mkv"])
def test_a_header_alone_says_how_many_frames_to_expect(
    sample: Callable[[str], Path], name: str
) -> None:
    header = read_header(sample(name))
    assert header.frames == 40
    assert float(header.fps) == pytest.approx(29.97 if name == "ntsc.mp4" else 25, abs=0.01)


@needs_decord
@pytest.mark.parametrize(
    "name",
    [row[0] for row in EXACT if not row[4] and row[0] not in ("hevc10.mp4", "odd.webm")]
    + ["turned90.mp4"],
)
def test_on_common_videos_both_decoders_give_the_same_bits(
    sample: Callable[[str], Path], name: str
) -> None:
    found = probe(sample(name), name)
    ours = np.concatenate([piece.frames for piece in read_frames(found, decoder="decord")])
    theirs = np.concatenate([piece.frames for piece in read_frames(found, decoder="pyav")])
    assert np.array_equal(ours, theirs)


def test_a_file_that_changes_after_the_probe_is_a_decode_error(
    sample: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(sample("h264.mp4").read_bytes())
    found = probe(path, "x")
    path.write_bytes(sample("long.mp4").read_bytes())
    with pytest.raises(DecodeError, match="40"):
        numbers(found)
    path.write_bytes(sample("two.mp4").read_bytes())
    with pytest.raises(DecodeError, match="2 of 40 frames"):
        numbers(found)


def test_decord_on_request_must_be_installed(
    sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "has_decord", lambda: False)
    assert numbers(probe(sample("h264.mp4"), "x")) == list(range(40))
    with pytest.raises(ConfigError, match="decord is not installed"):
        probe(sample("h264.mp4"), "x", decoder="decord")


def test_another_decoder_is_refused(sample: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="auto, decord, pyav"):
        probe(sample("h264.mp4"), "x", decoder="opencv")


def test_pieces_are_full_but_the_last_and_start_anywhere(sample: Callable[[str], Path]) -> None:
    found = probe(sample("long.mp4"), "x")
    pieces = list(read_frames(found))
    assert [piece.start for piece in pieces] == list(range(0, 100, 16))
    assert [len(piece.frames) for piece in pieces] == [16] * 6 + [4]
    for decoder in ("auto", "pyav"):
        later = list(read_frames(found, start=48, decoder=decoder))
        assert [piece.start for piece in later] == [48, 64, 80, 96]
        for ours, theirs in zip(later, pieces[3:], strict=True):
            assert np.array_equal(ours.frames, theirs.frames)
    assert list(read_frames(found, start=100)) == []
    with pytest.raises(ValueError, match="start"):
        read_frames(found, start=101)


def test_pieces_stay_right_for_as_long_as_they_are_held(sample: Callable[[str], Path]) -> None:
    found = probe(sample("long.mp4"), "x")
    first = list(read_frames(found))
    views = [piece.frames[3:, ::2] for piece in first[:2]]
    copies = [view.copy() for view in views]
    whole = [piece.frames.copy() for piece in first]
    held = first[-1].frames
    del first
    again = list(read_frames(found))
    other = list(read_frames(probe(sample("turned90.mp4"), "y")))
    close_workers()
    assert len(other) == 3
    for view, copy in zip(views, copies, strict=True):
        assert np.array_equal(view, copy)
    assert np.array_equal(held, whole[-1])
    for piece, copy in zip(again, whole, strict=True):
        assert np.array_equal(piece.frames, copy)


@pytest.mark.slow
def test_videos_are_read_in_threads_at_the_same_time(sample: Callable[[str], Path]) -> None:
    names = ["h264.mp4", "h264.ts", "long.mp4", "vp9.webm"]
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda name: numbers(probe(sample(name), name)), names))
    assert [len(g) for g in got] == [40, 40, 100, 40]
    assert all(g == list(range(len(g))) for g in got)


def test_strange_names_are_paths_and_nothing_else(
    sample: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:0.mp4", "-x.mp4", "männ %03d #1?.mp4", "concat:a|b.mp4"):
        Path(name).write_bytes(sample("h264.mp4").read_bytes())
        assert numbers(probe(Path(name), name)) == list(range(40))
