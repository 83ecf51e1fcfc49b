"""``epam-extract export``: write features in a format that training code reads.

In most formats each video is one file, written completely or not at all, so that the same command
finishes an interrupted export. The reader's configuration is written next to the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, MachineError, StoreError
from ..schema import POOLED, window_arrays
from ..store import FeatureStore
from .annotations import Annotations
from .export_target import Target
from .formats import FORMATS, LINKED, Form
from .timeline import Timeline

__all__ = ["FORMATS", "Exported", "export_features"]

MANIFEST = "epam-extract.json"
UNREADABLE = (StoreError, KeyError)  # a video is damaged, or lacks an array
LINKED_SUFFIX = ".hdf5"  # the reader requires it in the name


@dataclass(frozen=True)
class Exported:
    """What an export wrote, and what it left out."""

    out: Path
    videos: int
    """Present now."""
    written: int
    """By this call; the others existed already."""
    incomplete: tuple[str, ...]
    """Not complete in the file yet, so left out."""
    failed: Mapping[str, str]
    """Damaged in the file -> the reason."""
    missing: tuple[str, ...]
    """Annotated, but not in the file."""
    unannotated: tuple[str, ...]
    """In the file, but not annotated."""


def export_features(
    file: Path,
    to: str,
    out: Path,
    *,
    features: Sequence[str] = POOLED,
    annotations: Annotations | None = None,
    jobs: int = 1,
) -> Exported:
    """Write the complete videos of ``file`` to the folder ``out``, in the format ``to``.

    Args:
        file: a feature file; a run may still be writing to it.
        to: one of ``FORMATS``.
        out: a new folder, or that of an earlier export of the same file, to complete it. For
            ``actionformer`` also a file ``*.hdf5``, which links to ``file`` and copies nothing.
        features: pooled features to concatenate: (W, 432) and (W, 216) by default.
        annotations: exported too, with the measured durations and rates.
        jobs: videos written at the same time.

    Raises:
        ConfigError: an unknown format, features the file lacks, colliding ids, a folder with other
            content, annotations of a different cut, or nothing to export.
        StoreError: the file cannot be read.
        MachineError: the disk is full or fails; complete files stay.
    """
    form = _form(to, out)
    with FeatureStore(file) as store:
        _require_features(store, features)
        found, failed = store.survey()
        ids = [video_id for video_id, complete in found.items() if complete]
        marks: dict[str, list[int]] = {}
        for video_id in ids:
            try:
                marks[video_id] = _mark(store, video_id, features)
            except UNREADABLE as error:
                failed[video_id] = _reason(error)
        if not marks:
            raise ConfigError(f"{file}: holds no complete video that can be read")
        linked = form is LINKED
        target = Target(
            store,
            out.parent if linked else out,
            prefix=f"{out.stem}." if linked else "",
            features=features,
            annotations=annotations,
            names=_names(form, marks),
        )
        form.check(target)
        _require_durations(target)
        try:
            todo = _take_place(target, to, form, marks)
            _write(target, form, todo, failed, jobs=jobs)
            lost = {
                "not complete in the file yet": [
                    i for i, complete in found.items() if not complete
                ],
                "damaged in the file": sorted(failed),
                "annotated, but not in the file": _less(annotations, [*found, *failed]),
                "in the file, but not annotated": sorted(target.names.keys() - target.annotated),
            }
            incomplete, _, missing, unannotated = lost.values()
            form.end(target)
            target.text("missing.txt", "".join(f"{i}: {why}\n" for why in lost for i in lost[why]))
            _explain(target, to, form)
        except OSError as error:
            raise MachineError(
                f"{error.filename or out}: cannot be written: {error.strerror or error}; what is "
                "written whole stays, and the same command resumes"
            ) from error
    return Exported(
        out=out,
        videos=len(target.names),
        written=len(target.names.keys() & todo),
        incomplete=tuple(incomplete),
        failed=failed,
        missing=tuple(missing),
        unannotated=tuple(unannotated),
    )


def _form(to: str, out: Path) -> Form:
    if to not in FORMATS:
        raise ConfigError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    if out.suffix != LINKED_SUFFIX:
        return FORMATS[to]
    if to != "actionformer":
        raise ConfigError(
            f"{out}: only --to actionformer writes one {LINKED_SUFFIX} file; name a folder"
        )
    return LINKED


def _require_features(store: FeatureStore, features: Sequence[str]) -> None:
    have = [name for name in POOLED if name in window_arrays(store.config)]
    wrong = [name for name in features if name not in have]
    if wrong or not features:
        raise ConfigError(
            f"{store.name}: cannot export {', '.join(wrong) or 'nothing'}: expected some of "
            f"{', '.join(POOLED)}, and the file has {', '.join(have) or 'none of them'}"
        )


def _reason(error: Exception) -> str:
    return str(error.args[0] if error.args else error)


def _mark(store: FeatureStore, video_id: str, features: Sequence[str]) -> list[int]:
    """Checksums that change when a video's rows do."""
    Timeline.of(store[video_id])  # raises if the rows have no times
    return [store[video_id].checksum(name) for name in (*features, "times")]


