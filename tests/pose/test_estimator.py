"""The pose stage: equal to rtmlib called by hand, and right where rtmlib alone is not."""

from __future__ import annotations

import contextlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from make_onnx import Output, write_network

from epam_extract.config import PoseConfig
from epam_extract.errors import ConfigError, PoseModelError
from epam_extract.pose import PoseEstimator, open_pose_model
from epam_extract.pose.model_files import model_files
from epam_extract.records import FramePiece

SIDE = 64  # of the made networks' input, and of most pictures here


def dets(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 5)


def simcc(peak: float = 1.0, *, column: int = 64, row: int = 64) -> tuple[Output, Output]:
    """Every joint at bin (column, row) of 128, two bins a pixel."""
    x, y = np.zeros((17, 128)), np.zeros((17, 128))
    x[:, column], y[:, row] = peak, peak
    return Output("simcc_x", x), Output("simcc_y", y)


def rtmo() -> tuple[Output, Output]:
    """One person at (1, 1)."""
    return Output("dets", dets((0, 0, 9, 9, 0.9))), Output("keypoints", np.ones((1, 17, 3)))


@pytest.fixture
def open_made(tmp_path):
    """Open an estimator over a detector with these outputs, and a pose network."""

    def opened(*detector: Output, pose: tuple[Output, ...] | None = None, **options):
        threshold = options.pop("label", "graph")
        det = write_network(tmp_path / "det.onnx", detector, label=threshold) if detector else None
        net = write_network(tmp_path / "pose.onnx", pose or simcc())
        return open_pose_model(PoseConfig(det_model=det, pose_model=net, **options))

    return opened


def grey(*levels: int, height: int = SIDE, width: int = SIDE) -> FramePiece:
    """A piece of plain pictures, one for each grey level."""
    frames = np.repeat(np.array(levels, np.uint8), height * width * 3)
    return FramePiece(0, frames.reshape(-1, height, width, 3))


# ---------------------------------------------------------------- equal to rtmlib


BUNDLED = [file.path for file in model_files("bundled")]


def made_rtmdet(path: Path) -> Path:
    """Boxes (N, 4 + score) in input pixels and their classes, one of them too unlikely."""
    boxes = dets((5, 6, 40, 60, 0.9), (1, 1, 20, 20, 0.8), (30, 2, 62, 50, 0.7), (0, 0, 9, 9, 0.1))
    classes = Output("labels", np.array([0, 0, 0, 0]))
    return write_network(path, (Output("dets", boxes), classes), width=96)


def moving_frames() -> np.ndarray:
    """Frames with a person, of a sample video."""
    import av

    sample = Path(__file__).parents[2] / "sample_videos" / "walk_and_wave.mp4"
    with av.open(str(sample)) as container:
        decoded = zip(range(6), container.decode(video=0), strict=False)
        return np.stack([frame.to_ndarray(format="rgb24") for _, frame in decoded])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bundled", "rtmdet"])
def test_equal_to_rtmlib_called_by_hand(name: str, tmp_path: Path) -> None:
    import rtmlib

    detector = BUNDLED[0] if name == "bundled" else made_rtmdet(tmp_path / "rtmdet.onnx")
    pose = BUNDLED[1]
    config = PoseConfig(det_model=detector, pose_model=pose)
    estimator = open_pose_model(config, threads=2)
    frames = moving_frames()
    track = estimator.estimate(FramePiece(0, frames))

    with contextlib.redirect_stdout(io.StringIO()):
        find = {"rtmdet": rtmlib.RTMDet}.get(name, rtmlib.YOLOX)(
            str(detector),
            model_input_size=(estimator.source["detector"]["input"][::-1]),
            backend="onnxruntime",
        )
        body = rtmlib.RTMPose(
            str(pose),
            model_input_size=tuple(estimator.source["pose"]["input"]),
            backend="onnxruntime",
        )
    people = 0
    for index, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        boxes = find(bgr)
        if not len(boxes):
            assert not track.keypoint_scores[:, index].any()
            continue
        keypoints, scores = body(bgr, boxes)
        there = scores > 0
        people += len(boxes)
        np.testing.assert_allclose(
            track.keypoints[: len(boxes), index],
            np.where(there[..., None], keypoints, 0),
            atol=1e-3,
            rtol=0,
        )
        np.testing.assert_allclose(
            track.keypoint_scores[: len(boxes), index], scores.clip(0, 1), atol=1e-4
        )
        assert not track.keypoint_scores[len(boxes) :, index].any()
    assert people


