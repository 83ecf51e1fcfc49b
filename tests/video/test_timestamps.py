"""Times from a file's timestamps, else from its rate; and the rate that they show."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from epam_extract.video.timestamps import measured_fps, seconds_of


def test_times_are_the_timestamps_in_display_order() -> None:
    seconds, notes = seconds_of([0, 80, 40, 120], Fraction(1, 1000), Fraction(25))
    np.testing.assert_allclose(seconds, [0, 0.04, 0.08, 0.12])
    assert notes == []


def test_one_missing_timestamp_means_times_by_the_rate() -> None:
    seconds, notes = seconds_of([0, None, 7], Fraction(1, 1000), Fraction(30000, 1001))
    np.testing.assert_allclose(seconds, np.arange(3) * 1001 / 30000)
    assert notes == ["it holds no timestamps: times follow from 29.97 frames a second"]


@pytest.mark.parametrize(
    ("seconds", "stated", "rate"),
    [
        (np.arange(100) / 25, 25, Fraction(25)),
        (np.round(np.arange(100) * 1001 / 30000, 3), Fraction(30000, 1001), Fraction(30000, 1001)),
        (np.arange(100) / 12.5, 25, Fraction(25, 2)),
        (np.zeros(1), 24, Fraction(24)),
        (np.full(5, 3.0), 24, Fraction(24)),
    ],
)
def test_the_headers_rate_holds_where_the_times_agree_with_it(
    seconds: np.ndarray, stated: Fraction | int, rate: Fraction
) -> None:
    assert measured_fps(seconds, Fraction(stated)) == rate
