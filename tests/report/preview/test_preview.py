"""Previews of any video, drawn as a run would take it, whole or not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import make_videos
import numpy as np
import pytest
from make_keypoints import annotation, dump
from walker import Walker, scene_of

from epam_extract.config import ExtractConfig, PoseConfig
from epam_extract.errors import ConfigError, KeypointsFailed, ProbeError
from epam_extract.records import FramePiece, Video
from epam_extract.report import preview
from epam_extract.report.preview import draw_preview, film
from epam_extract.report.preview.picture import draw_sheet
from epam_extract.video import probe, read_frames

SAMPLE = Path(__file__).parents[3] / "sample_videos" / "walk_and_wave.mp4"


@pytest.mark.slow
def test_draw_preview_writes_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())
    monkeypatch.setattr(film, "HEIGHT", 480)
    monkeypatch.setattr(film, "WIDTH", 800)
    path = make_videos.write_video(tmp_path / "v.mp4", frames=20, height=96, width=128)
    draw_preview(path, tmp_path / "a.PNG", ExtractConfig(device="cpu"))
    picture = cv2.imread(str(tmp_path / "a.PNG"))
    scene = scene_of(probe(path, "v"))
    np.testing.assert_array_equal(picture[..., ::-1], draw_sheet(scene))
    draw_preview(path, tmp_path / "a.mp4", ExtractConfig(device="cpu"))
    with av.open(str(tmp_path / "a.mp4")) as made:
        stream = made.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.average_rate) == (800, 480, 25)
        decoded = [frame.to_ndarray(format="rgb24") for frame in made.decode(stream)]
    assert len(decoded) == 20
    assert np.abs(decoded[0].astype(int) - next(film.draw_film(scene))).mean() < 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PNG", "a.mp4", "v.mp4"]


@pytest.mark.slow
def test_keypoints_from_a_file_are_drawn_as_a_run_takes_them(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_models(*_: object, **__: object) -> None:
        raise AssertionError("a pose model was opened")

    monkeypatch.setattr(preview, "open_pose_model", no_models)
    frames = np.concatenate([piece.frames for piece in read_frames(video)])
    track = Walker(absent=range(20, 30)).estimate(FramePiece(0, frames))
    have = {"keypoint": track.keypoints, "keypoint_score": track.keypoint_scores}
    size = {"img_shape": (96, 128), "original_shape": (96, 128)}
    source = dump(tmp_path / "w.pkl", [annotation("walker", total_frames=70, **size, **have)])
    source = source.rename(tmp_path / "walker")  # as the picture calls the stand-in
    config = ExtractConfig(device="cpu", keypoints=source)
    draw_preview(video.path, tmp_path / "a.png", config)
    expected = draw_sheet(scene_of(video, Walker(absent=range(20, 30))))
    picture = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    np.testing.assert_array_equal(picture, expected)

    short = {name: array[:, :60] for name, array in have.items()}
    for other, words in (
        (
            annotation("walker", total_frames=60, **size, **short),
            "of 60 frames and the video has 70",
        ),
        (annotation("runner", total_frames=70, **size, **have), "--keypoints-missing estimate"),
    ):
        path = dump(
            tmp_path / "other.pkl", [other, annotation("x", total_frames=70, **size, **have)]
        )
        with pytest.raises(KeypointsFailed, match=words):
            draw_preview(video.path, tmp_path / "b.png", replace(config, keypoints=path))
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())
    estimated = replace(config, keypoints=path, keypoints_missing="estimate")
    draw_preview(video.path, tmp_path / "b.png", estimated)
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "b.png"))[..., ::-1], draw_sheet(scene_of(video))
    )


def test_an_existing_preview_stays_until_the_new_one_is_whole(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())

    def break_off(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preview, "encode_video", break_off)
    out = tmp_path / "old.mp4"
    out.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"old\.mp4: cannot be written: No space left"):
        draw_preview(video.path, out, ExtractConfig(device="cpu"))
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_refusals(video: Video, tmp_path: Path) -> None:
    config = ExtractConfig()
    (tmp_path / "folder.png").mkdir()
    for out, message in (
        (tmp_path / "x.gif", r"x\.gif: expected a name ending in \.png .* \.mp4"),
        (tmp_path / "none" / "x.png", "there is no folder .*none"),
        (tmp_path / "folder.png", "is a directory"),
        (video.path, "is the video itself"),
    ):
        with pytest.raises(ConfigError, match=message):
            draw_preview(video.path, out, config)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ProbeError, match=r"text\.mp4"):
        draw_preview(tmp_path / "text.mp4", tmp_path / "x.png", config)
    with pytest.raises(ProbeError, match="gone"):
        draw_preview(tmp_path / "gone.mp4", tmp_path / "x.png", config)


@pytest.mark.slow
def test_bundled_model_on_a_sample_video(tmp_path: Path) -> None:
    said: list[str] = []
    progress = preview.Progress()
    progress.message = said.append  # type: ignore[method-assign]
    config = ExtractConfig(pose=PoseConfig(mode="bundled", det_every=8), device="cpu")
    draw_preview(SAMPLE, tmp_path / "sample.png", config, progress=progress)
    picture = cv2.imread(str(tmp_path / "sample.png"))[..., ::-1]
    assert (picture == (255, 128, 0)).all(-1).sum() > 500  # somebody's right side
    assert any("for trying the tool" in line for line in said)
