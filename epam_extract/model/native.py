"""``fuse(compile=True)`` on a CPU: the streams in C++, built once with the machine's compiler.

``native.cpp`` has no dependencies, so building takes seconds; the library is kept in the user's
cache, by content, compiler and processor. What ``torch.compile`` cannot do, and this does, is
to take a block a few image rows at a time through all three convolutions.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .fast import FusedBlock, FusedConv, FusedStream

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-Wno-psabi")
COMPILERS = ("c++", "g++", "clang++")
BUILD_SECONDS = 300
VECTOR = 8  # channels come in vectors of that many


class NativeUnavailable(RuntimeError):
    """The compiled streams cannot be had on this machine; the message says why."""


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Block(ctypes.Structure):
    _fields_ = [
        *_fields(ctypes.c_int32, "t h w stride in inner out fold squeezed"),
        *_fields(ctypes.c_void_p, "w1 b1 w2 b2 w3 b3 wd bd fc1 fb1 fc2 fb2"),
    ]


class _Stem(ctypes.Structure):
    _fields_ = [
        *_fields(ctypes.c_int32, "t h w stride in out is_u8"),
        *_fields(ctypes.c_int64, "st sh sw sc"),
        ("mean", ctypes.c_float * 3),
        ("scale", ctypes.c_float * 3),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    ]


def find_compiler() -> str | None:
    """The C++ compiler to use: ``$CXX``, or the first of ``COMPILERS`` that is there."""
    names = [os.environ.get("CXX", ""), *COMPILERS]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def is_built() -> bool:
    """Whether an earlier run has built the library for this machine, so that it costs nothing."""
    compiler = find_compiler()
    try:
        return compiler is not None and SOURCE.exists() and _path(compiler).exists()
    except NativeUnavailable:
        return False


@cache
def library() -> ctypes.CDLL:
    """Build ``native.cpp``, or find it built, and load it.

    Raises:
        NativeUnavailable: no compiler, or it fails, or its result cannot be loaded.
    """
    compiler = find_compiler()
    if compiler is None:
        raise NativeUnavailable("no C++ compiler (g++ or clang++) is here")
    if not SOURCE.exists():
        raise NativeUnavailable(f"{SOURCE} is missing from this copy of the package")
    path = _path(compiler)
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / path.name
            _run([compiler, *FLAGS, "-shared", "-fPIC", "-o", str(built), str(SOURCE)])
            built.replace(path)  # at once, so that two processes may build at the same time
        logger.info("built %s with %s", path, compiler)
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded: {error}") from error
    loaded.epam_block_scratch.restype = ctypes.c_int64
    loaded.epam_stem_scratch.restype = ctypes.c_int64
    return loaded


def _path(compiler: str) -> Path:
    """Where the library for this source, compiler and processor is kept."""
    version = _run([compiler, "--version"])
    parts = (SOURCE.read_text(), version, " ".join(FLAGS), _processor())
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return _folder() / f"native-{digest[:16]}.so"


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[0]
        raise NativeUnavailable(f"{command[0]} failed: {said}")
    return done.stdout or done.stderr


def _processor() -> str:
    """What ``-march=native`` depends on: a cache may be shared by machines that differ."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    known = [line for line in lines if line.startswith(("model name", "flags", "CPU part"))]
    return platform.machine() + platform.processor() + "".join(sorted(set(known)))


