"""Fill a backbone from checkpoints, strictly, or from a seed.

Every tensor of the network must be in the file with its shape: a backbone that is half
pretrained and half random gives features that look fine and mean nothing.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .checkpoint import hint, load_stream, mismatch, read_checkpoint, with_counters
from .epam import EPAMBackbone

STREAMS = ("rgb", "pose")


def load_weights(backbone: EPAMBackbone, path: Path) -> None:
    """Load an official multimodal checkpoint, strictly; only classification heads are ignored.

    The tensors may be bare or lie under ``state_dict``, ``model``, ``ema`` and the like, their
    names may share a prefix such as ``module.``, and the file may be torch's (read with
    ``weights_only=True``) or safetensors. The backbone is untouched where anything does not fit.

    Raises:
        CheckpointError: unreadable, or tensors missing, unexpected or of another shape.
    """
    path = Path(path)
    found = read_checkpoint(path)
    expected = backbone.state_dict()
    found = with_counters(found, expected)
    problem = mismatch(found, expected)
    if problem:
        raise CheckpointError(
            f"{path}: {problem}. Expected an EPAM-Net checkpoint with {len(expected):,} tensors, "
            "rgb_backbone.*, pose_backbone.* and attention_module.*. "
            f"{hint(found, expected)}"
        )
    backbone.load_state_dict(found)


def load_stream_weights(backbone: EPAMBackbone, stream: str, path: Path) -> None:
    """Load one stream, ``"rgb"`` or ``"pose"``, strictly, from an official single-stream file.

    The stream's names begin with ``backbone.`` (mmcv's manner), or are bare; of a multimodal
    checkpoint its stream's part is taken. The attention is not in a single-stream file, so
    RGB features stay unguided until ``load_weights`` has given it its weights.

    Raises:
        CheckpointError: unreadable, or tensors missing, unexpected or of another shape.
        ValueError: ``stream`` is neither of the two.
    """
    if stream not in STREAMS:
        raise ValueError(f"stream is {stream!r}, expected one of {', '.join(STREAMS)}")
    load_stream(getattr(backbone, f"{stream}_backbone"), path, stream=stream)


def random_weights(backbone: EPAMBackbone, seed: int) -> None:
    """Fill every weight from ``seed``: features that mean nothing but are no zeros either.

    For trying the tool, and for tests. Every tensor depends on its own name and the seed
    alone, not on torch's global generator; no branch is zeroed; activations keep about the
    scale of the input all the way down, so that they fit float16 and differ between inputs.
    """
    with torch.no_grad():
        for name, tensor in backbone.state_dict(keep_vars=True).items():
            key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
            generator = torch.Generator().manual_seed(key >> 1)
            tensor.copy_(_random_tensor(name, tensor.shape, generator))


def _random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if leaf == "running_var":
        return 1 + 0.2 * noise.tanh()
    if leaf in ("running_mean", "bias"):
        return 0.03 * noise
    if ".bn." in name:
        gain = 0.5 if ".conv3.bn." in name else 1.0  # keeps the sum over a stage's blocks in scale
        return gain * (1 + 0.2 * noise.tanh())
    if len(shape) == 5 and shape[1] > 3:
        # What all channels have in common (they are positive after ReLU) would drown what
        # tells two inputs apart after some layers: let no filter see it.
        noise = noise - noise.mean(1, keepdim=True)
    gain = 4.0 if name == "pose_backbone.conv1_s.conv.weight" else 1.0  # heatmaps are mostly 0
    return gain * noise * math.sqrt(2 / math.prod(shape[1:]))
