"""Write small test videos with PyAV: every picture carries its own number.

A picture is 96 x 64 by default: twelve 16 x 16 blocks hold the frame number in binary (bright is
one), the rest moves and has colour, so that a repeated, dropped or shifted frame always shows.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12  # two rows of six blocks
BLOCK = 16


def picture(number: int, height: int = 64, width: int = 96) -> np.ndarray:
    """(height, width, 3) uint8 RGB that :func:`number_of` reads back, also after lossy coding."""
    rows, columns = np.mgrid[0:height, 0:width]
    frame = np.empty((height, width, 3), np.uint8)
    frame[..., 0] = 60 + (columns * 2 + number * 5) % 120
    frame[..., 1] = 60 + (rows * 2 + number * 3) % 120
    frame[..., 2] = 200 - (number * 7) % 120
    for bit in range(BITS):
        top, left = BLOCK * (bit // 6), BLOCK * (bit % 6)
        level = 225 if number >> bit & 1 else 30
        frame[top : top + BLOCK, left : left + BLOCK] = level
    return frame


def number_of(frame: np.ndarray) -> int:
    """The frame number a picture carries."""
    number = 0
    for bit in range(BITS):
        top, left = BLOCK * (bit // 6) + 4, BLOCK * (bit % 6) + 4
        number |= int(frame[top : top + 8, left : left + 8].mean() > 127) << bit
    return number


def write_video(
    path: Path,
    codec: str = "libx264",
    *,
    frames: int = 40,
    height: int = 64,
    width: int = 96,
    rate: Fraction | int = 25,
    pix_fmt: str = "yuv420p",
    format: str | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    audio: bool = False,
    first: int = 0,
) -> Path:
    """Write ``frames`` numbered pictures; ``times_ms`` gives a variable frame rate."""
    with av.open(str(path), "w", format=format, options=dict(container_options or {})) as out:
        sound = out.add_stream("aac", rate=8000, layout="mono") if audio else None
        stream = out.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.thread_count = 1
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(first + index, height, width), "rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _silence(out, sound)
    return path


def write_audio(path: Path) -> Path:
    """One second of silence, no picture."""
    with av.open(str(path), "w") as out:
        _silence(out, out.add_stream("aac", rate=8000, layout="mono"))
    return path


def write_cover_only(path: Path) -> Path:
    """Sound and a cover picture: a video stream that is no video."""
    with av.open(str(path), "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 96, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        frame = av.VideoFrame.from_ndarray(picture(0), "rgb24")
        out.mux(cover.encode(frame))
        out.mux(cover.encode(None))
        _silence(out, sound)
    return path


def _silence(out: av.container.OutputContainer, stream: av.stream.Stream) -> None:
    for index in range(8):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, index * 1024
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def remux(source: Path, target: Path, *, skip_seconds: float = -1e9, shift: float = 0.0) -> Path:
    """Copy packets without decoding, leaving out those before a time, shifting the rest."""
    with av.open(str(source)) as have, av.open(str(target), "w") as out:
        stream = have.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for packet in have.demux(stream):
            if packet.dts is None or packet.dts * stream.time_base < skip_seconds:
                continue
            move = int(shift / stream.time_base)
            packet.pts, packet.dts = packet.pts + move, packet.dts + move
            packet.stream = copy
            out.mux(packet)
    return target


def rotate(source: Path, target: Path, degrees: int) -> Path:
    """Copy an mp4 with a display matrix that turns it clockwise, as phones write it."""
    one = 1 << 16
    matrices = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}
    a, b, c, d = matrices[degrees]
    data = bytearray(source.read_bytes())
    # tkhd version 0: 4 type, 4 version and flags, 20 times and id, 8 duration and reserved ...
    where = data.index(b"tkhd") + 4 + 40
    struct.pack_into(">9i", data, where, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)
    return target


def damage(
    source: Path, target: Path, *, keep: float = 1.0, wipe: tuple[float, float] | None = None
) -> Path:
    """Copy a file cut off at a share of its length, or with a share of it set to zero."""
    data = bytearray(source.read_bytes())
    if wipe is not None:
        start, stop = (int(len(data) * share) for share in wipe)
        data[start:stop] = bytes(stop - start)
    target.write_bytes(data[: int(len(data) * keep)])
    return target
