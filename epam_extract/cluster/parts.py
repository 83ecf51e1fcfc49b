"""The part files of a run with many workers: name, read, merge and delete them.

They are next to the output, one per worker: ``feats.worker-00003.h5``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import StoreError
from ..options import format_bytes
from ..progress import Progress, plural
from ..records import VideoFailure
from ..store import (
    FeatureStore,
    StoredFailure,
    StoredProgress,
    StoredVideos,
    StoreHeader,
    StoreWriter,
    drop_videos,
    stored_states,
)
from ..store.in_child import look
from ..store.journal import journal_path, lock_path
from ..store.locks import require_unwritten
from ..store.merge import merge_parts

TELL_SECONDS = 5.0


def part_path(out: Path, number: int) -> Path:
    """The file of worker ``number``."""
    return out.with_name(f"{out.stem}.worker-{number:05d}{out.suffix or '.h5'}")


def probe_path(out: Path, token: str, number: int) -> Path:
    """A file that a worker writes to show that it shares the output's folder."""
    return out.with_name(f".{out.stem}.{token}-{number}.probe")


def remove_probes(out: Path) -> None:
    """Remove those left by killed workers."""
    name = re.compile(re.escape(f".{out.stem}.") + r"[0-9a-f]{12}-\d+\.probe")
    for path in out.parent.iterdir():
        if name.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def existing_parts(out: Path) -> dict[int, Path]:
    """The parts left by an earlier run, by number.

    Raises:
        StoreLocked: a run is still writing one.
        StoreError: one is damaged.
    """
    name = re.compile(re.escape(out.stem) + r"\.worker-(\d{5,})" + re.escape(out.suffix or ".h5"))
    parts = {}
    for path in sorted(out.parent.iterdir()) if out.parent.is_dir() else []:
        match = name.fullmatch(path.name)
        if match is not None:
            require_unwritten(path, lock=lock_path(path))
            look("survey", path)  # HDF5 can crash on a damaged file: not in this process
            parts[int(match[1])] = path
    return parts


@dataclass
class VideosInPart:
    """Which of a worker's videos its part holds."""

    complete: dict[str, int] = field(default_factory=dict)
    """Windows of each."""
    failed: dict[str, StoredFailure] = field(default_factory=dict)
    half_done: set[str] = field(default_factory=set)

    def read(self, part: Path, videos: Iterable[str]) -> None:
        """Look for ``videos`` in a part.

        Raises:
            StoreError: there is no such file, or it is damaged.
        """
        with FeatureStore(part) as store:
            failures = store.failures
            for video in videos:
                state = store.progress(video)
                if state is not None and state.complete:
                    self.complete[video] = state.windows
                elif state is not None:
                    self.half_done.add(video)
                elif video in failures:
                    self.failed[video] = failures[video]


class Together:
    """What the output and the parts hold together; ``StoredVideos`` for a plan."""

    def __init__(self, out: Path | None, parts: Mapping[int, Path]) -> None:
        files = [*([out] if out is not None and out.exists() else []), *parts.values()]
        self._stores: list[StoredVideos] = [stored_states(file) for file in files]

    def progress(self, video_id: str) -> StoredProgress | None:
        """In the file where it is complete, or furthest."""
        there = [state for store in self._stores if (state := store.progress(video_id))]
        return max(there, key=lambda state: (state.complete, state.windows), default=None)

    def failures(self) -> Mapping[str, StoredFailure]:
        """Videos that failed, by id."""
        failures: dict[str, StoredFailure] = {}
        for store in self._stores:
            failures |= store.failures()
        return failures


def half_done(parts: Mapping[int, Path]) -> dict[str, int]:
    """Incomplete videos, each with the number of the part it is in."""
    homes = {}
    for number, path in parts.items():
        with FeatureStore(path) as store:
            found = store.survey()[0]
        homes.update({video_id: number for video_id, complete in found.items() if not complete})
    return homes


def compiled_in(files: Iterable[Path]) -> str | None:
    """How the features of the first existing file were computed; None if there is none."""
    for file in files:
        if file.exists():
            with FeatureStore(file) as store:
                return str(store.config.get("compiled", ""))
    return None


def drop_complete(files: Iterable[Path], video_ids: Iterable[str]) -> None:
    """Remove complete copies of videos to be processed again because their file changed."""
    wanted = set(video_ids)
    for file in files:
        if file.exists():
            with FeatureStore(file) as store:
                stale = [v for v, done in store.survey()[0].items() if done and v in wanted]
            if stale:
                drop_videos(file, stale)


def remove(part: Path) -> None:
    """Delete a part and its leftovers of a killed worker."""
    for path in (part, journal_path(part), lock_path(part)):
        path.unlink(missing_ok=True)


def merge_away(
    out: Path,
    parts: Sequence[Path],
    failures: Sequence[VideoFailure],
    *,
    progress: Progress,
    stop: threading.Event,
) -> bool:
    """Copy the parts into ``out`` one by one, deleting each once it is copied.

    Returns:
        Whether all were; if not, ``stop`` was set, and the next run resumes.

    Raises:
        StoreError: a part is locked or damaged, or does not fit; nothing is lost.
    """
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            progress.message(
                f"{part.name}: merged {format_bytes(done)} of about {format_bytes(total)}"
            )

    if parts and not stop.is_set():
        progress.message(f"merging {plural(len(parts), 'part')} into {out}")
    for part in parts:
        if stop.is_set():
            return False
        StoreWriter(part, header_of(part)).close()  # recovers from a killed worker's last commit
        merge_parts(out, [part], on_bytes=tell)
        remove(part)
    if failures:
        with StoreWriter(out, header_of(out)) as store:
            for failure in failures:
                store.fail(failure)
            store.commit()
    return True


def header_of(path: Path) -> StoreHeader:
    """The header of a file."""
    if not path.exists():
        raise StoreError(f"{path}: was deleted or moved during the run")
    with FeatureStore(path) as store:
        return StoreHeader(store.config, store.weights, store.pose_source)
