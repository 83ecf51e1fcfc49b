"""What of a run lasts: how the file says it was computed, and rows while the run goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from make_videos import write_video
from stand_ins import POOLED, StandInNetwork, StandInPose

from epam_extract.errors import StoreMismatch
from epam_extract.pipeline import output
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.store import FeatureStore


@pytest.mark.parametrize(("first", "second"), [("native", ""), ("", "native")])
def test_compiled_and_uncompiled_numbers_never_share_a_file(
    videos: Path,
    stand_ins: StandInPose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
) -> None:
    out = tmp_path / "f.h5"
    choice = {"native": "on", "": "off"}
    monkeypatch.setattr(StandInNetwork, "compiled", first)
    extract_features(videos / "sub" / "one.mp4", out, replace(POOLED, compile=choice[first]))
    with FeatureStore(out) as store:
        assert store.config["compiled"] == first
    monkeypatch.setattr(StandInNetwork, "compiled", second)
    with pytest.raises(StoreMismatch, match=r"config\.compiled"):
        extract_features(videos, out, replace(POOLED, compile=choice[second]))
    with FeatureStore(out) as store:
        assert list(store) == ["one"]


class Watching(Progress):
    """Opens the file whenever rows are through, as another program would."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.seen: list[list[str]] = []

    def advance(self, frames: int) -> None:
        with FeatureStore(self.out) as store:
            self.seen.append(list(store))


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(0.0, 1 << 40), (1e9, 1)], ids=["by time", "by size"])
def test_what_is_done_is_in_the_file_while_the_run_goes_on(
    stand_ins: StandInPose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limits: tuple[float, int],
) -> None:
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", frames=40)
    monkeypatch.setattr(output, "COMMIT_SECONDS", limits[0])
    monkeypatch.setattr(output, "COMMIT_BYTES", limits[1])
    watching = Watching(tmp_path / "f.h5")
    config = replace(POOLED, workers=1, batch_size=1)
    extract_features(tmp_path, tmp_path / "f.h5", config, progress=watching)
    assert watching.seen[0] == []
    assert watching.seen[-1] == ["a", "b"]  # c is committed after its last row


def test_a_kill_costs_seconds_of_work_and_not_hours() -> None:
    assert 0 < output.COMMIT_SECONDS <= 10
    assert 0 < output.COMMIT_BYTES <= 256 << 20
