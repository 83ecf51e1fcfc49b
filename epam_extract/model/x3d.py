"""X3D with temporal shift: one class for both streams of EPAM-Net.

Every convolution looks at one frame only; what passes between frames is a shift of some
channels by one frame. Attribute names are the official checkpoints' names: renaming one
breaks loading. Source: github.com/ahmed-nady/Multimodal-Action-Recognition and the papers
X3D (arXiv 2004.04730) and TSM (arXiv 1811.08383).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .checkpoint import load_stream
from .x3d_arguments import check_arguments, check_zoo_configs


@dataclass(frozen=True)
class X3DConfig:
    """The shape of one stream, as its published weights have it."""

    in_channels: int
    base_channels: int
    """Width of the first stage; each further stage doubles it."""
    stage_blocks: tuple[int, ...]
    spatial_strides: tuple[int, ...]
    conv1_stride: int
    expansion: float
    """Inner width of a block over its outer width."""
    shift_div: int
    """1/shift_div of the channels move one frame each way."""


RGB_CONFIG = X3DConfig(
    in_channels=3,
    base_channels=24,
    stage_blocks=(3, 5, 11, 7),  # (1, 2, 5, 3) times gamma_d 2.2, rounded up
    spatial_strides=(2, 2, 2, 2),
    conv1_stride=2,
    expansion=2.25,
    shift_div=8,
)
POSE_CONFIG = X3DConfig(
    in_channels=17,
    base_channels=24,
    stage_blocks=(5, 11, 7),
    spatial_strides=(2, 2, 2),
    conv1_stride=1,
    expansion=2.25,
    shift_div=4,
)
X3D_STAGE_BLOCKS = (1, 2, 5, 3)  # X3D-S before depth scaling
SE_RATIO = 1 / 16


def round_width(width: float, *, divisor: int = 8) -> int:
    """Round a width to the nearest multiple of ``divisor``, never below 0.9 of it."""
    rounded = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * width else rounded


def temporal_shift(x: Tensor, div: int) -> Tensor:
    """Move 1/div of the channels one frame back, the next 1/div one frame on.

    ``x`` is (N, C, T, H, W). Channel c of frame t comes from frame t+1 in the first group,
    from t-1 in the second, from t in the rest; what would come from outside is zero.
    """
    fold = x.shape[1] // div
    ahead, behind, rest = x.split([fold, fold, x.shape[1] - 2 * fold], dim=1)
    ahead = F.pad(ahead[:, :, 1:], (0, 0, 0, 0, 0, 1))  # (N, fold, T, H, W)
    behind = F.pad(behind[:, :, :-1], (0, 0, 0, 0, 1, 0))  # (N, fold, T, H, W)
    return torch.cat([ahead, behind, rest], dim=1)


class ConvBN(nn.Module):
    """Convolution of one frame (kernel 1 x k x k), BatchNorm, and ReLU where ``relu``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            (1, kernel, kernel),
            stride=(1, stride, stride),
            padding=(0, kernel // 2, kernel // 2),
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm3d(out_channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class SEModule(nn.Module):
    """Squeeze and excitation: scale each channel by what the whole clip holds of it."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        squeezed = round_width(channels * ratio)
        self.fc1 = nn.Conv3d(channels, squeezed, 1)
        self.fc2 = nn.Conv3d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.fc2(self.fc1(x.mean((2, 3, 4), keepdim=True)).relu())  # (N, C, 1, 1, 1)
        return x * scale.sigmoid()


class BlockX3D(nn.Module):
    """Shift, widen, depthwise 3x3, squeeze-excite, Swish, narrow, add the unshifted input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        inner_channels: int,
        stride: int,
        shift_div: int,
        se_ratio: float | None,
        use_swish: bool,
        use_checkpoint: bool,
    ) -> None:
        super().__init__()
        self.shift_div = shift_div
        self.use_swish = use_swish
        self.use_checkpoint = use_checkpoint
        self.downsample: ConvBN | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = ConvBN(in_channels, out_channels, stride=stride)
        self.conv1 = ConvBN(in_channels, inner_channels, relu=True)
        self.conv2 = ConvBN(
            inner_channels, inner_channels, kernel=3, stride=stride, groups=inner_channels
        )
        self.conv3 = ConvBN(inner_channels, out_channels)
        self.se_module: SEModule | None = None
        if se_ratio is not None:
            self.se_module = SEModule(inner_channels, se_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T, H / stride, W / stride)."""
        if self.use_checkpoint and x.requires_grad:
            return F.relu(checkpoint(self._residual_sum, x, use_reentrant=False))
        return F.relu(self._residual_sum(x))

    def _residual_sum(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(temporal_shift(x, self.shift_div)))
        if self.se_module is not None:
            y = self.se_module(y)
        if self.use_swish:
            y = F.silu(y)
        return self.conv3(y) + (x if self.downsample is None else self.downsample(x))


class X3DTemporalShift(nn.Module):
    """The RGB stream: (N, 3, T, 224, 224) float -> (N, 432, T, 7, 7).

    Keywords are the official class's, so that code written for it runs; the defaults are
    what the published weights were trained with (``RGB_CONFIG``). Dictionaries in mmcv's
    manner (``conv_cfg``, ``norm_cfg``, ``act_cfg``) are accepted where they say what this
    network has; ``use_sta`` did nothing in the original either.

    Args:
        gamma_w, gamma_b, gamma_d: factors of the width, the inner width, and the depth; the
            last counts only where ``stage_blocks`` is None.
        pretrained: single-stream checkpoint that ``init_weights()`` loads.
        frozen_stages: freeze the stem (0 and up) and this many stages; -1 freezes nothing.
        norm_eval: keep every BatchNorm in eval mode while training.
        with_cp: recompute blocks in the backward pass, which saves memory.
        zero_init_residual: ``init_weights()`` zeroes the last BatchNorm of every block.
    """

    stream = "rgb"

    def __init__(
        self,
        gamma_w: float = 1.0,
        gamma_b: float = RGB_CONFIG.expansion,
        gamma_d: float = 2.2,
        pretrained: str | Path | None = None,
        in_channels: int = RGB_CONFIG.in_channels,
        num_stages: int = len(RGB_CONFIG.stage_blocks),
        stage_blocks: Sequence[int] | None = None,
        spatial_strides: Sequence[int] = RGB_CONFIG.spatial_strides,
        frozen_stages: int = -1,
        se_style: str = "half",
        se_ratio: float | None = SE_RATIO,
        use_swish: bool = True,
        use_sta: bool = False,
        conv_cfg: Mapping[str, object] | None = None,
        norm_cfg: Mapping[str, object] | None = None,
        act_cfg: Mapping[str, object] | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        base_channels: int = RGB_CONFIG.base_channels,
        conv1_stride: int = RGB_CONFIG.conv1_stride,
        shift_div: int = RGB_CONFIG.shift_div,
    ) -> None:
        super().__init__()
        if stage_blocks is None:
            stage_blocks = [math.ceil(gamma_d * blocks) for blocks in X3D_STAGE_BLOCKS]
        check_arguments(num_stages, stage_blocks, spatial_strides, se_style, se_ratio)
        check_zoo_configs({"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg})
        self.pretrained = pretrained
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.zero_init_residual = zero_init_residual
        self.num_stages = num_stages

        width = round_width(base_channels * gamma_w)
        self.conv1_s = ConvBN(in_channels, width, kernel=3, stride=conv1_stride, relu=True)
        in_width = width
        for stage in range(num_stages):
            blocks = [
                BlockX3D(
                    in_width if i == 0 else width,
                    width,
                    inner_channels=int(width * gamma_b),
                    stride=spatial_strides[stage] if i == 0 else 1,
                    shift_div=shift_div,
                    se_ratio=se_ratio if se_style == "all" or i % 2 == 0 else None,
                    use_swish=use_swish,
                    use_checkpoint=with_cp,
                )
                for i in range(stage_blocks[stage])
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            in_width, width = width, width * 2
        self.feat_dim = int(in_width * gamma_b)
        self.conv5 = ConvBN(in_width, self.feat_dim, relu=True)
        self._freeze_stages()

    def stages(self) -> list[nn.Sequential]:
        """The residual stages, in order."""
        return [self.get_submodule(f"layer{i + 1}") for i in range(self.num_stages)]  # type: ignore[misc]

    def blocks(self) -> list[BlockX3D]:
        """The residual blocks of all stages, in order."""
        return [block for stage in self.stages() for block in stage if isinstance(block, BlockX3D)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, T, H, W) -> (N, feat_dim, T, H / s, W / s), s the strides' product."""
        x = self.conv1_s(x)
        for stage in self.stages():
            x = stage(x)
        return self.conv5(x)

    def init_weights(self) -> None:
        """Initialise as the official code does, then load ``pretrained`` where it is given.

        Convolutions get He's normal initialisation over the fan-out. With
        ``zero_init_residual`` every block starts as the identity: good to train from,
        useless as a random network (``random_weights`` makes one).
        """
        init_layers(self)
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, BlockX3D):
                    nn.init.zeros_(module.conv3.bn.weight)
        if self.pretrained is not None:
            load_stream(self, Path(self.pretrained), stream=self.stream)

    def train(self, mode: bool = True) -> X3DTemporalShift:
        """Set training mode; frozen stages, and BatchNorm with ``norm_eval``, stay in eval."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.conv1_s, *self.stages()[: self.frozen_stages]):
            module.eval()
            module.requires_grad_(False)


class X3DTemporalShiftPose(X3DTemporalShift):
    """The pose stream: (N, 17, T, 56, 56) heatmaps -> (N, 216, T, 7, 7).

    The same network with the pose stream's numbers as defaults (``POSE_CONFIG``).
    """

    stream = "pose"

    def __init__(
        self,
        gamma_w: float = 1.0,
        gamma_b: float = POSE_CONFIG.expansion,
        gamma_d: float = 1.0,
        pretrained: str | Path | None = None,
        in_channels: int = POSE_CONFIG.in_channels,
        base_channels: int = POSE_CONFIG.base_channels,
        num_stages: int = len(POSE_CONFIG.stage_blocks),
        stage_blocks: Sequence[int] = POSE_CONFIG.stage_blocks,
        spatial_strides: Sequence[int] = POSE_CONFIG.spatial_strides,
        conv1_stride: int = POSE_CONFIG.conv1_stride,
        frozen_stages: int = -1,
        se_style: str = "half",
        se_ratio: float | None = SE_RATIO,
        use_swish: bool = True,
        use_sta: bool = False,
        conv_cfg: Mapping[str, object] | None = None,
        norm_cfg: Mapping[str, object] | None = None,
        act_cfg: Mapping[str, object] | None = None,
        norm_eval: bool = False,
        zero_init_residual: bool = True,
        with_cp: bool = False,
        shift_div: int = POSE_CONFIG.shift_div,
    ) -> None:
        super().__init__(
            gamma_w=gamma_w,
            gamma_b=gamma_b,
            gamma_d=gamma_d,
            pretrained=pretrained,
            in_channels=in_channels,
            base_channels=base_channels,
            num_stages=num_stages,
            stage_blocks=stage_blocks,
            spatial_strides=spatial_strides,
            conv1_stride=conv1_stride,
            frozen_stages=frozen_stages,
            se_style=se_style,
            se_ratio=se_ratio,
            use_swish=use_swish,
            use_sta=use_sta,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            norm_eval=norm_eval,
            with_cp=with_cp,
            zero_init_residual=zero_init_residual,
            shift_div=shift_div,
        )


def init_layers(module: nn.Module) -> None:
    """He-normal convolutions over the fan-out, BatchNorm 1 and 0, linear layers at std 0.01."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
