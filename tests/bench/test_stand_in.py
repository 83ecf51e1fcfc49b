"""Stand-ins: as large as the published models, and what the pose stage and rtmlib take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from make_videos import write_video

from epam_extract.bench import run as bench
from epam_extract.bench.script import PlainPose
from epam_extract.bench.stand_in import write_stand_ins
from epam_extract.config import ExtractConfig, PoseConfig, WeightsConfig
from epam_extract.errors import ConfigError
from epam_extract.pose import open_pose_model
from epam_extract.records import FramePiece
from epam_extract.video import find_videos

BOXES = np.array([[0.2, 0.1, 0.5, 0.9], [0.5, 0.1, 0.8, 0.9]])
PUBLISHED = {  # millions of parameters, billions of multiply-adds
    "lightweight": {"detector": (5.06, 6.45 / 2), "pose": (5.47, 0.68)},
    "balanced": {"detector": (25.3, 73.8 / 2), "pose": (13.59, 1.93)},
}


@pytest.mark.parametrize("mode", ["lightweight", pytest.param("balanced", marks=pytest.mark.slow)])
def test_stand_ins_are_as_large_as_the_published_models(mode: str, tmp_path: Path) -> None:
    for role, model in write_stand_ins(mode, tmp_path, BOXES).items():
        parameters, macs = PUBLISHED[mode][role]
        assert model.parameters / 1e6 == pytest.approx(parameters, rel=0.01)
        assert model.macs / 1e9 == pytest.approx(macs, rel=0.02)
        stored = model.path.stat().st_size / 4  # float32; one number less for each BatchNorm
        assert stored == pytest.approx(model.parameters, rel=0.02)


@pytest.mark.slow
def test_the_pose_stage_and_rtmlib_run_stand_ins_alike(tmp_path: Path) -> None:
    written = write_stand_ins("lightweight", tmp_path, BOXES)
    config = PoseConfig(det_model=written["detector"].path, pose_model=written["pose"].path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 120, 160, 3), np.uint8)
    estimator = open_pose_model(config)
    assert [estimator.source[role]["kind"] for role in written] == ["yolox", "simcc"]  # type: ignore[index]
    found = estimator.estimate(FramePiece(0, frames))
    assert found.keypoints.shape == (2, 2, 17, 2)
    boxes = estimator.boxes(FramePiece(0, frames))[0].boxes
    np.testing.assert_allclose(boxes, BOXES * 160, rtol=1e-5)
    models = {
        "detector": ("yolox", written["detector"].path, (416, 416)),
        "pose": ("simcc", written["pose"].path, (192, 256)),
    }
    keypoints, _ = PlainPose(models, "cpu")(frames[0])
    np.testing.assert_allclose(found.keypoints[:, 0], keypoints, atol=1e-2)


def test_only_the_two_stage_modes_have_stand_ins(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--stand-in needs --pose lightweight, balanced"):
        write_stand_ins("bundled", tmp_path, BOXES)


def test_a_stand_in_and_a_model_of_ones_own_contradict_each_other() -> None:
    result = run("bench", "--stand-in", "--det-model", "d.onnx")
    assert result.exit_code == 2
    assert "--stand-in and --det-model contradict each other" in result.stderr


@pytest.mark.slow
def test_a_bench_with_stand_ins_names_them(tmp_path: Path) -> None:
    video = write_video(tmp_path / "numbers.mp4", frames=20)

    config = ExtractConfig(
        pose=PoseConfig(mode="lightweight"), weights=WeightsConfig(random_seed=0), device="cpu"
    )
    opened = bench._open(find_videos([video]), config, torch.device("cpu"), tmp_path, stand_in=True)
    assert opened.models.startswith("stand-ins with random weights for YOLOX-tiny (5.0 M")
    assert "RTMPose-s" in opened.models
    names = [path.stem for _, path, _ in opened.plain.values()]
    assert names == ["stand-in_YOLOX-tiny_416x416", "stand-in_RTMPose-s_256x192"]
