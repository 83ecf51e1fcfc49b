"""The records that travel between stages, in the order they appear.

They check themselves on construction, and their ``repr`` prints shapes, not arrays.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from .config import NUM_KEYPOINTS, POSE_FRAMES, RGB_FRAMES, RGB_SIZE


def _check(name: str, array: np.ndarray, shape: Sequence[int | None], dtype: type) -> None:
    """Raise unless ``array`` has this dtype and this shape, None meaning any length."""
    fits = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or array.dtype != np.dtype(dtype):
        want = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(
            f"{name}: expected ({want}) {np.dtype(dtype)}, got {array.shape} {array.dtype}"
        )


@dataclass(frozen=True, order=True)
class RemoteFile:
    """A video's file that is elsewhere, as its store lists it. Printed without any secrets."""

    address: str
    """To show and store: without user, password and query."""
    size: int
    """Bytes, 0 where the store does not say."""
    mtime_ns: int
    """Time of change, or a number made of the store's mark of its content."""
    source: str = field(repr=False)
    """The address that the user gave, with what secrets it has."""
    path: str = field(repr=False)
    """Its name in that store."""

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class Segment:
    """A part of a video that is done as a video of its own; or all of it, with a label."""

    start: float = -math.inf
    """Seconds, by the video's own clock."""
    end: float = math.inf
    label: str = ""

    @property
    def whole(self) -> bool:
        """Whether it is all of the video."""
        return math.isinf(self.start) and math.isinf(self.end)

    def id_in(self, video_id: str) -> str:
        """Its id: ``<video>/<start>-<end>`` in milliseconds, or the video's own."""
        if self.whole:
            return video_id
        return f"{video_id}/{round(self.start * 1000)}-{round(self.end * 1000)}"

    def video_of(self, segment_id: str) -> str:
        """The video's id, of the segment's own."""
        return segment_id if self.whole else segment_id.rpartition("/")[0]