def test_one_stage_equal_to_rtmlib_called_by_hand(tmp_path: Path) -> None:
    import rtmlib

    rng = np.random.default_rng(3)
    joints = np.concatenate([rng.uniform(0, 96, (3, 17, 2)), rng.uniform(0, 1, (3, 17, 1))], -1)
    boxes = dets((2, 3, 50, 90, 0.95), (40, 1, 80, 60, 0.85), (0, 0, 30, 30, 0.2))
    outputs = (Output("dets", boxes), Output("keypoints", joints))
    path = write_network(tmp_path / "rtmo.onnx", outputs, height=96, width=128)
    estimator = open_pose_model(PoseConfig(pose_model=path), threads=2)
    frames = moving_frames()
    track = estimator.estimate(FramePiece(0, frames))
    with contextlib.redirect_stdout(io.StringIO()):
        by_hand = rtmlib.RTMO(str(path), model_input_size=(96, 128), backend="onnxruntime")
    for index, frame in enumerate(frames):
        keypoints, scores = by_hand(np.ascontiguousarray(frame[..., ::-1]))
        seen = scores.any(1)  # with nobody, rtmlib gives one person of zeros
        people = (track.keypoint_scores[:, index] > 0).any(1)
        assert people.sum() == seen.sum()
        there = scores[seen] > 0
        np.testing.assert_allclose(
            track.keypoints[people, index],
            np.where(there[..., None], keypoints[seen], 0),
            atol=1e-3,
            rtol=0,
        )


@pytest.mark.slow
def test_pieces_at_the_same_time_give_the_same_numbers() -> None:
    estimator = open_pose_model(PoseConfig(det_model=BUNDLED[0], pose_model=BUNDLED[1]))
    frames = moving_frames()[:, ::2, ::2].copy()
    pieces = [FramePiece(start, frames[start : start + 2]) for start in range(0, len(frames), 2)]
    one_by_one = [estimator.estimate(piece) for piece in pieces]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(estimator.estimate, pieces))
    for first, second in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
        np.testing.assert_array_equal(first.keypoint_scores, second.keypoint_scores)


def test_the_bundled_models_are_announced() -> None:
    estimator = open_pose_model(PoseConfig(mode="bundled"))
    assert estimator.source["demo"] is True
    assert estimator.source["mode"] == "bundled"
    assert len(estimator.source["pose"]["sha256"]) == 64
    assert "synthetic" in estimator.announcement


# ---------------------------------------------------------------- who is a person


def test_nobody_is_nobody(open_made) -> None:
    track = open_made(Output("dets", dets((8, 8, 40, 40, 0.1)))).estimate(grey(0, 100))
    assert track.keypoints.shape == (0, 2, 17, 2)
    joints = np.full((1, 17, 3), 5.0)
    pose = (Output("dets", dets((8, 8, 40, 40, 0.1))), Output("keypoints", joints))
    track = open_made(pose=pose).estimate(grey(0, 100))
    assert track.keypoints.shape == (0, 2, 17, 2)


def test_each_frame_keeps_its_own_people(open_made) -> None:
    # The score rises with the grey level: nobody, one, two, one, nobody.
    base = dets((0, 0, 20, 20, 0.0), (30, 30, 60, 60, -0.5))
    slope = np.zeros((2, 5))
    slope[:, 4] = 0.01
    estimator = open_made(Output("dets", base, slope))
    track = estimator.estimate(grey(10, 50, 100, 50, 10, 100, 100))
    people = (track.keypoint_scores > 0).any(-1).sum(0)
    np.testing.assert_array_equal(people, [0, 1, 2, 1, 0, 2, 2])
    # A joint in the middle of the crop is in the middle of the box.
    np.testing.assert_allclose(track.keypoints[0, 1:4], 10, atol=1e-4)
    np.testing.assert_allclose(track.keypoints[1, 2], 45, atol=1e-4)
    assert not track.keypoints[1, 3].any()


