"""What ``bench`` measures of single stages: each alone, beside the plain way to do the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import (
    HEATMAP_SIZE,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NUM_KEYPOINTS,
    PIECE_FRAMES,
    POSE_FRAMES,
    RGB_FRAMES,
    RGB_SIZE,
    ExtractConfig,
)
from ..errors import DecodeError
from ..heatmaps import render_heatmaps
from ..model import EPAMBackbone, native
from ..model.fast import FusedBackbone, fuse, supports
from ..pipeline.concurrency import single_threaded_ops
from ..pipeline.device import DTYPES
from ..pose import PoseEstimator
from ..progress.records import BenchRow
from ..records import FramePiece, PoseTrack, Video
from ..video import read_frames
from .baseline import PlainPose, read_with_decord, read_with_pyav, stacked
from .measuring import Timing, in_turns

BATCHES = {"cpu": (1, 4, 8), "cuda": (1, 16, 64)}
PLAIN_BATCH = {"cpu": 4, "cuda": 64}  # of the network everything is compared with
COMPILE_SECONDS = {"cpu": 10.0, "cuda": 150.0}  # that compiling may take
MAX_PIECES = 16
NO_TIME = "skipped: no time left, raise --seconds"


@dataclass(frozen=True)
class Bench:
    """What every part measures with."""

    config: ExtractConfig
    device: torch.device
    cores: int
    video: Video
    """The one that stages are measured on alone; short."""
    backbone: EPAMBackbone
    pose: PoseEstimator
    sparse_pose: PoseEstimator | None
    """The same with ``--det-every auto``; None with a one-stage network."""
    plain: Mapping[str, tuple[str, Path, tuple[int, int]]]
    """The same models, as :class:`baseline.PlainPose` takes them."""
    pose_device: str
    folder: Path


@dataclass(frozen=True)
class Part:
    """Rows of a part, and its cost."""

    rows: list[BenchRow]
    cpu: float = 0.0
    """CPU seconds an item (frame, clip) of the way runs work; 0 where it was not measured."""
    plain: float = 0.0
    """Seconds an item of the plain way."""
    compiled: bool = False
    """Whether the network can be compiled in seconds here."""


def per_item(
    part: str, names: Iterable[str], timings: Mapping[str, Timing], items: Mapping[str, int]
) -> list[BenchRow]:
    """Rows of milliseconds an item, the first of them what the others are compared with."""
    rows: list[BenchRow] = []
    base: float | None = None
    for name in names:
        timing = timings.get(name)
        if timing is None:
            rows.append(BenchRow(part, name, None, "", note=NO_TIME))
            continue
        seconds = timing.median / items[name]
        base = base or seconds
        note = f"{timing.cpu / items[name] * 1e3:.1f} ms of CPU; {timing.note}"
        rows.append(BenchRow(part, name, seconds * 1e3, "ms/frame", base / seconds, note))
    return rows


# ---------------------------------------------------------------- decode


def decode(bench: Bench, seconds: float) -> Part:
    """Frames as the plain loops get them, and as a run gets them."""
    video = bench.video

    def drain(read: Callable[[Path], Iterator[np.ndarray]]) -> None:
        for _ in read(video.path):
            pass

    def ours() -> None:
        with closing(read_frames(video, decoder=bench.config.decoder)) as pieces:
            for _ in pieces:
                pass

    ways: dict[str, Callable[[], object]] = {}
    rows: list[BenchRow] = []
    readers = {
        "decord, frame by frame": read_with_decord,
        "PyAV, frame by frame": read_with_pyav,
    }
    for name, read in readers.items():
        try:
            next(read(video.path))
            ways[name] = partial(drain, read)
        except (ImportError, OSError, RuntimeError, ValueError, StopIteration) as error:
            why = f"skipped: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
            rows.append(BenchRow("decode", name, None, "", note=why))
    name = "epam-extract"
    ways[name] = ours
    try:
        timings = in_turns(ways, seconds)
    except DecodeError as error:
        return Part([BenchRow("decode", name, None, "", note=f"skipped: {error}")])
    rows += per_item("decode", ways, timings, dict.fromkeys(ways, video.num_frames))
    cpu = timings[name].cpu if name in timings else 0.0
    return Part(rows, cpu / video.num_frames)


# ---------------------------------------------------------------- pose


def pose(bench: Bench, seconds: float) -> Part:
    """rtmlib's own classes in a plain loop, and the pose stage, on the same frames."""
    pieces = list(islice(_pieces_for_ever(bench.video), min(bench.cores, MAX_PIECES)))
    count = sum(len(piece.frames) for piece in pieces)
    plain = PlainPose(dict(bench.plain), bench.pose_device)
    found: dict[str, list[PoseTrack]] = {}

    def loop() -> list[PoseTrack]:  # of one piece: every frame costs the same
        return [PoseTrack(*stacked([plain(frame) for frame in pieces[0].frames]))]

    def ours(estimator: PoseEstimator) -> list[PoseTrack]:
        with single_threaded_ops(), ThreadPoolExecutor(bench.cores) as pool:
            return list(pool.map(estimator.estimate, pieces))

    names: dict[str, Callable[[], list[PoseTrack]]] = {
        "rtmlib, frame by frame": loop,
        "epam-extract": partial(ours, bench.pose),
    }
    if bench.sparse_pose is not None:
        names["epam-extract --det-every auto"] = partial(ours, bench.sparse_pose)

    def kept(name: str) -> Callable[[], object]:
        def way() -> None:
            found[name] = names[name]()

        return way

    timings = in_turns({name: kept(name) for name in names}, seconds)
    first, second = list(names)[:2]
    counts = {**dict.fromkeys(names, count), first: len(pieces[0].frames)}
    rows = per_item("pose", names, timings, counts)
    if first in found and second in found:
        row = next(row for row in rows if row.name == second)
        note = f"{row.note}; {_difference(found[first][0], found[second][0])}"
        rows[rows.index(row)] = BenchRow(row.part, row.name, row.value, row.unit, row.ratio, note)
    cpu = timings[second].cpu / count if second in timings else 0.0
    return Part(rows, cpu, timings[first].median / counts[first])


