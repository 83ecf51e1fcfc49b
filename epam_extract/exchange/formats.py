"""The formats of ``export``: how files are named, who writes them, what their reader needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import localization, resampled_formats, tables
from .export_target import Target


def _nested(video_id: str) -> str:
    return video_id


def _flat(video_id: str) -> str:
    return video_id.replace("/", "__")


def _plain(video_id: str) -> str:
    """For readers that truncate an id at its first dot, and for skeletons' ``frame_dir``."""
    return _flat(video_id).replace(".", "_")


def _anything(target: Target) -> None:
    """Nothing to refuse."""


def _in_one_file(target: Target, video_id: str) -> None:
    """Nothing to write: this format is a single file."""


def _no_files(name: str) -> tuple[str, ...]:
    return ()


def _file(folder: str, suffix: str) -> Callable[[str], tuple[str, ...]]:
    return lambda name: (f"{folder}{name}{suffix}",)


@dataclass(frozen=True, kw_only=True)
class Form:
    """One format."""

    name: Callable[[str], str]
    """Video id -> name of its file, without suffix."""
    files: Callable[[str], tuple[str, ...]]
    """That name -> the video's files."""
    end: Callable[[Target], None]
    """Write the files that concern all videos."""
    words: tuple[str, ...]
    """For README.txt."""
    video: Callable[[Target, str], None] = _in_one_file
    """Write one video."""
    check: Callable[[Target], None] = _anything
    """Refuse what the reader cannot use before anything is written."""
    counts_frames: bool = False
    """Whether the reader converts seconds to frames at a constant rate."""


ROW_WORDS = (
    "features/<video>.npy is (rows, numbers) float32; annotations.json has every video's measured "
    "duration, fps and number of frames.",
)
NUM_FRAMES = "num_frames is twice the offset of row 0, which centres the rows; leave it as it is."
OWN_CLOCK = "Seconds in annotations.json are as annotated, by the video's own clock, as times are."
FROM_START = "Seconds in the annotations count from the first frame."
FORMATS = {
    "actionformer": Form(
        name=_nested,
        files=_file("features/", ".npy"),
        video=localization.rows_as_they_are,
        end=localization.actionformer,
        check=localization.require_rows,
        words=(*ROW_WORDS, f"Paste config.yaml. {NUM_FRAMES}"),
        counts_frames=True,
    ),
    "opentad": Form(
        name=_nested,
        files=_file("features/", ".npy"),
        video=localization.rows_as_they_are,
        end=localization.opentad,
        check=localization.require_whole_rows,
        words=(
            *ROW_WORDS,
            "Paste dataset.py. Segments lie a thousandth of a frame late, since OpenTAD rounds "
            "frames down.",
        ),
        counts_frames=True,
    ),
    "segmentation": Form(
        name=_plain,
        files=_file("features/", ".npy"),
        video=resampled_formats.segmentation,
        end=resampled_formats.segmentation_end,
        words=(
            "For MS-TCN, ASFormer and their kin: features/<video>.npy is (numbers, frames), a "
            "column per frame, linear between rows; groundTruth/<video>.txt has a line per frame.",
            "config.yaml has what to set in their main.py.",
            OWN_CLOCK,
        ),
    ),
    "bmn": Form(
        name=_flat,
        files=_file("", ".csv"),
        video=resampled_formats.bmn,
        end=resampled_formats.bmn_end,
        words=(
            "<video>.csv: a header line, then 100 rows evenly over the duration; anno.json.",
            FROM_START,
        ),
    ),
    "tsu": Form(
        name=_flat,
        files=_file("", ".npy"),
        video=resampled_formats.tsu,
        end=resampled_formats.tsu_end,
        words=(
            "For PDAN and MS-TCT: <video>.npy has ceil(frames / 16) rows evenly over the duration; "
            "annotations.json has subset, duration and actions [class, start, end].",
            FROM_START,
        ),
    ),
    "moment": Form(
        name=_flat,
        files=_file("", ".npz"),
        video=resampled_formats.moment,
        end=resampled_formats.moment_end,
        words=(
            "For Moment-DETR and its kin: <video>.npz, key features, has a row per 2 seconds.",
            "Queries are yours to write; annotations.json has the events of each video.",
            FROM_START,
        ),
    ),
    "npy": Form(
        name=_nested,
        files=lambda name: tuple(f"{name}{end}.npy" for end in (*tables.BESIDE, "")),
        video=tables.npy,
        end=tables.npy_end,
        words=(
            "<video>.npy has all numbers side by side; <video>_rgb.npy and _pose.npy each stream; "
            "_fps.npy and _timestamps_ms.npy; index.csv has a line per row.",
            OWN_CLOCK,
        ),
    ),
    "npz": Form(
        name=_nested,
        files=_no_files,
        end=tables.npz,
        words=(
            "features.npz: features (rows, numbers), video, row, label; times: start, centre, end.",
            OWN_CLOCK,
        ),
    ),
    "parquet": Form(
        name=_nested,
        files=_no_files,
        end=tables.parquet,
        check=tables.require_pyarrow,
        words=(
            "data/*.parquet: a row per window, for pandas, polars, DuckDB, Hugging Face datasets.",
            OWN_CLOCK,
        ),
    ),
    "pt": Form(
        name=_nested,
        files=_file("", ".pt"),
        video=tables.pt,
        end=tables.pt_end,
        words=("<video>.pt: a dict of tensors; torch.load(path, weights_only=True).", OWN_CLOCK),
    ),
    "pyskl": Form(
        name=_plain,
        files=_no_files,
        end=tables.pyskl,
        words=(
            "skeletons.pkl: keypoints of every video as mmaction2 and PYSKL read them. label is "
            "the place in labels.txt; a video has one where all its events have the same.",
            "split: all; and train, val, test of the videos with a label, as they are annotated.",
        ),
    ),
}
"""By the name for ``--to``."""

LINKED = Form(
    name=_flat,  # a dataset cannot lie inside another
    files=_no_files,
    end=localization.linked,
    check=localization.require_rows,
    words=(
        "The .hdf5 file links to the file of features and copies nothing: move both together. "
        "Where the features are gone, it reads as NaN.",
        f"Paste config.yaml; its dataset is ActivityNet's, which reads HDF5. {NUM_FRAMES}",
    ),
    counts_frames=True,
)
"""``actionformer`` as one file."""
