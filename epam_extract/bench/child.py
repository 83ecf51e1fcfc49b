"""One way from videos to features, in a process of its own: what ``bench`` measures end to end.

A process of its own, so that the script of today and our own run each have the threads, the memory
and the CPU time of a program that does nothing else.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from ..config import ExtractConfig
from ..progress import Progress
from ..progress.records import Plan, StageLoad, Summary
from .measuring import Usage, serve

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """Videos to do, one way or the other."""

    videos: tuple[Path, ...]
    out: Path
    """The HDF5 file; for the script the folder of its ``.npy``."""
    config: ExtractConfig
    plain: Mapping[str, tuple[str, Path, tuple[int, int]]] | None = None
    """For the script: its models, as :class:`baseline.PlainPose` takes them."""
    pose_device: str = "cpu"
    """Where the script's models run."""


@dataclass(frozen=True)
class Outcome:
    """What an order came to."""

    frames: int
    usage: Usage
    """From the first video's opening to the last byte written, models and weights loaded."""
    busy: Mapping[str, float] = field(default_factory=dict)
    """Stage to its mean busy share; ours only."""


class Clock(Progress):
    """Looks at the clock when a run has loaded its models, and when it is through."""

    def __init__(self) -> None:
        self.start = self.stop = Usage.now()
        self.planned = False
        self.busy: dict[str, list[float]] = defaultdict(list)

    def plan(self, plan: Plan) -> None:
        if not self.planned:  # the first of several
            self.start, self.planned = Usage.now(), True

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        for name, load in loads.items():
            self.busy[name].append(load.busy)

    def finished(self, summary: Summary) -> None:
        self.stop = Usage.now()


def run_ours(order: Order) -> Outcome:
    """:func:`epam_extract.extract_features`, as it is."""
    from ..pipeline.run import extract_features

    clock = Clock()
    summary = extract_features(
        order.videos, order.out, order.config, overwrite=True, progress=clock
    )
    if summary.failures:
        first = summary.failures[0]
        raise RuntimeError(f"{first.video_id}: {first.message}")
    busy = {name: mean(shares) for name, shares in clock.busy.items()}
    return Outcome(summary.frames, clock.stop - clock.start, busy)


def run_script(order: Order) -> Outcome:
    """The script of :mod:`baseline`."""
    from ..pipeline.device import pick_device
    from ..pipeline.inference import load_backbone
    from .baseline import PlainPose, Script

    device = pick_device(order.config.device)
    backbone = load_backbone(order.config.weights).backbone.to(device)
    pose = PlainPose(dict(order.plain or {}), order.pose_device)
    script = Script(pose, backbone, device, order.config.windows)
    start = Usage.now()
    for index, video in enumerate(order.videos):
        script(video, order.out / str(index))
    return Outcome(script.frames, Usage.now() - start)


def answer(order: Order) -> Outcome | str:
    """Do an order; or say in a line what went wrong."""
    try:
        return run_script(order) if order.plain is not None else run_ours(order)
    except Exception as error:  # whatever it is, the parent shows it beside the other rows
        log.exception("%s", order)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main(descriptor: int) -> None:
    """Serve the :class:`measuring.Child` at the other end of this connection."""
    serve(descriptor, answer)
