"""``epam-extract bench``: how fast this machine is, stage by stage and end to end.

Every figure stands beside the plain way to do the same, measured in the same run and in turns, so
that the ratios hold on a busy machine too. Parts that do not fit into the time are left out and
say so.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib.metadata import version
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import torch

from .. import __version__
from ..config import PIECE_FRAMES, ExtractConfig, WeightsConfig
from ..errors import ConfigError, VideoError
from ..pipeline.concurrency import available_cores
from ..pipeline.device import pick_device, pick_precision
from ..pipeline.inference import load_backbone
from ..pose import PoseEstimator, gpu_provider_available, open_pose_model
from ..pose.model_files import model_files
from ..progress.records import BenchReport, BenchRow
from ..records import Video
from ..video import FoundVideo, find_videos, probe
from .baseline import excerpt
from .measuring import Deadline
from .stages import Bench, Part, decode, network, pose
from .whole import OURS, SCRIPT, end_to_end, overlap, writing

log = logging.getLogger(__name__)

STAGE_FRAMES = 48  # of one video, for the parts that measure one stage
WHOLE_FRAMES = {"cpu": (64, 1024), "cuda": (1024, 20_000)}  # end to end, at least and at most
SHARES = {"decode": 0.08, "pose": 0.10, "network": 0.17, "writing": 0.05, "overlap": 0.03}
STARTING = 12.0  # seconds: two Pythons with torch, and their models
OURS_PER_SCRIPT = 1.3  # seconds that all our ways take per second of the script's, at most
SAMPLES = Path(__file__).parents[2] / "sample_videos"


def run_bench(
    videos: Sequence[str | Path] = (),
    config: ExtractConfig | None = None,
    *,
    seconds: float = 60.0,
    on_part: Callable[[str], None] | None = None,
) -> BenchReport:
    """Measure decoding, pose, network, writing, overlap and the whole, in about ``seconds``.

    Args:
        videos: files, directories and globs; the sample videos of the repository if none is
            named. The first ones are used, as much of them as there is time for.
        config: models, weights, device, windows and precision. Weights are random where none are
            named, since no figure depends on them.
        seconds: that may be spent. A part that has begun is finished, so it may become somewhat
            more; compiling needs several hundred.
        on_part: told each part's name as it begins.

    Raises:
        ConfigError: no video is found or none can be read, or an option does not fit the machine.
        CheckpointError, PoseModelError: weights or pose models cannot be had.
    """
    deadline = Deadline(seconds)
    config = config or ExtractConfig()
    if seconds <= 0:
        raise ConfigError(f"--seconds must be more than 0, got {seconds:g}")
    weights = config.weights
    if weights == WeightsConfig():
        config = replace(config, weights=WeightsConfig(random_seed=0))
    device = pick_device(config.device)
    pick_precision(config.precision, device)
    found = find_videos(list(videos) or _samples())
    with tempfile.TemporaryDirectory(prefix="epam-bench-") as name:
        folder = Path(name)
        bench = _open(found, config, device, folder)
        parts: dict[str, Part] = {}

        def measure(part: str, way: Callable[[Bench, float], Part]) -> None:
            if on_part is not None:
                on_part(part)
            parts[part] = way(bench, min(SHARES.get(part, 1.0) * seconds, deadline.left))

        for part, way in {"decode": decode, "pose": pose, "network": network}.items():
            measure(part, way)  # how many frames the whole can take follows from these
        kept = (SHARES["writing"] + SHARES["overlap"]) * seconds
        measure("end to end", lambda bench, left: _whole(found, bench, parts, left - kept))
        measure("writing", writing)
        measure("overlap", overlap)
        described = _describe(bench.video, found)
    rows = tuple(row for part in parts.values() for row in part.rows)
    return BenchReport(
        machine=_machine(device),
        versions=_versions(),
        taken=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        videos=described,
        rows=rows,
        limits=_limits(parts, bench),
        seconds=deadline.spent,
    )


def report_json(report: BenchReport) -> str:
    """The report as JSON text."""
    return json.dumps(asdict(report), indent=2)


def _samples() -> list[Path]:
    if not SAMPLES.is_dir():
        raise ConfigError("no videos are named, and the sample videos are not installed: --videos")
    return [SAMPLES]


def _open(
    found: Sequence[FoundVideo], config: ExtractConfig, device: torch.device, folder: Path
) -> Bench:
    """Load everything that parts measure."""
    taken = _take(found, STAGE_FRAMES, folder / "stages", one=True)
    video = probe(taken[0], "bench", decoder=config.decoder)
    insisted = config.device != "auto" or gpu_provider_available()
    pose_device = str(device) if insisted else "cpu"  # as a run does
    estimator = open_pose_model(config.pose, device=pose_device, threads=1)
    sparse: PoseEstimator | None = None
    files = _files(config, estimator)
    if "detector" in files:
        sparse = open_pose_model(
            replace(config.pose, det_every="auto"), device=pose_device, threads=1
        )
    source = estimator.source
    plain = {}
    for role, path in files.items():
        described = source[role]
        if not isinstance(described, dict):
            raise TypeError(f"pose source {role!r}: expected a dict, got {described!r}")
        plain[role] = (str(described["kind"]), path, tuple(described["input"]))
    return Bench(
        config=config,
        device=device,
        cores=available_cores(),
        video=video,
        backbone=load_backbone(config.weights).backbone.to(device),
        pose=estimator,
        sparse_pose=sparse,
        plain=plain,
        pose_device=pose_device,
        folder=folder,
    )


def _files(config: ExtractConfig, estimator: PoseEstimator) -> dict[str, Path]:
    """The ONNX files of the pose models, by role."""
    if config.pose.pose_model is None:
        return {file.role: file.path for file in model_files(config.pose.mode)}
    files = {"pose": config.pose.pose_model}
    if config.pose.det_model is not None:
        files["detector"] = config.pose.det_model
    return files


def _take(
    found: Sequence[FoundVideo], frames: int, folder: Path, *, one: bool = False
) -> list[Path]:
    """Links to videos of about ``frames`` frames together, or of ``one`` alone.

    Videos come again where there are too few; of a longer one the beginning is copied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lengths: dict[str, int] = {}
    reasons: list[str] = []
    taken: list[Path] = []
    left = frames
    for video in cycle(found):
        if video.id not in lengths:
            try:
                lengths[video.id] = probe(video.file, video.id).num_frames
            except VideoError as error:
                log.info("%s", error)
                lengths[video.id] = 0
                reasons.append(str(error))
        length = lengths[video.id]
        if not any(lengths.values()) and len(lengths) == len(found):
            raise ConfigError(f"none of the videos can be read; the first: {reasons[0]}")
        if not length:
            continue
        path = folder / f"{len(taken):04d}{video.file.suffix}"
        if length > 1.5 * left:
            path = path.with_suffix(".mkv")
            excerpt(video.file, left, path)
            length = left
        else:
            path.symlink_to(video.file)
        taken.append(path)
        left -= length
        if one or left < frames / 8:
            return taken
    raise ConfigError("no videos to measure on")


