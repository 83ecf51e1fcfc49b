"""Clips are grouped in order, and a stage is as busy as all its threads together."""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from stand_ins import POOLED

from epam_extract.pipeline.concurrency import PAUSE
from epam_extract.pipeline.context import STAGES, RunContext, Threads
from epam_extract.pipeline.inference import group_clips
from epam_extract.pipeline.stages import report_loads
from epam_extract.progress import Progress
from epam_extract.progress.records import StageLoad
from epam_extract.records import Clip, VideoFailure


def clip(video_id: str, window: int) -> Clip:
    return Clip(
        video_id,
        window,
        np.arange(48),
        np.zeros((16, 224, 224, 3), np.uint8),
        np.zeros((0, 48, 17, 2), np.float32),
        np.zeros((0, 48, 17), np.float32),
        (0, 0, 1, 1),
        0.0,
    )


def test_clips_are_grouped_across_videos_and_other_results_stay_in_order() -> None:
    failure = VideoFailure("a", "probe", "damaged")
    results = [clip("a", 0), failure, clip("b", 0), clip("b", 1), PAUSE, clip("b", 2)]
    groups = list(group_clips(results, 2))
    rows = [[(one.video_id, one.window) for one in group.clips] for group in groups]
    assert rows == [[("a", 0), ("b", 0)], [("b", 1)], [("b", 2)]]
    assert [group.others for group in groups] == [[failure], [], []]
    assert [group.last for group in groups] == [False, True, False]


def test_results_without_clips_do_not_wait_for_ever() -> None:
    failures = [VideoFailure(str(number), "probe", "damaged") for number in range(100)]
    assert [len(group.others) for group in group_clips(failures, 2)] == [64, 36]


def test_a_stage_is_as_busy_as_all_its_threads_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Mapping[str, StageLoad]] = []

    class Listen(Progress):
        def stages(self, loads: Mapping[str, StageLoad], *, bottleneck: str | None = None) -> None:
            told.append(loads)

    run = RunContext(POOLED, tmp_path / "f.h5", Listen(), threading.Event())
    work = dict.fromkeys(STAGES, (8.0, 40.0))
    monkeypatch.setattr(run.meter, "since_last", lambda: (10.0, dict(work)))
    report_loads(run, Threads(videos=2, pose=4, network=5))
    run.meter.add("fetch", 1.0, 3)
    report_loads(run, Threads(videos=2, pose=4, network=5))
    local, fetching = told
    assert {name: load.busy for name, load in local.items()} == pytest.approx(
        {"read": 0.4, "pose": 0.2, "clips": 0.4, "network": 0.16, "write": 0.8}
    )
    assert {load.rate for load in local.values()} == {4.0}
    assert local["read"].unit == "frames" and local["network"].unit == "windows"
    assert fetching["fetch"].busy == pytest.approx(0.2) and fetching["fetch"].unit == "MB"
