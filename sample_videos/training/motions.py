"""How synthetic people move: joint angles as functions of time. Angles in radians, time in s."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


def pair(left: float, right: float | None = None) -> NDArray[np.float64]:
    """Return (2,): the value of the left and of the right limb."""
    return np.array([left, left if right is None else right], np.float64)


@dataclass
class Angles:
    """One instant of a body. Arrays are (2,): left, right. Zero is standing with arms down."""

    lean: float = 0.03  # trunk forward
    roll: float = 0.0  # trunk sideways
    twist: float = 0.0  # shoulders against hips
    look: float = 0.0  # head to the side
    nod: float = 0.05  # head forward
    tilt: float = 0.0  # the whole body sideways, as in a fall
    flex: NDArray[np.float64] = field(default_factory=lambda: pair(0.05))  # upper arm forward
    abduct: NDArray[np.float64] = field(default_factory=lambda: pair(0.12))  # ... sideways
    rotate: NDArray[np.float64] = field(default_factory=lambda: pair(0.2))  # ... inwards
    elbow: NDArray[np.float64] = field(default_factory=lambda: pair(0.25))
    hip: NDArray[np.float64] = field(default_factory=lambda: pair(0.03))  # thigh forward
    splay: NDArray[np.float64] = field(default_factory=lambda: pair(0.05))  # thigh sideways
    knee: NDArray[np.float64] = field(default_factory=lambda: pair(0.05))


def blend(first: Angles, second: Angles, share: float) -> Angles:
    """Return ``first`` moved by ``share`` (0-1) towards ``second``."""
    mixed = {
        item.name: (1 - share) * getattr(first, item.name) + share * getattr(second, item.name)
        for item in fields(Angles)
    }
    return Angles(**mixed)


def smooth(value: float) -> float:
    """Ease 0-1 in and out."""
    value = min(1.0, max(0.0, value))
    return value * value * (3 - 2 * value)


class Moves(Protocol):
    """Whatever gives a body's angles at a time."""

    def __call__(self, seconds: float) -> Angles: ...


class Motion:
    """One kind of motion, repeated, with a person's own tempo, side, strength and unrest."""

    def __init__(
        self,
        kind: str,
        rng: np.random.Generator,
        *,
        tempo: float | None = None,
        phase: float | None = None,
    ) -> None:
        if kind not in MOTIONS:
            raise ValueError(f"unknown motion {kind!r}; there are: {', '.join(MOTIONS)}")
        self.kind = kind
        self.tempo = rng.uniform(0.75, 1.3) if tempo is None else tempo
        self.phase = rng.uniform(0, 2 * math.pi) if phase is None else phase
        self.side = int(rng.integers(2))
        self.strength = rng.uniform(0.75, 1.15)
        self.both = bool(rng.random() < 0.3)
        self.unrest = rng.normal(0, 1, 20)
        self.unrest_speed = rng.uniform(1.0, 3.6, 20)
        self.unrest_phase = rng.uniform(0, 2 * math.pi, 20)
        self.keys = [random_angles(rng) for _ in range(6)] if kind == "random" else []

    @property
    def arms(self) -> list[int]:
        """Return the arms that take part: one, or both."""
        return [0, 1] if self.both else [self.side]

    def __call__(self, seconds: float) -> Angles:
        angles = MOTIONS[self.kind](self, 2 * math.pi * self.tempo * seconds + self.phase)
        noise = self.unrest * np.sin(self.unrest_speed * seconds + self.unrest_phase)
        angles.lean += 0.05 * noise[0]
        angles.roll += 0.05 * noise[1]
        angles.twist += 0.06 * noise[2]
        angles.look += 0.35 * noise[3]
        angles.nod += 0.08 * noise[4]
        angles.flex = angles.flex + 0.12 * noise[5:7]
        angles.abduct = np.maximum(angles.abduct + 0.1 * noise[7:9], -0.05)
        angles.rotate = angles.rotate + 0.2 * noise[9:11]
        angles.elbow = np.maximum(angles.elbow + 0.15 * noise[11:13], 0)
        angles.hip = angles.hip + 0.05 * noise[13:15]
        angles.splay = angles.splay + 0.03 * noise[15:17]
        angles.knee = np.maximum(angles.knee + 0.06 * noise[17:19], 0)
        return angles


class Script:
    """Motions one after the other: ``parts`` are (start second, kind), cross-faded."""

    def __init__(
        self, parts: list[tuple[float, str]], rng: np.random.Generator, *, fade: float = 0.4
    ) -> None:
        self.starts = [start for start, _ in parts]
        self.motions = [Motion(kind, rng, phase=0.0, tempo=0.9) for _, kind in parts]
        self.fade = fade
        for motion in self.motions:
            motion.side = 1
            motion.both = False
            motion.unrest = motion.unrest * 0.4

    def __call__(self, seconds: float) -> Angles:
        now = max(sum(start <= seconds for start in self.starts) - 1, 0)
        angles = self.motions[now](seconds - self.starts[now])
        into = seconds - self.starts[now]
        if now and into < self.fade:
            before = self.motions[now - 1](self.starts[now] - self.starts[now - 1])
            angles = blend(before, angles, smooth(into / self.fade))
        return angles


