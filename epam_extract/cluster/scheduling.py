"""Which worker does which video, and when: decided here, whoever the workers are.

:func:`hand_out` drives Ray's workers and, in the tests, simulated ones in virtual time. Videos are
handed out longest first, short ones a few ahead of what a worker is at, and are taken back from
whoever has not begun them when others have nothing left to do.

A worker that is lost may have been killed by a video. Those that it was at are tried again, each
alone on its worker; one that its worker does not survive a second time is given up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

AHEAD = 2  # videos that wait at a worker, so that it never waits for the next
KILLS = 2  # of its worker, before a video is given up


@dataclass(frozen=True)
class Joined:
    """A worker is ready."""

    worker: int
    lanes: int
    """Videos it does at the same time."""


@dataclass(frozen=True)
class Started:
    """A worker has begun a video."""

    worker: int
    video: str


@dataclass(frozen=True)
class Ended:
    """A video is done, or has failed."""

    worker: int
    video: str


@dataclass(frozen=True)
class Returned:
    """A worker gave back videos that it had not begun."""

    worker: int
    videos: Sequence[str]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, or has been restarted."""

    worker: int
    ended: frozenset[str] = frozenset()
    """Videos that its part holds, complete or as failed, whatever it said of them before."""
    half_done: frozenset[str] = frozenset()
    """Videos that its part holds some of: whoever opens that part goes on with them."""
    blameless: bool = False
    """It left by itself, so no video has killed it."""


News = Joined | Started | Ended | Returned | Lost


class Crew(Protocol):
    """The workers, as :func:`hand_out` sees them."""

    def wait(self) -> Iterable[News]:
        """What happened since the last call, in order; waits a moment for something to happen."""
        ...

    def give(self, worker: int, videos: Sequence[str]) -> None:
        """Hand videos to a worker, after those it has."""
        ...

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        """Ask for those that it has not begun; ``Returned`` follows, unless it is lost."""
        ...

    def given_up(self, video: str) -> None:
        """A video killed its worker twice."""
        ...


def hand_out(ledger: Ledger, crew: Crew, *, stopped: Callable[[], bool]) -> None:
    """Have ``crew`` do all videos of ``ledger``, or go on until ``stopped``."""
    while ledger.left and not stopped():
        for news in crew.wait():
            ledger.take(news)
        for video in ledger.give_up():
            crew.given_up(video)
        for worker, videos in ledger.orders():
            crew.give(worker, videos)
        for worker, videos in ledger.recalls():
            crew.take_back(worker, videos)


@dataclass
class _Hand:
    """What one worker has."""

    lanes: int
    videos: dict[str, bool] = field(default_factory=dict)
    """In the order they were given; true for those it has begun."""
    recalled: set[str] = field(default_factory=set)
    """Asked back, without an answer yet."""

    def waiting(self) -> list[str]:
        """Those that it has not begun, as far as is known, and was not asked for."""
        return [name for name, begun in self.videos.items() if not (begun or name in self.recalled)]

    def perhaps_begun(self) -> list[str]:
        """Those that it may be at: news of the last moment is lost with a worker."""
        begun = [name for name, known in self.videos.items() if known]
        unknown = [name for name, known in self.videos.items() if not known]
        return begun + unknown[: max(self.lanes - len(begun), 0)]


