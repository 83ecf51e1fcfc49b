"""Pickles of others, read without running anything that they name."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError

BROKEN = (
    *(pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, AttributeError),
    *(LookupError, ImportError, OverflowError, MemoryError, RecursionError, AssertionError),
)
"""What pickle and numpy raise for bytes that are no pickle of arrays."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """What ``_codecs.encode`` does in protocol 2 pickles of bytes; other codecs may do more."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


def _allowed() -> dict[tuple[str, str], Any]:
    """Exactly what pickles of numpy arrays name, by both names of numpy's core."""
    core = np._core if hasattr(np, "_core") else np.core
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _encode,
    }
    functions: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("multiarray", core.multiarray._reconstruct),
        ("multiarray", core.multiarray.scalar),
        ("numeric", core.numeric._frombuffer),
    )
    for module, function in functions:
        for home in ("numpy.core", "numpy._core"):
            allowed[f"{home}.{module}", function.__name__] = function
    return allowed


class _Unpickler(pickle.Unpickler):
    allowed = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which could run code")
        return self.allowed[module, name]


def read_pickle(path: Path) -> Any:
    """Plain Python values and numpy arrays from a pickle; anything else in it is refused.

    Raises:
        ConfigError: it cannot be read, or names something that could run code.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
    except BROKEN as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
        raise ConfigError(
            f"{path}: not read: {reason or type(error).__name__}; expected a pickle of plain "
            "values and numpy arrays"
        ) from error
    if _holds_objects(content):
        raise ConfigError(f"{path}: holds arrays of Python objects; expected arrays of numbers")
    return content


def _holds_objects(content: Any) -> bool:
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            return True
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return False
