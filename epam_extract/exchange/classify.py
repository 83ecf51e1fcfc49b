"""Classify windows and videos: EPAM-Net's classification heads on stored features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..schema import POOLED
from ..store import FeatureStore
from .labels import Example, Examples, Labelled, find_examples

TOP = 5

PUBLISHED = {
    (60, "xsub"): ("NTU RGB+D 60 X-Sub", "top-1", 0.961),
    (60, "xview"): ("NTU RGB+D 60 X-View", "top-1", 0.990),
    (120, "xsub"): ("NTU RGB+D 120 X-Sub", "top-1", 0.924),
    (120, "xset"): ("NTU RGB+D 120 X-Set", "top-1", 0.943),
    (51, "xsub"): ("PKU-MMD X-Sub", "top-1", 0.962),
    (51, "xview"): ("PKU-MMD X-View", "top-1", 0.984),
    (31, "xsub"): ("Toyota Smarthome X-Sub", "mean class", 0.717),
    (31, "xview2"): ("Toyota Smarthome X-View2", "mean class", 0.678),
}
"""Figures of the EPAM-Net paper (one clip per video), by number of classes and protocol."""


@dataclass(frozen=True)
class Prediction:
    """The best classes of a window, or of a whole video."""

    video: str
    row: int | None
    """None for a whole video, which has the mean of its windows' logits."""
    start: float
    """Seconds."""
    end: float
    classes: tuple[str, ...]
    """Best first."""
    logits: tuple[float, ...]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on labelled examples, as the authors' evaluation computes it."""

    examples: int
    top1: float
    top5: float
    mean_class: float
    """Mean over classes that are labelled or predicted; a class that is only predicted counts 0."""
    published: tuple[str, str, float] | None
    """Data set, metric and value, if the paper reports one."""


class Classifier:
    """A checkpoint's classification heads, applied to a feature file.

    Raises:
        CheckpointError: the checkpoint has no heads, or not EPAM-Net's.
        ConfigError: the file lacks a pooled feature, or ``names`` and classes differ in number.
    """

    def __init__(
        self, store: FeatureStore, weights: Path, *, names: Sequence[str] | None = None
    ) -> None:
        from ..model import load_heads, weights_identity

        require_pooled(store)
        self.store = store
        self._heads = load_heads(weights)
        self.num_classes = self._heads.num_classes
        if names is not None and len(names) != self.num_classes:
            raise ConfigError(
                f"{len(names)} class names are given, and the heads of {weights} have "
                f"{self.num_classes} classes: expected a name per class, in the heads' order"
            )
        self._named = names is not None
        self.names = tuple(names if names is not None else map(str, range(self.num_classes)))
        self.notes = self._doubts(weights_identity(weights)["sha256"], weights)

    def logits(self, video_id: str) -> np.ndarray:
        """(W, K) float32 logits of a video's windows."""
        import torch

        video = self.store[video_id]
        rgb, pose = (torch.from_numpy(video[name][:]) for name in POOLED)
        with torch.inference_mode():
            return self._heads(rgb, pose).numpy()

    def predictions(self, *, windows: bool = False, top: int = TOP) -> Iterator[Prediction]:
        """The ``top`` classes of each video, or of each window; one video in memory at a time."""
        for video_id in self.store:
            logits = self.logits(video_id)
            times = self.store[video_id]["times"][:]
            if windows:
                for row, values in enumerate(logits):
                    start, end = times[row, 0], times[row, 2]
                    yield self._best(video_id, row, (start, end), values, top)
            else:
                span = (times[:, 0].min(), times[:, 2].max())
                yield self._best(video_id, None, span, logits.mean(0), top)

    def accuracy(
        self, labels: Sequence[Labelled], *, split: str | None = None
    ) -> tuple[Accuracy, Examples]:
        """Accuracy on the labelled videos and segments, each classified by its mean logits.

        Raises:
            ConfigError: an unknown class or split, or none of the labelled videos is in the file.
        """
        chosen = in_split(labels, split)
        examples = find_examples(self.store, chosen)
        if not examples.found:
            raise ConfigError(
                f"{self.store.name}: has none of the {len(chosen):,} labelled videos (first: "
                f"{chosen[0].video}; the file's first: {next(iter(self.store), 'none')})"
            )
        truth = np.array([self._class_of(example.label) for example in examples.found])
        scores = np.stack(list(self._means(examples.found)))  # (N, K)
        order = np.argsort(-scores, axis=1, kind="stable")  # (N, K)
        ranks = (order == truth[:, None]).argmax(1)
        published = PUBLISHED.get((self.num_classes, protocol(split)))
        return (
            Accuracy(
                examples=len(truth),
                top1=float((ranks < 1).mean()),
                top5=float((ranks < 5).mean()),
                mean_class=mean_class_accuracy(order[:, 0], truth),
                published=published,
            ),
            examples,
        )

    def _means(self, examples: Sequence[Example]) -> Iterator[np.ndarray]:
        before, logits = "", np.empty(0)
        for example in examples:  # parts of one video follow each other
            if example.video != before:
                before, logits = example.video, self.logits(example.video)
            yield logits[example.rows].mean(0)

    def _class_of(self, label: str) -> int:
        if label in self.names:
            return self.names.index(label)
        if label.isdecimal() and int(label) < self.num_classes:
            return int(label)
        wanted = "one of the class names" if self._named else "a class number, or --labels NAMES"
        raise ConfigError(
            f"the label {label!r} is no class of these heads, which have {self.num_classes}: "
            f"expected {wanted}"
        )

    def _best(
        self,
        video_id: str,
        row: int | None,
        span: tuple[float, float],
        values: np.ndarray,
        top: int,
    ) -> Prediction:
        order = np.argsort(-values, kind="stable")[:top].tolist()
        return Prediction(
            video_id,
            row,
            float(span[0]),
            float(span[1]),
            tuple(self.names[number] for number in order),
            tuple(float(values[number]) for number in order),
        )

    def _doubts(self, digest: str, weights: Path) -> list[str]:
        used = self.store.weights
        if "random_seed" in used:
            return ["the features are of random weights: these predictions mean nothing"]
        if used.get("sha256") != digest:
            return [
                f"the features were computed with {used.get('file')}, another file than {weights}: "
                "heads fit the features of their own checkpoint alone"
            ]
        return []


