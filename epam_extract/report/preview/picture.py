"""The picture: a time line of the video, and a row for each of a few windows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from ...config import POSE_FRAMES, RGB_FRAMES, RGB_SIZE, RGB_STEP
from ...windows import rows_to_show
from .drawing import (
    JOINT_GROUPS,
    LINE,
    MUTED,
    WINDOW,
    blank,
    fill,
    fitted,
    heat_layer,
    label,
    light_only,
    lit,
    outline,
    paste,
    resized,
    shortened,
    text_width,
    write,
    write_pairs,
)
from .scene import Scene
from .skeletons import cropped, people_panel
from .timeline import TimeLine, clock

ROWS = 4  # most windows shown
CELLS = 6  # of a window's 16 RGB frames
MARGIN, GAP, BETWEEN = 32, 6, 24
CELL = RGB_SIZE // 2
CAPTION = 18  # between crops and heatmaps, for their time
PANEL = 2 * CELL + CAPTION  # height of a row's pictures
WIDEST, NARROWEST = round(PANEL * 16 / 9), PANEL  # column of the frames
ROW_TITLE = 30
CENTER = POSE_FRAMES // 2  # its frame is RGB frame 8


def chosen_windows(scene: Scene, count: int = ROWS) -> list[int]:
    """Up to ``count`` windows, spread over the video, that show people for longest."""
    return rows_to_show(scene.person * scene.valid, count)


def draw_sheet(scene: Scene) -> np.ndarray:
    """The whole picture, (height, width, 3) uint8 RGB."""
    video = scene.video
    rows = chosen_windows(scene)
    frame_size = fitted(video.height, video.width, PANEL, WIDEST)
    strip = CELLS * CELL + (CELLS - 1) * GAP
    second = MARGIN + max(frame_size[1], NARROWEST) + BETWEEN
    columns = [MARGIN, second, second + strip + BETWEEN]
    width = columns[2] + PANEL + MARGIN
    line = TimeLine.of(scene, width - 2 * MARGIN)
    top = 120
    first_row = top + line.height + 40
    height = first_row + 22 + len(rows) * (ROW_TITLE + PANEL + BETWEEN) + 8
    canvas = blank(height, width)
    _title(canvas, scene)
    paste(canvas, line.draw(rows), MARGIN, top)
    _headings(canvas, columns, first_row)
    places = {row: first_row + 22 + i * (ROW_TITLE + PANEL + BETWEEN) for i, row in enumerate(rows)}
    for row, y in places.items():
        _row_title(canvas, scene, row, y)
        _heat_cells(canvas, scene, row, columns[1], y + ROW_TITLE)
    _pictures(canvas, scene, places, columns, frame_size)
    return canvas


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture; the suffix of ``path`` does not matter. Raises OSError."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())


def shown_positions() -> np.ndarray:
    """Which of a window's 16 RGB frames are shown: (CELLS,) increasing."""
    return np.linspace(0, RGB_FRAMES - 1, CELLS).round().astype(int)


def _title(canvas: np.ndarray, scene: Scene) -> None:
    video, windows = scene.video, scene.config.windows
    right = canvas.shape[1] - MARGIN
    x = right
    for name, (color, _) in reversed(JOINT_GROUPS.items()):
        x -= text_width(name)
        write(canvas, name, x, 46, color=MUTED)
        x -= 14
        cv2.circle(canvas, (x + 4, 42), 5, color, -1, cv2.LINE_AA)
        x -= 16
    x -= text_width("window's box")
    write(canvas, "window's box", x, 46, color=MUTED)
    outline(canvas, (x - 18, 36, x - 6, 48), WINDOW)
    name = shortened(video.path.name, x - MARGIN - 60, size=17, bold=True)
    write(canvas, name, MARGIN - 2, 48, size=17, bold=True)
    grid = windows.grid if windows.grid == "single" else f"{windows.grid}, stride {windows.stride}"
    interval = windows.frame_interval
    every = f", every {interval} frames" if interval > 1 and windows.grid != "single" else ""
    share = float((scene.people > 0).mean())
    shown = [
        [
            ("video", f"{video.width} x {video.height}"),
            ("frames", f"{video.num_frames} at {float(video.fps):.4g} a second"),
            ("seconds", f"{video.duration:.4g}"),
            ("frames with a person", f"{share:.0%}"),
        ],
        [
            ("windows", f"{len(scene.windows)} of {POSE_FRAMES} frames{every}, {grid}"),
            ("pose models", scene.models),
        ],
    ]
    for line, pairs in enumerate(shown):
        write_pairs(canvas, pairs, MARGIN - 2, 76 + 22 * line)


