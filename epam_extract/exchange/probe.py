"""``epam-extract probe``: how well a linear classifier works on the frozen features.

Folds never split a video or a group: windows of one video look alike, and a probe that splits them
scores 0.89 on random labels. All figures are from examples that were not trained on, and are shown
with chance and with each stream on its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from ..schema import POOLED
from ..store import FeatureStore
from .classify import require_pooled
from .labels import Example, Labelled, find_examples

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 2, 7))  # C, chosen by the inner folds
INNER_FOLDS = 3
NEIGHBOURS = 5
DRAWS = 1000  # of groups, for the confidence intervals
INTERVAL = (2.5, 97.5)  # percentiles
SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
Fold = tuple[np.ndarray, np.ndarray]  # positions of the examples to train on, and to test


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, from a bootstrap over groups."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """How well one classifier does on one set of features."""

    features: str
    classifier: str
    top1: Estimate
    balanced: Estimate
    """Mean of the classes' recalls."""
    mean_ap: float
    """Mean over classes of the average precision of their probabilities."""
    strengths: tuple[float, ...]
    """C chosen in each fold; () for neighbours."""
    confusion: tuple[tuple[int, ...], ...]
    """Rows are true classes, columns predicted ones."""


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found."""

    classes: tuple[str, ...]
    examples: tuple[int, ...]
    """Per class, whether used for training or testing."""
    groups: tuple[int, ...]
    """Per class."""
    tested: int
    protocol: str
    seed: int
    chance: float
    majority: float
    """Accuracy of always predicting the largest class of the training part."""
    scores: tuple[Score, ...]
    signal: tuple[str, ...]
    """Which streams separate the classes, in words."""
    notes: tuple[str, ...]
    weights: dict[str, object]


def probe(
    store: FeatureStore,
    labels: Sequence[Labelled],
    *,
    split: str | None = None,
    folds: int = 4,
    seed: int = 0,
    on_part: Callable[[str], None] | None = None,
) -> ProbeResult:
    """Train and test classifiers on the features of labelled videos or segments.

    An example is the mean of its rows, weighted by ``valid``. If the labels name a training and a
    test split, these are used; else ``folds`` folds, each of which is tested once.

    Args:
        store: a feature file with pooled features.
        labels: of its videos or of segments of them.
        split: which pair of splits to use if there are several, such as ``xsub`` for
            ``xsub_train``.
        folds: without named splits.
        seed: of the folds and of the confidence intervals.
        on_part: called with the name of what is measured next.

    Raises:
        ConfigError: scikit-learn is missing, splits share a group, or there are too few classes or
            groups.
    """
    _require_sklearn()
    require_pooled(store)
    if not labels:
        raise ConfigError(f"{store.name}: its videos have no labels; give a file of labels")
    chosen = find_examples(store, labels)
    examples = chosen.found
    if not examples:
        raise ConfigError(
            f"{store.name}: has none of the {len(labels):,} labelled videos (first: "
            f"{labels[0].video}; the file's first: {store.ids[0]})"
        )
    names, truth = np.unique([example.label for example in examples], return_inverse=True)
    classes = tuple(str(name) for name in names)
    groups = np.unique([example.group for example in examples], return_inverse=True)[1]
    groups_of = tuple(len(np.unique(groups[truth == one])) for one in range(len(classes)))
    _require_enough(classes, groups_of, len(examples))
    named = _named_folds(examples, groups, split)
    if named is None:
        number = min(folds, max(groups_of))
        parts = _group_folds(truth, groups, number, seed)
        protocol = f"{len(parts)} folds that share no group"
    else:
        parts, protocol = named
    for train, _ in parts:
        if len(np.unique(truth[train])) < 2:
            raise ConfigError(
                "too few groups: a part to train on would hold one class alone; label more videos"
            )
    tested = np.concatenate([test for _, test in parts])
    streams = _streams(store, examples)
    measured = []
    for features, matrix in streams.items():
        for classifier, make in CLASSIFIERS.items():
            if on_part is not None:
                on_part(f"{features}, {classifier}")
            probabilities = np.zeros((len(truth), len(classes)))
            strengths = []
            for train, test in parts:
                fitted = make(matrix[train], truth[train], groups[train], seed)
                strengths += [step.C for _, step in fitted.steps if hasattr(step, "C")]
                columns = fitted.classes_
                probabilities[np.ix_(test, columns)] = fitted.predict_proba(matrix[test])
            score = _score(probabilities[tested], truth[tested], groups[tested], seed)
            measured.append(Score(features, classifier, *score[:3], tuple(strengths), score[3]))
    hits = [np.mean(truth[test] == np.bincount(truth[train]).argmax()) for train, test in parts]
    majority = float(np.average(hits, weights=[len(test) for _, test in parts]))
    chance = 1 / len(classes)
    return ProbeResult(
        classes=classes,
        examples=tuple(int(count) for count in np.bincount(truth)),
        groups=groups_of,
        tested=len(tested),
        protocol=protocol,
        seed=seed,
        chance=chance,
        majority=majority,
        scores=tuple(measured),
        signal=_signal(measured, max(chance, majority)),
        notes=(*_doubts(store, classes, groups_of, len(parts), named), *chosen.notes()),
        weights=store.weights,
    )


def _require_sklearn() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise ConfigError("probe needs scikit-learn: pip install 'epam-extract[probe]'") from None


def _require_enough(classes: Sequence[str], groups_of: Sequence[int], examples: int) -> None:
    if len(classes) < 2:
        raise ConfigError(
            f"all {examples:,} labelled examples are of the class {classes[0]!r}: a probe needs at "
            "least two classes"
        )
    if max(groups_of) < 2:
        raise ConfigError(
            f"each of the {len(classes):,} classes has one video or group alone, so none can be "
            "both trained on and tested; label more videos"
        )


def _streams(store: FeatureStore, examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """(N, 432), (N, 216) and (N, 648) float64: each example's mean row."""
    rows = []
    before = ""
    for example in examples:
        if example.video != before:
            before, video = example.video, store[example.video]
            matrix = np.concatenate([video[name] for name in POOLED], axis=1)
            weight = video["valid"].astype(np.float64)
        chosen = example.rows
        rows.append(np.average(matrix[chosen], axis=0, weights=weight[chosen]))
    both = np.array(rows, np.float64)
    width = store[examples[0].video][POOLED[0]].shape[1]
    return {"rgb": both[:, :width], "pose": both[:, width:], "both": both}