def _folder() -> Path:
    """A private folder for the built library: the user's cache, or a fresh temporary one."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_home) / "epam_extract"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        mine = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
        if mine and os.access(folder, os.W_OK):
            return folder
    except OSError:
        logger.debug("%s cannot be used", folder)
    return Path(tempfile.mkdtemp(prefix="epam_extract-"))


class NativeStream:
    """A ``FusedStream`` for one clip at a time, in the calling thread; threads may share it."""

    def __init__(
        self, stream: FusedStream, *, mean: Sequence[float], scale: Sequence[float]
    ) -> None:
        self._library = library()
        self._kept: list[Tensor] = []  # the arrays that the pointers below point into
        self._mean, self._scale = tuple(mean), tuple(scale)
        self._stem_stride = stream.stem.stride[0]
        self._stem = self._conv(stream.stem)
        self._stem_out, self._in, _, _ = stream.stem.weight.shape
        self._blocks = [self._block(block) for block in stream.blocks]  # type: ignore[arg-type]
        self._head = self._conv(stream.head)
        self._out, self._head_in, _, _ = stream.head.weight.shape
        self._idle: list[list[Tensor]] = []  # buffers that no call is using

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, H, W, C) float32 or u8, any strides -> (T, h, w, C') float32."""
        t, h, w, _ = frames.shape
        stem = _Stem(
            t, h, w, self._stem_stride, self._in, self._stem_out, frames.dtype == torch.uint8
        )
        stem.st, stem.sh, stem.sw, stem.sc = frames.stride()
        if stem.is_u8:
            stem.mean, stem.scale = self._mean, self._scale
        stem.weight, stem.bias = self._stem
        h, w = -(-h // self._stem_stride), -(-w // self._stem_stride)
        largest = t * h * w * self._stem_out
        blocks = []
        need = self._library.epam_stem_scratch(ctypes.byref(stem))
        for block in self._blocks:
            here = _Block.from_buffer_copy(block)
            here.t, here.h, here.w = t, h, w
            need = max(need, self._library.epam_block_scratch(ctypes.byref(here)))
            h, w = -(-h // here.stride), -(-w // here.stride)
            largest = max(largest, t * h * w * here.out)
            blocks.append(here)
        buffers = self._buffers(largest, need)
        x, y, scratch = (ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers)
        self._library.epam_stem(ctypes.byref(stem), ctypes.c_void_p(frames.data_ptr()), x, scratch)
        for block in blocks:
            self._library.epam_block(ctypes.byref(block), x, y, scratch)
            x, y = y, x
        out = torch.empty(t, h, w, self._out)
        weight, bias = (ctypes.c_void_p(pointer) for pointer in self._head)
        pixels = ctypes.c_int64(t * h * w)
        target = ctypes.c_void_p(out.data_ptr())
        self._library.epam_head(x, weight, bias, pixels, self._head_in, self._out, target)
        self._idle.append(buffers)
        return out

    def _buffers(self, largest: int, need: int) -> list[Tensor]:
        """Two activations and scratch; kept from call to call, since fresh pages are slow."""
        try:
            buffers = self._idle.pop()
        except IndexError:
            buffers = [torch.empty(0)] * 3
        sizes = (largest, largest, need)
        return [
            old if len(old) >= size else torch.empty(size)
            for old, size in zip(buffers, sizes, strict=True)
        ]

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _conv(self, conv: FusedConv) -> tuple[int, int]:
        """Pointers to a dense convolution's packed weights and to its bias."""
        width = conv.weight.shape[0]
        matrix = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, width)  # (k*k*C, C')
        if width % VECTOR:
            raise NativeUnavailable(f"a layer has {width} channels, no multiple of {VECTOR}")
        matrix = matrix.float().contiguous()
        packed = torch.empty_like(matrix)
        self._library.epam_pack(
            ctypes.c_void_p(matrix.data_ptr()),
            matrix.shape[0],
            width,
            ctypes.c_void_p(packed.data_ptr()),
        )
        return self._keep(packed), self._keep(conv.bias)

    def _block(self, block: FusedBlock) -> _Block:
        if not block.use_swish:
            raise NativeUnavailable("a block has no Swish")
        made = _Block()
        made.stride, made.fold = block.conv2.stride[0], block.fold
        made.inner, _, _, _ = block.conv1.weight.shape
        made.out = block.conv3.weight.shape[0]
        setattr(made, "in", block.conv1.weight.shape[1])
        made.w1, made.b1 = self._conv(block.conv1)
        made.w2 = self._keep(block.conv2.weight.flatten(1).t())  # (9, C)
        made.b2 = self._keep(block.conv2.bias)
        made.w3, made.b3 = self._conv(block.conv3)
        if block.downsample is not None:
            made.wd, made.bd = self._conv(block.downsample)
        if block.se is not None:
            made.squeezed = len(block.se.bias1)
            made.fc1, made.fb1 = self._keep(block.se.weight1), self._keep(block.se.bias1)
            made.fc2, made.fb2 = self._keep(block.se.weight2), self._keep(block.se.bias2)
        return made
