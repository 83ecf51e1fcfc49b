"""Keypoints that people have: every format gives the same people, every trap is seen or avoided."""

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import make_keypoints as make
import numpy as np
import pytest
from make_features import FRAMES as STORED_FRAMES
from make_features import write_features
from make_keypoints import FRAMES, HEIGHT, KEYPOINTS, SCORES, WIDTH, WRITERS, annotation, dump

from epam_extract.config import WindowConfig
from epam_extract.errors import KeypointsError, KeypointsFailed
from epam_extract.exchange import export_features
from epam_extract.exchange.keypoints import KeypointFile, open_keypoints
from epam_extract.exchange.keypoints.poses import COCO_NAMES
from epam_extract.records import FramePiece, PoseTrack
from epam_extract.store import FeatureStore

LISTS_OF_PEOPLE = ("alphapose", "alphapose by picture", "alphapose open", "coco results", "yolo")
"""Formats in which a frame without people is no entry."""
BAD = (KeypointsError, KeypointsFailed)


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """Odd numbers are dealt with, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def track(
    source: KeypointFile,
    name: str = "a",
    *,
    num_frames: int = FRAMES,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> PoseTrack:
    """The people of a whole video, as a run gets them piece by piece."""
    video = source.open(source.match([name]).found[name], height=height, width=width)
    frames = np.broadcast_to(np.uint8(0), (num_frames, height, width, 3))
    found = video.estimate(FramePiece(0, frames))
    video.require(num_frames)
    return found


def read(path: Path, **changes: int) -> PoseTrack:
    return track(open_keypoints(path), **changes)


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


# What numbers mean


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


def test_nan_in_json_is_a_missing_joint(tmp_path: Path) -> None:
    path = make.mmpose_inferencer(tmp_path)
    content = json.loads(path.read_text())
    content[0]["instances"][0]["keypoints"][2] = [float("nan"), 4]
    content[0]["instances"][0]["keypoint_scores"][4] = float("nan")
    dump(path, content)
    assert (read(path).keypoint_scores[0, 0, [2, 4]] == 0).all()


def test_alphaposes_scores_up_to_6_are_clipped(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [20, 30, 4.6] * 17, "score": 3}]
    found = read(dump(tmp_path / "a.json", people))
    assert (found.keypoint_scores[0, 0] == 1).all()


def test_half_precision_is_kept_exactly(tmp_path: Path) -> None:
    keypoints = KEYPOINTS.astype(np.float16)
    found = read(dump(tmp_path / "a.pkl", annotation(keypoint=keypoints)))
    assert (found.keypoints == keypoints).all()


def test_coordinates_are_scaled_from_the_annotations_picture_to_the_videos(tmp_path: Path) -> None:
    found = read(make.pyskl(tmp_path), height=HEIGHT * 2, width=WIDTH * 3)
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS * np.array([3, 2], np.float32))
    labels = read(make.yolo(tmp_path), height=HEIGHT * 2, width=WIDTH * 3)
    np.testing.assert_allclose(labels.keypoints, found.keypoints, atol=1e-3)


def test_shares_of_the_picture_are_told_from_pixels(tmp_path: Path) -> None:
    folder = make.openpose(tmp_path)
    for file in folder.iterdir():
        content = json.loads(file.read_text())
        for person in content["people"]:
            flat = np.array(person["pose_keypoints_2d"]).reshape(-1, 3) / [WIDTH, HEIGHT, 1]
            person["pose_keypoints_2d"] = flat.reshape(-1).tolist()
        dump(file, content)
    np.testing.assert_allclose(read(folder).keypoints, KEYPOINTS, atol=1e-4)


def test_a_picture_turned_by_90_degrees_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BAD, match=r"96 x 64.*64 x 96.*turned"):
        read(make.pyskl(tmp_path), height=WIDTH, width=HEIGHT)


def test_pixels_of_a_larger_picture_are_refused_where_its_size_is_not_said(tmp_path: Path) -> None:
    people = [{"image_id": 0, "category_id": 1, "keypoints": [1500, 900, 0.9] * 17}]
    with pytest.raises(BAD, match=r"outside the picture of 96 x 64.*1500"):
        read(dump(tmp_path / "a.json", people))


# Skeletons


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


def test_joints_in_metres_are_no_joints_with_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", keypoints=rng.uniform(0.5, 3, (FRAMES, 17, 3)))
    with pytest.raises(BAD, match="3-D"):
        read(tmp_path / "a.npz")


def test_one_person_with_scores_in_the_third_column_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints=make.JOINTS[0])
    found = read(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS[:1])
    np.testing.assert_array_equal(found.keypoint_scores, SCORES[:1])


def test_joints_without_any_score_have_1_where_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints=KEYPOINTS)
    np.testing.assert_array_equal(read(tmp_path / "a.npz").keypoint_scores, SCORES > 0)


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


def test_an_easy_vitpose_skeleton_without_our_joints_is_refused(tmp_path: Path) -> None:
    path = make.vitpose(tmp_path)
    content = json.loads(path.read_text())
    content["skeleton"]["3"] = "L_Paw"
    with pytest.raises(BAD, match=r"skeleton of 18 joints has no left_knee"):
        read(dump(path, content))


def test_openposes_coco_18_is_mapped_and_mpi_refused(tmp_path: Path) -> None:
    for joints in (18, 15):
        for t in range(FRAMES):
            place = make._spread(make.COCO_18, 18)[0, t]
            person = {"pose_keypoints_2d": place[:joints].reshape(-1).tolist()}
            dump(tmp_path / str(joints) / f"a_{t:012d}_keypoints.json", {"people": [person]})
    np.testing.assert_array_equal(read(tmp_path / "18").keypoints, KEYPOINTS[:1])
    with pytest.raises(KeypointsError, match=r"15 joints \(OpenPose's MPI"):
        read(tmp_path / "15")


# Frames, and who is who


def test_yolo_labels_are_told_apart_whatever_was_saved(tmp_path: Path) -> None:
    for conf in (False, True):
        for seen in (False, True):
            for people in (False, True):
                folder = make.yolo(tmp_path / f"{conf}{seen}{people}", conf, people, seen)
                found = read(folder)
                wanted = SCORES if seen else np.float32(SCORES > 0)
                np.testing.assert_array_equal(found.keypoint_scores, wanted)


def test_a_yolo_joint_below_one_half_is_missing_and_a_line_counts_once(tmp_path: Path) -> None:
    labels = make.yolo(tmp_path)
    file = labels / "a_1.txt"
    columns = file.read_text().splitlines()[0].split()
    columns[5 + 2] = "0.49"  # what is left of a joint that Ultralytics has set to (0, 0) or not
    file.write_text(" ".join(columns) + "\n" + " ".join(columns) + "\n")
    found = read(labels)
    assert found.keypoint_scores.shape == SCORES.shape  # nobody was there twice
    assert found.keypoint_scores[0, 0, 0] == 0
    np.testing.assert_array_equal(found.keypoint_scores[0, 0, 1:], SCORES[0, 0, 1:])


def test_a_yolo_frame_without_people_has_no_file(tmp_path: Path) -> None:
    labels = make.yolo(tmp_path)
    (labels / "a_3.txt").unlink()
    found = read(labels)
    assert not found.keypoint_scores[:, 2].any()
    np.testing.assert_array_equal(found.keypoint_scores[:, 3:], SCORES[:, 3:])


def test_yolo_labels_of_boxes_alone_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a_1.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(KeypointsError, match=r"lines of 5 columns.*56 to 58"):
        open_keypoints(tmp_path)


def test_mmposes_frames_count_from_0_or_from_1_by_their_form(tmp_path: Path) -> None:
    path = make.mmpose_inferencer(tmp_path)
    content = json.loads(path.read_text())
    for frame in content:
        frame["frame_id"] += 1
    with pytest.raises(BAD, match=r"frame_id goes from 1 to 6.*from 0"):
        read(dump(path, content))


def test_openpose_files_must_be_there_for_every_frame(tmp_path: Path) -> None:
    folder = make.openpose(tmp_path)
    (folder / f"a_{2:012d}_keypoints.json").unlink()
    with pytest.raises(BAD, match=r"5 files, of frames 0 to 5; expected one for every"):
        read(folder)


def test_coco_results_that_count_from_1_are_not_used_a_frame_late(tmp_path: Path) -> None:
    people = json.loads(make.coco_results(tmp_path).read_text())
    for person in people:
        person["image_id"] += 1
    with pytest.raises(KeypointsFailed, match=r"of 7 frames.* has 6; expected frames counted from"):
        read(dump(tmp_path / "a.json", people))


def test_a_piece_has_its_own_frames_and_nobody_who_is_in_none(tmp_path: Path) -> None:
    source = open_keypoints(make.pyskl(tmp_path))
    video = source.open("a", height=HEIGHT, width=WIDTH)
    frames = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    piece = video.estimate(FramePiece(2, frames))
    np.testing.assert_array_equal(piece.keypoints, KEYPOINTS[:1, 2:4])
    piece = video.estimate(FramePiece(4, frames))
    np.testing.assert_array_equal(piece.keypoint_scores, SCORES[:, 4:])


def test_people_may_leave_before_the_video_ends(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [20, 30, 0.5] * 17}]
    path = dump(tmp_path / "a.json", people)
    video = open_keypoints(path).open("a", height=HEIGHT, width=WIDTH)
    frames = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    assert (video.estimate(FramePiece(0, frames)).keypoint_scores[0, 0] == 0.5).all()
    assert video.estimate(FramePiece(3, frames)).keypoints.shape == (0, 3, 17, 2)
    video.require(6)


def test_rows_of_kinetics_may_count_from_0(tmp_path: Path) -> None:
    found = read(make.pyskl_rows(tmp_path, first=0))
    np.testing.assert_array_equal(found.keypoints, KEYPOINTS)


def test_tracked_people_keep_their_row_and_leave_it_to_others(tmp_path: Path) -> None:
    # who is in frames 0..5; 9 and 5 change places in the list, 5 leaves for good, 7 comes
    present = [[9, 5], [5, 9], [9], [7, 9], [9, 7], [9]]
    people = [
        {"image_id": f"{t}.jpg", "keypoints": [10 + who, 20, 0.9] * 17, "idx": who}
        for t, here in enumerate(present)
        for who in here
    ]
    found = read(dump(tmp_path / "a.json", people))
    x = np.where(found.keypoint_scores[..., 0] > 0, found.keypoints[..., 0, 0] - 10, 0)
    rows = {tuple(row) for row in x.astype(int).tolist()}
    assert rows == {(9, 9, 9, 9, 9, 9), (5, 5, 0, 7, 7, 0)}


@pytest.mark.parametrize("form", WRITERS)
def test_it_is_known_whether_the_source_says_who_is_who(tmp_path: Path, form: str) -> None:
    untold = ("pyskl rows", "mmpose", "alphapose open", "coco results", "openpose", "ultralytics d")
    video = open_keypoints(WRITERS[form](tmp_path)).match(["a"])
    source = open_keypoints(WRITERS[form](tmp_path))
    assert source.open(video.found["a"], height=64, width=96).linked != form.startswith(untold)


def test_the_same_number_twice_in_a_frame_is_two_people(tmp_path: Path) -> None:
    people = [{"image_id": "0.jpg", "keypoints": [x, 20, 0.9] * 17, "idx": 1} for x in (10, 40, 70)]
    found = read(dump(tmp_path / "a.json", people))
    assert sorted(found.keypoints[:, 0, 0, 0]) == [10, 40, 70]


def test_a_video_without_people_has_none(tmp_path: Path) -> None:
    for name, content in (("x", []), ("y", [[]] * FRAMES)):
        found = read(dump(tmp_path / name / "a.json", content))
        assert found.keypoints.shape == (0, FRAMES, 17, 2)


# Matching


def names(path: Path, *found: str) -> KeypointFile:
    return open_keypoints(dump(path / "s.pkl", [annotation(name) for name in found]))


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


# Folders of files, and files of features


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


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "f.h5"
    return write_features(path, WindowConfig(), {"sub/v.1": "25 fps", "w": "25 fps"})


def test_a_file_of_features_gives_its_keypoints_back(features: Path) -> None:
    size = {"num_frames": STORED_FRAMES, "height": 90, "width": 160}
    source = open_keypoints(features)
    with FeatureStore(features) as store:
        stored = store["sub/v.1"]["keypoint_scores"], store["sub/v.1"]["keypoints"]
    found = track(source, "sub/v.1", **size)
    np.testing.assert_array_equal(found.keypoint_scores, stored[0].astype(np.float32))
    there = found.keypoint_scores > 0
    assert there.any()
    np.testing.assert_array_equal(found.keypoints[there], stored[1][there])
    assert source.source == open_keypoints(features).source
    assert source.source["format"] == "epam-extract"


def test_what_export_writes_comes_back_bit_for_bit(features: Path, tmp_path: Path) -> None:
    export_features(features, "pyskl", tmp_path / "out")
    size = {"num_frames": STORED_FRAMES, "height": 90, "width": 160}
    exported = track(open_keypoints(tmp_path / "out" / "skeletons.pkl"), "sub/v.1", **size)
    direct = track(open_keypoints(features), "sub/v.1", **size)
    np.testing.assert_array_equal(exported.keypoints, direct.keypoints)
    np.testing.assert_array_equal(exported.keypoint_scores, direct.keypoint_scores)


# What is bad stays kind


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


def test_what_is_not_there_or_has_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeypointsError, match="No such file"):
        open_keypoints(tmp_path / "none")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(KeypointsError, match="folder without keypoints"):
        open_keypoints(tmp_path)
