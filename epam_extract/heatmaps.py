"""Keypoints -> Gaussian heatmaps, batched, on whatever device the keypoints are on."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import HEATMAP_CUT, HEATMAP_SIGMA, HEATMAP_SIZE, MIN_KEYPOINT_SCORE


def render_heatmaps(
    keypoints: Tensor,
    scores: Tensor,
    *,
    size: int = HEATMAP_SIZE,
    sigma: float = HEATMAP_SIGMA,
) -> Tensor:
    """Draw one Gaussian per joint; several people merge by maximum.

    ``keypoints`` (B, M, F, 17, 2) float, x then y in heatmap pixels; ``scores`` (B, M, F, 17).
    Returns (B, 17, F, size, size) of the keypoints' dtype.
    The joint's score is the peak; a joint below 1e-4 draws nothing; a patch reaches from
    ``int(mu - 3 sigma)`` to ``int(mu + 3 sigma)`` and is cut at the border.
    Source: GeneratePoseTarget of PYSKL, as EPAM-Net uses it.
    """
    batch, people, frames, joints = scores.shape
    result = keypoints.new_zeros((batch, joints, frames, size, size))
    pixel = torch.arange(size, device=keypoints.device, dtype=keypoints.dtype)  # (size,)
    peak = torch.where(scores >= MIN_KEYPOINT_SCORE, scores, scores.new_zeros(()))
    reach = HEATMAP_CUT * sigma
    # A joint that is missing may carry any coordinate, NaN too: draw it nowhere.
    center = torch.where((peak > 0)[..., None], keypoints, keypoints.new_zeros(()))[..., None]
    inside = (pixel >= (center - reach).trunc()) & (pixel <= (center + reach).trunc())
    axes = torch.exp(-((pixel - center) ** 2) / (2 * sigma**2)) * inside  # (B, M, F, 17, 2, size)
    for person in range(people):
        x, y = axes[:, person].unbind(-2)  # (B, F, 17, size) each
        drawn = (y * peak[:, person, ..., None])[..., :, None] * x[..., None, :]
        torch.maximum(result, drawn.transpose(1, 2), out=result)
    return result
