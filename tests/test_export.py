"""Exports: the files are what each reader expects, and an event lands in the same rows in all.

The readers' own formulas are evaluated, as they stand in ActionFormer, OpenTAD, ASFormer, BMN,
MS-TCT and Moment-DETR.
"""

from __future__ import annotations

import csv
import json
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import run
from test_store import POSE, WEIGHTS, make_track

from epam_extract.config import ExtractConfig, WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.exchange import FORMATS, export_features, read_annotations
from epam_extract.exchange.timeline import Timeline
from epam_extract.records import Video
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter
from epam_extract.windows import grid_attributes, plan_windows, valid_share, window_times

FRAMES = 203
CLOCKS = {
    "25 fps": (Fraction(25), np.arange(FRAMES) / 25),
    "ntsc": (Fraction(30000, 1001), np.arange(FRAMES) * 1001 / 30000),
    "50 fps": (Fraction(50), np.arange(FRAMES) / 50),
    "variable": (Fraction(25), np.cumsum(np.resize([0.03, 0.05, 0.04, 0.06], FRAMES)) - 0.03),
    "late": (Fraction(25), 5 + np.arange(FRAMES) / 25),
}
EVENT = (72, 136)  # frames


def write_features(path: Path, windows: WindowConfig, videos: dict[str, str]) -> Path:
    """Videos (id -> clock) whose features are the row's frame position, everywhere."""
    config = ExtractConfig(features=("pooled",), windows=windows)
    header = StoreHeader({**config.identity(), "compiled": ""}, WEIGHTS, POSE)
    with StoreWriter(path, header) as store:
        for video_id, clock in videos.items():
            fps, stamps = CLOCKS[clock]
            video = Video(video_id, Path("v.mp4"), FRAMES, fps, 90, 160, stamps, 1, 1)
            frames = plan_windows(FRAMES, windows)
            count = len(frames)
            grid = grid_attributes(FRAMES, windows)
            position = grid["offset_frames"] + np.arange(count) * grid["feat_stride"]
            rows = np.repeat(position.astype(np.float32)[:, None], 432, 1)
            store.begin(video_id, video.path, size=1, mtime_ns=1)
            store.append_keypoints(video_id, 0, make_track(video_id, 0, FRAMES))
            store.append_windows(
                video_id,
                {
                    "rgb_pooled": rows,
                    "pose_pooled": rows[:, :216],
                    "frames": frames.astype(np.int32),
                    "person": np.ones(count, np.float32),
                    "box": np.zeros((count, 4), np.int32),
                },
            )
            store.finish(
                video,
                grid=grid,
                times=window_times(stamps, float(1 / fps), windows),
                valid=valid_share(FRAMES, windows),
            )
        store.commit()
    return path


