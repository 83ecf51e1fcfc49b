"""The inference copy of the network: two-dimensional, channels-last, BatchNorm folded.

Every convolution of EPAM-Net looks at one frame, so a clip is a batch of frames; what is left
of time is the shift, the mean inside squeeze-and-excitation, and the attention. On a CPU a
block runs a few frames at a time, so that its wide inner activation stays in cache and no
buffer is large enough to be handed back to the system and faulted in again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .epam import RGB_STEP, EPAMBackbone, check_inputs
from .x3d import BlockX3D, ConvBN, SEModule, X3DTemporalShift

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB order, 0-255; the same as config's
IMAGENET_STD = (58.395, 57.12, 57.375)
CHANNEL_MULTIPLE = 8  # inner widths are padded with zeros to whole vector registers
CHUNK_BYTES = 4 << 20  # of a block's inner activation on a CPU: less than a core's share of L3


def pool(features: Tensor) -> Tensor:
    """Mean over time and space: (N, C, T, H, W) -> (N, C) float32."""
    return features.float().mean((2, 3, 4))


def tokens(features: Tensor) -> Tensor:
    """Mean over space, time kept: (N, C, T, H, W) -> (N, T, C) float32."""
    return features.float().mean((3, 4)).transpose(1, 2)


def supports(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether ``device`` computes the network in ``dtype`` itself, rather than emulating it.

    True for float32 everywhere; for bfloat16 and float16 on GPUs and CPUs that have them.
    """
    device = torch.device(device)
    if dtype == torch.float32:
        return True
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        if dtype == torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return False


def fuse(
    backbone: EPAMBackbone, *, dtype: torch.dtype = torch.float32, compile: bool = False
) -> FusedBackbone:
    """Return an inference copy of ``backbone``, on its device, several times faster.

    It is called like the original, ``(rgb, heatmaps) -> (rgb features, pose features)``, and
    returns ``dtype``. It takes no gradient and shares no memory with ``backbone``; threads may
    call it at the same time.

    Args:
        backbone: its weights are copied; the mode it is in (train or eval) does not matter.
        dtype: of weights, activations and results; see ``supports``.
        compile: compile it with ``torch.compile``, which takes a while at the first call of
            each input shape. On a CPU this needs a C++ compiler.
    """
    return FusedBackbone(backbone, dtype=dtype)


