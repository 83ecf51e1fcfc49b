"""Keypoints of others: every format gives the same people, and nothing in a file runs code."""

from __future__ import annotations

import collections
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_videos import write_video
from test_pipeline import POOLED, StandInPose, assert_same, stand_ins

from epam_extract.errors import EpamExtractError, KeypointsError, StoreMismatch
from epam_extract.exchange import export_features, open_keypoints
from epam_extract.exchange.skeletons import BODY_25, COCO_18, COCO_NAMES
from epam_extract.pipeline import extract_features
from epam_extract.records import FramePiece
from epam_extract.store import FeatureStore

__all__ = ["stand_ins"]  # a fixture

T, HEIGHT, WIDTH = 20, 64, 96
RNG = np.random.default_rng(0)
POINTS = RNG.uniform(1, 60, (2, T, 17, 2)).astype(np.float32).round(3)
SCORES = RNG.uniform(0.5, 1, (2, T, 17)).astype(np.float32).round(3)
POINTS[1, 7], SCORES[1, 7] = 0, 0  # the second person is not in frame 7
POINTS[0, 3, 9], SCORES[0, 3, 9] = 0, 0  # a joint that is missing


def annotation(**changes: object) -> dict[str, object]:
    return {
        "frame_dir": "v",
        "label": 3,
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "total_frames": T,
        "keypoint": POINTS,
        "keypoint_score": SCORES,
        **changes,
    }


def people(frame: int) -> list[int]:
    return [m for m in range(2) if SCORES[m, frame].any()]


def rows(m: int, frame: int) -> np.ndarray:
    return np.concatenate([POINTS[m, frame], SCORES[m, frame, :, None]], 1).astype(float)


