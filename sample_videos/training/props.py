"""Things that are not people: furniture, lamps, plants, animals. Blocks and capsules in metres.

They stand in every kind of picture, so that the detector learns what a person is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .people import Capsule, Vector, turn_y
from .surfaces import SKIN_BGR, Array, Material, plain, random_colour, random_material, texture


@dataclass(frozen=True)
class Block:
    """A box on the floor or in the air: ``centre`` and ``size`` (3,), turned by ``yaw``.

    ``faces`` are the pictures (h, w, 3) of its front and of all its other sides.
    """

    centre: Vector
    size: Vector
    yaw: float
    faces: tuple[Array, Array]


Thing = Block | Capsule


class Maker:
    """Builds the parts of one thing at a place on the floor, turned by ``yaw``."""

    def __init__(self, rng: np.random.Generator, seed: int, x: float, z: float) -> None:
        self.rng, self.seed = rng, seed
        self.origin = np.array([x, 0.0, z])
        self.yaw = rng.uniform(-math.pi, math.pi)
        self.turn = turn_y(self.yaw)
        self.parts: list[Thing] = []
        self.colour = random_colour(rng)

    def surface(self) -> Array:
        """Return a plain, slightly uneven picture of this thing's colour."""
        shade = self.rng.uniform(0.85, 1.1)
        noise = self.rng.normal(0, 5, (8, 8, 1)).astype(np.float32)
        return (self.colour * np.float32(shade) + noise).clip(0, 255)

    def block(
        self,
        at: tuple[float, float, float],
        size: tuple[float, float, float],
        *,
        front: bool = False,
    ) -> None:
        """Add a box; ``at`` is the middle of its bottom."""
        centre = self.origin + self.turn @ (np.array(at) + [0, size[1] / 2, 0])
        side = self.surface()
        face = texture(self.rng, 48, 48) if front else side
        self.parts.append(Block(centre, np.array(size), self.yaw, (face, side)))

    def rod(
        self,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        radius: float,
        *,
        taper: float = 1.0,
        material: Material | None = None,
    ) -> None:
        """Add a capsule between two points given in the thing's own axes."""
        material = material or plain(self.colour, self.rng, self.seed)
        first, second = (self.origin + self.turn @ np.array(point) for point in (start, end))
        self.parts.append(Capsule(first, second, radius, radius * taper, material))

    def recolour(self) -> None:
        """Use another colour for the parts that follow."""
        self.colour = random_colour(self.rng)


def chair(m: Maker) -> None:
    u = m.rng.uniform
    seat, width, back = u(0.4, 0.5), u(0.4, 0.55), u(0.35, 0.6)
    if m.rng.random() < 0.5:  # four legs
        for x in (-width / 2, width / 2):
            for z in (-width / 2, width / 2):
                m.rod((x, 0, z), (x, seat, z), 0.018)
    else:  # office chair
        m.rod((0, 0.08, 0), (0, seat, 0), 0.03)
        for k in range(5):
            angle = 2 * math.pi * k / 5
            m.rod((0, 0.08, 0), (0.28 * math.sin(angle), 0.04, 0.28 * math.cos(angle)), 0.025)
    if m.rng.random() < 0.6:
        m.recolour()
    m.block((0, seat, 0), (width, 0.06, width))
    m.block((0, seat + u(0.05, 0.2), -width / 2), (width, back, 0.05))


def table(m: Maker) -> None:
    u = m.rng.uniform
    width, depth, height = u(0.6, 1.8), u(0.5, 0.9), u(0.45, 1.0)
    for x in (-width / 2 + 0.05, width / 2 - 0.05):
        for z in (-depth / 2 + 0.05, depth / 2 - 0.05):
            m.rod((x, 0, z), (x, height, z), 0.025)
    m.block((0, height, 0), (width, 0.05, depth))
    for _ in range(int(m.rng.integers(0, 7))):  # things that lie on it
        m.recolour()
        x, z, y = u(-width / 2, width / 2), u(-depth / 2, depth / 2), height + 0.05
        kind = m.rng.integers(3)
        if kind == 0:
            m.block((x, y, z), (u(0.05, 0.4), u(0.03, 0.35), u(0.05, 0.3)), front=True)
        elif kind == 1:
            tall = u(0.12, 0.3)
            m.rod((x, y + 0.03, z), (x, y + tall, z), 0.035)
            m.rod((x, y + tall, z), (x, y + tall + 0.07, z), 0.015)
        else:
            m.rod((x, y + 0.04, z), (x + u(-0.2, 0.2), y + 0.05, z), u(0.03, 0.09))


