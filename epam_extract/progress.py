"""What a running extraction tells the person in front of it.

The pipeline reports to a :class:`Progress`, from any of its threads. The base class shows nothing
and only logs; :func:`open_progress` makes the ones that show something, always on stderr:

* ``rich``   a live display for a terminal,
* ``plain``  a line now and then, for the log of a batch job,
* ``tqdm``   one bar, for notebooks,
* ``json``   one JSON object a line, for other programs,
* ``none``   announcements and warnings only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType

from .records import Plan, StageLoad, Summary, VideoFailure

log = logging.getLogger(__name__)


class Progress:
    """Listens to a run and shows nothing. Every method may be called from any thread.

    Order of a run: announcements at any time; ``probed`` while the videos are looked at; ``plan``
    once; then the videos; ``finished`` once, unless an error ends the run. Whoever made the
    object enters and leaves it (``with progress: extract_features(..., progress=progress)``).
    """

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the display off the screen."""

    def message(self, text: str) -> None:
        """Announce something the user should know, such as random weights or a halved batch."""
        log.info("%s", text)

    def warning(self, text: str) -> None:
        """Announce something the user should look at; shown with ``--quiet`` too."""
        log.warning("%s", text)

    def download(self, name: str, done: int, total: int | None) -> None:
        """A file on its way: ``done`` of ``total`` bytes (None: unknown); done once they agree."""

    def probed(self, done: int, total: int) -> None:
        """``done`` of ``total`` videos have been looked at."""

    def plan(self, plan: Plan) -> None:
        """What the run is going to do, before its first frame."""

    def video_started(self, video_id: str, frames: int) -> None:
        """A video's first frame is being read; ``frames`` of it are to be processed."""

    def video_done(self, video_id: str, windows: int) -> None:
        """A video is committed, complete, with this many windows."""

    def video_failed(self, failure: VideoFailure, *, frames_left: int = 0) -> None:
        """A video failed; ``frames_left`` of the plan's frames will not be processed."""

    def video_skipped(self, video_id: str) -> None:
        """A video is complete in the file already. May be called before ``plan``."""

    def advance(self, frames: int) -> None:
        """``frames`` more frames need no further work (their windows are done)."""

    def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
        """Every second or so: each stage's load by name, in the order of the pipeline.

        ``bottleneck`` names the stage that holds the others up; None means the busiest one.
        """

    def finished(self, summary: Summary) -> None:
        """The run is over, complete or interrupted; nothing follows."""


SILENT = Progress()