def test_people_come_best_first_and_all_of_them(open_made) -> None:
    found = Output("dets", dets((0, 0, 8, 8, 0.5), (20, 20, 28, 28, 0.9), (40, 40, 48, 48, 0.7)))
    track = open_made(found).estimate(grey(0))
    np.testing.assert_allclose(track.keypoints[:, 0, 0, 0], [24, 44, 4], atol=1e-4)
    track = open_made(found, max_persons=2).estimate(grey(0))  # which limits windows alone
    np.testing.assert_allclose(track.keypoints[:, 0, 0, 0], [24, 44, 4], atol=1e-4)


def test_the_detection_threshold_is_rtmlibs_unless_given(open_made) -> None:
    found = Output("dets", dets((0, 0, 8, 8, 0.31), (20, 20, 28, 28, 0.29)))
    assert len(open_made(found).estimate(grey(0)).keypoints) == 1
    assert len(open_made(found, label="rtm_cls").estimate(grey(0)).keypoints) == 1
    assert len(open_made(found, det_score=0.2).estimate(grey(0)).keypoints) == 2
    assert len(open_made(found, det_score=0.5).estimate(grey(0)).keypoints) == 0


def test_boxes_are_scaled_back_to_the_picture(open_made) -> None:
    found = Output("dets", dets((8, 4, 16, 20, 0.9)))
    track = open_made(found).estimate(grey(0, height=128, width=256))
    np.testing.assert_allclose(track.keypoints[0, 0, 0], [48, 48], atol=1e-4)


def test_only_the_first_class_is_a_person(open_made) -> None:
    boxes = Output("dets", dets((0, 0, 8, 8, 0.9), (20, 20, 28, 28, 0.8)))
    labels = Output("labels", np.array([56, 0]))
    track = open_made(boxes, labels).estimate(grey(0))
    np.testing.assert_allclose(track.keypoints[:, 0, 0], [[24, 24]], atol=1e-4)
    # Without NMS inside: a chair at anchor 0, a person at anchor 9, one cell right and down.
    raw = np.zeros((84, 85))
    raw[[0, 9], 4] = 1
    raw[0, 5 + 56] = 0.99
    raw[9, 5], raw[9, :4] = 0.9, (0.5, 0.25, np.log(2), np.log(3))
    track = open_made(Output("output", raw)).estimate(grey(0))
    np.testing.assert_allclose(track.keypoints[:, 0, 0], [[12, 10]], atol=1e-4)


def test_a_box_without_area_is_no_person(open_made) -> None:
    found = Output("dets", dets((5, 5, 5, 30, 0.9), (9, 9, 3, 3, 0.8), (np.nan, 0, 9, 9, 0.7)))
    assert len(open_made(found).estimate(grey(0)).keypoints) == 0


def test_one_stage_people_keep_their_own_joints(open_made) -> None:
    # Unsorted, with one too weak before the others and one doubled: the order rtmlib before
    # 0.0.16 mixed up.
    boxes = dets(
        (0, 0, 9, 9, 0.1), (10, 10, 30, 30, 0.8), (40, 40, 60, 60, 0.9), (10, 10, 30, 31, 0.75)
    )
    joints = np.zeros((4, 17, 3))
    joints[..., :2] = np.array([5, 20, 50, 21])[:, None, None]
    joints[..., 2] = 0.5
    estimator = open_made(pose=(Output("dets", boxes), Output("keypoints", joints)))
    track = estimator.estimate(grey(0, 0, height=128, width=128))
    assert track.keypoints.shape == (2, 2, 17, 2)
    np.testing.assert_allclose(track.keypoints[:, 1, 0, 0], [100, 40])
    assert estimator.boxes(grey(0))[0].boxes.shape == (0, 4)


# ---------------------------------------------------------------- scores


def test_scores_are_clipped_and_weak_joints_zeroed(open_made, caplog) -> None:
    found = Output("dets", dets((8, 8, 40, 40, 0.9)))
    x, y = simcc()
    x.constant[:4, 64] = y.constant[:4, 64] = (18.0, 0.4, 0.2, -1.0)
    x.constant[3], y.constant[3] = -1, -1
    estimator = open_made(found, pose=(x, y), keypoint_score=0.3)
    for _ in range(2):
        track = estimator.estimate(grey(0))
    np.testing.assert_allclose(track.keypoint_scores[0, 0, :5], [1, 0.4, 0, 0, 1])
    assert not track.keypoints[0, 0, 2:4].any()
    assert track.keypoints[0, 0, [0, 1, 4]].all()
    assert sum("18.0" in message for message in caplog.messages) == 1


