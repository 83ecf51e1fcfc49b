"""What an export format works with: features, annotations, and the folder to write to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ..store import FeatureStore, StoredVideo
from .annotations import Annotations, Event, VideoAnnotation
from .timeline import Timeline


class Target:
    """One export: its videos and its files."""

    def __init__(
        self,
        store: FeatureStore,
        folder: Path,
        *,
        prefix: str,
        features: Sequence[str],
        annotations: Annotations | None,
        names: Mapping[str, str],
    ) -> None:
        self.store = store
        self.folder = folder.resolve()  # a configuration is used in another folder
        self.prefix = prefix
        self.features = tuple(features)
        self.annotations = annotations
        self.names = dict(names)
        """Video id -> name of its file, without suffix."""

    # -- what is exported -------------------------------------------------------------------

    @property
    def ids(self) -> list[str]:
        """Videos to export, in order."""
        return list(self.names)

    def leave_out(self, video_id: str) -> None:
        """Take a video out of the export."""
        del self.names[video_id]
        for name in ("rates", "annotated", "labels"):  # computed again from the remaining videos
            self.__dict__.pop(name, None)

    def matrix(self, video: StoredVideo) -> np.ndarray:
        """(W, C) float32: the chosen features, concatenated."""
        return np.concatenate([video[name] for name in self.features], axis=1, dtype=np.float32)

    @property
    def width(self) -> int:
        """C: numbers per row."""
        video = self.store[self.ids[0]]
        return sum(video[name].shape[1] for name in self.features)

    def timeline(self, video_id: str) -> Timeline:
        """Where the rows of a video lie in time."""
        return Timeline.of(self.store[video_id])

    @cached_property
    def rates(self) -> list[float]:
        """The distinct frame rates of the videos, ascending."""
        return sorted({float(self.store[video_id].fps) for video_id in self.ids})

    # -- what is annotated ------------------------------------------------------------------

    def annotation(self, video_id: str) -> VideoAnnotation | None:
        """A video's annotation, else one event with its stored label, else None."""
        known = None if self.annotations is None else self.annotations.videos.get(video_id)
        label = self.stored_label(video_id)
        if known is not None or label is None:
            return known
        timeline = self.timeline(video_id)
        whole = Event(timeline.start, timeline.start + timeline.duration, label)
        return VideoAnnotation([whole])

    @cached_property
    def annotated(self) -> dict[str, VideoAnnotation]:
        """The annotated videos; all videos if nothing is annotated."""
        found = {video_id: self.annotation(video_id) for video_id in self.ids}
        known = {video_id: video for video_id, video in found.items() if video is not None}
        if self.annotations is None and not known:
            return {video_id: VideoAnnotation() for video_id in self.ids}
        return known

    @property
    def has_labels(self) -> bool:
        """Whether anything is annotated at all."""
        return self.annotations is not None or bool(self.labels)

    def stored_label(self, video_id: str) -> str | None:
        """The label stored with a video that was cut from a longer one."""
        label = self.store[video_id].attrs.get("label")
        return None if label is None else str(label)

    @cached_property
    def labels(self) -> list[str]:
        """Names of the classes that occur in the exported videos, sorted.

        ActionFormer refuses a ``num_classes`` that counts a class without any video.
        """
        return sorted({event.label for video in self.annotated.values() for event in video.events})

    def label(self, video_id: str) -> str | None:
        """The label of a whole video: that of all its events, if it is the same."""
        annotation = self.annotation(video_id)
        labels = {event.label for event in annotation.events} if annotation else set()
        return labels.pop() if len(labels) == 1 else None

    def row_labels(self, video_id: str) -> list[str | None]:
        """(W,): the latest event's label at each row's centre, else the video's stored label."""
        centers = self.store[video_id]["times"][:, 1]
        labels = np.full(len(centers), self.stored_label(video_id), object)
        annotation = self.annotations.videos.get(video_id) if self.annotations else None
        for event in sorted(annotation.events, key=lambda e: e.start) if annotation else ():
            labels[(centers >= event.start) & (centers < event.end)] = event.label
        return list(labels)

    def database(self, clock: Callable[[Timeline, float], float]) -> dict[str, object]:
        """ActivityNet's JSON of the annotated videos, with measured durations and rates.

        ``clock`` converts a time in the video to the reader's seconds.
        """
        number = {label: n for n, label in enumerate(self.labels)}
        entries = {}
        for video_id, annotation in self.annotated.items():
            timeline = self.timeline(video_id)
            end = timeline.start + timeline.duration
            entries[self.names[video_id]] = {
                "subset": annotation.subset,
                "duration": clock(timeline, end) - clock(timeline, timeline.start),
                "fps": timeline.fps,
                "frame": timeline.num_frames,
                "annotations": [
                    {
                        "segment": [
                            round(clock(timeline, moment), 6) for moment in (event.start, event.end)
                        ],
                        "label": event.label,
                        "label_id": number[event.label],
                    }
                    for event in annotation.events
                ],
            }
        return {"version": "epam-extract", "database": entries}

    # -- writing ----------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        """Path of a file of this export."""
        return self.folder / f"{self.prefix}{name}"

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A file to write; it is renamed to ``name`` once it is complete."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".unfinished-{path.name}")  # a killed export's is overwritten
        try:
            yield unfinished
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def save(self, name: str, array: np.ndarray) -> None:
        """Write an array as .npy, in C order."""
        with self.writing(name) as path:
            np.save(path, np.ascontiguousarray(array))

    def text(self, name: str, content: str) -> None:
        """Write a text file."""
        with self.writing(name) as path:
            path.write_text(content, encoding="utf-8")

    def json(self, name: str, content: Mapping[str, object]) -> None:
        """Write JSON."""
        self.text(name, json.dumps(content, indent=1) + "\n")

    def settings(self, **values: object) -> None:
        """Write config.yaml, the settings for training code. Values are JSON, also valid YAML."""
        shared = {
            "feature_folder": str(self.folder),
            "input_dim": self.width,
            **self.grid(),
            "fps": self.rates[0] if len(self.rates) == 1 else self.rates,
            "classes": self.labels,
        }
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in {**shared, **values}.items()]
        self.text("config.yaml", "".join(lines))

    def grid(self) -> dict[str, float]:
        """Stride and offset in frames, if they are the same in all videos of the file."""
        if self.single:
            return {}  # one row per video, in its middle
        timeline = self.timeline(self.ids[0])
        return {"feat_stride": timeline.stride, "offset_frames": timeline.offset}

    @property
    def single(self) -> bool:
        """Whether the file has one window per video."""
        return self.store.config["grid"] == "single"
