"""Start, watch, reuse and kill decode worker processes.

A process serves one video after another, so that its start-up (0.3 s) is paid once; it is replaced
only if it stalls or dies. Frames arrive through anonymous shared memory, so nothing is left behind
whatever is killed. A piece is not copied: its slot is reused once the last array that points into
it is gone. A receiver that keeps many pieces gets copies, so that it cannot starve the decoder.
"""

from __future__ import annotations

import atexit
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
from .memory import MemoryLimit, available_memory

SLOTS = 3  # pieces that may be decoded ahead or held by the receiver
LARGE_PIECE = 200 << 20  # bytes; larger pieces (over 1080p) get two slots
START_SECONDS = 120.0  # enough to import PyAV from a slow disk
SLOWEST_DISK = 20e6  # bytes/s; decord reads the whole file before it answers

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # glibc: keep the memory of decoded frames for the next ones instead of returning it to the
    # kernel, which clears it again each time: 2.5 of 8.5 ms of CPU per 1080p frame. Setting only
    # one of the two gains nothing.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most it takes
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
BOOT = """
import sys; sys.path[:] = [sys.argv[4], *filter(None, sys.path)]  # not the current folder
from epam_extract.video.decode_worker import serve; serve()
"""


class WorkerLost(Exception):
    """A worker hung and was killed, or it died; the message says which."""

    def __init__(self, message: str, *, died: bool) -> None:
        super().__init__(message)
        self.died = died


class DecodeWorker:
    """One process that reads videos. Use it from one thread at a time."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        beats = new_memory(8)
        self._beats = np.frombuffer(mmap.mmap(beats, 8), np.uint64)
        self._words = os.fdopen(new_memory(0), "w+b")  # its stderr, logged after a crash
        self._memory: mmap.mmap | None = None
        self._memory_id = 0
        self._lent: set[int] = set()  # ids of arrays that point into the current memory
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
                start_new_session=True,  # Ctrl-C and Ctrl-Z reach only the parent
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

    def header(self, path: Path, *, stall_seconds: float, memory: MemoryLimit) -> Header:
        """What a file's header says; raises Unreadable or WorkerLost."""
        return self._ask(HeaderRequest(os.fspath(path), memory), Header, stall_seconds)

    def probe(self, path: Path, image_fps: Fraction | None, *, stall_seconds: float) -> Measured:
        """Measure a file or a folder of pictures. Raises Unreadable or WorkerLost."""
        memory = MemoryLimit(available_memory())
        return self._ask(ProbeRequest(os.fspath(path), image_fps, memory), Measured, stall_seconds)

    def open(
        self,
        path: Path,
        decoder: str,
        image_fps: Fraction | None = None,
        *,
        stall_seconds: float,
        memory: MemoryLimit,
    ) -> Header:
        """Open a video for :meth:`read`. Raises Unreadable or WorkerLost."""
        patience = stall_seconds
        with suppress(OSError):
            patience += path.stat().st_size / SLOWEST_DISK if decoder == "decord" else 0
        request = OpenRequest(os.fspath(path), decoder, image_fps, memory)
        self._opened = self._ask(request, Header, patience)
        return self._opened

    def read(
        self, *, wanted: int | Choice, piece_frames: int, slots: int, stall_seconds: float
    ) -> Generator[np.ndarray, None, Measured | Delivered]:
        """Yield (F, H, W, 3) uint8 pieces of the open video in order, from a frame or of a choice.

        Returns what was measured, or for a choice how many frames were missing. Raises Unreadable
        or WorkerLost; the pieces yielded before that are correct.
        """
        height, width = self._opened.height, self._opened.width
        size = piece_frames * height * width * 3
        slots = min(slots, 2) if size > LARGE_PIECE else slots
        self._send(ReadRequest(wanted, piece_frames, slots))
        while True:
            reply = self._wait(stall_seconds)
            if isinstance(reply, (Measured, Delivered)):
                return reply
            if isinstance(reply, Mapped):
                self._memory = mmap.mmap(fd := recv_handle(self._connection), reply.size)
                os.close(fd)
                self._memory_id, self._lent = reply.id, set()
            elif isinstance(reply, Piece):
                shape = (reply.count, height, width, 3)
                # One slot always stays with the worker.
                starved = len(self._lent) + 1 >= slots
                yield self._lend(reply.slot, size, shape, copy=starved)
            else:
                raise WorkerLost(f"the worker sent {reply!r} for a piece", died=True)

    def _ask(self, request: object, kind: type[Answer], stall_seconds: float) -> Answer:
        self._send(request)
        reply = self._wait(stall_seconds)
        if not isinstance(reply, kind):
            raise WorkerLost(f"the worker answered {request!r} with {reply!r}", died=True)
        return reply

    def _lend(self, slot: int, size: int, shape: tuple[int, ...], *, copy: bool) -> np.ndarray:
        """The frames in a slot, which is released when no array points to them any more."""
        root = np.frombuffer(self._memory or b"", np.uint8, math.prod(shape), slot * size)
        free = Free(self._memory_id, slot)
        if copy:
            frames = _copy(root)
            self._send(free)
            return frames.reshape(shape)
        # every view of it keeps `root` as its base
        self._lent.add(id(root))
        weakref.finalize(root, _give_back, self._connection, free, self._lent, id(root))
        return root.reshape(shape)

    def _send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise WorkerLost(self._last_words(), died=True) from error

    def _wait(self, stall_seconds: float) -> Any:
        """Wait for the next reply; the process must show progress at least this often."""
        step = min(0.25, stall_seconds / 4)
        still, beats = 0.0, int(self._beats[0])
        # Counted in short waits, so that suspending both processes does not look like a stall.
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
        """Kill the process. Arrays that were yielded stay valid."""
        self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:  # stuck in the kernel, on a dead network disk
            _log.warning("decode worker %d does not end; left behind", self.pid)
        self._words.close()


