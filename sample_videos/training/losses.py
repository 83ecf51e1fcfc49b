"""What the two networks are trained to minimise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from .dataset import IGNORE, USABLE
from .networks import SPLIT, STRIDE, decode_boxes

# How much each keypoint counts: limbs are hard, heads are not.
JOINTS = torch.tensor([0.6] * 5 + [1.0, 1.25, 1.5, 1.0, 1.1, 1.25])
JOINTS = JOINTS.repeat_interleave(torch.tensor([1] * 5 + [2] * 6))
BIN_SIGMA = 1.5  # pixels: how wide the SimCC targets are
OFFSET = (STRIDE - 1) / 2  # from a cell's corner to its middle, pixels


def focal(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """CornerNet's focal loss on maps whose peaks are exactly 1, divided by their number."""
    chance = logits.sigmoid()
    peak = (target > 0.999).float()
    log_yes = functional.logsigmoid(logits)
    log_no = log_yes - logits
    loss = -(peak * (1 - chance) ** 2 * log_yes)
    loss = loss - (1 - peak) * (1 - target) ** 4 * chance**2 * log_no
    if weight is not None:
        loss = loss * weight
    return loss.sum() / peak.sum().clamp(min=1)


def bumps(at: Tensor, sigma: Tensor, shown: Tensor, *, cells: tuple[int, int]) -> Tensor:
    """Return maps (..., h, w) with a Gaussian of ``sigma`` (..., 2) cells at ``at`` (..., 2)."""
    height, width = cells
    x = at[..., 0:1].round().clamp(0, width - 1)
    y = at[..., 1:2].round().clamp(0, height - 1)
    gx = torch.exp(-0.5 * ((torch.arange(width) - x) / sigma[..., 0:1]) ** 2)
    gy = torch.exp(-0.5 * ((torch.arange(height) - y) / sigma[..., 1:2]) ** 2)
    return gx[..., None, :] * gy[..., :, None] * shown[..., None, None]


