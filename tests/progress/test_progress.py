"""What a run reports, and what the displays make of it."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from epam_extract.config import format_bytes
from epam_extract.errors import ConfigError
from epam_extract.progress import (
    SILENT,
    Progress,
    describe_plan,
    displays,
    format_duration,
    format_rate,
    plain,
)
from epam_extract.progress import (
    tally as tallying,
)
from epam_extract.progress.displays import KINDS, open_progress
from epam_extract.progress.json_lines import JsonLines
from epam_extract.progress.logging_setup import logging_to
from epam_extract.progress.plain import Display, PlainLines
from epam_extract.progress.records import Plan, StageLoad, Summary
from epam_extract.progress.tally import Tally
from epam_extract.progress.tqdm_bar import TqdmBar
from epam_extract.records import VideoFailure

PLAN = Plan(
    videos=5,
    to_do=3,
    skipped=1,
    failed_before=1,
    frames=1000,
    windows=64,
    bytes=3_400_000_000,
    free_bytes=98_000_000_000,
)
LOADS = {
    "read": StageLoad(310.0, 0.24),
    "pose": StageLoad(92.0, 0.74),
    "network": StageLoad(5.4, 0.98, "windows"),
}
FAILURE = VideoFailure("b [bold]", "decode", "61 of 74 frames decoded")
SUMMARY = Summary(Path("f.h5"), 5, 3, 1, (FAILURE,), 64, 1000, 900, 12.0, 10_000)


class Clock:
    """Stands in for time.monotonic."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(tallying.time, "monotonic", clock)
    yield clock


def run_on(listener: Progress) -> None:
    """A small run: two videos done, one failed."""
    with listener:
        listener.message("weights: random, seed 0")
        listener.probed(5, 5)
        listener.download("pose.onnx", 0, 100)
        listener.download("pose.onnx", 100, 100)
        listener.video_skipped("old")
        listener.plan(PLAN)
        listener.video_started("a", 500)
        listener.video_started("b [bold]", 300)
        listener.advance(500)
        listener.stages(LOADS)
        listener.video_done("a", 32)
        listener.video_failed(FAILURE, frames_left=300)
        listener.warning("batch halved to 32")
        listener.video_started("c", 200)
        listener.advance(200)
        listener.video_done("c", 32)
        listener.finished(SUMMARY)


def shown(kind: str, *, quiet: bool = False, verbose: bool = False) -> str:
    stream = io.StringIO()
    run_on(open_progress(kind, quiet=quiet, verbose=verbose, stream=stream))
    return stream.getvalue()


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


def test_the_silent_one_only_logs(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "epam_extract"):
        run_on(SILENT)
    assert capsys.readouterr() == ("", "")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING"]


def test_tally_counts_frames_videos_and_the_bottleneck() -> None:
    tally = Tally()
    tally.plan(PLAN)
    tally.video_started("a", 500)
    tally.advance(350)
    assert tally.share == 0.35
    tally.video_failed(VideoFailure("b", "pose", "why"), frames_left=300)
    assert (tally.frames_total, tally.failed, list(tally.running)) == (700, 1, ["a"])
    tally.video_done("a", 32)
    assert (tally.done, tally.windows, tally.running) == (1, 32, {})
    tally.stages(LOADS)
    assert tally.bottleneck == "network"
    tally.stages(LOADS, bottleneck="pose")
    assert tally.bottleneck == "pose"


def test_tally_survives_more_frames_than_planned_and_a_plan_of_none() -> None:
    tally = Tally()
    assert tally.share == 0.0
    tally.plan(PLAN)
    tally.advance(1200)
    assert tally.share == 1.0
    assert tally.seconds_left() is None


def test_pace_is_that_of_the_last_minute(clock: Clock) -> None:
    tally = Tally()
    tally.plan(PLAN)
    assert tally.pace() is None
    for _ in range(10):  # a slow start of 1 frame/s ...
        clock.now += 10
        tally.advance(10)
    for _ in range(70):  # ... then 5 frames/s
        clock.now += 1
        tally.advance(5)
    assert tally.pace() == pytest.approx(5.0, rel=0.05)
    assert tally.seconds_left() == pytest.approx((1000 - 450) / 5, rel=0.05)


def test_pace_falls_while_nothing_comes(clock: Clock) -> None:
    tally = Tally()
    tally.plan(PLAN)
    clock.now += 30  # the pipeline fills
    tally.advance(50)
    assert tally.pace() is None
    clock.now += 10
    tally.advance(100)
    assert tally.pace() == pytest.approx(10)
    clock.now += 10
    assert tally.pace() == pytest.approx(5)


