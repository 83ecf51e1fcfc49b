"""The network: its weights, and features of batches of clips, as they are stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..config import ExtractConfig, WeightsConfig
from ..errors import CheckpointError, ConfigError, MachineError
from ..heatmaps import render_heatmaps
from ..model import (
    EPAMBackbone,
    load_stream_weights,
    load_weights,
    random_weights,
    weights_identity,
)
from ..model.fast import fuse, pool, tokens
from ..records import Clip, ClipBatch, FeatureBatch
from .concurrency import Pause
from .device import DTYPES
from .jobs import VideoResult

MAX_OTHERS = 64  # results that may wait for clips
STORED = {"f16": torch.float16, "f32": torch.float32}
DEMO_SEED = 0


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone with weights in it, and where they came from."""

    backbone: EPAMBackbone
    identity: Mapping[str, object]
    """JSON-ready: file and sha256, or the seed of random weights."""
    announcement: str | None
    """What the user must know, such as that the weights are random."""


def load_backbone(config: WeightsConfig) -> LoadedBackbone:
    """Build an EPAM-Net backbone and load, strictly, the weights that ``config`` names.

    Raises:
        ConfigError: no weights are named.
        CheckpointError: a file does not fit, or leaves the attention without weights.
    """
    streams = {"rgb": config.rgb_file, "pose": config.pose_file}
    given = [path for path in streams.values() if path is not None]
    if config.file is None and given:
        raise CheckpointError(
            f"{given[0]}: single-stream weights leave the attention without weights, and the RGB "
            "features pass through it. Pass the multimodal checkpoint with --weights too; "
            "--rgb-weights and --pose-weights then replace its streams."
        )
    backbone = EPAMBackbone()
    if config.file is not None:
        load_weights(backbone, config.file)
        identity: dict[str, object] = {**weights_identity(config.file)}
        for stream, path in streams.items():
            if path is not None:
                load_stream_weights(backbone, stream, path)
                identity[stream] = dict(weights_identity(path))
        return LoadedBackbone(backbone.eval(), identity, None)
    if config.demo:
        random_weights(backbone, DEMO_SEED)
        return LoadedBackbone(
            backbone.eval(),
            {"demo": True, "random_seed": DEMO_SEED},
            "demo: the weights are random, so these features are for trying the tool, "
            "not for science",
        )
    if config.random_seed is None:
        raise ConfigError(
            "no weights are named: expected a checkpoint (--weights FILE), --random-weights SEED "
            "or --demo"
        )
    random_weights(backbone, config.random_seed)
    return LoadedBackbone(
        backbone.eval(),
        {"random_seed": config.random_seed},
        f"the weights are random (seed {config.random_seed}): these features are for trying the "
        "tool, not for science",
    )


@dataclass
class ClipGroup:
    """Clips for one call of the network, and the other results that came between them."""

    clips: list[Clip] = field(default_factory=list)
    others: list[VideoResult] = field(default_factory=list)
    last: bool = False
    """Nothing follows for a while."""


def group_clips(results: Iterable[VideoResult | Pause], size: int) -> Iterator[ClipGroup]:
    """Group clips by ``size``, across videos; other results stay with the clips they precede."""
    group = ClipGroup()
    for result in results:
        if isinstance(result, Pause):
            group.last = True
            yield group
            group = ClipGroup()
            continue
        if isinstance(result, Clip):
            group.clips.append(result)
        else:
            group.others.append(result)
        if len(group.clips) == size or len(group.others) >= MAX_OTHERS:
            yield group
            group = ClipGroup()
    if group.clips or group.others:
        yield group


