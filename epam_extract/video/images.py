"""Folders of numbered pictures as videos, such as mmaction2's rawframes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .decode import Choice, Header, Measured, Tick, Unreadable, require_memory
from .memory import MemoryLimit

PICTURE = re.compile(
    r"(?P<series>.*?)(?P<number>\d{1,12})\.(?:jpe?g|png|bmp|webp|tiff?)", re.IGNORECASE
)
"""``img_00001.jpg``, ``frame_000001.png``, ``1.jpeg``: a series, and a number in it."""
FLOW = re.compile(
    r"(?:flow_?|.*_)?[xyuv]_?", re.IGNORECASE
)  # optical flow, next to img_ in rawframes
SHOWN_GAPS = 3  # at most, in a note


@dataclass(frozen=True)
class Series:
    """The pictures of one folder, by number."""

    names: tuple[str, ...]
    numbers: np.ndarray
    """(T,) int64, ascending."""

    @property
    def step(self) -> int:
        """Difference between consecutive numbers."""
        return int(np.diff(self.numbers).min(initial=1 << 62)) if len(self.numbers) > 1 else 1

    def seconds(self, fps: Fraction) -> np.ndarray:
        """(T,) float64: the time of each picture. A missing picture leaves a gap."""
        return (self.numbers - self.numbers[0]) / self.step / float(fps)

    def gaps(self) -> list[str]:
        """The missing numbers, such as ``17 to 19``."""
        found = []
        for at in np.flatnonzero(np.diff(self.numbers) > self.step):
            first, last = int(self.numbers[at]) + self.step, int(self.numbers[at + 1]) - self.step
            found.append(str(first) if first >= last else f"{first} to {last}")
        return found

    def notes(self) -> tuple[str, ...]:
        """A note on what is missing, if anything."""
        gaps = self.gaps()
        if not gaps:
            return ()
        more = f" and {len(gaps) - SHOWN_GAPS} more gaps" if len(gaps) > SHOWN_GAPS else ""
        return (f"pictures are missing: {', '.join(gaps[:SHOWN_GAPS])}{more}",)


def has_pictures(names: Sequence[str]) -> bool:
    """Whether any of these names is that of a numbered picture."""
    return any(PICTURE.fullmatch(name) and not name.startswith(".") for name in names)


def list_pictures(folder: Path | str) -> Series:
    """The numbered pictures of a folder, in the order of their numbers.

    Optical flow (``flow_x_00001.jpg``) is ignored. Raises :class:`Unreadable` if there are no
    pictures, or several series of them.
    """
    series: dict[str, list[tuple[int, str]]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found = PICTURE.fullmatch(entry.name)
                if found and not entry.name.startswith(".") and entry.is_file():
                    series.setdefault(found["series"], []).append(
                        (int(found["number"]), entry.name)
                    )
    except OSError as error:
        raise Unreadable(f"it cannot be listed: {error.strerror}") from error
    if len(series) > 1:
        series = {name: s for name, s in series.items() if not FLOW.fullmatch(name)} or series
    if not series:
        raise Unreadable("this folder has no numbered pictures, such as img_00001.jpg")
    if len(series) > 1:
        some = ", ".join(f"{min(pictures)[1]}" for _, pictures in sorted(series.items())[:3])
        raise Unreadable(
            f"this folder has {len(series)} series of numbered pictures ({some}): expected one"
        )
    pictures = sorted(next(iter(series.values())))
    numbers = np.array([number for number, _ in pictures], np.int64)
    twice = np.flatnonzero(np.diff(numbers) == 0)
    if len(twice):
        one, other = (pictures[twice[0] + i][1] for i in (0, 1))
        raise Unreadable(f"two of its pictures have the same number: {one} and {other}")
    return Series(tuple(name for _, name in pictures), numbers)


def folder_header(folder: Path | str, fps: Fraction) -> Header:
    """How many pictures there are, without opening any."""
    return Header(fps, len(list_pictures(folder).names), 0, 0)


def measure_folder(path: str, fps: Fraction, tick: Tick, memory: MemoryLimit) -> Measured:
    """Measure a folder; only its first picture is opened."""
    return ImagesDecoder(path, fps, tick, memory).measured()


class ImagesDecoder:
    """Reads the pictures of a folder as the frames of a video."""

    missing = 0
    """Chosen pictures that do not decode; always 0, since each is an error here."""

    def __init__(self, path: str, fps: Fraction, tick: Tick, memory: MemoryLimit) -> None:
        self._folder, self._fps, self._tick = Path(path), fps, tick
        self._series = list_pictures(path)
        first = self._read(0)
        self.header = Header(fps, len(self._series.names), *first.shape[:2])
        require_memory(memory, self.header.height, self.header.width, self.header.frames)

    def frames(self, start: int) -> Iterator[np.ndarray]:
        """Pictures ``start``, ``start + 1``, ... as (H, W, 3) uint8 RGB.

        Raises :class:`Unreadable` if one is not a picture, or not of the size of the first.
        """
        return self._pictures(range(start, len(self._series.names)))

    def chosen(self, choice: Choice) -> Iterator[np.ndarray]:
        """The chosen pictures; no other one is opened."""
        return self._pictures(choice.indices.tolist())

    def measured(self) -> Measured:
        """What the folder holds."""
        return Measured(
            fps=self._fps,
            height=self.header.height,
            width=self.header.width,
            timestamps=self._series.seconds(self._fps),
            notes=self._series.notes(),
            seekable=True,
        )

    def close(self) -> None:
        """Nothing is held open."""

    def _pictures(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        for index in indices:
            picture = self._read(index)
            height, width = picture.shape[:2]
            if (height, width) != (self.header.height, self.header.width):
                raise Unreadable(
                    f"{self._series.names[index]} is {width}x{height}, and the first picture "
                    f"{self.header.width}x{self.header.height}: they must be of one size"
                )
            yield picture

    def _read(self, index: int) -> np.ndarray:
        import cv2

        self._tick()
        name = self._series.names[index]
        try:
            data = np.frombuffer((self._folder / name).read_bytes(), np.uint8)
            bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        except OSError as error:
            raise Unreadable(f"{name} cannot be read: {error.strerror}") from error
        except cv2.error as error:  # more pixels than OpenCV takes
            raise Unreadable(f"{name} cannot be decoded: {error.err or error}") from error
        if bgr is None:
            what = "is empty" if not len(data) else "is damaged, or no picture"
            raise Unreadable(f"{name} {what}")
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
