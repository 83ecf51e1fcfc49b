"""Decide which worker processes which video, and when; independent of Ray.

:func:`hand_out` drives Ray's workers and, in the tests, simulated ones in virtual time. Videos are
assigned longest first. Short ones are queued a few ahead at each worker, and are taken back if they
have not been started when another worker runs out of work.

If a worker is lost, one of its videos may have killed it. Those it was processing are tried again,
each alone on a worker; a video that kills its worker a second time is given up.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

AHEAD = 2  # videos queued at a worker, so that it never waits for the next
KILLS = 2  # workers that a video may kill before it is given up


@dataclass(frozen=True)
class Joined:
    """A worker is ready."""

    worker: int
    lanes: int
    """Videos it processes at the same time."""


@dataclass(frozen=True)
class Started:
    """A worker has started a video."""

    worker: int
    video: str


@dataclass(frozen=True)
class Ended:
    """A video is done, or has failed."""

    worker: int
    video: str


@dataclass(frozen=True)
class Returned:
    """A worker returned videos that it had not started."""

    worker: int
    videos: Sequence[str]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, or has been restarted."""

    worker: int
    ended: frozenset[str] = frozenset()
    """Videos that its part holds, complete or failed, whatever it reported before."""
    half_done: frozenset[str] = frozenset()
    """Videos partly in its part; the next worker to open that part resumes them."""
    blameless: bool = False
    """It left on its own, so no video is to blame."""


News = Joined | Started | Ended | Returned | Lost


class Crew(Protocol):
    """The workers, as :func:`hand_out` sees them."""

    def wait(self) -> Iterable[News]:
        """What happened since the last call, in order; waits briefly if nothing has."""
        ...

    def give(self, worker: int, videos: Sequence[str]) -> None:
        """Queue videos at a worker, after those it has."""
        ...

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        """Ask for those that it has not started; ``Returned`` follows, unless it is lost."""
        ...

    def given_up(self, video: str) -> None:
        """Note that a video has killed two workers."""
        ...


def hand_out(ledger: Ledger, crew: Crew, *, stopped: Callable[[], bool]) -> None:
    """Have ``crew`` process all videos of ``ledger``, or until ``stopped``."""
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
    """In the order they were given; True for those it has started."""
    recalled: set[str] = field(default_factory=set)
    """Asked for, without an answer yet."""

    def waiting(self) -> list[str]:
        """Those not known to be started, and not asked for."""
        return [name for name, begun in self.videos.items() if not (begun or name in self.recalled)]

    def perhaps_begun(self) -> list[str]:
        """Those it may have started: its last messages are lost with it."""
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

    ``homes`` maps a video that is partly in a worker's part to that worker.
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
        """Record what happened."""
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
        """Videos that have killed two workers, each returned once."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def orders(self) -> list[tuple[int, list[str]]]:
        """Which videos to give to which worker now: each to the one that has the fewest."""
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
        """Give each suspect to a worker that has nothing else.

        If there is none, the worker with the fewest videos gets no more until it has none.
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
