"""What one file says in its header, and the frames it really holds, by PyAV.

This runs in a process of its own (:mod:`.decode_worker`): a file that makes FFmpeg hang or crash
takes that process with it and nothing more. A file is read once: how many frames it has, when they
are shown and what is damaged is measured while they are decoded.

Nothing but the file itself is ever opened: formats that name other files (concat scripts, HLS and
DASH playlists, SDP, image sequences) are not on the list of formats, and no protocol but ``file``
is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .clock import measured_fps, seconds_of

DEFAULT_FPS = Fraction(25)  # where a file says nothing
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,live_flv,kux,asf,asf_o,ogg,mxf,"
    "gxf,lxf,wtv,nut,nuv,rm,ivr,dv,ivf,h261,h263,h264,hevc,vvc,m4v,av1,obu,vc1,vc1test,dirac,dnxhd,"
    "cavsvideo,avs2,avs3,evc,apv,mjpeg,mjpeg_2000,smjpeg,yuv4mpegpipe,gif,apng,jpegxl_anim,swf,roq,"
    "smk,bink,flic,film_cpk,dhav,ty,pva,nsv,viv,vivo,xmv,avr,cine,rpl,wc3movie,4xm,cdxl,thp,moflex"
)
"""Containers that hold their frames themselves."""
Tick = Callable[[], None]
SAME_TIME = 1e-6  # seconds: two that are computed from the same ticks
SEEK_BACK = (0.0, 2.0, 10.0, 60.0)  # seconds before a frame, where one decodes from to reach it


class Unreadable(Exception):
    """The file is no video, or it cannot be read; the message says why."""


@dataclass(frozen=True)
class Header:
    """What a file says before it is read; only its first frame was decoded."""

    fps: Fraction
    frames: int
    """How many to expect: exactly what its index counts, or about its duration times its rate."""
    height: int
    """As displayed, rotation applied; 0 where no frame was decoded."""
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
    """Why decord would read it wrongly, or not at all."""
    seekable: bool = False
    """Whether a frame can be found by its time: the packets are the frames, one for one."""


@dataclass(frozen=True)
class Choice:
    """The frames of a video that are wanted."""

    indices: np.ndarray
    """(U,) int64, ascending."""
    seconds: np.ndarray
    """(U,) float64, when each is shown."""
    seekable: bool

    def after(self, count: int) -> Choice:
        """Without the first ``count``."""
        return Choice(self.indices[count:], self.seconds[count:], self.seekable)


# -------------------------------------------------------------------------------------- opening


def open_container(path: str) -> Any:
    """The file, opened by PyAV; raises Unreadable with a reason that helps."""
    import av

    av.logging.set_level(None)
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        return av.open(path, metadata_errors="ignore", options=options)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise Unreadable(_why_not_open(path, error)) from error


def _why_not_open(path: str, error: Exception) -> str:
    """A sentence that helps more than "Invalid data found when processing input"."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(512)
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"
    if head[4:8] == b"ftyp":
        return (
            "it is an mp4 or mov without its index (no readable 'moov'), as a recording or "
            "download that was cut short leaves it; copy or record it again"
        )
    try:
        if head.decode("utf-8").isprintable() or (b"\n" in head and b"\x00" not in head):
            return "it is a text file, not a video (playlists and lists of files are not followed)"
    except UnicodeDecodeError:
        pass
    reason = getattr(error, "strerror", None) or str(error)
    return f"it is no video in any format that is read, or its beginning is damaged ({reason})"


def video_stream(container: Any) -> Any:
    """The stream that is the video; raises Unreadable where there is none."""
    from av.stream import Disposition

    pictures = list(container.streams.video)
    videos = [s for s in pictures if Disposition.attached_pic not in s.disposition]
    if not videos:
        if pictures:
            raise Unreadable("it has sound and a cover picture, but no video")
        if container.streams.audio:
            raise Unreadable("it has sound but no video")
        raise Unreadable("it has no video stream")
    best = container.streams.best("video")  # the one decord takes
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise Unreadable("its codec is unknown to this build of PyAV, or its beginning is damaged")
    stream.codec_context.thread_count = 1
    return stream


