"""bench: it compares like with like, keeps to its time, and says what it left out.

No test here asserts a time: clocks are made up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from make_onnx import Output, write_network
from make_videos import write_video

from epam_extract.bench import end_to_end as bench_whole
from epam_extract.bench import run as bench
from epam_extract.bench import timing as measuring
from epam_extract.bench import writing as bench_writing
from epam_extract.bench.run import excerpt
from epam_extract.bench.script import (
    PlainPose,
    Script,
    draw_heatmaps,
    read_with_pyav,
    stacked,
    write_with_h5py,
)
from epam_extract.bench.stages import Bench, Part
from epam_extract.bench.stages import decode as decode_part
from epam_extract.bench.stages import pose as pose_part
from epam_extract.bench.subprocess_run import Child, Order, Outcome, answer
from epam_extract.bench.timing import Deadline, Usage, in_turns
from epam_extract.cli.tables import bench_report
from epam_extract.config import ExtractConfig, PoseConfig, WeightsConfig, WindowConfig
from epam_extract.errors import ConfigError, MachineError
from epam_extract.heatmaps import render_heatmaps
from epam_extract.pipeline.concurrency import single_threaded_ops
from epam_extract.pipeline.inference import load_backbone
from epam_extract.pipeline.run import extract_features
from epam_extract.pose import open_pose_model
from epam_extract.progress.records import BenchReport, BenchRow
from epam_extract.store import FeatureStore
from epam_extract.video import find_videos, probe

STRIDE = 24  # few windows: the plain network takes a second for each


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "numbers.mp4", frames=40, options={"bf": "0"})


@pytest.fixture(scope="module")
def config(folder: Path) -> ExtractConfig:
    """Models that find one person in every frame, moving with the frame's brightness."""
    found = np.array([[8, 4, 56, 60, 0.9]])
    peaks = np.zeros((17, 128))
    peaks[np.arange(17), 20 + 5 * np.arange(17)] = 0.8
    detector = write_network(
        folder / "rtmdet.onnx", [Output("dets", found), Output("labels", np.zeros(1, np.int64))]
    )
    network = write_network(
        folder / "pose.onnx", [Output("simcc_x", peaks), Output("simcc_y", peaks)]
    )
    return ExtractConfig(
        windows=WindowConfig(stride=STRIDE),
        pose=PoseConfig(det_model=detector, pose_model=network),
        weights=WeightsConfig(random_seed=0),
        device="cpu",
    )


@pytest.fixture(scope="module")
def opened(video: Path, config: ExtractConfig, folder: Path) -> Bench:
    return bench._open(find_videos([video]), config, torch.device("cpu"), folder / "opened")


# ---------------------------------------------------------------- the script of today


def test_the_script_draws_the_heatmaps_of_the_pipeline() -> None:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(-4, 60, (2, 3, 17, 2)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 3, 17)).astype(np.float32)
    scores[0, 0, :5] = 0
    ours = render_heatmaps(torch.from_numpy(keypoints)[None], torch.from_numpy(scores)[None])[0]
    np.testing.assert_allclose(draw_heatmaps(keypoints, scores), ours.numpy(), atol=1e-6)


@pytest.mark.slow
def test_the_script_and_the_pipeline_give_the_same_features(
    video: Path, config: ExtractConfig, opened: Bench, tmp_path: Path
) -> None:
    pose = PlainPose(dict(opened.plain), "cpu")
    backbone = load_backbone(config.weights).backbone
    script = Script(pose, backbone, torch.device("cpu"), config.windows)
    short = tmp_path / "short.mkv"
    excerpt(video, STRIDE, short)  # one window
    with single_threaded_ops():  # two would spin for each other on a busy machine
        script(short, tmp_path / "script")
    assert script.frames == STRIDE
    extract_features(short, tmp_path / "f.h5", config)
    with FeatureStore(tmp_path / "f.h5") as store:
        stored = store["short"]
        assert (stored["person"] == 1).all()
        for name in ("rgb_pooled", "pose_pooled", "rgb", "pose"):
            plain = np.load(tmp_path / "script" / f"{name}.npy")
            ours = stored[name]
            assert plain.shape == ours.shape == (1, *ours.shape[1:])
            assert plain.dtype == ours.dtype
            spread = plain.astype(np.float64).std()
            tolerance = 1e-4 * spread if plain.dtype == np.float32 else 5e-3 * spread
            np.testing.assert_allclose(
                plain.astype(np.float64), ours, rtol=2e-3, atol=tolerance, err_msg=name
            )


