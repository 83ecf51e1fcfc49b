"""A file, or a folder, of keypoints in place of a pose model: ``--keypoints``.

The format is told by the content. :mod:`skeletons` reads each; here a video finds its annotation,
frame counts are compared, and coordinates and scores become what the heatmaps need.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import EpamExtractError, KeypointsError, VideoError
from ..records import FramePiece, PoseTrack
from . import skeletons
from .skeletons import Skeleton
from .unpickle import load_pickle

SHOWN = 5  # ids without an annotation that are named
OPENPOSE_FILE = re.compile(r"(.+)_(\d{12})_keypoints\.json")
YOLO_FILE = re.compile(r"(.+)_(\d+)\.txt")
HDF5 = b"\x89HDF\r\n\x1a\n"
Entry = Callable[[], Skeleton]


class KeypointsFailed(VideoError):
    """A video whose keypoints do not fit it."""

    stage = "keypoints"


@dataclass(frozen=True)
class Matches:
    """Which videos have keypoints."""

    found: Mapping[str, str]
    """Video id -> key of its annotation."""
    missing: tuple[str, ...]
    annotations: int

    def report(self) -> str:
        """One sentence for the screen."""
        text = f"keypoints: {len(self.found):,} videos have some, of {self.annotations:,} annotated"
        if self.missing:
            names = ", ".join(self.missing[:SHOWN])
            more = f" and {len(self.missing) - SHOWN:,} more" if len(self.missing) > SHOWN else ""
            text += f"; none for {names}{more}"
        return text


class KeypointFile:
    """Keypoints of many videos, by key."""

    def __init__(self, path: Path, form: str, digest: str, entries: Mapping[str, Entry]) -> None:
        self.path, self.format, self._entries = path, form, entries
        self.source: Mapping[str, object] = {
            "keypoints": path.name,
            "format": form,
            "sha256": digest,
        }

    def match(self, video_ids: Iterable[str]) -> Matches:
        """Find each video's annotation: by id, by last path component, without NTU's ``_rgb``."""
        last = {key.rsplit("/", 1)[-1]: key for key in self._entries}
        found, missing = {}, []
        for video_id in video_ids:
            name = video_id.rsplit("/", 1)[-1]
            for candidate in (video_id, name, name.removesuffix("_rgb"), name.split(".")[0]):
                key = candidate if candidate in self._entries else last.get(candidate)
                if key is not None:
                    found[video_id] = key
                    break
            else:
                missing.append(video_id)
        return Matches(found, tuple(missing), len(self._entries))

    def open(self, key: str, *, height: int, width: int) -> VideoKeypoints:
        """The keypoints of one video, in its own pixels.

        Raises:
            KeypointsFailed: they cannot be read.
        """
        try:
            skeleton = self._entries[key]()
        except EpamExtractError as error:
            raise KeypointsFailed(str(error)) from error
        except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise KeypointsFailed(f"{self.path}: the keypoints of {key}: {reason}") from error
        return VideoKeypoints(key, skeleton, height, width)


class VideoKeypoints:
    """Stands in for a pose model: gives each piece of one video its people."""

    def __init__(self, key: str, skeleton: Skeleton, height: int, width: int) -> None:
        self._key, self._whole, self.linked = key, skeleton.whole, skeleton.linked
        points = skeleton.keypoints.astype(np.float32)
        scores = skeleton.scores.astype(np.float32)
        there = np.isfinite(points).all(-1) & np.isfinite(scores) & (points != 0).any(-1)
        if skeleton.size is not None and skeleton.size != (height, width):
            points = points * np.array(
                [width / skeleton.size[1], height / skeleton.size[0]], np.float32
            )
        self._points = np.where(there[..., None], points, 0).astype(np.float32)
        self._scores = np.where(there, scores.clip(0, 1), 0).astype(np.float32)

    def estimate(self, piece: FramePiece) -> PoseTrack:
        """The people of a piece.

        Raises:
            KeypointsFailed: the video has more frames than keypoints.
        """
        stop = piece.start + len(piece.frames)
        total = self._points.shape[1]
        if self._whole and stop > total:
            raise KeypointsFailed(
                f"{self._key} has keypoints of {total} frames and the video at least {stop}"
            )
        where = slice(piece.start, stop)
        points, scores = self._points[:, where], self._scores[:, where]
        short = len(piece.frames) - points.shape[1]
        if short:
            points = np.pad(points, ((0, 0), (0, short), (0, 0), (0, 0)))
            scores = np.pad(scores, ((0, 0), (0, short), (0, 0)))
        there = (scores > 0).any((1, 2))  # nobody is carried along who is not in the piece
        last = int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0
        return PoseTrack(np.ascontiguousarray(points[:last]), np.ascontiguousarray(scores[:last]))

    def require(self, num_frames: int) -> None:
        """Raise KeypointsFailed unless they are of a video of this many frames."""
        total = self._points.shape[1]
        if total > num_frames or (self._whole and total != num_frames):
            raise KeypointsFailed(
                f"{self._key} has keypoints of {total} frames and the video has {num_frames}; "
                "expected one entry for every frame that decodes"
            )


def open_keypoints(path: Path) -> KeypointFile:
    """Recognise a file or folder of keypoints by its content, and read what is in it.

    Raises:
        KeypointsError: it cannot be read, is of no known format, or holds other skeletons.
    """
    try:
        form, entries = _folder(path) if path.is_dir() else _file(path)
        if not entries:
            raise ValueError("there are no keypoints in it")
        return KeypointFile(path, form, _digest(path), entries)
    except KeypointsError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OSError, RecursionError) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        if isinstance(error, KeyError):
            what = f"{what} is missing in it"
        raise KeypointsError(
            f"{path}: no keypoints can be read: {what}. Expected a pickle of mmaction2 or PYSKL, a "
            "feature file, an .npz, or what Ultralytics, MMPose, AlphaPose, OpenPose, easy_ViTPose "
            "or COCO write"
        ) from error


def _file(path: Path) -> tuple[str, dict[str, Entry]]:
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise ValueError("it is empty")
    key = path.stem.removesuffix("_result")
    if head == HDF5:
        return "epam-extract", _stored(path)
    if zipfile.is_zipfile(path):
        with np.load(path, allow_pickle=False) as archive:
            return "npz", _ready(skeletons.arrays(dict(archive), key))
    if head[:1] in (b"\x80", b"(", b"}", b"]", b"c"):  # how pickles begin, and no JSON
        return "pyskl", _ready(skeletons.pyskl(load_pickle(path)))
    content = json.loads(path.read_text("utf-8-sig"))
    form = skeletons.json_format(content)
    if form == "alphapose" and path.stem.startswith("alphapose-results"):
        key = path.parent.name
    return form, _ready(skeletons.JSON_READERS[form](content, key))


def _ready(found: Iterator[tuple[str, Skeleton]]) -> dict[str, Entry]:
    return {key: partial(_same, skeleton) for key, skeleton in found}


def _same(skeleton: Skeleton) -> Skeleton:
    return skeleton


def _stored(path: Path) -> dict[str, Entry]:
    """Our own file: a new stride, grid, crop or weights costs no pose estimation."""
    from ..store import FeatureStore

    store = FeatureStore(path)

    def read(video_id: str) -> Skeleton:
        video = store[video_id]
        size = (float(str(video.attrs["height"])), float(str(video.attrs["width"])))
        return Skeleton(video["keypoints"], video["keypoint_scores"].astype(np.float32), size)

    return {video_id: partial(read, video_id) for video_id in store}


def _folder(path: Path) -> tuple[str, dict[str, Entry]]:
    """A folder: a file per frame (OpenPose, Ultralytics), or a file per video."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for form, pattern, first in (("openpose", OPENPOSE_FILE, 0), ("ultralytics", YOLO_FILE, 1)):
        frames: dict[str, dict[int, Path]] = {}
        for file in files:
            match = pattern.fullmatch(file.name)
            if match:
                frames.setdefault(match[1], {})[int(match[2]) - first] = file
        if frames:
            return form, {
                key: partial(_frame_files, form, numbered) for key, numbered in frames.items()
            }
    entries: dict[str, Entry] = {}
    forms = set()
    for file in files:
        if file.suffix.lower() in (".json", ".npz", ".pkl", ".pickle"):
            form, found = _file(file)
            forms.add(form)
            entries.update(found)
    return "+".join(sorted(forms)), entries


def _frame_files(form: str, files: Mapping[int, Path]) -> Skeleton:
    if form == "openpose":
        return skeletons.openpose({n: json.loads(f.read_text("utf-8")) for n, f in files.items()})
    return skeletons.yolo({n: f.read_text("utf-8") for n, f in files.items()})


def _digest(path: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and contents of its files."""
    digest = hashlib.sha256()
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode("utf-8", "surrogateescape"))
        with file.open("rb") as data:
            while block := data.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
