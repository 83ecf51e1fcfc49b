"""Arrays, tables and pickles for the user's own loaders hold what the file holds."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from make_features import FRAMES, write_features

from epam_extract.config import WindowConfig
from epam_extract.exchange import export_features, open_keypoints, read_annotations
from epam_extract.records import FramePiece
from epam_extract.store import FeatureStore


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_features(
        tmp_path / "f.h5", WindowConfig(), {"a/b.c": "25 fps", "d": "ntsc", "e": "variable"}
    )


@pytest.mark.slow
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
    keypoints = open_keypoints(tmp_path / "pyskl" / "skeletons.pkl")  # and back
    frames = FramePiece(0, np.zeros((FRAMES, 90, 160, 3), np.uint8))
    with FeatureStore(file) as store:
        matches = keypoints.match(store).found
        for name, video in store.items():
            track = keypoints.open(matches[name], height=90, width=160).estimate(frames)
            np.testing.assert_array_equal(track.keypoints, video["keypoints"])
            np.testing.assert_array_equal(track.keypoint_scores, video["keypoint_scores"])
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "parquet" / "data").to_pydict()
    np.testing.assert_array_equal(np.array(table["rgb"], np.float32), whole[:, :432])


def test_labels_and_splits_go_with_keypoints_and_rows(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "d,1,2,kick,train\nd,3,4,kick,train\ne,0,9,throw,val\na/b.c,1,2,kick\na/b.c,2,3,throw\n"
    )
    annotations = read_annotations(tmp_path / "a.csv")
    for form in ("pyskl", "npy"):
        export_features(file, form, tmp_path / form, annotations=annotations)
    with (tmp_path / "pyskl" / "skeletons.pkl").open("rb") as pickled:
        skeletons = pickle.load(pickled)
    labels = {a["frame_dir"]: a.get("label") for a in skeletons["annotations"]}
    assert labels == {"a__b_c": None, "d": 0, "e": 1}  # of several labels none is the video's
    assert (skeletons["split"]["train"], skeletons["split"]["val"]) == (["d"], ["e"])
    assert (tmp_path / "pyskl" / "labels.txt").read_text() == "kick\nthrow\n"
    assert str(tmp_path / "pyskl" / "skeletons.pkl") in (
        (tmp_path / "pyskl" / "dataset.py").read_text()
    )
    with (tmp_path / "npy" / "index.csv").open() as lines:
        index = [line for line in csv.DictReader(lines) if line["video"] == "d"]
    labelled = [line["label"] == "kick" for line in index]
    centers = [float(line["centre"]) for line in index]
    assert labelled == [1 <= center < 2 or 3 <= center < 4 for center in centers]
    assert {line["subset"] for line in index} == {"training"}


def test_segments_carry_their_labels(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as h5:
        h5["videos/d"].attrs["label"], h5["videos/e"].attrs["label"] = "kick", "throw"
    for form in ("segmentation", "pyskl", "npy", "actionformer"):
        export_features(file, form, tmp_path / form)
    truth = (tmp_path / "segmentation" / "groundTruth" / "e.txt").read_text()
    assert truth == "throw\n" * FRAMES
    with (tmp_path / "pyskl" / "skeletons.pkl").open("rb") as pickled:
        labels = {a["frame_dir"]: a.get("label") for a in pickle.load(pickled)["annotations"]}
    assert labels == {"a__b_c": None, "d": 0, "e": 1}
    with (tmp_path / "npy" / "index.csv").open() as lines:
        labels = {line["video"]: line["label"] for line in csv.DictReader(lines)}
    assert labels == {"a/b.c": "", "d": "kick", "e": "throw"}
    text = (tmp_path / "actionformer" / "annotations.json").read_text()
    video = json.loads(text)["database"]["d"]
    assert video["annotations"][0]["label"] == "kick"
    np.testing.assert_allclose(
        video["annotations"][0]["segment"], [0, video["duration"]], atol=1e-5
    )
