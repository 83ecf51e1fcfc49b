"""``fuse(compile=True)`` on a CPU: the folded streams in C++.

``native.cpp`` has no dependencies, so building it takes about ten seconds; see ``native_build``.
What ``torch.compile`` cannot do, and this does, is to take a block a few image rows at a time
through all three convolutions. In bfloat16 weights and what lies between the convolutions are
rounded; products are summed, and the stem and the depthwise convolutions computed, in float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from .folded import FusedBlock, FusedConv, FusedStream
from .native_build import NativeUnavailable, library

VECTOR = 8  # channels come in vectors of that many
CPUINFO = Path("/proc/cpuinfo")


def multiplies(dtype: torch.dtype) -> bool:
    """Whether this processor has what the streams need in ``dtype``: AVX512-BF16 for bfloat16."""
    if dtype == torch.bfloat16:
        return CPUINFO.exists() and "avx512_bf16" in CPUINFO.read_text().split()
    return dtype == torch.float32


def _fields(kind: type, names: str) -> list[tuple[str, type]]:
    return [(name, kind) for name in names.split()]


class _Block(ctypes.Structure):
    _fields_ = [
        *_fields(ctypes.c_int32, "t h w stride in inner out fold squeezed widened"),
        *_fields(ctypes.c_void_p, "w1 w3 b1 w2 b2 b3 fc1 fb1 fc2 fb2"),
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


class NativeStream:
    """A ``FusedStream`` for one clip at a time, in the calling thread; threads may share it.

    Raises:
        NativeUnavailable: no compiler, or this processor does not multiply ``dtype``, or the
            network is none that the library was written for.
    """

    def __init__(
        self,
        stream: FusedStream,
        *,
        mean: Sequence[float],
        scale: Sequence[float],
        dtype: torch.dtype,
    ) -> None:
        self._dtype = dtype
        self._functions = _functions(dtype)
        self._kept: list[Tensor] = []  # the arrays that the pointers below point into
        self._mean, self._scale = tuple(mean), tuple(scale)
        self._stem_stride = stream.stem.stride[0]
        self._stem_out, self._in, _, _ = stream.stem.weight.shape
        self._stem = self._pack([_matrix(stream.stem)], torch.float32)
        self._stem_bias = self._keep(stream.stem.bias)
        self._blocks = [self._block(block) for block in stream.blocks]  # type: ignore[arg-type]
        self._head = self._pack([_matrix(stream.head)])
        self._head_bias = self._keep(stream.head.bias)
        self._out, self._head_in, _, _ = stream.head.weight.shape
        self._idle: list[list[Tensor]] = []  # buffers that no call is using

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, H, W, C) float32 or u8, any strides -> (T, h, w, C') of the stream's dtype."""
        t, h, w, _ = frames.shape
        stem = _Stem(
            t, h, w, self._stem_stride, self._in, self._stem_out, frames.dtype == torch.uint8
        )
        stem.st, stem.sh, stem.sw, stem.sc = frames.stride()
        if stem.is_u8:
            stem.mean, stem.scale = self._mean, self._scale
        stem.weight, stem.bias = self._stem, self._stem_bias
        h, w = -(-h // self._stem_stride), -(-w // self._stem_stride)
        largest = need = 0
        blocks: list[_Block] = []
        for block in self._blocks:
            here = _Block.from_buffer_copy(block)
            here.t, here.h, here.w = t, h, w
            scratch_of = self._functions.block_scratch if blocks else self._functions.first_scratch
            need = max(need, scratch_of(ctypes.byref(here)))
            h, w = -(-h // here.stride), -(-w // here.stride)
            largest = max(largest, t * h * w * here.out)
            blocks.append(here)
        largest = (largest + VECTOR) * self._dtype.itemsize  # products may read a pair too much
        buffers = self._buffers(largest, need)
        x, y, scratch = (ctypes.c_void_p(buffer.data_ptr()) for buffer in buffers)
        images = ctypes.c_void_p(frames.data_ptr())
        self._functions.first(ctypes.byref(stem), images, ctypes.byref(blocks[0]), x, scratch)
        for block in blocks[1:]:
            self._functions.block(ctypes.byref(block), x, y, scratch)
            x, y = y, x
        out = torch.empty(t, h, w, self._out, dtype=self._dtype)
        weight, bias = ctypes.c_void_p(self._head), ctypes.c_void_p(self._head_bias)
        pixels = ctypes.c_int64(t * h * w)
        target = ctypes.c_void_p(out.data_ptr())
        self._functions.head(x, weight, bias, pixels, self._head_in, self._out, target)
        self._idle.append(buffers)
        return out

    def _buffers(self, largest: int, need: int) -> list[Tensor]:
        """Two activations and scratch; kept from call to call, since fresh pages are slow."""
        try:
            buffers = self._idle.pop()
        except IndexError:
            buffers = [torch.empty(0, dtype=torch.uint8)] * 3
        sizes = (largest, largest, need)
        return [
            old if len(old) >= size else torch.empty(size, dtype=torch.uint8)
            for old, size in zip(buffers, sizes, strict=True)
        ]

    def _keep(self, tensor: Tensor) -> int:
        tensor = tensor.detach().float().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _pack(self, parts: Sequence[Tensor], dtype: torch.dtype | None = None) -> int:
        """Pointer to (k, C') matrices as a product reads them, each filled up to whole steps."""
        dtype = dtype or self._dtype
        step = 1 if dtype == torch.float32 else 2  # values that a product takes at a time
        width = parts[0].shape[1]
        if width % VECTOR:
            raise NativeUnavailable(f"a layer has {width} channels, no multiple of {VECTOR}")
        filled = [F.pad(part, (0, 0, 0, -len(part) % step)) for part in parts]
        matrix = torch.cat(filled).contiguous()
        packed = torch.empty_like(matrix, dtype=dtype)
        _functions(dtype).pack(
            ctypes.c_void_p(matrix.data_ptr()), *matrix.shape, ctypes.c_void_p(packed.data_ptr())
        )
        self._kept.append(packed)
        return packed.data_ptr()

    def _block(self, block: FusedBlock) -> _Block:
        if not block.use_swish:
            raise NativeUnavailable("a block has no Swish")
        made = _Block()
        made.stride, made.fold = block.conv2.stride[0], block.fold
        made.inner, channels, _, _ = block.conv1.weight.shape
        made.out = block.conv3.weight.shape[0]
        setattr(made, "in", channels)
        moments = (made.fold, made.fold, channels - 2 * made.fold)
        after, before, now = _matrix(block.conv1).split(moments)
        made.w1 = self._pack([before, now, after])
        made.b1 = self._keep(block.conv1.bias)
        made.w2 = self._keep(block.conv2.weight.flatten(1).t())  # (9, C)
        made.b2 = self._keep(block.conv2.bias)
        convs = [block.conv3]
        if block.downsample is not None:
            made.widened = 1
            convs.append(block.downsample)
        made.w3 = self._pack([_matrix(conv) for conv in convs])
        made.b3 = self._keep(torch.stack([conv.bias for conv in convs]).sum(0))
        if block.se is not None:
            made.squeezed = len(block.se.bias1)
            made.fc1, made.fb1 = self._keep(block.se.weight1), self._keep(block.se.bias1)
            made.fc2, made.fb2 = self._keep(block.se.weight2), self._keep(block.se.bias2)
        return made


def _matrix(conv: FusedConv) -> Tensor:
    """A dense convolution's weights, (C*k*k, C') float32."""
    return conv.weight.detach().permute(1, 2, 3, 0).flatten(0, 2).float()


def _functions(dtype: torch.dtype) -> SimpleNamespace:
    """The library's functions for arrays of ``dtype``."""
    loaded, suffix = library(), str(dtype).removeprefix("torch.")
    names = ("pack", "first_scratch", "block_scratch", "first", "block", "head")
    try:
        found = {name: getattr(loaded, f"epam_{name}_{suffix}") for name in names}
    except AttributeError:
        raise NativeUnavailable(f"this processor has no arithmetic in {suffix}") from None
    found["first_scratch"].restype = found["block_scratch"].restype = ctypes.c_int64
    return SimpleNamespace(**found)
