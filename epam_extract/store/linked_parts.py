"""Files made by ``merge --link``: which parts they link to, and which part holds each video.

Such a file holds external links instead of features: ``/videos/a`` links to ``/videos/a`` of a
part. A video that has another part's video below it is a group whose arrays are links. We never
let HDF5 follow them. A link is valid if it leads to the same name in a part listed in the attribute
``parts``, with size and modification time; that part must still be the same regular file, inside
the folder of the file of links. It is then read like any other file.
"""

from __future__ import annotations

import json
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import h5py
from h5py import h5l

from ..errors import StoreError
from ..schema import ARRAY_NAMES
from .h5_objects import address, child, children
from .h5_read import BROKEN, is_video, note_damage, videos_group, walk_videos
from .header import StoreHeader

if TYPE_CHECKING:
    from .feature_file import FeatureFile

PARTS = "parts"
"""Attribute of a file of links: JSON, name of each part -> [size, mtime_ns]."""
LINKED_ARRAY = "frames"  # every video has it
MOST_OPEN = 256  # parts kept open between accesses

Stamp = tuple[int, int]
"""Size in bytes and modification time in ns: if they differ, so may the content."""


def is_linked(attributes: Mapping[str, object]) -> bool:
    """Whether these attributes are those of a file of links."""
    return PARTS in attributes


def never_written(path: Path) -> StoreError:
    """The error when anything but ``merge --link`` would write a file of links."""
    return StoreError(
        f"{path}: holds only links to other files, and is written by merge --link alone. Write to "
        "the files it links to and merge again, or choose another output file."
    )


def part_stamp(linked: Path, name: str) -> Stamp:
    """Size and modification time of a part, by its name in the file of links ``linked``.

    Raises:
        StoreError: it is not a regular file inside that file's own folder.
    """
    pure = PurePosixPath(name)
    folder = linked.parent
    try:
        real = (folder / pure).resolve(strict=True)
        status = real.stat()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{linked}: its part {name} cannot be opened ({reason}). Put it back, or delete "
            f"{linked.name} and merge the parts that there are."
        ) from None
    outside = pure.is_absolute() or ".." in pure.parts
    if outside or not real.is_relative_to(folder.resolve()) or not stat.S_ISREG(status.st_mode):
        raise StoreError(
            f"{linked}: its part {name} is no regular file inside {folder}, and links to anything "
            "else are not followed. Delete the file of links, and merge again."
        )
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class LinkedVideos:
    """The videos of one part that a file of links shows."""

    part: str
    with_all: set[str] = field(default_factory=set)
    """Linked together with all videos below them."""
    alone: set[str] = field(default_factory=set)
    """Linked array by array."""

    def found_in(
        self, h5: h5py.File, damaged: dict[str, str] | None
    ) -> Iterator[tuple[str, h5py.Group, bool]]:
        """Those that the part has, as :func:`h5_read.walk_videos` finds them."""
        wrong: dict[str, str] = {}
        missing = self.with_all | self.alone
        for video_id, group, complete in walk_videos(h5, damaged=wrong):
            if self.shows(video_id):
                missing.discard(video_id)
                yield video_id, group, complete
        for video_id in missing:
            wrong.setdefault(video_id, f"{self.part} has no such video")
        for video_id, reason in wrong.items():
            if self.shows(video_id):
                note_damage(damaged, video_id, ValueError(reason))

    def shows(self, video_id: str) -> bool:
        """Whether it is among them."""
        parts = video_id.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        return video_id in self.alone or not self.with_all.isdisjoint(above)


