"""A small run, as it is reported to a display, and a clock to time it by."""

from __future__ import annotations

import io
from pathlib import Path

from epam_extract.progress import Progress
from epam_extract.progress.displays import open_progress
from epam_extract.progress.records import Plan, StageLoad, Summary
from epam_extract.records import VideoFailure

PLAN = Plan(
    videos=5,
    to_do=3,
    skipped=1,
    failed_before=1,
    frames=1000,
    windows=64,
    bytes=3_400_000_000,
    free_bytes=98_000_000_000,
)
LOADS = {
    "read": StageLoad(310.0, 0.24),
    "pose": StageLoad(92.0, 0.74),
    "network": StageLoad(5.4, 0.98, "windows"),
}
FAILURE = VideoFailure("b [bold]", "decode", "61 of 74 frames decoded")
SUMMARY = Summary(Path("f.h5"), 5, 3, 1, (FAILURE,), 64, 1000, 900, 12.0, 10_000)


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run_on(listener: Progress) -> None:
    """A small run: two videos done, one failed."""
    with listener:
        listener.message("weights: random, seed 0")
        listener.probed(5, 5)
        listener.download("pose.onnx", 0, 100)
        listener.download("pose.onnx", 100, 100)
        listener.video_skipped("old")
        listener.plan(PLAN)
        listener.video_started("a", 500)
        listener.video_started("b [bold]", 300)
        listener.advance(500)
        listener.stages(LOADS)
        listener.video_done("a", 32)
        listener.video_failed(FAILURE, frames_left=300)
        listener.warning("batch halved to 32")
        listener.video_started("c", 200)
        listener.advance(200)
        listener.video_done("c", 32)
        listener.finished(SUMMARY)


def shown(kind: str, *, quiet: bool = False, verbose: bool = False) -> str:
    stream = io.StringIO()
    run_on(open_progress(kind, quiet=quiet, verbose=verbose, stream=stream))
    return stream.getvalue()
