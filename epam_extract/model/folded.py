"""The streams as layers of one frame: two-dimensional, channels-last, BatchNorm folded.

Every convolution of EPAM-Net looks at one frame, so a clip is a batch of frames; what is left
of time is the shift and the mean inside squeeze-and-excitation. On a CPU a block runs a few
frames at a time, so that its wide inner activation stays in cache and no buffer is large enough
to be handed back to the system and faulted in again.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .x3d import BlockX3D, ConvBN, SEModule, X3DTemporalShift

CHANNEL_MULTIPLE = 8  # inner widths are padded with zeros to whole vector registers
CHUNK_BYTES = 4 << 20  # of a block's inner activation on a CPU: less than a core's share of L3


class FusedStream(nn.Module):
    """One X3D: (N, T, H, W, C) frames -> (N, T, h, w, C')."""

    def __init__(self, stream: X3DTemporalShift, *, pad_input: bool = False) -> None:
        super().__init__()
        self.pad = -stream.conv1_s.conv.in_channels % CHANNEL_MULTIPLE if pad_input else 0
        self.stem = FusedConv(stream.conv1_s, pad_in=self.pad)
        self.blocks = nn.ModuleList(FusedBlock(block) for block in stream.blocks())
        self.head = FusedConv(stream.conv5)

    def forward(self, frames: Tensor) -> Tensor:
        n, t, _, _, _ = frames.shape
        if self.pad:
            frames = F.pad(frames, (0, self.pad))
        x = frames.flatten(0, 1).contiguous().permute(0, 3, 1, 2)  # (N*T, C, H, W) channels-last
        x = F.relu_(self.stem(x))
        for block in self.blocks:
            x = block(x, t)
        return F.relu_(self.head(x)).permute(0, 2, 3, 1).unflatten(0, (n, t))


def _given(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("a layer has no bias or no statistics: this is no network of EPAM-Net's")
    return tensor


class FusedConv(nn.Module):
    """A convolution of one frame with its BatchNorm folded in, in float64."""

    def __init__(self, conv_bn: ConvBN, *, pad_in: int = 0, pad_out: int = 0) -> None:
        super().__init__()
        conv, bn = conv_bn.conv, conv_bn.bn
        mean, var = _given(bn.running_mean).double(), _given(bn.running_var).double()
        scale = bn.weight.double() / (var + bn.eps).sqrt()
        weight = conv.weight.double()[:, :, 0] * scale.view(-1, 1, 1, 1)  # (C', C, k, k)
        bias = bn.bias.double() - mean * scale
        self.groups = conv.groups + pad_out if conv.groups > 1 else 1
        weight = F.pad(weight, (0, 0, 0, 0, 0, pad_in, 0, pad_out)).float()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(F.pad(bias, (0, pad_out)).float())
        self.stride = conv.stride[1:]
        self.padding = conv.padding[1:]

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


class FusedSE(nn.Module):
    """From the clip's channel means (N, C) to the factors of squeeze-and-excitation (N, C)."""

    def __init__(self, se: SEModule, *, pad: int) -> None:
        super().__init__()
        self.weight1 = nn.Parameter(F.pad(se.fc1.weight.flatten(1), (0, pad)).clone())
        self.bias1 = nn.Parameter(_given(se.fc1.bias).clone())
        self.weight2 = nn.Parameter(F.pad(se.fc2.weight.flatten(1), (0, 0, 0, pad)).clone())
        self.bias2 = nn.Parameter(F.pad(_given(se.fc2.bias), (0, pad)).clone())

    def forward(self, means: Tensor) -> Tensor:
        squeezed = F.relu(F.linear(means, self.weight1, self.bias1))
        return F.linear(squeezed, self.weight2, self.bias2).sigmoid()


class FusedBlock(nn.Module):
    """``BlockX3D`` on (N*T, C, H, W) channels-last frames."""

    def __init__(self, block: BlockX3D) -> None:
        super().__init__()
        inner = block.conv1.conv.out_channels
        pad = -inner % CHANNEL_MULTIPLE
        self.inner = inner + pad
        self.fold = block.conv1.conv.in_channels // block.shift_div
        self.conv1 = FusedConv(block.conv1, pad_out=pad)
        self.conv2 = FusedConv(block.conv2, pad_out=pad)
        self.conv3 = FusedConv(block.conv3, pad_in=pad)
        self.se = None if block.se_module is None else FusedSE(block.se_module, pad=pad)
        self.downsample = None if block.downsample is None else FusedConv(block.downsample)
        self.use_swish = block.use_swish

    def forward(self, x: Tensor, t: int) -> Tensor:
        """``t`` frames a clip. On a CPU ``x`` is one clip, taken in pieces of a few frames."""
        pieces = list(self._pieces(x))
        inner: Iterator[Tensor] = (self._widen(x, t, frames) for frames in pieces)
        if self.se is not None:
            inner = iter(excite(self.se, list(inner), t))
        first = self._narrow(next(inner), x, pieces[0])
        if len(pieces) == 1:
            return first
        out = first.new_empty((len(x), *first.shape[1:])).to(memory_format=torch.channels_last)
        out[pieces[0]] = first
        for frames, y in zip(pieces[1:], inner, strict=True):
            out[frames] = self._narrow(y, x, frames)
        return out

    def _pieces(self, x: Tensor) -> Iterator[slice]:
        size = len(x)
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            of_one_frame = self.inner * x.shape[2] * x.shape[3] * x.element_size()
            size = max(1, min(size, CHUNK_BYTES // of_one_frame))
        for start in range(0, len(x), size):
            yield slice(start, min(start + size, len(x)))

    def _widen(self, x: Tensor, t: int, frames: slice) -> Tensor:
        return self.conv2(F.relu_(self.conv1(shifted(x, t, self.fold, frames))))

    def _narrow(self, y: Tensor, x: Tensor, frames: slice) -> Tensor:
        if self.use_swish:
            y = F.silu(y, inplace=True)
        shortcut = x[frames] if self.downsample is None else self.downsample(x[frames])
        return F.relu_(self.conv3(y).add_(shortcut))


def excite(se: FusedSE, inner: list[Tensor], t: int) -> list[Tensor]:
    """Scale the channels of a block's inner activation, which comes in pieces, in place."""
    views = [y.permute(0, 2, 3, 1) for y in inner]  # (n, h, w, C)
    if len(views) == 1:
        whole = views[0].unflatten(0, (-1, t)).flatten(1, 3)  # (N, T*h*w, C)
        whole.mul_(se(whole.mean(1))[:, None])
        return inner
    sums = torch.stack([view.sum((0, 1, 2)) for view in views]).sum(0)  # (C,)
    factors = se(sums[None] / sum(view[..., 0].numel() for view in views))
    for view in views:
        view.mul_(factors)
    return inner


def shifted(x: Tensor, t: int, fold: int, frames: slice) -> Tensor:
    """``temporal_shift`` of some ``frames`` of (N*T, C, H, W) channels-last ``x``.

    ``frames`` lies inside one clip, or covers them all.
    """
    n, c, h, w = x.shape
    whole = x.permute(0, 2, 3, 1).reshape(n // t, t, h * w, c)
    first, last = 0, t
    if frames.stop - frames.start < n:
        first, last = frames.start % t, (frames.stop - 1) % t + 1
        whole = whole[frames.start // t, None]
    out = whole[:, first:last].clone()  # (N, frames, h * w, C)
    ahead, behind = slice(0, fold), slice(fold, 2 * fold)
    inside = min(last, t - 1)
    out[:, : inside - first, :, ahead] = whole[:, first + 1 : inside + 1, :, ahead]
    if last == t:
        out[:, -1, :, ahead] = 0
    inside = max(first, 1)
    out[:, inside - first :, :, behind] = whole[:, inside - 1 : last - 1, :, behind]
    if first == 0:
        out[:, 0, :, behind] = 0
    return out.view(-1, h, w, c).permute(0, 3, 1, 2)
