"""The ``epam-extract`` command: reads options, calls the library, reports.

Exit status: 0 all done; 1 nothing could be run, or ``verify`` found problems; 2 wrong usage; 3 some
videos failed, or ``check`` found mismatches, and they are listed; 130 interrupted. Messages go to
stderr, results to stdout.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .arguments import DefaultToExtract
from .evaluate import check, classify, probe
from .export import export
from .extract import extract
from .files import info, preview, verify
from .merge import merge
from .report import report
from .streams import lasting_streams
from .tools import bench, models_app, weights_app

__all__ = ["app", "main"]

app = typer.Typer(
    cls=DefaultToExtract,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    subcommand_metavar="VIDEOS... --out FILE | COMMAND",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(extract, info, verify, preview),
    *(export, check, classify, probe, report, merge, bench),
):
    app.command()(_command)
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
    with lasting_streams():
        app()
