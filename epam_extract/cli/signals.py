"""Ctrl-C and SIGTERM: the first asks a run to stop, the second ends the process immediately."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import psutil

from .outcome import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ANNOUNCE_SECONDS = 1.0  # how long the end of a run waits for the message about stopping
SHOW_CURSOR = "\x1b[?25h"


class Stopper:
    """While entered, turns signals into ``event``; outside the main thread it does nothing.

    Before :meth:`running` there is nothing to finish, so the first signal ends the process too.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self._announce: Callable[[str], None] | None = None
        self._before: dict[int, object] = {}
        self._announcing: threading.Thread | None = None

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
        if self._announcing is not None:
            self._announcing.join(ANNOUNCE_SECONDS)

    def running(self, announce: Callable[[str], None]) -> None:
        """From now on there is work to finish; ``announce`` shows that a run is stopping."""
        self._announce = announce

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._announce is None or self.event.is_set():
            _leave_at_once()
        self.event.set()
        # In a thread: the interrupted code may hold the display's lock or be inside a write.
        text = (
            "stopping: finishing and committing the work in progress (press Ctrl-C again to stop "
            "immediately; everything committed is safe)"
        )
        self._announcing = threading.Thread(target=self._announce, args=(text,), daemon=True)
        self._announcing.start()


def _leave_at_once() -> None:
    """Kill this process and those it started, without cleaning up.

    The output file is safe: it always holds what was committed last.
    """
    if sys.stderr is not None and not sys.stderr.closed:
        cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
        with contextlib.suppress(OSError):  # it may be closed
            os.write(sys.stderr.fileno(), f"{cursor}\ninterrupted\n".encode())
    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.Error:
            continue  # it has already ended
    os._exit(INTERRUPTED)