def _headings(canvas: np.ndarray, columns: Sequence[int], y: int) -> None:
    fill(canvas, MARGIN, y - 22, canvas.shape[1] - MARGIN, y - 21, LINE)
    texts = (
        "frame at the window's centre",
        f"{CELLS} of the {RGB_FRAMES} RGB crops, and the heatmaps of the same frames",
        f"all {POSE_FRAMES} heatmaps on the crop",
    )
    for text, x in zip(texts, columns, strict=True):
        write(canvas, text, x - 2, y, size=10, color=MUTED)


def _row_title(canvas: np.ndarray, scene: Scene, row: int, y: int) -> None:
    start, center, end = scene.times[row]
    x1, y1, x2, y2 = scene.rgb_box(row)
    x = write(canvas, f"window {row}", MARGIN - 2, y + 19, size=13, bold=True, color=WINDOW)
    write_pairs(
        canvas,
        [
            ("", f"{start:.2f} - {end:.2f} s"),
            ("centre", clock(center)),
            ("person in", f"{round(scene.person[row] * POSE_FRAMES)} of {POSE_FRAMES} frames"),
            ("inside the video", f"{scene.valid[row]:.0%}"),
            ("box", f"{x2 - x1} x {y2 - y1} at {x1}, {y1}"),
        ],
        x + 14,
        y + 19,
    )


def _heat_cells(canvas: np.ndarray, scene: Scene, row: int, x: int, y: int) -> None:
    positions = shown_positions() * RGB_STEP
    heatmaps = scene.heatmaps(row, positions)  # (17, CELLS, 56, 56)
    for cell, position in enumerate(positions):
        left = x + cell * (CELL + GAP)
        light = heat_layer(heatmaps[:, cell], CELL)
        paste(canvas, light_only(light), left, y + CELL + CAPTION)
        frame = scene.windows[row, position]
        moment = f"{scene.video.timestamps[frame]:.2f} s"
        write(canvas, moment, left + CELL / 2, y + CELL + 13, size=8, color=MUTED, align="center")


def _pictures(
    canvas: np.ndarray,
    scene: Scene,
    places: dict[int, int],
    columns: Sequence[int],
    frame_size: tuple[int, int],
) -> None:
    """Draw everything that needs frames, in one pass over the video."""
    positions = shown_positions() * RGB_STEP
    wanted: dict[int, list[tuple[int, int | None]]] = {}
    for row in places:
        wanted.setdefault(int(scene.windows[row, CENTER]), []).append((row, None))
        for cell, position in enumerate(positions):
            wanted.setdefault(int(scene.windows[row, position]), []).append((row, cell))
    with closing(scene.frames()) as frames:
        for index, frame in frames:
            for row, place in wanted.pop(index, ()):
                y = places[row] + ROW_TITLE
                if place is None:
                    _center(
                        canvas, scene, row, index, frame, (columns[0], columns[2], y), frame_size
                    )
                else:
                    crop = cropped(frame, scene.rgb_box(row), RGB_SIZE)
                    paste(canvas, resized(crop, CELL, CELL), columns[1] + place * (CELL + GAP), y)
            if not wanted:
                return


def _center(
    canvas: np.ndarray,
    scene: Scene,
    row: int,
    index: int,
    frame: np.ndarray,
    place: tuple[int, int, int],
    size: tuple[int, int],
) -> None:
    """The frame with its people on the left; all heatmaps of the window on the right."""
    left, right, y = place
    height, width = size
    panel = people_panel(
        frame,
        scene.track.keypoints[:, index],
        scene.track.keypoint_scores[:, index],
        height=height,
        width=width,
        box=scene.rgb_box(row),
    )
    paste(canvas, panel, left, y + (PANEL - height) // 2)
    light = heat_layer(scene.heatmaps(row).max(1), PANEL, brighter=1)
    crop = cropped(frame, scene.pose_box(row), PANEL)
    paste(canvas, lit(crop, light, keep=0.5), right, y)
    label(canvas, f"frame {index}", left, y + PANEL)
