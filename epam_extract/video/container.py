"""Open a file with PyAV: its video stream, and what its header promises.

No other file is ever opened: formats that refer to other files (concat scripts, HLS and DASH
playlists, SDP, image sequences) are not allowed, and neither is any protocol but ``file``.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from .memory import MemoryLimit

DEFAULT_FPS = Fraction(25)  # if the file does not say
LEAST_FRAME_BYTES = 8  # in any codec and container, index entry included
MOST_FRAMES = 1 << 26  # a month at 25 frames a second
FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,live_flv,kux,asf,asf_o,ogg,mxf,"
    "gxf,lxf,wtv,nut,nuv,rm,ivr,dv,ivf,h261,h263,h264,hevc,vvc,m4v,av1,obu,vc1,vc1test,dirac,dnxhd,"
    "cavsvideo,avs2,avs3,evc,apv,mjpeg,mjpeg_2000,smjpeg,yuv4mpegpipe,gif,apng,jpegxl_anim,swf,roq,"
    "smk,bink,flic,film_cpk,dhav,ty,pva,nsv,viv,vivo,xmv,avr,cine,rpl,wc3movie,4xm,cdxl,thp,moflex"
)
"""Containers that hold their own frames."""


class Unreadable(Exception):
    """The file is not a video or cannot be read; the message says why."""


def open_container(path: str, memory: MemoryLimit) -> Any:
    """Open a file with PyAV. Raises Unreadable with a helpful reason."""
    import av

    av.logging.set_level(None)
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": FORMATS,
        **picture_limit(memory),  # FFmpeg decodes first pictures of some files when it opens them
    }
    try:
        return av.open(path, metadata_errors="ignore", options=options)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise Unreadable(_why_not_open(path, error)) from error


def picture_limit(memory: MemoryLimit) -> dict[str, str]:
    """Codec option that refuses larger pictures, even if the header understates their size."""
    return {"max_pixels": str(min(memory.most_pixels, 2**31 - 1))}


def _why_not_open(path: str, error: Exception) -> str:
    """A better explanation than "Invalid data found when processing input"."""
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
    """The video stream. Raises Unreadable if there is none."""
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


def header_fps(stream: Any) -> Fraction:
    """The header's frame rate."""
    return Fraction(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def announced(container: Any, stream: Any) -> int:
    """Frames in the index, without those hidden by an edit list; 0 if it does not say."""
    if not stream.frames or not container.format.name.startswith(("mov", "avi")):
        return 0
    hidden = sum(1 for entry in stream.index_entries if entry.is_discard)
    return max(stream.frames - hidden, 0)


def expected_frames(container: Any, stream: Any, fps: Fraction) -> int:
    """Frames that the header promises, capped by the size of the file; 0 if it does not say."""
    expected = announced(container, stream) or stream.frames
    if not expected and stream.duration is not None:
        expected = round(stream.duration * stream.time_base * fps)
    elif not expected:
        expected = round((container.duration or 0) / 1e6 * fps)
    return max(0, min(expected, container.size // LEAST_FRAME_BYTES, MOST_FRAMES))
