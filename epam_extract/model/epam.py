"""EPAM-Net without its heads: two X3D streams, and attention from the pose stream on RGB.

Attribute names are the official checkpoints' names: renaming one breaks loading.
Source: github.com/ahmed-nady/Multimodal-Action-Recognition.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import load_stream
from .x3d import X3DTemporalShift, X3DTemporalShiftPose, init_layers

POSE_FRAMES = 48  # per clip
RGB_STEP = 3  # pose frames from one RGB frame to the next
RGB_FRAMES = POSE_FRAMES // RGB_STEP  # 16
GRID_SIZE = 7  # height and width of what comes out, for 224 x 224 frames and 56 x 56 heatmaps
ATTENTION_KERNEL = 7


class CBAMSpatialEfficientTemporalAttention(nn.Module):
    """Where and when to look, judged from the pose features.

    Spatial attention as in CBAM: maximum and mean over the channels, then one 7x7
    convolution; then temporal attention: a convolution over 7 frames. Values in (0, 1).

    Args:
        attention_type: ``"nested"``, what EPAM-Net uses: time is judged from the spatial map,
            and the result is their product (N, 1, T, H, W). ``"serial"``: time is judged from
            the RGB features that the spatial map leaves, and the result is (N, 1, T, 1, 1).
        kernel_size: of both convolutions, odd.
    """

    def __init__(self, attention_type: str = "nested", kernel_size: int = ATTENTION_KERNEL) -> None:
        super().__init__()
        if attention_type not in ("nested", "serial"):
            raise ValueError(f"attention_type is {attention_type!r}, expected 'nested' or 'serial'")
        self.attention_type = attention_type
        pad = kernel_size // 2
        kernel = (1, kernel_size, kernel_size)
        self.spatial = nn.Sequential(
            OrderedDict(
                conv=nn.Conv3d(2, 1, kernel, padding=(0, pad, pad), bias=False),
                bn=nn.BatchNorm3d(1, momentum=0.01),
            )
        )
        self.conv_temporal_attention = nn.Conv1d(1, 1, kernel_size, padding=pad, bias=False)

    def forward(self, x: Tensor, x_rgb: Tensor | None = None) -> Tensor:
        """Pose features (N, C, T, H, W), and RGB ones for ``serial`` -> attention."""
        pooled = torch.stack([x.amax(1), x.mean(1)], dim=1)  # (N, 2, T, H, W)
        where = self.spatial(pooled).sigmoid()  # (N, 1, T, H, W)
        if self.attention_type == "nested":
            when = self.conv_temporal_attention(where.mean((3, 4))).sigmoid()  # (N, 1, T)
            return where * when[..., None, None]  # (N, 1, T, H, W)
        if x_rgb is None:
            raise ValueError("serial attention needs the RGB features too: attention(pose, rgb)")
        seen = (x_rgb * where).mean((1, 3, 4))[:, None]  # (N, 1, T)
        return self.conv_temporal_attention(seen).sigmoid()[..., None, None]  # (N, 1, T, 1, 1)


class SpatialTemporalAttention(nn.Module):
    """The authors' earlier attention: channels to one map by convolution, time by two layers.

    ``conv_sptial_attention`` is the official checkpoint's spelling. Unlike the default
    attention it is made for one length: ``fc1`` and ``fc2`` are over ``frames``.
    """

    def __init__(self, channels: int = 256, frames: int = RGB_FRAMES) -> None:
        super().__init__()
        self.frames = frames
        self.conv_ch_compress = nn.Conv3d(channels, 1, (1, 3, 3), padding=(0, 1, 1))
        self.conv_sptial_attention = nn.Conv3d(1, 1, (1, 7, 7), padding=(0, 3, 3))
        self.fc1 = nn.Linear(frames, frames, bias=False)
        self.fc2 = nn.Linear(frames, frames, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pose features (N, C, frames, H, W) -> attention (N, 1, frames, H, W) in (0, 1)."""
        squeezed = self.conv_ch_compress(x).relu()  # (N, 1, T, H, W)
        where = self.conv_sptial_attention(squeezed).sigmoid()  # (N, 1, T, H, W)
        when = self.fc2(self.fc1(where.mean((3, 4))).relu()).sigmoid()  # (N, 1, T)
        return where * when[..., None, None]


def _cbam(channels: int) -> nn.Module:
    return CBAMSpatialEfficientTemporalAttention()


ATTENTION_TYPES: dict[str, Callable[[int], nn.Module]] = {
    "CBAM_spatial_efficient_temporal": _cbam,
    "spatial_temporal": SpatialTemporalAttention,
}