def _whole(
    found: Sequence[FoundVideo], bench: Bench, parts: dict[str, Part], seconds: float
) -> Part:
    """The end-to-end part on as many frames as there is time for."""
    stride = bench.config.windows.stride
    script = parts["decode"].cpu + parts["pose"].plain + parts["network"].plain / stride
    once = script * (1 + OURS_PER_SCRIPT)
    least, most = WHOLE_FRAMES[bench.device.type]
    fits = int(max(seconds - STARTING, 0) / once)
    if fits < least // 2:
        need = least * once + STARTING
        note = f"skipped: needs about {need:.0f} s more, raise --seconds"
        return Part([BenchRow("end to end", name, None, "", note=note) for name in (SCRIPT, OURS)])
    frames = min(max(fits, least), most) // PIECE_FRAMES * PIECE_FRAMES
    videos = _take(found, frames, bench.folder / "whole")
    warm_up = _take(found, PIECE_FRAMES, bench.folder / "warm", one=True)[0]
    return end_to_end(bench, videos, warm_up, seconds, compiled=parts["network"].compiled)


def _limits(parts: dict[str, Part], bench: Bench) -> str:
    """What holds a run up here."""
    if bench.device.type != "cpu":
        return "see the stages' busy shares under end to end"
    stride = bench.config.windows.stride
    costs = {
        "decoding": parts["decode"].cpu,
        "pose": parts["pose"].cpu,
        "network": parts["network"].cpu / stride,
    }
    total = sum(costs.values())
    shares = ", ".join(
        f"{name} {cost * 1e3:.1f} ms ({cost / total:.0%})"
        for name, cost in sorted(costs.items(), key=lambda item: -item[1])
    )
    return f"the {bench.cores} cores; of the CPU time of a frame, {shares}"


def _describe(video: Video, found: Sequence[FoundVideo]) -> str:
    return f"{found[0].file.name}, {video.width}x{video.height}, {len(found)} found"


def _machine(device: torch.device) -> str:
    """Processor or GPU, and cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    cores = f"{name}, {available_cores()} of {os.cpu_count()} cores"
    return f"{torch.cuda.get_device_name(device)}; {cores}" if device.type == "cuda" else cores


def _versions() -> dict[str, str]:
    """What figures of different days can be told apart by."""
    packages = ("torch", "onnxruntime", "av", "rtmlib")
    found = {name: version(name) for name in packages if find_spec(name) is not None}
    return {"epam_extract": __version__, "commit": _commit(), **found}


def _commit() -> str:
    """Of the checkout that this package is run from, with a + where it was changed; else empty."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
