"""The keypoints of one video, in place of a pose model."""

from __future__ import annotations

import numpy as np

from ...errors import KeypointsFailed
from ...records import FramePiece, PoseTrack


class VideoKeypoints:
    """Gives each piece of a video its people; the video's length shows at its end."""

    def __init__(self, track: PoseTrack, *, whole: bool, linked: bool) -> None:
        self._track = track
        self.linked = linked
        """Whether a row is one person already."""
        self._frames = track.keypoints.shape[1]
        self._whole = whole

    def estimate(self, piece: FramePiece) -> PoseTrack:
        """The people of a piece.

        Raises:
            KeypointsFailed: the video has more frames than keypoints.
        """
        stop = piece.start + len(piece.frames)
        if self._whole and stop > self._frames:
            raise KeypointsFailed(
                f"its keypoints are of {self._frames} frames and the video has at least {stop}; "
                "expected those of this very file, none left out"
            )
        where = slice(piece.start, stop)
        keypoints, scores = self._track.keypoints[:, where], self._track.keypoint_scores[:, where]
        short = len(piece.frames) - keypoints.shape[1]
        if short:  # nobody is in the last frames
            keypoints = np.pad(keypoints, ((0, 0), (0, short), (0, 0), (0, 0)))
            scores = np.pad(scores, ((0, 0), (0, short), (0, 0)))
        there = (scores > 0).any((1, 2))
        people = int(np.flatnonzero(there).max(initial=-1)) + 1  # nobody who is in no frame of it
        return PoseTrack(
            np.ascontiguousarray(keypoints[:people]), np.ascontiguousarray(scores[:people])
        )

    def require(self, num_frames: int) -> None:
        """Raise KeypointsFailed unless they are of a video of this many frames."""
        if self._frames == num_frames or (not self._whole and self._frames < num_frames):
            return
        hint = "expected those of this very file, none left out"
        if not self._whole:
            hint = "expected frames counted from 0" if self._frames == num_frames + 1 else hint
        raise KeypointsFailed(
            f"its keypoints are of {self._frames} frames and the video has {num_frames}; {hint}"
        )
