"""Read frames with decord, on request: ``--decoder decord``.

PyAV is the default since it took 15 to 40 % less CPU time per frame on every size measured
(320x240: 0.6 ms against 0.9; 1080p: 18 against 21), needs a tenth of the memory, and reads a file
once where decord indexes it first. decord is right on clean mp4, mkv, webm and avi. It silently
repeats or shifts frames of MPEG-TS and MPEG-PS, of edit lists and of files without timestamps, and
refuses AV1, GIF and raw streams: those are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from .decode import Choice, Header, Measured, PyavDecoder, Tick, Unreadable
from .measure import measure_file
from .memory import MemoryLimit

FAULT_TOLERANCE = 1e-4  # so that the first frame that decord makes up is an error
OTHER_COLOURS = 6.0  # mean grey levels; two ways to convert colours differ by less


class DecordDecoder:
    """Reads a file with decord, after its frames and their times have been measured."""

    missing = 0
    """Chosen frames that do not decode; always 0, since each is an error here."""

    def __init__(self, path: str, tick: Tick, memory: MemoryLimit) -> None:
        first = PyavDecoder(path, tick, memory)
        try:
            self._reference = next(first.frames(0)).copy()
            self._found = first.by_index() or measure_file(path, tick, memory)
        finally:
            first.close()
        if self._found.wrong:
            raise Unreadable(refused_by_decord(self._found))
        self._path, self._tick = path, tick
        size = (self._found.height, self._found.width)
        self.header = Header(self._found.fps, len(self._found.timestamps), *size)

    def frames(self, start: int) -> Iterator[np.ndarray]:
        """Frames ``start``, ``start + 1``, ... as (H, W, 3) uint8 RGB, by decord's ``next``.

        Raises :class:`Unreadable` if decord is missing, refuses the file, counts a different number
        of frames, or shows a different first frame than PyAV.
        """
        import cv2  # noqa: F401  # must come first: decord's zlib breaks OpenCV's PNG reader

        try:
            import decord
            from decord._ffi.base import DECORDError, DECORDLimitReachedError
        except (ImportError, OSError, RuntimeError) as error:
            raise Unreadable(f"decord cannot be loaded: {error}") from error
        decord.logging.set_level(decord.logging.QUIET)
        expected = self.header.frames
        try:
            video = decord.VideoReader(self._path, num_threads=1, fault_tol=FAULT_TOLERANCE)
            if len(video) != expected:
                raise Unreadable(f"decord counts {len(video)} frames instead of {expected}")
            for index in range(expected):
                frame = video.next().asnumpy()
                if index == 0:
                    _agree(frame, self._reference)
                self._tick()
                if index >= start:
                    yield frame
        except (
            DECORDError,
            DECORDLimitReachedError,  # one more made-up frame than FAULT_TOLERANCE
            RuntimeError,
            AssertionError,
            UnicodeError,
        ) as error:
            raise Unreadable(f"decord gives up: {_plain(error)}") from error
        except StopIteration as error:
            raise Unreadable("decord gives up: no more frames") from error

    def chosen(self, choice: Choice) -> Iterator[np.ndarray]:
        """The chosen frames; every frame up to the last of them is decoded."""
        wanted = set(choice.indices.tolist())
        for index, frame in enumerate(self.frames(0)):
            if index in wanted:
                yield frame
            if index == choice.indices[-1]:
                return

    def measured(self) -> Measured:
        """What the file holds, measured when it was opened."""
        return self._found

    def close(self) -> None:
        """Nothing is held open."""


def refused_by_decord(found: Measured) -> str:
    """The message for a file that decord would read wrongly."""
    reasons = ", ".join(found.wrong)
    return f"decord does not read this file right ({reasons}); use --decoder auto or pyav"


def _plain(error: Exception) -> str:
    """decord's message without its clock, source lines and addresses."""
    first = str(error).strip(" '\"").replace("\\n", "\n").splitlines()[:1]
    return re.split(r"\.cc:\d+: ", first[0])[-1] if first else repr(error)


def _agree(frame: np.ndarray, reference: np.ndarray) -> None:
    if frame.shape != reference.shape:
        raise Unreadable(f"decord shows {frame.shape} where PyAV shows {reference.shape}")
    off = float(np.abs(frame.astype(np.int16) - reference).mean())
    if off > OTHER_COLOURS:
        raise Unreadable(f"decord's first frame is {off:.2g} grey levels off PyAV's")
