"""Commands made from records: each option reaches its field, and help shows the field's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from command_line import StandInRun as Pipeline
from command_line import here, run
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.cli.command import Only, command
from epam_extract.cli.messages import as_typed
from epam_extract.config import ExtractConfig, PoseConfig, WeightsConfig, WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.exchange.formats import FORMATS
from epam_extract.options import flags_of, options_of
from epam_extract.progress.displays import KINDS


def parameters_of(name: str) -> dict[str, Any]:
    found = typer.main.get_command(app).commands[name].params  # type: ignore[attr-defined]
    return {parameter.opts[0]: parameter for parameter in found}


def test_extract_has_every_option_of_the_config() -> None:
    parameters = parameters_of("extract")
    for config in (WindowConfig, PoseConfig, WeightsConfig, ExtractConfig):
        for field, option in options_of(config).items():
            parameter = parameters[option.flag(field)]
            assert parameter.help == option.sentence
            assert parameter.envvar == option.variable
            default = getattr(config, field)
            written = option.text is not None and default is not None
            assert parameter.default == (option.text.write(default) if written else default)


@pytest.mark.parametrize(
    ("name", "others"),
    [("preview", {"--out", "video"}), ("bench", {"--videos", "--seconds", "--stand-in", "--json"})],
)
def test_other_commands_share_options_and_have_no_more(name: str, others: set[str]) -> None:
    mine, full = parameters_of(name), parameters_of("extract")
    shared = set(mine) - others - {"--help"}
    assert shared <= set(flags_of(ExtractConfig).values())
    for flag in shared:
        assert mine[flag].help == full[flag].help
    assert parameters_of("bench")["--pose"].default == "bundled"


@dataclass(frozen=True)
class Place:
    """A record of a command, with typer's own annotations."""

    folder: Annotated[Path, typer.Option("--folder", "-f")]
    depth: int = 3


def invoke(function: Any, *typed: str) -> Any:
    single = typer.Typer()
    single.command()(command(function))
    return CliRunner().invoke(single, list(typed))


def test_a_command_is_called_with_its_records() -> None:
    seen = []

    def walk(
        name: str,
        *,
        place: Place,
        config: Annotated[ExtractConfig, Only("grid device", defaults=(("grid", "valid"),))],
    ) -> None:
        seen.append((name, place, config))

    assert invoke(walk, "a", "-f", "b").exit_code == 0
    assert invoke(walk, "a", "--folder", "b", "--depth", "1", "--device", "cpu").exit_code == 0
    windows = WindowConfig(grid="valid")
    assert seen == [
        ("a", Place(Path("b")), ExtractConfig(windows=windows)),
        ("a", Place(Path("b"), 1), ExtractConfig(windows=windows, device="cpu")),
    ]
    assert invoke(walk, "a").exit_code == 2  # --folder is required
    assert invoke(walk, "a", "-f", "b", "--crop", "video").exit_code == 2  # not among its options


def test_an_option_that_is_none_is_a_mistake_in_the_code() -> None:
    def walk(config: Annotated[ExtractConfig, Only("grid devise")]) -> None: ...

    with pytest.raises(ValueError, match="devise"):
        command(walk)


def test_an_error_of_the_library_names_what_was_typed() -> None:
    error = ConfigError("file, rgb_file and pose_model of a file", "rgb_file", "pose_model")
    assert as_typed(error) == "file, --rgb-weights and --pose-model of a file"
    assert as_typed(ConfigError("stride of file")) == "stride of file"


def test_a_config_file_may_name_the_fields_of_the_config(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    lines = "stored_dtype = 'f32'\nmode = 'lightweight'\nrandom_seed = 3\nmax-memory = '1GB'\n"
    (tmp_path / "run.toml").write_text(lines)
    result = run("videos/", "--out", "f.h5", "--config", tmp_path / "run.toml")
    assert result.exit_code == 0, result.stderr
    config = pipeline.config
    assert (config.stored_dtype, config.pose.mode) == ("f32", "lightweight")
    assert (config.weights.random_seed, config.max_memory) == (3, 10**9)


@pytest.mark.parametrize("name", ["info", "verify"])
def test_a_reader_is_not_told_to_choose_an_output(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(monkeypatch)
    (tmp_path / "text.h5").write_text("text")
    result = run(name, tmp_path / "text.h5")
    assert result.exit_code == 1
    assert "is not an HDF5 file; expected a feature file" in result.stderr


def test_help_names_what_modules_that_load_later_accept() -> None:
    assert all(kind in parameters_of("extract")["--progress"].help for kind in KINDS)
    assert all(form in parameters_of("export")["--to"].help for form in FORMATS)
