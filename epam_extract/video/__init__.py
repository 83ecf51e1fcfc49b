"""Find videos, probe them, read their frames.

Order never depends on the file system, frames are exact and in order, and nothing a file does can
hang or crash the run: PyAV and decord work in processes of their own (:mod:`.decode`), watched and
reused by :mod:`.reader`.

decord reads; PyAV probes, and reads what decord gets wrong or refuses. ``auto`` uses decord only
where its first frame equals PyAV's bit for bit, which in every case measured meant that all did
(8 bits and even size of H.264, HEVC, VP8, VP9, MPEG-4, MJPEG; 4:2:0, 4:2:2, 4:4:4, BT.709, BT.2020,
full range, rotated). So a video that PyAV finishes after decord failed, or that is resumed with
``--decoder pyav``, gives the same numbers.
"""

from __future__ import annotations

import glob
import importlib.util
import logging
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config import DECODERS, PIECE_FRAMES
from ..errors import ConfigError, DecodeError, ProbeError
from ..records import FramePiece, Video
from .decode import Probed, Unreadable
from .reader import ReaderLost, borrowed, close_readers

__all__ = ["SUFFIXES", "FoundVideo", "close_readers", "find_videos", "probe", "read_frames"]

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "h264", "hevc", "ivf", "m2t"),
        *("m2ts", "m2v", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts"),
        *("mxf", "ogm", "ogv", "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m"),
    )
)
"""What counts as a video inside a directory, in any case. A file named directly always counts."""

OTHER_COLOURS = 6.0  # grey levels in the mean; two ways to convert colours stay under it
STALL_SECONDS = 20.0  # without a packet or frame, until a reader is taken for hung

_log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class FoundVideo:
    """A video that was asked for; nothing has been opened yet."""

    id: str
    """Path under its root without suffix, "/" kept; see :func:`find_videos`."""
    path: Path


# ------------------------------------------------------------------------------------- finding


@dataclass(frozen=True)
class _Candidate:
    path: Path
    root: Path = field(compare=False)

    def name(self, level: int) -> str:
        """The id at a level of precision: without suffix, with it, then with more parents."""
        parents, suffix = divmod(level, 2)
        root = self.root
        for _ in range(parents):
            root = root.parent
        under = self.path.relative_to(root)
        text = (under if suffix else under.with_suffix("")).as_posix()
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def find_videos(
    sources: Sequence[str | Path], *, list_file: str | Path | None = None
) -> list[FoundVideo]:
    """Find every video in files, directories (recursively), globs and a list; sorted by id.

    The root is the directory given, the part of a glob before its first wildcard, or a file's own
    directory. An id is the path under the root without suffix; where two files would share one both
    keep their suffix, and where that is not enough the names of the directories above are put in
    front. Hidden files and directories are passed over, symbolic links followed, each directory
    once. ``-`` as a source or list reads paths from standard input.

    Raises :class:`ConfigError` naming every source that does not exist or holds no video. A path
    in a list that does not exist is kept: its probe fails, and the others are done.
    """
    found: dict[Path, _Candidate] = {}
    troubles: list[str] = []
    lists = [str(list_file)] if list_file is not None else []
    for source in map(str, sources):
        if source == "-":
            lists.append(source)
            continue
        try:
            candidates = _expand(source)
        except ConfigError as error:
            troubles.append(str(error))
            continue
        for candidate in candidates:
            found.setdefault(candidate.path, candidate)
    for name in lists:
        for line in _lines(name):
            try:
                candidates = _expand(line)
            except ConfigError as error:
                _log.warning("%s: %s", name, error)
                path = _absolute(line)
                candidates = [_Candidate(path, path.parent)]
            for candidate in candidates:
                found.setdefault(candidate.path, candidate)
    if troubles:
        raise ConfigError("; ".join(troubles))
    if not found:
        raise ConfigError(
            "no video given: name files, directories, patterns like 'videos/*.mp4', or --list FILE"
        )
    return sorted(FoundVideo(name, item.path) for name, item in _named(list(found.values())))


def _absolute(path: str | Path) -> Path:
    """Absolute, without "." and ".." but with symbolic links as the user wrote them."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  # resolve() follows links


def _expand(source: str) -> list[_Candidate]:
    """What one source stands for; raises ConfigError if nothing."""
    path = _absolute(source)
    if path.is_dir():
        candidates = [_Candidate(file, path) for file in _walk(path)]
        if not candidates:
            raise ConfigError(
                f"{source}: no video in this directory or below it; looked for files ending in "
                f"{', '.join(sorted(SUFFIXES))}, in any case"
            )
        return candidates
    if path.exists() or path.is_symlink():
        return [_Candidate(path, path.parent)]
    if not glob.has_magic(source):
        raise ConfigError(f"{source}: no such file or directory")
    parts = path.parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    named = bool(path.suffix) and not glob.has_magic(path.suffix)  # "*.dat": the user's own choice
    candidates = []
    for match in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207  # hidden ones left out
        hit = Path(match)
        if hit.is_dir():
            candidates += [_Candidate(file, root) for file in _walk(hit)]
        elif named or hit.suffix.lower() in SUFFIXES:
            candidates.append(_Candidate(hit, root))
    if not candidates:
        raise ConfigError(f"{source}: no video matches this pattern")
    return candidates


def _walk(top: Path) -> Iterator[Path]:
    """Videos under a directory. Real directories come before links to them, each once."""
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
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (links if entry.is_symlink() else waiting).append(entry)
            elif entry.suffix.lower() in SUFFIXES:  # a broken link too: its probe says so
                yield entry


def _lines(name: str) -> Iterable[str]:
    """Paths of a list: one a line; empty lines and lines that start with # are left out."""
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
    """Give each file the shortest id that no other has."""
    levels = [0] * len(candidates)
    while True:
        names = [item.name(level) for item, level in zip(candidates, levels, strict=True)]
        shared = {name for name, count in Counter(names).items() if count > 1}
        if not shared:
            return zip(names, candidates, strict=True)
        for name in shared:
            group = [index for index, other in enumerate(names) if other == name]
            lowest = min(levels[index] for index in group)
            for index in group:
                levels[index] += levels[index] == lowest


