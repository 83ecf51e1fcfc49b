"""``--image-fps``: folders of numbered pictures are videos."""

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_videos import number_of, picture, write_video
from stand_ins import POOLED, StandInPose

from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError, DecodeError, ProbeError, StoreMismatch
from epam_extract.exchange.segments import find_segments, read_segments
from epam_extract.pipeline.run import extract_features
from epam_extract.records import Segment
from epam_extract.store import FeatureStore
from epam_extract.store.verify import verify
from epam_extract.video import (
    close_workers,
    find_videos,
    open_video,
    probe,
    read_frames,
    read_header,
)

RATE = Fraction(25)
IMAGES = replace(POOLED, image_fps=25.0)


def write_pictures(
    folder: Path, numbers: list[int], *, name: str = "img_{:05}.png", first: int = 0
) -> Path:
    """Pictures that carry ``first``, ``first + 1``, ..., with these numbers in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, number in enumerate(numbers, start=first):
        cv2.imwrite(str(folder / name.format(number)), picture(index)[..., ::-1])
    return folder


def read(folder: Path) -> list[int]:
    with open_video(folder, "v", image_fps=RATE) as opened:
        found = [number_of(f) for piece in opened.frames() for f in piece.images()]
        assert opened.video is not None and opened.video.num_frames == len(found)
        return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["img_{:05}.jpg", "frame_{:06}.png", "{}.jpeg", "a b-{}.BMP", "x_{:03}.webp"]
)
def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path, name: str) -> None:
    folder = write_pictures(tmp_path / "v", list(range(1, 25)), name=name)
    assert read(folder) == list(range(24))
    video = probe(folder, "v", image_fps=RATE)
    assert (video.num_frames, video.fps, video.height, video.width) == (24, 25, 64, 96)
    np.testing.assert_allclose(video.timestamps, np.arange(24) / 25)
    assert read_header(folder, image_fps=RATE).frames == 24
    again = read_frames(video, start=20, image_fps=RATE)
    assert [number_of(frame) for piece in again for frame in piece.frames] == [20, 21, 22, 23]


def test_rawframes_with_optical_flow_beside_them(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "v", list(range(1, 7)), name="img_{:05}.jpg")
    for name in ("flow_x_{:05}.jpg", "flow_y_{:05}.jpg"):
        write_pictures(folder, list(range(1, 7)), name=name, first=50)
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".img_00009.jpg").write_bytes(b"hidden")
    assert read(folder) == [0, 1, 2, 3, 4, 5]


def test_gaps_are_named_and_keep_their_time(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "v", [1, 2, 3, 7, 8, 10])
    video = probe(folder, "v", image_fps=RATE)
    assert video.notes == ("pictures are missing: 4 to 6, 9",)
    np.testing.assert_allclose(video.timestamps * 25, [0, 1, 2, 6, 7, 9])
    every_fifth = write_pictures(tmp_path / "w", [0, 5, 10, 15])
    video = probe(every_fifth, "w", image_fps=RATE)
    assert video.notes == ()
    np.testing.assert_allclose(video.timestamps * 25, [0, 1, 2, 3])


def test_which_folders_are_videos(tmp_path: Path) -> None:
    root = tmp_path / "frames"
    write_pictures(root / "a.1", [1, 2])
    write_pictures(root / "class" / "b", [1, 2])
    write_video(root / "c.mp4", frames=2)
    (root / "empty").mkdir()

    def ids(*sources: Path | str) -> list[str]:
        return [found.id for found in find_videos(list(sources), pictures=True)]

    assert ids(root) == ["a.1", "c", "class/b"]
    assert ids(root / "a.1") == ["a.1"]
    assert ids(f"{root}/*") == ["a.1", "c", "class/b"]
    assert ids(root / "class" / "b", root / "c.mp4") == ["b", "c"]
    assert [found.id for found in find_videos([root])] == ["c"]
    with pytest.raises(ConfigError, match="--image-fps F reads the folders"):
        find_videos([root / "class"])
    with pytest.raises(ConfigError, match="and folders of numbered pictures"):
        ids(root / "empty")


def broken(folder: Path, what: str) -> None:
    third = folder / "img_00003.png"
    if what == "empty":
        third.write_bytes(b"")
    elif what == "text":
        third.write_text("no picture")
    elif what == "cut short":
        third.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    elif what == "bomb":  # a PNG that says it is 60,000 x 60,000
        good = bytearray(third.read_bytes())
        good[16:24] = (60_000).to_bytes(4, "big") * 2
        third.write_bytes(good)
    elif what == "size":
        cv2.imwrite(str(third), np.zeros((32, 40, 3), np.uint8))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("empty", "img_00003.png is empty"),
        ("text", "img_00003.png is damaged, or no picture"),
        ("cut short", "img_00003.png"),
        ("bomb", "img_00003.png"),
        ("size", "img_00003.png is 40x32, and the first picture 96x64"),
    ],
)
def test_a_bad_picture_fails_its_video_in_a_sentence(tmp_path: Path, what: str, words: str) -> None:
    folder = write_pictures(tmp_path / "v", [1, 2, 3, 4])
    broken(folder, what)
    with pytest.raises(DecodeError) as error:
        read(folder)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert str(folder) in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "no numbered pictures"),
        (["a_1.jpg", "b_1.jpg"], "2 series of numbered pictures (a_1.jpg, b_1.jpg)"),
        (["a_1.jpg", "a_01.jpg"], "the same number: a_01.jpg and a_1.jpg"),
        (["a_1.png"], "a_1.png is empty"),
    ],
)
def test_a_bad_folder_is_refused_in_a_sentence(
    tmp_path: Path, files: list[str], words: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ProbeError) as error:
        read(tmp_path)
    assert words in str(error.value)


def test_hostile_names_stay_in_their_folder(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "v", [1, 2])
    os.mkfifo(folder / "img_00003.png")  # would wait for ever
    (folder / "img_00004.png").mkdir()
    assert read(folder) == [0, 1]


@pytest.mark.parametrize("rate", [0.0, -25.0, float("nan"), float("inf"), 1e6])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"image_fps must be 0\.01 to 1000"):
        ExtractConfig(image_fps=rate)


@pytest.mark.slow
def test_a_folder_gives_the_features_of_the_video_it_was_made_from(
    stand_ins: StandInPose, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "frames" / "v", list(range(1, 91)))
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "v.mkv", "ffv1", frames=90, pix_fmt="bgr0")
    extract_features(tmp_path / "frames", tmp_path / "a.h5", IMAGES)
    extract_features(tmp_path / "videos", tmp_path / "b.h5", POOLED)
    with FeatureStore(tmp_path / "a.h5") as ours, FeatureStore(tmp_path / "b.h5") as theirs:
        assert ours.ids == ["v"] and ours.config["image_fps"] == 25.0
        for name in set(theirs["v"]) - {"times"}:
            np.testing.assert_array_equal(ours["v"][name], theirs["v"][name], err_msg=name)
        np.testing.assert_allclose(ours["v"]["times"], theirs["v"]["times"], atol=1e-3)
    assert verify(tmp_path / "a.h5", videos=tmp_path / "frames") == []
    again = extract_features(tmp_path / "frames", tmp_path / "a.h5", IMAGES)
    assert (again.skipped, again.windows) == (1, 0)
    with pytest.raises(StoreMismatch, match=r"image_fps: 25\.0 in the file, 30\.0 now"):
        extract_features(tmp_path / "frames", tmp_path / "a.h5", replace(IMAGES, image_fps=30.0))


def test_a_picture_that_comes_later_makes_it_another_video(
    stand_ins: StandInPose, tmp_path: Path
) -> None:
    folder = write_pictures(tmp_path / "v", list(range(1, 21)))
    extract_features(folder, tmp_path / "f.h5", IMAGES)
    os.utime(folder, ns=(0, folder.stat().st_mtime_ns - 10**9))  # as if it were made before
    extract_features(folder, tmp_path / "f.h5", IMAGES)
    write_pictures(folder, [21], first=20)
    summary = extract_features(folder, tmp_path / "f.h5", IMAGES)
    assert (summary.skipped, summary.frames) == (0, 21)


@pytest.mark.slow
def test_png_is_read_by_a_process_that_has_loaded_decord(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = write_video(tmp_path / "a.mp4", frames=4)
    close_workers()
    with open_video(path, "a", decoder="decord") as opened:
        assert sum(len(piece) for piece in opened.frames()) == 4
    assert read(write_pictures(tmp_path / "v", [1, 2])) == [0, 1]  # by the same process


def test_segments_of_folders_open_no_other_picture(stand_ins: StandInPose, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "frames" / "v", list(range(1, 101)))
    (folder / "img_00090.png").write_text("damaged, and far from the segment")
    (tmp_path / "s.csv").write_text("v,0.4,2.0,wave\n")
    segments = read_segments(tmp_path / "s.csv")
    (part,), _ = find_segments(
        segments, find_videos([tmp_path / "frames"], pictures=True), source="s.csv"
    )
    assert part.segment == Segment(0.4, 2.0, "wave")
    summary = extract_features(
        tmp_path / "frames", tmp_path / "f.h5", IMAGES, segments=tmp_path / "s.csv"
    )
    assert (summary.done, summary.frames) == (1, 40)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store["v/400-2000"].attrs["label"] == "wave"
