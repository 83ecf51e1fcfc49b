"""The optimiser of the matrices."""

from __future__ import annotations

import pytest
import torch

from sample_videos.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_orthogonal_step_turns_and_does_not_stretch(shape):
    gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    step = orthogonal(gradient).float()
    assert ((left.T @ step @ right.T).diagonal() > 0.6).all()  # the polynomial stops near 1
    assert torch.linalg.matrix_norm(step, 2) < 1.3


@pytest.mark.slow
def test_muon_fits_a_convolution_to_another():
    torch.manual_seed(0)
    wanted, network = torch.nn.Conv2d(4, 8, 3, bias=False), torch.nn.Conv2d(4, 8, 3, bias=False)
    tool = Muon(network.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        pictures = torch.randn(8, 4, 8, 8)
        losses.append((network(pictures) - wanted(pictures).detach()).square().mean())
        network.zero_grad()
        losses[-1].backward()
        tool.step()
    assert losses[-1] < 0.1 * losses[0]
