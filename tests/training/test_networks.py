"""Detector and keypoint network."""

from __future__ import annotations

import torch

from sample_videos.training.networks import STRIDE, Detector, cell_centres, decode_boxes


def test_boxes_decode_around_their_cells():
    cells = cell_centres(2, 3)
    assert cells.tolist()[:2] == [[3.5, 3.5], [3.5 + STRIDE, 3.5]]
    box = decode_boxes(torch.zeros(4), cells[0])
    assert box.tolist() == [3.5 - 24, 3.5 - 24, 3.5 + 24, 3.5 + 24]


def test_detector_works_at_any_size():
    with torch.no_grad():
        centres, sides, joints = Detector().eval()(torch.zeros(1, 3, 96, 160))
    assert centres.shape == (1, 1, 12, 20)
    assert sides.shape == (1, 4, 12, 20)
    assert joints.shape == (1, 17, 12, 20)
