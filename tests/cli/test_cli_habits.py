"""What people type by habit: mistyped commands, completion, options from a file, from outside."""

from __future__ import annotations

import builtins
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import CONTENTS, MAIN, environment, here, run
from command_line import StandInRun as Pipeline
from make_videos import write_video

import epam_extract
from epam_extract.cli.info_table import info_report
from epam_extract.config import ExtractConfig, PoseConfig, WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.pipeline import installed_weights
from epam_extract.progress import displays
from epam_extract.progress.records import Plan, StageLoad
from epam_extract.store import StoreHeader, StoreWriter
from epam_extract.store import verify as verify_module


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("inf f.h5", "did you mean info?"),
        ("extrat videos/ --out f.h5 --demo", "did you mean extract?"),
        ("verfy f.h5", "did you mean verify?"),
        ("help", "did you mean --help?"),
        ("nonsense --out f.h5", "see epam-extract --help"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_near_one(
    pipeline: Pipeline,
    typed: str,
    answer: str,
) -> None:
    result = run(*typed.split())
    assert result.exit_code == 2
    assert answer in result.stderr and repr(typed.split()[0]) in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not pipeline.calls


def test_a_folder_named_like_a_command_is_a_source(
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inf").mkdir()
    assert run("inf", "--out", "f.h5", "--demo").exit_code == 0
    assert pipeline.calls[-1]["videos"] == ["inf"]


def test_the_short_form_of_version() -> None:
    assert run("-V").stdout == f"epam-extract {epam_extract.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("epam-extract inf", "info"),
        ("epam-extract videos/ --out f.h5 --strid", "--stride"),
        ("epam-extract videos/ --out f.h5 --pose rtmo-b", "rtmo-balanced"),
        ("epam-extract nonsense --overwr", "--overwrite"),
    ],
)
def test_the_shell_completes(tmp_path: Path, line: str, found: str) -> None:
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env={**environment(tmp_path), "_EPAM_EXTRACT_COMPLETE": "complete_bash", **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == ([found], "")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "feats.PT"])
def test_another_kind_of_output_is_refused(pipeline: Pipeline, name: str) -> None:
    result = run("videos/", "--out", name, "--demo")
    assert result.exit_code == 2 and not pipeline.calls
    assert f"name it {Path(name).stem}.h5" in result.stderr and "export" in result.stderr


# --- narrow terminals ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [46, 60, 80, 120])
def test_names_stay_readable_in_narrow_tables(width: int) -> None:
    stream = io.StringIO()
    videos = [{**CONTENTS["videos"][0], "id": "morning_0012"}]
    report = info_report({**CONTENTS, "videos": videos})
    displays.Console(file=stream, width=width).print(report)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    row = next(line.split() for line in lines if "morning_0012" in line)
    assert row[1] == "12"  # windows
    assert ("25" in row) == (width >= 90)


@pytest.mark.parametrize("width", [46, 60, 80])
def test_names_stay_readable_in_a_narrow_live_display(width: int) -> None:
    stream = io.StringIO()
    console = displays.Console(file=stream, width=width)
    display = displays.LiveDisplay(console)
    display.plan(Plan(20, 18, 2, 0, 4000, 250, 10_000_000, 10_000_000_000))
    display.video_started("kitchen/0012", 500)
    display.advance(500)
    display.stages({name: StageLoad(92.0, 0.7) for name in ("read", "pose", "network")})
    stream.seek(0)
    stream.truncate()
    console.print(display.picture())
    picture = stream.getvalue()
    for part in ("500 of 4,000 frames", "kitchen/0012", "read", "pose", "network", "bottleneck"):
        assert part in picture
    assert max(map(len, picture.splitlines())) <= width


# --- verify --json ------------------------------------------------------------------------------


def test_verify_answers_in_json(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here(monkeypatch)
    problems = [verify_module.Problem("b", "has changed", "rgb_pooled")]
    monkeypatch.setattr(verify_module, "verify", lambda path, *, videos: list(problems))
    monkeypatch.setattr(verify_module, "uncovered", lambda path: 0)
    monkeypatch.setattr(verify_module, "repair", lambda path, found: [p.video_id for p in found])
    result = run("verify", "f.h5", "--json")
    answer = json.loads(result.stdout)
    assert result.exit_code == 1 and (answer["left"], answer["dropped"]) == (1, [])
    assert answer["problems"][0]["video_id"] == "b"
    result = run("verify", "f.h5", "--json", "--repair")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and (answer["left"], answer["dropped"]) == (0, ["b"])
    problems.clear()
    assert json.loads(run("verify", "f.h5", "--json").stdout)["problems"] == []


# --- options from a file ------------------------------------------------------------------------

TOML = """
videos = ["a/", "b/"]
out = "f.h5"
demo = true
stride = 8
det-every = 5
features = ["pooled", "tokens"]
device = "cpu"
"""


def test_options_come_from_toml_and_the_command_line_goes_first(
    pipeline: Pipeline,
    tmp_path: Path,
) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    result = run("--config", tmp_path / "run.toml")
    assert result.exit_code == 0, result.stderr
    call, config = pipeline.calls[-1], pipeline.config
    assert (call["videos"], call["out"]) == (["a/", "b/"], Path("f.h5"))
    assert (config.windows.stride, config.pose.det_every, config.device) == (8, 5, "cpu")
    assert config.weights.demo and config.features == ("pooled", "tokens")
    result = run("c/", "--config", tmp_path / "run.toml", "--stride", "4", "--out", "g.h5")
    assert result.exit_code == 0, result.stderr
    assert pipeline.calls[-1]["videos"] == ["c/"]
    assert (pipeline.config.windows.stride, pipeline.config.pose.det_every) == (4, 5)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("strid = 8", "there is no option strid; did you mean stride?"),
        ("stride = true", "stride must be a number, a text or a list of texts, got True"),
        ("demo = 'yes'", "demo must be true or false, got 'yes'"),
        ("[windows]\nstride = 8", "there is no option windows"),
        ("stride: 8", "expected TOML"),
        ("config = 'x.toml'", "there is no option config"),
        ("stride = 'x'", "--stride"),
        ("pose = 'balancd'", "pose must be one of"),
        ("grid = 'single'\nstride = 8", "leave out --stride"),
        ("demo = true\npose-model = 'x.onnx'", "contradict each other"),
    ],
)
def test_a_wrong_line_in_toml_is_explained(
    pipeline: Pipeline,
    tmp_path: Path,
    text: str,
    answer: str,
) -> None:
    (tmp_path / "run.toml").write_text(text)
    result = run("videos/", "--out", "f.h5", "--config", tmp_path / "run.toml")
    assert result.exit_code == 2 and not pipeline.calls
    assert answer in result.stderr and "Traceback" not in result.stderr


