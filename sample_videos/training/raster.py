"""Drawing with a z-buffer: a camera, capsules and textured four-cornered faces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .people import Capsule, Vector, turn_y
from .props import Block
from .surfaces import TILE, Array

NEAR = 0.3  # metres before the camera where drawing ends
FAR = 1e9
NOBODY, THING = -1, -2  # what `Canvas.owner` holds besides a person's index
GRID_Y, GRID_X = np.arange(4096, dtype=np.float32)[:, None], np.arange(4096, dtype=np.float32)


class Camera:
    """A pinhole at height ``height`` and distance ``distance`` (m), looking along -z."""

    def __init__(
        self,
        width: int,
        height: int,
        *,
        focal: float,
        eye: float,
        distance: float,
        pitch: float = 0.0,
        roll: float = 0.0,
    ) -> None:
        self.width, self.height, self.focal = width, height, focal
        self.position = np.array([0, eye, distance])
        c, s = math.cos(pitch), math.sin(pitch)
        tilted = np.array([[1, 0, 0], [0, -c, s], [0, -s, -c]])
        c, s = math.cos(roll), math.sin(roll)
        self.rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ tilted

    def view(self, points: Vector) -> Vector:
        """World (..., 3) to camera axes: x right, y down, z forward."""
        return (points - self.position) @ self.rotation.T

    def project(self, seen: Vector) -> Vector:
        """Camera axes (..., 3) to pixels (..., 2)."""
        depth = np.maximum(seen[..., 2], 0.15)
        middle = np.array([self.width / 2, self.height / 2])
        return self.focal * seen[..., :2] / depth[..., None] + middle


@dataclass(frozen=True)
class Light:
    """Direction to the light in camera axes (3,), the share that is everywhere, and its colour."""

    direction: Vector
    ambient: float
    colour: Array


@dataclass
class Canvas:
    """A picture being drawn: ``image`` (H, W, 3), ``depth`` (H, W), ``owner`` (H, W)."""

    image: Array
    depth: Array
    owner: NDArray[np.int16]

    @classmethod
    def blank(cls, height: int, width: int) -> Canvas:
        return cls(
            np.zeros((height, width, 3), np.float32),
            np.full((height, width), FAR, np.float32),
            np.full((height, width), NOBODY, np.int16),
        )

    def copy(self) -> Canvas:
        return Canvas(self.image.copy(), self.depth.copy(), self.owner.copy())


def draw_capsule(
    canvas: Canvas, camera: Camera, capsule: Capsule, *, light: Light, owner: int
) -> None:
    """Draw one capsule, with its cloth and shading, where nothing nearer is."""
    ends = camera.view(np.stack([capsule.start, capsule.end]))
    if ends[:, 2].min() < NEAR:
        return
    (ax, ay), (bx, by) = camera.project(ends)
    depth_a, depth_b = ends[:, 2]
    radius_a = camera.focal * capsule.start_radius / depth_a
    radius_b = camera.focal * capsule.end_radius / depth_b
    height, width = canvas.depth.shape
    x0 = max(0, int(min(ax - radius_a, bx - radius_b)) - 1)
    x1 = min(width, int(max(ax + radius_a, bx + radius_b)) + 2)
    y0 = max(0, int(min(ay - radius_a, by - radius_b)) - 1)
    y1 = min(height, int(max(ay + radius_a, by + radius_b)) + 2)
    if x0 >= x1 or y0 >= y1:
        return
    f = np.float32
    px, py = GRID_X[x0:x1] - f(ax), GRID_Y[y0:y1] - f(ay)
    dx, dy = f(bx - ax), f(by - ay)
    square = dx * dx + dy * dy
    along = np.zeros((y1 - y0, x1 - x0), f)
    if square > 0.01:
        along = np.clip((px * dx + py * dy) / square, 0, 1)
    radius = f(radius_a) + along * f(radius_b - radius_a)
    nx, ny = (px - along * dx) / radius, (py - along * dy) / radius
    off_axis = nx * nx + ny * ny
    cover = np.clip((1 - np.sqrt(off_axis)) * radius + f(0.5), 0, 1)
    nz = np.sqrt(np.maximum(1 - off_axis, 0))
    thick = f(capsule.start_radius) + along * f(capsule.end_radius - capsule.start_radius)
    depth = f(depth_a) + along * f(depth_b - depth_a) - nz * thick
    window = canvas.depth[y0:y1, x0:x1]
    hit = (cover > 0) & (depth < window)
    if not hit.any():
        return
    nx, ny, nz, cover = nx[hit], ny[hit], nz[hit], cover[hit]
    along = along[hit]
    toward = light.direction
    lit = np.maximum(nx * f(toward[0]) + ny * f(toward[1]) + nz * f(toward[2]), 0)
    shade = light.ambient + (1 - light.ambient) * lit
    material = capsule.material
    scale = TILE / material.metres
    length = math.dist(capsule.start, capsule.end)
    across = (nx * dy - ny * dx) / max(math.sqrt(square), 1e-3) * f(capsule.start_radius)
    u = (along * f(length * scale)).astype(np.int32) & (TILE - 1)
    v = (across * f(scale)).astype(np.int32) & (TILE - 1)
    cloth = material.cloth[u, v]
    colour = material.first + (material.second - material.first) * cloth[:, :1]
    colour = colour * (shade * cloth[:, 1])[:, None] * light.colour
    target = canvas.image[y0:y1, x0:x1]
    behind = target[hit]
    target[hit] = behind + (colour - behind) * cover[:, None]
    solid = hit & (np.clip((1 - np.sqrt(off_axis)) * radius + f(0.5), 0, 1) > 0.5)
    window[solid] = depth[solid]
    canvas.owner[y0:y1, x0:x1][solid] = owner


def draw_face(
    canvas: Canvas, camera: Camera, corners: Vector, picture: Array, *, light: Light | None
) -> None:
    """Draw ``picture`` (h, w, 3) on a flat face, corners (4, 3): top left, then clockwise."""
    seen = camera.view(corners)
    if seen[:, 2].min() < NEAR:
        return
    points = camera.project(seen)
    height, width = canvas.depth.shape
    x0, y0 = np.maximum(points.min(0).astype(int), 0)
    x1, y1 = np.minimum(points.max(0).astype(int) + 2, [width, height])
    if x0 >= x1 or y0 >= y1 or np.abs(points).max() > 2e4:
        return
    points = points - [x0, y0]
    size = (int(x1 - x0), int(y1 - y0))
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, points.round().astype(np.int32), 1)
    # 1/depth is linear over the picture; solve it from three corners
    plane = np.column_stack([points[:3], np.ones(3)])
    if abs(np.linalg.det(plane)) < 1.0:
        return  # seen from its edge
    a, b, c = np.linalg.solve(plane, 1 / seen[:3, 2]).astype(np.float32)
    inverse = a * GRID_X[: size[0]] + b * GRID_Y[: size[1]] + c
    depth = 1 / np.maximum(inverse, 1e-4)
    window = canvas.depth[y0:y1, x0:x1]
    hit = (mask > 0) & (depth < window)
    if not hit.any():
        return
    h, w = picture.shape[:2]
    source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    warp = cv2.getPerspectiveTransform(source, points.astype(np.float32))
    drawn = cv2.warpPerspective(
        picture, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    shade = np.ones(3, np.float32)
    if light is not None:
        normal = np.cross(seen[1] - seen[0], seen[3] - seen[0])
        normal = normal / (np.linalg.norm(normal) + 1e-9)
        normal = -normal if normal[2] > 0 else normal
        # camera axes look forward along +z; Light's z points back at the camera
        facing = normal[0] * light.direction[0] + normal[1] * light.direction[1]
        facing = max(facing - normal[2] * light.direction[2], 0)
        shade = light.colour * np.float32(light.ambient + (1 - light.ambient) * facing)
    canvas.image[y0:y1, x0:x1][hit] = (drawn * shade)[hit]
    window[hit] = depth[hit]
    canvas.owner[y0:y1, x0:x1][hit] = THING


def draw_block(canvas: Canvas, camera: Camera, block: Block, *, light: Light) -> None:
    """Draw the faces of a box that look at the camera."""
    half = block.size / 2
    turn = turn_y(block.yaw)
    corner = {
        (i, j, k): block.centre + turn @ (half * np.array([i, j, k]))
        for i in (-1, 1)
        for j in (-1, 1)
        for k in (-1, 1)
    }
    front, side = block.faces
    sides = (
        ([(-1, 1, 1), (1, 1, 1), (1, -1, 1), (-1, -1, 1)], front),
        ([(1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, -1)], side),
        ([(1, 1, 1), (1, 1, -1), (1, -1, -1), (1, -1, 1)], side),
        ([(-1, 1, -1), (-1, 1, 1), (-1, -1, 1), (-1, -1, -1)], side),
        ([(-1, 1, -1), (1, 1, -1), (1, 1, 1), (-1, 1, 1)], side),
        ([(-1, -1, 1), (1, -1, 1), (1, -1, -1), (-1, -1, -1)], side),
    )
    for names, picture in sides:
        corners = np.stack([corner[name] for name in names])
        outward = corners.mean(0) - block.centre
        if outward @ (camera.position - corners[0]) > 0:
            draw_face(canvas, camera, corners, picture, light=light)