# ------------------------------------------------------------------------------- what is tested


def _named_folds(
    examples: Sequence[Example], groups: np.ndarray, split: str | None
) -> tuple[list[Fold], str] | None:
    """The training and test split that the labels name; None if there is no such pair."""
    pairs: dict[str, dict[str, list[int]]] = {}
    for number, example in enumerate(examples):
        for name in example.splits:
            family, _, side = name.lower().rpartition("_")
            if side in SIDES:
                pairs.setdefault(family, {}).setdefault(SIDES[side], []).append(number)
    whole = {family for family, sides in pairs.items() if "train" in sides and len(sides) > 1}
    if split is not None and split.lower() not in whole:
        raise ConfigError(
            f"no pair of splits is named {split}_train and {split}_val: there are "
            f"{', '.join(sorted(whole)) or 'none'}"
        )
    if not whole:
        return None
    if split is None and len(whole) > 1:
        raise ConfigError(f"several splits are named: choose --split {' or '.join(sorted(whole))}")
    family = split.lower() if split is not None else next(iter(whole))
    sides = pairs[family]
    tested = "test" if "test" in sides else "val"
    train, test = np.array(sides["train"]), np.array(sides[tested])
    shared = np.intersect1d(groups[train], groups[test])
    if len(shared):
        first = examples[int(np.flatnonzero(groups == shared[0])[0])]
        raise ConfigError(
            f"{len(shared):,} videos or groups are in both splits (first: {first.group}): what is "
            "trained on cannot be tested"
        )
    words = f"the labels' own splits: {len(train):,} to train on, {len(test):,} to test"
    return [(train, test)], words


