"""The picture: windows that are spread over the video and show people."""

from __future__ import annotations

import numpy as np
import pytest
from walker import Walker, imaginary, scene_of

from epam_extract.records import Video
from epam_extract.report.preview.drawing import WINDOW
from epam_extract.report.preview.picture import chosen_windows, draw_sheet


def test_windows_are_spread_and_show_people() -> None:
    assert chosen_windows(imaginary(30 * 16)) == [3, 11, 18, 25]
    assert chosen_windows(imaginary(40)) == [0, 1, 2]
    assert chosen_windows(imaginary(1)) == [0]
    early = imaginary(30 * 16, absent=range(200, 480))
    assert chosen_windows(early) == [3, 10, 18, 25]  # row 11 sees them leave


@pytest.mark.slow
def test_sheet(video: Video) -> None:
    scene = scene_of(video, Walker(absent=range(20, 40)))
    sheet = draw_sheet(scene)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert (sheet == WINDOW).all(-1).sum() > 4 * 200  # boxes, and windows on the time line
    nobody = draw_sheet(scene_of(video, Walker(absent=range(70))))
    green = (sheet == (0, 255, 0)).all(-1).sum()
    legend = (nobody == (0, 255, 0)).all(-1).sum()
    assert green > legend + 100  # skeletons
