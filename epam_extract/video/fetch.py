"""Fetch remote videos ahead of the decoder, into a folder of bounded size.

Files are fetched in the order in which the run needs them, and space is reserved in that order, so
that no video waits for later ones. A file is deleted as soon as it has been read; consecutive
segments of one file share it. Leftovers of a killed run are deleted at the next start.
"""

from __future__ import annotations

import re
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from ..errors import EpamExtractError, FetchError, MachineError, StoreError, VideoError
from ..records import RemoteFile
from .remote import Ended, fetch

FETCHES = 4  # at the same time
FOLDER = ".fetched"  # appended to the output's name
OURS = re.compile(r"\d{8,}(\.[a-z0-9]{1,8})?")  # the files in it
LOOK_SECONDS = 0.1  # between checks whether the run should stop
LEAVE_SECONDS = 2.0  # to wait for threads stuck at a dead server


class Fetcher:
    """Fetches ``videos`` ahead, in order. A context manager; enter it while the output is locked.

    Entering creates the folder, leaving removes it.

    Args:
        folder: :func:`fetched_folder` of the output, cleared.
        videos: by id; several may be parts of one file.
        limit: bytes that the folder may hold; a larger video is fetched on its own.
        stop: once set, nothing more is fetched.
        on_bytes: called by the fetching threads with the seconds that some bytes took, and their
            number.
    """

    def __init__(
        self,
        folder: Path,
        videos: Mapping[str, RemoteFile],
        *,
        limit: int,
        stop: threading.Event,
        on_bytes: Callable[[float, int], None],
    ) -> None:
        self.folder = folder
        self._limit, self._stop, self._on_bytes = limit, stop, on_bytes
        self._files: list[RemoteFile] = []
        self._numbers: dict[str, int] = {}  # of each video's file
        for video_id, file in videos.items():
            if not self._files or self._files[-1] != file:
                self._files.append(file)
            self._numbers[video_id] = len(self._files) - 1
        self._to_read = Counter(self._numbers.values())  # videos that still need a file
        self._left = iter(range(len(self._files)))
        self._turn = threading.Lock()  # held while a thread waits for space for the next file
        self._changed = threading.Condition()
        self._held: dict[int, int] = {}  # bytes reserved for each file
        self._here: dict[int, Path | EpamExtractError] = {}
        self._closed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Fetcher:
        if self._files:
            self.folder.mkdir()
        for number in range(min(FETCHES, len(self._files))):
            thread = threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        deadline = time.monotonic() + LEAVE_SECONDS
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def fetched(self, video_id: str) -> Iterator[Path | None]:
        """Wait for a video and yield its file, to be read once; None if the run is to stop.

        Raises:
            FetchError: it could not be fetched.
            MachineError: the disk is full.
        """
        number = self._numbers[video_id]
        here: Path | EpamExtractError | None = None
        try:
            with self._changed:
                while number not in self._here and not self._ending:
                    self._changed.wait(LOOK_SECONDS)
                here = self._here.get(number)
            if isinstance(here, EpamExtractError):
                raise type(here)(str(here))
            yield here
        except VideoError as error:
            if isinstance(here, Path):
                error.args = (str(error).replace(str(here), str(self._files[number])),)
            raise
        except (EpamExtractError, MemoryError):  # the run ends, so nothing may wait any longer
            self._end()
            raise
        finally:
            self._release(number)

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def _ending(self) -> bool:
        return self._closed or self._stop.is_set()

    def _release(self, number: int) -> None:
        with self._changed:
            self._to_read[number] -= 1
            if self._to_read[number]:
                return
            here = self._here.pop(number, None)
            if isinstance(here, Path):
                here.unlink(missing_ok=True)
            self._held.pop(number, None)
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._turn:
                number = next(self._left, None)
                if number is None or not self._make_room(number):
                    return
            try:
                here: Path | EpamExtractError = self._fetch(number)
            except Ended:
                return  # no longer needed
            except EpamExtractError as error:
                here = error
            except Exception as error:  # a bug here must not leave readers waiting
                here = FetchError(f"{self._files[number]}: {type(error).__name__}")
            with self._changed:
                self._here[number] = here
                self._changed.notify_all()

    def _make_room(self, number: int) -> bool:
        """Wait for space for a file, or until it is the only one; False if the run is to stop."""
        size = self._files[number].size or self._limit
        with self._changed:
            while not self._ending:
                if not self._held or sum(self._held.values()) + size <= self._limit:
                    self._held[number] = size
                    return True
                self._changed.wait(LOOK_SECONDS)
        return False

    def _fetch(self, number: int) -> Path:
        file = self._files[number]
        suffix = PurePosixPath(file.address).suffix.lower()
        name = f"{number:08d}{suffix}"
        to = self.folder / (name if OURS.fullmatch(name) else f"{number:08d}")
        most = file.size or self._limit

        too_many, before, last = False, 0, time.perf_counter()

        def on_bytes(count: int) -> None:
            nonlocal too_many, before, last
            now = time.perf_counter()
            self._on_bytes(now - last, count - before)
            too_many, before, last = count > most, count, now
            if too_many or self._ending:
                raise Ended

        try:
            fetch(file, to, on_bytes)
        except BaseException as error:
            if isinstance(error, Ended) and too_many:
                what = "were listed" if file.size else "may be held here (--fetch-ahead)"
                error = FetchError(f"{file}: more bytes come than the {most} that {what}")
            with suppress(OSError):
                to.unlink(missing_ok=True)
            raise error
        return to


def fetched_folder(out: Path) -> Path:
    """The folder for the videos fetched for an output."""
    real = out.resolve()
    return real.with_name(real.name + FOLDER)


def clear_folder(folder: Path) -> None:
    """Delete what a killed run has left.

    Raises:
        StoreError: something in the folder, or the folder itself, is not ours.
        MachineError: it cannot be deleted.
    """
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    entries = list(folder.iterdir()) if stat.S_ISDIR(status.st_mode) else [folder]
    ours = all(OURS.fullmatch(entry.name) and entry.is_file() for entry in entries)
    if not ours or not stat.S_ISDIR(status.st_mode):
        raise StoreError(
            f"{folder}: exists, and holds what is not epam-extract's; move it away, or choose "
            "another output file"
        )
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise MachineError(f"{folder}: cannot be cleared: {error.strerror}") from error
