"""The epam-extract command: options, what it prints where, exit statuses, signals."""

from __future__ import annotations

import ast
import json
import re
import resource
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from command_line import CONTENTS, MAIN, environment, here, run
from command_line import StandInRun as Pipeline

import epam_extract
from epam_extract.cli import app
from epam_extract.cli.signals import Stopper
from epam_extract.cli.summary_report import datasets
from epam_extract.config import FEATURES, ExtractConfig
from epam_extract.errors import CheckpointError, ConfigError, MachineError, StoreError
from epam_extract.pipeline import installed_weights
from epam_extract.progress import Progress
from epam_extract.progress.records import BenchReport, BenchRow
from epam_extract.records import VideoFailure
from epam_extract.schema import TRACKS, window_arrays
from epam_extract.store import in_child
from epam_extract.store import verify as verify_module

FAILURE = VideoFailure("b/broken [1]", "decode", "61 of 74 frames decoded", Path("b/broken.mp4"))
ROOT = Path(__file__).parents[2]


# --- extract: what is typed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "videos/", "--out", "f.h5", "--demo"],
        ["videos/", "--out", "f.h5", "--demo"],
        ["--out", "f.h5", "videos/", "--demo"],
        ["--demo", "--out", "f.h5", "videos/"],
        ["-o", "f.h5", "--demo", "videos/"],
    ],
)
def test_extract_needs_no_name_in_any_order(pipeline: Pipeline, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert pipeline.calls[-1]["videos"] == ["videos/"]
    assert pipeline.calls[-1]["out"] == Path("f.h5")


def test_without_options_the_config_is_the_librarys_default(pipeline: Pipeline) -> None:
    run("videos/", "--out", "f.h5", "--random-weights", "7")
    config = pipeline.config
    assert config == ExtractConfig(weights=config.weights)
    assert config.weights.random_seed == 7


def test_every_option_reaches_the_config(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("w.pth", "rgb.pth", "pose.pth"):
        (tmp_path / name).write_bytes(b"")
    options = {
        "--weights": tmp_path / "w.pth",
        "--rgb-weights": tmp_path / "rgb.pth",
        "--pose-weights": tmp_path / "pose.pth",
        "--det-model": "det.onnx",
        "--pose-model": "pose.onnx",
        "--det-score": "0.4",
        "--keypoint-score": "0.3",
        "--max-persons": "2",
        "--det-every": "5",
        "--grid": "valid",
        "--stride": "8",
        "--frame-interval": "2",
        "--fps": "12.5",
        "--image-fps": "30",
        "--segments": "s.csv",
        "--crop": "video",
        "--features": "pooled, tokens,pooled",
        "--dtype": "f32",
        "--compression": "lzf",
        "--precision": "bf16",
        "--device": "cuda:1",
        "--batch-size": "32",
        "--workers": "6",
        "--max-memory": "8GB",
        "--compile": "off",
        "--decoder": "pyav",
    }
    typed = [part for pair in options.items() for part in pair]
    result = run(
        "v 1.mp4", "größe/*.avi", "--out", "o.h5", *typed, "--list", "l.txt", "--overwrite"
    )
    assert result.exit_code == 0, result.stderr
    call, config = pipeline.calls[-1], pipeline.config
    assert call["videos"] == ["v 1.mp4", "größe/*.avi"]
    assert (call["list_file"], call["overwrite"], call["dry_run"]) == (Path("l.txt"), True, False)
    assert config.weights.file == tmp_path / "w.pth"
    assert config.weights.rgb_file == tmp_path / "rgb.pth"
    assert config.weights.pose_file == tmp_path / "pose.pth"
    assert config.pose.det_model == Path("det.onnx")
    assert config.pose.pose_model == Path("pose.onnx")
    assert (config.pose.det_score, config.pose.keypoint_score) == (0.4, 0.3)
    assert (config.pose.max_persons, config.pose.det_every) == (2, 5)
    assert (config.windows.grid, config.windows.stride) == ("valid", 8)
    assert (config.windows.frame_interval, config.crop) == (2, "video")
    assert (config.fps, config.image_fps, call["segments"]) == (12.5, 30.0, Path("s.csv"))
    assert config.features == ("pooled", "tokens")
    assert (config.stored_dtype, config.compression) == ("f32", "lzf")
    assert (config.precision, config.device, config.decoder) == ("bf16", "cuda:1", "pyav")
    assert (config.batch_size, config.workers, config.compile) == (32, 6, "off")
    assert config.max_memory == 8_000_000_000


def test_demo_is_bundled_pose_and_seeded_weights(pipeline: Pipeline) -> None:
    run("videos/", "--out", "f.h5", "--demo")
    assert pipeline.config.pose.mode == "bundled"
    assert pipeline.config.weights.demo
    assert run("videos/", "--out", "f.h5", "--demo", "--pose", "bundled").exit_code == 0


def test_no_full_leaves_the_small_features(pipeline: Pipeline) -> None:
    run("videos/", "--out", "f.h5", "--demo", "--no-full")
    assert pipeline.config.features == ("pooled",)
    run("videos/", "--out", "f.h5", "--demo", "--no-full", "--features", "tokens,pooled")
    assert pipeline.config.features == ("tokens", "pooled")


@pytest.mark.parametrize("arguments", [["--list", "-"], ["-"]])
def test_a_list_can_come_from_stdin(pipeline: Pipeline, arguments: list[str]) -> None:
    result = run(*arguments, "--out", "f.h5", "--demo", stdin="a.mp4\n")
    assert result.exit_code == 0, result.stderr
    assert pipeline.calls[-1]["list_file"] == Path("-")
    assert pipeline.calls[-1]["videos"] == []


# --- extract: what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--demo --weights w.pth", "--weights and --demo contradict each other"),
        ("--demo --random-weights 1", "--random-weights and --demo contradict"),
        ("--weights w.pth --random-weights 1", "--weights and --random-weights contradict"),
        ("--demo --pose balanced", "--demo and --pose balanced contradict"),
        ("--demo --pose-model p.onnx", "--demo and --pose-model contradict"),
        ("--demo --pose-model p.onnx --det-model d.onnx", "--demo and --pose-model contradict"),
        ("--pose balanced --pose-model p.onnx", "--pose and --pose-model contradict"),
        ("--random-weights 1 --det-model d.onnx", "--det-model needs --pose-model"),
        ("--demo --overwrite --retry-failed", "--overwrite and --retry-failed contradict"),
        ("--demo -q -v", "--quiet and --verbose contradict"),
        ("--demo -q --progress rich", "--quiet and --progress rich contradict"),
        ("--demo --no-full --features full", "--no-full and --features with full contradict"),
        ("--demo --no-full --features tokens,full", "--no-full and --features with full"),
        ("--demo --features ,", "features must name at least one of pooled, full, tokens"),
        ("--demo --features pooled,ful", "one of pooled, full, tokens, attention, got 'ful'"),
        ("--demo --grid single --stride 8", "--grid single makes one window of the whole video"),
        ("--demo --stride 0", "stride must be at least 1, got 0"),
        ("--demo --frame-interval 0", "frame_interval must be at least 1, got 0"),
        ("--demo --det-every 0", "det_every must be auto or at least 1, got 0"),
        ("--demo --max-persons 0", "max_persons must be at least 1, got 0"),
        ("--demo --batch-size 0", "batch_size must be at least 1, got 0"),
        ("--demo --workers -1", "workers must be at least 1, got -1"),
        ("--random-weights -1", "random_seed must be at least 0, got -1"),
        ("--pose big", "pose must be one of lightweight, balanced"),
        ("--demo --grid dense", "grid must be one of centered, valid, single, got 'dense'"),
        ("--demo --dtype f64", "must be one of f16, f32, got 'f64'"),
        ("--demo --compression zip", "compression must be one of none, lzf, gzip, blosc2"),
        ("--demo --precision int8", "precision must be one of auto, float32, bf16, fp16"),
        ("--demo --decoder opencv", "decoder must be one of auto, decord, pyav"),
        ("--demo --compile yes", "compile must be one of auto, on, off"),
        ("--demo --progress html", "--progress must be one of auto, rich, plain"),
        ("--demo --summary-json nowhere/s.json", "--summary-json nowhere/s.json cannot be written"),
        ("--weights missing.pth", "missing.pth: --weights names no file"),
        ("", "no EPAM-Net weights: pass --weights FILE"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    pipeline: Pipeline,
    options: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("videos/", "--out", "f.h5", *options.split())
    assert result.exit_code == 2
    assert not pipeline.calls
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ") and sentence in lines[0]
    assert result.stdout == ""


def test_no_videos_at_all_is_wrong_usage(pipeline: Pipeline) -> None:
    result = run("--out", "f.h5", "--demo")
    assert result.exit_code == 2
    assert "no videos are named" in result.stderr


def test_without_out_nothing_runs(pipeline: Pipeline) -> None:
    result = run("videos/", "--demo")
    assert result.exit_code == 2
    assert "--out" in result.stderr
    assert not pipeline.calls


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("vid\neos/: no video found, looked for .mp4 and .avi"), 2),
        (CheckpointError("a.pth: 2 tensors missing"), 1),
        (StoreError("f.h5: is a directory"), 1),
        (MachineError("the disk is full"), 1),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    pipeline: Pipeline, error: Exception, status: int
) -> None:
    pipeline.error = error
    result = run("videos/", "--out", "f.h5", "--demo", "-q")
    assert result.exit_code == status
    assert result.stderr == "error: " + str(error).replace("\n", r"\n") + "\n"
    more = run("videos/", "--out", "f.h5", "--demo", "-v")
    assert more.exit_code == status
    assert ("Traceback" in more.stderr) == (status == 1)


def test_ctrl_c_ends_without_a_traceback(pipeline: Pipeline) -> None:
    pipeline.error = KeyboardInterrupt()
    result = run("videos/", "--out", "f.h5", "--demo")
    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


# --- extract: what it says at the end -----------------------------------------------------------


def test_the_summary_tells_where_the_file_is_and_what_is_in_it(pipeline: Pipeline) -> None:
    result = run("videos/", "--out", "feats 1.h5", "--demo")
    assert result.exit_code == 0
    assert result.stdout == ""
    for part in (
        "for trying the tool",
        "2 videos to do (1 done before): 100 frames, 12 windows, about 5.0 MB (9.0 GB free)",
        "3 of 3 videos are in feats 1.h5 (5.0 MB)",
        "3 done, 1 of them before this run",
        "100, a person in 93% of them",
        "4.0 s, 25 frames/s",
        "(W, 432, 16, 7, 7)",
        "from epam_extract import FeatureStore",
        "FeatureStore('feats 1.h5')['a'][\"rgb_pooled\"]",
    ):
        assert part in result.stderr, part
    assert "Interrupted" not in result.stderr


@pytest.mark.parametrize("stored_dtype", ["f16", "f32"])
def test_what_the_summary_says_is_in_the_file_is_its_layout(stored_dtype: str) -> None:
    config = ExtractConfig(features=FEATURES, stored_dtype=stored_dtype)
    identity = config.identity()
    specs = {name: (one.item, one.dtype) for name, one in window_arrays(identity).items()}
    expected = {
        name: ("(" + ", ".join(["W", *map(str, shape)]) + ("," if not shape else "") + ")", dtype)
        for name, (shape, dtype) in specs.items()
    }
    tracks = {name: (one.item, one.dtype) for name, one in TRACKS.items()}
    for name, (shape, dtype) in tracks.items():
        expected[name] = ("(" + ", ".join(["M", "T", *map(str, shape)]) + ")", dtype)
    told = {name: (shape, dtype) for name, shape, dtype, _ in datasets(config)}
    assert {name: shape for name, (shape, _) in told.items()} == {
        name: shape for name, (shape, _) in expected.items()
    }
    for name, (_, dtype) in told.items():
        assert np.dtype(dtype) == np.dtype(expected[name][1]), name


def test_failures_are_a_table_and_status_3(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.failures = (FAILURE,)
    result = run("videos/", "--out", "f.h5", "--demo", "--summary-json", tmp_path / "s.json")
    assert result.exit_code == 3
    assert "2 done, 1 of them before this run, 1 failed" in result.stderr
    row = [line for line in result.stderr.splitlines() if "broken [1]" in line][-1]
    assert "decode" in row and "61 of 74 frames decoded" in row
    assert "--retry-failed" in result.stderr
    written = json.loads((tmp_path / "s.json").read_text())
    assert (written["done"], written["failed"], written["exit_status"]) == (2, 1, 3)
    assert written["failures"] == [
        {
            "video_id": "b/broken [1]",
            "stage": "decode",
            "message": "61 of 74 frames decoded",
            "path": "b/broken.mp4",
        }
    ]
    assert written["person_share"] == 0.93


def test_an_interrupted_run_says_how_to_go_on(pipeline: Pipeline) -> None:
    pipeline.interrupted = True
    pipeline.failures = (FAILURE,)
    result = run("videos/", "--out", "f.h5", "--demo")
    assert result.exit_code == 130
    assert "Run the same command again" in result.stderr


def test_quiet_prints_nothing_but_what_went_wrong(pipeline: Pipeline) -> None:
    assert run("videos/", "--out", "f.h5", "--demo", "-q").stderr == ""
    pipeline.failures = (FAILURE,)
    assert "61 of 74 frames decoded" in run("videos/", "--out", "f.h5", "--demo", "-q").stderr


def test_json_progress_is_all_there_is_on_stderr(pipeline: Pipeline) -> None:
    result = run("videos/", "--out", "f.h5", "--demo", "--progress", "json", "--summary-json", "-")
    events = [json.loads(line)["event"] for line in result.stderr.splitlines()]
    assert events[-1] == "finished"
    assert json.loads(result.stdout)["windows"] == 12


def test_an_error_reaches_the_summary_json(pipeline: Pipeline) -> None:
    pipeline.error = MachineError("the disk is full")
    result = run("videos/", "--out", "f.h5", "--demo", "--summary-json", "-")
    assert json.loads(result.stdout) == {
        "error": "MachineError",
        "message": "the disk is full",
        "exit_status": 1,
    }


def test_a_dry_run_needs_no_weights(pipeline: Pipeline) -> None:
    result = run("videos/", "--out", "f.h5", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert pipeline.calls[-1]["dry_run"]
    assert "2 videos to do" in result.stderr
    assert result.stderr.splitlines()[-1] == "dry run: nothing was written"


def test_the_log_file_has_what_the_screen_had(pipeline: Pipeline, tmp_path: Path) -> None:
    run("videos/", "--out", "f.h5", "--demo", "-q", "--log-file", tmp_path / "run.log")
    assert "for trying the tool" in (tmp_path / "run.log").read_text()


# --- weights, and the rest ----------------------------------------------------------------------


def test_the_default_weights_are_used_and_named(pipeline: Pipeline, tmp_path: Path) -> None:
    kept = tmp_path / "epam.pth"
    kept.write_bytes(b"weights")
    added = installed_weights.add_weights(kept, check=lambda path: None)
    result = run("videos/", "--out", "f.h5")
    assert result.exit_code == 0
    assert pipeline.config.weights.file == added.path
    assert "(installed default)" in result.stderr.replace("\n", "")


def test_weights_lists_what_is_there(pipeline: Pipeline, tmp_path: Path) -> None:
    result = run("weights")
    assert result.exit_code == 0
    assert "no weights are installed" in result.stdout and "Google Drive" in result.stdout
    (tmp_path / "epam.pth").write_bytes(b"weights")
    installed_weights.add_weights(tmp_path / "epam.pth", check=lambda path: None)
    listed = run("weights").stdout
    assert (
        "epam.pth" in listed
        and "default" in listed
        and str(installed_weights.weights_folder()) in listed
    )


@pytest.mark.slow
def test_weights_add_refuses_what_does_not_fit(pipeline: Pipeline, tmp_path: Path) -> None:
    import torch

    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    result = run("weights", "add", tmp_path / "other.pth")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert installed_weights.list_installed() == []


@pytest.mark.slow
def test_weights_add_takes_what_fits(pipeline: Pipeline, tmp_path: Path) -> None:
    import torch

    from epam_extract.model import EPAMBackbone, random_weights

    backbone = EPAMBackbone()
    random_weights(backbone, 0)
    torch.save(backbone.state_dict(), tmp_path / "epam.pth")
    result = run("weights", "add", tmp_path / "epam.pth")
    assert result.exit_code == 0, result.stderr
    assert installed_weights.default_weights() == installed_weights.weights_folder() / "epam.pth"


def test_info_prints_tables_or_json(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    monkeypatch.setattr(
        "epam_extract.store.describe.describe",
        lambda path, *, most_rows: {**CONTENTS, "path": str(path)},
    )
    told = run("info", "my f.h5").stdout
    rows = [line.split() for line in told.splitlines()]
    row = next(row for row in rows if "[x]" in row)
    assert row[:9] == ["a", "[x]", "12", "190", "7.6", "s", "340x256", "25", "0%"]
    assert "no person; 3 values clipped; truncated" in told
    half = next(line for line in told.splitlines() if "half" in line)
    assert " ".join(half.split()) == "half 2 32 1 h 00 min 1920x1080 - - not complete"
    assert "1 complete, 1 not complete yet, 1 failed" in told
    assert "61 of 74 frames decoded" in told
    assert "without checksums of the attributes" in " ".join(told.split())
    assert "mode local, pose (name p.onnx, sha256 abababababab)" in told
    assert "stride 16, features full+pooled" in told
    assert json.loads(run("info", "my f.h5", "--json").stdout)["path"] == "my f.h5"


def test_verify_lists_what_is_wrong_and_repairs(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    Problem = verify_module.Problem
    changed = Problem("b [x]", "has changed since it was written (checksum)", "rgb_pooled")
    gone = Problem("c", "its video is not in videos any more", droppable=False)
    problems, repaired = [changed, gone], []
    here(monkeypatch)
    monkeypatch.setattr(verify_module, "verify", lambda path, *, videos: list(problems))
    monkeypatch.setattr(verify_module, "uncovered", lambda path: 0)

    def repair(path: Path, found: list[Any]) -> list[str]:
        repaired.extend(found)
        return ["b [x]"]

    monkeypatch.setattr(verify_module, "repair", repair)
    result = run("verify", "f.h5", "--videos", "videos/")
    assert result.exit_code == 1 and not repaired
    assert "something is wrong with 2 videos" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "b [x]" in line)
    assert "rgb_pooled" in row and "checksum" in row
    assert "--repair" in result.stdout
    assert run("verify", "f.h5", "--repair").exit_code == 1  # c cannot be dropped away
    problems.remove(gone)
    assert run("verify", "f.h5", "--repair").exit_code == 0
    assert repaired[-1] == changed
    problems.clear()
    assert run("verify", "f.h5").stdout == "f.h5: all is well\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_file_that_is_not_there_is_status_1(command: str, tmp_path: Path) -> None:
    result = run(command, tmp_path / "größe 1.h5")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "größe 1.h5" in result.stderr


def test_preview_passes_what_decides_the_picture(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, Path, ExtractConfig]] = []

    def draw(video: Path, out: Path, config: ExtractConfig, *, progress: Progress) -> None:
        progress.message("finding people")
        calls.append((video, out, config))

    module = ModuleType("epam_extract.report.preview")
    module.draw_preview = draw  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "epam_extract.report.preview", module)
    result = run("preview", "v.mp4", "-o", "x.png", "--demo", "--stride", "8", "--crop", "video")
    assert (result.exit_code, result.stdout) == (0, "x.png\n")
    video, out, config = calls[0]
    assert (video, out) == (Path("v.mp4"), Path("x.png"))
    assert (config.windows.stride, config.crop, config.pose.mode) == (8, "video", "bundled")
    assert run("preview", "v.mp4", "-o", "x.png", "--demo", "--pose", "balanced").exit_code == 2


def test_bench_prints_a_table_or_json(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        BenchRow("network", "5-D module", 12.0, "clips/s"),
        BenchRow("network", "fused", 36.0, "clips/s", 3.0, "[float32]"),
    )

    def bench(
        videos: list[str],
        config: ExtractConfig,
        *,
        seconds: float,
        stand_in: bool,
        on_part: Any,
    ) -> Any:
        on_part("network")
        assert (videos, seconds, config.device) == (["a.mp4", "b.mp4"], 5.0, "cpu")
        return BenchReport("two cores", {}, "2026-01-01", "a.mp4", rows, "the network", 4.0)

    module = ModuleType("epam_extract.bench")
    module.run_bench = bench  # type: ignore[attr-defined]
    module.report_json = lambda report: json.dumps(asdict(report))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "epam_extract.bench", module)
    arguments = [
        "bench",
        "--videos",
        "a.mp4",
        "--videos",
        "b.mp4",
        "--seconds",
        "5",
        "--device",
        "cpu",
    ]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "36.0 clips/s" in result.stdout and "3.00x" in result.stdout
    assert "[float32]" in result.stdout and "measuring: network" in result.stderr
    assert json.loads(run(*arguments, "--json").stdout)["rows"][1]["ratio"] == 3.0


def test_version_and_help() -> None:
    assert run("--version").stdout == f"epam-extract {epam_extract.__version__}\n"
    assert run("-h").exit_code == 0
    help_of_extract = run("extract", "--help").stdout
    for heading in ("Weights", "Pose", "Windows", "What is stored", "Speed", "Running again"):
        assert heading in help_of_extract


# --- as a process -------------------------------------------------------------------------------


def test_help_answers_at_once_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import atexit, sys\nheavy = {'torch', 'numpy', 'cv2', 'h5py', 'av', 'decord'}\n"
    code += "atexit.register(lambda: print('heavy:', sorted(heavy & set(sys.modules))))\n" + MAIN
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, "extract", "--help"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, which a busy machine does not stretch as it does the clock's.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    assert done.returncode == 0
    assert "heavy: []" in done.stdout


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    command = f'"{sys.executable}" -c "{MAIN}" extract --help | head -1'
    done = subprocess.run(
        command, shell=True, env=environment(tmp_path), capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""


WAITING = """
import sys, types, time
from pathlib import Path
from epam_extract.cli.summary_report import datasets
from epam_extract.progress.records import BenchReport, BenchRow, Plan, Summary
def extract_features(videos, out, config, *, progress, stop, list_file, segments, overwrite,
                     retry_failed, dry_run, only):
    progress.plan(Plan(1, 1, 0, 0, 10, 1, 1, 10))
    progress.message("waiting")
    while not stop.wait(0.01):
        pass
    if {stubborn}:
        while True:
            time.sleep(0.01)
    return Summary(out, 1, 0, 0, (), 0, 0, 0, 1.0, 0, interrupted=True)
module = types.ModuleType("epam_extract.pipeline.run")
module.extract_features = extract_features
sys.modules["epam_extract.pipeline.run"] = module
sys.argv = ["epam-extract", "videos/", "--out", "f.h5", "--demo"]
from epam_extract.cli import main
main()
"""


def start_waiting(tmp_path: Path, *, stubborn: bool) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.replace("{stubborn}", str(stubborn))],
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "waiting" not in process.stderr.readline():
        assert process.poll() is None
    return process


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_the_run_finish(tmp_path: Path, number: int) -> None:
    process = start_waiting(tmp_path, stubborn=False)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "stopping: finishing" in said
    assert "Interrupted with 1 video to go" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    process = start_waiting(tmp_path, stubborn=True)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.split() == ["interrupted"]


def test_signal_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Stopper() as stopper:
        assert signal.getsignal(signal.SIGINT) != before[0]
        assert not stopper.event.is_set()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["extract", "--help"], ["models", "list"]])
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    code = f"import sys; sys.argv[1:] = {words!r}; from epam_extract.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (0, b"")
    process.stderr.close()


