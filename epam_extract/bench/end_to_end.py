"""What ``bench`` measures of the whole: from videos to features, the script and our own run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median

from ..model.fast import supports
from ..pipeline.device import DTYPES
from ..progress.records import BenchRow
from .stages import Bench, Part
from .subprocess_run import Child, Order, Outcome
from .timing import NO_TIME, Deadline, in_turns

HOUR_FRAMES = 3600 * 25  # of the hour of video whose cost is told
PART = "end to end"
SCRIPT, OURS = "a script of today", "epam-extract, same settings"


@dataclass
class Contestant:
    """One way from videos to features, and how it did."""

    order: Order
    """Without the videos."""
    outcomes: list[Outcome] = field(default_factory=list)
    trouble: str = ""
    """Why it cannot be measured."""
    peak: int = 0
    """Bytes of memory at most."""

    def run(self, child: Child, videos: Sequence[Path]) -> None:
        """Do the videos in a child's process."""
        if self.trouble:
            return
        child.send(replace(self.order, videos=tuple(videos)))
        answer: Outcome | str = child.answer()
        self.peak = max(self.peak, child.peak)
        if isinstance(answer, str):
            self.trouble = answer
        else:
            self.outcomes.append(answer)

    @property
    def wall(self) -> float:
        """Seconds per frame."""
        return median(done.usage.wall / done.frames for done in self.outcomes)

    @property
    def cpu(self) -> float:
        """CPU seconds per frame; 0 where it was not measured."""
        return median([done.usage.cpu / done.frames for done in self.outcomes] or [0.0])


def contestants(bench: Bench, *, compiled: bool) -> dict[str, Contestant]:
    """The script, and every way of ours that this machine can compute."""
    same = replace(bench.config, precision="float32")
    sparse = replace(same, pose=replace(same.pose, det_every="auto"))
    ours = {OURS: same}
    if bench.sparse_pose is not None:
        ours[f"{OURS} --det-every auto"] = sparse
        if supports(DTYPES["bf16"], bench.device):
            fastest = replace(sparse, precision="bf16")
            ours[f"{OURS} --precision bf16 --det-every auto"] = fastest
    if compiled:
        ours[f"{OURS}, --compile off"] = replace(same, compile="off")
    script = Order((), bench.folder / "script", same, bench.plain, bench.pose_device)
    orders = {name: Order((), bench.folder / "ours.h5", config) for name, config in ours.items()}
    return {name: Contestant(order) for name, order in {SCRIPT: script, **orders}.items()}


def end_to_end(
    bench: Bench, videos: Sequence[Path], warm_up: Path, seconds: float, *, compiled: bool
) -> Part:
    """The script and ``extract_features`` on the same videos, in turns.

    ``warm_up`` is a short video that both do first, unmeasured; ``compiled`` says whether the
    network is compiled here, so that our own way is measured without that, too.
    """
    deadline = Deadline(seconds)
    ways = contestants(bench, compiled=compiled)
    with Child() as script, Child() as ours:
        children = {name: script if name == SCRIPT else ours for name in ways}
        for name in (SCRIPT, OURS):
            ways[name].run(children[name], [warm_up])
            ways[name].outcomes.clear()
        turns = {name: partial(way.run, children[name], videos) for name, way in ways.items()}
        in_turns(turns, deadline.left, rounds=4, warm=True, all_once=True)
    return Part(_speeds(ways) + _hours(ways, bench) + _costs(ways, bench), cpu=ways[OURS].cpu)


def _speeds(ways: dict[str, Contestant]) -> list[BenchRow]:
    """Milliseconds per frame, compared with the script; or why there are none."""
    base = ways[SCRIPT].wall if ways[SCRIPT].outcomes else None
    rows = []
    for name, way in ways.items():
        if not way.outcomes:
            why = f"skipped: {way.trouble}" if way.trouble else NO_TIME
            rows.append(BenchRow(PART, name, None, "", note=why))
            continue
        ratio = None if base is None else base / way.wall
        note = f"{way.outcomes[0].frames} frames; median of {len(way.outcomes)}"
        rows.append(BenchRow(PART, name, way.wall * 1e3, "ms/frame", ratio, note))
    return rows


def _hours(ways: dict[str, Contestant], bench: Bench) -> list[BenchRow]:
    """What an hour of such video takes here, with these models."""
    models = ", ".join(path.stem for _, path, _ in bench.plain.values())
    rows = []
    for name, way in ways.items():
        if name == SCRIPT or not way.outcomes:
            continue
        minutes, hours = way.wall * HOUR_FRAMES / 60, way.cpu * HOUR_FRAMES / 3600
        note = f"{hours:.1f} h of CPU; {bench.video.width}x{bench.video.height}, 25 frames/s; "
        rows.append(BenchRow(PART, f"an hour of video: {name}", minutes, "min", note=note + models))
    return rows


def _costs(ways: dict[str, Contestant], bench: Bench) -> list[BenchRow]:
    """How busy the script and our run kept the cores, and the memory they took."""
    rows = []
    for name in (SCRIPT, OURS):
        outcomes = ways[name].outcomes
        if not outcomes:
            continue
        share = median(o.usage.cpu / (o.usage.wall * bench.cores) for o in outcomes)
        idle = median(o.usage.idle / (o.usage.wall * bench.cores) for o in outcomes)
        note = f"wall time is {1 / share:.2f} x CPU time / {bench.cores} cores"
        if idle <= 1:
            note += f"; the machine was idle {idle:.0%} of it"
        busy = ", ".join(f"{stage} {part:.0%}" for stage, part in outcomes[-1].busy.items())
        note += f"; busy: {busy}" if busy else ""
        rows.append(BenchRow(PART, f"cores busy: {name}", share * 100, "%", note=note))
        note = "resident at most, all processes together, shared pages counted in each"
        rows.append(BenchRow(PART, f"memory: {name}", ways[name].peak / 1e9, "GB", note=note))
    return rows
