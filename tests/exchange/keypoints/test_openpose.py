"""OpenPose's files, one per frame."""

from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read
from make_keypoints import FRAMES, KEYPOINTS, dump

from epam_extract.errors import KeypointsError


def test_openposes_coco_18_is_mapped_and_mpi_refused(tmp_path: Path) -> None:
    for joints in (18, 15):
        for t in range(FRAMES):
            place = make._spread(make.COCO_18, 18)[0, t]
            person = {"pose_keypoints_2d": place[:joints].reshape(-1).tolist()}
            dump(tmp_path / str(joints) / f"a_{t:012d}_keypoints.json", {"people": [person]})
    np.testing.assert_array_equal(read(tmp_path / "18").keypoints, KEYPOINTS[:1])
    with pytest.raises(KeypointsError, match=r"15 joints \(OpenPose's MPI"):
        read(tmp_path / "15")


def test_openpose_files_must_be_there_for_every_frame(tmp_path: Path) -> None:
    folder = make.openpose(tmp_path)
    (folder / f"a_{2:012d}_keypoints.json").unlink()
    with pytest.raises(BAD, match=r"5 files, of frames 0 to 5; expected one for every"):
        read(folder)
