"""A collection done in shards and merged equals one run; the network and pose are stand-ins."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import h5py
import pytest
from faulty_disk import tmp_path as tmp_path
from make_videos import write_video
from stand_ins import CONFIG, POOLED, StandInNetwork, StandInPose, assert_same, failures
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.cluster.shards import Shard, ShardChoice, missing_parts, read_plan
from epam_extract.pipeline import run
from epam_extract.pipeline.run import extract_features
from epam_extract.store import FeatureStore
from epam_extract.store.merge import merge_parts
from epam_extract.store.verify import verify

COUNT = 16
OPTIONS = ["--random-weights", "0", "--stride", "8", "--no-full", "--progress", "plain"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen videos of 1 to 52 frames and a broken one."""
    root = tmp_path_factory.mktemp("collection")
    for number in range(18):
        folder = root / f"class {number % 3}"
        folder.mkdir(exist_ok=True)
        write_video(folder / f"v{number}.mp4", frames=1 + 3 * number)
    (root / "broken.mp4").write_text("no video")
    return root


def run_part(videos: Path, out: Path, index: int, *, count: int = COUNT) -> Path:
    shard = Shard(index, count)
    extract_features(videos, shard.path(out), POOLED, only=ShardChoice(shard))
    return shard.path(out)


def attributes(path: Path) -> dict[str, object]:
    with h5py.File(path) as h5:
        moment = ("created", "attributes_checksum")  # which is over the other, too
        return {name: value for name, value in h5.attrs.items() if name not in moment}


@pytest.mark.slow
def test_merged_shards_equal_one_run(
    collection: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    count = 3
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    parts = [run_part(collection, tmp_path / "f.h5", i, count=count) for i in range(count)]
    assert missing_parts(parts) == []
    done = merge_parts(tmp_path / "f.h5", parts)
    assert (done.videos, done.failures, done.incomplete) == (18, 1, ())
    assert verify(tmp_path / "f.h5") == []
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")
    assert attributes(tmp_path / "whole.h5") == attributes(tmp_path / "f.h5")
    assert failures(tmp_path / "whole.h5") == failures(tmp_path / "f.h5")


def killed_part(videos: Path, out: Path, index: int, *, calls: int) -> None:
    """Run a part in a child that kills itself in the network's ``calls``-th call, if it comes."""
    child = os.fork()
    if child == 0:
        call, left = StandInNetwork.__call__, [calls]

        def count_down(self: StandInNetwork, batch: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(self, batch)  # type: ignore[arg-type]

        StandInNetwork.__call__ = count_down  # type: ignore[method-assign,assignment]
        try:
            run_part(videos, out, index)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.slow
def test_sixteen_shards_each_killed_once_and_merged_equal_one_run(
    collection: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "epam_extract.pipeline.output.COMMIT_SECONDS", 0.0
    )  # something is half done
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    moments = random.Random(0)
    parts, half_done = [], 0
    for index in range(COUNT):
        killed_part(collection, tmp_path / "f.h5", index, calls=moments.randrange(6))
        part = Shard(index, COUNT).path(tmp_path / "f.h5")
        if part.exists():
            with FeatureStore(part) as store:
                half_done += sum(not complete for complete in store.survey()[0].values())
        parts.append(run_part(collection, tmp_path / "f.h5", index))
    assert half_done > 3
    merge_parts(tmp_path / "f.h5", parts)
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


@pytest.mark.slow
def test_an_empty_part_is_a_file_and_exit_0(
    collection: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    one = collection / "class 0" / "v3.mp4"
    index = next(i for i in range(COUNT) if not Shard(i, COUNT).has("v3"))
    out = tmp_path / "f.h5"
    command = ["extract", str(one), "-o", str(out), *OPTIONS, "--shard", f"{index}/{COUNT}"]
    for _ in range(2):
        run = CliRunner().invoke(app, command)
        assert run.exit_code == 0, run.output
        assert f"part {index} of {COUNT}" in run.output
    with FeatureStore(Shard(index, COUNT).path(out)) as store:
        assert len(store) == 0
    assert not out.exists()


@pytest.mark.slow
def test_all_parts_decide_alike_whether_to_compile(
    collection: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def worth_compiling(choice: str, device: object, dtype: object, windows: int) -> bool:
        asked.append(windows)
        return False

    monkeypatch.setattr(run, "worth_compiling", worth_compiling)
    for index in range(COUNT):
        run_part(collection, tmp_path / "f.h5", index)
    assert len(set(asked)) == 1
    extract_features(collection, tmp_path / "whole.h5", CONFIG)
    assert asked[-1] >= 20 <= asked[0]


def test_the_scheduler_says_which_part(
    collection: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "5")
    out = tmp_path / "f.h5"
    command = ["extract", str(collection), "-o", str(out), *OPTIONS, "--shard", "auto"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code in (0, 3), run.output
    assert "part 2 of 5, from SLURM_ARRAY_TASK_ID" in run.output
    assert Shard(2, 5).path(out).exists()


@pytest.mark.slow
def test_a_written_plan_splits_what_it_lists(
    collection: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "f.h5"
    command = ["extract", str(collection), "-o", str(out), *OPTIONS]
    written = CliRunner().invoke(app, [*command, "--dry-run", "--plan", str(plan)])
    assert written.exit_code == 0, written.output
    assert not out.exists()
    assert len(read_plan(plan)) == 19
    write_video(collection / "later.mp4", frames=3)
    try:
        for index in range(3):
            shard = ["--plan", str(plan), "--shard", f"{index}/3"]
            run = CliRunner().invoke(app, [*command, *shard])
            assert run.exit_code in (0, 3), run.output
            assert "1 video not in" in run.output
    finally:
        (collection / "later.mp4").unlink()
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    merge_parts(out, [Shard(index, 3).path(out) for index in range(3)])
    assert_same(tmp_path / "whole.h5", out)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "5/4"], "I from 0 to N-1"),
        (["--shard", "four"], "expected I/N"),
        (["--plan", "p.json"], "--plan goes with"),
        (["--shard", "0/2", "--plan", "missing.json"], "cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence(
    options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["extract", "videos", "-o", "f.h5", *OPTIONS, *options])
    assert run.exit_code == 2
    assert words in run.output
    assert not list(tmp_path.iterdir())
