"""Films that other programs can read, at any frame rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epam_extract.errors import ConfigError
from epam_extract.report.preview.drawing import blank
from epam_extract.video.encode import encode_video


def test_write_video_takes_any_rate(tmp_path: Path) -> None:
    pictures = [blank(64, 96, (200, 40, 40))] * 5
    for rate in (Fraction(30000, 1001), Fraction(2160, 77), Fraction(1)):
        path = tmp_path / "x.part"
        assert encode_video(path, iter(pictures), fps=rate) == 5
        with av.open(str(path)) as made:
            assert float(made.streams.video[0].average_rate) == pytest.approx(float(rate), rel=1e-3)
            first = next(made.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(first[32, 48].astype(int) - (200, 40, 40)).max() < 25
    with pytest.raises(ConfigError, match="cannot be written"):
        encode_video(tmp_path / "none" / "x.mp4", iter(pictures), fps=Fraction(25))
