"""What ``bench`` measures of the whole: writing, overlap, and videos to features end to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from ..config import NUM_KEYPOINTS, ExtractConfig
from ..model.fast import supports
from ..pipeline.concurrency import Pause, flat_map, map_ahead
from ..pipeline.device import DTYPES
from ..progress.records import BenchRow
from ..records import PoseTrack, Video
from ..schema import feature_arrays
from ..store import StoreHeader, StoreWriter
from ..windows import grid_attributes, plan_windows, valid_share, window_times
from .baseline import write_with_h5py
from .child import Order, Outcome
from .measuring import Child, in_turns
from .stages import NO_TIME, Bench, Part

WRITTEN_VIDEOS, WRITTEN_WINDOWS = 4, 8
STAND_INS = {"read": 0.010, "pose": 0.012, "network": 0.015}  # seconds of waiting an item
HOUR_FPS = 25  # of the hour of video whose cost is told
STAND_IN_ITEMS = 60
CHILD = "epam_extract.bench.child"
SCRIPT, OURS = "a script of today", "epam-extract, same settings"


# ---------------------------------------------------------------- writing


def writing(bench: Bench, seconds: float) -> Part:
    """Features of a few videos: our transactions, one a video, and one plain file."""
    config = ExtractConfig(features=("pooled", "full"), precision="float32")
    videos = {f"video{i}": _arrays(config, seed=i) for i in range(WRITTEN_VIDEOS)}
    size = sum(array.nbytes for arrays in videos.values() for array in arrays.values())
    plain, ours = bench.folder / "plain.h5", bench.folder / "ours.h5"
    ways: dict[str, Callable[[], object]] = {
        "plain h5py, one fsync a video": partial(write_with_h5py, plain, videos),
        "epam-extract, one transaction a video": partial(_write_ours, ours, config, videos),
    }
    rows = []
    base: float | None = None
    for name, timing in in_turns(ways, seconds).items():
        rate = size / timing.median / 1e6
        base = base or rate
        rows.append(BenchRow("writing", name, rate, "MB/s", rate / base, timing.note))
    for path in (plain, ours):
        path.unlink(missing_ok=True)
    return Part(rows)


def _arrays(config: ExtractConfig, *, seed: int) -> dict[str, np.ndarray]:
    """Made-up features of one video."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, array in feature_arrays(config.identity()).items():
        values = rng.standard_normal((WRITTEN_WINDOWS, *array.item), np.float32)
        arrays[name] = values.astype(array.dtype)
    return arrays


