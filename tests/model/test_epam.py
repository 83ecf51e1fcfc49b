"""The network equals the official one, and behaves when it is trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import torch

from epam_extract import config
from epam_extract.model import CBAMSpatialEfficientTemporalAttention, EPAMBackbone, random_weights

TOLERANCE = 1e-3  # of the std, in float32

OTHERS = ("numpy", "cv2", "h5py", "av", "decord", "rich", "typer", "tqdm", "rtmlib", "safetensors")


@pytest.fixture(scope="module")
def official() -> EPAMBackbone:
    backbone = EPAMBackbone()
    backbone.load_state_dict(reference.official_weights())
    return backbone.eval()


def test_every_official_tensor_is_there_with_its_name_and_shape():
    ours = {name: tuple(tensor.shape) for name, tensor in EPAMBackbone().state_dict().items()}
    assert len(ours) == 1067
    assert ours == reference.official_shapes()


@pytest.mark.slow
def test_features_equal_the_official_code(official):
    golden = np.load(reference.DATA / "backbone.npz")
    rgb, heatmaps = reference.inputs()
    raw: list[torch.Tensor] = []
    hook = official.rgb_backbone.register_forward_hook(lambda module, given, out: raw.append(out))
    with torch.inference_mode():
        features, pose = official(rgb, heatmaps)
    hook.remove()
    for name, array in (("rgb_11", features), ("pose_11", pose), ("raw_11", raw[0])):
        error = np.abs(reference.probe(array) - golden[name]).max()
        assert error < TOLERANCE * golden[name][-1], name
    for name, array in (("rgb_pooled_11", features), ("pose_pooled_11", pose)):
        error = np.abs(array.mean((2, 3, 4)).numpy() - golden[name]).max()
        assert error < TOLERANCE * golden[name].std(), name


@pytest.mark.slow
def test_one_stream_can_be_returned_alone_and_dimensions_are_told(official):
    alone = EPAMBackbone(return_both_streams=False)
    alone.load_state_dict(official.state_dict())
    rgb, heatmaps = torch.randn(1, 3, 2, 64, 64), torch.rand(1, 17, 6, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(alone.eval()(rgb, heatmaps), official(rgb, heatmaps)[0])
    assert alone.get_feature_dims() == {
        "rgb_channels": config.RGB_CHANNELS,
        "pose_channels": config.POSE_CHANNELS,
        "rgb_spatial": config.GRID_SIZE,
        "pose_spatial": config.GRID_SIZE,
        "rgb_temporal": config.RGB_FRAMES,
        "pose_temporal": config.POSE_FRAMES,
    }


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["rgb", "pose"])
def test_freezing_a_stream_freezes_its_statistics_too(stream):
    backbone = EPAMBackbone(freeze_rgb=stream == "rgb", freeze_pose=stream == "pose")
    random_weights(backbone, 0)
    backbone.train()
    frozen = getattr(backbone, f"{stream}_backbone")
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    out = backbone(torch.randn(2, 3, 2, 64, 64), torch.rand(2, 17, 6, 16, 16))
    sum(features.square().mean() for features in out).backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in frozen.state_dict().items())
    other = backbone.pose_backbone if stream == "rgb" else backbone.rgb_backbone
    assert all(parameter.grad is not None for parameter in other.parameters())
    assert other.conv1_s.bn.num_batches_tracked == 1


def test_init_weights_starts_every_block_as_the_identity():
    backbone = EPAMBackbone()
    backbone.init_weights()
    assert not backbone.rgb_backbone.layer3[4].conv3.bn.weight.any()
    assert backbone.rgb_backbone.layer3[4].conv1.bn.weight.eq(1).all()


def test_spatial_temporal_attention_has_the_official_names_and_a_range():
    backbone = EPAMBackbone(attention_type="spatial_temporal").eval()
    shapes = {n: tuple(t.shape) for n, t in backbone.attention_module.state_dict().items()}
    assert shapes == {
        "conv_ch_compress.weight": (1, 216, 1, 3, 3),
        "conv_ch_compress.bias": (1,),
        "conv_sptial_attention.weight": (1, 1, 1, 7, 7),
        "conv_sptial_attention.bias": (1,),
        "fc1.weight": (16, 16),
        "fc2.weight": (16, 16),
    }
    attention = backbone.attention_module(torch.randn(2, 216, 16, 7, 7))
    assert attention.shape == (2, 1, 16, 7, 7)
    assert 0 < attention.min() < attention.max() < 1


def test_serial_attention_judges_time_from_the_rgb_features():
    attention = CBAMSpatialEfficientTemporalAttention(attention_type="serial").eval()
    pose, rgb = torch.randn(2, 8, 16, 7, 7), torch.randn(2, 12, 16, 7, 7)
    assert attention(pose, rgb).shape == (2, 1, 16, 1, 1)
    with pytest.raises(ValueError, match="needs the RGB features"):
        attention(pose)


@pytest.mark.slow
def test_the_model_needs_torch_alone():
    """Imported where nothing else of what the package depends on can be."""
    script = f"""
import sys
torch_needs = {OTHERS!r}
import torch
for name in torch_needs:
    if name not in sys.modules:
        sys.modules[name] = None
import epam_extract.model, epam_extract.model.fast
loaded = [m for m in sys.modules if m.startswith("epam_extract.")]
import json; print(json.dumps(sorted(loaded)))
"""
    package = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": package},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outside = [name for name in json.loads(done.stdout) if ".model" not in name]
    assert outside == ["epam_extract.errors"]
