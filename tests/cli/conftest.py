"""What the tests of the command share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from command_line import StandInRun

from epam_extract.cli import run as runner
from epam_extract.pipeline import installed_weights


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandInRun:
    fake, module = StandInRun(), ModuleType("epam_extract.pipeline.run")
    module.extract_features = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "epam_extract.pipeline.run", module)
    monkeypatch.setattr(runner, "_example", lambda summary: "a" if summary.done else None)
    monkeypatch.setattr(
        installed_weights.platformdirs,
        "user_data_path",
        lambda *_, **__: tmp_path / "data of a user",
    )
    monkeypatch.delenv("EPAM_WEIGHTS", raising=False)
    return fake
