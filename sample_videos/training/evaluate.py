"""``python -m sample_videos.training.evaluate``: the figures of the model card, measured.

Runs the two ONNX files through rtmlib's own classes, at rtmlib's own thresholds, on held-out
renderings (other rooms, bodies and cloth than in training), and on a real video where the path
of one and a published detector's ONNX file to compare with are given.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epam_extract.demo import DETECTOR_ONNX, DETECTOR_SIZE, POSE_ONNX, POSE_SIZE

from .dataset import HELD_OUT_BANK
from .scenes import EASY, HARD, Frame, Look, Person, Scene
from .surfaces import Array

HELD_OUT_SEED = 900_000
FRAMES_PER_SCENE = 4
PCK = 0.2  # of the torso
GROUPS = {
    "head": slice(0, 5),
    "shoulders": slice(5, 7),
    "elbows": slice(7, 9),
    "wrists": slice(9, 11),
    "hips": slice(11, 13),
    "knees": slice(13, 15),
    "ankles": slice(15, 17),
}


@dataclass(frozen=True)
class Found:
    """What the model says about a frame: boxes (D, 4), keypoints (D, 17, 2), scores (D, 17)."""

    boxes: Array
    keypoints: Array
    scores: Array


class Model:
    """Detector and keypoint network in rtmlib's classes, as the pose stage uses them.

    ``threads`` of each network; 0 leaves them to onnxruntime.
    """

    def __init__(
        self, detector: Path = DETECTOR_ONNX, pose: Path = POSE_ONNX, *, threads: int = 0
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # rtmlib prints while it loads
            from rtmlib import YOLOX, RTMPose

            self.detector = YOLOX(str(detector), DETECTOR_SIZE)
            self.pose = RTMPose(str(pose), POSE_SIZE)
        if threads:
            for tool, path in ((self.detector, detector), (self.pose, pose)):
                limited = tool.session.get_session_options()
                limited.intra_op_num_threads = threads
                # or the threads of the one that waits keep the other's cores busy
                limited.add_session_config_entry("session.intra_op.allow_spinning", "0")
                kind = type(tool.session)  # onnxruntime's, whose home is the pose stage
                tool.session = kind(str(path), limited, providers=["CPUExecutionProvider"])

    def __call__(self, image: NDArray[np.uint8], boxes: Array | None = None) -> Found:
        """Find people in an RGB frame (H, W, 3), or only their keypoints where boxes are given."""
        bgr = np.ascontiguousarray(image[..., ::-1])
        if boxes is None:
            boxes = np.asarray(self.detector(bgr), np.float32).reshape(-1, 4)
        if not len(boxes):
            return Found(boxes, np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32))
        keypoints, scores = self.pose(bgr, bboxes=boxes)
        return Found(boxes, keypoints.astype(np.float32), scores.astype(np.float32))


def overlaps(first: Array, second: Array) -> Array:
    """Return the IoU (A, B) of boxes (A, 4) and (B, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    area_first = (first[:, 2:] - first[:, :2]).prod(-1)
    area_second = (second[:, 2:] - second[:, :2]).prod(-1)
    return shared / (area_first[:, None] + area_second[None] - shared + 1e-9)


def match(truth: Array, boxes: Array, *, least: float = 0.5) -> list[tuple[int, int]]:
    """Pair boxes by IoU, best first, each used once; return (truth, box) indices."""
    if not len(truth) or not len(boxes):
        return []
    table = overlaps(truth, boxes)
    pairs = []
    while table.max() >= least:
        row, column = (int(v) for v in np.unravel_index(table.argmax(), table.shape))
        pairs.append((row, column))
        table[row] = -1
        table[:, column] = -1
    return pairs


@dataclass
class Tally:
    """Counts over frames, from which the figures come."""

    frames: int = 0
    people: int = 0
    found: int = 0
    wrong: int = 0
    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(17, np.int64))
    joints: NDArray[np.int64] = field(default_factory=lambda: np.zeros(17, np.int64))
    swapped: int = 0
    # By tenths of the keypoints' scores: their sum less the number of keypoints that are right.
    excess: Array = field(default_factory=lambda: np.zeros(10, np.float32))

    def add(self, people: list[Person], answer: Found) -> None:
        """Count one frame."""
        usable = [person for person in people if person.usable]
        rest = [person.box for person in people if not person.usable and person.pixels]
        truth = np.array([person.box for person in usable], np.float32).reshape(-1, 4)
        pairs = match(truth, answer.boxes)
        self.frames += 1
        self.people += len(usable)
        self.found += len(pairs)
        for row, column in pairs:
            self._joints(usable[row], answer.keypoints[column], answer.scores[column])
        taken = {column for _, column in pairs}
        left = [k for k in range(len(answer.boxes)) if k not in taken]
        if rest and left:  # people too hidden to be asked for are no mistakes either
            near = overlaps(np.array(rest, np.float32), answer.boxes[left]).max(0)
            left = [k for k, iou in zip(left, near, strict=True) if iou < 0.3]
        self.wrong += len(left)

    def _joints(self, person: Person, keypoints: Array, scores: Array) -> None:
        truth = person.keypoints
        torso = max(np.linalg.norm(truth[5] - truth[12]), np.linalg.norm(truth[6] - truth[11]))
        shown = person.visibility > 0
        error = np.linalg.norm(keypoints - truth, axis=1)
        right = (error < PCK * torso) & shown
        self.right += right
        self.joints += shown
        tenths = (10 * scores).astype(int).clip(0, 9)
        np.add.at(self.excess, tenths, np.where(shown, scores - right, 0))
        order = np.array([6, 5, 12, 11])  # a whole body left-right swapped
        core = np.array([5, 6, 11, 12])
        crossed = np.linalg.norm(keypoints[order] - truth[core], axis=1).mean()
        self.swapped += bool(crossed < error[core].mean())

    def figures(self) -> dict[str, float]:
        """Return recall, false persons a frame, PCK of all joints and of each group.

        ``score_error`` is how far keypoints' scores are from the share of them that is right:
        the mean over tenths of the scores, each weighted by its keypoints.
        """
        share = self.right / np.maximum(self.joints, 1)
        every = float(self.right.sum() / max(self.joints.sum(), 1))
        out = {
            "people": self.people,
            "recall": self.found / max(self.people, 1),
            "false_a_frame": self.wrong / max(self.frames, 1),
            "pck": every,
            "swapped_left_right": self.swapped / max(self.found, 1),
            "score_error": float(np.abs(self.excess).sum() / max(self.joints.sum(), 1)),
        }
        out |= {name: float(share[where].mean()) for name, where in GROUPS.items()}
        return {name: round(value, 4) for name, value in out.items()}