@dataclass(frozen=True)
class Video:
    """One video as the probe found it; every number is measured, none is the header's."""

    id: str
    """Path under the root without suffix, "/" kept."""
    path: Path
    num_frames: int
    """Frames that decode."""
    fps: Fraction
    height: int
    """As displayed: rotation is applied."""
    width: int
    timestamps: np.ndarray = field(repr=False)
    """(T,) float64: presentation time of each frame, in seconds."""
    size: int = 0
    """Bytes of the file."""
    mtime_ns: int = 0
    notes: tuple[str, ...] = ()
    """What the user should know, such as "damaged or cut short: 74 of 150 frames decode"."""
    segment: Segment | None = None
    """The part of the file that this is, and its label."""
    remote: RemoteFile | None = None
    """Where it was fetched from; ``size`` and ``mtime_ns`` are then those of that store."""

    def __post_init__(self) -> None:
        _check("timestamps", self.timestamps, (self.num_frames,), np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        last = float(1 / self.fps) if self.fps else 0.0
        return float(self.timestamps[-1] - self.timestamps[0]) + last


@dataclass(frozen=True)
class VideoFailure:
    """A video that could not be done; travels in place of its results."""

    video_id: str
    stage: str
    message: str
    path: Path | RemoteFile | None = None


@dataclass(frozen=True, repr=False)
class FramePiece:
    """Consecutive frames of one video, as they come from the decoder."""

    start: int
    """Index of the first frame in the video."""
    frames: np.ndarray
    """(F, H, W, 3) uint8, RGB."""
    shown: np.ndarray | None = None
    """(N,) int64, ascending: which of ``frames`` each of N frames of a regular time line shows.
    None: N is F, and each is shown once."""

    def __post_init__(self) -> None:
        _check("frames", self.frames, (None, None, None, 3), np.uint8)

    def __repr__(self) -> str:
        return f"FramePiece(start={self.start}, frames={self.frames.shape})"

    def __len__(self) -> int:
        """N: frames of the video in it."""
        return len(self.frames) if self.shown is None else len(self.shown)

    def images(self) -> list[np.ndarray]:
        """N pictures (H, W, 3); one that is shown again is the same array."""
        pictures = list(self.frames)
        return pictures if self.shown is None else [pictures[i] for i in self.shown]

    def places(self) -> np.ndarray:
        """(F,) int64: the index in the video at which each of ``frames`` is first shown."""
        order = np.arange(len(self.frames))
        return self.start + (order if self.shown is None else np.searchsorted(self.shown, order))

    def spread(self, track: PoseTrack) -> PoseTrack:
        """Keypoints of ``frames`` (M, F) -> of the video's frames (M, N)."""
        if self.shown is None:
            return track
        return PoseTrack(track.keypoints[:, self.shown], track.keypoint_scores[:, self.shown])


@dataclass(frozen=True, repr=False)
class PoseTrack:
    """Keypoints of every person in a run of frames. ``M`` people, ``T`` frames.

    A person absent from a frame has score 0 there. A pose model gives each frame's persons by
    detection score; after :class:`pose.PersonLinker` a row is one person over time.
    """

    keypoints: np.ndarray
    """(M, T, 17, 2) float32, x right and y down, in pixels of the decoded frame."""
    keypoint_scores: np.ndarray
    """(M, T, 17) float32 in [0, 1]."""

    def __post_init__(self) -> None:
        people, frames = self.keypoint_scores.shape[:2]
        _check("keypoints", self.keypoints, (people, frames, NUM_KEYPOINTS, 2), np.float32)
        _check("keypoint_scores", self.keypoint_scores, (people, frames, NUM_KEYPOINTS), np.float32)

    def __repr__(self) -> str:
        people, frames = self.keypoint_scores.shape[:2]
        return f"PoseTrack({people} people, {frames} frames)"


@dataclass(frozen=True, repr=False)
class Clip:
    """What the network sees of one window, still as pixels and bare keypoints."""

    video_id: str
    window: int
    """Row of the window in its video."""
    frames: np.ndarray
    """(48,) int64: which frames of the video it is made of."""
    rgb: np.ndarray
    """(16, 224, 224, 3) uint8, RGB."""
    keypoints: np.ndarray
    """(M, 48, 17, 2) float32, in heatmap pixels."""
    keypoint_scores: np.ndarray
    """(M, 48, 17) float32."""
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 of the crop in source pixels."""
    person: float
    """Share of the window's frames with a person."""

    def __post_init__(self) -> None:
        people = len(self.keypoints)
        _check("frames", self.frames, (POSE_FRAMES,), np.int64)
        _check("rgb", self.rgb, (RGB_FRAMES, RGB_SIZE, RGB_SIZE, 3), np.uint8)
        _check("keypoints", self.keypoints, (people, POSE_FRAMES, NUM_KEYPOINTS, 2), np.float32)
        _check(
            "keypoint_scores",
            self.keypoint_scores,
            (people, POSE_FRAMES, NUM_KEYPOINTS),
            np.float32,
        )

    def __repr__(self) -> str:
        return f"Clip({self.video_id!r}, window {self.window}, {len(self.keypoints)} people)"


@dataclass(frozen=True, repr=False)
class ClipBatch:
    """Clips of any videos at one fixed batch shape; rows past ``len(clips)`` are padding."""

    clips: tuple[Clip, ...]
    rgb: np.ndarray
    """(B, 16, 224, 224, 3) uint8."""
    keypoints: np.ndarray
    """(B, M, 48, 17, 2) float32, M zero-padded."""
    keypoint_scores: np.ndarray
    """(B, M, 48, 17) float32."""

    def __repr__(self) -> str:
        return f"ClipBatch({len(self.clips)} clips, rgb={self.rgb.shape})"


@dataclass(frozen=True, repr=False)
class FeatureBatch:
    """Features of a :class:`ClipBatch`'s real rows, in its order, as they are stored."""

    clips: tuple[Clip, ...]
    arrays: dict[str, np.ndarray]
    """Dataset name to rows: ``rgb_pooled`` (B, 432) f32, ``pose_pooled`` (B, 216) f32, ``rgb``
    (B, 432, 16, 7, 7) and ``pose`` (B, 216, 48, 7, 7) in the stored dtype, ``rgb_tokens``
    (B, 16, 432) and ``pose_tokens`` (B, 48, 216) f32, ``attention``
    (B, 16, 7, 7) f16; those asked for only."""
    clipped: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(B,) int64: values of each row that lay beyond the stored dtype's range and were clipped to
    it; empty where nothing can be."""

    def __repr__(self) -> str:
        shapes = {name: array.shape for name, array in self.arrays.items()}
        return f"FeatureBatch({shapes})"


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, by the headers of its videos."""

    videos: int
    """Videos asked for."""
    to_do: int
    """Of them, those this run reads."""
    skipped: int
    """Of them, those complete in the file."""
    failed_before: int
    """Of them, those that failed in an earlier run and whose file has not changed since."""
    frames: int
    """Frames to process."""
    windows: int
    """Windows to write."""
    bytes: int
    """What the output is expected to grow by."""
    free_bytes: int
    """What the disk has left."""
    exact: bool = True
    """False while videos are still looked at: frames, windows and bytes are then estimates."""


@dataclass(frozen=True)
class StageLoad:
    """How one stage of the running pipeline fared in the last seconds."""

    rate: float
    """Items per second."""
    busy: float
    """Share of the time it worked instead of waiting, 0 to 1 (all its threads together)."""
    unit: str = "frames"
    """What is counted: "frames", "windows", "videos"."""


@dataclass(frozen=True)
class Summary:
    """What a run did, for the screen and ``--summary-json``."""

    out: Path
    videos: int
    """Videos asked for."""
    done: int
    """Videos complete in the file now, of those asked for."""
    skipped: int
    """Of them, complete before this run."""
    failures: tuple[VideoFailure, ...]
    windows: int
    """Windows written by this run."""
    frames: int
    """Frames read by this run."""
    frames_with_person: int
    seconds: float
    size: int
    """Bytes of the file."""
    interrupted: bool = False
    clipped: int = 0
    notes: tuple[str, ...] = ()
    """Announcements: random weights, demo pose model, values clipped."""

    @property
    def failed(self) -> int:
        """Number of videos asked for that failed, now or in an earlier run."""
        return len(self.failures)


@dataclass(frozen=True)
class BenchRow:
    """One measured figure of ``epam-extract bench``."""

    part: str
    """``decode``, ``pose``, ``network``, ``writing``, ``overlap``, ``end to end``."""
    name: str
    value: float | None
    """None where it was skipped; ``note`` says why."""
    unit: str
    ratio: float | None = None
    """How many times as fast as the part's first row."""
    note: str = ""


@dataclass(frozen=True)
class BenchReport:
    """What ``epam-extract bench`` found."""

    machine: str
    """Processor, cores and GPU."""
    versions: Mapping[str, str]
    """Of this package, its commit where it runs from a checkout, and of what it computes with."""
    taken: str
    """When, as ISO 8601 in UTC."""
    videos: str
    """What it was measured on."""
    rows: tuple[BenchRow, ...]
    limits: str
    """What holds a run up on this machine, in a sentence."""
    seconds: float
    """That measuring took."""
    models: str = ""
    """The pose models, and whether stand-ins took their place."""


def file_stamp(path: Path) -> tuple[int, int]:
    """Size and time of change, by which a video is known to be the same; of a folder 0 and the
    time at which pictures came or went. Raises OSError, or ValueError for no path at all."""
    status = path.stat()
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns


def readable(text: str) -> str:
    """A name as it can be shown, typed and stored: bytes that are no UTF-8, and null characters,
    are escaped, as in ``\\xff``."""
    raw = text.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def concatenate(tracks: Sequence[PoseTrack]) -> PoseTrack:
    """Join tracks along time, zero-padding people to the largest M."""
    people = max((len(track.keypoints) for track in tracks), default=0)
    frames = sum(track.keypoints.shape[1] for track in tracks)
    keypoints = np.zeros((people, frames, NUM_KEYPOINTS, 2), np.float32)
    scores = np.zeros((people, frames, NUM_KEYPOINTS), np.float32)
    for track, start in zip(tracks, _starts(tracks), strict=True):
        where = slice(start, start + track.keypoints.shape[1])
        keypoints[: len(track.keypoints), where] = track.keypoints
        scores[: len(track.keypoints), where] = track.keypoint_scores
    return PoseTrack(keypoints, scores)


def _starts(tracks: Sequence[PoseTrack]) -> Iterator[int]:
    start = 0
    for track in tracks:
        yield start
        start += track.keypoints.shape[1]