def desk(m: Maker) -> None:
    """An office desk: a thin top on slanted legs, full of things, a chair beside it."""
    u = m.rng.uniform
    width, depth, height = u(0.8, 2.4), u(0.5, 0.9), u(0.65, 0.8)
    if m.rng.random() < 0.6:
        m.colour = np.full(3, u(170, 255), np.float32)
    slant, spread, thick = u(-0.3, 0.3), u(0, 0.4), u(0.015, 0.045)
    for side in (-1, 1):
        end = side * (width / 2 - u(0.05, 0.35))
        for z in (-1.0, 1.0):
            foot = (end + side * slant, 0.03, z * (depth / 2 + 0.1 * spread))
            m.rod(foot, (end, height, z * depth / 2 * (1 - spread)), thick)
        if m.rng.random() < 0.6:
            m.rod(
                (end + side * slant, 0.04, -depth / 2), (end + side * slant, 0.04, depth / 2), thick
            )
    m.block((0, height, 0), (width, u(0.02, 0.05), depth))
    if m.rng.random() < 0.25:  # a board that hides the legs
        m.block((0, u(0.2, 0.4), -depth / 2), (width * 0.9, 0.3, 0.02))
    for _ in range(int(m.rng.integers(1, 10))):
        m.recolour()
        if m.rng.random() < 0.45:
            m.colour = np.full(3, u(5, 70), np.float32)
        x, z, y = u(-0.5, 0.5) * width, u(-0.5, 0.5) * depth, height + 0.03
        kind = m.rng.integers(5)
        if kind == 0:  # a bag
            r = u(0.05, 0.14)
            m.rod((x, y + r, z), (x + u(-0.4, 0.4), y + r + u(-0.03, 0.03), z), r, taper=u(0.6, 1))
        elif kind == 1:  # a cup or bottle
            tall = u(0.08, 0.28)
            m.rod((x, y + 0.03, z), (x, y + tall, z), u(0.025, 0.05), taper=u(0.6, 1.2))
        elif kind == 2:  # a monitor
            m.block((x, y, z), (0.2, 0.02, 0.15))
            m.block((x, y + u(0.03, 0.15), z), (u(0.3, 0.65), u(0.2, 0.4), 0.04), front=True)
        elif kind == 3:  # paper, a keyboard
            m.block((x, y, z), (u(0.1, 0.45), 0.01, u(0.1, 0.3)), front=True)
        else:
            m.block((x, y, z), (u(0.05, 0.4), u(0.03, 0.3), u(0.05, 0.3)), front=True)
    if m.rng.random() < 0.7:
        m.origin = m.origin + m.turn @ np.array([u(-0.6, 0.6) * width, 0, u(-1.0, 1.0)])
        m.turn = turn_y(u(-math.pi, math.pi))
        m.recolour()
        chair(m)


def sofa(m: Maker) -> None:
    width, depth = m.rng.uniform(0.8, 2.2), m.rng.uniform(0.7, 0.9)
    m.block((0, 0.1, 0), (width, 0.33, depth))
    m.block((0, 0.1, -depth / 2), (width, m.rng.uniform(0.6, 0.85), 0.2))
    for x in (-width / 2, width / 2):
        m.block((x, 0.1, 0), (0.2, 0.5, depth))
    m.recolour()
    for _ in range(int(m.rng.integers(0, 3))):
        x = m.rng.uniform(-width / 2, width / 2)
        m.rod((x, 0.55, -0.2), (x, 0.62, -0.25), m.rng.uniform(0.12, 0.2))