def _pieces_for_ever(video: Video) -> Iterator[FramePiece]:
    """The video's pieces, again and again where it is short; full ones only if there are any."""
    with closing(read_frames(video)) as pieces:
        some = list(islice(pieces, MAX_PIECES))
    full = [piece for piece in some if len(piece.frames) == PIECE_FRAMES]
    return cycle(full or some)


def _difference(plain: PoseTrack, ours: PoseTrack) -> str:
    """How far apart the two ways' keypoints of a piece are, in words."""
    if plain.keypoints.shape != ours.keypoints.shape:
        return "another number of people than rtmlib's"
    both = (np.sort(track.keypoints, axis=0) for track in (plain, ours))
    most = np.abs(np.subtract(*both)).max(initial=0)
    return f"keypoints within {most:.1g} px of rtmlib's"


# ---------------------------------------------------------------- network


@dataclass(frozen=True)
class Way:
    """One way to run the network."""

    clips: int
    """In a call of ``run``."""
    run: Callable[[], object]
    note: str = ""


def network(bench: Bench, seconds: float) -> Part:
    """Clips through the plain 5-D module and the fused copies, inputs on the device already."""
    started = time.monotonic()
    kind = bench.device.type
    sizes, default = BATCHES[kind], PLAIN_BATCH[kind]
    threads = bench.cores if kind == "cpu" else 1
    rgb, frames, heatmaps = _inputs(max(*sizes, default), bench.device)
    skipped: list[BenchRow] = []
    fused = {}
    for precision, dtype in DTYPES.items():
        if supports(dtype, bench.device):
            fused[precision] = fuse(bench.backbone, dtype=dtype)
        else:
            why = f"skipped: this {kind.upper()} does not compute in {precision} itself"
            skipped.append(BenchRow("network", f"fused, {precision}", None, "", note=why))
    best = "bf16" if kind == "cuda" and "bf16" in fused else "float32"
    plain = f"5-D module, float32, batch {default}"
    ways = {plain: Way(default, partial(_call, bench.backbone, rgb, heatmaps, default))}

    def add(name: str, module: nn.Module, size: int, note: str = "") -> None:
        ways[f"{name}, batch {size}"] = Way(
            size, partial(_call, module, frames, heatmaps, size), note
        )

    def add_as_run(name: str, module: nn.Module) -> None:
        """What a run does on a CPU: every call on one core, as many calls as cores."""
        run = partial(_in_threads, module, frames, heatmaps, threads)
        ways[f"{name}, 1 clip on each of {threads} cores"] = Way(threads, run)

    add(f"fused, {best}", fused[best], default)
    compiled, note = _compiled(bench, best, seconds, partial(_call, rgb=frames, heatmaps=heatmaps))
    if compiled is not None:
        add(f"fused, {best}, {compiled.compiled}", compiled, default, note)
    else:
        skipped.append(BenchRow("network", f"fused, {best}, compiled", None, "", note=note))
    if kind == "cpu":
        add_as_run(f"fused, {best}", fused[best])
        if compiled is not None:
            add_as_run(f"fused, {best}, {compiled.compiled}", compiled)
    for precision in fused:
        if precision == best:
            continue
        add(f"fused, {precision}", fused[precision], default)
        if kind == "cpu" and compiled is not None and native.multiplies(DTYPES[precision]):
            also = fuse(bench.backbone, dtype=DTYPES[precision], compile=True)
            add_as_run(f"fused, {precision}, {also.compiled}", also)
    for size in sizes:
        if size != default:
            add(f"fused, {best}", fused[best], size)
    left = seconds - (time.monotonic() - started)
    with torch_threads(threads):
        timings = in_turns({name: way.run for name, way in ways.items()}, left)
    as_run = [name for name in timings if name == plain or f", {best}" in name]
    quickest = min(as_run, key=lambda name: timings[name].cpu / ways[name].clips)
    return Part(
        [*_clip_rows(ways, timings), *skipped],
        cpu=timings[quickest].cpu / ways[quickest].clips,
        plain=timings[plain].median / default,
        compiled=compiled is not None and compiled.compiled == "native",
    )


