"""What ``bench`` measures of single stages: each alone, compared with the plain way to do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from .. import config
from ..errors import VideoError
from ..heatmaps import render_heatmaps
from ..model import EPAMBackbone, native
from ..model.fast import FusedBackbone, fuse, supports
from ..pipeline.concurrency import single_threaded_ops
from ..pipeline.device import DTYPES
from ..pose import PoseEstimator
from ..progress.records import BenchRow
from ..records import FramePiece, PoseTrack, Video
from ..video import read_frames
from .script import Models, PlainPose, read_with_decord, read_with_pyav, stacked
from .timing import Deadline, Way, contest, rows

BATCHES = {"cpu": (1, 4, 8), "cuda": (1, 16, 64)}
PLAIN_BATCH = {"cpu": 4, "cuda": 64}  # of the network everything is compared with
COMPILE_SECONDS = {"cpu": 10.0, "cuda": 150.0}  # that compiling may take
MAX_PIECES = 16
DETECTOR_FRAMES = 4  # of a piece, to measure the detector alone
LOOP, OURS = "rtmlib, frame by frame", "epam-extract"
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What every part measures with."""

    config: config.ExtractConfig
    device: torch.device
    cores: int
    video: Video
    """Short; for the parts that measure one stage."""
    backbone: EPAMBackbone
    pose: PoseEstimator
    sparse_pose: PoseEstimator | None
    """The same with ``--det-every auto``; None with a one-stage network."""
    plain: Models
    """The same pose models, for rtmlib's classes."""
    models: str
    """What the pose models are, for the report."""
    pose_device: str
    folder: Path


@dataclass(frozen=True)
class Part:
    """Rows of a part, and its cost."""

    rows: list[BenchRow]
    cpu: float = 0.0
    """CPU seconds per item (frame, clip), the way a run works; 0 where it was not measured."""
    plain: float = 0.0
    """Seconds per item of the plain way."""
    compiled: bool = False
    """Whether the network can be compiled in seconds here."""
    detector: float = 0.0
    """The detector's share of the pose stage."""


def skipped(part: str, name: str, why: str) -> BenchRow:
    """A row without a figure."""
    return BenchRow(part, name, None, "", note=f"skipped: {' '.join(why.split())[:100]}")


# ---------------------------------------------------------------- decode and pose


def decode(bench: Bench, seconds: float) -> Part:
    """Frames as the plain loops get them, and as a run gets them."""
    video = bench.video
    ways: dict[str, Way] = {}
    without: list[BenchRow] = []

    def read(path: Path) -> Iterator[FramePiece]:
        return read_frames(video, decoder=bench.config.decoder)

    def drain(reader: Callable[[Path], Iterator[object]]) -> None:
        for _ in reader(video.path):
            pass

    for library, reader in {"decord": read_with_decord, "PyAV": read_with_pyav}.items():
        name = f"{library}, frame by frame"
        try:
            next(reader(video.path))
            ways[name] = Way(partial(drain, reader), video.num_frames)
        except (ImportError, OSError, RuntimeError, ValueError, StopIteration) as error:
            without.append(skipped("decode", name, f"{type(error).__name__}: {error}"))
    ways[OURS] = Way(partial(drain, read), video.num_frames)
    try:
        contest(ways, seconds)
    except VideoError as error:
        return Part([*without, skipped("decode", OURS, str(error))])
    return Part([*without, *rows("decode", "ms/frame", ways)], ways[OURS].cpu)


def pose(bench: Bench, seconds: float) -> Part:
    """rtmlib's own classes in a plain loop, and the pose stage, on the same frames."""
    pieces = _pieces(bench.video, min(bench.cores, MAX_PIECES))
    plain = PlainPose(bench.plain, bench.pose_device)
    found: dict[str, PoseTrack] = {}

    def loop() -> None:  # over one piece: every frame costs the same
        found[LOOP] = PoseTrack(*stacked([plain(frame) for frame in pieces[0].frames]))

    def in_pool(work: Callable[[FramePiece], T], todo: list[FramePiece]) -> list[T]:
        with single_threaded_ops(), ThreadPoolExecutor(bench.cores) as pool:
            return list(pool.map(work, todo))

    def ours() -> None:
        found[OURS] = in_pool(bench.pose.estimate, pieces)[0]

    count = sum(map(len, pieces))
    ways = {LOOP: Way(loop, len(pieces[0])), OURS: Way(ours, count)}
    detector: dict[str, Way] = {}
    if bench.sparse_pose is not None:
        sparse = partial(in_pool, bench.sparse_pose.estimate, pieces)
        ways[f"{OURS} --det-every auto"] = Way(sparse, count)
        some = [FramePiece(0, piece.frames[:DETECTOR_FRAMES]) for piece in pieces]
        detector["alone"] = Way(partial(in_pool, bench.pose.boxes, some), sum(map(len, some)))
    contest({**ways, **detector}, seconds)
    share = sum(way.cpu for way in detector.values()) / (ways[OURS].cpu or 1)
    if OURS in found:
        ways[OURS].note = f"; {_difference(found[LOOP], found[OURS])}"
        ways[OURS].note += f"; the detector takes {share:.0%}" if share else ""
    table = rows("pose", "ms/frame", ways)
    return Part(table, ways[OURS].cpu, plain=ways[LOOP].wall, detector=share)


def _pieces(video: Video, count: int) -> list[FramePiece]:
    """The video's pieces, again and again where it is short; only full ones if there are any."""
    with closing(read_frames(video)) as pieces:
        some = list(islice(pieces, count))
    full = [piece for piece in some if len(piece) == config.PIECE_FRAMES]
    return list(islice(cycle(full or some), count))


