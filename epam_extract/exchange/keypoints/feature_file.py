"""Keypoints from a feature file, so that another grid, stride or crop needs no pose estimation."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np

from ...config import as_fraction
from ...errors import KeypointsError, StoreError
from ...schema import TRACKS
from ...store import FeatureStore
from .poses import Content, Poses


def open_features(path: Path) -> Content:
    """The complete videos of a feature file.

    Raises KeypointsError if it is another kind of HDF5 file, damaged, or without keypoints.
    """
    try:
        store = FeatureStore(path)
        ids = store.ids
    except StoreError as error:
        raise KeypointsError(str(error)) from error
    if not ids:
        raise KeypointsError(f"{path}: holds no complete video yet")
    return Content("epam-extract", {i: functools.partial(_poses, store, i) for i in ids})


def features_digest(path: Path) -> str:
    """sha256 of the videos' names and the checksums stored with their keypoints.

    The file itself may be hundreds of gigabytes, of which keypoints are a few percent.
    """
    digest = hashlib.sha256()
    with FeatureStore(path) as store:
        for video_id in store.ids:
            sums = [store[video_id].checksum(name) for name in TRACKS]
            digest.update(repr((video_id, sums)).encode())
    return digest.hexdigest()


def _poses(store: FeatureStore, video_id: str) -> Poses:
    try:
        video = store[video_id]
        size = (float(str(video.attrs["height"])), float(str(video.attrs["width"])))
        rate = store.config.get("fps")
        return Poses(
            video["keypoints"][:],
            video["keypoint_scores"].astype(np.float32),
            size,
            fps=as_fraction(None if rate is None else float(str(rate))),
        )
    except StoreError as error:
        raise KeypointsError(str(error)) from error