def _compiled(
    bench: Bench, precision: str, seconds: float, call: Callable[..., None]
) -> tuple[FusedBackbone | None, str]:
    """The fused copy, compiled, and how long that took; or None, and why."""
    needed = COMPILE_SECONDS[bench.device.type]
    if seconds < needed:
        return None, f"skipped: compiling may take {needed:.0f} s, raise --seconds"
    started = time.monotonic()
    try:
        network = fuse(bench.backbone, dtype=DTYPES[precision], compile=True)
        if not network.compiled:
            return None, "skipped: no C++ compiler, or it fails; --verbose says more"
        call(network, size=PLAIN_BATCH[bench.device.type])
    except (RuntimeError, OSError) as error:
        return None, f"skipped: {' '.join(str(error).split())[:100]}"
    return network, f"; ready after {time.monotonic() - started:.1f} s"


def _clip_rows(ways: Mapping[str, Way], timings: Mapping[str, Timing]) -> list[BenchRow]:
    rows: list[BenchRow] = []
    base = 0.0
    for name, way in ways.items():
        timing = timings.get(name)
        if timing is None:
            rows.append(BenchRow("network", name, None, "", note=NO_TIME))
            continue
        rate = way.clips / timing.median
        base = base or rate
        note = f"{timing.note}{way.note}"
        rows.append(BenchRow("network", name, rate, "clips/s", rate / base, note))
    return rows


def _inputs(size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised RGB, the same as u8 frames, and heatmaps of ``size`` made-up clips."""
    rng = np.random.default_rng(0)
    shape = (size, RGB_FRAMES, RGB_SIZE, RGB_SIZE, 3)
    frames = torch.from_numpy(rng.integers(0, 256, shape, np.uint8)).to(device)
    joints = rng.uniform(5, HEATMAP_SIZE - 5, (size, 1, POSE_FRAMES, NUM_KEYPOINTS, 2))
    points = torch.from_numpy(joints.astype(np.float32)).to(device)
    heatmaps = render_heatmaps(points, torch.full_like(points[..., 0], 0.8))
    mean, std = (torch.tensor(v, device=device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((frames - mean) / std).permute(0, 4, 1, 2, 3).contiguous(), frames, heatmaps


def _call(network: nn.Module, rgb: Tensor, heatmaps: Tensor, size: int) -> None:
    with torch.inference_mode():
        network(rgb[:size], heatmaps[:size])
    if rgb.is_cuda:
        torch.cuda.synchronize(rgb.device)


def _in_threads(network: nn.Module, rgb: Tensor, heatmaps: Tensor, threads: int) -> None:
    with ThreadPoolExecutor(threads, "network", torch.set_num_threads, (1,)) as pool:
        calls = [pool.submit(_call, network, rgb, heatmaps, 1) for _ in range(threads)]
        for call in calls:
            call.result()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """This many threads for torch's operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
