"""``--segments``: parts of videos, each as if it were a trimmed video of its own."""

import base64
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_videos import number_of, write_video
from stand_ins import POOLED, StandInPose, StopAfter, assert_same

from epam_extract.cli.info_table import info_report
from epam_extract.config import WindowConfig
from epam_extract.exchange import export_features
from epam_extract.exchange.labels import stored_labels
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.report.details import add_pictures, describe_video
from epam_extract.report.summary import summarise
from epam_extract.store import FeatureStore
from epam_extract.store.describe import describe
from epam_extract.store.verify import verify


class Listening(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def segments_file(folder: Path, *rows: str) -> Path:
    path = folder / "segments.csv"
    path.write_text("video,start,end,label\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_whole_list_gives_labels_to_whole_videos(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("sub/long.mp4 4\nshort.mp4 7\n")
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


@pytest.mark.slow
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
