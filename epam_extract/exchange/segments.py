"""``--segments``: which parts of which videos to process as separate videos."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import ConfigError
from ..records import Segment, readable
from ..video import SUFFIXES, FoundVideo
from .labels import names_of

EXPECTED = (
    "expected a CSV of video,start,end[,label], ActivityNet's JSON, mmaction2's list of 'path "
    "label' lines, or a folder of THUMOS's text files"
)
COLUMNS = ("video", "start", "end")
LARGEST = 256 << 20  # bytes of a file
LONGEST_LABEL = 1000
LATEST = 1e7  # seconds, 115 days: longer than any recording
SHORTEST = 1e-3
TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)")  # h:m:s, m:s or seconds
THUMOS_SUFFIXES = ("_val", "_test", "_train")  # of file names, which begin with the label
UNSURE = "Ambiguous"  # in THUMOS not a class
MALFORMED = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError),
    csv.Error,
)


@dataclass(frozen=True)
class NamedSegment:
    """A segment and the name that the file has for its video."""

    video: str
    segment: Segment

    def __str__(self) -> str:
        segment = self.segment
        if segment.whole:
            return self.video
        return f"{self.video}, {segment.start:g} to {segment.end:g} s"


def read_segments(path: Path) -> list[NamedSegment]:
    """Read a file or folder of segments. Its format is recognised from its content.

    Raises:
        ConfigError: it cannot be read, has another structure, or holds no segment.
    """
    try:
        found = list(_thumos(path) if path.is_dir() else _parsed(_text(path)))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"--segments {path}: cannot be read: {reason}") from error
    except MALFORMED as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        short = " ".join(reason.split())[:160]
        raise ConfigError(f"--segments {path}: {short}; {EXPECTED}") from error
    if not found:
        raise ConfigError(f"--segments {path}: holds no segment; {EXPECTED}")
    return found


def _text(path: Path) -> str:
    """The content of a text file. Raises OSError, or ValueError if it cannot be one."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"{path.name} is larger than {LARGEST >> 20} MB")
    return path.read_text("utf-8-sig")


def find_segments(
    segments: Iterable[NamedSegment], videos: Sequence[FoundVideo], *, source: str
) -> tuple[list[FoundVideo], list[str]]:
    """The segments of ``videos``, sorted by id, and notes on what is odd or left out.

    A segment names its video by id, by path, or by file name if that is unique. ``source`` is the
    name of the file of segments in the notes.

    Raises:
        ConfigError: no segment belongs to any of the videos.
    """
    by_id = {video.id: video for video in videos}
    names = names_of(list(by_id))
    chosen: dict[str, FoundVideo] = {}
    odd: dict[str, list[str]] = {kind: [] for kind in ODD}
    total = 0
    for named in segments:
        total += 1
        segment = named.segment
        video_id = _match(named.video, names)
        if video_id is None:
            odd["unknown"].append(str(named))
            continue
        if segment.end - max(segment.start, 0) < SHORTEST:
            odd["empty"].append(str(named))
            continue
        if not segment.whole and segment.start < 0:
            odd["early"].append(str(named))
            segment = Segment(0.0, segment.end, segment.label)
        video = by_id[video_id]
        part = FoundVideo(segment.id_in(video_id), video.path, segment)
        before = chosen.setdefault(part.id, part)
        if before is not part and before.segment is not None:
            labels = {before.segment.label: None, segment.label: None}
            kind = "twice" if len(labels) == 1 else "labels"
            odd[kind].append(f"{named}" if kind == "twice" else f"{named}: {', '.join(labels)}")
    if not chosen:
        some = (odd["unknown"] or odd["empty"])[0]
        raise ConfigError(
            f"--segments {source}: none of its {total:,} segments can be done (first: {some}; the "
            f"first video: {videos[0].id})"
        )
    parts = sorted(chosen.values())
    odd["overlapping"] = _overlaps(parts)
    used = {part.path for part in parts}
    odd["unused"] = [video.id for video in videos if video.path not in used]
    notes = [
        f"{source}: {ODD[kind].format(count=f'{len(some):,}')} (first: {some[0]})"
        for kind, some in odd.items()
        if some
    ]
    return parts, notes


ODD = {
    "unknown": "{count} left out, of videos that are not among those given",
    "empty": "{count} left out, since they end no later than they start",
    "early": "{count} begin before 0 s, and are done from 0 s on",
    "twice": "{count} named more than once, done once",
    "labels": "{count} with more than one label, of which the first is kept",
    "overlapping": "{count} overlap another one of their video; each is done by itself",
    "unused": "{count} of the videos have no segment, and are not done",
}
"""Notes on segments that are odd or left out."""


def _overlaps(parts: Sequence[FoundVideo]) -> list[str]:
    """Ids of segments that overlap an earlier one of their video."""
    spans = [
        (p.segment.video_of(p.id), p.segment.start, p.segment.end, p.id) for p in parts if p.segment
    ]
    found = []
    for _, group in itertools.groupby(sorted(spans), key=lambda span: span[0]):
        latest = -math.inf
        for _, start, end, part_id in group:
            if start < latest - SHORTEST:
                found.append(part_id)
            latest = max(latest, end)
    return found


