"""Which device and which arithmetic a run computes with, and whether compiling pays there."""

from __future__ import annotations

import torch

from ..config import ExtractConfig
from ..errors import ConfigError
from ..model import native, native_build
from ..model.fast import supports
from ..pose import gpu_provider_available
from ..progress import Progress

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILE_MIN_WINDOWS = {"cpu": 20, "cuda": 100_000}  # below, compiling costs more than it saves


def pick_device(name: str) -> torch.device:
    """The device that ``name`` means; ``auto`` is the first GPU, or the CPU if there is none.

    Raises:
        ConfigError: torch cannot use the GPU that is asked for, or there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda
        why = "torch sees no GPU" if built else f"torch {torch.__version__} is a CPU build"
        raise ConfigError(f"--device {name} cannot be used: {why}. Use --device cpu or auto.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: there are {torch.cuda.device_count()} GPUs")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """The key of :data:`DTYPES` that ``name`` means on this device.

    Raises:
        ConfigError: the device does not support this precision.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" and supports(torch.bfloat16, device) else "float32"
    if not supports(DTYPES[name], device):
        raise ConfigError(
            f"--precision {name} is not supported by this {device.type.upper()} (it would be "
            "emulated, slower than float32). Use --precision float32."
        )
    return name


def pose_device(config: ExtractConfig, device: torch.device, progress: Progress) -> str:
    """Where pose models run: on the network's ``device``, if onnxruntime can use it.

    With ``--device auto`` they may fall back to the CPU. If a GPU was asked for by name they do
    not: the pose stage raises if it cannot use it.
    """
    if config.device == "auto" and device.type == "cuda" and not gpu_provider_available():
        progress.warning(
            "pose models run on the CPU: this onnxruntime has no GPU support "
            "(pip install onnxruntime-gpu)"
        )
        return "cpu"
    return str(device)


def worth_compiling(choice: str, device: torch.device, dtype: torch.dtype, windows: int) -> bool:
    """Whether to compile the network for this many windows; ``choice`` is auto, on or off.

    On a CPU compiling builds a C++ library, which takes seconds and is kept (see
    ``native.multiplies``); on a GPU it is ``torch.compile``, which takes minutes in every run.
    """
    if choice != "auto":
        return choice == "on"
    if device.type == "cpu":
        least = 0 if native_build.is_built() else COMPILE_MIN_WINDOWS["cpu"]
        return (
            native.multiplies(dtype)
            and native_build.find_compiler() is not None
            and windows >= least
        )
    return windows >= COMPILE_MIN_WINDOWS["cuda"]
