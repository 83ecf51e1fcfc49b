"""What the tests of previews share."""

from __future__ import annotations

from collections.abc import Iterator

import make_videos
import pytest
import torch

from epam_extract.records import Video
from epam_extract.video import probe


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = make_videos.write_video(
        tmp_path_factory.mktemp("preview") / "walker.mp4", frames=70, height=96, width=128
    )
    return probe(path, "walker")
