"""Read one video: its header at once, then its frames in order, then what it really held.

:func:`open_video` is how a run reads: the file is gone through once, and how many frames it has,
when they are shown and what is damaged is known at the end. :func:`probe` measures a file without
reading its frames, and :func:`read_frames` insists on what a probe found.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import stat
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ..config import DECODERS, PIECE_FRAMES, frames_per_piece
from ..errors import ConfigError, DecodeError, ProbeError
from ..memory import Room, available_memory
from ..records import FramePiece, Video
from .decode import Header, Measured, Unreadable
from .decord_decoder import refused_by_decord
from .worker_pool import SLOTS, DecodeWorker, WorkerLost, borrow, borrowed, give_back

STALL_SECONDS = 20.0  # without a packet or frame, until a worker is taken for hung
ATTEMPTS = 3  # a worker that dies may have been killed: the file is to blame when three died

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


def read_header(path: Path, *, stall_seconds: float = STALL_SECONDS) -> Header:
    """What a file says about itself, from its header or index alone.

    Raises :class:`ProbeError` for what is no video.
    """
    file_status(path)
    return _ask(path, lambda worker: worker.header(real_path(path), stall_seconds=stall_seconds))


def probe(
    path: Path, video_id: str, *, decoder: str = "auto", stall_seconds: float = STALL_SECONDS
) -> Video:
    """Measure a video: how many frames really come out, their times, size and rate.

    Packets are counted without decoding; where they cannot be trusted (damage, edit lists, missing
    timestamps, MPEG-TS) every frame is decoded and counted.

    Raises :class:`ProbeError` for what is no video or has no frames, with ``decoder="decord"`` also
    for what decord gets wrong; :class:`ConfigError` when decord is asked for and not there.
    """
    _check_decoder(decoder)
    path = Path(path)
    status = file_status(path)
    found = _ask(path, lambda worker: worker.probe(real_path(path), stall_seconds=stall_seconds))
    if decoder == "decord" and found.wrong:
        raise ProbeError(f"{path}: {refused_by_decord(found)}")
    return _video(path, video_id, found, status)


def read_frames(
    video: Video,
    *,
    start: int = 0,
    decoder: str = "auto",
    stall_seconds: float = STALL_SECONDS,
    piece_frames: int = PIECE_FRAMES,
) -> Generator[FramePiece, None, None]:
    """Yield every frame from ``start`` on, once, in order, in pieces; all but the last are full.

    Raises :class:`DecodeError` with counts unless exactly ``video.num_frames`` frames come out.
    """
    _check_decoder(decoder)
    if not 0 <= start <= video.num_frames:
        raise ValueError(f"start must be within 0..{video.num_frames}, got {start}")
    if piece_frames < 1 or stall_seconds <= 0:
        raise ValueError(f"expected positive {piece_frames=} and {stall_seconds=}")
    return _read_probed(video, start, decoder, stall_seconds, piece_frames)


def _read_probed(
    video: Video, start: int, decoder: str, stall_seconds: float, piece_frames: int
) -> Generator[FramePiece, None, None]:
    if start == video.num_frames:
        return
    done = start
    with OpenVideo(video.path, video.id, decoder=decoder, stall_seconds=stall_seconds) as opened:
        if (opened.header.height, opened.header.width) != (video.height, video.width):
            raise DecodeError(f"{video.path}: the size of its pictures changed since the probe")
        for piece in opened.frames(start, piece_frames=piece_frames):
            done += len(piece.frames)
            if done > video.num_frames:
                raise DecodeError(
                    f"{video.path}: more than the {video.num_frames} frames that were counted "
                    "decode: it changed since it was probed"
                )
            yield piece
            del piece  # its slot is the worker's again once the receiver lets go
    if done < video.num_frames:
        raise DecodeError(
            f"{video.path}: only {done} of {video.num_frames} frames decode: the file is damaged, "
            "or it changed since it was probed"
        )


def open_video(
    path: Path,
    video_id: str,
    *,
    decoder: str = "auto",
    stall_seconds: float = STALL_SECONDS,
    room: Room | None = None,
) -> OpenVideo:
    """Open a video to read it once, from its first frame to its last; a context manager.

    Raises :class:`ProbeError` for what is no video, has no frames or does not fit ``room`` (None:
    what the machine has), with ``decoder="decord"`` also for what decord gets wrong;
    :class:`ConfigError` when decord is asked for and not there.
    """
    _check_decoder(decoder)
    return OpenVideo(Path(path), video_id, decoder=decoder, stall_seconds=stall_seconds, room=room)


class OpenVideo:
    """A video that is being read. Made by :func:`open_video`."""

    def __init__(
        self,
        path: Path,
        video_id: str,
        *,
        decoder: str,
        stall_seconds: float,
        room: Room | None = None,
    ) -> None:
        self.path, self.id = path, video_id
        self.room = room or Room(available_memory())
        self.status = file_status(path)
        self.video: Video | None = None
        """What was measured, once every frame was read."""
        self._decoder = "pyav" if decoder == "auto" else decoder
        self._stall_seconds = stall_seconds
        self._worker: DecodeWorker | None = None
        self._busy = False  # between a request and the last word of its answer
        self._lost = 0
        self.header: Header = self._open()
        """From the file's own header: its rate and the number of frames it promises."""

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the worker go; one that is in the middle of something is ended."""
        worker, self._worker = self._worker, None
        if worker is not None:
            give_back(worker, alive=not self._busy)

    def frames(
        self, start: int = 0, *, piece_frames: int | None = None
    ) -> Generator[FramePiece, None, None]:
        """Yield every frame from ``start`` on, once, in order, in pieces; all but the last full.

        Frames before ``start`` are decoded and dropped, since seeking is not frame-exact. Decoding
        runs ahead in a process of its own, at most three pieces. A piece's array belongs to the
        receiver for as long as it likes. A worker that dies is replaced, with less memory at last,
        and reading goes on with the next frame. Afterwards :attr:`video` is known.

        Raises :class:`DecodeError` where it cannot be read to its end, or changed meanwhile.
        """
        size = piece_frames or frames_per_piece(self.header.height, self.header.width)
        done = start
        while self.video is None:
            if self._worker is None:
                raise ValueError(f"{self.path} is closed, or was read before")
            pieces = self._worker.read(
                start=done,
                piece_frames=size,
                slots=1 if self._lost == ATTEMPTS - 1 else SLOTS,
                stall_seconds=self._stall_seconds,
            )
            self._busy = True
            try:
                while True:
                    frames = next(pieces)
                    first, done = done, done + len(frames)
                    self._require_room(done)
                    yield FramePiece(first, frames)
                    self._lost = 0
                    del frames  # its slot is the worker's again once the receiver lets go
            except StopIteration as ended:
                self._busy = False
                self.video = self._measured(ended.value)
            except WorkerLost as error:
                self._give_up(error, f"{done} of {self.header.frames} frames were read, then ")
                self._open()
            except Unreadable as error:
                self._busy = False
                raise DecodeError(f"{self.path}: {error}") from error

    def _open(self) -> Header:
        """Have a worker open the file, and another one where that dies."""
        while True:
            self._worker, self._busy = borrow(), True
            try:
                header = self._worker.open(
                    real_path(self.path),
                    self._decoder,
                    stall_seconds=self._stall_seconds,
                    room=self.room,
                )
            except WorkerLost as error:
                self._give_up(error, "")
            except Unreadable as error:
                self._busy = False
                self.close()
                raise ProbeError(f"{self.path}: {error}") from error
            else:
                self._busy = False
                return header

    def _give_up(self, error: WorkerLost, so_far: str) -> None:
        """Raise what was met, unless another worker may do better."""
        self.close()
        self._lost += 1
        if self._lost == ATTEMPTS or not error.died:
            kind = DecodeError if so_far else ProbeError
            raise kind(f"{self.path}: {so_far}{error}") from error
        _log.warning("%s: %s%s; another one is tried", self.path, so_far, error)

    def _require_room(self, frames: int) -> None:
        """Raise DecodeError where a video that holds more than it promised does not fit."""
        found = self.header
        if frames > found.frames and (
            too_large := self.room.refusal(found.height, found.width, frames)
        ):
            raise DecodeError(f"{self.path}: {too_large}")

    def _measured(self, found: Measured) -> Video:
        now = file_status(self.path)
        if (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise DecodeError(
                f"{self.path}: it was changed while it was read ({self.status.st_size} bytes, then "
                f"{now.st_size}); run again once it is complete"
            )
        return _video(self.path, self.id, found, self.status)


def file_status(path: Path) -> os.stat_result:
    """Size and time of change of a regular file that is not empty; it is not opened.

    Raises :class:`ProbeError` for anything else.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = getattr(error, "strerror", None) or str(error)
        what = f"cannot be opened: {reason}"
        with suppress(OSError, ValueError):
            if path.is_symlink():
                what = f"is a broken link ({reason})"
        raise ProbeError(f"{path}: {what}") from error
    if stat.S_ISDIR(status.st_mode):
        raise ProbeError(f"{path}: is a directory, not a video")
    if not stat.S_ISREG(status.st_mode):
        raise ProbeError(f"{path}: is not a regular file")
    if status.st_size == 0:
        raise ProbeError(f"{path}: is empty (0 bytes)")
    return status


