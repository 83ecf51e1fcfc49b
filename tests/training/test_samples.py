"""The sample videos are what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np

from sample_videos.training import samples

CHECKOUT = Path(__file__).parents[2]

SAMPLES = CHECKOUT / "sample_videos"


def test_sample_videos_are_small_and_their_truth_fits():
    plans = {plan.name: plan for plan in samples.PLANS}
    videos = sorted(SAMPLES.glob("*.mp4"))
    assert {path.stem for path in videos} == set(plans)
    assert sum(path.stat().st_size for path in videos) < 1_000_000
    for path in videos:
        with av.open(str(path)) as container:
            frames = [(f.height, f.width) for f in container.decode(video=0)]
        with np.load(path.with_suffix(".npz")) as truth:
            assert str(truth["frame_dir"]) == path.stem
            assert int(truth["total_frames"]) == len(frames) == plans[path.stem].seconds * 25
            assert tuple(truth["img_shape"]) == frames[0]
            assert truth["keypoint"].shape == (len(plans[path.stem].actors), len(frames), 17, 2)
            assert truth["keypoint_score"].shape == truth["keypoint"].shape[:3]


def test_segments_lie_in_their_video():
    content = json.loads((SAMPLES / "segments.json").read_text())
    assert content == json.loads(json.dumps(samples.activitynet(samples.PLANS)))
    (video,) = content["database"].values()
    ends = [0.0]
    for annotation in video["annotations"]:
        start, end = annotation["segment"]
        assert ends[-1] < start < end <= video["duration"]  # with a pause before each
        ends.append(end)
    assert len(ends) > 4


def test_samples_can_be_made_again():
    """The first frame's truth of the shortest clip is what the file says."""
    plan = next(plan for plan in samples.PLANS if plan.name == "workout")
    short = samples.Plan(plan.name, 0.04, plan.room, plan.actors, plan.things)
    clip = samples.film(short)
    with np.load(SAMPLES / "workout.npz") as truth:
        np.testing.assert_allclose(truth["keypoint"][:, :1], clip.keypoints, atol=0.1)
