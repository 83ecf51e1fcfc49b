"""The inference copy of the network: two-dimensional, channels-last, BatchNorm folded.

Every convolution of EPAM-Net looks at one frame, so a clip is a batch of frames; what is left
of time is the shift, the squeeze-and-excitation mean and the attention.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .epam import RGB_STEP, CBAMSpatialEfficientTemporalAttention, EPAMBackbone, check_inputs
from .x3d import BlockX3D, ConvBN, SEModule, X3DTemporalShift

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB order, 0-255; the same as config's
IMAGENET_STD = (58.395, 57.12, 57.375)
CHANNEL_MULTIPLE = 8  # widths are padded with zeros to whole vector registers


def pool(features: Tensor) -> Tensor:
    """Mean over time and space: (N, C, T, H, W) -> (N, C) float32."""
    return features.float().mean((2, 3, 4))


def tokens(features: Tensor) -> Tensor:
    """Mean over space, time kept: (N, C, T, H, W) -> (N, T, C) float32."""
    return features.float().mean((3, 4)).transpose(1, 2)


def supports(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether the fused network runs in ``dtype`` on ``device`` at a speed worth having."""
    device = torch.device(device)
    if dtype == torch.float32:
        return True
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    if device.type == "cuda":
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        name = "bf16" if dtype == torch.bfloat16 else "fp16"
        return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported")())
    return False


def fuse(
    backbone: EPAMBackbone, *, dtype: torch.dtype = torch.float32, compile: bool = False
) -> FusedBackbone:
    """Return an inference copy of ``backbone``, on its device, several times faster.

    Called like the original, ``(rgb, heatmaps) -> (rgb features, pose features)``, and returns
    ``dtype``. ``rgb`` may also be plain RGB frames in u8, (N, 3, T, H, W) or as cameras have
    them (N, T, H, W, 3): they are ImageNet-normalised inside. On a CPU clips are computed
    one by one, so that a clip's numbers never depend on the size of its batch.
    """
    fused = FusedBackbone(backbone, dtype=dtype)
    return fused


class FusedBackbone(nn.Module):
    def __init__(self, backbone: EPAMBackbone, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        with torch.no_grad():
            self.rgb = FusedStream(backbone.rgb_backbone)
            self.pose = FusedStream(backbone.pose_backbone)
            device = next(backbone.parameters()).device
            self.to(device=device, dtype=dtype)
        import copy

        self.attention = copy.deepcopy(backbone.attention_module).eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, device=device))
        self.register_buffer("scale", 1 / torch.tensor(IMAGENET_STD, device=device))
        self.eval()

    @torch.inference_mode()
    def forward(self, rgb: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        if rgb.dtype == torch.uint8 and rgb.ndim == 5 and rgb.shape[-1] == 3:
            rgb = rgb.permute(0, 4, 1, 2, 3)
        check_inputs(rgb, heatmaps)
        if rgb.device.type != "cpu" or len(rgb) == 1:
            return self.clips(rgb, heatmaps)
        pairs = [self.clips(rgb[i : i + 1], heatmaps[i : i + 1]) for i in range(len(rgb))]
        return torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])

    def clips(self, rgb: Tensor, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        if rgb.dtype == torch.uint8:
            shape = (1, 3, 1, 1, 1)
            rgb = (rgb.float() - self.mean.view(shape)) * self.scale.view(shape)
        pose = self.pose(heatmaps.to(self.dtype))
        features = self.rgb(rgb.to(self.dtype))
        attention = self.attention(pose[:, :, ::RGB_STEP].float()).to(self.dtype)
        return features + features * attention, pose


class FusedStream(nn.Module):
    def __init__(self, stream: X3DTemporalShift) -> None:
        super().__init__()
        self.stem = FusedConv(stream.conv1_s)
        self.blocks = nn.ModuleList(
            FusedBlock(block) for stage in stream.stages() for block in stage
        )
        self.head = FusedConv(stream.conv5)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        x = x.permute(0, 2, 3, 4, 1).reshape(n * t, h, w, c).permute(0, 3, 1, 2)
        x = F.relu_(self.stem(x))
        for block in self.blocks:
            x = block(x, t)
        return F.relu_(self.head(x)).unflatten(0, (n, t)).transpose(1, 2)


class FusedConv(nn.Module):
    def __init__(self, conv_bn: ConvBN, *, out_pad: int = 0, in_pad: int = 0) -> None:
        super().__init__()
        conv, bn = conv_bn.conv, conv_bn.bn
        scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
        weight = (conv.weight.double() * scale.view(-1, 1, 1, 1, 1))[:, :, 0]  # (out, in, k, k)
        bias = bn.bias.double() - bn.running_mean.double() * scale
        weight = F.pad(weight, (0, 0, 0, 0, 0, in_pad, 0, out_pad)).float()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), False)
        self.bias = nn.Parameter(F.pad(bias, (0, out_pad)).float(), False)
        self.stride = conv.stride[1:]
        self.padding = conv.padding[1:]
        self.groups = conv.groups + out_pad if conv.groups > 1 else 1

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)


