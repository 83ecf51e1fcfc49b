"""Which frames a part or a regular time line of a video shows, and how they are read."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from make_videos import number_of, write_video
from stand_ins import StandInPose

from epam_extract.records import Segment, Video
from epam_extract.video import OpenView, find_videos, open_video
from epam_extract.video.views import view_of


def video(seconds: np.ndarray, fps: Fraction = Fraction(25)) -> Video:
    return Video("v", Path("v.mp4"), len(seconds), fps, 64, 96, seconds.astype(np.float64))


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(50)])
@pytest.mark.parametrize("rounded", [False, True])
def test_its_own_rate_shows_every_frame_once(rate: Fraction, rounded: bool) -> None:
    seconds = np.arange(1000) / float(rate)
    seconds = seconds.round(3) if rounded else seconds  # as mkv has them
    view, indices = view_of(video(seconds, rate), None, rate)
    np.testing.assert_array_equal(indices, np.arange(1000))
    assert view.fps == rate and view.num_frames == 1000


def test_each_moment_shows_the_frame_that_is_on_the_screen_then() -> None:
    seconds = np.array([0.0, 0.04, 0.5, 0.52, 1.0])  # a variable rate; the last stays for 40 ms
    view, indices = view_of(video(seconds), None, Fraction(10))
    np.testing.assert_array_equal(indices, [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4])
    np.testing.assert_allclose(view.timestamps, np.arange(11) / 10)
    assert view.duration == pytest.approx(1.1)
    late, indices = view_of(video(seconds + 5), Segment(5.3, 5.7), Fraction(10))
    np.testing.assert_array_equal(indices, [1, 1, 2, 3])
    np.testing.assert_allclose(late.timestamps, [5.3, 5.4, 5.5, 5.6])


def test_a_lower_rate_skips_and_a_higher_one_repeats() -> None:
    source = video(np.arange(50) / 25)
    assert view_of(source, None, Fraction(5))[1].tolist() == list(range(0, 50, 5))
    doubled = view_of(source, None, Fraction(50))[1]
    np.testing.assert_array_equal(doubled, np.repeat(np.arange(50), 2))
    assert view_of(video(np.zeros(1)), None, Fraction(1))[1].tolist() == [0]


@pytest.mark.slow
def test_pieces_hold_each_picture_once_and_show_it_as_often_as_needed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=40)
    with OpenView(path, "v", fps=Fraction(60)) as view:
        pieces = list(view.frames())
        assert [len(piece.frames) for piece in pieces] == [16, 16, 8]
        assert [piece.start for piece in pieces] == [0, *np.cumsum([len(p) for p in pieces])[:-1]]
        shown = [number_of(frame) for piece in pieces for frame in piece.images()]
        assert shown == view.indices.tolist() and len(shown) == 96
        assert [number_of(frame) for p in view.again() for frame in p.images()] == shown
        piece = pieces[1]
        assert [view.piece_start(piece.start + i, 16) for i in (0, 5, 20)] == [piece.start] * 3
        assert view.piece_start(piece.start - 1, 16) == 0
        (later, *_) = view.again()
        np.testing.assert_array_equal(later.frames, pieces[0].frames)
    with OpenView(path, "v", fps=Fraction(60)) as view:
        rest = list(view.frames(piece.start))
        assert [p.start for p in rest] == [p.start for p in pieces[1:]]
        np.testing.assert_array_equal(rest[0].frames, piece.frames)


def test_a_long_time_line_is_cut_as_it_comes(stand_ins: StandInPose, tmp_path: Path) -> None:
    """Windows are there long before the last frame is read."""
    path = write_video(tmp_path / "v.mp4", frames=400)
    order: list[str] = []
    with open_video(path, "v", fps=Fraction(50)) as opened:
        for piece in opened.frames():
            order.append(f"{piece.start}")
            assert piece.frames.nbytes == 16 * 96 * 64 * 3  # of 32 frames on the line
        assert opened.video is not None and opened.video.num_frames == 800
    assert len(order) == 25
    assert find_videos([path])[0].id == "v"


@pytest.mark.parametrize("part", [None, Segment(1.0, 3.0)])
def test_where_pictures_are_damaged_the_one_before_stays_on(
    tmp_path: Path, part: Segment | None
) -> None:
    path = write_video(tmp_path / "v.avi", "mjpeg", frames=100, pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    for number in (40, 41, 60):  # no picture any more, in packets that are still there
        data[starts[number] : starts[number + 1] - 16] = bytes(
            starts[number + 1] - 16 - starts[number]
        )
    path.write_bytes(data)
    with open_video(path, "v", segment=part, fps=Fraction(25)) as opened:
        shown = [number_of(frame) for piece in opened.frames() for frame in piece.images()]
        expected = [{40: 39, 41: 39, 60: 59}.get(i, i) for i in range(100)]
        assert shown == (expected if part is None else expected[25:75])
        assert opened.video is not None
        assert opened.video.notes[-1] == "damaged: 3 of its frames do not decode"