class BackboneRunner:
    """Computes the features of batches of clips on one device; several threads may call it.

    Every call runs at the batch shape it is given. If a GPU runs out of memory, batches are halved
    from then on, and ``on_halved`` is called with the new size.
    """

    def __init__(
        self,
        backbone: EPAMBackbone,
        config: ExtractConfig,
        *,
        device: torch.device,
        compile: bool = False,
        on_halved: Callable[[int], None] | None = None,
    ) -> None:
        self.device = device
        self.features = config.features
        self.stored = STORED[config.stored_dtype]
        self.dtype = DTYPES[config.precision]
        self._fused = fuse(backbone.to(device), dtype=self.dtype, compile=compile)
        self.compiled: str = self._fused.compiled
        """``native``, ``inductor`` or empty; the last digits of features depend on it."""
        self.uncompiled_because: str = self._fused.uncompiled_because
        self._limit: int | None = None
        self._on_halved = on_halved
        self._local = threading.local()

    def __call__(self, batch: ClipBatch) -> FeatureBatch:
        """The features of the batch's clips, without its padding.

        Raises:
            MachineError: the GPU is lost, or not even one clip fits in memory.
        """
        while True:
            # A CPU takes clips one by one and needs no padding to a fixed shape.
            full = len(batch.rows) if self.device.type == "cpu" else len(batch.rgb)
            size = min(self._limit or full, full)
            try:
                parts = [self._run(batch, i, size) for i in range(0, len(batch.rows), size)]
                break
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                if size == 1:
                    raise MachineError(
                        "not even one clip fits in the GPU's memory; free some, or use another "
                        "--device"
                    ) from None
                self._limit = size // 2
                if self._on_halved is not None:
                    self._on_halved(self._limit)
            except MemoryError:
                raise MachineError(
                    "out of memory in the network; use a smaller --batch-size or fewer --workers"
                ) from None
            except RuntimeError as error:
                if "CUDA" not in str(error) and "can't allocate memory" not in str(error):
                    raise
                first = str(error).splitlines()[0]
                raise MachineError(f"the device failed in the network: {first}") from error
        arrays = {
            name: np.concatenate([part[name] for part, _ in parts])[: len(batch.rows)]
            for name in parts[0][0]
        }
        clipped = np.concatenate([clipped for _, clipped in parts])[: len(batch.rows)]
        return FeatureBatch(batch.rows, arrays, clipped)

    def _run(
        self, batch: ClipBatch, start: int, size: int
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Features of ``size`` clips from ``start`` on, padded with zeros past the end."""
        with torch.inference_mode(), self._stream():
            rgb, keypoints, scores = (
                self._to_device(array[start : start + size], size)
                for array in (batch.rgb, batch.keypoints, batch.keypoint_scores)
            )
            heatmaps = render_heatmaps(keypoints, scores)
            out_rgb, out_pose = self._fused(rgb, heatmaps)
            tensors, clipped = self._store_form({"rgb": out_rgb, "pose": out_pose})
            if "attention" in self.features:
                tensors["attention"] = self._fused.attention_map(out_pose).half()
            arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
            return arrays, clipped.cpu().numpy()

    def _stream(self) -> torch.cuda.StreamContext:
        """This thread's own CUDA stream, so that copies and kernels of two threads overlap."""
        if self.device.type == "cuda" and not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.device)
        return torch.cuda.stream(getattr(self._local, "stream", None))

    def _to_device(self, array: np.ndarray, size: int) -> Tensor:
        tensor = torch.from_numpy(array)
        if len(tensor) < size:
            tensor = torch.cat([tensor, tensor.new_zeros(size - len(tensor), *tensor.shape[1:])])
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _store_form(self, streams: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Pool and cast on the device; also return how many values of each row were clipped."""
        tensors: dict[str, Tensor] = {}
        rows = len(next(iter(streams.values())))
        clipped = torch.zeros(rows, dtype=torch.int64, device=self.device)
        for name, x in streams.items():  # (N, C, T, 7, 7)
            if "pooled" in self.features:
                tensors[f"{name}_pooled"] = pool(x)
            if "tokens" in self.features:
                tensors[f"{name}_tokens"] = tokens(x)
            if "full" in self.features:
                most = torch.finfo(self.stored).max
                clipped += (x.abs() > most).flatten(1).sum(1)
                tensors[name] = x.clamp(-most, most).to(self.stored).contiguous()
        return tensors, clipped
