"""What previews show is what the network gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from walker import GRIDS, Walker, imaginary, scene_of

from epam_extract.clips import WindowCutter, grown_box, seen_in, tight_box
from epam_extract.config import RGB_STEP
from epam_extract.heatmaps import render_heatmaps
from epam_extract.records import Video
from epam_extract.report.preview.skeletons import cropped
from epam_extract.video import read_frames


@pytest.mark.slow
@pytest.mark.parametrize("options", GRIDS, ids=str)
def test_crops_and_heatmaps_are_those_of_the_clips(video: Video, options: dict) -> None:
    pose = Walker(people=2)
    scene = scene_of(video, pose, **options)
    most = options.get("max_persons")
    box = None
    if options.get("crop") == "video":
        box = grown_box(tight_box(scene.track.keypoints), video.height, video.width)
    by_video = most if box else None
    pieces = [
        (piece, seen_in(pose.estimate(piece), np.arange(len(piece.frames)), by_video))
        for piece in read_frames(video)
    ]
    frames = np.concatenate([piece.frames for piece, _ in pieces])
    rows = 0
    cutter = WindowCutter(
        "walker", scene.config.windows, windows=scene.windows, video_box=box, max_persons=most
    )
    for pair in pieces:
        for cut in cutter.add(*pair):
            clip, row = cut.clip(), cut.window
            rows += 1
            assert scene.rgb_box(row) == clip.box
            assert scene.person[row] == pytest.approx(clip.person)
            for position, index in enumerate(scene.windows[row, ::RGB_STEP]):
                shown = cropped(frames[index], scene.rgb_box(row), 224)
                np.testing.assert_array_equal(shown, clip.rgb[position])
            drawn = render_heatmaps(
                torch.from_numpy(clip.keypoints)[None], torch.from_numpy(clip.keypoint_scores)[None]
            )
            np.testing.assert_array_equal(scene.heatmaps(row), drawn[0].numpy())
            some = np.array([7, 30])
            np.testing.assert_array_equal(scene.heatmaps(row, some), drawn[0, :, some].numpy())
    assert rows == len(scene.windows)


def test_the_window_shown_is_the_nearest() -> None:
    scene = imaginary(100)
    assert [scene.row_at(i) for i in (0, 15, 16, 95, 96, 99)] == [0, 0, 1, 5, 6, 6]
    assert imaginary(100, grid="single").row_at(99) == 0
    valid = imaginary(100, grid="valid")  # centres 23.5, 39.5, 55.5, 71.5
    assert [valid.row_at(i) for i in (0, 30, 32, 99)] == [0, 0, 1, 3]