def _difference(plain: PoseTrack, ours: PoseTrack) -> str:
    """How far apart the two ways' keypoints of a piece are, in words."""
    if plain.keypoints.shape != ours.keypoints.shape:
        return "another number of people than rtmlib's"
    both = (np.sort(track.keypoints, axis=0) for track in (plain, ours))
    most = np.abs(np.subtract(*both)).max(initial=0)
    return f"keypoints within {most:.1g} px of rtmlib's"


# ---------------------------------------------------------------- network


def network(bench: Bench, seconds: float) -> Part:
    """Clips through the plain 5-D module and the fused copies, inputs on the device already."""
    deadline, kind = Deadline(seconds), bench.device.type
    default, threads = PLAIN_BATCH[kind], bench.cores
    rgb, frames, heatmaps = _inputs(max(*BATCHES[kind], default), bench.device)
    plain = f"5-D module, float32, batch {default}"
    ways = {plain: Way(partial(_call, bench.backbone, rgb, heatmaps, default), default)}

    def add(name: str, module: nn.Module, size: int = default, note: str = "") -> None:
        call = partial(_call, module, frames, heatmaps, size)
        ways.setdefault(f"{name}, batch {size}", Way(call, size, note))

    def add_as_run(name: str, module: nn.Module | None) -> None:
        """What a run does on a CPU: every call on one core, as many calls as cores."""
        if kind == "cpu" and module is not None:
            call = partial(_in_threads, module, frames, heatmaps, threads)
            ways[f"{name}, 1 clip on each of {threads} cores"] = Way(call, threads)

    able = {name: dtype for name, dtype in DTYPES.items() if supports(dtype, bench.device)}
    best = "bf16" if kind == "cuda" and "bf16" in able else "float32"
    fused = {name: fuse(bench.backbone, dtype=dtype) for name, dtype in able.items()}
    without = [
        skipped("network", f"fused, {name}", f"this {kind.upper()} does not compute in {name}")
        for name in DTYPES
        if name not in able
    ]
    add(f"fused, {best}", fused[best])
    compiled, note = _compiled(bench, best, seconds, partial(_call, rgb=frames, heatmaps=heatmaps))
    if compiled is None:
        without.append(skipped("network", f"fused, {best}, compiled", note))
    else:
        add(f"fused, {best}, {compiled.compiled}", compiled, note=note)
    add_as_run(f"fused, {best}", fused[best])
    add_as_run(f"fused, {best}, {compiled and compiled.compiled}", compiled)
    for name in [name for name in able if name != best]:
        add(f"fused, {name}", fused[name])
        if compiled is not None and kind == "cpu" and native.multiplies(able[name]):
            also = fuse(bench.backbone, dtype=able[name], compile=True)
            add_as_run(f"fused, {name}, {also.compiled}", also)
    for size in BATCHES[kind]:
        add(f"fused, {best}", fused[best], size)
    contest(ways, deadline.left)
    as_run = [way.cpu for name, way in ways.items() if f", {best}" in name and way.timing]
    return Part(
        [*rows("network", "clips/s", ways), *without],
        cpu=min(as_run, default=ways[plain].cpu),
        plain=ways[plain].wall,
        compiled=compiled is not None and compiled.compiled == "native",
    )


def _compiled(
    bench: Bench, precision: str, seconds: float, call: Callable[..., None]
) -> tuple[FusedBackbone | None, str]:
    """The fused copy, compiled, and how long that took; or None, and why."""
    deadline, needed = Deadline(seconds), COMPILE_SECONDS[bench.device.type]
    if seconds < needed:
        return None, f"compiling may take {needed:.0f} s, raise --seconds"
    try:
        network = fuse(bench.backbone, dtype=DTYPES[precision], compile=True)
        if not network.compiled:
            return None, network.uncompiled_because
        call(network, size=PLAIN_BATCH[bench.device.type])
    except (RuntimeError, OSError) as error:
        return None, str(error)
    return network, f"; ready after {deadline.spent:.1f} s"


def _inputs(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised RGB, the same as u8 frames, and heatmaps of a person in ``size`` made-up clips."""
    generator = torch.Generator().manual_seed(0)
    shape = (size, config.RGB_FRAMES, config.RGB_SIZE, config.RGB_SIZE, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)
    people = (size, 1, config.POSE_FRAMES, config.NUM_KEYPOINTS)
    points = torch.rand(*people, 2, generator=generator).to(device) * config.HEATMAP_SIZE
    heatmaps = render_heatmaps(points, torch.full(people, 0.8, device=device))
    normal = (config.IMAGENET_MEAN, config.IMAGENET_STD)
    mean, std = (torch.tensor(values, device=device) for values in normal)
    return ((frames - mean) / std).permute(0, 4, 1, 2, 3).contiguous(), frames, heatmaps


def _call(network: nn.Module, rgb: Tensor, heatmaps: Tensor, size: int) -> None:
    with torch.inference_mode():
        network(rgb[:size], heatmaps[:size])
    if rgb.is_cuda:
        torch.cuda.synchronize(rgb.device)


def _in_threads(network: nn.Module, rgb: Tensor, heatmaps: Tensor, threads: int) -> None:
    with ThreadPoolExecutor(threads, "network", torch.set_num_threads, (1,)) as pool:
        list(pool.map(lambda _: _call(network, rgb, heatmaps, 1), range(threads)))
