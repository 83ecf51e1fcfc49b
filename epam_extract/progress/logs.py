"""Where the package's log goes: to the display, and to a file that may fail without harm."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError
from . import escaped
from .lines import Display

LAYOUT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@contextmanager
def logging_to(display: Display, *, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Send the package's log to the display, from INFO on if ``verbose``, and all to ``log_file``.

    Raises:
        ConfigError: the log file cannot be written.
    """
    screen = _ToDisplay(display)
    screen.setLevel(logging.INFO if verbose else logging.ERROR)
    screen.setFormatter(_Formatter())
    handlers: list[logging.Handler] = [screen]
    if log_file is not None:
        try:
            handlers.append(_LogFile(log_file, display))
        except OSError as error:
            raise ConfigError(f"--log-file {log_file} cannot be written: {error}") from error
        handlers[-1].setFormatter(_Formatter(LAYOUT))
    loggers = [logging.getLogger(name) for name in ("epam_extract", "py.warnings")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    logging.captureWarnings(True)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        for handler in handlers:
            logger.addHandler(handler)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagate
            for handler in handlers:
                logger.removeHandler(handler)
        for handler in handlers:
            handler.close()


class _Formatter(logging.Formatter):
    """One line per message, whatever the names in it are; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return "\n".join(map(escaped, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


class _ToDisplay(logging.Handler):
    """Shows log records, but those of the displays, which are on the screen already."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        if record.name not in ("epam_extract.progress", "epam_extract.progress.lines"):
            self._display.logged(self.format(record))


class _LogFile(logging.FileHandler):
    """Appends to a file; a disk that fails, or is full, costs one warning and the rest of it."""

    def __init__(self, path: Path, display: Display) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._display = display
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self._failed = True
        if self.stream is not None:  # what it holds back must go somewhere
            with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())
        self._display.warning(
            f"--log-file {self.baseFilename} cannot be written ({error.strerror}): "
            "the rest of the log is lost"
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
