"""``--segments``: parts of videos, each as if it were a trimmed video of its own."""

import base64
import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_videos import number_of, remux, write_video
from stand_ins import POOLED, StandInPose, StopAfter, assert_same

from epam_extract.cli.info_table import info_report
from epam_extract.cluster.shards import PlanDraft
from epam_extract.config import WindowConfig
from epam_extract.errors import ConfigError, ProbeError
from epam_extract.exchange import export_features
from epam_extract.exchange.labels import stored_labels
from epam_extract.exchange.segments import NamedSegment, find_segments, read_segments
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.records import Segment
from epam_extract.report.details import add_pictures, describe_video
from epam_extract.report.summary import summarise
from epam_extract.store import FeatureStore
from epam_extract.store.describe import describe
from epam_extract.store.verify import verify
from epam_extract.video import FoundVideo, OpenView
from epam_extract.video.decode import PyavDecoder
from epam_extract.video.memory import Room


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sub/long``: 250 frames at 25 a second, a keyframe every 25; ``short``: 20 frames."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "sub").mkdir()
    write_video(folder / "sub" / "long.mp4", frames=250, options={"g": "25", "bf": "2"})
    write_video(folder / "short.mp4", frames=20)
    return folder


class Listening(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


# -- the file of segments -----------------------------------------------------------------------

ACTIVITYNET = {
    "database": {
        "long": {"annotations": [{"segment": [1, 2.5], "label": "wave  twice"}]},
        "short": {"annotations": [{"segment": [0, 0.5], "label": 3}]},
        "quiet": {"duration": 3},
    }
}
FORMS = {
    "csv": "long,1,2.5,wave twice\nshort,0:00,0.5,3\n",
    "csv with header": "# ours\nvideo,subset,start,end,label\nlong,train,00:00:01,2.5,wave twice\n"
    "short,train,0,0:00:0.5,3\n",
    "activitynet": json.dumps(ACTIVITYNET),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_says_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / "segments"
    path.write_text(FORMS[form])
    expected = [("long", Segment(1.0, 2.5, "wave twice")), ("short", Segment(0.0, 0.5, "3"))]
    assert [(one.video, one.segment) for one in read_segments(path)] == expected


def test_thumos_and_mmaction_files(tmp_path: Path) -> None:
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "CliffDiving_val.txt").write_text("video_1  72.80 76.40\nvideo_2  1.0 2.0\n")
    (folder / "Ambiguous_val.txt").write_text("video_1  1.0 2.0\n")
    (folder / "detclasslist.txt").write_text("7 BaseballPitch\n9 BasketballDunk\n")
    found = read_segments(folder)
    assert [str(one) for one in found] == ["video_1, 72.8 to 76.4 s", "video_2, 1 to 2 s"]
    assert {one.segment.label for one in found} == {"CliffDiving"}
    (one,) = read_segments(_written(tmp_path / "one.txt", "video_1  72.80 76.40\n"))
    assert one.segment == Segment(72.8, 76.4)
    text = "some class/a b.mp4 12\nc.avi 1\n"
    listed = read_segments(_written(tmp_path / "list.txt", text))
    assert [one.video for one in listed] == ["some class/a b.mp4", "c.avi"]
    assert all(one.segment.whole for one in listed) and listed[0].segment.label == "12"


def _written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD = {
    "empty": (b"", "holds no segment"),
    "only comments": (b"# nothing\n\n", "holds no segment"),
    "binary": (b"\x89PNG\xff\xfe\x00", "no UTF-8 text"),
    "no database": (b'{"videos": []}', "no 'database'"),
    "a list": (b"[1, 2]", "no 'database'"),
    "broken json": (b'{"database": ', "Expecting value"),
    "deep json": (b"[" * 100_000, "nested too deeply"),
    "no segment": (b'{"database": {"a": {"annotations": [{"label": "x"}]}}}', "segment"),
    "three times": (b'{"database": {"a": {"annotations": [{"segment": [1, 2, 3]}]}}}', "unpack"),
    "text times": (b'{"database": {"a": {"annotations": [{"segment": [[], {}]}]}}}', "no time"),
    "not a time": (b"a,1,soon,x\n", "row 1: 'soon' is no time"),
    "infinite": (b"a,1,1e999,x\n", "'1e999' is no time"),
    "NaN": (b'{"database": {"a": {"annotations": [{"segment": [NaN, 2]}]}}}', "no time"),
    "an endless number": (
        b'{"database": {"a": {"annotations": [{"segment": [0, %s]}]}}}' % (b"9" * 400),
        "too large",
    ),
    "an endless label": (b"a,1,2," + b"x" * 2000 + b"\n", "a label of 2,000 characters"),
    "huge": (b"a,1,99999999999,x\n", "no time in a video"),
    "short row": (b"video,start,end\na,1,2\nb,1\n", "row 2 has no video, start or end"),
    "no column": (b"video,from,till\na,1,2\n", "no column start, end"),
    "null": (b"a,1,2,\x00\nb", ""),
    "one word": (b"walk.mp4\n", "line 1 has no label"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    content, words = BAD[what]
    with pytest.raises(ConfigError) as error:
        read_segments(_written(tmp_path / "s", content))
    message = str(error.value)
    assert words in message and "--segments" in message
    assert "\n" not in message and len(message) < 500


def test_half_a_character_in_a_label_is_written_out(tmp_path: Path) -> None:
    text = '{"database": {"a": {"annotations": [{"segment": [0, 1], "label": "\\ud800 x"}]}}}'
    (one,) = read_segments(_written(tmp_path / "s.json", text))
    assert one.segment.label == "\\ud800 x"


def test_no_file_and_no_regular_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_segments(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="holds no segment"):
        read_segments(tmp_path)
    with (tmp_path / "video").open("wb") as file:
        file.truncate(300 << 20)  # a hole: takes no space
    with pytest.raises(ConfigError, match="larger than 256 MB"):
        read_segments(tmp_path / "video")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        read_segments(tmp_path / "pipe")


def test_what_is_odd_is_said_and_the_rest_is_done() -> None:
    videos = [FoundVideo(name, Path(f"/{name}.mp4")) for name in ("a/one", "b/two_rgb", "c")]
    named = [
        NamedSegment("one.mp4", Segment(1, 2, "x")),  # by its file's name
        NamedSegment("b/too", Segment(1, 2, "x")),  # of no video
        NamedSegment("two", Segment(3, 4, "x")),  # NTU's _rgb
        NamedSegment("a/one", Segment(5, 5, "x")),
        NamedSegment("a/one", Segment(-1, 0, "x")),
        NamedSegment("a/one", Segment(-1, 1.5, "y")),
        NamedSegment("a/one", Segment(1, 2, "x")),
        NamedSegment("a/one", Segment(1, 2, "z")),
    ]
    parts, notes = find_segments(named, videos, source="s.csv")
    assert [part.id for part in parts] == ["a/one/0-1500", "a/one/1000-2000", "b/two_rgb/3000-4000"]
    assert parts[0].segment == Segment(0, 1.5, "y") and parts[1].segment == Segment(1, 2, "x")
    assert notes == [
        "s.csv: 1 left out, of videos that are not among those given (first: b/too, 1 to 2 s)",
        "s.csv: 2 left out, since they end no later than they start (first: a/one, 5 to 5 s)",
        "s.csv: 1 begin before 0 s, and are done from 0 s on (first: a/one, -1 to 1.5 s)",
        "s.csv: 1 named more than once, done once (first: a/one, 1 to 2 s)",
        "s.csv: 1 with more than one label, of which the first is kept "
        "(first: a/one, 1 to 2 s: x, z)",
        "s.csv: 1 overlap another one of their video; each is done by itself "
        "(first: a/one/1000-2000)",
        "s.csv: 1 of the videos have no segment, and are not done (first: c)",
    ]
    with pytest.raises(ConfigError, match=r"none of its 1 segments .* first video: a/one"):
        find_segments([NamedSegment("x", Segment(1, 2))], videos, source="s.csv")


# -- reading a part ---------------------------------------------------------------------------


def numbers(path: Path, segment: Segment, **options: object) -> list[int]:
    with OpenView(path, "v", segment=segment, **options) as view:  # type: ignore[arg-type]
        read = [number_of(frame) for piece in view.frames() for frame in piece.images()]
        assert view.video is not None and view.video.num_frames == len(read)
        assert [number_of(f) for piece in view.again() for f in piece.images()] == read
        return read


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
    decoder = PyavDecoder(str(path), lambda: None, Room(10**9))
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


# -- a run --------------------------------------------------------------------------------------


def segments_file(folder: Path, *rows: str) -> Path:
    return _written(folder / "segments.csv", "video,start,end,label\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize("crop", ["window", "video"])
def test_a_segment_is_what_the_trimmed_video_would_be(
    clips: Path, stand_ins: StandInPose, tmp_path: Path, crop: str
) -> None:
    (tmp_path / "trimmed").mkdir()
    lossless = {"qp": "0"}  # the same pixels, however they were coded
    whole = write_video(tmp_path / "v.mp4", frames=130, options={**lossless, "g": "20"})
    write_video(tmp_path / "trimmed" / "v.mp4", frames=70, first=45, options=lossless)
    config = replace(POOLED, crop=crop)
    segments = segments_file(tmp_path, "v,1.8,4.6,wave")
    summary = extract_features(whole, tmp_path / "a.h5", config, segments=segments)
    assert (summary.done, summary.frames, summary.windows) == (1, 70, 9)
    extract_features(tmp_path / "trimmed", tmp_path / "b.h5", config)
    with FeatureStore(tmp_path / "a.h5") as ours, FeatureStore(tmp_path / "b.h5") as theirs:
        one, other = ours["v/1800-4600"], theirs["v"]
        for name in set(other) - {"times"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        np.testing.assert_allclose(one["times"], other["times"] + 1.8, atol=1e-9)
        assert one.attrs["label"] == "wave" and one.attrs["num_frames"] == 70
        assert (one.attrs["segment_start"], one.attrs["segment_end"]) == (1.8, 4.6)
        assert one.fps == 25 and one.attrs["duration"] == pytest.approx(2.8)


def test_windows_that_a_segment_shares_with_its_video_are_equal(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    out = tmp_path / "f.h5"
    config = replace(POOLED, windows=WindowConfig(grid="valid", stride=8))
    extract_features(clips, out, config)
    segments = segments_file(tmp_path, "long,3.2,9.6,x", "long,0,10,y")
    extract_features(clips, out, config, segments=segments)  # into the same file
    with FeatureStore(out) as store:
        assert store.ids == ["short", "sub/long", "sub/long/0-10000", "sub/long/3200-9600"]
        whole, part, all_of_it = (store[f"sub/long{end}"] for end in ("", "/3200-9600", "/0-10000"))
        rows = slice(10, 10 + len(part["times"]))  # the segment begins at frame 80
        for name in ("rgb_pooled", "pose_pooled", "times", "box", "valid"):
            np.testing.assert_allclose(part[name], whole[name][rows], atol=1e-9, err_msg=name)
            np.testing.assert_array_equal(all_of_it[name], whole[name])
        np.testing.assert_array_equal(part["frames"] + 80, whole["frames"][rows])


def test_the_papers_recipe_on_untrimmed_recordings(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    config = replace(POOLED, windows=WindowConfig(grid="single"), crop="video")
    segments = segments_file(tmp_path, "long,1,5,x", "long,6,9.6,y", "short,0,0.8,x")
    summary = extract_features(clips, tmp_path / "f.h5", config, segments=segments)
    assert (summary.done, summary.windows) == (3, 3)
    with FeatureStore(tmp_path / "f.h5") as store:
        np.testing.assert_allclose(store["sub/long/6000-9600"]["times"], [[6, 7.8, 9.6]])
        assert [one.label for one in stored_labels(store)] == ["x", "x", "y"]  # of short, long


def test_labels_come_out_in_info_and_exports(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    out = tmp_path / "f.h5"
    segments = segments_file(tmp_path, "long,1,5,wave", "long,6,9,clap")
    extract_features(clips, out, POOLED, segments=segments)
    contents = describe(out)
    assert [row["label"] for row in contents["videos"]] == ["wave", "clap"]  # type: ignore
    from rich.console import Console

    console = Console(width=140)
    with console.capture() as capture:
        console.print(info_report(contents))
    assert "label" in capture.get() and "clap" in capture.get()
    export_features(out, "npy", tmp_path / "npy")
    index = (tmp_path / "npy" / "index.csv").read_text()
    assert "wave" in index and "clap" in index
    assert verify(out) == [] and verify(out, videos=clips) == []


def test_what_fails_is_recorded_and_the_rest_is_done(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    out, progress = tmp_path / "f.h5", Listening()
    segments = segments_file(tmp_path, "long,1,2,a", "short,5,6,b", "gone,1,2,c", "long,1.5,3,d")
    summary = extract_features(clips, out, POOLED, segments=segments, progress=progress)
    assert summary.done == 2
    assert [failure.video_id for failure in summary.failures] == ["short/5000-6000"]
    assert "lies outside the video" in summary.failures[0].message
    said = " ".join(progress.warnings)
    assert "gone, 1 to 2 s" in said and "overlap" in said
    again = extract_features(clips, out, POOLED, segments=segments)
    assert (again.skipped, len(again.failures), again.windows) == (2, 1, 0)


def test_a_changed_label_is_done_again_and_a_changed_segment_is_another_video(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    out = tmp_path / "f.h5"
    extract_features(clips, out, POOLED, segments=segments_file(tmp_path, "long,1,3,a"))
    segments = segments_file(tmp_path, "long,1,3,b", "long,1,3.5,b")
    summary = extract_features(clips, out, POOLED, segments=segments)
    assert (summary.skipped, summary.done) == (0, 2)
    with FeatureStore(out) as store:
        assert store.ids == ["sub/long/1000-3000", "sub/long/1000-3500"]
        assert store["sub/long/1000-3000"].attrs["label"] == "b"


def test_a_stopped_run_goes_on_inside_a_segment(
    clips: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = segments_file(tmp_path, "long,1.2,9.2,a")
    extract_features(clips, tmp_path / "whole.h5", POOLED, segments=segments)
    monkeypatch.setattr("epam_extract.pipeline.output.COMMIT_SECONDS", 0.0)
    stop = threading.Event()

    out = tmp_path / "f.h5"
    first = extract_features(
        clips, out, POOLED, segments=segments, progress=StopAfter(100, stop), stop=stop
    )
    assert first.interrupted and first.done == 0 and first.windows > 0
    stand_ins.pieces.clear()
    second = extract_features(clips, out, POOLED, segments=segments)
    assert second.done == 1 and min(stand_ins.pieces) > 0
    assert_same(tmp_path / "whole.h5", out)


def test_keypoints_of_the_whole_video_serve_its_segments(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    segments = segments_file(tmp_path, "long,1.2,5.2,a", "short,0.2,0.6,b")
    extract_features(clips, tmp_path / "videos.h5", POOLED)
    extract_features(clips, tmp_path / "parts.h5", POOLED, segments=segments)
    for source in ("videos.h5", "parts.h5"):
        stand_ins.pieces.clear()
        config = replace(POOLED, keypoints=tmp_path / source)
        out = tmp_path / f"from {source}"
        summary = extract_features(clips, out, config, segments=segments)
        assert summary.done == 2 and stand_ins.pieces == []
        with FeatureStore(out) as ours, FeatureStore(tmp_path / "parts.h5") as theirs:
            for video_id in theirs:
                for name in ("rgb_pooled", "pose_pooled", "box"):
                    np.testing.assert_array_equal(ours[video_id][name], theirs[video_id][name])


def test_a_whole_list_gives_labels_to_whole_videos(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    listed = _written(tmp_path / "list.txt", "sub/long.mp4 4\nshort.mp4 7\n")
    extract_features(clips, tmp_path / "f.h5", POOLED, segments=listed)
    extract_features(clips, tmp_path / "plain.h5", POOLED)
    with FeatureStore(tmp_path / "f.h5") as store, FeatureStore(tmp_path / "plain.h5") as plain:
        assert {video_id: video.attrs["label"] for video_id, video in store.items()} == {
            "short": "7",
            "sub/long": "4",
        }
        for video_id in plain:
            np.testing.assert_array_equal(
                store[video_id]["rgb_pooled"], plain[video_id]["rgb_pooled"]
            )


@pytest.mark.parametrize("fps", [None, 10.0])
def test_the_report_shows_the_frames_of_the_segment(
    clips: Path, stand_ins: StandInPose, tmp_path: Path, fps: float | None
) -> None:
    pytest.importorskip("jinja2")
    config, out = replace(POOLED, fps=fps), tmp_path / "f.h5"
    segments = segments_file(tmp_path, "long,4,8,a")
    extract_features(clips, out, config, segments=segments)
    with FeatureStore(out) as store:
        (summary,) = summarise(store, {}, {})
        details = describe_video(store[summary.id], summary, ("rgb_pooled",))
    assert summary.source_id == "sub/long"
    add_pictures(details, summary, clips / "sub" / "long.mp4", fps=config.frame_rate)
    for moment in details.moments:
        picture = base64.b64decode(str(moment.picture).split(",")[1])
        small = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        number = number_of(cv2.resize(small, (96, 64)))
        assert number == 100 + round(moment.frame * 25 / (fps or 25) - 1e-6)


def test_a_plan_weighs_segments_by_their_length() -> None:
    draft = PlanDraft()
    for segment in (Segment(1, 2), Segment(1, 4)):
        draft(FoundVideo(segment.id_in("v"), Path("/v.mp4"), segment))
    assert draft.sizes == {"v/1000-2000": 1000, "v/1000-4000": 3000}