def random_angles(rng: np.random.Generator) -> Angles:
    """Return a pose nobody planned, within what joints allow."""
    u = rng.uniform
    return Angles(
        lean=u(-0.2, 0.9) * (rng.random() < 0.6),
        roll=u(-0.25, 0.25),
        twist=u(-0.5, 0.5),
        look=u(-0.8, 0.8),
        nod=u(-0.3, 0.6),
        flex=u(-0.6, 2.8, 2),
        abduct=u(0, 2.2, 2),
        rotate=u(-1.6, 1.2, 2),
        elbow=u(0, 2.3, 2),
        hip=np.array([u(-0.3, 1.5), u(-0.3, 1.2)]),
        splay=u(0, 0.5, 2),
        knee=np.array([u(0, 1.8), u(0, 1.4)]),
    )


def idle(motion: Motion, x: float) -> Angles:
    return Angles()


def walk(motion: Motion, x: float) -> Angles:
    sway = pair(math.sin(x), -math.sin(x))
    lift = np.maximum(pair(math.cos(x), -math.cos(x)), 0)
    a = motion.strength
    return Angles(
        twist=0.1 * math.sin(x),
        hip=0.48 * a * sway + 0.05,
        knee=0.12 + 0.75 * a * lift,
        flex=-0.5 * a * sway,
        elbow=0.35 - 0.2 * sway,
    )


def run(motion: Motion, x: float) -> Angles:
    sway = pair(math.sin(1.6 * x), -math.sin(1.6 * x))
    lift = np.maximum(pair(math.cos(1.6 * x), -math.cos(1.6 * x)), 0)
    a = motion.strength
    return Angles(
        lean=0.2,
        hip=0.8 * a * sway + 0.2,
        knee=0.5 + 1.1 * a * lift,
        flex=-0.8 * a * sway,
        elbow=pair(1.6),
    )


def wave(motion: Motion, x: float) -> Angles:
    angles = Angles()
    for arm in motion.arms:
        angles.abduct[arm] = 1.5 + 0.35 * motion.strength
        angles.rotate[arm] = -1.5
        angles.elbow[arm] = 1.2 + 0.55 * math.sin(2 * x) * motion.strength
    return angles


def squat(motion: Motion, x: float) -> Angles:
    q = (1 - math.cos(0.5 * x)) / 2
    return Angles(
        lean=0.6 * q,
        hip=pair(1.75 * q * motion.strength),
        knee=pair(2.05 * q * motion.strength),
        splay=pair(0.25),
        flex=pair(1.4 * q),
        elbow=pair(0.15),
    )


def sit(motion: Motion, x: float) -> Angles:
    q = smooth(0.5 - 1.2 * math.cos(0.4 * x))
    return Angles(
        lean=0.1 + 0.8 * q * (1 - q),
        hip=pair(1.5 * q),
        knee=pair(1.5 * q),
        flex=pair(0.5 * q),
        elbow=pair(0.25 + 0.7 * q),
    )


def seated(motion: Motion, x: float) -> Angles:
    return Angles(
        lean=0.05 + 0.1 * motion.strength,
        hip=pair(1.5),
        knee=pair(1.45),
        flex=pair(0.45, 0.45 + 0.5 * abs(math.sin(0.3 * x))),
        elbow=pair(0.9, 0.9 + 0.8 * abs(math.sin(0.3 * x))),
        splay=pair(0.15),
        rotate=pair(0.4),
    )


def jack(motion: Motion, x: float) -> Angles:
    q = (1 - math.cos(x)) / 2
    return Angles(
        abduct=pair(0.15 + 2.5 * q * motion.strength),
        splay=pair(0.05 + 0.4 * q),
        elbow=pair(0.15),
        rotate=pair(-1.2),
    )


def raise_arm(motion: Motion, x: float) -> Angles:
    angles = Angles()
    for arm in motion.arms:
        angles.flex[arm] = 2.9 * motion.strength * (1 - math.cos(0.5 * x)) / 2
        angles.elbow[arm] = 0.15
    return angles


def bend(motion: Motion, x: float) -> Angles:
    q = (1 - math.cos(0.5 * x)) / 2
    return Angles(
        lean=1.35 * q * motion.strength,
        flex=pair(1.2 * q),
        knee=pair(0.3 * q),
        hip=pair(0.15 * q),
        nod=0.3 * q,
    )


def punch(motion: Motion, x: float) -> Angles:
    reach = (1 + pair(math.sin(1.5 * x), -math.sin(1.5 * x))) / 2
    return Angles(
        twist=0.3 * math.sin(1.5 * x),
        flex=0.5 + reach,
        elbow=2.2 * (1 - reach) + 0.1,
        rotate=pair(0.3),
        hip=pair(0.3, -0.2),
        knee=pair(0.3, 0.2),
    )


def kick(motion: Motion, x: float) -> Angles:
    q = (1 - math.cos(0.75 * x)) / 2
    angles = Angles(lean=-0.15 * q, abduct=pair(0.5), elbow=pair(0.5))
    angles.hip[motion.side] = -0.3 + 1.7 * q * motion.strength
    angles.knee[motion.side] = 0.9 * (1 - q) + 0.05
    return angles


