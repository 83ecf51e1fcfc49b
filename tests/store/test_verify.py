"""verify finds every kind of damage, repair lets the next run do just those videos."""

from __future__ import annotations

import contextlib
import json
import os
import random
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
from faulty_disk import tmp_path as tmp_path
from make_rows import (
    FULL,
    HEADER,
    POSE,
    SMALL,
    WEIGHTS,
    begin,
    finish,
    make_rows,
    make_track,
    write_video,
)

from epam_extract.errors import ConfigError, StoreError, StoreMismatch
from epam_extract.records import Video, VideoFailure
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter
from epam_extract.store.describe import describe
from epam_extract.store.verify import Problem, repair, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole file of four videos, one inside another's group, and one that is incomplete."""
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        for video_id in ("a", "a/b", "c", "d e/ü"):
            write_video(store, video_id, 2, 20)
            store.commit()
        store.begin("half", path, size=9, mtime_ns=9)
        store.append_windows("half", make_rows("half", 0, 1))
        store.fail(VideoFailure("bad", "decode", "61 of 74 frames"))
        store.commit()
    return path


def found(problems: list[Problem]) -> list[tuple[str, str | None]]:
    return [(problem.video_id, problem.array) for problem in problems]


def test_a_whole_file_has_no_problems(path: Path) -> None:
    assert verify(path) == []
    assert repair(path, []) == []


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("rgb_pooled", "changed since it was written"),
        ("keypoints", "changed since it was written"),
        ("frames", "changed since it was written"),
    ],
)
def test_a_changed_value_is_found(path: Path, array: str, message: str) -> None:
    with h5py.File(path, "r+") as h5:
        values = h5["videos/a/b"][array]
        values[..., 0] = values[..., 0] + 1
    (problem,) = verify(path)
    assert (problem.video_id, problem.array) == ("a/b", array)
    assert message in problem.message
    assert repair(path, [problem]) == ["a/b"]
    assert verify(path) == []
    with FeatureStore(path) as store:
        assert store.ids == ["a", "c", "d e/ü"]


def test_nan_is_found(path: Path) -> None:
    with h5py.File(path, "r+") as h5:
        h5["videos/c/pose_pooled"][0, 0] = np.nan
    assert any("NaN" in problem.message for problem in verify(path))


def test_missing_and_unfitting_arrays_are_found(path: Path) -> None:
    with h5py.File(path, "r+") as h5:
        del h5["videos/a/valid"]
        del h5["videos/c/person"]
        h5["videos/c/person"] = np.zeros(3, np.float32)
        del h5["videos/d e/ü"].attrs["feat_stride"]
        h5["videos/a/b/rgb"] = np.zeros(2)
    problems = verify(path)
    assert set(found(problems)) == {
        ("a", "valid"),
        ("a/b", "rgb"),
        ("c", "person"),
        ("d e/ü", None),
    }
    messages = {problem.video_id: problem.message for problem in problems}
    assert messages["a"] == "is missing"
    assert messages["c"] == "is (3,) float32, expected (2,) float32"
    assert messages["d e/ü"] == "lacks the attributes feat_stride"
    assert repair(path, problems) == ["a", "a/b", "c", "d e/ü"]
    assert verify(path) == []


@pytest.mark.slow
def test_random_damage_is_found_and_repaired(tmp_path: Path) -> None:
    """Every byte flipped is either found, or changes no array; and repair gets rid of it."""
    path = tmp_path / "feats.h5"
    videos = {f"d/v{number}" for number in range(3)}
    with StoreWriter(path, HEADER) as store:
        for video_id in sorted(videos):
            write_video(store, video_id, 2, 30)
            store.commit()
    whole = path.read_bytes()
    rng = random.Random(0)
    repaired = unseen = 0
    for _ in range(12):
        damaged = bytearray(whole)
        at = rng.randrange(4096, len(whole) - 32)
        damaged[at : at + 32] = rng.randbytes(32)
        path.write_bytes(damaged)
        problems = verify(path)
        if not problems:
            unseen += 1
            with FeatureStore(path) as store:
                for video_id in videos:
                    rows = make_rows(video_id, 0, 2)
                    assert all(np.array_equal(store[video_id][name], rows[name]) for name in rows)
            continue
        dropped = repair(path, problems)
        assert verify(path) == []
        with FeatureStore(path) as store:
            assert set(store.ids) == videos - set(dropped)
        with StoreWriter(path, HEADER) as store:
            for video_id in dropped:
                write_video(store, video_id, 2, 30)
            store.commit()
        assert verify(path) == []
        repaired += 1
    assert repaired > 5
    assert unseen < 7


def test_compressed_full_maps_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    config = {**FULL, "compression": "lzf"}
    with StoreWriter(path, StoreHeader(config, WEIGHTS, POSE)) as store:
        write_video(store, "one", 2, 40, config)
        store.commit()
    assert verify(path) == []
    with h5py.File(path, "r+") as h5:
        h5["videos/one/rgb"][1, 5, 3, 2, 1] = 9
    assert found(verify(path)) == [("one", "rgb")]
    with h5py.File(path, "r+") as h5:
        h5["videos/one/pose"].id.write_direct_chunk((1, 0, 0, 0, 0), b"not lzf" * 999)
    assert set(found(verify(path))) == {("one", "rgb"), ("one", "pose")}


