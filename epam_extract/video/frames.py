"""Read one video: its header at once, then its frames in order, then what it really held.

:func:`views.open_video` is how a run reads: the file is gone through once, and how many frames it
has, when they are shown and what is damaged is known at the end. :func:`probe` measures a file
without reading its frames, and :func:`read_frames` insists on what a probe found.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from ..config import DECODERS, PIECE_FRAMES, frames_per_piece
from ..errors import ConfigError, DecodeError, ProbeError
from ..records import FramePiece, Video
from .decode import Choice, Header, Measured, Unreadable
from .decode_worker import Delivered
from .decord_decoder import refused_by_decord
from .files import file_status, is_folder_of_pictures, real_path, stamp_of
from .images import folder_header
from .memory import Room, available_memory
from .worker_pool import SLOTS, DecodeWorker, WorkerLost, borrow, borrowed, give_back

STALL_SECONDS = 20.0  # without a packet or frame, until a worker is taken for hung
ATTEMPTS = 3  # a worker that dies may have been killed: the file is to blame when three died

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


def read_header(
    path: Path,
    *,
    image_fps: Fraction | None = None,
    stall_seconds: float = STALL_SECONDS,
    room: Room | None = None,
) -> Header:
    """What a file says about itself, from its header or index alone.

    With ``image_fps`` a folder of pictures is a video, too. Raises :class:`ProbeError` for what is
    no video, or does not fit ``room`` (None: what the machine has).
    """
    if is_folder_of_pictures(path, image_fps) and image_fps is not None:
        try:
            return folder_header(path, image_fps)
        except Unreadable as error:
            raise ProbeError(f"{path}: {error}") from error
    file_status(path)
    limit = room or Room(available_memory())
    return _ask(
        path,
        lambda worker: worker.header(real_path(path), stall_seconds=stall_seconds, room=limit),
    )


def probe(
    path: Path,
    video_id: str,
    *,
    decoder: str = "auto",
    image_fps: Fraction | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> Video:
    """Measure a video: how many frames really come out, their times, size and rate.

    Packets are counted without decoding; where they cannot be trusted (damage, edit lists, missing
    timestamps, MPEG-TS) every frame is decoded and counted.

    Raises :class:`ProbeError` for what is no video or has no frames, with ``decoder="decord"`` also
    for what decord gets wrong; :class:`ConfigError` when decord is asked for and not there.
    """
    path = Path(path)
    found = measure(path, decoder=decoder, image_fps=image_fps, stall_seconds=stall_seconds)
    return as_video(path, video_id, found)


def measure(
    path: Path, *, decoder: str, image_fps: Fraction | None, stall_seconds: float = STALL_SECONDS
) -> Measured:
    """What :func:`probe` finds, before it has an id."""
    check_decoder(decoder)
    fps = image_fps if is_folder_of_pictures(path, image_fps) else None
    if fps is None:
        file_status(path)
    real = real_path(path)
    found = _ask(path, lambda worker: worker.probe(real, fps, stall_seconds=stall_seconds))
    if decoder == "decord" and found.wrong:
        raise ProbeError(f"{path}: {refused_by_decord(found)}")
    return found


def read_frames(
    video: Video,
    *,
    start: int = 0,
    decoder: str = "auto",
    stall_seconds: float = STALL_SECONDS,
    piece_frames: int = PIECE_FRAMES,
    image_fps: Fraction | None = None,
) -> Generator[FramePiece, None, None]:
    """Yield every frame from ``start`` on, once, in order, in pieces; all but the last are full.

    Raises :class:`DecodeError` with counts unless exactly ``video.num_frames`` frames come out.
    """
    check_decoder(decoder)
    if not 0 <= start <= video.num_frames:
        raise ValueError(f"start must be within 0..{video.num_frames}, got {start}")
    if piece_frames < 1 or stall_seconds <= 0:
        raise ValueError(f"expected positive {piece_frames=} and {stall_seconds=}")
    return _read_probed(video, start, decoder, image_fps, stall_seconds, piece_frames)


def _read_probed(
    video: Video,
    start: int,
    decoder: str,
    image_fps: Fraction | None,
    stall_seconds: float,
    piece_frames: int,
) -> Generator[FramePiece, None, None]:
    if start == video.num_frames:
        return
    done = start
    with OpenVideo(
        video.path, video.id, decoder=decoder, image_fps=image_fps, stall_seconds=stall_seconds
    ) as opened:
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


class OpenVideo:
    """A video that is being read. Made by :func:`views.open_video`."""

    def __init__(
        self,
        path: Path,
        video_id: str,
        *,
        decoder: str,
        image_fps: Fraction | None,
        stall_seconds: float,
        room: Room | None = None,
    ) -> None:
        self.path, self.id = path, video_id
        self.room = room or Room(available_memory())
        self._image_fps = image_fps if is_folder_of_pictures(path, image_fps) else None
        self.stamp: tuple[int, int] = self._stamp()
        """Size and time of change, as :func:`records.file_stamp` has them."""
        self.video: Video | None = None
        """What was measured, once every frame was read."""
        self.missing = 0
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
        if self.video is None:
            found = yield from self._pieces(start, None, piece_frames)
            if isinstance(found, Measured):
                self.require_unchanged()
                self.video = as_video(self.path, self.id, found, self.stamp)

    def chosen(
        self, choice: Choice, start: int = 0, *, piece_frames: int | None = None
    ) -> Generator[FramePiece, None, None]:
        """Yield the frames of a choice likewise, in pieces that count them, from ``start`` on.

        To reach them, no more is decoded than from the keyframe before. Nothing is measured, but
        :attr:`missing` counts those that do not decode: the one before is shown instead.
        """
        end = yield from self._pieces(start, choice, piece_frames)
        if isinstance(end, Delivered):
            self.missing += end.missing
        self.require_unchanged()

    def piece_start(self, frame: int, step: int) -> int:
        """The frame at which the piece of ``step`` frames begins that has ``frame`` in it."""
        return frame // step * step

    def again(self) -> Iterator[FramePiece]:
        """Read all frames once more, after they were read."""
        if self.video is None:
            raise ValueError(f"{self.path} was not read yet")
        return read_frames(self.video, decoder=self._decoder, image_fps=self._image_fps)

    def _pieces(
        self, start: int, choice: Choice | None, piece_frames: int | None
    ) -> Generator[FramePiece, None, Measured | Delivered]:
        size = piece_frames or frames_per_piece(self.header.height, self.header.width)
        done = start
        while True:
            if self._worker is None:
                raise ValueError(f"{self.path} is closed, or was read before")
            if choice is not None and done >= len(choice.indices):
                return Delivered(0)
            pieces = self._worker.read(
                wanted=done if choice is None else choice.after(done),
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
                return ended.value
            except WorkerLost as error:
                total = self.header.frames if choice is None else len(choice.indices)
                self._give_up(error, f"{done} of {total} frames were read, then ")
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
                    self._image_fps,
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

    def _stamp(self) -> tuple[int, int]:
        if self._image_fps is None:
            file_status(self.path)
        return stamp_of(self.path)

    def require_unchanged(self) -> None:
        """Raise DecodeError where the file is not the one that was opened."""
        now = self._stamp()
        if now != self.stamp:
            how = f" ({self.stamp[0]} bytes, then {now[0]})" if self._image_fps is None else ""
            raise DecodeError(
                f"{self.path}: it was changed while it was read{how}; run again once it is complete"
            )


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


def as_video(
    path: Path, video_id: str, found: Measured, stamp: tuple[int, int] | None = None
) -> Video:
    """What was measured of a file, as a video of this id."""
    size, mtime_ns = stamp or stamp_of(path)
    return Video(
        id=video_id,
        path=path,
        num_frames=len(found.timestamps),
        fps=found.fps,
        height=found.height,
        width=found.width,
        timestamps=found.timestamps,
        size=size,
        mtime_ns=mtime_ns,
        notes=found.notes,
    )


def check_decoder(decoder: str) -> None:
    """Raise ConfigError unless there is such a decoder."""
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
