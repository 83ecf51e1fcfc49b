"""What was typed, before typer reads it: runs without ``extract``, mistyped commands."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from .outcome import WRONG_USAGE

ADDRESS = re.compile(r"auto|ray://.+|[^/\s]+:\d+")
"""Of a Ray cluster; anything else after ``--ray`` is not its value."""


class DefaultToExtract(TyperGroup):
    """Lets ``epam-extract videos/ --out f.h5`` mean ``epam-extract extract videos/ --out f.h5``.

    And ``--ray`` without an address mean this machine.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in own.union(self.commands):
            if not ctx.resilient_parsing:
                refuse_mistyped(args[0], list(self.commands))
            args = ["extract", *args]
        if "--ray" in args:
            at = args.index("--ray")
            addressed = bool(args[at + 1 :]) and ADDRESS.fullmatch(args[at + 1]) is not None
            args = [*args[: at + 1], *([] if addressed else ["local"]), *args[at + 1 :]]
        return super().parse_args(ctx, args)


def refuse_mistyped(word: str, commands: list[str]) -> None:
    """Exit with status 2 where ``word`` can only be meant as a command; suggest the nearest one."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z-]*", word) or Path(word).exists():
        return  # a path, a pattern, an option: for extract to judge
    near = difflib.get_close_matches(word, ["--help", *commands], n=1)
    hint = f"did you mean {near[0]}?" if near else "see epam-extract --help"
    typer.secho(f"error: there is no command or file {word!r}; {hint}", fg="red", err=True)
    raise typer.Exit(WRONG_USAGE)