class FusedBackbone(nn.Module):
    """What ``fuse`` returns."""

    mean: Tensor
    scale: Tensor

    def __init__(self, backbone: EPAMBackbone, *, dtype: torch.dtype) -> None:
        super().__init__()
        device = next(backbone.parameters()).device
        self.dtype = dtype
        self.return_both_streams = backbone.return_both_streams
        with torch.no_grad():
            self.rgb = FusedStream(backbone.rgb_backbone)
            self.pose = FusedStream(backbone.pose_backbone)
        self.to(device=device, dtype=dtype)
        self.attention = copy.deepcopy(backbone.attention_module)  # tiny: stays in float32
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, device=device))
        self.register_buffer("scale", 1 / torch.tensor(IMAGENET_STD, device=device))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, rgb: Tensor, heatmaps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the features of ``N`` clips, as ``EPAMBackbone.forward`` does.

        Args:
            rgb: (N, 3, 16, 224, 224) float, ImageNet-normalised; or frames in u8,
                (N, 16, 224, 224, 3) or (N, 3, 16, 224, 224), RGB, normalised in here.
            heatmaps: (N, 17, 48, 56, 56) float.

        On a CPU clips are computed one after another: a clip's numbers are the same bits
        whatever the batch around it.
        """
        if rgb.dtype == torch.uint8 and rgb.ndim == 5 and rgb.shape[-1] == 3:
            rgb = rgb.permute(0, 4, 1, 2, 3)
        check_inputs(rgb, heatmaps)
        if rgb.device.type != "cpu":
            features, pose = self.clips(rgb, heatmaps)
        else:
            pairs = [self.clips(rgb[i, None], heatmaps[i, None]) for i in range(len(rgb))]
            features = torch.cat([pair[0] for pair in pairs])
            pose = torch.cat([pair[1] for pair in pairs])
        return (features, pose) if self.return_both_streams else features

    def clips(self, rgb: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """``forward`` of a batch that is computed at once."""
        frames = rgb.permute(0, 2, 3, 4, 1)  # (N, T, H, W, 3)
        if rgb.dtype == torch.uint8:
            frames = (frames.float() - self.mean).mul_(self.scale)
        pose = self.pose(heatmaps.permute(0, 2, 3, 4, 1).to(self.dtype))  # (N, 3T, h, w, 216)
        features = self.rgb(frames.to(self.dtype))  # (N, T, h, w, 432)
        guide = pose[:, ::RGB_STEP].permute(0, 4, 1, 2, 3).float()  # (N, 216, T, h, w)
        attention = self.attention(guide).permute(0, 2, 3, 4, 1).to(self.dtype)  # (N, T, h, w, 1)
        features = torch.addcmul(features, features, attention)
        return features.permute(0, 4, 1, 2, 3), pose.permute(0, 4, 1, 2, 3)


class FusedStream(nn.Module):
    """One X3D: (N, T, H, W, C) frames -> (N, T, h, w, C')."""

    def __init__(self, stream: X3DTemporalShift) -> None:
        super().__init__()
        self.stem = FusedConv(stream.conv1_s)
        blocks = [block for stage in stream.stages() for block in stage]
        self.blocks = nn.ModuleList(FusedBlock(block) for block in blocks)
        self.head = FusedConv(stream.conv5)

    def forward(self, frames: Tensor) -> Tensor:
        n, t, _, _, _ = frames.shape
        x = frames.flatten(0, 1).contiguous().permute(0, 3, 1, 2)  # (N*T, C, H, W) channels-last
        x = F.relu_(self.stem(x))
        for block in self.blocks:
            x = block(x, t)
        return F.relu_(self.head(x)).permute(0, 2, 3, 1).unflatten(0, (n, t))


class FusedConv(nn.Module):
    """A convolution of one frame with its BatchNorm folded in, in float64."""

    def __init__(self, conv_bn: ConvBN, *, pad_in: int = 0, pad_out: int = 0) -> None:
        super().__init__()
        conv, bn = conv_bn.conv, conv_bn.bn
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        weight = conv.weight.double()[:, :, 0] * scale.view(-1, 1, 1, 1)  # (C', C, k, k)
        bias = bn.bias.double() - bn.running_mean.double() * scale
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
        self.bias1 = nn.Parameter(se.fc1.bias.clone())
        self.weight2 = nn.Parameter(F.pad(se.fc2.weight.flatten(1), (0, 0, 0, pad)).clone())
        self.bias2 = nn.Parameter(F.pad(se.fc2.bias, (0, pad)).clone())

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
        inner = (self._widen(x, t, frames) for frames in pieces)
        if self.se is not None:
            inner = iter(self._excite(list(inner), t))
        if len(pieces) == 1:
            return self._narrow(next(inner), x, pieces[0])
        out: Tensor | None = None
        for frames, y in zip(pieces, inner, strict=True):
            z = self._narrow(y, x, frames)
            if out is None:
                shape = (len(x), *z.shape[1:])
                out = z.new_empty(shape).to(memory_format=torch.channels_last)
            out[frames] = z
        return out

    def _pieces(self, x: Tensor) -> Iterator[slice]:
        size = len(x)
        if x.device.type == "cpu":
            of_one_frame = self.inner * x.shape[2] * x.shape[3] * x.element_size()
            size = max(1, min(size, CHUNK_BYTES // of_one_frame))
        for start in range(0, len(x), size):
            yield slice(start, min(start + size, len(x)))

    def _widen(self, x: Tensor, t: int, frames: slice) -> Tensor:
        return self.conv2(F.relu_(self.conv1(shifted(x, t, self.fold, frames))))

    def _excite(self, inner: list[Tensor], t: int) -> list[Tensor]:
        views = [y.permute(0, 2, 3, 1) for y in inner]  # (n, h, w, C)
        if len(views) == 1:
            whole = views[0].unflatten(0, (-1, t)).flatten(1, 3)  # (N, T*h*w, C)
            factors = self.se(whole.mean(1))
            whole.mul_(factors[:, None])
            return inner
        sums = torch.stack([view.sum((0, 1, 2)) for view in views]).sum(0)  # (C,)
        factors = self.se(sums[None] / sum(view[..., 0].numel() for view in views))
        for view in views:
            view.mul_(factors)
        return inner

    def _narrow(self, y: Tensor, x: Tensor, frames: slice) -> Tensor:
        if self.use_swish:
            y = F.silu(y, inplace=True)
        shortcut = x[frames] if self.downsample is None else self.downsample(x[frames])
        return F.relu_(self.conv3(y).add_(shortcut))


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