class LinkedParts:
    """The parts of one file of links, opened when needed.

    Raises:
        ValueError: the attribute ``parts`` is damaged.
    """

    def __init__(
        self,
        path: Path,
        attributes: Mapping[str, object],
        header: StoreHeader,
        open_part: Callable[[Path], FeatureFile],
    ) -> None:
        self._path, self._header, self._open_part = path, header, open_part
        listed = json.loads(str(attributes[PARTS]))
        if not isinstance(listed, dict):
            raise ValueError(f"{PARTS} is not a JSON object")
        self._stamps = {name: (int(size), int(mtime)) for name, (size, mtime) in listed.items()}
        self._open: OrderedDict[str, FeatureFile] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """The parts, as paths relative to the folder of the file of links."""
        return list(self._stamps)

    def check(self) -> None:
        """Raise StoreError if a part is missing, outside the folder, or has changed."""
        for name in self._stamps:
            self._require_same(name)

    def close(self) -> None:
        """Close the parts that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def store(self, name: str) -> FeatureFile:
        """A part, open.

        Raises:
            StoreError: it is missing, has changed since the merge, or is not a file of features.
        """
        self._require_same(name)
        part = self._open.pop(name, None)
        if part is None:
            part = self._open_part(self._path.parent / name)
            try:
                self._require_fit(part)
            except BaseException:
                part.close()
                raise
        self._open[name] = part
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return part

    def part_of(self, h5: h5py.File, video_id: str) -> str | None:
        """The part that holds a video, None if the file of links has nothing of that name.

        Raises ValueError if a link leads anywhere else.
        """
        folder, path = h5, ""
        for name in ("videos", *video_id.split("/")):
            try:
                key = name.encode()
            except UnicodeEncodeError:
                return None
            if not (key and folder.id.links.exists(key)):
                return None
            path = f"{path}/{name}"
            if folder.id.links.get_info(key).type == h5l.TYPE_EXTERNAL:
                return self._target(folder, name, path)
            folder = child(folder, name)
            if not isinstance(folder, h5py.Group):
                return None
        return (
            self._target(folder, LINKED_ARRAY, f"{path}/{LINKED_ARRAY}")
            if is_video(folder)
            else None
        )

    def videos(self, h5: h5py.File, damaged: dict[str, str] | None) -> dict[str, LinkedVideos]:
        """The linked videos, by part. ``damaged`` gets links that lead elsewhere, and why."""
        found = {name: LinkedVideos(name) for name in self._stamps}
        seen = {address(h5, "videos")}
        folders = [("", videos_group(h5))]
        while folders:
            prefix, folder = folders.pop()
            own = is_video(folder)
            for name, kind, where in children(folder, but=ARRAY_NAMES if own else ()):
                video_id = prefix + name
                try:
                    if kind == h5l.TYPE_EXTERNAL:
                        part = self._target(folder, name, f"/videos/{video_id}")
                        found[part].with_all.add(video_id)
                        continue
                    group = child(folder, name)
                    if not isinstance(group, h5py.Group) or where in seen:
                        raise ValueError(f"{name} is not a folder of videos")
                    seen.add(where)
                    if is_video(group):
                        part = self._target(
                            group, LINKED_ARRAY, f"/videos/{video_id}/{LINKED_ARRAY}"
                        )
                        found[part].alone.add(video_id)
                    folders.append((f"{video_id}/", group))
                except BROKEN as error:
                    note_damage(damaged, video_id, error)
        return found

    def _target(self, folder: h5py.Group, name: str, path: str) -> str:
        """The part that a link leads to; raises ValueError unless it leads to ``path`` there."""
        key = name.encode()
        links = folder.id.links
        if not links.exists(key) or links.get_info(key).type != h5l.TYPE_EXTERNAL:
            raise ValueError(f"{path} is not a link, in a file of links")
        file, there = (value.decode("utf-8", "replace") for value in links.get_val(key))
        if file not in self._stamps or there != path:
            raise ValueError(f"{name} is a link to {there} of {file}, not to a part of this file")
        return file

    def _require_same(self, name: str) -> None:
        if part_stamp(self._path, name) != self._stamps[name]:
            raise StoreError(
                f"{self._path}: its part {name} was changed or replaced since they were merged. "
                "Run merge --link again."
            )

    def _require_fit(self, part: FeatureFile) -> None:
        if is_linked(part.attributes):
            raise nested(self._path, part.path)
        stored = {name: str(value) for name, value in part.attributes.items()}
        fields = [name for name, _, _ in self._header.differences(stored)]
        if fields:
            raise StoreError(
                f"{self._path}: its part {part.path.name} was made with other settings "
                f"({', '.join(fields)}). Delete the file of links, and merge again."
            )


def nested(linked: Path, part: Path) -> StoreError:
    """The error when a part is itself a file of links."""
    return StoreError(
        f"{linked}: its part {part} holds only links itself. Name the files that it links to."
    )
