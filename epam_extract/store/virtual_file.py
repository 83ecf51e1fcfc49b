"""A small HDF5 file of virtual datasets, whose values lie in feature files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from .feature_store import FeatureStore


def write_virtual_file(
    path: Path, store: FeatureStore, names: Mapping[str, str], features: Sequence[str]
) -> None:
    """Write ``path``: a dataset (W, C) float32 per video, its ``features`` side by side.

    They are HDF5 virtual datasets. If the file of features is moved or deleted they read as NaN, so
    that no training mistakes the rows for features.

    Args:
        path: the file to write, in the folder where it will stay.
        names: id of a video -> name of its dataset.
    """
    with h5py.File(path, "w", libver="latest") as h5:
        for video_id, name in names.items():
            video = store[video_id]
            where = os.path.relpath(video.path.resolve(), path.parent.resolve())
            shapes = [video[feature].shape for feature in features]
            layout = h5py.VirtualLayout((shapes[0][0], sum(width for _, width in shapes)), "<f4")
            column = 0
            for feature, shape in zip(features, shapes, strict=True):
                layout[:, column : column + shape[1]] = h5py.VirtualSource(
                    _escape_percent(where),
                    _escape_percent(f"videos/{video_id}/{feature}"),
                    shape,
                    "<f4",
                )
                column += shape[1]
            h5.create_virtual_dataset(name, layout, fillvalue=np.nan)


def _escape_percent(name: str) -> str:
    """A name in which HDF5 finds no ``%b``, its placeholder for a block number."""
    return name.replace("%", "%%")
