"""What the commands share: how options look, and how errors end a command."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from ..errors import ConfigError, EpamExtractError

WEIGHTS, POSE, WINDOWS = "Weights", "Pose", "Windows"
STORED, SPEED, AGAIN, SCREEN = "What is stored", "Speed", "Running again", "Screen"
Number = int | None
File = Path | None


def option(panel: str, help: str, *names: str, metavar: str | None = None) -> Any:
    """An option under one of the headings of ``--help``."""
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel=panel)


def flag(panel: str, help: str, *names: str) -> Any:
    """An option without a value."""
    return typer.Option(*names, help=help, metavar=" ", rich_help_panel=panel)


def choice(panel: str, values: tuple[str, ...], help: str = "") -> Any:
    """An option that takes one of ``values``, which the config dataclasses check."""
    text = f"{', '.join(values)}{'; ' if help else ''}{help}."
    return typer.Option(help=text, metavar="NAME", rich_help_panel=panel)


@contextmanager
def one_line_errors(*, verbose: bool = False, summary_to: str | None = None) -> Iterator[None]:
    """Turn what goes wrong on purpose into a line on stderr and an exit status."""
    try:
        yield
    except EpamExtractError as error:
        from ..runner import status_of, write_json

        if verbose and not isinstance(error, ConfigError):
            traceback.print_exc()
        message = " ".join(str(error).splitlines())
        typer.secho(f"error: {message}", fg="red", err=True)
        status = status_of(error)
        if not isinstance(error, ConfigError):
            kind = type(error).__name__
            write_json(summary_to, {"error": kind, "message": message, "exit_status": status})
        raise typer.Exit(status) from None
    except KeyboardInterrupt:
        typer.secho("interrupted", fg="yellow", err=True)
        raise typer.Exit(130) from None
