"""Read a checkpoint: named tensors and nothing else, under this package's names.

Nothing in a file runs code: torch reads it with ``weights_only=True``, and beside tensors only
numpy's scalars, dtypes and arrays are rebuilt, which training scripts keep as their best scores.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

logger = logging.getLogger(__name__)

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "ema",
)  # the authors' save the first two
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
RENAMED = (
    (".norm.", ".bn."),  # files of the standalone epam_backbone port
    ("conv_spatial_attention", "conv_sptial_attention"),  # the port corrects the spelling
)
COUNTER = ".num_batches_tracked"
OWN_PARTS = ("rgb_backbone", "pose_backbone", "attention_module")
HEADS = ("cls_head.", "rgb_cls_head.", "pose_cls_head.")
MAX_INFLATION = 8  # torch stores tensors uncompressed: a file that grows more is no checkpoint
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    LookupError,
    ImportError,
    OverflowError,
    MemoryError,
)
"""What torch and pickle raise for bytes that are no checkpoint."""


def _numpy_rebuilders() -> list[Any]:
    """What pickles of numpy's scalars, dtypes and arrays name, by both names of numpy's core."""
    try:
        import numpy as np
    except ImportError:  # torch works without it
        return []
    core = np._core if hasattr(np, "_core") else np.core
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OV"}
    names = [
        (function, f"numpy.{home}.multiarray.{function.__name__}")
        for function in (core.multiarray.scalar, core.multiarray._reconstruct)
        for home in ("core", "_core")
    ]
    return [np.ndarray, np.dtype, *dtypes, *names]


def load_stream(network: nn.Module, path: Path, *, stream: str) -> None:
    """Fill one X3D network, strictly, from a single-stream file or a stream of a multimodal one.

    Raises:
        CheckpointError: unreadable, or tensors missing, unexpected or of another shape.
    """
    path = Path(path)
    found = read_checkpoint(path)
    tensors = found
    others = tuple(f"{part}." for part in OWN_PARTS)
    for prefix in (f"{stream}_backbone.", "backbone."):
        if any(name.startswith(prefix) for name in found):
            tensors = {
                name.removeprefix(prefix): tensor
                for name, tensor in found.items()
                if name.startswith(prefix) or not name.startswith(others)
            }
            break
    expected = network.state_dict()
    tensors = with_counters(tensors, expected)
    problem = mismatch(tensors, expected)
    if problem:
        raise CheckpointError(
            f"{path}: {problem}. Expected the {stream} stream of EPAM-Net, {len(expected):,} "
            f"tensors named backbone.* or {stream}_backbone.*. {hint(found, expected)}"
        )
    network.load_state_dict(tensors)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under this package's names, heads left out.

    Raises:
        CheckpointError: no such file, no checkpoint, or no tensors in it.
    """
    tensors = read_tensors(path)
    heads = sorted(name for name in tensors if name.startswith(HEADS))
    if heads:
        logger.info("%s: ignored %d tensors of classification heads", path, len(heads))
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(HEADS)}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint under this package's names, heads too.

    Raises:
        CheckpointError: no such file, no checkpoint, or no tensors in it.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {what}. Expected an EPAM-Net checkpoint file (.pth).")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    content = _unwrapped(content)
    named = dict(content) if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path}: no tensors in it (a {type(content).__name__}). Expected an EPAM-Net "
            f"checkpoint: named tensors, bare or under {' or '.join(WRAPPERS)}."
        )
    return _without_shared_prefix({_our_name(name): value for name, value in tensors.items()})


