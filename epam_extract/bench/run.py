"""One run of ``epam-extract bench``.

Every figure is compared with the plain way to do the same, measured in the same run and in turns,
so that the ratios hold on a busy machine too. Parts for which there is no time say so.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..config import PIECE_FRAMES, ExtractConfig, WeightsConfig
from ..errors import ConfigError, VideoError
from ..pipeline.concurrency import available_cores
from ..pipeline.device import pick_device, pick_precision
from ..pipeline.inference import load_backbone
from ..pose import gpu_provider_available, open_pose_model
from ..pose.model_files import model_files
from ..progress.records import BenchReport, BenchRow
from ..video import FoundVideo, find_videos, probe
from .end_to_end import OURS, PART, SCRIPT, end_to_end
from .stages import Bench, Part, decode, network, pose
from .stand_in import with_stand_ins
from .timing import Deadline
from .writing import overlap, writing

STAGE_FRAMES = 48  # of one video, for the parts that measure one stage
WHOLE_FRAMES = {"cpu": (64, 1024), "cuda": (1024, 20_000)}  # end to end, at least and at most
SHARES = {"decode": 0.08, "pose": 0.10, "network": 0.17, "writing": 0.05, "overlap": 0.03}
STARTING = 12.0  # seconds: two Pythons with torch, and their models
OUR_WAYS = 4.0  # how many times as long as the usual one all our ways take together, at most
SAMPLES = Path(__file__).parents[2] / "sample_videos"


def run_bench(
    videos: Sequence[str | Path] = (),
    config: ExtractConfig | None = None,
    *,
    seconds: float = 60.0,
    stand_in: bool = False,
    on_part: Callable[[str], None] | None = None,
) -> BenchReport:
    """Measure decoding, pose, network, writing, overlap and the whole, in about ``seconds``.

    Args:
        videos: files, directories and globs; by default the sample videos of the repository. The
            first ones are used, as much of them as there is time for.
        config: models, weights, device, windows and precision. Weights are random where none are
            named, since no figure depends on them.
        seconds: that may be spent. A part that has begun is finished, so it may take somewhat
            longer; compiling for a GPU needs several hundred.
        stand_in: measure with networks as large as the pose mode's, but with random weights,
            which need no download; see ``stand_in.py``.
        on_part: told each part's name as it begins.

    Raises:
        ConfigError: no video is found or none can be read, or an option does not fit the machine.
        CheckpointError, PoseModelError: weights or pose models cannot be had.
    """
    deadline = Deadline(seconds)
    config = config or ExtractConfig()
    if seconds <= 0:
        raise ConfigError(f"--seconds must be more than 0, got {seconds:g}")
    if config.weights == WeightsConfig():
        config = replace(config, weights=WeightsConfig(random_seed=0))
    device = pick_device(config.device)
    pick_precision(config.precision, device)
    if not videos and not SAMPLES.is_dir():
        raise ConfigError("no videos are named, and the sample videos are not installed: --videos")
    found = find_videos(list(videos) or [SAMPLES])
    parts: dict[str, Part] = {}
    ways: dict[str, Callable[[Bench, float], Part]] = {
        "decode": decode,
        "pose": pose,
        "network": network,
        PART: partial(_whole, found, parts),  # how many frames it can take follows from these
        "writing": writing,
        "overlap": overlap,
    }
    with tempfile.TemporaryDirectory(prefix="epam-bench-") as name:
        bench = _open(found, config, device, Path(name), stand_in=stand_in)
        for part, way in ways.items():
            if on_part is not None:
                on_part(part)
            parts[part] = way(bench, min(SHARES.get(part, 1.0) * seconds, deadline.left))
    video = bench.video
    return BenchReport(
        machine=_machine(device),
        versions=_versions(),
        taken=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        videos=f"{found[0].file.name}, {video.width}x{video.height}, {len(found)} found",
        models=bench.models,
        rows=tuple(row for part in parts.values() for row in part.rows),
        limits=_limits(parts, bench),
        seconds=deadline.spent,
    )


def report_json(report: BenchReport) -> str:
    """The report as JSON text."""
    return json.dumps(asdict(report), indent=2)


# ---------------------------------------------------------------- what is measured with


def _open(
    found: Sequence[FoundVideo],
    config: ExtractConfig,
    device: torch.device,
    folder: Path,
    *,
    stand_in: bool = False,
) -> Bench:
    """Load everything that parts measure."""
    (path,) = _take(found, STAGE_FRAMES, folder / "stages", one=True)
    video, models = probe(path, "bench", decoder=config.decoder), ""
    if stand_in:
        config, models = with_stand_ins(config, video, folder)
    insisted = config.device != "auto" or gpu_provider_available()
    pose_device = str(device) if insisted else "cpu"  # as a run does
    estimator = open_pose_model(config.pose, device=pose_device, threads=1)
    own = {"detector": config.pose.det_model, "pose": config.pose.pose_model}
    if config.pose.pose_model is None:
        own = {file.role: file.path for file in model_files(config.pose.mode)}
    source: Any = estimator.source
    plain = {
        role: (source[role]["kind"], path, tuple(source[role]["input"]))
        for role, path in own.items()
        if path is not None
    }
    sparse = replace(config.pose, det_every="auto")
    return Bench(
        config=config,
        device=device,
        cores=available_cores(),
        video=video,
        backbone=load_backbone(config.weights).backbone.to(device),
        pose=estimator,
        sparse_pose=open_pose_model(sparse, device=pose_device) if "detector" in plain else None,
        plain=plain,
        models=models or ", ".join(path.name for _, path, _ in plain.values()),
        pose_device=pose_device,
        folder=folder,
    )


def _take(
    found: Sequence[FoundVideo], frames: int, folder: Path, *, one: bool = False
) -> list[Path]:
    """Links to videos of about ``frames`` frames together, or to ``one``.

    Videos come again where there are too few; of a longer one the beginning is copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, taken = frames, []
    for number, (file, length) in enumerate(_readable(found)):
        path = folder / f"{number:04d}{file.suffix}"
        if length > 1.5 * left:
            path, length = path.with_suffix(".mkv"), left
            excerpt(file, left, path)
        else:
            path.symlink_to(file)
        taken.append(path)
        left -= length
        if one or left < frames / 8:
            break
    return taken