class FusedBlock(nn.Module):
    def __init__(self, block: BlockX3D) -> None:
        super().__init__()
        inner = block.conv1.conv.out_channels
        pad = math.ceil(inner / CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE - inner
        self.fold = block.conv1.conv.in_channels // block.shift_div
        self.conv1 = FusedConv(block.conv1, out_pad=pad)
        self.conv2 = FusedConv(block.conv2, out_pad=pad)
        self.conv3 = FusedConv(block.conv3, in_pad=pad)
        self.downsample = None if block.downsample is None else FusedConv(block.downsample)
        self.squeeze = None if block.se_module is None else FusedSE(block.se_module, pad)
        self.use_swish = block.use_swish

    def forward(self, x: Tensor, frames: int) -> Tensor:
        y = F.relu_(self.conv1(shift(x, frames, self.fold)))
        y = self.conv2(y)
        if self.squeeze is not None:
            y = self.squeeze(y, frames)
        if self.use_swish:
            y = F.silu(y, inplace=True)
        y = self.conv3(y)
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


def shift(x: Tensor, frames: int, fold: int) -> Tensor:
    """``temporal_shift`` of (N*T, C, H, W) channels-last frames."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).view(n // frames, frames, h * w, c)
    y = torch.empty_like(x)
    y[..., 2 * fold :] = x[..., 2 * fold :]
    y[:, :-1, :, :fold] = x[:, 1:, :, :fold]
    y[:, -1, :, :fold] = 0
    y[:, 1:, :, fold : 2 * fold] = x[:, :-1, :, fold : 2 * fold]
    y[:, 0, :, fold : 2 * fold] = 0
    return y.view(n, h, w, c).permute(0, 3, 1, 2)


class FusedSE(nn.Module):
    def __init__(self, se: SEModule, pad: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(se.fc1.in_channels + pad, se.fc1.out_channels)
        self.fc2 = nn.Linear(se.fc2.in_channels, se.fc2.out_channels + pad)
        self.fc1.weight.copy_(F.pad(se.fc1.weight.flatten(1), (0, pad)))
        self.fc1.bias.copy_(se.fc1.bias)
        self.fc2.weight.copy_(F.pad(se.fc2.weight.flatten(1), (0, 0, 0, pad)))
        self.fc2.bias.copy_(F.pad(se.fc2.bias, (0, pad)))
        self.requires_grad_(False)

    def forward(self, y: Tensor, frames: int) -> Tensor:
        n, c, h, w = y.shape
        v = y.permute(0, 2, 3, 1).view(n // frames, frames * h * w, c)
        scale = self.fc2(F.relu(self.fc1(v.mean(1)))).sigmoid()
        return v.mul_(scale[:, None]).view(n, h, w, c).permute(0, 3, 1, 2)
