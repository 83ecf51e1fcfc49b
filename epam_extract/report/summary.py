"""Summarise each video of a feature file, and flag those worth a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import StoreError
from ..exchange import Event
from ..records import Segment
from ..schema import POOLED, window_arrays
from ..store import FeatureStore, StoredVideo

FEW_PERSONS = 0.5  # of a video's frames; fewer with a person are worth a look
MOSTLY_OUTSIDE = 0.5  # mean share of a window inside the video
STILL = 1e-4  # relative spread of the features of a video in which nothing changes
ODD = 6.0  # robust standard deviations from the other videos
ENOUGH = 8  # videos needed to tell which one is unlike the others

KINDS: dict[str, tuple[str, int]] = {
    "no_person": ("no person", 5),
    "still": ("features never change", 4),
    "label": ("labels do not fit", 4),
    "few_persons": ("few persons", 3),
    "notes": ("notes from reading it", 3),
    "changed": ("video missing or changed", 2),
    "odd": ("unlike the others", 2),
    "clipped": ("values clipped", 2),
    "outside": ("mostly outside", 1),
}
"""Kind of a flag -> its name in the list of filters, and its weight in the order."""


@dataclass(frozen=True)
class Flag:
    """One suspicious thing about a video."""

    kind: str
    text: str


@dataclass
class VideoSummary:
    """A complete video in a few numbers."""

    id: str
    windows: int
    seconds: float
    start: float
    """Second of the first frame."""
    fps: float
    frames: int
    height: int
    width: int
    person: np.ndarray
    """(W,) share of each window's frames with a person."""
    valid: np.ndarray
    """(W,) share of each window inside the video."""
    times: np.ndarray
    """(W, 3) seconds."""
    person_share: float
    """Share of the video's frames with a person."""
    mean: np.ndarray | None
    """(C,) mean of the pooled features; None if the file has none."""
    segment: Segment | None = None
    """The part of the source video that it is."""
    events: Sequence[Event] = ()
    flags: list[Flag] = field(default_factory=list)

    @property
    def source_id(self) -> str:
        """The id of the whole video."""
        return self.segment.video_of(self.id) if self.segment else self.id

    @property
    def weight(self) -> int:
        """How suspicious it is."""
        return sum(KINDS[kind][1] for kind in {flag.kind for flag in self.flags})

    def flag(self, kind: str, text: str) -> None:
        """Add a reason to look at it."""
        self.flags.append(Flag(kind, text))


def pooled_names(store: FeatureStore) -> tuple[str, ...]:
    """The pooled features that a file has."""
    stored = window_arrays(store.config)
    return tuple(name for name in POOLED if name in stored)


def summarise(
    store: FeatureStore, events: Mapping[str, Sequence[Event]], damaged: dict[str, str]
) -> list[VideoSummary]:
    """Every complete video, in order of ids; ``events`` are their labelled segments.

    Videos that cannot be read are left out and added to ``damaged``: id -> reason.
    """
    names = pooled_names(store)
    found = []
    for video_id in store.ids:
        try:
            found.append(_summary(store[video_id], names, events.get(video_id, ())))
        except (StoreError, KeyError) as error:
            damaged[video_id] = str(error)
    _flag_odd_ones(found)
    return found


def in_order(summaries: Sequence[VideoSummary]) -> list[VideoSummary]:
    """The most suspicious first, then by id."""
    return sorted(summaries, key=lambda one: (-one.weight, one.id))


def _segment(attributes: Mapping[str, Any]) -> Segment | None:
    if "segment_start" not in attributes:
        return None
    return Segment(float(attributes["segment_start"]), float(attributes["segment_end"]))


def _summary(video: StoredVideo, names: Sequence[str], events: Sequence[Event]) -> VideoSummary:
    attributes: dict[str, Any] = video.attrs
    times = video["times"][:]
    mean, still = _moments(video, names)
    summary = VideoSummary(
        id=video.id,
        windows=len(times),
        seconds=float(attributes["duration"]),
        start=float(times[0, 0]),
        fps=float(video.fps),
        frames=int(attributes["num_frames"]),
        height=int(attributes["height"]),
        width=int(attributes["width"]),
        person=video["person"][:],
        valid=video["valid"][:],
        times=times,
        person_share=float(attributes["person_share"]),
        mean=mean,
        segment=_segment(attributes),
        events=events,
    )
    share = summary.person_share
    if share == 0:
        summary.flag("no_person", "no person in any frame: the pose stream saw nothing")
    elif share < FEW_PERSONS:
        summary.flag("few_persons", f"a person in only {share:.0%} of the frames")
    if still:
        summary.flag("still", "all windows have nearly the same features: a still picture?")
    if attributes.get("notes"):
        summary.flag("notes", str(attributes["notes"]))
    if attributes.get("clipped"):
        summary.flag("clipped", f"{attributes['clipped']:,} values beyond float16's range")
    if float(summary.valid.mean()) < MOSTLY_OUTSIDE:
        summary.flag(
            "outside",
            f"windows lie only {summary.valid.mean():.0%} inside the video: it is shorter than they"
            " are",
        )
    _flag_labels(summary)
    return summary


def _moments(video: StoredVideo, names: Sequence[str]) -> tuple[np.ndarray | None, bool]:
    """Mean of the pooled features (C,), and whether they are equal in all windows."""
    if not names:
        return None, False
    means, spread, size = [], 0.0, 0.0
    for name in names:
        count, width = video[name].shape
        total, squares = np.zeros(width), np.zeros(width)
        for block in video[name].blocks():
            rows = block.astype(np.float64)
            total += rows.sum(0)
            squares += (rows**2).sum(0)
        mean = total / count
        means.append(mean)
        spread += float(np.maximum(squares / count - mean**2, 0).sum())
        size += float((mean**2).sum())
    still = len(video[names[0]]) > 2 and spread <= STILL**2 * size
    return np.concatenate(means), still


def _flag_odd_ones(summaries: Sequence[VideoSummary]) -> None:
    """Flag videos whose mean features are far from the median."""
    known = [one for one in summaries if one.mean is not None]
    if len(known) < ENOUGH:
        return
    means = np.stack([one.mean for one in known if one.mean is not None])
    away = np.linalg.norm(means - np.median(means, axis=0), axis=1)
    usual = float(np.median(away))
    scale = 1.4826 * float(np.median(np.abs(away - usual)))  # of a normal distribution
    for one, distance in zip(known, away, strict=True):
        if scale and (distance - usual) / scale > ODD:
            times = distance / usual
            one.flag("odd", f"its features are {times:.1f} times as far from the rest as is usual")


def _flag_labels(summary: VideoSummary) -> None:
    """Flag segments outside the video or without people."""
    end = summary.start + summary.seconds
    centers = summary.times[:, 1]
    for event in summary.events:
        what = f"{event.label} ({event.start:.1f} to {event.end:.1f} s)"
        slack = 1 / summary.fps if summary.fps else 0.0
        if event.start < summary.start - slack or event.end > end + slack:
            summary.flag("label", f"{what} is not within the video's {summary.seconds:.1f} s")
            continue
        inside = (centers >= event.start) & (centers <= event.end)
        if inside.any() and not summary.person[inside].any():
            summary.flag("label", f"{what}: nobody is seen in it")
