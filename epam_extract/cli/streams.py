"""stdin, stdout and stderr that a command can rely on, however it was started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer

from .outcome import DONE, INTERRUPTED, NOTHING_RAN

STDOUT, STDERR = 1, 2  # descriptors


class LastingStderr:
    """stderr that never ends a run: once it is full or closed, further messages are lost."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: closed
            give_up(STDERR)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            give_up(STDERR)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def settle() -> None:
    """Open the streams that are closed, and accept lost messages and names of any bytes.

    The next file to be opened would otherwise get a closed stream's descriptor, and its messages.
    """
    for descriptor in (0, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free: this one
    sys.stdout = sys.stdout or os.fdopen(STDOUT, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(STDERR, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = LastingStderr(sys.stderr)


def give_up(descriptor: int) -> None:
    """Discard what is written there, even when the interpreter exits."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Run a command with settled streams, and exit with the right status if stdout is lost."""
    settle()
    target = os.fstat(STDOUT)
    stdout = sys.stdout
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # as in `| head`
        give_up(STDOUT)
        sys.exit(DONE)
    except OSError as error:
        give_up(STDOUT)
        typer.secho(f"error: the output: {error.strerror}", fg="red", err=True)
        sys.exit(NOTHING_RAN)
    except SystemExit as end:
        # rich or typer met the broken pipe and replaced stdout
        if end.code == NOTHING_RAN and (
            sys.stdout is not stdout or not os.path.samestat(target, os.fstat(STDOUT))
        ):
            sys.exit(DONE)
        raise
