"""Write ONNX networks with random weights, byte by byte: the onnx package is no dependency.

Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

FLOAT, INT64, OPSET = 1, 7, 13
Attribute = int | float | str | tuple[int, ...]


def varint(value: int) -> bytes:
    """A non-negative integer in protobuf's coding."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def integer(field: int, value: int) -> bytes:
    """An integer field of a message."""
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes | str) -> bytes:
    """A field of a message that holds bytes, text or another message."""
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, array: np.ndarray) -> bytes:
    """A TensorProto of float32 or int64."""
    kind = INT64 if array.dtype == np.int64 else FLOAT
    dims = b"".join(integer(1, size) for size in array.shape)
    return (
        dims + integer(2, kind) + chunk(8, name) + chunk(9, np.ascontiguousarray(array).tobytes())
    )


def node(
    kind: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> bytes:
    """A NodeProto."""
    parts = [chunk(1, name) for name in inputs] + [chunk(2, name) for name in outputs]
    parts += [chunk(4, kind), chunk(7, domain) if domain else b""]
    for name, value in (attributes or {}).items():
        if isinstance(value, tuple):
            body = b"".join(integer(8, number) for number in value) + integer(20, 7)
        elif isinstance(value, str):
            body = chunk(4, value) + integer(20, 3)
        elif isinstance(value, float):
            body = varint(2 << 3 | 5) + np.float32(value).tobytes() + integer(20, 1)
        else:
            body = integer(3, value) + integer(20, 2)
        parts.append(chunk(5, chunk(1, name) + body))
    return b"".join(parts)


def value_info(name: str, kind: int, shape: Iterable[int | str]) -> bytes:
    """A ValueInfoProto: an input or output."""
    dims = (integer(1, size) if isinstance(size, int) else chunk(2, size) for size in shape)
    sized = integer(1, kind) + chunk(2, b"".join(chunk(1, dim) for dim in dims))
    return chunk(1, name) + chunk(2, chunk(1, sized))


def model(
    nodes: Iterable[bytes],
    tensors: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    name: str = "graph",
) -> bytes:
    """A ModelProto of these parts."""
    fields: dict[int, Iterable[bytes | str]] = {
        1: nodes,
        2: (name,),
        5: tensors,
        11: inputs,
        12: outputs,
    }
    graph = b"".join(chunk(field, part) for field, parts in fields.items() for part in parts)
    return integer(1, 8) + chunk(7, graph) + chunk(8, chunk(1, b"") + integer(2, OPSET))


class Graph:
    """A network in the making: each method adds an operation and returns its output's name.

    Weights are random; ``parameters`` counts them as a framework would, a BatchNorm's scale and
    shift included, and ``macs`` the multiply-adds of convolutions and matrix products for one
    picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self.sizes: dict[str, tuple[int, ...]] = {"input": (3, height, width)}
        """Of each value, without the batch: (C, H, W) or (rows, features)."""
        self.parameters = self.macs = 0
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._rng = np.random.default_rng(0)
        self._names = map("v{}".format, itertools.count())

    def op(
        self, kind: str, *inputs: str, size: tuple[int, ...] = (), **attributes: Attribute
    ) -> str:
        """Any operation with one output, by default of its first input's size."""
        name = next(self._names)
        self._nodes.append(node(kind, inputs, [name], attributes=attributes))
        self.sizes[name] = size or self.sizes[inputs[0]]
        return name

    def weight(self, *shape: int, spread: float, shift: float = 0.0) -> str:
        """A tensor of random numbers, as wide as ``spread`` around ``shift``."""
        numbers = self._rng.random(shape, np.float32)
        return self.constant((numbers - 0.5) * np.float32(3.46 * spread) + np.float32(shift))

    def constant(self, array: np.ndarray) -> str:
        """A tensor of these numbers."""
        name = next(self._names)
        self._tensors.append(tensor(name, array))
        self.sizes[name] = array.shape
        return name

    def conv(
        self,
        x: str,
        out: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        norm: bool = True,
        act: bool = True,
    ) -> str:
        """Convolution with padding, its BatchNorm folded into it, and SiLU as in exports."""
        channels, height, width = self.sizes[x]
        height, width, ins = -(-height // stride), -(-width // stride), channels // groups
        weights = out * ins * kernel**2
        self.parameters += weights + out * (2 if norm else 1)
        self.macs += weights * height * width
        spread = (1.0 if act else 0.3) * (ins * kernel**2) ** -0.5
        x = self.op(
            "Conv",
            x,
            self.weight(out, ins, kernel, kernel, spread=spread),
            self.weight(out, spread=0.3),
            size=(out, height, width),
            kernel_shape=(kernel, kernel),
            strides=(stride, stride),
            pads=(kernel // 2,) * 4,
            group=groups,
        )
        return self.silu(x) if act else x

    def linear(self, x: str, out: int) -> str:
        """A matrix product without bias over the last axis."""
        rows, features = self.sizes[x]
        self.parameters += features * out
        self.macs += rows * features * out
        weights = self.weight(features, out, spread=features**-0.5)
        return self.op("MatMul", x, weights, size=(rows, out))

    def silu(self, x: str) -> str:
        """x * sigmoid(x)."""
        return self.op("Mul", x, self.op("Sigmoid", x))

    def concat(self, *parts: str) -> str:
        """Along the first axis after the batch."""
        first = sum(self.sizes[part][0] for part in parts)
        return self.op("Concat", *parts, size=(first, *self.sizes[parts[0]][1:]), axis=1)

    def reshape(self, x: str, *size: int) -> str:
        """The same numbers in another shape."""
        shape = self.constant(np.array([0, *size], np.int64))  # 0 keeps the batch
        return self.op("Reshape", x, shape, size=size)

    def strided(self, x: str, row: int, column: int) -> str:
        """Every second row and column, from these on."""
        channels, height, width = self.sizes[x]
        cut = ([row, column], [1 << 30] * 2, [2, 3], [2, 2])
        cuts = (self.constant(np.array(numbers, np.int64)) for numbers in cut)
        return self.op("Slice", x, *cuts, size=(channels, height // 2, width // 2))

    def features(self, x: str, start: int, stop: int) -> str:
        """A range of the last axis."""
        cuts = (self.constant(np.array([number], np.int64)) for number in (start, stop, 2))
        return self.op("Slice", x, *cuts, size=(self.sizes[x][0], stop - start))

    def doubled(self, x: str) -> str:
        """Every pixel twice in each direction."""
        channels, height, width = self.sizes[x]
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        size = (channels, 2 * height, 2 * width)
        return self.op("Resize", x, "", scales, size=size, mode="nearest")

    def write(self, path: Path, outputs: dict[str, str]) -> None:
        """Write the file; ``outputs`` are values' names by the name that each has outside."""
        renamed = [node("Identity", [value], [name]) for name, value in outputs.items()]
        kinds = {name: INT64 if name == "labels" else FLOAT for name in outputs}
        values = [
            value_info(name, kinds[name], ["batch", *self.sizes[value]])
            for name, value in outputs.items()
        ]
        taken = value_info("input", FLOAT, ["batch", *self.sizes["input"]])
        path.write_bytes(model(self._nodes + renamed, self._tensors, [taken], values))
