"""Stand-ins for rtmlib's models, for ``bench --stand-in``: as large, but with random weights.

What a model costs depends on its graph, not on its weights. These graphs are those of mmdetection
(YOLOX: CSPDarknet, PAFPN, decoupled head) and mmpose (RTMPose: CSPNeXt, RTMCC head), layer by
layer, with BatchNorm folded as in exported files. Parameters (millions) and multiply-adds per
picture (billions) were counted while writing, and compared with the tables of YOLOX (80 classes;
here one, as trained on Human-Art) and RTMPose:

========================== ============ ============ ============ ============
model, height x width      parameters   published    multiply-adds published
========================== ============ ============ ============ ============
YOLOX-tiny 416x416         5.03         5.06         3.18         3.23
YOLOX-m 640x640            25.28        25.3         36.64        36.9
YOLOX-x 640x640            98.99        99.1         140.49       140.95
RTMPose-s 256x192          5.47         5.47         0.68         0.68
RTMPose-m 256x192          13.59        13.59        1.92         1.93
RTMPose-x 384x288          49.43        49.43        17.16        17.22
========================== ============ ============ ============ ============

Three things differ. Random weights find nobody, so the detector computes everything and then puts
out given boxes, the same for every picture: ``--det-every auto`` detects as rarely as it can. The
published detectors end in NMS, which is left out. Keypoints are anywhere in their box.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import NUM_KEYPOINTS, ExtractConfig, PoseConfig
from ..errors import ConfigError
from ..pose import open_pose_model
from ..pose.model_files import model_files
from ..records import Video
from ..video import read_frames
from .onnx_graph import INT64, Graph


@dataclass(frozen=True)
class Size:
    """Which of a family's networks."""

    name: str
    deepen: float
    widen: float


DETECTORS = {
    "lightweight": Size("YOLOX-tiny", 0.33, 0.375),
    "balanced": Size("YOLOX-m", 0.67, 0.75),
    "performance": Size("YOLOX-x", 1.33, 1.25),
}
POSE_NETWORKS = {
    "lightweight": Size("RTMPose-s", 0.33, 0.5),
    "balanced": Size("RTMPose-m", 0.67, 0.75),
    "performance": Size("RTMPose-x", 1.33, 1.25),
}


@dataclass(frozen=True)
class StandIn:
    """A model written for measuring."""

    path: Path
    name: str
    """Of the model that it stands for."""
    parameters: int
    macs: int
    """Multiply-adds for one picture, or one person."""

    def __str__(self) -> str:
        millions, billions = self.parameters / 1e6, self.macs / 1e9
        return f"{self.name} ({millions:.1f} M parameters, {billions:.2f} G multiply-adds)"


def with_stand_ins(config: ExtractConfig, video: Video, folder: Path) -> tuple[ExtractConfig, str]:
    """``config`` with stand-ins for its pose mode, written to ``folder``, and what they are.

    Raises:
        ConfigError: there are no stand-ins for this mode.
    """
    boxes = people_in(video)
    written = write_stand_ins(config.pose.mode, folder, boxes / max(video.width, video.height))
    det_model, pose_model = written["detector"].path, written["pose"].path
    pose = replace(config.pose, det_model=det_model, pose_model=pose_model)
    names = ", ".join(map(str, written.values()))
    said = f"stand-ins with random weights for {names}; {len(boxes)} people in every picture"
    return replace(config, pose=pose), said


