"""Small ONNX networks for the tests, written byte by byte: the onnx package is no dependency.

Every network is ``output = constant + mean(picture) * slope``, so that a test knows which picture
each row of a batch came from. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epam_extract.bench.onnx_graph import (
    FLOAT,
    INT64,
    chunk,
    integer,
    model,
    node,
    tensor,
    value_info,
)


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
        node(
            "ReduceMean", ["input"], ["mean"], attributes={"axes": (1, 2, 3), "keepdims": 0}
        )  # (N,)
    ]
    tensors = []
    mean = "mean"
    if fixed_inside:
        tensors.append(tensor("one", np.array([1], np.int64)))
        nodes.append(node("Reshape", ["mean", "one"], ["only"]))
        mean = "only"
    values = []
    for output in outputs:
        constant = np.asarray(output.constant, np.float32)[None]
        slope = np.zeros_like(constant) if output.slope is None else output.slope[None]
        axes = np.arange(1, constant.ndim)
        name = output.name
        tensors += [
            tensor(f"{name}_axes", axes.astype(np.int64)),
            _elsewhere(f"{name}_constant", constant, external)
            if external
            else tensor(f"{name}_constant", constant),
            tensor(f"{name}_slope", np.asarray(slope, np.float32)),
        ]
        whole = output.constant.dtype.kind == "i"
        nodes += [
            node("Unsqueeze", [mean, f"{name}_axes"], [f"{name}_mean"]),
            node("Mul", [f"{name}_mean", f"{name}_slope"], [f"{name}_change"]),
            node(
                "Add",
                [f"{name}_change", f"{name}_constant"],
                [f"{name}_float" if whole else name],
                domain=domain,
            ),
        ]
        external = ""
        if whole:
            nodes.append(node("Cast", [f"{name}_float"], [name], attributes={"to": INT64}))
        shape = [batch, *output.constant.shape]
        values.append(value_info(name, INT64 if whole else FLOAT, shape))
    inputs = [value_info("input", FLOAT, [batch, channels, height, width])]
    inputs += [value_info(name, FLOAT, [1]) for name in extra_inputs]
    path.write_bytes(model(nodes, tensors, inputs, values, label))
    return path


def _elsewhere(name: str, array: np.ndarray, file: str) -> bytes:
    """A tensor whose numbers are in another file."""
    where = chunk(1, "location") + chunk(2, file)
    dims = b"".join(integer(1, size) for size in array.shape)
    return dims + integer(2, FLOAT) + chunk(8, name) + chunk(13, where) + integer(14, 1)
