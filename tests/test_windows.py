"""Windows: which frames, when, and how much of them is real."""

from pathlib import Path

import numpy as np
import pytest

from epam_extract.config import RGB_STEP, WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.windows import (
    grid_attributes,
    plan_windows,
    rows_to_show,
    uniform_window,
    valid_share,
    window_times,
)

REFERENCE = Path(__file__).parent / "data" / "preprocess.npz"
CASES = ("one_person", "two_missing_nan", "short_20_frames")


@pytest.mark.parametrize("case", CASES)
def test_uniform_window_is_the_original_sampling(case: str) -> None:
    with np.load(REFERENCE) as reference:
        num_frames = reference[f"{case}/keypoints"].shape[1]
        window = uniform_window(num_frames)
        np.testing.assert_array_equal(window, reference[f"{case}/pose_inds"])
        np.testing.assert_array_equal(window[::RGB_STEP], reference[f"{case}/rgb_inds"])


@pytest.mark.parametrize("num_frames", [1, 2, 47, 48, 49, 70, 95, 96, 97, 1000])
def test_uniform_window_stays_in_the_video_and_leaves_global_random_state(num_frames: int) -> None:
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    window = uniform_window(num_frames)
    assert window.shape == (48,) and window.dtype == np.int64
    assert window.min() >= 0 and window.max() < num_frames
    assert np.random.rand() == expected


def test_centered_windows_cover_the_video_and_repeat_its_edges() -> None:
    windows = plan_windows(40, WindowConfig(stride=16))
    assert windows.shape == (3, 48)  # ceil(40 / 16)
    assert windows[0].tolist() == [0] * 16 + list(range(32))
    assert windows[2].tolist() == list(range(16, 40)) + [39] * 24


@pytest.mark.parametrize("stride", [1, 7, 16, 50])
@pytest.mark.parametrize("num_frames", [1, 16, 17, 100])
def test_every_row_is_centred_on_its_frame(num_frames: int, stride: int) -> None:
    config = WindowConfig(stride=stride, frame_interval=2)
    windows = plan_windows(num_frames, config)
    assert len(windows) == -(-num_frames // stride)
    center = np.minimum(np.arange(len(windows)) * stride + stride // 2, num_frames - 1)
    np.testing.assert_array_equal(windows[:, 24], center)


def test_valid_grid_has_whole_windows_only() -> None:
    config = WindowConfig(grid="valid", stride=16)
    assert plan_windows(79, config)[:, 0].tolist() == [0, 16]
    assert plan_windows(80, config)[:, 0].tolist() == [0, 16, 32]
    assert valid_share(80, config).tolist() == [1.0, 1.0, 1.0]
    assert plan_windows(10, config).shape == (1, 48)
    assert valid_share(10, config).tolist() == pytest.approx([10 / 48])


def test_valid_share_counts_repeated_frames() -> None:
    assert valid_share(40, WindowConfig()).tolist() == pytest.approx([32 / 48, 40 / 48, 24 / 48])
    assert valid_share(1, WindowConfig()).tolist() == pytest.approx([1 / 48])
    assert valid_share(24, WindowConfig(grid="single")).tolist() == [0.5]


def test_times_come_from_real_timestamps() -> None:
    stamps = np.array([0.0, 0.1, 0.2, 0.3, 1.0, 1.1, 1.2, 1.3])  # a gap of variable frame rate
    times = window_times(stamps, 0.1, WindowConfig(stride=4))
    assert times[0].tolist() == pytest.approx([0.0, 0.2, 1.4])
    assert times[1, 1] == pytest.approx(1.2)


def test_centres_are_one_stride_apart_to_the_last() -> None:
    times = window_times(np.arange(40) / 10, 0.1, WindowConfig(stride=16))
    assert times[:, 1].tolist() == pytest.approx([0.8, 2.4, 4.0])
    past = window_times(np.arange(17) / 10, 0.1, WindowConfig(stride=16))
    assert past[:, 1].tolist() == pytest.approx([0.8, 2.4])
    assert past[:, 2].max() == pytest.approx(1.7)


def test_grid_attributes_place_row_i() -> None:
    assert grid_attributes(100, WindowConfig(stride=16)) == {
        "feat_stride": 16.0,
        "window_frames": 48.0,
        "offset_frames": 8.0,
    }
    assert grid_attributes(100, WindowConfig(grid="valid"))["offset_frames"] == 24.0
    assert grid_attributes(100, WindowConfig(grid="single"))["feat_stride"] == 100.0


@pytest.mark.parametrize(("name", "value"), [("stride", 0), ("frame_interval", -1), ("grid", "x")])
def test_bad_options_say_what_is_allowed(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        WindowConfig(**{name: value})  # type: ignore[arg-type]


def test_windows_to_show_are_spread_and_show_people() -> None:
    seen = np.array([0, 1, 0, 0, 0.5, 0.5, 0, 0.2])
    assert rows_to_show(seen, 2) == [1, 5]
    assert rows_to_show(seen[:1], 4) == [0]
