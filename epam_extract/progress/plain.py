"""Lines for a log: ``--progress plain``, and ``none``, which shows no numbers."""

from __future__ import annotations

import logging
import time

from rich.console import Console
from rich.text import Text

from ..options import format_bytes
from .tally import Event, Tally
from .units import escaped, format_duration, format_rate, plural

STYLES = {logging.DEBUG: "dim", logging.WARNING: "yellow", logging.ERROR: "red"}
LINE_SECONDS = 30.0  # a line of numbers is due after this long,
LINE_SHARE = 0.05  # or after this much of the work, but
LINE_LEAST_SECONDS = 5.0  # never sooner than this after the one before


class Display(Tally):
    """Messages, warnings and failures as lines, and nothing else: ``--progress none``."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__()
        self.console = console
        self.quiet = quiet
        self.level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is not a line from the screen. May be called twice."""

    def show(self, event: Event) -> None:
        if event.text and event.level >= self.level:
            self.line(event.text, style=STYLES.get(event.level, ""))
        if event.name == "finished":
            self.close()

    def line(self, text: str, *, style: str = "") -> None:
        """Print one line next to the display, whatever characters it has."""
        with self.lock:
            self.console.print(Text(escaped(text), style=style))

    def logged(self, text: str) -> None:
        """Print a record of another module's log; its lines are escaped already."""
        for line in text.split("\n"):
            self.line(line, style="dim")


class PlainLines(Display):
    """A line now and then, each complete by itself: ``--progress plain``."""

    _last = _last_share = 0.0  # when the last line was due

    def show(self, event: Event) -> None:
        super().show(event)
        with self.lock:
            match event:
                case Event("download", {"name": name, "done": done, "total": total}):
                    size = "" if total is None else f" of {format_bytes(total)}"
                    if name not in self.downloads:  # it is complete
                        self.line(f"downloaded {name}, {format_bytes(done)}")
                    elif not done or self._due(0.0):
                        self.line(f"downloading {name}: {format_bytes(done)}{size}")
                case Event("probed", {"done": done, "total": total}) if self._due(0.0):
                    self.line(f"scanning videos: {done:,} of {total:,}")
                case Event("advance" | "stages") if self.planned and self._due(self.share):
                    self.line(f"{time.strftime('%H:%M:%S')} {self._numbers()}")

    def _due(self, share: float) -> bool:
        """Whether a line is due; if so, the caller prints it."""
        now = time.monotonic()
        waited = now - max(self._last, self.started)
        enough = share - self._last_share >= LINE_SHARE
        if waited < LINE_LEAST_SECONDS or not (waited >= LINE_SECONDS or enough):
            return False
        self._last, self._last_share = now, share
        return True

    def _numbers(self) -> str:
        failed = f", {self.failed:,} failed" if self.failed else ""
        videos = plural(self.planned.to_do if self.planned else 0, "video")
        parts = [f"{self.share:4.0%}", self.frames_in_words()]
        parts.append(f"{self.done:,} of {videos} done{failed}")
        pace, left = self.pace(), self.seconds_left()
        if pace is not None and left is not None:
            parts.append(f"{format_rate(pace, 'frames')}, {format_duration(left)} left")
        if self.loads:
            busy = ", ".join(f"{name} {load.busy:.0%}" for name, load in self.loads.items())
            parts.append(f"busy: {busy}; bottleneck: {self.bottleneck}")
        return " | ".join(parts)
