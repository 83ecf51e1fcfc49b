"""One ONNX network of a pose mode: which kind it is, and many pictures per session run.

Known kinds, by what comes out of a trial run:

====== =================================================================== =====================
kind   outputs (N pictures, D detections)                                  takes
====== =================================================================== =====================
yolox  (N, D, 5) boxes and score after NMS, labels or not; or (N, A, 5+C)  BGR 0-255, padded
rtmdet (N, D, 5) and labels                                                BGR normalised, padded
simcc  (N, 17, k*W) and (N, 17, k*H)                                       person crops, normalised
rtmo   (N, D, 5) and (N, D, 17, 3)                                         BGR 0-255, padded
====== =================================================================== =====================
"""

from __future__ import annotations

import functools
import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..config import NUM_KEYPOINTS
from ..errors import PoseModelError
from ..records import sha256
from .onnx_file import external_files
from .rtmlib_settings import RtmlibSettings

KINDS = {
    "yolox": "a YOLOX detector",
    "rtmdet": "an RTMDet detector",
    "simcc": "an RTMPose network",
    "rtmo": "an RTMO network",
}
DETECTORS = ("yolox", "rtmdet")
RTMDET_SIDE, OTHER_SIDE = 320, 640  # rtmdet_nano's and YOLOX's, where a model leaves its size open
PAD_VALUE = 114
STRIDES = (8, 16, 32)
SMALL_INPUT, MEDIUM_INPUT = 128 * 192, 416 * 416  # pixels, see _batch
GPU_PROVIDER = "CUDAExecutionProvider"

