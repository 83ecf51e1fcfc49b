"""Text, panels and colours of previews: drawing on RGB pictures with OpenCV.

Everything is drawn larger and scaled down, so that edges are smooth with any version of OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

Color = tuple[int, int, int]

BACKGROUND: Color = (21, 22, 26)
EMPTY: Color = (36, 38, 44)
LINE: Color = (66, 69, 78)
MUTED: Color = (150, 154, 164)
TEXT: Color = (232, 234, 238)
WINDOW: Color = (255, 84, 148)  # the box, and windows that are shown
PEOPLE: Color = (74, 190, 180)

# The colours of rtmlib's COCO skeleton, the same for heatmaps and skeletons.
JOINT_GROUPS: dict[str, tuple[Color, tuple[int, ...]]] = {
    "head": ((51, 153, 255), (0, 1, 2, 3, 4)),
    "left": ((0, 255, 0), (5, 7, 9, 11, 13, 15)),
    "right": ((255, 128, 0), (6, 8, 10, 12, 14, 16)),
}

SMOOTH = 3  # factor by which text is drawn larger
FONT_HEIGHT = 22  # approximate height of a capital in pixels at OpenCV's font scale 1
STROKES = int(cv2.__version__.split(".")[0]) < 5  # OpenCV 5 has real fonts: 1 regular, 2 bold
BRIGHTER = 0.6  # exponent, since a peak between two pixels of a heatmap is only 0.5


def blank(height: int, width: int, color: Color = BACKGROUND) -> np.ndarray:
    """(height, width, 3) uint8 of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def mix(first: Color, second: Color, share: float) -> Color:
    """The colour ``share`` (0 to 1) of the way from ``first`` to ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize by area if it shrinks a lot, else bilinearly, which is ten times faster."""
    shrinks = height * width * 2 < picture.shape[0] * picture.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=how)


