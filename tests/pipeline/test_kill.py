"""The real command, killed at random moments and run again: nothing is lost or differs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from make_videos import write_video
from stand_ins import assert_same

from epam_extract.store import FeatureStore

KILLS = 10
COMMAND = [sys.executable, "-c", "from epam_extract.cli import main; main()"]
OPTIONS = [
    "--demo",
    "--stride",
    "8",
    "--features",
    "pooled",
    "--batch-size",
    "1",
    "--progress",
    "none",
]


def start(videos: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, str(videos), "--out", str(out), *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed")
    write_video(root / "a.mp4", frames=40)
    write_video(root / "b.mp4", frames=17)
    (root / "broken.mp4").write_text("no video")
    return root


def complete(out: Path) -> set[str]:
    """Videos that are complete in the file as it lies there; every array of theirs is read."""
    if not out.exists():
        return set()
    with FeatureStore(out) as store:
        for video_id in store:
            for name in store[video_id]:
                assert np.isfinite(store[video_id][name]).all()
        return set(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_random_goes_on_to_the_same_file(videos: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    whole = start(videos, tmp_path / "whole.h5")
    _, words = whole.communicate()
    assert whole.returncode == 3, words.decode()
    seconds = time.monotonic() - begun
    moments = random.Random(0)
    out, kills, rounds = tmp_path / "f.h5", 0, 0
    while kills < KILLS:
        before = complete(out)
        run = start(videos, out)
        try:
            run.wait(moments.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            kills += 1
        run.communicate()
        assert complete(out) >= before
        if run.returncode == 3:
            assert_same(tmp_path / "whole.h5", out)
            rounds += 1
            out = tmp_path / f"f{rounds}.h5"
        else:
            assert run.returncode == -signal.SIGKILL
    last = start(videos, out)
    _, words = last.communicate()
    assert last.returncode == 3, words.decode()
    assert_same(tmp_path / "whole.h5", out)


@pytest.mark.slow
def test_interrupts_end_the_run_with_130_and_a_resumable_file(videos: Path, tmp_path: Path) -> None:
    run = start(videos, tmp_path / "f.h5")
    while not (tmp_path / "f.h5").exists() and run.poll() is None:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGTERM)
    _, words = run.communicate()
    assert run.returncode == 130, words.decode()
    assert "same command" in words.decode()
    assert complete(tmp_path / "f.h5") <= {"a", "b"}
