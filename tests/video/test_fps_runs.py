"""``--fps``: windows over a regular time line, whatever rate a video has."""

import json
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import number_of, picture, write_video
from stand_ins import POOLED, StandInPose, StopAfter, assert_same, people

from epam_extract.config import ExtractConfig, WindowConfig
from epam_extract.errors import StoreMismatch
from epam_extract.exchange import export_features
from epam_extract.exchange.annotations import read_annotations
from epam_extract.exchange.timeline import Timeline
from epam_extract.pipeline.run import extract_features
from epam_extract.records import FramePiece, PoseTrack, Video
from epam_extract.store import FeatureStore
from epam_extract.store.verify import verify
from epam_extract.video.views import view_of


def at(fps: float) -> ExtractConfig:
    return replace(POOLED, fps=fps)


def video(seconds: np.ndarray, fps: Fraction = Fraction(25)) -> Video:
    return Video("v", Path("v.mp4"), len(seconds), fps, 64, 96, seconds.astype(np.float64))


def mixed(folder: Path) -> Path:
    """The same 4 s at 25 and 50 frames a second and at a variable rate, in one picture a 1/25 s."""
    folder.mkdir()
    lossless = {"qp": "0"}
    write_video(folder / "a25.mkv", frames=100, options=lossless)
    numbers = np.arange(200) // 2
    write_video_of(folder / "b50.mkv", numbers, [20 * i for i in range(200)])
    times = [40 * i + (20 if i % 3 == 1 else 0) for i in range(100)]
    write_video_of(folder / "c.mkv", np.arange(100), times)
    return folder


def write_video_of(path: Path, numbers: np.ndarray, times_ms: list[int]) -> Path:
    """Pictures that carry these numbers, shown at these times."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in zip(numbers, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(picture(int(number)), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_mixed_rates_give_comparable_windows(stand_ins: StandInPose, tmp_path: Path) -> None:
    videos = mixed(tmp_path / "videos")
    out = tmp_path / "f.h5"
    extract_features(videos, out, at(12.5))
    with FeatureStore(out) as store:
        assert store.config["fps"] == 12.5
        first = store["a25"]
        for video_id in ("a25", "b50", "c"):
            stored = store[video_id]
            attributes = stored.attrs
            assert stored.fps == Fraction(25, 2) and attributes["num_frames"] == 50
            assert (attributes["feat_stride"], attributes["offset_frames"]) == (8.0, 4.0)
            np.testing.assert_allclose(np.diff(stored["times"][:, 1]), 8 / 12.5)  # fixed seconds
            np.testing.assert_array_equal(stored["frames"], first["frames"])
        np.testing.assert_array_equal(store["b50"]["rgb_pooled"], first["rgb_pooled"])
        assert store["b50"].attrs["duration"] == pytest.approx(4.0)
    assert verify(out) == [] and verify(out, videos=videos) == []


@pytest.mark.slow
def test_its_own_rate_changes_nothing(stand_ins: StandInPose, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=90)
    extract_features(path, tmp_path / "a.h5", POOLED)
    extract_features(path, tmp_path / "b.h5", at(25))
    with FeatureStore(tmp_path / "a.h5") as plain, FeatureStore(tmp_path / "b.h5") as line:
        for name in plain["v"]:
            np.testing.assert_allclose(line["v"][name], plain["v"][name], atol=1e-9, err_msg=name)


class Counting(StandInPose):
    """Remembers which pictures it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def estimate(self, piece: FramePiece) -> PoseTrack:
        self.seen += [number_of(frame) for frame in piece.frames]
        return people(piece)


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["window", "video"])
@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_people_are_looked_for_once_in_each_frame_that_is_used(
    stand_ins: StandInPose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fps: float,
    crop: str,
) -> None:
    pose = Counting()
    monkeypatch.setattr("epam_extract.pipeline.models.open_pose_model", lambda *_, **__: pose)
    path = write_video(tmp_path / "v.mp4", frames=100)
    config = replace(at(fps), crop=crop)
    summary = extract_features(path, tmp_path / "f.h5", config)
    _, indices = view_of(video(np.arange(100) / 25), None, Fraction(fps))
    assert sorted(pose.seen) == np.unique(indices).tolist()
    assert summary.frames == len(indices) == round(4 * fps)
    with FeatureStore(tmp_path / "f.h5") as store:
        keypoints = store["v"]["keypoints"]
        assert keypoints.shape[1] == len(indices)
        alone = people(FramePiece(0, np.stack([picture(int(i)) for i in indices])))
        np.testing.assert_array_equal(keypoints[0], alone.keypoints[0])


