"""Classification heads of a checkpoint: whole, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from make_heads import CLASSES, head_tensors, write_checkpoint
from torch import nn

from epam_extract import CheckpointError, EPAMBackbone, load_heads
from epam_extract.model import random_weights
from epam_extract.model.fast import pool
from epam_extract.pipeline.installed_weights import add_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("heads") / "epam.pth")


@pytest.mark.slow
def test_heads_on_pooled_features_are_the_whole_network(checkpoint: Path) -> None:
    backbone = EPAMBackbone().eval()
    random_weights(backbone, 5)
    tensors = head_tensors()
    generator = torch.Generator().manual_seed(1)
    rgb = torch.randn(2, 3, 4, 64, 64, generator=generator)
    heatmaps = torch.rand(2, 17, 12, 16, 16, generator=generator)
    with torch.no_grad():
        rgb_features, pose_features = backbone(rgb, heatmaps)
        whole = 0
        for features, name in ((rgb_features, "rgb"), (pose_features, "pose")):
            layer = nn.Linear(features.shape[1], CLASSES)
            layer.weight.data = tensors[f"{name}_cls_head.fc_cls.weight"]
            layer.bias.data = tensors[f"{name}_cls_head.fc_cls.bias"]
            whole = whole + layer(nn.AdaptiveAvgPool3d(1)(features).flatten(1))
        ours = load_heads(checkpoint)(pool(rgb_features), pool(pose_features))
    torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-4)


def test_heads_are_kept_when_weights_are_added(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    added = add_weights(checkpoint, check=lambda path: None)
    assert load_heads(added.path).num_classes == CLASSES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {}, "has no classification heads"),
        (lambda t: {"cls_head.fc_cls.weight": torch.ones(7, 216)}, "head of a single stream"),
        (lambda t: {k: v for k, v in t.items() if "pose" not in k}, "2 tensors missing"),
        (lambda t: {**t, "rgb_cls_head.fc_cls.bias": torch.ones(6)}, "1 of another shape"),
        (lambda t: {**t, "rgb_cls_head.fc_cls.weight": torch.ones(7)}, "of another shape"),
        (lambda t: {**t, "pose_cls_head.fc_cls.bias": torch.full((7,), torch.nan)}, "NaN"),
    ],
)
def test_a_checkpoint_with_other_heads_is_told_so(
    tmp_path: Path, change: object, message: str
) -> None:
    body = {"attention_module.conv.weight": torch.ones(1)}
    torch.save({**body, **change(head_tensors())}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=message):
        load_heads(tmp_path / "w.pth")
