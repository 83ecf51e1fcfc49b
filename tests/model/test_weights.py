"""Which weights a network has, and random ones that serve for trying the tool."""

import pytest
import torch

from epam_extract.model import EPAMBackbone, random_weights, weights_identity


@pytest.fixture(scope="module")
def backbone() -> EPAMBackbone:
    return EPAMBackbone()


def test_identity_is_name_and_digest(tmp_path):
    path = tmp_path / "epam.pth"
    path.write_bytes(b"abc")
    assert weights_identity(path) == {
        "file": "epam.pth",
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }


@pytest.mark.slow
def test_random_weights_come_from_the_seed_alone(backbone):
    def filled(seed):
        random_weights(backbone, seed)
        return {name: tensor.clone() for name, tensor in backbone.state_dict().items()}

    first = filled(3)
    torch.manual_seed(9)
    assert all(torch.equal(first[name], tensor) for name, tensor in filled(3).items())
    other = filled(4)
    assert not any(
        torch.equal(first[name], tensor)
        for name, tensor in other.items()
        if not name.endswith("num_batches_tracked")
    )


@pytest.mark.slow
def test_random_weights_tell_inputs_apart_and_fit_float16(backbone):
    random_weights(backbone, 0)
    coarse = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    rgb = torch.nn.functional.interpolate(coarse, size=(16, 224, 224), mode="trilinear")
    heatmaps = torch.zeros(2, 17, 48, 56, 56)
    for joint in range(17):
        heatmaps[0, joint, :, 10 + joint, 20] = 0.9
        heatmaps[1, joint, :, 30, 10 + 2 * joint] = 0.9
    with torch.inference_mode():
        streams = backbone.eval()(rgb, heatmaps)
    for features in streams:
        pooled = features.mean((2, 3, 4))  # (2, C)
        assert features.isfinite().all()
        assert 0.01 < features.std() < 100
        assert features.max() < 6e4  # float16 ends at 65504
        assert (pooled[0] - pooled[1]).std() > 0.02 * pooled.std()
        assert features.gt(0).float().mean() > 0.2
