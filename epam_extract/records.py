"""The records that travel between stages, in the order they appear.

They check themselves on construction, and their ``repr`` prints shapes, not arrays.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterator, Sequence
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
    """A video file that is not on this machine, as its store lists it; printed without secrets."""

    address: str
    """Its address without user, password and query, to be shown and stored."""
    size: int
    """Bytes; 0 if the store does not say."""
    mtime_ns: int
    """Time of change, or a number derived from the store's tag of its content."""
    source: str = field(repr=False)
    """The address that the user gave, including any secrets."""
    path: str = field(repr=False)
    """Its name in that store."""

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class Segment:
    """A part of a video that is treated as a video of its own; or all of it, with a label."""

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
        """The id of the whole video, given that of the segment."""
        return segment_id if self.whole else segment_id.rpartition("/")[0]


@dataclass(frozen=True)
class Video:
    """One video as measured while it was read; no number is taken from the header."""

    id: str
    """Path relative to the root, without suffix, with "/"."""
    path: Path
    num_frames: int
    """Frames that can be decoded."""
    fps: Fraction
    height: int
    """As displayed, with rotation applied."""
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
    """Where it was fetched from; ``size`` and ``mtime_ns`` are then the store's."""

    def __post_init__(self) -> None:
        _check("timestamps", self.timestamps, (self.num_frames,), np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        last = float(1 / self.fps) if self.fps else 0.0
        return float(self.timestamps[-1] - self.timestamps[0]) + last


@dataclass(frozen=True)
class VideoFailure:
    """A video that could not be processed; it takes the place of further results."""

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
    None: each is shown once, so N equals F."""

    def __post_init__(self) -> None:
        _check("frames", self.frames, (None, None, None, 3), np.uint8)

    def __repr__(self) -> str:
        return f"FramePiece(start={self.start}, frames={self.frames.shape})"

    def __len__(self) -> int:
        """N, the number of the video's frames in it."""
        return len(self.frames) if self.shown is None else len(self.shown)

    def images(self) -> list[np.ndarray]:
        """N pictures (H, W, 3); a picture that is repeated is the same array."""
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
    """Keypoints of all people in consecutive frames: ``M`` people, ``T`` frames.

    A person absent from a frame has score 0 there. A pose model sorts the people of each frame by
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
    """A window's pixels and keypoints, as the network needs them."""

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

    @property
    def row(self) -> ClipRow:
        """What the file keeps of the clip."""
        return ClipRow(self.video_id, self.window, self.frames, self.box, self.person)


@dataclass(frozen=True)
class ClipRow:
    """A clip without its pixels and keypoints: what the file keeps besides the features."""

    video_id: str
    window: int
    """Row of the window in its video."""
    frames: np.ndarray
    """(48,) int64: which frames of the video it is made of."""
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 of the crop in source pixels."""
    person: float
    """Share of the window's frames with a person."""


@dataclass(frozen=True, repr=False)
class ClipBatch:
    """Clips of any videos at one fixed batch shape; whatever follows ``len(rows)`` is padding."""

    rows: tuple[ClipRow, ...]
    rgb: np.ndarray
    """(B, 16, 224, 224, 3) uint8."""
    keypoints: np.ndarray
    """(B, M, 48, 17, 2) float32, M zero-padded."""
    keypoint_scores: np.ndarray
    """(B, M, 48, 17) float32."""

    def __repr__(self) -> str:
        return f"ClipBatch({len(self.rows)} clips, rgb={self.rgb.shape})"


@dataclass(frozen=True, repr=False)
class FeatureBatch:
    """Features of a :class:`ClipBatch` without its padding, in its order, as they are stored."""

    rows: tuple[ClipRow, ...]
    arrays: dict[str, np.ndarray]
    """Name to B rows, of the shapes and dtypes that ``schema.feature_arrays`` gives."""
    clipped: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(B,) int64: values of each row that exceeded the stored dtype's range and were clipped to it;
    empty if no value can."""

    def __repr__(self) -> str:
        shapes = {name: array.shape for name, array in self.arrays.items()}
        return f"FeatureBatch({shapes})"


def file_stamp(path: Path) -> tuple[int, int]:
    """Size and time of change, which tell whether a video is still the same; for a folder, 0 and
    the time at which pictures were last added or removed.

    Raises:
        OSError: there is no such file, or it cannot be accessed.
        ValueError: the name cannot be a path.
    """
    status = path.stat()
    return 0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns


def readable(text: str) -> str:
    """A name in a form that can be shown, typed and stored: bytes that are not UTF-8, and null
    characters, are escaped, as in ``\\xff``."""
    raw = text.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def sha256(*paths: Path) -> str:
    """The SHA-256 of a file's content, or of several files' one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
