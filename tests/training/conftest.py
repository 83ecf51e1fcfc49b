"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sample_videos.training import dataset


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "frames").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD", 12)
        dataset.render_shard((folder / "frames", 1, 0))
    return folder
