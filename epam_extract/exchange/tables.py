"""Features and keypoints for the user's own loaders: arrays, tables, pickles."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .annotations import TESTING, TRAINING, VALIDATION
from .export_target import Target
from .resampled_formats import own_clock

BESIDE = ("_rgb", "_pose", "_fps", "_timestamps_ms")
"""Further files of each video, with the suffixes that video_features uses."""
INDEX = (
    *("video", "row", "start", "centre", "end", "frame"),
    *("valid", "person", "label", "subset"),
)


def npy(target: Target, video_id: str) -> None:
    """A video's arrays; the one with all features is written last."""
    video, name = target.store[video_id], target.names[video_id]
    target.save(f"{name}_fps.npy", np.array(float(video.fps)))
    target.save(f"{name}_timestamps_ms.npy", video["times"][:, 1] * 1000)
    for stream in ("rgb", "pose"):
        if f"{stream}_pooled" in target.features:
            target.save(f"{name}_{stream}.npy", video[f"{stream}_pooled"][:])
    target.save(f"{name}.npy", target.matrix(video))


def npy_end(target: Target) -> None:
    """index.csv, one line per row; annotations.json and config.yaml."""
    with (
        target.writing("index.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(INDEX)
        for video_id in target.ids:
            video, timeline = target.store[video_id], target.timeline(video_id)
            subset = _subset(target, video_id) or ""
            columns = zip(
                *(video["times"].tolist(), video["valid"].tolist(), video["person"].tolist()),
                target.row_labels(video_id),
                strict=True,
            )
            for row, ((start, centre, end), valid, person, label) in enumerate(columns):
                frame = timeline.offset + row * timeline.stride
                shares = (round(valid, 4), round(person, 4))
                writer.writerow(
                    (video_id, row, start, centre, max(end, centre), frame)
                    + (*shares, label or "", subset)
                )
    _companions(target)


def pt(target: Target, video_id: str) -> None:
    """<video>.pt: a dict of tensors."""
    import torch

    video = target.store[video_id]
    names = (*target.features, "times", "valid", "person")
    content: dict[str, object] = {name: torch.from_numpy(video[name][:]) for name in names}
    content |= {"video": video_id, "fps": float(video.fps)}
    with target.writing(f"{target.names[video_id]}.pt") as path:
        torch.save(content, path)


def pt_end(target: Target) -> None:
    """annotations.json and config.yaml."""
    _companions(target)


def _companions(target: Target) -> None:
    target.json("annotations.json", target.database(own_clock))
    target.settings()


def _subset(target: Target, video_id: str) -> str | None:
    annotation = target.annotation(video_id)
    return None if annotation is None else annotation.subset


def npz(target: Target) -> None:
    """features.npz: one matrix of all rows, with ids and times, streamed to disk."""
    lengths = [len(target.store[video_id]["times"]) for video_id in target.ids]
    with (
        target.writing("features.npz") as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        with archive.open("features.npy", "w", force_zip64=True) as file:
            shape = (sum(lengths), target.width)
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for video_id in target.ids:
                file.write(target.matrix(target.store[video_id]).tobytes())
        labels = [label or "" for video_id in target.ids for label in target.row_labels(video_id)]
        columns = {
            "video": np.repeat(np.array(target.ids), lengths),
            "row": np.concatenate([np.arange(length) for length in lengths]),
            "times": np.concatenate([target.store[video_id]["times"] for video_id in target.ids]),
            "label": np.array(labels),
        }
        for name, column in columns.items():
            buffer = io.BytesIO()
            np.save(buffer, column)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    _companions(target)


def require_pyarrow(target: Target) -> None:
    """Raise ConfigError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError(
            "--to parquet needs the package pyarrow: pip install 'epam-extract[parquet]'"
        ) from None


def parquet(target: Target) -> None:
    """data/train-00000-of-00001.parquet: one row per window."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = target.store[target.ids[0]]
    sizes = {name: first[name].shape[1] for name in target.features}
    small = ("start", "centre", "end", "valid", "person")
    schema = pa.schema(
        [("video", pa.string()), ("row", pa.int32())]
        + [(name, pa.float64()) for name in small]
        + [("label", pa.string()), ("subset", pa.string())]
        + [(name.removesuffix("_pooled"), pa.list_(pa.float32(), n)) for name, n in sizes.items()]
    )
    with (
        target.writing("data/train-00000-of-00001.parquet") as path,
        pq.ParquetWriter(path, schema) as writer,
    ):
        for video_id in target.ids:
            video = target.store[video_id]
            times = video["times"][:]
            count = len(times)
            ends = np.maximum(times[:, 2], times[:, 1])
            values = (times[:, 0], times[:, 1], ends, video["valid"], video["person"])
            columns = [pa.array([video_id] * count), pa.array(np.arange(count, dtype=np.int32))]
            columns += [pa.array(column.astype(np.float64)) for column in values]
            columns.append(pa.array(target.row_labels(video_id), pa.string()))
            columns.append(pa.array([_subset(target, video_id)] * count, pa.string()))
            columns += [
                pa.FixedSizeListArray.from_arrays(pa.array(video[name].reshape(-1)), size)
                for name, size in sizes.items()
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    _companions(target)


SPLITS = {TRAINING: "train", VALIDATION: "val", TESTING: "test"}


def pyskl(target: Target) -> None:
    """skeletons.pkl: keypoints of every video, as PoseC3D, ST-GCN++ and mmaction2 read them."""
    known = {video_id: target.label(video_id) for video_id in target.ids}
    labels = sorted({label for label in known.values() if label is not None})
    split: dict[str, list[str]] = {"all": list(target.names.values()), "train": [], "val": []}
    for video_id, label in known.items():
        subset = _subset(target, video_id)
        if label is not None and subset is not None:
            split.setdefault(SPLITS[subset], []).append(target.names[video_id])
    with target.writing("skeletons.pkl") as path:
        _dump(path, split, (_skeleton(target, video_id, labels) for video_id in target.ids))
    target.text("labels.txt", "".join(f"{label}\n" for label in labels))
    target.text(
        "dataset.py",
        f"""\
# PYSKL and mmaction2: paste into a config; num_classes={len(labels)} in its head.
dataset_type = "PoseDataset"
ann_file = {str(target.path("skeletons.pkl"))!r}
train = dict(type=dataset_type, ann_file=ann_file, split="train")  # and your pipeline
val = dict(type=dataset_type, ann_file=ann_file, split="val")
""",
    )


def _skeleton(target: Target, video_id: str, labels: list[str]) -> dict[str, object]:
    video, label = target.store[video_id], target.label(video_id)
    attrs = video.attrs
    shape = (int(str(attrs["height"])), int(str(attrs["width"])))
    skeleton: dict[str, object] = {
        "frame_dir": target.names[video_id],
        "total_frames": int(str(attrs["num_frames"])),
        "img_shape": shape,
        "original_shape": shape,
        "keypoint": video["keypoints"][:],
        "keypoint_score": video["keypoint_scores"].astype(np.float32),
    }
    if label is not None:
        skeleton["label"] = labels.index(label)
    return skeleton


def _dump(path: Path, split: dict[str, list[str]], annotations: Iterable[object]) -> None:
    """Pickle ``{"split": split, "annotations": [...]}`` with one annotation in memory at a time.

    The opcodes of the outer dict and list are written by hand; their items are pickled without a
    memo, which would keep them in memory.
    """
    with path.open("wb") as file:

        def put(value: object) -> None:
            buffer = io.BytesIO()
            pickler = pickle.Pickler(buffer, protocol=4)
            pickler.fast = True  # no memo
            pickler.dump(value)
            file.write(buffer.getvalue()[2:-1])  # without PROTO 4 and STOP

        file.write(pickle.PROTO + b"\x04" + pickle.EMPTY_DICT + pickle.MARK)
        put("split")
        put(split)
        put("annotations")
        file.write(pickle.EMPTY_LIST)
        for annotation in annotations:
            put(annotation)
            file.write(pickle.APPEND)
        file.write(pickle.SETITEMS + pickle.STOP)
