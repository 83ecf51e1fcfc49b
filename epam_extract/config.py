"""The numbers EPAM-Net was trained with, and the options a user may change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from .errors import ConfigError

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

# Ours. A piece is what travels from decoder to pose models at once; batches of the pose models
# never cross a piece, so its length is part of the numbers and is no option.
PIECE_FRAMES = 16
PIECE_BYTES = 512 << 20  # a piece of larger pictures than 4K has fewer frames


def frames_per_piece(height: int, width: int) -> int:
    """Frames of this size in a piece: 16, fewer of very large pictures, at least 1."""
    return max(1, min(PIECE_FRAMES, PIECE_BYTES // (height * width * 3)))


UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
LOWEST_RATE, HIGHEST_RATE = 0.01, 1000  # frames a second, of --fps and --image-fps
GRIDS = ("centered", "valid", "single")
CROPS = ("window", "video")
FEATURES = ("pooled", "full", "tokens", "attention")
PRECISIONS = ("auto", "float32", "bf16", "fp16")
STORED_DTYPES = ("f16", "f32")
COMPRESSIONS = ("none", "lzf", "gzip", "blosc2")
DECODERS = ("auto", "decord", "pyav")
POSE_MODES = (
    "lightweight",
    "balanced",
    "performance",
    "rtmo-lightweight",
    "rtmo-balanced",
    "rtmo-performance",
    "bundled",
)


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _at_least(name: str, value: float | None, least: float) -> None:
    if value is not None and value < least:
        raise ConfigError(f"{name} must be at least {least}, got {value}")


def _rate(name: str, value: float | None) -> None:
    if value is not None and not LOWEST_RATE <= value <= HIGHEST_RATE:  # NaN neither
        raise ConfigError(
            f"{name} must be {LOWEST_RATE} to {HIGHEST_RATE} frames a second, got {value}"
        )


def as_fraction(rate: float | None) -> Fraction | None:
    """A frame rate as the fraction that is meant: 29.97002997 is 30000/1001."""
    return None if rate is None else Fraction(rate).limit_denominator(1001)


@dataclass(frozen=True)
class WindowConfig:
    """Where windows fall on a video's time line."""

    grid: str = "centered"
    """``centered``: window i around frame ``i*stride + stride/2``, edges repeat the first and
    last frame, ``ceil(T/stride)`` windows; ``valid``: whole windows only; ``single``: the
    original's one uniform window per trimmed video."""
    stride: int = 16
    """Frames between neighbouring windows (``feat_stride``)."""
    frame_interval: int = 1
    """Frames between two neighbouring frames inside a window."""

    def __post_init__(self) -> None:
        _one_of("grid", self.grid, GRIDS)
        _at_least("stride", self.stride, 1)
        _at_least("frame_interval", self.frame_interval, 1)

    @property
    def span(self) -> int:
        """Frames of video one window covers, first to last."""
        return (POSE_FRAMES - 1) * self.frame_interval + 1


@dataclass(frozen=True)
class PoseConfig:
    """Which models find the people, and which of them count."""

    mode: str = "balanced"
    """One of ``POSE_MODES``; ignored when ``pose_model`` is given."""
    det_model: Path | None = None
    """Local ONNX detector (YOLOX or RTMDet); None with a one-stage ``pose_model``."""
    pose_model: Path | None = None
    """Local ONNX pose network (RTMPose, or RTMO on its own)."""
    det_score: float | None = None
    """Least score of a person; None is the rtmlib class's own default."""
    keypoint_score: float = 0.0
    """Keypoints under it count as missing."""
    max_persons: int | None = None
    """Windows see only this many persons, those seen longest and surest in them (with ``crop``
    ``video``: in the whole video); the file's keypoints are of everybody. None: all."""
    det_every: int | str = 1
    """Detect on every K-th frame and interpolate boxes between them; ``auto``: on the frames for
    which that does not do."""

    def __post_init__(self) -> None:
        _one_of("pose", self.mode, POSE_MODES)
        _at_least("det_score", self.det_score, 0.0)
        _at_least("keypoint_score", self.keypoint_score, 0.0)
        _at_least("max_persons", self.max_persons, 1)
        every = self.det_every
        if every != "auto" and (isinstance(every, str) or every < 1):
            raise ConfigError(f"det_every must be auto or at least 1, got {every}")
        if self.det_model is not None and self.pose_model is None:
            raise ConfigError(
                "--det-model needs --pose-model beside it: a detector finds people, "
                "a pose network finds their keypoints"
            )


