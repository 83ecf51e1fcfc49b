"""Keypoints of a whole video, as a run reads them."""

from pathlib import Path

import numpy as np
from make_keypoints import FRAMES, HEIGHT, WIDTH, annotation, dump

from epam_extract.errors import KeypointsError, KeypointsFailed
from epam_extract.exchange.keypoints import KeypointFile, open_keypoints
from epam_extract.records import FramePiece, PoseTrack

BAD = (KeypointsError, KeypointsFailed)


def track(
    source: KeypointFile,
    name: str = "a",
    *,
    num_frames: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> PoseTrack:
    """The people of a whole video, as a run gets them piece by piece."""
    video = source.open(source.match([name]).found[name], height=height, width=width)
    frames = np.broadcast_to(np.uint8(0), (num_frames, height, width, 3))
    found = video.estimate(FramePiece(0, frames))
    video.require(num_frames)
    return found


def read(path: Path, **changes: int) -> PoseTrack:
    return track(open_keypoints(path), **changes)


def names(path: Path, *found: str) -> KeypointFile:
    return open_keypoints(dump(path / "s.pkl", [annotation(name) for name in found]))
