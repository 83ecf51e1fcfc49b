"""What runs in a reader process: answer requests, put frames into shared memory.

:mod:`.reader` is the other end of the connection; :mod:`.decode` does the work.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

import numpy as np

from .decode import Tick, Unreadable, decord_frames, probe, pyav_frames

# Whenever decord waits for a frame it queues packets for its decoder thread, as many as there is
# time for, and that thread decodes them all while the pipeline is busy elsewhere: 3.8 GB after 650
# frames of 1080p, and growing. PyAV needs 50 MB.
DECORD_BYTES = 256 << 20


@dataclass(frozen=True)
class ProbeRequest:
    """Find out what :class:`Probed` holds."""

    path: str


@dataclass(frozen=True)
class ReadRequest:
    """Decode frames ``start`` .. ``num_frames`` into slots of shared memory."""

    id: int
    path: str
    reader: str
    """``decord`` or ``pyav``."""
    start: int
    num_frames: int
    height: int
    width: int
    piece_frames: int
    slots: int
    tolerance: float
    """Grey levels that decord's first frame may be off PyAV's, in the mean."""
    fresh: bool
    """Map new memory: somebody still looks at the old one."""


@dataclass(frozen=True)
class Mapped:
    """New shared memory of ``size`` bytes; its descriptor follows."""

    size: int


@dataclass(frozen=True)
class Piece:
    """``count`` frames lie in slot ``slot``."""

    slot: int
    count: int


@dataclass(frozen=True)
class Done:
    """Every frame asked for was delivered (or: the process is ready, the file is open)."""


@dataclass(frozen=True)
class Trouble:
    """A request failed with a sentence that is fit for the user."""

    message: str


@dataclass(frozen=True)
class Free:
    """The receiver is done with a slot of read ``id``."""

    id: int
    slot: int


class _Slots:
    """Shared memory cut into slots of one piece each; the child's side."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.memory: mmap.mmap | None = None

    def arrays(self, request: ReadRequest) -> np.ndarray:
        """(slots, piece_frames, H, W, 3) uint8 in memory that the parent sees too."""
        frame = request.height * request.width * 3
        size = max(request.slots * request.piece_frames * frame, 1)
        if request.fresh or self.memory is None or not size <= len(self.memory) <= 4 * size:
            self.memory = None
            fd = new_memory(size)
            self.memory = mmap.mmap(fd, size)
            self.connection.send(Mapped(size))
            send_handle(self.connection, fd, os.getppid())
            os.close(fd)
        shape = (request.slots, request.piece_frames, request.height, request.width, 3)
        return np.frombuffer(self.memory, np.uint8, size).reshape(shape)


def new_memory(size: int) -> int:
    """A descriptor of ``size`` bytes of memory that vanishes with its last user."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("epam_extract")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _read(request: ReadRequest, connection: Connection, slots: _Slots, tick: Tick) -> None:
    """Serve one :class:`ReadRequest`: pieces, then Done; raises Unreadable."""
    arrays = slots.arrays(request)
    free = deque(range(request.slots))

    def next_slot() -> int:
        while not free:
            message = connection.recv()
            if isinstance(message, Free) and message.id == request.id:
                free.append(message.slot)
        return free.popleft()

    def opened() -> None:
        connection.send(Done())

    if request.reader == "decord":
        frames = decord_frames(
            request.path, request.start, request.num_frames, request.tolerance, opened, tick
        )
    else:
        opened()
        frames = pyav_frames(request.path, request.start, tick)
    index, slot, filled = request.start, -1, 0
    for frame in frames:
        if index == request.num_frames:
            raise Unreadable(f"more than the {index} frames that were counted decode")
        if filled == 0:
            slot = next_slot()
        if frame.shape != arrays.shape[2:]:
            raise Unreadable(f"frame {index} is {frame.shape[1]}x{frame.shape[0]}")
        arrays[slot, filled] = frame
        index, filled = index + 1, filled + 1
        if filled == request.piece_frames:
            connection.send(Piece(slot, filled))
            filled = 0
            if request.reader == "decord" and not request.tolerance:  # not when asked for by name
                _require_small()
    if index < request.num_frames:
        raise Unreadable(
            f"only {index} of {request.num_frames} frames decode: the file is damaged, or it "
            "changed since it was probed"
        )
    if filled:
        connection.send(Piece(slot, filled))
    connection.send(Done())


def _require_small() -> None:
    """Raise Unreadable once this process alone holds too much memory; only Linux tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # often, so quick
            resident, shared = (int(n) for n in file.read().split()[1:3])
    except OSError:
        return
    held = (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    if held > DECORD_BYTES:
        raise Unreadable(f"decord holds {held >> 20} MB of frames that it decoded too far ahead")


def _leave_with(parent: int) -> None:
    """End this process once its parent is gone, whatever C code is doing meanwhile."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def serve() -> None:
    """Answer requests until the parent closes the connection. ``argv``: two descriptors, a pid."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the parent decides when to end
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection, beats = Connection(int(sys.argv[1])), mmap.mmap(int(sys.argv[2]), 8)
    threading.Thread(target=_leave_with, args=(int(sys.argv[3]),), daemon=True).start()
    counter, slots = np.frombuffer(beats, np.uint64), _Slots(connection)

    def tick() -> None:
        counter[0] += np.uint64(1)

    try:
        import av  # noqa: F401  # slow to load: not on the first video's account

        connection.send(Done())
        while True:
            request = connection.recv()
            try:
                if isinstance(request, ProbeRequest):
                    connection.send(probe(request.path, tick))
                elif isinstance(request, ReadRequest):
                    _read(request, connection, slots, tick)
            except Unreadable as error:
                connection.send(Trouble(str(error)))
    except (EOFError, OSError):  # the parent closed its end
        return
