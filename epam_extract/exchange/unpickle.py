"""Read pickles of arrays from others without running anything that they name.

"numpy and nothing else" is no rule: ``numpy.testing._private.utils.runstring`` lies under numpy and
runs code. The names below, exactly, are what mmaction2's and PYSKL's files need, by numpy 1 and 2.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import KeypointsError


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """What pickles of protocol 2 call ``_codecs.encode`` for; no other codec is used."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not allowed")
    return text.encode("latin1")


_core = np._core if hasattr(np, "_core") else np.core
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): collections.OrderedDict,
}
for _home in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_home}.multiarray", "_reconstruct"] = _core.multiarray._reconstruct
    ALLOWED[f"{_home}.multiarray", "scalar"] = _core.multiarray.scalar
    ALLOWED[f"{_home}.numeric", "_frombuffer"] = _core.numeric._frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which could run code"
            ) from None


def load_pickle(path: Path) -> object:
    """The content of a pickle of plain objects and numeric arrays.

    Raises:
        KeypointsError: it names anything else, holds arrays of objects, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
        _require_numbers(content)
    except Exception as error:  # a pickle can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KeypointsError(f"{path}: this pickle is not read: {reason}") from error
    return content


def _require_numbers(content: object) -> None:
    """Refuse arrays of objects, wherever they are; each object is looked at once."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise pickle.UnpicklingError("it holds an array of objects")
        elif isinstance(value, dict):
            seen.add(id(value))
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            seen.add(id(value))
            waiting += value
