"""Parts and time lines of videos at addresses, as of files; folders of pictures are none there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from elsewhere import Memory, require_same_but_for_the_place
from elsewhere import memory as memory
from make_videos import write_video
from stand_ins import POOLED, StandInPose

from epam_extract.config import ExtractConfig, WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.progress.records import Plan
from epam_extract.store import FeatureStore
from epam_extract.store.verify import verify
from epam_extract.video import find_videos
from epam_extract.video.fetch import fetched_folder


class Listening(Progress):
    def __init__(self) -> None:
        self.plans: list[Plan] = []

    def plan(self, plan: Plan) -> None:
        self.plans.append(plan)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 90 and 20 frames at 25 a second."""
    root = tmp_path_factory.mktemp("videos")
    (root / "sub").mkdir()
    for name, frames in (("long", 90), ("sub/short", 20)):
        write_video(root / f"{name}.mp4", frames=frames, options={"g": "25"})
    return root


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    """Two parts of one video, and one of the other."""
    path = tmp_path / "segments.csv"
    path.write_text("long,0.4,2,wave\nlong,2,3.4,sit\nshort,0.2,0.6,wave\n")
    return path


CONFIGS = {
    "segments": POOLED,
    "a time line": replace(POOLED, fps=10.0),
    "one window": replace(POOLED, windows=WindowConfig(grid="single"), crop="video"),
}


@pytest.mark.slow
@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize("how", CONFIGS)
def test_they_are_those_of_files(
    how: str,
    cut: bool,
    videos: Path,
    segments: Path,
    stand_ins: StandInPose,
    memory: Memory,
    tmp_path: Path,
) -> None:
    memory.add_all(videos)
    config: ExtractConfig = CONFIGS[how]
    one, other, listener = tmp_path / "files.h5", tmp_path / "f.h5", Listening()
    parts = segments if cut else None
    here = extract_features(videos, one, config, segments=parts)
    there = extract_features("memory://videos", other, config, segments=parts, progress=listener)
    assert (there.done, there.failed) == (here.done, 0) == (3 if cut else 2, 0)
    assert (there.windows, there.frames) == (here.windows, here.frames)
    require_same_but_for_the_place(one, other)
    assert verify(other) == [] and not fetched_folder(other).exists()
    last = listener.plans[-1]
    assert last.exact and (last.to_do, last.windows) == (here.done, here.windows)
    with FeatureStore(other) as store:
        part = store["long/400-2000" if cut else "long"]
        assert part.attrs["source"] == "memory://videos/long.mp4"
        (listed,) = find_videos(["memory://videos/long.mp4"])
        stored = part.attrs["source_size"], part.attrs["source_mtime_ns"]
        assert stored == listed.size_and_time()
    again = extract_features("memory://videos", other, config, segments=parts)
    assert (again.skipped, again.windows) == (here.done, 0)


@pytest.mark.slow
def test_files_and_addresses_may_have_segments_in_one_run(
    videos: Path, segments: Path, stand_ins: StandInPose, memory: Memory, tmp_path: Path
) -> None:
    memory.add("v/other.mp4", videos / "long.mp4")
    with segments.open("a") as file:
        file.write("other,0,1,x\nother,0.5,1.5,x\nother,30,40,late\n")
    out = tmp_path / "f.h5"
    summary = extract_features([str(videos), "memory://v"], out, POOLED, segments=segments)
    assert (summary.done, summary.failed) == (5, 1)
    (failure,) = summary.failures
    assert failure.video_id == "other/30000-40000"
    assert failure.message.startswith("memory://v/other.mp4: the segment from 30 to 40 s lies out")
    again = extract_features([str(videos), "memory://v"], out, POOLED, segments=segments)
    assert (again.skipped, again.failed, again.windows) == (5, 1, 0)


def test_folders_of_pictures_are_read_on_this_machine_alone(memory: Memory) -> None:
    memory.add("v/clip/img_00001.jpg")
    with pytest.raises(ConfigError, match=r"folders of pictures on this machine alone$"):
        find_videos(["memory://v"], pictures=True)
    with pytest.raises(ConfigError, match=r"no video there; [^;]*$"):
        find_videos(["memory://v"])
