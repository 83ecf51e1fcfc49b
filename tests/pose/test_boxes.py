"""Boxes of the frames between two detections, and on which frames to detect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from epam_extract.pose.boxes import Boxes, fill_between, fill_where_needed, match


def boxes_of(*rows: tuple[float, ...]) -> Boxes:
    table = np.array(rows, np.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])


def test_boxes_move_on_a_line_between_detections() -> None:
    found = {0: boxes_of((0, 0, 10, 20, 0.9)), 4: boxes_of((4, 0, 14, 24, 0.5))}
    filled = fill_between(found, 5)
    np.testing.assert_allclose(filled[1].boxes, [[1, 0, 11, 21]])
    np.testing.assert_allclose(filled[3].boxes, [[3, 0, 13, 23]])
    np.testing.assert_allclose([here.scores[0] for here in filled], [0.9, 0.8, 0.7, 0.6, 0.5])


def test_people_who_come_or_go_are_there_in_the_nearer_half() -> None:
    found = {0: boxes_of((0, 0, 10, 10, 0.5)), 4: boxes_of((90, 0, 99, 9, 0.9))}
    filled = fill_between(found, 5)
    assert [here.boxes[0, 0] for here in filled] == [0, 0, 0, 90, 90]
    filled = fill_between({0: boxes_of(), 4: boxes_of((0, 0, 9, 9, 0.9))}, 5)
    assert [len(here.scores) for here in filled] == [0, 0, 0, 1, 1]
    assert [len(h.scores) for h in fill_between({0: boxes_of(), 2: boxes_of()}, 3)] == [0, 0, 0]


def test_the_largest_overlap_is_the_same_person() -> None:
    first = np.array([[0, 0, 10, 10], [8, 0, 18, 10], [50, 50, 60, 60]], np.float64)
    second = np.array([[9, 0, 19, 10], [1, 0, 11, 10], [80, 80, 90, 90]], np.float64)
    assert sorted(match(first, second)) == [(0, 1), (1, 0)]


def test_fill_between_needs_both_ends() -> None:
    with pytest.raises(ValueError, match="frames 0 and 7"):
        fill_between({0: boxes_of(), 4: boxes_of()}, 8)


def where_needed(boxes: list[list[tuple[float, ...]]]) -> tuple[list[int], list[Boxes]]:
    """On which frames ``auto`` looks, and the boxes that it has of all."""
    looked: list[int] = []

    def detect(frames: Sequence[int]) -> list[Boxes]:
        looked.extend(frames)
        return [Boxes(np.array(boxes[i]).reshape(-1, 4), np.ones(len(boxes[i]))) for i in frames]

    found = fill_where_needed(detect, len(boxes))
    assert len(looked) == len(set(looked))
    return sorted(looked), found


def test_auto_detects_where_a_straight_line_does_not_do() -> None:
    steady = [[(10 + i, 10, 60 + i, 110)] for i in range(16)]
    looked, found = where_needed(steady)
    assert looked == [0, 7, 15]
    np.testing.assert_allclose([f.boxes[0] for f in found], [f[0] for f in steady])
    jumps = [[(10 + 300 * (i > 4), 10, 60 + 300 * (i > 4), 110)] for i in range(16)]
    looked, found = where_needed(jumps)  # a cut
    assert looked == [0, 1, 3, 5, 7, 11, 15]
    np.testing.assert_allclose([f.boxes[0] for f in found[5:]], [f[0] for f in jumps[5:]])
    comes = [steady[i] + ([(200, 10, 250, 110)] if i > 9 else []) for i in range(16)]
    looked, found = where_needed(comes)
    assert looked == [0, 3, 7, 9, 11, 13, 15]
    assert [len(f.boxes) for f in found] == [1] * 10 + [1] + [2] * 5  # at most one frame late


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_auto_takes_pieces_of_any_length(frames: int) -> None:
    looked, found = where_needed([[]] * frames)
    assert looked[0] == 0 and looked[-1] == frames - 1 and len(found) == frames


def test_auto_forgives_more_where_detections_are_close() -> None:
    def looked(off: float) -> list[int]:
        """Frames looked at when a box, 100 px high, is ``off`` px above its line in the middles."""
        high = {7: off, 3: off, 11: off}
        boxes = [[(10.0, 10 - high.get(i, 0), 60.0, 110 - high.get(i, 0))] for i in range(16)]
        return where_needed(boxes)[0]

    assert looked(1) == [0, 7, 15]
    assert looked(3) == [0, 3, 7, 11, 15]
    assert looked(40) == [0, 1, 3, 5, 7, 9, 11, 13, 15]
