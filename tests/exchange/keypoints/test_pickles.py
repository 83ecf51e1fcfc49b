"""mmaction2's and PYSKL's pickles."""

from pathlib import Path
from typing import Any

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read
from make_keypoints import KEYPOINTS, dump

from epam_extract.errors import KeypointsError
from epam_extract.exchange.keypoints import open_keypoints


def test_rows_of_kinetics_may_count_from_0(tmp_path: Path) -> None:
    found = read(make.pyskl_rows(tmp_path, first=0))
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS)


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("touched"),)  # type: ignore[return-value]


def test_a_pickle_that_runs_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = dump(tmp_path / "a.pkl", {"annotations": [Hostile()]})
    with pytest.raises(KeypointsError, match="could run code; nothing was run"):
        open_keypoints(path)
    assert not (tmp_path / "touched").exists()
    np.savez(tmp_path / "a.npz", keypoints=np.array([Hostile()], object))
    with pytest.raises(BAD, match=r"a\.npz"):
        read(tmp_path / "a.npz")
    assert not (tmp_path / "touched").exists()
