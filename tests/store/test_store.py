"""The file of features: what is written is read back, and no fault at any operation loses it."""

from __future__ import annotations

import errno
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from faulty_disk import (
    FAULTS,
    FaultyDisk,
    Killed,
    RecordingDisk,
    fresh_folders,
)
from faulty_disk import tmp_path as tmp_path
from make_rows import (
    FULL,
    GRID,
    HEADER,
    POSE,
    SMALL,
    WEIGHTS,
    begin,
    finish,
    make_end,
    make_rows,
    make_track,
    make_video,
    require_equal,
    write_video,
)

from epam_extract.errors import MachineError, StoreError, VideoError
from epam_extract.records import PoseTrack, VideoFailure
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter, journal, stored_states
from epam_extract.store.disk import Operations
from epam_extract.store.journal import journal_path

# A run of three videos, one inside the other's group; the middle one comes in three commits.
VIDEOS = {"a": (2, 20), "a/b c": (9, 70), "ü": (1, 9)}


def run(path: Path, disk: Operations | None, reported: list[str]) -> None:
    """Go on with whatever the file has, as the pipeline does."""
    with StoreWriter(path, HEADER, operations=disk) as store:
        if "broken" not in store.failures():
            store.fail(VideoFailure("broken", "decode", "61 of 74 frames"))
        for video_id, (windows, num_frames) in VIDEOS.items():
            there = store.progress(video_id)
            if there is not None and there.complete:
                continue
            if there is None:
                begin(store, make_video(video_id, num_frames))
            row, frame = (there.windows, there.frames) if there else (0, 0)
            while row < windows or frame < num_frames:
                more, further = min(row + 4, windows), min(frame + 32, num_frames)
                if more > row:
                    store.append_windows(video_id, make_rows(video_id, row, more))
                if further > frame:
                    store.append_keypoints(video_id, frame, make_track(video_id, frame, further))
                row, frame = more, further
                if (row, frame) == (windows, num_frames):
                    finish(store, make_video(video_id, num_frames), windows)
                store.commit()
                reported.append(f"{video_id} {row}")
            if there is not None and (there.windows, there.frames) == (windows, num_frames):
                finish(store, make_video(video_id, num_frames), windows)
                store.commit()


def require_reported(path: Path, reported: list[str]) -> None:
    """Every commit that was reported can be read, and nothing that can be read is wrong."""
    if not path.exists():
        assert not reported
        return
    with FeatureStore(path) as store:
        for entry in reported:
            video_id, row = entry.rsplit(" ", 1)
            there = store.progress(video_id)
            assert there is not None and there.windows >= int(row)
            assert there.complete or int(row) < VIDEOS[video_id][0]
        for video_id in store:
            require_equal(store[video_id], video_id, *VIDEOS[video_id], SMALL)


