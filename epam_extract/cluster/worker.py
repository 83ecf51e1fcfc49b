"""One of many workers: loads the models once and processes the videos it is given.

It does not depend on Ray. Its methods may be called from any thread and return immediately, except
:meth:`Worker.news`, which waits briefly. A worker writes its own part file; after a restart it
resumes from that file.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import __version__
from ..config import ExtractConfig
from ..errors import ConfigError, EpamExtractError, MachineError
from ..pipeline.concurrency import Feed, require_open_files
from ..pipeline.context import RunContext
from ..pipeline.jobs import Job, recall_people
from ..pipeline.keypoint_sources import match_keypoints
from ..pipeline.models import load_models
from ..pipeline.output import OutputWriter
from ..pipeline.plan import classify_videos
from ..pipeline.run import make_runner
from ..pipeline.stages import run_stages
from ..pipeline.summary import Totals
from ..progress import Progress
from ..progress.records import StageLoad
from ..records import PoseTrack, VideoFailure
from ..store import FeatureStore, StoredFailure, StoredProgress, StoreHeader, StoreWriter
from ..video import FoundVideo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What a worker needs before its first video."""

    part: Path
    """The file it writes."""
    out: Path | None
    """The file the part will be merged into, whose options must match; None if overwritten."""
    config: ExtractConfig
    cores: int
    gpu: bool
    """Whether a GPU is reserved for it."""
    windows: int
    """Windows of the whole collection, to decide whether compiling pays."""
    compiled: str | None
    """How existing features were computed; None if there are none."""
    video_ids: tuple[tuple[str, str], ...]
    """Ids of all videos and of the videos they are cut from, if keypoints come from a file."""
    probe: Path
    """A file to write, to show the driver that they share the folder."""
    sample: Path
    """A video that must exist."""
    version: str


@dataclass(frozen=True)
class Report:
    """A worker's answer when it is asked for news."""

    life: str
    """Different after every start."""
    host: str
    state: str
    """``arrived``, ``ready`` or ``ended``."""
    calls: tuple[tuple[str, tuple], ...]
    """Calls of a :class:`Progress`, and ``returned`` with videos that were not started."""
    totals: Totals
    """Since the worker was started."""
    lanes: int = 0
    """Videos that it reads at a time."""
    header: StoreHeader | None = None
    error: tuple[str, str] | None = None
    """Class and message of the error that ended it."""


