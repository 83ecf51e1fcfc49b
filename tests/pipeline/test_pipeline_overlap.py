"""The stages run at the same time and never far ahead of each other; nothing here is timed.

Stand-in stages wait for each other at barriers: a stage of one piece and another stage of another
piece must be in progress together, or the barrier breaks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stand_ins import StandInVideo

from epam_extract.config import PIECE_FRAMES, ExtractConfig
from epam_extract.pipeline import video_worker
from epam_extract.pipeline.concurrency import available_cores
from epam_extract.pipeline.context import RunContext
from epam_extract.pipeline.jobs import Job
from epam_extract.pipeline.keypoint_sources import KeypointSources
from epam_extract.pipeline.stages import RESULTS_AHEAD, run_stages
from epam_extract.progress import SILENT
from epam_extract.records import ClipBatch, FeatureBatch, FramePiece, PoseTrack

PATIENCE = 30.0  # seconds; a pipeline that overlaps needs none of them
Hook = Callable[[int], None]


class Stages:
    """Stand-ins for reader, pose models, network and file; ``hooks`` run inside their calls."""

    def __init__(self, pieces: int, **hooks: Hook) -> None:
        self.pieces = pieces
        self.hooks = hooks
        self.rows: list[int] = []

    def at(self, stage: str, number: int) -> None:
        if stage in self.hooks:
            self.hooks[stage](number)

    def open_video(self, path: Path, video_id: str, **_: object) -> StandInVideo:
        return StandInVideo(path, video_id, frames=self.pieces * PIECE_FRAMES, make=self.read)

    def read(self, start: int) -> np.ndarray:
        self.at("read", start // PIECE_FRAMES)
        return np.zeros((PIECE_FRAMES, 64, 96, 3), np.uint8)

    def estimate(self, piece: FramePiece) -> PoseTrack:
        self.at("pose", piece.start // PIECE_FRAMES)
        return PoseTrack(
            np.zeros((0, PIECE_FRAMES, 17, 2), np.float32),
            np.zeros((0, PIECE_FRAMES, 17), np.float32),
        )

    def __call__(self, batch: ClipBatch) -> FeatureBatch:
        self.at("network", batch.rows[0].window)
        return FeatureBatch(batch.rows, {})

    def take(self, result: object) -> None:
        pass

    def write(self, batch: FeatureBatch) -> None:
        self.at("write", batch.rows[0].window)
        self.rows += [row.window for row in batch.rows]

    def commit_if_due(self) -> None:
        pass

    commit = commit_if_due


def run(stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One video through the real pipeline with these stages."""
    monkeypatch.setattr(video_worker, "open_video", stages.open_video)
    (tmp_path / "a.mp4").touch()
    config = ExtractConfig(device="cpu", batch_size=1, workers=1)
    context = RunContext(config, tmp_path / "f.h5", SILENT, threading.Event())
    jobs = [Job("a", tmp_path / "a.mp4")]
    run_stages(context, jobs, KeypointSources(stages), stages, stages)
    assert stages.rows == list(range(stages.pieces))


def meeting(one: tuple[str, int], other: tuple[str, int]) -> dict[str, Hook]:
    """Hooks that hold two calls until both are in progress."""
    barrier = threading.Barrier(2)

    def hook(number: int) -> Hook:
        def wait(at: int) -> None:
            if at == number:
                barrier.wait(PATIENCE)

        return wait

    return {stage: hook(number) for stage, number in (one, other)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("read", 1), ("pose", 0)),
        (("read", 4), ("network", 0)),
        (("pose", 2), ("network", 0)),  # window 0 ends in piece 1
        (("network", 1), ("write", 0)),
        (("pose", 4), ("write", 0)),
    ],
    ids=lambda place: "-".join(map(str, place)),
)
def test_two_stages_are_in_progress_together(one, other, monkeypatch, tmp_path) -> None:
    run(Stages(12, **meeting(one, other)), monkeypatch, tmp_path)


@pytest.mark.slow
def test_reading_stops_while_the_network_is_busy(monkeypatch, tmp_path) -> None:
    cores = available_cores()
    under_way = cores + 1  # in the pose pool
    waiting = RESULTS_AHEAD + cores + 1  # results of the worker, and in the network's pool
    in_hands = 4  # of worker, group and writer; and a window ends a piece later
    too_far = threading.Event()

    def read(number: int) -> None:
        if number >= under_way + waiting + in_hands:
            too_far.set()

    def network(window: int) -> None:
        if window == 0:  # an unbounded reader is through with the video by then
            assert not too_far.wait(1.0)

    run(Stages(60, read=read, network=network), monkeypatch, tmp_path)
