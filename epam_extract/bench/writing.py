"""What ``bench`` measures of the pipeline itself: writing, and whether stages overlap."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from ..config import NUM_KEYPOINTS, ExtractConfig
from ..pipeline.concurrency import Pause, flat_map, map_ahead
from ..progress.records import BenchRow
from ..records import PoseTrack, Video
from ..schema import feature_arrays
from ..store import StoreHeader, StoreWriter
from ..windows import grid_attributes, plan_windows, valid_share, window_times
from .script import write_with_h5py
from .stages import Bench, Part
from .timing import Way, contest, in_turns, rows

WRITTEN_VIDEOS, WRITTEN_WINDOWS = 4, 8
WAITS = {"read": 0.010, "pose": 0.012, "network": 0.015}  # seconds per item
ITEMS = 60


def writing(bench: Bench, seconds: float) -> Part:
    """Features of a few videos: our transactions, one per video, and one plain file."""
    config = ExtractConfig(features=("pooled", "full"), precision="float32")
    rng = np.random.default_rng(0)
    videos = {
        f"video{number}": {
            name: rng.standard_normal((WRITTEN_WINDOWS, *array.item), np.float32).astype(
                array.dtype
            )
            for name, array in feature_arrays(config.identity()).items()
        }
        for number in range(WRITTEN_VIDEOS)
    }
    megabytes = sum(array.nbytes for made in videos.values() for array in made.values()) / 1e6
    plain, ours = bench.folder / "plain.h5", bench.folder / "ours.h5"
    ways = {
        "plain h5py, one fsync a video": Way(partial(write_with_h5py, plain, videos), megabytes),
        "epam-extract, one transaction a video": Way(
            partial(_write_ours, ours, config, videos), megabytes
        ),
    }
    contest(ways, seconds)
    for path in (plain, ours):
        path.unlink(missing_ok=True)
    return Part(rows("writing", "MB/s", ways))


def _write_ours(
    path: Path, config: ExtractConfig, videos: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    grid, windows = config.windows, WRITTEN_WINDOWS
    frames = windows * grid.stride
    times = np.arange(frames) / 25
    described = {
        "frames": plan_windows(frames, grid).astype(np.int32),
        "person": np.ones(windows, np.float32),
        "box": np.zeros((windows, 4), np.int32),
    }
    joints = np.ones((1, frames, NUM_KEYPOINTS, 2), np.float32)
    header = StoreHeader(config.identity(), {"random_seed": 0}, {"mode": "bench"})
    with StoreWriter(path, header, overwrite=True) as store:
        for video_id, arrays in videos.items():
            store.begin(video_id, path, size=0, mtime_ns=0)
            store.append_keypoints(video_id, 0, PoseTrack(joints, joints[..., 0]))
            store.append_windows(video_id, {**arrays, **described})
            store.finish(
                Video(video_id, path, frames, Fraction(25), 480, 640, times),
                grid=grid_attributes(frames, grid),
                times=window_times(times, 1 / 25, grid),
                valid=valid_share(frames, grid),
            )
            store.commit()


def overlap(bench: Bench, seconds: float) -> Part:
    """The pipeline's wiring around stages that only wait, as one waits for a device."""
    slowest = max(WAITS, key=lambda stage: WAITS[stage])
    alone = WAITS[slowest] * ITEMS
    wall = in_turns({"overlap": overlapped}, seconds)["overlap"].median
    note = f"{alone:.2f} s of waiting in {slowest}, the slowest of {len(WAITS)} stages that wait"
    name = "wall time over the slowest stage's"
    return Part([BenchRow("overlap", name, wall / alone, "x", note=note)])


def overlapped() -> list[int]:
    """``ITEMS`` items through stages that wait, wired as the pipeline wires its own."""

    def wait(stage: str, item: int) -> int:
        time.sleep(WAITS[stage])
        return item

    with ThreadPoolExecutor(1) as pose, ThreadPoolExecutor(1) as network:

        def lane(items: range) -> Iterator[int]:
            return map_ahead(
                pose, partial(wait, "pose"), map(partial(wait, "read"), items), depth=2
            )

        outputs = flat_map(lane, [range(ITEMS)], workers=1, depth=2)
        pieces = (piece for piece in outputs if not isinstance(piece, Pause))
        return list(map_ahead(network, partial(wait, "network"), pieces, depth=2))
