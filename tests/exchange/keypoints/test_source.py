"""Files and folders of keypoints: told apart by content, the same people in every format."""

import json
import pickle
import shutil
from pathlib import Path

import make_keypoints as make
import numpy as np
import pytest
from keypoint_files import BAD, read, track
from make_keypoints import FRAMES, HEIGHT, KEYPOINTS, SCORES, WIDTH, WRITERS, annotation

from epam_extract.errors import KeypointsError, KeypointsFailed
from epam_extract.exchange.keypoints import open_keypoints

LISTS_OF_PEOPLE = ("alphapose", "alphapose by picture", "alphapose open", "coco results", "yolo")
"""Formats in which a frame without people is no entry."""


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_people(tmp_path: Path, form: str) -> None:
    found = read(WRITERS[form](tmp_path))
    atol = 1e-4 if form == "yolo" else 0  # shares of the picture, in text
    np.testing.assert_allclose(found.keypoints, KEYPOINTS, rtol=0, atol=atol)
    np.testing.assert_array_equal(found.keypoint_scores, SCORES)


@pytest.mark.parametrize("form", WRITERS)
def test_another_length_than_the_videos_is_refused_with_both_numbers(
    tmp_path: Path, form: str
) -> None:
    source = open_keypoints(WRITERS[form](tmp_path))
    with pytest.raises(KeypointsFailed, match="of 6 frames and the video has 5") as caught:
        track(source, num_frames=FRAMES - 1)
    assert caught.value.stage == "keypoints"
    if form not in LISTS_OF_PEOPLE:
        with pytest.raises(KeypointsFailed, match="of 6 frames and the video has at least 7"):
            track(source, num_frames=FRAMES + 1)


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_cut_short_makes_one_sentence(tmp_path: Path, form: str) -> None:
    path = WRITERS[form](tmp_path)
    file = path if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())[0]
    whole = file.read_bytes()
    for share in (0, 0.3, 0.9):
        file.write_bytes(whole[: int(len(whole) * share)])
        if form == "yolo" and share == 0:
            continue  # a frame without people
        with pytest.raises(BAD) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("form", WRITERS)
def test_the_source_is_named_with_its_digest_and_format(tmp_path: Path, form: str) -> None:
    path = WRITERS[form](tmp_path / "x")
    source = open_keypoints(path).source
    assert source["keypoints"] == path.name
    assert json.loads(json.dumps(source)) == source
    copy = tmp_path / "y" / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, tmp_path)
    assert open_keypoints(copy if copy.exists() else tmp_path / path.name).source == source
    file = path if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())[-1]
    file.write_bytes(file.read_bytes() + b"\n")
    assert open_keypoints(path).source["sha256"] != source["sha256"]


@pytest.mark.parametrize("form", WRITERS)
def test_it_is_known_whether_the_source_says_who_is_who(tmp_path: Path, form: str) -> None:
    untold = ("pyskl rows", "mmpose", "alphapose open", "coco results", "openpose", "ultralytics d")
    video = open_keypoints(WRITERS[form](tmp_path)).match(["a"])
    source = open_keypoints(WRITERS[form](tmp_path))
    assert source.open(video.found["a"], height=64, width=96).linked != form.startswith(untold)


@pytest.mark.parametrize("form", ["mmpose demo", "vitpose", "npz", "pyskl one"])
def test_a_folder_may_hold_a_file_per_video(tmp_path: Path, form: str) -> None:
    first = WRITERS[form](tmp_path / "set" / "x")
    shutil.copy(first, first.with_name(first.name.replace("a", "b", 1)))
    source = open_keypoints(tmp_path / "set")
    np.testing.assert_array_equal(track(source, "a").keypoints, KEYPOINTS)
    assert source.format.startswith("folder of ")


def test_one_damaged_file_of_a_folder_costs_its_own_video(tmp_path: Path) -> None:
    make.mmpose_inferencer(tmp_path)
    (tmp_path / "b.json").write_text('[{"frame_id": 0, "inst')
    source = open_keypoints(tmp_path)
    assert len(source.match(["a", "b"]).found) == 2
    source.open("a", height=HEIGHT, width=WIDTH).require(FRAMES)
    with pytest.raises(KeypointsFailed, match=r"'b' cannot be used: .*b\.json"):
        source.open("b", height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"video,start,end\n", "no keypoints that are known"),
        (b"\x1f\x8b\x08\x00", "unpack it first"),
        (b"{", "no keypoints in JSON"),
        (b"[" * 100_000, "no keypoints in JSON"),
        (b'{"database": {}}', "expected one of these"),
        (b'{"version": 1.3, "people": []}', "give the folder of all frames"),
        (b"[1, 2]", "expected one of these"),
        (b"\xef\xbb\xbf[", "no keypoints in JSON"),
        (b"PK\x03\x04", r"expected an \.npz"),
        (b"\x89HDF\r\n\x1a\n", "a.bin"),
        (b"\x80\x04.", "no pickle of plain data"),
        (pickle.dumps({"a": 1}), "expected mmaction2's or PYSKL's"),
        (pickle.dumps([{"frame_dir": "a"}]), "has no 'keypoint'"),
        (pickle.dumps([annotation(), annotation()]), "two annotations are called 'a'"),
        (pickle.dumps({"annotations": 3}), "expected mmaction2's or PYSKL's"),
        (pickle.dumps([annotation(keypoint="no")]), "expected mmaction2's or PYSKL's"),
        (pickle.dumps([annotation(keypoint_score=SCORES[:1])]), "keypoints.*with scores"),
    ],
)
def test_what_holds_no_keypoints_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(KeypointsError, match=said) as caught:
        open_keypoints(tmp_path / "a.bin")
    assert "\n" not in str(caught.value)


def test_what_is_not_there_or_has_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeypointsError, match="No such file"):
        open_keypoints(tmp_path / "none")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(KeypointsError, match="folder without keypoints"):
        open_keypoints(tmp_path)
