"""Skeletons and the box, on the frame they belong to."""

from __future__ import annotations

import numpy as np

from epam_extract.report.preview.drawing import WINDOW, blank
from epam_extract.report.preview.skeletons import people_panel, put_skeletons


def test_skeletons_by_score() -> None:
    joints = np.random.default_rng(1).uniform(20, 80, (1, 17, 2)).astype(np.float32)
    drawn = {}
    for score in (0.0, 0.1, 1.0):
        panel = blank(100, 100, (0, 0, 0))
        put_skeletons(panel, joints, np.full((1, 17), score, np.float32))
        drawn[score] = panel.max()
    assert drawn[0.0] == 0
    assert 80 < drawn[0.1] < 110  # faint
    assert drawn[1.0] == 255


def test_panel_keeps_the_frame_and_puts_the_box_where_it_belongs() -> None:
    frame = blank(200, 400, (10, 20, 30))
    nobody = np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32)
    panel = people_panel(frame, *nobody, height=100, width=200, box=(100, 50, 300, 150))
    rows, columns = np.nonzero((panel == WINDOW).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 25, 149, 74)
    assert (panel[50, 100] == (10, 20, 30)).all()
    outside = np.full((1, 17, 2), -50, np.float32), np.ones((1, 17), np.float32)
    people_panel(frame, *outside, height=100, width=200)
