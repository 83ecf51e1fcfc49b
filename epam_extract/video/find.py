"""Find the videos that files, directories, patterns and lists stand for. Opens none of them."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from ..errors import ConfigError
from ..records import RemoteFile, Segment, file_stamp, readable
from .images import has_pictures
from .remote import find_remote, is_address, missing_remote

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "h264", "hevc", "ivf", "m2t"),
        *("m2ts", "m2v", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts"),
        *("mxf", "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""Suffixes of videos in a directory, in any case. A file that is named directly always counts."""

BROKEN_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")  # an address passed through Path
ADDRESSES_AT_ONCE, LINES_AT_ONCE = 16, 1000  # of a list

_log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class FoundVideo:
    """A video to process; nothing has been opened yet."""

    id: str
    """Path under its root without suffix, "/" kept; see :func:`find_videos`."""
    path: Path | RemoteFile
    segment: Segment | None = field(default=None, compare=False)
    """The part of it to process, or its label."""

    @property
    def source_id(self) -> str:
        """The id of the whole video."""
        return self.segment.video_of(self.id) if self.segment else self.id

    @property
    def file(self) -> Path:
        """Its local file. Raises ConfigError if it is remote."""
        if isinstance(self.path, RemoteFile):
            raise ConfigError(f"{self.path}: is elsewhere, and a file on this machine is needed")
        return self.path

    def size_and_time(self) -> tuple[int, int]:
        """Bytes and modification time in ns, which identify a version of the file; see
        :func:`records.file_stamp`. Zeros if they are unknown; opening the file gives the reason.
        """
        if isinstance(self.path, RemoteFile):
            return self.path.size, self.path.mtime_ns
        try:
            return file_stamp(self.path)
        except (OSError, ValueError):
            return 0, 0

    @property
    def work(self) -> int:
        """Relative cost: milliseconds of a segment, or bytes of a whole video."""
        if self.segment is not None and not self.segment.whole:
            return round((self.segment.end - self.segment.start) * 1000)
        return self.size_and_time()[0]


@dataclass(frozen=True)
class _Candidate:
    path: PurePath
    root: PurePath = field(compare=False)
    remote: RemoteFile | None = None
    pictures: bool = field(default=False, compare=False)
    """Whether it is a folder of pictures."""

    @property
    def where(self) -> Path | RemoteFile:
        return self.remote or Path(self.path)

    @property
    def key(self) -> tuple[PurePath, str | None]:
        """Equal for two names of one file."""
        return self.path, None if self.remote is None else self.remote.path

    def name(self, level: int) -> str:
        """The id at a level of detail: without suffix, with it, then with more parents."""
        parents, suffix = divmod(level, 2)
        root = self.root
        for _ in range(parents):
            root = root.parent
        under = self.path.relative_to(root)
        whole = suffix or self.pictures  # a folder's name has no suffix
        return readable((under if whole else under.with_suffix("")).as_posix())


def find_videos(
    sources: Sequence[str | Path],
    *,
    list_file: str | Path | None = None,
    pictures: bool = False,
) -> list[FoundVideo]:
    """Find every video in files, directories (recursively), globs and a list; sorted by id.

    Each may be an address such as ``s3://bucket/videos``: see :mod:`video.remote`.
    The root is the directory given, the part of a glob before its first wildcard, or a file's own
    directory. An id is the path under the root without suffix. If two files would share an id, both
    keep their suffix; if that is not enough, the names of the directories above are prepended.
    Hidden files and directories are ignored. Symbolic links are followed, each directory once.
    ``-`` as a source or list reads paths from standard input. With ``pictures``, folders of
    numbered pictures count as videos.

    Raises :class:`ConfigError` naming every source that does not exist or holds no video. A path
    in a list that does not exist is kept: only that video fails.
    """
    found: dict[tuple[PurePath, str | None], _Candidate] = {}
    troubles: list[str] = []
    lists = [str(list_file)] if list_file is not None else []
    for source in map(str, sources):
        if source == "-":
            lists.append(source)
            continue
        try:
            candidates = _expand(source, pictures)
        except ConfigError as error:
            troubles.append(str(error))
            continue
        for candidate in candidates:
            found.setdefault(candidate.key, candidate)
    for name in lists:
        for candidate in _expand_lines(name, _lines(name), pictures):
            found.setdefault(candidate.key, candidate)
    if troubles:
        raise ConfigError("; ".join(troubles))
    if not found:
        raise ConfigError(
            "no video given: name files, directories, patterns like 'videos/*.mp4', or --list FILE"
        )
    return sorted(FoundVideo(name, item.where) for name, item in _named(list(found.values())))


