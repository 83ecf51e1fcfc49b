"""The displays; ``auto`` is rich on a terminal, tqdm in a notebook and plain elsewhere."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console

from ..errors import ConfigError
from .json_lines import JsonLines
from .live import LiveDisplay
from .plain import Display, PlainLines
from .tqdm_bar import TqdmBar

DISPLAYS = {
    "rich": LiveDisplay,
    "plain": PlainLines,
    "tqdm": TqdmBar,
    "json": JsonLines,
    "none": Display,
}
KINDS = ("auto", *DISPLAYS)


def open_progress(
    kind: str = "auto", *, quiet: bool = False, verbose: bool = False, stream: TextIO | None = None
) -> Display:
    """Make the display called ``kind``; enter it before the run and leave it after.

    ``quiet`` leaves warnings and failures only; ``verbose`` adds a line for every finished video.
    ``stream`` is stderr unless given.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"--progress must be one of {', '.join(KINDS)}, got {kind!r}")
    forced = True if kind == "rich" else None
    console = Console(file=stream or sys.stderr, highlight=False, force_terminal=forced)
    console.soft_wrap = not console.is_terminal  # a log's lines are not broken, a terminal's are
    if kind == "auto":
        plain = not console.is_terminal or os.environ.get("TERM") == "dumb"
        shown = "tqdm" if console.is_jupyter else "plain" if plain else "rich"
        kind = "none" if quiet else shown
    return DISPLAYS[kind](console, quiet=quiet, verbose=verbose)
