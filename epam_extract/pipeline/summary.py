"""What a run did, added up while it lasts and told at its end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..progress.records import Summary
from ..records import VideoFailure
from .plan import ClassifiedVideos

MOST_NOTES = 20  # on single videos


@dataclass
class Totals:
    """What a run, or one worker of it, has done so far."""

    windows: int = 0
    frames: int = 0
    frames_with_person: int = 0
    clipped: int = 0
    """Values beyond the stored dtype's range."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about single videos, such as damage."""


def summarize(
    out: Path,
    videos: ClassifiedVideos,
    totals: Totals,
    *,
    done: int,
    failures: Iterable[VideoFailure],
    notes: Iterable[str],
    started: float,
    interrupted: bool,
) -> Summary:
    """The summary of a run that was begun at ``started``, by ``time.monotonic()``.

    ``done`` and ``failures`` are this run's own; ``notes`` precede those on single videos.
    """
    return Summary(
        out=out,
        videos=len(videos),
        done=len(videos.skipped) + done,
        skipped=len(videos.skipped),
        failures=(*videos.failed_before, *failures),
        windows=totals.windows,
        frames=totals.frames,
        frames_with_person=totals.frames_with_person,
        seconds=time.monotonic() - started,
        size=out.stat().st_size if out.exists() else 0,
        interrupted=interrupted,
        clipped=totals.clipped,
        notes=(*notes, *video_notes(totals.notes, totals.clipped)),
    )


def video_notes(notes: Sequence[str], clipped: int) -> list[str]:
    """The first notes on single videos, after one on values that were clipped."""
    shown = list(notes[:MOST_NOTES])
    if len(notes) > MOST_NOTES:
        more = len(notes) - MOST_NOTES
        shown.append(f"and {more:,} more like these; epam-extract info lists them")
    if clipped:
        words = f"{clipped} values beyond the f16 range were clipped; --dtype f32 keeps them"
        shown.insert(0, words)
    return shown
