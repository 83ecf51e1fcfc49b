"""What a running extraction reports, and the sums a display makes of it.

The pipeline reports to a :class:`Progress`, from any of its threads. The base class shows nothing
and only logs; ``displays.open_progress`` makes the ones that show something. :class:`Tally` keeps
count for them: videos, frames, speed, time left.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Mapping
from threading import RLock
from types import TracebackType

from ..config import in_bytes
from ..records import Plan, StageLoad, Summary, VideoFailure

log = logging.getLogger(__name__)

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
PACE_SECONDS = 60.0  # speed and time left come from this much of the past
FIRST_PACE_SECONDS = 2.0  # and are not shown before this much of it is there


class Progress:
    """Listens to a run and shows nothing. Every method may be called from any thread.

    Order of a run: announcements at any time; ``plan`` and ``probed`` while the videos are looked
    at, which may still go on when the first of them are done; ``finished`` once, unless an error
    ends the run. Whoever made the
    object enters and leaves it (``with progress: extract_features(..., progress=progress)``).
    """

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the display off the screen."""

    def message(self, text: str) -> None:
        """Announce something the user should know, such as random weights or a halved batch."""
        log.info("%s", text)

    def warning(self, text: str) -> None:
        """Announce something the user should look at; shown with ``--quiet`` too."""
        log.warning("%s", text)

    def download(self, name: str, done: int, total: int | None) -> None:
        """A file on its way: ``done`` of ``total`` bytes (None: unknown); done once they agree."""

    def probed(self, done: int, total: int) -> None:
        """``done`` of ``total`` videos have been looked at."""

    def plan(self, plan: Plan) -> None:
        """What the run is going to do; comes again and again until ``plan.exact``."""

    def video_started(self, video_id: str, frames: int) -> None:
        """A video's first frame is being read; ``frames`` of it are to be processed."""

    def video_done(self, video_id: str, windows: int) -> None:
        """A video is committed, complete, with this many windows."""

    def corrected(self, frames: int) -> None:
        """A video turned out to have this many more frames than the plan says, or fewer."""

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        """A video failed; ``frames_left`` of the plan's frames will not be processed."""
        log.warning("%s: %s: %s", failure.video_id, failure.stage, failure.message)

    def video_skipped(self, video_id: str) -> None:
        """A video is complete in the file already. May be called before ``plan``."""

    def advance(self, frames: int) -> None:
        """``frames`` more frames need no further work (their windows are done)."""

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        """Every second or so: each stage's load by name, in the order of the pipeline.

        ``bottleneck`` names the stage that holds the others up; None means the busiest one.
        """

    def finished(self, summary: Summary) -> None:
        """The run is over, complete or interrupted; nothing follows."""


SILENT = Progress()


class Tally(Progress):
    """Keeps count of a run for a display. ``lock`` guards every field; it may be re-entered."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.planned: Plan | None = None
        self.done = self.failed = self.windows = 0
        self.frames = 0
        """Frames that need no further work."""
        self._corrections = 0  # frames that the plan is off by
        self.running: dict[str, int] = {}
        """Videos being worked on, with their frames, oldest first."""
        self.loads: dict[str, StageLoad] = {}
        self.bottleneck: str | None = None
        self.downloads: dict[str, tuple[int, int | None]] = {}
        self.probing: tuple[int, int] | None = None
        self.started = time.monotonic()
        self._past: deque[tuple[float, int]] = deque()

    def download(self, name: str, done: int, total: int | None) -> None:
        with self.lock:
            self.downloads[name] = (done, total)
            if total is not None and done >= total:
                del self.downloads[name]

    def probed(self, done: int, total: int) -> None:
        with self.lock:
            self.probing = (done, total) if done < total else None

    def plan(self, plan: Plan) -> None:
        with self.lock:
            if self.planned is None:
                self.started = time.monotonic()
            self.planned = plan
            if plan.exact:
                self.probing = None

    def video_started(self, video_id: str, frames: int) -> None:
        with self.lock:
            self.running[video_id] = frames

    def video_done(self, video_id: str, windows: int) -> None:
        with self.lock:
            self.running.pop(video_id, None)
            self.done += 1
            self.windows += windows

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        with self.lock:
            self.running.pop(failure.video_id, None)
            self.failed += 1
            self._corrections -= frames_left

    def corrected(self, frames: int) -> None:
        with self.lock:
            self._corrections += frames

    def advance(self, frames: int) -> None:
        with self.lock:
            self.frames += frames
            now = time.monotonic()
            if not self._past or now - self._past[-1][0] >= 0.5:
                self._past.append((now, self.frames))
            while len(self._past) > 2 and self._past[1][0] < now - PACE_SECONDS:
                self._past.popleft()

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        with self.lock:
            self.loads = dict(loads)
            busiest = max(loads, key=lambda name: loads[name].busy, default=None)
            self.bottleneck = bottleneck or busiest

    @property
    def frames_total(self) -> int:
        """Frames that this run is to process; an estimate until the plan is exact."""
        return self.planned.frames + self._corrections if self.planned else 0

    @property
    def share(self) -> float:
        """Share of the frames that need no further work, 0 to 1."""
        return min(1.0, self.frames / self.frames_total) if self.frames_total > 0 else 0.0

    def pace(self) -> float | None:
        """Frames per second over the last minute; None while that cannot be told.

        It counts from the first frames that were done: filling the pipeline is no part of it.
        """
        with self.lock:
            if not self._past:
                return None
            then, frames = self._past[0]
            seconds = time.monotonic() - then
            if seconds < FIRST_PACE_SECONDS or self.frames == frames:
                return None
            return (self.frames - frames) / seconds

    def seconds_left(self) -> float | None:
        """Seconds the rest will take at this pace; None while that cannot be told."""
        pace = self.pace()
        return None if pace is None else max(0, self.frames_total - self.frames) / pace

    def frames_in_words(self) -> str:
        """``120 of 4,000 frames``, or ``of about``."""
        about = "" if self.planned is None or self.planned.exact else "about "
        return f"{self.frames:,} of {about}{self.frames_total:,} frames"


def escaped(text: str) -> str:
    """``text`` on one line and without what a terminal would obey, such as colours in a name."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_time(seconds: float) -> str:
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


def in_rate(rate: float, unit: str) -> str:
    """``85 frames/s``, ``5.4 windows/s``."""
    return f"{rate:,.0f} {unit}/s" if rate >= 9.95 else f"{rate:.1f} {unit}/s"


def counted(count: int, noun: str) -> str:
    """``1 video``, ``1,204 videos``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def in_words(plan: Plan) -> str:
    """What a run is going to do, in one sentence."""
    asides = []
    if plan.skipped:
        asides.append(f"{plan.skipped:,} done before")
    if plan.failed_before:
        asides.append(f"{plan.failed_before:,} failed before, see --retry-failed")
    before = f" ({'; '.join(asides)})" if asides else ""
    if not plan.to_do:
        return f"nothing to do for {counted(plan.videos, 'video')}{before}"
    return (
        f"{counted(plan.to_do, 'video')} to do{before}: {counted(plan.frames, 'frame')}, "
        f"{counted(plan.windows, 'window')}, about {in_bytes(plan.bytes)} "
        f"({in_bytes(plan.free_bytes)} free)"
    )