class EPAMBackbone(nn.Module):
    """Both streams of EPAM-Net and the attention between them.

    Args:
        num_classes: kept for code written for the original; the backbone has no head.
        rgb_pretrained: official single-stream RGB checkpoint, loaded strictly at once (and
            again by ``init_weights()``).
        pose_pretrained: the same for the pose stream.
        attention_type: one of ``ATTENTION_TYPES``.
        freeze_rgb: train nothing of the RGB stream, its BatchNorm statistics included.
        freeze_pose: the same for the pose stream.
        return_both_streams: False returns the RGB features alone.

    Raises:
        CheckpointError: a ``*_pretrained`` file does not fit its stream.
        ValueError: unknown ``attention_type``.
    """

    def __init__(
        self,
        num_classes: int = 60,
        rgb_pretrained: str | Path | None = None,
        pose_pretrained: str | Path | None = None,
        attention_type: str = "CBAM_spatial_efficient_temporal",
        freeze_rgb: bool = False,
        freeze_pose: bool = False,
        return_both_streams: bool = True,
    ) -> None:
        super().__init__()
        if attention_type not in ATTENTION_TYPES:
            raise ValueError(
                f"attention_type is {attention_type!r}, "
                f"expected one of {', '.join(ATTENTION_TYPES)}"
            )
        self.num_classes = num_classes
        self.attention_type = attention_type
        self.return_both_streams = return_both_streams
        self.rgb_backbone = X3DTemporalShift(pretrained=rgb_pretrained)
        self.pose_backbone = X3DTemporalShiftPose(pretrained=pose_pretrained)
        self.attention_module = ATTENTION_TYPES[attention_type](self.pose_backbone.feat_dim)
        self.frozen = [
            stream
            for stream, freeze in (
                (self.rgb_backbone, freeze_rgb),
                (self.pose_backbone, freeze_pose),
            )
            if freeze
        ]
        self._load_pretrained()
        self.train()

    def forward(self, rgb: Tensor, heatmaps: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the features of ``N`` clips.

        Args:
            rgb: (N, 3, 16, 224, 224) float, ImageNet-normalised RGB (see ``config``).
            heatmaps: (N, 17, 48, 56, 56) float; frame 3i is the moment of RGB frame i.

        Returns:
            RGB features (N, 432, 16, 7, 7), attention applied, and pose features
            (N, 216, 48, 7, 7); the first alone without ``return_both_streams``.
        """
        check_inputs(rgb, heatmaps)
        pose = self.pose_backbone(heatmaps)  # (N, 216, 48, 7, 7)
        features = self.rgb_backbone(rgb)  # (N, 432, 16, 7, 7)
        attention = self.attention_module(pose[:, :, ::RGB_STEP])  # (N, 1, 16, 7, 7)
        features = features + features * attention
        return (features, pose) if self.return_both_streams else features

    def init_weights(self) -> None:
        """Initialise as the original does, then load the ``*_pretrained`` files, if any.

        This zeroes every residual branch: a start for training, no features.
        ``random_weights`` gives a network that computes something.
        """
        init_layers(self.attention_module)
        self.rgb_backbone.init_weights()
        self.pose_backbone.init_weights()

    def get_feature_dims(self) -> dict[str, int]:
        """Channels, frames and grid size of what ``forward`` returns for clips of usual size."""
        return {
            "rgb_channels": self.rgb_backbone.feat_dim,
            "pose_channels": self.pose_backbone.feat_dim,
            "rgb_spatial": GRID_SIZE,
            "pose_spatial": GRID_SIZE,
            "rgb_temporal": RGB_FRAMES,
            "pose_temporal": POSE_FRAMES,
        }

    def train(self, mode: bool = True) -> EPAMBackbone:
        """Set training mode; a frozen stream stays in eval mode and takes no gradient."""
        super().train(mode)
        for stream in self.frozen:
            stream.eval()
            stream.requires_grad_(False)
        return self

    def _load_pretrained(self) -> None:
        for name in ("rgb", "pose"):
            network = getattr(self, f"{name}_backbone")
            if network.pretrained is not None:
                load_stream(network, Path(network.pretrained), stream=name)


def check_inputs(rgb: Tensor, heatmaps: Tensor) -> None:
    """Raise ValueError unless they fit: rgb (N, 3, T, H, W) and heatmaps (N, 17, 3T, h, w)."""
    fits = (
        rgb.ndim == heatmaps.ndim == 5
        and (rgb.shape[0], rgb.shape[1]) == (heatmaps.shape[0], 3)
        and heatmaps.shape[1] == 17
        and heatmaps.shape[2] == RGB_STEP * rgb.shape[2]
    )
    if not fits:
        raise ValueError(
            f"got rgb {tuple(rgb.shape)} and heatmaps {tuple(heatmaps.shape)}, expected "
            "(N, 3, 16, 224, 224) and (N, 17, 48, 56, 56): three heatmap frames to one RGB frame"
        )