def real_path(path: Path) -> Path:
    """Absolute, so that the worker's own folder does not matter; links as the user wrote them."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() follows links


def _ask(path: Path, question: Callable[[DecodeWorker], Found]) -> Found:
    """The answer of a worker, of another one where that dies; raises ProbeError."""
    lost = 0
    while True:
        try:
            with borrowed() as worker:
                return question(worker)
        except Unreadable as error:
            raise ProbeError(f"{path}: {error}") from error
        except WorkerLost as error:
            lost += 1
            if lost == ATTEMPTS or not error.died:
                raise ProbeError(f"{path}: {error}") from error
            _log.warning("%s: %s; another one is tried", path, error)


def _video(path: Path, video_id: str, found: Measured, status: os.stat_result) -> Video:
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
        notes=found.notes,
    )


def _check_decoder(decoder: str) -> None:
    if decoder not in DECODERS:
        raise ConfigError(f"decoder must be one of {', '.join(DECODERS)}, got {decoder!r}")
    if decoder == "decord" and not has_decord():
        raise ConfigError(
            "--decoder decord: decord is not installed (its wheels are for x86-64 Linux and "
            "Windows only); use --decoder auto, which reads everything with PyAV"
        )


def has_decord() -> bool:
    """Whether decord is installed."""
    return importlib.util.find_spec("decord") is not None