def held_out(look: Look, *, frames: int, seed: int = HELD_OUT_SEED) -> Iterator[Frame]:
    """Yield frames of scenes that training never saw; some of the hard ones are empty rooms."""
    rng = np.random.default_rng([seed, look.easy])
    count = 0
    while count < frames:
        scene = Scene(int(rng.integers(2**31)), look=look, textures=HELD_OUT_BANK)
        for index in range(FRAMES_PER_SCENE):
            if index:
                scene.cast()
            yield scene.frame(float(rng.uniform(0, 8)), index=index)
            count += 1


def evaluate(
    model: Model, look: Look, *, frames: int, true_boxes: bool = False
) -> dict[str, float]:
    """Return the figures on held-out renderings."""
    tally = Tally()
    for frame in held_out(look, frames=frames):
        boxes = None
        if true_boxes:
            usable = [person.box for person in frame.people if person.usable]
            boxes = np.array(usable, np.float32).reshape(-1, 4)
        tally.add(frame.people, model(frame.image, boxes))
    return tally.figures()


def read_video(path: Path) -> list[NDArray[np.uint8]]:
    """Return a short video's frames, RGB."""
    import av

    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def evaluate_video(model: Model, path: Path, reference: Path) -> dict[str, Any]:
    """Compare with a published RTMDet or YOLOX (416 or 320 wide input) on a real video.

    ``agree`` is the share of the frames with two reference persons in which both are found at
    IoU 0.5; jumps are the median keypoint's way between frames over the person's height.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from rtmlib import RTMDet

        judge = RTMDet(str(reference), (320, 320))
    two = both = false = 0
    jumps: dict[str, list[float]] = {"own boxes": [], "reference boxes": []}
    before: dict[str, Found] = {}
    frames = read_video(path)
    for image in frames:
        bgr = np.ascontiguousarray(image[..., ::-1])
        truth = np.asarray(judge(bgr), np.float32).reshape(-1, 4)
        own = model(image)
        pairs = match(truth, own.boxes)
        if len(truth) == 2:
            two += 1
            both += len(pairs) == 2
        false += len(own.boxes) - len(pairs)
        for name, found in (("own boxes", own), ("reference boxes", model(image, truth))):
            if name in before:
                last = before[name]
                for a, b in match(last.boxes, found.boxes):
                    way = np.linalg.norm(found.keypoints[b] - last.keypoints[a], axis=1)
                    height = found.boxes[b, 3] - found.boxes[b, 1]
                    jumps[name] += (way / height).tolist()
            before[name] = found
    return {
        "frames": len(frames),
        "frames_with_two": two,
        "agree": round(both / max(two, 1), 4),
        "false_a_frame": round(false / max(len(frames), 1), 4),
        "median_jump": {k: round(float(np.median(v)), 4) for k, v in jumps.items() if v},
        "ninth_decile_jump": {
            k: round(float(np.quantile(v, 0.9)), 4) for k, v in jumps.items() if v
        },
    }


def speed(model: Model, *, frames: int = 60) -> float:
    """Return milliseconds for a 320x240 frame with one person: detector, crop, keypoints."""
    scene = Scene(HELD_OUT_SEED, look=EASY, textures=HELD_OUT_BANK, empty=True)
    scene.cast(1, ["idle"])
    image = scene.frame(0.0).image
    found = model(image)
    boxes = found.boxes[:1] if len(found.boxes) else np.array([[90, 20, 190, 220]], np.float32)
    bgr = np.ascontiguousarray(image[..., ::-1])
    times = []
    for _ in range(frames):
        begun = time.perf_counter()
        model.detector(bgr)
        model.pose(bgr, bboxes=boxes)
        times.append(time.perf_counter() - begun)
    return round(1000 * float(np.median(times)), 2)


def main() -> None:
    """Print all figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m sample_videos.training.evaluate")
    parser.add_argument("--detector", type=Path, default=DETECTOR_ONNX)
    parser.add_argument("--pose", type=Path, default=POSE_ONNX)
    parser.add_argument("--frames", type=int, default=400, help="of each kind")
    parser.add_argument("--video", type=Path, help="a real video, to compare on with --reference")
    parser.add_argument("--reference", type=Path, help="an RTMDet of 320x320 with boxes and scores")
    options = parser.parse_args()
    model = Model(options.detector, options.pose)
    report: dict[str, Any] = {
        "sample-like": evaluate(model, EASY, frames=options.frames),
        "hard": evaluate(model, HARD, frames=options.frames),
        "hard, true boxes": evaluate(model, HARD, frames=options.frames, true_boxes=True),
        "milliseconds, two threads": speed(Model(options.detector, options.pose, threads=2)),
    }
    if options.video and options.reference:
        report["video"] = evaluate_video(model, options.video, options.reference)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
