"""Clips: the box, the crop and the keypoints in it, equal to the original's pipeline."""

import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from epam_extract.clips import (
    WindowCutter,
    WindowFrames,
    collate,
    grown_box,
    person_box,
    tight_box,
    to_heatmap_pixels,
    union_boxes,
)
from epam_extract.config import PIECE_FRAMES, WindowConfig
from epam_extract.heatmaps import render_heatmaps
from epam_extract.records import FramePiece, PoseTrack
from epam_extract.windows import plan_windows, uniform_window

REFERENCE = Path(__file__).parent / "data" / "preprocess.npz"
CASES = ("one_person", "two_missing_nan", "short_20_frames")


def track(frames: int, *, people: int = 1, seed: int = 0) -> PoseTrack:
    rng = np.random.default_rng(seed)
    keypoints = rng.uniform((40, 30), (120, 110), (people, frames, 17, 2)).astype(np.float32)
    return PoseTrack(keypoints, rng.uniform(0.3, 1, (people, frames, 17)).astype(np.float32))


FRAMES = np.arange(48)


def cut_all(cutter: WindowCutter, pairs) -> list[WindowFrames]:
    return [cut for pair in pairs for cut in cutter.add(*pair)] + cutter.finish()


def pieces(num_frames: int, whole: PoseTrack, *, start: int = 0):
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 255, (num_frames, 120, 160, 3), np.uint8)
    for at in range(start, num_frames, PIECE_FRAMES):
        where = slice(at, min(at + PIECE_FRAMES, num_frames))
        part = PoseTrack(whole.keypoints[:, where], whole.keypoint_scores[:, where])
        yield FramePiece(at, frames[where]), part


@pytest.mark.parametrize("case", CASES)
def test_box_and_heatmaps_equal_the_original(case: str) -> None:
    with np.load(REFERENCE) as reference:
        keypoints, scores, (height, width), box, expected = (
            reference[f"{case}/{name}"] for name in ("keypoints", "scores", "hw", "box", "heatmaps")
        )
    window = uniform_window(keypoints.shape[1])
    sampled = keypoints[:, window]
    assert person_box(sampled, height, width) == tuple(box)
    moved = to_heatmap_pixels(np.nan_to_num(sampled), tuple(box))
    drawn = render_heatmaps(
        torch.from_numpy(moved)[None], torch.from_numpy(scores[:, window])[None]
    )
    np.testing.assert_allclose(drawn[0].numpy(), expected.astype(np.float32), atol=5e-4)


@pytest.mark.parametrize(
    "keypoints",
    [
        pytest.param(np.zeros((0, 48, 17, 2), np.float32), id="nobody"),
        pytest.param(np.zeros((1, 48, 17, 2), np.float32), id="all missing"),
        pytest.param(np.full((1, 48, 17, 2), np.nan, np.float32), id="all NaN"),
        pytest.param(np.full((1, 48, 17, 2), 50, np.float32), id="under 10 pixels"),
        pytest.param(np.full((1, 48, 17, 2), 5000, np.float32), id="outside the picture"),
    ],
)
def test_box_is_the_whole_picture_where_there_is_none(keypoints: np.ndarray) -> None:
    assert person_box(keypoints, 240, 320) == (0, 0, 320, 240)


def test_union_of_tight_boxes_is_the_box_of_all() -> None:
    whole = track(64, people=2)
    parts = [tight_box(whole.keypoints[:, i : i + 16]) for i in range(0, 64, 16)]
    box = grown_box(union_boxes(parts), 120, 160)
    assert box == person_box(whole.keypoints, 120, 160)