def fitted(height: int, width: int, max_height: int, max_width: int) -> tuple[int, int]:
    """The largest (height, width) with the same aspect ratio within a maximum; at least 1 pixel."""
    scale = min(max_height / height, max_width / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def covered(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill (height, width) with the middle of a picture, keeping its aspect ratio."""
    have_height, have_width = picture.shape[:2]
    scale = min(have_height / height, have_width / width)
    cut_height = min(max(round(height * scale), 1), have_height)
    cut_width = min(max(round(width * scale), 1), have_width)
    top, left = (have_height - cut_height) // 2, (have_width - cut_width) // 2
    return resized(picture[top : top + cut_height, left : left + cut_width], height, width)


def paste(canvas: np.ndarray, picture: np.ndarray, x: int, y: int) -> None:
    """Draw a picture with its top left corner at x, y, clipped to the canvas."""
    height, width = canvas.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + picture.shape[1], width), min(y + picture.shape[0], height)
    if right > left and bottom > top:
        canvas[top:bottom, left:right] = picture[top - y : bottom - y, left - x : right - x]


def fill(canvas: np.ndarray, x1: float, y1: int, x2: float, y2: int, color: Color) -> None:
    """A filled rectangle, x2 and y2 not included; at least a pixel wide."""
    left = max(round(x1), 0)
    canvas[max(y1, 0) : y2, left : max(round(x2), left + 1)] = color


def outline(
    canvas: np.ndarray, box: Sequence[float] | np.ndarray, color: Color, *, width: int = 2
) -> None:
    """The border of a box x1, y1, x2, y2, inside it and inside the canvas."""
    height, across = canvas.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    x1, x2 = min(max(x1, 0), across - 1), min(max(x2, 1), across)
    y1, y2 = min(max(y1, 0), height - 1), min(max(y2, 1), height)
    for rows, columns in (
        (slice(y1, y1 + width), slice(x1, x2)),
        (slice(max(y2 - width, y1), y2), slice(x1, x2)),
        (slice(y1, y2), slice(x1, x1 + width)),
        (slice(y1, y2), slice(max(x2 - width, x1), x2)),
    ):
        canvas[rows, columns] = color


# ---------------------------------------------------------------------------------------- text


@lru_cache(maxsize=2048)
def _text_mask(text: str, size: float, bold: bool) -> tuple[np.ndarray, int]:
    """Coverage (h, w, 1) float32 in [0, 1] of a line of text, and its baseline's row."""
    scale = size * SMOOTH / FONT_HEIGHT
    thick = max(round((3 if bold else 2) * scale), 1) if STROKES else 2 if bold else 1
    font, pad = cv2.FONT_HERSHEY_SIMPLEX, SMOOTH
    (width, above), below = cv2.getTextSize(text, font, scale, thick)
    rise = -(-(above + thick) // SMOOTH) * SMOOTH  # whole rows, so that baselines align
    rows = rise + -(-(below + thick + pad) // SMOOTH) * SMOOTH
    columns = -(-(width + 2 * pad) // SMOOTH) * SMOOTH
    large = np.zeros((rows, columns), np.uint8)
    cv2.putText(large, text, (pad, rise), font, scale, 255, thick, cv2.LINE_AA)
    small = resized(large, rows // SMOOTH, columns // SMOOTH)
    return small[..., None].astype(np.float32) / 255, rise // SMOOTH


def printable(text: str) -> str:
    """OpenCV's fonts hold ASCII for certain; other characters become a question mark."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def text_width(text: str, *, size: float = 11, bold: bool = False) -> int:
    """Pixels that a line of text takes."""
    return _text_mask(printable(text), size, bold)[0].shape[1] if text else 0


def shortened(text: str, width: int, *, size: float = 11, bold: bool = False) -> str:
    """``text``, its middle left out where it is wider than ``width`` pixels."""
    kept = len(text)
    short = text
    while kept > 2 and text_width(short, size=size, bold=bold) > width:
        kept -= 1
        short = f"{text[: -(-kept // 2)]}...{text[len(text) - kept // 2 :]}"
    return short


def write(
    canvas: np.ndarray,
    text: str,
    x: float,
    y: int,
    *,
    size: float = 11,
    color: Color = TEXT,
    bold: bool = False,
    align: str = "left",
) -> int:
    """Write a line whose baseline is at row ``y``; returns the x where it ends.

    ``x`` is its left end, its right end or its middle, by ``align``. ``size`` is a capital's height
    in pixels. What lies outside the canvas is cut off.
    """
    if not text:
        return round(x)
    text = printable(text)
    mask, rise = _text_mask(text, size, bold)
    height, width = mask.shape[:2]
    left = round(x - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * width)
    top = y - rise
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, canvas.shape[1]), min(top + height, canvas.shape[0])
    if x2 > x1 and y2 > y1:
        cover = mask[y1 - top : y2 - top, x1 - left : x2 - left]
        there = canvas[y1:y2, x1:x2]
        there[:] = np.rint(there + (np.array(color, np.float32) - there) * cover)
    return left + width


def label(canvas: np.ndarray, text: str, x: int, y: int, *, size: float = 9) -> None:
    """Write a line on a dark background whose bottom left corner is at x, y."""
    height, width = round(size + 11), text_width(text, size=size) + 10
    plate = canvas[max(y - height, 0) : y, x : x + width]
    plate[:] = plate * 0.3
    write(canvas, text, x + 5, y - 6, size=size)


def write_pairs(
    canvas: np.ndarray, pairs: Sequence[tuple[str, str]], x: int, y: int, *, size: float = 11
) -> int:
    """Write names, muted, with their values, bright; returns the x where they end."""
    for name, value in pairs:
        x = write(canvas, f"{name} ", x, y, size=size, color=MUTED) if name else x
        x = write(canvas, value, x, y, size=size) + 18
    return x


def pairs_width(pairs: Sequence[tuple[str, str]], *, size: float = 11) -> int:
    """Pixels that :func:`write_pairs` takes."""
    texts = [text for name, value in pairs for text in (f"{name} " if name else "", value)]
    return sum(text_width(text, size=size) for text in texts) + 18 * len(pairs) - 18


# ------------------------------------------------------------------------------------ heatmaps


def heat_layer(heatmaps: np.ndarray, size: int, *, brighter: float = BRIGHTER) -> np.ndarray:
    """Heatmaps (17, h, w) in [0, 1] as light (size, size, 3) float32, up to 255.

    The maximum over each group of joints, in the group's colour, to the power of ``brighter``.
    """
    light = np.zeros((size, size, 3), np.float32)
    for color, joints in JOINT_GROUPS.values():
        strength = cv2.resize(heatmaps[list(joints)].max(0), (size, size)) ** brighter
        np.maximum(light, strength[..., None] * np.array(color, np.float32), out=light)
    return light


def put_light(picture: np.ndarray, light: np.ndarray) -> None:
    """Overlay light (h, w, 3), up to 255, on a picture of that size; brighter is more opaque."""
    dense = light.max(-1, keepdims=True) > 0
    rows = np.flatnonzero(dense.any((1, 2)))
    if not len(rows):
        return
    where = slice(rows[0], rows[-1] + 1)
    strong = light[where].astype(np.float32)
    through = 1 - strong.max(-1, keepdims=True) / 255
    picture[where] = np.rint(picture[where] * through + strong).astype(np.uint8)


def lit(picture: np.ndarray, light: np.ndarray, *, keep: float) -> np.ndarray:
    """A picture in grey, dimmed to ``keep`` of its brightness, with light on it."""
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    dim = (grey * keep).astype(np.uint8)
    put_light(dim, light)
    return dim


def light_only(light: np.ndarray) -> np.ndarray:
    """Light on a nearly black background."""
    ground = np.array((12, 12, 15), np.float32)
    return np.clip(np.maximum(light, ground), 0, 255).astype(np.uint8)
