"""The tqdm bar."""

from __future__ import annotations

import io
from dataclasses import replace

from reported_run import FAILURE, PLAN, SUMMARY

from epam_extract.progress.displays import open_progress
from epam_extract.progress.tqdm_bar import TqdmBar


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


def test_the_bar_waits_for_the_number_of_frames() -> None:
    stream = io.StringIO()
    listener = open_progress("tqdm", stream=stream)
    listener.plan(replace(PLAN, frames=0, exact=False))
    assert stream.getvalue() == ""
    listener.plan(PLAN)
    assert "0/1000" in stream.getvalue()
    listener.finished(SUMMARY)
