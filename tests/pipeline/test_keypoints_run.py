"""Runs with --keypoints: the same features bit for bit, and a sentence for what does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_keypoints import annotation, dump
from make_videos import write_video
from stand_ins import POOLED, StandInPose, assert_same

from epam_extract.errors import StoreMismatch
from epam_extract.exchange import export_features
from epam_extract.pipeline.run import extract_features
from epam_extract.store import FeatureStore


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=90)
    write_video(folder / "b_rgb.mp4", frames=20)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own file", "pickle"])
def test_keypoints_of_a_run_give_its_features_again_bit_for_bit(
    clips: Path, stand_ins: StandInPose, tmp_path: Path, kind: str
) -> None:
    extract_features(clips, tmp_path / "first.h5", POOLED)
    source = tmp_path / "first.h5"
    if kind == "pickle":
        export_features(source, "pyskl", tmp_path / "out")
        source = tmp_path / "out" / "skeletons.pkl"
    stand_ins.pieces.clear()
    config = replace(POOLED, keypoints=source)
    summary = extract_features(clips, tmp_path / "again.h5", config)
    assert summary.done == 2 and stand_ins.pieces == []
    assert_same(tmp_path / "first.h5", tmp_path / "again.h5")
    with FeatureStore(tmp_path / "again.h5") as store:
        assert store.pose_source["keypoints"] == source.name
        assert store.pose_source["format"] == ("pyskl" if kind == "pickle" else "epam-extract")
    with pytest.raises(StoreMismatch, match="pose_source"):
        extract_features(clips, tmp_path / "again.h5", POOLED)


def test_videos_without_fitting_keypoints_fail_or_are_estimated(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    points = np.ones((1, 19, 17, 2), np.float32)
    short = annotation("b", keypoint=points, keypoint_score=points[..., 0], total_frames=19)
    config = replace(POOLED, keypoints=dump(tmp_path / "b.pkl", [short]))
    summary = extract_features(clips, tmp_path / "f.h5", config)
    said = {failure.video_id: failure for failure in summary.failures}
    assert said["a"].stage == said["b_rgb"].stage == "keypoints"
    assert "--keypoints-missing estimate" in said["a"].message
    assert "19 frames and the video" in said["b_rgb"].message and "20" in said["b_rgb"].message
    config = replace(config, keypoints_missing="estimate")
    summary = extract_features(clips, tmp_path / "g.h5", config)
    assert [failure.video_id for failure in summary.failures] == ["b_rgb"] and summary.done == 1
