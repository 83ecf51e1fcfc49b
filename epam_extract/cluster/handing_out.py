"""Decides which worker does which video, and when.

:func:`hand_out` drives Ray's workers and, in the tests, simulated ones in virtual time. Videos are
handed out longest first. A worker gets a few short videos in advance; those that it has not begun
are taken back when other workers are idle.

A worker that is lost may have been killed by a video. The videos it was working on are tried again,
each alone on a worker; if that one is lost too, the video is given up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

AHEAD = 2  # short videos that a worker gets in advance, so that it never waits for the next
KILLS = 2  # workers that a video may kill before it is given up


@dataclass(frozen=True)
class Joined:
    """A worker is ready."""

    worker: int
    lanes: int
    """Videos it reads at a time."""


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
    """A worker returned videos that it had not begun."""

    worker: int
    videos: Sequence[str]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, or has been restarted."""

    worker: int
    ended: frozenset[str] = frozenset()
    """Videos that its part holds, complete or as failed, even if it has not reported them."""
    half_done: frozenset[str] = frozenset()
    """Videos that its part holds incompletely: the worker that opens that part resumes them."""
    blameless: bool = False
    """It was dismissed, so no video has killed it."""


News = Joined | Started | Ended | Returned | Lost


class Crew(Protocol):
    """The workers, as :func:`hand_out` sees them."""

    def wait(self) -> Iterable[News]:
        """What has happened since the last call, in order; waits a moment if nothing has."""
        ...

    def give(self, worker: int, videos: Sequence[str]) -> None:
        """Hand videos to a worker, to be done after those it has."""
        ...

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        """Ask a worker to return those of these videos that it has not begun.

        ``Returned`` follows, unless the worker is lost.
        """
        ...

    def given_up(self, video: str) -> None:
        """Note that a video has killed its worker twice."""
        ...


def hand_out(ledger: Ledger, crew: Crew, *, stopped: Callable[[], bool]) -> None:
    """Have ``crew`` do the videos of ``ledger``, until all are done or ``stopped`` returns true."""
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
    """In the order in which they were given; true for those it has begun."""
    recalled: set[str] = field(default_factory=set)
    """Those that it was asked to return and has not returned yet."""

    def waiting(self) -> list[str]:
        """Those that it has not begun, as far as is known, and was not asked to return."""
        return [name for name, begun in self.videos.items() if not (begun or name in self.recalled)]

    def perhaps_begun(self) -> list[str]:
        """Those that it may have begun: a worker's last news is lost with it."""
        begun = [name for name, known in self.videos.items() if known]
        unknown = [name for name, known in self.videos.items() if not known]
        return begun + unknown[: max(self.lanes - len(begun), 0)]

    def surplus(self, costs: Mapping[str, float]) -> float:
        """The cost of the videos that wait although all lanes are busy."""
        waiting = self.waiting()
        begun = len(self.videos) - len(waiting) - len(self.recalled)
        spare = waiting[max(self.lanes - begun, 0) :]
        return sum(max(costs[video], 1e-9) for video in spare)


@dataclass
class _Suspects:
    """Videos that may have killed a worker."""

    kills: dict[str, int] = field(default_factory=dict)
    """How many workers each was lost with."""
    waiting: list[str] = field(default_factory=list)
    """Those to be tried again."""

    def blame(self, video: str) -> bool:
        """Count a lost worker; return whether the video is to be tried again."""
        self.kills[video] = self.kills.get(video, 0) + 1
        if self.kills[video] >= KILLS:
            return False
        self.waiting.append(video)
        return True

    def next_for(self, worker: int, homes: Mapping[str, int], *, strangers: bool) -> str | None:
        """Take one that a worker's part holds some of, or that no part does.

        With ``strangers``, otherwise one that another worker's part holds some of.
        """
        own = [video for video in self.waiting if homes.get(video) == worker]
        homeless = [video for video in self.waiting if video not in homes]
        video = next(iter([*own, *homeless, *(self.waiting if strangers else [])]), None)
        if video is not None:
            self.waiting.remove(video)
        return video


class _Queue:
    """Videos that no worker has."""

    def __init__(self, costs: Mapping[str, float], homes: Mapping[str, int]) -> None:
        self._costs, self._homes = costs, homes
        self._videos: set[str] = set()
        self._longest: list[tuple[float, str]] = []  # may still hold videos that were removed

    def __bool__(self) -> bool:
        return bool(self._videos)

    def add(self, video: str) -> None:
        """Add a video."""
        self._videos.add(video)
        if video not in self._homes:
            heapq.heappush(self._longest, (-self._costs[video], video))

    def discard(self, video: str) -> None:
        """Remove a video, if it is there."""
        self._videos.discard(video)

    def next_for(self, worker: int) -> str:
        """The longest of the videos that this worker's part holds some of, or that no part does.

        If there are none, the longest that another worker's part holds some of.
        """
        at_home = [v for v, home in self._homes.items() if home == worker and v in self._videos]
        while not at_home and self._longest:
            video = self._longest[0][1]
            if video in self._videos and video not in self._homes:
                return video
            heapq.heappop(self._longest)
        return max(at_home or self._videos, key=lambda name: (self._costs[name], name))


