"""The inference copy of the network: both streams folded, the attention, and who computes them.

The streams are those of ``folded``, in torch; or, compiled, those of ``native`` in C++.
"""

from __future__ import annotations

import copy
import logging
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from . import native, native_build
from .epam import RGB_STEP, EPAMBackbone, check_inputs
from .folded import FusedStream
from .native import NativeStream

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB order, 0-255; the same as config's
IMAGENET_STD = (58.395, 57.12, 57.375)


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
        compile: on a CPU, build the streams in C++ (ten seconds, and only the first time; see
            ``native``), in float32 or, where the processor has AVX512-BF16, bfloat16; elsewhere
            ``torch.compile``, at the first call of each input shape (a minute or more). Where
            that cannot be had a warning is logged, and the copy works without:
            ``FusedBackbone.compiled`` tells.
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
        self.uncompiled_because = ""
        """Why ``fuse(compile=True)`` could not have it."""
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
            pairs = [self._at_once(rgb, heatmaps)]
        elif self._native is not None:
            pairs = self._in_threads(self._native, rgb, heatmaps)
        else:
            pairs = [self._at_once(rgb[i, None], heatmaps[i, None]) for i in range(len(rgb))]
        features, pose = pairs[0] if len(pairs) == 1 else map(torch.cat, zip(*pairs, strict=True))
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
        device = self.mean.device.type
        try:
            native_build.require_compiler()
            if device == "cpu" and native.multiplies(self.dtype):
                mean, scale = self.mean.tolist(), self.scale.tolist()
                self._native = (
                    NativeStream(self.rgb, mean=mean, scale=scale, dtype=self.dtype),
                    NativeStream(self.pose, mean=mean, scale=scale, dtype=self.dtype),
                )
                self.compiled = "native"
                return
        except native_build.NativeUnavailable as error:
            self.uncompiled_because = str(error)
            logger.warning("the network runs uncompiled, at about half the speed: %s", error)
            return
        # Without CUDA graphs: they hand out the same memory at every call, and several
        # threads call this; at 64 clips a batch the launches they save are under 1 %.
        mode = "max-autotune-no-cudagraphs" if device == "cuda" else None
        self._at_once = torch.compile(self.clips, dynamic=False, mode=mode)
        self.compiled = "inductor"

    def _in_threads(
        self, streams: tuple[NativeStream, NativeStream], rgb: Tensor, heatmaps: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        """Each clip's two streams, compiled, on as many threads as torch would use."""
        native_rgb, native_pose = streams
        frames = rgb if rgb.dtype == torch.uint8 else rgb.float()
        tasks = [(native_rgb, clip) for clip in frames]
        tasks += [(native_pose, clip) for clip in heatmaps.float()]
        threads = min(torch.get_num_threads(), len(tasks))
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                done = list(pool.map(_run, tasks))
        else:
            done = [_run(task) for task in tasks]
        return [  # one by one, as the attention's bits may depend on the batch
            self._attend(features[None], pose[None])
            for features, pose in zip(done[: len(rgb)], done[len(rgb) :], strict=True)
        ]


def _run(task: tuple[NativeStream, Tensor]) -> Tensor:
    stream, clip = task
    return stream(clip.permute(1, 2, 3, 0))  # (C, T, H, W) -> (T, h, w, C')
