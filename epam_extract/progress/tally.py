"""The state of a run: videos, frames, speed and time left; and each report as an event."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from ..records import VideoFailure
from .protocol import Progress
from .records import Plan, StageLoad, Summary
from .units import describe_plan, plural

log = logging.getLogger(__name__)

PACE_SECONDS = 60.0  # the speed is that of this last period,
FIRST_PACE_SECONDS = 2.0  # and unknown before this much of it has passed


@dataclass(frozen=True)
class Event:
    """One call of a :class:`Progress`, ready to be shown."""

    name: str
    """The method's name, which ``--progress json`` prints too."""
    values: Mapping[str, Any]
    """Its arguments, JSON-ready."""
    text: str = ""
    """The same as a line for people; empty if only numbers have changed."""
    level: int = logging.INFO
    """``WARNING`` and up is shown with ``--quiet``, ``DEBUG`` only with ``--verbose``."""


class Tally(Progress):
    """Keeps count of a run and hands each report, counted, to :meth:`show`.

    ``lock`` guards every field and is reentrant. It is not held during :meth:`show`.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.planned: Plan | None = None
        self.done = self.failed = self.windows = 0
        self.frames = 0
        """Frames that are finished."""
        self._corrections = 0  # frames to add to the plan's
        self.running: dict[str, int] = {}
        """Videos in progress and their frames, oldest first."""
        self.loads: dict[str, StageLoad] = {}
        self.bottleneck: str | None = None
        self.downloads: dict[str, tuple[int, int | None]] = {}
        self.probing: tuple[int, int] | None = None
        self.started = time.monotonic()
        self._past: deque[tuple[float, int]] = deque()

    def show(self, event: Event) -> None:
        """Show an event. Displays override this."""

    def _report(
        self, name: str, values: Mapping[str, Any], text: str = "", level: int = logging.INFO
    ) -> None:
        if text:
            log.info("%s", text)  # no louder: it is on the screen already
        self.show(Event(name, values, text, level))

    def message(self, text: str) -> None:
        self._report("message", {"text": text}, text)

    def notice(self, text: str) -> None:
        """A message that is shown with ``--quiet`` too."""
        self._report("message", {"text": text}, text, logging.WARNING)

    def warning(self, text: str) -> None:
        self._report("warning", {"text": text}, f"warning: {text}", logging.WARNING)

    def download(self, name: str, done: int, total: int | None) -> None:
        with self.lock:
            self.downloads[name] = (done, total)
            if total is not None and done >= total:
                del self.downloads[name]
        self._report("download", {"name": name, "done": done, "total": total})

    def probed(self, done: int, total: int) -> None:
        with self.lock:
            self.probing = (done, total) if done < total else None
        self._report("probed", {"done": done, "total": total})

    def plan(self, plan: Plan) -> None:
        with self.lock:
            if self.planned is None:
                self.started = time.monotonic()
            self.planned = plan
            if plan.exact:
                self.probing = None
        self._report("plan", asdict(plan), describe_plan(plan) if plan.exact else "")

    def video_started(self, video_id: str, frames: int) -> None:
        with self.lock:
            self.running[video_id] = frames
        self._report("video_started", {"video_id": video_id, "frames": frames})

    def video_done(self, video_id: str, windows: int) -> None:
        with self.lock:
            self.running.pop(video_id, None)
            self.done += 1
            self.windows += windows
        text = f"done: {video_id}: {plural(windows, 'window')}"
        self._report("video_done", {"video_id": video_id, "windows": windows}, text, logging.DEBUG)

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        with self.lock:
            self.running.pop(failure.video_id, None)
            self.failed += 1
            self._corrections -= frames_left
        values = {name: getattr(failure, name) for name in ("video_id", "stage", "message")}
        text = f"failed: {': '.join(values.values())}"
        self._report("video_failed", values, text, logging.ERROR)

    def video_skipped(self, video_id: str) -> None:
        self._report("video_skipped", {"video_id": video_id})

    def corrected(self, frames: int) -> None:
        with self.lock:
            self._corrections += frames
        self._report("corrected", {"frames": frames})

    def advance(self, frames: int) -> None:
        with self.lock:
            self.frames += frames
            now = time.monotonic()
            if not self._past or now - self._past[-1][0] >= 0.5:
                self._past.append((now, self.frames))
            while len(self._past) > 2 and self._past[1][0] < now - PACE_SECONDS:
                self._past.popleft()
        self._report("advance", {"frames": frames})

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        with self.lock:
            self.loads = dict(loads)
            busiest = max(loads, key=lambda name: loads[name].busy, default=None)
            self.bottleneck = bottleneck or busiest
        self._report("stages", {})

    def finished(self, summary: Summary) -> None:
        names = ("done", "failed", "windows", "interrupted")
        self._report("finished", {name: getattr(summary, name) for name in names})

    @property
    def frames_total(self) -> int:
        """Frames this run is to process; an estimate until the plan is exact."""
        return self.planned.frames + self._corrections if self.planned else 0

    @property
    def share(self) -> float:
        """Share of the frames that are finished, 0 to 1."""
        return min(1.0, self.frames / self.frames_total) if self.frames_total > 0 else 0.0

    def pace(self) -> float | None:
        """Frames per second over the last minute; None while unknown.

        It counts from the first finished frames: the time to fill the pipeline is left out.
        """
        with self.lock:
            then, frames = self._past[0] if self._past else (time.monotonic(), 0)
            seconds = time.monotonic() - then
            if seconds < FIRST_PACE_SECONDS or self.frames == frames:
                return None
            return (self.frames - frames) / seconds

    def seconds_left(self) -> float | None:
        """Seconds the rest will take at this pace; None while unknown."""
        pace = self.pace()
        return None if pace is None else max(0, self.frames_total - self.frames) / pace

    def frames_in_words(self) -> str:
        """``120 of 4,000 frames``, or ``of about``."""
        about = "" if self.planned is None or self.planned.exact else "about "
        return f"{self.frames:,} of {about}{self.frames_total:,} frames"
