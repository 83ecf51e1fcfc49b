"""What all tests share."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

# For sample_videos.training; last, so that the package that is tested is the installed one.
sys.path.append(str(Path(__file__).parents[1]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip ``needs_cuda`` tests where torch sees no GPU."""
    marked = [item for item in items if item.get_closest_marker("needs_cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch sees no GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Names in logs may be no UTF-8, which pytest-xdist cannot send."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report
