"""Features for temporal localization: what its readers expect, and how each finds a row's time.

Facts about each reader are from its own code: ActionFormer and its kin (rows at ``(t * fps - 0.5 *
num_frames) / feat_stride``), OpenTAD (``offset_frames``), MS-TCN and ASFormer ((C, T) per frame),
BMN (100 rows over the duration), PDAN and MS-TCT (``ceil(T / 16)`` rows), Moment-DETR (2 s clips).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from .annotations import VideoAnnotation
from .timeline import Timeline, at_frames, at_seconds, evenly

if TYPE_CHECKING:
    from .export import Export

LEAST_SEQUENCE = 2304  # of ActionFormer's models: a multiple of 576 for 6 levels of window 19
BMN_ROWS = 100
TSU_FRAMES = 16  # per row
MOMENT_SECONDS = 2.0  # per row
SUBSETS = ("training", "validation")

# --------------------------------------------------------------- localization: rows as they are


def rows_as_they_are(export: Export, video_id: str) -> None:
    export.save(f"features/{export.names[video_id]}.npy", export.matrix(export.store[video_id]))


def _activitynet(export: Export) -> tuple[dict[str, object], list[str]]:
    """The database, completed by what was measured, and the names of the classes."""
    labels = export.annotations.labels if export.annotations is not None else []
    numbers = {label: number for number, label in enumerate(labels)}
    database: dict[str, object] = {}
    for video_id in export.ids:
        timeline, known = export.timeline(video_id), export.annotation(video_id)
        annotation = known or VideoAnnotation()
        if known is not None:
            _require_duration(video_id, timeline, known)
        subset = annotation.subset if annotation.subset in SUBSETS else SUBSETS[0]
        database[export.names[video_id]] = {
            "subset": subset if annotation.subset != "testing" else SUBSETS[1],
            "duration": timeline.num_frames / timeline.fps,
            "fps": timeline.fps,
            "frame": timeline.num_frames,
            "annotations": [
                {
                    "segment": [timeline.steady(event.start), timeline.steady(event.end)],
                    "label": event.label,
                    "label_id": numbers[event.label],
                }
                for event in annotation.events
            ],
        }
    return {"version": "epam-extract", "database": database}, labels


def _require_duration(video_id: str, timeline: Timeline, annotation: VideoAnnotation) -> None:
    """Refuse annotations of another cut of the video: they would shift every label."""
    stated = annotation.stated.get("duration")
    if stated is not None and abs(stated - timeline.duration) > timeline.stride / timeline.fps:
        raise ConfigError(
            f"{video_id}: annotated as {stated:g} s long and measured as {timeline.duration:g} s: "
            "more than a row apart, so labels would shift. Correct the annotations, or leave the "
            "duration out."
        )


def _grid(export: Export) -> tuple[float, float]:
    """Stride and offset, which all videos of a file share."""
    timeline = export.timeline(export.ids[0])
    if export.store.config.get("grid") == "single":
        raise ConfigError(
            "this file has one window per video (--grid single): there is nothing to localize in; "
            "export it with --to npy, npz, pt, parquet or pyskl"
        )
    return timeline.stride, timeline.offset


def actionformer(export: Export) -> None:
    stride, offset = _grid(export)
    database, labels = _activitynet(export)
    longest = max(len(export.store[video_id]["times"]) for video_id in export.ids)
    length = max(LEAST_SEQUENCE, math.ceil(longest / 576) * 576)
    export.text("annotations.json", json.dumps(database, indent=1) + "\n")
    export.text(
        "config.yaml",
        f"""\
# ActionFormer, TriDet, TemporalMaxer and others on their loaders; opt, loader, train_cfg and
# test_cfg as in their thumos_i3d.yaml.
dataset_name: thumos
train_split: ['training']
val_split: ['validation']
dataset: {{
  json_file: {export.out / "annotations.json"},
  feat_folder: {export.out / "features"},
  file_prefix: ~,
  file_ext: .npy,
  num_classes: {max(len(labels), 1)},
  input_dim: {export.width},
  feat_stride: {stride:g},
  num_frames: {2 * offset:g},
  default_fps: ~,
  downsample_rate: 1,
  trunc_thresh: 0.5,
  crop_ratio: [0.9, 1.0],
  max_seq_len: {length},
}}
model: {{
  fpn_type: identity,
  max_buffer_len_factor: 6.0,
  n_mha_win_size: 19,
}}
""",
    )


def opentad(export: Export) -> None:
    stride, offset = _grid(export)
    if offset != int(offset) or stride != int(stride):
        raise ConfigError(
            f"OpenTAD takes whole numbers for stride and offset, and these are {stride:g} and "
            f"{offset:g}: extract with an even --stride"
        )
    database, labels = _activitynet(export)
    missing = sorted(set(export.annotations.videos) - set(export.ids)) if export.annotations else []
    export.text("annotations.json", json.dumps(database, indent=1) + "\n")
    export.text("category_idx.txt", "".join(f"{label}\n" for label in labels))
    export.text("missing_files.txt", "".join(f"{name}\n" for name in missing))
    load = '[dict(type="LoadFeats", feat_format="npy"), dict(type="ConvertToTensor", '
    export.text(
        "dataset.py",
        f"""\
