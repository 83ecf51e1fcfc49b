"""The parent's end of decode workers: start, watch, kill and reuse these processes.

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
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import MachineError
from .decode import Choice, Header, Measured, Unreadable
from .decode_worker import (
    Delivered,
    Free,
    HeaderRequest,
    Mapped,
    OpenRequest,
    Piece,
    ProbeRequest,
    ReadRequest,
    Ready,
    Trouble,
    new_memory,
)
from .memory import Room, available_memory

SLOTS = 3  # pieces a worker may be ahead of, and lent to, its receiver
LARGE_PIECE = 200 << 20  # bytes: of larger pieces (over 1080p) there are two only
START_SECONDS = 120.0  # importing PyAV from a slow disk
SLOWEST_DISK = 20e6  # bytes a second: decord reads a whole file before it says anything

_log = logging.getLogger(__name__)
_ids = itertools.count(1)
Answer = TypeVar("Answer")
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # glibc: keep the memory of decoded frames for the next ones, instead of giving it back to the
    # kernel, which clears it again for each: 3 of 9 ms of CPU per frame of 1080p. Setting one of
    # the two alone gains nothing.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most it takes
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
BOOT = """
import sys; sys.path[:] = [sys.argv[4], *filter(None, sys.path)]  # not the current folder
from epam_extract.video.decode_worker import serve; serve()
"""


class WorkerLost(Exception):
    """A worker stood still and was killed, or died; the message says which."""

    def __init__(self, message: str, *, died: bool) -> None:
        super().__init__(message)
        self.died = died


class DecodeWorker:
    """One process that reads videos. Used by one thread at a time."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        beats = new_memory(8)
        self._beats = np.frombuffer(mmap.mmap(beats, 8), np.uint64)
        self._words = os.fdopen(new_memory(0), "w+b")  # its stderr, for a crash's log line
        self._memory: mmap.mmap | None = None
        self._lent: set[int] = set()  # ids of arrays that look at the present memory
        self._spare: list[np.ndarray] = []  # of pieces that were copied; no longer looked at
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
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,  # Ctrl-C and Ctrl-Z are the parent's alone
            )
        finally:
            theirs.close()
            os.close(beats)
        try:
            if not isinstance(reply := self._wait(START_SECONDS), Ready):
                raise WorkerLost(f"it began with {reply!r}", died=True)
        except WorkerLost as error:
            self.kill()
            raise MachineError(
                f"no decoder process can be started: {error}. PyAV must be importable: "
                "try `pip install --force-reinstall av`"
            ) from error

    def header(self, path: Path, *, stall_seconds: float) -> Header:
        """What a file's header says; raises Unreadable or WorkerLost."""
        room = Room(available_memory())
        return self._ask(HeaderRequest(os.fspath(path), room), Header, stall_seconds)

    def probe(self, path: Path, image_fps: Fraction | None, *, stall_seconds: float) -> Measured:
        """Measure a file, or a folder of pictures; raises Unreadable or WorkerLost."""
        room = Room(available_memory())
        return self._ask(ProbeRequest(os.fspath(path), image_fps, room), Measured, stall_seconds)

    def open(
        self,
        path: Path,
        decoder: str,
        image_fps: Fraction | None = None,
        *,
        stall_seconds: float,
        room: Room,
    ) -> Header:
        """Open a video for :meth:`read`; raises Unreadable or WorkerLost."""
        patience = stall_seconds
        with suppress(OSError):
            patience += path.stat().st_size / SLOWEST_DISK if decoder == "decord" else 0
        request = OpenRequest(os.fspath(path), decoder, image_fps, room)
        self._opened = self._ask(request, Header, patience)
        return self._opened

    def read(
        self, *, wanted: int | Choice, piece_frames: int, slots: int, stall_seconds: float
    ) -> Generator[np.ndarray, None, Measured | Delivered]:
        """Yield (F, H, W, 3) uint8 pieces of the open video, in order: from a frame on, or chosen.

        Returns what was measured meanwhile, or of a choice how it went. Raises Unreadable or
        WorkerLost; what was yielded before is right.
        """
        height, width = self._opened.height, self._opened.width
        size = piece_frames * height * width * 3
        slots = min(slots, 2) if size > LARGE_PIECE else slots
        number = next(_ids)
        self._send(ReadRequest(number, wanted, piece_frames, slots, fresh=bool(self._lent)))
        while True:
            reply = self._wait(stall_seconds)
            if isinstance(reply, (Measured, Delivered)):
                return reply
            if isinstance(reply, Mapped):
                self._memory = mmap.mmap(fd := recv_handle(self._connection), reply.size)
                os.close(fd)
                self._lent = set()
            elif isinstance(reply, Piece):
                shape = (reply.count, height, width, 3)
                # One slot stays the worker's, whatever the receiver keeps.
                starved = len(self._lent) + 1 >= slots
                yield self._lend(number, reply.slot, size, shape, copy=starved)
            else:
                raise WorkerLost(f"the worker sent {reply!r} for a piece", died=True)

    def _ask(self, request: object, kind: type[Answer], stall_seconds: float) -> Answer:
        self._send(request)
        reply = self._wait(stall_seconds)
        if not isinstance(reply, kind):
            raise WorkerLost(f"the worker answered {request!r} with {reply!r}", died=True)
        return reply

    def _lend(
        self, number: int, slot: int, size: int, shape: tuple[int, ...], *, copy: bool
    ) -> np.ndarray:
        """The frames in a slot; the slot is free again once no array looks at them."""
        root = np.frombuffer(self._memory or b"", np.uint8, math.prod(shape), slot * size)
        free = Free(number, slot)
        if copy:
            frames = self._copied(root)
            self._send(free)
            return frames.reshape(shape)
        # every view numpy makes keeps `root` as its base
        self._lent.add(id(root))
        weakref.finalize(root, _give_back, self._connection, free, self._lent, id(root))
        return root.reshape(shape)

    def _copied(self, pixels: np.ndarray) -> np.ndarray:
        """A copy, in the memory of an earlier one where nobody looks at that any more.

        New memory would have to be cleared by the kernel first, which takes longer than to copy.
        """
        memory = self._spare.pop() if self._spare else None
        if memory is None or not len(pixels) <= len(memory) <= 4 * len(pixels):
            memory = np.empty(len(pixels), np.uint8)
        root = np.frombuffer(memory.data, np.uint8, len(pixels))
        weakref.finalize(root, self._spare.append, memory)
        np.copyto(root, pixels)
        return root

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise WorkerLost(self._last_words(), died=True) from error

    def _wait(self, stall_seconds: float) -> Any:
        """The next reply, as long as the process shows progress at least this often."""
        step = min(0.25, stall_seconds / 4)
        still, beats = 0.0, int(self._beats[0])
        # Counted in short waits, so that a stop of both processes does not look like a stall.
        while not self._connection.poll(step):
            now = int(self._beats[0])
            still, beats = (still + step, beats) if now == beats else (0.0, now)
            if still >= stall_seconds:
                raise WorkerLost(
                    f"the decoder stood still for {stall_seconds:g} s and was stopped", died=False
                )
        try:
            reply = self._connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost(self._last_words(), died=True) from error
        if isinstance(reply, Trouble):
            raise Unreadable(reply.message)
        return reply

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._words.seek(0)
        words = self._words.read()[-2000:].decode(errors="replace").strip().splitlines()
        for line in words:
            _log.debug("decode worker %d: %s", self.pid, line)
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return (
                "the decoder process was killed (SIGKILL), perhaps because memory is full: "
                "--max-memory and fewer --workers bound what is used"
            )
        return f"the decoder process died (exit status {code}{', ' + words[-1] if words else ''})"

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
            _log.warning("decode worker %d does not end; left behind", self.pid)
        self._words.close()


