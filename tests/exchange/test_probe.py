"""probe: it finds what is there, nothing where nothing is, and never tests what it trained on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from make_features import Streams, noise, write_pooled
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from epam_extract.errors import ConfigError
from epam_extract.exchange.labels import Labelled
from epam_extract.exchange.probe import CLASSIFIERS, ProbeResult, Score, probe
from epam_extract.report import probe_page
from epam_extract.store import FeatureStore

CLASSES = ("clap", "kick", "wave")
VIDEOS = 24
DEMO = {"demo": True, "random_seed": 0}


def streams(number: int) -> Streams:
    """Two rows per video: rgb is noise, pose has its class's direction."""
    rgb, pose = noise(number, 2)
    pose[:, number % len(CLASSES) :: len(CLASSES)] += 2
    return rgb, pose


def label(number: int) -> Labelled:
    return Labelled(f"v{number:02d}", CLASSES[number % len(CLASSES)])


LABELS = [label(number) for number in range(VIDEOS)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = {f"v{number:02d}": streams(number) for number in range(VIDEOS)}
    return write_pooled(tmp_path_factory.mktemp("probe") / "f.h5", videos, weights=DEMO)


@pytest.fixture(scope="module")
def result(file: Path) -> ProbeResult:
    with FeatureStore(file) as store:
        return probe(store, LABELS)


def scores(result: ProbeResult) -> dict[tuple[str, str], Score]:
    return {(score.features, score.classifier): score for score in result.scores}


def test_signal_is_found_where_it_is_and_nowhere_else(result: ProbeResult) -> None:
    found = scores(result)
    assert list(found) == [
        (features, classifier)
        for features in ("rgb", "pose", "both")
        for classifier in ("linear", "neighbours")
    ]
    assert found["pose", "linear"].top1.value > 0.95
    assert found["rgb", "linear"].top1.low <= result.majority + 1e-9
    assert (result.chance, result.tested) == (1 / 3, VIDEOS)
    by_stream = dict(zip(("rgb", "pose", "both"), result.signal, strict=True))
    assert "rgb is no better than guessing" in by_stream["rgb"]
    assert "pose carries signal" in by_stream["pose"]


def test_the_figures_are_those_of_the_confusion_matrix(result: ProbeResult) -> None:
    for score in result.scores:
        confusion = np.array(score.confusion)
        assert confusion.sum(1).tolist() == [VIDEOS / 3] * 3
        assert score.top1.value == pytest.approx(np.trace(confusion) / VIDEOS)
        recalls = np.diag(confusion) / confusion.sum(1)
        assert score.balanced.value == pytest.approx(recalls.mean())
        assert score.top1.low <= score.top1.value <= score.top1.high
        assert 0 < score.mean_ap <= 1
        assert len(score.strengths) == (4 if score.classifier == "linear" else 0)


def test_the_linear_classifier_is_logistic_regression_on_standardised_features() -> None:
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], 8)
    matrix = rng.normal(size=(24, 60)) * 3 + truth[:, None]
    ours = CLASSIFIERS["linear"](matrix, truth, np.arange(24), 0)
    scaled = StandardScaler().fit(matrix)
    plain = LogisticRegression(C=ours["fit"].C, max_iter=1000).fit(scaled.transform(matrix), truth)
    other = rng.normal(size=(10, 60)) * 3
    np.testing.assert_allclose(
        ours.predict_proba(other), plain.predict_proba(scaled.transform(other)), atol=2e-3
    )


@pytest.mark.slow
def test_a_seed_gives_the_same_figures(file: Path) -> None:
    with FeatureStore(file) as store:
        assert probe(store, LABELS, folds=2) == probe(store, LABELS, folds=2)


def test_random_weights_are_told(result: ProbeResult) -> None:
    assert "the weights are random (--demo)" in result.notes[0]


@pytest.mark.slow
def test_random_labels_held_over_a_videos_parts_score_like_guessing(tmp_path: Path) -> None:
    videos = {}
    labels = []
    rng = np.random.default_rng(5)
    for number in range(30):
        rgb, pose = noise(number)
        same = np.repeat(rgb, 5, 0), np.repeat(pose, 5, 0)  # five windows that look alike
        name = CLASSES[int(rng.integers(2))]
        videos[f"v{number}"] = same
        labels += [Labelled(f"v{number}", name, start=at, end=at + 0.64) for at in (0, 0.64, 1.28)]
    file = write_pooled(tmp_path / "f.h5", videos)
    with FeatureStore(file) as store:
        result = probe(store, labels, folds=2)
    assert result.tested == 90
    for score in result.scores:
        assert score.top1.low <= max(result.majority, 0.5), score  # by window it would be 1


