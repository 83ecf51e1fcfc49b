"""Is the file whole? Is it still the file of these videos? And what is in it, for ``info``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import StoreError
from .store.hdf5 import BROKEN, first_line
from .store.layout import ROWS, TRACKS, Spec, feature_specs, finite, run_on
from .store.stored import FeatureStore, StoredVideo

ATTRIBUTES = (
    "fps_num",
    "fps_den",
    "duration",
    "num_frames",
    "num_windows",
    "height",
    "width",
    "feat_stride",
    "window_frames",
    "offset_frames",
    "source",
    "source_size",
    "source_mtime_ns",
)
"""Every video's; ``notes``, ``clipped`` and ``person_share`` say more about some."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with one video in the file."""

    video_id: str
    message: str
    array: str | None = None
    """The array concerned, None for the video as a whole."""
    droppable: bool = True
    """Whether doing the video again would help."""


def verify(path: Path, *, videos: Path | None = None) -> list[Problem]:
    """Read the whole file and say what is wrong with it, by video.

    Every array must be there, readable, of the right shape and dtype, free of NaN and infinity,
    and have the checksum it was written with. With ``videos``, the directory they were extracted
    from, every video in the file must still be there with the same size and time of change.
    Videos that are not complete are no problem: the next run goes on with them.

    Raises:
        StoreError: it is no file of ours, or damaged as a whole.
        ConfigError: there is no video in ``videos``.
    """
    with FeatureStore(path) as store:
        found, damaged = store.survey()
        complete = [video_id for video_id, done in found.items() if done]
        specs = {**feature_specs(store.config), **ROWS}
        problems = [
            Problem(video_id, f"cannot be opened ({reason})")
            for video_id, reason in damaged.items()
        ]
        for video_id in complete:
            problems.extend(_problems(store.video(video_id), specs))
        if videos is not None:
            bad = {problem.video_id for problem in problems}
            left = [store.video(video_id) for video_id in complete if video_id not in bad]
            problems.extend(_changed(left, videos))
        return problems


def repair(path: Path, problems: Iterable[Problem]) -> list[str]:
    """Drop the videos that have problems, so that the next run does just those; return their ids.

    Raises:
        StoreError: the file cannot be written, or another process writes it.
        MachineError: the disk is full or fails.
    """
    from .store import drop_videos

    ids = sorted({problem.video_id for problem in problems if problem.droppable})
    drop_videos(path, ids)
    return ids


def describe(path: Path) -> dict[str, object]:
    """What is in the file, JSON-ready; it may be written meanwhile.

    ``videos`` is a list of dicts: id, complete, windows, frames, seconds, fps, height, width,
    person_share, clipped, notes, source. ``totals`` adds them up.

    Raises:
        StoreError: it is no file of ours, or damaged as a whole.
    """
    with FeatureStore(path) as store:
        found, damaged = store.survey()
        rows = []
        for video_id in found:
            try:
                rows.append(_row(store, video_id))
            except (StoreError, *BROKEN) as error:
                damaged[video_id] = _cause(error)
        done = [row for row in rows if row["complete"]]
        frames = sum(int(str(row["frames"])) for row in done)
        shares = [float(str(row["person_share"] or 0)) * int(str(row["windows"])) for row in done]
        windows = sum(int(str(row["windows"])) for row in done)
        return {
            "path": str(path),
            "bytes": path.stat().st_size,
            **{name: store.attributes[name] for name in ("schema_version", "tool", "created")},
            "config": store.config,
            "weights": store.weights,
            "pose_source": store.pose_source,
            "totals": {
                "videos": len(done),
                "incomplete": len(rows) - len(done),
                "failed": len(store.failures),
                "damaged": len(damaged),
                "windows": windows,
                "frames": frames,
                "seconds": sum(float(str(row["seconds"] or 0)) for row in done),
                "person_share": sum(shares) / windows if windows else None,
                "clipped": sum(int(str(row["clipped"])) for row in done),
            },
            "arrays": _arrays(store),
            "videos": rows,
            "failures": [
                {"id": video_id, "stage": failure.stage, "message": failure.message}
                for video_id, failure in store.failures.items()
            ],
            "damaged": [{"id": name, "message": reason} for name, reason in damaged.items()],
        }