class Relay(Progress):
    """Stores a run's progress until the driver asks for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: list[tuple[str, tuple]] = []

    def tell(self, name: str, *values: object) -> None:
        """Store a call."""
        with self.changed:
            self.calls.append((name, values))
            self.changed.notify_all()

    def message(self, text: str) -> None:
        super().message(text)
        self.tell("message", text)

    def warning(self, text: str) -> None:
        super().warning(text)
        self.tell("warning", text)

    def download(self, name: str, done: int, total: int | None) -> None:
        self.tell("download", name, done, total)

    def video_started(self, video_id: str, frames: int) -> None:
        self.tell("video_started", video_id, frames)

    def video_done(self, video_id: str, windows: int) -> None:
        self.tell("video_done", video_id, windows)

    def corrected(self, frames: int) -> None:
        self.tell("corrected", frames)

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        super().video_failed(failure, frames_left=frames_left)
        self.tell("video_failed", failure, frames_left)

    def advance(self, frames: int) -> None:
        self.tell("advance", frames)

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        self.tell("stages", dict(loads))


@dataclass
class HalfDone:
    """The incomplete videos of a part; ``StoredVideos`` for a plan."""

    states: dict[str, StoredProgress] = field(default_factory=dict)
    people: dict[str, PoseTrack | None] = field(default_factory=dict)

    def progress(self, video_id: str) -> StoredProgress | None:
        """How much of a video the part holds."""
        return self.states.get(video_id)

    def failures(self) -> Mapping[str, StoredFailure]:
        """Always empty: a video that was assigned is to be processed."""
        return {}


class Worker:
    """A worker. It loads nothing before :meth:`start`."""

    def __init__(self, task: Task) -> None:
        self.life = secrets.token_hex(8)
        self._task = task
        self._relay = Relay()
        self._feed: Feed[Job] = Feed()
        self._stop = threading.Event()
        self._half_done = HalfDone()
        self._output: OutputWriter | None = None
        self._notes: tuple[str, ...] = ()
        self._state, self._lanes = "arrived", 0
        self._header: StoreHeader | None = None
        self._error: tuple[str, str] | None = None
        self._thread: threading.Thread | None = None
        try:
            _arrive(task)
        except EpamExtractError as error:
            self._end(error)

    def start(self, life: str) -> None:
        """Load the models and wait for videos, once the driver has seen the probe file."""
        self._task.probe.unlink(missing_ok=True)
        if life == self.life and self._thread is None and self._error is None:
            self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
            self._thread.start()

    def give(self, life: str, videos: Sequence[FoundVideo]) -> None:
        """Process these videos, after earlier ones; ignored if meant for an earlier process."""
        if life != self.life:
            return
        part = self._half_done
        jobs = classify_videos(videos, part, retry_failed=False).jobs
        self._feed.put(
            replace(job, recalled=part.people.get(job.video_id)) if job.frames_done else job
            for job in jobs
        )

    def take_back(self, life: str, video_ids: Sequence[str]) -> None:
        """Return those of these videos that are not started; ``returned`` reports which."""
        if life == self.life:
            back = self._feed.take_back(lambda job: job.video_id in video_ids)
            self._relay.tell("returned", [job.video_id for job in back])

    def finish(self) -> None:
        """There are no more videos: commit and end."""
        self._feed.close()

    def stop(self) -> None:
        """Finish and commit what is in flight, then end."""
        self._stop.set()
        self._feed.close()

    def news(self, seconds: float) -> Report:
        """What happened since the last call; waits up to ``seconds`` if nothing has."""
        relay = self._relay
        with relay.changed:
            relay.changed.wait_for(lambda: relay.calls or self._state == "ended", seconds)
            calls, relay.calls = tuple(relay.calls), []
            state = self._state
        output = self._output
        totals = Totals()
        if output is not None:
            totals = replace(output.totals, notes=[*self._notes, *output.totals.notes])
        host, lanes, header = socket.gethostname(), self._lanes, self._header
        return Report(self.life, host, state, calls, totals, lanes, header, self._error)

    # -- inside -----------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._extract()
        except EpamExtractError as error:
            self._end(error)
        except Exception as error:
            log.exception("the worker failed")
            self._end(MachineError(f"{type(error).__name__}: {error}"))
        else:
            self._end(None)

    def _extract(self) -> None:
        task, config = self._task, self._task.config
        run = RunContext(config, task.part, self._relay, self._stop, cores=task.cores)
        if task.gpu and run.device.type != "cuda":
            raise MachineError(
                f"Ray has reserved a GPU of {socket.gethostname()} for a worker, but torch cannot "
                "use it: install a CUDA build of torch there, or use --device cpu"
            )
        require_open_files(run.workers)
        models = load_models(run)
        for file in (task.out, task.part):  # other options are refused before a part is created
            compiled = models.compiled_before(file) if file is not None else None
        compiled = task.compiled if compiled is None else compiled
        runner = make_runner(run, models, task.windows, compiled)
        keypoints = match_keypoints(
            models.pose, models.keypoints, task.video_ids, progress=self._relay
        )
        header = models.header(runner.compiled)
        with StoreWriter(task.part, header) as store:
            self._half_done = _half_done(store, config)
            output = OutputWriter(store, config, progress=self._relay, meter=run.meter)
            self._notes, self._output = models.notes, output
            self._lanes, self._header = run.workers, header
            self._become("ready")
            run_stages(run, self._feed, keypoints, runner, output)

    def _end(self, error: EpamExtractError | None) -> None:
        if error is not None:
            self._error = (type(error).__name__, str(error))
        self._become("ended")

    def _become(self, state: str) -> None:
        with self._relay.changed:
            self._state = state
            self._relay.changed.notify_all()


def _arrive(task: Task) -> None:
    """Write the probe file. Raises ConfigError if this machine cannot be used."""
    host = socket.gethostname()
    if task.version != __version__:
        raise ConfigError(
            f"{host} has epam_extract {__version__} and this machine has {task.version}: install "
            "the same version on both"
        )
    if not task.sample.exists():
        raise ConfigError(
            f"{task.sample} does not exist on {host}: the videos must be in a folder that all "
            "workers share, under the same path"
        )
    try:
        task.probe.write_text(task.probe.name, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{task.probe.parent} cannot be written on {host} ({os.strerror(error.errno or 0)}): "
            "--out must be in a folder that all workers share, under the same path"
        ) from error


def _half_done(store: StoreWriter, config: ExtractConfig) -> HalfDone:
    """The incomplete videos of a part that was just opened."""
    half_done = HalfDone()
    with FeatureStore(store.path) as part:
        incomplete = [name for name, complete in part.survey()[0].items() if not complete]
    for video_id in incomplete:
        state = store.progress(video_id)
        if state is not None:
            job = recall_people(Job(video_id, Path(), stored=state), store, config)
            half_done.states[video_id] = state
            half_done.people[video_id] = job.recalled
    return half_done
