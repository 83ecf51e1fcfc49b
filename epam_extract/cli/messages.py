"""What commands print: one line per message, and one for the error that ends a command."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import platformdirs
import typer

from ..config import ExtractConfig
from ..errors import ConfigError, EpamExtractError
from ..options import flags_of
from .outcome import INTERRUPTED, NOTHING_RAN, status_of, write_json


def say(text: str, *, color: str | None = None, err: bool = False) -> None:
    """Print a sentence on one line, with control characters in names escaped."""
    from ..progress import escaped

    typer.secho(escaped(text), fg=color, err=err)


def note(text: str) -> None:
    """Print a remark on results to stderr."""
    say(f"note: {text}", color="yellow", err=True)


def as_typed(error: EpamExtractError) -> str:
    """The message, with the options it names as they are typed on the command line."""
    named = error.fields if isinstance(error, ConfigError) else ()
    if not named:
        return str(error)
    flags = flags_of(ExtractConfig)
    return re.sub(rf"\b({'|'.join(named)})\b", lambda field: flags[field[1]], str(error))


@contextmanager
def one_line_errors(*, verbose: bool = False, summary_to: str | None = None) -> Iterator[None]:
    """End a command that fails with one line on stderr and the right exit status.

    Errors of this package also go to the JSON file ``summary_to``. ``verbose`` adds tracebacks.
    """
    try:
        yield
    except EpamExtractError as error:
        if verbose and not isinstance(error, ConfigError):
            _trace(error)
        message = as_typed(error)
        say(f"error: {message}", color="red", err=True)
        status = status_of(error)
        if not isinstance(error, ConfigError):
            kind = type(error).__name__
            outcome = {"error": kind, "message": message, "exit_status": status}
            try:
                write_json(summary_to, outcome)
            except EpamExtractError as again:
                typer.secho(f"error: {again}", fg="red", err=True)
        raise typer.Exit(status) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except OSError as error:  # such as `> /dev/full`
        name = error.filename or "the output"
        say(f"error: {name}: {error.strerror or error}", color="red", err=True)
        raise typer.Exit(NOTHING_RAN) from None
    except Exception as error:
        if verbose:
            _trace(error)
        message = (
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}. This is a bug; "
            f"everything committed is safe. {_report_of(error)}"
        )
        say(f"error: {message}", color="red", err=True)
        raise typer.Exit(NOTHING_RAN) from None


def _trace(error: Exception) -> None:
    for line in "".join(traceback.format_exception(error)).splitlines():
        say(line, err=True)


def _report_of(error: Exception) -> str:
    """Write a traceback to a log; return the sentence that says where it is."""
    try:
        folder = platformdirs.user_log_path("epam-extract", appauthor=False, ensure_exists=True)
        report = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        report.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    except OSError:
        return "Run it again with -v to see the traceback, and please report it."
    return f"The traceback is in {report}; please report it."
