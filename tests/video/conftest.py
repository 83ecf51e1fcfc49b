"""What the tests of videos share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from video_samples import make_sample

from epam_extract.video import close_workers


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a sample the first time it is asked for."""
    folder = tmp_path_factory.mktemp("videos")
    return lambda name: make_sample(folder, name)


@pytest.fixture(scope="module", autouse=True)
def _no_reader_left() -> Iterator[None]:
    yield
    close_workers()
