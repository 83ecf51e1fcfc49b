"""AlphaPose's and COCO's lists of people."""

import json
from pathlib import Path

import make_keypoints as make
import pytest
from keypoint_files import read
from make_keypoints import dump

from epam_extract.errors import KeypointsFailed


def test_alphaposes_scores_up_to_6_are_clipped(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [20, 30, 4.6] * 17, "score": 3}]
    found = read(dump(tmp_path / "a.json", people))
    assert (found.keypoint_scores[0, 0] == 1).all()


def test_coco_results_that_count_from_1_are_not_used_a_frame_late(tmp_path: Path) -> None:
    people = json.loads(make.coco_results(tmp_path).read_text())
    for person in people:
        person["image_id"] += 1
    with pytest.raises(KeypointsFailed, match=r"of 7 frames.* has 6; expected frames counted from"):
        read(dump(tmp_path / "a.json", people))
