"""Weights in the user's data folder, and which weights a run takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from epam_extract.config import WeightsConfig
from epam_extract.errors import CheckpointError, ConfigError
from epam_extract.pipeline import installed_weights
from epam_extract.pipeline.installed_weights import (
    VARIABLE,
    add_weights,
    default_weights,
    resolve_weights,
    weights_folder,
)


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(
        installed_weights.platformdirs,
        "user_data_path",
        lambda *_, **__: tmp_path / "data of a user",
    )
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "data of a user" / "weights"


def make(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def fine(path: Path) -> None:
    assert path.is_file()


def test_nothing_is_installed_at_first() -> None:
    assert installed_weights.list_installed() == []
    assert default_weights() is None


def test_what_is_added_last_is_the_default(tmp_path: Path) -> None:
    first = add_weights(make(tmp_path / "a.pth", b"first"), check=fine)
    second = add_weights(make(tmp_path / "größe 2.safetensors", b"second"), check=fine)
    assert [(one.path, one.default) for one in installed_weights.list_installed()] == [
        (first.path, False),
        (second.path, True),
    ]
    assert default_weights() == second.path
    assert second.path.read_bytes() == b"second"
    add_weights(tmp_path / "a.pth", check=fine)
    assert default_weights() == first.path


def test_another_file_of_the_same_name_stays(tmp_path: Path) -> None:
    first = add_weights(make(tmp_path / "one" / "epam.pth", b"first"), check=fine)
    second = add_weights(make(tmp_path / "two" / "epam.pth", b"second"), check=fine)
    assert first.path.read_bytes() == b"first"
    assert second.path.name == f"epam-{second.sha256[:8]}.pth"
    assert len(installed_weights.list_installed()) == 2


def test_a_checkpoint_that_does_not_fit_leaves_nothing_behind(
    tmp_path: Path, data_folder: Path
) -> None:
    def refuse(path: Path) -> None:
        raise CheckpointError(f"{path.name}: 3 tensors missing")

    with pytest.raises(CheckpointError, match="3 tensors missing"):
        add_weights(make(tmp_path / "other.pth"), check=refuse)
    assert not data_folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_what_is_installed_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        done = add_weights(make(tmp_path / "a.pth"), check=fine)
    finally:
        os.umask(before)
    assert done.path.stat().st_mode & 0o777 == mode


def test_what_a_killed_copy_left_is_removed_in_time(tmp_path: Path, data_folder: Path) -> None:
    old = make(data_folder / f"{installed_weights.ADDING}old.pth")
    new = make(data_folder / f"{installed_weights.ADDING}new.pth")  # somebody else is at it
    os.utime(old, (0, 0))
    add_weights(make(tmp_path / "a.pth"), check=fine)
    assert not old.exists()
    assert new.exists()
    assert [one.path.name for one in installed_weights.list_installed()] == ["a.pth"]


def test_a_killed_copy_installs_nothing_and_is_begun_again(
    tmp_path: Path, data_folder: Path
) -> None:
    source = make(tmp_path / "a.pth", b"0123456789" * 1000)
    code = """
import os, signal, sys
from pathlib import Path
from epam_extract.pipeline import installed_weights
def half(data, out):
    out.write(data.read()[:5000])
    out.flush()
    os.kill(os.getpid(), signal.SIGKILL)
installed_weights.shutil.copyfileobj = half
installed_weights.platformdirs.user_data_path = lambda *_, **__: Path(sys.argv[1])
installed_weights.add_weights(Path(sys.argv[2]), check=print)
"""
    command = [sys.executable, "-c", code, str(data_folder.parent), str(source)]
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=where, stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = data_folder.iterdir()
    assert left.stat().st_size == 5000
    assert installed_weights.list_installed() == [] and default_weights() is None
    added = add_weights(source, check=fine)
    assert added.path.read_bytes() == source.read_bytes()
    assert (
        [one.path for one in installed_weights.list_installed()]
        == [added.path]
        == [default_weights()]
    )


def test_a_copy_that_breaks_off_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(installed_weights.shutil, "copyfileobj", full)
    with pytest.raises(ConfigError, match=r"No space left on device.*nothing was installed"):
        add_weights(make(tmp_path / "a.pth"), check=fine)
    assert list(weights_folder().iterdir()) == []
    assert default_weights() is None


@pytest.mark.parametrize("name", ["missing.pth", "folder", "notes.txt"])
def test_what_is_no_checkpoint_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    make(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match=name):
        add_weights(tmp_path / name, check=fine)


def test_the_order_is_option_then_variable_then_installed(tmp_path: Path) -> None:
    option, variable = make(tmp_path / "option.pth"), make(tmp_path / "variable.pth")
    kept = add_weights(make(tmp_path / "kept.pth"), check=fine).path
    environ = {VARIABLE: str(variable)}
    assert resolve_weights(WeightsConfig(file=option), environ=environ) == (
        WeightsConfig(file=option),
        "--weights",
    )
    assert resolve_weights(WeightsConfig(), environ=environ) == (
        WeightsConfig(file=variable),
        VARIABLE,
    )
    assert resolve_weights(WeightsConfig(), environ={VARIABLE: ""})[0].file == kept
    assert resolve_weights(WeightsConfig(), environ={}) == (
        WeightsConfig(file=kept),
        "installed default",
    )
    assert resolve_weights(WeightsConfig(random_seed=3), environ=environ)[0].file is None
    assert resolve_weights(WeightsConfig(demo=True), environ=environ)[0].file is None


def test_no_weights_anywhere_says_where_to_get_them_and_how_to_try() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_weights(WeightsConfig(), environ={})
    for part in (
        "Google Drive",
        "github.com/ahmed-nady/Multimodal-Action-Recognition",
        "--random-weights SEED",
        "--demo",
        "epam-extract weights add FILE",
        VARIABLE,
    ):
        assert part in str(caught.value)


def test_files_that_are_not_there_are_named_with_who_named_them(tmp_path: Path) -> None:
    missing = tmp_path / "missing.pth"
    with pytest.raises(ConfigError, match=r"missing\.pth: --weights names no file"):
        resolve_weights(WeightsConfig(file=missing), environ={})
    with pytest.raises(ConfigError, match=r"missing\.pth: the environment variable EPAM_WEIGHTS"):
        resolve_weights(WeightsConfig(), environ={VARIABLE: str(missing)})
    with pytest.raises(ConfigError, match=r"--rgb-weights names no file"):
        resolve_weights(WeightsConfig(file=make(tmp_path / "a.pth"), rgb_file=missing), environ={})


def test_single_streams_without_attention_are_refused_even_with_a_default(tmp_path: Path) -> None:
    add_weights(make(tmp_path / "kept.pth"), check=fine)
    stream = make(tmp_path / "rgb.pth")
    with pytest.raises(ConfigError, match=r"--rgb-weights .* no attention weights.*--weights"):
        resolve_weights(WeightsConfig(rgb_file=stream), environ={})
    both = WeightsConfig(file=make(tmp_path / "a.pth"), pose_file=stream)
    assert resolve_weights(both, environ={})[0] == both


def test_a_default_that_was_deleted_is_no_default(tmp_path: Path) -> None:
    add_weights(make(tmp_path / "a.pth"), check=fine).path.unlink()
    assert default_weights() is None
    assert installed_weights.list_installed() == []
