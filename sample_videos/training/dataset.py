"""Training frames on disk: rendered once, in shards, by several processes; resumable.

A shard is ``frames_0007.npy`` (N, 240, 320, 3) uint8 BGR and ``labels_0007.npz`` with
``keypoints`` (N, P, 17, 3) float32 (x, y, visibility), ``boxes`` (N, P, 4) float32 and ``state``
(N, P) int8: NONE, IGNORE (a person that is not asked for: tiny or nearly hidden) or USABLE.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .props import THINGS
from .scenes import CROWDED, EASY, HARD, OFFICE, Frame, Look, Scene
from .surfaces import Array

HEIGHT, WIDTH = 240, 320
PEOPLE = 4  # at most, a frame
SHARD = 1000  # frames
CASTS = 4  # frames drawn in each scene, every time with other people
NONE, IGNORE, USABLE = 0, 1, 2
TEXTURE_BANKS = 4  # cloth banks used for training; held-out scenes use others
HELD_OUT_BANK = 1000
# How worker processes start: Ctrl-C ends them without a word, their parent speaks.
QUIET = (signal.signal, (signal.SIGINT, signal.SIG_DFL))


def harder(look: Look) -> Look:
    """Return a look that shows more of what is hard: odd poses, sides, backs, hidden people."""
    return replace(look, hidden=0.4, turned=0.8, wild=2.5)


LOOKS = tuple(
    harder(look)
    for look in (
        EASY,
        replace(HARD, things=tuple(THINGS)),
        replace(CROWDED, things=tuple(THINGS)),
        OFFICE,
    )
)
LOOK_SHARES = (0.2, 0.4, 0.2, 0.2)


@dataclass(frozen=True)
class Shard:
    """One shard opened for reading; ``frames`` stays on disk."""

    frames: NDArray[np.uint8]
    keypoints: Array
    boxes: Array
    state: NDArray[np.int8]


def label(frame: Frame) -> tuple[Array, Array, NDArray[np.int8]]:
    """Return the (P, 17, 3), (P, 4) and (P,) labels of a frame."""
    keypoints = np.zeros((PEOPLE, 17, 3), np.float32)
    boxes = np.zeros((PEOPLE, 4), np.float32)
    state = np.zeros(PEOPLE, np.int8)
    for slot, person in enumerate(frame.people[:PEOPLE]):
        keypoints[slot, :, :2] = person.keypoints
        keypoints[slot, :, 2] = person.visibility
        boxes[slot] = person.box
        state[slot] = USABLE if person.usable else IGNORE if person.pixels > 30 else NONE
    return keypoints, boxes, state


def training_frames(seed: int) -> Iterator[Frame]:
    """Yield frames without end: room after room, in each some casts of people."""
    rng = np.random.default_rng([seed, 11])
    while True:
        look = LOOKS[rng.choice(len(LOOKS), p=LOOK_SHARES)]
        scene_seed, bank = int(rng.integers(2**31)), int(rng.integers(TEXTURE_BANKS))
        scene = Scene(scene_seed, look=look, textures=bank, width=WIDTH, height=HEIGHT)
        for index in range(CASTS):
            if index:
                scene.cast()
            yield scene.frame(float(rng.uniform(0, 8)), index=index)


def render_shard(job: tuple[Path, int, int]) -> int:
    """Render shard ``number`` of the data with ``seed`` into ``folder``; return the number."""
    folder, seed, number = job
    cv2.setNumThreads(1)
    images = np.empty((SHARD, HEIGHT, WIDTH, 3), np.uint8)
    labels = []
    frames = training_frames(seed * 100_000 + number)
    for row in images:
        frame = next(frames)
        row[:] = frame.image[..., ::-1]
        labels.append(label(frame))
    keypoints, boxes, state = (np.stack(column) for column in zip(*labels, strict=True))
    np.savez(folder / f"labels_{number:04d}.npz", keypoints=keypoints, boxes=boxes, state=state)
    draft = folder / f"draft_{number:04d}.npy"
    np.save(draft, images)
    draft.rename(folder / f"frames_{number:04d}.npy")
    return number


def render(folder: Path, frames: int, *, seed: int, processes: int = 2) -> Iterator[int]:
    """Render what is missing of ``frames`` frames; yield how many there are after each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(-(-frames // SHARD))
    jobs = [(folder, seed, n) for n in numbers if not (folder / f"frames_{n:04d}.npy").exists()]
    done = len(numbers) - len(jobs)
    yield done * SHARD
    if not jobs:
        return
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(processes, *QUIET) as pool:
        for _ in pool.imap_unordered(render_shard, jobs):
            done += 1
            yield done * SHARD


def open_shards(folder: Path) -> list[Shard]:
    """Open every shard of a folder, in order."""
    shards = []
    for path in sorted(folder.glob("frames_*.npy")):
        with np.load(
            path.with_name(path.name.replace("frames", "labels")).with_suffix(".npz")
        ) as d:
            labels = (d["keypoints"], d["boxes"], d["state"])
        shards.append(Shard(np.load(path, mmap_mode="r"), *labels))
    return shards
