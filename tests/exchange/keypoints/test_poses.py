"""What the numbers and the joints of a skeleton mean."""

import json
from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read
from make_keypoints import FRAMES, HEIGHT, KEYPOINTS, SCORES, annotation, dump

from epam_extract.errors import KeypointsError
from epam_extract.exchange.keypoints import open_keypoints
from epam_extract.exchange.keypoints.poses import COCO_NAMES


def test_scores_are_clipped_and_what_is_not_there_has_score_0(tmp_path: Path) -> None:
    keypoints, scores = KEYPOINTS.copy(), SCORES.copy()
    scores[0, 1, :5] = [1.5, -1, np.nan, np.inf, 0]
    keypoints[0, 1, 5] = np.nan, 3
    keypoints[0, 1, 6] = 3, -np.inf
    keypoints[0, 1, 7] = 0, 0
    keypoints[0, 1, 8] = 1e30, 3
    keypoints[0, 1, 9] = 0, 7  # on the left edge
    keypoints[0, 1, 10] = -5, HEIGHT + 5  # outside, where a pose model may well put a joint
    entry = annotation(keypoint=keypoints, keypoint_score=scores)
    found = read(dump(tmp_path / "a.pkl", entry))
    assert found.keypoint_scores[0, 1, 0] == 1
    assert (found.keypoint_scores[0, 1, 1:9] == 0).all()
    assert (found.keypoints[0, 1, 1:9] == 0).all()
    assert (found.keypoint_scores[0, 1, 9:11] == SCORES[0, 1, 9:11]).all()
    assert (found.keypoints[0, 1, 9:11] == keypoints[0, 1, 9:11]).all()
    assert np.isfinite(found.keypoints).all()


def test_numbers_too_large_for_float32_are_missing_joints(tmp_path: Path) -> None:
    entry = annotation(keypoint=KEYPOINTS.astype(np.float64), keypoint_score=SCORES)
    entry["keypoint"][0, 0, 0] = 1e300  # type: ignore[index]
    assert read(dump(tmp_path / "a.pkl", entry)).keypoint_scores[0, 0, 0] == 0


def test_half_precision_is_kept_exactly(tmp_path: Path) -> None:
    keypoints = KEYPOINTS.astype(np.float16)
    found = read(dump(tmp_path / "a.pkl", annotation(keypoint=keypoints)))
    assert (found.keypoints == keypoints).all()


@pytest.mark.parametrize("joints", [26, 133])
def test_halpe_and_wholebody_give_their_first_17(tmp_path: Path, joints: int) -> None:
    more = np.full((2, FRAMES, joints - 17, 2), 5, np.float32)
    entry = annotation(
        keypoint=np.concatenate([KEYPOINTS, more], 2),
        keypoint_score=np.concatenate([SCORES, more[..., 0]], 2),
    )
    found = read(dump(tmp_path / "a.pkl", entry))
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS)
    np.testing.assert_array_equal(found.keypoint_scores, SCORES)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, FRAMES, 25, 2), r"25 joints \(NTU RGB\+D's from Kinect"),
        ((1, FRAMES, 25, 3), r"25 joints"),
        ((1, FRAMES, 33, 2), r"33 joints \(MediaPipe's"),
        ((1, FRAMES, 17, 3), r"joints in space \(3-D\)"),
    ],
)
@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_other_skeletons_are_refused_by_name(
    tmp_path: Path, shape: tuple[int, ...], said: str, suffix: str
) -> None:
    keypoints = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, keypoints=keypoints)
    else:
        entry = annotation(keypoint=keypoints)
        del entry["keypoint_score"]
        dump(path, entry)
    with pytest.raises(BAD, match=said):
        read(path)


def test_17_joints_with_other_names_are_refused(tmp_path: Path) -> None:
    """PoseTrack's, AP-10K's and Human3.6M's skeletons have 17 joints, too."""
    path = make.coco(tmp_path)
    names = [name.replace("left_eye", "head_bottom") for name in COCO_NAMES]
    content = {**json.loads(path.read_text()), "categories": [{"keypoints": list(COCO_NAMES)}]}
    assert read(dump(path, content)).keypoints.shape == KEYPOINTS.shape
    content["categories"][0]["keypoints"] = names
    with pytest.raises(KeypointsError, match=r"joint 1 is 'head_bottom', COCO's is 'left_eye'"):
        open_keypoints(dump(path, content))
    path = make.mmpose_demo(tmp_path)
    content = json.loads(path.read_text())
    content["meta_info"]["keypoint_id2name"] = {str(i): name for i, name in enumerate(names)}
    with pytest.raises(BAD, match="head_bottom"):
        read(dump(path, content))
