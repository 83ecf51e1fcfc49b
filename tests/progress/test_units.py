"""Durations, rates and sizes in words."""

from __future__ import annotations

from reported_run import PLAN

from epam_extract.options import format_bytes
from epam_extract.progress import describe_plan, format_duration, format_rate
from epam_extract.progress.records import Plan


def test_numbers_in_words() -> None:
    assert [format_bytes(n) for n in (0, 999, 1500, 3_400_000_000, 98_000_000_000, 2e15)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "3.4 GB",
        "98 GB",
        "2000.0 TB",
    ]
    assert [format_duration(s) for s in (0.84, 9.96, 59.7, 150, 3900, 86400 * 3)] == [
        "0.8 s",
        "10 s",
        "1 min 00 s",
        "2 min 30 s",
        "1 h 05 min",
        "3 d 0 h",
    ]
    assert [format_rate(r, "frames") for r in (0.25, 5.44, 1234.5)] == [
        "0.2 frames/s",
        "5.4 frames/s",
        "1,234 frames/s",
    ]
    assert describe_plan(PLAN) == (
        "3 videos to do (1 done before; 1 failed before, see --retry-failed): 1,000 frames, "
        "64 windows, about 3.4 GB (98 GB free)"
    )
    nothing = Plan(4, 0, 4, 0, 0, 0, 0, 10)
    assert describe_plan(nothing) == "nothing to do for 4 videos (4 done before)"
