"""Rendered clips with the exact truth about everyone in them: the tests' people.

>>> clip = render_clip(3, frames=48, motions=["wave"])
>>> clip.frames.shape, clip.keypoints.shape
((48, 240, 320, 3), (1, 48, 17, 2))

The same arguments give the same pixels and numbers, on every machine that computes alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .scenes import EASY, Look, Scene
from .surfaces import Array

Skeleton = tuple[tuple[int, int], ...]
LIMBS: Skeleton = (
    *((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12)),
    *((11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (0, 2), (1, 3), (2, 4)),
)


@dataclass(frozen=True)
class RenderedClip:
    """Frames and truth. M persons, T frames; pixels are of the frames as they are.

    ``frames`` (T, H, W, 3) uint8 RGB; ``keypoints`` (M, T, 17, 2) float32, COCO order, also
    where hidden; ``visibility`` (M, T, 17) int8: 0 outside the picture, 1 hidden, 2 visible;
    ``boxes`` (M, T, 4) float32 around the pixels that show, zeros where none does; ``usable``
    (M, T) bool: whether a detector should find the person there; ``fps`` frames a second.
    """

    frames: NDArray[np.uint8]
    keypoints: Array
    visibility: NDArray[np.int8]
    boxes: Array
    usable: NDArray[np.bool_]
    fps: float

    @property
    def scores(self) -> Array:
        """Return (M, T, 17) float32 as a pose file holds them: 1 visible, 0.5 hidden, 0 outside."""
        return (self.visibility / 2).astype(np.float32)


def render_scene(scene: Scene, *, frames: int, fps: float = 25.0) -> RenderedClip:
    """Film a scene with its people for a number of frames."""
    images, truth = [], []
    for index in range(frames):
        shot = scene.frame(index / fps, index=index)
        images.append(shot.image)
        truth.append(shot.people)
    people = len(scene.bodies)

    def gather(of: Callable[..., object], *shape: int) -> NDArray:
        rows = [[of(at[m]) for at in truth] for m in range(people)]
        return np.array(rows).reshape(people, frames, *shape)

    return RenderedClip(
        frames=np.stack(images),
        keypoints=gather(lambda person: person.keypoints, 17, 2).astype(np.float32),
        visibility=gather(lambda person: person.visibility, 17).astype(np.int8),
        boxes=gather(lambda person: person.box, 4).astype(np.float32),
        usable=gather(lambda person: person.usable).astype(bool),
        fps=fps,
    )


def render_clip(
    seed: int,
    *,
    frames: int = 48,
    people: int = 1,
    motions: Sequence[str] | None = None,
    fps: float = 25.0,
    width: int = 320,
    height: int = 240,
    look: Look = EASY,
    textures: int = 0,
) -> RenderedClip:
    """Render ``people`` persons; ``motions`` names one each, see ``motions.MOTIONS``.

    ``people=0`` gives an empty room. ``textures`` picks the cloth; evaluation uses other ones
    than training did. Raises ValueError for a motion there is none of, or too few of them.
    """
    if motions is not None and len(motions) != people:
        raise ValueError(f"{len(motions)} motions for {people} people: give one for each person")
    scene = Scene(seed, look=look, width=width, height=height, textures=textures, empty=True)
    scene.cast(people, list(motions) if motions is not None else None)
    return render_scene(scene, frames=frames, fps=fps)


def draw_skeleton(
    image: NDArray[np.uint8], keypoints: Array, scores: Array, *, threshold: float = 0.3
) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) RGB with one person's limbs: left green, right red."""
    drawn = image.copy()
    places = [(round(float(x)), round(float(y))) for x, y in keypoints]
    for first, second in LIMBS:
        if min(scores[first], scores[second]) > threshold:
            odd = (first % 2, second % 2)
            colour = (250, 220, 60) if odd[0] != odd[1] else (60, 230, 90)
            colour = (250, 90, 60) if odd == (0, 0) else colour
            cv2.line(drawn, places[first], places[second], colour, 2, cv2.LINE_AA)
    for place, score in zip(places, scores, strict=True):
        if score > threshold:
            cv2.circle(drawn, place, 2, (255, 255, 255), -1, cv2.LINE_AA)
    return drawn
