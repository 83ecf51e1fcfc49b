"""The numbers EPAM-Net was trained with, and the options a user may change.

An option's name, type, default, help and check are written once, in its field. The command builds
its options and ``--help`` from these fields, and ``--config`` files accept their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from .errors import ConfigError
from .options import (
    NAMES,
    POSE,
    SPEED,
    STORED,
    WEIGHTS,
    WINDOWS,
    Option,
    Text,
    check_options,
    size_like,
)

# Fixed by the published weights: changing one of these means retraining.
NUM_KEYPOINTS = 17  # COCO order, nose first
POSE_FRAMES = 48  # frames per window, pose stream
RGB_STEP = 3  # the RGB stream sees every third of them
RGB_FRAMES = POSE_FRAMES // RGB_STEP  # 16
RGB_SIZE = 224
HEATMAP_SIZE = 56
HEATMAP_SIGMA = 0.6  # in heatmap pixels
HEATMAP_CUT = 3.0  # a Gaussian's patch ends at 3 sigma
MIN_KEYPOINT_SCORE = 1e-4  # a joint below it draws nothing
BOX_PADDING = 0.25  # the person box grows to 1.25x its tight size, is made square,
BOX_MIN_SIZE = 10  # and is dropped for the whole picture when smaller than this, in pixels
UNIFORM_SEED = 255  # of the original's test-time sampling
RGB_CHANNELS, POSE_CHANNELS, GRID_SIZE = 432, 216, 7  # what comes out of the two streams
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB order, 0-255
IMAGENET_STD = (58.395, 57.12, 57.375)

# Ours. A piece is the frames that go from the decoder to the pose models at once. Batches of the
# pose models never cross a piece, so its length affects the numbers and cannot be an option.
PIECE_FRAMES = 16
PIECE_BYTES = 512 << 20  # above 4K, a piece has fewer frames


def frames_per_piece(height: int, width: int) -> int:
    """Frames in a piece of this picture size: 16, or fewer for very large pictures; at least 1."""
    return max(1, min(PIECE_FRAMES, PIECE_BYTES // (height * width * 3)))


LOWEST_RATE, HIGHEST_RATE = 0.01, 1000  # frames per second, of fps and image_fps
GRIDS = ("centered", "valid", "single")
CROPS = ("window", "video")
FEATURES = ("pooled", "full", "tokens", "attention")
PRECISIONS = ("auto", "float32", "bf16", "fp16")
STORED_DTYPES = ("f16", "f32")
COMPRESSIONS = ("none", "lzf", "gzip", "blosc2")
DECODERS = ("auto", "decord", "pyav")
_SIZES = ("lightweight", "balanced", "performance")
POSE_MODES = (*_SIZES, *(f"rtmo-{size}" for size in _SIZES), "bundled")
BATCH_SIZE = {"cpu": 1, "cuda": 64}  # a CPU takes clips one by one; small calls fill its cores
WORKERS = {"cpu": 2, "cuda": 8}
ON_DEVICE = "Default: {cpu} on a CPU, {cuda} on a GPU."


def as_fraction(rate: float | None) -> Fraction | None:
    """A frame rate as the fraction it stands for: 29.97002997 is 30000/1001."""
    return None if rate is None else Fraction(rate).limit_denominator(1001)


@dataclass(frozen=True)
class WindowConfig:
    """Where windows lie in a video."""

    grid: Annotated[
        str,
        Option(
            WINDOWS,
            "centered: cover the whole video; valid: only windows that lie inside it; single: one "
            "window per video.",
            choices=GRIDS,
        ),
    ] = "centered"
    """``centered``: window i is around frame ``i*stride + stride/2``, the edges repeat the first
    and last frame, ``ceil(T/stride)`` windows; ``single``: the original's one uniform window per
    trimmed video."""
    stride: Annotated[int, Option(WINDOWS, "Frames from one window to the next.", least=1)] = 16
    """The ``feat_stride`` of tools that read the features."""
    frame_interval: Annotated[
        int, Option(WINDOWS, "Frames from one frame of a window to the next.", least=1)
    ] = 1

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def span(self) -> int:
        """Frames of video one window covers, first to last."""
        return (POSE_FRAMES - 1) * self.frame_interval + 1


@dataclass(frozen=True)
class PoseConfig:
    """Which models find people, and which of those people are used."""

    mode: Annotated[
        str, Option(POSE, "Pose models: {choices}.", name="pose", label="pose", choices=POSE_MODES)
    ] = "balanced"
    """Ignored when ``pose_model`` is given."""
    det_model: Annotated[
        Path | None, Option(POSE, "Local person detector, an ONNX file: YOLOX or RTMDet.")
    ] = None
    """None with a one-stage ``pose_model``."""
    pose_model: Annotated[
        Path | None,
        Option(POSE, "Local pose network, an ONNX file: RTMPose, or RTMO without a detector."),
    ] = None
    det_score: Annotated[
        float | None, Option(POSE, "Minimum detection score. Default: the model's own.", least=0.0)
    ] = None
    keypoint_score: Annotated[
        float, Option(POSE, "Minimum keypoint score; those below it count as missing.", least=0.0)
    ] = 0.0
    max_persons: Annotated[
        int | None,
        Option(
            POSE,
            "Use at most this many people per window: those seen longest and clearest. "
            "Default: all.",
            least=1,
        ),
    ] = None
    """Per video if ``crop`` is ``video``. The keypoints of all people are stored either way."""
    det_every: Annotated[
        int | str,
        Option(
            POSE,
            "Detect people on every K-th frame and interpolate in between; auto: wherever needed.",
            metavar="K",
            text=Text(lambda _, typed: int(typed) if typed.lstrip("-").isdigit() else typed),
        ),
    ] = 1

    def __post_init__(self) -> None:
        check_options(self)
        every = self.det_every
        if every != "auto" and (isinstance(every, str) or every < 1):
            raise ConfigError(f"det_every must be auto or at least 1, got {every}")
        if self.det_model is not None and self.pose_model is None:
            raise ConfigError(
                "det_model needs pose_model: a detector finds people, a pose network finds their "
                "keypoints",
                "det_model",
                "pose_model",
            )


@dataclass(frozen=True)
class WeightsConfig:
    """Where the network's weights come from: files, a seed, or the demo's seed."""

    file: Annotated[
        Path | None,
        Option(
            WEIGHTS,
            "EPAM-Net checkpoint. Default: $EPAM_WEIGHTS, then the installed one.",
            name="weights",
        ),
    ] = None
    """The official multimodal checkpoint (.pth, .safetensors)."""
    rgb_file: Annotated[
        Path | None,
        Option(
            WEIGHTS,
            "Single-stream checkpoint that replaces the RGB stream of --weights.",
            name="rgb_weights",
        ),
    ] = None
    pose_file: Annotated[
        Path | None,
        Option(
            WEIGHTS,
            "Single-stream checkpoint that replaces the pose stream of --weights.",
            name="pose_weights",
        ),
    ] = None
    random_seed: Annotated[
        int | None,
        Option(
            WEIGHTS,
            "Use random weights with this seed, to try the tool.",
            name="random_weights",
            metavar="SEED",
            least=0,
        ),
    ] = None
    demo: Annotated[
        bool,
        Option(WEIGHTS, "Use random weights and the bundled pose model; downloads nothing."),
    ] = False
    """Random weights, announced as a demo. The pose model is chosen by ``PoseConfig.mode``."""

    def __post_init__(self) -> None:
        check_options(self)
        names = ("file", "rgb_file", "pose_file", "random_seed")
        given = [name for name in names if getattr(self, name) is not None]
        given += ["demo"] if self.demo else []
        if len(given) > 1 and (self.demo or self.random_seed is not None):
            raise ConfigError(f"{' and '.join(given)} contradict each other: choose one", *given)


@dataclass(frozen=True)
class ExtractConfig:
    """All options of a run.

    Those in :meth:`identity` change the numbers and must agree with a file that is resumed; the
    others (device, batch size, workers, decoder) never block a resume.
    """

    windows: WindowConfig = field(default_factory=WindowConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    keypoints: Annotated[
        Path | None,
        Option(
            POSE,
            "Read keypoints from this file or folder instead of estimating them.",
            metavar="PATH",
        ),
    ] = None
    keypoints_missing: Annotated[
        str,
        Option(
            POSE,
            "What to do with videos that --keypoints lacks: {choices}.",
            choices=("fail", "estimate"),
        ),
    ] = "fail"
    crop: Annotated[
        str,
        Option(
            WINDOWS,
            "Crop to the people of each window or of the whole video: {choices}.",
            choices=CROPS,
        ),
    ] = "window"
    """``video`` is the original's offline crop."""
    features: Annotated[
        tuple[str, ...],
        Option(
            STORED,
            "What to store: {choices}, separated by commas.",
            metavar="NAMES",
            choices=FEATURES,
            text=NAMES,
        ),
    ] = ("pooled", "full")
    precision: Annotated[
        str, Option(SPEED, "Arithmetic of the network: {choices}.", choices=PRECISIONS)
    ] = "auto"
    """``auto`` is bf16 on a GPU that has it, float32 elsewhere. The file records which was used."""
    stored_dtype: Annotated[
        str,
        Option(
            STORED,
            "Number type of full feature maps: {choices}.",
            name="dtype",
            choices=STORED_DTYPES,
        ),
    ] = "f16"
    """Pooled features are always float32."""
    compression: Annotated[
        str, Option(STORED, "Compression of full feature maps: {choices}.", choices=COMPRESSIONS)
    ] = "none"
    fps: Annotated[
        float | None,
        Option(
            WINDOWS,
            "Place windows on a regular timeline of F frames per second.",
            metavar="F",
            least=LOWEST_RATE,
            most=HIGHEST_RATE,
        ),
    ] = None
    """None: windows are placed on the video's own frames."""
    image_fps: Annotated[
        float | None,
        Option(
            None,
            "Read folders of numbered pictures as videos of F frames per second.",
            metavar="F",
            least=LOWEST_RATE,
            most=HIGHEST_RATE,
        ),
    ] = None
    decoder: Annotated[
        str,
        Option(SPEED, "Video decoder: {choices}.", choices=DECODERS, variable="EPAM_DECODER"),
    ] = "auto"
    device: Annotated[
        str,
        Option(
            SPEED,
            "Where the networks run: auto, cpu, cuda or cuda:N.",
            metavar="NAME",
            variable="EPAM_DEVICE",
        ),
    ] = "auto"
    batch_size: Annotated[
        int | None,
        Option(SPEED, f"Clips per network call. {ON_DEVICE.format(**BATCH_SIZE)}", least=1),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            SPEED,
            f"Videos read in parallel. {ON_DEVICE.format(**WORKERS)}",
            least=1,
            variable="EPAM_WORKERS",
        ),
    ] = None
    max_memory: Annotated[
        int | None,
        Option(
            SPEED,
            "Maximum memory for the pictures of one video, such as 8GB; a video that needs "
            "more fails. Default: what is free.",
            metavar="SIZE",
            least=1,
            text=size_like("8GB"),
        ),
    ] = None
    """Bytes; None: what this machine or cgroup has free when the run starts."""
    fetch_ahead: Annotated[
        int,
        Option(
            SPEED,
            "Maximum disk space for videos downloaded ahead of time.",
            metavar="SIZE",
            least=1,
            text=size_like("20GB"),
        ),
    ] = 20 * 10**9
    """Bytes of videos that may be downloaded next to the output file before they are read."""
    compile: Annotated[
        str,
        Option(
            SPEED,
            "Compile the network: auto (where it pays), on or off.",
            choices=("auto", "on", "off"),
        ),
    ] = "auto"
    """``auto``: where it pays, or as it was in the run that is resumed."""

    def __post_init__(self) -> None:
        check_options(self)
        if not self.features:
            raise ConfigError(f"features must name at least one of {', '.join(FEATURES)}")

    @property
    def frame_rate(self) -> Fraction | None:
        """``fps`` as an exact fraction."""
        return as_fraction(self.fps)

    @property
    def image_rate(self) -> Fraction | None:
        """``image_fps`` as an exact fraction."""
        return as_fraction(self.image_fps)

    def identity(self) -> Mapping[str, object]:
        """The options that change what is stored, as JSON values for the file's attributes."""
        pose = asdict(self.pose)
        names = {
            key: pose[key] for key in ("det_score", "keypoint_score", "max_persons", "det_every")
        }
        rates = {"fps": self.fps, "image_fps": self.image_fps}  # left out if not given
        return {
            **{name: rate for name, rate in rates.items() if rate is not None},
            **asdict(self.windows),
            **names,
            "crop": self.crop,
            "features": sorted(set(self.features)),
            "precision": self.precision,
            "stored_dtype": self.stored_dtype,
            "compression": self.compression,
        }
