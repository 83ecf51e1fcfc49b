"""Synthetic people: the same every time, and their truth is where they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from sample_videos.training.props import make_thing
from sample_videos.training.render import RenderedClip, render_clip, render_scene
from sample_videos.training.scenes import EASY, HIDDEN, VISIBLE, Scene


@pytest.fixture(scope="module")
def waving() -> RenderedClip:
    return render_clip(3, frames=12, motions=["wave"], fps=6)


def test_clip_has_the_documented_shapes(waving):
    assert waving.frames.shape == (12, 240, 320, 3)
    assert waving.frames.dtype == np.uint8
    assert waving.keypoints.shape == (1, 12, 17, 2)
    assert waving.visibility.shape == waving.scores.shape == (1, 12, 17)
    assert waving.boxes.shape == (1, 12, 4)
    assert waving.usable.all()


def test_same_seed_gives_the_same_pixels_and_truth(waving):
    again = render_clip(3, frames=2, motions=["wave"], fps=6)
    np.testing.assert_array_equal(again.frames, waving.frames[:2])
    np.testing.assert_array_equal(again.keypoints, waving.keypoints[:, :2])
    other = render_clip(4, frames=2, motions=["wave"], fps=6)
    assert (other.frames != again.frames).mean() > 0.5


def test_person_is_drawn_where_the_truth_says():
    scene = Scene(5, look=EASY, empty=True)
    scene.noise = scene.jpeg = scene.blur = 0
    scene.shadows = False
    room = scene.frame(0.0).image.astype(int)
    scene.cast(1, ["jack"])
    frame = scene.frame(0.4)
    changed = np.abs(frame.image.astype(int) - room).max(-1) > 12
    rows, columns = np.nonzero(changed)
    (person,) = frame.people
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(person.box, tight, atol=6)
    for (x, y), visible in zip(
        person.keypoints.round().astype(int), person.visibility, strict=True
    ):
        if visible == VISIBLE:
            assert changed[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].any()


def test_left_is_left():
    scene = Scene(8, look=EASY, empty=True)
    scene.cast(1, ["idle"])
    scene.bodies[0].yaw = 0.0  # faces the camera: its left is on our right
    left, right = scene.frame(0.0).people[0].keypoints[[5, 6], 0]
    assert left > right + 5
    scene.bodies[0].yaw = np.pi
    left, right = scene.frame(0.0).people[0].keypoints[[5, 6], 0]
    assert left < right - 5


def test_waving_lifts_a_wrist_above_the_shoulder(waving):
    wrists, shoulders = waving.keypoints[0, :, 9:11, 1], waving.keypoints[0, :, 5:7, 1]
    assert (wrists < shoulders).any(1).all()


def test_something_in_front_hides_keypoints_and_shrinks_the_box():
    scene = Scene(5, look=EASY, empty=True)
    scene.cast(1, ["idle"])
    (free,) = scene.frame(0.0).people
    body = scene.bodies[0]
    scene.things += make_thing(
        "cupboard", np.random.default_rng(1), seed=0, x=body.x, z=body.z + 0.6, yaw=0.0
    )
    (behind,) = scene.frame(0.0).people
    np.testing.assert_array_equal(behind.keypoints, free.keypoints)
    assert behind.pixels < 0.8 * free.pixels
    assert (behind.visibility[13:] == HIDDEN).any()


def test_an_empty_room_has_nobody():
    clip = render_clip(9, frames=2, people=0)
    assert clip.keypoints.shape == (0, 2, 17, 2)
    assert clip.frames.std() > 1


def test_wrong_motions_are_explained():
    with pytest.raises(ValueError, match=r"unknown motion 'fly'; there are: idle, walk"):
        render_clip(1, frames=1, motions=["fly"])
    with pytest.raises(ValueError, match="1 motions for 2 people"):
        render_clip(1, frames=1, people=2, motions=["walk"])


def test_filming_gives_every_person_a_row():
    scene = Scene(2, look=EASY, empty=True)
    scene.cast(3)
    assert render_scene(scene, frames=2).keypoints.shape == (3, 2, 17, 2)