def _fps(stream: Any) -> Fraction:
    """The header's frame rate."""
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def _announced(container: Any, stream: Any) -> int:
    """Frames that the index counts, without those an edit list hides; 0 where it does not say."""
    if not stream.frames or not container.format.name.startswith(("mov", "avi")):
        return 0
    hidden = sum(1 for entry in stream.index_entries if entry.is_discard)
    return max(stream.frames - hidden, 0)


def header(path: str, tick: Tick) -> Header:
    """What the header says, without decoding anything: the plan's question."""
    with open_container(path) as container:
        tick()
        stream = video_stream(container)
        fps = _fps(stream)
        return Header(fps, _expected(container, stream, fps), 0, 0)


def _expected(container: Any, stream: Any, fps: Fraction) -> int:
    announced = _announced(container, stream) or stream.frames
    if announced:
        return announced
    if stream.duration is not None:
        return round(stream.duration * stream.time_base * fps)
    return round((container.duration or 0) / 1e6 * fps)


# ----------------------------------------------------------------------------------------- PyAV


class PyavDecoder:
    """Reads a file once, in order: every frame that decodes, and what was met on the way."""

    def __init__(self, path: str, tick: Tick) -> None:
        self._path, self._tick = path, tick
        self._open()

    def _open(self) -> None:
        self._container = open_container(self._path)
        self._stream = video_stream(self._container)
        self._packets = self._hidden = self.missing = 0
        self._damaged = False
        self._pts: list[int | None] = []
        self._early: list[int] = []  # times of the packets up to the first frame
        self._decoded = self._decode()
        first = next(self._decoded, None)
        if first is None:
            raise Unreadable("not one frame of it can be decoded")
        self._first = first
        self._fps = _fps(self._stream)
        self._announced = _announced(self._container, self._stream)
        height, width = _upright(self._first)
        expected = _expected(self._container, self._stream, self._fps)
        self.header = Header(self._fps, expected, height, width)

    def _decode(self) -> Iterator[Any]:
        """Every frame that decodes, in display order; packets that do not are passed over."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            self._tick()
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, IndexError):  # IndexError: a stream appears in mid-file
                packet, self._damaged = None, True  # it breaks off here: give out what is buffered
            if packet is not None and packet.size == 0 and packet.dts is not None:
                continue  # "the last picture again": decoding it would end the stream
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
        """These frames likewise, from the keyframe before the first.

        For one that does not decode, the one before it is shown again, and :attr:`missing` counts.
        Raises :class:`Unreadable` where none of them decodes.
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
        """Whether a frame comes before the wanted one: by time, or else by count."""
        if not choice.seekable or frame.pts is None:
            return index < wanted
        return frame.pts * self.time_base < second - SAME_TIME

    def _converter(self) -> Callable[[Any], np.ndarray]:
        """What turns a decoded frame into upright pixels, which the next call overwrites."""
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
        """The first frame of a choice, or one before it, and its index."""
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

        None where that keyframe is shown after it: the frame then leans on pictures before.
        """
        import av

        try:
            self._container.seek(round(start / self.time_base), stream=self._stream)
        except av.error.FFmpegError:
            return None
        self._decoded = self._decode()
        whole = False  # once a keyframe has come
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
        """What the file really held; to be asked once the frames have ended."""
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
        """What the index alone says of every frame, None where it does not say enough.

        An index holds decoding times. They are the frames' own where nothing is reordered, or
        where all frames last equally long. To be asked before the second frame.
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
        """Let the file go."""
        self._container.close()


def _turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that bring a decoded frame upright."""
    return round(frame.rotation / 90) % 4


def _upright(frame: Any) -> tuple[int, int]:
    """Height and width as displayed."""
    size = (frame.height, frame.width)
    return size[::-1] if _turns(frame) % 2 else size
