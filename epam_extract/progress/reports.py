"""Tables and sentences for people, and the same for machines: what a command found out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..config import ExtractConfig, in_bytes
from ..records import BenchReport, Summary, VideoFailure
from ..schema import shape_text, video_arrays
from . import counted, escaped, in_rate, in_time

WIDTH = 120  # of a log or a pipe, which have none of their own


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


def summary_json(summary: Summary, *, status: int) -> dict[str, object]:
    """What a run did, JSON-ready: the summary's fields and a few that follow from them."""
    share = summary.frames_with_person / summary.frames if summary.frames else None
    failures = [
        {**asdict(failure), "path": None if failure.path is None else str(failure.path)}
        for failure in summary.failures
    ]
    return {
        **asdict(summary),
        "out": str(summary.out),
        "failures": failures,
        "failed": summary.failed,
        "person_share": share,
        "exit_status": status,
    }


def summary_report(
    summary: Summary, config: ExtractConfig, *, example: str | None
) -> RenderableType:
    """What a run did, where its file is, what is in it, and how to resume.

    ``example`` is the id of a video in the file, None where there is none.
    """
    parts: list[RenderableType] = [_headline(summary), _figures(summary)]
    if summary.failures:
        parts.extend([Text(), failure_table(summary.failures)])
    if example is not None:
        parts.extend([_contents(config), _snippet(summary, example, datasets(config)[0][0])])
    if summary.interrupted:
        left = max(0, summary.videos - summary.done - summary.failed)
        parts.append(
            Text(
                f"\nInterrupted with {counted(left, 'video')} to go. "
                "Run the same command again to resume; committed data is kept.",
                style="bold yellow",
            )
        )
    elif summary.failures:
        parts.append(
            Text("\nTo try the failed videos again, add --retry-failed to the same command.")
        )
    return Group(*parts)


def failure_table(failures: Sequence[VideoFailure]) -> RenderableType:
    """Which videos failed, in which stage, and what happened."""
    table = Table(box=box.SIMPLE_HEAD, title="Failed", title_justify="left", title_style="bold red")
    table.add_column("video", overflow="fold")
    table.add_column("stage")
    table.add_column("what happened", overflow="fold")
    for failure in failures:
        table.add_row(
            *(Text(escaped(part)) for part in (failure.video_id, failure.stage, failure.message))
        )
    return table


def datasets(config: ExtractConfig) -> list[tuple[str, str, str, str]]:
    """Name, shape, dtype and meaning of what a run stores for each video of W windows."""
    return [
        (array.name, shape_text(array.axes), array.dtype_name, array.meaning)
        for array in video_arrays(config.identity()).values()
    ]


def _headline(summary: Summary) -> Text:
    done = f"{summary.done:,}" if summary.done else "None"
    good = summary.done == summary.videos and not summary.interrupted
    verb = "are" if summary.done > 1 else "is"
    text = Text()
    text.append(
        f"\n{done} of {counted(summary.videos, 'video')} {verb} in ",
        style="bold green" if good else "bold yellow",
    )
    return text.append(escaped(str(summary.out)), style="bold").append(
        f" ({in_bytes(summary.size)})"
    )


def _figures(summary: Summary) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    asides = []
    if summary.skipped:
        asides.append(f"{summary.skipped:,} of them before this run")
    if summary.failed:
        asides.append(f"{summary.failed:,} failed")
    videos = f"{summary.done:,} done" + "".join(f", {aside}" for aside in asides)
    table.add_row("  videos", videos)
    table.add_row("  windows", f"{summary.windows:,}")
    frames = f"{summary.frames:,}"
    if summary.frames:
        frames += f", a person in {summary.frames_with_person / summary.frames:.0%} of them"
    table.add_row("  frames", frames)
    time = in_time(summary.seconds)
    if summary.frames and summary.seconds > 0:
        time += f", {in_rate(summary.frames / summary.seconds, 'frames')}"
    table.add_row("  time", time)
    if summary.clipped:
        clipped = f"{counted(summary.clipped, 'value')} beyond float16, clipped to its range"
        table.add_row("  clipped", Text(f"{clipped} (--dtype f32 keeps them)", style="yellow"))
    for note in summary.notes:
        table.add_row("  note", Text(escaped(note), style="yellow"))
    return table


def _contents(config: ExtractConfig) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for style in ("cyan", "", ""):
        table.add_column(style=style, no_wrap=True)
    table.add_column(style="dim")
    for name, shape, dtype, meaning in datasets(config):
        table.add_row(f"  {name}", shape, dtype, meaning)
    title = Text("\nIn it, under /videos/<video>/ for each video of W windows:", style="bold")
    return Group(title, table)


def _snippet(summary: Summary, example: str, dataset: str) -> RenderableType:
    title = Text("\nTo read it:", style="bold")
    store = f"FeatureStore({str(summary.out)!r})"
    lines = ["from epam_extract import FeatureStore", f'{store}[{example!r}]["{dataset}"]']
    return Group(title, Text("\n".join(f"  {line}" for line in lines), no_wrap=True))


def weights_table(weights: Sequence[tuple[Path, int, str, bool]]) -> RenderableType:
    """What ``epam-extract weights`` lists: file, bytes, SHA-256, whether it is the default."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("installed weights", "size", "sha256", ""):
        table.add_column(column)
    for path, size, digest, default in weights:
        mark = Text("default" if default else "", style="green")
        table.add_row(Text(escaped(path.name)), in_bytes(size), digest[:12], mark)
    return table


def models_table(models: Sequence[tuple[str, str, Path, bool]]) -> RenderableType:
    """What ``epam-extract models list`` lists: mode, role, file, whether it is here."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("mode", "role", "file", ""):
        table.add_column(column)
    before = ""
    for mode, role, path, present in models:
        here = Text("here", style="green") if present else Text("not downloaded", style="dim")
        table.add_row("" if mode == before else mode, role, Text(escaped(path.name)), here)
        before = mode
    return table


def bench_report(report: BenchReport) -> RenderableType:
    """What ``epam-extract bench`` prints: a table of figures, and what limits this machine."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("part", style="bold", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("note", style="dim", overflow="fold")
    before = ""
    for row in report.rows:
        figure = "-" if row.value is None else f"{row.value:,.{_places(row.value)}f} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
        if before and row.part != before:
            table.add_section()
        part = "" if row.part == before else row.part
        table.add_row(part, Text(escaped(row.name)), figure, ratio, Text(escaped(row.note)))
        before = row.part
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items() if value)
    lines = [("machine", report.machine), ("versions", versions)]
    lines += [("videos", report.videos), ("models", report.models), ("limit", report.limits)]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines:
        grid.add_row(name, Text(escaped(value)))
    grid.add_row("measured", f"in {in_time(report.seconds)}; a ratio is how many times as fast")
    return Group(table, grid)


def _places(value: float) -> int:
    """Decimals that show three digits or so."""
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