def _absolute(path: str | Path) -> Path:
    """The absolute path without "." and ".."; symbolic links are not resolved."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # resolve() follows links


def _expand_lines(list_name: str, lines: Sequence[str], pictures: bool) -> Iterator[_Candidate]:
    """What the lines of a list stand for, in order."""
    expand = partial(_expand_line, list_name, pictures)
    if not any(map(is_address, lines)):
        for line in lines:
            yield from expand(line)
        return
    with ThreadPoolExecutor(ADDRESSES_AT_ONCE) as pool:  # each asks a server
        for start in range(0, len(lines), LINES_AT_ONCE):
            for candidates in pool.map(expand, lines[start : start + LINES_AT_ONCE]):
                yield from candidates


def _expand_line(list_name: str, pictures: bool, line: str) -> list[_Candidate]:
    """What a line of a list stands for; if nothing, a candidate that will fail later."""
    try:
        return _expand(line, pictures)
    except ConfigError as error:
        _log.warning("%s: %s", list_name, error)
    if is_address(line):
        name, file = missing_remote(line)
        return [_Candidate(name, name.parent, file)]
    path = _absolute(line)
    return [_Candidate(path, path.parent)]


def _expand(source: str, pictures: bool) -> list[_Candidate]:
    """What one source stands for. Raises ConfigError if nothing."""
    if is_address(source):
        top, files = find_remote(source, SUFFIXES, pictures=pictures)
        return [_Candidate(name, top, file) for name, file in files]
    path = _absolute(source)
    try:
        exists, is_folder = path.exists() or path.is_symlink(), path.is_dir()
    except OSError as error:
        raise ConfigError(f"{source}: cannot be looked at: {error.strerror}") from error
    if is_folder:
        candidates = list(_below(path, path, pictures))
        if not candidates:
            hint = ""
            if not pictures and any(_walk(path, pictures=True)):
                hint = "; --image-fps F reads the folders of numbered pictures there as videos"
            raise ConfigError(
                f"{source}: no video in this directory or below it; looked for files ending in "
                f"{', '.join(sorted(SUFFIXES))}, in any case"
                f"{', and folders of numbered pictures' if pictures else ''}{hint}"
            )
        return candidates
    if exists:
        return [_Candidate(path, path.parent)]
    if not glob.has_magic(source):
        hint = "; an address is text with ://, and no Path" if BROKEN_ADDRESS.match(source) else ""
        raise ConfigError(f"{source}: no such file or directory{hint}")
    parts = path.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    named = bool(path.suffix) and not glob.has_magic(path.suffix)  # "*.dat": the user's own choice
    candidates = []
    for match in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  # hidden ones left out
        hit = Path(match)
        if _is_folder(hit):
            candidates += _below(hit, root, pictures)
        elif named or hit.suffix.lower() in SUFFIXES:
            candidates.append(_Candidate(hit, root))
    if not candidates:
        raise ConfigError(f"{source}: no video matches this pattern")
    return candidates


def _below(folder: Path, root: Path, pictures: bool) -> Iterator[_Candidate]:
    """Videos under a directory, which may itself be one."""
    for found in _walk(folder, pictures=pictures):
        is_itself = found == root
        yield _Candidate(
            found, root.parent if is_itself else root, pictures=pictures and _is_folder(found)
        )


def _walk(top: Path, *, pictures: bool) -> Iterator[Path]:
    """Videos under a directory. Real directories come before links to them; each is read once."""
    seen: set[tuple[int, int]] = set()
    waiting = [top]
    links: list[Path] = []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(folder.iterdir())
        except OSError as error:
            if folder == top:
                raise ConfigError(f"{top}: cannot be listed: {error.strerror}") from error
            _log.warning("%s: cannot be listed and is left out: %s", folder, error.strerror)
            continue
        if pictures and has_pictures([entry.name for entry in entries]):
            yield folder
        for entry in entries:
            if entry.name.startswith(".") or (pictures and has_pictures([entry.name])):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else waiting).append(entry)
            elif (
                entry.suffix.lower() in SUFFIXES
            ):  # also a broken link: probing it gives the reason
                yield entry


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # of a folder that may be listed but not entered
        return False


def _lines(name: str) -> list[str]:
    """Paths of a list, one per line; empty lines and lines that start with # are skipped."""
    try:
        if name == "-":
            text = sys.stdin.read()
        else:
            text = Path(name).read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"--list {name}: cannot be read: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines()]
    paths = [line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise ConfigError(f"--list {name}: holds no path; expected one path a line")
    return paths


def _named(candidates: list[_Candidate]) -> Iterator[tuple[str, _Candidate]]:
    """Give each file the shortest unique id."""
    alike = Counter(readable(str(item.path)) for item in candidates)
    marks = [_digest(item) if alike[readable(str(item.path))] > 1 else "" for item in candidates]
    levels = [0] * len(candidates)
    while True:
        names = [
            item.name(level) + mark
            for item, level, mark in zip(candidates, levels, marks, strict=True)
        ]
        shared = {name for name, count in Counter(names).items() if count > 1}
        if not shared:
            return zip(names, candidates, strict=True)
        for name in shared:
            group = [index for index, other in enumerate(names) if other == name]
            lowest = min(levels[index] for index in group)
            for index in group:
                levels[index] += levels[index] == lowest


def _digest(item: _Candidate) -> str:
    """Distinguishes two paths that look alike because of invalid UTF-8 or a query."""
    name = os.fsencode(item.path if item.remote is None else item.remote.path)
    return f"~{hashlib.blake2b(name, digest_size=4).hexdigest()}"
