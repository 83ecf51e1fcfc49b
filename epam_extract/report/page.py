"""Render the page: a template filled with the contents of a feature file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import as_fraction
from ..errors import ConfigError, EpamExtractError, StoreError
from ..exchange import Annotations, Event
from ..options import format_bytes
from ..progress import SILENT, Progress, format_duration, plural
from ..schema import meaning
from ..store import FeatureStore
from ..store.in_child import look
from ..video import find_videos
from .details import STRIP_HEIGHT, Details, add_pictures, describe_video
from .summary import KINDS, VideoSummary, in_order, pooled_names, summarise

DETAILED = 100  # videos shown in detail, the most suspicious; the table lists all
READERS = 2  # videos read at the same time for their pictures
COLORS = 8  # of labels, in page.css
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
TICKS = 8  # most labels on a time axis
PERSON_BANDS = ((0.0, 0.0), (0.0, 0.5), (0.5, 0.9), (0.9, 1.0))
"""Bands of the coverage table: share of frames with a person, over and up to."""


@dataclass(frozen=True)
class Segment:
    """A labelled segment on a video's time axis, from 0 to 100."""

    event: Event
    left: float
    width: float
    lane: int
    color: int


def write_report(
    file: Path,
    out: Path,
    *,
    videos: Path | None = None,
    annotations: Annotations | None = None,
    progress: Progress = SILENT,
) -> None:
    """Write a self-contained HTML page about a feature file, even while a run writes to it.

    An existing page is replaced once the new one is complete. With ``videos``, the folder that was
    extracted, the page has pictures; with ``annotations``, labelled segments.

    Raises:
        ConfigError: ``out`` cannot be written, jinja2 is missing, or there is no such folder.
        StoreError: the feature file cannot be read.
    """
    check_out(file, out)
    template = _template()
    # HDF5 can crash on a damaged file: not in this process
    contents = look("describe", file, most_rows=0)
    events = (
        {}
        if annotations is None
        else {video_id: video.events for video_id, video in annotations.videos.items()}
    )
    paths = None
    if videos is not None:
        pictures = contents["config"].get("image_fps") is not None
        paths = {found.id: found.file for found in find_videos([videos], pictures=pictures)}
    with FeatureStore(file) as store:
        damaged = {one["id"]: one["message"] for one in contents["damaged"]}
        summaries = summarise(store, events, damaged)
        if paths is not None:
            for summary in summaries:
                if summary.source_id not in paths:
                    summary.flag("changed", f"there is no such video in {videos}")
        shown = in_order(summaries)[:DETAILED]
        pooled = pooled_names(store)
        details: dict[str, Details] = {}
        for one in shown:
            try:
                details[one.id] = describe_video(store[one.id], one, pooled)
            except (StoreError, KeyError) as error:
                damaged[one.id] = str(error)
        summaries = [one for one in summaries if one.id not in damaged]
    if paths is not None:
        there = [one for one in shown if one.id in details]
        _read_pictures(there, details, paths, contents["config"], progress)
    contents["damaged"] = [{"id": name, "message": why} for name, why in damaged.items()]
    contents["totals"]["damaged"] = len(damaged)
    ordered = in_order(summaries)
    page = template.render(
        contents=contents,
        cautions=_cautions(contents),
        provenance=_provenance(contents),
        rows=[(one, _anchor(i) if one.id in details else None) for i, one in enumerate(ordered)],
        blocks=[
            (_anchor(i), one, details[one.id], _segments(one, annotations), _ticks(one))
            for i, one in enumerate(ordered)
            if one.id in details
        ],
        kinds={kind: name for kind, (name, _) in KINDS.items() if _count(ordered, kind)},
        count=lambda kind: _count(ordered, kind),
        bands=_bands(ordered),
        detailed=DETAILED,
        annotated=annotations is not None,
    )
    _write(out, page)


def check_out(file: Path, out: Path) -> None:
    """Raise :class:`ConfigError` unless a page about ``file`` can be written to ``out``."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: expected a name ending in .html")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a directory; expected the name of a file")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.exists() and file.exists() and out.samefile(file):
        raise ConfigError(f"--out {out}: is the feature file itself; choose another name")


def _template() -> Any:
    """The page's template, including its style and script."""
    try:
        import jinja2
        import markupsafe
    except ImportError:
        raise ConfigError(
            "the report needs the package jinja2: pip install 'epam-extract[report]'"
        ) from None
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        share=lambda value: "-" if value is None else f"{value:.0%}",
        seconds=format_duration,
        bytes=format_bytes,
        plural=plural,
        clock=clock,
    )
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    digest = hashlib.sha256(script.encode()).digest()
    environment.globals.update(
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(digest).decode(),
        strip_height=STRIP_HEIGHT,
        meaning=meaning,
    )
    return environment.get_template("page.html")


