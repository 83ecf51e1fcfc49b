"""What tests of displays share."""

from __future__ import annotations

import pytest
from reported_run import Clock

from epam_extract.progress import tally


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tally.time, "monotonic", clock)
    return clock
