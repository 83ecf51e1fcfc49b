"""Heatmaps: peaks, cuts and merging, against a plain loop over pixels."""

import numpy as np
import pytest
import torch

from epam_extract.heatmaps import render_heatmaps


def plain(keypoints: np.ndarray, scores: np.ndarray, size: int = 56, sigma: float = 0.6):
    """(M, F, 17, 2) and (M, F, 17) -> (17, F, size, size), one joint after the other."""
    result = np.zeros((17, keypoints.shape[1], size, size), np.float32)
    for person, frame, joint in np.ndindex(scores.shape):
        if scores[person, frame, joint] < 1e-4:
            continue
        x, y = keypoints[person, frame, joint]
        columns = range(max(int(x - 3 * sigma), 0), min(int(x + 3 * sigma) + 1, size))
        rows = range(max(int(y - 3 * sigma), 0), min(int(y + 3 * sigma) + 1, size))
        for row in rows:
            for column in columns:
                far = (column - x) ** 2 + (row - y) ** 2
                value = np.exp(-far / 2 / sigma**2) * scores[person, frame, joint]
                cell = result[joint, frame]
                cell[row, column] = max(cell[row, column], value)
    return result


def test_equal_to_a_plain_loop_also_at_and_past_the_border() -> None:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(-4, 60, (2, 3, 3, 17, 2)).astype(np.float32)
    scores = rng.uniform(-0.2, 1, (2, 3, 3, 17)).astype(np.float32)
    drawn = render_heatmaps(torch.from_numpy(keypoints), torch.from_numpy(scores)).numpy()
    for one, points, score in zip(drawn, keypoints, scores, strict=True):
        np.testing.assert_allclose(one, plain(points, score), atol=1e-6)


def test_the_score_is_the_peak_and_people_merge_by_maximum() -> None:
    keypoints = torch.full((1, 2, 1, 17, 2), 20.0)
    scores = torch.tensor([0.5, 0.75])[None, :, None, None].expand(1, 2, 1, 17)
    drawn = render_heatmaps(keypoints, scores)
    assert drawn.shape == (1, 17, 1, 56, 56)
    assert drawn.max() == 0.75 and drawn[0, 0, 0, 20, 20] == 0.75


def test_a_missing_joint_draws_nothing_even_where_its_coordinate_is_nan() -> None:
    keypoints = torch.full((1, 1, 1, 17, 2), float("nan"))
    assert not render_heatmaps(keypoints, torch.zeros(1, 1, 1, 17)).any()


def test_nobody_is_all_zeros() -> None:
    drawn = render_heatmaps(torch.zeros(2, 0, 48, 17, 2), torch.zeros(2, 0, 48, 17))
    assert drawn.shape == (2, 17, 48, 56, 56) and not drawn.any()


@pytest.mark.needs_cuda
def test_the_gpu_draws_the_same() -> None:
    keypoints, scores = torch.rand(1, 2, 4, 17, 2) * 56, torch.rand(1, 2, 4, 17)
    there = render_heatmaps(keypoints.cuda(), scores.cuda()).cpu()
    torch.testing.assert_close(there, render_heatmaps(keypoints, scores))
