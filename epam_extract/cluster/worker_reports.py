"""Combine the reports of many workers into one run's progress and news for the scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pipeline.summary import Totals
from ..progress import Progress
from ..progress.records import StageLoad
from ..records import VideoFailure
from .scheduling import Ended, News, Returned, Started
from .worker import Report, Task

STAGE_SECONDS = 1.0
SHOWN = 8  # workers at most that are displayed one by one


@dataclass(eq=False)
class Hired:
    """One worker; its process may be restarted."""

    number: int
    actor: Any
    task: Task
    life: str | None = None
    started: bool = False
    ready: bool = False
    host: str = ""
    deaths: int = 0
    """Consecutive ones before it was ready."""
    given: dict[str, None] = field(default_factory=dict)
    """The videos it has."""
    loads: Mapping[str, StageLoad] = field(default_factory=dict)
    advanced: int = 0
    """Frames of videos that have not ended."""
    frames: dict[str, int] = field(default_factory=dict)
    """Frames of each video that it has begun."""
    totals: dict[str, Totals] = field(default_factory=dict)
    """Per life."""

    @property
    def name(self) -> str:
        return f"worker {self.number}" + (f" on {self.host}" if self.host else "")


class CombinedReports:
    """Takes the reports of all workers; shows a message once, whoever sends it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._said: set[str] = set()
        self._showed = float("-inf")
        self.windows: dict[str, int] = {}
        """Number of windows of each video that is done."""
        self.failures: dict[str, VideoFailure] = {}

    def take(self, hired: Hired, report: Report) -> list[News]:
        """Pass on a worker's report."""
        hired.totals[report.life] = report.totals
        news: list[News] = []
        for name, values in report.calls:
            news += getattr(self, f"_on_{name}")(hired, *values)
        return news

    def forget(self, hired: Hired) -> None:
        """A worker is gone: what it was processing must be done again."""
        self._progress.corrected(max(hired.advanced, 0))
        hired.advanced, hired.loads = 0, {}
        hired.given.clear()
        hired.frames.clear()

    def _on_message(self, hired: Hired, text: str) -> list[News]:
        if text not in self._said:
            self._said.add(text)
            self._progress.message(text)
        return []

    def _on_warning(self, hired: Hired, text: str) -> list[News]:
        self.say(text)
        return []

    def say(self, text: str) -> None:
        """Warn, once."""
        if text not in self._said:
            self._said.add(text)
            self._progress.warning(text)

    def _on_download(self, hired: Hired, name: str, done: int, total: int | None) -> list[News]:
        self._progress.download(f"{name} ({hired.name})", done, total)
        return []

    def _on_video_started(self, hired: Hired, video: str, frames: int) -> list[News]:
        hired.frames[video] = frames
        self._progress.video_started(video, frames)
        return [Started(hired.number, video)]

    def _on_corrected(self, hired: Hired, frames: int) -> list[News]:
        self._progress.corrected(frames)
        return []

    def _on_advance(self, hired: Hired, frames: int) -> list[News]:
        hired.advanced += frames
        self._progress.advance(frames)
        return []

    def _on_stages(self, hired: Hired, loads: Mapping[str, StageLoad]) -> list[News]:
        hired.loads = loads
        return []

    def _on_video_done(self, hired: Hired, video: str, windows: int) -> list[News]:
        self._has_ended(hired, video)
        self.done(video, windows)
        return [Ended(hired.number, video)]

    def _on_video_failed(self, hired: Hired, failure: VideoFailure, frames_left: int) -> list[News]:
        self._has_ended(hired, failure.video_id)
        self.failed(failure, frames_left)
        return [Ended(hired.number, failure.video_id)]

    def _on_returned(self, hired: Hired, videos: Sequence[str]) -> list[News]:
        for video in videos:
            hired.given.pop(video, None)
        return [Returned(hired.number, videos)]

    def _has_ended(self, hired: Hired, video: str) -> None:
        hired.given.pop(video, None)
        hired.advanced -= hired.frames.pop(video, 0)

    def done(self, video: str, windows: int) -> None:
        """Report a video that is complete in a part."""
        if video not in self.windows:
            self.windows[video] = windows
            self._progress.video_done(video, windows)

    def failed(self, failure: VideoFailure, frames_left: int = 0) -> None:
        """Report a video that failed."""
        if failure.video_id not in self.failures:
            self.failures[failure.video_id] = failure
            self._progress.video_failed(failure, frames_left=frames_left)

    def show(self, workers: Iterable[Hired]) -> None:
        """Report the load of all stages and of the workers to the progress, once a second."""
        now = time.monotonic()
        working = [hired for hired in workers if hired.ready and hired.loads]
        if now - self._showed < STAGE_SECONDS or not working:
            return
        self._showed = now
        loads = {}
        for stage, one in working[0].loads.items():
            each = [hired.loads[stage] for hired in working]
            busy = sum(load.busy for load in each) / len(each)
            loads[stage] = StageLoad(sum(load.rate for load in each), busy, one.unit)
        slowest = max(loads, key=lambda stage: loads[stage].busy)
        busiest = {hired: max(load.busy for load in hired.loads.values()) for hired in working}
        if len(working) <= SHOWN:
            for hired in working:
                loads[hired.name] = StageLoad(
                    hired.loads["network"].rate, busiest[hired], "windows"
                )
        else:
            busy = sum(busiest.values()) / len(working)
            loads[f"{len(working)} workers"] = StageLoad(loads["network"].rate, busy, "windows")
        self._progress.stages(loads, bottleneck=slowest)
