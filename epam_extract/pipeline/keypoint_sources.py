"""Where each video's keypoints come from: the file given with ``--keypoints``, or pose models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..config import ExtractConfig
from ..exchange.keypoints import KeypointFile, KeypointsFailed, Matches, VideoKeypoints
from ..pose import PoseEstimator
from ..progress import Progress
from ..video import OpenVideo, OpenView
from .jobs import Job


@dataclass(frozen=True)
class KeypointSources:
    """Chooses the source of each video's keypoints."""

    pose: PoseEstimator | None
    """None if all keypoints come from a file."""
    file: KeypointFile | None = None
    matches: Matches | None = None
    """Which videos have keypoints in the file."""

    def of(
        self, job: Job, opened: OpenVideo | OpenView, config: ExtractConfig
    ) -> PoseEstimator | VideoKeypoints:
        """What estimates, or reads, the keypoints of a video.

        Raises:
            KeypointsFailed: the file has none for it and they are not to be estimated, or those in
                the file do not fit the video.
        """
        found = {} if self.matches is None else self.matches.found
        key = found.get(job.video_id) or found.get(job.source_id)
        if self.file is not None and key is not None:
            size = opened.header.height, opened.header.width
            keypoints = self.file.open(key, height=size[0], width=size[1])
            own = job.video_id in found  # or those of the video that the segment is part of
            whole = not own or job.source_id == job.video_id
            if isinstance(opened, OpenView) and whole and keypoints.fps is None:
                return keypoints.through(opened.indices, opened.source.num_frames)
            keypoints.require_line(config.frame_rate if own else None)
            return keypoints
        if self.pose is None:
            reasons = {} if self.matches is None else self.matches.reasons
            why = reasons.get(job.source_id, "no keypoints are given for it")
            raise KeypointsFailed(f"{why}; --keypoints-missing estimate estimates them")
        return self.pose


def match_keypoints(
    pose: PoseEstimator | None,
    file: KeypointFile | None,
    ids: Iterable[tuple[str, str]],
    *,
    progress: Progress,
) -> KeypointSources:
    """Find the videos' keypoints in ``file``, if there is one, and say which have any.

    ``ids`` are pairs: a video's own id and that of the whole video, which differ for segments. The
    own id is looked for if the file has it, otherwise that of the whole video.
    """
    if file is None:
        return KeypointSources(pose)
    known = set(file.names)
    names = list(dict.fromkeys(own if own in known else source for own, source in ids))
    matches = file.match(names)
    progress.message(matches.report())
    return KeypointSources(pose, file, matches)
