"""A run ends as it should whatever becomes of the screen and the log."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from epam_extract.progress.displays import open_progress
from epam_extract.progress.logging_setup import logging_to

FULL = Path("/dev/full")
MAIN = """
import os, sys, types
from epam_extract import cli
from epam_extract.cli import run as runner
from epam_extract.progress.records import Plan, Summary
from epam_extract.records import VideoFailure

def extract_features(videos, out, config, *, progress, stop, **_):
    with open(out, "wb") as file:
        progress.message("a message\\x1b[31m")
        progress.warning("a warning")
        progress.plan(Plan(1, 1, 0, 0, 48, 3, 9, 99, exact=True))
        progress.video_failed(VideoFailure("b", "decode", "broken"))
        os.write(2, b"words of a library")
        file.write(b"features")
    summary = Summary(
        out=out, videos=2, done=1, skipped=0, failures=(VideoFailure("b", "decode", "broken"),),
        windows=3, frames=48, frames_with_person=0, seconds=1.0, size=8, interrupted=False,
        clipped=0, notes=(),
    )
    progress.finished(summary)
    return summary

# Without torch, which takes seconds to load.
pipeline = types.ModuleType("epam_extract.pipeline.run")
pipeline.extract_features = extract_features
sys.modules["epam_extract.pipeline.run"] = pipeline
runner._example = lambda summary: None
sys.argv[1:] = ["v.mp4", "--out", "f.h5", "--demo", *sys.argv[1:]]
cli.main()
"""


def run(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A run that fails one video of two, its streams as the shell's ``command`` leaves them."""
    (folder / "main.py").write_text(MAIN)
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        ["bash", "-c", command.format(run=f"{sys.executable} main.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command",
    [
        pytest.param("{run} 2>/dev/full", id="full"),
        pytest.param("{run} 2>&-", id="closed"),
        pytest.param("{run} <&- >&- 2>&-", id="all closed"),
        pytest.param("{run} 2> >(exit)", id="gone"),
        pytest.param("{run} --progress tqdm 2>/dev/full", id="full, tqdm"),
        pytest.param("{run} --progress json 2>/dev/full", id="full, json"),
        pytest.param("{run} --log-file /dev/full", id="log file full"),
    ],
)
def test_a_lost_screen_or_log_never_ends_a_run(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path)
    assert (done.returncode, done.stdout) == (3, b"")
    assert (tmp_path / "f.h5").read_bytes() == b"features"  # and nothing that was said
    assert b"Traceback" not in done.stderr and b"Error" not in done.stderr
    if "log-file" in command:
        assert done.stderr.count(b"the rest of the log is lost") == 1


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_summary_that_cannot_be_printed_is_one_sentence(tmp_path: Path) -> None:
    done = run("{run} -q --summary-json - >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"error: the output: No space left on device"


def test_a_log_keeps_a_message_on_its_line_and_a_traceback_on_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with (tmp_path / "screen").open("w", errors="backslashreplace") as screen:
        display = open_progress("plain", stream=screen)
        with logging_to(display, verbose=True, log_file=path):
            try:
                raise ValueError("name\x1b[2J")
            except ValueError:
                logging.getLogger("epam_extract.test").exception("two\nlines of \udcff\u2028")
    for text in (path.read_text(), (tmp_path / "screen").read_text()):
        first, second, *_, last = text.splitlines()
        assert first.endswith(r"two\nlines of \udcff\u2028")
        assert second == "Traceback (most recent call last):"
        assert last == r"ValueError: name\x1b[2J"
