"""What a look changes in a scene."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sample_videos.training.people import Body
from sample_videos.training.scenes import HARD, Scene


@pytest.mark.slow
def test_looks_make_scenes_harder():
    def bodies(**changes: float) -> list[Body]:
        look = dataclasses.replace(HARD, **changes)
        return [body for seed in range(30) for body in Scene(seed, look=look).bodies]

    def share_of_random(people: list[Body]) -> float:
        return float(np.mean([body.moves.kind == "random" for body in people]))

    assert share_of_random(bodies(wild=500.0)) > 0.9
    assert share_of_random(bodies(wild=0.0)) == 0
    assert sum(abs(body.yaw) > 1.6 for body in bodies(turned=1.0)) > 10
    scenes = [Scene(seed, look=dataclasses.replace(HARD, hidden=1.0)) for seed in range(15)]
    assert all(scene.things for scene in scenes if scene.bodies)
