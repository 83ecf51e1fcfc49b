"""How a command ends: its exit status, and the file of ``--summary-json``."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError, EpamExtractError, MachineError

DONE, NOTHING_RAN, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3
INTERRUPTED = 130  # what a shell calls a process ended by Ctrl-C; SIGTERM counts as Ctrl-C here


def status_of(error: EpamExtractError) -> int:
    """The exit status of a command that an error ended."""
    return WRONG_USAGE if isinstance(error, ConfigError) else NOTHING_RAN


def check_writable(target: str | None) -> None:
    """Check, before hours of work, that :func:`write_json` will be able to write there.

    Raises:
        ConfigError: there is no such folder, it is not writable, or ``target`` is a directory.
    """
    if target in (None, "-"):
        return
    path = Path(str(target))
    in_place = path.exists() and not path.is_file()
    if path.is_dir() or not os.access(path if in_place else path.parent, os.W_OK):
        raise ConfigError(
            f"--summary-json {path} cannot be written: expected a file in an existing "
            "folder that you may write to, or - for stdout"
        )


def write_json(target: str | None, values: Mapping[str, object]) -> None:
    """Write JSON to a file, whole or not at all, or to stdout for ``-``; None writes nothing.

    Anything but a regular file, such as a device or a pipe, is written in place.

    Raises:
        MachineError: it cannot be written.
    """
    if target is None:
        return
    text = json.dumps(values, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path = Path(target)
    try:
        if path.exists() and not path.is_file():
            with open(_open_in_place(path), "w", encoding="utf-8") as file:
                file.write(text)
            return
        path = path.resolve()  # a link stays a link to the written file
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(
            f"--summary-json {target}: cannot be written ({reason}); the features are complete"
        ) from error


def _open_in_place(path: Path) -> int:
    """Open a device or a pipe; raises OSError at once for a pipe without a reader."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(descriptor, True)
    return descriptor