@pytest.mark.slow
def test_a_full_disk_behind_stdout_is_one_sentence() -> None:
    code = (
        "import sys; sys.argv[1:] = ['models', 'list']; from epam_extract.cli import main; main()"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.strip() == "error: the output: No space left on device"


def test_what_nobody_foresaw_is_one_sentence_that_names_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(in_child, "look", broken)
    result = run("info", "f.h5")
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert "ZeroDivisionError: division by zero" in line and "Traceback" not in line
    (log,) = tmp_path.rglob("crash-*.log")
    assert str(log) in line and "in broken" in log.read_text()


@pytest.mark.slow
def test_every_option_that_a_message_names_exists() -> None:
    """Words like --stride in any string of the package are options of some command."""
    known = {"--force-reinstall", "--head", "--help", "--version"}  # of pip, ray and typer

    def collect(command: object) -> None:
        for parameter in command.params:  # type: ignore[attr-defined]
            known.update(parameter.opts)
        for below in getattr(command, "commands", {}).values():
            collect(below)

    collect(typer.main.get_command(app))
    package = Path(epam_extract.__file__).parent
    named = {
        (path.name, word)
        for path in package.rglob("*.py")
        if "demo" not in path.parts and path.parent.name != "bench"  # which runs git
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)
    }
    assert {(name, word) for name, word in named if word not in known} == set()