def _copy(pixels: np.ndarray) -> np.ndarray:
    """A copy, in the memory of an earlier one that nobody uses any more.

    The kernel would have to clear new memory first, which takes longer than copying. numpy would
    ask for huge pages, which take tens of times as long on a machine that has been up for a while.
    """
    size = len(pixels)
    with _lock:
        fitting = (n for n, spare in enumerate(_spare) if size <= len(spare) <= 4 * size)
        number = next(fitting, None)
        memory = mmap.mmap(-1, size) if number is None else _spare.pop(number)
    root = np.frombuffer(memory, np.uint8, size)
    weakref.finalize(root, _spare.append, memory)
    np.copyto(root, pixels)
    return root


def _give_back(connection: Connection, free: Free, lent: set[int], key: int) -> None:
    """Release a slot when the last array that points into it is gone, in any thread."""
    lent.discard(key)
    with suppress(OSError):  # the process is gone, and the slot with it
        connection.send(free)  # one short write, so safe from any thread


_idle: list[DecodeWorker] = []
_borrowed: set[int] = set()  # pids of workers that are in use
_spare: list[mmap.mmap] = []  # memory of copies that nobody uses any more
_lock = threading.Lock()


def borrow() -> DecodeWorker:
    """An idle worker or a new one; return it with :func:`give_back`."""
    with _lock:
        worker = _idle.pop() if _idle else None
    worker = worker or DecodeWorker()
    with _lock:
        _borrowed.add(worker.pid)
    return worker


def give_back(worker: DecodeWorker, *, alive: bool) -> None:
    """Keep a worker for the next video, or kill it if it is dead or busy (not ``alive``)."""
    with _lock:
        _borrowed.discard(worker.pid)
        if not _borrowed:
            _spare.clear()
        if alive:
            _idle.append(worker)
    if not alive:
        worker.kill()


@contextmanager
def borrowed() -> Iterator[DecodeWorker]:
    """A worker, kept for the next video unless the block fails unexpectedly."""
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
    """Kill every idle worker."""
    with _lock:
        workers, _idle[:] = list(_idle), []
    for worker in workers:
        worker.kill()


atexit.register(close_workers)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they belong to the parent
