"""``epam-extract export``: the features of a file in the form that a training code reads.

Each video is a file of its own, written whole or not at all, so that an interrupted export is
finished by the same command. What a reader must be configured with is written beside them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..store import FeatureStore, StoredVideo
from .annotations import Annotations, VideoAnnotation
from .formats import FORMATS
from .timeline import Timeline

__all__ = ["FORMATS", "Export", "Exported", "export_features"]

MANIFEST = "epam-extract.json"
POOLED = ("rgb_pooled", "pose_pooled")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    out: Path
    videos: int
    """In the folder now."""
    written: int
    """By this call; the others were there."""
    incomplete: int
    """Videos of the file that are not complete yet and were left out."""
    missing: tuple[str, ...]
    """Annotated, but not in the file."""
    unannotated: tuple[str, ...]
    """In the file, but not annotated."""


class Export:
    """What a format's functions work with: the file, the folder, and the annotations."""

    def __init__(
        self,
        store: FeatureStore,
        out: Path,
        features: Sequence[str],
        annotations: Annotations | None,
        names: Mapping[str, str],
    ) -> None:
        self.store, self.out, self.names = store, out, names
        self.features, self.annotations = tuple(features), annotations

    @property
    def ids(self) -> list[str]:
        """Videos to export, in order."""
        return list(self.names)

    def matrix(self, video: StoredVideo) -> np.ndarray:
        """(W, C) float32: the chosen features side by side."""
        parts = [video[name].astype(np.float32, copy=False) for name in self.features]
        return np.concatenate(parts, axis=1)

    @property
    def width(self) -> int:
        """C: numbers in a row."""
        video = self.store[self.ids[0]]
        return sum(video.shape(name)[1] for name in self.features)

    def timeline(self, video_id: str) -> Timeline:
        """Where the rows of a video lie."""
        return Timeline.of(self.store[video_id])

    def annotation(self, video_id: str) -> VideoAnnotation | None:
        """What is annotated of a video, None where nothing is."""
        return None if self.annotations is None else self.annotations.videos.get(video_id)

    def label(self, video_id: str) -> str | None:
        """The label of a video as a whole, where there is one."""
        stored = self.store[video_id].attrs.get("label")
        return None if stored is None else str(stored)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A new file to write, which gets its name once it is whole."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{path.suffix}")
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def save(self, name: str, array: np.ndarray) -> None:
        """Write an array as .npy, in C order."""
        with self.writing(name) as path, path.open("wb") as file:
            np.save(file, np.ascontiguousarray(array))

    def text(self, name: str, content: str) -> None:
        """Write a text file."""
        with self.writing(name) as path:
            path.write_text(content, encoding="utf-8")


def export_features(
    file: Path,
    to: str,
    out: Path,
    *,
    features: Sequence[str] = POOLED,
    annotations: Annotations | None = None,
    jobs: int = 1,
) -> Exported:
    """Write the complete videos of ``file`` to the folder ``out``, in the format ``to``.

    Args:
        file: a feature file; it may still be written.
        to: one of ``FORMATS``.
        out: a folder, new or of an earlier export of the same file, which is then completed.
        features: pooled features to put side by side: (W, 432) and (W, 216) by default.
        annotations: what is to be completed with the measured durations and rates.
        jobs: videos written at the same time.

    Raises:
        ConfigError: an unknown format, features the file lacks, ids that collide, a folder of
            something else, or nothing to export.
        StoreError: the file cannot be read.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    form = FORMATS[to]
    with FeatureStore(file) as store:
        found, damaged = store.survey()
        ids = [video_id for video_id, complete in found.items() if complete]
        if not ids:
            raise ConfigError(f"{file}: holds no complete video yet")
        _require_features(store[ids[0]], features, file)
        names = {video_id: form.name(video_id) for video_id in ids}
        _require_names(names)
        export = Export(store, out, features, annotations, names)
        _take_folder(export, to)
        todo = [video_id for video_id in ids if not (out / form.file(names[video_id])).exists()]
        with ThreadPoolExecutor(max(jobs, 1)) as pool:
            for _ in pool.map(lambda video_id: form.video(export, video_id), todo):
                pass
        if form.end is not None:
            form.end(export)
        _explain(export, to)
    annotated = annotations.videos.keys() if annotations is not None else ()
    return Exported(
        out=out,
        videos=len(ids),
        written=len(todo),
        incomplete=len(found) - len(ids) + len(damaged),
        missing=tuple(sorted(set(annotated) - set(ids))),
        unannotated=tuple(sorted(set(ids) - set(annotated))) if annotations is not None else (),
    )


def _require_features(video: StoredVideo, features: Sequence[str], file: Path) -> None:
    have = [name for name in POOLED if name in video]
    wrong = [name for name in features if name not in have]
    if wrong or not features:
        raise ConfigError(
            f"{file}: cannot export {', '.join(wrong) or 'nothing'}: expected some of "
            f"{', '.join(POOLED)}, and the file has {', '.join(have) or 'none of them'}"
        )


def _require_names(names: Mapping[str, str]) -> None:
    """Refuse two videos of one file name, and names that would leave the folder."""
    seen: dict[str, str] = {}
    for video_id, name in names.items():
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise ConfigError(f"the video {video_id!r} has a name that no file can have; rename it")
        other = seen.setdefault(name, video_id)
        if other != video_id:
            raise ConfigError(
                f"the videos {other} and {video_id} would both be written to {name}; rename one"
            )


def _take_folder(export: Export, to: str) -> None:
    """Make the folder ours, or make sure that it is an unfinished export of the same."""
    out, manifest = export.out, export.out / MANIFEST
    wanted = {
        "format": to,
        "features": list(export.features),
        **{name: getattr(export.store, name) for name in ("config", "weights", "pose_source")},
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        if manifest.is_file():
            if json.loads(manifest.read_text("utf-8")) != json.loads(json.dumps(wanted)):
                raise ConfigError(
                    f"{out}: holds an export of another format, other features or another file; "
                    "choose another folder"
                )
            return
        others = sorted(path.name for path in out.iterdir())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{out}: cannot be written: {reason}") from error
    if others:
        raise ConfigError(
            f"{out}: is not empty ({others[0]}, ...) and was not made by epam-extract; choose "
            "another folder"
        )
    export.text(MANIFEST, json.dumps(wanted, indent=1) + "\n")


def _explain(export: Export, to: str) -> None:
    """README.txt: what was written, and of which weights."""
    store, form = export.store, FORMATS[to]
    weights = store.weights
    lines = [
        f"Features of {len(export.ids)} videos, written by epam-extract export --to {to}.",
        f"Each row holds {export.width} numbers: {' then '.join(export.features)}.",
        f"Weights: {json.dumps(weights)}; keypoints: {json.dumps(store.pose_source)}.",
        "",
        *form.words,
    ]
    if "random_seed" in weights:
        lines.insert(1, "THE WEIGHTS ARE RANDOM: for trying the tool, not for science.")
    uneven = [i for i in export.ids if not export.timeline(i).is_steady()]
    if uneven:
        lines += [
            "",
            f"{len(uneven)} videos have no constant frame rate, or do not start at 0 s (first: "
            f"{uneven[0]}). Where a reader counts rows by the frame rate, their annotations were "
            "moved to the moment at which it finds the right row.",
        ]
    export.text("README.txt", "\n".join(lines) + "\n")
