"""The formats of ``export``: what each file is called, who writes it, what its reader needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import localization, tables

if TYPE_CHECKING:
    from .export import Export


@dataclass(frozen=True)
class Form:
    """One format."""

    name: Callable[[str], str]
    """Id of a video -> name of its file, without suffix."""
    file: Callable[[str], str]
    """That name -> a file which is there once the video is done."""
    video: Callable[[Export, str], None]
    """Write one video."""
    words: tuple[str, ...]
    """For README.txt."""
    end: Callable[[Export], None] | None = None
    """Write what concerns all videos."""


def _nested(video_id: str) -> str:
    return video_id


def _flat(video_id: str) -> str:
    return video_id.replace("/", "__")


def _plain(video_id: str) -> str:
    """For readers that cut an id at its first dot."""
    return _flat(video_id).replace(".", "_")


def _in(folder: str, suffix: str) -> Callable[[str], str]:
    return lambda name: f"{folder}{name}{suffix}"


ROW_WORDS = (
    "features/<video>.npy is (rows, numbers) float32; annotations.json has every video's measured "
    "duration, fps and number of frames.",
    "feat_stride counts frames, so videos of other frame rates have other seconds between rows.",
)
FORMATS = {
    "actionformer": Form(
        _nested,
        _in("features/", ".npy"),
        localization.rows_as_they_are,
        (*ROW_WORDS, "Paste config.yaml. num_frames is twice the offset of row 0, on purpose."),
        localization.actionformer,
    ),
    "opentad": Form(
        _nested,
        _in("features/", ".npy"),
        localization.rows_as_they_are,
        (*ROW_WORDS, "Paste dataset.py."),
        localization.opentad,
    ),
    "segmentation": Form(
        _plain,
        _in("features/", ".npy"),
        localization.segmentation,
        (
            "For MS-TCN, ASFormer and their kin: features/<video>.npy is (numbers, frames), a "
            "column per frame, linear between rows; groundTruth/<video>.txt has a line per frame.",
            "Set features_dim to the width above and sample_rate to 1.",
        ),
        localization.segmentation_end,
    ),
    "bmn": Form(
        _flat,
        _in("", ".csv"),
        localization.bmn,
        ("<video>.csv: a header line, then 100 rows evenly over the duration; anno.json.",),
        localization.bmn_end,
    ),
    "tsu": Form(
        _flat,
        _in("", ".npy"),
        localization.tsu,
        ("For PDAN and MS-TCT: <video>.npy has ceil(frames / 16) rows evenly over the duration.",),
    ),
    "moment": Form(
        _flat,
        _in("", ".npz"),
        localization.moment,
        ("<video>.npz, key features: a row per 2 seconds. Set clip_length 2.",),
    ),
    "npy": Form(
        _nested,
        _in("", ".npy"),
        tables.npy,
        (
            "<video>.npy has all numbers side by side; <video>_rgb.npy and _pose.npy each stream; "
            "_fps.npy and _timestamps_ms.npy; index.csv has a line per row.",
        ),
        tables.index,
    ),
    "npz": Form(
        _nested,
        lambda name: "features.npz",
        tables.nothing,
        ("features.npz: features (rows, numbers), video, row, times (start, centre, end).",),
        tables.npz,
    ),
    "parquet": Form(
        _nested,
        lambda name: "data/train-00000-of-00001.parquet",
        tables.nothing,
        ("data/*.parquet: a row per window, for pandas, polars, DuckDB, Hugging Face datasets.",),
        tables.parquet,
    ),
    "pt": Form(
        _nested,
        _in("", ".pt"),
        tables.pt,
        ("<video>.pt: a dict of tensors; torch.load(path, weights_only=True).",),
    ),
    "pyskl": Form(
        _plain,
        lambda name: "skeletons.pkl",
        tables.nothing,
        ("skeletons.pkl: keypoints of every video as mmaction2 and PYSKL read them.",),
        tables.pyskl,
    ),
}
"""By the name that ``--to`` takes."""
