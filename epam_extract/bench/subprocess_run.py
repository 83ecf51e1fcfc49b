"""The script and our own run, each in a process of its own.

There they have the threads, memory and CPU time of a program that does nothing else.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from statistics import mean
from typing import Any

import psutil

from ..config import ExtractConfig
from ..errors import MachineError
from ..progress import Progress
from ..progress.records import Plan, StageLoad, Summary
from .script import Models
from .timing import Usage, family

log = logging.getLogger(__name__)

SAMPLE_SECONDS = 0.05  # between two looks at the memory
BOOT = "import importlib, sys; importlib.import_module(sys.argv[1]).main(int(sys.argv[2]))"


@dataclass(frozen=True)
class Order:
    """Videos to do, one way or the other."""

    videos: tuple[Path, ...]
    out: Path
    """The HDF5 file; for the script the folder of its ``.npy``."""
    config: ExtractConfig
    plain: Models | None = None
    """The script's pose models; None asks for our own run."""
    pose_device: str = "cpu"
    """Where the script's models run."""


@dataclass(frozen=True)
class Outcome:
    """What came of an order."""

    frames: int
    usage: Usage
    """From when models and weights are loaded to the last byte written."""
    busy: Mapping[str, float] = field(default_factory=dict)
    """Our stages' mean busy shares."""


# ---------------------------------------------------------------- the child's side


class Clock(Progress):
    """Reads the clock when a run has loaded its models, and when it ends."""

    def __init__(self) -> None:
        self.start: Usage | None = None
        self.stop = Usage.now()
        self.busy: dict[str, list[float]] = defaultdict(list)

    def plan(self, plan: Plan) -> None:
        self.start = self.start or Usage.now()  # the first of several plans

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        for name, load in loads.items():
            self.busy[name].append(load.busy)

    def finished(self, summary: Summary) -> None:
        self.stop = Usage.now()


def run_ours(order: Order) -> Outcome:
    """:func:`epam_extract.extract_features`."""
    from ..pipeline.run import extract_features

    clock = Clock()
    summary = extract_features(
        order.videos, order.out, order.config, overwrite=True, progress=clock
    )
    if summary.failures:
        first = summary.failures[0]
        raise RuntimeError(f"{first.video_id}: {first.message}")
    busy = {name: mean(shares) for name, shares in clock.busy.items()}
    return Outcome(summary.frames, clock.stop - (clock.start or clock.stop), busy)


def run_script(order: Order) -> Outcome:
    """:class:`script.Script`."""
    from ..pipeline.device import pick_device
    from ..pipeline.inference import load_backbone
    from .script import PlainPose, Script

    device = pick_device(order.config.device)
    backbone = load_backbone(order.config.weights).backbone.to(device)
    pose = PlainPose(order.plain or {}, order.pose_device)
    script = Script(pose, backbone, device, order.config.windows)
    start = Usage.now()
    for index, video in enumerate(order.videos):
        script(video, order.out / str(index))
    return Outcome(script.frames, Usage.now() - start)


def answer(order: Order) -> Outcome | str:
    """Do an order; or say in one line what went wrong."""
    try:
        return run_script(order) if order.plain is not None else run_ours(order)
    except Exception as error:  # whatever it is, the parent shows it next to the other rows
        log.exception("%s", order)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main(descriptor: int) -> None:
    """Answer the :class:`Child` at the other end of this connection until it closes it."""
    with Connection(descriptor) as connection, suppress(EOFError):
        while True:
            connection.send(answer(connection.recv()))


# ---------------------------------------------------------------- the parent's side


class Child:
    """A Python process that answers orders; its memory is watched meanwhile."""

    def __init__(self, module: str = __name__) -> None:
        """Start Python, and in it ``module.main(descriptor of the connection)``."""
        self._connection, theirs = Pipe()
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, module, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
            )
        self.peak = 0
        """Bytes resident at most during the last order; shared pages count in each process."""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exception: object) -> None:
        """End it and whatever it started."""
        self._connection.close()
        for process in family(self._process.pid):
            with suppress(psutil.Error):
                process.kill()
        self._process.wait()

    def send(self, order: object) -> None:
        """Hand over an order; :meth:`answer` waits for what comes of it."""
        self.peak = 0
        with suppress(OSError):  # it died: answer() says so
            self._connection.send(order)

    def answer(self) -> Any:
        """What came of the last order. Raises MachineError if the process died."""
        while not self._connection.poll(SAMPLE_SECONDS):
            resident = 0
            for process in family(self._process.pid):
                with suppress(psutil.Error):
                    resident += process.memory_info().rss
            self.peak = max(self.peak, resident)
        try:
            return self._connection.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            raise MachineError(f"bench: the measured process died (exit status {code})") from error