def require_intact(path: Path, reported: list[str]) -> None:
    """Readers see what was reported, and another run ends where an undisturbed one does."""
    require_reported(path, reported)
    run(path, FaultyDisk(), [])
    require_reported(path, [f"{video_id} {windows}" for video_id, (windows, _) in VIDEOS.items()])
    with FeatureStore(path) as store:
        assert list(store.failures) == ["broken"]
    with h5py.File(path, "r") as h5:
        for video_id, (windows, num_frames) in VIDEOS.items():
            group = h5["videos"][video_id]
            arrays = {name: group[name] for name in group if isinstance(group[name], h5py.Dataset)}
            require_equal(arrays, video_id, windows, num_frames, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_operation_loses_nothing(tmp_path: Path, fault: str) -> None:
    counting = FaultyDisk()
    run(tmp_path / "feats.h5", counting, [])
    offset = FAULTS.index(fault)  # so that together the faults meet five times as many operations
    operations = range(offset, counting.count, 18)
    for at, folder in zip(operations, fresh_folders(tmp_path), strict=False):
        reported: list[str] = []
        try:
            run(folder / "feats.h5", FaultyDisk(at=at, fault=fault), reported)
        except Killed:
            assert not fault.startswith("full")
        except MachineError as error:
            assert fault.startswith("full")
            assert "--no-full" in str(error)
        require_intact(folder / "feats.h5", reported)


@pytest.mark.slow
def test_a_kill_during_recovery_loses_nothing(tmp_path: Path) -> None:
    recording = RecordingDisk()
    (tmp_path / "recorded").mkdir()
    run(tmp_path / "recorded" / "feats.h5", recording, [])
    (journal,) = (
        details[1]
        for operation, details in recording.log
        if operation == "create" and details[0].endswith(".journal")
    )
    commit_points = [i for i, entry in enumerate(recording.log) if entry == ("sync", (journal,))]
    assert len(commit_points) == 5
    for first, folder in zip(commit_points, fresh_folders(tmp_path), strict=False):
        path = folder / "feats.h5"
        reported: list[str] = []
        with pytest.raises(Killed):
            run(path, FaultyDisk(at=first, fault="after"), reported)
        assert journal_path(path).stat().st_size > 0
        for second in (6, 7, 8):
            with pytest.raises(Killed):
                run(path, FaultyDisk(at=second, fault="half"), reported)
            require_reported(path, reported)
        require_intact(path, reported)


@pytest.mark.slow
def test_a_power_cut_loses_nothing(tmp_path: Path) -> None:
    disk = RecordingDisk()
    (tmp_path / "recorded").mkdir()
    path = tmp_path / "recorded" / "feats.h5"
    entries: list[tuple[int, str]] = []

    class Report(list[str]):
        def append(self, entry: str) -> None:
            entries.append((len(disk.log), entry))

    run(path, disk, Report())
    rng = random.Random(0)
    for _, folder in zip(range(30), fresh_folders(tmp_path), strict=False):
        after = rng.randint(1, len(disk.log))
        disk.cut(folder, after=after, rng=rng)
        reported = [entry for length, entry in entries if length <= after]
        require_intact(folder / "feats.h5", reported)


def test_every_array_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a folder/fëats.h5"
    config = {**FULL, "stored_dtype": "f32", "compression": "gzip"}
    header = StoreHeader(config, WEIGHTS, POSE)
    with StoreWriter(path, header) as store:
        write_video(store, "one", 2, 40, config)
        store.commit()
        begin(store, make_video("two"))
        for row in range(3):
            store.append_windows("two", make_rows("two", row, row + 1, config), clipped=2)
            store.commit()
        for frame in (0, 16, 32):
            track = make_track("two", frame, min(frame + 16, 40))
            store.append_keypoints("two", frame, track)
            store.commit()
        assert not store.progress("two").complete
        finish(store, make_video("two"), 3)
        store.commit()
    with FeatureStore(path) as store:
        assert (store.ids, list(store), len(store)) == (["one", "two"], ["one", "two"], 2)
        assert "one" in store and "three" not in store and 3 not in store
        assert (store.config, store.weights, store.pose_source) == (config, WEIGHTS, POSE)
        require_equal(store["one"], "one", 2, 40, config)
        require_equal(store["two"], "two", 3, 40, config)
        attributes = store["two"].attrs
        assert attributes["clipped"] == 6
        assert attributes["complete"] is True
        assert (attributes["fps_num"], attributes["fps_den"]) == (25, 1)
        assert (attributes["feat_stride"], attributes["offset_frames"]) == (16.0, 8.0)
        assert attributes["source"] == "/videos/two.mp4"
        assert attributes["person_share"] == pytest.approx(store["two"]["person"].mean())
        assert store["two"]["rgb"].shape == (3, 432, 16, 7, 7)
        for name in store["two"]:
            blocks = list(store["two"][name].blocks())
            assert all(block.nbytes <= 8 << 20 for block in blocks)
            assert b"".join(map(bytes, blocks)) == store["two"][name].tobytes()
        with pytest.raises(KeyError, match="no complete video 'three'"):
            store["three"]
        with pytest.raises(KeyError, match="it has box"):
            store["one"]["rgb_poled"]
    with h5py.File(path, "r") as h5:
        assert h5["videos/two/rgb"].chunks == (1, 432, 16, 7, 7)
        assert h5["videos/two/rgb"].compression == "gzip"
        assert h5.attrs["schema_version"] == 1


@pytest.mark.parametrize("compression", ["lzf", "gzip", "blosc2"])
def test_compression_keeps_the_numbers(tmp_path: Path, compression: str) -> None:
    if compression == "blosc2":
        pytest.importorskip("hdf5plugin")
    config = {**FULL, "compression": compression}
    path = tmp_path / "feats.h5"
    with StoreWriter(path, StoreHeader(config, WEIGHTS, POSE)) as store:
        write_video(store, "one", 2, 40, config)
        store.commit()
    with FeatureStore(path) as store:
        require_equal(store["one"], "one", 2, 40, config)
    assert path.stat().st_size < 0.9 * 2 * (432 * 16 + 216 * 48) * 49 * 2


def test_blosc2_without_its_plugin_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = StoreHeader({**SMALL, "compression": "blosc2"}, WEIGHTS, POSE)
    path = tmp_path / "feats.h5"
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(StoreError, match=r"epam-extract\[blosc2\]"):
        StoreWriter(path, header)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("rgb_pooled", np.nan), ("rgb", np.inf), ("pose", -np.inf), ("rgb", 7e4)],
)
def test_values_that_cannot_be_stored_fail_the_video(
    tmp_path: Path, name: str, value: float
) -> None:
    rows = make_rows("one", 0, 1, FULL)
    rows[name] = rows[name].astype(np.float64)
    rows[name].flat[-1] = value
    with StoreWriter(tmp_path / "feats.h5", StoreHeader(FULL, WEIGHTS, POSE)) as store:
        begin(store, make_video("one"))
        with pytest.raises(VideoError, match=f"one: {name} holds NaN") as failure:
            store.append_windows("one", rows)
        assert failure.value.stage == "write"
        track = make_track("one", 0, 40)
        track.keypoints[0, 30, 0, 0] = np.nan
        with pytest.raises(VideoError, match="keypoints in frames 0 to 40"):
            store.append_keypoints("one", 0, track)
        store.append_windows("one", make_rows("one", 0, 1, FULL))
        store.append_keypoints("one", 0, make_track("one", 0, 40))
        end = {**make_end("one", 1), "times": np.full((1, 3), np.nan)}
        with pytest.raises(VideoError, match="one: times holds NaN"):
            store.finish(make_video("one"), grid=GRID, **end)


