"""The two small networks: a one-class detector and an RTMPose-format keypoint network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from epam_extract.demo import POSE_SIZE

STRIDE = 8  # of the detector's cells, pixels
REACH = 24.0  # pixels that a box side of log-distance 0 lies from its cell
KEYPOINTS = 17
SPLIT = 2  # SimCC bins a pixel, fixed by rtmlib.RTMPose


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def residuals(channels: int, count: int) -> list[Residual]:
    """Return ``count`` residual blocks."""
    return [Residual(channels) for _ in range(count)]


class Pyramid(nn.Module):
    """(N, 3, H, W) -> (N, ``out``, H/8, W/8): down to 1/32 and back up.

    ``stem`` takes the picture to 1/4 with ``widths[0]`` channels; ``blocks`` counts the residual
    blocks at 1/8, 1/16 and 1/32 on the way down and at 1/8 on the way up.
    """

    def __init__(
        self,
        stem: nn.Module,
        widths: tuple[int, int, int, int],
        out: int,
        blocks: tuple[int, int, int, int],
    ) -> None:
        super().__init__()
        c4, c8, c16, c32 = widths
        self.down4 = stem
        self.down8 = nn.Sequential(convolution(c4, c8, 3, 2), *residuals(c8, blocks[0]))
        self.down16 = nn.Sequential(convolution(c8, c16, 3, 2), *residuals(c16, blocks[1]))
        self.down32 = nn.Sequential(convolution(c16, c32, 3, 2), *residuals(c32, blocks[2]))
        self.top32 = convolution(c32, c16, 1)
        self.side16 = convolution(c16, c16, 1)
        self.mix16 = convolution(c16, c16)
        self.top16 = convolution(c16, out, 1)
        self.side8 = convolution(c8, out, 1)
        self.mix8 = nn.Sequential(convolution(out, out), *residuals(out, blocks[3]))

    def forward(self, x: Tensor) -> Tensor:
        at8 = self.down8(self.down4(x))
        at16 = self.down16(at8)
        at32 = self.down32(at16)
        up = functional.interpolate(self.top32(at32), scale_factor=2.0, mode="nearest")
        at16 = self.mix16(self.side16(at16) + up)
        up = functional.interpolate(self.top16(at16), scale_factor=2.0, mode="nearest")
        return self.mix8(self.side8(at8) + up)


class Mixer(nn.Module):
    """Lets the joints of a person tell each other what they see (MLP-Mixer), (N, 17, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_across, self.before_along = nn.LayerNorm(width), nn.LayerNorm(width)
        self.across = nn.Sequential(
            nn.Linear(KEYPOINTS, 64), nn.ReLU(inplace=True), nn.Linear(64, KEYPOINTS)
        )
        self.along = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(inplace=True), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(self.before_across(x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.before_along(x))


class Detector(nn.Module):
    """Finds persons by their box's centre. BGR 0-255 in, (N, 3, H, W).

    Returns, on cells of ``STRIDE`` pixels: centre logits (N, 1, h, w), the box's log distances
    (N, 4, h, w), and keypoint logits (N, 17, h, w), which only help training.
    """

    ENDS = ("centre", "sides", "joints")  # the layers that answer

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(  # one step of 4 is a quarter faster here than two of 2
            nn.Conv2d(3, 16, 6, 4, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            Residual(16),
        )
        self.body = Pyramid(stem, (16, 48, 64, 128), 64, (2, 3, 1, 0))
        self.shared = convolution(64, 64)
        self.found = convolution(64, 64)
        self.centre = nn.Conv2d(64, 1, 1)
        self.sides = nn.Conv2d(64, 4, 1)
        self.joints = nn.Conv2d(64, KEYPOINTS, 1)
        for peaks in (self.centre, self.joints):  # start by saying that there is hardly anything
            if peaks.bias is not None:
                nn.init.constant_(peaks.bias, -4.0)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.shared(self.body((images - 114.0) / 64.0))
        found = self.found(features)
        return self.centre(found), self.sides(found), self.joints(features)


def cell_centres(height: int, width: int) -> Tensor:
    """Return (height * width, 2): x, y in pixels of each cell's middle."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2) * float(STRIDE) + (STRIDE - 1) / 2


def decode_boxes(sides: Tensor, cells: Tensor) -> Tensor:
    """Turn log distances (..., 4) at cell middles (..., 2) into x1, y1, x2, y2 (..., 4)."""
    distance = torch.exp(sides.clamp(-4, 3)) * REACH
    return torch.cat([cells - distance[..., :2], cells + distance[..., 2:]], -1)


class KeypointNet(nn.Module):
    """Finds 17 keypoints in a person's crop: (N, 3, 128, 96) normalised as rtmlib.RTMPose does.

    Returns SimCC logits over x (N, 17, 192) and over y (N, 17, 256), ``SPLIT`` bins a pixel.
    """

    ENDS = ("along_x", "along_y")  # the layers that answer

    def __init__(self) -> None:
        super().__init__()
        width, height = POSE_SIZE
        cells = (width // STRIDE) * (height // STRIDE)  # 192
        stem = nn.Sequential(convolution(3, 16, 3, 2), convolution(16, 32, 3, 2), Residual(32))
        self.body = Pyramid(stem, (32, 64, 128, 96), 64, (2, 2, 1, 2))
        self.per_joint = nn.Conv2d(64, 2 * KEYPOINTS, 1)
        self.hidden = nn.Sequential(
            nn.Linear(2 * cells, 192), nn.ReLU(inplace=True), Mixer(192), Mixer(192)
        )
        self.along_x = nn.Linear(192, width * SPLIT)
        self.along_y = nn.Linear(192, height * SPLIT)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.per_joint(self.body(crops))
        hidden = self.hidden(maps.reshape(maps.shape[0], KEYPOINTS, -1))
        return self.along_x(hidden), self.along_y(hidden)
