"""decord, on request: reads what it can, refuses what it would read wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import make_videos as make
import pytest
from video_samples import needs_decord, numbers

from epam_extract.errors import DecodeError, ProbeError
from epam_extract.video import decode, decord_decoder, probe


@needs_decord
@pytest.mark.parametrize("name", ["h264.ts", "av1.mp4", "cut.mp4"])
def test_decord_on_request_refuses_what_it_reads_wrongly(
    sample: Callable[[str], Path], name: str
) -> None:
    with pytest.raises(ProbeError, match="--decoder auto"):
        probe(sample(name), "x", decoder="decord")


@needs_decord
def test_decord_on_request_reads_what_it_can(sample: Callable[[str], Path]) -> None:
    for name in ("h264.mp4", "hevc10.mp4"):
        found = probe(sample(name), "x", decoder="decord")
        assert numbers(found, decoder="decord") == list(range(40))
    with pytest.raises(DecodeError, match="decord gives up"):
        numbers(probe(sample("hole.mp4"), "x"), decoder="decord")


@pytest.mark.parametrize("shown", [(64, 96, 3), (96, 64, 3)])
def test_decord_is_refused_when_its_first_frame_is_another(shown: tuple[int, int, int]) -> None:
    right = make.picture(0)
    decord_decoder._agree(right, right.copy())
    with pytest.raises(decode.Unreadable, match="decord"):
        decord_decoder._agree(make.picture(1).reshape(shown), right)
