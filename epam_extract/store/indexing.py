"""What an index such as ``[10]`` or ``[2:8, ..., ::-1]`` selects of an array, and where that lies.

numpy's basic indexing is brought into the form that HDF5 reads: per axis a number or an ascending
slice. Reversing and adding axes happen after the reading.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Axis = int | slice


@dataclass(frozen=True)
class Selection:
    """What to read of an array, and how to index the result."""

    axes: tuple[Axis, ...]
    """For each axis a number >= 0, or a slice with start, stop and step >= 0."""
    after: tuple[slice | None, ...]
    """Index of what was read, which reverses it and adds axes."""
    shape: tuple[int, ...]
    """Of what is read, before ``after`` is applied."""


def select(key: object, shape: tuple[int, ...]) -> Selection:
    """What a basic index selects of an array of this shape.

    Raises IndexError if a number is out of bounds, or there are too many.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    if used > len(shape):
        raise IndexError(f"too many indices: the array has {len(shape)} axes, {used} were indexed")
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    at = next(number for number, part in enumerate(parts) if part is Ellipsis)
    parts[at : at + 1] = [slice(None)] * (len(shape) - used)
    if any(part is Ellipsis for part in parts):
        raise IndexError("an index can only have a single ellipsis ('...')")
    axes: list[Axis] = []
    after: list[slice | None] = []
    left: list[int] = []
    for part in parts:
        if part is None:
            after.append(None)
            continue
        length = shape[len(axes)]
        if isinstance(part, slice):
            axis, turn = _ascending(part, length)
            left.append(len(range(axis.start, axis.stop, axis.step)))
            axes.append(axis)
            after.append(turn)
        else:
            axes.append(_number(part, length, len(axes)))
    return Selection(tuple(axes), tuple(after), tuple(left))


def is_basic(part: object) -> bool:
    """Whether this is a number, a slice, ``...`` or ``None``."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return True
    return isinstance(part, int | np.integer) and not isinstance(part, bool)


def _number(part: object, length: int, axis: int) -> int:
    number = operator.index(part)  # type: ignore[arg-type]
    if not -length <= number < length:
        raise IndexError(f"index {number} is out of bounds for axis {axis} with size {length}")
    return number % length


def _ascending(part: slice, length: int) -> tuple[slice, slice]:
    """The same elements in ascending order, and the slice that restores their order."""
    chosen = range(length)[part]
    if not chosen:
        return slice(0, 0, 1), slice(None)
    if chosen.step > 0:
        return slice(chosen.start, chosen.stop, chosen.step), slice(None)
    return slice(chosen[-1], chosen[0] + 1, -chosen.step), slice(None, None, -1)


def contiguous_start(axes: Sequence[Axis], shape: Sequence[int]) -> int | None:
    """C-order index of the first selected element if the selection is contiguous, else None."""
    start, step = 0, math.prod(shape)
    open_end = False  # whether an earlier axis was cut: the later ones must be whole
    for axis, length in zip(axes, shape, strict=True):
        step //= length or 1
        if isinstance(axis, slice):
            whole = axis == slice(0, length, 1)
            if axis.step != 1 or (open_end and not whole):
                return None
            start += axis.start * step
            open_end = True
        elif open_end:
            return None
        else:
            start += axis * step
    return start