def _group_folds(truth: np.ndarray, groups: np.ndarray, number: int, seed: int) -> list[Fold]:
    from sklearn.model_selection import StratifiedGroupKFold

    if number < 2:
        raise ConfigError(f"--folds must be at least 2, got {number}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rare classes, which are in the notes
        splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
        parts = list(splitter.split(truth[:, None], truth, groups))
    return [(train, test) for train, test in parts if len(test)]


# ------------------------------------------------------------------------------- classifiers


def _linear(matrix: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int) -> Pipeline:
    """L2 logistic regression on standardised features; C is chosen within the training part."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    most = max(len(np.unique(groups[truth == one])) for one in np.unique(truth))
    inner = _group_folds(truth, groups, min(INNER_FOLDS, most), seed) if most > 1 else []
    right = dict.fromkeys(STRENGTHS, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with a large C, which then loses
        for train, test in inner:
            if len(np.unique(truth[train])) < 2:
                continue
            turn = _turned().fit(matrix[train])
            seen, unseen = turn.transform(matrix[train]), turn.transform(matrix[test])
            for strength in STRENGTHS:
                fit = LogisticRegression(C=strength, max_iter=1000).fit(seen, truth[train])
                right[strength] += int((fit.predict(unseen) == truth[test]).sum())
        best = max(STRENGTHS, key=lambda strength: right[strength]) if any(right.values()) else 1.0
        last = ("fit", LogisticRegression(C=best, max_iter=1000))
        return Pipeline([*_turned().steps, last]).fit(matrix, truth)


def _turned() -> Pipeline:
    """Standardise features and rotate them, to make fits fast.

    PCA keeps every component. A rotation changes nothing under an L2 penalty, and with fewer
    examples than features it leaves fewer coefficients to fit.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("scale", StandardScaler()), ("turn", PCA(svd_solver="full"))])


def _neighbours(matrix: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int) -> Pipeline:
    """Nearest neighbours by the angle between standardised features, weighted by distance."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(truth)), weights="distance")
    steps = [("scale", StandardScaler()), ("angle", Normalizer()), ("fit", nearest)]
    return Pipeline(steps).fit(matrix, truth)


CLASSIFIERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], Any]] = {
    "linear": _linear,
    "neighbours": _neighbours,
}

# ------------------------------------------------------------------------------- figures


def _score(
    probabilities: np.ndarray, truth: np.ndarray, groups: np.ndarray, seed: int
) -> tuple[Estimate, Estimate, float, tuple[tuple[int, ...], ...]]:
    """Top-1, balanced accuracy, mAP and the confusion matrix of tested examples."""
    from sklearn.metrics import average_precision_score

    number = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    confusion = np.zeros((number, number), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    there = np.unique(truth)
    precisions = [average_precision_score(truth == one, probabilities[:, one]) for one in there]

    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1
    seen = np.zeros((count, number))  # examples of a class in a group
    np.add.at(seen, (place, truth), 1)
    hits = np.zeros((count, number))
    np.add.at(hits, (place, truth), predicted == truth)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    every = np.ones((1, count))

    def top1(weights: np.ndarray) -> np.ndarray:
        return (weights @ hits).sum(1) / (weights @ seen).sum(1)

    def balanced(weights: np.ndarray) -> np.ndarray:
        total = weights @ seen  # (draws, classes)
        recalls = np.divide(
            weights @ hits, total, out=np.full(total.shape, np.nan), where=total > 0
        )
        return np.nanmean(recalls, axis=1)

    estimates = [
        Estimate(float(of(every)[0]), *(float(v) for v in np.percentile(of(drawn), INTERVAL)))
        for of in (top1, balanced)
    ]
    table = tuple(tuple(int(cell) for cell in row) for row in confusion)
    return estimates[0], estimates[1], float(np.mean(precisions)), table


def _signal(scores: Iterable[Score], baseline: float) -> tuple[str, ...]:
    """Which streams do better than guessing, by the interval of their linear classifier."""
    words = []
    for score in scores:
        if score.classifier == "linear":
            top1 = score.top1
            verdict = "carries signal" if top1.low > baseline else "is no better than guessing"
            words.append(
                f"{score.features} {verdict}: top-1 {top1.value:.2f} ({top1.low:.2f} to "
                f"{top1.high:.2f}), guessing {baseline:.2f}"
            )
    return tuple(words)


def _doubts(
    store: FeatureStore,
    classes: Sequence[str],
    groups_of: Sequence[int],
    folds: int,
    named: object,
) -> list[str]:
    doubts = []
    if "random_seed" in store.weights:
        doubts.append(
            "the weights are random"
            + (" (--demo)" if store.weights.get("demo") else "")
            + ": this says what such a network lets through, not what EPAM-Net can do"
        )
    few = [name for name, count in zip(classes, groups_of, strict=True) if count < folds]
    if few and named is None:
        doubts.append(
            f"{len(few):,} classes have fewer groups than there are folds (first: {few[0]}): some "
            "folds do not train on them, or do not test them"
        )
    return doubts
