"""Labels of videos and segments, from a file or from the feature file itself."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..store import FeatureStore
from .annotations import read_annotations
from .unpickle import load_pickle

EXPECTED = (
    "expected a CSV with the header video,label[,split][,group][,start,end], ActivityNet's JSON, "
    "or a pickle of PYSKL with a label per annotation"
)
PICKLES = (".pkl", ".pickle")
SEGMENT = re.compile(r"(.+)/\d+-\d+")  # id of a segment: <video>/<start>-<end> in ms
SOURCE_SUFFIX = "_rgb"  # in the names of NTU's videos, not in those of its skeletons


@dataclass(frozen=True)
class Labelled:
    """A video or segment with a label."""

    video: str
    label: str
    splits: frozenset[str] = frozenset()
    """Names of the splits it is in."""
    group: str = ""
    """Such as the person filmed; "" means the video itself."""
    start: float = -math.inf
    """Seconds."""
    end: float = math.inf


@dataclass(frozen=True)
class Example:
    """Rows of a stored video that share a label."""

    video: str
    rows: np.ndarray
    """(n,) int64, at least one."""
    label: str
    splits: frozenset[str]
    group: str


@dataclass(frozen=True)
class Examples:
    """Labels that were found in a feature file."""

    found: list[Example]
    missing: list[str]
    """Labelled videos that are not in the file."""
    rowless: list[str]
    """Labelled segments without the centre of any row."""
    unlabelled: list[str]
    """Stored videos without a label."""

    def notes(self) -> list[str]:
        """What was left out, in words."""
        return [
            f"{len(names):,} {words} (first: {names[0]})"
            for names, words in (
                (self.missing, "labelled videos are not in the file"),
                (self.rowless, "labelled parts have no row"),
                (self.unlabelled, "videos of the file have no label"),
            )
            if names
        ]


def read_labels(path: Path) -> list[Labelled]:
    """Read labels from a file. Its format is recognised from its name and content.

    Raises:
        ConfigError: it cannot be read, has another structure, or holds no label.
        KeypointsError: it is a pickle that could run code, or is damaged.
    """
    try:
        if path.suffix in PICKLES:
            labels = list(_pyskl(load_pickle(path)))
        else:
            text = path.read_text("utf-8-sig")
            rows = [row for row in csv.reader(text.splitlines()) if row and row[0][:1] != "#"]
            is_csv = text.lstrip()[:1] not in ("{", "[")
            named = is_csv and bool(rows) and rows[0][0].strip().lower() == "video"
            if named or (is_csv and (not rows or len(rows[0]) < 3)):
                labels = list(_csv(rows, named=named))
            else:
                labels = list(_annotated(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"{path}: labels cannot be read: {reason}") from error
    except (ValueError, TypeError, AttributeError, LookupError, csv.Error) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:160]}; {EXPECTED}") from error
    if not labels:
        raise ConfigError(f"{path}: holds no label; {EXPECTED}")
    return labels


def stored_labels(store: FeatureStore) -> list[Labelled]:
    """The ``label`` attributes of a file's videos, of those that have one."""
    found = ((video_id, video.attrs.get("label")) for video_id, video in store.items())
    return [Labelled(video_id, str(label)) for video_id, label in found if label is not None]


def find_examples(store: FeatureStore, labels: Iterable[Labelled]) -> Examples:
    """The rows of a feature file for each label: those whose centre it contains."""
    names = names_of(store.ids)
    found: list[Example] = []
    missing: list[str] = []
    rowless: list[str] = []
    seen: set[str] = set()
    centers: dict[str, np.ndarray] = {}
    for labelled in labels:
        whole = _segment_id(labelled)
        video_id = names.get(whole) or names.get(labelled.video)
        if video_id is None:
            missing.append(labelled.video)
            continue
        seen.add(video_id)
        if video_id not in centers:
            centers[video_id] = store[video_id]["times"][:, 1]
        center = centers[video_id]
        inside = (labelled.start <= center) & (center < labelled.end)
        rows = np.arange(len(center)) if video_id == whole else np.flatnonzero(inside)
        if not len(rows):
            rowless.append(whole)
            continue
        group = labelled.group or _video_of(video_id)
        found.append(Example(video_id, rows, labelled.label, labelled.splits, group))
    unlabelled = [video_id for video_id in store if video_id not in seen]
    return Examples(found, missing, rowless, unlabelled)


def _segment_id(labelled: Labelled) -> str:
    """The id that a segment is stored under."""
    if not (math.isfinite(labelled.start) and math.isfinite(labelled.end)):
        return labelled.video
    return f"{labelled.video}/{round(labelled.start * 1000)}-{round(labelled.end * 1000)}"


def _video_of(video_id: str) -> str:
    """The video that a stored segment was cut from; the id itself of a whole video."""
    segment = SEGMENT.fullmatch(video_id)
    return segment[1] if segment else video_id


def names_of(ids: Sequence[str]) -> dict[str, str]:
    """Names that a label may use -> video id: the id, or the file name if it is unique."""
    short: dict[str, list[str]] = {}
    for video_id in ids:
        name = video_id.rsplit("/", 1)[-1]
        for alias in {name, name.removesuffix(SOURCE_SUFFIX)}:
            short.setdefault(alias, []).append(video_id)
    unique = {alias: videos[0] for alias, videos in short.items() if len(videos) == 1}
    return {**unique, **{video_id: video_id for video_id in ids}}


def _csv(rows: Sequence[Sequence[str]], *, named: bool) -> Iterator[Labelled]:
    names = [name.strip().lower() for name in rows[0]] if named else ["video", "label"]
    missing = [name for name in ("video", "label") if name not in names]
    if missing:
        raise ValueError(f"this CSV has no column {', '.join(missing)}")
    if ("start" in names) != ("end" in names):
        raise ValueError("this CSV has one of the columns start and end without the other")
    for number, row in enumerate(rows[named:], start=1):
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        if not cells.get("video") or not cells.get("label"):
            raise ValueError(f"row {number} has no video or no label")
        start, end = (
            float(cells.get(name) or otherwise)
            for name, otherwise in (("start", -math.inf), ("end", math.inf))
        )
        if not start <= end:
            raise ValueError(f"row {number} is a segment from {start} to {end} s")
        split = cells.get("split") or cells.get("subset")
        splits = frozenset([split]) if split else frozenset()
        yield Labelled(cells["video"], cells["label"], splits, cells.get("group", ""), start, end)


def _annotated(path: Path) -> Iterator[Labelled]:
    for video_id, video in read_annotations(path).videos.items():
        splits = frozenset([video.subset])
        for event in video.events:
            yield Labelled(video_id, event.label, splits, "", event.start, event.end)


def _pyskl(content: object) -> Iterator[Labelled]:
    """PYSKL's and mmaction2's: ``{"split": {name: [ids]}, "annotations": [...]}``, or the list."""
    annotations = content["annotations"] if isinstance(content, dict) else content
    splits = content.get("split", {}) if isinstance(content, dict) else {}
    if not isinstance(annotations, list):
        raise ValueError("this pickle has no list of annotations")
    member: dict[str, set[str]] = {}
    for name, ids in splits.items():
        for video_id in ids:
            member.setdefault(str(video_id), set()).add(str(name))
    for annotation in annotations:
        if "label" in annotation:
            video_id = str(annotation["frame_dir"])
            splits_of = frozenset(member.get(video_id, ()))
            yield Labelled(video_id, str(int(annotation["label"])), splits_of)
