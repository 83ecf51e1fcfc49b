"""Batches: what is cut out and turned keeps its truth."""

from __future__ import annotations

import numpy as np

from epam_extract.demo import DETECTOR_SIZE
from sample_videos.training import dataset, loader
from sample_videos.training.scenes import VISIBLE


def test_augmented_keypoints_stay_on_their_person(shards):
    (shard,) = dataset.open_shards(shards / "frames")
    batches = loader.DetectorBatches(shards / "frames", batch=2, seed=0)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(40):
        image, keypoints, boxes, state = batches.sample([shard], rng)
        assert image.shape == (*DETECTOR_SIZE, 3)
        for person in np.flatnonzero(state == dataset.USABLE):
            visible = keypoints[person, keypoints[person, :, 2] == VISIBLE, :2]
            slack = 0.08 * (boxes[person, 3] - boxes[person, 1]) + 3
            assert (visible >= boxes[person, :2] - slack).all()
            assert (visible <= boxes[person, 2:] + slack).all()
            seen += 1
    assert seen > 10
