"""A listener that shows nothing."""

from __future__ import annotations

import logging

import pytest
from reported_run import run_on

from epam_extract.progress import SILENT


def test_the_silent_one_only_logs(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "epam_extract"):
        run_on(SILENT)
    assert capsys.readouterr() == ("", "")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING"]
