"""Features and keypoints for loaders of one's own: arrays, tables, pickles."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError

if TYPE_CHECKING:
    from .export import Export


def npy(export: Export, video_id: str) -> None:
    video, name = export.store[video_id], export.names[video_id]
    timeline = export.timeline(video_id)
    export.save(f"{name}_fps.npy", np.array(timeline.fps))
    export.save(f"{name}_timestamps_ms.npy", timeline.centers * 1000)
    for feature in export.features:  # the one that is looked for comes last
        export.save(f"{name}_{feature.removesuffix('_pooled')}.npy", video[feature])
    export.save(f"{name}.npy", export.matrix(video))


INDEX = ("video", "row", "start", "centre", "end", "frame", "valid", "person", "label")


def index(export: Export) -> None:
    """index.csv: a line per row."""
    with (
        export.writing("index.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(INDEX)
        for video_id in export.ids:
            video, timeline = export.store[video_id], export.timeline(video_id)
            times, valid, person = video["times"], video["valid"], video["person"]
            label = export.label(video_id) or ""
            for row, (start, centre, end) in enumerate(times.tolist()):
                frame = timeline.offset + row * timeline.stride
                known = (round(float(valid[row]), 4), round(float(person[row]), 4), label)
                writer.writerow((video_id, row, start, centre, max(end, centre), frame, *known))


def nothing(export: Export, video_id: str) -> None:
    """All of this format is in one file."""


def npz(export: Export) -> None:
    """features.npz: one matrix of all rows, with ids and times; streamed into the archive."""
    lengths = [len(export.store[video_id]["times"]) for video_id in export.ids]
    total = sum(lengths)
    with (
        export.writing("features.npz") as path,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        with archive.open("features.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (total, export.width)}
            np.lib.format.write_array_header_1_0(file, header)
            for video_id in export.ids:
                file.write(np.ascontiguousarray(export.matrix(export.store[video_id])).tobytes())
        columns = {
            "video": np.repeat(np.array(export.ids), lengths),
            "row": np.concatenate([np.arange(length) for length in lengths]),
            "times": np.concatenate([export.store[video_id]["times"] for video_id in export.ids]),
        }
        for name, column in columns.items():
            buffer = io.BytesIO()
            np.save(buffer, column)
            archive.writestr(f"{name}.npy", buffer.getvalue())


def pt(export: Export, video_id: str) -> None:
    import torch

    video = export.store[video_id]
    content: dict[str, object] = {name: torch.from_numpy(video[name]) for name in export.features}
    content |= {name: torch.from_numpy(video[name]) for name in ("times", "valid", "person")}
    content |= {"video": video_id, "label": export.label(video_id)}
    with export.writing(f"{export.names[video_id]}.pt") as path:
        torch.save(content, path)


def parquet(export: Export) -> None:
    """data/train-00000-of-00001.parquet: a row per window."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError(
            "--to parquet needs the package pyarrow: pip install 'epam-extract[parquet]'"
        ) from None
    first = export.store[export.ids[0]]
    sizes = {name: first.shape(name)[1] for name in export.features}
    small = ("start", "centre", "end", "valid", "person")
    schema = pa.schema(
        [("video", pa.string()), ("row", pa.int32())]
        + [(name, pa.float64()) for name in small]
        + [("label", pa.string())]
        + [(name.removesuffix("_pooled"), pa.list_(pa.float32(), n)) for name, n in sizes.items()]
    )
    with (
        export.writing("data/train-00000-of-00001.parquet") as path,
        pq.ParquetWriter(path, schema) as writer,
    ):
        for video_id in export.ids:
            video = export.store[video_id]
            times = video["times"]
            count = len(times)
            ends = np.maximum(times[:, 2], times[:, 1])
            values = (times[:, 0], times[:, 1], ends, video["valid"], video["person"])
            columns = [pa.array([video_id] * count), pa.array(np.arange(count, dtype=np.int32))]
            columns += [pa.array(column.astype(np.float64)) for column in values]
            columns.append(pa.array([export.label(video_id)] * count, pa.string()))
            columns += [
                pa.FixedSizeListArray.from_arrays(pa.array(video[name].reshape(-1)), size)
                for name, size in sizes.items()
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def pyskl(export: Export) -> None:
    """skeletons.pkl: keypoints of every video, as PoseC3D, ST-GCN++ and mmaction2 read them."""
    labels = sorted({label for i in export.ids if (label := export.label(i)) is not None})
    annotations = []
    for video_id in export.ids:
        video = export.store[video_id]
        attrs = video.attrs
        shape = (int(str(attrs["height"])), int(str(attrs["width"])))
        annotation: dict[str, object] = {
            "frame_dir": export.names[video_id],
            "total_frames": int(str(attrs["num_frames"])),
            "img_shape": shape,
            "original_shape": shape,
            "keypoint": video["keypoints"],
            "keypoint_score": video["keypoint_scores"].astype(np.float32),
        }
        label = export.label(video_id)
        if label is not None:
            annotation["label"] = labels.index(label)
        annotations.append(annotation)
    split = {"all": [export.names[video_id] for video_id in export.ids]}
    with export.writing("skeletons.pkl") as path, path.open("wb") as file:
        pickle.dump({"split": split, "annotations": annotations}, file, protocol=4)
    export.text("labels.txt", "".join(f"{label}\n" for label in labels))
