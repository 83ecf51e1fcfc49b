"""From checkpoints to the two ONNX files that rtmlib reads. Needs the ``onnx`` package.

``detector.onnx`` has the format of OpenMMLab's exported YOLOX and RTMDet: ``input`` (N, 3, 256,
320) BGR 0-255, ``dets`` (N, 20, 5) x1, y1, x2, y2, score, best first, overlaps already removed.
rtmlib keeps what scores over 0.3 there, so scores are shifted to make 0.3 the best place to cut.
``pose.onnx`` has RTMPose's: ``input`` (N, 3, 128, 96), ``simcc_x`` (N, 17, 192), ``simcc_y``
(N, 17, 256), here with peaks in (0, 1). Weights are stored as float16 and computed as float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from epam_extract.demo import DETECTOR_SIZE, POSE_SIZE

from .loader import MIRROR
from .networks import KEYPOINTS, SPLIT, STRIDE, Detector, KeypointNet, cell_centres, decode_boxes

CANDIDATES = 48  # cells looked at for each image
PERSONS = 20  # rows of the answer
SPREAD = 0.3  # of Matrix NMS; a box that overlaps by 0.5, as embracing people do, keeps 0.8
THRESHOLD = 0.37  # the network's own score to cut at, see MODEL.md
RTMLIB_THRESHOLD = 0.3  # written into rtmlib.YOLOX for outputs of this format
BLUR = 5.0  # pixels; see PoseExport
# Kumaraswamy's curve, which makes of a peak about the share of such keypoints that are right.
RISE, END = 2.0, 1.6
WEIGHT, DOUBT, USUAL = 0.75, 0.05, 0.4  # of the joints' evidence in a box's score
SMALL = 256  # tensors up to this size stay float32


Network = TypeVar("Network", bound=nn.Module)


def normalised(network: nn.Module) -> Iterator[tuple[str, nn.Sequential, int]]:
    """Yield every convolution that a batch norm follows: its block's name, block, place in it."""
    for name, block in network.named_modules():
        if isinstance(block, nn.Sequential):
            for place in range(len(block) - 1):
                first, second = block[place], block[place + 1]
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    yield name, block, place


def fold(network: Network) -> Network:
    """Return a copy with every batch norm folded into the convolution before it."""
    folded = copy.deepcopy(network).eval()
    for _, block, place in list(normalised(folded)):
        first, second = cast(nn.Conv2d, block[place]), cast(nn.BatchNorm2d, block[place + 1])
        block[place] = torch.nn.utils.fusion.fuse_conv_bn_eval(first, second)
        block[place + 1] = nn.Identity()
    return folded


