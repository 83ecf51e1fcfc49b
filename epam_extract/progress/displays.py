"""What the person in front of a running extraction sees, always on stderr.

* ``rich``   a live display for a terminal: bar, speed, time left, how busy each stage is
* ``plain``  a line now and then, for the log of a batch job
* ``tqdm``   one bar, for notebooks
* ``json``   one JSON object a line, for other programs
* ``none``   announcements, warnings and failures only

``auto`` is ``rich`` on a terminal, ``tqdm`` in a notebook and ``plain`` elsewhere.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..config import in_bytes
from ..errors import ConfigError
from ..records import Summary
from . import escaped, in_rate, in_time
from .lines import Display, JsonLines, PlainLines, TqdmBar

BARS_WIDTH = 72  # of a terminal; in a narrower one there are names and numbers alone
KINDS = ("auto", "rich", "plain", "tqdm", "json", "none")


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
    console = Console(
        file=stream or sys.stderr,
        highlight=False,
        force_terminal=True if kind == "rich" else None,
    )
    console.soft_wrap = not console.is_terminal  # a log's lines are not broken, a terminal's are
    if kind == "json":
        return JsonLines(console, quiet=quiet, verbose=verbose)
    if kind == "auto" and not quiet:
        plain = not console.is_terminal or os.environ.get("TERM") == "dumb"
        kind = "tqdm" if console.is_jupyter else "plain" if plain else "rich"
    shown = {"rich": LiveDisplay, "plain": PlainLines, "tqdm": TqdmBar}
    return shown.get(kind, Display)(console, quiet=quiet, verbose=verbose)


class LiveDisplay(Display):
    """The live display of a terminal: ``--progress rich``. It leaves nothing behind."""

    def __init__(self, console: Console, *, quiet: bool = False, verbose: bool = False) -> None:
        super().__init__(console, quiet=quiet, verbose=verbose)
        self._live = Live(
            get_renderable=self.picture, console=console, refresh_per_second=5, transient=True
        )

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def line(self, text: str, *, style: str = "") -> None:
        # Not under self.lock: the refreshing thread takes the console's lock, then ours.
        self.console.print(Text(escaped(text), style=style))

    def finished(self, summary: Summary) -> None:
        super().finished(summary)
        self._live.stop()

    def picture(self) -> RenderableType:
        """What is on the screen now."""
        with self.lock:
            parts: list[RenderableType] = []
            if self.probing is not None:
                done, total = self.probing
                parts.append(_bar("scanning videos", done, total, f"{done:,} of {total:,}"))
            for name, (have, size) in self.downloads.items():
                of = in_bytes(have) if size is None else f"{in_bytes(have)} of {in_bytes(size)}"
                parts.append(_bar(f"downloading {name}", have, size, of))
            if self.planned is None and not parts:
                parts.append(Text("starting ...", style="dim"))
            if self.planned is not None and self.planned.to_do:
                parts.extend([Text(), self._overall(), self._counts()])
                if self.loads:
                    parts.extend([Text(), self._stages()])
                parts.append(Text())
            return Group(*parts)

    @property
    def _narrow(self) -> bool:
        return self.console.width < BARS_WIDTH

    def _overall(self) -> RenderableType:
        pace, left = self.pace(), self.seconds_left()
        if self._narrow:
            words = [f"{self.share:.0%}", self.frames_in_words()]
            words += [] if left is None else [f"{in_time(left)} left"]
            return Text("   ".join(words), style="bold", no_wrap=True, overflow="ellipsis")
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=6, justify="right")
        line.add_column(ratio=1)
        line.add_column(justify="right", no_wrap=True)
        speed = Text(self.frames_in_words())
        if pace is not None and left is not None:
            speed.append("   ").append(in_rate(pace, "frames"), style="cyan")
            speed.append("   ").append(f"{in_time(left)} left", style="bold cyan")
        bar = ProgressBar(total=max(1, self.frames_total), completed=self.frames)
        line.add_row(Text(f"{self.share:.0%}", style="bold"), bar, speed)
        return line

    def _counts(self) -> RenderableType:
        wanted = self.planned.to_do if self.planned else 0
        text = Text()
        text.append(f"{self.done:,}", style="bold green").append(f" of {wanted:,} videos done")
        if self.failed:
            text.append("   ").append(f"{self.failed:,} failed", style="bold red")
        if self.planned and self.planned.skipped:
            text.append("   ").append(f"{self.planned.skipped:,} done before", style="dim")
        if self.running:
            names = escaped(", ".join(self.running))
            text.append("\n" if self._narrow else "   ").append(f"now {names}", style="dim")
        if self._narrow:
            text.no_wrap, text.overflow = True, "ellipsis"
            return text
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=6)
        line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        line.add_column(justify="right", no_wrap=True)
        elapsed = Text(f"{in_time(time.monotonic() - self.started)} so far", style="dim")
        line.add_row("", text, elapsed)
        return line

    def _stages(self) -> RenderableType:
        wide = not self._narrow
        table = Table.grid(padding=(0, 1))
        if wide:
            table.add_column(width=6)
        table.add_column(style="bold", no_wrap=True)
        if wide:
            table.add_column(width=20)
        table.add_column(justify="right", width=10 if wide else 4, no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, style="yellow")
        for name, load in self.loads.items():
            slowest = name == self.bottleneck
            style = "yellow" if slowest else "cyan"
            busy = min(1.0, max(0.0, load.busy))
            bar = ProgressBar(1.0, busy, width=20, complete_style=style, finished_style=style)
            table.add_row(
                *(("", name, bar, f"{busy:.0%} busy") if wide else (name, f"{busy:.0%}")),
                in_rate(load.rate, load.unit),
                "< bottleneck" if slowest else "",
            )
        return table


def _bar(name: str, done: int, total: int | None, words: str) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text(name), ProgressBar(total, done, pulse=total is None), words)
    return line