# Since 1.29 onnxruntime keeps a database of what it ran, with an id of the machine, in the user's
# cache and sends it to its makers, unless this is set before its first session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True)
class OnnxNetwork:
    """A loaded ONNX network of known kind; many threads may run it at once."""

    path: Path
    kind: str
    session: Any
    width: int
    height: int
    dtype: type
    batched: bool
    """Whether several pictures may share a run."""
    batch: int
    """Pictures per run, when batched."""
    fixed_shape: bool
    """Whether the last run is filled up, so that a GPU plans for one shape only."""
    settings: RtmlibSettings
    tables: np.ndarray
    """(3, 256) float32: what a byte of the B, G and R channel becomes."""
    _idle: list[np.ndarray] = field(default_factory=list, init=False, repr=False, compare=False)
    """Input arrays of full size that no thread uses at the moment."""

    def run(
        self, count: int, fill: Callable[[int, np.ndarray], object]
    ) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Run ``count`` pictures in as few session runs as possible.

        Args:
            count: how many pictures there are.
            fill: ``fill(index, out)`` writes picture ``index`` into ``out`` (3, H, W) float32.

        Yields:
            Which pictures were run, and the outputs with those pictures along the first axis;
            half-precision outputs as float32.
        """
        step = self.batch if self.batched else 1
        name = self.session.get_inputs()[0].name
        for start in range(0, count, step):
            where = slice(start, min(start + step, count))
            size = where.stop - where.start
            pictures = self._take(step)
            for row, index in enumerate(range(where.start, where.stop)):
                fill(index, pictures[row])
            if self.fixed_shape:
                pictures[size:] = 0
            used = pictures if self.fixed_shape else pictures[:size]
            outputs = self.session.run(None, {name: used.astype(self.dtype, copy=False)})
            self._idle.append(pictures)
            yield where, [_as_float32(output[:size]) for output in outputs]

    def _take(self, step: int) -> np.ndarray:
        """An input array (step, 3, H, W) float32 that nobody else uses, with any content.

        Arrays are kept, since a new one costs a page fault per 4 KB whenever the allocator gets it
        from the system. There are as many as threads ever ran at the same time.
        """
        try:
            return self._idle.pop()
        except IndexError:
            return np.empty((step, 3, self.height, self.width), np.float32)

    def describe(self) -> dict[str, object]:
        """JSON-ready identity: name, SHA-256, kind, and input width and height.

        The digest covers the file and those beside it that hold some of its tensors.
        """
        return {
            "name": self.path.name,
            "sha256": sha256(self.path, *external_files(self.path)),
            "kind": self.kind,
            "input": [self.width, self.height],
        }


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


# ---------------------------------------------------------------- opening


def open_network(
    path: Path,
    wanted: Sequence[str],
    *,
    option: str,
    input_size: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> OnnxNetwork:
    """Load the network at ``path``, which must be of one of the kinds ``wanted``.

    Args:
        path: an ONNX file.
        wanted: keys of ``KINDS``.
        option: the command-line option that names the file, for messages.
        input_size: width and height, used only if the model leaves them open.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: that onnxruntime uses for one run.

    Raises:
        PoseModelError: the file is missing, not ONNX or of another kind, or the network does not
            run on ``device``.
    """
    expected = " or ".join(KINDS[kind] for kind in wanted)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise PoseModelError(f"{option} {path}: {what}. Expected the ONNX file of {expected}")
    try:
        external_files(path)
    except (OSError, ValueError) as error:
        raise PoseModelError(
            f"{option} {path}: is no ONNX network ({error}). Expected the file of {expected}; "
            "delete a damaged download and start again"
        ) from error
    session = _open_session(path, option, expected, device, threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    graph = " -> ".join(", ".join(f"{i.name} {_shape(i)}" for i in io) for io in (inputs, outputs))
    wrong = f"{option} {path}: expected {expected}, found a graph {graph}"
    first = inputs[0]
    takes_pictures = len(inputs) == 1 and len(first.shape) == 4 and _may_be(first.shape[1], 3)
    if not takes_pictures or first.type not in ("tensor(float)", "tensor(float16)"):
        raise PoseModelError(f"{wrong}, which does not take pictures as floats (N, 3, H, W)")
    dtype = np.float16 if "float16" in first.type else np.float32
    width, height = _input_size(path, first.shape, input_size)
    batched = not isinstance(first.shape[0], int)
    shapes = _trial(session, (2 if batched else 1, 3, height, width), dtype)
    if isinstance(shapes, str) and batched:  # the graph fixes the open axis to one further on
        batched = False
        shapes = _trial(session, (1, 3, height, width), dtype)
    if isinstance(shapes, str):
        raise PoseModelError(f"{wrong}; a trial run at {width}x{height} failed: {shapes}")
    kind, remark = _recognise(shapes, width, height, path)
    if kind not in wanted:
        raise PoseModelError(f"{wrong}, which is {remark}")
    settings = RtmlibSettings.of(kind)
    gpu = device != "cpu"
    return OnnxNetwork(
        path=path,
        kind=kind,
        session=session,
        width=width,
        height=height,
        dtype=dtype,
        batched=batched,
        batch=_batch(width * height, gpu),
        fixed_shape=gpu and batched,
        settings=settings,
        tables=settings.level_tables(),
    )


def _open_session(path: Path, option: str, expected: str, device: str, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu":
        name, _, index = device.partition(":")
        if name != "cuda" or (index and not index.isdigit()):
            raise PoseModelError(f"device must be cpu, cuda or cuda:N, got {device!r}")
        _check_gpu(ort, device)
        # The exhaustive search, onnxruntime's default, times every algorithm for each new shape.
        settings = {"device_id": int(index or 0), "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, (GPU_PROVIDER, settings))
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base class but this one
        if device != "cpu":
            raise PoseModelError(f"{option} {path}: not usable on {device}: {error}") from error
        raise PoseModelError(
            f"{option} {path}: onnxruntime cannot read it as an ONNX network "
            f"({str(error).splitlines()[0][:160]}). Expected the file of {expected}; delete a "
            "damaged download and start again"
        ) from error
    if device != "cpu" and GPU_PROVIDER not in session.get_providers():
        raise PoseModelError(
            f"{option} {path}: asked for {device}, but onnxruntime fell back to "
            f"{', '.join(session.get_providers())}. Its CUDA or cuDNN libraries cannot be loaded: "
            "install an onnxruntime-gpu that fits this driver, or use --device cpu"
        )
    return session


def gpu_provider_available() -> bool:
    """Whether the installed onnxruntime has CUDA at all (the ``onnxruntime-gpu`` wheel)."""
    import onnxruntime as ort

    return GPU_PROVIDER in ort.get_available_providers()


def _check_gpu(ort: Any, device: str) -> None:
    if not gpu_provider_available():
        raise PoseModelError(
            f"asked for {device}, but the installed onnxruntime {ort.__version__} runs only on "
            f"{', '.join(ort.get_available_providers())}. Install onnxruntime-gpu in its place "
            "(pip uninstall onnxruntime; pip install onnxruntime-gpu), or use --device cpu"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # loads the CUDA libraries that came with torch


def _trial(session: Any, shape: tuple[int, ...], dtype: type) -> list[tuple[int, ...]] | str:
    """The shapes of the outputs for a grey batch, or what went wrong."""
    grey: np.ndarray = np.full(shape, PAD_VALUE, dtype)
    try:
        outputs = session.run(None, {session.get_inputs()[0].name: grey})
    except Exception as error:  # onnxruntime's errors share no base class but this one
        return str(error).splitlines()[0][:200]
    shapes = [np.shape(output) for output in outputs]
    if any(s[:1] != shape[:1] for s in shapes):
        return f"{shape[0]} pictures gave outputs {', '.join(map(str, shapes))}"
    return shapes


def _recognise(
    shapes: list[tuple[int, ...]], width: int, height: int, path: Path
) -> tuple[str, str]:
    """The kind ("" if it is none of them) and what a message calls the network."""
    ranks = [len(shape) for shape in shapes]
    first, last = shapes[0], shapes[-1]
    keypoints = None
    kind = ""
    if ranks == [3, 4] and first[2] == 5 and last[3] == 3:
        kind, keypoints = "rtmo", last[2]
    elif ranks == [3, 3] and first[1] == last[1] and _split(first, last, width, height):
        kind, keypoints = "simcc", first[1]
    elif (ranks in ([3], [3, 2]) and first[2] == 5) or (
        ranks == [3] and first[2] > 5 and first[1] == len(yolox_grid(width, height)[0])
    ):
        kind = "rtmdet" if _is_rtmdet(path) else "yolox"
    elif ranks[0] == 4 and first[1] == NUM_KEYPOINTS:
        return "", "a pose network with heatmaps, such as ViTPose, which is not supported"
    if keypoints is not None and keypoints != NUM_KEYPOINTS:
        return "", f"{KINDS[kind]} of {keypoints} keypoints; EPAM-Net takes the 17 of COCO"
    return kind, KINDS.get(kind, "no kind that is known here")


def _split(first: tuple[int, ...], last: tuple[int, ...], width: int, height: int) -> float:
    """Bins per pixel of a SimCC pair; 0 if the two do not agree."""
    return first[2] / width if first[2] * height == last[2] * width else 0.0


def _is_rtmdet(path: Path) -> bool:
    """Whether a detector is an RTMDet, judging by the names of its tensors or its file.

    Exported with NMS it has the outputs of a YOLOX, but it takes normalised pictures.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"rtm_cls") >= 0 or "rtmdet" in path.name.lower()


