"""Records refuse what does not fit them, and print shapes instead of pixels."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epam_extract.records import (
    Clip,
    ClipBatch,
    FeatureBatch,
    FramePiece,
    PoseTrack,
    RemoteFile,
    Segment,
    Video,
    concatenate,
    file_stamp,
    readable,
)


def track(people: int, frames: int, value: float = 0.0) -> PoseTrack:
    keypoints = np.full((people, frames, 17, 2), value, np.float32)
    return PoseTrack(keypoints, np.full((people, frames, 17), 0.5, np.float32))


def clip(**changes: object) -> Clip:
    fields: dict[str, Any] = {
        "video_id": "v",
        "window": 3,
        "frames": np.arange(48),
        "rgb": np.zeros((16, 224, 224, 3), np.uint8),
        "keypoints": np.zeros((2, 48, 17, 2), np.float32),
        "keypoint_scores": np.zeros((2, 48, 17), np.float32),
        "box": (0, 0, 96, 64),
        "person": 1.0,
    }
    return Clip(**{**fields, **changes})


def video(timestamps: np.ndarray) -> Video:
    return Video("v", Path("v.mp4"), 10, Fraction(25), 64, 96, timestamps)


@pytest.mark.parametrize(
    ("frames", "got"),
    [
        (np.zeros((16, 64, 96), np.uint8), r"got \(16, 64, 96\) uint8"),
        (np.zeros((16, 64, 96, 4), np.uint8), r"got \(16, 64, 96, 4\) uint8"),
        (np.zeros((16, 64, 96, 3), np.float32), r"got \(16, 64, 96, 3\) float32"),
    ],
)
def test_a_piece_holds_rgb_bytes(frames: np.ndarray, got: str) -> None:
    with pytest.raises(ValueError, match=rf"frames: expected \(any, any, any, 3\) uint8, {got}"):
        FramePiece(0, frames)


@pytest.mark.parametrize(
    ("keypoints", "scores", "name"),
    [
        ((2, 5, 17, 2), (2, 5, 18), "keypoint_scores"),
        ((2, 5, 17, 3), (2, 5, 17), "keypoints"),
        ((1, 5, 17, 2), (2, 5, 17), "keypoints"),
        ((2, 4, 17, 2), (2, 5, 17), "keypoints"),
    ],
)
def test_keypoints_and_scores_are_of_the_same_people_and_frames(
    keypoints: tuple[int, ...], scores: tuple[int, ...], name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: expected \(2, 5, 17"):
        PoseTrack(np.zeros(keypoints, np.float32), np.zeros(scores, np.float32))


def test_keypoints_are_float32() -> None:
    with pytest.raises(ValueError, match=r"keypoints: expected .* float32, got .* float64"):
        PoseTrack(np.zeros((1, 5, 17, 2)), np.zeros((1, 5, 17), np.float32))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"frames": np.arange(16)}, "frames"),
        ({"frames": np.arange(48, dtype=np.int32)}, "frames"),
        ({"rgb": np.zeros((48, 224, 224, 3), np.uint8)}, "rgb"),
        ({"rgb": np.zeros((16, 224, 224, 3), np.float32)}, "rgb"),
        ({"keypoints": np.zeros((2, 16, 17, 2), np.float32)}, "keypoints"),
        ({"keypoint_scores": np.zeros((1, 48, 17), np.float32)}, "keypoint_scores"),
    ],
)
def test_a_clip_is_what_the_network_takes(changes: dict[str, object], name: str) -> None:
    assert clip().window == 3
    with pytest.raises(ValueError, match=f"^{name}: expected "):
        clip(**changes)


@pytest.mark.parametrize("timestamps", [np.zeros(9), np.zeros((10, 1)), np.zeros(10, np.float32)])
def test_a_video_has_a_time_for_each_frame(timestamps: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"timestamps: expected \(10\) float64, got"):
        video(timestamps)


def test_a_video_lasts_until_its_last_frame_ends() -> None:
    assert video(np.arange(10) / 25 + 3).duration == pytest.approx(0.4)


def test_printing_a_record_prints_shapes() -> None:
    batch = ClipBatch(
        (clip().row,),
        np.zeros((1, 16, 224, 224, 3), np.uint8),
        np.zeros((1, 2, 48, 17, 2), np.float32),
        np.zeros((1, 2, 48, 17), np.float32),
    )
    features = FeatureBatch(batch.rows, {"rgb_pooled": np.zeros((1, 432), np.float32)})
    shown = {
        "FramePiece(start=16, frames=(2, 64, 96, 3))": FramePiece(
            16, np.zeros((2, 64, 96, 3), np.uint8)
        ),
        "PoseTrack(2 people, 5 frames)": track(2, 5),
        "Clip('v', window 3, 2 people)": clip(),
        "ClipBatch(1 clips, rgb=(1, 16, 224, 224, 3))": batch,
        "FeatureBatch({'rgb_pooled': (1, 432)})": features,
    }
    assert [repr(record) for record in shown.values()] == list(shown)
    assert "timestamps" not in repr(video(np.arange(10.0)))


def test_a_remote_files_secrets_are_not_printed() -> None:
    file = RemoteFile("s3://b/a.mp4", 1, 2, source="s3://key:secret@b", path="b/a.mp4?sig=secret")
    assert "secret" not in f"{file} {file!r}"
    assert str(file) == "s3://b/a.mp4"


def test_a_segment_names_itself_in_milliseconds() -> None:
    part, whole = Segment(1.2, 3.4567, "wave"), Segment(label="wave")
    assert not part.whole and whole.whole
    assert not Segment(1.0, math.inf).whole
    assert part.id_in("a/v") == "a/v/1200-3457"
    assert part.video_of("a/v/1200-3457") == "a/v"
    assert whole.id_in("a/v") == whole.video_of("a/v") == "a/v"


def test_pictures_of_a_piece_are_shown_as_often_as_the_time_line_says() -> None:
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    plain = FramePiece(16, frames)
    assert len(plain) == 3 and plain.places().tolist() == [16, 17, 18]
    assert plain.spread(track(1, 3)).keypoints.shape[1] == 3
    repeated = FramePiece(16, frames, np.array([0, 0, 1, 2, 2]))
    assert len(repeated) == 5
    assert [int(image[0, 0, 0]) for image in repeated.images()] == [0, 0, 1, 2, 2]
    assert repeated.places().tolist() == [16, 18, 19]
    seen = PoseTrack(
        np.arange(3, dtype=np.float32)[None, :, None, None] * np.ones((1, 1, 17, 2), np.float32),
        np.ones((1, 3, 17), np.float32),
    )
    assert repeated.spread(seen).keypoints[0, :, 0, 0].tolist() == [0, 0, 1, 2, 2]


def test_tracks_are_joined_along_time() -> None:
    joined = concatenate([track(1, 3, 1.0), track(0, 2), track(2, 4, 2.0)])
    assert joined.keypoints.shape == (2, 9, 17, 2)
    assert joined.keypoints[0, :, 0, 0].tolist() == [1, 1, 1, 0, 0, 2, 2, 2, 2]
    assert joined.keypoint_scores[1, :, 0].tolist() == [0] * 5 + [0.5] * 4
    assert concatenate([]).keypoints.shape == (0, 0, 17, 2)


def test_a_stamp_is_size_and_time_of_change(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"12345")
    os.utime(path, ns=(7, 1_234_567_891))
    assert file_stamp(path) == (5, 1_234_567_891)
    os.utime(tmp_path, ns=(7, 99))
    assert file_stamp(tmp_path) == (0, 99)
    with pytest.raises(FileNotFoundError):
        file_stamp(tmp_path / "gone")


def test_names_that_are_not_utf8_are_escaped() -> None:
    assert readable("männ") == "männ"
    assert readable(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert readable("a\0b") == "a\\x00b"
