"""What a run did, for people and as JSON."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from ..config import ExtractConfig
from ..options import format_bytes
from ..progress import escaped, format_duration, format_rate, plural
from ..progress.records import Summary
from ..schema import shape_text, video_arrays
from .tables import failure_table, grid


def summary_json(summary: Summary, *, status: int) -> dict[str, object]:
    """The summary's fields and a few that follow from them, JSON-ready."""
    failures = [
        {**asdict(failure), "path": None if failure.path is None else str(failure.path)}
        for failure in summary.failures
    ]
    return {
        **asdict(summary),
        "out": str(summary.out),
        "failures": failures,
        "failed": summary.failed,
        "person_share": summary.person_share,
        "exit_status": status,
    }


def summary_report(
    summary: Summary, config: ExtractConfig, *, example: str | None
) -> RenderableType:
    """What a run did, where its file is, what is in it, and how to resume.

    ``example`` is the id of a video in the file, None where there is none.
    """
    good = summary.done == summary.videos and not summary.interrupted
    done = f"{summary.done:,}" if summary.done else "None"
    headline = (
        f"{done} of {plural(summary.videos, 'video')} {'are' if summary.done > 1 else 'is'} in "
    )
    parts: list[RenderableType] = [
        Text("\n").append(headline, "bold green" if good else "bold yellow")
        .append(escaped(str(summary.out)), "bold").append(f" ({format_bytes(summary.size)})"),
        grid(("dim", ""), _figures(summary)),
    ]  # fmt: skip
    if summary.failures:
        parts += [Text(), failure_table(summary.failures)]
    if example is not None:
        arrays = datasets(config)
        store = f"FeatureStore({str(summary.out)!r})"
        code = f'  from epam_extract import FeatureStore\n  {store}[{example!r}]["{arrays[0][0]}"]'
        title = "\nIn it, under /videos/<video>/ for each video of W windows:"
        parts += [
            Text(title, "bold"),
            grid(("cyan", "", "", "dim"), [(f"  {name}", *about) for name, *about in arrays]),
            Text("\nTo read it:", "bold"),
            Text(code, no_wrap=True),
        ]
    if summary.interrupted:
        left = plural(max(0, summary.videos - summary.done - summary.failed), "video")
        words = "Run the same command again to resume; committed data is kept."
        parts.append(Text(f"\nInterrupted with {left} to go. {words}", "bold yellow"))
    elif summary.failures:
        words = "To try the failed videos again, add --retry-failed to the same command."
        parts.append(Text(f"\n{words}"))
    return Group(*parts)


def _figures(summary: Summary) -> list[tuple[str, str | Text]]:
    videos, frames = f"{summary.done:,} done", f"{summary.frames:,}"
    if summary.skipped:
        videos += f", {summary.skipped:,} of them before this run"
    if summary.failed:
        videos += f", {summary.failed:,} failed"
    if summary.person_share is not None:
        frames += f", a person in {summary.person_share:.0%} of them"
    took = format_duration(summary.seconds)
    if summary.frames and summary.seconds > 0:
        took += f", {format_rate(summary.frames / summary.seconds, 'frames')}"
    rows: list[tuple[str, str | Text]] = [("  videos", videos)]
    rows += [("  windows", f"{summary.windows:,}"), ("  frames", frames), ("  time", took)]
    if summary.clipped:
        clipped = f"{plural(summary.clipped, 'value')} beyond float16, clipped to its range"
        rows.append(("  clipped", Text(f"{clipped} (--dtype f32 keeps them)", "yellow")))
    return rows + [("  note", Text(escaped(note), "yellow")) for note in summary.notes]


def datasets(config: ExtractConfig) -> list[tuple[str, str, str, str]]:
    """Name, shape, dtype and meaning of what a run stores for each video of W windows."""
    return [
        (array.name, shape_text(array.axes), array.dtype_name, array.meaning)
        for array in video_arrays(config.identity()).values()
    ]