def _input_size(
    path: Path, shape: Sequence[Any], input_size: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height: the model's, else the given ones, else the usual ones of such models."""
    height, width = shape[2:]
    if isinstance(height, int) and isinstance(width, int):
        return width, height
    if input_size is not None:
        return input_size
    named = re.search(
        r"(?<!\d)(\d{2,4})x(\d{2,4})(?!\d)", path.name
    )  # height x width, as in mmpose
    if named:
        return int(named[2]), int(named[1])
    side = RTMDET_SIDE if _is_rtmdet(path) else OTHER_SIDE
    return side, side


def _shape(value: Any) -> str:
    return f"({', '.join(str(n) for n in value.shape)})"


def _may_be(found: Any, wanted: int) -> bool:
    return found == wanted or not isinstance(found, int)


def _batch(pixels: int, gpu: bool) -> int:
    """Pictures per run. More than a few gain little on a CPU, and each costs memory."""
    if gpu:
        return 32
    return 16 if pixels <= SMALL_INPUT else 4 if pixels <= MEDIUM_INPUT else 2


@functools.cache
def yolox_grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell (A, 2) and stride (A, 1) of every anchor of an undecoded YOLOX, int64."""
    cells, strides = [], []
    for stride in STRIDES:
        x, y = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        cells.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)
