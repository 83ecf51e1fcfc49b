"""Small ONNX networks for the tests, written byte by byte: the onnx package is no dependency.

Every network is ``output = constant + mean(picture) * slope``, so that a test knows which picture
each row of a batch came from. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FLOAT, INT64, FLOAT16 = 1, 7, 10


@dataclass(frozen=True)
class Output:
    """One output of the network: (N, *constant.shape)."""

    name: str
    constant: np.ndarray
    slope: np.ndarray | None = None
    """Added once per unit of the picture's mean; None adds nothing."""


def write_network(
    path: Path,
    outputs: Sequence[Output],
    *,
    batch: int | str = "batch",
    height: int | str = 64,
    width: int | str = 64,
    channels: int = 3,
    extra_inputs: Sequence[str] = (),
    external: str = "",
    domain: str = "",
    fixed_inside: bool = False,
    label: str = "graph",
) -> Path:
    """Write a network that takes (batch, channels, height, width) float32.

    ``external`` names the file that holds the first output's constant, which is not written;
    ``domain`` is that of the operators that add it. ``fixed_inside`` makes any batch but one fail
    at run time, whatever the input says; ``label`` is a name inside the file.
    """
    nodes = [
        _node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0)  # (N,)
    ]
    tensors = []
    mean = "mean"
    if fixed_inside:
        tensors.append(_tensor("one", np.array([1], np.int64)))
        nodes.append(_node("Reshape", ["mean", "one"], ["only"]))
        mean = "only"
    values = []
    for output in outputs:
        constant = np.asarray(output.constant, np.float32)[None]
        slope = np.zeros_like(constant) if output.slope is None else output.slope[None]
        axes = np.arange(1, constant.ndim)
        name = output.name
        tensors += [
            _tensor(f"{name}_axes", axes.astype(np.int64)),
            _tensor(f"{name}_constant", constant, external),
            _tensor(f"{name}_slope", np.asarray(slope, np.float32)),
        ]
        whole = output.constant.dtype.kind == "i"
        nodes += [
            _node("Unsqueeze", [mean, f"{name}_axes"], [f"{name}_mean"]),
            _node("Mul", [f"{name}_mean", f"{name}_slope"], [f"{name}_change"]),
            _node(
                "Add",
                [f"{name}_change", f"{name}_constant"],
                [f"{name}_float" if whole else name],
                domain=domain,
            ),
        ]
        external = ""
        if whole:
            nodes.append(_node("Cast", [f"{name}_float"], [name], to=INT64))
        shape = [batch, *output.constant.shape]
        values.append(_value(name, INT64 if whole else FLOAT, shape))
    inputs = [_value("input", FLOAT, [batch, channels, height, width])]
    inputs += [_value(name, FLOAT, [1]) for name in extra_inputs]
    graph = b"".join(
        [_bytes(1, node) for node in nodes]
        + [_bytes(2, label.encode())]
        + [_bytes(5, tensor) for tensor in tensors]
        + [_bytes(11, value) for value in inputs]
        + [_bytes(12, value) for value in values]
    )
    opset = _bytes(1, b"") + _int(2, 13)
    path.write_bytes(_int(1, 8) + _bytes(7, graph) + _bytes(8, opset))
    return path


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            return bytes([*out, low])
        out.append(low | 0x80)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _tensor(name: str, array: np.ndarray, external: str = "") -> bytes:
    kind = INT64 if array.dtype == np.int64 else FLOAT
    dims = b"".join(_int(1, n) for n in array.shape)
    raw = struct.pack(f"<{array.size}{'q' if kind == INT64 else 'f'}", *array.ravel().tolist())
    start = dims + _int(2, kind) + _bytes(8, name.encode())
    if external:
        where = _bytes(1, b"location") + _bytes(2, external.encode())
        return start + _bytes(13, where) + _int(14, 1)
    return start + _bytes(9, raw)


def _node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    **attributes: int | list[int],
) -> bytes:
    parts = [_bytes(1, name.encode()) for name in inputs]
    parts += [_bytes(2, name.encode()) for name in outputs]
    parts.append(_bytes(4, kind.encode()))
    if domain:
        parts.append(_bytes(7, domain.encode()))
    for name, value in attributes.items():
        if isinstance(value, int):
            body = _int(3, value) + _int(20, 2)
        else:
            body = b"".join(_int(8, n) for n in value) + _int(20, 7)
        parts.append(_bytes(5, _bytes(1, name.encode()) + body))
    return b"".join(parts)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        _bytes(1, _int(1, n) if isinstance(n, int) else _bytes(2, n.encode())) for n in shape
    )
    tensor = _int(1, kind) + _bytes(2, dims)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))
