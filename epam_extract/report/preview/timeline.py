"""The time line: small frames, number of people, windows and seconds of a whole video."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .drawing import (
    BACKGROUND,
    EMPTY,
    LINE,
    MUTED,
    PEOPLE,
    TEXT,
    WINDOW,
    blank,
    covered,
    fill,
    mix,
    paste,
    text_width,
    write,
)
from .scene import Scene

GUTTER = 86  # on the left, for the names of the rows
PICTURES, CROWD, LANE, AXIS = 44, 26, 11, 22  # heights of the rows
GAP = 7
MAX_PICTURES = 48
MAX_LANES = 4  # of overlapping windows; with more, all share one row
LABEL_WIDTH = 22  # least width of a window's bar with a number
TICK_WIDTH = 74  # least distance between labels of the axis
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18000, 43200)


@dataclass(frozen=True)
class TimeLine:
    """What the time line shows. Windows are numbered from 0, as in the file."""

    timestamps: np.ndarray
    """(T,) seconds."""
    end: float
    """When the last frame ends."""
    people: np.ndarray
    """(T,) number of people in each frame."""
    windows: np.ndarray
    """(W, 3) start, centre and end in seconds."""
    person: np.ndarray
    """(W,) share of each window's frames with a person."""
    pictures: Sequence[np.ndarray]
    """Frames spread evenly over the video, RGB, small."""
    width: int

    @classmethod
    def of(cls, scene: Scene, width: int) -> TimeLine:
        """The time line of a scene, ``width`` pixels wide."""
        return cls(
            timestamps=scene.video.timestamps,
            end=float(scene.video.timestamps[-1]) + scene.frame_seconds,
            people=scene.people,
            windows=scene.times,
            person=scene.person,
            pictures=scene.pictures,
            width=width,
        )

    @property
    def lanes(self) -> int:
        """Number of lanes on which no two windows overlap."""
        if len(self.windows) < 2:
            return 1
        step = float(np.diff(self.windows[:, 1]).mean())
        longest = float((self.windows[:, 2] - self.windows[:, 0]).max())
        return max(math.ceil(longest / max(step, 1e-9) - 0.01), 1)

    @property
    def narrow(self) -> bool:
        """Whether windows are too close to be drawn one by one."""
        apart = (self.width - GUTTER) / len(self.windows)
        return self.lanes > MAX_LANES or apart * self.lanes < 4

    @property
    def height(self) -> int:
        return PICTURES + GAP + CROWD + GAP + self._windows_height + AXIS

    @property
    def _windows_height(self) -> int:
        return 2 * LANE if self.narrow else self.lanes * LANE

    def x(self, seconds: float) -> float:
        """The x of a time."""
        start = self.timestamps[0]
        share = (seconds - start) / max(self.end - start, 1e-9)
        return GUTTER + float(np.clip(share, 0, 1)) * (self.width - GUTTER)

    def draw(self, shown: Collection[int] = ()) -> np.ndarray:
        """The time line as (height, width, 3) uint8; the windows in ``shown`` are highlighted."""
        canvas = blank(self.height, self.width)
        y = 0
        self._pictures(canvas, y)
        y += PICTURES + GAP
        self._crowd(canvas, y)
        y += CROWD + GAP
        (self._columns if self.narrow else self._bars)(canvas, y, shown)
        write(canvas, "windows", 0, y + self._windows_height // 2 + 4, size=9, color=MUTED)
        self._axis(canvas, y + self._windows_height)
        return canvas

    def cursor(self, canvas: np.ndarray, seconds: float) -> None:
        """Mark a time on a drawn time line."""
        x = min(round(self.x(seconds)), self.width - 2)
        canvas[: self.height - AXIS + 4, x : x + 2] = TEXT

    def _pictures(self, canvas: np.ndarray, y: int) -> None:
        write(canvas, "frames", 0, y + PICTURES // 2 + 4, size=9, color=MUTED)
        height, width = self.pictures[0].shape[:2]
        count = min(max(round((self.width - GUTTER) * height / width / PICTURES), 1), MAX_PICTURES)
        edges = np.linspace(GUTTER, self.width, count + 1).round().astype(int)
        for cell, (left, right) in enumerate(itertools.pairwise(edges)):
            picture = self.pictures[int((cell + 0.5) * len(self.pictures) / count)]
            paste(canvas, covered(picture, PICTURES, max(right - left - 1, 1)), left, y)

    def _crowd(self, canvas: np.ndarray, y: int) -> None:
        write(canvas, "people", 0, y + CROWD // 2 + 4, size=9, color=MUTED)
        most = int(self.people.max())
        columns = self.width - GUTTER
        moments = self.timestamps[0] + (np.arange(columns) + 0.5) / columns * (
            self.end - self.timestamps[0]
        )
        frame = np.clip(np.searchsorted(self.timestamps, moments, "right") - 1, 0, None)
        canvas[y : y + CROWD, GUTTER:] = EMPTY
        heights = np.ceil(self.people[frame] / max(most, 1) * CROWD).astype(int)
        row = np.arange(CROWD)[:, None]  # (CROWD, 1) against (columns,)
        canvas[y : y + CROWD, GUTTER:][row >= CROWD - heights] = PEOPLE
        write(
            canvas, f"0-{most}", GUTTER - 10, y + CROWD // 2 + 4, size=8, color=MUTED, align="right"
        )

    def _bars(self, canvas: np.ndarray, y: int, shown: Collection[int]) -> None:
        """A bar from the start to the end of each window."""
        for row, (start, _, end) in enumerate(self.windows):
            top = y + row % self.lanes * LANE
            left, right = self.x(start), self.x(end) - 1
            color = WINDOW if row in shown else mix(LINE, PEOPLE, 0.6 * float(self.person[row]))
            fill(canvas, left, top, right, top + LANE - 2, color)
            if row in shown and right - left > LABEL_WIDTH:
                write(
                    canvas, str(row), left + 3, top + LANE - 3, size=8, color=BACKGROUND, bold=True
                )

    def _columns(self, canvas: np.ndarray, y: int, shown: Collection[int]) -> None:
        """Each column in the colour of the window with the nearest centre."""
        centers = self.windows[:, 1]
        span = self.end - self.timestamps[0]
        for column in range(self.width - GUTTER):
            moment = self.timestamps[0] + (column + 0.5) / (self.width - GUTTER) * span
            row = int(np.abs(centers - moment).argmin())
            color = mix(LINE, PEOPLE, 0.6 * float(self.person[row]))
            canvas[y : y + LANE - 2, GUTTER + column] = color
        for row in shown:
            x = self.x(self.windows[row, 1])
            fill(canvas, x - 1, y, x + 1, y + LANE, WINDOW)
            label = str(row)
            half = text_width(label, size=8, bold=True) / 2
            x = min(max(x, GUTTER + half), self.width - half)
            write(canvas, label, x, y + 2 * LANE, size=8, color=WINDOW, bold=True, align="center")

    def _axis(self, canvas: np.ndarray, y: int) -> None:
        start, span = self.timestamps[0], max(self.end - self.timestamps[0], 1e-9)
        wanted = span * TICK_WIDTH / (self.width - GUTTER)
        step = next((step for step in STEPS if step >= wanted), STEPS[-1])
        first = math.ceil(start / step - 1e-6)
        for tick in range(first, math.floor(self.end / step + 1e-6) + 1):
            moment = tick * step
            x = min(self.x(moment), self.width - 1)
            fill(canvas, x, y, x + 1, y + 4, MUTED)
            label = clock(moment, step)
            half = text_width(label, size=9) / 2
            middle = min(max(x, GUTTER + half - 2), self.width - half)
            write(canvas, label, middle, y + 17, size=9, color=MUTED, align="center")


def clock(seconds: float, step: float = 0.01) -> str:
    """``4 s``, ``0.5 s`` or ``2:05``, as exact as steps of ``step`` seconds need."""
    if step >= 30 or abs(seconds) >= 600:
        sign, whole = "-" if seconds < 0 else "", round(abs(seconds))
        hours, minutes = divmod(whole // 60, 60)
        if hours:
            return f"{sign}{hours}:{minutes:02d}:{whole % 60:02d}"
        return f"{sign}{minutes}:{whole % 60:02d}"
    digits = 0 if step >= 1 else 1 if step >= 0.1 else 2
    return f"{seconds:.{digits}f} s"
