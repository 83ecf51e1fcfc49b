"""PyAV: pictures upright and of one size, and what is damaged is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import make_videos as make
import numpy as np
import pytest
from video_samples import needs_decord, numbers

from epam_extract.errors import DecodeError
from epam_extract.video import decode, probe, read_frames
from epam_extract.video.memory import MemoryLimit


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_rotation_is_applied(
    sample: Callable[[str], Path], degrees: int, turns: int, decoder: str
) -> None:
    found = probe(sample(f"turned{degrees}.mp4"), "x")
    assert (found.height, found.width) == ((64, 96) if degrees == 180 else (96, 64))
    # a picture shown turned clockwise reads again when it is turned back, counter-clockwise
    assert numbers(found, turns, decoder=decoder) == list(range(40))


def test_a_change_of_picture_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = make.write_video(tmp_path / "a.ts", format="mpegts", frames=20)
    large = make.write_video(
        tmp_path / "b.ts", format="mpegts", frames=20, height=128, width=192, first=20
    )
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    found = probe(both, "both")
    assert (found.height, found.width) == (64, 96)
    pieces = [piece.frames for piece in read_frames(found)]
    assert sum(map(len, pieces)) == found.num_frames >= 38
    assert {piece.shape[1:] for piece in pieces} == {(64, 96, 3)}


def test_damage_that_packets_do_not_show_is_a_decode_error_with_counts(
    sample: Callable[[str], Path],
) -> None:
    found = probe(sample("hole.mp4"), "x")
    with pytest.raises(DecodeError, match=r"hole\.mp4: only \d+ of 40 frames decode"):
        numbers(found)


@needs_decord
def test_decord_needs_no_look_at_every_packet_where_the_index_says_enough(
    sample: Callable[[str], Path],
) -> None:
    def by_index(name: str) -> decode.Measured | None:
        return decode.PyavDecoder(str(sample(name)), lambda: None, MemoryLimit(10**9)).by_index()

    for name in ("h264.mp4", "h264_b.mp4", "ntsc.mp4", "late.mp4", "one.mp4"):
        found, measured = by_index(name), probe(sample(name), "x")
        assert found is not None
        np.testing.assert_array_equal(found.timestamps, measured.timestamps)
    for name in ("h264.mkv", "variable.mp4", "negative.mp4", "cut.mp4", "short.mp4", "av1.mp4"):
        assert by_index(name) is None