def test_frames_without_people_stay_empty() -> None:
    nobody = np.zeros((0, 17, 2)), np.zeros((0, 17))
    one = np.ones((1, 17, 2)), np.full((1, 17), 0.5)
    keypoints, scores = stacked([nobody, one])
    assert keypoints.shape == (1, 2, 17, 2)
    assert not scores[0, 0].any()
    assert (scores[0, 1] == 0.5).all()


def test_plain_writing_makes_a_readable_file(tmp_path: Path) -> None:
    import h5py

    arrays = {"rgb": np.ones((2, 3, 1, 2, 2), np.float16), "valid": np.ones(2, np.float32)}
    write_with_h5py(tmp_path / "plain.h5", {"a": arrays})
    with h5py.File(tmp_path / "plain.h5") as h5:
        assert h5["videos/a/rgb"].chunks == (1, 3, 1, 2, 2)
        assert (h5["videos/a/valid"][:] == 1).all()


# ---------------------------------------------------------------- measuring


class FakeClock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A way that takes so long at each of its calls, the last value for ever."""
        left: Iterator[float] = iter(seconds)
        last = seconds[-1]

        def way() -> None:
            self.now += next(left, last)

        return way


def test_ways_take_turns_and_the_first_round_is_dropped() -> None:
    clock = FakeClock()
    ways = {"a": clock.taking(9, 2, 4, 3), "b": clock.taking(9, 1)}
    timings = in_turns(ways, 100, rounds=3, clock=clock)
    assert timings["a"].seconds == (2, 4, 3)
    assert timings["a"].median == 3
    assert timings["b"].seconds == (1, 1, 1)
    assert not timings["a"].cold


def test_no_round_is_begun_that_would_end_too_late() -> None:
    clock = FakeClock()
    timings = in_turns({"a": clock.taking(10)}, 35, clock=clock)
    assert len(timings["a"].seconds) == 2  # after the one that warmed up
    assert clock.now == 30


def test_a_single_call_counts_and_is_marked() -> None:
    clock = FakeClock()
    timing = in_turns({"a": clock.taking(10)}, 15, clock=clock)["a"]
    assert timing.seconds == (10,)
    assert timing.cold
    assert "not warmed up" in timing.note


def test_warm_ways_count_from_the_first_call() -> None:
    clock = FakeClock()
    timing = in_turns({"a": clock.taking(10)}, 25, warm=True, clock=clock)["a"]
    assert timing.seconds == (10, 10)
    assert not timing.cold


def test_what_cannot_be_begun_in_time_is_missing() -> None:
    clock = FakeClock()
    timings = in_turns({"a": clock.taking(10), "b": clock.taking(1)}, 12, clock=clock)
    assert list(timings) == ["a"]


def test_a_deadline_never_goes_below_nothing() -> None:
    assert Deadline(5.0, started=-1e9).left == 0


def test_usage_counts_children_too() -> None:
    before = Usage.now()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    used = Usage.now() - before
    own = sum(os.times()[:2])
    assert used.cpu > 0
    assert measuring.cpu_seconds() >= own


@pytest.mark.slow
def test_a_child_answers_and_its_memory_is_watched() -> None:
    with Child("epam_extract.bench.subprocess_run") as child:
        child.send("no order at all")  # answered with what is wrong with it
        assert "AttributeError" in child.answer()
        assert child.peak > 1 << 20
        pid = child._process.pid
    assert measuring.family(pid) == []


def test_a_child_that_dies_is_an_error() -> None:
    expected = pytest.raises(MachineError, match="exit status 1")
    with Child("epam_extract.there_is_no_such_module") as child, expected:
        child.send(None)
        child.answer()


# ---------------------------------------------------------------- parts


@pytest.mark.slow
def test_decode_and_pose_stand_beside_the_plain_loops(opened: Bench) -> None:
    rows = decode_part(opened, 20).rows
    assert [row.name for row in rows][-1] == "epam-extract"
    assert all(row.part == "decode" and row.unit == "ms/frame" for row in rows)
    assert rows[0].ratio == 1
    part = pose_part(opened, 20)
    assert [row.name for row in part.rows] == [
        "rtmlib, frame by frame",
        "epam-extract",
        "epam-extract --det-every auto",
    ]
    assert "keypoints within" in part.rows[1].note
    assert float(part.rows[1].note.split("within ")[1].split()[0]) <= 1e-3
    assert part.plain > 0


@pytest.mark.slow
def test_writing_and_overlap_have_their_rows(opened: Bench) -> None:
    rows = bench_writing.writing(opened, 0.1).rows
    assert rows[0].name == "plain h5py, one fsync a video"
    assert rows[0].unit == "MB/s"
    assert bench_writing.overlapped() == list(range(bench_writing.ITEMS))
    assert not list(opened.folder.glob("*.h5"))


def test_every_way_is_run_once_however_slow_the_first_is() -> None:
    now = 0.0

    def way(seconds: float) -> Callable[[], None]:
        def work() -> None:
            nonlocal now
            now += seconds

        return work

    ways = {"slow": way(8), "quick": way(2), "quicker": way(1)}
    assert in_turns(ways, 9, warm=True, clock=lambda: now).keys() == {"slow"}
    once = in_turns(ways, 9, warm=True, all_once=True, clock=lambda: now)
    assert {name: timing.median for name, timing in once.items()} == {
        "slow": 8,
        "quick": 2,
        "quicker": 1,
    }


class FakeChild:
    """Answers orders at once: the script's way takes four times as long as ours."""

    broken: str | None = None

    def __init__(self) -> None:
        self.peak = 0

    def __enter__(self) -> FakeChild:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def send(self, order: Order) -> None:
        self.order = order
        self.peak = 1_500_000_000 if order.plain else 2_500_000_000

    def answer(self) -> Outcome | str:
        if self.order.plain and self.broken:
            return self.broken
        wall = 8.0 if self.order.plain else 2.0
        return Outcome(100, Usage(wall, wall * 1.8, 0.1), {} if self.order.plain else {"read": 0.5})


