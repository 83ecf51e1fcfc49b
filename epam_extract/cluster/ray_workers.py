"""Workers in Ray actors, driven by :func:`scheduling.hand_out`.

Ray starts, places and restarts them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import errors
from ..errors import ConfigError, EpamExtractError, MachineError, StoreLocked
from ..pipeline.summary import Totals
from ..progress import Progress
from ..records import VideoFailure
from ..store import StoreHeader
from ..video import FoundVideo
from .connecting import Size, machines
from .parts import VideosInPart
from .scheduling import Joined, Lost, News
from .worker import Report, Task, Worker
from .worker_reports import CombinedReports, Hired

log = logging.getLogger(__name__)

NEWS_SECONDS = 1.0  # a worker waits this long for news before it answers
WAIT_SECONDS = 0.5  # the driver waits this long for an answer
HIRE_SECONDS = 5.0  # between checks for new machines
SHARE_SECONDS = 10.0  # for a file written by a worker to appear here
PLACE_SECONDS = 60.0  # before a warning that workers are still waiting for a place
START_TRIES = 3  # for a worker that dies before it is ready
CALLS = 8  # concurrent calls of a worker: one waits for news, the others are short


class Actors:
    """Workers in Ray's actors: hired where there is room, polled for news, dismissed.

    ``task`` makes the task for each of ``numbers``; at most ``most`` workers have a place.
    """

    def __init__(
        self,
        ray: Any,
        size: Size,
        *,
        numbers: Iterator[int],
        task: Callable[[int], Task],
        most: int,
    ) -> None:
        self._ray, self._size = ray, size
        self._numbers, self._task, self._most = numbers, task, most
        self._polls: dict[Any, int] = {}
        self._poll_later: list[tuple[float, int]] = []
        self._replaced = 0
        self._looked = float("-inf")
        self._began = time.monotonic()
        self.hired: dict[int, Hired] = {}
        self.gone: list[Hired] = []

    def hire(self, warn: Callable[[str], None]) -> None:
        """Every few seconds, hire a worker for each free place; machines may have been added."""
        now = time.monotonic()
        if now - self._looked < HIRE_SECONDS:
            return
        self._looked = now
        places = min(self._size.places(machines(self._ray)), self._most)
        while len(self.hired) + len(self.gone) - self._replaced < places:
            number = next(self._numbers)
            actor = self._ray.remote(Worker).options(
                num_cpus=self._size.cpus,
                num_gpus=self._size.gpus,
                max_restarts=-1,
                max_concurrency=CALLS,
                scheduling_strategy="SPREAD",
            )
            task = self._task(number)
            self.hired[number] = Hired(number, actor.remote(task), task)
            self.poll(self.hired[number])
        if now - self._began > PLACE_SECONDS:
            waiting = sum(hired.life is None for hired in self.hired.values())
            if waiting:
                warn(f"{waiting} of {len(self.hired)} workers have no place on the cluster yet")

    def poll(self, hired: Hired) -> None:
        """Ask a worker for news."""
        self._polls[hired.actor.news.remote(NEWS_SECONDS)] = hired.number

    def poll_later(self, hired: Hired) -> None:
        """Ask a worker for news once Ray has had time to restart it."""
        self._poll_later.append((time.monotonic() + WAIT_SECONDS, hired.number))

    def answers(self) -> list[tuple[Hired, Any]]:
        """Wait a moment for answers: pairs of a worker and Ray's reference to its answer."""
        now = time.monotonic()
        due = [number for when, number in self._poll_later if when <= now]
        self._poll_later = [later for later in self._poll_later if later[0] > now]
        for number in due:
            if number in self.hired:
                self.poll(self.hired[number])
        if not self._polls:
            time.sleep(0.1)
            return []
        refs = list(self._polls)
        first, _ = self._ray.wait(refs, num_returns=1, timeout=WAIT_SECONDS)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0) if first else ([], [])
        answered = [(self.hired.get(self._polls.pop(ref)), ref) for ref in ready]
        return [(hired, ref) for hired, ref in answered if hired is not None]

    def dismiss(self, hired: Hired) -> None:
        """Do without a worker from now on."""
        self._ray.kill(hired.actor)
        hired.task.probe.unlink(missing_ok=True)
        self.gone.append(self.hired.pop(hired.number))

    def replace(self, hired: Hired) -> None:
        """Dismiss a worker, and hire another one in its place."""
        self.dismiss(hired)
        self._replaced += 1
        self._looked = float("-inf")