def events_of(clock: str) -> str:
    """The event of frames 72 to 136 as a line of CSV, in the video's own seconds."""
    stamps = CLOCKS[clock][1]
    return f"v,{stamps[EVENT[0]]},{stamps[EVENT[1]]},pick up,training\n"


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("grid", ["centered", "valid"])
def test_an_event_lands_in_the_same_rows_whoever_reads(
    tmp_path: Path, clock: str, stride: int, grid: str
) -> None:
    windows = WindowConfig(grid=grid, stride=stride)
    file = write_features(tmp_path / "f.h5", windows, {"v": clock})
    (tmp_path / "a.csv").write_text(events_of(clock))
    annotations = read_annotations(tmp_path / "a.csv")
    for form in ("actionformer", "opentad", "segmentation", "bmn", "tsu", "moment"):
        export_features(file, form, tmp_path / form, annotations=annotations)
    offset = grid_attributes(FRAMES, windows)["offset_frames"]
    wanted = (np.array(EVENT) - offset) / stride  # row coordinates

    database = json.loads((tmp_path / "actionformer" / "annotations.json").read_text())["database"]
    video = database["v"]
    (event,) = video["annotations"]
    settings = (tmp_path / "actionformer" / "config.yaml").read_text()
    num_frames = float(settings.split("num_frames: ")[1].split(",")[0])
    feat_stride = float(settings.split("feat_stride: ")[1].split(",")[0])
    segment = np.array(event["segment"])
    loader = (segment * video["fps"] - 0.5 * num_frames) / feat_stride  # ActionFormer
    np.testing.assert_allclose(loader, wanted, atol=1e-3)
    assert (video["frame"], event["label_id"], video["subset"]) == (FRAMES, 0, "training")

    dataset = (tmp_path / "opentad" / "dataset.py").read_text()
    namespace: dict = {}
    exec(dataset, namespace)
    common = namespace["common"]
    segment = np.array(video["annotations"][0]["segment"]) / video["duration"] * video["frame"]
    loader = (segment - common["offset_frames"]) / common["feature_stride"]  # OpenTAD
    np.testing.assert_allclose(loader, wanted, atol=1e-3)

    dense = np.load(tmp_path / "segmentation" / "features" / "v.npy")
    lines = (tmp_path / "segmentation" / "groundTruth" / "v.txt").read_text().split("\n")[:-1]
    assert dense.shape == (648, FRAMES) and len(lines) == FRAMES
    assert [n for n, line in enumerate(lines) if line == "pick_up"] == list(range(*EVENT))
    inside = np.arange(FRAMES) + 0.5
    last = offset + (len(plan_windows(FRAMES, windows)) - 1) * stride
    np.testing.assert_allclose(dense[0], np.clip(inside, offset, last), atol=1e-3)

    # Readers of a fixed length: the feature at a moment is that of the frame shown then.
    stamps = CLOCKS[clock][1]
    duration = stamps[-1] - stamps[0] + float(1 / CLOCKS[clock][0])
    bmn = np.loadtxt(tmp_path / "bmn" / "v.csv", delimiter=",", skiprows=1)
    assert bmn.shape == (100, 648)
    moments = stamps[0] + (np.arange(100) + 0.5) / 100 * duration
    shown = np.interp(moments, np.append(stamps, stamps[-1] + 0.04), np.arange(FRAMES + 1))
    near = (shown > offset) & (shown < last)
    assert np.abs(bmn[near, 0] - shown[near]).max() < 0.5 * stride / 4 + 0.6
    assert np.load(tmp_path / "tsu" / "v.npy").shape == (13, 648)
    with np.load(tmp_path / "moment" / "v.npz") as archive:
        assert archive["features"].shape == (int(np.ceil(duration / 2)), 648)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_features(
        tmp_path / "f.h5", WindowConfig(), {"a/b.c": "25 fps", "d": "ntsc", "e": "variable"}
    )


def test_arrays_and_tables_hold_what_the_file_holds(file: Path, tmp_path: Path) -> None:
    for form in ("npy", "npz", "pt", "parquet", "pyskl"):
        export_features(file, form, tmp_path / form)
    with FeatureStore(file) as store:
        for name in store:
            both = np.concatenate([store[name]["rgb_pooled"], store[name]["pose_pooled"]], 1)
            np.testing.assert_array_equal(np.load(tmp_path / "npy" / f"{name}.npy"), both)
            rgb = np.load(tmp_path / "npy" / f"{name}_rgb.npy")
            np.testing.assert_array_equal(rgb, store[name]["rgb_pooled"])
            tensors = torch.load(tmp_path / "pt" / f"{name}.pt", weights_only=True)
            np.testing.assert_array_equal(tensors["pose_pooled"], store[name]["pose_pooled"])
        whole = np.concatenate([np.load(tmp_path / "npy" / f"{name}.npy") for name in store])
        with np.load(tmp_path / "npz" / "features.npz") as archive:
            np.testing.assert_array_equal(archive["features"], whole)
            assert archive["video"].tolist() == [n for n in store for _ in store[n]["times"]]
        with (tmp_path / "npy" / "index.csv").open() as lines:
            index = list(csv.DictReader(lines))
        assert len(index) == len(whole)
        assert all(float(line["end"]) >= float(line["centre"]) for line in index)
        with (tmp_path / "pyskl" / "skeletons.pkl").open("rb") as pickled:
            skeletons = pickle.load(pickled)
        assert skeletons["split"]["all"] == ["a__b_c", "d", "e"]
        for name, annotation in zip(store, skeletons["annotations"], strict=True):
            video = store[name]
            np.testing.assert_array_equal(annotation["keypoint"], video["keypoints"])
            np.testing.assert_array_equal(annotation["keypoint_score"], video["keypoint_scores"])
            assert annotation["total_frames"] == FRAMES
            assert annotation["img_shape"] == (90, 160)
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "parquet" / "data").to_pydict()
    np.testing.assert_array_equal(np.array(table["rgb"], np.float32), whole[:, :432])


