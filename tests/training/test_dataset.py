"""The pictures that are rendered for training."""

from __future__ import annotations

import pytest

from sample_videos.training import dataset
from sample_videos.training.scenes import HARD


def test_training_shows_more_of_what_is_hard():
    for look in dataset.LOOKS:
        assert (look.wild, look.hidden, look.turned) > (HARD.wild, HARD.hidden, HARD.turned)
    assert any("desk" in look.things for look in dataset.LOOKS)
    assert sum(dataset.LOOK_SHARES) == pytest.approx(1)


def test_shards_are_kept_and_counted(shards, monkeypatch):
    monkeypatch.setattr(dataset, "SHARD", 12)
    assert list(dataset.render(shards / "frames", 12, seed=1)) == [12]
    (shard,) = dataset.open_shards(shards / "frames")
    assert shard.frames.shape == (12, 240, 320, 3)
    assert (shard.state == dataset.USABLE).any()
