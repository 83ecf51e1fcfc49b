"""How ``bench`` measures: in turns, within a time, and over all processes together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import psutil

from ..errors import MachineError

SAMPLE_SECONDS = 0.05  # between two looks at the memory
MAX_ROUNDS = 7
BOOT = "import importlib, sys; importlib.import_module(sys.argv[1]).main(int(sys.argv[2]))"


@dataclass
class Deadline:
    """Seconds that may be spent, from its making on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds left, not below 0."""
        return max(0.0, self.seconds - (time.monotonic() - self.started))

    @property
    def spent(self) -> float:
        return time.monotonic() - self.started


@dataclass(frozen=True)
class Timing:
    """How long one way took, round by round."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    """Of all processes."""
    cold: bool
    """The first call was the only one the time was enough for."""

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def cpu(self) -> float:
        """Median of the CPU seconds."""
        return median(self.cpu_seconds)

    @property
    def note(self) -> str:
        return "first call, not warmed up" if self.cold else f"median of {len(self.seconds)}"


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    seconds: float,
    *,
    rounds: int = MAX_ROUNDS,
    warm: bool = False,
    all_once: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time each way, one after the other and round by round, so that drift hits all alike.

    The first round warms up and is dropped if the time is enough for a second one; with ``warm``
    it counts. At most ``rounds`` more are run, and none is begun that, going by the first, would
    end too late. A way that cannot be started in time at all is missing from the result, unless
    they are to be run ``all_once``, whatever time that takes.
    """
    start = clock()
    first: dict[str, tuple[float, float]] = {}
    for name, way in ways.items():
        late = clock() - start + max((wall for wall, _ in first.values()), default=0) > seconds
        if first and late and not all_once:
            break
        first[name] = _timed(way, clock)
    timings: dict[str, list[tuple[float, float]]] = {name: [] for name in first}
    for _ in range(rounds):
        if clock() - start + sum(wall for wall, _ in first.values()) > seconds:
            break
        for name in first:
            timings[name].append(_timed(ways[name], clock))
    result = {}
    for name, found in timings.items():
        counted = [first[name], *found] if warm else found or [first[name]]
        walls, cpus = zip(*counted, strict=True)
        result[name] = Timing(walls, cpus, cold=not found and not warm)
    return result


def _timed(way: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    start, cpu = clock(), cpu_seconds()
    way()
    return clock() - start, cpu_seconds() - cpu


# ---------------------------------------------------------------- all processes together


def cpu_seconds(pid: int | None = None) -> float:
    """User and system time of a process (this one by default) and all it started, living or not.

    That of a process whose parent did not wait for it is lost.
    """
    total = 0.0
    for process in family(pid):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # its own, and of children it waited for
    return total


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process and all it started; pages they share count more than once."""
    total = 0
    for process in family(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def family(pid: int | None = None) -> list[psutil.Process]:
    """A process and its descendants, as far as they still live."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@dataclass(frozen=True)
class Usage:
    """What this process and its children had used by a moment."""

    wall: float
    cpu: float
    idle: float
    """Seconds that all cores of the machine together had nothing to do, whoever else works."""

    @classmethod
    def now(cls) -> Usage:
        return cls(time.perf_counter(), cpu_seconds(), psutil.cpu_times().idle)

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.wall - before.wall, self.cpu - before.cpu, self.idle - before.idle)


class Child:
    """A Python process of its own that answers requests, its memory watched meanwhile.

    Threads, libraries and memory in it are as in a program that does nothing else.
    """

    def __init__(self, module: str) -> None:
        """Start Python, and in it ``module.main(descriptor of the connection)``."""
        self._connection, theirs = Pipe()
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, module, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        finally:
            theirs.close()
        self.peak = 0
        """Bytes resident at most while it last worked."""

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, with whatever it started."""
        self._connection.close()
        members = family(self._process.pid)
        for process in members:
            with suppress(psutil.Error):
                process.kill()
        self._process.wait()

    def send(self, request: object) -> None:
        """Hand over a request; :meth:`answer` waits for what comes of it."""
        try:
            self._connection.send(request)
        except OSError as error:
            raise self._lost() from error
        self.peak = 0

    def answer(self) -> Any:
        """What the last request came to.

        Raises:
            MachineError: the process died.
        """
        while not self._connection.poll(SAMPLE_SECONDS):
            self.peak = max(self.peak, resident_bytes(self._process.pid))
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error

    def _lost(self) -> MachineError:
        code = self._process.wait()
        return MachineError(f"bench: the measured process died (exit status {code})")


def serve(descriptor: int, answer: Callable[[Any], object]) -> None:
    """The child's side: answer requests until the parent closes the connection."""
    with Connection(descriptor) as connection:
        while True:
            try:
                request = connection.recv()
            except EOFError:
                return
            connection.send(answer(request))