def clap(motion: Motion, x: float) -> Angles:
    q = (1 + math.sin(2 * x)) / 2
    return Angles(
        flex=pair(1.2), abduct=pair(0.1 + 0.5 * q), rotate=pair(0.5 - 0.3 * q), elbow=pair(0.7)
    )


def drink(motion: Motion, x: float) -> Angles:
    q = smooth(0.5 - 0.9 * math.cos(0.4 * x))
    angles = Angles(nod=0.05 - 0.25 * q)
    arm = motion.side
    angles.flex[arm] = 0.4 + 0.5 * q
    angles.elbow[arm] = 1.3 + 1.1 * q
    angles.rotate[arm] = 0.3
    angles.abduct[arm] = 0.15 + 0.3 * q
    return angles


def throw(motion: Motion, x: float) -> Angles:
    s = (x / (2 * math.pi) * 0.6) % 1.0
    arm = motion.side
    sign = 1 if arm == 0 else -1
    wound, loose, rest = Angles(twist=-0.5 * sign), Angles(twist=0.4 * sign, lean=0.3), Angles()
    wound.abduct[arm], wound.rotate[arm], wound.elbow[arm] = 1.5, -1.5, 1.7
    wound.hip[arm], wound.knee[arm] = -0.25, 0.2
    loose.flex[arm], loose.elbow[arm], loose.abduct[arm] = 1.5, 0.15, 0.2
    loose.hip[1 - arm], loose.knee[1 - arm] = 0.45, 0.3
    if s < 0.45:
        return blend(rest, wound, smooth(s / 0.4))
    if s < 0.65:
        return blend(wound, loose, smooth((s - 0.45) / 0.15))
    return blend(loose, rest, smooth((s - 0.65) / 0.3))


def hug(motion: Motion, x: float) -> Angles:
    q = smooth(0.6 - 0.9 * math.cos(0.4 * x))
    return Angles(
        lean=0.05 + 0.2 * q,
        flex=pair(1.25 * q, (1.0 + 0.4 * motion.strength) * q),
        abduct=pair(0.15 + 0.35 * q),
        rotate=pair(0.2 + 0.7 * q),
        elbow=pair(0.25 + 0.8 * q),
        nod=0.15 * q,
    )


def reach(motion: Motion, x: float) -> Angles:
    q = smooth(0.5 - 0.8 * math.cos(0.5 * x))
    angles = Angles(lean=0.03 + 0.25 * q * motion.strength)
    for arm in motion.arms:
        angles.flex[arm] = 0.3 + 1.1 * q
        angles.elbow[arm] = 0.7 * (1 - q) + 0.15
    return angles


def stand(motion: Motion, x: float) -> Angles:
    """Quiet stances: hands on hips, in pockets, arms crossed, behind the back."""
    stance = int(motion.phase * 100) % 4
    if stance == 0:
        return Angles(abduct=pair(0.75), rotate=pair(1.0), elbow=pair(1.6))
    if stance == 1:
        return Angles(abduct=pair(0.25), rotate=pair(0.5), elbow=pair(0.55))
    if stance == 2:
        return Angles(flex=pair(0.45, 0.55), rotate=pair(1.25), elbow=pair(1.75))
    return Angles(flex=pair(-0.5), rotate=pair(0.9), elbow=pair(0.8), abduct=pair(0.2))


def fall(motion: Motion, x: float) -> Angles:
    q = smooth(0.5 - 1.3 * math.cos(0.4 * x))
    return Angles(
        tilt=1.5 * q * (1 if motion.side else -1),
        hip=pair(0.4 * q, 0.15 * q),
        knee=pair(0.6 * q, 0.3 * q),
        abduct=pair(0.12 + 0.8 * q, 0.12 + 0.3 * q),
    )


def wander(motion: Motion, x: float) -> Angles:
    """Drift between random poses."""
    place = (x / (2 * math.pi) * 0.8) % len(motion.keys)
    now = int(place)
    return blend(motion.keys[now], motion.keys[(now + 1) % len(motion.keys)], smooth(place - now))


MOTIONS: dict[str, Callable[[Motion, float], Angles]] = {
    "idle": idle,
    "walk": walk,
    "run": run,
    "wave": wave,
    "squat": squat,
    "sit": sit,
    "seated": seated,
    "jack": jack,
    "raise": raise_arm,
    "bend": bend,
    "punch": punch,
    "kick": kick,
    "clap": clap,
    "drink": drink,
    "throw": throw,
    "hug": hug,
    "reach": reach,
    "stand": stand,
    "fall": fall,
    "random": wander,
}
# How often each is drawn at random, in the order of MOTIONS; raised arms often, they are hard.
SHARES = np.array(
    [2, 3, 1, 2.2, 1.3, 1.5, 1.5, 1.2, 1.8, 1, 1, 1, 1, 1.8, 1.4, 1.5, 1.5, 2.2, 0.8, 3.5]
)
