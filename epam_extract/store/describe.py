"""What is in a file of features, for ``epam-extract info``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np

from ..schema import AXES, VIDEO_ATTRIBUTES, kinds, video_arrays
from .feature_file import FeatureFile
from .h5_objects import get_attribute, get_text
from .h5_read import BROKEN, first_line, has_checksum, read_progress

ADDED_UP = ("duration", "num_windows", "num_frames", "person_share", "clipped")
SHOWN = ("fps_num", "fps_den", "height", "width", "source", "notes", "label")
"""Attributes that ``info`` shows of a video, if it has them."""
KINDS = kinds(VIDEO_ATTRIBUTES)
READERS: dict[type, Callable[[h5py.Group, str], object]] = {
    int: lambda group, name: int(get_attribute(group, name)),
    float: lambda group, name: float(get_attribute(group, name, np.float64)),
    str: get_text,
}


def describe(path: Path, *, most_rows: int | None = None) -> dict[str, object]:
    """The contents of a file, JSON-ready. A run may be writing it.

    ``parts`` lists the files that a file of links points to, relative to its folder. ``videos`` has
    at most ``most_rows`` dicts: id, complete, windows, frames, seconds, fps, height, width,
    person_share, clipped, covered (its attributes have a checksum; earlier versions wrote none),
    notes, label, source. ``totals`` are the sums over all videos.

    Raises:
        StoreError: it is no file of ours, or damaged as a whole.
    """
    with FeatureFile(path) as store:
        rows, damaged = _rows(store, most_rows)
        with store.reading() as h5:
            uncovered = int(not has_checksum(h5))
        done = [row for row in rows if row["complete"]]
        frames = sum(int(str(row["frames"])) for row in done)
        shares = [float(str(row["person_share"] or 0)) * int(str(row["windows"])) for row in done]
        windows = sum(int(str(row["windows"])) for row in done)
        return {
            "path": str(path),
            "bytes": path.stat().st_size,
            "parts": store.parts,
            **{name: store.attributes[name] for name in ("schema_version", "tool", "created")},
            "config": store.config,
            "weights": store.weights,
            "pose_source": store.pose_source,
            "totals": {
                "videos": len(done),
                "incomplete": len(rows) - len(done),
                "failed": len(store.failures()),
                "damaged": len(damaged),
                "windows": windows,
                "frames": frames,
                "seconds": sum(float(str(row["seconds"] or 0)) for row in done),
                "person_share": sum(shares) / windows if windows else None,
                "clipped": sum(int(str(row["clipped"])) for row in done),
                "uncovered": uncovered + sum(not row["covered"] for row in done),
            },
            "arrays": {
                name: {
                    "shape": [AXES.get(str(axis), axis) for axis in array.axes],
                    "dtype": array.dtype_name,
                }
                for name, array in video_arrays(store.config).items()
            },
            "videos": [row for row in rows if "source" in row],
            "failures": [
                {"id": video_id, "stage": failure.stage, "message": failure.message}
                for video_id, failure in store.failures().items()
            ],
            "damaged": [{"id": name, "message": reason} for name, reason in damaged.items()],
        }


def _rows(store: FeatureFile, most: int | None) -> tuple[list[dict[str, object]], dict[str, str]]:
    """Rows by id, and the damaged videos with the reason.

    Each row has what is added up; the first ``most`` also have what is shown.
    """
    rows: dict[str, dict[str, object]] = {}
    damaged: dict[str, str] = {}
    with store.reading():  # one commit: each video counted can be shown
        for video_id, group, complete in store.groups(damaged=damaged):
            try:
                rows[video_id] = _added_up(video_id, group, complete)
            except BROKEN as error:
                damaged[video_id] = first_line(error)
        for video_id in sorted(rows)[:most]:
            with store.group(video_id) as group:
                try:
                    rows[video_id] |= _shown(group)
                except BROKEN as error:
                    del rows[video_id]
                    damaged[video_id] = first_line(error)
    return [rows[video_id] for video_id in sorted(rows)], damaged


def _added_up(video_id: str, group: h5py.Group, complete: bool) -> dict[str, object]:
    have = _values(group, ADDED_UP)
    windows, frames = have.get("num_windows"), have.get("num_frames")
    if not complete:
        progress = read_progress(group)
        windows, frames = progress.windows, progress.frames
    return {
        "id": video_id,
        "complete": complete,
        "windows": windows or 0,
        "frames": frames or 0,
        "seconds": have.get("duration"),
        "person_share": have.get("person_share"),
        "clipped": have.get("clipped", 0),
        "covered": has_checksum(group),
    }


def _shown(group: h5py.Group) -> dict[str, object]:
    have = _values(group, SHOWN)
    known = "fps_num" in have  # otherwise it is incomplete and not measured yet
    return {
        "fps": f"{have['fps_num']}/{have['fps_den']}" if known else None,
        "height": have.get("height"),
        "width": have.get("width"),
        "notes": have.get("notes", ""),
        "label": have.get("label", ""),
        "source": have.get("source", ""),
    }


def _values(group: h5py.Group, names: Iterable[str]) -> dict[str, object]:
    """Those of the attributes that the video has."""
    values = {}
    for name in names:
        with contextlib.suppress(KeyError):
            values[name] = READERS[KINDS[name]](group, name)
    return values
