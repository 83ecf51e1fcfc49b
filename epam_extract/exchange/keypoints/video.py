"""The keypoints of one video, in place of a pose model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ...errors import KeypointsFailed
from ...records import FramePiece, PoseTrack


class VideoKeypoints:
    """Gives each piece of a video its people; the video's length shows at its end."""

    def __init__(
        self, track: PoseTrack, *, whole: bool, linked: bool, fps: Fraction | None = None
    ) -> None:
        self._track = track
        self.fps = fps
        """Of the regular time line they are on; None: the video's own frames."""
        self.linked = linked
        """Whether a row is one person already."""
        self._frames = track.keypoints.shape[1]
        self._whole = whole

    def estimate(self, piece: FramePiece) -> PoseTrack:
        """The people of a piece.

        Raises:
            KeypointsFailed: the video has more frames than keypoints.
        """
        places = piece.places()
        stop = int(places[-1]) + 1
        if self._whole and stop > self._frames:
            raise KeypointsFailed(
                f"its keypoints are of {self._frames} frames and the video has at least {stop}; "
                "expected those of this very file, none left out"
            )
        where = places[places < self._frames]
        keypoints, scores = self._track.keypoints[:, where], self._track.keypoint_scores[:, where]
        short = len(places) - len(where)
        if short:  # nobody is in the last frames
            keypoints = np.pad(keypoints, ((0, 0), (0, short), (0, 0), (0, 0)))
            scores = np.pad(scores, ((0, 0), (0, short), (0, 0)))
        there = (scores > 0).any((1, 2))
        people = int(np.flatnonzero(there).max(initial=-1)) + 1  # nobody who is in no frame of it
        return PoseTrack(
            np.ascontiguousarray(keypoints[:people]), np.ascontiguousarray(scores[:people])
        )

    def through(self, indices: np.ndarray, num_frames: int) -> VideoKeypoints:
        """Of the frames (T,) of a part or a time line of the video, which has ``num_frames``.

        Raises:
            KeypointsFailed: they are not of a video of this many frames.
        """
        self.require(num_frames)
        there = indices < self._frames
        keypoints = self._track.keypoints[:, indices[there]]
        scores = self._track.keypoint_scores[:, indices[there]]
        left = len(indices) - keypoints.shape[1]  # nobody is in the last frames
        track = PoseTrack(
            np.pad(keypoints, ((0, 0), (0, left), (0, 0), (0, 0))),
            np.pad(scores, ((0, 0), (0, left), (0, 0))),
        )
        return VideoKeypoints(track, whole=True, linked=self.linked)

    def require_line(self, fps: Fraction | None) -> None:
        """Raise KeypointsFailed unless they are on a time line of this rate; None: on none."""
        if self.fps == fps:
            return
        line = "its own frames"
        if self.fps is not None:
            line = f"a time line of {float(self.fps):g} frames a second"
        raise KeypointsFailed(
            f"its keypoints are on {line}, which is not that of this run; expected those of every "
            "frame of the whole video, or of a run with the same --fps and --segments"
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