def test_a_config_file_that_is_not_there_is_named(pipeline: Pipeline, tmp_path: Path) -> None:
    result = run("videos/", "--out", "f.h5", "--config", tmp_path / "no.toml")
    assert result.exit_code == 2
    assert "no.toml: cannot be read: No such file" in result.stderr


EARLIER = ExtractConfig(
    windows=WindowConfig(grid="valid", stride=8, frame_interval=2),
    pose=PoseConfig(det_score=0.4, keypoint_score=0.1, max_persons=2, det_every=3),
    compression="lzf",
    features=("pooled", "tokens"),
    precision="float32",
    stored_dtype="f32",
    crop="video",
)
POSE_SOURCE: dict[str, Any] = {"mode": "bundled", "demo": True}


def made_with(folder: Path, weights: dict[str, object], pose: dict[str, Any]) -> Path:
    """A feature file of an earlier run with the options ``EARLIER``."""
    path = folder / "earlier.h5"
    identity = {**EARLIER.identity(), "compiled": "native"}
    with StoreWriter(path, StoreHeader(identity, weights, pose)) as store:
        store.commit()
    return path


@pytest.mark.slow
def test_options_come_from_an_earlier_feature_file(
    pipeline: Pipeline,
    tmp_path: Path,
) -> None:
    file = made_with(tmp_path, {"demo": True, "random_seed": 0}, POSE_SOURCE)
    result = run("videos/", "--out", "f.h5", "--config", file)
    assert result.exit_code == 0, result.stderr
    config = pipeline.config
    assert config.identity() == EARLIER.identity()
    assert config.pose.mode == "bundled" and config.weights.demo and config.compile == "on"
    result = run("videos/", "--out", "f.h5", "--config", file, "--stride", "4", "--crop", "window")
    assert result.exit_code == 0, result.stderr
    assert (pipeline.config.windows.stride, pipeline.config.crop) == (4, "window")


@pytest.mark.slow
def test_weights_of_an_earlier_run_are_found_by_their_checksum(
    pipeline: Pipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "renamed.pth").write_bytes(b"weights")
    there = installed_weights.add_weights(tmp_path / "renamed.pth", check=lambda path: None)
    weights: dict[str, object] = {"file": "epam.pth", "sha256": there.sha256}
    local = {"mode": "local", "pose": {"name": "p.onnx"}, "detector": {"name": "d.onnx"}}
    file = made_with(tmp_path, weights, local)
    result = run("videos/", "--out", "f.h5", "--config", file)
    assert result.exit_code == 0, result.stderr
    assert pipeline.config.weights.file == there.path
    assert pipeline.config.pose.pose_model == Path("p.onnx")
    there.path.unlink()
    result = run("videos/", "--out", "f.h5", "--config", file)
    assert result.exit_code == 2 and "epam.pth: --weights names no file" in result.stderr


# --- options from outside -----------------------------------------------------------------------


def test_a_site_sets_options_by_environment(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("DEVICE", "cpu"), ("WORKERS", "3"), ("DECODER", "pyav")):
        monkeypatch.setenv(f"EPAM_{name}", value)
    run("videos/", "--out", "f.h5", "--demo")
    config = pipeline.config
    assert (config.device, config.workers, config.decoder) == ("cpu", 3, "pyav")
    run("videos/", "--out", "f.h5", "--demo", "--workers", "1")
    assert pipeline.config.workers == 1
    shown = run("extract", "--help").stdout
    assert all(f"EPAM_{name}" in shown for name in ("WEIGHTS", "DEVICE", "WORKERS", "DECODER"))


# --- a notebook ---------------------------------------------------------------------------------


def test_auto_is_one_bar_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    assert isinstance(displays.open_progress(stream=io.StringIO()), displays.TqdmBar)


def test_the_library_shows_progress_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", frames=20)
    summary = epam_extract.extract_features(
        tmp_path, tmp_path / "f.h5", dry_run=True, progress="plain"
    )
    assert summary.videos == 1 and "1 video to do: 20 frames" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="--progress must be one of"):
        epam_extract.extract_features(tmp_path, tmp_path / "f.h5", progress="loud")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
