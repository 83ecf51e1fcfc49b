"""Bodies: proportions, clothes, and the capsules that one is drawn with.

World axes: x right as the camera sees it, y up, z towards the camera; metres. A body at yaw 0
faces the camera, and its LEFT limbs are at +x. Index 0 of a pair is the left limb.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .motions import MOTIONS, SHARES, Angles, Motion, Moves
from .surfaces import (
    CLOTHS,
    SKIN_BGR,
    Material,
    cloth_bank,
    hsv,
    plain,
    random_colour,
    random_material,
)

Vector = NDArray[np.float64]
DOWN = np.array([0, -1.0, 0])

# COCO-17, and how far (m) below the surface each joint lies, for deciding whether it shows.
JOINTS = ["nose", "eye0", "eye1", "ear0", "ear1", "shoulder0", "shoulder1", "elbow0", "elbow1"] + [
    "wrist0",
    "wrist1",
    "hip0",
    "hip1",
    "knee0",
    "knee1",
    "ankle0",
    "ankle1",
]
DEPTHS = np.array([0.05] * 3 + [0.08] * 2 + [0.1] * 2 + [0.07] * 2 + [0.06] * 2)
DEPTHS = np.concatenate([DEPTHS, [0.16] * 2, [0.09] * 2, [0.07] * 2])


@dataclass(frozen=True)
class Capsule:
    """A tapered rod with round ends: two points (3,) and radii in metres, and its material."""

    start: Vector
    end: Vector
    start_radius: float
    end_radius: float
    material: Material


def turn_x(angle: float) -> Vector:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def turn_y(angle: float) -> Vector:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def turn_z(angle: float) -> Vector:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


class Outfit:
    """Skin, hair and clothes. ``seed`` picks the cloth textures, so held-out people differ."""

    def __init__(self, rng: np.random.Generator, seed: int) -> None:
        u = rng.uniform
        tone = SKIN_BGR[rng.integers(len(SKIN_BGR))] * np.float32(u(0.85, 1.1))
        tone = tone.clip(0, 255)
        even = cloth_bank(seed)[rng.integers(CLOTHS)].copy()
        even[..., 1] = 0.75 + 0.25 * even[..., 1]  # skin is smoother than cloth
        self.skin = Material(tone, tone, even, 0.5)
        self.lips = Material(tone * np.array([0.7, 0.6, 0.85], np.float32), tone, even)
        self.dark = Material(np.full(3, 22, np.float32), np.full(3, 22, np.float32), even)
        hair = hsv(u(5, 25), u(20, 160), u(8, 90)) if u() < 0.8 else random_colour(rng)
        self.hair = plain(hair, rng, seed)
        self.shirt = random_material(rng, seed, 0.5)
        self.trousers = self.shirt if u() < 0.1 else random_material(rng, seed, 0.75)
        self.shoes = plain(random_colour(rng), rng, seed)
        self.extra = random_material(rng, seed, 0.7)  # hat, belt, bag, thing in the hand
        self.sleeves = int(rng.choice(3, p=[0.12, 0.4, 0.48]))  # none, short, long
        self.bare_shanks = u() < 0.22
        self.skirt = u() < 0.1
        self.barefoot = u() < 0.1
        self.jacket = u(1.0, 1.25) if u() < 0.4 else 1.0
        self.wide_legs = u(1.0, 1.6) if u() < 0.5 else 1.0
        self.hair_length = u(-0.3, 1.0) if u() < 0.85 else -1.0  # -1: bald
        self.bun, self.beard, self.glasses = u() < 0.08, u() < 0.15, u() < 0.25
        self.hat, self.belt, self.bag, self.held = u() < 0.14, u() < 0.3, u() < 0.08, u() < 0.12


class Body:
    """One person: measures, outfit, motion and place. ``place`` gives (x, z, yaw) at a time.

    ``turned`` and ``wild`` as in :class:`sample_videos.training.scenes.Look`.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        seed: int,
        moves: Moves | str | None = None,
        turned: float = 0.6,
        wild: float = 1.0,
    ) -> None:
        u = rng.uniform
        size = u(0.9, 1.1) if u() < 0.88 else u(0.6, 0.85)  # some are children
        child = size < 0.88

        def length(metres: float, spread: float = 0.09) -> float:
            return metres * size * u(1 - spread, 1 + spread)

        self.thigh, self.shank, self.torso = length(0.43), length(0.42), length(0.50)
        self.upper_arm, self.forearm = length(0.29), length(0.255)
        self.hip_half, self.shoulder_half = length(0.095, 0.12), length(0.18, 0.14)
        self.neck, self.foot = length(0.085), length(0.2)
        self.head = 0.103 * size ** (0.3 if child else 0.5) * u(0.92, 1.1)
        self.stout = u(0.8, 1.35)
        self.size = size
        self.outfit = Outfit(rng, seed)
        kinds = list(MOTIONS)
        if moves is None:
            shares = SHARES * [wild if kind == "random" else 1.0 for kind in kinds]
            moves = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        self.moves: Moves = Motion(moves, rng) if isinstance(moves, str) else moves
        self.yaw = u(-math.pi, math.pi) if u() < turned else u(-0.8, 0.8)
        self.x = self.z = 0.0
        kind = self.moves.kind if isinstance(self.moves, Motion) else ""
        self.speed = {"walk": 1.1, "run": 2.2}.get(kind, 0.0) * size
        self.path: list[tuple[float, float, float, float]] = []  # (second, x, z, yaw) corners

    def place(self, seconds: float) -> tuple[float, float, float]:
        """Return (x, z, yaw) at a time, along the path where there is one."""
        if self.path:
            times, xs, zs, yaws = (np.array(column) for column in zip(*self.path, strict=True))
            x, z, yaw = (float(np.interp(seconds, times, values)) for values in (xs, zs, yaws))
            return x, z, yaw
        step = self.speed * seconds
        return self.x + math.sin(self.yaw) * step, self.z + math.cos(self.yaw) * step, self.yaw

    def joints(self, seconds: float) -> dict[str, Vector]:
        """Return the world positions (3,) of the joints and of the points between them."""
        angles = self.moves(seconds)
        x, z, yaw = self.place(seconds)
        base = turn_y(yaw) @ turn_z(angles.tilt)
        trunk = base @ turn_y(angles.twist) @ turn_z(angles.roll) @ turn_x(angles.lean)
        up, left = trunk @ np.array([0, 1.0, 0]), trunk @ np.array([1.0, 0, 0])
        points: dict[str, Vector] = {"pelvis": np.zeros(3), "left": left, "up": up}
        points["front"] = trunk @ np.array([0, 0, 1.0])
        for side, sign in enumerate((1, -1)):
            points |= self._leg(side, sign, base, angles)
            points |= self._arm(side, sign, trunk, up, left, angles)
        skull = trunk @ turn_y(angles.look) @ turn_x(angles.nod)
        points |= self._head(skull, up)
        feet = min(points[name][1] for name in ("toe0", "toe1", "heel0", "heel1"))
        others = min(points[f"{name}{i}"][1] for name in ("knee", "hip", "hand") for i in (0, 1))
        lowest = min(feet, others, 0.0 if angles.tilt == 0 else -0.1)
        offset = np.array([x, 0.04 - lowest, z])
        free = {"left", "up", "front", "skull_x", "skull_y", "skull_z"}  # directions, no places
        return {k: v if k in free else v + offset for k, v in points.items()}

    def _leg(self, side: int, sign: int, base: Vector, angles: Angles) -> dict[str, Vector]:
        hip = sign * (base @ np.array([self.hip_half, 0, 0]))
        upper = base @ turn_z(sign * angles.splay[side]) @ turn_x(-angles.hip[side])
        knee = hip + upper @ DOWN * self.thigh
        lower = upper @ turn_x(angles.knee[side])
        ankle = knee + lower @ DOWN * self.shank
        toe = ankle + lower @ np.array([0, -0.25, 1.0]) * self.foot * 0.8
        heel = ankle + lower @ np.array([0, -0.25, -0.1]) * self.foot * 0.6
        names = ("hip", "knee", "ankle", "toe", "heel")
        return {f"{n}{side}": p for n, p in zip(names, (hip, knee, ankle, toe, heel), strict=True)}

    def _arm(
        self, side: int, sign: int, trunk: Vector, up: Vector, left: Vector, angles: Angles
    ) -> dict[str, Vector]:
        shoulder = up * self.torso + sign * left * self.shoulder_half
        upper = trunk @ turn_z(sign * angles.abduct[side]) @ turn_x(-angles.flex[side])
        upper = upper @ turn_y(-sign * angles.rotate[side])
        elbow = shoulder + upper @ DOWN * self.upper_arm
        lower = upper @ turn_x(-angles.elbow[side])
        wrist = elbow + lower @ DOWN * self.forearm
        hand = wrist + lower @ DOWN * 0.08 * self.size
        names = ("shoulder", "elbow", "wrist", "hand")
        places = (shoulder, elbow, wrist, hand)
        return {f"{n}{side}": p for n, p in zip(names, places, strict=True)}

    def _head(self, skull: Vector, up: Vector) -> dict[str, Vector]:
        r = self.head
        centre = up * (self.torso + self.neck) + skull @ np.array([0, r * 0.95, r * 0.25])

        def at(x: float, y: float, z: float) -> Vector:
            return centre + skull @ (np.array([x, y, z]) * r)

        return {
            "head": centre,
            "skull_x": skull[:, 0],
            "skull_y": skull[:, 1],
            "skull_z": skull[:, 2],
            "nose": at(0, -0.1, 1.02),
            "eye0": at(0.38, 0.2, 0.83),
            "eye1": at(-0.38, 0.2, 0.83),
            "ear0": at(0.83, 0.05, -0.05),
            "ear1": at(-0.83, 0.05, -0.05),
            "neck": up * (self.torso - 0.02),
            "top": at(0, 0.3, -0.1),
            "chin": at(0, -0.45, 0.15),
        }

    def capsules(self, points: dict[str, Vector]) -> list[Capsule]:
        """Return the capsules to draw, given what :meth:`joints` returned."""
        return [*self._limbs(points), *self._trunk(points), *self._face(points)]

    def _limbs(self, p: dict[str, Vector]) -> list[Capsule]:
        o, g, fat = self.outfit, self.size, self.stout
        legs = o.wide_legs
        shank = o.skin if o.bare_shanks or o.skirt else o.trousers
        loose = 1.0 if shank is o.skin else legs
        shoe = o.skin if o.barefoot else o.shoes
        thigh_r, knee_r, ankle_r = 0.078 * g * fat, 0.054 * g * fat**0.6, 0.037 * g
        arm_r, elbow_r, wrist_r = 0.053 * g * fat**0.7, 0.041 * g * fat**0.6, 0.028 * g
        puff = o.jacket**1.5
        sleeve = o.shirt if o.sleeves else o.skin
        cuff = o.shirt if o.sleeves == 2 else o.skin
        parts = []
        for i in "01":
            hip, knee, ankle = p["hip" + i], p["knee" + i], p["ankle" + i]
            mid = knee * 0.62 + ankle * 0.38
            calf = knee_r * loose * 0.98
            parts += [
                Capsule(hip, knee, thigh_r, knee_r * legs**0.7, o.trousers),
                Capsule(knee, mid, knee_r * loose**0.7, calf, shank),
                Capsule(mid, ankle, calf, ankle_r * loose**1.4, shank),
                Capsule(p["heel" + i], p["toe" + i], 0.042 * g, 0.033 * g, shoe),
            ]
            shoulder, elbow, wrist = p["shoulder" + i], p["elbow" + i], p["wrist" + i]
            half = shoulder * 0.35 + elbow * 0.65
            upper_r = arm_r * 0.35 + elbow_r * 0.65
            under = o.skin if o.sleeves == 1 else sleeve
            parts += [
                Capsule(shoulder, half, arm_r * puff, upper_r * puff, sleeve),
                Capsule(half, elbow, upper_r, elbow_r * (puff if under is o.shirt else 1), under),
                Capsule(elbow, wrist, elbow_r, wrist_r * (1.3 if cuff is o.shirt else 1), cuff),
                Capsule(wrist, p["hand" + i], wrist_r, 0.04 * g, o.skin),
            ]
        if o.held:
            hand = p["hand0"]
            parts.append(Capsule(hand, hand + p["up"] * 0.15, 0.035, 0.03, o.extra))
        return parts

    def _trunk(self, p: dict[str, Vector]) -> list[Capsule]:
        o, g, fat = self.outfit, self.size, self.stout
        chest, waist = 0.1 * g * fat**0.7 * o.jacket, 0.094 * g * fat * o.jacket
        hips_r = 0.085 * g * fat
        pelvis, neck, up, left, front = p["pelvis"], p["neck"], p["up"], p["left"], p["front"]
        parts = [
            Capsule(p["hip0"], p["hip1"], hips_r, hips_r, o.trousers),
            Capsule(pelvis + up * 0.03, neck * 0.85 + pelvis * 0.15, waist, chest, o.shirt),
            Capsule(p["shoulder0"], p["shoulder1"], 0.05 * g, 0.05 * g, o.shirt),
        ]
        for i in "01":
            low = p["hip" + i] * 0.7 + pelvis * 0.3 + up * 0.04
            high = p["shoulder" + i] * 0.68 + neck * 0.32 - up * 0.05
            parts.append(Capsule(low, high, waist * 0.86, chest * 0.86, o.shirt))
            slope = neck + up * 0.045 * g
            parts.append(Capsule(slope, p["shoulder" + i], 0.045 * g, 0.045 * g, o.shirt))
        if o.jacket > 1.1:  # hangs over the hips
            wide = left * self.hip_half * 0.7
            parts.append(
                Capsule(pelvis + wide, pelvis - wide, hips_r * 1.15, hips_r * 1.15, o.shirt)
            )
        if o.belt:
            wide = left * self.hip_half * 0.8 + up * 0.07
            low = pelvis + up * 0.07
            parts.append(Capsule(low + wide, low - wide, waist * 0.9, waist * 0.9, o.extra))
        if o.skirt:
            knees = (p["knee0"] + p["knee1"]) * 0.4 + pelvis * 0.2
            parts.append(Capsule(pelvis, knees, waist * 1.05, waist * 1.8, o.trousers))
        if o.bag:
            back = pelvis * 0.4 + neck * 0.6 - front * 0.16
            parts.append(Capsule(back, back + up * 0.18, 0.12 * g, 0.11 * g, o.extra))
        return parts

    def _face(self, p: dict[str, Vector]) -> list[Capsule]:
        o, h = self.outfit, self.head
        x, y, z = p["skull_x"] * h, p["skull_y"] * h, p["skull_z"] * h
        head, top, chin = p["head"], p["top"], p["chin"]
        parts = [
            Capsule(p["neck"], head, 0.05 * self.size, 0.048 * self.size, o.skin),
            Capsule(top, chin, h * 0.92, h * 0.74, o.skin),
            Capsule(p["nose"], p["nose"] * 0.7 + head * 0.3, h * 0.14, h * 0.19, o.skin),
            Capsule(head + x * 0.2 - y * 0.5 + z * 0.8, head - x * 0.2 - y * 0.5 + z * 0.8,
                    h * 0.08, h * 0.08, o.lips),
        ]  # fmt: skip
        if o.hair_length >= -0.5:
            crown = top + y * 0.1 - z * 0.22
            ends = head - y * 0.95 * o.hair_length - z * 0.5
            parts.append(Capsule(crown, ends, h * 0.98, h * 0.85, o.hair))
        for i in "01":
            parts.append(Capsule(p["eye" + i], p["eye" + i], h * 0.13, h * 0.13, o.dark))
            parts.append(Capsule(p["ear" + i], p["ear" + i], h * 0.2, h * 0.2, o.skin))
            if o.glasses:
                lens = p["eye" + i] + z * 0.1
                parts.append(Capsule(lens - x * 0.12, lens + x * 0.12, h * 0.2, h * 0.2, o.dark))
                parts.append(Capsule(lens, p["ear" + i] + y * 0.15, h * 0.07, h * 0.07, o.dark))
        if o.beard:
            parts.append(
                Capsule(chin - y * 0.1, chin - y * 0.1 + z * 0.2, h * 0.72, h * 0.6, o.hair)
            )
        if o.bun:
            bun = top - z * 1.0 + y * 0.2
            parts.append(Capsule(bun, bun, h * 0.45, h * 0.45, o.hair))
        if o.hat:
            parts.append(Capsule(top + y * 0.35, top + y * 0.3, h * 0.95, h * 0.92, o.extra))
            brim = top + y * 0.25 + z * 1.1
            parts.append(Capsule(brim - x * 0.35, brim + x * 0.35, h * 0.3, h * 0.3, o.extra))
        return parts
