"""Workers in virtual time: what ``hand_out`` drives instead of Ray's. A second here takes none.

A worker reads ``lanes`` videos at a time. Each is opened and its pipeline filled in its own lane;
then all of them share the worker's slowest stage.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from epam_extract.cluster.scheduling import Ended, Joined, Lost, News, Returned, Started

COSTS = {"read": 0.001, "pose": 0.006, "clips": 0.001, "network": 0.008, "write": 0.0005}
"""Seconds that each stage takes for a frame; the stages overlap, so the slowest one counts."""
FPS = 25
OPENING = 1.5  # seconds to open a video and to fill the pipeline with it
ENDING = 0.5  # to empty it, and to commit
LOADING = 20.0  # to start a worker and load its models, again after a kill
NEWS = 1.0  # how late the driver hears of something, at most
ORDERS = 0.05  # how late a worker hears of the driver
COMMITS = 2.0


@dataclass
class Lane:
    """A video at work."""

    video: str
    opened: float
    """When it begins to use the shared stage."""
    left: float
    """Seconds of it, alone."""


@dataclass
class SimulatedWorker:
    """One worker, and its part file, which outlives it."""

    number: int
    lanes: int
    alive: bool = False
    life: int = 0
    queue: list[str] = field(default_factory=list)
    at_work: list[Lane] = field(default_factory=list)
    complete: dict[str, int] = field(default_factory=dict)
    """Videos in its part, and how often they got there."""
    failed: set[str] = field(default_factory=set)
    half: dict[str, float] = field(default_factory=dict)
    """Seconds of work committed of others."""
    since: float = 0.0
    looked: float = 0.0
    checks: int = 0
    lived: list[tuple[float, float]] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)


class SimulatedCrew:
    """``lengths`` are seconds of video; ``failing`` videos fail halfway; ``killers`` kill."""

    def __init__(
        self,
        lengths: dict[str, float],
        workers: int,
        *,
        lanes: int = 2,
        failing: frozenset[str] = frozenset(),
        killers: frozenset[str] = frozenset(),
        kills: Sequence[tuple[float, int]] = (),
        seed: int = 0,
    ) -> None:
        self.work = {name: s * FPS * max(COSTS.values()) for name, s in lengths.items()}
        self.failing, self.killers = failing, killers
        self.random = random.Random(seed)
        self.now = 0.0
        self.workers = [SimulatedWorker(number, lanes) for number in range(workers)]
        self.begun: dict[str, int] = dict.fromkeys(lengths, 0)
        self.gave_up: list[str] = []
        self._events: list[tuple[float, int, str, tuple]] = []
        self._count = 0
        for worker in self.workers:
            self._later(self.random.uniform(0.2, 1) * LOADING, "join", worker.number)
        for moment, number in kills:
            self._later(moment, "kill", number)

    # -- what hand_out calls ----------------------------------------------------------------

    def wait(self) -> list[News]:
        """Go on to the next moment at which the driver hears of something."""
        while self._events:
            moment, _, what, values = heapq.heappop(self._events)
            self.now = moment
            if what == "news":
                return [values[0]]
            getattr(self, f"_{what}")(*values)
        raise AssertionError("nothing will ever happen again: videos are lost")

    def give(self, worker: int, videos: Sequence[str]) -> None:
        self._later(ORDERS, "get", worker, self.workers[worker].life, tuple(videos))

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        self._later(ORDERS, "hand_back", worker, self.workers[worker].life, tuple(videos))

    def given_up(self, video: str) -> None:
        self.gave_up.append(video)

    # -- what happens -----------------------------------------------------------------------

    def _later(self, seconds: float, what: str, *values: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, what, values))

    def _tell(self, news: News) -> None:
        self._later(self.random.uniform(0, NEWS), "news", news)

    def _join(self, number: int) -> None:
        worker = self.workers[number]
        worker.alive, worker.since, worker.looked = True, self.now, self.now
        self._later(0.0, "news", Joined(number, worker.lanes))

    def _kill(self, number: int) -> None:
        worker = self.workers[number]
        if not worker.alive:
            return
        self._advance(worker)
        worker.alive = False
        worker.life += 1
        worker.checks += 1
        worker.lived.append((worker.since, self.now))
        for lane in worker.at_work:
            done = self.work[lane.video] - lane.left
            worker.half[lane.video] = max(done - COMMITS, 0.0)
        worker.queue.clear()
        worker.at_work.clear()
        ended = frozenset(worker.complete) | worker.failed
        self._later(NEWS, "news", Lost(number, ended, frozenset(worker.half)))
        self._later(NEWS + LOADING, "join", number)

    def _get(self, number: int, life: int, videos: tuple[str, ...]) -> None:
        worker = self.workers[number]
        if worker.alive and worker.life == life:
            worker.queue.extend(videos)
            self._begin(worker)

    def _hand_back(self, number: int, life: int, videos: tuple[str, ...]) -> None:
        worker = self.workers[number]
        if worker.alive and worker.life == life:
            back = [name for name in videos if name in worker.queue]
            worker.queue = [name for name in worker.queue if name not in back]
            self._tell(Returned(number, back))

    def _begin(self, worker: SimulatedWorker) -> None:
        """Fill the lanes, and see when something happens in them next."""
        self._advance(worker)
        while worker.queue and len(worker.at_work) < worker.lanes:
            video = worker.queue.pop(0)
            self.begun[video] += 1
            left = self.work[video] - worker.half.pop(video, 0.0)
            worker.at_work.append(Lane(video, self.now + OPENING, left))
            self._tell(Started(worker.number, video))
            if video in self.killers:
                self._later(OPENING, "kill", worker.number)
        moments = [lane.opened - self.now for lane in worker.at_work if lane.opened > self.now]
        sharing = self._sharing(worker)
        moments += [self._until_end(lane) * len(sharing) for lane in sharing]
        if moments:
            worker.checks += 1
            self._later(max(min(moments), 1e-6), "look", worker.number, worker.checks)

    def _look(self, number: int, check: int) -> None:
        """A video is open now, or at its end."""
        worker = self.workers[number]
        if not worker.alive or worker.checks != check:
            return
        self._advance(worker)
        for lane in self._sharing(worker):
            if self._until_end(lane) < 1e-6:
                worker.at_work.remove(lane)
                self._later(ENDING, "commit", number, worker.life, lane.video)
        self._begin(worker)

    def _advance(self, worker: SimulatedWorker) -> None:
        """Share out the time since the last look among the videos that were open all of it."""
        seconds, sharing = self.now - worker.looked, self._sharing(worker, worker.looked)
        for lane in sharing:
            lane.left -= seconds / len(sharing)
        if sharing and seconds > 0:
            worker.busy.append((worker.looked, self.now))
        worker.looked = self.now

    def _sharing(self, worker: SimulatedWorker, moment: float | None = None) -> list[Lane]:
        moment = self.now if moment is None else moment
        return [lane for lane in worker.at_work if lane.opened <= moment + 1e-9]

    def _until_end(self, lane: Lane) -> float:
        half = self.work[lane.video] / 2 if lane.video in self.failing else 0.0
        return lane.left - half

    def _commit(self, number: int, life: int, video: str) -> None:
        worker = self.workers[number]
        if not worker.alive or worker.life != life:
            return
        if video in self.failing:
            worker.failed.add(video)
        else:
            worker.complete[video] = worker.complete.get(video, 0) + 1
        self._tell(Ended(number, video))

    # -- how it went ------------------------------------------------------------------------

    def busy_share(self, share_of_run: float) -> float:
        """Share of the workers' time, in the first ``share_of_run`` of it all, at work."""
        end = self.now * share_of_run
        for worker in self.workers:
            if worker.alive:
                worker.lived.append((worker.since, self.now))
        lived, busy = (
            sum(max(min(stop, end) - start, 0.0) for w in self.workers for start, stop in spans(w))
            for spans in (lambda w: w.lived, lambda w: w.busy)
        )
        return busy / lived
