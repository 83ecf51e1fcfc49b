"""The film: every frame with its people, the network's input, and a time line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from ...config import HEATMAP_SIZE, POSE_FRAMES, RGB_FRAMES, RGB_SIZE, RGB_STEP
from .drawing import (
    EMPTY,
    LINE,
    MUTED,
    WINDOW,
    blank,
    fill,
    fitted,
    heat_layer,
    light_only,
    lit,
    pairs_width,
    paste,
    resized,
    shortened,
    text_width,
    write,
    write_pairs,
)
from .scene import Scene
from .skeletons import cropped, people_panel
from .timeline import TimeLine

HEIGHT, WIDTH = 872, 1440
MARGIN, BETWEEN = 24, 24
TOP = 66  # y of the pictures
SIDE = 5 * HEATMAP_SIZE  # size of crop and heatmaps
SIDE_X = WIDTH - MARGIN - SIDE
CELLS_HEIGHT, CAPTION = 5, 22
HEATMAP_TOP = TOP + CAPTION + SIDE + CELLS_HEIGHT + 16 + CAPTION


@dataclass
class Crops:
    """The RGB crop to show at each frame, given the frames in order.

    For each window, its latest RGB frame so far is shown. When the film moves to the next window,
    that frame may already have passed, so crops for the next windows are cut in advance.
    """

    scene: Scene
    _cut: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def ahead(self) -> int:
        """Number of following windows to cut crops for."""
        windows = self.scene.config.windows
        return -(-RGB_STEP * windows.frame_interval // windows.stride)

    def see(self, index: int, frame: np.ndarray, row: int) -> np.ndarray | None:
        """The crop (224, 224, 3) to show at frame ``index`` in window ``row``; None before any."""
        for passed in [old for old in self._cut if old < row]:
            del self._cut[passed]
        for coming in range(row, min(row + self.ahead + 1, len(self.scene.windows))):
            if index in self.scene.windows[coming, ::RGB_STEP]:
                self._cut[coming] = cropped(frame, self.scene.rgb_box(coming), RGB_SIZE)
        return self._cut.get(row)


def draw_film(scene: Scene) -> Iterator[np.ndarray]:
    """Every frame of the video as a picture (872, 1440, 3) uint8 RGB."""
    line = TimeLine.of(scene, WIDTH - 2 * MARGIN)
    line_top = HEIGHT - MARGIN // 2 - line.height
    space = (line_top - TOP - BETWEEN, SIDE_X - MARGIN - BETWEEN)
    size = fitted(scene.video.height, scene.video.width, *space)
    ground = blank(HEIGHT, WIDTH)
    _labels(ground, scene)
    crops, now_left = Crops(scene), _now_left(scene)
    strip, strip_row = blank(1, 1), -1
    with closing(scene.frames()) as frames:
        for index, frame in frames:
            row = scene.row_at(index)
            window = scene.windows[row]
            inside = bool(window.min() <= index <= window.max())
            if row != strip_row:
                strip, strip_row = line.draw([row]), row
            canvas = ground.copy()
            _frame(canvas, scene, index, frame, row if inside else None, size, space)
            crop = crops.see(index, frame, row)
            if inside:
                _side(canvas, scene, index, row, crop)
            _now(canvas, scene, index, row, now_left)
            moved = strip.copy()
            line.cursor(moved, scene.video.timestamps[index])
            paste(canvas, moved, MARGIN, line_top)
            yield canvas


def _labels(canvas: np.ndarray, scene: Scene) -> None:
    """Draw what does not change."""
    fill(canvas, MARGIN, TOP - 8, WIDTH - MARGIN, TOP - 7, LINE)
    name = shortened(scene.video.path.name, _now_left(scene) - 2 * MARGIN, size=15, bold=True)
    write(canvas, name, MARGIN - 2, 38, size=15, bold=True)
    write(canvas, f"RGB crop, {RGB_FRAMES} a window", SIDE_X - 2, TOP + 12, size=9, color=MUTED)
    text = f"heatmaps, {POSE_FRAMES} a window"
    write(canvas, text, SIDE_X - 2, HEATMAP_TOP - 10, size=9, color=MUTED)
    for top in (TOP + CAPTION, HEATMAP_TOP):
        fill(canvas, SIDE_X, top, SIDE_X + SIDE, top + SIDE, EMPTY)


def _frame(
    canvas: np.ndarray,
    scene: Scene,
    index: int,
    frame: np.ndarray,
    row: int | None,
    size: tuple[int, int],
    space: tuple[int, int],
) -> None:
    """The frame with its people and, inside a window, the window's box."""
    height, width = size
    panel = people_panel(
        frame,
        scene.track.keypoints[:, index],
        scene.track.keypoint_scores[:, index],
        height=height,
        width=width,
        box=None if row is None else scene.rgb_box(row),
    )
    paste(canvas, panel, MARGIN + (space[1] - width) // 2, TOP)


def _side(canvas: np.ndarray, scene: Scene, index: int, row: int, crop: np.ndarray | None) -> None:
    """Crop and heatmaps of the current window, and which of its frames they are."""
    window = scene.windows[row]
    seen = int(np.searchsorted(window, index, "right")) - 1  # the last of its 48 so far
    if crop is not None:
        crop = resized(crop, SIDE, SIDE)
        paste(canvas, crop, SIDE_X, TOP + CAPTION)
    _cells(canvas, TOP + CAPTION + SIDE + 6, RGB_FRAMES, seen // RGB_STEP)
    light = heat_layer(scene.heatmaps(row, np.array([seen]))[:, 0], SIDE)
    picture = light_only(light)
    if crop is not None and scene.video_box is None:  # both have the same box
        picture = lit(crop, light, keep=0.3)
    paste(canvas, picture, SIDE_X, HEATMAP_TOP)
    _cells(canvas, HEATMAP_TOP + SIDE + 6, POSE_FRAMES, seen)


def _cells(canvas: np.ndarray, y: int, count: int, now: int) -> None:
    """One cell per frame that a stream takes from a window; the current one is highlighted."""
    for cell in range(count):
        left, right = (SIDE_X + round(SIDE * edge / count) for edge in (cell, cell + 1))
        color = WINDOW if cell == now else MUTED if cell < now else LINE
        fill(canvas, left, y, right - 1, y + CELLS_HEIGHT, color)


def _now(canvas: np.ndarray, scene: Scene, index: int, row: int, x: int) -> None:
    """Write the current window and time, starting at ``x``."""
    x = write(canvas, f"window {row}", x, 38, size=12, bold=True, color=WINDOW) + 18
    write_pairs(canvas, _pairs(scene, index, row), x, 38, size=10)


def _pairs(scene: Scene, index: int, row: int) -> list[tuple[str, str]]:
    return [
        ("", f"{scene.video.timestamps[index]:.2f} s"),
        ("frame", f"{index} of {scene.video.num_frames}"),
        ("people", str(scene.people[index])),
        ("inside the video", f"{scene.valid[row]:.0%}"),
        ("person in", f"{round(scene.person[row] * POSE_FRAMES)} of {POSE_FRAMES}"),
    ]


def _now_left(scene: Scene) -> int:
    """The x at which :func:`_now` must start to end at the right margin without moving."""
    frame, row = scene.video.num_frames - 1, len(scene.windows) - 1
    width = pairs_width(_pairs(scene, frame, row), size=10) + 30  # a digit or two more
    return WIDTH - MARGIN - width - 18 - text_width(f"window {row}", size=12, bold=True)
