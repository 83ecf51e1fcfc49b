"""Curves, bones and likeness as they are drawn on the page."""

from __future__ import annotations

import numpy as np

from epam_extract.report.drawing import area_path, bone_paths, self_similarity


def test_similarity_is_the_cosine_of_what_rows_do_not_share() -> None:
    rows = np.array([[5.0, 5, 6], [5, 5, 4], [5, 5, 6]])
    expected = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    np.testing.assert_allclose(self_similarity(rows), expected, atol=1e-6)
    assert not self_similarity(np.ones((2, 3))).any()  # all the same: nothing to compare


def test_bones_without_both_ends_are_not_drawn() -> None:
    keypoints = np.arange(34, dtype=np.float32).reshape(1, 17, 2)
    scores = np.zeros((1, 17), np.float32)
    scores[0, [5, 7]] = 0.9
    assert bone_paths(keypoints, scores) == [("left", "M10 11L14 15")]
    scores[0, 9] = 0.1
    assert ("left faint", "M14 15L18 19") in bone_paths(keypoints, scores)
    assert bone_paths(keypoints[:0], scores[:0]) == []


def test_a_strip_is_as_high_as_its_values() -> None:
    path = area_path(np.array([1.0, 0.25]), np.array([0.0, 400, 1000]), height=40)
    assert path == "M0.0 40L0.0 0.0L400.0 0.0L400.0 30.0L1000.0 30.0L1000.0 40Z"