def test_the_largest_half_float_is_stored(tmp_path: Path) -> None:
    rows = make_rows("one", 0, 1, FULL)
    rows["rgb"].flat[0], rows["rgb"].flat[1] = 65504, -65504
    with StoreWriter(tmp_path / "feats.h5", StoreHeader(FULL, WEIGHTS, POSE)) as store:
        begin(store, make_video("one"))
        store.append_windows("one", rows)
        store.append_keypoints("one", 0, make_track("one", 0, 40))
        finish(store, make_video("one"), 1)
        store.commit()
    with FeatureStore(tmp_path / "feats.h5") as store:
        assert store["one"]["rgb"].flat[:2].tolist() == [65504, -65504]


def test_what_is_handed_over_must_fit(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "feats.h5", HEADER) as store:
        with pytest.raises(StoreError, match="one was not begun"):
            store.append_windows("one", make_rows("one", 0, 1))
        begin(store, make_video("one"))
        store.append_windows("one", make_rows("one", 0, 1))
        with pytest.raises(VideoError, match="expected the arrays rgb_pooled"):
            store.append_windows("one", {"rgb_pooled": np.zeros((1, 432), np.float32)})
        with pytest.raises(VideoError, match=r"box has shape \(1, 3\), expected \(1, 4\)"):
            store.append_windows("one", {**make_rows("one", 1, 2), "box": np.zeros((1, 3))})
        with pytest.raises(VideoError, match="expected frame 0 on"):
            store.append_keypoints("one", 16, make_track("one", 16, 32))
        with pytest.raises(VideoError, match="1 of 2 windows and 0 of 40"):
            finish(store, make_video("one"), 2)