def require_pooled(store: FeatureStore) -> None:
    """Raise ConfigError unless the file has complete videos with both pooled features."""
    first = next(iter(store.values()), None)
    if first is None:
        raise ConfigError(f"{store.name}: holds no complete video yet")
    missing = [name for name in POOLED if name not in first]
    if missing:
        raise ConfigError(
            f"{store.name}: has no {' and no '.join(missing)}; extract again with --features pooled"
        )


def read_names(path: Path) -> list[str]:
    """Class names, one per line, in the order of the heads' classes.

    Raises:
        ConfigError: it cannot be read, or names a class twice.
    """
    try:
        names = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"{path}: class names cannot be read: {reason}") from error
    names = [name.strip() for name in names if name.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{path}: names the class {twice!r} twice; expected one name per line")
    return names


def in_split(labels: Sequence[Labelled], split: str | None) -> list[Labelled]:
    """The labels of one split, or all of them.

    Raises:
        ConfigError: there is no such split.
    """
    if split is None:
        return list(labels)
    chosen = [labelled for labelled in labels if split in labelled.splits]
    if not chosen:
        there = sorted({name for labelled in labels for name in labelled.splits})
        raise ConfigError(
            f"no label is in the split {split!r}: there are {', '.join(there) or 'no splits'}"
        )
    return chosen


def protocol(split: str | None) -> str:
    """``xsub`` of ``xsub_val``: under which the paper reports its figures."""
    return (split or "").lower().removesuffix("_val").removesuffix("_test").replace("-", "")


def mean_class_accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean of the classes' recalls, over classes labelled or predicted, as mmaction2 computes it.

    A class that is predicted and never labelled counts 0.
    """
    classes = np.union1d(predicted, truth)
    hits = [
        (predicted[truth == one] == one).mean() if (truth == one).any() else 0 for one in classes
    ]
    return float(np.mean(hits))
