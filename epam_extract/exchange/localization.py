"""Formats for temporal localization, row by row: ActionFormer and similar loaders, OpenTAD.

From each reader's own code: ActionFormer places time t at row ``(t * fps - 0.5 * num_frames) /
feat_stride``, OpenTAD at ``(int(t / duration * frame) - offset_frames) / stride``.
"""

from __future__ import annotations

import json
import math

from ..errors import ConfigError
from ..store.virtual_file import write_virtual_file
from .export_target import Target
from .timeline import Timeline

LEAST_SEQUENCE = 2304  # max_seq_len of ActionFormer's models, which must be a multiple of 576:
SEQUENCE_STEP = 576  # 6 levels of half the length each, windows of 19 positions
NUDGE = 1e-3  # frames: OpenTAD rounds down, and 71.99999 is frame 72


def require_rows(target: Target) -> None:
    """Raise ConfigError if the file has one row per video."""
    if target.single:
        raise ConfigError(
            "this file has one window per video (--grid single): there is nothing to localize in; "
            "export it with --to npy, npz, pt, parquet or pyskl"
        )


def require_whole_rows(target: Target) -> None:
    """Raise ConfigError for a stride or offset that OpenTAD would round to whole frames."""
    require_rows(target)
    if not all(number.is_integer() for number in target.grid().values()):
        stride, offset = target.grid().values()
        raise ConfigError(
            f"OpenTAD takes whole numbers for stride and offset, and these are {stride:g} and "
            f"{offset:g}: extract with an even --stride"
        )


def rows_as_they_are(target: Target, video_id: str) -> None:
    """features/<video>.npy: (W, C)."""
    target.save(f"features/{target.names[video_id]}.npy", target.matrix(target.store[video_id]))


def actionformer(target: Target) -> None:
    """annotations.json and config.yaml next to the folder of features."""
    _actionformer(target, "thumos", target.path("features"), "~", ".npy")


def linked(target: Target) -> None:
    """The same with one HDF5 file, which ActionFormer's ActivityNet dataset reads."""
    with target.writing("hdf5") as path:
        write_virtual_file(path, target.store, target.names, target.features)
    _actionformer(target, "anet", target.path("hdf5"), "''", "''")


def _steady(timeline: Timeline, moment: float) -> float:
    return timeline.steady(moment)


def _nudged(timeline: Timeline, moment: float) -> float:
    return timeline.steady(moment) + NUDGE / timeline.fps


def _actionformer(target: Target, dataset: str, features: object, prefix: str, suffix: str) -> None:
    stride, offset = target.grid().values()
    longest = max(len(target.store[video_id]["times"]) for video_id in target.ids)
    length = max(LEAST_SEQUENCE, math.ceil(longest / SEQUENCE_STEP) * SEQUENCE_STEP)
    target.json("annotations.json", target.database(_steady))
    target.text(
        "config.yaml",
        f"""\
# ActionFormer, TriDet, TemporalMaxer and others on their loaders; opt, loader, train_cfg and
# test_cfg as in their thumos_i3d.yaml.
dataset_name: {dataset}
train_split: ['training']
val_split: ['validation']
dataset: {{
  json_file: {json.dumps(str(target.path("annotations.json")))},
  feat_folder: {json.dumps(str(features))},
  file_prefix: {prefix},
  file_ext: {suffix},
  num_classes: {len(target.labels)},
  input_dim: {target.width},
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


def opentad(target: Target) -> None:
    """annotations.json, category_idx.txt, missing_files.txt and dataset.py."""
    stride, offset = target.grid().values()
    known = target.annotations.videos if target.annotations is not None else {}
    missing = sorted(known.keys() - target.names.keys())
    target.json("annotations.json", target.database(_nudged))
    target.text("category_idx.txt", "".join(f"{label}\n" for label in target.labels))
    target.text("missing_files.txt", "".join(f"{name}\n" for name in missing))
    target.text(
        "dataset.py",
        f"""\
# OpenTAD: paste into a config, with in_channels={target.width} in its projection.
dataset_type = "ThumosPaddingDataset"
annotation_path = {str(target.path("annotations.json"))!r}
class_map = {str(target.path("category_idx.txt"))!r}
data_path = {str(target.path("features"))!r}
block_list = {str(target.path("missing_files.txt"))!r}
trunc_len = {LEAST_SEQUENCE}
common = dict(
    type=dataset_type, ann_file=annotation_path, block_list=block_list, class_map=class_map,
    data_path=data_path, filter_gt=False, feature_stride={stride:g}, sample_stride=1,
    offset_frames={offset:g},
)
gt = ["gt_segments", "gt_labels"]
load = dict(type="LoadFeats", feat_format="npy")
tensors = dict(type="ConvertToTensor", keys=["feats", *gt])
truncate = dict(type="RandomTrunc", trunc_len=trunc_len, trunc_thresh=0.5, crop_ratio=[0.9, 1.0])
turn = dict(type="Rearrange", keys=["feats"], ops="t c -> c t")
collect = dict(type="Collect", inputs="feats", keys=["masks", *gt])
dataset = dict(
    train=dict(
        **common, subset_name="training", pipeline=[load, tensors, truncate, turn, collect]
    ),
    val=dict(**common, subset_name="validation", pipeline=[load, tensors, turn, collect]),
    test=dict(
        **common, subset_name="validation", test_mode=True,
        pipeline=[
            load, dict(type="ConvertToTensor", keys=["feats"]), turn,
            dict(type="Collect", inputs="feats", keys=["masks"]),
        ],
    ),
)
evaluation = dict(
    type="mAP", subset="validation", tiou_thresholds=[0.3, 0.4, 0.5, 0.6, 0.7],
    ground_truth_filename=annotation_path,
)
""",
    )
