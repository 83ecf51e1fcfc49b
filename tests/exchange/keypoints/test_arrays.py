"""``.npz`` files as people write them by hand."""

from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read
from make_keypoints import FRAMES, KEYPOINTS, SCORES


def test_joints_in_metres_are_no_joints_with_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", keypoints=rng.uniform(0.5, 3, (FRAMES, 17, 3)))
    with pytest.raises(BAD, match="3-D"):
        read(tmp_path / "a.npz")


def test_one_person_with_scores_in_the_third_column_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints=make.JOINTS[0])
    found = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS[:1])
    np.testing.assert_array_equal(found.keypoint_scores, SCORES[:1])


def test_joints_without_any_score_have_1_where_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints=KEYPOINTS)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").keypoint_scores, SCORES > 0)
