"""One ONNX network of a pose mode: which kind it is, and how pictures go in and people come out.

rtmlib's classes say how (mean, thresholds, the affine crop, NMS, SimCC decoding); what is ours is
the number of pictures per session run, and a preprocessing of the same numbers that is four times
as fast: rtmlib computes ``(picture - mean) / std`` in float64, here a table of 256 float32
values a channel holds the results.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..config import NUM_KEYPOINTS
from ..errors import PoseModelError
from ..records import sha256
from .onnx_file import external_files

KINDS = {
    "yolox": "a YOLOX detector",
    "rtmdet": "an RTMDet detector",
    "simcc": "an RTMPose network",
    "rtmo": "an RTMO network",
}
DETECTORS = ("yolox", "rtmdet")
RTMDET_SIDE, OTHER_SIDE = (
    320,
    640,
)  # where the model leaves its input size open: rtmdet_nano's, YOLOX's
PAD_VALUE = 114
STRIDES = (8, 16, 32)
SMALL_INPUT, MEDIUM_INPUT = 128 * 192, 416 * 416  # pixels, see _batch
GPU_PROVIDER = "CUDAExecutionProvider"

# Since 1.29 onnxruntime keeps a database of what it ran, with an id of the machine, in the user's
# cache, and sends it to its makers, unless this is set before its first session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@dataclass(frozen=True)
class Network:
    """A loaded ONNX network of known kind; safe to run from many threads at once."""

    path: Path
    kind: str
    session: Any
    width: int
    height: int
    dtype: type
    batched: bool
    """Whether many pictures may share a run."""
    batch: int
    """Pictures per run, when batched."""
    fixed_shape: bool
    """Whether the last run is filled up, so that a GPU plans one shape only."""
    tables: np.ndarray
    """(3, 256) float32: what a byte of the B, G, R channel becomes."""
    tool: Any
    """rtmlib's object of this kind, without a session; never changed."""

    def run(self, count: int, fill: Any) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Run ``count`` pictures in as few runs as may be.

        ``fill(index, out)`` writes picture ``index`` into ``out`` (3, H, W) float32. Yields which
        pictures were run, and the outputs with these along the first axis.
        """
        step = self.batch if self.batched else 1
        name = self.session.get_inputs()[0].name
        for start in range(0, count, step):
            where = slice(start, min(start + step, count))
            size = where.stop - where.start
            shape = (step if self.fixed_shape else size, 3, self.height, self.width)
            batch = np.zeros(shape, np.float32) if size < shape[0] else np.empty(shape, np.float32)
            for row, index in enumerate(range(where.start, where.stop)):
                fill(index, batch[row])
            outputs = self.session.run(None, {name: batch.astype(self.dtype, copy=False)})
            yield where, [_as_float32(output[:size]) for output in outputs]

    def describe(self) -> dict[str, object]:
        """JSON-ready identity: name, SHA-256 of the file, kind, input width and height.

        The digest goes on over the files that hold its numbers, where the model has such.
        """
        return {
            "name": self.path.name,
            "sha256": sha256(self.path, *external_files(self.path)),
            "kind": self.kind,
            "input": [self.width, self.height],
        }


def _as_float32(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


# ---------------------------------------------------------------- pictures in


def put_planes(rgb: np.ndarray, tables: np.ndarray, out: np.ndarray) -> None:
    """Write an RGB picture (h, w, 3) uint8 into B, G, R planes ``out`` (3, h, w) float32."""
    for channel, plane in zip((2, 1, 0), cv2.split(rgb), strict=True):
        cv2.LUT(plane, tables[channel], dst=out[channel])


def letterbox_ratio(frames: np.ndarray, network: Network) -> float:
    """What rtmlib scales pictures (.., h, w, 3) by to fit them into the network's input."""
    height, width = frames.shape[-3:-1]
    if (height, width) == (network.height, network.width):
        return 1.0
    return min(network.height / height, network.width / width)


def put_letterbox(rgb: np.ndarray, ratio: float, tables: np.ndarray, out: np.ndarray) -> None:
    """rtmlib's ``preprocess`` of YOLOX, RTMDet and RTMO: shrink, put top left, pad with 114."""
    if ratio != 1.0:
        size = (max(int(rgb.shape[1] * ratio), 1), max(int(rgb.shape[0] * ratio), 1))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    height, width = rgb.shape[:2]
    out[:, height:] = tables[:, PAD_VALUE, None, None]
    out[:, :height, width:] = tables[:, PAD_VALUE, None, None]
    put_planes(rgb, tables, out[:, :height, :width])


