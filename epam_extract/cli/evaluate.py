"""How good the features are: ``check``, ``classify`` and ``probe``."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import command, flag
from .messages import note, say

if TYPE_CHECKING:
    from ..exchange.classify import Accuracy, Classifier
    from ..exchange.probe import ProbeResult

FORMATS = ("table", "csv", "json")
WHAT_WIDTH = 32  # of the first column of check, at most
MOST_CLASSES = 15  # of a confusion matrix in a terminal
Features = Annotated[Path, typer.Argument(show_default=False, help="Feature file.")]


@command
def classify(
    file: Features,
    *,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint with heads. Default: the installed one.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="NAMES", help="Class names, one per line, in the order of the heads."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="True labels: CSV video,label[,split][,start,end], ActivityNet JSON or PYSKL "
            "pickle. Default: those in the feature file."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split to compare with, such as xsub_val.")
    ] = None,
    windows: Annotated[
        bool, flag(None, "Classify every window, not every video.", "--windows")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="Classes to list per video.")] = 5,
    output: Annotated[
        str, typer.Option("--format", metavar="NAME", help=", ".join(FORMATS))
    ] = "table",
) -> None:
    """Classify stored features with EPAM-Net's own heads, without reading videos.

    A video's logits are the mean over its windows. With labels, it also prints top-1, top-5 and
    mean class accuracy as the authors compute them, next to their published figure.
    """
    from ..config import WeightsConfig
    from ..errors import ConfigError
    from ..exchange.classify import Classifier, read_names
    from ..exchange.labels import read_labels
    from ..pipeline.installed_weights import resolve_weights
    from ..store import FeatureStore

    if output not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, got {output!r}")
    checkpoint = weights or resolve_weights(WeightsConfig())[0].file
    if checkpoint is None:
        raise ConfigError("classify needs a checkpoint with heads: pass --weights FILE")
    with FeatureStore(file) as store:
        names = None if labels is None else read_names(labels)
        classifier = Classifier(store, checkpoint, names=names)
        known = None if truth is None else read_labels(truth)
        accuracy, notes = _compared(classifier, known, split)
        for remark in [*classifier.notes, *notes]:
            note(remark)
        WRITERS[output](classifier, windows, top, accuracy)


@command
def check(
    file: Features,
    annotations: Annotated[
        Path,
        typer.Argument(
            show_default=False,
            help="ActivityNet JSON, or CSV: video,start,end,label[,subset] in seconds.",
        ),
    ],
    *,
    as_json: Annotated[bool, flag(None, "Print JSON instead of a table.", "--json")] = False,
) -> None:
    """Find mismatches between features and annotations before you train on them.

    Exits with status 3 if there are any.
    """
    from dataclasses import asdict

    from ..exchange import read_annotations
    from ..exchange.check import KINDS, check_annotations
    from ..progress import plural
    from ..store import FeatureStore
    from .tables import show, table

    annotated = read_annotations(annotations)
    with FeatureStore(file) as store:
        findings = check_annotations(store, annotated)
    if as_json:
        counts = {kind: sum(f.kind == kind for f in findings) for kind in KINDS}
        content = {"counts": counts, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(content, indent=1))
    elif findings:
        rows = [(KINDS[f.kind], f.subject, f.message) for f in findings]
        columns, styles = ("what", "where", "how"), {"what": "yellow"}
        found = table(columns, rows, styles=styles, grouped=True, ruled=True)
        found.columns[0].max_width = WHAT_WIDTH
        show(found)
        say(f"{plural(len(findings), 'finding')} in {file} and {annotations}")
    else:
        say(f"{file} and {annotations}: all is well")
    raise typer.Exit(3 if findings else 0)


@command
def probe(
    file: Features,
    labels: Annotated[
        Path | None,
        typer.Argument(
            show_default=False,
            help="CSV video,label[,split][,group][,start,end], ActivityNet JSON or PYSKL pickle. "
            "Default: the labels in the feature file.",
        ),
    ] = None,
    *,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pair of splits: xsub means xsub_train and xsub_val."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds, if the labels have no splits.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and confidence intervals.")] = 0,
    as_json: Annotated[bool, flag(None, "Print JSON instead of tables.", "--json")] = False,
    report: Annotated[
        Path | None,
        typer.Option(metavar="PAGE", help="Also write an HTML page that works offline."),
    ] = None,
) -> None:
    """Test how well a linear classifier works on the features: rgb, pose, and both.

    No video or group is in both training and test data; results are shown next to chance.
    """
    from dataclasses import asdict

    from ..errors import ConfigError
    from ..exchange.labels import read_labels, stored_labels
    from ..exchange.probe import probe as run_probe
    from ..report import probe_page
    from ..store import FeatureStore

    if report is not None and not report.parent.is_dir():
        raise ConfigError(f"{report}: there is no folder {report.parent} to write it to")
    known = None if labels is None else read_labels(labels)
    with FeatureStore(file) as store:
        result = run_probe(
            store,
            stored_labels(store) if known is None else known,
            split=split,
            folds=folds,
            seed=seed,
            on_part=lambda part: typer.echo(f"probing: {part}", err=True),
        )
    for remark in result.notes:
        note(remark)
    if report is not None:
        report.write_text(probe_page(result, file=file.name), encoding="utf-8")
        typer.echo(f"wrote {report}", err=True)
    if as_json:
        typer.echo(json.dumps(asdict(result), indent=1))
    else:
        _show_probe(result)


def _show_probe(result: ProbeResult) -> None:
    from .tables import show, table

    rows = [
        (
            score.features,
            score.classifier,
            f"{score.top1.value:.2f}",
            f"{score.top1.low:.2f} to {score.top1.high:.2f}",
            f"{score.balanced.value:.2f}",
            f"{score.mean_ap:.2f}",
        )
        for score in result.scores
    ]
    typer.echo(f"{result.tested:,} examples tested, {result.protocol}, seed {result.seed}")
    names, numbers = ("features", "classifier"), ("top-1", "95 %", "balanced", "mAP")
    scores = table((*names, *numbers), rows, numbers=numbers, fixed=names)
    scores.add_section()
    scores.add_row("none", "chance", f"{result.chance:.2f}")
    scores.add_row("none", "largest class", f"{result.majority:.2f}")
    show(scores)
    if len(result.classes) <= MOST_CLASSES:
        linear = [score for score in result.scores if score.classifier == "linear"]
        best = max(linear, key=lambda score: score.top1.value)
        title = f"linear on {best.features}: true classes down, predicted across"
        columns = [str(number) for number in range(len(result.classes))]
        cells = [
            (f"{number} {name}", *(str(count or ".") for count in best.confusion[number]))
            for number, name in enumerate(result.classes)
        ]
        show(table(("true \\ predicted", *columns), cells, numbers=columns, title=title))
    for line in result.signal:
        typer.echo(line)


def _compared(
    classifier: Classifier, labels: list | None, split: str | None
) -> tuple[Accuracy | None, list[str]]:
    """Accuracy on the labels given, or on the file's own where they fit the classes."""
    from ..errors import ConfigError
    from ..exchange.labels import stored_labels

    if labels is None and split is not None:
        raise ConfigError("--split names a split of --truth: pass both")
    own = stored_labels(classifier.store) if labels is None else []
    if not (labels or own):
        return None, []
    try:
        accuracy, examples = classifier.accuracy(labels or own, split=split)
    except ConfigError as error:
        if labels is not None:
            raise
        return None, [f"the videos' own labels are left out: {error}"]
    return accuracy, examples.notes() if labels is not None else []


