"""Settings check themselves, and say what was wrong and what is right."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from stand_ins import POOLED

from epam_extract.config import (
    PIECE_BYTES,
    PIECE_FRAMES,
    ExtractConfig,
    PoseConfig,
    WeightsConfig,
    WindowConfig,
    frames_per_piece,
)
from epam_extract.errors import ConfigError
from epam_extract.options import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (WindowConfig, {"grid": "square"}, "grid must be one of centered, valid, single, got 'sq"),
        (WindowConfig, {"stride": 0}, "stride must be at least 1, got 0"),
        (WindowConfig, {"frame_interval": -1}, "frame_interval must be at least 1, got -1"),
        (PoseConfig, {"mode": "fast"}, "pose must be one of lightweight, .*, got 'fast'"),
        (PoseConfig, {"det_score": -0.1}, r"det_score must be at least 0\.0, got -0\.1"),
        (PoseConfig, {"keypoint_score": -1}, "keypoint_score must be at least"),
        (PoseConfig, {"max_persons": 0}, "max_persons must be at least 1, got 0"),
        (PoseConfig, {"det_every": 0}, "det_every must be auto or at least 1, got 0"),
        (PoseConfig, {"det_model": Path("d.onnx")}, "det_model needs pose_model"),
        (WeightsConfig, {"random_seed": -1}, "random_seed must be at least 0, got -1"),
        (ExtractConfig, {"crop": "frame"}, "crop must be one of window, video, got 'frame'"),
        (ExtractConfig, {"keypoints_missing": "skip"}, "must be one of fail, estimate"),
        (ExtractConfig, {"precision": "f16"}, "precision must be one of auto, float32, bf16, fp16"),
        (ExtractConfig, {"stored_dtype": "f64"}, "stored_dtype must be one of f16, f32"),
        (ExtractConfig, {"compression": "zip"}, "compression must be one of none, lzf, gzip"),
        (ExtractConfig, {"decoder": "opencv"}, "decoder must be one of auto, decord, pyav"),
        (ExtractConfig, {"compile": "yes"}, "compile must be one of auto, on, off, got 'yes'"),
        (ExtractConfig, {"features": ()}, "features must name at least one of pooled, full"),
        (ExtractConfig, {"features": ("pooled", "rgb")}, "features must be one of .*, got 'rgb'"),
        (ExtractConfig, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (ExtractConfig, {"workers": 0}, "workers must be at least 1, got 0"),
        (ExtractConfig, {"max_memory": 0}, "max_memory must be at least 1, got 0"),
        (ExtractConfig, {"fetch_ahead": 0}, "fetch_ahead must be at least 1, got 0"),
        (ExtractConfig, {"image_fps": 0.0}, r"image_fps must be 0\.01 to 1000 frames a second"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_right(
    config: type, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"demo": True, "file": Path("a.pth")}, "file and demo"),
        ({"random_seed": 0, "rgb_file": Path("a.pth")}, "rgb_file and random_seed"),
        ({"random_seed": 0, "demo": True}, "random_seed and demo"),
    ],
)
def test_weights_from_two_places_contradict_each_other(
    settings: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=f"{named} contradict each other: choose one"):
        WeightsConfig(**settings)  # type: ignore[arg-type]


def test_streams_may_come_from_files_of_their_own() -> None:
    weights = WeightsConfig(Path("a.pth"), rgb_file=Path("b.pth"), pose_file=Path("c.pth"))
    assert (weights.rgb_file, weights.pose_file) == (Path("b.pth"), Path("c.pth"))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf"), 1e4])
def test_a_frame_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"fps must be 0\.01 to 1000 frames a second"):
        ExtractConfig(fps=rate)


def test_ntsc_rates_are_fractions() -> None:
    assert replace(POOLED, fps=29.97002997).frame_rate == Fraction(30000, 1001)
    assert replace(POOLED, fps=12.5).frame_rate == Fraction(25, 2)
    assert "fps" not in POOLED.identity()  # a file from before the option existed can be resumed


def test_only_what_changes_the_numbers_must_agree_with_a_file() -> None:
    config = ExtractConfig()
    identity = json.loads(json.dumps(config.identity()))
    speed = replace(config, device="cuda", batch_size=9, workers=3, decoder="pyav", max_memory=1)
    assert json.loads(json.dumps(speed.identity())) == identity
    assert replace(config, features=("full", "pooled", "full")).identity() == config.identity()
    for other in (
        replace(config, windows=WindowConfig(stride=8)),
        replace(config, pose=PoseConfig(keypoint_score=0.3)),
        replace(config, crop="video"),
        replace(config, fps=10),
        replace(config, image_fps=25),
        replace(config, features=("pooled",)),
        replace(config, precision="bf16"),
        replace(config, stored_dtype="f32"),
    ):
        assert other.identity() != config.identity()


def test_windows_span_their_frames() -> None:
    assert WindowConfig().span == 48
    assert WindowConfig(frame_interval=2).span == 95


def test_pieces_of_huge_pictures_have_fewer_frames() -> None:
    assert frames_per_piece(1080, 1920) == PIECE_FRAMES
    for height, width in ((8000, 8000), (16000, 16000)):
        frames = frames_per_piece(height, width)
        assert 1 <= frames < PIECE_FRAMES
        assert frames == 1 or frames * height * width * 3 <= PIECE_BYTES
    assert frames_per_piece(10**6, 10**6) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        ("1.5 g", 15 * 10**8),
        ("1.5 tb", 15 * 10**11),
        ("500mb", 5 * 10**8),
        ("500M", 5 * 10**8),
        ("8kB", 8000),
        ("2GiB", 2 << 30),
        ("7", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes("--max-memory", text, like="8GB") == size


@pytest.mark.parametrize(
    "text", ["", "0", "GB", "-1GB", "1XB", "many", "8 GBs", "1 G B", "1e9", "nan"]
)
@pytest.mark.parametrize(("option", "like"), [("--max-memory", "8GB"), ("--fetch-ahead", "20GB")])
def test_other_sizes_are_refused_with_an_example(text: str, option: str, like: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option} .*expected a size such as {like}"):
        parse_bytes(option, text, like=like)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1500, "1.5 kB"),
        (20_000, "20 kB"),
        (1.44e9, "1.4 GB"),
        (5e12, "5.0 TB"),
    ],
)
def test_sizes_are_shown_in_thousands(count: float, text: str) -> None:
    assert format_bytes(count) == text
