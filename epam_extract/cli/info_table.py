"""What ``epam-extract info`` shows of a feature file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from ..options import format_bytes
from ..progress import format_duration, plural
from ..records import VideoFailure
from ..schema import AXES, shape_text
from .tables import failure_table, grid, table

COLUMNS = {"windows": 0, "frames": 60, "duration": 70, "picture": 90, "fps": 90, "person": 50}
"""Columns of the table of videos, and the width of a terminal that each of them needs."""
ROWS = 500  # of the table of videos; laying out 10,000 takes rich longer than reading them
UNCOVERED = (
    "an earlier version wrote it, or a part of it, without checksums of the attributes: a change "
    "in them would not be noticed"
)


def info_report(contents: Mapping[str, Any]) -> RenderableType:
    """What ``epam-extract info`` prints of ``store.describe``'s answer."""
    parts: list[RenderableType] = [grid(("dim", ""), _overview(contents).items())]
    if contents["videos"]:
        parts.append(_VideoTable(contents))
    left = contents["totals"]["videos"] + contents["totals"]["incomplete"] - ROWS
    if left > 0:
        parts.append(Text(f"  and {plural(left, 'more video')}: --json lists all of them"))
    if failed := contents["failures"]:
        failures = [VideoFailure(row["id"], row["stage"], row["message"]) for row in failed]
        parts += [Text(), failure_table(failures)]
    if contents["damaged"]:
        damaged = [(row["id"], row["message"]) for row in contents["damaged"]]
        title = Text("Damaged", "bold red")
        parts += [Text(), table(("video", "what happened"), damaged, title=title)]
    return Group(*parts)


def _overview(contents: Mapping[str, Any]) -> dict[str, str]:
    totals = contents["totals"]
    asides = {"incomplete": "not complete yet", "failed": "failed", "damaged": "damaged"}
    videos = [f"{totals['videos']:,} complete"]
    videos += [f"{totals[name]:,} {words}" for name, words in asides.items() if totals[name]]
    holds = [plural(totals["windows"], "window"), plural(totals["frames"], "frame")]
    holds.append(format_duration(totals["seconds"]))
    if totals["person_share"] is not None:
        holds.append(f"a person in {totals['person_share']:.0%}")
    arrays = contents["arrays"].items()
    clipped = f"{plural(totals['clipped'], 'value')} beyond float16's range"
    rows = {
        "file": f"{contents['path']}, {format_bytes(contents['bytes'])}",
        "made by": f"{contents['tool']}, schema {contents['schema_version']}",
        "made": str(contents["created"]),
        "videos": ", ".join(videos),
        "in them": ", ".join(holds),
        "weights": _pairs(contents["weights"]),
        "pose": _pairs(contents["pose_source"]),
        "options": _pairs(contents["config"]),
        "arrays": ", ".join(
            f"{name} {_shape(one['shape'])} {one['dtype']}" for name, one in arrays
        ),
        "links to": ", ".join(contents["parts"]),
        "clipped": clipped if totals["clipped"] else "",
        "checksums": UNCOVERED if totals["uncovered"] else "",
    }
    return {name: words for name, words in rows.items() if words}


class _VideoTable:
    """The videos, with as many columns as there is room for: names come first."""

    def __init__(self, contents: Mapping[str, Any]) -> None:
        self._videos, self._totals = contents["videos"], contents["totals"]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        totals = self._totals
        footers = {
            "video": f"{totals['videos']:,} complete",
            "windows": f"{totals['windows']:,}",
            "frames": f"{totals['frames']:,}",
            "duration": format_duration(totals["seconds"]),
            "person": _share(totals["person_share"]),
        }
        numbers = [name for name, least in COLUMNS.items() if options.max_width >= least]
        label = ["label"] if any(row["label"] for row in self._videos) else []
        columns = ["video", *numbers, *label, "flags"]
        yield table(
            columns,
            ([_cells(row)[name] for name in columns] for row in self._videos[:ROWS]),
            numbers=numbers,
            styles={"flags": "yellow"},
            footers=footers if len(self._videos) > 1 else None,
        )


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A video's cells by column."""
    flags = {
        "not complete": not row["complete"],
        "no person": row["complete"] and row["person_share"] == 0,
        f"{row['clipped']:,} values clipped": row["clipped"],
        str(row["notes"]): row["notes"],
    }
    frames, _, seconds = (row["fps"] or "0/0").partition("/")
    return {
        "video": row["id"],
        "windows": f"{row['windows']:,}",
        "frames": f"{row['frames']:,}",
        "duration": "-" if row["seconds"] is None else format_duration(row["seconds"]),
        "picture": f"{row['width']}x{row['height']}" if row["width"] else "-",
        "fps": f"{int(frames) / int(seconds):.4g}" if int(frames) and int(seconds) else "-",
        "person": _share(row["person_share"]),
        "label": row["label"],
        "flags": "; ".join(flag for flag, raised in flags.items() if raised),
    }


def _pairs(values: Mapping[str, Any]) -> str:
    """``stride 16, grid centered``; checksums cut short, inner mappings in brackets."""
    words = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            words.append(f"{name} ({_pairs(value)})")
        elif isinstance(value, list):
            between = "x" if all(isinstance(item, int) for item in value) else "+"
            words.append(f"{name} {between.join(map(str, value))}")
        elif value is not None:
            words.append(f"{name} {str(value)[:12] if name == 'sha256' else value}")
    return ", ".join(words)


def _shape(shape: Sequence[str | int]) -> str:
    letters = {name: letter for letter, name in AXES.items()}
    return shape_text([letters.get(str(length), length) for length in shape])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
