"""Read pickles of plain data and numpy arrays without running any code from them.

A pickle is a program that may call whatever it can import. Here it can import only the names that
numpy arrays, dtypes and scalars are pickled with, for numpy 1 and 2. Each of these names stands for
a function of ours that checks its arguments, since numpy's own would accept dtypes with object
pointers or invalid flags.
"""

from __future__ import annotations

import collections
import pickle
import re
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import KeypointsError

PLAIN_DTYPE = re.compile(r"[<>|=]?(?:[biuf][1248]|f16|[?]|[SU]\d{1,9})")
"""Booleans, numbers and strings: dtypes without objects or pointers."""

DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What Python and numpy raise for bytes that are not such a pickle."""


class _Dtype:
    """A dtype being unpickled; only its name and byte order are used."""

    def __init__(self, name: str, _align: object = False, _copy: object = True) -> None:
        if not isinstance(name, str) or not PLAIN_DTYPE.fullmatch(name):
            kind = "Python objects" if name in ("O", "O8", "|O") else f"numpy's {name!r}"
            raise pickle.UnpicklingError(f"holds arrays of {kind}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array being unpickled; numpy fills it once its dtype is known to be plain."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, fortran, content = state
        super().__setstate__((version, shape, _plain(dtype), fortran, content))


def _plain(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    return dtype.dtype


def _reconstruct(_kind: object, _shape: object, _code: object) -> _Array:
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    array = np.frombuffer(content, _plain(dtype))
    if order == "K" and axes is not None:  # stored with its axes in another order
        return array.reshape(shape, order="C").transpose(axes)
    return array.reshape(shape, order=order)


def _scalar(dtype: Any, content: bytes) -> Any:
    return np.frombuffer(content, _plain(dtype), count=1)[0]


def _encode(text: str, _encoding: object = "latin1") -> bytes:
    return text.encode("latin1")  # bytes in pickles before protocol 3


def _no_bytes() -> bytes:
    return b""  # empty bytes in them: the content of an empty array


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,  # only passed to _reconstruct
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"asks for {module}.{name}, which could run code; nothing was run"
            ) from None

    def persistent_load(self, _key: object) -> NoReturn:
        raise pickle.UnpicklingError("refers to data outside itself")


def load_pickle(path: Path) -> Any:
    """Read a pickle of dicts, lists, strings, numbers and numpy arrays of numbers.

    Any protocol, written by Python 2 or 3 and by any version of numpy.

    Raises:
        KeypointsError: it cannot be read, is damaged, or asks for anything else; nothing of it is
            run.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise KeypointsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KeypointsError(f"{path}: no pickle of plain data: {reason}") from error