def _table(classifier: Classifier, windows: bool, top: int, accuracy: Accuracy | None) -> None:
    from .tables import show, table

    rows = []
    for p in classifier.predictions(windows=windows, top=top):
        seconds = "" if p.row is None else f"{p.start:.2f}-{p.end:.2f}"
        best = [f"{name} {logit:.2f}" for name, logit in zip(p.classes, p.logits, strict=True)]
        rows.append((p.video, seconds, ", ".join(best)))
    columns = ("video", "seconds", "best classes and their logits")
    show(table(columns, rows, numbers=("seconds",), grouped=True))
    if accuracy is not None:
        figures = [("top-1", accuracy.top1), ("top-5", accuracy.top5)]
        figures.append(("mean class", accuracy.mean_class))
        numbers, cells = ["here"], [[name, f"{share:.1%}"] for name, share in figures]
        if accuracy.published is not None:
            source, figure, share = accuracy.published
            numbers.append(f"published, {source}")
            cells = [[*row, f"{share:.1%}" if row[0] == figure else ""] for row in cells]
        title = f"{accuracy.examples:,} labelled"
        show(table(("accuracy", *numbers), cells, numbers=numbers, title=title))


def _csv(classifier: Classifier, windows: bool, top: int, accuracy: Accuracy | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("video", "row", "start", "end", "rank", "class", "logit"))
    for p in classifier.predictions(windows=windows, top=top):
        where = (p.video, "" if p.row is None else p.row, round(p.start, 3), round(p.end, 3))
        for rank, (name, logit) in enumerate(zip(p.classes, p.logits, strict=True), start=1):
            writer.writerow((*where, rank, name, f"{logit:.6g}"))
    if accuracy is not None:
        say(
            f"{accuracy.examples:,} labelled: top-1 {accuracy.top1:.4f}, top-5 "
            f"{accuracy.top5:.4f}, mean class {accuracy.mean_class:.4f}",
            err=True,
        )


def _json(classifier: Classifier, windows: bool, top: int, accuracy: Accuracy | None) -> None:
    from dataclasses import asdict

    predictions = [asdict(p) for p in classifier.predictions(windows=windows, top=top)]
    content = {
        "accuracy": None if accuracy is None else asdict(accuracy),
        "notes": classifier.notes,
        "predictions": predictions,
    }
    typer.echo(json.dumps(content, indent=1))


WRITERS = {"table": _table, "csv": _csv, "json": _json}
