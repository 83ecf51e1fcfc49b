"""Workers in Ray actors, driven by :func:`scheduling.hand_out`.

Ray starts, places and restarts them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .. import errors
from ..errors import ConfigError, EpamExtractError, MachineError, StoreLocked
from ..progress import Progress
from ..records import VideoFailure
from ..store import FeatureStore, StoreHeader
from ..video import FoundVideo
from .connecting import Size, machines
from .scheduling import Joined, Lost, News
from .worker import Report, Task, Totals, Worker
from .worker_reports import CombinedReports, Hired

log = logging.getLogger(__name__)

NEWS_SECONDS = 1.0  # a worker waits this long for news before it answers
WAIT_SECONDS = 0.5  # the driver waits this long for an answer
HIRE_SECONDS = 5.0  # between checks for new machines
SHARE_SECONDS = 10.0  # for a file written by a worker to appear here
PLACE_SECONDS = 60.0  # before a warning that workers are still waiting for a place
START_TRIES = 3  # for a worker that dies before it is ready
CALLS = 8  # concurrent calls of a worker: one waits for news, the others are short


class RayWorkers:
    """Workers in Ray actors. ``ray`` is the module, connected.

    ``task`` makes the task for each number of ``numbers``; there are never more workers than
    videos. ``on_header`` gets the header of the first worker that is ready.
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
        self._ray, self._size, self._videos = ray, size, videos
        self._numbers, self._task, self._on_header = numbers, task, on_header
        self._progress = progress
        self._hired: dict[int, Hired] = {}
        self._polls: dict[Any, int] = {}
        self._poll_later: list[tuple[float, int]] = []
        self._header: StoreHeader | None = None
        self._ending = False
        self._gone: list[Hired] = []
        self._replaced = 0
        self._looked = float("-inf")
        self._began = time.monotonic()
        self._places = 0
        self.reports = CombinedReports(progress)

    # -- for hand_out -----------------------------------------------------------------------

    def wait(self) -> list[News]:
        """See :class:`scheduling.Crew`."""
        self._hire()
        now = time.monotonic()
        for due, number in list(self._poll_later):
            if due <= now:
                self._poll_later.remove((due, number))
                self._poll(number)
        if not self._polls:
            time.sleep(0.1)
            return []
        refs = list(self._polls)
        first, _ = self._ray.wait(refs, num_returns=1, timeout=WAIT_SECONDS)
        ready, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0) if first else ([], [])
        news: list[News] = []
        for ref in ready:
            hired = self._hired.get(self._polls.pop(ref))
            if hired is not None:
                news += self._answer(hired, ref)
        self.reports.show(self._hired.values())
        return news

    def give(self, worker: int, videos: Sequence[str]) -> None:
        """Send videos to a worker."""
        hired = self._hired[worker]
        hired.given.update(dict.fromkeys(videos))
        hired.actor.give.remote(hired.life, [self._videos[name] for name in videos])

    def take_back(self, worker: int, videos: Sequence[str]) -> None:
        """Ask for videos that are not started."""
        hired = self._hired[worker]
        hired.actor.take_back.remote(hired.life, list(videos))

    def given_up(self, video: str) -> None:
        """Record a video that has killed two workers as failed."""
        self.reports.failed(
            VideoFailure(
                video,
                "worker",
                "its worker died twice while it was at this video (out of memory?), so it was not "
                "tried again; --retry-failed does",
                self._videos[video].path,
            )
        )

    # -- the end ----------------------------------------------------------------------------

    def end(self, *, stop: bool) -> None:
        """Have all workers commit and end; with ``stop``, in the middle of their videos."""
        self._ending = True
        for hired in list(self._hired.values()):
            if hired.started:
                (hired.actor.stop if stop else hired.actor.finish).remote()
            else:
                self._leave(hired)
        while self._hired:
            self.wait()

    def kill(self) -> None:
        """Kill the remaining workers; what is committed stays."""
        for hired in list(self._hired.values()):
            self._leave(hired)

    def totals(self) -> list[Totals]:
        """What was done, per worker and process."""
        return [t for hired in [*self._gone, *self._hired.values()] for t in hired.totals.values()]

    # -- hiring -----------------------------------------------------------------------------

    def _hire(self) -> None:
        """Start a worker for every free place, including new machines."""
        now = time.monotonic()
        if self._ending or now - self._looked < HIRE_SECONDS:
            return
        self._looked = now
        self._places = min(self._size.places(machines(self._ray)), len(self._videos))
        while len(self._hired) + len(self._gone) - self._replaced < self._places:
            number = next(self._numbers)
            options = {"num_cpus": self._size.cpus, "num_gpus": self._size.gpus}
            actor = self._ray.remote(Worker).options(
                **options,
                max_restarts=-1,
                max_concurrency=CALLS,
                scheduling_strategy="SPREAD",
            )
            task = self._task(number)
            self._hired[number] = Hired(number, actor.remote(task), task)
            self._poll(number)
        if now - self._began > PLACE_SECONDS:
            waiting = sum(hired.life is None for hired in self._hired.values())
            if waiting:
                self.reports.say(
                    f"{waiting} of {len(self._hired)} workers have no place on the cluster yet"
                )

    def _poll(self, number: int) -> None:
        hired = self._hired.get(number)
        if hired is not None:
            self._polls[hired.actor.news.remote(NEWS_SECONDS)] = number

    def _leave(self, hired: Hired) -> None:
        """Kill a worker and forget it."""
        self._ray.kill(hired.actor)
        hired.task.probe.unlink(missing_ok=True)
        self._gone.append(self._hired.pop(hired.number))

    # -- news -------------------------------------------------------------------------------

    def _answer(self, hired: Hired, ref: Any) -> list[News]:
        exceptions = self._ray.exceptions
        try:
            report = self._ray.get(ref)
        except exceptions.ActorUnavailableError as error:  # Ray is about to restart it
            self._poll_later.append((time.monotonic() + WAIT_SECONDS, hired.number))
            return self._lost(hired, str(error))
        except exceptions.RayActorError as error:
            news = self._lost(hired, str(error))
            if hired.number in self._hired:
                self._refuse(hired, MachineError(_reason(error)))
            return news
        except exceptions.RayError as error:
            raise MachineError(f"{hired.name} cannot be asked: {_reason(error)}") from error
        return self._heard(hired, report)

    def _heard(self, hired: Hired, report: Report) -> list[News]:
        news: list[News] = []
        error: EpamExtractError | None
        if report.life != hired.life:
            if hired.ready:
                news += self._lost(hired, "it was started again")
                if hired.number not in self._hired:
                    return news
            hired.life, hired.host, hired.started = report.life, report.host, False
        if report.error is None and not hired.started:
            hired.started = True
            error = _not_shared(report.host, hired.task)
            if error is not None:
                hired.started = False
                return [*news, *self._refuse(hired, error)]
            hired.actor.start.remote(report.life)
        if report.header is not None and not hired.ready and report.error is None:
            error = self._differs(hired, report.header)
            if error is not None:
                return [*news, *self._refuse(hired, error)]
            hired.ready, hired.deaths = True, 0
            news.append(Joined(hired.number, report.lanes))
        news += self.reports.take(hired, report)
        if report.error is not None:
            kind, message = report.error
            error = getattr(errors, kind, MachineError)(message)
            return [*news, *self._refuse(hired, error)]
        if report.state == "ended":
            self._leave(hired)
        else:
            self._poll(hired.number)
        return news

    def _lost(self, hired: Hired, why: str) -> list[News]:
        """A worker's process is gone; Ray may restart it."""
        if hired.life is not None:
            log.info("%s is gone: %s", hired.name, why)
        if hired.ready:
            self._progress.warning(f"{hired.name} has died; what it had committed is used")
        else:
            hired.deaths += hired.life is not None
        ended, half_done = self._look_through(hired) if hired.ready else (set(), set())
        news: list[News] = []
        if hired.ready:
            news.append(Lost(hired.number, frozenset(ended), frozenset(half_done)))
        self.reports.forget(hired)
        hired.ready = hired.started = False
        hired.life = None
        if self._ending:
            self._leave(hired)
        elif hired.deaths >= START_TRIES:
            self._refuse(
                hired,
                MachineError(
                    f"{hired.name} died {hired.deaths} times while it loaded its models (out of "
                    "memory?); see --cpus-per-worker and --gpus-per-worker"
                ),
            )
        return news

    def _look_through(self, hired: Hired) -> tuple[set[str], set[str]]:
        """Of a worker's videos: those complete or failed in its part, and those partly in it."""
        ended, half_done = set(), set()
        try:
            with FeatureStore(hired.task.part) as store:
                failures = store.failures
                for video in hired.given:
                    state = store.progress(video)
                    if state is not None and state.complete:
                        ended.add(video)
                        self.reports.done(video, state.windows)
                    elif state is not None:
                        half_done.add(video)
                    elif video in failures:
                        ended.add(video)
                        stored = failures[video]
                        path = self._videos[video].path
                        self.reports.failed(VideoFailure(video, stored.stage, stored.message, path))
        except EpamExtractError as error:
            log.warning("%s: %s", hired.task.part, error)
        return ended, half_done

    def _refuse(self, hired: Hired, error: EpamExtractError) -> list[News]:
        """Drop a worker that cannot work; raise its error if there is no other one."""
        if isinstance(error, StoreLocked) and len(hired.totals) > 1:
            # The lost process still writes, or its machine's locks outlive it.
            self._leave(hired)
            self._replaced += 1
            self._looked = float("-inf")
            return []
        others = [other for other in self._hired.values() if other is not hired]
        working = [other for other in others if other.ready]
        if not others or (not working and not isinstance(error, MachineError)):
            self._leave(hired)
            raise error
        news = [Lost(hired.number, blameless=True)] if hired.ready else []
        self._progress.warning(f"going on without {hired.name}: {error}")
        self._leave(hired)
        return [*news]

    def _differs(self, hired: Hired, header: StoreHeader) -> EpamExtractError | None:
        """Why a worker's features would not match those of the others."""
        if self._header is None:
            self._header = header
            if self._on_header is not None:
                self._on_header(header)
        lines = [
            f"{name}: {theirs} there, {ours} here"
            for name, ours, theirs in self._header.differences(header.as_json())
        ]
        if lines:
            return ConfigError(f"it would compute other numbers ({'; '.join(lines)})")
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
        f"{task.probe.parent}: a file that a worker on {host} wrote there is not seen here within "
        f"{SHARE_SECONDS:.0f} s: --out must be in a folder that all workers share"
    )


def _reason(error: Exception) -> str:
    """The line of Ray's message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
