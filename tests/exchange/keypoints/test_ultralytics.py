"""Ultralytics' labels."""

from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import read
from make_keypoints import SCORES

from epam_extract.errors import KeypointsError
from epam_extract.exchange.keypoints import open_keypoints


def test_yolo_labels_are_told_apart_whatever_was_saved(tmp_path: Path) -> None:
    for conf in (False, True):
        for seen in (False, True):
            for people in (False, True):
                folder = make.yolo(tmp_path / f"{conf}{seen}{people}", conf, people, seen)
                found = read(folder)
                wanted = SCORES if seen else np.float32(SCORES > 0)
                np.testing.assert_array_equal(found.keypoint_scores, wanted)


def test_a_yolo_joint_below_one_half_is_missing_and_a_line_counts_once(tmp_path: Path) -> None:
    labels = make.yolo(tmp_path)
    file = labels / "a_1.txt"
    columns = file.read_text().splitlines()[0].split()
    columns[5 + 2] = "0.49"  # what is left of a joint that Ultralytics has set to (0, 0) or not
    file.write_text(" ".join(columns) + "\n" + " ".join(columns) + "\n")
    found = read(labels)
    assert found.keypoint_scores.shape == SCORES.shape  # nobody was there twice
    assert found.keypoint_scores[0, 0, 0] == 0
    np.testing.assert_array_equal(found.keypoint_scores[0, 0, 1:], SCORES[0, 0, 1:])


def test_a_yolo_frame_without_people_has_no_file(tmp_path: Path) -> None:
    labels = make.yolo(tmp_path)
    (labels / "a_3.txt").unlink()
    found = read(labels)
    assert not found.keypoint_scores[:, 2].any()
    np.testing.assert_array_equal(found.keypoint_scores[:, 3:], SCORES[:, 3:])


def test_yolo_labels_of_boxes_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a_1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(KeypointsError, match=r"lines of 5 columns.*56 to 58"):
        open_keypoints(tmp_path)