def test_a_changed_video_replaces_its_old_copy(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        write_video(store, "a", 2, 20)
        write_video(store, "a/b", 1, 9)
        store.commit()
        begin(store, make_video("a", 50, mtime_ns=6))
        assert store.progress("a").mtime_ns == 5
        store.commit()
        assert store.progress("a") == replace(store.progress("a"), complete=False, windows=0)
        store.append_windows("a", make_rows("a", 0, 3))
        store.append_keypoints("a", 0, make_track("a", 0, 50))
        finish(store, make_video("a", 50, mtime_ns=6), 3)
        store.commit()
        store.drop("a/b")
        store.commit()
    with FeatureStore(path) as store:
        assert store.ids == ["a"]
        require_equal(store["a"], "a", 3, 50, SMALL)


def test_an_incomplete_video_is_gone_on_with(tmp_path: Path) -> None:
    """The checksums too: they run on over what an earlier process wrote."""
    path, whole = tmp_path / "feats.h5", tmp_path / "whole.h5"
    for row in range(3):
        with StoreWriter(path, HEADER) as store:
            if row == 0:
                begin(store, make_video("x"))
            store.append_windows("x", make_rows("x", row, row + 1))
            if row == 1:
                store.append_keypoints("x", 0, make_track("x", 0, 40))
            if row == 2:
                assert store.progress("x").frames == 40
                finish(store, make_video("x"), 3)
            store.commit()
    with StoreWriter(whole, HEADER) as store:
        write_video(store, "x", 3, 40)
        store.commit()
    with FeatureStore(path) as parts, FeatureStore(whole) as once:
        for name in once["x"]:
            np.testing.assert_array_equal(parts["x"][name], once["x"][name])
            assert parts["x"].checksum(name) == once["x"].checksum(name)
        assert parts["x"].attrs == once["x"].attrs


def test_failures_are_remembered_until_the_video_is_done(tmp_path: Path) -> None:
    path, video = tmp_path / "feats.h5", tmp_path / "bad.mp4"
    video.write_bytes(b"12345")
    with StoreWriter(path, HEADER) as store:
        begin(store, make_video("bad"))
        store.append_windows("bad", make_rows("bad", 0, 1))
        store.commit()
        store.fail(VideoFailure("bad", "decode", "61 of 74 frames, é", video))
        store.fail(VideoFailure("worse", "probe", "no frames"))
        store.commit()
        assert store.progress("bad") is None
    stat = video.stat()
    with StoreWriter(path, HEADER) as store:
        failure = store.failures()["bad"]
        assert (failure.stage, failure.message) == ("decode", "61 of 74 frames, é")
        assert failure.same_file(5, stat.st_mtime_ns) and not failure.same_file(6, stat.st_mtime_ns)
        store.fail(VideoFailure("bad", "pose", "again", video))
        write_video(store, "worse", 1, 9)
        store.commit()
    with FeatureStore(path) as store:
        assert {name: failure.stage for name, failure in store.failures.items()} == {"bad": "pose"}
        assert store.ids == ["worse"]
    with h5py.File(path, "r") as h5:
        assert h5["failures"].dtype.names == ("id", "stage", "message", "size", "mtime_ns")
        assert h5["failures"][0]["message"] == b"again"


@pytest.mark.parametrize(
    ("first", "second"), [("a", "a/rgb"), ("a/rgb", "a"), ("a", "a/rgb/c"), ("a/rgb/c", "a")]
)
@pytest.mark.parametrize("committed", [True, False])
def test_ids_that_collide_are_refused(
    tmp_path: Path, first: str, second: str, committed: bool
) -> None:
    with StoreWriter(tmp_path / "feats.h5", HEADER) as store:
        write_video(store, first, 1, 9)
        if committed:
            store.commit()
        with pytest.raises(VideoError, match=f"{second}: cannot be stored beside"):
            begin(store, make_video(second))
        for harmless in ("rgb", "c/rgb", "c/d/e", "pose/x"):
            write_video(store, harmless, 1, 9)
        store.commit()


@pytest.mark.parametrize("video_id", ["", "a//b", "a/./b", "/a", "bad\udcff", "a\0b"])
def test_ids_that_hdf5_cannot_hold_are_refused(tmp_path: Path, video_id: str) -> None:
    video = replace(make_video("x"), id=video_id)
    with (
        StoreWriter(tmp_path / "feats.h5", HEADER) as store,
        pytest.raises(VideoError, match="rename the file"),
    ):
        begin(store, video)


def test_other_settings_are_refused_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    StoreWriter(path, HEADER).close()
    before = path.read_bytes()
    other = StoreHeader({**SMALL, "stride": 8}, {**WEIGHTS, "sha256": "aa"}, {**POSE, "new": 1})
    with pytest.raises(StoreError) as refusal:
        StoreWriter(path, other)
    for part in (
        "config.stride: 16 in the file, 8 now",
        "weights.sha256: 0f in the file, aa now",
        "pose_source.new: nothing in the file, 1 now",
        "--overwrite",
        "another --out",
    ):
        assert part in str(refusal.value)
    assert "crop" not in str(refusal.value)
    assert path.read_bytes() == before
    with StoreWriter(path, other, overwrite=True):
        pass
    with FeatureStore(path) as store:
        assert store.config["stride"] == 8


def bad_outputs(folder: Path) -> dict[str, tuple[Path, str]]:
    """Output paths that cannot be used, and the sentence each one earns."""
    (folder / "directory").mkdir()
    (folder / "text.h5").write_text("hello, this is no HDF5 file at all, but quite long enough")
    (folder / "empty.h5").write_bytes(b"")
    with h5py.File(folder / "foreign.h5", "w") as h5:
        h5["mine"] = np.zeros(10)
    with (folder / "foreign.h5").open("ab") as file:
        file.write(b"trailing bytes of somebody else's")
    StoreWriter(folder / "newer.h5", HEADER).close()
    with h5py.File(folder / "newer.h5", "r+") as h5:
        h5.attrs["schema_version"] = 2
    StoreWriter(folder / "short.h5", HEADER).close()
    whole = (folder / "short.h5").read_bytes()
    (folder / "short.h5").write_bytes(whole[:-100])
    (folder / "gone.h5.journal").write_bytes(b"something else")
    return {
        "directory": (folder / "directory", "is a directory"),
        "text": (folder / "text.h5", "is not an HDF5 file"),
        "empty": (folder / "empty.h5", "is not an HDF5 file"),
        "foreign": (folder / "foreign.h5", "none of epam-extract's"),
        "newer": (folder / "newer.h5", "has schema 2"),
        "short": (folder / "short.h5", "is cut short"),
        "journal without its file": (folder / "gone.h5", "was not written by"),
        "inside a file": (folder / "text.h5" / "feats.h5", "is not a directory"),
        "long": (folder / ("x" * 300), "name is too long"),
    }


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        "directory",
        "text",
        "empty",
        "foreign",
        "newer",
        "short",
        "journal_without_its_file",
        "inside_a_file",
        "long",
    ],
)
def test_a_bad_output_path_earns_one_clear_sentence(
    tmp_path: Path, case: str, overwrite: bool
) -> None:
    path, sentence = bad_outputs(tmp_path)[case.replace("_", " ")]
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(StoreError, match=sentence) as refusal:
        StoreWriter(path, HEADER, overwrite=overwrite)
    assert "\n" not in str(refusal.value)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("EROFS", "file system is read-only"),
        ("EACCES", "you may not write there"),
        ("EPERM", "you may not write there"),
    ],
)
def test_a_disk_that_may_not_be_written_is_named(
    tmp_path: Path, number: str, sentence: str
) -> None:
    class Refusing(Operations):
        def open(self, path: Path, flags: int) -> int:
            raise OSError(getattr(errno, number), "no")

    with pytest.raises(StoreError, match=sentence):
        StoreWriter(tmp_path / "feats.h5", HEADER, operations=Refusing())


