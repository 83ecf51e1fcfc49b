"""Tables of what features are worth: classify, check, probe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from . import escaped

Span = tuple[float, float]


def prediction_table(
    rows: Iterable[tuple[str, Span | None, Sequence[str], Sequence[float]]],
) -> RenderableType:
    """Video, seconds of the window or None, its best classes, and their logits."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("video", overflow="fold")
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("best classes and their logits", overflow="fold")
    before = None
    for video_id, span, classes, logits in rows:
        best = ", ".join(f"{name} {logit:.2f}" for name, logit in zip(classes, logits, strict=True))
        seconds = "" if span is None else f"{span[0]:.2f}-{span[1]:.2f}"
        table.add_row(
            Text("" if video_id == before else escaped(video_id)), seconds, Text(escaped(best))
        )
        before = video_id
    return table


def accuracy_table(
    examples: int, figures: Sequence[tuple[str, float]], published: tuple[str, str, float] | None
) -> RenderableType:
    """Figures by name, as shares, and beside them what was published of one of them."""
    table = Table(box=box.SIMPLE_HEAD, title=f"{examples:,} labelled", title_justify="left")
    table.add_column("accuracy")
    table.add_column("here", justify="right", no_wrap=True)
    if published is not None:
        table.add_column(f"published, {published[0]}", justify="right")
    for name, share in figures:
        theirs = f"{published[2]:.1%}" if published is not None and name == published[1] else ""
        table.add_row(name, f"{share:.1%}", *([theirs] if published is not None else []))
    return table


def finding_table(findings: Sequence[tuple[str, str, str]]) -> RenderableType:
    """What is wrong, of which video or class, and how."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("what", style="yellow", max_width=32)
    table.add_column("where", overflow="fold")
    table.add_column("how", overflow="fold")
    before = None
    for kind, subject, message in findings:
        if before not in (None, kind):
            table.add_section()
        table.add_row(
            "" if kind == before else kind, Text(escaped(subject)), Text(escaped(message))
        )
        before = kind
    return table


def probe_tables(
    scores: Sequence[tuple[str, str, str, str, str, str]],
    guessing: Sequence[tuple[str, str]],
    confusion: tuple[str, Sequence[str], Sequence[Sequence[int]]] | None,
) -> RenderableType:
    """Figures by features and classifier, beside guessing; and a confusion matrix, with its title.

    A score is features, classifier, top-1, its interval, balanced accuracy and mAP, as text.
    """
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("features", no_wrap=True)
    table.add_column("classifier", no_wrap=True)
    for name in ("top-1", "95 %", "balanced", "mAP"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        table.add_row(*score)
    table.add_section()
    for name, figure in guessing:
        table.add_row("none", name, figure)
    if confusion is None:
        return table
    title, classes, cells = confusion
    matrix = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    matrix.add_column("is \\ said")
    for number in range(len(classes)):
        matrix.add_column(str(number), justify="right", no_wrap=True)
    for number, (name, row) in enumerate(zip(classes, cells, strict=True)):
        matrix.add_row(
            Text(f"{number} {escaped(name)}"), *(str(cell) if cell else "." for cell in row)
        )
    return Group(table, matrix)