# ---------------------------------------------------------------- opening


def open_network(
    path: Path,
    wanted: Sequence[str],
    *,
    option: str,
    input_size: tuple[int, int] | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> Network:
    """Load the network at ``path``, which must be one of the kinds ``wanted``.

    ``option`` names the command-line option for messages; ``input_size`` (width, height) counts
    only where the model itself leaves it open; ``device`` is ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        PoseModelError: no such file, not ONNX, another kind, or the device is not really used.
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
    if isinstance(shapes, str) and batched:  # something behind the open axis is fixed to one
        batched = False
        shapes = _trial(session, (1, 3, height, width), dtype)
    if isinstance(shapes, str):
        raise PoseModelError(f"{wrong}; a trial run at {width}x{height} failed: {shapes}")
    kind, remark = _recognise(shapes, width, height, path)
    if kind not in wanted:
        raise PoseModelError(f"{wrong}, which is {remark}")
    tool = rtmlib_tool(kind, path, width, height)
    gpu = device != "cpu"
    return Network(
        path=path,
        kind=kind,
        session=session,
        width=width,
        height=height,
        dtype=dtype,
        batched=batched,
        batch=_batch(width * height, gpu),
        fixed_shape=gpu and batched,
        tables=_tables(tool),
        tool=tool,
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
            f"{', '.join(session.get_providers())}. Its CUDA or cuDNN libraries do not load here: "
            "install the onnxruntime-gpu that fits this driver, or use --device cpu"
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
        ort.preload_dlls()  # takes the CUDA libraries that came with torch


def _trial(session: Any, shape: tuple[int, ...], dtype: type) -> list[tuple[int, ...]] | str:
    """The outputs' shapes for one grey batch, or what went wrong."""
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
    """The kind ("" for none of them) and what to call the network in a message."""
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
    """Bins per pixel of a SimCC pair, 0 when the two do not agree."""
    return first[2] / width if first[2] * height == last[2] * width else 0.0


def _is_rtmdet(path: Path) -> bool:
    """Whether a detector is an RTMDet, going by its head's tensor names or its file's name.

    Exported with NMS it looks like a YOLOX from outside, but takes normalised pictures.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b"rtm_cls") >= 0 or "rtmdet" in path.name.lower()


def _input_size(
    path: Path, shape: Sequence[Any], input_size: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height: the model's, else the ones given, else what such models usually take."""
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
    """Pictures per run. A CPU gains little beyond a few, and memory grows with each."""
    if gpu:
        return 32
    return 16 if pixels <= SMALL_INPUT else 4 if pixels <= MEDIUM_INPUT else 2


def _tables(tool: Any) -> np.ndarray:
    levels = np.repeat(np.arange(256.0)[None], 3, axis=0)  # (3, 256)
    if tool.mean is not None:
        levels = (levels - np.array(tool.mean)[:, None]) / np.array(tool.std)[:, None]
    return levels.astype(np.float32)


@functools.cache
def yolox_grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cell (A, 2) and stride (A, 1) of every anchor of an undecoded YOLOX, int64."""
    cells, strides = [], []
    for stride in STRIDES:
        x, y = np.meshgrid(np.arange(width // stride), np.arange(height // stride))
        cells.append(np.stack((x, y), 2).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride))
    return np.concatenate(cells), np.concatenate(strides)


def rtmlib_tool(kind: str, path: Path, width: int, height: int) -> Any:
    """rtmlib's object of this kind with its settings; it loads, prints and fetches nothing."""
    import rtmlib
    from rtmlib.tools.base import BaseTool

    classes = {
        "yolox": rtmlib.YOLOX,
        "rtmdet": rtmlib.RTMDet,
        "simcc": rtmlib.RTMPose,
        "rtmo": rtmlib.RTMO,
    }

    class Settings(BaseTool):
        """Stands in for the base class, whose constructor opens the session."""

        def __init__(
            self,
            onnx_model: str,
            model_input_size: tuple[int, int],
            mean: tuple[float, ...] | None = None,
            std: tuple[float, ...] | None = None,
            backend: str = "onnxruntime",
            device: str = "cpu",
        ) -> None:
            self.onnx_model = onnx_model
            self.model_input_size = model_input_size
            self.mean, self.std = mean, std
            self.backend, self.device = backend, device

    tool = type("Tool", (classes[kind], Settings), {})
    size = (width, height) if kind == "simcc" else (height, width)  # rtmlib's two orders
    return tool(str(path), model_input_size=size)
