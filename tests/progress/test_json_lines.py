"""One JSON object per line."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace

from reported_run import PLAN, run_on, shown
from rich.console import Console

from epam_extract.progress.json_lines import JsonLines
from epam_extract.progress.logging_setup import logging_to


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


def test_json_carries_the_log_too() -> None:
    stream = io.StringIO()
    listener = JsonLines(Console(file=stream))
    with logging_to(listener, verbose=True, log_file=None):
        logging.getLogger("epam_extract.somewhere").info("a detail")
    assert json.loads(stream.getvalue())["text"] == "a detail"


def test_quiet_json_leaves_out_messages_and_nothing_else() -> None:
    stream = io.StringIO()
    listener = JsonLines(Console(file=stream), quiet=True)
    run_on(listener)
    listener.notice("stopping")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["text"] for event in events if event["event"] == "message"] == ["stopping"]
    everything = {json.loads(line)["event"] for line in shown("json").splitlines()}
    assert {event["event"] for event in events} == everything


def test_a_plan_is_told_once_it_is_exact() -> None:
    stream = io.StringIO()
    listener = JsonLines(Console(file=stream))
    listener.plan(replace(PLAN, exact=False))
    assert stream.getvalue() == ""
    listener.plan(PLAN)
    assert json.loads(stream.getvalue())["event"] == "plan"
