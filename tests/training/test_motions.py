"""Motions without jumps."""

from __future__ import annotations

import numpy as np
import pytest

from sample_videos.training import motions


@pytest.mark.parametrize("kind", motions.MOTIONS)
def test_every_motion_moves_smoothly(kind):
    motion = motions.Motion(kind, np.random.default_rng(2))
    turns = np.array(
        [np.concatenate([m.flex, m.hip, m.knee]) for m in map(motion, np.arange(0, 4, 0.02))]
    )
    assert np.isfinite(turns).all()
    assert np.abs(np.diff(turns, axis=0)).max() < 0.8


def test_shares_cover_the_motions():
    assert len(motions.SHARES) == len(motions.MOTIONS)


def test_script_fades_from_one_motion_to_the_next():
    script = motions.Script([(0.0, "idle"), (1.0, "jack")], np.random.default_rng(0), fade=0.5)
    steps = [script(t).abduct[0] for t in np.arange(0.9, 1.6, 0.01)]
    assert np.abs(np.diff(steps)).max() < 0.2
