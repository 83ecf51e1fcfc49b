"""The labelled clips for trying `probe`."""

from __future__ import annotations

from pathlib import Path

from epam_extract.exchange.labels import read_labels
from sample_videos.training.labelled import make_labelled


def test_the_labelled_set_has_a_clip_for_each_line(tmp_path: Path) -> None:
    labels = read_labels(make_labelled(tmp_path, clips=3, frames=2))
    assert [(one.video, one.label) for one in labels] == [
        ("clip000", "walk"),
        ("clip001", "run"),
        ("clip002", "wave"),
    ]
    assert all((tmp_path / f"{one.video}.mp4").stat().st_size > 1000 for one in labels)
