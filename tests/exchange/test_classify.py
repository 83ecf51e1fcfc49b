"""classify: equal to a hand computation, and to the whole network on a clip."""

from __future__ import annotations

import csv
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run
from make_features import noise, write_pooled
from make_heads import CLASSES, head_tensors, write_checkpoint

from epam_extract import ConfigError
from epam_extract.exchange.classify import Classifier, mean_class_accuracy, read_names
from epam_extract.exchange.labels import read_labels
from epam_extract.model import weights_identity
from epam_extract.store import FeatureStore


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("heads") / "epam.pth")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    videos = {f"set/v{number}": noise(number, rows=number + 1) for number in range(4)}
    path = tmp_path_factory.mktemp("classify") / "f.h5"
    return write_pooled(path, videos, weights=weights_identity(checkpoint))


def by_hand(rgb: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """W_rgb rgb + b_rgb + W_pose pose + b_pose in float64."""
    heads = {name: tensor.double().numpy() for name, tensor in head_tensors().items()}
    return (
        rgb @ heads["rgb_cls_head.fc_cls.weight"].T
        + heads["rgb_cls_head.fc_cls.bias"]
        + pose @ heads["pose_cls_head.fc_cls.weight"].T
        + heads["pose_cls_head.fc_cls.bias"]
    )


def test_logits_are_those_of_a_hand_computation(file: Path, checkpoint: Path) -> None:
    with FeatureStore(file) as store:
        classifier = Classifier(store, checkpoint)
        assert classifier.notes == []
        windows = list(classifier.predictions(windows=True, top=CLASSES))
        videos = list(classifier.predictions(top=CLASSES))
    at = 0
    for number, video in enumerate(videos):
        expected = by_hand(*noise(number, rows=number + 1))
        for row, logits in enumerate(expected):
            order = np.argsort(-logits)
            assert windows[at].row == row
            assert windows[at].classes == tuple(map(str, order))
            np.testing.assert_allclose(windows[at].logits, logits[order], rtol=1e-4, atol=1e-4)
            at += 1
        mean = expected.mean(0)
        assert video.classes == tuple(map(str, np.argsort(-mean)))
        np.testing.assert_allclose(video.logits, np.sort(mean)[::-1], rtol=1e-4, atol=1e-4)
    assert at == len(windows) == 10


def test_accuracy_is_that_of_a_hand_computation(file: Path, checkpoint: Path) -> None:
    means = [by_hand(*noise(number, rows=number + 1)).mean(0) for number in range(4)]
    best = [int(np.argmax(mean)) for mean in means]
    worst = int(np.argmin(means[3]))
    lines = [f"v{number},{best[number]}\n" for number in range(3)] + [f"v3,{worst}\n", "gone,1\n"]
    labels = file.with_name("labels.csv")
    labels.write_text("video,label\n" + "".join(lines))
    with FeatureStore(file) as store:
        accuracy, examples = Classifier(store, checkpoint).accuracy(read_labels(labels))
    assert examples.missing == ["gone"]
    assert (accuracy.examples, accuracy.top1, accuracy.top5) == (4, 0.75, 0.75)
    truth, predicted = np.array([*best[:3], worst]), np.array(best)
    classes = np.union1d(truth, predicted)
    recalls = [np.mean(predicted[truth == c] == c) if c in truth else 0 for c in classes]
    assert accuracy.mean_class == pytest.approx(np.mean(recalls))


def test_mean_class_accuracy_counts_a_class_that_is_only_predicted_as_zero() -> None:
    predicted, truth = np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])
    assert mean_class_accuracy(predicted, truth) == pytest.approx((1 + 0.5 + 0) / 3)