@pytest.fixture
def fake_children(monkeypatch: pytest.MonkeyPatch) -> type[FakeChild]:
    monkeypatch.setattr(FakeChild, "broken", None)
    monkeypatch.setattr(bench_whole, "Child", FakeChild)
    return FakeChild


def whole(opened: Bench) -> dict[str, BenchRow]:
    with torch.inference_mode():
        part = bench_whole.end_to_end(
            opened, [opened.video.path], opened.video.path, 60, compiled=True
        )
    return {row.name: row for row in part.rows}


@pytest.mark.usefixtures("fake_children")
def test_end_to_end_compares_with_the_script(opened: Bench) -> None:
    rows = whole(opened)
    assert rows[bench_whole.SCRIPT].value == pytest.approx(80)
    assert rows[bench_whole.SCRIPT].ratio == 1
    assert rows[bench_whole.OURS].ratio == pytest.approx(4)
    assert rows[f"{bench_whole.OURS}, --compile off"].ratio == pytest.approx(4)
    ours = [name for name in rows if name.startswith(bench_whole.OURS)]
    assert ours[0] == bench_whole.OURS and ours[1].endswith(
        "--det-every auto"
    )  # compile off is last
    hour = rows[f"an hour of video: {bench_whole.OURS}"]
    assert hour.value == pytest.approx(0.02 * 3600 * 25 / 60) and hour.unit == "min"
    assert "96x64" in hour.note
    busy = rows[f"cores busy: {bench_whole.OURS}"]
    assert busy.value == pytest.approx(1.8 / opened.cores * 100)
    assert "read 50%" in busy.note
    assert rows[f"memory: {bench_whole.OURS}"].value == pytest.approx(2.5)