def test_a_failing_disk_is_the_machines_fault(tmp_path: Path) -> None:
    class Failing(Operations):
        failing = False

        def pwrite(self, descriptor: int, data: memoryview, offset: int) -> int:
            if self.failing:
                raise OSError(errno.EIO, "Input/output error")
            return super().pwrite(descriptor, data, offset)

    disk = Failing()
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER, operations=disk) as store:
        write_video(store, "one", 1, 9)
        store.commit()
        write_video(store, "two", 1, 9)
        disk.failing = True
        with pytest.raises(MachineError, match="the disk failed"):
            store.commit()
        disk.failing = False
        store.commit()  # what waited still waits
    with FeatureStore(path) as reader:
        assert reader.ids == ["one", "two"]


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file"):
        FeatureStore(tmp_path / "feats.h5")
    with pytest.raises(StoreError, match=r"is a directory without any file \*\.h5"):
        FeatureStore(tmp_path)
    assert stored_states(tmp_path / "feats.h5").progress("a") is None
    assert stored_states(tmp_path / "feats.h5").failures() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_reader_follows_a_run(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as writer, FeatureStore(path) as reader:
        for number in range(4):
            write_video(writer, f"v{number}", 1, 20)
            assert len(reader) == number
            with h5py.File(path, "r") as plain:
                assert len(plain["videos"]) == number
            writer.commit()
            assert reader.ids == [f"v{i}" for i in range(number + 1)]
            require_equal(reader[f"v{number}"], f"v{number}", 1, 20, SMALL)
        with pytest.raises(OSError), h5py.File(path, "r+"):
            pass


@pytest.mark.slow
def test_readers_in_another_process_see_whole_commits_only(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    StoreWriter(path, HEADER).close()
    script = """
import sys
from epam_extract import FeatureStore
seen = set()
with FeatureStore(sys.argv[1]) as store:
    print("ready", flush=True)
    while len(seen) < 2 or max(seen) < 25:
        ids = store.ids
        seen.add(len(ids))
        for video in ids:
            assert len(store[video]["rgb_pooled"]) == store[video].attrs["num_windows"] == 3
print(len(seen))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    reader = subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    with StoreWriter(path, HEADER) as writer:
        for number in range(25):
            write_video(writer, f"v{number}", 3, 20)
            writer.commit()
            time.sleep(0.005)
    output, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert int(output) > 1


def test_a_store_goes_to_workers(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as writer:
        write_video(writer, "one", 2, 40)
        writer.commit()
    with FeatureStore(path) as store:
        assert pickle.loads(pickle.dumps(store)).ids == ["one"]
        wrong: list[str] = []

        def read() -> None:
            for _ in range(20):
                if len(store["one"]["rgb_pooled"]) != 2:
                    wrong.append("thread")

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        child = os.fork()
        if child == 0:
            os._exit(0 if len(store["one"]["rgb_pooled"]) == 2 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert store.ids == ["one"]


def test_an_overwritten_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as writer:
        write_video(writer, "one", 2, 40)
        writer.commit()
    with FeatureStore(path) as store:
        assert store.ids == ["one"]
        with StoreWriter(path, HEADER, overwrite=True) as writer:
            write_video(writer, "two", 2, 40)
            writer.commit()
        assert store.ids == ["two"]


def test_committed_bytes_end_where_hdf5_says(tmp_path: Path) -> None:
    """The journal ties a commit to its file by that length."""
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        for number in range(5):
            write_video(store, f"v{number}", 2, 40)
            if number == 3:
                store.drop("v2")
            store.commit()
            assert int.from_bytes(path.read_bytes()[40:48], "little") == path.stat().st_size


@pytest.mark.slow
def test_a_long_video_needs_no_memory(tmp_path: Path) -> None:
    """What waits is bounded by what is handed over between commits; no array is read whole."""
    path = tmp_path / "feats.h5"
    windows, num_frames = 6000, 96_000
    rows = {name: np.repeat(array, 500, 0) for name, array in make_rows("x", 0, 1).items()}
    track = PoseTrack(np.ones((2, 8000, 17, 2), np.float32), np.ones((2, 8000, 17), np.float32))
    most = 0
    with StoreWriter(path, HEADER) as store:
        begin(store, make_video("x", num_frames))
        for part in range(12):
            store.append_windows("x", rows)
            store.append_keypoints("x", part * 8000, track)
            most = max(most, store.pending_bytes)
            store.commit()
            assert store.pending_bytes == 0
            assert sum(map(len, store._file.pages.values())) == 0
        finish(store, make_video("x", num_frames), windows)
        store.commit()
    assert most < 6e6 < 28e6 < path.stat().st_size
    with FeatureStore(path) as store:
        assert store.progress("x").complete
        assert len(store["x"]["rgb_pooled"]) == windows


@pytest.mark.slow
def test_opening_and_looking_up_read_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each video holds stays unread."""
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        for number in range(100):
            write_video(store, f"class {number % 7}/v{number}", 1, 20)
        store.commit()
    reads: list[int] = []
    real = journal.read_at

    def counted(descriptor: int, view: memoryview, offset: int) -> None:
        reads.append(len(view))
        real(descriptor, view, offset)

    monkeypatch.setattr(journal, "read_at", counted)
    with StoreWriter(path, HEADER) as store:
        opening = sum(reads)
        assert all(store.progress(f"class {n % 7}/v{n}").complete for n in range(100))
    assert opening < 1 << 18 and sum(reads) < path.stat().st_size / 2


def test_a_store_is_a_mapping_with_a_table(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        for video_id, windows in (("walk", 2), ("wave/a", 3)):
            write_video(store, video_id, windows, 20)
        store.commit()
    with FeatureStore(path) as store:
        assert isinstance(store, Mapping) and list(store.keys()) == ["walk", "wave/a"]
        assert [video.id for video in store.values()] == [key for key, _ in store.items()]
        assert store.get("nothing") is None and store["walk"].fps == 25
        with pytest.raises(KeyError, match="did you mean 'walk'"):
            store["wlak"]
        matrix, index = store.table()
        assert matrix.shape == (5, 648) and matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix[2:, :432], store["wave/a"]["rgb_pooled"])
        np.testing.assert_array_equal(matrix[:2, 432:], store["walk"]["pose_pooled"])
        assert index["video"].tolist() == [0, 0, 1, 1, 1]
        assert index["row"].tolist() == [0, 1, 0, 1, 2]
        np.testing.assert_array_equal(index["centre"][2:], store["wave/a"]["times"][:, 1])
        alone, _ = store.table(["pose_pooled"], ids=["wave/a"])
        np.testing.assert_array_equal(alone, store["wave/a"]["pose_pooled"])
        with pytest.raises(KeyError, match="no array 'rgb'"):
            store.table(["rgb"])
