"""How tables look in a terminal, and those of ``verify``, ``bench`` and failed videos."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..progress import escaped, format_duration
from ..progress.records import BenchReport
from ..records import VideoFailure

WIDTH = 120  # of a log or a pipe, which have none of their own
NAME_WIDTH = 14  # of a column of videos, at least


def show(report: RenderableType, *, stderr: bool = False) -> None:
    """Print a report; into a log or a pipe without colours, early line breaks, or padding."""
    console = Console(stderr=stderr, highlight=False)
    if console.is_terminal:
        console.print(report)
        return
    plain = Console(stderr=stderr, highlight=False, width=WIDTH)
    with plain.capture() as capture:
        plain.print(report)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    console.file.write("\n".join(lines) + "\n")


def table(
    columns: Iterable[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str | Text | None = None,
    numbers: Collection[str] = (),
    fixed: Collection[str] = (),
    styles: Mapping[str, str] | None = None,
    footers: Mapping[str, str] | None = None,
    grouped: bool = False,
    ruled: bool = False,
) -> Table:
    """Rows under a header, as they are: no markup, and control characters escaped.

    ``numbers`` names the columns to align right. These and ``fixed`` are not broken into lines
    where the terminal is narrow. ``styles`` and ``footers`` are by column. ``grouped`` leaves out a
    first cell that repeats the one above; ``ruled`` also draws a line between groups.
    """
    styles, ends, whole = styles or {}, footers or {}, {*numbers, *fixed}
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_footer=bool(ends))
    for name in columns:
        made.add_column(
            name,
            ends.get(name, ""),
            style=styles.get(name, ""),
            justify="right" if name in numbers else "left",
            no_wrap=name in whole,
            overflow="ellipsis" if name in whole else "fold",
            min_width=NAME_WIDTH if name == "video" else None,
        )
    before = None
    for first, *others in rows:
        if ruled and before not in (None, first):
            made.add_section()
        cells = ["" if grouped and first == before else first, *others]
        _add(made, cells)
        before = first
    return made


def grid(styles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """Rows without header or lines; only the last column is broken into lines."""
    made = Table.grid(padding=(0, 2))
    for style in styles[:-1]:
        made.add_column(style=style, no_wrap=True)
    made.add_column(style=styles[-1], overflow="fold")
    for row in rows:
        _add(made, row)
    return made


def _add(made: Table, cells: Iterable[str | Text]) -> None:
    made.add_row(*(Text(escaped(cell)) if isinstance(cell, str) else cell for cell in cells))


def failure_table(failures: Sequence[VideoFailure]) -> RenderableType:
    """Which videos failed, in which stage, and what happened."""
    rows = [(failure.video_id, failure.stage, failure.message) for failure in failures]
    columns = ("video", "stage", "what happened")
    return table(columns, rows, fixed=("stage",), title=Text("Failed", "bold red"))


def problem_table(problems: Iterable[tuple[str, str | None, str]]) -> RenderableType:
    """What ``verify`` prints: video, array or None, and what is wrong with it."""
    rows = [(video_id, array or "", message) for video_id, array, message in problems]
    columns = ("video", "array", "what is wrong")
    return table(columns, rows, fixed=("array",), styles={"array": "cyan"}, grouped=True)


def bench_report(report: BenchReport) -> RenderableType:
    """What ``bench`` prints: a table of figures, and what limits this machine."""
    rows = []
    for row in report.rows:
        size = abs(row.value or 0)
        places = 0 if size >= 100 else 1 if size >= 10 else 2
        figure = "-" if row.value is None else f"{row.value:,.{places}f} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        rows.append((row.part, row.name, figure, ratio, row.note))
    figures = table(
        ("part", "what", "figure", "ratio", "note"),
        rows,
        numbers=("figure", "ratio"),
        fixed=("part",),
        styles={"part": "bold", "note": "dim"},
        grouped=True,
        ruled=True,
    )
    versions = [f"{name} {value}" for name, value in report.versions.items() if value]
    about = {
        "machine": report.machine,
        "versions": ", ".join(versions),
        "videos": report.videos,
        "models": report.models,
        "limit": report.limits,
        "measured": f"in {format_duration(report.seconds)}; a ratio is how many times as fast",
    }
    return Group(figures, grid(("dim", ""), about.items()))
