"""What an ONNX file needs besides itself, read from its bytes before anything loads it.

A tensor of a model may be stored in another file, and a node may need an operator of another
program. Newer versions of onnxruntime refuse files outside the model's folder, older ones open
any file that is named. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import PoseModelError

DEEPEST = 64  # graphs inside nodes of graphs ...
MODEL, GRAPH, NODE, FUNCTION, ATTRIBUTE, TENSOR, SPARSE, ENTRY, TRAINING = range(9)
INSIDE = {
    MODEL: {7: GRAPH, 20: TRAINING, 25: FUNCTION},
    TRAINING: {1: GRAPH, 2: GRAPH},
    GRAPH: {1: NODE, 5: TENSOR, 15: SPARSE},
    FUNCTION: {7: NODE, 11: ATTRIBUTE},
    NODE: {5: ATTRIBUTE},
    ATTRIBUTE: {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: SPARSE, 23: SPARSE},
    SPARSE: {1: TENSOR, 2: TENSOR},
    TENSOR: {13: ENTRY},
    ENTRY: {},
}
"""Which fields of a message hold which messages."""
KEY, VALUE = 1, 2  # of an ENTRY
OPERATOR, OPERATOR_DOMAIN = 4, 7  # of a NODE
FUNCTION_DOMAIN = 10
OWN_DOMAINS = ("ai.onnx", "com.microsoft", "com.ms.")
"""Prefixes of the domains whose operators onnxruntime has, besides the empty domain."""


def external_files(path: Path) -> list[Path]:
    """Other files that hold some of a model's tensors, sorted by name; most models have none.

    Raises:
        ValueError: it is not an ONNX file, or it is damaged.
        PoseModelError: it names a file that is missing or outside its own folder, or it needs an
            operator that onnxruntime does not have.
    """
    locations: set[str] = set()
    wanted: set[tuple[str, str]] = set()
    defined: set[str] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for kind, fields in _messages(data):
            if kind == ENTRY and b"location" in fields.get(KEY, ()):
                locations.update(_text(value) for value in fields.get(VALUE, ()))
            elif kind == NODE:
                domain = _text(fields.get(OPERATOR_DOMAIN, [b""])[-1])
                wanted.add((domain, _text(fields.get(OPERATOR, [b""])[-1])))
            elif kind == FUNCTION:
                defined.update(_text(value) for value in fields.get(FUNCTION_DOMAIN, ()))
    for domain, operator in sorted(wanted):
        if domain and domain not in defined and not domain.startswith(OWN_DOMAINS):
            raise PoseModelError(
                f"{path}: needs the operator {operator} of {domain}, which onnxruntime does not "
                "have; export the model for onnxruntime, without operators of other programs"
            )
    return [_beside(path, location) for location in sorted(locations)]


def _beside(path: Path, location: str) -> Path:
    """The file that a model names, which must be in the model's folder or below it."""
    wrong = ""
    pure = PurePosixPath(location)
    if pure.is_absolute() or PureWindowsPath(location).anchor or ".." in pure.parts:
        wrong = "outside its own folder"
    file = path.parent / pure
    try:
        if not wrong and not file.resolve().is_relative_to(path.parent.resolve()):
            wrong = "outside its own folder"
        elif not wrong and not file.is_file():
            wrong = "which is not there"
    except (OSError, ValueError):
        wrong = "which is not there"
    if wrong:
        raise PoseModelError(
            f"{path}: some of its numbers are in the file {location[:200]!r}, {wrong}; a model may "
            "name files beside it only: export it as one file"
        )
    return file


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


Fields = dict[int, list[bytes]]


def _messages(data: mmap.mmap) -> Iterator[tuple[int, Fields]]:
    """Every relevant message: its kind, and its short texts by field."""
    waiting = [(0, len(data), MODEL, 0)]
    while waiting:
        at, stop, kind, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"graphs inside one another, more than {DEEPEST} deep")
        fields: Fields = {}
        while at < stop:
            tag, at = _varint(data, at, stop)
            field, wire = tag >> 3, tag & 7
            if wire == 0:
                _, at = _varint(data, at, stop)
            elif wire == 2:
                length, at = _varint(data, at, stop)
                inside = INSIDE[kind].get(field)
                if inside is not None:
                    waiting.append((at, min(at + length, stop), inside, depth + 1))
                elif kind in (NODE, FUNCTION, ENTRY):
                    fields.setdefault(field, []).append(data[at : at + min(length, 4096)])
                at += length
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                raise ValueError(f"unknown kind of field {wire}")
            if at > stop:
                raise ValueError("it ends in the middle of a field")
        yield kind, fields


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    """A number, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= stop:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it ends in the middle of a number")
