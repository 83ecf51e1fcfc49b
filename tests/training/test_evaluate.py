"""Figures of a model, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sample_videos.training.evaluate import Found, Tally, match
from sample_videos.training.scenes import Person


def person(box: list[float], *, usable: bool = True) -> Person:
    x0, y0, x1, y1 = box
    grid = np.stack([np.linspace(x0, x1, 17), np.linspace(y0, y1, 17)], 1).astype(np.float32)
    return Person(grid, np.full(17, 2, np.int8), np.array(box, np.float32), 500, usable)


def test_tally_counts_found_wrong_and_near():
    people = [person([0, 0, 40, 100]), person([100, 0, 140, 100])]
    boxes = np.array([[0, 0, 40, 100], [250, 0, 290, 100]], np.float32)
    keypoints = np.stack([people[0].keypoints + 1, people[1].keypoints])
    tally = Tally()
    tally.add(people, Found(boxes, keypoints, np.ones((2, 17), np.float32)))
    figures = tally.figures()
    assert (figures["recall"], figures["false_a_frame"], figures["pck"]) == (0.5, 1.0, 1.0)
    tally.add(
        [person([250, 0, 290, 100], usable=False)],
        Found(boxes[1:], keypoints[1:], np.ones((1, 17), np.float32)),
    )
    assert tally.wrong == 1  # a person too hidden to be asked for is no mistake


def test_score_error_is_how_far_scores_are_from_the_share_that_is_right():
    truth = person([0, 0, 40, 100])
    keypoints = truth.keypoints.copy()
    keypoints[:5] += 500
    scores = np.full(17, 0.95, np.float32)
    scores[:5] = 0.25
    tally = Tally()
    tally.add([truth], Found(truth.box[None], keypoints[None], scores[None]))
    assert tally.figures()["score_error"] == pytest.approx((12 * 0.05 + 5 * 0.25) / 17, abs=1e-4)


def test_match_uses_each_box_once():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    assert match(boxes[:1], boxes) == [(0, 0)]
    assert match(boxes, boxes[:1]) == [(0, 0)]
    assert match(boxes, np.zeros((0, 4), np.float32)) == []
