"""Times, rates and counts of frames without decoding, where packets can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_samples import VARIABLE, numbers

from epam_extract.video import probe


@pytest.mark.slow
@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_frame_rate_keeps_real_times(sample: Callable[[str], Path], name: str) -> None:
    found = probe(sample(name), name)
    assert np.allclose(found.timestamps, np.array(VARIABLE) / 1000, atol=1e-3)
    assert float(found.fps) == pytest.approx(39 / 1.56, rel=0.02)
    assert numbers(found) == list(range(40))


def test_ntsc_rate_is_the_exact_fraction(sample: Callable[[str], Path]) -> None:
    assert probe(sample("ntsc.mp4"), "x").fps == Fraction(30000, 1001)


def test_cut_short_with_index_gives_what_decodes_and_says_so(
    sample: Callable[[str], Path],
) -> None:
    found = probe(sample("short.mp4"), "x")
    assert f"damaged or cut short: {found.num_frames} of 40 frames decode" in found.notes
    shown = numbers(found)
    assert 5 < len(shown) == found.num_frames < 30
    assert np.allclose(found.timestamps, np.array(shown) / 25)  # a lost frame moves no other


@pytest.mark.parametrize("name", ["short.mkv", "short.ts"])
def test_cut_short_stream_gives_exactly_the_frames_counted(
    sample: Callable[[str], Path], name: str
) -> None:
    found = probe(sample(name), "x")
    shown = numbers(found)
    assert 5 < len(shown) == found.num_frames < 30
    assert np.allclose(found.timestamps - found.timestamps[0], np.array(shown) / 25, atol=2e-3)
