"""Installed weights, and which weights a run uses.

``epam-extract weights add FILE`` checks a checkpoint and copies it into the user's data folder;
the one added last is the default. A run takes its weights from the options, ``$EPAM_WEIGHTS`` or
the installed default, whichever comes first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from ..config import WeightsConfig
from ..errors import ConfigError
from ..records import sha256

log = logging.getLogger(__name__)

VARIABLE = "EPAM_WEIGHTS"
SUFFIXES = (".pth", ".pt", ".safetensors")
WHERE_FROM = (
    "The authors publish theirs in the Google Drive folder named in the README of "
    "github.com/ahmed-nady/Multimodal-Action-Recognition"
)
ADDING = ".adding-"  # files that are being copied
LEFT_OVER_SECONDS = 3600  # after its last byte was written, a copy is taken for abandoned
_DEFAULT = "default.txt"  # in the folder: the file name of the default


@dataclass(frozen=True)
class InstalledWeights:
    """One checkpoint in the user's data folder."""

    path: Path
    size: int
    """Bytes."""
    sha256: str
    default: bool
    """Whether a run without options for weights uses it."""


def weights_folder() -> Path:
    """The folder for installed weights, which need not exist yet."""
    return platformdirs.user_data_path("epam-extract", appauthor=False) / "weights"


def list_installed() -> list[InstalledWeights]:
    """The installed checkpoints, sorted by file name."""
    if not weights_folder().is_dir():
        return []
    chosen = default_weights()
    return [
        InstalledWeights(path, path.stat().st_size, sha256(path), path == chosen)
        for path in sorted(weights_folder().iterdir())
        if path.suffix in SUFFIXES and not path.name.startswith(".")
    ]


def default_weights() -> Path | None:
    """The file that a run without options for weights uses, or None."""
    pointer = weights_folder() / _DEFAULT
    if not pointer.is_file():
        return None
    path = weights_folder() / pointer.read_text(encoding="utf-8").strip()
    return path if path.is_file() else None


def add_weights(source: Path, *, check: Callable[[Path], object]) -> InstalledWeights:
    """Copy a checkpoint into the user's data folder and make it the default.

    ``check`` loads it strictly and raises if it does not fit; then nothing is copied. If there is
    another file of the same name, part of the new one's checksum is added to its name.

    Raises:
        ConfigError: there is no such file, or the folder cannot be written.
    """
    _must_exist(source, "no such file")
    if source.suffix not in SUFFIXES:
        raise ConfigError(
            f"{source}: expected a checkpoint named {', '.join('*' + s for s in SUFFIXES)}"
        )
    check(source)
    digest = sha256(source)
    target = weights_folder() / source.name
    if target.exists() and sha256(target) != digest:
        target = target.with_stem(f"{source.stem}-{digest[:8]}")
    try:
        weights_folder().mkdir(parents=True, exist_ok=True)
        if not target.exists():
            _copy(source, target)
        _write(weights_folder() / _DEFAULT, target.name)
    except OSError as error:
        raise ConfigError(
            f"{weights_folder()} cannot be written ({error.strerror}): nothing was installed. "
            f"Set {VARIABLE}={source} instead, or pass --weights"
        ) from error
    log.info("installed %s as %s", source, target)
    return InstalledWeights(target, target.stat().st_size, digest, True)


def resolve_weights(
    weights: WeightsConfig, *, environ: Mapping[str, str] = os.environ
) -> tuple[WeightsConfig, str]:
    """The weights to use, and which option, variable or default names them.

    Raises:
        ConfigError: no weights are named anywhere, a file does not exist, or the attention's
            weights would be missing.
    """
    if weights.demo:
        return weights, "--demo"
    if weights.random_seed is not None:
        return weights, "--random-weights"
    for option, path in (
        ("--rgb-weights", weights.rgb_file),
        ("--pose-weights", weights.pose_file),
    ):
        if path is not None:
            _must_exist(path, f"{option} names no file")
            _must_have_attention(weights, option)
    if weights.file is not None:
        _must_exist(weights.file, "--weights names no file")
        return weights, "--weights"
    if environ.get(VARIABLE):
        path = Path(environ[VARIABLE]).expanduser()
        _must_exist(path, f"the environment variable {VARIABLE} names no file")
        return replace(weights, file=path), VARIABLE
    chosen = default_weights()
    if chosen is not None:
        return replace(weights, file=chosen), "installed default"
    raise ConfigError(
        f"no EPAM-Net weights: pass --weights FILE, set {VARIABLE}, or install them once with "
        f"'epam-extract weights add FILE'. {WHERE_FROM}. "
        "To try the tool without them: --random-weights SEED, or --demo"
    )


def _must_exist(path: Path, otherwise: str) -> None:
    if not path.is_file():
        kind = "it is a directory" if path.is_dir() else "expected an EPAM-Net checkpoint"
        raise ConfigError(f"{path}: {otherwise}; {kind}")


def _must_have_attention(weights: WeightsConfig, option: str) -> None:
    if weights.file is None:
        raise ConfigError(
            f"{option} names a single-stream checkpoint, which has no attention weights, and the "
            "RGB features of EPAM-Net are guided by its attention. Expected a multimodal "
            f"checkpoint in --weights, alone or together with {option}. {WHERE_FROM}"
        )


def _copy(source: Path, target: Path) -> None:
    """Copy so that ``target`` is either complete or absent; remove what killed copies have left."""
    for left_over in target.parent.glob(f"{ADDING}*"):
        with contextlib.suppress(OSError):
            if left_over.stat().st_mtime < time.time() - LEFT_OVER_SECONDS:
                left_over.unlink()
    temporary = target.with_name(f"{ADDING}{secrets.token_hex(8)}{target.suffix}")
    try:
        with temporary.open("xb") as out, source.open("rb") as data:  # its mode follows the umask
            shutil.copyfileobj(data, out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