def test_a_script_that_fails_is_a_row_and_not_the_end(
    opened: Bench, fake_children: type[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_children, "broken", "DECORDError: cannot open")
    rows = whole(opened)
    assert rows[bench_whole.SCRIPT].value is None
    assert rows[bench_whole.SCRIPT].note == "skipped: DECORDError: cannot open"
    assert rows[bench_whole.OURS].value == pytest.approx(20)
    assert rows[bench_whole.OURS].ratio is None


def test_an_order_that_cannot_be_done_is_answered_in_a_line(
    config: ExtractConfig, tmp_path: Path
) -> None:
    order = Order((tmp_path / "missing.mp4",), tmp_path / "f.h5", config)
    said = answer(order)
    assert isinstance(said, str)
    assert "missing.mp4" in said
    assert "\n" not in said


# ---------------------------------------------------------------- the whole command


def test_long_videos_are_cut_and_short_ones_come_again(video: Path, tmp_path: Path) -> None:
    found = find_videos([video])
    (cut,) = bench._take(found, 16, tmp_path / "cut")
    assert len(list(read_with_pyav(cut))) == 16
    links = bench._take(found, 100, tmp_path / "again")
    assert sum(probe(path, "x").num_frames for path in links) == 100
    assert links[0].resolve() == video


def test_an_excerpt_is_the_beginning(video: Path, tmp_path: Path) -> None:
    excerpt(video, 20, tmp_path / "part.mkv")
    frames = zip(read_with_pyav(tmp_path / "part.mkv"), read_with_pyav(video), strict=False)
    assert sum(np.array_equal(part, whole) for part, whole in frames) == 20


def test_videos_that_cannot_be_read_are_passed_over(video: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ConfigError, match=r"none of the videos can be read; the first: .*a\.mp4"):
        bench._take(find_videos([tmp_path / "a.mp4"]), 16, tmp_path / "none")
    found = find_videos([tmp_path / "a.mp4", video])
    assert len(bench._take(found, 40, tmp_path / "some")) == 1


@pytest.mark.slow
def test_run_bench_reports_rows_limits_and_what_it_skipped(
    video: Path, config: ExtractConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fast(bench: Bench, seconds: float) -> Part:
        row = BenchRow("network", "5-D module", 2.0, "clips/s", 1.0)
        return Part([row], cpu=0.4, plain=0.5)

    monkeypatch.setattr(bench, "network", fast)
    begun: list[str] = []
    report = bench.run_bench([video], config, seconds=2, on_part=begun.append)
    assert begun == ["decode", "pose", "network", "end to end", "writing", "overlap"]
    assert {row.part for row in report.rows} == set(begun)
    skipped = [row for row in report.rows if row.part == "end to end"]
    assert all(row.value is None and "raise --seconds" in row.note for row in skipped)
    assert "network" in report.limits
    assert "96x64" in report.videos
    assert "cores" in report.machine and report.versions["torch"] == torch.__version__
    loaded = json.loads(bench.report_json(report))
    assert loaded["rows"][0]["part"] == "decode"
    assert BenchReport(**{**loaded, "rows": report.rows}) == report


def test_the_table_shows_figures_ratios_and_reasons() -> None:
    from rich.console import Console

    rows = (
        BenchRow("pose", "loop", 30.0, "ms/frame", 1.0, "median of 5"),
        BenchRow("pose", "ours", 10.04, "ms/frame", 2.988, "median of 5"),
        BenchRow("network", "bf16 [fused]", None, "", note="skipped: no bf16"),
    )
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(
        bench_report(
            BenchReport(
                machine="a CPU",
                versions={"torch": "2.9", "commit": ""},
                taken="2026-01-01T00:00:00+00:00",
                videos="v.mp4",
                rows=rows,
                limits="the cores",
                seconds=61.0,
            )
        )
    )
    text = console.export_text()
    for part in (
        "30.0 ms/frame",
        "2.99x",
        "bf16 [fused]",
        "skipped: no bf16",
        "the cores",
        "1 min",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "device", "match"), [(0, "cpu", "--seconds"), (9, "cuda:99", "cuda:99")]
)
def test_wrong_options_are_refused(seconds: float, device: str, match: str, video: Path) -> None:
    with pytest.raises(ConfigError, match=match):
        bench.run_bench([video], ExtractConfig(device=device), seconds=seconds)


def test_without_videos_and_samples_it_asks_for_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "SAMPLES", tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--videos"):
        bench.run_bench([], ExtractConfig(device="cpu"))


def test_the_estimator_and_its_sparse_twin_are_both_open(opened: Bench) -> None:
    assert opened.sparse_pose is not None
    assert opened.sparse_pose.source == opened.pose.source
    assert open_pose_model(opened.config.pose).source == opened.pose.source