def test_joints_that_are_no_numbers_are_missing(open_made) -> None:
    joints = np.full((1, 17, 3), 0.5)
    joints[0, 0, 0], joints[0, 1, 2] = np.nan, np.nan
    boxes = Output("dets", dets((8, 8, 40, 40, 0.9)))
    track = open_made(pose=(boxes, Output("keypoints", joints))).estimate(grey(0))
    assert np.isfinite(track.keypoints).all()
    np.testing.assert_array_equal(track.keypoint_scores[0, 0, :3], [0, 0, 0.5])


# ---------------------------------------------------------------- detection every K frames


def test_a_piece_without_frames_has_a_track_without_frames(open_made) -> None:
    for estimator in (open_made(Output("dets", dets((8, 8, 40, 40, 0.9)))), open_made(pose=rtmo())):
        assert estimator.estimate(grey()).keypoints.shape == (0, 0, 17, 2)


@pytest.mark.parametrize(("every", "frames"), [(1, 5), (2, 5), (3, 5), (4, 5), (16, 5), (3, 1)])
def test_detection_falls_on_every_kth_and_the_last_frame(open_made, every, frames) -> None:
    # The box moves with the grey level, so a straight line through K frames is exact.
    base, slope = dets((0, 0, 20, 20, 0.9)), np.zeros((1, 5))
    slope[:, [0, 2]] = 1
    estimator = open_made(Output("dets", base, slope), det_every=every)
    levels = [2 * n for n in range(frames)]
    levels[-1] += 7  # the last is really looked at
    track = estimator.estimate(grey(*levels))
    moved = track.keypoints[0, :, 0, 0] - 10
    expected = np.interp(
        range(frames),
        looked := sorted({*range(0, frames, every), frames - 1}),
        [levels[i] for i in looked],
    )
    np.testing.assert_allclose(moved, expected, atol=1e-3)


def test_auto_is_what_the_stage_does(open_made) -> None:
    base, slope = dets((0, 0, 20, 20, 0.9)), np.zeros((1, 5))
    slope[:, [0, 2]] = 1
    piece = grey(*(2 * n for n in range(16)))
    every, auto = (open_made(Output("dets", base, slope), det_every=n) for n in (1, "auto"))
    np.testing.assert_allclose(
        auto.estimate(piece).keypoints, every.estimate(piece).keypoints, atol=1e-3
    )
    with pytest.raises(ConfigError, match="det_every must be auto or at least 1, got often"):
        PoseConfig(det_every="often")


def test_a_piece_is_all_that_counts(open_made) -> None:
    base, slope = dets((0, 0, 20, 20, 0.9)), np.zeros((1, 5))
    slope[:, [0, 2]] = 0.3
    estimator = open_made(Output("dets", base, slope), det_every=3)
    piece = grey(0, 3, 50, 9, 7)
    first = estimator.estimate(piece)
    estimator.estimate(grey(200, 90))
    again = estimator.estimate(FramePiece(160, piece.frames))
    np.testing.assert_array_equal(first.keypoints, again.keypoints)


# ---------------------------------------------------------------- options


def test_halves_that_do_not_fit_are_told(open_made) -> None:
    with pytest.raises(PoseModelError, match="--det-model"):
        open_made(pose=simcc())
    with pytest.raises(PoseModelError, match="leave out --det-model"):
        open_made(Output("dets", dets((0, 0, 9, 9, 0.9))), pose=rtmo())
    with pytest.raises(ConfigError, match="--det-every 3 needs a detector"):
        open_made(pose=rtmo(), det_every=3)


def test_the_source_names_the_files(open_made) -> None:
    estimator = open_made(Output("dets", dets((0, 0, 9, 9, 0.9))))
    assert isinstance(estimator, PoseEstimator)
    assert estimator.announcement is None
    assert estimator.source["mode"] == "local"
    assert estimator.source["detector"]["name"] == "det.onnx"
    assert estimator.source["pose"]["kind"] == "simcc"
    assert "demo" not in estimator.source
