"""``python -m sample_videos.training.train``: render the data, train both networks, export them.

One command from a clone to the two ONNX files. Everything it makes lies in one folder, and a
second call resumes where the first one stopped. Time, not steps, is the budget: the learning
rate follows the share of the minutes that training itself has taken, over all calls together.

With ``--again`` training starts from the networks in the package instead of from random weights.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from epam_extract.demo import DETECTOR_ONNX, POSE_ONNX

from .dataset import QUIET, render
from .export import export_both
from .loader import Batch, DetectorBatches, PoseBatches, normalise
from .losses import detector_loss, pose_loss
from .muon import Muon
from .networks import Detector, KeypointNet
from .restore import restore

CHECKPOINT_SECONDS = 60.0
PAUSE_SECONDS = 10.0  # a step that took longer was interrupted and counts this much
WARM_UP = 150  # steps
FLOOR = 1 / 250  # of the peak: where the learning rate ends
# The detector's time: first small pictures, since more of them can be seen; then whole ones; at
# last the scores learn how well each box fits, once the boxes are worth it.
SMALL_SHARE, FIT_SHARE = 0.28, 0.56
AGAIN = 0.4  # of the peak learning rates, where training starts from trained networks
FITTING = 40  # batches on which the shipped networks' batch norms are measured
REPORT = 50  # steps between two lines of progress


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: ``batch`` and ``small_batch`` pictures a step."""

    network: type[Detector] | type[KeypointNet]
    batches: type[DetectorBatches] | type[PoseBatches]
    batch: int
    small_batch: int
    shipped: Path


RECIPES = {
    "detector": Recipe(Detector, DetectorBatches, 16, 32, DETECTOR_ONNX),
    "pose": Recipe(KeypointNet, PoseBatches, 64, 0, POSE_ONNX),
}
MUON_RATE, ADAM_RATE = 0.02, 2.5e-3


def optimisers(network: Detector | KeypointNet) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden layers' weights and AdamW for the rest."""
    hidden, ends, others = [], [], []
    for name, weight in network.named_parameters():
        if weight.ndim == 1:
            others.append(weight)
        elif weight.shape[1] == 3 or name.startswith(network.ENDS):  # pictures in, answers out
            ends.append(weight)
        else:
            hidden.append(weight)
    groups = [{"params": ends, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    return [Muon(hidden, lr=MUON_RATE), torch.optim.AdamW(groups, lr=ADAM_RATE, fused=True)]


def learning_rate(peak: float, step: int, share: float) -> float:
    """Warm up, then fall along a cosine with the ``share`` (0-1) of the time."""
    warm = min(1.0, (step + 1) / WARM_UP)
    return peak * (warm * (0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))) + FLOOR)


def average(mean: nn.Module, network: nn.Module, step: int) -> None:
    """Move the running mean of the weights, which is what gets exported."""
    keep = min(0.998, (1 + step) / (10 + step))
    with torch.no_grad():
        pairs = zip(mean.state_dict().values(), network.state_dict().values(), strict=True)
        for old, new in pairs:
            if old.dtype.is_floating_point:
                old.mul_(keep).add_(new, alpha=1 - keep)
            else:
                old.copy_(new)


def train(
    name: str,
    folder: Path,
    *,
    minutes: float,
    seed: int,
    threads: int,
    bf16: bool = False,
    again: bool = False,
) -> Path:
    """Train one network of ``RECIPES`` and return its checkpoint; resume from an earlier one.

    ``again`` starts with the shipped network: whole pictures and fitting scores at once, and
    lower learning rates.
    """
    recipe, path = RECIPES[name], folder / f"{name}.pt"
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    network = recipe.network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lag
    tools = optimisers(network)
    peaks = [tool.defaults["lr"] * (AGAIN if again else 1.0) for tool in tools]
    step, seen, spent = 0, 0, 0.0
    if again and not path.exists():
        shown = islice(load(recipe, folder, seed, small=False), FITTING)
        restore(network, recipe.shipped, (inputs(name, pictures) for pictures, *_ in shown))
        del shown  # and with it the process that made them
    mean = copy.deepcopy(network)
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        mean.load_state_dict(saved["mean"])
        for tool, state in zip(tools, saved["optimisers"], strict=True):
            tool.load_state_dict(state)
        step, seen, spent = saved["step"], saved["seen"], saved["seconds"]
    saved_at, was_small = spent, False
    totals: dict[str, float] = {}
    batches: Iterator[Batch] | None = None
    network.train()
    while spent < 60 * minutes:
        begun = time.monotonic()
        share = spent / (60 * minutes)
        small = name == "detector" and share < SMALL_SHARE and not again
        if batches is None or small != was_small:
            batches, was_small = load(recipe, folder, seed * 1_000_003 + step, small=small), small
        for tool, peak in zip(tools, peaks, strict=True):
            for group in tool.param_groups:
                group["lr"] = learning_rate(peak, step, share)
        pictures, *truth = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            answers = [answer.float() for answer in network(inputs(name, pictures))]
        if isinstance(network, Detector):
            losses = detector_loss(answers, truth, by_fit=again or share >= FIT_SHARE)
        else:
            losses = pose_loss(answers, truth)
        network.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        for tool in tools:
            tool.step()
        step += 1
        seen += recipe.small_batch if small else recipe.batch
        average(mean, network, step)
        for key, value in losses.items():
            totals[key] = totals.get(key, 0.0) + float(value.detach())
        spent += min(time.monotonic() - begun, PAUSE_SECONDS)
        if step % REPORT == 0:
            report(name, step, seen, spent / (60 * minutes), totals)
            totals = {}
        if spent - saved_at > CHECKPOINT_SECONDS or spent >= 60 * minutes:
            saved_at = spent
            save(path, network, mean, tools, (step, seen, spent))
    return path


