"""Previews: what they show is what the network gets, for any video, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import make_videos
import numpy as np
import pytest
import torch
from make_keypoints import annotation, dump

from epam_extract.clips import WindowCutter, grown_box, seen_in, tight_box
from epam_extract.config import RGB_STEP, ExtractConfig, PoseConfig, WindowConfig
from epam_extract.errors import ConfigError, KeypointsFailed, ProbeError
from epam_extract.heatmaps import render_heatmaps
from epam_extract.records import FramePiece, PoseTrack, Video
from epam_extract.report import preview
from epam_extract.report.preview import draw_preview, film
from epam_extract.report.preview.drawing import (
    WINDOW,
    blank,
    printable,
    shortened,
    text_width,
    write,
)
from epam_extract.report.preview.people import cropped, people_panel, put_skeletons
from epam_extract.report.preview.scene import Scene, find_people
from epam_extract.report.preview.sheet import chosen_windows, draw_sheet
from epam_extract.report.preview.timeline import TimeLine, clock
from epam_extract.video import probe, read_frames
from epam_extract.video.encode import write_video

SAMPLE = Path(__file__).parents[2] / "sample_videos" / "walk_and_wave.mp4"


class Walker:
    """Stands in for the pose models: one person who walks to the right, gone for a while."""

    announcement = "a walker, not a model"

    def __init__(self, absent: range = range(0), people: int = 1) -> None:
        self.absent, self.people = absent, people
        self.source: dict[str, object] = {"mode": "walker"}

    def estimate(self, piece: FramePiece) -> PoseTrack:
        count, height, width = piece.frames.shape[:3]
        frames = np.arange(piece.start, piece.start + count)
        joints = np.random.default_rng(0).uniform(0.2, 0.6, (self.people, 1, 17, 2))
        moved = joints + np.stack([frames * 0.003, frames * 0.0], -1)[None, :, None]
        keypoints = np.float32(moved * (width, height))
        there = np.float32(~np.isin(frames, self.absent))[None, :, None]
        scores = np.broadcast_to(there, (self.people, count, 17)).astype(np.float32)
        return PoseTrack(keypoints * scores[..., None], scores)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = make_videos.write_video(
        tmp_path_factory.mktemp("preview") / "walker.mp4", frames=70, height=96, width=128
    )
    return probe(path, "walker")


def scene_of(video: Video, pose: Walker | None = None, **options: object) -> Scene:
    crop, most = str(options.pop("crop", "window")), options.pop("max_persons", None)
    config = ExtractConfig(
        windows=WindowConfig(**options),  # type: ignore[arg-type]
        pose=PoseConfig(max_persons=most),  # type: ignore[arg-type]
        crop=crop,
    )
    return find_people(video, pose or Walker(), config, models="walker")  # type: ignore[arg-type]


def imaginary(num_frames: int, absent: range = range(0), **options: object) -> Scene:
    """A scene without a file, for what needs no frames."""
    times = np.arange(num_frames) / 25
    video = Video("x", Path("x.mp4"), num_frames, Fraction(25), 96, 128, times)
    frames = np.broadcast_to(np.uint8(0), (num_frames, 96, 128, 3))
    track = Walker(absent).estimate(FramePiece(0, frames))
    config = ExtractConfig(windows=WindowConfig(**options))  # type: ignore[arg-type]
    return Scene(video, track, (blank(30, 40),) * 4, config, "walker")


GRIDS = (
    {},
    {"stride": 5, "frame_interval": 2},
    {"grid": "valid", "stride": 60},
    {"grid": "single"},
    {"crop": "video"},
    {"crop": "video", "max_persons": 1},
    {"max_persons": 1},
)


@pytest.mark.slow
@pytest.mark.parametrize("options", GRIDS, ids=str)
def test_crops_and_heatmaps_are_those_of_the_clips(video: Video, options: dict) -> None:
    pose = Walker(people=2)
    scene = scene_of(video, pose, **options)
    most = options.get("max_persons")
    box = None
    if options.get("crop") == "video":
        box = grown_box(tight_box(scene.track.keypoints), video.height, video.width)
    by_video = most if box else None
    pieces = [
        (piece, seen_in(pose.estimate(piece), np.arange(len(piece.frames)), by_video))
        for piece in read_frames(video)
    ]
    frames = np.concatenate([piece.frames for piece, _ in pieces])
    rows = 0
    cutter = WindowCutter(
        "walker", scene.config.windows, windows=scene.windows, video_box=box, max_persons=most
    )
    for pair in pieces:
        for cut in cutter.add(*pair):
            clip, row = cut.clip(), cut.window
            rows += 1
            assert scene.rgb_box(row) == clip.box
            assert scene.person[row] == pytest.approx(clip.person)
            for position, index in enumerate(scene.windows[row, ::RGB_STEP]):
                shown = cropped(frames[index], scene.rgb_box(row), 224)
                np.testing.assert_array_equal(shown, clip.rgb[position])
            drawn = render_heatmaps(
                torch.from_numpy(clip.keypoints)[None], torch.from_numpy(clip.keypoint_scores)[None]
            )
            np.testing.assert_array_equal(scene.heatmaps(row), drawn[0].numpy())
            some = np.array([7, 30])
            np.testing.assert_array_equal(scene.heatmaps(row, some), drawn[0, :, some].numpy())
    assert rows == len(scene.windows)


@pytest.mark.parametrize("options", GRIDS[:4], ids=str)
def test_the_film_shows_the_last_rgb_frame_of_the_window(video: Video, options: dict) -> None:
    scene = scene_of(video, **options)
    crops, frames, shown = film.Crops(scene), [], 0
    for index, frame in scene.frames():
        frames.append(frame.copy())
        row = scene.row_at(index)
        crop = crops.see(index, frame, row)
        seen = [i for i in scene.windows[row, ::RGB_STEP] if i <= index]
        if not seen:
            assert crop is None
            continue
        shown += 1
        assert crop is not None
        np.testing.assert_array_equal(crop, cropped(frames[seen[-1]], scene.rgb_box(row), 224))
        assert len(crops._cut) <= crops.ahead + 1  # memory does not grow
    assert shown >= 60


def test_the_window_shown_is_the_nearest() -> None:
    scene = imaginary(100)
    assert [scene.row_at(i) for i in (0, 15, 16, 95, 96, 99)] == [0, 0, 1, 5, 6, 6]
    assert imaginary(100, grid="single").row_at(99) == 0
    valid = imaginary(100, grid="valid")  # centres 23.5, 39.5, 55.5, 71.5
    assert [valid.row_at(i) for i in (0, 30, 32, 99)] == [0, 0, 1, 3]


def test_windows_are_spread_and_show_people() -> None:
    assert chosen_windows(imaginary(30 * 16)) == [3, 11, 18, 25]
    assert chosen_windows(imaginary(40)) == [0, 1, 2]
    assert chosen_windows(imaginary(1)) == [0]
    early = imaginary(30 * 16, absent=range(200, 480))
    assert chosen_windows(early) == [3, 10, 18, 25]  # row 11 sees them leave


def test_sheet(video: Video) -> None:
    scene = scene_of(video, Walker(absent=range(20, 40)))
    sheet = draw_sheet(scene)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert (sheet == WINDOW).all(-1).sum() > 4 * 200  # boxes, and windows on the time line
    nobody = draw_sheet(scene_of(video, Walker(absent=range(70))))
    green = (sheet == (0, 255, 0)).all(-1).sum()
    legend = (nobody == (0, 255, 0)).all(-1).sum()
    assert green > legend + 100  # skeletons


@pytest.mark.slow
@pytest.mark.parametrize("frames", (1, 4))
def test_short_and_narrow(tmp_path: Path, frames: int) -> None:
    path = make_videos.write_video(tmp_path / "short.mp4", frames=frames, height=160, width=96)
    scene = scene_of(probe(path, "short"))
    sheet = draw_sheet(scene)
    pictures = list(film.draw_film(scene))
    assert len(pictures) == frames
    assert pictures[0].shape == (film.HEIGHT, film.WIDTH, 3)
    assert sheet.shape[1] > 1000


def test_film_moves(video: Video) -> None:
    scene = scene_of(video, Walker(absent=range(20, 40)), grid="valid", stride=70)
    pictures = film.draw_film(scene)
    first = next(pictures)
    later = [next(pictures) for _ in range(8)][-1]
    pictures.close()
    strip = slice(film.HEIGHT - 100, film.HEIGHT - 60)
    assert (first[strip] != later[strip]).any()  # the cursor
    assert not np.array_equal(first[100:300, 200:800], later[100:300, 200:800])


@pytest.mark.slow
def test_draw_preview_writes_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())
    monkeypatch.setattr(film, "HEIGHT", 480)
    monkeypatch.setattr(film, "WIDTH", 800)
    path = make_videos.write_video(tmp_path / "v.mp4", frames=20, height=96, width=128)
    draw_preview(path, tmp_path / "a.PNG", ExtractConfig(device="cpu"))
    picture = cv2.imread(str(tmp_path / "a.PNG"))
    scene = scene_of(probe(path, "v"))
    np.testing.assert_array_equal(picture[..., ::-1], draw_sheet(scene))
    draw_preview(path, tmp_path / "a.mp4", ExtractConfig(device="cpu"))
    with av.open(str(tmp_path / "a.mp4")) as made:
        stream = made.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.average_rate) == (800, 480, 25)
        decoded = [frame.to_ndarray(format="rgb24") for frame in made.decode(stream)]
    assert len(decoded) == 20
    assert np.abs(decoded[0].astype(int) - next(film.draw_film(scene))).mean() < 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PNG", "a.mp4", "v.mp4"]


def test_keypoints_from_a_file_are_drawn_as_a_run_takes_them(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_models(*_: object, **__: object) -> None:
        raise AssertionError("a pose model was opened")

    monkeypatch.setattr(preview, "open_pose_model", no_models)
    frames = np.concatenate([piece.frames for piece in read_frames(video)])
    track = Walker(absent=range(20, 30)).estimate(FramePiece(0, frames))
    have = {"keypoint": track.keypoints, "keypoint_score": track.keypoint_scores}
    size = {"img_shape": (96, 128), "original_shape": (96, 128)}
    source = dump(tmp_path / "w.pkl", [annotation("walker", total_frames=70, **size, **have)])
    source = source.rename(tmp_path / "walker")  # as the picture calls the stand-in
    config = ExtractConfig(device="cpu", keypoints=source)
    draw_preview(video.path, tmp_path / "a.png", config)
    expected = draw_sheet(scene_of(video, Walker(absent=range(20, 30))))
    picture = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    np.testing.assert_array_equal(picture, expected)

    short = {name: array[:, :60] for name, array in have.items()}
    for other, words in (
        (
            annotation("walker", total_frames=60, **size, **short),
            "of 60 frames and the video has 70",
        ),
        (annotation("runner", total_frames=70, **size, **have), "--keypoints-missing estimate"),
    ):
        path = dump(
            tmp_path / "other.pkl", [other, annotation("x", total_frames=70, **size, **have)]
        )
        with pytest.raises(KeypointsFailed, match=words):
            draw_preview(video.path, tmp_path / "b.png", replace(config, keypoints=path))
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())
    estimated = replace(config, keypoints=path, keypoints_missing="estimate")
    draw_preview(video.path, tmp_path / "b.png", estimated)
    np.testing.assert_array_equal(
        cv2.imread(str(tmp_path / "b.png"))[..., ::-1], draw_sheet(scene_of(video))
    )


def test_an_existing_preview_stays_until_the_new_one_is_whole(
    video: Video, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "open_pose_model", lambda *_, **__: Walker())

    def break_off(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(preview, "write_video", break_off)
    out = tmp_path / "old.mp4"
    out.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"old\.mp4: cannot be written: No space left"):
        draw_preview(video.path, out, ExtractConfig(device="cpu"))
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_refusals(video: Video, tmp_path: Path) -> None:
    config = ExtractConfig()
    (tmp_path / "folder.png").mkdir()
    for out, message in (
        (tmp_path / "x.gif", r"x\.gif: expected a name ending in \.png .* \.mp4"),
        (tmp_path / "none" / "x.png", "there is no folder .*none"),
        (tmp_path / "folder.png", "is a directory"),
        (video.path, "is the video itself"),
    ):
        with pytest.raises(ConfigError, match=message):
            draw_preview(video.path, out, config)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ProbeError, match=r"text\.mp4"):
        draw_preview(tmp_path / "text.mp4", tmp_path / "x.png", config)
    with pytest.raises(ProbeError, match="gone"):
        draw_preview(tmp_path / "gone.mp4", tmp_path / "x.png", config)


@pytest.mark.slow
def test_bundled_model_on_a_sample_video(tmp_path: Path) -> None:
    said: list[str] = []
    progress = preview.Progress()
    progress.message = said.append  # type: ignore[method-assign]
    config = ExtractConfig(pose=PoseConfig(mode="bundled", det_every=8), device="cpu")
    draw_preview(SAMPLE, tmp_path / "sample.png", config, progress=progress)
    picture = cv2.imread(str(tmp_path / "sample.png"))[..., ::-1]
    assert (picture == (255, 128, 0)).all(-1).sum() > 500  # somebody's right side
    assert any("for trying the tool" in line for line in said)


# ---------------------------------------------------------------------------------------- parts


def test_time_line_of_a_long_video_stays_small() -> None:
    long = imaginary(100_000, stride=4)
    line = TimeLine.of(long, 900)
    assert line.narrow
    strip = line.draw([3, 20_000])
    assert strip.shape == (line.height, 900, 3)
    assert line.height < 150
    assert (strip == WINDOW).all(-1).any()
    assert not TimeLine.of(imaginary(300), 900).narrow


def test_time_line_places() -> None:
    scene = imaginary(100, absent=range(50, 100))
    line = TimeLine.of(scene, 1086)  # 1000 pixels for 4 s
    assert [round(line.x(s)) for s in (-1, 0, 2, 4, 9)] == [86, 86, 586, 1086, 1086]
    strip = line.draw()
    people = strip[60]
    assert len(np.unique(people[90:570], axis=0)) == 1
    assert not np.array_equal(people[300], people[800])
    before = strip.copy()
    line.cursor(strip, 2.0)
    changed = np.flatnonzero((strip != before).any((0, 2)))
    assert changed.min() >= 586
    assert changed.max() <= 587


def test_skeletons_by_score() -> None:
    joints = np.random.default_rng(1).uniform(20, 80, (1, 17, 2)).astype(np.float32)
    drawn = {}
    for score in (0.0, 0.1, 1.0):
        panel = blank(100, 100, (0, 0, 0))
        put_skeletons(panel, joints, np.full((1, 17), score, np.float32))
        drawn[score] = panel.max()
    assert drawn[0.0] == 0
    assert 80 < drawn[0.1] < 110  # faint
    assert drawn[1.0] == 255


def test_panel_keeps_the_frame_and_puts_the_box_where_it_belongs() -> None:
    frame = blank(200, 400, (10, 20, 30))
    nobody = np.zeros((0, 17, 2), np.float32), np.zeros((0, 17), np.float32)
    panel = people_panel(frame, *nobody, height=100, width=200, box=(100, 50, 300, 150))
    rows, columns = np.nonzero((panel == WINDOW).all(-1))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (50, 25, 149, 74)
    assert (panel[50, 100] == (10, 20, 30)).all()
    outside = np.full((1, 17, 2), -50, np.float32), np.ones((1, 17), np.float32)
    people_panel(frame, *outside, height=100, width=200)


def test_text_is_kept_on_the_canvas() -> None:
    canvas = blank(20, 50)
    for x, y in ((-30, 10), (45, 10), (10, 3), (10, 30), (200, 200)):
        write(canvas, "text", x, y)
    assert write(canvas, "", 7, 10) == 7
    name = shortened("a" * 80 + ".mp4", 200)
    assert text_width(name) <= 200
    assert name.startswith("aaa")
    assert name.endswith(".mp4")
    assert printable("vidéo\n") == "vid?o?"


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [(4, 1, "4 s"), (0.5, 0.1, "0.5 s"), (1.234, 0.01, "1.23 s"), (125, 30, "2:05")],
)
def test_clock(seconds: float, step: float, text: str) -> None:
    assert clock(seconds, step) == text
    assert clock(3725, 600) == "1:02:05"
    assert clock(-60, 30) == "-1:00"


def test_write_video_takes_any_rate(tmp_path: Path) -> None:
    pictures = [blank(64, 96, (200, 40, 40))] * 5
    for rate in (Fraction(30000, 1001), Fraction(2160, 77), Fraction(1)):
        path = tmp_path / "x.part"
        assert write_video(path, iter(pictures), fps=rate) == 5
        with av.open(str(path)) as made:
            assert float(made.streams.video[0].average_rate) == pytest.approx(float(rate), rel=1e-3)
            first = next(made.decode(video=0)).to_ndarray(format="rgb24")
        assert np.abs(first[32, 48].astype(int) - (200, 40, 40)).max() < 25
    with pytest.raises(ConfigError, match="cannot be written"):
        write_video(tmp_path / "none" / "x.mp4", iter(pictures), fps=Fraction(25))
