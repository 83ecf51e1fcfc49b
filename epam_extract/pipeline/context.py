"""What all stages of one run share, and how many threads each stage has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..config import BATCH_SIZE, WORKERS, ExtractConfig
from ..progress import Progress
from ..video.fetch import FETCHES
from .concurrency import Meter, available_cores
from .device import pick_device, pick_precision

NETWORK_THREADS_GPU = 2  # one copies while the other computes


class Threads(NamedTuple):
    """How many threads work at the same time."""

    videos: int
    """Videos that are read at a time."""
    pose: int
    network: int


@dataclass(frozen=True)
class Stage:
    """One stage of a run, for the report of how busy it is."""

    unit: str
    """What it counts."""
    threads: Callable[[Threads], int]
    """How many of the run's threads do its work."""


STAGES = {
    "fetch": Stage("MB", lambda threads: FETCHES),
    "read": Stage("frames", lambda threads: threads.videos),
    "pose": Stage("frames", lambda threads: threads.pose),
    "clips": Stage("windows", lambda threads: threads.videos),
    "network": Stage("windows", lambda threads: threads.network),
    "write": Stage("windows", lambda threads: 1),
}


class RunContext:
    """What one run, or one worker of a cluster, works with.

    ``cores`` are those it may use; None: all that this process may use.

    Raises:
        ConfigError: ``config`` asks for a device or a precision that is not available.
    """

    def __init__(
        self,
        config: ExtractConfig,
        out: Path,
        progress: Progress,
        stop: threading.Event,
        *,
        cores: int | None = None,
    ) -> None:
        self.device = pick_device(config.device)
        self.config = replace(config, precision=pick_precision(config.precision, self.device))
        self.out, self.progress, self.stop = out, progress, stop
        self.cores = cores or available_cores()
        self.workers = config.workers or WORKERS[self.device.type]
        """Videos to read at a time."""
        self.batch_size = config.batch_size or BATCH_SIZE[self.device.type]
        self.meter = Meter(*STAGES)
        self.started = time.monotonic()

    def threads(self, videos: int | None) -> Threads:
        """The threads for this many videos; None: a number that is not known yet."""
        workers = self.workers if videos is None else min(self.workers, videos)
        network = self.cores if self.device.type == "cpu" else NETWORK_THREADS_GPU
        return Threads(workers, self.cores, network)