def _names(form: Form, ids: Mapping[str, object]) -> dict[str, str]:
    """Name each video's file. Refuse names that collide or point outside the folder."""
    names: dict[str, str] = {}
    seen: dict[str, str] = {}
    for video_id in ids:
        name = names[video_id] = form.name(video_id)
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise ConfigError(f"the video {video_id!r} has a name that no file can have; rename it")
        for path in form.files(name) or (name,):
            other = seen.setdefault(path, video_id)
            if other != video_id:
                raise ConfigError(
                    f"the videos {other} and {video_id} would both be written to {path}; rename one"
                )
    return names


def _require_durations(target: Target) -> None:
    """Refuse annotations of a different cut of the videos, which would shift all labels."""
    wrong = []
    for video_id, annotation in target.annotated.items():
        stated, timeline = annotation.stated.get("duration"), target.timeline(video_id)
        row = timeline.duration if target.single else timeline.stride / timeline.fps
        if stated is not None and abs(stated - timeline.duration) > row:
            wrong.append(f"{video_id} is annotated as {stated:g} s, measured {timeline.duration:g}")
    if wrong:
        more = f" and {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
        raise ConfigError(
            f"{'; '.join(wrong[:5])}{more}: more than a row apart, so labels would shift. Correct "
            "the annotations, or leave these durations out."
        )


def _take_place(target: Target, to: str, form: Form, marks: Mapping[str, list[int]]) -> list[str]:
    """Claim the folder, or resume an export of the same file; returns the videos to write."""
    manifest = target.path(MANIFEST)
    wanted: dict[str, object] = {"format": to, "features": list(target.features)}
    for name in ("config", "weights", "pose_source"):
        wanted[name] = getattr(target.store, name)
    target.folder.mkdir(parents=True, exist_ok=True)
    written: Mapping[str, object] = {}
    if manifest.is_file():
        try:
            before = json.loads(manifest.read_text("utf-8"))
            written = before.pop("videos")
        except (ValueError, LookupError, AttributeError):
            before = None
        if before != json.loads(json.dumps(wanted)):
            raise ConfigError(
                f"{manifest.parent}: holds an export of another format, other features or another "
                "file; choose another place"
            )
    else:
        _require_empty(target, form)
    todo = []
    for video_id, name in target.names.items():
        paths = [target.path(path) for path in form.files(name)]
        changed = written.get(video_id) != marks[video_id]
        if changed:  # delete old files before the manifest lists new ones
            for path in paths:
                path.unlink(missing_ok=True)
        if changed or not all(path.exists() for path in paths):
            todo.append(video_id)
    target.json(MANIFEST, {**wanted, "videos": marks})
    return todo


def _require_empty(target: Target, form: Form) -> None:
    """Refuse to write into a folder with other files."""
    if form is LINKED:
        there = [
            path
            for name in (LINKED_SUFFIX[1:], "README.txt")
            if (path := target.path(name)).exists()
        ]
    else:
        there = sorted(target.folder.iterdir())
    there = [path for path in there if not path.name.startswith(".unfinished-")]
    if there:
        raise ConfigError(
            f"{target.folder}: has {there[0].name} in it, which was not made by epam-extract "
            "export; choose another place"
        )


def _write(
    target: Target, form: Form, todo: Sequence[str], failed: dict[str, str], *, jobs: int
) -> None:
    """Write these videos; those that cannot be read are left out of the export."""

    def video(video_id: str) -> str | None:
        try:
            form.video(target, video_id)
        except UNREADABLE as error:
            return _reason(error)
        return None

    with ThreadPoolExecutor(max(jobs, 1)) as pool:
        for video_id, problem in zip(todo, pool.map(video, todo), strict=True):
            if problem is not None:
                failed[video_id] = problem
                target.leave_out(video_id)
    if not target.names:
        raise StoreError(next(iter(failed.values())))


def _less(annotations: Annotations | None, ids: Sequence[str]) -> list[str]:
    return sorted(set(annotations.videos) - set(ids)) if annotations is not None else []


def _explain(target: Target, to: str, form: Form) -> None:
    """Write README.txt: what was exported, and from which weights."""
    store = target.store
    weights = store.weights
    lines = [
        f"Features of {len(target.ids)} videos, written by epam-extract export --to {to}.",
        f"Each row holds {target.width} numbers: {' then '.join(target.features)}.",
        f"Weights: {json.dumps(weights)}; keypoints: {json.dumps(store.pose_source)}.",
        "missing.txt names the videos that are not here or have no annotations.",
        "",
        *form.words,
    ]
    if "random_seed" in weights:
        lines.insert(1, "THE WEIGHTS ARE RANDOM: for trying the tool, not for science.")
    if target.has_labels:
        subsets = [annotation.subset for annotation in target.annotated.values()]
        counts = [f"{subsets.count(name)} {name}" for name in dict.fromkeys(subsets)]
        lines.append(f"Annotated videos: {', '.join(counts)}; classes: {len(target.labels)}.")
    if len(target.rates) > 1 and not target.single:
        lines.append(
            f"The frame rates differ ({target.rates[0]:.6g} to {target.rates[-1]:.6g}), so rows "
            "are a different number of seconds apart in different videos."
        )
    uneven = [i for i in target.ids if not target.timeline(i).is_steady()]
    if uneven and form.counts_frames:
        lines.append(
            f"{len(uneven)} videos have no constant frame rate, or do not start at 0 s (first: "
            f"{uneven[0]}). Their reader takes a moment for moment * fps frames, so the segments "
            "in annotations.json were moved to the moments at which it finds the right rows."
        )
    target.text("README.txt", "\n".join(lines) + "\n")