# OpenTAD: paste into a config, with in_channels={export.width} in its projection.
dataset_type = "ThumosPaddingDataset"
annotation_path = {str(export.out / "annotations.json")!r}
class_map = {str(export.out / "category_idx.txt")!r}
data_path = {str(export.out / "features")!r}
block_list = {str(export.out / "missing_files.txt")!r}
trunc_len = {LEAST_SEQUENCE}
common = dict(type=dataset_type, ann_file=annotation_path, block_list=block_list,
              class_map=class_map, data_path=data_path, filter_gt=False,
              feature_stride={stride:g}, sample_stride=1, offset_frames={offset:g})
gt = ["gt_segments", "gt_labels"]
load = {load}keys=["feats"])]
end = [dict(type="Rearrange", keys=["feats"], ops="t c -> c t")]
dataset = dict(
    train=dict(common, subset_name="training", pipeline=[
        load[0], dict(type="ConvertToTensor", keys=["feats", *gt]),
        dict(type="RandomTrunc", trunc_len=trunc_len, trunc_thresh=0.5, crop_ratio=[0.9, 1.0]),
        *end, dict(type="Collect", inputs="feats", keys=["masks", *gt])]),
    val=dict(common, subset_name="validation", pipeline=[
        load[0], dict(type="ConvertToTensor", keys=["feats", *gt]),
        *end, dict(type="Collect", inputs="feats", keys=["masks", *gt])]),
    test=dict(common, subset_name="validation", test_mode=True, pipeline=[
        *load, *end, dict(type="Collect", inputs="feats", keys=["masks"])]),
)
evaluation = dict(type="mAP", subset="validation", tiou_thresholds=[0.3, 0.4, 0.5, 0.6, 0.7],
                  ground_truth_filename=annotation_path)
""",
    )


# ------------------------------------------------------------- localization: resampled by time


def segmentation(export: Export, video_id: str) -> None:
    timeline, name = export.timeline(video_id), export.names[video_id]
    positions = np.arange(timeline.num_frames) + 0.5
    dense = at_frames(export.matrix(export.store[video_id]), timeline, positions)
    if export.annotations is not None:
        labels = ["background"] * timeline.num_frames
        annotation = export.annotation(video_id)
        for event in annotation.events if annotation else []:
            ends = np.clip(
                timeline.frames_at(np.array([event.start, event.end])), 0, timeline.num_frames
            )
            start, stop = (round(float(end)) for end in ends)
            labels[start:stop] = [_word(event.label)] * (stop - start)
        export.text(f"groundTruth/{name}.txt", "".join(f"{label}\n" for label in labels))
    export.save(f"features/{name}.npy", dense.T)


def _word(label: str) -> str:
    """A class without spaces, at which the readers cut."""
    return "_".join(label.split())


def segmentation_end(export: Export) -> None:
    labels = export.annotations.labels if export.annotations is not None else []
    names = ["background", *dict.fromkeys(_word(label) for label in labels)]
    export.text("mapping.txt", "".join(f"{n} {name}\n" for n, name in enumerate(names)))
    bundles: dict[str, list[str]] = {"train": [], "test": []}
    for video_id in export.ids:
        annotation = export.annotation(video_id) or VideoAnnotation()
        split = "train" if annotation.subset.startswith("train") else "test"
        bundles[split].append(f"{export.names[video_id]}.txt\n")
    for split, lines in bundles.items():
        export.text(f"splits/{split}.split1.bundle", "".join(lines))


def bmn(export: Export, video_id: str) -> None:
    rows = evenly(export.matrix(export.store[video_id]), export.timeline(video_id), BMN_ROWS)
    head = ",".join(str(number) for number in range(rows.shape[1]))
    with export.writing(f"{export.names[video_id]}.csv") as path:
        np.savetxt(path, rows, fmt="%.6g", delimiter=",", header=head, comments="")


def bmn_end(export: Export) -> None:
    content = {}
    for video_id in export.ids:
        timeline = export.timeline(video_id)
        annotation = export.annotation(video_id) or VideoAnnotation()
        content[export.names[video_id]] = {
            "duration_second": timeline.duration,
            "duration_frame": timeline.num_frames,
            "feature_frame": timeline.num_frames,
            "fps": timeline.fps,
            "annotations": [
                {
                    "segment": [event.start - timeline.start, event.end - timeline.start],
                    "label": event.label,
                }
                for event in annotation.events
            ],
        }
    export.text("anno.json", json.dumps(content, indent=1) + "\n")


def tsu(export: Export, video_id: str) -> None:
    timeline = export.timeline(video_id)
    length = math.ceil(timeline.num_frames / TSU_FRAMES)
    rows = evenly(export.matrix(export.store[video_id]), timeline, length)
    export.save(f"{export.names[video_id]}.npy", rows)


def moment(export: Export, video_id: str) -> None:
    timeline = export.timeline(video_id)
    count = math.ceil(timeline.duration / MOMENT_SECONDS)
    middles = timeline.start + (np.arange(count) + 0.5) * MOMENT_SECONDS
    rows = at_seconds(export.matrix(export.store[video_id]), timeline, middles)
    with export.writing(f"{export.names[video_id]}.npz") as path:
        np.savez(path, features=rows)
