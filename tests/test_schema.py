"""The table of what a file holds: a written file has exactly that."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from make_rows import POSE, WEIGHTS, begin, finish, make_rows, make_track, make_video

from epam_extract.config import FEATURES, ExtractConfig
from epam_extract.errors import VideoError
from epam_extract.records import Segment, VideoFailure
from epam_extract.schema import (
    ARRAYS,
    FAILURE_COLUMNS,
    FILE_ATTRIBUTES,
    VIDEO_ATTRIBUTES,
    Field,
    kinds,
    meaning,
    video_arrays,
    window_arrays,
)
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter

ALL = ExtractConfig(features=FEATURES).identity()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete video with every array, every attribute, and a failure."""
    path = tmp_path_factory.mktemp("schema") / "feats.h5"
    whole = make_video("a", 40)
    video = type(whole)(
        **{**vars(whole), "notes": ("cut short",), "segment": Segment(1.0, 2.6, "walk")}
    )
    with StoreWriter(path, StoreHeader(ALL, WEIGHTS, POSE)) as store:
        begin(store, video)
        store.append_windows("a", make_rows("a", 0, 3, ALL), clipped=2)
        store.append_keypoints("a", 0, make_track("a", 0, 40))
        finish(store, video, 3)
        store.fail(VideoFailure("b", VideoError.stage, "is empty", None))
        store.commit()
    return path


def require_kinds(attributes: h5py.AttributeManager, fields: tuple[Field, ...]) -> None:
    for name, kind in kinds(fields).items():
        if name in attributes:
            assert isinstance(np.asarray(attributes[name]).item(), kind), name


def test_a_written_file_has_the_arrays_of_the_table(written: Path) -> None:
    lengths = {"W": 3, "T": 40, "M": 2}
    with h5py.File(written) as h5:
        group = h5["videos/a"]
        assert set(group) == {array.name for array in ARRAYS}
        for array in ARRAYS:
            assert group[array.name].shape == tuple(lengths.get(n, n) for n in array.axes)
            assert group[array.name].dtype == np.dtype(array.dtype)
            assert group[array.name].chunks is None or array.name in ("rgb", "pose")


def test_a_written_file_has_the_attributes_of_the_table(written: Path) -> None:
    with h5py.File(written) as h5:
        assert kinds(FILE_ATTRIBUTES).keys() - set(h5.attrs) == {"parts"}
        assert set(h5.attrs) <= kinds(FILE_ATTRIBUTES).keys()
        require_kinds(h5.attrs, FILE_ATTRIBUTES)
        assert set(h5["videos/a"].attrs) == kinds(VIDEO_ATTRIBUTES).keys()
        require_kinds(h5["videos/a"].attrs, VIDEO_ATTRIBUTES)
        assert h5["failures"].dtype.names == tuple(kinds(FAILURE_COLUMNS))


def test_a_reader_gets_the_attributes_as_the_table_has_them(written: Path) -> None:
    with FeatureStore(written) as store:
        for name, value in store["a"].attrs.items():
            assert type(value) is kinds(VIDEO_ATTRIBUTES)[name], name


def test_the_options_decide_which_arrays_there_are() -> None:
    pooled = window_arrays(ExtractConfig(features=("pooled",)).identity())
    assert list(pooled) == [
        *("rgb_pooled", "pose_pooled", "frames", "times", "valid", "person", "box")
    ]
    full = video_arrays(ExtractConfig(features=("full",), stored_dtype="f32").identity())
    assert {name: array.dtype for name, array in full.items() if array.feature} == {
        "rgb": "<f4",
        "pose": "<f4",
    }
    assert list(full)[-2:] == ["keypoints", "keypoint_scores"]
    for config in ({}, {"features": ["full"]}, {"features": "full", "stored_dtype": "f16"}):
        with pytest.raises(ValueError, match="names no features"):
            window_arrays(config)


def test_sizes_and_meanings_come_from_the_table() -> None:
    arrays = window_arrays(ALL)
    assert arrays["rgb"].item_bytes == 432 * 16 * 7 * 7 * 2
    assert arrays["valid"].item_bytes == 4
    assert meaning("valid") == "share of the window inside the video"
