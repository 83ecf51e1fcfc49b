"""Parts of videos: exactly the frames that begin in them, in every container."""

from pathlib import Path

import pytest
from make_videos import number_of, remux, write_video

from epam_extract.errors import ProbeError
from epam_extract.records import Segment
from epam_extract.video import OpenView
from epam_extract.video.decode import PyavDecoder
from epam_extract.video.memory import MemoryLimit


def numbers(path: Path, segment: Segment, **options: object) -> list[int]:
    with OpenView(path, "v", segment=segment, **options) as view:  # type: ignore[arg-type]
        read = [number_of(frame) for piece in view.frames() for frame in piece.images()]
        assert view.video is not None and view.video.num_frames == len(read)
        assert [number_of(f) for piece in view.again() for f in piece.images()] == read
        return read


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [(0, 10), (2, 2.4), (3.96, 7.48), (9.9, 10), (0.04, 0.08)])
def test_a_segment_has_the_frames_that_begin_in_it(
    clips: Path, bounds: tuple[float, float]
) -> None:
    first, stop = (round(second * 25) for second in bounds)
    assert numbers(clips / "sub" / "long.mp4", Segment(*bounds)) == list(range(first, stop))


MAKERS = {
    "mp4, B-frames": ("libx264", "v.mp4", {"g": "30", "bf": "3"}, {}),
    "mp4, open GOPs": ("libx264", "v.mp4", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}, {}),
    "mp4, intra refresh": ("libx264", "v.mp4", {"x264-params": "intra-refresh=1:keyint=20"}, {}),
    "mkv": ("libx264", "v.mkv", {"g": "24", "bf": "2"}, {}),
    "webm": ("libvpx-vp9", "v.webm", {"g": "24", "deadline": "realtime", "cpu-used": "8"}, {}),
    "avi": ("mpeg4", "v.avi", {"g": "12"}, {}),
    "MPEG-2 in mkv": ("mpeg2video", "v.mkv", {"g": "12", "bf": "2"}, {}),
    "MPEG-TS": ("libx264", "v.ts", {"g": "12"}, {}),
    "fragmented": ("libx264", "v.mp4", {"g": "12"}, {"movflags": "frag_keyframe+empty_moov"}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_seeking_is_exact_in_every_container(tmp_path: Path, name: str) -> None:
    codec, file, options, container = MAKERS[name]
    path = write_video(
        tmp_path / file, codec, frames=120, options=options, container_options=container
    )
    zero = 1.48 if name == "MPEG-TS" else 0.0
    with OpenView(path, "v") as view:
        zero = float(view.source.timestamps[0])
    for first, count in ((1, 3), (37, 30), (59, 1), (100, 20)):
        start = zero + first / 25
        found = numbers(path, Segment(start, start + count / 25))
        assert found == list(range(first, first + count))


def test_nothing_before_the_keyframe_is_decoded(clips: Path) -> None:
    path = clips / "sub" / "long.mp4"
    with OpenView(path, "v", segment=Segment(9, 9.5)) as view:
        choice = view._choice
    decoder = PyavDecoder(str(path), lambda: None, MemoryLimit(10**9))
    assert [number_of(frame) for frame in decoder.chosen(choice)] == list(range(225, 238))
    assert decoder._packets < 40  # of 250: the first, those of one GOP, and what is reordered
    decoder.close()


def test_a_video_that_does_not_start_at_zero_counts_by_its_own_clock(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", frames=60, options={"g": "10", "bf": "0"})
    late = remux(source, tmp_path / "late.mkv", shift=5.0)
    assert numbers(late, Segment(6, 6.4)) == list(range(25, 35))
    with pytest.raises(ProbeError, match=r"lies outside the video, which is from 5 to 7\.4 s"):
        numbers(late, Segment(1, 2))


def test_a_segment_that_cannot_be_done_says_why(clips: Path) -> None:
    path = clips / "short.mp4"
    with pytest.raises(ProbeError, match=r"from 3 to 4 s lies outside the video, which is from 0"):
        numbers(path, Segment(3, 4))
    with pytest.raises(ProbeError, match="shorter than a frame"):
        numbers(path, Segment(0.101, 0.11))
    with OpenView(path, "v", segment=Segment(0.4, 9)) as view:
        assert view._view.notes == ("its segment ends at 9 s, the video at 0.8 s",)


def test_decord_reads_segments_too(clips: Path) -> None:
    pytest.importorskip("decord")
    path = clips / "sub" / "long.mp4"
    assert numbers(path, Segment(3, 3.2), decoder="decord") == [75, 76, 77, 78, 79]
