"""MMPose's predictions."""

import json
from pathlib import Path

import make_keypoints as make
import pytest
from keypoint_files import BAD, read
from make_keypoints import dump


def test_frames_of_an_inferencer_that_count_from_1_are_refused(tmp_path: Path) -> None:
    path = make.mmpose_inferencer(tmp_path)
    content = json.loads(path.read_text())
    for frame in content:
        frame["frame_id"] += 1
    with pytest.raises(BAD, match=r"frame_id goes from 1 to 6.*from 0"):
        read(dump(path, content))