def _match(name: str, names: dict[str, str]) -> str | None:
    """The id of the video with this name or path; None if there is none."""
    path = PurePosixPath(name.replace("\\", "/"))
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    for alias in (name, str(bare), bare.name):
        if alias in names:
            return names[alias]
    return None


def _parsed(text: str) -> Iterator[NamedSegment]:
    if text.lstrip()[:1] in ("{", "["):
        yield from _activitynet(json.loads(text))
        return
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if lines and lines[0].count(",") >= 2:
        yield from _csv(lines)
    elif lines and _thumos_line(lines[0]) is not None:
        yield from _thumos_lines(lines, "")
    else:
        yield from _list(lines)


def _activitynet(content: object) -> Iterator[NamedSegment]:
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise ValueError("this JSON has no 'database' of videos")
    for video, entry in database.items():
        for annotation in entry.get("annotations", []):
            start, end = annotation["segment"]
            yield _named(video, start, end, annotation.get("label") or "", where=video)


def _csv(lines: Sequence[str]) -> Iterator[NamedSegment]:
    rows = list(csv.reader(lines))
    names = [*COLUMNS, "label"]
    if rows[0][0].strip().lower() == "video":
        names = [name.strip().lower() for name in rows.pop(0)]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise ValueError(f"this CSV has no column {', '.join(missing)}")
    for number, row in enumerate(rows, start=1):
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        if any(not cells.get(name) for name in COLUMNS):
            raise ValueError(f"row {number} has no video, start or end")
        label = cells.get("label", "")
        yield _named(cells["video"], cells["start"], cells["end"], label, where=f"row {number}")


def _list(lines: Sequence[str]) -> Iterator[NamedSegment]:
    """mmaction2's list: a path and a label per line, for whole videos."""
    for number, line in enumerate(lines, start=1):
        parts = line.rsplit(maxsplit=1)
        if len(parts) != 2:
            raise ValueError(f"line {number} has no label: {line.strip()[:60]!r}")
        label = _label(parts[1], f"line {number}")
        yield NamedSegment(parts[0].strip(), Segment(label=label))


def _thumos(folder: Path) -> Iterator[NamedSegment]:
    """THUMOS: one file per class, with a video, start and end per line."""
    for file in sorted(folder.glob("*.txt")):
        label = file.stem
        for suffix in THUMOS_SUFFIXES:
            label = label.removesuffix(suffix)
        if label == UNSURE or not file.is_file():
            continue
        lines = [line for line in _text(file).splitlines() if line.strip()]
        if lines and _thumos_line(lines[0]) is None:
            continue  # for example detclasslist.txt, the list of classes
        yield from _thumos_lines(lines, label)


def _thumos_lines(lines: Sequence[str], label: str) -> Iterator[NamedSegment]:
    for number, line in enumerate(lines, start=1):
        found = _thumos_line(line)
        if found is None:
            raise ValueError(f"line {number} of {label or 'the file'} is {line.strip()[:60]!r}")
        yield _named(*found, label, where=f"line {number} of {label or 'the file'}")


def _thumos_line(line: str) -> tuple[str, str, str] | None:
    parts = line.split()
    if len(parts) != 3 or PurePosixPath(parts[0]).suffix.lower() in SUFFIXES:
        return None
    if not all(TIME.fullmatch(time) for time in parts[1:]):
        return None
    return parts[0], parts[1], parts[2]


def _named(video: str, start: object, end: object, label: object, *, where: str) -> NamedSegment:
    first, last = (_seconds(time, where) for time in (start, end))
    return NamedSegment(_plain(video), Segment(first, last, _label(label, where)))


def _label(label: object, where: str) -> str:
    text = _plain(" ".join(str(label).split()))
    if len(text) > LONGEST_LABEL:
        raise ValueError(f"{where}: a label of {len(text):,} characters")
    return text


def _plain(text: str) -> str:
    """A name that can be stored; JSON may hold lone surrogates."""
    return readable(text.encode("utf-8", "backslashreplace").decode())


def _seconds(time: object, where: str) -> float:
    """Seconds from a number, or from text such as 83.5, 1:23.5 or 0:01:23.5."""
    if isinstance(time, str):
        sign = -1 if time.startswith("-") else 1
        found = TIME.fullmatch(time.removeprefix("-"))
        if found is None:
            raise ValueError(f"{where}: {time[:40]!r} is no time, such as 83.5 or 0:01:23.5")
        hours, minutes, seconds = (float(part or 0) for part in found.groups())
        value = sign * (hours * 3600 + minutes * 60 + seconds)
    elif isinstance(time, (int, float)) and not isinstance(time, bool):
        value = float(time)
    else:
        raise ValueError(f"{where}: {str(time)[:40]!r} is no time, expected seconds")
    if not abs(value) <= LATEST:
        raise ValueError(f"{where}: {value:g} is no time in a video, expected seconds")
    return value