@pytest.mark.slow
@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_a_stopped_run_goes_on_inside_a_video(
    stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: float
) -> None:
    path = write_video(tmp_path / "v.mp4", frames=600 if fps < 25 else 250)
    config = at(fps)
    extract_features(path, tmp_path / "whole.h5", config)
    monkeypatch.setattr("epam_extract.pipeline.output.COMMIT_SECONDS", 0.0)
    stop = threading.Event()

    out = tmp_path / "f.h5"
    first = extract_features(path, out, config, progress=StopAfter(100, stop), stop=stop)
    assert first.interrupted and first.done == 0 and first.windows > 0
    stand_ins.pieces.clear()
    second = extract_features(path, out, config)
    assert second.done == 1 and min(stand_ins.pieces) > 0
    assert_same(tmp_path / "whole.h5", out)


def test_another_rate_is_refused(stand_ins: StandInPose, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=30)
    extract_features(path, tmp_path / "f.h5", at(10))
    with pytest.raises(StoreMismatch, match=r"config\.fps: 10 in the file, 12 now"):
        extract_features(path, tmp_path / "f.h5", at(12))
    with pytest.raises(StoreMismatch, match=r"config\.fps: 10 in the file, nothing now"):
        extract_features(path, tmp_path / "f.h5", POOLED)


@pytest.mark.slow
def test_segments_lie_on_a_time_line_of_their_own(stand_ins: StandInPose, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=150, options={"qp": "0"})
    (tmp_path / "s.csv").write_text("v,1.0,5.0,wave\n")
    config = replace(at(10), windows=WindowConfig(grid="valid", stride=4))
    extract_features(path, tmp_path / "f.h5", config, segments=tmp_path / "s.csv")
    extract_features(path, tmp_path / "f.h5", config)
    with FeatureStore(tmp_path / "f.h5") as store:
        part = store["v/1000-5000"]
        assert part.attrs["num_frames"] == 40 and part.fps == 10
        assert part["times"][0, 0] == pytest.approx(1.0)
    config = replace(config, windows=WindowConfig(grid="single"), crop="video")
    extract_features(path, tmp_path / "g.h5", config, segments=tmp_path / "s.csv")
    with FeatureStore(tmp_path / "g.h5") as store:
        np.testing.assert_allclose(store["v/1000-5000"]["times"], [[1.0, 3.0, 5.0]])


@pytest.mark.slow
def test_exports_stay_aligned(stand_ins: StandInPose, tmp_path: Path) -> None:
    videos = mixed(tmp_path / "videos")
    out = tmp_path / "f.h5"
    extract_features(videos, out, at(12.5))
    with FeatureStore(out) as store:
        for video_id in store:
            line = Timeline.of(store[video_id])
            assert line.is_steady() and line.fps == 12.5
            for second in (0.0, 1.0, 2.72):
                assert line.frames_at(second) == pytest.approx(second * 12.5)
                assert line.steady(second) == pytest.approx(second)
    (tmp_path / "a.csv").write_text("a25,1,2,x\nb50,1,2,x\nc,1,2,x\n")
    export_features(
        out, "actionformer", tmp_path / "af", annotations=read_annotations(tmp_path / "a.csv")
    )
    database = json.loads((tmp_path / "af" / "annotations.json").read_text())["database"]
    for entry in database.values():
        assert (entry["fps"], entry["frame"]) == (12.5, 50)
        assert entry["annotations"][0]["segment"] == [1.0, 2.0]


@pytest.mark.slow
def test_keypoints_of_the_video_and_of_a_run_like_this(
    stand_ins: StandInPose, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "v.mp4", frames=100)
    extract_features(path, tmp_path / "plain.h5", POOLED)
    extract_features(path, tmp_path / "line.h5", at(10))
    stand_ins.pieces.clear()
    for source in ("plain.h5", "line.h5"):
        config = replace(at(10), keypoints=tmp_path / source)
        out = tmp_path / f"from {source}"
        assert extract_features(path, out, config).done == 1 and stand_ins.pieces == []
        with FeatureStore(out) as ours, FeatureStore(tmp_path / "line.h5") as theirs:
            for name in ("rgb_pooled", "pose_pooled", "box", "keypoint_scores"):
                np.testing.assert_array_equal(ours["v"][name], theirs["v"][name], err_msg=name)
    for other in (at(12), POOLED):
        config = replace(other, keypoints=tmp_path / "line.h5")
        summary = extract_features(path, tmp_path / f"{other.fps}.h5", config)
        (failure,) = summary.failures
        assert "a time line of 10 frames a second, which is not that of this run" in failure.message