def test_labels_of_a_pyskl_pickle_and_the_published_figure(
    file: Path, checkpoint: Path, tmp_path: Path
) -> None:
    big = tmp_path / "ntu.pth"
    torch.save(head_tensors(60), big)
    zeros = (np.zeros((1, 432)), np.zeros((1, 216)))
    store_file = write_pooled(tmp_path / "n.h5", {"ntu/S001A001_rgb": zeros, "ntu/S001A002": zeros})
    annotations = [
        {"frame_dir": name, "label": np.int64(label), "keypoint": np.zeros((1, 2, 17, 2))}
        for name, label in (("S001A001", 0), ("S001A002", 1))
    ]
    content = {"split": {"xsub_val": ["S001A001"], "xsub_train": ["S001A002"]}}
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({**content, "annotations": annotations}, protocol))
        labels = read_labels(path)
        assert [(one.video, one.label) for one in labels] == [("S001A001", "0"), ("S001A002", "1")]
        with FeatureStore(store_file) as store:
            accuracy, _ = Classifier(store, big).accuracy(labels, split="xsub_val")
            assert accuracy.examples == 1
            assert accuracy.published == ("NTU RGB+D 60 X-Sub", "top-1", 0.961)
            with pytest.raises(ConfigError, match=r"no label is in the split 'xview'.*xsub_train"):
                Classifier(store, big).accuracy(labels, split="xview")


def test_class_names_are_one_per_class(file: Path, checkpoint: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\na\n")
    with pytest.raises(ConfigError, match="class 'a' twice"):
        read_names(names)
    names.write_text("a\nb\n")
    with FeatureStore(file) as store, pytest.raises(ConfigError, match=r"2 class names .* 7 cl"):
        Classifier(store, checkpoint, names=read_names(names))


def test_features_of_other_weights_and_of_random_ones_are_announced(
    checkpoint: Path, tmp_path: Path
) -> None:
    other = write_pooled(tmp_path / "o.h5", {"v": noise(0)})
    with FeatureStore(other) as store:
        (note,) = Classifier(store, checkpoint).notes
        assert "computed with epam.pth, another file" in note
    demo = {"demo": True, "random_seed": 0}
    random = write_pooled(tmp_path / "r.h5", {"v": noise(0)}, weights=demo)
    result = run("classify", random, "--weights", checkpoint)
    assert (result.exit_code, "random weights" in result.stderr) == (0, True)


@pytest.mark.slow
def test_the_command_prints_tables_csv_and_json(file: Path, checkpoint: Path) -> None:
    names = file.with_name("names.txt")
    names.write_text("".join(f"action {number}\n" for number in range(CLASSES)))
    options = ("classify", file, "--weights", checkpoint, "--labels", names)
    result = run(*options)
    assert result.exit_code == 0, result.output
    assert "set/v3" in result.stdout and "action 1" in result.stdout
    result = run(*options, "--format", "csv", "--windows", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert len(rows) == 20 and rows[0]["class"].startswith("action ")
    truth = file.with_name("truth.csv")
    truth.write_text("v0,action 1\nv1,action 2\n")
    result = run(*options, "--truth", truth, "--format", "json")
    content = json.loads(result.stdout)
    assert content["accuracy"]["examples"] == 2 and len(content["predictions"]) == 4
    assert "2 videos of the file have no label" in result.stderr
    assert "top-1" in run(*options, "--truth", truth).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "xml"], "--format must be one of table, csv, json"),
        (["--split", "xsub_val"], "pass both"),
        (["--truth", "gone.csv"], "labels cannot be read"),
    ],
)
def test_wrong_options_are_one_sentence(
    file: Path, checkpoint: Path, arguments: list[str], message: str
) -> None:
    result = run("classify", file, "--weights", checkpoint, *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split()) and "Traceback" not in result.output


def test_a_file_without_videos_or_pooled_features_is_told_so(
    checkpoint: Path, tmp_path: Path
) -> None:
    empty = write_pooled(tmp_path / "e.h5", {"v": noise(0)}, unfinished=("v",))
    with FeatureStore(empty) as store, pytest.raises(ConfigError, match="no complete video"):
        Classifier(store, checkpoint)
