"""Check whether features and annotations match, before days of training on them."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..config import WindowConfig
from ..store import FeatureStore
from .annotations import Annotations, VideoAnnotation
from .timeline import Timeline

FEW = 5  # examples of a class
SHIFT = 0.5  # rows; a smaller shift hardly moves a label to another row
LIKENESS = 0.75  # of two ids, as measured by difflib
MOST_COMPARED = 200  # ids; of more, only the bare names are compared

KINDS = {
    "not in the file": "annotated, and no features",
    "not annotated": "features, and no annotations",
    "outside": "segments outside the video",
    "clock": "annotated duration, fps or frames are not the measured ones",
    "few": f"classes with fewer than {FEW} examples",
    "nobody": "rows inside segments without a person",
}
"""What is checked, in the order in which it is reported."""


@dataclass(frozen=True)
class Finding:
    """One problem."""

    kind: str
    """One of ``KINDS``."""
    subject: str
    """Id of a video; the class for ``few``."""
    message: str
    likely: str | None = None
    """The id that was probably meant."""
    shift_rows: float | None = None
    """Rows by which labels would be wrong at the end of the video."""


def check_annotations(store: FeatureStore, annotations: Annotations) -> list[Finding]:
    """All problems, by kind and then by video; [] if everything matches."""
    complete, damaged = store.survey()
    state = {
        **{video_id: "it is not complete yet" for video_id, done in complete.items() if not done},
        **{
            video_id: f"it failed: {failure.message}"
            for video_id, failure in store.failures.items()
        },
        **{video_id: f"it is damaged: {reason}" for video_id, reason in damaged.items()},
    }
    found = list(_missing(annotations.videos, complete, state))
    for video_id in sorted(annotations.videos.keys() & complete.keys()):
        if complete[video_id]:
            found.extend(_video(store, video_id, annotations.videos[video_id]))
    found.extend(_few(annotations))
    order = list(KINDS)
    return sorted(found, key=lambda finding: order.index(finding.kind))


def _missing(
    annotated: Iterable[str], complete: Mapping[str, bool], state: Mapping[str, str]
) -> Iterator[Finding]:
    """Videos on one side only, with the one on the other side that was probably meant."""
    stored = {video_id for video_id, done in complete.items() if done}
    absent = sorted(set(annotated) - stored)
    spare = sorted(stored - set(annotated))
    likely = _likely([video_id for video_id in absent if video_id not in state], spare)
    for video_id in absent:
        meant = likely.get(video_id)
        words = state.get(video_id) or (f"did you mean {meant}?" if meant else "no such video")
        yield Finding("not in the file", video_id, words, likely=meant)
    meant_by = {theirs: ours for ours, theirs in likely.items()}
    for video_id in spare:
        meant = meant_by.get(video_id)
        words = f"annotated as {meant}?" if meant else "no annotations"
        yield Finding("not annotated", video_id, words, likely=meant)


def _likely(absent: list[str], spare: list[str]) -> dict[str, str]:
    """Annotated id -> stored id that differs in folder, suffix, case or little else."""
    by_name: dict[str, list[str]] = {}
    for video_id in spare:
        by_name.setdefault(_bare(video_id), []).append(video_id)
    likely = {}
    for video_id in absent:
        same = by_name.get(_bare(video_id), [])
        if len(same) == 1:
            likely[video_id] = same[0]
    taken = set(likely.values())
    left = [video_id for video_id in spare if video_id not in taken]
    for video_id in [one for one in absent if one not in likely][:MOST_COMPARED]:
        near = difflib.get_close_matches(video_id, left[:MOST_COMPARED], n=1, cutoff=LIKENESS)
        if near:
            likely[video_id] = near[0]
            left.remove(near[0])
    return likely


def _bare(video_id: str) -> str:
    """A video's name without folder, suffix, case, punctuation, and ActivityNet's ``v_``."""
    name = re.sub(r"\.(mp4|mkv|avi|mov|webm|npy)$", "", video_id.rsplit("/", 1)[-1].lower())
    return re.sub(r"[\W_]+", "", name.removeprefix("v_").removesuffix("_rgb"))


def _video(store: FeatureStore, video_id: str, annotation: VideoAnnotation) -> Iterator[Finding]:
    video = store[video_id]
    timeline = Timeline.of(video)
    yield from _clock(video_id, timeline, annotation.stated)
    first, last = timeline.start, timeline.start + timeline.duration
    slack = 1 / timeline.fps  # rounding of a frame's time
    centers = video["times"][:, 1]
    inside = np.zeros(len(centers), bool)
    for event in annotation.events:
        inside |= (event.start <= centers) & (centers < event.end)
        if event.start < first - slack or event.end > last + slack:
            yield Finding(
                "outside",
                video_id,
                f"{event.label} from {event.start:g} to {event.end:g} s, and the video lasts from "
                f"{first:g} to {last:.2f} s",
            )
    empty = int((video["person"][inside] == 0).sum())
    if empty:
        yield Finding(
            "nobody",
            video_id,
            f"{empty:,} of {int(inside.sum()):,} rows inside segments have no person",
        )


def _clock(video_id: str, timeline: Timeline, stated: Mapping[str, float]) -> Iterator[Finding]:
    """Stated durations, rates and frame counts that would shift the labels."""
    measured = {
        "duration": timeline.duration,
        "fps": timeline.fps,
        "frame": float(timeline.num_frames),
    }
    frames_off = {  # at the end of the video
        "duration": lambda value: (value - timeline.duration) * timeline.fps,
        "fps": lambda value: timeline.duration * (value - timeline.fps),
        "frame": lambda value: value - timeline.num_frames,
    }
    units = {"duration": " s", "fps": " fps", "frame": " frames"}
    for name, value in stated.items():
        frames = frames_off[name](value)
        shift = frames / timeline.stride
        if abs(frames) >= SHIFT * min(timeline.stride, WindowConfig.stride):
            yield Finding(
                "clock",
                video_id,
                f"annotated {name} {value:g}{units[name]}, measured {measured[name]:g}"
                f"{units[name]}: labels shift by up to {abs(shift):.1f} rows",
                shift_rows=round(shift, 3),
            )


def _few(annotations: Annotations) -> Iterator[Finding]:
    counts = Counter(event.label for video in annotations.videos.values() for event in video.events)
    for label in annotations.labels:
        if counts[label] < FEW:
            plural = "" if counts[label] == 1 else "s"
            yield Finding("few", label, f"{counts[label]} example{plural}")