def _unwrapped(content: object) -> object:
    """The mapping that holds the tensors, from inside those that wrap it."""
    while isinstance(content, Mapping):
        inner = [content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        if not inner:
            break
        content = inner[0]
    return content


def _without_shared_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the parts that all of them begin with, such as ``model.``.

    ``backbone.`` of a single-stream file stays, since it tells streams from heads.
    """
    while True:
        firsts = {name.split(".", 1)[0] for name in tensors}
        first = firsts.pop()
        if firsts or first in OWN_PARTS or any("." not in name for name in tensors):
            return tensors
        shorter = {name.split(".", 1)[1]: tensor for name, tensor in tensors.items()}
        whole = any(name.startswith(OWN_PARTS) for name in shorter)
        if first == "backbone" and not whole:
            return tensors
        tensors = shorter


def with_counters(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """``tensors`` with the batch norms' counters that a file lacks: inference never reads them."""
    missing = {
        name: torch.zeros_like(tensor)
        for name, tensor in expected.items()
        if name.endswith(COUNTER)
        and name not in tensors
        and name.removesuffix(COUNTER) + ".running_var" in tensors
    }
    return {**tensors, **missing}


def _our_name(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    return name


def _read_torch(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_INFLATION * path.stat().st_size:
                raise CheckpointError(
                    f"{path}: would unpack to {unpacked:,} bytes from {path.stat().st_size:,}; "
                    "a checkpoint is not compressed. Not read: download it again."
                )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is refused below anyway
            torch.serialization.add_safe_globals(_numpy_rebuilders())
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        text = str(error).split("WeightsUnpickler error:")[-1].strip()
        unsafe = re.search(r"(?:GLOBAL|[Cc]lass|[Gg]lobal|to call):? ([\w.]+\.[\w.]+)", text)
        if unsafe:
            raise CheckpointError(
                f"{path}: not read, since it names {unsafe[1]}, which could run code. Expected an "
                "EPAM-Net checkpoint holding tensors; save it again with its state_dict alone."
            ) from error
        reason = f"{type(error).__name__}: {text}".splitlines()[0][:120]
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely, or damaged or cut short "
            f"({path.stat().st_size:,} bytes; {reason}). Expected an EPAM-Net checkpoint holding "
            "tensors only; download it again."
        ) from error


def _read_safetensors(path: Path) -> object:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(
            f"{path}: reading this format needs the safetensors package: pip install safetensors"
        ) from None
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, *UNREADABLE) as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or cut short ({path.stat().st_size:,} bytes). "
            "Expected an EPAM-Net checkpoint; download it again."
        ) from error


def mismatch(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say in one phrase how the tensors differ by name, shape or finiteness; "" if they do not."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    shared = [name for name in expected if name in found]
    reshaped = [name for name in shared if found[name].shape != expected[name].shape]
    if missing or unexpected or reshaped:
        firsts = []
        if missing:
            firsts.append(f"first missing: {missing[0]}")
        if unexpected:
            firsts.append(f"first unexpected: {unexpected[0]}")
        if reshaped:
            name = reshaped[0]
            firsts.append(
                f"first of another shape: {name} is {tuple(found[name].shape)}, "
                f"expected {tuple(expected[name].shape)}"
            )
        return (
            f"{len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"{len(reshaped)} of another shape ({'; '.join(firsts)})"
        )
    broken = [name for name in shared if not _is_plain(found[name])]
    if broken:
        return f"{len(broken)} tensors hold NaN, infinity or no plain numbers (first: {broken[0]})"
    negative = [n for n in shared if n.endswith(".running_var") and bool((found[n] < 0).any())]
    if negative:
        return f"{len(negative)} variances are negative (first: {negative[0]})"
    return ""


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds finite real numbers, in memory."""
    return (
        tensor.layout == torch.strided
        and not (tensor.is_quantized or tensor.is_complex() or tensor.is_meta)
        and bool(tensor.isfinite().all())
    )


def hint(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """What to do next, judged from what the file seems to be."""
    single = [name for name in found if name.endswith("conv1_s.conv.weight")]
    wants_one_stream = "conv1_s.conv.weight" in expected
    if len(single) == 1:
        channels = found[single[0]].shape[1] if found[single[0]].ndim > 1 else 0
        stream = {3: "rgb", 17: "pose"}.get(channels)
        if stream is not None and not (
            wants_one_stream and expected["conv1_s.conv.weight"].shape[1] == channels
        ):
            return (
                f"This file looks like the single {stream} stream: pass it as --{stream}-weights."
            )
    if "attention_module.fc1.weight" in found and "attention_module.fc1.weight" not in expected:
        return (
            'Its attention is of another type: use EPAMBackbone(attention_type="spatial_temporal").'
        )
    if wants_one_stream:
        return "A multimodal checkpoint is passed as --weights."
    return "For a single stream pass --rgb-weights or --pose-weights."


def weights_identity(path: Path) -> dict[str, str]:
    """File name and SHA-256 of a checkpoint, as stored beside the features it made."""
    digest = hashlib.sha256()  # not records.sha256: this folder needs torch alone
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"file": Path(path).name, "sha256": digest.hexdigest()}
