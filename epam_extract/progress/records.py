"""What is shown of a run or a benchmark: its plan, its stages' loads, its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..records import VideoFailure


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, by the headers of its videos."""

    videos: int
    """Videos asked for."""
    to_do: int
    """Of them, those this run reads."""
    skipped: int
    """Of them, those complete in the file."""
    failed_before: int
    """Of them, those that failed in an earlier run and whose file has not changed since."""
    frames: int
    """Frames to process."""
    windows: int
    """Windows to write."""
    bytes: int
    """What the output is expected to grow by."""
    free_bytes: int
    """What the disk has left."""
    exact: bool = True
    """False while videos are still looked at: frames, windows and bytes are then estimates."""


@dataclass(frozen=True)
class StageLoad:
    """How one stage of the running pipeline fared in the last seconds."""

    rate: float
    """Items per second."""
    busy: float
    """Share of the time it worked instead of waiting, 0 to 1 (all its threads together)."""
    unit: str = "frames"
    """What is counted: "frames", "windows", "videos"."""


@dataclass(frozen=True)
class Summary:
    """What a run did, for the screen and ``--summary-json``."""

    out: Path
    videos: int
    """Videos asked for."""
    done: int
    """Videos complete in the file now, of those asked for."""
    skipped: int
    """Of them, complete before this run."""
    failures: tuple[VideoFailure, ...]
    windows: int
    """Windows written by this run."""
    frames: int
    """Frames read by this run."""
    frames_with_person: int
    seconds: float
    size: int
    """Bytes of the file."""
    interrupted: bool = False
    clipped: int = 0
    notes: tuple[str, ...] = ()
    """Announcements: random weights, demo pose model, values clipped."""

    @property
    def failed(self) -> int:
        """Number of videos asked for that failed, now or in an earlier run."""
        return len(self.failures)

    @property
    def person_share(self) -> float | None:
        """Share of the frames read with a person in them; None if none were read."""
        return self.frames_with_person / self.frames if self.frames else None


@dataclass(frozen=True)
class BenchRow:
    """One measured figure of ``epam-extract bench``."""

    part: str
    """``decode``, ``pose``, ``network``, ``writing``, ``overlap``, ``end to end``."""
    name: str
    value: float | None
    """None where it was skipped; ``note`` says why."""
    unit: str
    ratio: float | None = None
    """How many times as fast as the part's first row."""
    note: str = ""


@dataclass(frozen=True)
class BenchReport:
    """What ``epam-extract bench`` found."""

    machine: str
    """Processor, cores and GPU."""
    versions: Mapping[str, str]
    """Of this package, its commit where it runs from a checkout, and of what it computes with."""
    taken: str
    """When, as ISO 8601 in UTC."""
    videos: str
    """What it was measured on."""
    rows: tuple[BenchRow, ...]
    limits: str
    """What holds a run up on this machine, in a sentence."""
    seconds: float
    """That measuring took."""
    models: str = ""
    """The pose models, and whether stand-ins took their place."""
