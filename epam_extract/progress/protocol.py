"""What a run reports to whoever listens."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ..records import VideoFailure
from .records import Plan, StageLoad, Summary

log = logging.getLogger(__name__)


class Progress:
    """Listens to a run and shows nothing. Every method may be called from any thread.

    Messages and warnings may come at any time. ``probed`` and ``plan`` come while the videos are
    scanned, which may continue after the first of them are done. ``finished`` comes once, unless an
    error ends the run. Whoever made the object enters and leaves it
    (``with progress: extract_features(..., progress=progress)``).
    """

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the display from the screen."""

    def message(self, text: str) -> None:
        """Something the user should know, such as random weights."""
        log.info("%s", text)

    def warning(self, text: str) -> None:
        """Something the user should look at; shown with ``--quiet`` too."""
        log.warning("%s", text)

    def download(self, name: str, done: int, total: int | None) -> None:
        """``done`` of ``total`` bytes of a file are here, from 0 on; None: not known in advance."""

    def probed(self, done: int, total: int) -> None:
        """``done`` of ``total`` videos have been scanned."""

    def plan(self, plan: Plan) -> None:
        """What the run is going to do; repeated until ``plan.exact``."""

    def video_started(self, video_id: str, frames: int) -> None:
        """A video's first frame is being read; ``frames`` of it are to be processed."""

    def video_done(self, video_id: str, windows: int) -> None:
        """A video is complete and committed, with this many windows."""

    def corrected(self, frames: int) -> None:
        """A video turned out to have this many more frames than planned, or fewer if negative."""

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        """A video failed; ``frames_left`` of the planned frames will not be processed."""
        log.warning("%s: %s: %s", failure.video_id, failure.stage, failure.message)

    def video_skipped(self, video_id: str) -> None:
        """A video was complete in the file before. May come before ``plan``."""

    def advance(self, frames: int) -> None:
        """``frames`` more frames are finished: all their windows are done."""

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        """The load of each stage by name, in pipeline order, about once per second.

        ``bottleneck`` names the stage that holds up the others; None means the busiest one.
        """

    def finished(self, summary: Summary) -> None:
        """The run is over, complete or interrupted; nothing follows."""


SILENT = Progress()
