"""Tables of what is in a file of features, and of what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..config import in_bytes
from ..schema import AXES, shape_text
from . import counted, escaped, in_time

NAME_WIDTH = 14  # of the videos' column, at least
COLUMNS = {"windows": 0, "frames": 60, "duration": 70, "picture": 90, "fps": 90, "person": 50}
"""Columns of the table of videos, and the width of a terminal that each of them needs."""
ROWS = 500  # of the table of videos; laying out 10,000 takes rich longer than reading them
UNCOVERED = (
    "an earlier version wrote it, or a part of it, without checksums of the attributes: a change "
    "in them would not be noticed"
)


def info_report(contents: Mapping[str, Any]) -> RenderableType:
    """What ``epam-extract info`` prints of ``store.describe``'s answer."""
    parts: list[RenderableType] = [_provenance(contents)]
    if contents["videos"]:
        parts.append(_VideoTable(contents))
        totals = contents["totals"]
        left = totals["videos"] + totals["incomplete"] - ROWS
        if left > 0:
            parts.append(Text(f"  and {counted(left, 'more video')}: --json lists all of them"))
    for name, rows in (("Failed", contents["failures"]), ("Damaged", contents["damaged"])):
        if rows:
            parts.extend([Text(), _list(name, rows)])
    return Group(*parts)


def problem_table(problems: Sequence[tuple[str, str | None, str]]) -> RenderableType:
    """What ``epam-extract verify`` prints: video, array or None, and what is wrong with it."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("video", overflow="fold", min_width=NAME_WIDTH)
    table.add_column("array", style="cyan", no_wrap=True)
    table.add_column("what is wrong", overflow="fold")
    before = None
    for video_id, array, message in problems:
        name = "" if video_id == before else video_id
        table.add_row(Text(escaped(name)), array or "", Text(escaped(message)))
        before = video_id
    return table


def _provenance(contents: Mapping[str, Any]) -> RenderableType:
    totals = contents["totals"]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    asides = {
        "incomplete": "not complete yet",
        "failed": "failed",
        "damaged": "damaged",
    }
    videos = [f"{totals['videos']:,} complete"]
    videos += [f"{totals[name]:,} {words}" for name, words in asides.items() if totals[name]]
    holds = [
        counted(totals["windows"], "window"),
        counted(totals["frames"], "frame"),
        in_time(totals["seconds"]),
    ]
    if totals["person_share"] is not None:
        holds.append(f"a person in {totals['person_share']:.0%}")
    rows = {
        "file": f"{contents['path']}, {in_bytes(contents['bytes'])}",
        "made by": f"{contents['tool']}, schema {contents['schema_version']}",
        "made": str(contents["created"]),
        "videos": ", ".join(videos),
        "in them": ", ".join(holds),
        "weights": _pairs(contents["weights"]),
        "pose": _pairs(contents["pose_source"]),
        "options": _pairs(contents["config"]),
        "arrays": ", ".join(
            f"{name} {_shape(spec['shape'])} {spec['dtype']}"
            for name, spec in contents["arrays"].items()
        ),
    }
    if contents["parts"]:
        rows["links to"] = ", ".join(contents["parts"])
    if totals["clipped"]:
        rows["clipped"] = f"{counted(totals['clipped'], 'value')} beyond float16's range"
    if totals["uncovered"]:
        rows["checksums"] = UNCOVERED
    for name, words in rows.items():
        grid.add_row(name, Text(escaped(words)))
    return grid


class _VideoTable:
    """The videos, with as many columns as there is room for: names come first."""

    def __init__(self, contents: Mapping[str, Any]) -> None:
        self._contents = contents

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        contents, totals = self._contents, self._contents["totals"]
        footers = {
            "windows": f"{totals['windows']:,}",
            "frames": f"{totals['frames']:,}",
            "duration": in_time(totals["seconds"]),
            "person": _share(totals["person_share"]),
        }
        shown = [name for name, least in COLUMNS.items() if options.max_width >= least]
        table = Table(box=box.SIMPLE_HEAD, show_footer=len(contents["videos"]) > 1)
        table.add_column(
            "video", f"{totals['videos']:,} complete", overflow="fold", min_width=NAME_WIDTH
        )
        for name in shown:
            table.add_column(name, footers.get(name, ""), justify="right", no_wrap=True)
        labelled = any(row["label"] for row in contents["videos"])
        if labelled:
            table.add_column("label", overflow="fold")
        table.add_column("flags", style="yellow", overflow="fold")
        for row in contents["videos"][:ROWS]:
            cells = {
                "windows": f"{row['windows']:,}",
                "frames": f"{row['frames']:,}",
                "duration": "-" if row["seconds"] is None else in_time(row["seconds"]),
                "picture": f"{row['width']}x{row['height']}" if row["width"] else "-",
                "fps": _fps(row["fps"] or "0/0"),
                "person": _share(row["person_share"]),
            }
            table.add_row(
                Text(escaped(row["id"])),
                *(cells[name] for name in shown),
                *([Text(escaped(row["label"]))] if labelled else []),
                Text(escaped(_flags(row))),
            )
        yield table


def _list(title: str, rows: Sequence[Mapping[str, str]]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold red")
    table.add_column("video", overflow="fold", min_width=NAME_WIDTH)
    if "stage" in rows[0]:
        table.add_column("stage", no_wrap=True)
    table.add_column("what happened", overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(escaped(row[key])) for key in ("id", "stage", "message") if key in row)
        )
    return table


def _flags(row: Mapping[str, Any]) -> str:
    flags = []
    if not row["complete"]:
        flags.append("not complete")
    elif row["person_share"] == 0:
        flags.append("no person")
    if row["clipped"]:
        flags.append(f"{row['clipped']:,} values clipped")
    if row["notes"]:
        flags.append(str(row["notes"]))
    return "; ".join(flags)


def _pairs(values: Mapping[str, Any]) -> str:
    """``stride 16, grid centered``; checksums cut short, inner mappings in brackets."""
    words = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            words.append(f"{name} ({_pairs(value)})")
        elif isinstance(value, list):
            sizes = all(isinstance(item, int) for item in value)
            words.append(f"{name} {('x' if sizes else '+').join(str(item) for item in value)}")
        elif name == "sha256":
            words.append(f"sha256 {str(value)[:12]}")
        elif value is not None:
            words.append(f"{name} {value}")
    return ", ".join(words)


def _shape(shape: Sequence[str | int]) -> str:
    letters = {name: letter for letter, name in AXES.items()}
    return shape_text([letters.get(str(length), length) for length in shape])


def _fps(text: str) -> str:
    above, _, below = text.partition("/")
    return f"{int(above) / int(below):.4g}" if int(above) and int(below) else "-"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
