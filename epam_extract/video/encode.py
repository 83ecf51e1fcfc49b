"""Write pictures as an H.264 video with PyAV, for previews."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import ConfigError

QUALITY = "20"  # x264's constant rate factor: lower is better, 18 looks lossless
SPEED = "veryfast"  # of x264's presets
LARGEST_RATE = 65535  # what MPEG-4 time scales and x264 take as a fraction's parts


def encode_video(path: Path, pictures: Iterable[np.ndarray], *, fps: Fraction) -> int:
    """Encode RGB pictures (H, W, 3) uint8, all of one even size; returns how many there were.

    Pictures are consumed one at a time. Pixels are 4:2:0 in BT.709, which every player supports. An
    unfinished file stays at ``path``; the caller removes it.

    Raises:
        ConfigError: this PyAV has no H.264 encoder, or ``path`` cannot be written.
    """
    import av

    if "libx264" not in av.codecs_available:
        raise ConfigError(
            "PyAV was built without libx264 here, so no H.264 video can be written; "
            "give --out a name ending in .png"
        )
    count = 0
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps.limit_denominator(LARGEST_RATE))
            stream.options = {"crf": QUALITY, "preset": SPEED}
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
            for picture in pictures:
                if not count:
                    stream.height, stream.width = picture.shape[:2]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = count, 1 / stream.codec_context.rate
                container.mux(stream.encode(frame))
                count += 1
            container.mux(stream.encode(None))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    return count
