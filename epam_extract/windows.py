"""Which frames of a video make up each window, and at what time each window is.

Pure functions of integers and timestamps. Nothing here opens a file or touches a frame.
"""

from __future__ import annotations

import itertools

import numpy as np

from .config import POSE_FRAMES, UNIFORM_SEED, WindowConfig


def _first_start(config: WindowConfig) -> int:
    """First frame of window 0; negative in the centred grid."""
    if config.grid == "valid":
        return 0
    return config.stride // 2 - POSE_FRAMES // 2 * config.frame_interval


def window_starts(num_frames: int, config: WindowConfig) -> np.ndarray:
    """First frame of every window: (W,) int64; may lie outside the video.

    ``centered``: window i is centred at frame ``i*stride + stride/2``, and there are
    ``ceil(T/stride)``; ``valid``: whole windows from frame 0 on, or one if the video is shorter
    than a window; ``single``: one, from frame 0.
    """
    if config.grid == "single":
        return np.zeros(1, np.int64)
    if config.grid == "valid":
        return np.arange(0, max(num_frames - config.span, 0) + 1, config.stride, dtype=np.int64)
    return np.arange(0, num_frames, config.stride, dtype=np.int64) + _first_start(config)


def whole_windows(num_frames: int, config: WindowConfig, *, first: int = 0) -> np.ndarray:
    """The windows from row ``first`` on that end within the first ``num_frames`` frames.

    (n, 48) int64. They do not depend on the length of the video, so they can be computed before
    that is known. The ``single`` grid has none.
    """
    if config.grid == "single":
        return np.zeros((0, POSE_FRAMES), np.int64)
    rows = (num_frames - config.span - _first_start(config)) // config.stride + 1
    starts = np.arange(first, max(rows, first)) * config.stride + _first_start(config)
    frames = starts[:, None] + np.arange(POSE_FRAMES) * config.frame_interval
    return np.maximum(frames, 0)


def earliest_frame(row: int, config: WindowConfig) -> int:
    """The first frame that the windows from ``row`` on need."""
    if config.grid == "single":
        return 0
    return max(row * config.stride + _first_start(config), 0)


def _unclipped(num_frames: int, config: WindowConfig) -> np.ndarray:
    starts = window_starts(num_frames, config)
    return starts[:, None] + np.arange(POSE_FRAMES) * config.frame_interval


def plan_windows(num_frames: int, config: WindowConfig) -> np.ndarray:
    """Frame indices of every window: (W, 48) int64, all inside the video.

    Positions before the first frame repeat it; positions after the last frame repeat the last.
    ``single`` is :func:`uniform_window`. There is always at least one window.
    """
    if config.grid == "single":
        return uniform_window(num_frames)[None]
    return np.clip(_unclipped(num_frames, config), 0, num_frames - 1)


def uniform_window(num_frames: int) -> np.ndarray:
    """The original's test-time sampling of one trimmed video: (48,) int64.

    One frame is drawn, with a fixed seed, from each of 48 segments of equal length. In a video of
    fewer than 96 frames, random frames are skipped instead; one of fewer than 48 wraps around.
    Source: UniformSampleFrames of PYSKL, ``test_mode=True``, seed 255.
    """
    rng = np.random.RandomState(UNIFORM_SEED)
    if num_frames < POSE_FRAMES:
        return np.arange(POSE_FRAMES) % num_frames
    if num_frames < 2 * POSE_FRAMES:
        skipped = rng.choice(POSE_FRAMES + 1, num_frames - POSE_FRAMES, replace=False)
        jumps = np.zeros(POSE_FRAMES + 1, np.int64)
        jumps[skipped] = 1
        return np.arange(POSE_FRAMES) + np.cumsum(jumps)[:-1]
    edges = np.arange(POSE_FRAMES + 1, dtype=np.int64) * num_frames // POSE_FRAMES  # (49,)
    return edges[:-1] + rng.randint(np.diff(edges))


def valid_share(num_frames: int, config: WindowConfig) -> np.ndarray:
    """Share of each window's frames that lie inside the video: (W,) float32 in (0, 1]."""
    if config.grid == "single":
        return np.array([min(num_frames / POSE_FRAMES, 1.0)], np.float32)
    frames = _unclipped(num_frames, config)
    return ((frames >= 0) & (frames < num_frames)).mean(1, dtype=np.float64).astype(np.float32)


def window_times(timestamps: np.ndarray, frame_seconds: float, config: WindowConfig) -> np.ndarray:
    """Start, centre and end of every window in seconds: (W, 3) float64.

    ``timestamps`` (T,) are those of the frames; ``frame_seconds`` is the duration of the last one.
    Start and end are those of the frames inside the video. The centre is the time that the row
    stands for: frame position ``i*stride + stride/2`` in the centred grid, so that neighbouring
    rows are one stride apart even if the last one lies past the end.
    """
    total = len(timestamps)
    edges = np.append(timestamps, timestamps[-1] + frame_seconds)  # (T + 1,)
    if config.grid == "single":
        return np.array([[edges[0], (edges[0] + edges[-1]) / 2, edges[-1]]])
    first = window_starts(total, config)
    if config.grid == "centered":
        center = np.arange(len(first)) * config.stride + config.stride / 2
    else:
        center = first + config.span / 2
    position = np.arange(total + 1)
    past = np.maximum(center - total, 0) * frame_seconds
    return np.stack(
        [
            np.interp(first, position, edges),
            np.interp(center, position, edges) + past,
            np.interp(first + config.span, position, edges),
        ],
        axis=1,
    )


def grid_attributes(num_frames: int, config: WindowConfig) -> dict[str, float]:
    """``feat_stride``, ``window_frames`` and ``offset_frames`` (centre of row 0), in frames.

    Row i stands for frame position ``offset_frames + i * feat_stride``.
    """
    if config.grid == "single":
        stride, span, offset = float(num_frames), float(num_frames), num_frames / 2
    else:
        stride, span = float(config.stride), float(config.span)
        offset = stride / 2 if config.grid == "centered" else span / 2
    return {"feat_stride": stride, "window_frames": span, "offset_frames": offset}


def rows_to_show(seen: np.ndarray, count: int) -> list[int]:
    """Rows of up to ``count`` windows spread over a video, to be shown.

    The windows are split into equal parts. From each, the window with the highest
    ``seen`` (W,) is chosen; of equal ones, the nearest to the middle of the part.
    """
    edges = np.linspace(0, len(seen), min(count, len(seen)) + 1).round().astype(int)
    chosen = []
    for first, stop in itertools.pairwise(edges):
        rows = np.arange(first, stop)
        away = np.abs(rows - (first + stop - 1) / 2)
        chosen.append(int(rows[np.lexsort((away, -seen[rows]))[0]]))
    return chosen
