"""Temporal annotations: what happens when, in ActivityNet's JSON or CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ConfigError

EXPECTED = (
    "expected ActivityNet's JSON ({'database': {id: {'subset', 'annotations': [{'segment': [start, "
    "end], 'label'}]}}}) or a CSV of video,start,end,label[,subset] in seconds"
)
COLUMNS = ("video", "start", "end", "label")
TRAINING, VALIDATION, TESTING = "training", "validation", "testing"
SUBSETS = {
    TRAINING: TRAINING,
    "train": TRAINING,
    VALIDATION: VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    TESTING: TESTING,
    "test": TESTING,
}
"""Names of subsets in files, in lower case -> the name used here."""


@dataclass(frozen=True)
class Event:
    """Something that happens in a video."""

    start: float
    """Seconds, by the video's own timestamps."""
    end: float
    label: str


@dataclass
class VideoAnnotation:
    """The annotation of one video."""

    events: list[Event] = field(default_factory=list)
    subset: str = TRAINING
    """``training``, ``validation`` (used for evaluation) or ``testing``."""
    stated: dict[str, float] = field(default_factory=dict)
    """``duration``, ``fps`` and ``frame``, those that the file states."""


@dataclass(frozen=True)
class Annotations:
    """All videos of an annotation file, by id."""

    path: Path
    videos: Mapping[str, VideoAnnotation]

    @cached_property
    def labels(self) -> list[str]:
        """Names of the classes, sorted; a label's number is its index here."""
        return sorted({event.label for video in self.videos.values() for event in video.events})


def read_annotations(path: Path) -> Annotations:
    """Read an annotation file. Its format is recognised from its content.

    Raises:
        ConfigError: it cannot be read or has another structure; the message says what is expected.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"{path}: annotations cannot be read: {reason}") from error
    try:
        videos = dict(_json(text) if text.lstrip()[:1] in ("{", "[") else _csv(text))
        _name_subsets(videos)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:160]}; {EXPECTED}") from error
    if not videos:
        raise ConfigError(f"{path}: holds no video; {EXPECTED}")
    return Annotations(path, videos)


def _json(text: str) -> Iterator[tuple[str, VideoAnnotation]]:
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("database"), dict):
        raise ValueError("this JSON has no 'database' of videos")
    for video_id, entry in content["database"].items():
        events = [
            _event(video_id, annotation["segment"], annotation["label"])
            for annotation in entry.get("annotations", [])
        ]
        stated = {
            name: float(entry[name])
            for name in ("duration", "fps", "frame")
            if entry.get(name) is not None
        }
        yield video_id, VideoAnnotation(events, str(entry.get("subset") or TRAINING), stated)


def _csv(text: str) -> Iterator[tuple[str, VideoAnnotation]]:
    rows = [row for row in csv.reader(text.splitlines()) if row and not row[0].startswith("#")]
    names = list(COLUMNS)
    if rows and rows[0][0].strip().lower() == "video":
        names = [name.strip().lower() for name in rows.pop(0)]
    elif rows and len(rows[0]) > len(COLUMNS):
        names.append("subset")
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"this CSV has no column {', '.join(missing)}")
    videos: dict[str, VideoAnnotation] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) < len(COLUMNS):
            raise ValueError(f"row {number} has {len(row)} columns")
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        video = videos.setdefault(cells["video"], VideoAnnotation())
        video.events.append(_event(cells["video"], (cells["start"], cells["end"]), cells["label"]))
        video.subset = cells.get("subset") or video.subset
    yield from videos.items()


def _name_subsets(videos: Mapping[str, VideoAnnotation]) -> None:
    """Give every subset one of three names.

    If there is no training set, as in THUMOS-14, the validation set is used for training and the
    test set for validation. If there is no validation set, the test set takes its place.
    """
    for video_id, video in videos.items():
        named = SUBSETS.get(video.subset.strip().lower())
        if named is None:
            raise ValueError(
                f"{video_id}: its subset is {video.subset!r}, not {TRAINING}, {VALIDATION} or "
                f"{TESTING}"
            )
        video.subset = named
    present = {video.subset for video in videos.values()}
    renamed = {}
    if present == {VALIDATION, TESTING}:
        renamed = {VALIDATION: TRAINING, TESTING: VALIDATION}
    elif VALIDATION not in present:
        renamed = {TESTING: VALIDATION}
    for video in videos.values():
        video.subset = renamed.get(video.subset, video.subset)


def _event(video_id: str, segment: Any, label: object) -> Event:
    start, end = (float(value) for value in segment)
    if not (math.isfinite(start) and math.isfinite(end) and start <= end):
        raise ValueError(f"{video_id}: a segment from {start} to {end} s")
    name = " ".join(str(label).split())  # it becomes a line of a file
    if not name:
        raise ValueError(f"{video_id}: a segment without a label")
    return Event(start, end, name)
