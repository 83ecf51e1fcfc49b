"""Pictures on the page are frames of the video."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_report import WINDOWS, write_video
from make_rows import POSE, WEIGHTS

from epam_extract.config import ExtractConfig
from epam_extract.report.details import MOMENTS, add_pictures, describe_video
from epam_extract.report.summary import summarise
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter
from epam_extract.video import probe, read_frames


@pytest.mark.slow
def test_pictures_are_frames_of_the_video(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "sample_videos" / "workout.mp4"
    found = probe(path, "workout")
    config = ExtractConfig(features=("pooled", "attention"), windows=WINDOWS)
    with StoreWriter(tmp_path / "f.h5", StoreHeader(config.identity(), WEIGHTS, POSE)) as store:
        write_video(store, "workout", frames=found.num_frames)
        store.commit()
    with FeatureStore(tmp_path / "f.h5") as store:
        (summary,) = summarise(store, {}, {})
        summary.height, summary.width = found.height, found.width
        details = describe_video(store["workout"], summary, ("rgb_pooled",))
    add_pictures(details, summary, path)
    frames = np.concatenate([piece.frames for piece in read_frames(found)])
    assert len(details.moments) == MOMENTS
    for moment in details.moments:
        assert moment.picture is not None
        encoded = base64.b64decode(moment.picture.split(",")[1])
        shown = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        there = cv2.resize(frames[moment.frame], shown.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(shown.astype(int) - there).mean() < 8
    assert all(crop.picture for crop in details.crops)