def test_rgb_is_cropped_to_the_box_and_resized_with_opencv_bilinear() -> None:
    whole = track(48)
    frames = tuple(
        np.random.default_rng(i).integers(0, 255, (120, 160, 3), np.uint8) for i in range(16)
    )
    clip = WindowFrames("v", 0, FRAMES, frames, whole, None).clip()
    x1, y1, x2, y2 = clip.box
    assert clip.box == person_box(whole.keypoints, 120, 160)
    expected = cv2.resize(frames[5][y1:y2, x1:x2], (224, 224), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(clip.rgb[5], expected)
    assert clip.person == 1.0


def test_video_box_crops_rgb_while_heatmaps_keep_the_window_box() -> None:
    whole = track(48)
    frames = tuple(np.zeros((120, 160, 3), np.uint8) for _ in range(16))
    own = WindowFrames("v", 0, FRAMES, frames, whole, None).clip()
    fixed = WindowFrames("v", 0, FRAMES, frames, whole, (0, 0, 160, 120)).clip()
    assert fixed.box == (0, 0, 160, 120) != own.box
    np.testing.assert_array_equal(fixed.keypoints, own.keypoints)


@pytest.mark.parametrize("num_frames", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("config", [WindowConfig(stride=7), WindowConfig(grid="single")])
def test_windows_are_cut_from_pieces_as_from_the_whole(
    num_frames: int, config: WindowConfig
) -> None:
    whole = track(num_frames, people=2)
    windows = plan_windows(num_frames, config)
    all_frames = np.concatenate([piece.frames for piece, _ in pieces(num_frames, whole)])
    cutters = [WindowCutter("v", config, windows=windows)]
    if config.grid != "single":  # its end is found by itself
        cutters.append(WindowCutter("v", config))
    for cutter in cutters:
        cuts = cut_all(cutter, pieces(num_frames, whole))
        assert [cut.window for cut in cuts] == list(range(len(windows)))
        for cut, window in zip(cuts, windows, strict=True):
            np.testing.assert_array_equal(cut.indices, window)
            np.testing.assert_array_equal(np.stack(cut.frames), all_frames[window[::3]])
            np.testing.assert_array_equal(cut.track.keypoints, whole.keypoints[:, window])


def test_cutting_from_the_middle_gives_the_same_clips() -> None:
    whole = track(160)
    windows = plan_windows(160, WindowConfig())
    everything = cut_all(WindowCutter("v", WindowConfig()), pieces(160, whole))
    start = windows[6:].min() // PIECE_FRAMES * PIECE_FRAMES
    later = cut_all(WindowCutter("v", WindowConfig(), first=6), pieces(160, whole, start=start))
    for again, cut in zip(later, everything[6:], strict=True):
        assert again.window == cut.window
        np.testing.assert_array_equal(again.clip().rgb, cut.clip().rgb)
        np.testing.assert_array_equal(again.clip().keypoints, cut.clip().keypoints)


def test_no_people_give_an_empty_clip_that_says_so() -> None:
    nobody = PoseTrack(np.zeros((0, 48, 17, 2), np.float32), np.zeros((0, 48, 17), np.float32))
    frames = (np.full((120, 160, 3), 9, np.uint8),) * 16
    clip = WindowFrames("v", 0, FRAMES, frames, nobody, None).clip()
    assert clip.person == 0.0 and clip.box == (0, 0, 160, 120)
    assert (clip.rgb == 9).all()


def test_collate_pads_clips_and_people_to_one_shape() -> None:
    frames = (np.full((120, 160, 3), 9, np.uint8),) * 16
    clips = [
        WindowFrames("v", i, FRAMES, frames, track(48, people=i), None).clip() for i in range(3)
    ]
    batch = collate(clips, 4)
    assert batch.rgb.shape == (4, 16, 224, 224, 3)
    assert batch.keypoints.shape == (4, 2, 48, 17, 2)
    assert not batch.keypoint_scores[0].any() and not batch.keypoint_scores[1, 1].any()
    np.testing.assert_array_equal(batch.keypoints[2], clips[2].keypoints)


def test_a_batch_does_not_keep_the_pixels_of_its_clips() -> None:
    frames = (np.full((120, 160, 3), 9, np.uint8),) * 16
    clip = WindowFrames("v", 7, FRAMES, frames, track(48), None).clip()
    pixels, expected = weakref.ref(clip.rgb), clip.row
    batch = collate([clip], 1)
    del clip
    assert pixels() is None
    assert batch.rows == (expected,)
    assert (expected.video_id, expected.window, expected.person) == ("v", 7, 1.0)