@pytest.mark.slow
def test_groups_are_never_split(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from epam_extract.exchange import probe as module

    groups = [replace(one, group=f"person {number // 6}") for number, one in enumerate(LABELS)]
    seen: list[tuple[set[int], set[int]]] = []
    inner = module._group_folds

    def watched(truth: np.ndarray, of: np.ndarray, number: int, seed: int) -> list:
        parts = inner(truth, of, number, seed)
        seen.extend((set(of[train]), set(of[test])) for train, test in parts)
        return parts

    monkeypatch.setattr(module, "_group_folds", watched)
    with FeatureStore(file) as store:
        result = probe(store, groups)
    assert len(seen) > 4  # outer folds, and those that choose C
    assert all(not (train & test) for train, test in seen)
    assert result.groups == (4, 4, 4)


@pytest.mark.slow
def test_named_splits_are_used(file: Path) -> None:
    labels = [
        replace(one, splits=frozenset(["xsub_train" if number < 15 else "xsub_val", "xview_train"]))
        for number, one in enumerate(LABELS)
    ]
    with FeatureStore(file) as store:
        result = probe(store, labels)
        assert (result.tested, result.protocol) == (
            9,
            "the labels' own splits: 15 to train on, 9 to test",
        )
        with pytest.raises(ConfigError, match=r"xview_train and xview_val: there are xsub"):
            probe(store, labels, split="xview")
        several = [
            replace(one, splits=one.splits | {"train" if number < 6 else "test"})
            for number, one in enumerate(labels)
        ]
        with pytest.raises(ConfigError, match="several splits are named: choose --split"):
            probe(store, several)


def test_named_splits_that_share_a_video_or_a_group_are_refused(file: Path) -> None:
    sides = [frozenset(["train" if number < 15 else "test"]) for number in range(VIDEOS)]
    apart = [replace(one, splits=side) for one, side in zip(LABELS, sides, strict=True)]
    twice = [*apart, replace(LABELS[0], splits=frozenset(["test"]), start=0, end=1)]
    people = [replace(one, group=f"person {number % 12}") for number, one in enumerate(apart)]
    with FeatureStore(file) as store:
        with pytest.raises(ConfigError, match=r"1 videos or groups are in both splits .*v00"):
            probe(store, twice)
        with pytest.raises(ConfigError, match=r"9 videos or groups are in both .*person"):
            probe(store, people)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "its videos have no labels"),
        ([Labelled("other", "a")], r"none of the 1 labelled videos \(first: other"),
        ([replace(one, label="a") for one in LABELS], "all 24 labelled examples are of the class"),
        ([label(0), label(1)], "each of the 2 classes has one video or group alone"),
        (
            [replace(one, group=one.label) for one in LABELS],
            "each of the 3 classes has one video or group alone",
        ),
    ],
)
def test_labels_that_cannot_be_probed_are_one_sentence(
    file: Path, labels: list[Labelled], message: str
) -> None:
    with FeatureStore(file) as store, pytest.raises(ConfigError, match=message):
        probe(store, labels)


@pytest.mark.slow
def test_rare_classes_are_told(file: Path) -> None:
    rare = [*LABELS[:21], replace(LABELS[21], label="yawn"), replace(LABELS[22], label="yawn")]
    with FeatureStore(file) as store:
        notes = probe(store, rare, folds=3).notes
    assert any("1 classes have fewer groups than there are folds (first: yawn)" in n for n in notes)
    assert any("1 videos of the file have no label (first: v23)" in n for n in notes)


# --- the page, the command -----------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_opens_offline_and_escapes_names(result: ProbeResult) -> None:
    named = replace(result, classes=("<script>alert(1)</script>", "kick", "wave"))
    text = probe_page(named, file="a&b.h5")
    page = Page()
    page.feed(text)
    assert page.open == [] and page.outside == []
    assert "<script>" not in text and "&lt;script&gt;" in text and "a&amp;b.h5" in text
    assert "pose carries signal" in text and "The weights are random" in text
    assert len(re.findall(r"<h2>Confusions: (?:rgb|pose|both)</h2>", text)) == 3


@pytest.mark.slow
def test_the_command_prints_a_table_json_and_a_page(file: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label\n" + "".join(f"{one.video},{one.label}\n" for one in LABELS))
    page = tmp_path / "page.html"
    done = run("probe", file, labels, "--report", page, "--folds", 2)
    assert done.exit_code == 0, done.output
    assert "pose carries signal" in done.stdout and "largest class" in done.stdout
    assert "weights are random" in done.stderr and page.read_text().endswith("</html>")
    done = run("probe", file, labels, "--json", "--folds", 2)
    content = json.loads(done.stdout)
    assert content["classes"] == list(CLASSES) and len(content["scores"]) == 6


def test_wrong_use_is_one_sentence(file: Path, tmp_path: Path) -> None:
    done = run("probe", file)
    assert done.exit_code == 2 and "its videos have no labels" in done.stderr
    done = run("probe", file, "--report", tmp_path / "no" / "page.html")
    assert done.exit_code == 2 and "there is no folder" in " ".join(done.stderr.split())
