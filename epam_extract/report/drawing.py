"""Small pictures for the page: PNG and JPEG as ``data:`` URLs, skeletons and strips as SVG."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from ..config import MIN_KEYPOINT_SCORE

SIDE = 120  # most rows of a self-similarity
JPEG_QUALITY = 60
PEOPLE = 6  # most people in one picture, highest scores first
BONES: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("head", ((0, 1), (0, 2), (1, 3), (2, 4))),
    ("left", ((5, 7), (7, 9), (11, 13), (13, 15))),
    ("right", ((6, 8), (8, 10), (12, 14), (14, 16))),
    ("trunk", ((5, 6), (5, 11), (6, 12), (11, 12))),
)
"""Which of COCO's 17 keypoints are joined, by the CSS class that colours them."""
SURE = 0.3  # bones with a joint of a lower score are drawn faintly
ATTENTION = (255, 214, 64)


def jpeg(picture: np.ndarray) -> str:
    """An RGB picture as a ``data:`` URL."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _data("jpeg", encoded)


def png(picture: np.ndarray) -> str:
    """A BGR or BGRA picture as a ``data:`` URL."""
    _, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return _data("png", encoded)


def _data(kind: str, encoded: np.ndarray) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def self_similarity(features: np.ndarray) -> np.ndarray:
    """Cosine similarity (n, n) float32 of rows (n, C) after subtracting their mean.

    What all windows of a video have in common says nothing about how it changes.
    """
    rows = features - features.mean(0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.maximum(norms, 1e-12)
    return (rows @ rows.T).astype(np.float32)


def similarity_picture(similarity: np.ndarray) -> str:
    """A similarity in [-1, 1] as a picture: dark for opposite rows, bright for similar ones."""
    levels = (
        np.round((similarity + 1) * 31.5).clip(0, 63).astype(np.uint8)
    )  # few levels make smaller files
    return png(cv2.applyColorMap(levels * 4, cv2.COLORMAP_VIRIDIS))


def attention_picture(attention: np.ndarray, *, low: float, high: float) -> str:
    """A map (7, 7) as an overlay, opaque at ``high`` and transparent at ``low``."""
    share = (attention.astype(np.float32) - low) / max(high - low, 1e-6)
    picture = np.empty((*attention.shape, 4), np.uint8)
    picture[..., :3] = ATTENTION[::-1]
    picture[..., 3] = np.round(share.clip(0, 1) * 190)
    return png(picture)


def bone_paths(keypoints: np.ndarray, scores: np.ndarray) -> list[tuple[str, str]]:
    """Skeletons as SVG: (class, path) for each group of visible bones.

    ``keypoints`` (M, 17, 2) in units of the picture, ``scores`` (M, 17).
    """
    paths: dict[str, list[str]] = {}
    surest = np.argsort(-scores.sum(1), kind="stable")[:PEOPLE]
    for points, sure in zip(keypoints[surest], scores[surest], strict=True):
        for group, pairs in BONES:
            for first, second in pairs:
                least = min(sure[first], sure[second])
                if least >= MIN_KEYPOINT_SCORE:
                    (x1, y1), (x2, y2) = points[first], points[second]
                    name = group if least >= SURE else f"{group} faint"
                    paths.setdefault(name, []).append(f"M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}")
    return [(name, "".join(parts)) for name, parts in paths.items()]


def area_path(values: np.ndarray, edges: np.ndarray, *, height: float) -> str:
    """A filled step plot as an SVG path: value i between edge i and i + 1.

    ``values`` (n,) in [0, 1], ``edges`` (n + 1,) ascending.
    """
    parts = [f"M{edges[0]:.1f} {height:g}"]
    for value, left, right in zip(values, edges[:-1], edges[1:], strict=True):
        y = height * (1 - float(value))
        parts.append(f"L{left:.1f} {y:.1f}L{right:.1f} {y:.1f}")
    return "".join([*parts, f"L{edges[-1]:.1f} {height:g}Z"])
