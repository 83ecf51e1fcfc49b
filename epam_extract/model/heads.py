"""EPAM-Net's two classification heads. They take exactly the pooled features that are stored, so
that classifying needs no second pass over the videos.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ..errors import CheckpointError
from .checkpoint import mismatch, read_tensors

RGB_CHANNELS, POSE_CHANNELS = 432, 216  # of the pooled features
NAMES = ("rgb_cls_head.", "pose_cls_head.")


class EPAMHeads(nn.Module):
    """One linear layer per stream. The original's pooling is done already, and dropout is for
    training.

    Parameter names are the official ones: ``rgb_cls_head.fc_cls.weight`` (K, 432),
    ``pose_cls_head.fc_cls.weight`` (K, 216), and their biases (K,).
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.rgb_cls_head = nn.ModuleDict({"fc_cls": nn.Linear(RGB_CHANNELS, num_classes)})
        self.pose_cls_head = nn.ModuleDict({"fc_cls": nn.Linear(POSE_CHANNELS, num_classes)})

    def forward(self, rgb_pooled: Tensor, pose_pooled: Tensor) -> Tensor:
        """(N, 432) and (N, 216) -> logits (N, K): the streams' sum, as in the authors' evaluation
        (``ddp/trainer.py`` of their repository), with no softmax before it.
        """
        return self.rgb_cls_head["fc_cls"](rgb_pooled) + self.pose_cls_head["fc_cls"](pose_pooled)


def load_heads(path: Path) -> EPAMHeads:
    """Read both heads of an official multimodal checkpoint, strictly, ready for inference.

    Raises:
        CheckpointError: unreadable, without heads, or with heads of another shape.
    """
    path = Path(path)
    tensors = read_tensors(path)
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(NAMES)}
    expected_words = (
        "Expected a multimodal EPAM-Net checkpoint with rgb_cls_head.fc_cls and "
        "pose_cls_head.fc_cls."
    )
    if not found:
        single = any(name.startswith("cls_head.") for name in tensors)
        what = "has the head of a single stream" if single else "has no classification heads"
        raise CheckpointError(
            f"{path}: {what}, so its features cannot be classified. {expected_words}"
        )
    weight = found.get("rgb_cls_head.fc_cls.weight")
    heads = EPAMHeads(weight.shape[0] if weight is not None and weight.ndim == 2 else 1)
    problem = mismatch(found, heads.state_dict())
    if problem:
        raise CheckpointError(f"{path}: {problem}. {expected_words}")
    heads.load_state_dict(found)
    return heads.eval().requires_grad_(False)
