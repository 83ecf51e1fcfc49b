"""How far a file has each video, for who plans a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .layout import StoredFailure, StoredProgress
from .reader import FeatureFile


class StoredVideos(Protocol):
    """What a plan needs to know of the file."""

    def progress(self, video_id: str) -> StoredProgress | None:
        """How far the file has a video, None if it has nothing of it."""
        ...

    def failures(self) -> Mapping[str, StoredFailure]:
        """Videos that failed, by id."""
        ...


def stored_states(path: Path | None) -> StoredVideos:
    """What a file holds, without writing or locking it; nothing where there is no file, or None.

    Raises:
        StoreError: it is no file of ours, of a newer schema, or damaged.
    """
    return _States(path)


class _States:
    def __init__(self, path: Path | None) -> None:
        self._store = FeatureFile(path) if path is not None and path.exists() else None

    def progress(self, video_id: str) -> StoredProgress | None:
        return None if self._store is None else self._store.progress(video_id)

    def failures(self) -> Mapping[str, StoredFailure]:
        return {} if self._store is None else self._store.failures
