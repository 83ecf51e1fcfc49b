"""The Muon optimiser for convolutions: steps of orthogonal matrices.

Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024).
``torch.optim.Muon`` takes matrices alone, and torch has it since 2.9 only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 5  # of Newton and Schulz
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that drives singular values to 1


def orthogonal(matrix: Tensor) -> Tensor:
    """Return about U V^T of the singular value decomposition U S V^T of a matrix, in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose step is made orthogonal; a kernel's inputs count as columns."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every weight."""
        for group in self.param_groups:
            rate, keep = group["lr"], group["momentum"]
            for weight in group["params"]:
                state = self.state[weight]
                if "mean" not in state:
                    state["mean"] = torch.zeros_like(weight)
                state["mean"].lerp_(weight.grad, 1 - keep)
                ahead = weight.grad.lerp(state["mean"], keep)
                step = orthogonal(ahead.flatten(1)).float()
                scale = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
                weight.mul_(1 - rate * group["weight_decay"])
                weight.add_(step.view_as(weight), alpha=-rate * scale)
