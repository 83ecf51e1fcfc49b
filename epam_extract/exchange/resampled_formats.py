"""Export formats whose readers expect rows at other times than the file's: rows are resampled.

From each reader's own code: MS-TCN and ASFormer read (C, T), one column per frame; BMN reads 100
rows over the duration; in PDAN and MS-TCT, row i of n starts at ``i * duration / n``; in
Moment-DETR, row i covers the two seconds from ``2 * i``. A row's value is taken at the middle of
what it covers, with linear interpolation between the file's rows.
"""

from __future__ import annotations

import math

import numpy as np

from .annotations import TRAINING
from .export_target import Target
from .timeline import Timeline, at_frames, at_seconds, evenly

BMN_ROWS = 100
TSU_FRAMES = 16  # per row
MOMENT_SECONDS = 2.0  # per row
BACKGROUND = "background"
COLUMNS = 32  # of a dense matrix, written at a time: 11 MB per hour of video


def own_clock(timeline: Timeline, moment: float) -> float:
    """Seconds as annotated."""
    return moment


def _from_start(timeline: Timeline, moment: float) -> float:
    return moment - timeline.start


def segmentation(target: Target, video_id: str) -> None:
    """features/<video>.npy: (C, T) float32, in C order."""
    timeline, matrix = target.timeline(video_id), target.matrix(target.store[video_id])
    middles = np.arange(timeline.num_frames) + 0.5
    shape = (matrix.shape[1], timeline.num_frames)
    with (
        target.writing(f"features/{target.names[video_id]}.npy") as path,
        path.open("wb") as file,
    ):
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, len(matrix.T), COLUMNS):
            dense = at_frames(matrix[:, first : first + COLUMNS], timeline, middles)
            file.write(np.ascontiguousarray(dense.T).data)


def segmentation_end(target: Target) -> None:
    """groundTruth, mapping.txt, splits, annotations.json, config.yaml."""
    names = [BACKGROUND, *(_word(label) for label in target.labels)]
    names = list(dict.fromkeys(names))
    target.text("mapping.txt", "".join(f"{n} {name}\n" for n, name in enumerate(names)))
    bundles: dict[str, list[str]] = {"train": [], "test": []}
    for video_id, annotation in target.annotated.items():
        name = target.names[video_id]
        bundles["train" if annotation.subset == TRAINING else "test"].append(f"{name}.txt\n")
        if target.has_labels:
            lines = _frame_labels(target, video_id)
            target.text(f"groundTruth/{name}.txt", "".join(f"{line}\n" for line in lines))
    for split, lines in bundles.items():
        target.text(f"splits/{split}.split1.bundle", "".join(lines))
    target.json("annotations.json", target.database(own_clock))
    target.settings(
        features_dim=target.width, sample_rate=1, num_classes=len(names), bg_class=[BACKGROUND]
    )


def _frame_labels(target: Target, video_id: str) -> list[str]:
    """The class of each frame: that of the last event that contains it."""
    timeline, annotation = target.timeline(video_id), target.annotation(video_id)
    labels = [BACKGROUND] * timeline.num_frames
    for event in annotation.events if annotation is not None else ():
        ends = timeline.frames_at(np.array([event.start, event.end]))
        start, stop = np.clip(np.rint(ends), 0, timeline.num_frames).astype(int).tolist()
        labels[start:stop] = [_word(event.label)] * (stop - start)
    return labels


def _word(label: str) -> str:
    """A class name without spaces, since the readers split at spaces."""
    return "_".join(label.split())


def bmn(target: Target, video_id: str) -> None:
    """<video>.csv: a header line and 100 rows."""
    rows = evenly(target.matrix(target.store[video_id]), target.timeline(video_id), BMN_ROWS)
    head = ",".join(str(number) for number in range(rows.shape[1]))
    with target.writing(f"{target.names[video_id]}.csv") as path:
        np.savetxt(path, rows, fmt="%.6g", delimiter=",", header=head, comments="")


def bmn_end(target: Target) -> None:
    """anno.json as mmaction2 reads it, and config.yaml."""
    content: dict[str, object] = {}
    for video_id, annotation in target.annotated.items():
        timeline = target.timeline(video_id)
        content[target.names[video_id]] = {
            "duration_second": timeline.duration,
            "duration_frame": timeline.num_frames,
            "feature_frame": timeline.num_frames,
            "fps": timeline.fps,
            "subset": annotation.subset,
            "annotations": [
                {
                    "segment": [_from_start(timeline, m) for m in (event.start, event.end)],
                    "label": event.label,
                }
                for event in annotation.events
            ],
        }
    target.json("anno.json", content)
    target.settings(feat_dim=target.width, temporal_dim=BMN_ROWS)


def tsu(target: Target, video_id: str) -> None:
    """<video>.npy: (ceil(T / 16), C)."""
    timeline = target.timeline(video_id)
    length = math.ceil(timeline.num_frames / TSU_FRAMES)
    rows = evenly(target.matrix(target.store[video_id]), timeline, length)
    target.save(f"{target.names[video_id]}.npy", rows)


def tsu_end(target: Target) -> None:
    """annotations.json as PDAN and MS-TCT read it, and config.yaml."""
    content: dict[str, object] = {}
    for video_id, annotation in target.annotated.items():
        timeline = target.timeline(video_id)
        content[target.names[video_id]] = {
            "subset": TRAINING if annotation.subset == TRAINING else "testing",
            "duration": timeline.duration,
            "actions": [
                [
                    target.labels.index(event.label),
                    _from_start(timeline, event.start),
                    _from_start(timeline, event.end),
                ]
                for event in annotation.events
            ],
        }
    target.json("annotations.json", content)
    target.settings(num_classes=len(target.labels))


def moment(target: Target, video_id: str) -> None:
    """<video>.npz: features (ceil(duration / 2), C)."""
    timeline = target.timeline(video_id)
    count = math.ceil(timeline.duration / MOMENT_SECONDS)
    middles = timeline.start + (np.arange(count) + 0.5) * MOMENT_SECONDS
    rows = at_seconds(target.matrix(target.store[video_id]), timeline, middles)
    with target.writing(f"{target.names[video_id]}.npz") as path:
        np.savez(path, features=rows)


def moment_end(target: Target) -> None:
    """annotations.json and config.yaml."""
    target.json("annotations.json", target.database(_from_start))
    target.settings(
        v_feat_dirs=[str(target.folder)], v_feat_dim=target.width, clip_length=MOMENT_SECONDS
    )
