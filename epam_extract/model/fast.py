"""The inference copy of the network: two-dimensional, channels-last, BatchNorm folded.

Every convolution of EPAM-Net looks at one frame, so a clip is a batch of frames; what is left
of time is the shift, the mean inside squeeze-and-excitation, and the attention. On a CPU a
block runs a few frames at a time, so that its wide inner activation stays in cache and no
buffer is large enough to be handed back to the system and faulted in again.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .epam import RGB_STEP, EPAMBackbone, check_inputs
from .x3d import BlockX3D, ConvBN, SEModule, X3DTemporalShift

if TYPE_CHECKING:
    from .native import NativeStream

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB order, 0-255; the same as config's
IMAGENET_STD = (58.395, 57.12, 57.375)
CHANNEL_MULTIPLE = 8  # inner widths are padded with zeros to whole vector registers
CHUNK_BYTES = 4 << 20  # of a block's inner activation on a CPU: less than a core's share of L3


def pool(features: Tensor) -> Tensor:
    """Mean over time and space: (N, C, T, H, W) -> (N, C) float32."""
    return features.mean((2, 3, 4), dtype=torch.float32)


def tokens(features: Tensor) -> Tensor:
    """Mean over space, time kept: (N, C, T, H, W) -> (N, T, C) float32."""
    return features.mean((3, 4), dtype=torch.float32).transpose(1, 2)


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
        compile: on a CPU in float32, build the streams in C++ (seconds, once a machine; see
            ``native``); elsewhere ``torch.compile``, at the first call of each input shape
            (a minute or more). Where that cannot be had a warning is logged, and the copy works
            without: ``FusedBackbone.compiled`` tells.
    """
    fused = FusedBackbone(backbone, dtype=dtype)
    if compile:
        fused.compile_streams()
    return fused


class FusedBackbone(nn.Module):
    """What ``fuse`` returns."""

    mean: Tensor
    scale: Tensor

    def __init__(self, backbone: EPAMBackbone, *, dtype: torch.dtype) -> None:
        super().__init__()
        device = next(backbone.parameters()).device
        self.dtype = dtype
        self.return_both_streams = backbone.return_both_streams
        self.compiled = ""
        """``"native"``, ``"inductor"`` (torch.compile), or empty: not compiled."""
        with torch.no_grad():
            whole = device.type != "cpu"  # GPUs like inputs of whole vectors too
            self.rgb = FusedStream(backbone.rgb_backbone, pad_input=whole)
            self.pose = FusedStream(backbone.pose_backbone, pad_input=whole)
        self.to(device=device, dtype=dtype)
        self.attention = copy.deepcopy(backbone.attention_module)  # tiny: stays in float32
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN, device=device))
        self.register_buffer("scale", 1 / torch.tensor(IMAGENET_STD, device=device))
        self.eval().requires_grad_(False)
        self._native: tuple[NativeStream, NativeStream] | None = None
        self._at_once = self.clips

    @torch.no_grad()
    def forward(self, rgb: Tensor, heatmaps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the features of ``N`` clips, as ``EPAMBackbone.forward`` does.

        Args:
            rgb: (N, 3, 16, 224, 224) float, ImageNet-normalised; or frames in u8,
                (N, 16, 224, 224, 3) or (N, 3, 16, 224, 224), RGB, normalised in here.
            heatmaps: (N, 17, 48, 56, 56) float.

        On a CPU clips are computed one after another: a clip's numbers are the same bits
        whatever the batch around it. On a GPU the whole batch is computed at once.
        """
        if rgb.dtype == torch.uint8 and rgb.ndim == 5 and rgb.shape[-1] == 3:
            rgb = rgb.permute(0, 4, 1, 2, 3)
        check_inputs(rgb, heatmaps)
        if rgb.device.type != "cpu":
            features, pose = self._at_once(rgb, heatmaps)
        elif self._native is not None:
            features, pose = self._in_threads(self._native, rgb, heatmaps)
        else:
            pairs = [self._at_once(rgb[i, None], heatmaps[i, None]) for i in range(len(rgb))]
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
        return self._attend(features, pose)

    def _attend(self, features: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Let the pose stream guide the RGB one; channels go where the original has them."""
        guide = pose[:, ::RGB_STEP].permute(0, 4, 1, 2, 3).float()  # (N, 216, T, h, w)
        attention = self.attention(guide).permute(0, 2, 3, 4, 1).to(self.dtype)  # (N, T, h, w, 1)
        features = torch.addcmul(features, features, attention)
        return features.permute(0, 4, 1, 2, 3), pose.permute(0, 4, 1, 2, 3)

    @torch.no_grad()
    def attention_map(self, pose: Tensor) -> Tensor:
        """What guided the RGB features, once more: they were multiplied by one plus it.

        Pose features (N, 216, 3T, h, w), as ``forward`` returns them -> (N, T, h, w) float32 in
        (0, 1). As there, a clip's numbers on a CPU are the same bits whatever the batch.
        """
        guide = pose[:, :, ::RGB_STEP].float().contiguous()  # (N, 216, T, h, w)
        batches = guide.split(1) if guide.device.type == "cpu" else [guide]
        return torch.cat([self.attention(batch)[:, 0] for batch in batches])

    def compile_streams(self) -> None:
        """Do what ``fuse(compile=True)`` promises."""
        from .native import NativeStream, NativeUnavailable, find_compiler

        device = self.mean.device.type
        try:
            if find_compiler() is None:
                raise NativeUnavailable("no C++ compiler (g++ or clang++) is here")
            if device == "cpu" and self.dtype == torch.float32:
                mean, scale = self.mean.tolist(), self.scale.tolist()
                self._native = (
                    NativeStream(self.rgb, mean=mean, scale=scale),
                    NativeStream(self.pose, mean=mean, scale=scale),
                )
                self.compiled = "native"
                return
        except NativeUnavailable as error:
            logger.warning("the network runs uncompiled, at about half the speed: %s", error)
            return
        # Without CUDA graphs: they hand out the same memory at every call, and several
        # threads call this; at 64 clips a batch the launches they save are under 1 %.
        mode = "max-autotune-no-cudagraphs" if device == "cuda" else None
        self._at_once = torch.compile(self.clips, dynamic=False, mode=mode)
        self.compiled = "inductor"

    def _in_threads(
        self, native: tuple[NativeStream, NativeStream], rgb: Tensor, heatmaps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The compiled streams, each clip's two on as many threads as torch would use."""
        native_rgb, native_pose = native
        frames = rgb if rgb.dtype == torch.uint8 else rgb.float()
        tasks = [(native_rgb, clip) for clip in frames]
        tasks += [(native_pose, clip) for clip in heatmaps.float()]
        threads = min(torch.get_num_threads(), len(tasks))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                done = list(pool.map(_run, tasks))
        else:
            done = [_run(task) for task in tasks]
        return self._attend(torch.stack(done[: len(rgb)]), torch.stack(done[len(rgb) :]))


def _run(task: tuple[NativeStream, Tensor]) -> Tensor:
    stream, clip = task
    return stream(clip.permute(1, 2, 3, 0))  # (C, T, H, W) -> (T, h, w, C')


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
