"""``--config FILE``: options from a TOML file, or those that a feature file was made with."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ..config import ExtractConfig
from ..errors import ConfigError
from ..options import flags_of
from .messages import one_line_errors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file begins


def use_file(context: typer.Context, file: Path | None) -> Path | None:
    """Make the options in ``file`` the defaults of this command; typed options override them."""
    if file is not None and not context.resilient_parsing:
        with one_line_errors():
            context.default_map = {
                **(context.default_map or {}),
                **_fitting(_read(file), context.command.params, file),
            }
    return file


def _read(file: Path) -> dict[str, Any]:
    """Options by the name that is typed, without dashes in front, or of the config's field.

    Raises:
        ConfigError: it cannot be read, or is neither TOML nor a feature file.
        StoreError: it is a damaged feature file.
    """
    try:
        content = file.read_bytes() if file.suffix == ".toml" else _beginning(file)
        if content == HDF5:
            return _earlier_run(file)
        return tomllib.loads((content or file.read_bytes()).decode())
    except OSError as error:
        raise ConfigError(f"--config {file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ConfigError(
            f"--config {file}: expected TOML, with lines such as stride = 8 and pose = "
            f"'balanced', or a feature file: {error}"
        ) from error


def _beginning(file: Path) -> bytes:
    """The first bytes of HDF5, or nothing."""
    with file.open("rb") as data:
        start = data.read(len(HDF5))
    return start if start == HDF5 else b""


def _earlier_run(file: Path) -> dict[str, Any]:
    """The options that decided what is in a feature file; a file's name stands for its path."""
    from ..pipeline.installed_weights import list_installed
    from ..store.in_child import look

    stored = look("settings", file)
    options = {name: value for name, value in stored["config"].items() if value is not None}
    options["compile"] = "on" if options.pop("compiled", "") else "off"
    if options.get("grid") == "single":  # which has no use for them
        del options["stride"], options["frame_interval"]
    weights, pose = stored["weights"], stored["pose_source"]
    if "demo" in weights:
        options["demo"] = True
    elif "random_seed" in weights:
        options["random_weights"] = weights["random_seed"]
    else:
        there = {found.sha256: str(found.path) for found in list_installed()}
        parts = {"weights": weights, **{f"{s}_weights": weights.get(s) for s in ("rgb", "pose")}}
        for name, part in parts.items():
            if part:
                options[name] = there.get(part["sha256"], part["file"])
    if pose.get("mode") == "local":
        options["pose_model"] = pose["pose"]["name"]
        if "detector" in pose:
            options["det_model"] = pose["detector"]["name"]
    elif "mode" in pose:
        options["mode"] = pose["mode"]
    if "keypoints" in pose:
        options["keypoints"] = pose["keypoints"]
        options["keypoints_missing"] = "estimate" if "mode" in pose else "fail"
    return options


def _fitting(options: Mapping[str, Any], parameters: list[Any], file: Path) -> dict[str, Any]:
    """The options by parameter, as typer takes them.

    Raises:
        ConfigError: there is no such option, or its value is of another kind.
    """
    typed = {
        option: parameter
        for parameter in parameters
        for option in (*parameter.opts, parameter.name)
        if "--config" not in parameter.opts
    }
    known = {option.lstrip("-").replace("-", "_"): found for option, found in typed.items()}
    flags = flags_of(ExtractConfig).items()
    known |= {field: typed[flag] for field, flag in flags if flag in typed}
    known["videos"] = known["sources"]
    values: dict[str, Any] = {}
    for name, value in options.items():
        parameter = known.get(name.replace("-", "_"))
        if parameter is None:
            near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"--config {file}: there is no option {name}{hint}")
        is_flag = getattr(parameter, "is_flag", False)
        several = parameter.nargs == -1
        if isinstance(value, list) and not several:
            value = ",".join(map(str, value))
        if several and isinstance(value, str):
            value = [value]
        if isinstance(value, bool) != is_flag or isinstance(value, dict):
            kind = "true or false" if is_flag else "a number, a text or a list of texts"
            raise ConfigError(f"--config {file}: {name} must be {kind}, got {value!r}")
        values[parameter.name] = value
    return values
