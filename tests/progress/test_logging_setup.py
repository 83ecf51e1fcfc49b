"""Where the log goes."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from epam_extract.errors import ConfigError
from epam_extract.progress.displays import open_progress
from epam_extract.progress.logging_setup import logging_to
from epam_extract.progress.plain import Display


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
    listener = Display(Console(file=io.StringIO()))
    with (
        pytest.raises(ConfigError, match=r"--log-file .* cannot be written"),
        logging_to(listener, verbose=False, log_file=tmp_path),
    ):
        pass
