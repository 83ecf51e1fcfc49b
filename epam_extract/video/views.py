"""Views of a video: a segment of it, or its frames at a regular rate (``--fps``).

The file is measured first, from its packets if they can be trusted, to find out which of its frames
are needed. Each of these is decoded once, beginning at the keyframe before the first one.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..config import frames_per_piece
from ..errors import ProbeError
from ..records import FramePiece, Segment, Video
from .decode import Choice, Header, Measured
from .files import stamp_of
from .frames import STALL_SECONDS, OpenVideo, as_video, check_decoder, measure
from .memory import MemoryLimit

EARLY = 1e-3  # seconds: containers and annotations round times to a millisecond
REMEMBERED = 32  # measured files; the segments of a video follow each other


def open_video(
    path: Path,
    video_id: str,
    *,
    segment: Segment | None = None,
    fps: Fraction | None = None,
    decoder: str = "auto",
    image_fps: Fraction | None = None,
    stall_seconds: float = STALL_SECONDS,
    memory: MemoryLimit | None = None,
) -> OpenVideo | OpenView:
    """Open a video to read it once, from its first frame to its last; a context manager.

    ``segment`` selects a part of it, ``fps`` resamples its frames to a regular rate, and
    ``image_fps`` allows folders of pictures, as videos of this rate.

    Raises :class:`ProbeError` if the file is not a video, has no frames or does not fit in
    ``memory`` (None: the memory available), with ``decoder="decord"`` also if decord would read it
    wrongly;
    :class:`ConfigError` if decord is requested but not installed.
    """
    check_decoder(decoder)
    path = Path(path)
    if fps is not None or (segment is not None and not segment.whole):
        return OpenView(
            path,
            video_id,
            segment=segment,
            fps=fps,
            decoder=decoder,
            image_fps=image_fps,
            stall_seconds=stall_seconds,
            memory=memory,
        )
    return OpenVideo(
        path,
        video_id,
        decoder=decoder,
        image_fps=image_fps,
        stall_seconds=stall_seconds,
        memory=memory,
    )


def view_of(
    source: Video, segment: Segment | None, fps: Fraction | None
) -> tuple[Video, np.ndarray]:
    """A view as a video, and for each of its frames the index of the source's frame, (T,) int64.

    A segment has the frames that begin in it, to the millisecond. With ``fps``, the view starts
    with the segment, and each of its frames is the one on screen at that moment.

    Raises:
        ProbeError: there is no frame in the segment.
    """
    begins = source.timestamps
    start, stop = float(begins[0]), float(begins[0]) + source.duration
    notes = source.notes
    if segment is not None and not segment.whole:
        where = f"{source.path}: the segment from {segment.start:g} to {segment.end:g} s"
        if segment.start >= stop - EARLY or segment.end <= start + EARLY:
            raise ProbeError(
                f"{where} lies outside the video, which is from {start:g} to {stop:g} s"
            )
        if segment.end > stop + 1 / source.fps:
            notes = (*notes, f"its segment ends at {segment.end:g} s, the video at {stop:g} s")
        start, stop = max(start, segment.start), min(stop, segment.end)
        first, last = np.searchsorted(begins, [start - EARLY, stop - EARLY])
        if fps is None and first == last:
            raise ProbeError(f"{where} is shorter than a frame: no frame of the video begins in it")
    else:
        first, last = 0, len(begins)
    if fps is None:
        indices = np.arange(first, last)
        seconds, rate = begins[first:last], source.fps
    else:
        count = max(math.ceil((stop - start - EARLY) * fps), 1)
        seconds, rate = start + np.arange(count) / float(fps), fps
        indices = np.maximum(np.searchsorted(begins, seconds + EARLY, "right") - 1, 0)
    view = replace(
        source,
        num_frames=len(indices),
        fps=rate,
        timestamps=seconds.astype(np.float64),
        notes=notes,
        segment=segment,
    )
    return view, indices.astype(np.int64)


class OpenView:
    """A view of a video being read; used like :class:`OpenVideo`."""

    def __init__(
        self,
        path: Path,
        video_id: str,
        *,
        segment: Segment | None = None,
        fps: Fraction | None = None,
        decoder: str = "auto",
        image_fps: Fraction | None = None,
        stall_seconds: float = STALL_SECONDS,
        memory: MemoryLimit | None = None,
    ) -> None:
        self.path, self.id = path, video_id
        self._decoder, self._image_fps, self._memory = decoder, image_fps, memory
        self._stall_seconds = stall_seconds
        self.stamp = stamp_of(path)
        found = _measured(path, self.stamp, decoder, image_fps)
        self.source = as_video(path, video_id, found, self.stamp)
        """The whole file."""
        self._view, self.indices = view_of(self.source, segment, fps)
        """(T,) int64: for each frame, the index of the source's frame."""
        used, self._shown = np.unique(self.indices, return_inverse=True)
        self._starts = np.flatnonzero(np.diff(self._shown, prepend=-1))  # (U,)
        self._choice = Choice(used, self.source.timestamps[used], found.seekable)
        self.header = Header(self._view.fps, len(self.indices), found.height, found.width)
        self.video: Video | None = None
        """The view as a video; None until every frame has been read."""
        self._reader = self._open()

    def __enter__(self) -> OpenView:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def frames(self, start: int = 0) -> Generator[FramePiece, None, None]:
        """Yield the frames from ``start`` in order; ``start`` must be a :meth:`piece_start`.

        Every piece but the last has 16 pictures; at a higher rate some of them are shown more than
        once. Raises :class:`DecodeError` if the file cannot be read, or changes while it is read.
        """
        yield from self._pieces(self._reader, start)
        missing = self._reader.missing
        said = (f"damaged: {missing} of its frames do not decode",) if missing else ()
        self.video = replace(self._view, notes=(*self._view.notes, *said))

    def again(self) -> Iterator[FramePiece]:
        """Read all frames a second time."""
        with self._open() as reader:
            yield from self._pieces(reader, 0)

    def piece_start(self, frame: int, step: int) -> int:
        """First frame of the piece of ``step`` pictures that contains ``frame``."""
        return int(self._starts[self._shown[frame] // step * step])

    def _open(self) -> OpenVideo:
        reader = OpenVideo(
            self.path,
            self.id,
            decoder=self._decoder,
            image_fps=self._image_fps,
            stall_seconds=self._stall_seconds,
            memory=self._memory,
        )
        if (reader.header.height, reader.header.width) != (self.header.height, self.header.width):
            reader.close()
            raise ProbeError(f"{self.path}: the size of its pictures changed since it was measured")
        return reader

    def _pieces(self, reader: OpenVideo, start: int) -> Generator[FramePiece, None, None]:
        first = int(np.searchsorted(self._starts, start))
        size = frames_per_piece(self.header.height, self.header.width)
        starts = np.append(self._starts, len(self._shown))  # (U + 1,)
        repeats = np.diff(starts)  # (U,)
        for piece in reader.chosen(self._choice, first, piece_frames=size):
            times = repeats[piece.start : piece.start + len(piece)]
            shown = np.repeat(np.arange(len(piece)), times)
            yield FramePiece(int(starts[piece.start]), piece.frames, shown)
            del piece  # the worker can reuse its slot once the receiver drops it


_measurements: OrderedDict[object, Future[Measured]] = OrderedDict()
_lock = threading.Lock()


def _measured(
    path: Path, stamp: tuple[int, int], decoder: str, image_fps: Fraction | None
) -> Measured:
    """Measure a file once for all its segments. Raises what :func:`measure` raises."""
    key = (path, stamp, decoder, image_fps)
    with _lock:
        known = _measurements.get(key)
        if known is None:
            mine = _measurements[key] = Future()
            while len(_measurements) > REMEMBERED:
                _measurements.popitem(last=False)
        else:
            _measurements.move_to_end(key)
    if known is not None:
        return known.result()
    try:
        mine.set_result(measure(path, decoder=decoder, image_fps=image_fps))
    except BaseException as error:
        with _lock:
            _measurements.pop(key, None)
        mine.set_exception(error)
        raise
    return mine.result()