def quality(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Quality focal loss: the score of a cell should be how well its box fits, 0 elsewhere."""
    gap = (target - logits.sigmoid()).detach().abs() ** 2
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * gap * weight).sum() / target.sum().clamp(min=1)


def detector_loss(
    answers: Sequence[Tensor], truth: Sequence[Tensor], *, by_fit: bool = False
) -> dict[str, Tensor]:
    """Losses of centres, boxes and (only to teach the body) keypoints of a batch.

    ``answers`` as :class:`Detector` gives them; ``truth``: keypoints, boxes and states.

    At first a cell's score says whether it is the person's middle; ``by_fit`` teaches all cells
    near the middle to say how well their own box fits, which ranks boxes far better.
    """
    keypoints, boxes, state = truth
    centres, sides, joints = answers
    height, width = centres.shape[-2:]
    usable, ignored = (state == USABLE).float(), (state == IGNORE).float()
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=4)
    middle = ((boxes[..., :2] + boxes[..., 2:]) / 2 - OFFSET) / STRIDE  # (B, P, 2) cells
    wanted = bumps(
        middle, (size * 0.08 / STRIDE).clamp(0.4, 2.0), usable, cells=(height, width)
    ).amax(1, keepdim=True)
    x, y = torch.arange(width) * STRIDE + OFFSET, torch.arange(height) * STRIDE + OFFSET
    in_x = (x >= boxes[..., 0:1]) & (x <= boxes[..., 2:3])
    in_y = (y >= boxes[..., 1:2]) & (y <= boxes[..., 3:4])
    covered = (in_x[..., None, :] & in_y[..., :, None]) * ignored[..., None, None]
    weight = 1 - covered.amax(1, keepdim=True) * (wanted < 0.3)
    losses = {} if by_fit else {"centre": focal(centres, wanted, weight)}
    shown = (keypoints[..., 2] > 0).float() * (state > 0).float()[..., None]
    where = (keypoints[..., :2] - OFFSET) / STRIDE
    blur = torch.full_like(where, 0.7)
    losses["joints"] = 0.3 * focal(joints, bumps(where, blur, shown, cells=(height, width)).amax(1))
    image, person = torch.nonzero(state == USABLE, as_tuple=True)
    if len(image) == 0:
        if by_fit:
            losses["centre"] = quality(centres, torch.zeros_like(centres), weight)
        return losses
    ring = torch.tensor([[dx, dy] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    cells = middle[image, person].round()[:, None] + ring  # (M, 9, 2)
    cells[..., 0].clamp_(0, width - 1)
    cells[..., 1].clamp_(0, height - 1)
    index = cells.long()
    guess = decode_boxes(
        sides[image[:, None], :, index[..., 1], index[..., 0]], cells * STRIDE + OFFSET
    )
    target = boxes[image, person][:, None]
    losses["box"] = 2 * giou_loss(guess, target).mean()
    if by_fit:
        away = (cells - middle[image, person][:, None]).abs() * STRIDE
        near = (away <= (0.25 * size[image, person])[:, None].clamp(min=0.6 * STRIDE)).all(-1)
        fit = overlap(guess.detach(), target).clamp(0, 1) * near  # (M, 9)
        place = (image[:, None] * height + index[..., 1]) * width + index[..., 0]
        score = torch.zeros(centres.numel())
        score.scatter_reduce_(0, place.flatten(), fit.flatten(), "amax")
        score = score.view_as(centres)
        spread = (size * 0.15 / STRIDE).clamp(0.7, 3.0)
        around = bumps(middle, spread, usable, cells=(height, width)).amax(1, keepdim=True)
        unsure = (score == 0) & (around > 0.5)  # neither the middle nor off the person
        losses["centre"] = 2 * quality(centres, score, weight * (1 - 0.7 * unsure.float()))
    scale = size[image, person].prod(-1).sqrt()[:, None]
    losses["sides"] = ((guess - target).abs().sum(-1) / scale).mean()
    return losses


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes (..., 4), pair by pair."""
    low = torch.maximum(first[..., :2], second[..., :2])
    shared = (torch.minimum(first[..., 2:], second[..., 2:]) - low).clamp(min=0).prod(-1)
    area = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return shared / (area - shared).clamp(min=1e-6)


def giou_loss(guess: Tensor, truth: Tensor) -> Tensor:
    """1 - generalised IoU of boxes (..., 4)."""
    low = torch.maximum(guess[..., :2], truth[..., :2])
    high = torch.minimum(guess[..., 2:], truth[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (guess[..., 2:] - guess[..., :2]).prod(-1) + (truth[..., 2:] - truth[..., :2]).prod(-1)
    union = area - shared
    hull = (
        torch.maximum(guess[..., 2:], truth[..., 2:])
        - torch.minimum(guess[..., :2], truth[..., :2])
    ).prod(-1)
    return 1 - shared / union + (hull - union) / hull


def pose_loss(answers: Sequence[Tensor], truth: Sequence[Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of the SimCC bins by ``JOINTS``; hidden keypoints count three quarters.

    ``answers`` as :class:`KeypointNet` gives them; ``truth``: the keypoints.
    """
    along_x, along_y = answers
    (keypoints,) = truth
    weight = JOINTS * (keypoints[..., 2] > 0) * (0.5 + 0.25 * keypoints[..., 2])  # (B, 17)
    total = torch.zeros(())
    for logits, place in ((along_x, keypoints[..., 0:1]), (along_y, keypoints[..., 1:2])):
        bins = torch.arange(logits.shape[-1]) / SPLIT
        target = (-0.5 * ((bins - place) / BIN_SIGMA) ** 2).softmax(-1)
        total = total - ((target * logits.log_softmax(-1)).sum(-1) * weight).sum()
    return {"simcc": total / weight.sum().clamp(min=1)}
