"""--ray with Ray itself, on this machine: workers are processes, and killed as such."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from stand_ins import assert_same

from epam_extract.store import FeatureStore

pytest.importorskip("ray")

SAMPLES = Path(__file__).parents[2] / "sample_videos"
VIDEOS = [str(SAMPLES / name) for name in ("workout.mp4", "walk_and_wave.mp4")]
OPTIONS = ["--demo", "--no-full", "--stride", "48", "--progress", "plain"]
RAY = ["--ray", "--cpus-per-worker", "1"]


def command(out: Path, *more: str) -> list[str]:
    code = "from epam_extract.cli import main; main()"
    return [sys.executable, "-c", code, *VIDEOS, "-o", str(out), *OPTIONS, *more]


def workers(driver: int) -> list[psutil.Process]:
    """Processes of our actors."""
    children = psutil.Process(driver).children(recursive=True)
    return [child for child in children if "ray::Worker" in " ".join(child.cmdline())]


def wait_for_rows(run: subprocess.Popen, parts: list[Path]) -> None:
    """Until something of a video is committed, and the run is in the middle of it."""
    until = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < until:
        for part in parts:
            if part.exists():
                with FeatureStore(part) as store:
                    states = [store.progress(video) for video in store.survey()[0]]
                if any(state and state.frames for state in states):
                    return
        time.sleep(0.1)
    raise AssertionError("nothing was committed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_and_driver_killed_once_each_equal_one_run(tmp_path: Path) -> None:
    subprocess.run(command(tmp_path / "whole.h5"), check=True, capture_output=True)
    out = tmp_path / "f.h5"
    parts = [tmp_path / f"f.worker-{number:05d}.h5" for number in range(2)]
    run = subprocess.Popen(command(out, *RAY), stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for_rows(run, parts)
    os.kill(workers(run.pid)[0].pid, signal.SIGKILL)
    time.sleep(1)
    run.kill()
    assert run.communicate()[0] == b""  # what Ray prints is not among our data
    assert not out.exists()
    until = time.monotonic() + 60
    while True:  # a worker of the killed driver may take a moment to end
        again = subprocess.run(command(out, *RAY), capture_output=True, text=True)
        if again.returncode == 0 or time.monotonic() > until:
            break
        assert "still writing it" in again.stderr
    assert again.returncode == 0, again.stderr
    assert again.stdout == ""
    assert_same(tmp_path / "whole.h5", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.h5", "whole.h5"]
