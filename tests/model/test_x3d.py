"""One stream: the shift, the keywords of the originals, and what freezing means."""

import numpy as np
import pytest
import torch

from epam_extract.model import EPAMBackbone, X3DTemporalShift, X3DTemporalShiftPose
from epam_extract.model.x3d import temporal_shift


def test_the_shift_moves_a_share_of_the_channels_each_way():
    x = torch.arange(1.0, 25.0).view(1, 8, 3, 1, 1)
    shifted = temporal_shift(x, 8)[0, :, :, 0, 0]
    np.testing.assert_array_equal(shifted[0], [2, 3, 0])  # from the frame after
    np.testing.assert_array_equal(shifted[1], [0, 4, 5])  # from the frame before
    np.testing.assert_array_equal(shifted[2:], x[0, 2:, :, 0, 0])


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        pytest.param(
            X3DTemporalShift(gamma_w=1, gamma_b=2.25, gamma_d=2.2, use_sta=False, se_style="half"),
            (3, 224, 432),
            id="rgb",
        ),
        pytest.param(
            X3DTemporalShiftPose(
                gamma_d=1,
                in_channels=17,
                base_channels=24,
                num_stages=3,
                stage_blocks=(5, 11, 7),
                spatial_strides=(2, 2, 2),
                conv1_stride=1,
            ),
            (17, 56, 216),
            id="pose",
        ),
    ],
)
def test_streams_take_the_originals_keywords(network, shape):
    channels, size, features = shape
    with torch.inference_mode():
        out = network.eval()(torch.zeros(1, channels, 2, size, size))
    assert out.shape == (1, features, 2, 7, 7)
    assert network.feat_dim == features


def test_frozen_stages_and_norm_eval_stay_in_eval():
    network = X3DTemporalShiftPose(frozen_stages=1, norm_eval=True).train()
    assert not network.conv1_s.training
    assert not network.layer1.training
    assert network.layer2.training
    assert not network.layer2[0].conv1.bn.training
    assert not any(parameter.requires_grad for parameter in network.layer1.parameters())


@pytest.mark.slow
def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for with_cp in (False, True):
        network = X3DTemporalShiftPose(stage_blocks=(1, 1, 1), with_cp=with_cp)
        torch.manual_seed(0)
        network.init_weights()
        network(torch.ones(1, 17, 2, 16, 16)).sum().backward()
        gradients.append(network.conv1_s.conv.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EPAMBackbone(attention_type="none"), "expected one of CBAM_spatial"),
        (lambda: X3DTemporalShift(num_stages=5), "num_stages is 5, expected 1 to 4"),
        (lambda: X3DTemporalShift(spatial_strides=(2,)), "one for each of the 4 stages"),
        (lambda: X3DTemporalShift(se_style="none"), "expected 'half' or 'all'"),
        (lambda: X3DTemporalShift(norm_cfg={"type": "SyncBN"}), "expected type 'BN3d'"),
        (
            lambda: EPAMBackbone()(torch.zeros(1, 3, 4, 32, 32), torch.zeros(1, 17, 4, 8, 8)),
            "three heatmap frames to one RGB frame",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
