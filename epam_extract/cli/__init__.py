"""The ``epam-extract`` command: reads options, calls the library, reports.

Exit status: 0 all done; 1 nothing could be run, or ``verify`` found something wrong; 2 wrong usage;
3 some videos failed, or ``check`` found something, and they are listed; 130 interrupted. What a run
says goes to stderr, what a command was asked for goes to stdout.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from .evaluate import check, classify, probe
from .export import export
from .extract import extract
from .files import info, preview, verify
from .merge import merge
from .report import report
from .streams import STDOUT, give_up, settle
from .tools import bench, models_app, weights_app

__all__ = ["app", "main"]


class DefaultToExtract(TyperGroup):
    """Lets ``epam-extract videos/ --out f.h5`` mean ``epam-extract extract videos/ --out f.h5``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in own.union(self.commands):
            if not ctx.resilient_parsing:
                refuse_mistyped(args[0], list(self.commands))
            args = ["extract", *args]
        return super().parse_args(ctx, args)


def refuse_mistyped(word: str, commands: list[str]) -> None:
    """End with status 2 where ``word`` can only be meant as a command, and name the near one."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z-]*", word) or Path(word).exists():
        return  # a path, a pattern, an option: for extract to judge
    near = difflib.get_close_matches(word, ["--help", *commands], n=1)
    hint = f"did you mean {near[0]}?" if near else "see epam-extract --help"
    typer.secho(f"error: there is no command or file {word!r}; {hint}", fg="red", err=True)
    raise typer.Exit(2)


app = typer.Typer(
    cls=DefaultToExtract,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    subcommand_metavar="VIDEOS... --out FILE | COMMAND",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(extract)
app.command()(info)
app.command()(verify)
app.command()(preview)
app.command()(export)
app.command()(check)
app.command()(classify)
app.command()(probe)
app.command()(report)
app.command()(merge)
app.command()(bench)
app.add_typer(weights_app, name="weights", invoke_without_command=True)
app.add_typer(models_app, name="models")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"epam-extract {__version__}")
        raise typer.Exit


@app.callback()
def everything(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            metavar=" ",
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Extract EPAM-Net features from a folder of videos into one resumable HDF5 file.

    [bold]epam-extract videos/ --out feats.h5 --demo[/] tries the tool without weights.

    [bold]epam-extract weights add FILE[/] installs the authors' weights, and from then on
    [bold]epam-extract videos/ --out feats.h5[/] is all you need.

    [bold]epam-extract extract --help[/] lists all options.
    """


def main() -> None:
    """Entry point of the ``epam-extract`` command."""
    settle()
    target = os.fstat(STDOUT)
    stdout = sys.stdout
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as in `| head`: the reader has seen enough
        give_up(STDOUT)
        sys.exit(0)
    except OSError as error:
        give_up(STDOUT)
        typer.secho(f"error: the output: {error.strerror}", fg="red", err=True)
        sys.exit(1)
    except SystemExit as end:
        # rich, or typer, met the broken pipe and gave up stdout in its own way
        if end.code == 1 and (
            sys.stdout is not stdout or not os.path.samestat(target, os.fstat(STDOUT))
        ):
            sys.exit(0)
        raise
