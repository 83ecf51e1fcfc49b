"""Read a file's header and its frames with PyAV.

This runs in a separate process (:mod:`.decode_worker`), so that a file that makes FFmpeg hang or
crash ends only that process. A file is read once: the number of frames, their times and any damage
are measured while it is decoded. :mod:`.container` opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..options import format_bytes
from .container import (
    Unreadable,
    announced,
    expected_frames,
    header_fps,
    open_container,
    picture_limit,
    video_stream,
)
from .memory import MemoryLimit
from .timestamps import measured_fps, seconds_of

Tick = Callable[[], None]
SAME_TIME = 1e-6  # seconds by which times computed from the same ticks may differ
SEEK_BACK = (0.0, 2.0, 10.0, 60.0)  # seconds before a frame to start decoding from, in turn


@dataclass(frozen=True)
class Header:
    """What a file says before it is read; at most its first frame has been decoded."""

    fps: Fraction
    frames: int
    """How many to expect: the exact number in its index, or roughly its duration times its rate."""
    height: int
    """As displayed, rotation applied; 0 if no frame was decoded."""
    width: int


@dataclass(frozen=True)
class Measured:
    """What a file really holds."""

    fps: Fraction
    height: int
    width: int
    """As displayed, rotation applied."""
    timestamps: np.ndarray
    """(T,) float64 seconds, in display order."""
    notes: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    """Why decord would read it wrongly or not at all."""
    seekable: bool = False
    """Whether frames can be found by time: packets and frames correspond one to one."""


@dataclass(frozen=True)
class Choice:
    """The frames of a video to read."""

    indices: np.ndarray
    """(U,) int64, ascending."""
    seconds: np.ndarray
    """(U,) float64: the time of each."""
    seekable: bool

    def after(self, count: int) -> Choice:
        """The choice without its first ``count`` frames."""
        return Choice(self.indices[count:], self.seconds[count:], self.seekable)


def header(path: str, tick: Tick, memory: MemoryLimit) -> Header:
    """The header alone, without decoding anything; used for planning."""
    with open_container(path, memory) as container:
        tick()
        stream = video_stream(container)
        fps = header_fps(stream)
        return Header(fps, expected_frames(container, stream, fps), 0, 0)


# ----------------------------------------------------------------------------------------- PyAV


class PyavDecoder:
    """Reads a file once, in order, and measures it on the way.

    Raises :class:`Unreadable`, before decoding anything, if its pictures do not fit in ``memory``.
    """

    def __init__(self, path: str, tick: Tick, memory: MemoryLimit) -> None:
        self._path, self._tick, self._memory = path, tick, memory
        self._open()

    def _open(self) -> None:
        memory = self._memory
        self._container = open_container(self._path, memory)
        self._stream = video_stream(self._container)
        codec = self._stream.codec_context
        self._fps = header_fps(self._stream)
        expected = expected_frames(self._container, self._stream, self._fps)
        require_memory(memory, codec.height, codec.width, expected)
        codec.options = picture_limit(memory)
        self._packets = self._hidden = self.missing = 0
        self._damaged = False
        self._pts: list[int | None] = []
        self._early: list[int] = []  # times of the packets up to the first frame
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            within = (
                "" if codec.height else f" in {format_bytes(memory.limit)} of memory (--max-memory)"
            )
            raise Unreadable(f"not one frame of it can be decoded{within}")
        self._first = first
        self._announced = announced(self._container, self._stream)
        height, width = _upright(self._first)
        require_memory(memory, height, width, expected)  # the header may have said less
        self.header = Header(self._fps, expected, height, width)

    def _decode(self) -> Iterator[Any]:
        """Every frame that decodes, in display order; packets that fail are skipped."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            self._tick()
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, IndexError):  # IndexError: a stream appears in mid-file
                packet, self._damaged = None, True  # the file ends here: flush the decoder
            if packet is not None and packet.size == 0 and packet.dts is not None:
                continue  # "repeat the last picture": decoding it would end the stream
            if packet is not None and packet.size:
                self._packets += 1
                self._hidden += packet.is_discard
                self._damaged = self._damaged or packet.is_corrupt
                if not self._pts and packet.pts is not None:
                    self._early.append(packet.pts)
            try:
                frames = (
                    packet.decode()
                    if packet is not None
                    else self._stream.codec_context.decode(None)
                )
            except av.error.FFmpegError:
                if packet is None or packet.size == 0:
                    return
                self._damaged = True
                continue
            for frame in frames:
                self._pts.append(frame.pts)
                yield frame
            if packet is None:
                return

    def frames(self, start: int) -> Iterator[np.ndarray]:
        """Frames ``start``, ``start + 1``, ... as (H, W, 3) uint8 RGB, valid until the next one."""
        pixels = self._converter()
        frame: Any = self._first
        index = 0
        while frame is not None:
            if index >= start:
                yield pixels(frame)
            frame, index = next(self._decoded, None), index + 1

    def chosen(self, choice: Choice) -> Iterator[np.ndarray]:
        """The chosen frames, as :meth:`frames` yields them, decoded from the keyframe before.

        A frame that does not decode is replaced by the previous one and counted in :attr:`missing`.
        Raises :class:`Unreadable` if none of them decodes.
        """
        pixels = self._converter()
        index, frame = self._reach(choice)
        shown = frame
        for wanted, second in zip(choice.indices, choice.seconds, strict=True):
            while frame is not None and self._before(frame, index, wanted, second, choice):
                shown = frame
                frame, index = next(self._decoded, None), index + 1
            if frame is not None and (self._shown_at(frame, second) or not choice.seekable):
                shown = frame
            else:
                self.missing += 1
                if self.missing == len(choice.indices) or not choice.seekable:
                    raise Unreadable(f"its frames from {wanted} on do not decode")
            yield pixels(shown)

    def _before(self, frame: Any, index: int, wanted: int, second: float, choice: Choice) -> bool:
        """Whether a frame comes before the wanted one, by time if possible, else by index."""
        if not choice.seekable or frame.pts is None:
            return index < wanted
        return frame.pts * self.time_base < second - SAME_TIME

    def _converter(self) -> Callable[[Any], np.ndarray]:
        """A function that turns a decoded frame into upright pixels, overwritten by the next."""
        from av.video.reformatter import VideoReformatter

        convert = VideoReformatter()
        # a change of picture size in mid-video is scaled to the first, as ffmpeg does
        width, height = self._first.width, self._first.height

        def pixels(frame: Any) -> np.ndarray:
            turns = _turns(frame)
            plane = convert.reformat(frame, width, height, format="rgb24").planes[0]
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)
            rgb = rows[:, : 3 * width].reshape(height, width, 3)
            return np.rot90(rgb, turns) if turns else rgb

        return pixels

    def _reach(self, choice: Choice) -> tuple[int, Any]:
        """Index and frame of the first chosen frame, or of an earlier one to decode on from."""
        if choice.seekable and choice.indices[0] > 0:
            second = float(choice.seconds[0])
            for back in SEEK_BACK:
                frame = self._seek(second - back, second)
                if frame is not None:
                    return int(choice.indices[0]), frame
            self.close()
            self._open()
        return 0, self._first

    def _seek(self, start: float, wanted: float) -> Any:
        """The frame shown at ``wanted``, decoded from the keyframe before ``start``.

        None if that keyframe is shown later: the frame then refers to pictures before it.
        """
        import av

        try:
            self._container.seek(round(start / self.time_base), stream=self._stream)
        except av.error.FFmpegError:
            return None
        self._decoded = self._decode()
        whole = False  # True from the first keyframe
        for frame in self._decoded:
            whole = whole or bool(frame.key_frame)
            if frame.pts is None:
                return None
            if frame.pts * self.time_base >= wanted - SAME_TIME:
                return frame if whole and self._shown_at(frame, wanted) else None
        return None

    def _shown_at(self, frame: Any, second: float) -> bool:
        return frame.pts is not None and abs(frame.pts * self.time_base - second) < SAME_TIME

    def measured(self) -> Measured:
        """What the file really held; call it after the last frame."""
        seconds, notes = seconds_of(self._pts, self._stream.time_base, self._fps)
        expected = max(self._announced, self._packets - self._hidden)
        cut_short = self._announced > self._packets
        damaged = len(seconds) < expected and (self._damaged or cut_short)
        if damaged:
            notes = [f"damaged or cut short: {len(seconds)} of {expected} frames decode", *notes]
        return Measured(
            fps=self._fps if damaged else measured_fps(seconds, self._fps),
            height=self.header.height,
            width=self.header.width,
            timestamps=seconds,
            notes=tuple(notes),
        )

    @property
    def first_pts(self) -> int | None:
        """Time of the first frame, in ticks of :attr:`time_base`."""
        return self._pts[0]

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        return self._stream.time_base

    def by_index(self) -> Measured | None:
        """Measure the file from its index alone; None if the index does not say enough.

        An index holds decoding times. They equal display times if no frame is reordered, or if all
        frames last equally long. Call it before reading the second frame.
        """
        entries = list(self._stream.index_entries)
        first = self._pts[0]
        ticks = np.array([entry.timestamp for entry in entries], np.int64)
        steps = np.diff(ticks)
        enough = (
            self._container.format.name.startswith("mov")
            and first is not None
            and len(entries) == self._announced
            and entries[0].is_keyframe
            and max(entry.pos + entry.size for entry in entries) <= self._container.size
            and bool((steps > 0).all())
            and (not self._stream.codec_context.has_b_frames or len(set(steps.tolist())) <= 1)
            and 0 <= first == min(self._early)
            and "av1" not in self._stream.codec_context.name
        )
        if not enough:
            return None
        seconds, _ = seconds_of((ticks - ticks[0] + first).tolist(), self.time_base, self._fps)
        size = (self.header.height, self.header.width)
        return Measured(measured_fps(seconds, self._fps), *size, seconds, ())

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def require_memory(memory: MemoryLimit, height: int, width: int, frames: int) -> None:
    if too_large := memory.refusal(height, width, frames):
        raise Unreadable(too_large)


def _turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that bring a decoded frame upright."""
    return round(frame.rotation / 90) % 4


def _upright(frame: Any) -> tuple[int, int]:
    """Height and width as displayed."""
    size = (frame.height, frame.width)
    return size[::-1] if _turns(frame) % 2 else size
