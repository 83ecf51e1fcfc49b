"""Times of a file's frames, and their rate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def seconds_of(
    pts: list[int | None], time_base: Fraction, fps: Fraction
) -> tuple[np.ndarray, list[str]]:
    """Times of the frames, (T,) float64 seconds, and notes.

    They come from the file's timestamps, or from its rate if any timestamp is missing.
    """
    known = [t for t in pts if t is not None]
    if len(known) < len(pts):
        note = f"it holds no timestamps: times follow from {float(fps):g} frames a second"
        return np.arange(len(pts)) / float(fps), [note]
    ticks = np.array(sorted(known), np.float64)
    return ticks * time_base.numerator / time_base.denominator, []


def measured_fps(seconds: np.ndarray, stated: Fraction) -> Fraction:
    """Frames per second from the timestamps; the header's exact fraction if that agrees to 1 %."""
    span = float(seconds[-1] - seconds[0])
    if span <= 0:
        return stated
    measured = (len(seconds) - 1) / span
    if abs(float(stated) / measured - 1) < 0.01:
        return stated
    return Fraction(measured).limit_denominator(1001)
