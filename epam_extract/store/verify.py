"""Whether a file is undamaged, and still fits the videos it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import StoreError
from ..schema import VIDEO_ATTRIBUTES, Array, kinds, video_arrays
from .checks import attributes_checksum, extend_checksum, finite
from .feature_file import FeatureFile
from .feature_store import StoredVideo
from .h5_read import BROKEN, first_line, has_checksum


@dataclass(frozen=True)
class Problem:
    """Something wrong with one video in the file."""

    video_id: str
    message: str
    array: str | None = None
    """The array concerned, None for the whole video."""
    droppable: bool = True
    """Whether extracting the video again would help."""


def verify(path: Path, *, videos: Path | None = None) -> list[Problem]:
    """Read the whole file and list what is wrong with it, by video.

    Every array must exist, be readable, have the right shape and dtype, be free of NaN and infinity
    and match its checksum. So must the attributes of the file and of each video, if they have a
    checksum: :func:`uncovered` counts those without. With ``videos``, the directory they were
    extracted from, every video must still be there with the same size and modification time.
    Incomplete videos are not a problem: the next run resumes them.

    Raises:
        StoreError: it is not one of our files, or damaged as a whole.
        ConfigError: there is no video in ``videos``.
    """
    with FeatureFile(path) as store:
        found, damaged = store.survey()
        complete = [video_id for video_id, done in found.items() if done]
        expected = video_arrays(store.config)
        problems = _file_problems(store)
        problems += [
            Problem(video_id, f"cannot be opened ({reason})")
            for video_id, reason in damaged.items()
        ]
        seen: set[tuple[Path, int]] = set()
        for video_id in complete:
            problems.extend(_problems(StoredVideo(store, video_id), expected, seen=seen))
        if videos is not None:
            bad = {problem.video_id for problem in problems}
            left = [StoredVideo(store, video_id) for video_id in complete if video_id not in bad]
            pictures = store.config.get("image_fps") is not None
            problems.extend(_changed(left, videos, pictures=pictures))
        return problems


def repair(path: Path, problems: Iterable[Problem]) -> list[str]:
    """Drop the videos with problems, so that the next run extracts them again; return their ids.

    Raises:
        StoreError: the file cannot be written, or another process writes it.
        MachineError: the disk is full or fails.
    """
    from . import drop_videos

    ids = sorted({problem.video_id for problem in problems if problem.droppable})
    drop_videos(path, ids)
    return ids


def uncovered(path: Path) -> int:
    """How many videos, counting the file itself as one, have no checksum of their attributes.

    Earlier versions wrote none, so a change in these attributes cannot be detected.
    """
    with FeatureFile(path) as store:
        with store.reading() as h5:
            missing = int(not has_checksum(h5))
        for _, group, complete in store.groups(damaged={}):
            missing += int(complete and not has_checksum(group))
    return missing


def _file_problems(store: FeatureFile) -> list[Problem]:
    """Whether the file's own attributes match their checksum."""
    if _covered(store.attributes):
        return []
    message = "its own attributes have changed since they were written (checksum)"
    return [Problem("", message, droppable=False)]


def _covered(attributes: Mapping[str, object]) -> bool:
    """Whether attributes match their checksum, if they have one."""
    stored = attributes.get("attributes_checksum")
    return stored is None or stored == attributes_checksum(attributes)


def _problems(
    video: StoredVideo, expected: Mapping[str, Array], *, seen: set[tuple[Path, int]]
) -> Iterator[Problem]:
    """Problems of one complete video; ``seen`` has the addresses of other videos' arrays."""
    try:
        video.read_all_attributes()
        attributes, names = video.attrs, set(video)
        required = kinds(VIDEO_ATTRIBUTES, required=True)
        missing = [name for name in required if name not in attributes]
        if missing:
            yield Problem(video.id, f"lacks the attributes {', '.join(missing)}")
            return
        if not _covered(attributes):
            yield Problem(video.id, "its attributes have changed since it was written (checksum)")
        shared = seen & video.addresses()
        if shared:
            yield Problem(video.id, "shares arrays with another video")
            return
        seen |= video.addresses()
        windows, frames = int(str(attributes["num_windows"])), int(str(attributes["num_frames"]))
        for name in names - expected.keys():
            yield Problem(video.id, "is not an array of this configuration", name)
        for name in expected:
            if name not in names:
                yield Problem(video.id, "is missing", name)
    except (StoreError, *BROKEN) as error:
        yield Problem(video.id, f"cannot be read ({_cause(error)})")
        return
    people: set[int] = set()
    lengths = {"W": windows, "T": frames}
    for name in sorted(names & expected.keys()):
        yield from _array_problems(video, expected[name], lengths, people)
    if len(people) > 1:
        yield Problem(video.id, f"has keypoints and scores of different people: {sorted(people)}")


def _array_problems(
    video: StoredVideo, array: Array, lengths: Mapping[str, int], people: set[int]
) -> Iterator[Problem]:
    """Problems of one array; ``people`` gets the number of people in it."""
    name = array.name
    try:
        have = video[name].shape
        if array.axes[0] == "M" and have:
            people.add(have[0])
            lengths = {**lengths, "M": have[0]}
        shape = tuple(lengths.get(str(axis), axis) for axis in array.axes)
        if have != shape or video[name].dtype != np.dtype(array.dtype):
            expected = f"{shape} {array.dtype_name}"
            yield Problem(video.id, f"is {have} {video[name].dtype}, expected {expected}", name)
            return
        value, bad = 0, False
        for block in video[name].blocks():
            value = extend_checksum(value, name, block)
            bad = bad or not finite(block)
        if bad:
            yield Problem(video.id, "holds NaN or infinity", name)
        if value != video.checksum(name):
            yield Problem(video.id, "has changed since it was written (checksum)", name)
    except (StoreError, *BROKEN) as error:
        yield Problem(video.id, f"cannot be read ({_cause(error)})", name)


def _cause(error: BaseException) -> str:
    """The message of h5py, if a StoreError wraps it."""
    return first_line(error.__cause__ or error)


def _changed(stored: Iterable[StoredVideo], videos: Path, *, pictures: bool) -> Iterator[Problem]:
    """Videos that are missing on disk or have changed since they were extracted."""
    from ..video import find_videos

    on_disk = {video.id: video for video in find_videos([videos], pictures=pictures)}
    for video in stored:
        attributes = video.attrs
        part = "segment_start" in attributes
        found = on_disk.get(video.id.rpartition("/")[0] if part else video.id)
        if found is None:
            yield Problem(video.id, f"its video is not in {videos} any more", droppable=False)
            continue
        path, (size, mtime_ns) = found.path, found.size_and_time()
        was = (attributes["source_size"], attributes["source_mtime_ns"])
        if (size, mtime_ns) != was:
            yield Problem(
                video.id,
                f"its video {path} has changed: {size} bytes now, {was[0]} when it was extracted"
                if size != was[0]
                else f"its video {path} has changed: it was written again since",
            )
