"""COCO's annotation files: a directory of pictures is a video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keypoint_files import BAD, track
from make_keypoints import HEIGHT, WIDTH, dump

from epam_extract.exchange.keypoints import open_keypoints


def person(image: int, x: float, **more: object) -> dict[str, Any]:
    return {"image_id": image, "keypoints": [x, 20.0, 2] * 17, **more}


def picture(number: int, name: str) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}


def test_directories_are_videos_with_frames_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    content = {
        "images": [picture(1, "a/f_10.jpg"), picture(2, "a/f_9.jpg"), picture(3, "b\\f_1.jpg")],
        "annotations": [person(1, 30), person(2, 20), person(3, 40)],
    }
    source = open_keypoints(dump(tmp_path / "c.json", content))
    assert sorted(source.names) == ["a", "b"]
    first = track(source, "a", num_frames=2)
    assert first.keypoints[0, :, 0, 0].tolist() == [20, 30]
    assert track(open_keypoints(tmp_path / "c.json"), "b", num_frames=1).keypoints[0, 0, 0, 0] == 40


def test_tracks_join_people_over_frames_and_frames_without_people_count(tmp_path: Path) -> None:
    content = {
        "images": [picture(number, f"f_{number}.jpg") for number in range(4)],
        "annotations": [
            person(0, 10, track_id=7),
            person(0, 50, track_id=8),
            person(2, 51, track_id=8),
            {"image_id": 2, "bbox": [0, 0, 1, 1]},  # an object, not a person
        ],
    }
    found = track(open_keypoints(dump(tmp_path / "v.json", content)), "v", num_frames=4)
    seen = found.keypoint_scores[..., 0] > 0
    assert seen.tolist() == [[True, False, False, False], [True, False, True, False]]
    np.testing.assert_array_equal(found.keypoints[1, [0, 2], 0, 0], [50, 51])


def test_an_annotation_without_its_picture_is_refused(tmp_path: Path) -> None:
    content = {"images": [{"id": 1}], "annotations": []}
    with pytest.raises(BAD, match="file_name"):
        open_keypoints(dump(tmp_path / "v.json", content))
