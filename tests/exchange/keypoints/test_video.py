"""A video's people, piece by piece, in the pixels of its own frames."""

import json
from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read
from make_keypoints import FRAMES, HEIGHT, KEYPOINTS, SCORES, WIDTH, dump

from epam_extract.exchange.keypoints import open_keypoints
from epam_extract.records import FramePiece


def test_coordinates_are_scaled_from_the_annotations_picture_to_the_videos(tmp_path: Path) -> None:
    found = read(make.pyskl(tmp_path), height=HEIGHT * 2, width=WIDTH * 3)
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS * np.array([3, 2], np.float32))
    labels = read(make.yolo(tmp_path), height=HEIGHT * 2, width=WIDTH * 3)
    np.testing.assert_allclose(labels.keypoints, found.keypoints, atol=1e-3)


def test_shares_of_the_picture_are_told_from_pixels(tmp_path: Path) -> None:
    folder = make.openpose(tmp_path)
    for file in folder.iterdir():
        content = json.loads(file.read_text())
        for person in content["people"]:
            flat = np.array(person["pose_keypoints_2d"]).reshape(-1, 3) / [WIDTH, HEIGHT, 1]
            person["pose_keypoints_2d"] = flat.reshape(-1).tolist()
        dump(file, content)
    np.testing.assert_allclose(read(folder).keypoints, KEYPOINTS, atol=1e-4)


def test_a_picture_turned_by_90_degrees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BAD, match=r"96 x 64.*64 x 96.*turned"):
        read(make.pyskl(tmp_path), height=WIDTH, width=HEIGHT)


def test_pixels_of_a_larger_picture_are_refused_where_its_size_is_not_said(tmp_path: Path) -> None:
    people = [{"image_id": 0, "category_id": 1, "keypoints": [1500, 900, 0.9] * 17}]
    with pytest.raises(BAD, match=r"outside the picture of 96 x 64.*1500"):
        read(dump(tmp_path / "a.json", people))


def test_a_piece_has_its_own_frames_and_nobody_who_is_in_none(tmp_path: Path) -> None:
    source = open_keypoints(make.pyskl(tmp_path))
    video = source.open("a", height=HEIGHT, width=WIDTH)
    frames = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    piece = video.estimate(FramePiece(2, frames))
    np.testing.assert_array_equal(piece.keypoints, KEYPOINTS[:1, 2:4])
    piece = video.estimate(FramePiece(4, frames))
    np.testing.assert_array_equal(piece.keypoint_scores, SCORES[:, 4:])


def test_people_may_leave_before_the_video_ends(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [20, 30, 0.5] * 17}]
    path = dump(tmp_path / "a.json", people)
    video = open_keypoints(path).open("a", height=HEIGHT, width=WIDTH)
    frames = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    assert (video.estimate(FramePiece(0, frames)).keypoint_scores[0, 0] == 0.5).all()
    assert video.estimate(FramePiece(3, frames)).keypoints.shape == (0, 3, 17, 2)
    video.require(6)


def test_tracked_people_keep_their_row_and_leave_it_to_others(tmp_path: Path) -> None:
    # who is in frames 0..5; 9 and 5 change places in the list, 5 leaves for good, 7 comes
    present = [[9, 5], [5, 9], [9], [7, 9], [9, 7], [9]]
    people = [
        {"image_id": f"{t}.jpg", "keypoints": [10 + who, 20, 0.9] * 17, "idx": who}
        for t, here in enumerate(present)
        for who in here
    ]
    found = read(dump(tmp_path / "a.json", people))
    x = np.where(found.keypoint_scores[..., 0] > 0, found.keypoints[..., 0, 0] - 10, 0)
    rows = {tuple(row) for row in x.astype(int).tolist()}
    assert rows == {(9, 9, 9, 9, 9, 9), (5, 5, 0, 7, 7, 0)}


def test_the_same_number_twice_in_a_frame_is_two_people(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [x, 20, 0.9] * 17, "idx": 1} for x in (10, 40, 70)]
    found = read(dump(tmp_path / "a.json", people))
    assert sorted(found.keypoints[:, 0, 0, 0]) == [10, 40, 70]


def test_a_video_without_people_has_none(tmp_path: Path) -> None:
    for name, content in (("x", []), ("y", [[]] * FRAMES)):
        found = read(dump(tmp_path / name / "a.json", content))
        assert found.keypoints.shape == (0, FRAMES, 17, 2)