class DetectorExport(nn.Module):
    """The detector and its answer decoded: scores count the joints inside a box, too.

    Overlaps are cleaned. ``threshold`` is the probability that is to become rtmlib's 0.3.
    """

    cells: Tensor  # (h * w, 2), kept with the network

    def __init__(self, detector: Detector, threshold: float) -> None:
        super().__init__()
        self.detector = detector
        wanted, own = torch.tensor(RTMLIB_THRESHOLD), torch.tensor(threshold)
        self.shift = float(torch.logit(wanted) - torch.logit(own))
        self.register_buffer(
            "cells", cell_centres(DETECTOR_SIZE[0] // STRIDE, DETECTOR_SIZE[1] // STRIDE)
        )

    def forward(self, images: Tensor) -> Tensor:
        centres, sides, joints = self.detector(images)
        logits, index = centres.flatten(1).topk(CANDIDATES, dim=1)
        chosen = sides.flatten(2).transpose(1, 2).gather(1, index[..., None].expand(-1, -1, 4))
        boxes = decode_boxes(chosen, self.cells[index])
        height, width = DETECTOR_SIZE
        low = boxes[..., :2].clamp(min=0.0)
        high = torch.stack([boxes[..., 2].clamp(max=width), boxes[..., 3].clamp(max=height)], -1)
        boxes = torch.cat([low, high], -1)
        known = (self.evidence(boxes, joints.sigmoid().flatten(2)) + DOUBT) / USUAL
        scores = (logits + self.shift + WEIGHT * known.log()).sigmoid()
        scores, order = scores.topk(CANDIDATES, dim=1)
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        low, high = boxes[..., :2], boxes[..., 2:]
        area = (high - low).clamp(min=0.0).prod(-1)
        corner = torch.maximum(low[:, :, None], low[:, None])
        shared = (torch.minimum(high[:, :, None], high[:, None]) - corner).clamp(min=0.0).prod(-1)
        overlap = shared / (area[:, :, None] + area[:, None] - shared + 1e-6)
        # Matrix NMS (SOLOv2), steeper: every better box takes score from those it overlaps, the
        # less the more it is itself taken from. Row i loses to column j, which comes earlier.
        better = torch.tril(overlap, diagonal=-1)
        lost = better.amax(-1)  # (N, candidates)
        decay = torch.exp((lost[:, None] ** 4 - better**4) / SPREAD).amin(-1).clamp(max=1.0)
        scores, order = (scores * decay).topk(PERSONS, dim=1)
        boxes = boxes.gather(1, order[..., None].expand(-1, -1, 4))
        return torch.cat([boxes, scores[..., None]], -1)

    def evidence(self, boxes: Tensor, joints: Tensor) -> Tensor:
        """Return (N, candidates): the median joint's best chance inside each box.

        A desk's end may look like a person as a whole, but seldom has most of one's joints.
        """
        low, high = ((corner / STRIDE).floor()[..., None] for corner in boxes.split(2, -1))
        height, width = DETECTOR_SIZE
        rows, columns = torch.arange(height // STRIDE), torch.arange(width // STRIDE)
        across = ((columns >= low[:, :, 0]) & (columns <= high[:, :, 0])).to(joints.dtype)
        down = ((rows >= low[:, :, 1]) & (rows <= high[:, :, 1])).to(joints.dtype)
        inside = (down[..., None] * across[:, :, None]).flatten(2)  # (N, candidates, h * w)
        best = (joints[:, None] * inside[:, :, None]).amax(-1)  # (N, candidates, 17)
        return best.topk(KEYPOINTS // 2 + 1, dim=-1).values[..., -1]


class PoseExport(nn.Module):
    """The keypoint network asked twice, also for the mirrored crop, as MMPose's flip test does.

    The two answers' mean, blurred and turned into peaks between 0 and 1. Blurred, since the
    place to choose is not the most likely half pixel but the one with most of the chance around
    it: a joint that may be here or there goes where more speaks for it.
    """

    mirror: Tensor
    kernel: Tensor  # (1, 1, bins), sum 1
    bins: Tensor  # of each bin along x, the one that it is in the mirrored crop

    def __init__(self, network: KeypointNet) -> None:
        super().__init__()
        self.network = network
        bins = SPLIT * POSE_SIZE[0]
        self.register_buffer("mirror", torch.tensor(MIRROR))
        self.register_buffer("bins", (bins - SPLIT - torch.arange(bins)).clamp(min=0))
        reach = round(3 * SPLIT * BLUR)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / (SPLIT * BLUR)) ** 2)
        self.register_buffer("kernel", (kernel / kernel.sum())[None, None])

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        count = crops.shape[0]  # in one batch, which a machine's cores share better than two
        answers = self.network(torch.cat([crops, crops.flip(3)]))
        along_x, along_y = (answer.softmax(-1) for answer in answers)
        mirrored_x = along_x[count:, self.mirror][..., self.bins]
        mirrored_y = along_y[count:, self.mirror]
        x, y = (along_x[:count] + mirrored_x) / 2, (along_y[:count] + mirrored_y) / 2
        return self.peak(x), self.peak(y)

    def peak(self, chance: Tensor) -> Tensor:
        """Chance around each bin over that of a perfectly sure one (0 to 1), along the curve."""
        rows = chance.flatten(0, 1)[:, None]  # (N * 17, 1, bins)
        blurred = functional.conv1d(rows, self.kernel, padding=self.kernel.shape[-1] // 2)
        return 1 - (1 - (blurred.view_as(chance) / self.kernel.max()) ** RISE).clamp(min=0) ** END


def store_half(path: Path) -> None:
    """Rewrite the file with its large weights as float16 and a Cast before each use."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph = model.graph
    casts = []
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype == "float32" and values.size > SMALL:
            graph.initializer.remove(tensor)
            half = f"{tensor.name}_half"
            graph.initializer.append(numpy_helper.from_array(values.astype("float16"), half))
            casts.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def export(network: nn.Module, path: Path, *, size: tuple[int, int], outputs: list[str]) -> None:
    """Write one network to ``path``; ``size`` is its input's (height, width)."""
    example = torch.rand(2, 3, *size)
    axes = {name: {0: "batch"} for name in ("input", *outputs)}
    draft = path.with_suffix(".draft")
    torch.onnx.export(
        network.eval(),
        (example,),
        str(draft),
        input_names=["input"],
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    store_half(draft)
    draft.rename(path)


def load_mean(network: nn.Module, path: Path) -> nn.Module:
    """Load the averaged weights of a checkpoint of :mod:`sample_videos.training.train`."""
    network.load_state_dict(torch.load(path, weights_only=True)["mean"])
    return network.eval()


def export_detector(folder: Path, path: Path, *, threshold: float) -> None:
    """Export the detector; ``threshold`` as in :class:`DetectorExport`."""
    detector = Detector()
    load_mean(detector, folder / "detector.pt")
    folded = fold(detector)
    with torch.no_grad():
        export(DetectorExport(folded, threshold), path, size=DETECTOR_SIZE, outputs=["dets"])


def export_pose(folder: Path, path: Path) -> None:
    """Export the keypoint network."""
    network = KeypointNet()
    load_mean(network, folder / "pose.pt")
    width, height = POSE_SIZE
    with torch.no_grad():
        export(
            PoseExport(fold(network)),
            path,
            size=(height, width),
            outputs=["simcc_x", "simcc_y"],
        )


def export_both(folder: Path, detector: Path, pose: Path, *, threshold: float = THRESHOLD) -> None:
    """Export both networks of a training folder."""
    export_detector(folder, detector, threshold=threshold)
    export_pose(folder, pose)
