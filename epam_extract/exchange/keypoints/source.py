"""``--keypoints``: open a file or folder of keypoints of any known format."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import KeypointsError, KeypointsFailed
from ...records import sha256
from . import openpose, ultralytics
from .arrays import open_npz
from .feature_file import features_digest, open_features
from .json_files import open_json
from .matching import Matches, match
from .pickles import open_pickle
from .poses import MALFORMED, Annotation, Content, Poses, reason, to_track
from .video import VideoKeypoints

KNOWN = (
    "a pickle of mmaction2 or PYSKL, a feature file of ours, JSON of MMPose, AlphaPose, "
    "easy_ViTPose, Ultralytics or COCO, an .npz, or a folder of such files, of OpenPose's or of "
    "YOLO-pose labels"
)
BEGINNINGS: dict[bytes, Callable[[Path], Content]] = {
    b"\x89HDF\r\n\x1a\n": open_features,
    b"PK": open_npz,
    b"{": open_json,
    b"[": open_json,
    b"\x80": open_pickle,  # protocol 2 and later; before it, the opcodes of a dict or list:
    b"(": open_pickle,
    b"}": open_pickle,
    b"]": open_pickle,
}
"""First bytes of a file, after white space -> its reader."""
SUFFIXES = frozenset({".json", ".npz", ".pkl", ".pickle"})
"""Suffixes of files in a folder that hold one video each."""


class KeypointFile:
    """An open source of keypoints, created by :func:`open_keypoints`."""

    def __init__(self, path: Path, content: Content) -> None:
        self.path, self.format = path, content.format
        self.names = list(content.annotations)
        self._annotations, self._named = content.annotations, content.named

    def __repr__(self) -> str:
        return f"KeypointFile({str(self.path)!r}, {self.format}, {len(self.names)} annotations)"

    @functools.cached_property
    def source(self) -> Mapping[str, object]:
        """For the output's ``pose_source``: name, sha256 and format, JSON-ready."""
        name = self.path.name or self.path.resolve().name
        return {"keypoints": name, "sha256": self._digest(), "format": self.format}

    def _digest(self) -> str:
        try:
            if self.format == "epam-extract":
                return features_digest(self.path)
            if not self.path.is_dir():
                return sha256(self.path)
            digest = hashlib.sha256()
            for name, file in _files(self.path):
                digest.update(f"{sha256(file)} {name}\n".encode("utf-8", "surrogateescape"))
            return digest.hexdigest()
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def match(self, video_ids: Iterable[str]) -> Matches:
        """Find the videos' annotations, and drop the others."""
        matches = match(self.names, video_ids, source=self.path.name, named=self._named)
        wanted = set(matches.found.values())
        self._annotations = {k: v for k, v in self._annotations.items() if k in wanted}
        return matches

    def open(self, name: str, *, height: int, width: int) -> VideoKeypoints:
        """Read an annotation for a video of ``height`` x ``width``.

        Raises:
            KeypointsFailed: it is damaged, or does not fit the video's picture size.
            KeyError: there is no such annotation, or it matched no video.
        """
        annotation = self._annotations[name]
        try:
            with np.errstate(over="ignore"):
                poses = annotation()
                track = to_track(poses, height=height, width=width)
        except KeypointsFailed as error:
            raise KeypointsFailed(f"{self.path.name}: {error}") from error
        except (KeypointsError, OSError, *MALFORMED) as error:
            raise KeypointsFailed(
                f"{self.path.name}: the keypoints {name!r} cannot be used: {reason(error)}"
            ) from error
        return VideoKeypoints(track, whole=poses.whole, linked=poses.linked, fps=poses.fps)


def open_keypoints(path: Path) -> KeypointFile:
    """Open a file or folder of keypoints. Its format is recognised from its content.

    Raises:
        KeypointsError: it does not exist, is unreadable, or has an unknown format or a skeleton
            other than COCO's 17 joints.
    """
    try:
        with np.errstate(over="ignore"):  # infinity becomes a missing joint
            content = _open_folder(path) if path.is_dir() else _open_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return KeypointFile(path, content)


def _open_file(path: Path) -> Content:
    with path.open("rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise KeypointsError(f"{path}: is empty; expected {KNOWN}")
    for beginning, opener in BEGINNINGS.items():
        if head.startswith(beginning):
            return opener(path)
    hint = ", but is compressed: unpack it first" if head.startswith(b"\x1f\x8b") else ""
    raise KeypointsError(f"{path}: holds no keypoints that are known here{hint}; expected {KNOWN}")


def _open_folder(path: Path) -> Content:
    """A file per frame if the names have frame numbers, else a file per video."""
    for form, pattern, first, poses in (
        ("openpose", openpose.FILE_NAME, 0, openpose.openpose_poses),
        ("yolo-pose", ultralytics.FILE_NAME, 1, ultralytics.text_poses),
    ):
        frames: defaultdict[str, list[tuple[int, Path]]] = defaultdict(list)
        for name, file in _files(path):
            if found := pattern.fullmatch(name):
                frames[found[1]].append((int(found[2]), file))
        if frames:
            _, one = next(iter(frames.values()))[0]
            try:
                with contextlib.suppress(*MALFORMED):  # only that video will fail
                    poses([(first, one)])
            except KeypointsError as error:  # a wrong skeleton, the same in all files
                raise KeypointsError(f"{one}: {error}") from error
            videos = {video: _sorted_reader(poses, files) for video, files in frames.items()}
            return Content(form, videos)
    files = {n.rpartition(".")[0]: f for n, f in _files(path) if f.suffix.lower() in SUFFIXES}
    if not files:
        raise KeypointsError(f"{path}: is a folder without keypoints; expected {KNOWN}")
    some = _open_file(next(iter(files.values())))
    annotations = {name: functools.partial(_one_of, file) for name, file in files.items()}
    return Content(f"folder of {some.format}", dict(annotations))


def _sorted_reader(
    poses: Callable[[Sequence[tuple[int, Path]]], Poses], files: list[tuple[int, Path]]
) -> Annotation:
    return functools.partial(poses, sorted(files))


def _one_of(path: Path) -> Poses:
    """The people of the only video in a file of a folder."""
    annotations = _open_file(path).annotations
    if len(annotations) != 1:
        raise KeypointsError(
            f"holds {len(annotations)} videos, expected one a file; give this file itself"
        )
    return next(iter(annotations.values()))()


def _files(folder: Path) -> list[tuple[str, Path]]:
    """(path relative to the folder, path) of every file, sorted, without hidden ones."""
    found = ((file.relative_to(folder), file) for file in sorted(folder.rglob("*")))
    return [
        (name.as_posix(), file)
        for name, file in found
        if file.is_file() and not any(part.startswith(".") for part in name.parts)
    ]


def _unreadable(path: Path, error: OSError) -> KeypointsError:
    return KeypointsError(f"{path}: keypoints cannot be read: {error.strerror or error}")
