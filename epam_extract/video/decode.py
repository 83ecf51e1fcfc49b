"""Probe one file, decode its frames: decord and PyAV live here and nowhere else.

This only ever runs in a process of its own (:mod:`.reader_process`): a file that makes FFmpeg hang
or crash takes that process with it and nothing more.

Measured on 110 files (decord 0.6.0, PyAV 18.1): read in order with one thread, decord is right on
clean mp4, mkv, webm and avi; it silently repeats or shifts frames of MPEG-TS and MPEG-PS, of edit
lists and of files without timestamps, and refuses AV1, GIF and raw streams. Where it is right its
pixels nearly always equal PyAV's bit for bit. They do not where the two FFmpeg versions convert
colours differently: more than 8 bits, 4:2:0 of odd size, interlaced. ``auto`` reads these with PyAV
too: decord goes on only if its first frame is PyAV's exactly, so that a video's numbers never
depend on which of the two read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

FAULT_TOLERANCE = 1e-4  # decord: the first frame it would make up is an error
Tick = Callable[[], None]


class Unreadable(Exception):
    """The file is no video, or a reader cannot read it; the message says why."""


@dataclass(frozen=True)
class Probed:
    """What a probe measured."""

    fps: Fraction
    height: int
    width: int
    """As displayed, rotation applied."""
    timestamps: np.ndarray
    """(T,) float64 seconds, in display order."""
    wrong: tuple[str, ...]
    """Why decord would read it wrongly, or not at all."""
    differs: tuple[str, ...]
    """Why decord's pixels would be right but not PyAV's bit for bit."""
    notes: tuple[str, ...]


# ---------------------------------------------------------------------------------------- PyAV


def _video_stream(container: Any) -> Any:
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


def _open(path: str) -> Any:
    import av

    av.logging.set_level(None)
    try:
        return av.open(path, metadata_errors="ignore")
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
            return "it is a text file, not a video"
    except UnicodeDecodeError:
        pass
    reason = getattr(error, "strerror", None) or str(error)
    return f"it is no video in any format FFmpeg knows, or its beginning is damaged ({reason})"


def _decoded(container: Any, stream: Any, tick: Tick) -> Iterator[Any]:
    """Every frame that decodes, in display order; packets that do not are passed over."""
    import av

    packets = container.demux(stream)
    while True:
        tick()
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, IndexError):  # IndexError: a stream appears in mid-file
            packet = None  # the file breaks off here: give out what is buffered
        if packet is not None and packet.size == 0 and packet.dts is not None:
            continue  # "the last picture again": decoding it would end the stream
        try:
            yield from packet.decode() if packet is not None else stream.codec_context.decode(None)
        except av.error.FFmpegError:
            if packet is not None and packet.size == 0:
                return
        if packet is None:
            return


def _turns(frame: Any) -> int:
    """Quarter turns, counter-clockwise, that bring a decoded frame upright."""
    return round(frame.rotation / 90) % 4


def pyav_frames(path: str, start: int, tick: Tick) -> Iterator[np.ndarray]:
    """Frames ``start``, ``start + 1``, ... as (H, W, 3) uint8 RGB, valid until the next one."""
    from av.video.reformatter import VideoReformatter

    with _open(path) as container:
        convert, size = VideoReformatter(), None
        for index, frame in enumerate(_decoded(container, _video_stream(container), tick)):
            # a change of picture size in mid-video is scaled to the first, as ffmpeg does
            size = size or (frame.width, frame.height)
            if index < start:
                continue
            turns = _turns(frame)
            plane = convert.reformat(frame, size[0], size[1], format="rgb24").planes[0]
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(size[1], plane.line_size)
            rgb = rows[:, : 3 * size[0]].reshape(size[1], size[0], 3)
            yield np.rot90(rgb, turns) if turns else rgb


def probe(path: str, tick: Tick) -> Probed:
    """Measure a file: packets are demuxed, frames decoded only where packets cannot be trusted.

    Demuxing costs 0.15 s for 60 s of 1080p. Where the packets do not say how many frames come out
    (damage, edit lists, missing timestamps, MPEG-TS ...) every frame is decoded and counted.
    """
    with _open(path) as container:
        stream = _video_stream(container)
        form, codec = container.format.name, stream.codec_context.name
        time_base, header_fps = stream.time_base, stream.average_rate or stream.guessed_rate
        announced = stream.frames
        packets, broken = _packets(container, stream, tick)
    pts = sorted(p for p, *_ in packets if p is not None)
    doubts = [broken] if broken else []
    doubts += _doubts(packets, form)
    if announced > len(packets):
        doubts.append("cut short")
    first, times = _count(path, tick, only_first=not doubts)
    if not doubts and times != pts[:1]:
        doubts.append("its first packet is not its first picture")
        first, times = _count(path, tick)
    if not doubts or len(pts) == len(times) == len(packets):
        times = list(pts)
    if first is None:
        raise Unreadable("not one frame of it can be decoded")

    notes = []
    expected = max(announced, len(packets))
    if len(times) < expected and {"damaged", "cut short"} & set(doubts):
        notes.append(f"damaged or cut short: {len(times)} of {expected} frames decode")
    known = [t for t in times if t is not None]
    if len(known) < len(times):
        rate = header_fps or Fraction(25)
        notes.append(f"it holds no timestamps: times follow from {float(rate):g} frames a second")
        seconds = np.arange(len(times)) / float(rate)
    else:
        ticks = np.array(sorted(known), np.float64)
        seconds = ticks * time_base.numerator / time_base.denominator
    bits = max(c.bits for c in first.format.components)
    odd = (first.width % 2 or first.height % 2) and "420" in first.format.name
    wrong = list(doubts)
    if "av1" in codec:  # av1, libdav1d
        wrong.append("AV1")
    if form == "gif":
        wrong.append("GIF")
    differs = [f"{bits} bits a colour"] if bits > 8 else []
    differs += ["odd picture size"] if odd else []
    height, width = first.height, first.width
    if _turns(first) % 2:
        height, width = width, height
    fps = _measured_fps(seconds, header_fps)
    return Probed(fps, height, width, seconds, tuple(wrong), tuple(differs), tuple(notes))


Packets = list[tuple[int | None, bool, bool, bool]]


def _packets(container: Any, stream: Any, tick: Tick) -> tuple[Packets, str]:
    """(pts, keyframe, discard, corrupt) of every packet, and what ended the list early."""
    import av

    found: Packets = []
    try:
        for packet in container.demux(stream):
            tick()
            if packet.size:
                flags = (packet.is_keyframe, packet.is_discard, packet.is_corrupt)
                found.append((packet.pts, *flags))
    except (av.error.FFmpegError, IndexError):
        return found, "damaged"
    return found, ""


def _doubts(packets: Packets, form: str) -> list[str]:
    """Why the packets may not be the frames, one for one."""
    doubts = []
    pts = [p for p, *_ in packets]
    known = [p for p in pts if p is not None]
    if form in ("mpegts", "mpeg"):
        doubts.append("MPEG-TS/PS")
    if len(known) < len(pts):
        doubts.append("missing timestamps")
    elif len(set(known)) < len(known):
        doubts.append("repeated timestamps")
    if any(discard for *_, discard, _ in packets):
        doubts.append("edit list")
    if known and min(known) < 0:
        doubts.append("starts before zero")
    if packets and not packets[0][1]:
        doubts.append("starts without a keyframe")
    elif known and pts[0] is not None and min(known) < pts[0]:
        doubts.append("starts with pictures that lean on missing ones")
    if any(corrupt for *_, corrupt in packets):
        doubts.append("damaged")
    return doubts


def _count(path: str, tick: Tick, *, only_first: bool = False) -> tuple[Any, list[int | None]]:
    """The first frame and the pts of every frame, by decoding."""
    first, times = None, []
    with _open(path) as container:
        for frame in _decoded(container, _video_stream(container), tick):
            first = first or frame
            times.append(frame.pts)
            if only_first:
                break
    return first, times


def _measured_fps(seconds: np.ndarray, header: Fraction | None) -> Fraction:
    """Frames a second from the timestamps; the header's exact fraction where it agrees."""
    span = float(seconds[-1] - seconds[0])
    if span <= 0:
        return Fraction(header or 25)
    measured = (len(seconds) - 1) / span
    if header and abs(float(header) / measured - 1) < 0.01:
        return Fraction(header)
    return Fraction(measured).limit_denominator(1001)


