"""One tqdm bar over the frames: ``--progress tqdm``."""

from __future__ import annotations

from tqdm.auto import tqdm

from .plain import Display
from .tally import Event
from .units import escaped


class TqdmBar(Display):
    """A bar that is a widget in notebooks."""

    _bar: tqdm | None = None

    def show(self, event: Event) -> None:
        with self.lock:
            if event.name == "plan" and self._bar is None and self.frames_total:
                self._bar = tqdm(total=self.frames_total, unit="frame", file=self.console.file)
            if self._bar is not None and self.planned is not None:
                self._bar.total = self.frames_total
                counts = {"videos": f"{self.done}/{self.planned.to_do}", "failed": self.failed}
                if self.bottleneck:
                    counts["slowest"] = self.bottleneck
                self._bar.set_postfix(counts, refresh=False)
                self._bar.update(self.frames - self._bar.n)
        super().show(event)

    def line(self, text: str, *, style: str = "") -> None:
        with self.lock:
            tqdm.write(escaped(text), file=self.console.file)

    def close(self) -> None:
        with self.lock:
            if self._bar is not None:
                self._bar.close()
                self._bar = None
