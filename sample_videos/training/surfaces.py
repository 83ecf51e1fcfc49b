"""Colours, cloth and wall textures, and the materials made of them. All colours are BGR, 0-255."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

TILE = 64  # cloth textures are TILE x TILE and wrap around
CLOTHS = 160  # cloth textures in a bank
SKIN_BGR = np.array(
    [
        [150, 185, 230],
        [135, 170, 225],
        [120, 160, 210],
        [105, 145, 200],
        [90, 130, 185],
        [70, 100, 150],
        [50, 72, 110],
        [35, 50, 80],
    ],
    np.float32,
)


@dataclass(frozen=True)
class Material:
    """Two colours mixed by a cloth texture: ``cloth[..., 0]`` mixes, ``cloth[..., 1]`` shades.

    ``first`` and ``second`` are (3,) BGR; ``cloth`` is (TILE, TILE, 2) float32; ``metres`` is
    the size of one tile on the body.
    """

    first: Array
    second: Array
    cloth: Array
    metres: float = 0.4


def hsv(hue: float, saturation: float, value: float) -> Array:
    """Return the BGR colour, (3,) float32, of OpenCV's hue (0-180), saturation and value."""
    pixel = np.array([[[hue % 180, saturation, value]]]).clip(0, 255).astype(np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def random_colour(rng: np.random.Generator) -> Array:
    """Return a colour as rooms and clothes have them: often grey or muted, sometimes strong."""
    kind = rng.random()
    if kind < 0.35:
        return hsv(rng.uniform(0, 180), rng.uniform(0, 35), rng.uniform(10, 250))
    if kind < 0.7:
        return hsv(rng.uniform(0, 180), rng.uniform(30, 130), rng.uniform(30, 220))
    return hsv(rng.uniform(0, 180), rng.uniform(110, 255), rng.uniform(40, 255))


def cloud(
    rng: np.random.Generator, height: int, width: int, octaves: tuple[int, ...] = (4, 9, 20, 50)
) -> Array:
    """Return (height, width) float32 smooth noise in 0-1."""
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    for cells in octaves:
        noise = rng.random((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
        weight *= rng.uniform(0.3, 0.8)
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def pattern(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return (height, width) float32 in 0-1: stripes, checks, tiles, dots, shapes or noise."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    kind = int(rng.integers(7))
    if kind == 0:
        turn, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.8)
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * period)
        return (wave > rng.uniform(-0.6, 0.6)).astype(np.float32)
    if kind == 1:
        side = rng.integers(5, 40, 2)
        return ((x // side[0] + y // side[1]) % 2).astype(np.float32)
    if kind == 2:
        side = rng.integers(8, 40, 2)
        return ((x % side[0] < 2) | (y % side[1] < 2)).astype(np.float32)
    if kind == 3:
        step = int(rng.integers(8, 30))
        round_dot = ((x % step) - step / 2) ** 2 + ((y % step) - step / 2) ** 2
        return (round_dot < (step * rng.uniform(0.15, 0.4)) ** 2).astype(np.float32)
    if kind == 4:
        shapes = np.zeros((height, width), np.float32)
        for _ in range(int(rng.integers(1, 7))):
            corners = rng.uniform(0, 1, (int(rng.integers(3, 7)), 2)) * [width, height]
            cv2.fillPoly(shapes, [corners.astype(np.int32)], float(rng.uniform(0.4, 1)))
        return shapes
    noise = cloud(rng, height, width)
    return (noise > 0.5).astype(np.float32) if kind == 5 else noise


@lru_cache(maxsize=4)
def cloth_bank(seed: int) -> Array:
    """Return (CLOTHS, TILE, TILE, 2) float32: what mixes the colours, and the folds' shading."""
    rng = np.random.default_rng([seed, 1])
    bank = np.empty((CLOTHS, TILE, TILE, 2), np.float32)
    for cloth in bank:
        cloth[..., 0] = pattern(rng, TILE, TILE)
        folds = cloud(rng, TILE, TILE, (3, 6, 12, 30))
        cloth[..., 1] = 1 + rng.uniform(0.05, 0.55) * (folds - 0.5)
    return bank


def plain(colour: Array, rng: np.random.Generator, seed: int) -> Material:
    """Return a one-colour material that still has folds or blotches."""
    cloth = cloth_bank(seed)[rng.integers(CLOTHS)]
    return Material(colour, colour, cloth, float(rng.uniform(0.3, 0.9)))


def random_material(rng: np.random.Generator, seed: int, plain_share: float = 0.5) -> Material:
    """Return cloth, wood or plastic of random colours; ``plain_share`` of them has one colour."""
    first = random_colour(rng)
    if rng.random() < plain_share:
        return plain(first, rng, seed)
    cloth = cloth_bank(seed)[rng.integers(CLOTHS)]
    return Material(first, random_colour(rng), cloth, float(rng.uniform(0.12, 0.8)))


def texture(rng: np.random.Generator, height: int, width: int) -> Array:
    """Return a (height, width, 3) float32 picture of two colours, often close to each other."""
    first, second = random_colour(rng), random_colour(rng)
    if rng.random() < 0.6:
        second = np.clip(first + rng.normal(0, 25, 3), 0, 255).astype(np.float32)
    mix = cloud(rng, height, width) if rng.random() < 0.35 else pattern(rng, height, width)
    return first + (second - first) * mix[..., None]