# -------------------------------------------------------------------------------------- decord


def decord_frames(
    path: str, start: int, num_frames: int, tolerance: float, opened: Tick, tick: Tick
) -> Iterator[np.ndarray]:
    """Frames ``start``, ``start + 1``, ... as (H, W, 3) uint8 RGB, by decord's ``next``.

    Raises :class:`Unreadable` where decord is missing, refuses the file, counts other frames than
    the probe did, or shows a first frame that is more than ``tolerance`` grey levels off PyAV's in
    the mean.
    """
    try:
        import decord
        from decord._ffi.base import DECORDError, DECORDLimitReachedError
    except (ImportError, OSError, RuntimeError) as error:
        raise Unreadable(f"decord cannot be loaded: {error}") from error
    decord.logging.set_level(decord.logging.QUIET)
    try:
        video = decord.VideoReader(path, num_threads=1, fault_tol=FAULT_TOLERANCE)
        opened()
        if len(video) != num_frames:
            raise Unreadable(f"decord counts {len(video)} frames instead of {num_frames}")
        for index in range(num_frames):
            frame = video.next().asnumpy()
            if index == 0:
                _agree(frame, next(pyav_frames(path, 0, tick)), tolerance)
            tick()
            if index >= start:
                yield frame
    except (
        DECORDError,
        DECORDLimitReachedError,  # one more made-up frame than FAULT_TOLERANCE
        RuntimeError,
        AssertionError,
        UnicodeError,
    ) as error:
        raise Unreadable(f"decord gives up: {_plain(error)}") from error
    except StopIteration as error:
        raise Unreadable("decord gives up: no more frames") from error


def _plain(error: Exception) -> str:
    """decord's message without its clock, source lines and addresses."""
    first = str(error).strip(" '\"").replace("\\n", "\n").splitlines()[:1]
    return re.split(r"\.cc:\d+: ", first[0])[-1] if first else repr(error)


def _agree(frame: np.ndarray, reference: np.ndarray, tolerance: float) -> None:
    if frame.shape != reference.shape:
        raise Unreadable(f"decord shows {frame.shape} where PyAV shows {reference.shape}")
    off = float(np.abs(frame.astype(np.int16) - reference).mean())
    if off > tolerance:
        raise Unreadable(f"decord's first frame is {off:.2g} grey levels off PyAV's")