def _give_back(connection: Connection, free: Free, lent: set[int], key: int) -> None:
    """Runs when the last array looking at a slot is gone, in whichever thread that is."""
    lent.discard(key)
    with suppress(OSError):  # the process is gone, and the slot with it
        connection.send(free)  # one short write: safe beside another thread's


_idle: list[DecodeWorker] = []
_lock = threading.Lock()


def borrow() -> DecodeWorker:
    """A worker, one that is idle or a new one. It is to be given back."""
    with _lock:
        worker = _idle.pop() if _idle else None
    return worker or DecodeWorker()


def give_back(worker: DecodeWorker, *, alive: bool) -> None:
    """Keep a worker for the next video; end one that is not ``alive`` and waiting."""
    if not alive:
        worker.kill()
        return
    with _lock:
        _idle.append(worker)


@contextmanager
def borrowed() -> Iterator[DecodeWorker]:
    """A worker, kept for the next video unless the block ends in anything unexpected."""
    worker, alive = borrow(), False
    try:
        yield worker
        alive = True
    except Unreadable:
        alive = True
        raise
    finally:
        give_back(worker, alive=alive)


def close_workers() -> None:
    """End every worker that waits for work."""
    with _lock:
        workers, _idle[:] = list(_idle), []
    for worker in workers:
        worker.kill()


atexit.register(close_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they belong to the process that started them
