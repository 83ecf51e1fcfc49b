"""One small video of each kind that is out there, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import make_videos as make
import numpy as np
import pytest

from epam_extract.records import Video
from epam_extract.video import frames, read_frames

HAS_DECORD = frames.has_decord()

needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this machine")

FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}

QUIET_X265 = {"x265-params": "log-level=none"}

VARIABLE = [index * 40 + (index % 3) * 11 for index in range(40)]

TS = "MPEG-TS/PS"


def _derived(name: str, change: Callable[[Path, Path], Path], first: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        return change(make_sample(path.parent, first), path)

    return write


def _writer(codec: str = "libx264", **settings: object) -> Callable[[Path], Path]:
    return lambda path: make.write_video(path, codec, **settings)  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": _writer(),
    "h264_b.mp4": _writer(options={"bf": "3", "g": "12"}),
    "open_gop.mp4": _writer(options={"x264-params": "open-gop=1:keyint=15:bframes=3"}),
    "h264.mkv": _writer(),
    "audio.mp4": _writer(audio=True),
    "fragmented.mp4": _writer(container_options={"movflags": "+frag_keyframe+empty_moov"}),
    "faststart.mp4": _writer(container_options={"movflags": "+faststart"}),
    "full_range.mp4": _writer(pix_fmt="yuvj420p"),
    "bt709.mp4": _writer(options={"colorspace": "bt709"}),
    "odd444.mp4": _writer(height=65, width=97, pix_fmt="yuv444p"),
    "ntsc.mp4": _writer(rate=Fraction(30000, 1001)),
    "422.mp4": _writer(pix_fmt="yuv422p"),
    "interlaced.mp4": _writer(options={"x264-params": "interlaced=1", "flags": "+ildct+ilme"}),
    "alpha.webm": _writer("libvpx-vp9", options=FAST_VPX, pix_fmt="yuva420p"),
    "mpeg2.mkv": _writer("mpeg2video", options={"bf": "2"}),
    "flv1.flv": _writer("flv"),
    "hevc.mp4": _writer("libx265", options=QUIET_X265),
    "hevc10.mp4": _writer("libx265", options=QUIET_X265, pix_fmt="yuv420p10le"),
    "vp8.webm": _writer("libvpx", options=FAST_VPX),
    "vp9.webm": _writer("libvpx-vp9", options=FAST_VPX),
    "odd.webm": _writer("libvpx-vp9", options=FAST_VPX, height=65, width=97),
    "mpeg4.avi": _writer("mpeg4"),
    "mpeg4_b.avi": _writer("mpeg4", options={"bf": "2"}),
    "mjpeg.avi": _writer("mjpeg", pix_fmt="yuvj420p"),
    "wmv2.wmv": _writer("wmv2"),
    "av1.mp4": _writer("libsvtav1", options={"preset": "12"}),
    "animated.gif": _writer("gif", pix_fmt="rgb8"),
    "h264.ts": _writer(format="mpegts"),
    "mpeg2.mpg": _writer("mpeg2video", options={"bf": "2"}),
    "raw.h264": _writer(format="h264"),
    "variable.mp4": _writer(times_ms=VARIABLE),
    "variable.mkv": _writer(times_ms=VARIABLE),
    "one.mp4": _writer(frames=1),
    "two.mp4": _writer(frames=2),
    "long.mp4": _writer(frames=100, options={"g": "30", "bf": "3"}),
    "late.mp4": _derived("late", lambda a, b: make.remux(a, b, shift=5), "h264.mp4"),
    "negative.mp4": _derived("negative", lambda a, b: make.remux(a, b, shift=-1), "h264.mp4"),
    "cut.mp4": _derived("cut", lambda a, b: make.remux(a, b, skip_seconds=1.8), "long.mp4"),
    "cut.mkv": _derived(
        "cut", lambda a, b: make.remux(a, b, skip_seconds=1.8, shift=-2.3), "long.mp4"
    ),
    "turned90.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 90), "h264.mp4"),
    "turned180.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 180), "h264.mp4"),
    "turned270.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 270), "h264.mp4"),
    "short.mp4": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "faststart.mp4"),
    "short.mkv": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "h264.mkv"),
    "short.ts": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "h264.ts"),
    "hole.mp4": _derived("hole", lambda a, b: make.damage(a, b, wipe=(0.3, 0.5)), "h264.mp4"),
    "no_index.mp4": _derived("no_index", lambda a, b: make.damage(a, b, keep=0.5), "h264.mp4"),
    "sound.m4a": make.write_audio,
    "cover.m4a": make.write_cover_only,
}

NO_VIDEO = ("no_index.mp4", "sound.m4a", "cover.m4a")


def make_sample(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else WRITERS[name](path)


def numbers(video: Video, turns: int = 0, **options: object) -> list[int]:
    """The frame numbers that come out."""
    pieces = read_frames(video, **options)  # type: ignore[arg-type]
    return [make.number_of(np.rot90(f, turns)) for piece in pieces for f in piece.frames]


# (name, first and number of frames shown, first time, why decord would read it wrongly)
EXACT = [
    ("h264.mp4", 0, 40, 0.0, ""),
    ("h264_b.mp4", 0, 40, 0.0, ""),
    ("open_gop.mp4", 0, 40, 0.0, ""),
    ("h264.mkv", 0, 40, 0.0, ""),
    ("audio.mp4", 0, 40, 0.0, ""),
    ("fragmented.mp4", 0, 40, 0.08, ""),
    ("faststart.mp4", 0, 40, 0.0, ""),
    ("full_range.mp4", 0, 40, 0.0, ""),
    ("bt709.mp4", 0, 40, 0.0, ""),
    ("odd444.mp4", 0, 40, 0.0, ""),
    ("hevc.mp4", 0, 40, 0.0, ""),
    ("vp8.webm", 0, 40, 0.0, ""),
    ("vp9.webm", 0, 40, 0.0, ""),
    ("mpeg4.avi", 0, 40, 0.0, ""),
    ("mpeg4_b.avi", 0, 40, 0.04, ""),
    ("mjpeg.avi", 0, 40, 0.0, ""),
    ("wmv2.wmv", 0, 40, 0.0, ""),
    ("422.mp4", 0, 40, 0.0, ""),
    ("alpha.webm", 0, 40, 0.0, ""),
    ("mpeg2.mkv", 0, 40, 0.0, ""),
    ("flv1.flv", 0, 40, 0.0, ""),
    ("late.mp4", 0, 40, 5.0, ""),
    ("one.mp4", 0, 1, 0.0, ""),
    ("two.mp4", 0, 2, 0.0, ""),
    ("hevc10.mp4", 0, 40, 0.0, ""),
    ("odd.webm", 0, 40, 0.0, ""),
    ("av1.mp4", 0, 40, 0.0, "AV1"),
    ("animated.gif", 0, 40, 0.0, "GIF"),
    ("h264.ts", 0, 40, 0.08, TS),
    ("mpeg2.mpg", 0, 40, 0.54, TS),
    ("raw.h264", 0, 40, 0.0, "missing timestamps"),
    ("negative.mp4", 25, 15, 0.0, "edit list"),
    ("cut.mp4", 60, 40, 2.4, "edit list"),
    ("cut.mkv", 60, 40, 0.48, "missing timestamps"),
]
