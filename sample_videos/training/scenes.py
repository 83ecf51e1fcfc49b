"""A scene: room or clutter, camera and light, the people in it, and a frame at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .backgrounds import abstract, floor, wall
from .people import DEPTHS, JOINTS, Body, Vector
from .props import THINGS, Block, Thing, make_thing
from .raster import NOBODY, THING, Camera, Canvas, Light, draw_block, draw_capsule, draw_face
from .surfaces import Array, random_colour

PERSON_METRES = 1.7
HIDDEN, VISIBLE = 1, 2  # COCO's visibility; 0 is outside the picture


@dataclass(frozen=True)
class Person:
    """The truth about one person in one frame.

    ``keypoints`` (17, 2) float32 pixels; ``visibility`` (17,) int8 (0 outside the picture,
    1 hidden, 2 visible); ``box`` (4,) float32 x1, y1, x2, y2 around the pixels that show, all 0
    when none does; ``pixels`` how many those are; ``usable`` whether a detector should find it.
    """

    keypoints: Array
    visibility: NDArray[np.int8]
    box: Array
    pixels: int
    usable: bool


@dataclass(frozen=True)
class Frame:
    """``image`` (H, W, 3) uint8 RGB and the people in it, hidden ones included."""

    image: NDArray[np.uint8]
    people: list[Person]


FURNITURE = tuple(name for name in THINGS if name != "desk")


@dataclass(frozen=True)
class Look:
    """How hard a scene is.

    ``easy`` scenes are like the sample videos: whole people, level camera, clean picture. What
    the networks are measured on is ``EASY`` and ``HARD``; training exaggerates what they get wrong.
    """

    easy: bool = False
    room_share: float = 0.6  # the others have abstract backgrounds
    smallest: float = 58.0  # a person's height in pixels of a 240-pixel-high frame
    largest: float = 330.0
    crowd: tuple[float, ...] = (0.12, 0.38, 0.30, 0.13, 0.07)  # shares of 0, 1, 2... people
    things: tuple[str, ...] = FURNITURE
    hidden: float = 0.22  # share of the casts with something between camera and person
    turned: float = 0.6  # share of people who face anywhere, the others about the camera
    wild: float = 1.0  # times the usual share of poses nobody planned


EASY = Look(easy=True, room_share=0.75, smallest=100.0, largest=175.0, crowd=(0.0, 0.65, 0.35))
HARD = Look()
CROWDED = Look(crowd=(0.1, 0.1, 0.35, 0.25, 0.2))
OFFICE = Look(crowd=(0.35, 0.25, 0.2, 0.12, 0.08), things=("desk", "desk", "chair", "loudspeaker"))


class Scene:
    """Everything that stays while people move. ``seed`` fixes it all; ``textures`` picks banks."""

    def __init__(
        self,
        seed: int,
        *,
        look: Look = HARD,
        width: int = 320,
        height: int = 240,
        textures: int = 0,
        empty: bool = False,
    ) -> None:
        self.seed, self.look, self.textures = seed, look, textures
        self.width, self.height = width, height
        self.rng = np.random.default_rng([seed, 7])
        self.bodies: list[Body] = []
        self.things: list[Thing] = []  # that came with the people
        rng, u = self.rng, self.rng.uniform
        low, high = math.log(look.smallest), math.log(look.largest)
        pixels = math.exp(u(low, high)) * height / 240
        focal = u(0.8, 1.6) * width
        self.distance = focal * PERSON_METRES / pixels
        eye = u(1.0, 1.6) if look.easy else u(0.5, 2.4)
        aim = 0.85 + (0 if look.easy else rng.normal(0, 0.22))
        self.camera = Camera(
            width,
            height,
            focal=focal,
            eye=eye,
            distance=self.distance,
            pitch=math.atan((eye - aim) / self.distance),
            roll=0.0 if look.easy else rng.normal(0, 0.04),
        )
        toward = np.array([u(-1, 1), u(-1, 0.3), u(0.1, 1)])
        tint = (1 + rng.normal(0, 0.07, 3)) * u(0.75, 1.2)
        self.light = Light(toward / np.linalg.norm(toward), u(0.3, 0.8), tint.astype(np.float32))
        self.half_width = 0.5 * width * self.distance / focal
        self.still = self._draw_still()
        self.shadows = rng.random() < 0.7
        self.blur = u(0.3, 1.1) if rng.random() < 0.5 else 0.0
        self.noise = u(0, 3) if look.easy else u(0, 9)
        self.jpeg = int(u(30, 95)) if rng.random() < (0.2 if look.easy else 0.5) else 0
        self.coarse = u(0.4, 0.9) if not look.easy and rng.random() < 0.2 else 1.0
        if not empty:
            self.cast()

    def _draw_still(self) -> Canvas:
        """Draw the background and the furniture, once for all frames."""
        rng, canvas = self.rng, Canvas.blank(self.height, self.width)
        if rng.random() < self.look.room_share:
            self._draw_room(canvas)
        else:
            canvas.image[:] = abstract(rng, self.height, self.width)
        names = self.look.things
        count = int(rng.integers(0, 4 if self.look.easy else 9)) if rng.random() < 0.85 else 0
        for _ in range(count):
            near = 0.1 if self.look.easy else 0.55
            z = rng.uniform(-2.5, near * self.distance) - (0.8 if self.look.easy else 0)
            reach = self.half_width * (self.distance - z) / self.distance
            x = rng.uniform(-1.2, 1.2) * reach
            kind = names[rng.integers(len(names))]
            for part in make_thing(kind, rng, seed=self.textures, x=x, z=z):
                self._draw_part(canvas, part)
        return canvas

    def _draw_room(self, canvas: Canvas) -> None:
        """Draw floor, back wall and sometimes side walls."""
        rng, u = self.rng, self.rng.uniform
        canvas.image[:] = random_colour(rng)
        bright = np.float32(u(150, 245))
        pale = bright * np.array([u(0.9, 1), u(0.93, 1), 1], np.float32)
        colour = pale if u() < 0.6 else random_colour(rng)
        back, high = -u(0.6, 4.0), u(2.5, 3.6)
        wide = self.half_width * (self.distance - back) / self.distance * 1.15 + 1
        left, right = -wide, wide
        if u() < 0.35:
            left = -u(0.5, 1.0) * wide
        if u() < 0.35:
            right = u(0.5, 1.0) * wide
        front = self.distance - 0.6
        tilt = abs(math.sin(self.camera_pitch())) * 0.5
        front -= tilt
        reach = max(front - back, 1.0)
        span = max(right - left, reach)
        ground = np.array(
            [[left, 0, back], [left + span, 0, back], [left + span, 0, front], [left, 0, front]]
        )
        draw_face(canvas, self.camera, ground, floor(rng, min(span, 14)), light=None)
        behind = np.array(
            [[left, high, back], [right, high, back], [right, 0, back], [left, 0, back]]
        )
        metres = min(max(right - left, 2.0), 16.0)
        draw_face(canvas, self.camera, behind, wall(rng, metres, high, colour), light=None)
        for x, share in ((left, 0.88), (right, 0.8)):
            sign = 1 if x < 0 else -1
            ends = (front, back) if sign > 0 else (back, front)
            side = np.array(
                [[x, high, ends[0]], [x, high, ends[1]], [x, 0, ends[1]], [x, 0, ends[0]]]
            )
            shade = (share * colour).astype(np.float32)
            draw_face(canvas, self.camera, side, wall(rng, min(reach, 8), high, shade), light=None)
        canvas.owner[:] = NOBODY

    def camera_pitch(self) -> float:
        """Return the camera's angle below the horizon, radians."""
        return float(math.asin(np.clip(-self.camera.rotation[2, 1], -1, 1)))

    def _draw_part(self, canvas: Canvas, part: Thing) -> None:
        if isinstance(part, Block):
            draw_block(canvas, self.camera, part, light=self.light)
        else:
            draw_capsule(canvas, self.camera, part, light=self.light, owner=THING)

    def cast(self, count: int | None = None, kinds: list[str] | None = None) -> None:
        """Replace the people by ``count`` new ones (at random by the look's shares)."""
        rng, u, look = self.rng, self.rng.uniform, self.look
        if count is None:
            count = int(rng.choice(len(look.crowd), p=look.crowd))
        self.bodies, self.things = [], []
        for i in range(count):
            body = Body(
                rng,
                seed=self.textures,
                moves=kinds[i] if kinds else None,
                turned=look.turned,
                wild=look.wild,
            )
            if look.easy:
                body.x = (i - (count - 1) / 2) * self.half_width * 1.1 + u(-0.1, 0.1)
                body.z = u(-0.3, 0.3)
            else:
                away = self.distance - self.distance * u(0.72, 1.6)
                body.z = 0.0 if i == 0 else away
                body.x = u(-0.85, 0.85) * self.half_width * (self.distance - body.z) / self.distance
            self.bodies.append(body)
        if count > 1 and not look.easy and u() < 0.45 and kinds is None:
            self._pair(*self.bodies[:2])
        for body in self.bodies:
            kind = getattr(body.moves, "kind", "")
            if kind == "seated" and u() < 0.75:
                seat = "chair" if u() < 0.75 else "sofa"
                x, z, yaw = body.place(0)
                self.things += make_thing(seat, rng, seed=self.textures, x=x, z=z, yaw=yaw)
        if count and not look.easy and u() < look.hidden:  # something between camera and person
            x, z, _ = self.bodies[0].place(0)
            kind = ("table", "chair", "sofa", "cupboard", "plant")[rng.integers(5)]
            side = u(-0.5, 0.5)
            self.things += make_thing(kind, rng, seed=self.textures, x=x + side, z=z + u(0.5, 1.0))

    def _pair(self, first: Body, second: Body) -> None:
        """Let two people meet: close, and mostly facing each other."""
        rng, u = self.rng, self.rng.uniform
        apart, angle = u(0.3, 0.9), u(-0.6, 0.6) + (math.pi if u() < 0.5 else 0)
        second.x = first.x + apart * math.cos(angle)
        second.z = first.z + apart * math.sin(angle)
        toward = math.atan2(second.x - first.x, second.z - first.z)
        first.yaw, second.yaw = toward + rng.normal(0, 0.4), toward + math.pi + rng.normal(0, 0.4)
        first.speed = second.speed = 0.0
        if u() < 0.25:  # side by side
            first.yaw = second.yaw = u(-0.8, 0.8)

    def frame(self, seconds: float = 0.0, *, index: int = 0) -> Frame:
        """Return the frame at a time; ``index`` picks its camera noise."""
        canvas = self.still.copy()
        points = [body.joints(seconds) for body in self.bodies]
        if self.shadows:
            self._cast_shadows(canvas, points)
        for part in self.things:
            self._draw_part(canvas, part)
        for owner, (body, joints) in enumerate(zip(self.bodies, points, strict=True)):
            for capsule in body.capsules(joints):
                draw_capsule(canvas, self.camera, capsule, light=self.light, owner=owner)
        people = [self._truth(canvas, owner, joints) for owner, joints in enumerate(points)]
        return Frame(self._photograph(canvas, index), people)

    def _cast_shadows(self, canvas: Canvas, points: list[dict[str, Vector]]) -> None:
        """Darken the floor under the feet."""
        dark = np.zeros((self.height, self.width), np.float32)
        for joints in points:
            for name in ("ankle0", "ankle1", "pelvis"):
                place = joints[name] * [1, 0, 1]
                seen = self.camera.view(place)
                if seen[2] < 0.5:
                    continue
                x, y = self.camera.project(seen)
                radius = self.camera.focal * (0.28 if name == "pelvis" else 0.16) / seen[2]
                if radius < 2 * self.width:
                    axes = (max(1, int(radius)), max(1, int(radius * 0.3)))
                    cv2.ellipse(dark, (int(x), int(y)), axes, 0, 0, 360, 0.5, -1)
        canvas.image *= (1 - cv2.blur(dark, (15, 9)))[..., None]

    def _truth(self, canvas: Canvas, owner: int, joints: dict[str, Vector]) -> Person:
        seen = self.camera.view(np.stack([joints[name] for name in JOINTS]))
        keypoints = self.camera.project(seen)
        limit = [self.width - 1, self.height - 1]
        inside = ((keypoints >= 0) & (keypoints <= limit)).all(1) & (seen[:, 2] > 0.3)
        x, y = keypoints.round().clip(0, limit).astype(int).T
        showing = canvas.depth[y, x] > seen[:, 2] - DEPTHS * 1.6
        visibility = (inside * (HIDDEN + showing)).astype(np.int8)
        rows, columns = np.nonzero(canvas.owner == owner)
        box = np.zeros(4, np.float32)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        whole = np.ptp(keypoints, 0).clip(1) * [1.25, 1.15]
        share = (box[2] - box[0]) * (box[3] - box[1]) / whole.prod()
        usable = bool(
            len(rows) > 60
            and (visibility == VISIBLE).sum() >= 5
            and box[3] - box[1] > 20 * self.height / 240
            and share > 0.3
        )
        return Person(keypoints.astype(np.float32), visibility, box, len(rows), usable)

    def _photograph(self, canvas: Canvas, index: int) -> NDArray[np.uint8]:
        """Add creases, blur, noise and compression, and return (H, W, 3) uint8 RGB."""
        image = canvas.image
        depth = np.minimum(canvas.depth, self.distance + 3)
        behind = depth - cv2.blur(depth, (9, 9))
        crease = (behind > 0.01) & (behind < 0.25) & (canvas.owner != NOBODY)
        image *= (1 - 1.6 * behind.clip(0, 0.25) * crease)[..., None]
        if self.coarse < 1:
            small = cv2.resize(image, None, fx=self.coarse, fy=self.coarse)
            image = cv2.resize(small, (self.width, self.height))
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        if self.noise > 1:
            rng = np.random.default_rng([self.seed, index, 3])
            grain = rng.standard_normal((self.height // 2 + 1, self.width, 3), np.float32)
            grain = np.concatenate([grain, grain[::-1, ::-1]])[: self.height]
            image = image + np.float32(self.noise) * grain
        picture = image.clip(0, 255).astype(np.uint8)
        if self.jpeg:
            packed = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])[1]
            picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
        return np.ascontiguousarray(picture[..., ::-1])