@dataclass(frozen=True)
class WeightsConfig:
    """Where the backbone's weights come from: files, or a seed, or the demo's."""

    file: Path | None = None
    """Official multimodal checkpoint (.pth, .safetensors)."""
    rgb_file: Path | None = None
    """Official single-stream RGB checkpoint, replacing that stream of ``file``."""
    pose_file: Path | None = None
    """Official single-stream pose checkpoint, replacing that stream of ``file``."""
    random_seed: int | None = None
    """Seeded random weights, for trying the tool."""
    demo: bool = False
    """Seeded random weights announced as the demo's."""

    def __post_init__(self) -> None:
        _at_least("random_seed", self.random_seed, 0)
        ways = {
            "--weights": self.file,
            "--rgb-weights": self.rgb_file,
            "--pose-weights": self.pose_file,
        }
        given = [name for name, path in ways.items() if path is not None]
        if self.random_seed is not None:
            given.append("--random-weights")
        if self.demo:
            given.append("--demo")
        if len(given) > 1 and (self.demo or self.random_seed is not None):
            raise ConfigError(f"{' and '.join(given)} contradict each other: choose one")


@dataclass(frozen=True)
class ExtractConfig:
    """All options of a run.

    Those in :meth:`identity` change the numbers and must agree with a file that is resumed; the
    others (device, batch size, workers, decoder) never block a resume.
    """

    windows: WindowConfig = field(default_factory=WindowConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    keypoints: Path | None = None
    """File or folder of keypoints to use instead of a pose model."""
    keypoints_missing: str = "fail"
    """What becomes of a video without keypoints in it: ``fail``, or ``estimate`` them."""
    crop: str = "window"
    """Person box per ``window``, or one per ``video`` as in the original's offline crops."""
    features: tuple[str, ...] = ("pooled", "full")
    """Any of ``FEATURES``."""
    precision: str = "auto"
    """Arithmetic of the network: one of ``PRECISIONS``; ``auto`` is bf16 on a GPU that has it and
    float32 elsewhere. The file records what was really used."""
    stored_dtype: str = "f16"
    """dtype of full feature maps on disk; pooled features are always float32."""
    compression: str = "none"
    """Of full feature maps: one of ``COMPRESSIONS``."""
    fps: float | None = None
    """Frames a second of a regular time line that windows are on; None: the video's own frames."""
    image_fps: float | None = None
    """Read folders of numbered pictures as videos of so many frames a second."""
    decoder: str = "auto"
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    batch_size: int | None = None
    """Clips per network call; None is 1 on a CPU and 64 on a GPU."""
    workers: int | None = None
    """Videos read at the same time; None is 2 on a CPU and 8 on a GPU."""
    max_memory: int | None = None
    """Bytes that the pictures of one video may take; one that needs more fails. None: what this
    machine, or the cgroup, has left when the run begins."""
    fetch_ahead: int = 20 * 10**9
    """Bytes of videos from elsewhere that may lie beside the output, fetched and not yet read."""
    compile: str = "auto"
    """Compile the network: ``auto`` (where it pays, and as the file's was), ``on`` or ``off``."""

    def __post_init__(self) -> None:
        _one_of("crop", self.crop, CROPS)
        _one_of("keypoints_missing", self.keypoints_missing, ("fail", "estimate"))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("stored_dtype", self.stored_dtype, STORED_DTYPES)
        _one_of("compression", self.compression, COMPRESSIONS)
        _one_of("decoder", self.decoder, DECODERS)
        _one_of("compile", self.compile, ("auto", "on", "off"))
        _rate("fps", self.fps)
        _rate("image_fps", self.image_fps)
        _at_least("batch_size", self.batch_size, 1)
        _at_least("workers", self.workers, 1)
        _at_least("max_memory", self.max_memory, 1)
        _at_least("fetch_ahead", self.fetch_ahead, 1)
        if not self.features:
            raise ConfigError(f"features must name at least one of {', '.join(FEATURES)}")
        for name in self.features:
            _one_of("features", name, FEATURES)

    @property
    def frame_rate(self) -> Fraction | None:
        """``fps`` as a fraction."""
        return as_fraction(self.fps)

    @property
    def image_rate(self) -> Fraction | None:
        """``image_fps`` likewise."""
        return as_fraction(self.image_fps)

    def identity(self) -> Mapping[str, object]:
        """The options that change what is stored, JSON-ready, for the file's attributes."""
        pose = asdict(self.pose)
        names = {
            key: pose[key] for key in ("det_score", "keypoint_score", "max_persons", "det_every")
        }
        rates = {"fps": self.fps, "image_fps": self.image_fps}  # named by files that have them
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


def parse_bytes(option: str, text: str, *, like: str) -> int:
    """``8GB``, ``500 MB``, ``1.5g`` in bytes, in thousands; ``1GiB`` in 1024s.

    Raises ConfigError for anything else, and for nothing, which names ``option`` and an example.
    """
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b?\s*", text, re.I)
    if found is None or not (size := float(found[1])):
        raise ConfigError(f"{option} {text}: expected a size such as {like} or 500MB")
    unit = UNITS[found[2].lower()]
    if found[3]:  # KiB, MiB, GiB
        unit = 1024 ** (list(UNITS.values()).index(unit))
    return int(size * unit)


def format_bytes(count: float) -> str:
    """``1.4 GB``: bytes as disks count them, in thousands."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return (
                f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
            )
        count /= 1000
    return f"{count:.1f} TB"
