"""JSON that is odd, or of another shape."""

import json
from pathlib import Path

import make_keypoints as make
import pytest
from keypoint_files import BAD, read
from make_keypoints import dump


def test_nan_in_json_is_a_missing_joint(tmp_path: Path) -> None:
    path = make.mmpose_inferencer(tmp_path)
    content = json.loads(path.read_text())
    content[0]["instances"][0]["keypoints"][2] = [float("nan"), 4]
    content[0]["instances"][0]["keypoint_scores"][4] = float("nan")
    dump(path, content)
    assert (read(path).keypoint_scores[0, 0, [2, 4]] == 0).all()


@pytest.mark.parametrize(
    "content",
    [
        [{"frame_id": 0}],
        [{"frame_id": "x", "instances": []}],
        [{"frame_id": 0, "instances": [{"keypoints": [[1, 2]], "keypoint_scores": [1]}]}],
        [{"image_id": "0.jpg", "keypoints": [1, 2]}],
        [{"image_id": "x.jpg", "keypoints": [1, 2, 0.5] * 17}],
        [{"image_id": "9" * 40 + ".jpg", "keypoints": [1, 2, 0.5] * 17}],
        [{"image_id": 10**30, "keypoints": [1, 2, 0.5] * 17}],
        [{"image_id": 10**15, "keypoints": [1, 2, 0.5] * 17}],
        [{"image_id": "0.jpg", "keypoints": [1, 2, 0.5] * 17}, {"image_id": "1.jpg"}],
        [{"image_id": "0.jpg", "keypoints": ["a", 2, 0.5] * 17}],
        [["text"], [3]],
        ["not json"],
        [[{"keypoints": {"x": [1], "y": []}}]],
        [[{"name": "person", "box": {}}]],
        {"keypoints": [{"0": [[1, 2, 3]]}], "skeleton": {"0": "nose"}},
        {"keypoints": 3, "skeleton": 4},
        {"instance_info": None},
        {"a.jpg": [{"keypoints": []}]},
        {"1.jpg": {"people": [{}]}},
    ],
)
def test_json_of_another_shape_makes_one_sentence(tmp_path: Path, content: object) -> None:
    path = dump(tmp_path / "a.json", content)
    with pytest.raises(BAD) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
