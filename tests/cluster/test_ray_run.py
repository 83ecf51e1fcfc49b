"""--ray without Ray: driver, crew and workers are real, and the workers are threads here."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_ray import FakeRay, when
from faulty_disk import tmp_path as tmp_path
from make_videos import write_video
from stand_ins import CONFIG, POOLED, StandInNetwork, StandInPose, assert_same, failures
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.cli.extract import RunOptions
from epam_extract.cluster import connecting, ray_run, ray_workers
from epam_extract.cluster.connecting import Size, connected, worker_size
from epam_extract.cluster.parts import existing_parts, part_path
from epam_extract.cluster.ray_run import extract_on_ray
from epam_extract.config import PoseConfig
from epam_extract.errors import (
    ConfigError,
    MachineError,
    StoreLocked,
    StoreMismatch,
)
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.progress.records import Summary
from epam_extract.records import ClipBatch, FeatureBatch
from epam_extract.store import FeatureStore, StoreWriter
from epam_extract.store.verify import verify

TWO = {"CPU": 2.0}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos of 8 to 64 frames and a broken one."""
    root = tmp_path_factory.mktemp("collection")
    for number in range(8):
        write_video(root / f"v{number}.mp4", frames=8 + 8 * number)
    (root / "broken.mp4").write_text("no video")
    return root


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, stand_ins: StandInPose) -> FakeRay:
    """Two places of one core."""
    fake = FakeRay(TWO)

    @contextmanager
    def connected(address: str) -> Iterator[FakeRay]:
        yield fake

    monkeypatch.setattr(ray_run, "connected", connected)
    monkeypatch.setattr(ray_workers, "NEWS_SECONDS", 0.05)
    monkeypatch.setattr("epam_extract.pipeline.concurrency.PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("epam_extract.pipeline.output.COMMIT_SECONDS", 0.0)
    return fake


class Told(Progress):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.messages: list[str] = []
        self.frames = 0
        self.done: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def advance(self, frames: int) -> None:
        self.frames += frames

    def video_done(self, video_id: str, windows: int) -> None:
        self.done.append(video_id)


def on_ray(videos: Path, out: Path, **options: object) -> Summary:
    given = {"config": POOLED, "address": "local", "cpus_per_worker": 1, "progress": Progress()}
    given |= {"stop": threading.Event(), **options}
    return extract_on_ray([videos], out, given.pop("config"), **given)  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_workers_equal_one_run_and_leave_nothing_but_the_output(
    collection: Path, ray: FakeRay, tmp_path: Path
) -> None:
    whole = extract_features(collection, tmp_path / "whole.h5", POOLED)
    told = Told()
    done = on_ray(collection, tmp_path / "f.h5", progress=told)
    assert len(ray.actors) == 2
    assert {options["num_cpus"] for options in ray.options} == {1}
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")
    assert failures(tmp_path / "whole.h5") == failures(tmp_path / "f.h5")
    assert verify(tmp_path / "f.h5") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.h5", "whole.h5"]
    for name in ("videos", "done", "skipped", "windows", "frames", "frames_with_person"):
        assert getattr(done, name) == getattr(whole, name), name
    assert [failure.video_id for failure in done.failures] == ["broken"]
    assert sorted(told.done) == [f"v{number}" for number in range(8)]
    assert told.frames == done.frames
    assert not any("worker" in text for text in told.warnings)
    again = on_ray(collection, tmp_path / "f.h5")
    assert (again.done, again.skipped, again.failed) == (8, 8, 1)
    assert len(ray.actors) == 2  # nobody was needed


@pytest.mark.slow
def test_a_worker_that_dies_loses_nothing(collection: Path, ray: FakeRay, tmp_path: Path) -> None:
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    told = Told()
    when(lambda: len(told.done) >= 2, lambda: ray.actors[0].die())
    done = on_ray(collection, tmp_path / "f.h5", progress=told)
    assert done.done == 8 and len(set(told.done)) == len(told.done) == 8
    assert any("worker 0" in text and "has died" in text for text in told.warnings)
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


@pytest.mark.slow
def test_a_video_whose_worker_dies_twice_is_recorded_as_failed(
    collection: Path, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, at = StandInNetwork.__call__, queue.Queue[threading.Event]()
    released: dict[StandInNetwork, threading.Event] = {}

    def kills(self: StandInNetwork, batch: ClipBatch) -> FeatureBatch:
        if batch.rows[0].video_id == "v5":
            if self not in released:  # which has one thread
                released[self] = threading.Event()
                at.put(released[self])
            assert released[self].wait(30)
            raise MachineError("killed")
        return call(self, batch)

    def kill_twice() -> None:
        for _ in range(2):
            release = at.get(timeout=30).set
            ray.actors[0].die(release=release)

    monkeypatch.setattr(StandInNetwork, "__call__", kills)
    ray.machines[:] = [{"CPU": 1.0}]
    threading.Thread(target=kill_twice, daemon=True).start()
    done = on_ray(collection, tmp_path / "f.h5")
    assert {failure.video_id: failure.stage for failure in done.failures} == {
        "broken": "probe",
        "v5": "worker",
    }
    with FeatureStore(tmp_path / "f.h5") as store:
        assert "v5" not in store and "died twice" in store.failures["v5"].message
        assert len(store) == 7
    monkeypatch.setattr(StandInNetwork, "__call__", call)
    again = on_ray(collection, tmp_path / "f.h5", retry_failed=True)
    assert [failure.video_id for failure in again.failures] == ["broken"]
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


@pytest.mark.slow
def test_ctrl_c_commits_and_the_next_run_goes_on_in_the_parts(
    collection: Path, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    call, told, stop = StandInNetwork.__call__, Told(), threading.Event()

    def waits(self: StandInNetwork, batch: ClipBatch) -> FeatureBatch:
        assert batch.rows[0].video_id != "v7" or stop.wait(30)
        return call(self, batch)

    monkeypatch.setattr(StandInNetwork, "__call__", waits)
    when(lambda: len(told.done) >= 2, stop.set)
    done = on_ray(collection, tmp_path / "f.h5", progress=told, stop=stop)
    assert done.interrupted and 2 <= done.done < 8
    assert not (tmp_path / "f.h5").exists()
    assert any("the same command goes on" in note for note in done.notes)
    assert existing_parts(tmp_path / "f.h5").keys() == {0, 1}
    told = Told()
    again = on_ray(collection, tmp_path / "f.h5", progress=told)
    assert again.done == 8 and again.skipped == done.done
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")
    assert not existing_parts(tmp_path / "f.h5")


@pytest.mark.slow
def test_a_part_that_a_lost_worker_keeps_locked_is_left_alone_and_merged_later(
    collection: Path, ray: FakeRay, tmp_path: Path
) -> None:
    extract_features(collection, tmp_path / "whole.h5", POOLED)
    told, lost = Told(), []
    when(lambda: len(told.done) >= 1, lambda: lost.append(ray.actors[0].vanish()))
    try:
        with pytest.raises(StoreLocked, match=r"f.worker-00000.h5.*is writing it"):
            on_ray(collection, tmp_path / "f.h5", progress=told)
        assert sorted(told.done) == [f"v{number}" for number in range(8)]
    finally:
        for worker in lost:
            worker.stop()
            worker._thread.join()
    assert on_ray(collection, tmp_path / "f.h5").skipped == 8
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


@pytest.mark.slow
def test_a_machine_that_comes_is_used(
    collection: Path, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "HIRE_SECONDS", 0.0)
    told = Told()
    when(lambda: len(told.done) >= 1, lambda: ray.machines.append({"CPU": 1.0}))
    assert on_ray(collection, tmp_path / "f.h5", progress=told).done == 8
    assert len(ray.actors) == 3


@pytest.mark.slow
def test_a_changed_video_is_done_again_and_overwrite_does_all_again(
    collection: Path, ray: FakeRay, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in (1, 2):
        write_video(videos / f"v{number}.mp4", frames=20)
    on_ray(videos, tmp_path / "f.h5")
    write_video(videos / "v2.mp4", frames=40)
    done = on_ray(videos, tmp_path / "f.h5")
    assert (done.done, done.skipped, done.frames) == (2, 1, 40)
    other = replace(POOLED, pose=PoseConfig(max_persons=1))
    with pytest.raises(StoreMismatch, match="max_persons"):
        write_video(videos / "v3.mp4", frames=8)
        on_ray(videos, tmp_path / "f.h5", config=other)
    done = on_ray(videos, tmp_path / "f.h5", config=other, overwrite=True)
    assert (done.done, done.skipped) == (3, 0)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert len(store) == 3 and store.config["max_persons"] == 1


# ---------------------------------------------------------------- what can be wrong


@pytest.mark.slow
def test_a_part_that_is_still_locked_is_one_sentence(
    collection: Path, ray: FakeRay, tmp_path: Path
) -> None:
    extract_features(collection / "v1.mp4", part_path(tmp_path / "f.h5", 0), POOLED)
    with FeatureStore(part_path(tmp_path / "f.h5", 0)) as store:
        header = ray_run.StoreHeader(store.config, store.weights, store.pose_source)
    with (
        StoreWriter(part_path(tmp_path / "f.h5", 0), header),
        pytest.raises(StoreLocked, match="still writing it") as refused,
    ):
        on_ray(collection, tmp_path / "f.h5")
    assert "\n" not in str(refused.value)
    assert on_ray(collection, tmp_path / "f.h5").skipped == 1


def test_an_output_folder_that_is_not_shared_is_one_sentence(
    collection: Path, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "SHARE_SECONDS", 0.05)
    write = Path.write_text

    def elsewhere(path: Path, text: str, **options: str) -> int:
        return len(text) if path.suffix == ".probe" else write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", elsewhere)
    with pytest.raises(ConfigError, match="must be in a folder that all workers share"):
        on_ray(collection, tmp_path / "f.h5")
    assert list(tmp_path.iterdir()) == []


def test_what_no_worker_can_do_ends_the_run_with_its_sentence(
    collection: Path, ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise MachineError("the GPU is lost")

    monkeypatch.setattr("epam_extract.pipeline.models.open_pose_model", broken)
    with pytest.raises(MachineError, match="the GPU is lost"):
        on_ray(collection, tmp_path / "f.h5")


@pytest.mark.parametrize(
    ("nodes", "options", "size", "places"),
    [
        ([{"CPU": 2.0}], {}, Size(0.0, 2), 1),
        ([{"CPU": 2.0}], {"cpus_per_worker": 1}, Size(0.0, 1), 2),
        ([{"CPU": 16.0}, {"CPU": 9.0}], {}, Size(0.0, 4), 6),
        ([{"CPU": 16.0, "GPU": 2.0}], {}, Size(1.0, 8), 2),
        ([{"CPU": 16.0, "GPU": 2.0}], {"gpus_per_worker": 0.5}, Size(0.5, 4), 4),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], {"cpus_per_worker": 2}, Size(1.0, 2), 2),
        ([{"CPU": 16.0, "GPU": 2.0}], {"device": "cpu"}, Size(0.0, 4), 4),
    ],
)
def test_workers_fit_what_there_is(nodes: list, options: dict, size: Size, places: int) -> None:
    given = {"device": "auto", "gpus_per_worker": None, "cpus_per_worker": None, **options}
    chosen = worker_size(nodes, **given)
    assert chosen == size
    assert chosen.places(nodes) == places


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"gpus_per_worker": 1.0}])
def test_no_room_for_a_worker_is_one_sentence(options: dict) -> None:
    given = {"device": "auto", "gpus_per_worker": None, "cpus_per_worker": None, **options}
    with pytest.raises(ConfigError, match="no machine there has"):
        worker_size([{"CPU": 2.0}], **given)


