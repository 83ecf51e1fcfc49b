"""What all tests share."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stand_ins import StandInPose

# For sample_videos.training; last, so that the package that is tested is the installed one.
sys.path.append(str(Path(__file__).parents[1]))


LONGEST = ("test_kill.py", "test_ray_cluster.py")  # a minute and more: a third of the whole


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip ``needs_cuda`` tests where torch sees no GPU; long files first where many run them."""
    if hasattr(config, "workerinput"):  # of pytest-xdist, whose workers must not wait for one file
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: (item.path.name not in LONGEST, -slow[item.path]))
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


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 90, 20 and 1 frames."""
    from make_videos import write_video

    root = tmp_path_factory.mktemp("pipeline videos")
    (root / "sub").mkdir()
    write_video(root / "long.mp4", frames=90)
    write_video(root / "sub" / "short.mp4", frames=20)
    write_video(root / "sub" / "one.mp4", frames=1)
    return root


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> StandInPose:
    """Runs with stand-ins for the pose models and the network."""
    from stand_ins import StandInNetwork, StandInPose, no_backbone

    from epam_extract.pipeline import models, run

    pose = StandInPose()
    monkeypatch.setattr(models, "open_pose_model", lambda *_, **__: pose)
    monkeypatch.setattr(run, "BackboneRunner", StandInNetwork)
    monkeypatch.setattr(models, "load_backbone", no_backbone)
    return pose


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sub/long``: 250 frames at 25 a second, a keyframe every 25; ``short``: 20 frames."""
    from make_videos import write_video

    folder = tmp_path_factory.mktemp("clips")
    (folder / "sub").mkdir()
    write_video(folder / "sub" / "long.mp4", frames=250, options={"g": "25", "bf": "2"})
    write_video(folder / "short.mp4", frames=20)
    return folder
