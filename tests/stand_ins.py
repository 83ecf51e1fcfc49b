"""A video that needs no file: stands in for what ``open_video`` gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from epam_extract.config import PIECE_FRAMES
from epam_extract.progress import Progress
from epam_extract.records import FramePiece, Video, file_stamp
from epam_extract.video.decode import Header


class StandInVideo:
    """``frames`` pictures that ``make`` gives by the piece: (start) -> (16, H, W, 3)."""

    def __init__(
        self, path: Path, video_id: str, *, frames: int, make: Callable[[int], np.ndarray]
    ) -> None:
        self.path, self.id, self.stamp = path, video_id, file_stamp(path)
        self.video: Video | None = None
        self._make = make
        self.header = Header(Fraction(25), frames, 64, 96)

    def __enter__(self) -> StandInVideo:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def piece_start(self, frame: int, step: int) -> int:
        return frame // step * step

    def frames(self, start: int) -> Iterator[FramePiece]:
        length = self.header.frames
        for at in range(start, length, PIECE_FRAMES):
            yield FramePiece(at, self._make(at))
        stamps = np.arange(length) / 25.0
        self.video = Video(self.id, self.path, length, Fraction(25), 64, 96, stamps)


class StopAfter(Progress):
    """Asks the run to stop once more than so many frames are through."""

    def __init__(self, frames: int, stop: threading.Event) -> None:
        self.left, self.stop = frames, stop

    def advance(self, frames: int) -> None:
        self.left -= frames
        if self.left < 0:
            self.stop.set()