class Ledger:
    """Who has which video. ``costs`` are the videos' relative lengths.

    ``homes`` says which worker's part holds some of a video already.
    """

    def __init__(self, costs: Mapping[str, float], homes: Mapping[str, int] | None = None) -> None:
        self._costs = dict(costs)
        self._short = sum(costs.values()) / max(len(costs), 1)
        self._homes = dict(homes or {})
        self._left = set(costs)
        self._queue: list[tuple[float, str]] = []  # names that no longer wait may be in it
        self._waiting: set[str] = set()
        self._kills: dict[str, int] = {}
        self._suspects: list[str] = []
        self._cells: set[int] = set()
        """Workers set apart for suspects, one at a time."""
        self._given_up: list[str] = []
        self._hands: dict[int, _Hand] = {}
        for video in costs:
            self._wait(video)

    @property
    def left(self) -> int:
        """Videos that are neither done nor failed nor given up."""
        return len(self._left)

    @property
    def workers(self) -> int:
        """Workers that are ready."""
        return len(self._hands)

    def holds(self, worker: int) -> Sequence[str]:
        """The videos that a worker has."""
        return list(self._hands[worker].videos) if worker in self._hands else []

    # -- what happened ----------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Note what happened."""
        if isinstance(news, Joined):
            if news.worker in self._hands:
                self._lose(Lost(news.worker))
            self._hands[news.worker] = _Hand(news.lanes)
        elif isinstance(news, Lost):
            self._lose(news)
        elif isinstance(news, Ended):
            self._end(news.video)
        elif news.worker in self._hands:
            hand = self._hands[news.worker]
            if isinstance(news, Started):
                if news.video in hand.videos:
                    hand.videos[news.video] = True
                return
            hand.recalled.clear()
            for video in news.videos:
                if hand.videos.pop(video, None) is not None:
                    self._wait(video)

    def _lose(self, lost: Lost) -> None:
        for video in lost.ended:
            self._end(video)
        for video in lost.half_done & self._left:
            self._homes[video] = lost.worker
        hand = self._hands.pop(lost.worker, None)
        self._cells.discard(lost.worker)
        if hand is None:
            return
        suspects = [] if lost.blameless else hand.perhaps_begun()
        for video in hand.videos:
            if video in suspects:
                self._suspect(video)
            elif video in self._left:
                self._wait(video)

    def _suspect(self, video: str) -> None:
        self._kills[video] = self._kills.get(video, 0) + 1
        if self._kills[video] < KILLS:
            self._suspects.append(video)
        elif video in self._left:
            self._left.discard(video)
            self._given_up.append(video)

    def _wait(self, video: str) -> None:
        if video in self._kills:
            self._suspects.append(video)
            return
        self._waiting.add(video)
        if video not in self._homes:
            heapq.heappush(self._queue, (-self._costs[video], video))

    def _end(self, video: str) -> None:
        self._left.discard(video)
        self._waiting.discard(video)
        if video in self._suspects:
            self._suspects.remove(video)
        for hand in self._hands.values():
            hand.videos.pop(video, None)

    # -- what to do -------------------------------------------------------------------------

    def give_up(self) -> list[str]:
        """Videos that killed their worker twice, each told once."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def orders(self) -> list[tuple[int, list[str]]]:
        """What to give to whom now: one video each in turn, first to whoever has the fewest."""
        given: dict[int, list[str]] = {}
        self._order_suspects(given)
        hungry = [
            (len(hand.videos), worker)
            for worker, hand in self._hands.items()
            if worker not in self._cells
        ]
        heapq.heapify(hungry)
        while hungry and self._waiting:
            has, worker = heapq.heappop(hungry)
            lanes, video = self._hands[worker].lanes, self._next(worker)
            ahead = self._costs[video] <= self._short and self._homes.get(video, worker) == worker
            if has < lanes or (has < lanes + AHEAD and ahead):
                self._waiting.discard(video)
                self._hand(worker, video, given)
                heapq.heappush(hungry, (has + 1, worker))
        return list(given.items())

    def _order_suspects(self, given: dict[int, list[str]]) -> None:
        """A suspect goes to a worker that has nothing else: one that has just come, or is idle.

        Where there is none, the one with the fewest gets no more until it has none.
        """
        empty = {name for name, hand in self._hands.items() if not hand.videos}
        self._cells -= empty
        for worker in sorted(empty):
            video = self._suspect_for(worker)
            if video is not None:
                self._suspects.remove(video)
                self._cells.add(worker)
                self._hand(worker, video, given)
        others = self._hands.keys() - self._cells
        draining = any(
            v not in self._kills for name in self._cells for v in self._hands[name].videos
        )
        homeless = any(video not in self._homes for video in self._suspects)
        if homeless and others and not draining:
            self._cells.add(min(others, key=lambda name: (len(self._hands[name].videos), name)))

    def _suspect_for(self, worker: int) -> str | None:
        """One of its own, or a homeless one; others' where nothing else is left to do."""
        own = [video for video in self._suspects if self._homes.get(video) == worker]
        homeless = [video for video in self._suspects if video not in self._homes]
        anything = [] if self._waiting else self._suspects
        return next(iter([*own, *homeless, *anything]), None)

    def _hand(self, worker: int, video: str, given: dict[int, list[str]]) -> None:
        self._hands[worker].videos[video] = False
        given.setdefault(worker, []).append(video)

    def _next(self, worker: int) -> str:
        """The longest of those that this worker's part holds some of, or that no other's does.

        Those of another's where there is nothing else.
        """
        at_home = [v for v, home in self._homes.items() if home == worker and v in self._waiting]
        while not at_home and self._queue:
            video = self._queue[0][1]
            if video in self._waiting and video not in self._homes:
                return video
            heapq.heappop(self._queue)
        return max(at_home or self._waiting, key=lambda name: (self._costs[name], name))

    def recalls(self) -> list[tuple[int, list[str]]]:
        """What to ask back from whom, since another worker has nothing to do."""
        if self._waiting:
            return []
        on_the_way = sum(len(hand.recalled) for hand in self._hands.values())
        idle = sum(
            max(hand.lanes - len(hand.videos), 0)
            for worker, hand in self._hands.items()
            if worker not in self._cells
        )
        asked: dict[int, list[str]] = {}
        for _ in range(idle - on_the_way):
            worker, hand = max(
                self._hands.items(), key=lambda item: self._to_come(item[1]), default=(0, None)
            )
            if hand is None or self._to_come(hand) == 0:
                break
            video = hand.waiting()[-1]
            hand.recalled.add(video)
            asked.setdefault(worker, []).append(video)
        return list(asked.items())

    def _to_come(self, hand: _Hand) -> float:
        """How much waits at a worker beyond what its lanes take at once; 0 where nothing does."""
        waiting = hand.waiting()
        begun = len(hand.videos) - len(waiting) - len(hand.recalled)
        spare = waiting[max(hand.lanes - begun, 0) :]
        return sum(max(self._costs[video], 1e-9) for video in spare)