class RayWorkers:
    """The workers as a :class:`scheduling.Crew`. ``ray`` is the module, connected.

    ``task`` makes the task for each of ``numbers``; no more workers are hired than there are
    videos. ``on_header`` is called with what the first worker's part says about its models.
    """

    def __init__(
        self,
        ray: Any,
        size: Size,
        videos: Mapping[str, FoundVideo],
        *,
        numbers: Iterator[int],
        task: Callable[[int], Task],
        on_header: Callable[[StoreHeader], None] | None,
        progress: Progress,
    ) -> None:
        self._videos = videos
        self._actors = Actors(ray, size, numbers=numbers, task=task, most=len(videos))
        self.reports = CombinedReports(progress)
        self._listener = Listener(
            ray, self._actors, self.reports, videos, CommonHeader(on_header), progress
        )

    # -- for hand_out -----------------------------------------------------------------------

    def wait(self) -> list[News]:
        """What happened, see :class:`scheduling.Crew`."""
        if not self._listener.ending:
            self._actors.hire(self.reports.say)
        news: list[News] = []
        for hired, ref in self._actors.answers():
            if hired.number in self._actors.hired:
                news += self._listener.answer(hired, ref)
        self.reports.show(self._actors.hired.values())
        return news

    def give(self, worker: int, videos: Sequence[str]) -> None:
        """Hand videos to a worker."""
        hired = self._actors.hired[worker]
        hired.given.update(dict.fromkeys(videos))
        hired.actor.give.remote(hired.life, [self._videos[name] for name in videos])

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        """Ask a worker to return those of these videos that it has not begun."""
        hired = self._actors.hired[worker]
        hired.actor.take_back.remote(hired.life, list(videos))

    def given_up(self, video: str) -> None:
        """Record a video that has killed two workers as failed."""
        self.reports.failed(
            VideoFailure(
                video,
                "worker",
                "its worker died twice during this video (out of memory?), so it was not tried "
                "again; --retry-failed does that",
                self._videos[video].path,
            )
        )

    # -- the end ----------------------------------------------------------------------------

    def end(self, *, stop: bool) -> None:
        """Have all workers commit and end, with ``stop`` even in the middle of their videos."""
        self._listener.ending = True
        for hired in list(self._actors.hired.values()):
            if hired.started:
                (hired.actor.stop if stop else hired.actor.finish).remote()
            else:
                self._actors.dismiss(hired)
        while self._actors.hired:
            self.wait()

    def kill(self) -> None:
        """End all remaining workers at once; what was committed stays."""
        for hired in list(self._actors.hired.values()):
            self._actors.dismiss(hired)

    def totals(self) -> list[Totals]:
        """What was done, per worker and life."""
        workers = [*self._actors.gone, *self._actors.hired.values()]
        return [totals for hired in workers for totals in hired.totals.values()]