def _write_ours(
    path: Path, config: ExtractConfig, videos: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    grid = config.windows
    frames = WRITTEN_WINDOWS * grid.stride
    times = np.arange(frames) / 25
    rows = {
        "frames": plan_windows(frames, grid).astype(np.int32),
        "person": np.ones(WRITTEN_WINDOWS, np.float32),
        "box": np.zeros((WRITTEN_WINDOWS, 4), np.int32),
    }
    track = PoseTrack(
        np.ones((1, frames, NUM_KEYPOINTS, 2), np.float32),
        np.ones((1, frames, NUM_KEYPOINTS), np.float32),
    )
    header = StoreHeader(config.identity(), {"random_seed": 0}, {"mode": "bench"})
    with StoreWriter(path, header, overwrite=True) as store:
        for video_id, arrays in videos.items():
            video = Video(video_id, path, frames, Fraction(25), 480, 640, times)
            store.begin(video_id, path, size=0, mtime_ns=0)
            store.append_keypoints(video_id, 0, track)
            store.append_windows(video_id, {**arrays, **rows})
            store.finish(
                video,
                grid=grid_attributes(frames, grid),
                times=window_times(times, 1 / 25, grid),
                valid=valid_share(frames, grid),
            )
            store.commit()


# ---------------------------------------------------------------- overlap


def overlap(bench: Bench, seconds: float) -> Part:
    """The pipeline's wiring around stages that only wait, as one waits for a device."""
    slowest = max(STAND_INS, key=lambda stage: STAND_INS[stage])
    alone = STAND_INS[slowest] * STAND_IN_ITEMS
    timing = in_turns({"overlap": run_stand_ins}, seconds)["overlap"]
    note = (
        f"{alone:.2f} s of waiting in {slowest}, the slowest of {len(STAND_INS)} stages that wait"
    )
    wall = timing.median / alone
    return Part([BenchRow("overlap", "wall time over the slowest stage's", wall, "x", note=note)])


def run_stand_ins() -> list[int]:
    """``STAND_IN_ITEMS`` items through stages that wait, wired as the pipeline wires its own."""

    def waiting(stage: str) -> Callable[[int], int]:
        def work(item: int) -> int:
            time.sleep(STAND_INS[stage])
            return item

        return work

    with ThreadPoolExecutor(1) as pose, ThreadPoolExecutor(1) as network:

        def lane(items: range) -> Iterator[int]:
            return map_ahead(pose, waiting("pose"), map(waiting("read"), items), depth=2)

        outputs = flat_map(lane, [range(STAND_IN_ITEMS)], workers=1, depth=2)
        pieces = (piece for piece in outputs if not isinstance(piece, Pause))
        return list(map_ahead(network, waiting("network"), pieces, depth=2))


# ---------------------------------------------------------------- end to end


@dataclass
class Runs:
    """Outcomes of one way, and the most memory it took."""

    outcomes: list[Outcome]
    peak: int = 0


def end_to_end(
    bench: Bench, videos: Sequence[Path], warm_up: Path, seconds: float, *, compiled: bool
) -> Part:
    """The script of today and ``extract_features`` on the same videos, in turns.

    ``warm_up`` is a short video that both do first, unmeasured; ``compiled`` says whether the
    network is compiled here, so that our own way is measured without that, too.
    """
    same = replace(bench.config, precision="float32")
    ways = {SCRIPT: (same, bench.plain), OURS: (same, None)}
    sparse = replace(same, pose=replace(same.pose, det_every="auto"))
    fastest = replace(sparse, precision="bf16")
    if bench.sparse_pose is not None:
        ways[f"{OURS} --det-every auto"] = (sparse, None)
        if supports(DTYPES["bf16"], bench.device):
            ways[f"{OURS} --precision bf16 --det-every auto"] = (fastest, None)
    if compiled:
        ways[f"{OURS}, --compile off"] = (replace(same, compile="off"), None)
    runs = {name: Runs([]) for name in ways}
    troubles: dict[str, str] = {}
    started = time.monotonic()
    with Child(CHILD) as script, Child(CHILD) as ours:

        def order(name: str, paths: tuple[Path, ...]) -> Outcome | str:
            config, plain = ways[name]
            child, out = (ours, "ours.h5") if plain is None else (script, "script")
            child.send(Order(paths, bench.folder / out, config, plain, bench.pose_device))
            answer: Outcome | str = child.answer()
            runs[name].peak = max(runs[name].peak, child.peak)
            return answer

        def way(name: str) -> None:
            if name not in troubles:
                answer = order(name, tuple(videos))
                if isinstance(answer, str):
                    troubles[name] = answer
                else:
                    runs[name].outcomes.append(answer)

        for name in (SCRIPT, OURS):
            answer = order(name, (warm_up,))
            if isinstance(answer, str):
                troubles[name] = answer
        left = seconds - (time.monotonic() - started)
        turns = {name: partial(way, name) for name in ways}
        in_turns(turns, left, rounds=4, warm=True, all_once=True)
    rows = []
    base: float | None = None
    for name, found in runs.items():
        if not found.outcomes:
            why = f"skipped: {troubles[name]}" if name in troubles else NO_TIME
            rows.append(BenchRow("end to end", name, None, "", note=why))
            continue
        wall = median(outcome.usage.wall / outcome.frames for outcome in found.outcomes)
        if name == SCRIPT:
            base = wall
        ratio = None if base is None else base / wall
        note = f"{found.outcomes[0].frames} frames; median of {len(found.outcomes)}"
        rows.append(BenchRow("end to end", name, wall * 1e3, "ms/frame", ratio, note))
    rows += [_hour(row, bench) for row in rows if row.value is not None and row.name != SCRIPT]
    for name, found in runs.items():
        if found.outcomes and name in (SCRIPT, OURS):
            rows += _costs(name, found, bench.cores)
    return Part(rows)


def _hour(row: BenchRow, bench: Bench) -> BenchRow:
    """What an hour of such video takes here, with these models."""
    video = bench.video
    models = ", ".join(path.stem for _, path, _ in bench.plain.values())
    return BenchRow(
        "end to end",
        f"an hour of video: {row.name}",
        (row.value or 0) / 1e3 * 3600 * HOUR_FPS / 60,
        "min",
        note=f"{video.width}x{video.height}, {HOUR_FPS} frames/s; {models}",
    )


def _costs(name: str, runs: Runs, cores: int) -> list[BenchRow]:
    """How busy a way kept the cores, and the memory it took."""
    shares = [o.usage.cpu / (o.usage.wall * cores) for o in runs.outcomes]
    idle = median(o.usage.idle / (o.usage.wall * cores) for o in runs.outcomes)
    share = median(shares)
    note = f"wall time is {1 / share:.2f} x CPU time / {cores} cores"
    if idle <= 1:
        note += f"; the machine was idle {idle:.0%} of it"
    if runs.outcomes[0].busy:
        busy = ", ".join(f"{stage} {share:.0%}" for stage, share in runs.outcomes[-1].busy.items())
        note += f"; busy: {busy}"
    return [
        BenchRow("end to end", f"cores busy: {name}", share * 100, "%", note=note),
        BenchRow(
            "end to end",
            f"memory: {name}",
            runs.peak / 1e9,
            "GB",
            note="resident at most, all processes together, shared pages counted in each",
        ),
    ]