def test_videos_on_disk_are_compared(tmp_path: Path) -> None:
    path, folder = tmp_path / "feats.h5", tmp_path / "videos"
    folder.mkdir()
    for name in ("same", "longer", "touched", "gone"):
        (folder / f"{name}.mp4").write_bytes(b"video")
    with StoreWriter(path, HEADER) as store:
        for name in ("same", "longer", "touched", "gone"):
            file = folder / f"{name}.mp4"
            stat = file.stat()
            times = np.arange(20) / 25
            video = Video(name, file, 20, Fraction(25), 9, 9, times, stat.st_size, stat.st_mtime_ns)
            begin(store, video)
            store.append_windows(name, make_rows(name, 0, 1))
            store.append_keypoints(name, 0, make_track(name, 0, 20))
            finish(store, video, 1)
        store.commit()
    assert verify(path, videos=folder) == []
    (folder / "longer.mp4").write_bytes(b"another video")
    os.utime(folder / "touched.mp4", (1, 1))
    (folder / "gone.mp4").unlink()
    problems = verify(path, videos=folder)
    messages = {problem.video_id: problem.message for problem in problems}
    assert set(messages) == {"longer", "touched", "gone"}
    assert "13 bytes now, 5 when it was extracted" in messages["longer"]
    assert "written again since" in messages["touched"]
    assert "is not in" in messages["gone"]
    assert repair(path, problems) == ["longer", "touched"]
    with FeatureStore(path) as store:
        assert store.ids == ["gone", "same"]
    with pytest.raises(ConfigError):
        verify(path, videos=tmp_path / "nowhere")


def test_a_file_that_cannot_be_read_at_all(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:1500] = bytes(1400)
    path.write_bytes(content)
    for look in (verify, describe, FeatureStore):
        with pytest.raises(StoreError, match="damaged as a whole"):
            look(path)


def test_repair_needs_the_file_for_itself(path: Path) -> None:
    with StoreWriter(path, HEADER), pytest.raises(StoreError, match="is writing it"):
        repair(path, [Problem("a", "bad")])


def test_describe_says_what_is_in_the_file(path: Path) -> None:
    whole = describe(path)
    assert json.loads(json.dumps(whole)) == whole
    assert whole["totals"] == {
        "videos": 4,
        "incomplete": 1,
        "failed": 1,
        "damaged": 0,
        "windows": 8,
        "frames": 80,
        "seconds": pytest.approx(3.2),
        "person_share": pytest.approx(np.mean([row["person_share"] for row in done(whole)])),
        "clipped": 0,
        "uncovered": 0,
    }
    assert [row["id"] for row in whole["videos"]] == ["a", "a/b", "c", "d e/ü", "half"]
    assert whole["videos"][0] == {
        "id": "a",
        "complete": True,
        "windows": 2,
        "frames": 20,
        "seconds": pytest.approx(0.8),
        "fps": "25/1",
        "height": 90,
        "width": 160,
        "person_share": pytest.approx(make_rows("a", 0, 2)["person"].mean()),
        "clipped": 0,
        "covered": True,
        "notes": "",
        "label": "",
        "source": "/videos/a.mp4",
    }
    assert whole["videos"][4]["complete"] is False
    assert whole["videos"][4]["windows"] == 1
    assert whole["failures"] == [{"id": "bad", "stage": "decode", "message": "61 of 74 frames"}]
    assert (whole["config"], whole["weights"], whole["pose_source"]) == (SMALL, WEIGHTS, POSE)
    assert whole["arrays"]["rgb_pooled"] == {"shape": ["windows", 432], "dtype": "float32"}
    assert whole["arrays"]["keypoints"]["shape"] == ["people", "frames", 17, 2]
    assert whole["bytes"] == path.stat().st_size
    few = describe(path, most_rows=2)
    assert few["videos"] == whole["videos"][:2]
    assert {**few, "videos": whole["videos"]} == whole


def done(whole: dict) -> list[dict]:
    return [row for row in whole["videos"] if row["complete"]]


def test_describe_works_while_a_run_writes(path: Path) -> None:
    with StoreWriter(path, HEADER) as store:
        write_video(store, "new", 1, 9)
        assert describe(path)["totals"]["videos"] == 4
        store.commit()
        assert describe(path)["totals"]["videos"] == 5
        assert verify(path) == []


@pytest.mark.slow
def test_no_random_damage_surprises_a_reader(path: Path, tmp_path: Path) -> None:
    """Whatever is changed, what reads the file gives a sentence or what it holds."""
    whole = path.read_bytes()
    rng = random.Random(5)
    damaged = tmp_path / "damaged.h5"
    refused = 0
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        damaged.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.05 else data)
        try:
            problems = verify(damaged)
            describe(damaged)
            with FeatureStore(damaged) as store:
                for video_id in store:
                    for name in store[video_id]:
                        with contextlib.suppress(StoreError):
                            store[video_id][name]
            with StoreWriter(damaged, HEADER) as writer:
                writer.failures()
                for video_id in ("a", "a/b", "c", "half", "new"):
                    writer.progress(video_id)
            repair(damaged, problems)
        except (StoreError, StoreMismatch):
            refused += 1
    assert refused > 3
