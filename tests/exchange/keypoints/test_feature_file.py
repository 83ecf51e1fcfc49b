"""Keypoints out of a feature file."""

from pathlib import Path

import numpy as np
import pytest
from keypoint_files import track
from make_features import FRAMES as STORED_FRAMES
from make_features import write_features

from epam_extract.config import WindowConfig
from epam_extract.exchange import export_features
from epam_extract.exchange.keypoints import open_keypoints
from epam_extract.store import FeatureStore


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "f.h5"
    return write_features(path, WindowConfig(), {"sub/v.1": "25 fps", "w": "25 fps"})


def test_a_file_of_features_gives_its_keypoints_back(features: Path) -> None:
    size = {"num_frames": STORED_FRAMES, "height": 90, "width": 160}
    source = open_keypoints(features)
    with FeatureStore(features) as store:
        stored = store["sub/v.1"]["keypoint_scores"], store["sub/v.1"]["keypoints"]
    found = track(source, "sub/v.1", **size)
    np.testing.assert_array_equal(found.keypoint_scores, stored[0].astype(np.float32))
    there = found.keypoint_scores > 0
    assert there.any()
    np.testing.assert_array_equal(found.keypoints[there], stored[1][there])
    assert source.source == open_keypoints(features).source
    assert source.source["format"] == "epam-extract"


def test_what_export_writes_comes_back_bit_for_bit(features: Path, tmp_path: Path) -> None:
    export_features(features, "pyskl", tmp_path / "out")
    size = {"num_frames": STORED_FRAMES, "height": 90, "width": 160}
    exported = track(open_keypoints(tmp_path / "out" / "skeletons.pkl"), "sub/v.1", **size)
    direct = track(open_keypoints(features), "sub/v.1", **size)
    np.testing.assert_array_equal(exported.keypoints, direct.keypoints)
    np.testing.assert_array_equal(exported.keypoint_scores, direct.keypoint_scores)