def _arrays(store: FeatureStore) -> dict[str, dict[str, object]]:
    specs = {**feature_specs(store.config), **ROWS}
    rows: dict[str, dict[str, object]] = {
        name: {"shape": ["windows", *shape], "dtype": np.dtype(dtype).name}
        for name, (shape, dtype) in specs.items()
    }
    tracks: dict[str, dict[str, object]] = {
        name: {"shape": ["people", "frames", *shape], "dtype": np.dtype(dtype).name}
        for name, (shape, dtype) in TRACKS.items()
    }
    return {**rows, **tracks}


def _row(store: FeatureStore, video_id: str) -> dict[str, object]:
    attributes = store.video(video_id).attrs
    progress = store.progress(video_id)
    known = "fps_num" in attributes  # else it is half done, and nothing of it measured
    return {
        "id": video_id,
        "complete": attributes["complete"],
        "windows": progress.windows if progress else 0,
        "frames": progress.frames if progress else 0,
        "seconds": attributes.get("duration"),
        "fps": f"{attributes['fps_num']}/{attributes['fps_den']}" if known else None,
        "height": attributes.get("height"),
        "width": attributes.get("width"),
        "person_share": attributes.get("person_share"),
        "clipped": attributes.get("clipped", 0),
        "notes": attributes.get("notes", ""),
        "source": attributes.get("source", ""),
    }


def _problems(video: StoredVideo, specs: dict[str, Spec]) -> Iterator[Problem]:
    """What is wrong with one complete video."""
    try:
        video.read_plainly()
        attributes, names = video.attrs, set(video)
        missing = [name for name in ATTRIBUTES if name not in attributes]
        if missing:
            yield Problem(video.id, f"lacks the attributes {', '.join(missing)}")
            return
        windows, frames = int(str(attributes["num_windows"])), int(str(attributes["num_frames"]))
        for name in names - specs.keys() - TRACKS.keys():
            yield Problem(video.id, "is not an array of this configuration", name)
        for name in [*specs, *TRACKS]:
            if name not in names:
                yield Problem(video.id, "is missing", name)
    except (StoreError, *BROKEN) as error:
        yield Problem(video.id, f"cannot be read ({_cause(error)})")
        return
    people: set[int] = set()
    for name in sorted(names):
        if name in specs:
            shape, dtype = specs[name]
            yield from _array_problems(video, name, (windows, *shape), dtype)
        elif name in TRACKS:
            shape, dtype = TRACKS[name]
            yield from _array_problems(video, name, (None, frames, *shape), dtype, people=people)
    if len(people) > 1:
        yield Problem(video.id, f"has keypoints and scores of different people: {sorted(people)}")


def _array_problems(
    video: StoredVideo,
    name: str,
    shape: tuple[int | None, ...],
    dtype: str,
    *,
    people: set[int] | None = None,
) -> Iterator[Problem]:
    """What is wrong with one array; ``people`` gets the length that ``None`` stands for."""
    try:
        have = video.shape(name)
        if people is not None and have:
            people.add(have[0])
            shape = (have[0], *shape[1:])
        if have != shape or video.dtype(name) != np.dtype(dtype):
            expected = f"{shape} {np.dtype(dtype).name}"
            yield Problem(video.id, f"is {have} {video.dtype(name)}, expected {expected}", name)
            return
        value, bad = 0, False
        for block in video.blocks(name):
            value = run_on(value, name, block)
            bad = bad or not finite(block)
        if bad:
            yield Problem(video.id, "holds NaN or infinity", name)
        if value != video.checksum(name):
            yield Problem(video.id, "has changed since it was written (checksum)", name)
    except (StoreError, *BROKEN) as error:
        yield Problem(video.id, f"cannot be read ({_cause(error)})", name)


def _cause(error: BaseException) -> str:
    """What h5py said, where that was wrapped."""
    return first_line(error.__cause__ or error)


def _changed(stored: Iterable[StoredVideo], videos: Path) -> Iterator[Problem]:
    """Videos on disk that are not the ones extracted."""
    from .video import find_videos

    on_disk = {video.id: video.path for video in find_videos([videos])}
    for video in stored:
        attributes = video.attrs
        path = on_disk.get(video.id)
        if path is None:
            yield Problem(video.id, f"its video is not in {videos} any more", droppable=False)
            continue
        stat = path.stat()
        was = (attributes["source_size"], attributes["source_mtime_ns"])
        if (stat.st_size, stat.st_mtime_ns) != was:
            yield Problem(
                video.id,
                f"its video {path} has changed: {stat.st_size} bytes now, {was[0]} when it was "
                "extracted"
                if stat.st_size != was[0]
                else f"its video {path} has changed: it was written again since",
            )
