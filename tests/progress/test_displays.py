"""What all displays have in common."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from reported_run import LOADS, PLAN, run_on, shown

from epam_extract.errors import ConfigError
from epam_extract.progress.displays import KINDS, open_progress
from epam_extract.progress.plain import PlainLines
from epam_extract.records import VideoFailure


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_a_whole_run_and_tells_what_must_be_told(kind: str) -> None:
    text = shown(kind)
    assert "weights: random, seed 0" in text
    assert "batch halved to 32" in text
    assert "b [bold]" in text  # not taken for markup
    assert "61 of 74 frames decoded" in text


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="auto, rich, plain, tqdm, json, none, got 'html'"):
        open_progress("html")


def test_auto_is_lines_where_there_is_no_terminal() -> None:
    assert isinstance(open_progress("auto", stream=io.StringIO()), PlainLines)


def test_quiet_leaves_warnings_and_failures() -> None:
    text = shown("auto", quiet=True)
    assert text.splitlines() == [
        "failed: b [bold]: decode: 61 of 74 frames decoded",
        "warning: batch halved to 32",
    ]


def test_verbose_tells_each_finished_video() -> None:
    assert "done: a: 32 windows" in shown("plain", verbose=True)
    assert "done: a: 32 windows" not in shown("plain")


def test_nothing_is_printed_twice_without_a_logging_setup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_on(open_progress("none", stream=io.StringIO()))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["rich", "plain", "tqdm", "json", "none"])
def test_displays_take_calls_from_many_threads(kind: str) -> None:
    listener = open_progress(kind, stream=io.StringIO())
    start = threading.Barrier(4)

    def report(worker: int) -> None:
        start.wait()
        for turn in range(25):
            name = f"{worker}-{turn}"
            listener.video_started(name, 10)
            listener.advance(10)
            listener.stages(LOADS)
            listener.download(name, 1, 2)
            listener.download(name, 2, 2)
            if turn % 5:
                listener.video_done(name, 1)
            else:
                listener.message("hello")
                listener.video_failed(VideoFailure(name, "pose", "why"))

    with listener, ThreadPoolExecutor(4) as pool:
        listener.plan(PLAN)
        list(pool.map(report, range(4)))
    assert (listener.frames, listener.done, listener.failed) == (1000, 80, 20)
    assert not listener.running and not listener.downloads