def test_an_interrupted_export_is_finished_by_the_same_command(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, saved = tmp_path / "out", []
    real = np.save

    def broken(target: object, array: np.ndarray) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(target)
        real(target, array)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        export_features(file, "actionformer", out)
    assert len(list(out.rglob("*.npy"))) == 2 and not list(out.rglob(".*"))
    monkeypatch.setattr(np, "save", real)
    done = export_features(file, "actionformer", out, jobs=3)
    assert (done.videos, done.written) == (3, 1)
    assert export_features(file, "actionformer", out).written == 0
    assert len(list(out.rglob("*.npy"))) == 3


def test_what_cannot_be_exported_is_one_sentence(file: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    export_features(file, "tsu", tmp_path / "tsu")
    (tmp_path / "a.json").write_text('{"videos": []}')
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    (tmp_path / "long.csv").write_text("d,1,2,x\n")
    single = write_features(tmp_path / "s.h5", WindowConfig(grid="single"), {"v": "25 fps"})
    alike = write_features(tmp_path / "x.h5", WindowConfig(), {"a/b": "25 fps", "a__b": "25 fps"})
    for arguments, said in (
        ([file, tmp_path / "o", "--to", "mat"], "--to must be one of actionformer, opentad"),
        ([file, mine, "--to", "npy"], "is not empty (thesis.tex, ...)"),
        ([file, tmp_path / "tsu", "--to", "npy"], "holds an export of another format"),
        ([file, tmp_path / "o", "--to", "npy", "--features", "rgb"], "cannot export rgb"),
        ([file, tmp_path / "o", "--to", "npy", "--annotations", tmp_path / "a.json"], "database"),
        ([file, tmp_path / "o", "--to", "npy", "--annotations", tmp_path / "b.csv"], "columns"),
        ([single, tmp_path / "p", "--to", "opentad"], "nothing to localize"),
        ([alike, tmp_path / "q", "--to", "tsu"], "would both be written to a__b"),
    ):
        result = run("export", *arguments)
        assert result.exit_code == 2, result.stderr
        assert len(result.stderr.strip().splitlines()) == 1 and said in result.stderr
    assert run("export", tmp_path / "none.h5", tmp_path / "o", "--to", "npy").exit_code == 1
    assert sorted(path.name for path in mine.iterdir()) == ["thesis.tex"]


def test_annotations_of_another_cut_are_refused(file: Path, tmp_path: Path) -> None:
    entry = {"subset": "validation", "duration": 30.0, "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"d": entry}}))
    annotations = read_annotations(tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"d: annotated as 30 s long and measured as 6\.77"):
        export_features(file, "actionformer", tmp_path / "o", annotations=annotations)


def test_the_samples_segments_are_complete() -> None:
    path = Path(__file__).parents[1] / "sample_videos" / "segments.json"
    annotations = read_annotations(path)
    video = annotations.videos["untrimmed"]
    assert video.stated == {"duration": 12.0, "fps": 25.0, "frame": 300.0}
    assert annotations.labels == sorted(set(annotations.labels)) and len(video.events) > 3


def test_every_format_is_named_in_the_help() -> None:
    words = run("export", "--help").stdout.replace("\n", " ")
    assert all(name in words for name in FORMATS)


def test_row_coordinates_go_on_beyond_the_rows(file: Path) -> None:
    with FeatureStore(file) as store:
        timeline = Timeline.of(store["d"])
    fps = 30000 / 1001
    np.testing.assert_allclose(timeline.frames_at(np.array([0, 203 / fps])), [0, 203], atol=1e-6)
