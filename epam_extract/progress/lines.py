"""Displays that write lines or one bar: what a running extraction tells logs and programs.

:class:`Display` itself is ``--progress none``: announcements, warnings and failures, no more.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ..config import in_bytes
from ..records import Plan, StageLoad, Summary, VideoFailure
from . import Tally, counted, escaped, in_rate, in_time, in_words

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_SECONDS = 30.0  # a plain line is due after this long,
LINE_SHARE = 0.05  # or after this much of the work, but
LINE_LEAST_SECONDS = 5.0  # never sooner than this after the one before
JSON_SECONDS = 1.0  # between two "progress" objects


class Display(Tally):
    """Announcements, warnings and failures as lines, and nothing else: ``--progress none``."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__()
        self.console = console
        self.quiet = quiet
        self.verbose = verbose

    def line(self, text: str, *, style: str = "") -> None:
        """Print one line beside the display, whatever characters it has."""
        with self.lock:
            self.console.print(Text(escaped(text), style=style))

    def logged(self, text: str) -> None:
        """Print a record of another module's log, whose lines are escaped already."""
        for line in text.split("\n"):
            self.line(line, style="dim")

    def message(self, text: str) -> None:
        super().message(text)
        if not self.quiet:
            self.line(text)

    def notice(self, text: str) -> None:
        """Print one line that ``quiet`` does not leave out."""
        log.info("%s", text)
        self.line(text, style="bold yellow")

    def warning(self, text: str) -> None:
        log.info("warning: %s", text)  # no louder: it is on the screen already
        self.line(f"warning: {text}", style="yellow")

    def plan(self, plan: Plan) -> None:
        super().plan(plan)
        if plan.exact:
            self.message(in_words(plan))

    def video_done(self, video_id: str, windows: int) -> None:
        super().video_done(video_id, windows)
        log.info("%s: %s", video_id, counted(windows, "window"))
        if self.verbose:
            self.line(f"done: {video_id}: {counted(windows, 'window')}", style="dim")

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        super().video_failed(failure, frames_left=frames_left)
        text = f"failed: {failure.video_id}: {failure.stage}: {failure.message}"
        log.info("%s", text)
        self.line(text, style="red")

    def _videos(self) -> str:
        """``3 of 20 videos done, 1 failed``."""
        wanted = self.planned.to_do if self.planned else 0
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"{self.done:,} of {counted(wanted, 'video')} done{failed}"


class PlainLines(Display):
    """A line now and then, each complete by itself: ``--progress plain``."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(console, quiet=quiet, verbose=verbose)
        self._last = time.monotonic()
        self._last_share = 0.0

    def probed(self, done: int, total: int) -> None:
        super().probed(done, total)
        with self.lock:
            if self._due(0.0):
                self.line(f"scanning videos: {done:,} of {total:,}")

    def download(self, name: str, done: int, total: int | None) -> None:
        with self.lock:
            new = name not in self.downloads
            super().download(name, done, total)
            size = "" if total is None else f" of {in_bytes(total)}"
            if name not in self.downloads:
                self.line(f"downloaded {name}, {in_bytes(done)}")
            elif new or self._due(0.0):
                self.line(f"downloading {name}: {in_bytes(done)}{size}")

    def advance(self, frames: int) -> None:
        super().advance(frames)
        self._tell()

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        super().stages(loads, bottleneck=bottleneck)
        self._tell()

    def _due(self, share: float) -> bool:
        """Whether a line is due, which it then is taken to be printed."""
        now = time.monotonic()
        waited = now - self._last
        enough = share - self._last_share >= LINE_SHARE
        if waited < LINE_LEAST_SECONDS or not (waited >= LINE_SECONDS or enough):
            return False
        self._last, self._last_share = now, share
        return True

    def _tell(self) -> None:
        with self.lock:
            if not self.planned or not self._due(self.share):
                return
            pace, left = self.pace(), self.seconds_left()
            parts = [
                f"{self.share:4.0%}",
                self.frames_in_words(),
                self._videos(),
            ]
            if pace is not None and left is not None:
                parts.append(f"{in_rate(pace, 'frames')}, {in_time(left)} left")
            if self.loads:
                busy = ", ".join(f"{name} {load.busy:.0%}" for name, load in self.loads.items())
                parts.append(f"busy: {busy}; bottleneck: {self.bottleneck}")
            self.line(f"{time.strftime('%H:%M:%S')} {' | '.join(parts)}")


class TqdmBar(Display):
    """One tqdm bar over the frames, a widget in notebooks: ``--progress tqdm``."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(console, quiet=quiet, verbose=verbose)
        self._bar: tqdm | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def line(self, text: str, *, style: str = "") -> None:
        from tqdm import tqdm

        with self.lock:
            tqdm.write(escaped(text), file=self.console.file)

    def plan(self, plan: Plan) -> None:
        from tqdm.auto import tqdm

        super().plan(plan)
        with self.lock:
            if plan.to_do and self._bar is None:
                self._bar = tqdm(total=plan.frames, unit="frame", file=self.console.file)
            self._resize()

    def advance(self, frames: int) -> None:
        super().advance(frames)
        with self.lock:
            if self._bar is not None:
                self._bar.update(frames)

    def video_done(self, video_id: str, windows: int) -> None:
        super().video_done(video_id, windows)
        self._counts()

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        super().video_failed(failure, frames_left=frames_left)
        self._resize()
        self._counts()

    def corrected(self, frames: int) -> None:
        super().corrected(frames)
        self._resize()

    def _resize(self) -> None:
        with self.lock:
            if self._bar is not None:
                self._bar.total = self.frames_total

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        super().stages(loads, bottleneck=bottleneck)
        self._counts()

    def finished(self, summary: Summary) -> None:
        super().finished(summary)
        self.__exit__(None, None, None)

    def _counts(self) -> None:
        with self.lock:
            if self._bar is not None and self.planned is not None:
                counts = {"videos": f"{self.done}/{self.planned.to_do}", "failed": self.failed}
                if self.bottleneck:
                    counts["slowest"] = self.bottleneck
                self._bar.set_postfix(counts, refresh=False)


