"""Write the same two people in every format of keypoints there is."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from epam_extract.exchange.keypoints.openpose import BODY_25, COCO_18
from epam_extract.exchange.keypoints.poses import COCO_NAMES

FRAMES, HEIGHT, WIDTH = 6, 64, 96
KEYPOINTS = (8 + 48 * np.random.default_rng(0).random((2, FRAMES, 17, 2))).astype(np.float32)
SCORES = np.linspace(0.5, 1, 2 * FRAMES * 17, dtype=np.float32).reshape(2, FRAMES, 17)
SCORES[1, 2:4] = 0  # the second person is away for two frames
KEYPOINTS[1, 2:4] = 0
KEYPOINTS[0, 0, 3] = SCORES[0, 0, 3] = 0  # a joint that was not found
JOINTS = np.concatenate([KEYPOINTS, SCORES[..., None]], -1)
THERE = [[m for m in range(2) if SCORES[m, t].any()] for t in range(FRAMES)]
"""Who is in each frame."""


def annotation(name: str = "a", **changes: object) -> dict[str, object]:
    """One of mmaction2's."""
    return {
        "frame_dir": name,
        "label": 3,
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "total_frames": FRAMES,
        "keypoint": KEYPOINTS,
        "keypoint_score": SCORES,
        **changes,
    }


def dump(path: Path, content: object) -> Path:
    """As a pickle or as JSON, by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=4))
    else:
        path.write_text(json.dumps(content))
    return path


def flat(person: int, frame: int, joints: np.ndarray = JOINTS) -> list[float]:
    return [float(value) for value in joints[person, frame].reshape(-1)]


def pyskl(folder: Path) -> Path:
    content = {"split": {"train": ["a"], "val": []}, "annotations": [annotation()]}
    return dump(folder / "skeletons.pkl", content)


def pyskl_list(folder: Path) -> Path:
    return dump(folder / "skeletons.pkl", [annotation()])


def pyskl_one(folder: Path) -> Path:
    return dump(folder / "a.pkl", annotation())


def pyskl_rows(folder: Path, first: int = 1) -> Path:
    """Kinetics' manner: a row per person, frames from 1."""
    rows = [(t + first, JOINTS[m, t]) for t in range(FRAMES) for m in THERE[t]]
    changes = {
        "keypoint": np.stack([row for _, row in rows]),
        "frame_inds": np.array([t for t, _ in rows], np.int16),
    }
    entry = annotation(**changes)
    del entry["keypoint_score"]
    return dump(folder / "rows.pkl", [entry])


def mmpose_inferencer(folder: Path) -> Path:
    return dump(folder / "a.json", _mmpose(0))


def mmpose_demo(folder: Path) -> Path:
    content = {"meta_info": {"num_keypoints": 17}, "instance_info": _mmpose(1)}
    return dump(folder / "results_a.json", content)


def _mmpose(first: int) -> list[dict[str, object]]:
    return [
        {
            "frame_id": t + first,
            "instances": [
                {
                    "keypoints": KEYPOINTS[m, t].tolist(),
                    "keypoint_scores": SCORES[m, t].tolist(),
                    "bbox": [[0, 0, 9, 9]],
                    "bbox_score": 0.9,
                }
                for m in THERE[t]
            ],
        }
        for t in range(FRAMES)
    ]


def alphapose(folder: Path) -> Path:
    people = [
        {
            "image_id": f"{t}.jpg",
            "category_id": 1,
            "keypoints": flat(m, t),
            "score": 2.9,
            "box": [0, 0, 9, 9],
            "idx": [[m + 7.0]],
        }
        for t in range(FRAMES)
        for m in THERE[t]
    ]
    return dump(folder / "a" / "alphapose-results.json", people).parent.parent


def alphapose_by_picture(folder: Path) -> Path:
    people = {
        f"img_{t + 1:05d}.jpg": [{"keypoints": flat(m, t), "score": 1.0, "idx": m} for m in here]
        for t, here in enumerate(THERE)
    }
    return dump(folder / "a.json", people)


def alphapose_open(folder: Path) -> Path:
    people = {
        f"{t}.jpg": {
            "version": "AlphaPose v0.3",
            "people": [{"pose_keypoints_2d": flat(m, t, _spread(COCO_18, 18))} for m in here],
        }
        for t, here in enumerate(THERE)
    }
    return dump(folder / "a.json", people)


