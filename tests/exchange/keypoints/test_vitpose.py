"""easy_ViTPose's skeletons."""

import json
from pathlib import Path

import make_keypoints as make
import pytest
from keypoint_files import BAD, read
from make_keypoints import dump


def test_an_easy_vitpose_skeleton_without_our_joints_is_refused(tmp_path: Path) -> None:
    path = make.vitpose(tmp_path)
    content = json.loads(path.read_text())
    content["skeleton"]["3"] = "L_Paw"
    with pytest.raises(BAD, match=r"skeleton of 18 joints has no left_knee"):
        read(dump(path, content))
