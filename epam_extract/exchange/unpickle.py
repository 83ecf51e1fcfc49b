"""Pickles of plain data and numpy arrays, read without running any code.

A pickle is a program that may call whatever it can import. This one can import only the names
that numpy's arrays, dtypes and scalars are pickled with, under both names of numpy's core, and
each stands here for a function of ours that checks what it is given: numpy's own would take
dtypes with object pointers or made-up flags from the file.
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
"""Booleans, numbers and strings: what needs no object and no pointer."""

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
"""What bytes that are no such pickle make Python and numpy raise."""


class _Dtype:
    """A dtype in the making: of everything a pickle says about it, name and byte order count."""

    def __init__(self, name: str, _align: object = False, _copy: object = True) -> None:
        if not isinstance(name, str) or not PLAIN_DTYPE.fullmatch(name):
            kind = "Python objects" if name in ("O", "O8", "|O") else f"numpy's {name!r}"
            raise pickle.UnpicklingError(f"holds arrays of {kind}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array in the making: numpy fills it, once the dtype is known to be a plain one."""

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
    return text.encode("latin1")  # how pickles older than protocol 3 spell bytes


def _no_bytes() -> bytes:
    return b""  # and how they spell none: the content of an empty array


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,  # only ever handed to _reconstruct
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

    Any protocol, written by Python 2 or 3, by numpy before or after its version 2.

    Raises:
        KeypointsError: it cannot be read, is damaged, or asks for anything else, which is
            not run.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise KeypointsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KeypointsError(f"{path}: no pickle of plain data: {reason}") from error