def _read_pictures(
    shown: Sequence[VideoSummary],
    details: Mapping[str, Details],
    paths: Mapping[str, Path],
    config: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Add pictures to the details; a video that cannot be read is flagged instead."""
    there = [one for one in shown if one.source_id in paths]
    rates = {name: as_fraction(config.get(name)) for name in ("fps", "image_fps")}
    progress.message(f"reading {plural(len(there), 'video')} for pictures")

    def read(one: VideoSummary) -> None:
        try:
            add_pictures(details[one.id], one, paths[one.source_id], **rates)
        except EpamExtractError as error:
            one.flag("changed", str(error))
            details[one.id].notes.append(f"no pictures: {error}")

    with ThreadPoolExecutor(READERS, "report") as pool:
        for number, _ in enumerate(pool.map(read, there), start=1):
            progress.probed(number, len(there))


def _cautions(contents: Mapping[str, Any]) -> list[str]:
    """Warnings about where the numbers come from."""
    found = []
    weights, pose = contents["weights"], contents["pose_source"]
    if "random_seed" in weights:
        found.append(
            f"The network's weights are random (seed {weights['random_seed']}): these features are "
            "for trying the tool, not for science."
        )
    if pose.get("mode") == "bundled":
        found.append(
            "The keypoints come from the small pose model in the package, trained on synthetic "
            "people: for trying the tool."
        )
    return found


def _provenance(contents: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("file", f"{contents['path']}, {format_bytes(contents['bytes'])}"),
        ("made", f"{contents['created']} by {contents['tool']}"),
    ]
    for name, key in (("weights", "weights"), ("pose", "pose_source"), ("options", "config")):
        rows.append((name, _in_words(contents[key])))
    return rows


def _in_words(value: object) -> str:
    """``stride 16, grid centered``: checksums are shortened, nested mappings put in brackets."""
    if isinstance(value, Mapping):
        parts = []
        for name, inner in value.items():
            words = str(inner)[:12] if name == "sha256" else _in_words(inner)
            if inner is True:
                parts.append(name)
            elif inner is not None and inner is not False:
                words = f"({words})" if isinstance(inner, Mapping) else words
                parts.append(f"{name} {words}")
        return ", ".join(parts)
    if isinstance(value, list):
        sizes = all(isinstance(item, int) for item in value)
        return ("x" if sizes else "+").join(_in_words(item) for item in value)
    return str(value)


def _count(summaries: Sequence[VideoSummary], kind: str) -> int:
    return sum(any(flag.kind == kind for flag in one.flags) for one in summaries)


def _bands(summaries: Sequence[VideoSummary]) -> list[tuple[str, int, float]]:
    """Name, number and share of the videos in each band of person share."""
    rows = []
    for over, most in PERSON_BANDS:
        name = "none" if most == 0 else f"over {over:.0%}, up to {most:.0%}"
        shares = [one.person_share for one in summaries]
        count = sum((share == 0) if most == 0 else (over < share <= most) for share in shares)
        rows.append((name, count, count / max(len(summaries), 1)))
    return rows


def _segments(summary: VideoSummary, annotations: Annotations | None) -> list[Segment]:
    """Labelled segments; overlapping ones are on separate lanes."""
    if annotations is None or summary.seconds <= 0:
        return []
    color = {label: number % COLORS for number, label in enumerate(annotations.labels)}
    ends: list[float] = []
    found = []
    for event in sorted(summary.events, key=lambda one: (one.start, one.end)):
        left, right = (
            min(max((moment - summary.start) / summary.seconds, 0), 1) * 100
            for moment in (event.start, event.end)
        )
        lane = next((i for i, end in enumerate(ends) if end <= event.start), len(ends))
        ends[lane : lane + 1] = [event.end]
        found.append(Segment(event, left, right - left, lane, color[event.label]))
    return found


def _ticks(summary: VideoSummary) -> list[tuple[float, str]]:
    """Position from 0 to 100, and label, of each tick."""
    if summary.seconds <= 0:
        return []
    step = next((step for step in STEPS if summary.seconds / step <= TICKS), STEPS[-1])
    first = -(-summary.start // step)
    count = int((summary.start + summary.seconds) / step - first) + 1
    moments = [(first + i) * step for i in range(count)]
    return [((at - summary.start) / summary.seconds * 100, clock(at)) for at in moments]


def clock(seconds: float) -> str:
    """``4.5 s`` under a minute, else ``2:05`` or ``1:02:05``."""
    if abs(seconds) < 60:
        return f"{seconds:.4g} s"
    whole = round(seconds)
    minutes = f"{whole % 3600 // 60:02d}" if whole >= 3600 else f"{whole // 60}"
    return (f"{whole // 3600}:" if whole >= 3600 else "") + f"{minutes}:{whole % 60:02d}"


def _anchor(number: int) -> str:
    return f"video-{number + 1}"


def _write(out: Path, page: str) -> None:
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(page, encoding="utf-8", errors="backslashreplace")
        unfinished.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
