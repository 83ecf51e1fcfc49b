"""Where the package's log goes: to the display, and to a file that may fail without harm."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError
from .plain import Display
from .units import escaped

LAYOUT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


@contextmanager
def logging_to(display: Display, *, verbose: bool, log_file: Path | None) -> Iterator[None]:
    """Send the package's log to the display, from INFO on if ``verbose``, and all to ``log_file``.

    Raises:
        ConfigError: the log file cannot be written.
    """
    handlers: list[logging.Handler] = [_ToDisplay(display)]
    handlers[0].setLevel(logging.INFO if verbose else logging.ERROR)
    if log_file is not None:
        try:
            handlers.append(_LogFile(log_file, display))
        except OSError as error:
            raise ConfigError(f"--log-file {log_file} cannot be written: {error}") from error
    with ExitStack() as stack:
        stack.callback(logging.captureWarnings, False)
        logging.captureWarnings(True)
        for handler in handlers:
            stack.callback(handler.close)
        for name in ("epam_extract", "py.warnings"):
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            stack.callback(setattr, logger, "propagate", logger.propagate)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            for handler in handlers:
                stack.callback(logger.removeHandler, handler)
                logger.addHandler(handler)
        yield


class _Formatter(logging.Formatter):
    """One line per message, whatever the names in it are; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        return "\n".join(map(escaped, super().formatException(ei).split("\n")))  # type: ignore[arg-type]


class _ToDisplay(logging.Handler):
    """Shows log records, except those of the displays, which are on the screen already."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("epam_extract.progress"):
            self._display.logged(self.format(record))


class _LogFile(logging.FileHandler):
    """Appends to a file; if the disk is full or fails, warns once and drops the rest."""

    def __init__(self, path: Path, display: Display) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(_Formatter(LAYOUT))
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
        self.close()
        self._display.warning(
            f"--log-file {self.baseFilename} cannot be written ({error.strerror}): "
            "the rest of the log is lost"
        )

    def close(self) -> None:
        with suppress(OSError):
            super().close()
