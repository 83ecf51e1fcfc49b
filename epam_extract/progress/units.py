"""Durations, rates, counts and names as the screen shows them."""

from __future__ import annotations

import re

from ..options import format_bytes
from .records import Plan

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """``text`` on one line, with control characters such as a name's colour codes escaped."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def format_duration(seconds: float) -> str:
    """``1 h 05 min``, ``2 min 30 s``, ``12 s``, ``0.8 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def format_rate(rate: float, unit: str) -> str:
    """``85 frames/s``, ``5.4 windows/s``."""
    return f"{rate:,.0f} {unit}/s" if rate >= 9.95 else f"{rate:.1f} {unit}/s"


def plural(count: int, noun: str) -> str:
    """``1 video``, ``1,204 videos``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def describe_plan(plan: Plan) -> str:
    """What a run is going to do, in one sentence."""
    asides = [f"{plan.skipped:,} done before"] if plan.skipped else []
    if plan.failed_before:
        asides.append(f"{plan.failed_before:,} failed before, see --retry-failed")
    before = f" ({'; '.join(asides)})" if asides else ""
    if not plan.to_do:
        return f"nothing to do for {plural(plan.videos, 'video')}{before}"
    return (
        f"{plural(plan.to_do, 'video')} to do{before}: {plural(plan.frames, 'frame')}, "
        f"{plural(plan.windows, 'window')}, about {format_bytes(plan.bytes)} "
        f"({format_bytes(plan.free_bytes)} free)"
    )