class Ledger:
    """Which worker has which video. ``costs`` are the videos' relative lengths.

    ``homes`` says which worker's part already holds some of a video.
    """

    def __init__(self, costs: Mapping[str, float], homes: Mapping[str, int] | None = None) -> None:
        self._costs = dict(costs)
        self._short = sum(costs.values()) / max(len(costs), 1)
        self._homes = dict(homes or {})
        self._left = set(costs)
        self._waiting = _Queue(self._costs, self._homes)
        self._suspects = _Suspects()
        self._cells: set[int] = set()
        """Workers reserved for suspects, one video at a time."""
        self._given_up: list[str] = []
        self._hands: dict[int, _Hand] = {}
        for video in costs:
            self._waiting.add(video)

    @property
    def left(self) -> int:
        """Number of videos that are neither done, nor failed, nor given up."""
        return len(self._left)

    @property
    def workers(self) -> int:
        """Number of workers that are ready."""
        return len(self._hands)

    def holds(self, worker: int) -> Sequence[str]:
        """The videos that a worker has."""
        return list(self._hands[worker].videos) if worker in self._hands else []

    # -- what happened ----------------------------------------------------------------------

    def take(self, news: News) -> None:
        """Record what has happened."""
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
            if video not in suspects:
                if video in self._left:
                    self._wait(video)
            elif not self._suspects.blame(video) and video in self._left:
                self._left.discard(video)
                self._given_up.append(video)

    def _wait(self, video: str) -> None:
        if video in self._suspects.kills:
            self._suspects.waiting.append(video)
        else:
            self._waiting.add(video)

    def _end(self, video: str) -> None:
        self._left.discard(video)
        self._waiting.discard(video)
        if video in self._suspects.waiting:
            self._suspects.waiting.remove(video)
        for hand in self._hands.values():
            hand.videos.pop(video, None)

    # -- what to do -------------------------------------------------------------------------

    def give_up(self) -> list[str]:
        """Videos that have killed two workers; each is returned once."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def orders(self) -> list[tuple[int, list[str]]]:
        """What to give to which worker now: one video at a time to the one with the fewest."""
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
            lanes, video = self._hands[worker].lanes, self._waiting.next_for(worker)
            ahead = self._costs[video] <= self._short and self._homes.get(video, worker) == worker
            if has < lanes or (has < lanes + AHEAD and ahead):
                self._waiting.discard(video)
                self._hand(worker, video, given)
                heapq.heappush(hungry, (has + 1, worker))
        return list(given.items())

    def _order_suspects(self, given: dict[int, list[str]]) -> None:
        """Give each suspect to a worker that has nothing else: a new one, or an idle one.

        If there is none, the one with the fewest videos gets no more until it has none.
        """
        empty = {name for name, hand in self._hands.items() if not hand.videos}
        self._cells -= empty
        for worker in sorted(empty):
            video = self._suspects.next_for(worker, self._homes, strangers=not self._waiting)
            if video is not None:
                self._cells.add(worker)
                self._hand(worker, video, given)
        others = self._hands.keys() - self._cells
        draining = any(
            v not in self._suspects.kills for name in self._cells for v in self._hands[name].videos
        )
        homeless = any(video not in self._homes for video in self._suspects.waiting)
        if homeless and others and not draining:
            self._cells.add(min(others, key=lambda name: (len(self._hands[name].videos), name)))

    def _hand(self, worker: int, video: str, given: dict[int, list[str]]) -> None:
        self._hands[worker].videos[video] = False
        given.setdefault(worker, []).append(video)

    def recalls(self) -> list[tuple[int, list[str]]]:
        """Which worker is to return which videos, since another one has nothing to do."""
        if self._waiting:
            return []
        on_the_way = sum(len(hand.recalled) for hand in self._hands.values())
        idle = sum(
            max(hand.lanes - len(hand.videos), 0)
            for worker, hand in self._hands.items()
            if worker not in self._cells
        )
        return _recall(idle - on_the_way, self._hands, self._costs)


def _recall(
    count: int, hands: Mapping[int, _Hand], costs: Mapping[str, float]
) -> list[tuple[int, list[str]]]:
    """Ask for up to ``count`` videos, each from the worker with the largest surplus then."""
    asked: dict[int, list[str]] = {}
    for _ in range(count):
        worker = max(hands, key=lambda name: hands[name].surplus(costs), default=None)
        if worker is None or hands[worker].surplus(costs) == 0:
            break
        video = hands[worker].waiting()[-1]
        hands[worker].recalled.add(video)
        asked.setdefault(worker, []).append(video)
    return list(asked.items())
