"""Which video an annotation belongs to."""

from pathlib import Path

import make_keypoints as make
import pytest
from keypoint_files import names, track
from make_keypoints import HEIGHT, KEYPOINTS, WIDTH

from epam_extract.exchange.keypoints import open_keypoints


def test_a_video_finds_its_annotation_by_id_last_component_and_without_rgb(tmp_path: Path) -> None:
    source = names(tmp_path, "a/b", "S001C001", "x__y_z", "deep/c", "e.f")
    ids = ["a/b", "nturgb/S001C001_rgb", "x/y.z", "other/c", "e.f", "missing"]
    matches = source.match(ids)
    assert matches.found == {
        "a/b": "a/b",
        "nturgb/S001C001_rgb": "S001C001",
        "x/y.z": "x__y_z",
        "other/c": "deep/c",
        "e.f": "e.f",
    }
    assert matches.missing == ("missing",)
    assert "no keypoints for it; looked for 'missing'" in matches.reasons["missing"]
    assert matches.report() == (
        "s.pkl: 5 of 5 annotations match, for 5 of 6 videos; no annotation for: missing"
    )


def test_an_annotation_that_two_videos_could_claim_goes_to_neither(tmp_path: Path) -> None:
    matches = names(tmp_path, "take1", "take2").match(["cam1/take1", "cam2/take1", "take2"])
    assert matches.found == {"take2": "take2"}
    assert "'take1' could be of other videos, too" in matches.reasons["cam1/take1"]
    exact = names(tmp_path, "take1").match(["take1", "cam2/take1"])
    assert exact.found == {"take1": "take1"}
    either = names(tmp_path, "x/take1", "y/take1").match(["take1"])
    assert "x/take1 and y/take1 could all be its" in either.reasons["take1"]


def test_a_file_that_names_no_video_is_that_of_the_only_one(tmp_path: Path) -> None:
    path = make.mmpose_inferencer(tmp_path).rename(tmp_path / "results.json")
    assert open_keypoints(path).match(["a"]).found == {"a": "results"}
    assert open_keypoints(path).match(["a", "b"]).missing == ("a", "b")


def test_three_of_ten_thousand_annotations_are_found_and_the_rest_forgotten(
    tmp_path: Path,
) -> None:
    many = [f"v{i}" for i in range(10_000)]
    source = names(tmp_path, *many)
    matches = source.match(["v7", "v70", "x/v700", *(f"other{i}" for i in range(9))])
    assert len(matches.found) == 3
    assert matches.report() == (
        "s.pkl: 3 of 10,000 annotations match, for 3 of 12 videos; no annotation for: "
        "other0, other1, other2, other3, other4, ..."
    )
    assert track(source, "v7").keypoints.shape == KEYPOINTS.shape
    with pytest.raises(KeyError):
        source.open("v8", height=HEIGHT, width=WIDTH)
