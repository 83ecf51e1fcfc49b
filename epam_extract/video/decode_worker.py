"""The code of a decode worker process: it answers requests and puts frames into shared memory.

:mod:`.worker_pool` is the other end of the connection.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

import numpy as np

from .decode import Choice, Header, Measured, PyavDecoder, Tick, Unreadable, header
from .decord_decoder import DecordDecoder
from .images import ImagesDecoder, measure_folder
from .measure import measure_file
from .memory import MemoryLimit

Decoder = PyavDecoder | DecordDecoder | ImagesDecoder
DECODERS: dict[str, type[PyavDecoder] | type[DecordDecoder]] = {
    "pyav": PyavDecoder,
    "decord": DecordDecoder,
}


@dataclass(frozen=True)
class HeaderRequest:
    """Answer with the :class:`Header`; decode nothing."""

    path: str
    memory: MemoryLimit


@dataclass(frozen=True)
class ProbeRequest:
    """Answer with a :class:`Measured`."""

    path: str
    image_fps: Fraction | None
    """Of a folder of pictures."""
    memory: MemoryLimit


@dataclass(frozen=True)
class OpenRequest:
    """Open a video and answer with its :class:`Header`; a :class:`ReadRequest` may follow."""

    path: str
    decoder: str
    image_fps: Fraction | None
    """Of a folder of pictures."""
    memory: MemoryLimit


@dataclass(frozen=True)
class ReadRequest:
    """Decode the open video into slots of shared memory, then answer with a :class:`Measured`, or
    for a choice with a :class:`Delivered`."""

    wanted: int | Choice
    """The first frame to deliver (earlier ones are decoded and dropped), or a choice of frames."""
    piece_frames: int
    slots: int


@dataclass(frozen=True)
class Mapped:
    """There is new shared memory of ``size`` bytes; its descriptor follows."""

    size: int
    id: int


@dataclass(frozen=True)
class Piece:
    """``count`` frames lie in slot ``slot``."""

    slot: int
    count: int


@dataclass(frozen=True)
class Delivered:
    """Every frame of a choice was delivered."""

    missing: int
    """How many of them do not decode; the previous frame was delivered instead."""


@dataclass(frozen=True)
class Ready:
    """The process has started and accepts requests."""


@dataclass(frozen=True)
class Trouble:
    """A request failed; the message is meant for the user."""

    message: str


@dataclass(frozen=True)
class Free:
    """The receiver has released a slot of the memory ``id``."""

    id: int
    slot: int


class _Slots:
    """Shared memory, divided into slots of one piece each."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.memory: mmap.mmap | None = None
        self.id = 0
        self.shape: tuple[int, ...] = (0,)
        self.free: deque[int] = deque()

    def arrays(self, request: ReadRequest, found: Header) -> np.ndarray:
        """(slots, piece_frames, H, W, 3) uint8 in memory shared with the parent.

        The memory of the last video is used again, except slots that the parent has not released.
        New memory is mapped where its slots would lie elsewhere or it is of the wrong size.
        """
        shape = (request.slots, request.piece_frames, found.height, found.width, 3)
        size = max(math.prod(shape), 1)
        if self.memory is None or shape != self.shape:
            released = len(self.free) == self.shape[0]
            if self.memory is None or not released or not size <= len(self.memory) <= 4 * size:
                self._map(size)
            self.shape, self.free = shape, deque(range(request.slots))
        return np.frombuffer(self.memory or b"", np.uint8, size).reshape(shape)

    def _map(self, size: int) -> None:
        self.memory = None
        fd = new_memory(size)
        self.memory = mmap.mmap(fd, size)
        self.id += 1
        self.connection.send(Mapped(size, self.id))
        send_handle(self.connection, fd, os.getppid())
        os.close(fd)

    def take(self) -> int:
        """A slot to fill; waits until one is released."""
        while not self.free:
            message = self.connection.recv()
            if isinstance(message, Free):
                self.release(message)
        return self.free.popleft()

    def release(self, message: Free) -> None:
        """Use a slot again, unless it is of memory that has been replaced."""
        if message.id == self.id:
            self.free.append(message.slot)


def new_memory(size: int) -> int:
    """A descriptor of ``size`` bytes of anonymous memory, freed with its last user."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("epam_extract")
    else:  # macOS
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def _read(
    request: ReadRequest,
    decoder: Decoder,
    connection: Connection,
    slots: _Slots,
) -> None:
    """Serve one :class:`ReadRequest`. Raises Unreadable."""
    arrays = slots.arrays(request, decoder.header)
    slot, filled = -1, 0
    wanted = request.wanted
    chosen = isinstance(wanted, Choice)
    frames = decoder.chosen(wanted) if isinstance(wanted, Choice) else decoder.frames(wanted)
    try:
        for frame in frames:
            if filled == 0:
                slot = slots.take()
            arrays[slot, filled] = frame
            filled += 1
            if filled == request.piece_frames:
                connection.send(Piece(slot, filled))
                filled = 0
        if filled:
            connection.send(Piece(slot, filled))
            filled = 0
    finally:
        if filled:  # and not sent
            slots.free.append(slot)
    connection.send(Delivered(decoder.missing) if chosen else decoder.measured())


def _open(request: OpenRequest, tick: Tick) -> Decoder:
    if request.image_fps is not None:
        return ImagesDecoder(request.path, request.image_fps, tick, request.memory)
    return DECODERS[request.decoder](request.path, tick, request.memory)


def _measure(request: ProbeRequest, tick: Tick) -> Measured:
    if request.image_fps is not None:
        return measure_folder(request.path, request.image_fps, tick, request.memory)
    return measure_file(request.path, tick, request.memory)


def _leave_with(parent: int) -> None:
    """Exit when the parent is gone, even if C code is stuck."""
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

    decoder: Decoder | None = None
    try:
        import av  # noqa: F401  # slow to import, so before the first video

        connection.send(Ready())
        while True:
            request = connection.recv()
            try:
                if isinstance(request, ReadRequest) and decoder is not None:
                    _read(request, decoder, connection, slots)
                elif isinstance(request, HeaderRequest):
                    connection.send(header(request.path, tick, request.memory))
                elif isinstance(request, ProbeRequest):
                    connection.send(_measure(request, tick))
                if isinstance(request, Free):  # of a read that has ended
                    slots.release(request)
                    continue
                if decoder is not None:
                    decoder.close()
                    decoder = None
                if isinstance(request, OpenRequest):
                    decoder = _open(request, tick)
                    connection.send(decoder.header)
            except Unreadable as error:
                connection.send(Trouble(str(error)))
    except (EOFError, OSError):  # the parent closed its end
        return
