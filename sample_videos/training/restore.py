"""From the two ONNX files back to networks that can be trained on. Needs the ``onnx`` package.

:mod:`.export` folds every batch norm into the convolution before it. Here each one comes back: on
some pictures it is measured what the convolution answers, and the batch norm is set to normalise
just that and to undo it again, so the network still says the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .export import fold, normalised

NORM_EPS = 1e-5  # torch's own
ROW_NORM = 3.0  # about what Muon brings a filter's norm to; behind a batch norm any size would do
NAMELESS = "onnx::MatMul_"  # how torch's exporter calls a linear layer's weights, and a number


def read_folded(network: nn.Module, path: Path) -> nn.Module:
    """Return a folded copy of ``network`` with the weights of the ONNX file.

    Raises ValueError where the file is of another network.
    """
    import onnx
    from onnx import numpy_helper

    stored = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f":
            stored[tensor.name.removesuffix("_half")] = values.astype(np.float32)
    linears = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    numbers = sorted(int(n.removeprefix(NAMELESS)) for n in stored if n.startswith(NAMELESS))
    other = f"{path} is of another network than {type(network).__name__}"
    if len(linears) != len(numbers):
        raise ValueError(f"{other}: {len(numbers)} linear layers")
    weights = {name.partition(".")[2]: values for name, values in stored.items()}
    for name, number in zip(linears, numbers, strict=True):
        weights[f"{name}.weight"] = stored[f"{NAMELESS}{number}"].T
    folded = fold(network)
    wanted = folded.state_dict()
    for name, values in wanted.items():
        if name not in weights or weights[name].shape != values.shape:
            raise ValueError(f"{other}: {name}")
    folded.load_state_dict({n: torch.tensor(np.ascontiguousarray(weights[n])) for n in wanted})
    return folded


def measure(network: nn.Module, names: list[str], pictures: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the mean and variance (2, C) of what each named layer answers to the pictures."""
    moments: dict[str, list[Tensor]] = {name: [] for name in names}

    def watch(name: str) -> None:
        def note(_layer: nn.Module, _inputs: object, answer: Tensor) -> None:
            by_channel = answer.transpose(0, 1).flatten(1)
            moments[name].append(torch.stack([by_channel.mean(1), by_channel.square().mean(1)]))

        watched.append(network.get_submodule(name).register_forward_hook(note))

    watched: list[torch.utils.hooks.RemovableHandle] = []
    for name in names:
        watch(name)
    with torch.no_grad():
        for batch in pictures:
            network(batch)
    for handle in watched:
        handle.remove()
    means = {name: torch.stack(of).mean(0) for name, of in moments.items()}
    return {name: torch.stack([m[0], m[1] - m[0] ** 2]) for name, m in means.items()}


@torch.no_grad()
def restore(network: nn.Module, path: Path, pictures: Iterable[Tensor]) -> None:
    """Give ``network`` the weights of an exported file; ``pictures`` are inputs as in training.

    Raises ValueError where the file is of another network.
    """
    folded = read_folded(network, path)
    own, exported = network.state_dict(), folded.state_dict()
    for name in own.keys() & exported.keys():
        own[name].copy_(exported[name])
    pairs = {f"{name}.{place}": f"{name}.{place + 1}" for name, _, place in normalised(network)}
    answers = measure(folded, list(pairs), pictures)
    for convolution, norm in pairs.items():
        mean, spread = answers[convolution]
        weight = exported[f"{convolution}.weight"]
        scale = ROW_NORM / weight.flatten(1).norm(dim=1).clamp(min=1e-8)
        own[f"{convolution}.weight"].copy_(weight * scale[:, None, None, None])
        own[f"{norm}.running_mean"].copy_((mean - exported[f"{convolution}.bias"]) * scale)
        own[f"{norm}.running_var"].copy_(spread * scale**2)
        own[f"{norm}.weight"].copy_((spread * scale**2 + NORM_EPS).sqrt() / scale)
        own[f"{norm}.bias"].copy_(mean)
