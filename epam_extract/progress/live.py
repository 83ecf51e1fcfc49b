"""The live display of a terminal: ``--progress rich``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..options import format_bytes
from .plain import Display
from .units import escaped, format_duration, format_rate

BARS_WIDTH = 72  # of a terminal; a narrower one shows only names and numbers
NAME = {"ratio": 2}  # the first cell of a line about one file,
MARGIN = {"width": 6, "justify": "right"}  # and of one about the run


class LiveDisplay(Display):
    """Bar, speed, time left and the load of each stage. Nothing of it stays on the screen."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(console, quiet=quiet, verbose=verbose)
        self._live = Live(
            get_renderable=self.picture, console=console, refresh_per_second=5, transient=True
        )

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def close(self) -> None:
        self._live.stop()

    def line(self, text: str, *, style: str = "") -> None:
        # Not under self.lock: the refreshing thread takes the console's lock, then ours.
        self.console.print(Text(escaped(text), style=style))

    def picture(self) -> RenderableType:
        """What is on the screen now."""
        narrow = self.console.width < BARS_WIDTH
        with self.lock:
            parts: list[RenderableType] = []
            if self.probing is not None:
                done, total = self.probing
                bar = ProgressBar(total, done)
                parts.append(_line(NAME, "scanning videos", bar, f"{done:,} of {total:,}"))
            for name, (have, size) in self.downloads.items():
                of = " of ".join(format_bytes(n) for n in (have, size) if n is not None)
                bar = ProgressBar(size, have, pulse=size is None)
                parts.append(_line(NAME, Text(f"downloading {name}"), bar, of))
            if self.planned is None and not parts:
                parts.append(Text("starting ...", style="dim"))
            if self.planned is not None and self.planned.to_do:
                parts += [Text(), *(self._narrow_numbers() if narrow else self._numbers())]
                if self.loads:
                    parts += [Text(), self._stages(narrow)]
                parts.append(Text())
            return Group(*parts)

    def _numbers(self) -> list[RenderableType]:
        speed = Text(self.frames_in_words())
        pace, left = self.pace(), self.seconds_left()
        if pace is not None and left is not None:
            speed.append(f"   {format_rate(pace, 'frames')}", style="cyan")
            speed.append(f"   {format_duration(left)} left", style="bold cyan")
        bar = ProgressBar(total=max(1, self.frames_total), completed=self.frames)
        elapsed = f"{format_duration(time.monotonic() - self.started)} so far"
        videos = Text("   ").join([self._videos(), *self._running()])
        return [
            _line(MARGIN, Text(f"{self.share:.0%}", style="bold"), bar, speed),
            _line(MARGIN, "", videos, Text(elapsed, style="dim")),
        ]

    def _narrow_numbers(self) -> list[RenderableType]:
        words = [f"{self.share:.0%}", self.frames_in_words()]
        left = self.seconds_left()
        words += [] if left is None else [f"{format_duration(left)} left"]
        lines = [Text("   ".join(words), style="bold"), self._videos(), *self._running()]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return [*lines]

    def _videos(self) -> Text:
        wanted, before = (self.planned.to_do, self.planned.skipped) if self.planned else (0, 0)
        text = Text.assemble((f"{self.done:,}", "bold green"), f" of {wanted:,} videos done")
        if self.failed:
            text.append(f"   {self.failed:,} failed", style="bold red")
        if before:
            text.append(f"   {before:,} done before", style="dim")
        return text

    def _running(self) -> list[Text]:
        names = escaped(", ".join(self.running))
        return [Text(f"now {names}", style="dim")] if names else []

    def _stages(self, narrow: bool) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        table.add_column(style="bold", no_wrap=True)
        if not narrow:
            table.add_column(width=20)
        table.add_column(justify="right", width=4 if narrow else 10, no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, style="yellow")
        for name, load in self.loads.items():
            slowest = name == self.bottleneck
            style = "yellow" if slowest else "cyan"
            busy = min(1.0, max(0.0, load.busy))
            bar = ProgressBar(1.0, busy, width=20, complete_style=style, finished_style=style)
            table.add_row(
                *((name, f"{busy:.0%}") if narrow else (name, bar, f"{busy:.0%} busy")),
                format_rate(load.rate, load.unit),
                "< bottleneck" if slowest else "",
            )
        return Padding(table, (0, 0, 0, 0 if narrow else 7))


def _line(first: Mapping[str, Any], *cells: RenderableType) -> RenderableType:
    """Three cells: one formatted as ``first`` says, a stretching one, and numbers."""
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(no_wrap=True, overflow="ellipsis", **first)
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    line.add_column(no_wrap=True, justify="right")
    line.add_row(*cells)
    return line
