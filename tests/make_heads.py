"""Classification heads as the authors save them."""

from __future__ import annotations

from pathlib import Path

import torch

from epam_extract import EPAMBackbone
from epam_extract.model import random_weights

CLASSES = 7


def head_tensors(classes: int = CLASSES) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"rgb_cls_head": 432, "pose_cls_head": 216}
    tensors = {}
    for name, width in shapes.items():
        tensors[f"{name}.fc_cls.weight"] = torch.randn(classes, width, generator=generator)
        tensors[f"{name}.fc_cls.bias"] = torch.randn(classes, generator=generator)
    return tensors


def write_checkpoint(path: Path) -> Path:
    """As the authors save it: a wrapper, ``module.`` before each name, the heads in it."""
    backbone = EPAMBackbone()
    random_weights(backbone, 5)
    tensors = {**backbone.state_dict(), **head_tensors()}
    state = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 1, "model_state_dict": state}, path)
    return path