def shelf(m: Maker) -> None:
    u = m.rng.uniform
    width, height, depth = u(0.4, 1.3), u(0.7, 2.1), 0.35
    m.block((0, 0, -depth / 2), (width, height, 0.03))
    for x in (-width / 2, width / 2):
        m.block((x, 0, 0), (0.04, height, depth))
    boards = int(m.rng.integers(2, 6))
    for k in range(boards):
        y = height * (k + 0.3) / boards
        m.block((0, y, 0), (width, 0.03, depth))
        x = -width / 2 + 0.05
        while x < width / 2 - 0.1 and m.rng.random() < 0.9:
            wide = u(0.04, 0.2)
            m.recolour()
            m.block((x + wide / 2, y + 0.03, 0.05), (wide, u(0.1, 0.6) * height / boards, 0.2))
            x += wide + u(0, 0.15)


def cupboard(m: Maker) -> None:
    u = m.rng.uniform
    m.block((0, 0, 0), (u(0.4, 1.2), u(0.6, 2.1), u(0.3, 0.6)), front=m.rng.random() < 0.4)


def floor_lamp(m: Maker) -> None:
    u = m.rng.uniform
    height, shade = u(1.0, 1.9), u(0.1, 0.22)
    m.rod((0, 0.02, 0), (0.12, 0.02, 0), 0.08)
    m.rod((0, 0, 0), (0, height, 0), u(0.012, 0.03))
    if m.rng.random() < 0.3:  # an arm to the side
        m.rod((0, height, 0), (u(0.2, 0.5), height + u(-0.2, 0.2), 0), 0.02)
    m.recolour()
    m.rod((0, height, 0), (0, height + u(0.1, 0.3), 0), shade, taper=u(0.4, 1.0))


def loudspeaker(m: Maker) -> None:
    u = m.rng.uniform
    width, height = u(0.18, 0.4), u(0.25, 1.1)
    foot = u(0.8, 1.9) if m.rng.random() < 0.6 else 0.0
    m.colour = np.full(3, u(10, 70), np.float32)
    if foot and m.rng.random() < 0.6:
        m.rod((0, 0, 0), (0, foot, 0), 0.025)
        for angle in (0.0, 2.1, 4.2):
            m.rod((0, 0.3, 0), (0.3 * math.sin(angle), 0.02, 0.3 * math.cos(angle)), 0.015)
    m.block((0, foot, 0), (width, height, width))
    m.colour = np.full(3, u(5, 160), np.float32)
    for y, r in ((0.3, 0.36), (0.75, 0.2)):
        centre = (0, foot + height * y, width * 0.45)
        m.rod(centre, (centre[0], centre[1], width * 0.5), width * r)


def plant(m: Maker) -> None:
    u = m.rng.uniform
    pot, height = u(0.1, 0.22), u(0.4, 1.6)
    m.rod((0, pot, 0), (0, 2 * pot, 0), pot, taper=1.15)
    green = plain(np.array([u(20, 70), u(60, 170), u(20, 110)], np.float32), m.rng, m.seed)
    for _ in range(int(m.rng.integers(5, 14))):
        angle, reach, top = u(0, 2 * math.pi), u(0.05, 0.5), u(0.4, 1.0) * height + 2 * pot
        tip = (reach * math.sin(angle), top, reach * math.cos(angle))
        m.rod((0, 2 * pot, 0), tip, 0.012, taper=u(1, 6), material=green)


def coat_rack(m: Maker) -> None:
    """A stand with clothes on it: a person's cloth and outline, but nobody inside."""
    u = m.rng.uniform
    m.rod((0, 0, 0), (0, 1.75, 0), 0.025)
    for k in range(int(m.rng.integers(1, 4))):
        angle, top = 2 * math.pi * k / 3 + u(-0.4, 0.4), u(1.3, 1.65)
        x, z = 0.16 * math.sin(angle), 0.16 * math.cos(angle)
        cloth = random_material(m.rng, m.seed)
        m.rod((0, top + 0.05, 0), (x, top, z), 0.05, material=cloth)
        m.rod(
            (x, top - 0.05, z), (x, top - u(0.4, 0.9), z), u(0.08, 0.12), taper=1.4, material=cloth
        )
        m.rod((x + 0.12, top - 0.1, z), (x + 0.14, top - 0.6, z), 0.045, material=cloth)


