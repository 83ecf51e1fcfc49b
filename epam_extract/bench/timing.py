"""Time and CPU time: ways to do the same timed in turns, over all processes together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

import psutil

from ..progress.records import BenchRow

MAX_ROUNDS = 7
SETTLE_SECONDS = 0.2  # the longest wait for other threads to fall asleep
NO_TIME = "skipped: no time left, raise --seconds"


@dataclass
class Deadline:
    """Seconds that may be spent from now on."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def spent(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds left, not below 0."""
        return max(0.0, self.seconds - self.spent)


@dataclass(frozen=True)
class Timing:
    """How long one way took: seconds, and CPU seconds of all processes, of each round."""

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    cold: bool
    """There was only time for the first call."""

    @property
    def median(self) -> float:
        """Of the seconds."""
        return median(self.seconds)

    @property
    def note(self) -> str:
        """How it was measured."""
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
    """Time each way, one after the other and round by round, so that drift affects all alike.

    The first round warms up and is dropped if there is time for a second one; with ``warm`` it
    counts. At most ``rounds`` more follow, and none begins that would end too late, going by the
    first. A way for which there is no time is missing from the result, unless ``all_once``.
    """
    start = clock()
    calls: dict[str, list[tuple[float, float]]] = {}
    for name, way in ways.items():
        longest = max((done[0][0] for done in calls.values()), default=0)
        if calls and not all_once and clock() - start + longest > seconds:
            break
        calls[name] = [_timed(way, clock)]
    one_round = sum(done[0][0] for done in calls.values())
    for _ in range(rounds):
        if clock() - start + one_round > seconds:
            break
        for name, done in calls.items():
            done.append(_timed(ways[name], clock))
    timings = {}
    for name, done in calls.items():
        cold = len(done) == 1 and not warm
        walls, cpus = zip(*(done if warm or cold else done[1:]), strict=True)
        timings[name] = Timing(walls, cpus, cold)
    return timings


def _timed(way: Callable[[], object], clock: Callable[[], float]) -> tuple[float, float]:
    _settle()
    start, cpu = clock(), cpu_seconds()
    way()
    return clock() - start, cpu_seconds() - cpu


def _settle() -> None:
    """Wait until the threads of the way before are asleep.

    onnxruntime's spin for some 70 ms after their last work, which would slow down whatever is
    timed next, and count as its CPU time.
    """
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.002:
            return


@dataclass
class Way:
    """One way to do something, and what it took."""

    run: Callable[[], object]
    items: float
    """Frames, clips or megabytes in one call of ``run``."""
    note: str = ""
    timing: Timing | None = None
    """None: there was no time for it."""

    @property
    def wall(self) -> float:
        """Seconds per item; 0 where it was not measured."""
        return self.timing.median / self.items if self.timing else 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds per item; 0 where it was not measured."""
        return median(self.timing.cpu_seconds) / self.items if self.timing else 0.0

    def row(self, part: str, name: str, unit: str, base: Way) -> BenchRow:
        """Milliseconds per item, or items per second, compared with ``base``."""
        if self.timing is None:
            return BenchRow(part, name, None, "", note=NO_TIME)
        note = self.timing.note + self.note
        ratio = base.wall / self.wall
        if unit.startswith("ms/"):
            note = f"{self.cpu * 1e3:.1f} ms of CPU; {note}"
            return BenchRow(part, name, self.wall * 1e3, unit, ratio, note)
        return BenchRow(part, name, 1 / self.wall, unit, ratio, note)


def contest(ways: Mapping[str, Way], seconds: float) -> None:
    """Time all ways in turns."""
    for name, timing in in_turns({name: way.run for name, way in ways.items()}, seconds).items():
        ways[name].timing = timing


def rows(part: str, unit: str, ways: Mapping[str, Way]) -> list[BenchRow]:
    """A row for each way, compared with the first."""
    base = next(iter(ways.values()))
    return [way.row(part, name, unit, base) for name, way in ways.items()]


# ---------------------------------------------------------------- all processes together


def family(pid: int | None = None) -> list[psutil.Process]:
    """A process (this one by default) and its descendants, as far as they still live."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds() -> float:
    """User and system time of this process and all it started, living or waited for."""
    total = 0.0
    for process in family():
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # its own, and of children it waited for
    return total


@dataclass(frozen=True)
class Usage:
    """What this process and its children had used by a moment."""

    wall: float
    cpu: float
    idle: float
    """Seconds in which the machine's cores, added up, had nothing to do."""

    @classmethod
    def now(cls) -> Usage:
        """Up to this moment."""
        return cls(time.perf_counter(), cpu_seconds(), psutil.cpu_times().idle)

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.wall - before.wall, self.cpu - before.cpu, self.idle - before.idle)
