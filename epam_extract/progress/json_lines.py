"""One JSON object per line, for other programs: ``--progress json``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict

from .plain import Display
from .tally import Event

JSON_SECONDS = 1.0  # between two "progress" objects


class JsonLines(Display):
    """One JSON object per line, each with ``event`` and ``time``.

    Events are named after the methods of ``Progress``; "progress" sums up ``advance`` and
    ``stages``, at most once per second, and "log" is a line of ``--verbose``.
    """

    _last = float("-inf")

    def show(self, event: Event) -> None:
        with self.lock:
            match event:
                case Event("corrected") | Event("plan", {"exact": False}):
                    pass
                case Event("message", level=level) if level < self.level:
                    pass
                case Event("advance" | "stages"):
                    self._progress(now=False)
                case Event("download" | "probed", {"done": done, "total": total}):
                    if self._due() or (total is not None and done >= total):
                        self._write(event.name, event.values)
                case Event("finished"):
                    self._progress(now=True)
                    self._write(event.name, event.values)
                case _:
                    self._write(event.name, event.values)

    def logged(self, text: str) -> None:
        self._write("log", {"text": text})

    def _due(self, *, now: bool = False) -> bool:
        due = now or time.monotonic() - self._last >= JSON_SECONDS
        self._last = time.monotonic() if due else self._last
        return due

    def _progress(self, *, now: bool) -> None:
        if self._due(now=now):
            numbers = {
                "frames": self.frames,
                "frames_total": self.frames_total,
                "done": self.done,
                "failed": self.failed,
                "frames_per_s": self.pace(),
                "seconds_left": self.seconds_left(),
                "stages": {name: asdict(load) for name, load in self.loads.items()},
                "bottleneck": self.bottleneck,
            }
            self._write("progress", numbers)

    def _write(self, event: str, values: Mapping[str, object]) -> None:
        line = json.dumps({"event": event, "time": round(time.time(), 3), **values})
        with self.lock:
            self.console.file.write(line + "\n")
            self.console.file.flush()