def test_plain_lines_come_at_a_sensible_interval(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("plain", stream=stream)
    listener.plan(PLAN)
    for _ in range(100):  # a frame a second: 5 % are 50 s, so every 30 s it is
        clock.now += 1
        listener.advance(1)
        listener.stages(LOADS)
    told = stream.getvalue().splitlines()[1:]
    assert len(told) == 3
    assert "3% | 30 of 1,000 frames | 0 of 3 videos done" in told[0]
    assert "1.0 frames/s, 16 min 10 s left" in told[0]
    assert told[0].endswith("busy: read 24%, pose 74%, network 98%; bottleneck: network")
    for _ in range(9):  # 100 frames a second: 5 % come at once, but not twice within 5 s
        clock.now += 1
        listener.advance(100)
    assert len(stream.getvalue().splitlines()[1:]) == 5


def test_plain_lines_report_slow_downloads(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("plain", stream=stream)
    for done in range(0, 101, 10):
        clock.now += 7
        listener.download("pose.onnx", done * 1_000_000, 100_000_000)
    told = stream.getvalue().splitlines()
    assert told[0] == "downloading pose.onnx: 0 bytes of 100 MB"
    assert told[-1] == "downloaded pose.onnx, 100 MB"
    assert 3 <= len(told) <= 5


def test_json_lines_are_objects_a_program_can_follow() -> None:
    events = [json.loads(line) for line in shown("json").splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "message" and names[-1] == "finished"
    assert {"plan", "video_started", "video_done", "video_failed", "progress"} <= set(names)
    plan = next(event for event in events if event["event"] == "plan")
    assert (plan["frames"], plan["free_bytes"]) == (1000, 98_000_000_000)
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["frames"], last["frames_total"], last["done"], last["failed"]) == (700, 700, 2, 1)
    assert last["stages"]["network"] == {"rate": 5.4, "busy": 0.98, "unit": "windows"}
    assert last["bottleneck"] == "network"


def test_the_live_display_shows_bar_speed_stages_and_bottleneck(clock: Clock) -> None:
    stream = io.StringIO()
    listener = open_progress("rich", stream=stream)
    assert isinstance(listener, displays.LiveDisplay)
    console = displays.Console(file=stream, width=110)
    listener.plan(PLAN)
    listener.video_started("videos/a", 500)
    listener.advance(100)
    clock.now += 8
    listener.advance(400)
    listener.stages(LOADS)
    stream.truncate(0)
    console.print(listener.picture())
    picture = stream.getvalue()
    for part in (
        "50%",
        "500 of 1,000 frames",
        "50 frames/s",
        "10 s left",
        "0 of 3 videos done",
        "1 done before",
        "now videos/a",
        "98% busy",
    ):
        assert part in picture
    bottleneck = [line for line in picture.splitlines() if "bottleneck" in line]
    assert len(bottleneck) == 1 and "network" in bottleneck[0]


def test_the_live_display_uses_no_colour_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    listener = open_progress("rich", stream=io.StringIO())
    assert listener.console.no_color


def test_tqdm_shrinks_by_the_frames_of_a_failed_video() -> None:
    stream = io.StringIO()
    listener = open_progress("tqdm", stream=stream)
    assert isinstance(listener, TqdmBar)
    listener.plan(PLAN)
    listener.advance(500)
    listener.video_failed(FAILURE, frames_left=300)
    listener.advance(200)
    listener.finished(SUMMARY)
    assert "700/700" in stream.getvalue()


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


def test_the_log_goes_to_the_screen_and_all_of_it_to_the_file(tmp_path: Path) -> None:
    stream = io.StringIO()
    listener = open_progress("plain", stream=stream)
    log = logging.getLogger("epam_extract.somewhere")
    with logging_to(listener, verbose=True, log_file=tmp_path / "run.log"):
        listener.message("random weights")
        log.info("a detail")
        log.debug("a smaller one")
    log.error("afterwards")
    assert stream.getvalue().splitlines() == ["random weights", "a detail"]
    written = (tmp_path / "run.log").read_text()
    assert [part in written for part in ("random weights", "a detail", "a smaller one")] == [
        True
    ] * 3
    assert "afterwards" not in written


def test_a_log_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    listener = Display(displays.Console(file=io.StringIO()))
    with (
        pytest.raises(ConfigError, match=r"--log-file .* cannot be written"),
        logging_to(listener, verbose=False, log_file=tmp_path),
    ):
        pass


def test_json_carries_the_log_too() -> None:
    stream = io.StringIO()
    listener = JsonLines(displays.Console(file=stream))
    with logging_to(listener, verbose=True, log_file=None):
        logging.getLogger("epam_extract.somewhere").info("a detail")
    assert json.loads(stream.getvalue())["text"] == "a detail"


def test_numbers_describe_plan() -> None:
    assert [format_bytes(n) for n in (0, 999, 1500, 3_400_000_000, 98_000_000_000, 2e15)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "3.4 GB",
        "98 GB",
        "2000.0 TB",
    ]
    assert [format_duration(s) for s in (0.84, 9.96, 59.7, 150, 3900, 86400 * 3)] == [
        "0.8 s",
        "10 s",
        "1 min 00 s",
        "2 min 30 s",
        "1 h 05 min",
        "3 d 0 h",
    ]
    assert [format_rate(r, "frames") for r in (0.25, 5.44, 1234.5)] == [
        "0.2 frames/s",
        "5.4 frames/s",
        "1,234 frames/s",
    ]
    assert describe_plan(PLAN) == (
        "3 videos to do (1 done before; 1 failed before, see --retry-failed): 1,000 frames, "
        "64 windows, about 3.4 GB (98 GB free)"
    )
    nothing = Plan(4, 0, 4, 0, 0, 0, 0, 10)
    assert describe_plan(nothing) == "nothing to do for 4 videos (4 done before)"


def test_lines_never_end_early_in_a_narrow_log() -> None:
    stream = io.StringIO()
    plain.Display(open_progress("none", stream=stream).console).warning("long " * 60)
    assert len(stream.getvalue().splitlines()) == 1
