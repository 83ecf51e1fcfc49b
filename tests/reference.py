"""The weights and inputs behind ``data/backbone.npz``, made again from names and seeds.

The arrays were computed once by the official EPAM-Net code with exactly these weights and
inputs; ``data/official_keys.json`` lists its 1,067 tensors.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).with_name("data")
WEIGHTS_SEED, INPUTS_SEED = 11, 111
PROBE_SEED, PROBE_SAMPLES = 0, 4000


def official_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the official network without its heads."""
    keys = json.loads((DATA / "official_keys.json").read_text())
    return {name: tuple(shape) for name, shape in keys}


def official_weights(seed: int = WEIGHTS_SEED) -> dict[str, Tensor]:
    """A checkpoint's tensors, each from its name and the seed alone."""
    return {
        name: torch.from_numpy(np.array(_weights(name, shape, seed)))
        for name, shape in official_shapes().items()
    }


def _weights(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.array(0, dtype=np.int64)
    if leaf == "running_var":
        values = rng.random(shape) * 0.5 + 0.75
    elif leaf == "weight" and ".bn." in name:
        values = rng.random(shape) * 0.5 + 0.5
    elif leaf == "weight":
        values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    elif leaf == "running_mean" or ".bn." in name:
        values = rng.standard_normal(shape) * 0.1
    else:
        values = rng.standard_normal(shape) * 0.05
    return values.astype(np.float32)


def heads() -> dict[str, Tensor]:
    """Classification heads as the official checkpoints carry them."""
    return {
        "rgb_cls_head.fc_cls.weight": torch.zeros(60, 432),
        "rgb_cls_head.fc_cls.bias": torch.zeros(60),
        "pose_cls_head.fc_cls.weight": torch.zeros(60, 216),
        "pose_cls_head.fc_cls.bias": torch.zeros(60),
    }


def stream_checkpoint(stream: str, seed: int = WEIGHTS_SEED) -> dict[str, object]:
    """What the official single-stream training writes for ``stream``, ``rgb`` or ``pose``."""
    prefix = f"{stream}_backbone."
    tensors = {
        f"backbone.{name.removeprefix(prefix)}": tensor
        for name, tensor in official_weights(seed).items()
        if name.startswith(prefix)
    }
    tensors |= {
        name.removeprefix(f"{stream}_"): tensor
        for name, tensor in heads().items()
        if name.startswith(stream)
    }
    return {"meta": {"epoch": 240}, "state_dict": tensors}


def inputs(seed: int = INPUTS_SEED, clips: int = 2) -> tuple[Tensor, Tensor]:
    """RGB (N, 3, 16, 224, 224) and heatmaps (N, 17, 48, 56, 56) of the reference, float32."""
    rng = np.random.default_rng(seed)
    rgb = rng.standard_normal((clips, 3, 16, 224, 224), dtype=np.float32)
    heatmaps = np.clip(
        rng.standard_normal((clips, 17, 48, 56, 56), dtype=np.float32) - 1.0, 0.0, 1.0
    )
    return torch.from_numpy(rgb), torch.from_numpy(heatmaps)


def probe(array: Tensor) -> np.ndarray:
    """4,000 fixed samples of an array, then its mean and std: (4002,) float32."""
    values = array.numpy().astype(np.float32)
    where = np.random.default_rng(PROBE_SEED).integers(0, values.size, PROBE_SAMPLES)
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return np.concatenate([values.reshape(-1)[where], [mean, std]]).astype(np.float32)