def test_ray_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'epam-extract\[ray\]'"), connected("local"):
        pass


MISMATCH = """RuntimeError: Version mismatch: The cluster was started with:
    Ray: 2.9.0
    Python: 3.10.1"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("child", "words"),
    [
        ("import time; time.sleep(60)", "no Ray answers there .nothing came within"),
        (
            "import sys, time; print('InvalidAuthToken', file=sys.stderr, flush=True); "
            "time.sleep(60)",
            "RAY_AUTH_MODE=token",
        ),
        ("raise SystemExit(1)", "no Ray answers there .it gave up"),
        ("print('[nonsense')", "no Ray answers there"),
        (f"import json; print(json.dumps({MISMATCH!r}))", "another version .*Ray: 2.9.0 Python"),
    ],
)
def test_an_address_where_no_ray_of_ours_answers_is_one_sentence(
    child: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "TRY", child)
    monkeypatch.setattr(connecting, "ANSWER_SECONDS", 1.0 if "sleep" in child else 10.0)
    with pytest.raises(ConfigError, match=words) as refused:
        connecting.require_answer("head:6379")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ray", "--shard", "0/2"], "contradict each other"),
        (["--ray", "--dry-run"], "a plan needs no workers"),
        (["--gpus-per-worker", "1"], "goes with --ray"),
        (["--ray", "--gpus-per-worker", "1.5"], "whole number or below 1"),
        (["--ray", "--cpus-per-worker", "0"], "more than 0"),
        (["--ray", "--device", "cuda:1"], "--device cuda instead"),
    ],
)
def test_wrong_usage_is_one_sentence(options: list[str], words: str, tmp_path: Path) -> None:
    command = ["extract", "videos", "-o", str(tmp_path / "f.h5"), "--random-weights", "0", *options]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 2
    assert words in run.output


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--ray", "VIDEOS"], "local"),
        (["VIDEOS", "--ray"], "local"),
        (["--ray", "head:6379", "VIDEOS"], "head:6379"),
        (["VIDEOS", "--ray", "auto"], "auto"),
        (["VIDEOS", "--ray=ray://head:10001"], "ray://head:10001"),
    ],
)
def test_an_address_may_follow(
    arguments: list[str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def run_extraction(run: RunOptions, config: object) -> int:
        asked.append((run.sources, run.ray))
        return 0

    monkeypatch.setattr("epam_extract.cli.run.run_extraction", run_extraction)
    run = CliRunner().invoke(app, ["extract", *arguments, "-o", str(tmp_path / "f.h5"), "--demo"])
    assert run.exit_code == 0, run.output
    assert asked == [(["VIDEOS"], address)]
    assert CONFIG.device == "auto"