def _readable(found: Sequence[FoundVideo]) -> Iterator[tuple[Path, int]]:
    """Videos that can be read and their numbers of frames, again and again."""
    readable: list[tuple[Path, int]] = []
    reasons: list[str] = []
    for video in found:
        try:
            readable.append((video.file, probe(video.file, video.id).num_frames))
            yield readable[-1]
        except VideoError as error:
            reasons.append(str(error))
    if not readable:
        raise ConfigError(f"none of the videos can be read; the first: {reasons[0]}")
    yield from cycle(readable)


def excerpt(path: Path, frames: int, target: Path) -> None:
    """Copy a video's first ``frames`` packets to a Matroska file, without coding them again."""
    import av

    with av.open(str(path)) as source, av.open(str(target), "w", format="matroska") as copy:
        stream = source.streams.video[0]
        out = copy.add_stream_from_template(stream)
        for packet in islice(source.demux(stream), frames):
            if packet.dts is not None:
                packet.stream = out
                copy.mux(packet)


def _whole(
    found: Sequence[FoundVideo], parts: dict[str, Part], bench: Bench, seconds: float
) -> Part:
    """The end-to-end part, on as many frames as there is time for."""
    seconds *= 1 - SHARES["writing"] - SHARES["overlap"]  # which follow
    stride = bench.config.windows.stride
    done = parts["decode"], parts["pose"], parts["network"]
    script = done[0].cpu + done[1].plain + done[2].plain / stride
    ours = (done[0].cpu + done[1].cpu + done[2].cpu / stride) / bench.cores
    once = script + OUR_WAYS * max(ours, script / 3)
    least, most = WHOLE_FRAMES[bench.device.type]
    fits = int(max(seconds - STARTING, 0) / once)
    if fits < least // 2:
        need = least * once + STARTING
        note = f"skipped: needs about {need:.0f} s more, raise --seconds"
        return Part([BenchRow(PART, name, None, "", note=note) for name in (SCRIPT, OURS)])
    frames = min(max(fits, least), most) // PIECE_FRAMES * PIECE_FRAMES
    videos = _take(found, frames, bench.folder / "whole")
    warm_up = _take(found, PIECE_FRAMES, bench.folder / "warm", one=True)[0]
    return end_to_end(bench, videos, warm_up, seconds, compiled=parts["network"].compiled)


# ---------------------------------------------------------------- what is said about it


def _limits(parts: dict[str, Part], bench: Bench) -> str:
    """What holds a run up here."""
    if bench.device.type != "cpu":
        return "see the stages' busy shares under end to end"
    costs = {
        "decoding": parts["decode"].cpu,
        "pose": parts["pose"].cpu,
        "network": parts["network"].cpu / bench.config.windows.stride,
    }
    if missing := [name for name, cost in costs.items() if not cost]:
        known = ", ".join(f"{name} {cost * 1e3:.1f} ms" for name, cost in costs.items() if cost)
        return f"not known without {' and '.join(missing)}: raise --seconds; {known} a frame"
    total, whole = sum(costs.values()), parts[PART].cpu
    detector = parts["pose"].detector * costs["pose"] / total
    dearest = sorted(costs.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {cost * 1e3:.1f} ms ({cost / total:.0%})" for name, cost in dearest)
    limits = f"the {bench.cores} cores; of the CPU time of a frame, {shares}"
    limits += f"; the detector is {detector:.0%} of it" if detector else ""
    if whole:
        limits += f"; together {total * 1e3:.1f} ms, in the whole run {whole * 1e3:.1f} ms"
    return limits


def _machine(device: torch.device) -> str:
    """Processor or GPU, and cores."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = named[1].strip() if named else platform.processor() or platform.machine()
    cores = f"{name}, {available_cores()} of {os.cpu_count()} cores"
    return f"{torch.cuda.get_device_name(device)}; {cores}" if device.type == "cuda" else cores


def _versions() -> dict[str, str]:
    """By which figures of different days can be told apart."""
    packages = ("torch", "onnxruntime", "av", "rtmlib")
    found = {name: version(name) for name in packages if find_spec(name) is not None}
    return {"epam_extract": __version__, "commit": _commit(), **found}


def _commit() -> str:
    """Of the checkout that this package runs from, with a + if it was changed; else empty."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
