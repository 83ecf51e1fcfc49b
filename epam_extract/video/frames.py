"""Read one video: first its header, then its frames in order, and at the end what it really held.

A run reads with :func:`views.open_video`: one pass over the file, after which the number of frames,
their times and any damage are known. :func:`probe` measures a file without reading its frames, and
:func:`read_frames` insists on what a probe found.
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
from .memory import MemoryLimit, available_memory
from .worker_pool import SLOTS, DecodeWorker, WorkerLost, borrow, borrowed, give_back

STALL_SECONDS = 20.0  # a worker that delivers no packet or frame for so long has hung
ATTEMPTS = 3  # a worker may be killed by the system; if three die, the file is to blame

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


def read_header(
    path: Path,
    *,
    image_fps: Fraction | None = None,
    stall_seconds: float = STALL_SECONDS,
    memory: MemoryLimit | None = None,
) -> Header:
    """What a file says about itself, from its header or index alone.

    With ``image_fps`` a folder of pictures counts as a video. Raises :class:`ProbeError` if the
    file is not a video, or does not fit in ``memory`` (None: what the machine has).
    """
    if is_folder_of_pictures(path, image_fps) and image_fps is not None:
        try:
            return folder_header(path, image_fps)
        except Unreadable as error:
            raise ProbeError(f"{path}: {error}") from error
    file_status(path)
    limit = memory or MemoryLimit(available_memory())
    return _ask(
        path,
        lambda worker: worker.header(real_path(path), stall_seconds=stall_seconds, memory=limit),
    )


def probe(
    path: Path,
    video_id: str,
    *,
    decoder: str = "auto",
    image_fps: Fraction | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> Video:
    """Measure a video: how many frames really decode, their times, size and rate.

    Packets are counted without decoding; where they cannot be trusted (damage, edit lists, missing
    timestamps, MPEG-TS) every frame is decoded and counted.

    Raises :class:`ProbeError` if the file is not a video or has no frames, with
    ``decoder="decord"`` also if decord would read it wrongly; :class:`ConfigError` if decord is
    requested but not installed.
    """
    path = Path(path)
    found = measure(path, decoder=decoder, image_fps=image_fps, stall_seconds=stall_seconds)
    return as_video(path, video_id, found)


def measure(
    path: Path, *, decoder: str, image_fps: Fraction | None, stall_seconds: float = STALL_SECONDS
) -> Measured:
    """What :func:`probe` finds, without an id."""
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
    """Yield every frame from ``start``, once, in order, in pieces; all but the last are full.

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
            del piece  # the worker can reuse its slot once the receiver drops it
    if done < video.num_frames:
        raise DecodeError(
            f"{video.path}: only {done} of {video.num_frames} frames decode: the file is damaged, "
            "or it changed since it was probed"
        )


class OpenVideo:
    """A video being read. Created by :func:`views.open_video`."""

    def __init__(
        self,
        path: Path,
        video_id: str,
        *,
        decoder: str,
        image_fps: Fraction | None,
        stall_seconds: float,
        memory: MemoryLimit | None = None,
    ) -> None:
        self.path, self.id = path, video_id
        self.memory = memory or MemoryLimit(available_memory())
        self._image_fps = image_fps if is_folder_of_pictures(path, image_fps) else None
        self.stamp: tuple[int, int] = self._stamp()
        """Size and modification time, see :func:`records.file_stamp`."""
        self.video: Video | None = None
        """What was measured; None until every frame has been read."""
        self.missing = 0
        self._decoder = "pyav" if decoder == "auto" else decoder
        self._stall_seconds = stall_seconds
        self._worker: DecodeWorker | None = None
        self._busy = False  # between a request and the end of its answer
        self._lost = 0
        self.header: Header = self._open()
        """From the file's own header: its rate and the number of frames it promises."""

    def __enter__(self) -> OpenVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the worker; a busy one is killed."""
        worker, self._worker = self._worker, None
        if worker is not None:
            give_back(worker, alive=not self._busy)

    def frames(
        self, start: int = 0, *, piece_frames: int | None = None
    ) -> Generator[FramePiece, None, None]:
        """Yield every frame from ``start``, once, in order, in pieces; all but the last are full.

        Frames before ``start`` are decoded and dropped, since seeking is not frame-exact. Decoding
        runs up to three pieces ahead in a separate process. The receiver may keep a piece's array
        for as long as it likes. If a worker dies, another one continues with the next frame, the
        last one with less memory. Afterwards :attr:`video` is known.

        Raises :class:`DecodeError` if the file cannot be read to its end, or changes while it is
        read.
        """
        if self.video is None:
            found = yield from self._pieces(start, None, piece_frames)
            if isinstance(found, Measured):
                self.require_unchanged()
                self.video = as_video(self.path, self.id, found, self.stamp)

    def chosen(
        self, choice: Choice, start: int = 0, *, piece_frames: int | None = None
    ) -> Generator[FramePiece, None, None]:
        """Yield the chosen frames in pieces, numbered by their place in the choice, from ``start``.

        Decoding begins at the keyframe before the first of them. Nothing is measured, but
        :attr:`missing` counts the frames that do not decode; the previous one is shown instead.
        """
        end = yield from self._pieces(start, choice, piece_frames)
        if isinstance(end, Delivered):
            self.missing += end.missing
        self.require_unchanged()

    def piece_start(self, frame: int, step: int) -> int:
        """First frame of the piece of ``step`` frames that contains ``frame``."""
        return frame // step * step

    def again(self) -> Iterator[FramePiece]:
        """Read all frames a second time; only after the first."""
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
                    self._require_memory(done)
                    yield FramePiece(first, frames)
                    self._lost = 0
                    del frames  # the worker can reuse the slot once the receiver drops it
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
        """Have a worker open the file; if it dies, try another one."""
        while True:
            self._worker, self._busy = borrow(), True
            try:
                header = self._worker.open(
                    real_path(self.path),
                    self._decoder,
                    self._image_fps,
                    stall_seconds=self._stall_seconds,
                    memory=self.memory,
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
        """Raise the error, unless another worker may do better."""
        self.close()
        self._lost += 1
        if self._lost == ATTEMPTS or not error.died:
            kind = DecodeError if so_far else ProbeError
            raise kind(f"{self.path}: {so_far}{error}") from error
        _log.warning("%s: %s%s; another one is tried", self.path, so_far, error)

    def _require_memory(self, frames: int) -> None:
        """Raise DecodeError if a video has more frames than promised and they do not fit."""
        found = self.header
        if frames > found.frames and (
            too_large := self.memory.refusal(found.height, found.width, frames)
        ):
            raise DecodeError(f"{self.path}: {too_large}")

    def _stamp(self) -> tuple[int, int]:
        if self._image_fps is None:
            file_status(self.path)
        return stamp_of(self.path)

    def require_unchanged(self) -> None:
        """Raise DecodeError if the file is no longer the one that was opened."""
        now = self._stamp()
        if now != self.stamp:
            how = f" ({self.stamp[0]} bytes, then {now[0]})" if self._image_fps is None else ""
            raise DecodeError(
                f"{self.path}: it was changed while it was read{how}; run again once it is complete"
            )


def _ask(path: Path, question: Callable[[DecodeWorker], Found]) -> Found:
    """Ask a worker, or another one if it dies. Raises ProbeError."""
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
    """Turn what was measured of a file into a :class:`Video`."""
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
    """Raise ConfigError unless this decoder exists and is installed."""
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