# ------------------------------------------------------------------------------------- probing


def probe(
    path: Path, video_id: str, *, decoder: str = "auto", stall_seconds: float = STALL_SECONDS
) -> Video:
    """Measure a video: how many frames really come out, their times, size and rate.

    Packets are counted without decoding; where they cannot be trusted (damage, edit lists, missing
    timestamps, MPEG-TS) every frame is decoded and counted. ``Video.reader`` says what ``auto``
    reads it with, and ``Video.notes`` why when that is not decord.

    Raises :class:`ProbeError` for what is no video or has no frames, with ``decoder="decord"`` also
    for what decord gets wrong; :class:`ConfigError` when decord is asked for and not there.
    """
    _check_decoder(decoder)
    path = Path(path)
    try:
        status = path.stat()
    except OSError as error:
        what = "is a broken link" if path.is_symlink() else f"cannot be opened: {error.strerror}"
        raise ProbeError(f"{path}: {what}") from error
    if path.is_dir():
        raise ProbeError(f"{path}: is a directory, not a video")
    if status.st_size == 0:
        raise ProbeError(f"{path}: is empty (0 bytes)")
    try:
        with borrowed() as reader:
            found = reader.probe(_absolute(path), stall_seconds=stall_seconds)
    except (Unreadable, ReaderLost) as error:
        raise ProbeError(f"{path}: {error}") from error
    name, notes = _choose(path, decoder, found)
    return Video(
        id=video_id,
        path=path,
        num_frames=len(found.timestamps),
        fps=found.fps,
        height=found.height,
        width=found.width,
        timestamps=found.timestamps,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        notes=notes,
        reader=name,
    )


def _check_decoder(decoder: str) -> None:
    if decoder not in DECODERS:
        raise ConfigError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
    if decoder == "decord" and not _has_decord():
        raise ConfigError(
            "--decoder decord: decord is not installed (its wheels are for x86-64 Linux and "
            "Windows only); use --decoder auto, which reads everything with PyAV then"
        )


def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


def _choose(path: Path, decoder: str, found: Probed) -> tuple[str, tuple[str, ...]]:
    """Which reader, and the notes that explain it."""
    if decoder == "decord":
        if found.wrong:
            raise ProbeError(
                f"{path}: decord does not read this file right ({', '.join(found.wrong)}); "
                "use --decoder auto or pyav"
            )
        return "decord", found.notes
    if decoder == "pyav" or not _has_decord():
        return "pyav", found.notes
    why = found.wrong + found.differs
    if why:
        return "pyav", (f"read with PyAV: {', '.join(why)}", *found.notes)
    return "decord", found.notes


# ------------------------------------------------------------------------------------- reading


def read_frames(
    video: Video,
    *,
    start: int = 0,
    decoder: str = "auto",
    stall_seconds: float = STALL_SECONDS,
    piece_frames: int = PIECE_FRAMES,
) -> Generator[FramePiece, None, None]:
    """Yield every frame from ``start`` on, once, in order, in pieces; all but the last are full.

    Frames before ``start`` are decoded and dropped, since seeking is not frame-exact. Decoding
    runs ahead in a process of its own, at most three pieces. A piece's array belongs to the
    receiver for as long as it likes. ``auto`` reads with ``video.reader``; when decord fails, hangs
    or dies on the way, PyAV goes on from the next frame. Closing the iterator releases everything.

    Raises :class:`DecodeError` with counts unless exactly ``video.num_frames`` frames come out.
    """
    _check_decoder(decoder)
    if not 0 <= start <= video.num_frames:
        raise ValueError(f"start must be within 0..{video.num_frames}, got {start}")
    if piece_frames < 1 or stall_seconds <= 0:
        raise ValueError(f"expected positive {piece_frames=} and {stall_seconds=}")
    return _read_frames(video, start, decoder, stall_seconds, piece_frames)


def _read_frames(
    video: Video, start: int, decoder: str, stall_seconds: float, piece_frames: int
) -> Generator[FramePiece, None, None]:
    name = video.reader if decoder == "auto" else decoder
    done = start
    while done < video.num_frames:
        try:
            with borrowed() as reader:
                _log.debug("%s: %s reads from frame %d", video.id, name, done)
                for frames in reader.read(
                    _absolute(video.path),
                    name,
                    start=done,
                    num_frames=video.num_frames,
                    height=video.height,
                    width=video.width,
                    piece_frames=piece_frames,
                    stall_seconds=stall_seconds,
                    tolerance=0.0 if decoder == "auto" else OTHER_COLOURS,
                ):
                    first, done = done, done + len(frames)
                    yield FramePiece(first, frames)
                    del frames  # its slot is the decoder's again once the receiver lets go
        except (Unreadable, ReaderLost) as error:
            if name == "decord" and decoder == "auto":
                level = logging.INFO if isinstance(error, Unreadable) else logging.WARNING
                _log.log(level, "%s: %s; PyAV goes on from frame %d", video.id, error, done)
                name = "pyav"
                continue
            if isinstance(error, Unreadable):
                raise DecodeError(f"{video.path}: {error}") from error
            raise DecodeError(
                f"{video.path}: {done} of {video.num_frames} frames were read, then {error}"
            ) from error
