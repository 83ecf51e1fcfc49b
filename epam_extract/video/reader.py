"""The parent's end of reader processes: start, watch, kill and reuse them.

One process serves one video after the other, so that its start (0.3 s) is paid once; it is
replaced only after it stalled or died. Frames come through shared memory that has no name in the
file system, so nothing is left behind whoever is killed. A piece is handed out where it lies, and
its slot is used again once the last array looking at it is gone; a receiver that keeps many
pieces gets copies instead, so that it can never starve the decoder.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import math
import mmap
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MachineError
from .decode import Probed, Unreadable
from .reader_process import (
    Done,
    Free,
    Mapped,
    Piece,
    ProbeRequest,
    ReadRequest,
    Trouble,
    new_memory,
)

SLOTS = 3  # pieces a reader may be ahead of, and lent to, its receiver
LARGE_PIECE = 200 << 20  # bytes: of larger pieces (over 1080p) there are two only
START_SECONDS = 120.0  # importing PyAV from a slow disk
SLOWEST_DISK = 20e6  # bytes a second: decord reads a whole file before it says anything

_log = logging.getLogger(__name__)
_ids = itertools.count(1)
BOOT = """
import sys; sys.path[:] = [sys.argv[4], *filter(None, sys.path)]  # not the current folder
from epam_extract.video.reader_process import serve; serve()
"""


class ReaderLost(Exception):
    """A reader process stood still and was killed, or died; the message says which."""


class Reader:
    """One reader process. Used by one thread at a time."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        beats = new_memory(8)
        self._beats = np.frombuffer(mmap.mmap(beats, 8), np.uint64)
        self._words = os.fdopen(new_memory(0), "w+b")  # its stderr, for a crash's log line
        self._memory: mmap.mmap | None = None
        self._lent: set[int] = set()  # ids of arrays that look at the present memory
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    BOOT,
                    str(theirs.fileno()),
                    str(beats),
                    str(os.getpid()),
                    str(Path(__file__).parents[2]),
                ],
                pass_fds=(theirs.fileno(), beats),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C and Ctrl-Z are the parent's alone
            )
        finally:
            theirs.close()
            os.close(beats)
        try:
            self._wait(START_SECONDS)
        except ReaderLost as error:
            self.kill()
            raise MachineError(
                f"no reader process can be started: {error}. PyAV must be importable: "
                "try `pip install --force-reinstall av`"
            ) from error

    def probe(self, path: Path, *, stall_seconds: float) -> Probed:
        """Measure a file; raises Unreadable or ReaderLost."""
        self._send(ProbeRequest(os.fspath(path)))
        reply = self._wait(stall_seconds)
        if not isinstance(reply, Probed):
            raise ReaderLost(f"the reader answered a probe with {reply!r}")
        return reply

    def read(
        self,
        path: Path,
        reader: str,
        *,
        start: int,
        num_frames: int,
        height: int,
        width: int,
        piece_frames: int,
        stall_seconds: float,
        tolerance: float = 0.0,
    ) -> Iterator[np.ndarray]:
        """Yield (F, H, W, 3) uint8 pieces of frames ``start`` .. ``num_frames``, in order.

        ``tolerance``: how far decord's first frame may be off PyAV's, in grey levels in the mean.
        Raises Unreadable or ReaderLost; what was yielded before is right.
        """
        left, patience = num_frames - start, stall_seconds
        piece_frames = min(piece_frames, left)
        size = piece_frames * height * width * 3
        slots = min(SLOTS if size <= LARGE_PIECE else 2, math.ceil(left / piece_frames))
        number = next(_ids)
        request = ReadRequest(
            id=number,
            path=os.fspath(path),
            reader=reader,
            start=start,
            num_frames=num_frames,
            height=height,
            width=width,
            piece_frames=piece_frames,
            slots=slots,
            tolerance=tolerance,
            fresh=bool(self._lent),
        )
        self._send(request)
        with suppress(OSError):
            patience += path.stat().st_size / SLOWEST_DISK
        self._wait_open(patience)
        while True:
            reply = self._wait(stall_seconds)
            if isinstance(reply, Done):
                return
            if not isinstance(reply, Piece):
                raise ReaderLost(f"the reader sent {reply!r} for a piece")
            shape = (reply.count, height, width, 3)
            # One slot stays the decoder's, whatever the receiver keeps, if it still needs one.
            starved = slots * piece_frames < left and len(self._lent) + 1 >= slots
            yield self._lend(number, reply.slot, size, shape, copy=starved)

    def _wait_open(self, stall_seconds: float) -> None:
        reply = self._wait(stall_seconds)
        if isinstance(reply, Mapped):
            self._memory = mmap.mmap(fd := recv_handle(self._connection), reply.size)
            os.close(fd)
            self._lent = set()
            reply = self._wait(stall_seconds)
        if not isinstance(reply, Done):
            raise ReaderLost(f"the reader sent {reply!r} on opening")

    def _lend(
        self, number: int, slot: int, size: int, shape: tuple[int, ...], *, copy: bool
    ) -> np.ndarray:
        """The frames in a slot; the slot is free again once no array looks at them."""
        root = np.frombuffer(self._memory or b"", np.uint8, math.prod(shape), slot * size)
        free = Free(number, slot)
        if copy:
            frames = root.reshape(shape).copy()
            self._send(free)
            return frames
        # every view numpy makes keeps `root` as its base
        self._lent.add(id(root))
        weakref.finalize(root, _give_back, self._connection, free, self._lent, id(root))
        return root.reshape(shape)

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise ReaderLost(self._last_words()) from error

    def _wait(self, stall_seconds: float) -> Any:
        """The next reply, as long as the process shows progress at least this often."""
        step = min(0.25, stall_seconds / 4)
        still, beats = 0.0, int(self._beats[0])
        # Counted in short waits, so that a stop of both processes does not look like a stall.
        while not self._connection.poll(step):
            now = int(self._beats[0])
            still, beats = (still + step, beats) if now == beats else (0.0, now)
            if still >= stall_seconds:
                raise ReaderLost(f"the reader stood still for {stall_seconds:g} s and was stopped")
        try:
            reply = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ReaderLost(self._last_words()) from error
        if isinstance(reply, Trouble):
            raise Unreadable(reply.message)
        return reply

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._words.seek(0)
        words = self._words.read()[-2000:].decode(errors="replace").strip().splitlines()
        for line in words:
            _log.debug("reader process %d: %s", self.pid, line)
        code = self._process.returncode
        return f"the reader process died (exit status {code}{', ' + words[-1] if words else ''})"

    @property
    def pid(self) -> int:
        """Process id, for logs."""
        return self._process.pid

    def kill(self) -> None:
        """End the process now. Arrays handed out stay valid."""
        self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # stuck in the kernel, on a dead network disk
            _log.warning("reader process %d does not end; left behind", self.pid)
        self._words.close()


def _give_back(connection: Connection, free: Free, lent: set[int], key: int) -> None:
    """Runs when the last array looking at a slot is gone, in whichever thread that is."""
    lent.discard(key)
    with suppress(OSError):  # the process is gone, and the slot with it
        connection.send(free)  # one short write: safe beside another thread's


_idle: list[Reader] = []
_lock = threading.Lock()


@contextmanager
def borrowed() -> Iterator[Reader]:
    """A reader process, kept for the next video unless this one ends in anything unexpected."""
    with _lock:
        reader = _idle.pop() if _idle else None
    reader = reader or Reader()
    try:
        yield reader
    except Unreadable:
        _keep(reader)
        raise
    except BaseException:
        reader.kill()
        raise
    else:
        _keep(reader)


def _keep(reader: Reader) -> None:
    with _lock:
        _idle.append(reader)


def close_readers() -> None:
    """End every reader process that waits for work."""
    with _lock:
        readers, _idle[:] = list(_idle), []
    for reader in readers:
        reader.kill()


atexit.register(close_readers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they belong to the process that started them