@dataclass
class Listener:
    """Turns the answers of workers into news, and acts on them."""

    _ray: Any
    _actors: Actors
    _reports: CombinedReports
    _videos: Mapping[str, FoundVideo]
    _common: CommonHeader
    _progress: Progress
    ending: bool = False
    """Whether the run is at its end, so that no worker is replaced."""

    def answer(self, hired: Hired, ref: Any) -> list[News]:
        """What a worker's answer, or its failure to answer, means."""
        exceptions = self._ray.exceptions
        try:
            report = self._ray.get(ref)
        except exceptions.ActorUnavailableError as error:  # Ray is about to restart it
            self._actors.poll_later(hired)
            return self._lost(hired, str(error))
        except exceptions.RayActorError as error:
            news = self._lost(hired, str(error))
            if hired.number in self._actors.hired:
                self._refuse(hired, MachineError(_reason(error)))
            return news
        except exceptions.RayError as error:
            raise MachineError(f"{hired.name} cannot be reached: {_reason(error)}") from error
        return self._heard(hired, report)

    def _heard(self, hired: Hired, report: Report) -> list[News]:
        news: list[News] = []
        error: EpamExtractError | None
        if report.life != hired.life:
            if hired.ready:
                news += self._lost(hired, "it was started again")
                if hired.number not in self._actors.hired:
                    return news
            hired.life, hired.host, hired.started = report.life, report.host, False
        if report.error is None and not hired.started:
            error = _not_shared(report.host, hired.task)
            if error is not None:
                return [*news, *self._refuse(hired, error)]
            hired.started = True
            hired.actor.start.remote(report.life)
        if report.header is not None and not hired.ready and report.error is None:
            error = self._common.mismatch(report.header)
            if error is not None:
                return [*news, *self._refuse(hired, error)]
            hired.ready, hired.deaths = True, 0
            news.append(Joined(hired.number, report.lanes))
        news += self._reports.take(hired, report)
        if report.error is not None:
            kind, message = report.error
            error = getattr(errors, kind, MachineError)(message)
            return [*news, *self._refuse(hired, error)]
        if report.state == "ended":
            self._actors.dismiss(hired)
        else:
            self._actors.poll(hired)
        return news

    def _lost(self, hired: Hired, why: str) -> list[News]:
        """A worker's process is gone; Ray may restart it."""
        if hired.life is not None:
            log.info("%s is gone: %s", hired.name, why)
        if hired.ready:
            self._progress.warning(f"{hired.name} has died; what it had committed is used")
        else:
            hired.deaths += hired.life is not None
        news: list[News] = []
        if hired.ready:
            news.append(self._take_from_part(hired))
        self._reports.forget(hired)
        hired.ready = hired.started = False
        hired.life = None
        if self.ending:
            self._actors.dismiss(hired)
        elif hired.deaths >= START_TRIES:
            self._refuse(
                hired,
                MachineError(
                    f"{hired.name} died {hired.deaths} times while it loaded its models (out of "
                    "memory?); see --cpus-per-worker and --gpus-per-worker"
                ),
            )
        return news

    def _take_from_part(self, hired: Hired) -> Lost:
        """Report the videos of a lost worker that its part holds."""
        part = VideosInPart()
        try:
            part.read(hired.task.part, hired.given)
        except EpamExtractError as error:
            log.warning("%s: %s", hired.task.part, error)
        for video, windows in part.complete.items():
            self._reports.done(video, windows)
        for video, failure in part.failed.items():
            path = self._videos[video].path
            self._reports.failed(VideoFailure(video, failure.stage, failure.message, path))
        ended = part.complete.keys() | part.failed.keys()
        return Lost(hired.number, frozenset(ended), frozenset(part.half_done))

    def _refuse(self, hired: Hired, error: EpamExtractError) -> list[News]:
        """Drop a worker that cannot work; raise its error if there is no other one."""
        if isinstance(error, StoreLocked) and len(hired.totals) > 1:
            # We lost contact and it is still writing, or its machine's locks outlive it.
            self._actors.replace(hired)
            return []
        others = [other for other in self._actors.hired.values() if other is not hired]
        working = [other for other in others if other.ready]
        if not others or (not working and not isinstance(error, MachineError)):
            self._actors.dismiss(hired)
            raise error
        news = [Lost(hired.number, blameless=True)] if hired.ready else []
        self._progress.warning(f"continuing without {hired.name}: {error}")
        self._actors.dismiss(hired)
        return [*news]


class CommonHeader:
    """The header that the parts of all workers must have: that of the first one.

    ``on_header`` is called with it.
    """

    def __init__(self, on_header: Callable[[StoreHeader], None] | None) -> None:
        self._header: StoreHeader | None = None
        self._on_header = on_header

    def mismatch(self, header: StoreHeader) -> ConfigError | None:
        """Why features made with ``header`` would not fit those of the others, or None."""
        if self._header is None:
            self._header = header
            if self._on_header is not None:
                self._on_header(header)
        lines = [
            f"{name}: {theirs} there, {ours} here"
            for name, ours, theirs in self._header.differences(header.as_json())
        ]
        if lines:
            return ConfigError(f"its features would not match ({'; '.join(lines)})")
        return None


def _not_shared(host: str, task: Task) -> ConfigError | None:
    """Check that a worker's folder is ours: the file that it wrote must appear here."""
    until = time.monotonic() + SHARE_SECONDS
    while time.monotonic() < until:
        list(task.probe.parent.iterdir())  # refreshes a network file system
        if task.probe.exists():
            return None
        time.sleep(0.2)
    return ConfigError(
        f"{task.probe.parent}: a file that a worker on {host} wrote there was not visible here "
        f"within {SHARE_SECONDS:.0f} s: --out must be in a folder that all workers share"
    )


def _reason(error: Exception) -> str:
    """The line of Ray's message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
