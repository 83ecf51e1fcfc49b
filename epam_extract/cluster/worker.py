"""One of many workers on one collection: loads the models once and does the videos it is handed.

It knows nothing of Ray. Its methods are called from any thread and answer at once, except
:meth:`Worker.news`, which waits a moment for some. A worker writes a part file of its own; one that
is started again goes on with what the part has.
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
from ..pipeline.concurrency import Feed
from ..pipeline.output import Output
from ..pipeline.plan import ids_to_match, require_open_files, sort_videos, with_stored_people
from ..pipeline.run import Run
from ..pipeline.video_worker import Job
from ..progress import Progress
from ..progress.records import StageLoad
from ..records import PoseTrack, VideoFailure
from ..store import FeatureStore, StoredFailure, StoredProgress, StoreHeader, StoreWriter
from ..video import FoundVideo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What a worker must know before its first video."""

    part: Path
    """Its file."""
    out: Path | None
    """What it is to be merged into, which refuses other options; None where that begins anew."""
    config: ExtractConfig
    cores: int
    gpu: bool
    """Whether a GPU was set apart for it."""
    windows: int
    """Of the whole collection, to decide whether compiling pays."""
    compiled: str | None
    """How the features that are there were computed; None where there are none."""
    video_ids: tuple[tuple[str, str], ...]
    """Of all videos, each with the one it is cut from, where keypoints come from a file."""
    probe: Path
    """A file to write, so that the driver sees that they share the folder."""
    sample: Path
    """A video, which must be there."""
    version: str


@dataclass(frozen=True)
class Totals:
    """What a worker has done since it was started."""

    windows: int = 0
    frames: int = 0
    frames_with_person: int = 0
    clipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a worker says when it is asked for news."""

    life: str
    """Another one after every start."""
    host: str
    state: str
    """``arrived``, ``ready`` or ``ended``."""
    told: tuple[tuple[str, tuple], ...]
    """Calls of a :class:`Progress`, and ``returned``, with what was not begun."""
    totals: Totals
    lanes: int = 0
    header: StoreHeader | None = None
    error: tuple[str, str] | None = None
    """Class and message of what ended it."""


class Relay(Progress):
    """Keeps what a run reports until the driver asks for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.told: list[tuple[str, tuple]] = []

    def tell(self, name: str, *values: object) -> None:
        """Note a call."""
        with self.changed:
            self.told.append((name, values))
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
    """The videos of a part that are not complete in it; ``StoredVideos`` for a plan."""

    states: dict[str, StoredProgress] = field(default_factory=dict)
    people: dict[str, PoseTrack | None] = field(default_factory=dict)

    def progress(self, video_id: str) -> StoredProgress | None:
        """How far the part has a video."""
        return self.states.get(video_id)

    def failures(self) -> Mapping[str, StoredFailure]:
        """None: who hands a video out wants it done."""
        return {}


class Worker:
    """A worker; nothing is loaded before :meth:`start`."""

    def __init__(self, task: Task) -> None:
        self.life = secrets.token_hex(8)
        self._task = task
        self._relay = Relay()
        self._feed: Feed[Job] = Feed()
        self._stop = threading.Event()
        self._half_done = HalfDone()
        self._output: Output | None = None
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
        """Load the models and wait for videos; the driver has seen the probe file."""
        self._task.probe.unlink(missing_ok=True)
        if life == self.life and self._thread is None and self._error is None:
            self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
            self._thread.start()

    def give(self, life: str, videos: Sequence[FoundVideo]) -> None:
        """Do these videos, after those given before; not those meant for an earlier life."""
        if life != self.life:
            return
        there = self._half_done
        jobs = sort_videos(videos, there, retry_failed=False).jobs
        self._feed.put(
            replace(job, stored=there.people.get(job.video_id)) if job.frames_done else job
            for job in jobs
        )

    def take_back(self, life: str, video_ids: Sequence[str]) -> None:
        """Give up those of these videos that are not begun; ``returned`` tells which."""
        if life == self.life:
            back = self._feed.take_back(lambda job: job.video_id in video_ids)
            self._relay.tell("returned", [job.video_id for job in back])

    def finish(self) -> None:
        """No more videos come: commit and end."""
        self._feed.close()

    def stop(self) -> None:
        """Finish and commit what is in flight, and end."""
        self._stop.set()
        self._feed.close()

    def news(self, seconds: float) -> Report:
        """What happened since the last call; waits up to ``seconds`` for something."""
        relay = self._relay
        with relay.changed:
            relay.changed.wait_for(lambda: relay.told or self._state == "ended", seconds)
            told, relay.told = tuple(relay.told), []
            state = self._state
        output = self._output
        totals = Totals()
        if output is not None:
            totals = Totals(
                output.windows,
                output.frames,
                output.frames_with_person,
                output.clipped,
                (*self._notes, *output.notes),
            )
        host, lanes, header = socket.gethostname(), self._lanes, self._header
        return Report(self.life, host, state, told, totals, lanes, header, self._error)

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
        run = Run(config, task.part, self._relay, self._stop, cores=task.cores)
        if task.gpu and run.device.type != "cuda":
            raise MachineError(
                f"Ray has set a GPU of {socket.gethostname()} apart for a worker and torch there "
                "can use none: install a CUDA build of torch on it, or say --device cpu"
            )
        require_open_files(run.lanes)
        models = run.load()
        for file in (task.out, task.part):  # refused before a part is made
            compiled = models.compiled_before(file) if file is not None else None
        network = run.network(models, task.windows, task.compiled if compiled is None else compiled)
        matches = None
        if models.keypoints is not None:
            matches = models.keypoints.match(ids_to_match(task.video_ids, models.keypoints.names))
            self._relay.message(matches.report())
        header = models.header(network.compiled or "")
        with StoreWriter(task.part, header) as store:
            self._half_done = _half_done(store, config)
            output = Output(store, config, progress=self._relay, meter=run.meter)
            self._notes, self._output = models.notes, output
            self._lanes, self._header = run.lanes, header
            self._become("ready")
            run.extract(self._feed, models, network, output, matches=matches)

    def _end(self, error: EpamExtractError | None) -> None:
        if error is not None:
            self._error = (type(error).__name__, str(error))
        self._become("ended")

    def _become(self, state: str) -> None:
        with self._relay.changed:
            self._state = state
            self._relay.changed.notify_all()


def _arrive(task: Task) -> None:
    """Show the driver where this worker is; raise ConfigError where that cannot do."""
    host = socket.gethostname()
    if task.version != __version__:
        raise ConfigError(
            f"{host} has epam_extract {__version__} and this machine {task.version}: install the "
            "same version on both"
        )
    if not task.sample.exists():
        raise ConfigError(
            f"{task.sample} is not there on {host}: the videos must be in a folder that all "
            "workers share, by the same path"
        )
    try:
        task.probe.write_text(task.probe.name, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{task.probe.parent} cannot be written on {host} ({os.strerror(error.errno or 0)}): "
            "--out must be in a folder that all workers share, by the same path"
        ) from error


def _half_done(store: StoreWriter, config: ExtractConfig) -> HalfDone:
    """What the part that was just opened has of videos that are not complete."""
    half_done = HalfDone()
    with FeatureStore(store.path) as there:
        incomplete = [name for name, complete in there.survey()[0].items() if not complete]
    for video_id in incomplete:
        state = store.progress(video_id)
        if state is not None:
            job = Job(video_id, Path(), windows_done=state.windows, frames_done=state.frames)
            half_done.states[video_id] = state
            half_done.people[video_id] = with_stored_people(job, store, config).stored
    return half_done
