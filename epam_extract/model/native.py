"""``fuse(compile=True)`` on a CPU: the folded streams in C++.

``native.cpp`` has no dependencies, so building it takes seconds; see ``native_build``. What
``torch.compile`` cannot do, and this does, is to take a block a few image rows at a time through
all three convolutions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from .folded import FusedBlock, FusedConv, FusedStream
from .native_build import NativeUnavailable, library

VECTOR = 8  # channels come in vectors of that many


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