def animal(m: Maker) -> None:
    """Four legs, a tail and a lying trunk."""
    u = m.rng.uniform
    g = u(0.4, 1.1)
    fur = plain(random_colour(m.rng), m.rng, m.seed)
    leg, half = 0.42 * g, 0.32 * g
    for x in (-0.08 * g, 0.08 * g):
        for z in (-half, half):
            m.rod((x, 0.03, z + u(-0.1, 0.1)), (x, leg, z), 0.035 * g, material=fur)
    m.rod((0, leg + 0.08 * g, -half), (0, leg + 0.1 * g, half), 0.13 * g, material=fur)
    m.rod((0, leg + 0.1 * g, half), (0, leg + 0.33 * g, half + 0.15 * g), 0.07 * g, material=fur)
    head = (0, leg + 0.38 * g, half + 0.2 * g)
    m.rod(head, (0, head[1] - 0.03, head[2] + 0.16 * g), 0.09 * g, taper=0.6, material=fur)
    m.rod((0, leg + 0.1 * g, -half), (0, leg + 0.3 * g, -half - 0.2 * g), 0.03 * g, material=fur)


def ball(m: Maker) -> None:
    radius = m.rng.uniform(0.06, 0.35)
    at = (0.0, radius, 0.0)
    m.rod(at, at, radius, material=random_material(m.rng, m.seed, 0.4))


def standing_frame(m: Maker) -> None:
    """A board, screen or easel on legs."""
    u = m.rng.uniform
    width, low, high = u(0.4, 1.4), u(0.5, 1.0), u(1.2, 2.0)
    for x in (-width / 2, width / 2):
        m.rod((x, 0, 0), (x, high, 0), 0.02)
    m.block((0, low, 0), (width, high - low, 0.04), front=True)


def rods(m: Maker) -> None:
    """Stools, tripods, ladders, brooms: rods that meet somewhere."""
    u = m.rng.uniform
    height = u(0.4, 1.9)
    for _ in range(int(m.rng.integers(2, 6))):
        foot = (u(-0.4, 0.4), 0.02, u(-0.4, 0.4))
        m.rod(foot, (u(-0.08, 0.08), height, u(-0.08, 0.08)), u(0.012, 0.05))
    if m.rng.random() < 0.5:
        m.rod((0, height, 0), (u(-0.3, 0.3), height + u(0, 0.3), 0), u(0.03, 0.15))


def bits(m: Maker) -> None:
    """Cloth- and skin-coloured capsules in no body's order."""
    u = m.rng.uniform
    x, y, z = 0.0, u(0.1, 1.4), 0.0
    for _ in range(int(m.rng.integers(1, 5))):
        skin = m.rng.random() < 0.25
        tone = SKIN_BGR[m.rng.integers(len(SKIN_BGR))]
        cloth = plain(tone, m.rng, m.seed) if skin else random_material(m.rng, m.seed)
        to = (x + u(-0.4, 0.4), max(y + u(-0.5, 0.5), 0.05), z + u(-0.3, 0.3))
        m.rod((x, y, z), to, u(0.03, 0.16), taper=u(0.6, 1.3), material=cloth)
        x, y, z = to


def bag(m: Maker) -> None:
    u = m.rng.uniform
    cloth = random_material(m.rng, m.seed)
    radius = u(0.1, 0.22)
    m.rod(
        (0, radius, 0), (u(-0.1, 0.1), radius + u(0.05, 0.4), 0), radius, taper=0.9, material=cloth
    )
    m.rod((0, 2 * radius, 0), (0.1, 2 * radius + 0.2, 0), 0.02, material=cloth)


THINGS: dict[str, Callable[[Maker], None]] = {
    "chair": chair,
    "table": table,
    "desk": desk,
    "sofa": sofa,
    "shelf": shelf,
    "cupboard": cupboard,
    "floor lamp": floor_lamp,
    "loudspeaker": loudspeaker,
    "plant": plant,
    "coat rack": coat_rack,
    "animal": animal,
    "ball": ball,
    "frame": standing_frame,
    "rods": rods,
    "bits": bits,
    "bag": bag,
}


def make_thing(
    kind: str, rng: np.random.Generator, *, seed: int, x: float, z: float, yaw: float | None = None
) -> list[Thing]:
    """Return the parts of one thing standing at (x, z), by the name in ``THINGS``."""
    maker = Maker(rng, seed, x, z)
    if yaw is not None:
        maker.yaw, maker.turn = yaw, turn_y(yaw)
    THINGS[kind](maker)
    return maker.parts