def inputs(name: str, pictures: torch.Tensor) -> torch.Tensor:
    """Return what the network is given, float32 (B, 3, H, W), of pictures (B, H, W, 3) uint8."""
    prepared = pictures.float() if name == "detector" else normalise(pictures)
    return prepared.permute(0, 3, 1, 2)


def load(recipe: Recipe, folder: Path, seed: int, *, small: bool) -> Iterator[Batch]:
    """Start a process that makes batches, and return them."""
    batch = recipe.small_batch if small else recipe.batch
    data = recipe.batches(folder / "frames", batch=batch, seed=seed, small=small)
    return iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))


def report(name: str, step: int, images: int, share: float, totals: dict[str, float]) -> None:
    """Print one line of progress."""
    parts = "  ".join(f"{key} {value / REPORT:.3f}" for key, value in totals.items())
    print(f"{name} {share:4.0%}  step {step}  {images} images  {parts}", flush=True)


def save(
    path: Path,
    network: nn.Module,
    mean: nn.Module,
    tools: list[torch.optim.Optimizer],
    progress: tuple[int, int, float],
) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    draft = path.with_suffix(".draft")
    step, seen, seconds = progress
    state = {
        "network": network.state_dict(),
        "mean": mean.state_dict(),
        "optimisers": [tool.state_dict() for tool in tools],
        "step": step,
        "seen": seen,
        "seconds": seconds,
    }
    torch.save(state, draft)
    draft.rename(path)


def main() -> None:
    """Parse the options and run the stages that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m sample_videos.training.train", description=(__doc__ or "").split("\n")[2]
    )
    parser.add_argument("--out", type=Path, default=Path("demo_training"), help="working folder")
    parser.add_argument("--frames", type=int, default=56_000, help="to render")
    parser.add_argument("--minutes", type=float, default=200.0, help="for each network")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="of torch, and render processes")
    parser.add_argument("--bf16", action="store_true", help="on CPUs that have it, faster")
    parser.add_argument(
        "--again", action="store_true", help="start from the package's networks, not at random"
    )
    parser.add_argument(
        "--only", choices=["render", "detector", "pose", "export"], action="append", default=None
    )
    options = parser.parse_args()
    stages = options.only or ["render", "detector", "pose", "export"]
    if ("export" in stages or options.again) and not importlib.util.find_spec("onnx"):
        parser.error("the package onnx is missing; pip install -e '.[dev]'")
    if "render" in stages:
        folder = options.out / "frames"
        for done in render(folder, options.frames, seed=options.seed, processes=options.threads):
            print(f"rendered {done} of {options.frames} frames", flush=True)
    names = [name for name in RECIPES if name in stages]
    if names:  # side by side: small networks gain little from a second thread
        threads = max(1, options.threads // len(names))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(names), spawn, *QUIET) as pool:
            jobs = [
                pool.submit(
                    train,
                    name,
                    options.out,
                    minutes=options.minutes,
                    seed=options.seed,
                    threads=threads,
                    bf16=options.bf16,
                    again=options.again,
                )
                for name in names
            ]
            for job in jobs:
                job.result()
    if "export" in stages:
        export_both(options.out, DETECTOR_ONNX, POSE_ONNX)
        print(f"wrote {DETECTOR_ONNX} and {POSE_ONNX}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
