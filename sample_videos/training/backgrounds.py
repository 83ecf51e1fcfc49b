"""What stands behind people: painted walls and floors of rooms, and plain abstract clutter."""

from __future__ import annotations

import cv2
import numpy as np

from .surfaces import Array, cloud, hsv, pattern, random_colour, texture

PIXELS_PER_METRE = 60
Box = tuple[int, int, int, int]


def colour_of(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return a random colour as OpenCV's drawing functions want it."""
    b, g, r = random_colour(rng)
    return float(b), float(g), float(r)


def paint_clutter(image: Array, rng: np.random.Generator, count: int) -> None:
    """Draw shapes, lines and words at random places into ``image`` (H, W, 3), in place."""
    height, width = image.shape[:2]
    for _ in range(count):
        kind, colour = int(rng.integers(7)), colour_of(rng)
        x, y = (int(v) for v in rng.integers(-20, [width + 20, height + 20]))
        w, h = (int(v) for v in rng.integers(5, 120, 2))
        thick = int(rng.integers(1, 9))
        fill = -1 if rng.random() < 0.7 else thick
        if kind <= 1:
            cv2.rectangle(image, (x, y), (x + w, y + h), colour, fill)
        elif kind == 2:
            angle = float(rng.integers(180))
            cv2.ellipse(image, (x, y), (w // 2, h // 2), angle, 0, 360, colour, fill, cv2.LINE_AA)
        elif kind == 3:
            end = (x + int(rng.integers(-150, 150)), y + int(rng.integers(-150, 150)))
            cv2.line(image, (x, y), end, colour, thick, cv2.LINE_AA)
        elif kind == 4:
            corners = np.array([x, y]) + rng.integers(-70, 70, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(image, [corners.astype(np.int32)], colour, cv2.LINE_AA)
        elif kind == 5:
            x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
            if x1 - x0 > 4 and y1 - y0 > 4:
                image[y0:y1, x0:x1] = texture(rng, y1 - y0, x1 - x0)
        else:
            steps = rng.integers(-25, 25, (int(rng.integers(4, 20)), 2))
            corners = (np.array([x, y]) + np.cumsum(steps, 0)).astype(np.int32)
            cv2.polylines(image, [corners], False, colour, thick, cv2.LINE_AA)


def abstract(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return a (height, width, 3) float32 background of textures and clutter, like no room."""
    image = texture(rng, height, width)
    if rng.random() < 0.65:
        horizon = int(rng.uniform(0.4, 0.85) * height)
        image[horizon:] = texture(rng, height - horizon, width)
    image = image * (0.6 + 0.6 * cloud(rng, height, width, (3, 6))[..., None])
    image = np.ascontiguousarray(image, np.float32)
    paint_clutter(image, rng, int(rng.integers(0, 25)))
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.5))
    return image.clip(0, 255)


def paint_picture(image: Array, rng: np.random.Generator, box: Box) -> None:
    """A framed picture or poster: shapes, blobs and lines, sometimes like a figure."""
    x0, y0, x1, y1 = box
    cv2.rectangle(image, (x0, y0), (x1, y1), colour_of(rng), -1)
    inner = image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
    if min(inner.shape[:2]) < 6:
        return
    inner[:] = texture(rng, *inner.shape[:2])
    h, w = inner.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        at = (int(rng.integers(w)), int(rng.integers(h)))
        axes = (int(rng.integers(2, max(3, w // 3))), int(rng.integers(2, max(3, h // 3))))
        cv2.ellipse(inner, at, axes, float(rng.integers(180)), 0, 360, colour_of(rng), -1)
    if rng.random() < 0.4:
        words = "".join(chr(v) for v in rng.integers(65, 91, int(rng.integers(2, 8))))
        ink = np.zeros((h, w), np.uint8)  # OpenCV writes into bytes alone
        cv2.putText(ink, words, (2, h // 2), 0, rng.uniform(0.3, 0.9), 255, 1)
        inner[ink > 0] = colour_of(rng)


def paint_window(image: Array, rng: np.random.Generator, box: Box) -> None:
    """A bright pane with bars, sometimes with a view, sometimes with a blind."""
    x0, y0, x1, y1 = box
    pane = image[y0:y1, x0:x1]
    h, w = pane.shape[:2]
    if min(h, w) < 6:
        return
    sky = rng.uniform(180, 255) if rng.random() < 0.75 else rng.uniform(5, 60)
    pane[:] = sky + 25 * (cloud(rng, h, w)[..., None] - 0.5)
    if rng.random() < 0.4:
        horizon = int(h * rng.uniform(0.4, 0.9))
        pane[horizon:] = texture(rng, h - horizon, w) if h - horizon > 4 else pane[horizon:]
    if rng.random() < 0.3:
        pane[:: int(rng.integers(4, 8))] = rng.uniform(120, 240)
    bar = colour_of(rng)
    cv2.rectangle(image, (x0, y0), (x1, y1), bar, 3)
    for k in range(1, int(rng.integers(1, 4))):
        x = x0 + (x1 - x0) * k // 3
        cv2.line(image, (x, y0), (x, y1), bar, 2)


def paint_door(image: Array, rng: np.random.Generator, box: Box) -> None:
    """A door: a person's height and proportions, but flat."""
    x0, y0, x1, y1 = box
    colour = colour_of(rng)
    dark = (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7)
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, -1)
    cv2.rectangle(image, (x0, y0), (x1, y1), dark, 2)
    for k in range(int(rng.integers(0, 3))):
        top = y0 + (y1 - y0) * (k + 1) // 4
        cv2.rectangle(image, (x0 + 8, top), (x1 - 8, top + (y1 - y0) // 5), dark, 1)
    cv2.circle(image, (x1 - 6, (y0 + y1) // 2), 2, (40, 60, 60), -1)


def paint_curtain(image: Array, rng: np.random.Generator, box: Box) -> None:
    """Hanging cloth with folds."""
    x0, y0, x1, y1 = box
    cloth = image[y0:y1, x0:x1]
    x = np.arange(cloth.shape[1], dtype=np.float32)
    folds = np.sin(x * rng.uniform(0.4, 1.2) + 2 * np.sin(x * 0.2 + rng.uniform(0, 6)))
    cloth[:] = random_colour(rng) * (1 + rng.uniform(0.1, 0.35) * folds)[None, :, None]


def paint_wall_speaker(image: Array, rng: np.random.Generator, box: Box) -> None:
    """A dark box with round cones, or a clock, or a small screen."""
    x0, y0, x1, y1 = box
    shade = float(rng.uniform(5, 60))
    cv2.rectangle(image, (x0, y0), (x1, y1), (shade, shade, shade), -1)
    radius = max(2, (x1 - x0) // 3)
    for part in (0.3, 0.7):
        at = ((x0 + x1) // 2, int(y0 + part * (y1 - y0)))
        cv2.circle(image, at, radius, colour_of(rng), -1)


def paint_shelf(image: Array, rng: np.random.Generator, box: Box) -> None:
    """Boards with books and boxes."""
    x0, y0, x1, y1 = box
    cv2.rectangle(image, (x0, y0), (x1, y1), colour_of(rng), -1)
    rows = max(1, (y1 - y0) // int(rng.integers(14, 30)))
    for row in range(rows):
        bottom = y0 + (y1 - y0) * (row + 1) // rows - 2
        x = x0 + 2
        while x < x1 - 4:
            w, h = int(rng.integers(2, 9)), int((y1 - y0) / rows * rng.uniform(0.3, 0.85))
            if rng.random() < 0.85:
                end = (min(x + w, x1 - 2), bottom)
                cv2.rectangle(image, (x, bottom - h), end, colour_of(rng), -1)
            x += w + 1


# Painter, and the ranges of width, height and bottom edge over the floor in metres.
WALL_THINGS = (
    (paint_picture, (0.3, 1.5), (0.3, 1.2), (0.9, 1.7)),
    (paint_picture, (0.8, 2.6), (0.7, 1.3), (0.8, 1.2)),  # whiteboards, screens
    (paint_window, (0.6, 2.4), (0.8, 1.6), (0.7, 1.1)),
    (paint_door, (0.75, 1.0), (1.9, 2.2), (0.0, 0.0)),
    (paint_curtain, (0.3, 1.5), (1.2, 2.6), (0.0, 0.6)),
    (paint_wall_speaker, (0.15, 0.4), (0.25, 0.6), (1.4, 2.2)),
    (paint_shelf, (0.5, 1.6), (0.4, 2.0), (0.0, 1.2)),
)


def wall(rng: np.random.Generator, metres: float, height: float, colour: Array) -> Array:
    """Return the picture of a wall, (height, width, 3), ``PIXELS_PER_METRE`` to the metre."""
    h, w = int(height * PIXELS_PER_METRE), int(metres * PIXELS_PER_METRE)
    image = np.empty((h, w, 3), np.float32)
    image[:] = colour
    kind = rng.random()
    if kind < 0.2:
        other = np.clip(colour + rng.normal(0, 18, 3), 0, 255)
        image += (other - colour) * pattern(rng, h, w)[..., None]
    elif kind < 0.3:
        split = int(h * rng.uniform(0.4, 0.7))
        image[split:] = random_colour(rng)
    image *= 0.75 + 0.4 * cloud(rng, h, w, (2, 4))[..., None]
    image += rng.normal(0, 3, (h, w, 1)).astype(np.float32)
    board = int(rng.integers(0, 8))
    if board:
        image[-board:] = random_colour(rng)
    for _ in range(int(rng.integers(0, 7))):
        painter, widths, heights, bottoms = WALL_THINGS[rng.integers(len(WALL_THINGS))]
        wide = int(rng.uniform(*widths) * PIXELS_PER_METRE)
        x0 = int(rng.integers(0, max(1, w - wide)))
        y1 = h - 1 - int(rng.uniform(*bottoms) * PIXELS_PER_METRE)
        y0 = max(0, y1 - int(rng.uniform(*heights) * PIXELS_PER_METRE))
        box = (x0, y0, min(x0 + wide, w - 1), y1)
        if box[2] - box[0] > 4 and box[3] - box[1] > 4:
            painter(image, rng, box)
    if rng.random() < 0.3:  # a lamp's glow
        y, x = np.mgrid[0:h, 0:w].astype(np.float32)
        at = rng.uniform(0, [w, h * 0.7])
        glow = np.exp(-(((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * rng.uniform(20, 90) ** 2)))
        image += rng.uniform(30, 140) * glow[..., None]
    return image.clip(0, 255)


def floor(rng: np.random.Generator, metres: float) -> Array:
    """Return the picture of a square floor: carpet, boards, tiles or grass."""
    side = int(metres * 32)
    base = random_colour(rng) if rng.random() < 0.6 else hsv(rng.uniform(8, 25), 110, 130)
    other = np.clip(base + rng.normal(0, 22, 3), 0, 255).astype(np.float32)
    mix = cloud(rng, side, side) if rng.random() < 0.5 else pattern(rng, side, side)
    image = base + (other - base) * mix[..., None]
    image = np.ascontiguousarray(image + rng.normal(0, 4, (side, side, 1)), np.float32)
    if rng.random() < 0.25:  # a rug
        x0, y0 = (int(v) for v in rng.uniform(0.1, 0.5, 2) * side)
        x1, y1 = (int(v) for v in rng.uniform(0.55, 0.95, 2) * side)
        image[y0:y1, x0:x1] = texture(rng, y1 - y0, x1 - x0)
    return image.clip(0, 255)