class JsonLines(Display):
    """One JSON object a line, each with ``event`` and ``time``: ``--progress json``.

    Events are named after the methods of ``Progress``; "progress" sums up ``advance`` and
    ``stages``, at most once a second, and "log" is a line of ``--verbose``.
    """

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(console, quiet=quiet, verbose=verbose)
        self._last = 0.0

    def line(self, text: str, *, style: str = "") -> None:
        """Nothing: what a line would say is an event already."""

    def logged(self, text: str) -> None:
        self._event("log", {"text": text})

    def message(self, text: str) -> None:
        super().message(text)
        if not self.quiet:
            self._event("message", {"text": text})

    def notice(self, text: str) -> None:
        super().notice(text)
        self._event("message", {"text": text})

    def warning(self, text: str) -> None:
        super().warning(text)
        self._event("warning", {"text": text})

    def download(self, name: str, done: int, total: int | None) -> None:
        with self.lock:
            if self._due() or (total is not None and done >= total):
                self._event("download", {"name": name, "done": done, "total": total})

    def probed(self, done: int, total: int) -> None:
        with self.lock:
            if self._due() or done >= total:
                self._event("probed", {"done": done, "total": total})

    def plan(self, plan: Plan) -> None:
        Tally.plan(self, plan)
        if plan.exact:
            self._event("plan", asdict(plan))

    def video_started(self, video_id: str, frames: int) -> None:
        super().video_started(video_id, frames)
        self._event("video_started", {"video_id": video_id, "frames": frames})

    def video_done(self, video_id: str, windows: int) -> None:
        super().video_done(video_id, windows)
        self._event("video_done", {"video_id": video_id, "windows": windows})

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        super().video_failed(failure, frames_left=frames_left)
        what = {"stage": failure.stage, "message": failure.message}
        self._event("video_failed", {"video_id": failure.video_id, **what})

    def video_skipped(self, video_id: str) -> None:
        self._event("video_skipped", {"video_id": video_id})

    def advance(self, frames: int) -> None:
        super().advance(frames)
        self._tell()

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        super().stages(loads, bottleneck=bottleneck)
        self._tell()

    def finished(self, summary: Summary) -> None:
        with self.lock:
            self._last = 0.0
            self._tell()
        counts = {"done": summary.done, "failed": summary.failed, "windows": summary.windows}
        self._event("finished", {**counts, "interrupted": summary.interrupted})

    def _due(self) -> bool:
        now = time.monotonic()
        if self._last and now - self._last < JSON_SECONDS:
            return False
        self._last = now
        return True

    def _tell(self) -> None:
        with self.lock:
            if not self._due():
                return
            now = {
                "frames": self.frames,
                "frames_total": self.frames_total,
                "done": self.done,
                "failed": self.failed,
                "frames_per_s": self.pace(),
                "seconds_left": self.seconds_left(),
                "stages": {name: asdict(load) for name, load in self.loads.items()},
                "bottleneck": self.bottleneck,
            }
            self._event("progress", now)

    def _event(self, event: str, values: Mapping[str, object]) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values})
        with self.lock:
            self.console.file.write(line + "\n")
            self.console.file.flush()
