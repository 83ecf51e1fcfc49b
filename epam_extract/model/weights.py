"""Read a checkpoint, map its names, load it strictly, or explain what does not fit.

Every tensor of the network must be in the file with its shape: a backbone that is half
pretrained and half random gives features that look fine and mean nothing.
"""

from __future__ import annotations

import hashlib
import logging
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .epam import EPAMBackbone

logger = logging.getLogger(__name__)

STREAMS = ("rgb", "pose")
WRAPPERS = ("state_dict", "model_state_dict")  # what the authors' training scripts save under
PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile
RENAMED = (
    (".norm.", ".bn."),  # files of the standalone epam_backbone port
    ("conv_spatial_attention", "conv_sptial_attention"),  # the port corrects the spelling
)
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


def load_weights(backbone: EPAMBackbone, path: Path) -> None:
    """Load an official multimodal checkpoint, strictly; only classification heads are ignored.

    The tensors may lie under ``state_dict``, ``model_state_dict`` or bare, with or without
    ``module.`` before their names, in torch's format (read with ``weights_only=True``) or as
    safetensors. The backbone is untouched where anything does not fit.

    Raises:
        CheckpointError: unreadable, or tensors missing, unexpected or of another shape.
    """
    path = Path(path)
    found = read_checkpoint(path)
    expected = backbone.state_dict()
    problem = mismatch(found, expected)
    if problem:
        raise CheckpointError(
            f"{path}: {problem}. Expected an EPAM-Net checkpoint with {len(expected):,} tensors, "
            "rgb_backbone.*, pose_backbone.* and attention_module.*. "
            f"{hint(found, expected)}"
        )
    backbone.load_state_dict(found)


def load_stream_weights(backbone: EPAMBackbone, stream: str, path: Path) -> None:
    """Load one stream, ``"rgb"`` or ``"pose"``, strictly, from an official single-stream file.

    The stream's names begin with ``backbone.`` (mmcv's manner), or are bare; of a multimodal
    checkpoint its stream's part is taken. The attention is not in a single-stream file, so
    RGB features stay unguided until ``load_weights`` has given it its weights.

    Raises:
        CheckpointError: unreadable, or tensors missing, unexpected or of another shape.
        ValueError: ``stream`` is neither of the two.
    """
    if stream not in STREAMS:
        raise ValueError(f"stream is {stream!r}, expected one of {', '.join(STREAMS)}")
    load_stream(getattr(backbone, f"{stream}_backbone"), path, stream=stream)


def load_stream(network: nn.Module, path: Path, *, stream: str) -> None:
    """``load_weights`` for one X3D network; see ``load_stream_weights``."""
    path = Path(path)
    found = read_checkpoint(path)
    tensors = found
    for prefix in (f"{stream}_backbone.", "backbone."):
        if any(name.startswith(prefix) for name in found):
            tensors = {
                name.removeprefix(prefix): tensor
                for name, tensor in found.items()
                if name.startswith(prefix) or not name.startswith(OTHER_PARTS)
            }
            break
    expected = network.state_dict()
    problem = mismatch(tensors, expected)
    if problem:
        raise CheckpointError(
            f"{path}: {problem}. Expected the {stream} stream of EPAM-Net, {len(expected):,} "
            f"tensors named backbone.* or {stream}_backbone.*. {hint(found, expected)}"
        )
    network.load_state_dict(tensors)


OTHER_PARTS = tuple(f"{name}." for name in ("rgb_backbone", "pose_backbone", "attention_module"))


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint under this package's names, heads left out.

    Raises:
        CheckpointError: no such file, no checkpoint, or no tensors in it.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {what}. Expected an EPAM-Net checkpoint file (.pth).")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = dict(content) if isinstance(content, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path}: no tensors in it (a {type(content).__name__}). Expected an EPAM-Net "
            f"checkpoint: named tensors, bare or under {' or '.join(WRAPPERS)}."
        )
    ours = {_our_name(name): tensor for name, tensor in tensors.items()}
    heads = sorted(name for name in ours if name.startswith(HEADS))
    if heads:
        logger.info("%s: ignored %d tensors of classification heads", path, len(heads))
    return {name: tensor for name, tensor in ours.items() if not name.startswith(HEADS)}


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
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
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
    broken = [
        name
        for name in shared
        if found[name].layout != torch.strided
        or found[name].is_quantized
        or found[name].is_complex()
        or not found[name].isfinite().all()
    ]
    if broken:
        return f"{len(broken)} tensors hold NaN, infinity or no plain numbers (first: {broken[0]})"
    return ""


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
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"file": Path(path).name, "sha256": digest.hexdigest()}


def random_weights(backbone: EPAMBackbone, seed: int) -> None:
    """Fill every weight from ``seed``: features that mean nothing but are no zeros either.

    For trying the tool, and for tests. Every tensor depends on its own name and the seed
    alone, not on torch's global generator; no branch is zeroed; activations keep about the
    scale of the input all the way down, so that they fit float16 and differ between inputs.
    """
    with torch.no_grad():
        for name, tensor in backbone.state_dict(keep_vars=True).items():
            key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8], "little")
            generator = torch.Generator().manual_seed(key >> 1)
            tensor.copy_(_random_tensor(name, tensor.shape, generator))


def _random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    if leaf == "running_var":
        return 1 + 0.2 * noise.tanh()
    if leaf in ("running_mean", "bias"):
        return 0.03 * noise
    if ".bn." in name:
        gain = 0.5 if ".conv3.bn." in name else 1.0  # keeps the sum over a stage's blocks in scale
        return gain * (1 + 0.2 * noise.tanh())
    if len(shape) == 5 and shape[1] > 3:
        # What all channels have in common (they are positive after ReLU) would drown what
        # tells two inputs apart after some layers: let no filter see it.
        noise = noise - noise.mean(1, keepdim=True)
    gain = 4.0 if name == "pose_backbone.conv1_s.conv.weight" else 1.0  # heatmaps are mostly 0
    return gain * noise * math.sqrt(2 / math.prod(shape[1:]))
