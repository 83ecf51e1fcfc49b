"""rtmlib's drawing of people, for pictures that a preview shows."""

from __future__ import annotations

import numpy as np


def draw_skeletons(
    picture: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    *,
    least: float,
    width: int = 2,
) -> np.ndarray:
    """A copy of an RGB picture with rtmlib's skeleton of every person in it.

    ``keypoints`` (M, 17, 2) in pixels of the picture, ``scores`` (M, 17). Joints with a score under
    ``least``, and bones that end in one, are left out. ``width`` is that of a bone, and the radius
    of a joint, in pixels.
    """
    from rtmlib.visualization import draw_skeleton

    return draw_skeleton(
        picture.copy(), keypoints, scores, kpt_thr=least, radius=width, line_width=width
    )