def dump(path: Path, content: object, protocol: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def padded(m: int, frame: int, order: tuple[int, ...], size: int) -> list[float]:
    """A larger skeleton whose joints of COCO are where ``order`` says."""
    joints = np.zeros((size, 3))
    joints[list(order)] = rows(m, frame)
    return joints.ravel().tolist()


def openpose(folder: Path, order: tuple[int, ...], size: int) -> Path:
    for t in range(T):
        found = [
            {"person_id": [-1], "pose_keypoints_2d": padded(m, t, order, size)} for m in people(t)
        ]
        write(folder / f"v_{t:012}_keypoints.json", {"version": 1.3, "people": found})
    return folder


def yolo(folder: Path, *, extra: tuple[float, ...] = ()) -> Path:
    share = np.array([WIDTH, HEIGHT, 1])
    for t in range(T):
        lines = []
        for m in people(t):
            values = [0, 0.5, 0.5, 1, 1, *(rows(m, t) / share).ravel(), *extra]
            lines.append(" ".join(f"{value:.9g}" for value in values))
        write(folder / "labels" / f"v_{t + 1}.txt", "\n".join(lines) + "\n")
    return folder


def instances(t: int, joints: int = 17) -> list[dict[str, object]]:
    rest = np.zeros((joints - 17, 3))
    found = [np.concatenate([rows(m, t), rest]) for m in people(t)]
    return [
        {
            "keypoints": f[:, :2].tolist(),
            "keypoint_scores": f[:, 2].tolist(),
            "bbox": [[0, 0, 9, 9]],
        }
        for f in found
    ]


def ultralytics(t: int) -> list[dict[str, object]]:
    return [
        {
            "name": "person",
            "class": 0,
            "keypoints": {
                "x": rows(m, t)[:, 0].tolist(),
                "y": rows(m, t)[:, 1].tolist(),
                "visible": rows(m, t)[:, 2].tolist(),
            },
        }
        for m in people(t)
    ]


def vitpose(t: int) -> dict[str, list[list[float]]]:
    return {
        str(m + 4): np.concatenate([rows(m, t)[:, [1, 0, 2]], np.zeros((8, 3))]).tolist()
        for m in people(t)
    }


FORMATS: dict[str, Callable[[Path], Path]] = {
    "pyskl": lambda p: dump(
        p / "a.pkl", {"split": {"xsub_val": ["v"]}, "annotations": [annotation()]}
    ),
    "pyskl list": lambda p: dump(p / "a.pkl", [annotation(), annotation(frame_dir="w")], 2),
    "pyskl one": lambda p: dump(p / "a.pickle", collections.OrderedDict(annotation()), 0),
    "pyskl larger": lambda p: dump(
        p / "a.pkl", [annotation(img_shape=(2 * HEIGHT, 2 * WIDTH), keypoint=POINTS * 2)]
    ),
    "npz": lambda p: (np.savez(p / "v.npz", keypoints=POINTS, scores=SCORES), p / "v.npz")[1],
    "npz by frame": lambda p: (
        np.savez(
            p / "v.npz",
            keypoint=POINTS.swapaxes(0, 1),
            keypoint_score=SCORES.swapaxes(0, 1),
            total_frames=T,
        ),
        p / "v.npz",
    )[1],
    "openpose 25": lambda p: openpose(p / "o", BODY_25, 25),
    "openpose 18": lambda p: openpose(p / "o", COCO_18, 18),
    "yolo": lambda p: yolo(p / "y"),
    "yolo with conf and id": lambda p: yolo(p / "y", extra=(0.9, 2)),
    "ultralytics json": lambda p: write(p / "v.json", [ultralytics(t) for t in range(T)]),
    "mmpose list": lambda p: write(
        p / "v.json", [{"frame_id": t, "instances": instances(t)} for t in range(T)]
    ),
    "mmpose dict, whole body": lambda p: write(
        p / "v.json",
        {
            "meta_info": {},
            "instance_info": [
                {"frame_id": t + 1, "instances": instances(t, 133)} for t in range(T)
            ],
        },
    ),
    "alphapose, Halpe": lambda p: write(
        p / "v" / "alphapose-results.json",
        [
            {
                "image_id": f"{t}.jpg",
                "category_id": 1,
                "score": 2.9,
                "idx": m,
                "keypoints": np.concatenate([rows(m, t), np.zeros((9, 3))]).ravel().tolist(),
            }
            for t in range(T)
            for m in people(t)
        ],
    ),
    "coco": lambda p: write(
        p / "v.json",
        [
            {
                "image_id": t,
                "category_id": 1,
                "score": 0.9,
                "keypoints": rows(m, t).ravel().tolist(),
            }
            for t in range(T)
            for m in people(t)
        ],
    ),
    "easy_vitpose": lambda p: write(
        p / "v_result.json",
        {
            "keypoints": [vitpose(t) for t in range(T)],
            "skeleton": {str(n): name for n, name in enumerate([*COCO_NAMES, *"abcdefgh"])},
        },
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_same_people(tmp_path: Path, form: str) -> None:
    source = open_keypoints(FORMATS[form](tmp_path))
    matches = source.match(["videos/v_rgb", "v", "elsewhere"])
    assert set(matches.found) == {"videos/v_rgb", "v"} and matches.missing == ("elsewhere",)
    assert "none for elsewhere" in matches.report()
    video = source.open(matches.found["v"], height=HEIGHT, width=WIDTH)
    frames = np.zeros((T, HEIGHT, WIDTH, 3), np.uint8)
    track = video.estimate(FramePiece(0, frames))
    video.require(T)
    for t in range(T):
        there = (track.keypoint_scores[:, t] > 0).any(1)
        assert there.sum() == len(people(t))
        np.testing.assert_allclose(track.keypoints[there, t], POINTS[people(t), t], atol=2e-3)
        np.testing.assert_allclose(track.keypoint_scores[there, t], SCORES[people(t), t], atol=1e-6)
    part = video.estimate(FramePiece(5, frames[5:9]))
    np.testing.assert_array_equal(part.keypoints, track.keypoints[: len(part.keypoints), 5:9])
    assert len(str(source.source["sha256"])) == 64


def test_scores_are_clipped_and_what_is_missing_draws_nothing(tmp_path: Path) -> None:
    points, scores = POINTS.copy(), SCORES * 5
    points[0, 0, 0] = np.nan
    points[0, 1, 2] = -7, 500
    source = open_keypoints(
        dump(tmp_path / "a.pkl", [annotation(keypoint=points, keypoint_score=scores)])
    )
    track = source.open("v", height=HEIGHT, width=WIDTH).estimate(
        FramePiece(0, np.zeros((T, HEIGHT, WIDTH, 3), np.uint8))
    )
    assert track.keypoint_scores.max() == 1 and np.isfinite(track.keypoints).all()
    assert track.keypoint_scores[0, 0, 0] == 0 and track.keypoint_scores[0, 3, 9] == 0
    assert track.keypoints[0, 1, 2].tolist() == [-7, 500]


class Evil:
    def __init__(self, function: object, *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.what


def test_pickles_that_would_run_code_are_refused_unrun(tmp_path: Path) -> None:
    from numpy.testing._private.utils import runstring

    mark = tmp_path / "ran"
    evils = [
        Evil(os.system, f"touch {mark}"),
        Evil(runstring, f"open({str(mark)!r}, 'w')", {}),
        Evil(eval, f"open({str(mark)!r}, 'w')"),
        Evil(open, str(mark), "w"),
    ]
    for evil in evils:
        path = dump(tmp_path / "a.pkl", [annotation(label=evil)])
        with pytest.raises(KeypointsError, match="could run code"):
            open_keypoints(path)
    path = dump(tmp_path / "a.pkl", [annotation(keypoint=np.array([[None]], object))])
    with pytest.raises(KeypointsError, match="array of objects"):
        open_keypoints(path)
    assert not mark.exists()


def test_what_is_no_keypoints_of_coco_is_one_sentence(tmp_path: Path) -> None:
    whole = pickle.dumps([annotation()])
    bad: dict[str, tuple[object, str]] = {
        "empty.pkl": (b"", "empty"),
        "cut.pkl": (whole[: len(whole) // 2], "this pickle is not read"),
        "ntu.pkl": (pickle.dumps([annotation(keypoint=np.zeros((2, T, 25, 2)))]), "25 joints"),
        "3d.pkl": (
            pickle.dumps(
                [{"frame_dir": "v", "keypoint": np.zeros((2, T, 17, 3)), "total_frames": T}]
            ),
            "3-D joints",
        ),
        "bare.pkl": (pickle.dumps([{"frame_dir": "v"}]), "files of their own"),
        "text.json": (b"hello", "no keypoints can be read"),
        "cut.json": (b'[{"frame_id": 0', "no keypoints can be read"),
        "other.json": (b'{"videos": []}', "no format that is known"),
        "none.json": (b"[]", "no format that is known"),
        "gap.json": (b'[{"frame_id": 3, "instances": []}]', "frames 3 to 3"),
        "noise.npz": (b"PK\x03\x04" + bytes(60), "no keypoints can be read"),
        "noise.h5": (b"\x89HDF\r\n\x1a\n" + bytes(60), ""),
    }
    for name, (content, said) in bad.items():
        path = tmp_path / name
        path.write_bytes(content)  # type: ignore[arg-type]
        with pytest.raises(EpamExtractError) as failure:
            open_keypoints(path)
        assert said in str(failure.value) and "\n" not in str(failure.value)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "missing.pkl"):
        with pytest.raises(KeypointsError):
            open_keypoints(path)


def test_ten_thousand_annotations_of_which_three_match(tmp_path: Path) -> None:
    small = {"keypoint": POINTS[:, :1], "keypoint_score": SCORES[:, :1], "total_frames": 1}
    many = [annotation(frame_dir=f"S{n:05}", **small) for n in range(10_000)]
    source = open_keypoints(dump(tmp_path / "ntu.pkl", {"split": {}, "annotations": many}))
    matches = source.match([f"a/S{n:05}_rgb" for n in range(9_997, 10_003)])
    assert matches.annotations == 10_000 and len(matches.found) == 3
    assert matches.report().endswith("none for a/S10000_rgb, a/S10001_rgb, a/S10002_rgb")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "a.mp4", frames=90)
    write_video(folder / "b_rgb.mp4", frames=20)
    return folder


@pytest.mark.parametrize("kind", ["own file", "pickle"])
def test_keypoints_of_a_run_give_its_features_again_bit_for_bit(
    clips: Path, stand_ins: StandInPose, tmp_path: Path, kind: str
) -> None:
    extract_features(clips, tmp_path / "first.h5", POOLED)
    source = tmp_path / "first.h5"
    if kind == "pickle":
        export_features(source, "pyskl", tmp_path / "out")
        source = tmp_path / "out" / "skeletons.pkl"
    stand_ins.pieces.clear()
    config = replace(POOLED, keypoints=source)
    summary = extract_features(clips, tmp_path / "again.h5", config)
    assert summary.done == 2 and stand_ins.pieces == []
    assert_same(tmp_path / "first.h5", tmp_path / "again.h5")
    with FeatureStore(tmp_path / "again.h5") as store:
        assert store.pose_source["keypoints"] == source.name
        assert store.pose_source["format"] == ("pyskl" if kind == "pickle" else "epam-extract")
    with pytest.raises(StoreMismatch, match="pose_source"):
        extract_features(clips, tmp_path / "again.h5", POOLED)


def test_videos_without_fitting_keypoints_fail_or_are_estimated(
    clips: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    points = np.ones((1, 19, 17, 2), np.float32)
    short = annotation(
        frame_dir="b", keypoint=points, keypoint_score=points[..., 0], total_frames=19
    )
    config = replace(POOLED, keypoints=dump(tmp_path / "b.pkl", [short]))
    summary = extract_features(clips, tmp_path / "f.h5", config)
    said = {failure.video_id: failure for failure in summary.failures}
    assert said["a"].stage == said["b_rgb"].stage == "keypoints"
    assert "--keypoints-missing estimate" in said["a"].message
    assert "19 frames and the video" in said["b_rgb"].message and "20" in said["b_rgb"].message
    config = replace(config, keypoints_missing="estimate")
    summary = extract_features(clips, tmp_path / "g.h5", config)
    assert [failure.video_id for failure in summary.failures] == ["b_rgb"] and summary.done == 1
