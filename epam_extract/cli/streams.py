"""stdin, stdout and stderr as a command may count on them, however it was started."""

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
    """stderr that never ends a run: once it is full, closed or gone, what it is told is lost."""

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
    """Open what was closed by whoever called us, and let stderr and names of any bytes be.

    A closed descriptor would go to the next file that is opened, and messages into that file.
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
    """Let what is written there go nowhere, even at the interpreter's end."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Settle the streams, run a command, and exit as it should where stdout is lost under way."""
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
    except BrokenPipeError:  # as in `| head`: the reader has seen enough
        give_up(STDOUT)
        sys.exit(DONE)
    except OSError as error:
        give_up(STDOUT)
        typer.secho(f"error: the output: {error.strerror}", fg="red", err=True)
        sys.exit(NOTHING_RAN)
    except SystemExit as end:
        # rich, or typer, met the broken pipe and gave up stdout in its own way
        if end.code == NOTHING_RAN and (
            sys.stdout is not stdout or not os.path.samestat(target, os.fstat(STDOUT))
        ):
            sys.exit(DONE)
        raise
