"""The keypoints of one video, in place of a pose model."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ...errors import KeypointsFailed
from ...records import FramePiece, PoseTrack


class VideoKeypoints:
    """Returns the people of each piece of a video; used like a pose model."""

    def __init__(
        self, track: PoseTrack, *, whole: bool, linked: bool, fps: Fraction | None = None
    ) -> None:
        self._track = track
        self.fps = fps
        """Rate of the regular frames they are for; None: the video's own frames."""
        self.linked = linked
        """Whether a row is already one person."""
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
        if short:  # the last frames have no people
            keypoints = np.pad(keypoints, ((0, 0), (0, short), (0, 0), (0, 0)))
            scores = np.pad(scores, ((0, 0), (0, short), (0, 0)))
        there = (scores > 0).any((1, 2))
        people = int(np.flatnonzero(there).max(initial=-1)) + 1  # up to the last one who is in it
        return PoseTrack(
            np.ascontiguousarray(keypoints[:people]), np.ascontiguousarray(scores[:people])
        )

    def through(self, indices: np.ndarray, num_frames: int) -> VideoKeypoints:
        """The keypoints of a view with frames ``indices`` (T,) of a video of ``num_frames``.

        Raises:
            KeypointsFailed: they are not for a video of this many frames.
        """
        self.require(num_frames)
        there = indices < self._frames
        keypoints = self._track.keypoints[:, indices[there]]
        scores = self._track.keypoint_scores[:, indices[there]]
        left = len(indices) - keypoints.shape[1]  # the last frames have no people
        track = PoseTrack(
            np.pad(keypoints, ((0, 0), (0, left), (0, 0), (0, 0))),
            np.pad(scores, ((0, 0), (0, left), (0, 0))),
        )
        return VideoKeypoints(track, whole=True, linked=self.linked)

    def require_line(self, fps: Fraction | None) -> None:
        """Raise KeypointsFailed unless they are for frames of this rate (None: the video's own)."""
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
        """Raise KeypointsFailed unless they are for a video of this many frames."""
        if self._frames == num_frames or (not self._whole and self._frames < num_frames):
            return
        hint = "expected those of this very file, none left out"
        if not self._whole:
            hint = "expected frames counted from 0" if self._frames == num_frames + 1 else hint
        raise KeypointsFailed(
            f"its keypoints are of {self._frames} frames and the video has {num_frames}; {hint}"
        )