def coco_results(folder: Path) -> Path:
    people = [
        {"image_id": t, "category_id": 1, "keypoints": flat(m, t), "score": 0.9}
        for t in range(FRAMES)
        for m in THERE[t]
    ]
    return dump(folder / "a.json", people)


def coco(folder: Path) -> Path:
    images = [
        {"id": 100 - t, "file_name": f"x/a/{t + 8}.jpg", "height": HEIGHT, "width": WIDTH}
        for t in range(FRAMES)
    ]
    people = [
        {"image_id": 100 - t, "category_id": 1, "keypoints": flat(m, t), "track_id": m}
        for t in range(FRAMES)
        for m in THERE[t]
    ]
    return dump(folder / "val.json", {"images": images[::-1], "annotations": people})


def vitpose(folder: Path) -> Path:
    """Joints in another order, with one more, and y first."""
    names = [*reversed(COCO_NAMES), "neck"]
    order = [COCO_NAMES.index(name) if name != "neck" else 0 for name in names]
    frames = [
        {str(m + 4): JOINTS[m, t][order][:, [1, 0, 2]].tolist() for m in here}
        for t, here in enumerate(THERE)
    ]
    skeleton = {str(i): name for i, name in enumerate(names)}
    return dump(folder / "a_result.json", {"keypoints": frames, "skeleton": skeleton})


def openpose(folder: Path) -> Path:
    for t, here in enumerate(THERE):
        people = [
            {"person_id": [-1], "pose_keypoints_2d": flat(m, t, _spread(BODY_25, 25))} for m in here
        ]
        content = {"version": 1.3, "people": people}
        dump(folder / "poses" / f"a_{t:012d}_keypoints.json", content)
    return folder / "poses"


def _spread(order: list[int], joints: int) -> np.ndarray:
    """(2, FRAMES, joints, 3): COCO's joints at their places, made-up ones elsewhere."""
    spread = np.full((2, FRAMES, joints, 3), 0.75, np.float32)
    spread[:, :, order] = JOINTS
    return spread


def yolo(folder: Path, conf: bool = True, track: bool = True, seen: bool = True) -> Path:
    labels = folder / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    share = JOINTS / np.array([WIDTH, HEIGHT, 1], np.float32)
    for t, here in enumerate(THERE):
        lines = []
        for m in here:
            values = [0, 0.5, 0.5, 0.2, 0.2, *share[m, t][:, : 3 if seen else 2].reshape(-1)]
            values += [0.9] * conf + [m + 1] * track
            lines.append(" ".join(f"{float(v):.9g}" for v in values) + "\n")
        if lines:
            (labels / f"a_{t + 1}.txt").write_text("".join(lines))
    return labels


def ultralytics_json(folder: Path) -> Path:
    frames = [
        [
            {
                "name": "person",
                "class": 0,
                "confidence": 0.9,
                "box": {"x1": 0.0, "y1": 0.0, "x2": 9.0, "y2": 9.0},
                "track_id": m + 1,
                "keypoints": {
                    "x": KEYPOINTS[m, t, :, 0].tolist(),
                    "y": KEYPOINTS[m, t, :, 1].tolist(),
                    "visible": SCORES[m, t].tolist(),
                },
            }
            for m in here
        ]
        for t, here in enumerate(THERE)
    ]
    return dump(folder / "a.json", frames)


def ultralytics_data(folder: Path) -> Path:
    frames = [[JOINTS[m, t].tolist() for m in here] for t, here in enumerate(THERE)]
    return dump(folder / "a.json", frames)


def npz(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "a.npz", keypoints=KEYPOINTS, scores=SCORES)
    return folder / "a.npz"


def npz_by_frame(folder: Path) -> Path:
    turned = {"keypoint": KEYPOINTS.swapaxes(0, 1), "keypoint_score": SCORES.swapaxes(0, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "b.npz", frame_dir="a", **turned)
    return folder / "b.npz"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "pyskl": pyskl,
    "pyskl list": pyskl_list,
    "pyskl one": pyskl_one,
    "pyskl rows": pyskl_rows,
    "mmpose inferencer": mmpose_inferencer,
    "mmpose demo": mmpose_demo,
    "alphapose": alphapose,
    "alphapose by picture": alphapose_by_picture,
    "alphapose open": alphapose_open,
    "coco results": coco_results,
    "coco": coco,
    "vitpose": vitpose,
    "openpose": openpose,
    "yolo": yolo,
    "ultralytics json": ultralytics_json,
    "ultralytics data": ultralytics_data,
    "npz": npz,
    "npz by frame": npz_by_frame,
}