def people_in(video: Video) -> np.ndarray:
    """Boxes (P, 4) that the package's own detector finds in a picture, at least one."""
    with closing(read_frames(video)) as pieces:
        found = open_pose_model(PoseConfig(mode="bundled")).boxes(next(pieces))
    usual = sorted((here.boxes for here in found), key=len)[len(found) // 2]
    return usual if len(usual) else np.array([[0.0, 0.0, video.width, video.height]])


def write_stand_ins(mode: str, folder: Path, boxes: np.ndarray) -> dict[str, StandIn]:
    """Write a mode's ``detector`` and ``pose`` network to ``folder``.

    ``boxes`` (P, 4) are what the detector finds, xyxy in shares of the picture's longer side.

    Raises:
        ConfigError: there are no stand-ins for this mode.
    """
    if mode not in DETECTORS:
        raise ConfigError(f"--stand-in needs --pose {', '.join(DETECTORS)}, got {mode!r}")
    written = {}
    for file in model_files(mode):
        width, height = file.input_size or (0, 0)
        graph = Graph(width, height)
        if file.role == "detector":
            size, outputs = DETECTORS[mode], yolox(graph, DETECTORS[mode], boxes=boxes)
        else:
            size, outputs = POSE_NETWORKS[mode], rtmpose(graph, POSE_NETWORKS[mode])
        path = folder / f"stand-in_{size.name}_{height}x{width}.onnx"
        graph.write(path, outputs)
        written[file.role] = StandIn(path, size.name, graph.parameters, graph.macs)
    return written


def pooled(g: Graph, x: str) -> str:
    """The spatial pyramid pooling both backbones have in their last stage."""
    channels = g.sizes[x][0]
    x = g.conv(x, channels // 2, 1)
    pools = [
        g.op("MaxPool", x, kernel_shape=(k, k), strides=(1, 1), pads=(k // 2,) * 4)
        for k in (5, 9, 13)
    ]
    return g.conv(g.concat(x, *pools), channels, 1)


# ---------------------------------------------------------------- YOLOX


def csp(g: Graph, x: str, out: int, blocks: int, *, add: bool) -> str:
    """mmdetection's CSPLayer with DarknetBottlenecks."""
    main = g.conv(x, out // 2, 1)
    short = g.conv(x, out // 2, 1)
    for _ in range(blocks):
        y = g.conv(g.conv(main, out // 2, 1), out // 2, 3)
        main = g.op("Add", main, y) if add else y
    return g.conv(g.concat(main, short), out, 1)


def yolox(g: Graph, size: Size, *, boxes: np.ndarray) -> dict[str, str]:
    """YOLOX of one class, whose outputs are ``boxes`` whatever it finds."""
    base, few = int(64 * size.widen), max(round(3 * size.deepen), 1)
    corners = [g.strided("input", row, column) for column in (0, 1) for row in (0, 1)]
    x = g.conv(g.concat(*corners), base, 3)
    levels = []
    for stage, blocks in enumerate((few, 3 * few, 3 * few, few)):
        out = base << stage + 1
        x = g.conv(x, out, 3, 2)
        if stage == 3:
            x = pooled(g, x)
        x = csp(g, x, out, blocks, add=stage < 3)
        levels.append(x)
    _, low, middle, high = levels
    c3, c4, c5 = base * 4, base * 8, base * 16
    top = g.conv(high, c4, 1)
    middle = csp(g, g.concat(g.doubled(top), middle), c4, few, add=False)
    middle = g.conv(middle, c3, 1)
    low = csp(g, g.concat(g.doubled(middle), low), c3, few, add=False)
    middle = csp(g, g.concat(g.conv(low, c3, 3, 2), middle), c4, few, add=False)
    high = csp(g, g.concat(g.conv(middle, c4, 3, 2), top), c5, few, add=False)
    found = []
    for level in (low, middle, high):
        x = g.conv(level, c3, 1)
        classes = g.conv(g.conv(x, c3, 3), c3, 3)
        box = g.conv(g.conv(x, c3, 3), c3, 3)
        ends = [
            g.conv(a, n, 1, norm=False, act=False) for a, n in ((classes, 1), (box, 4), (box, 1))
        ]
        x = g.op("Sigmoid", g.concat(*ends))
        channels, height, width = g.sizes[x]
        found.append(g.op("Transpose", g.reshape(x, channels, height * width), perm=(0, 2, 1)))
        g.sizes[found[-1]] = height * width, channels
    every = g.op("ReduceMean", g.concat(*found), size=(1, 1), axes=(1, 2), keepdims=1)
    nothing = g.op("Mul", every, g.constant(np.zeros((1, 1), np.float32)))
    side = max(g.sizes["input"][1:])
    scored = np.concatenate([boxes * side, np.full((len(boxes), 1), 0.9)], 1).astype(np.float32)
    dets = g.op("Add", nothing, g.constant(scored), size=scored.shape)
    zeros = g.op("Mul", nothing, g.constant(np.zeros((1, len(boxes)), np.float32)))
    labels = g.op("Cast", g.reshape(zeros, len(boxes)), size=(len(boxes),), to=INT64)
    return {"dets": dets, "labels": labels}


# ---------------------------------------------------------------- RTMPose


def csp_next(g: Graph, x: str, blocks: int, *, add: bool) -> str:
    """mmdetection's CSPLayer with CSPNeXtBlocks and channel attention."""
    out = g.sizes[x][0]
    half = out // 2
    short = g.conv(x, half, 1)
    main = g.conv(x, half, 1)
    for _ in range(blocks):
        y = g.conv(g.conv(g.conv(main, half, 3), half, 5, groups=half), half, 1)
        main = g.op("Add", main, y) if add else y
    x = g.concat(main, short)
    mean = g.op("GlobalAveragePool", x, size=(out, 1, 1))
    gates = g.conv(mean, out, 1, norm=False, act=False)
    return g.conv(g.op("Mul", x, g.op("HardSigmoid", gates, alpha=1 / 6, beta=0.5)), out, 1)


def rtmpose(g: Graph, size: Size) -> dict[str, str]:
    """RTMPose with 17 keypoints and two SimCC bins per pixel."""
    _, height, width = g.sizes["input"]
    base = int(64 * size.widen)
    x = g.conv(g.conv(g.conv("input", base // 2, 3, 2), base // 2, 3), base, 3)
    for stage, blocks in enumerate((3, 6, 6, 3)):
        x = g.conv(x, base << stage + 1, 3, 2)
        if stage == 3:
            x = pooled(g, x)
        x = csp_next(g, x, max(round(blocks * size.deepen), 1), add=stage < 3)
    x = g.conv(x, NUM_KEYPOINTS, 7, norm=False, act=False)
    _, rows, columns = g.sizes[x]
    x = gated_attention(g, g.linear(scaled(g, g.reshape(x, NUM_KEYPOINTS, rows * columns)), 256))
    return {"simcc_x": g.linear(x, 2 * width), "simcc_y": g.linear(x, 2 * height)}


def gated_attention(g: Graph, x: str, hidden: int = 512, keys: int = 128) -> str:
    """mmpose's RTMCCBlock: attention among the keypoints."""
    rows, width = g.sizes[x]
    uv = g.silu(g.linear(scaled(g, x), 2 * hidden + keys))
    gate, value = g.features(uv, 0, hidden), g.features(uv, hidden, 2 * hidden)
    base = g.features(uv, 2 * hidden, 2 * hidden + keys)
    query, key = (
        g.op("Add", g.op("Mul", base, g.weight(1, keys, spread=0.1)), g.weight(1, keys, spread=0.1))
        for _ in range(2)
    )
    turned = g.op("Transpose", key, size=(keys, rows), perm=(0, 2, 1))
    likeness = g.op("Relu", g.op("MatMul", query, turned, size=(rows, rows)))
    mixed = g.op("MatMul", g.op("Mul", likeness, likeness), value, size=(rows, hidden))
    g.macs += rows * rows * (keys + hidden)
    g.parameters += 4 * keys + width  # of query and key; of the shortcut's scale
    y = g.linear(g.op("Mul", gate, mixed), width)
    return g.op("Add", g.op("Mul", x, g.weight(1, width, spread=0.1, shift=1.0)), y)


def scaled(g: Graph, x: str) -> str:
    """mmpose's ScaleNorm: rows of one length."""
    rows, _ = g.sizes[x]
    g.parameters += 1
    length = g.op("ReduceL2", x, size=(rows, 1), axes=(2,), keepdims=1)
    floor = g.constant(np.full((1, 1), 1e-5, np.float32))
    return g.op("Div", x, g.op("Max", length, floor))
