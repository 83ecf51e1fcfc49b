"""``epam-extract export``: features in the formats of training tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .command import command
from .messages import say


@command
def export(
    file: Annotated[Path, typer.Argument(show_default=False, help="Feature file.")],
    out: Annotated[Path, typer.Argument(show_default=False, help="Output folder, or FILE.hdf5.")],
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="actionformer, opentad, segmentation, bmn, tsu, moment, npy, npz, parquet, pt or "
            "pyskl.",
        ),
    ],
    features: Annotated[
        str, typer.Option(metavar="NAMES", help="Pooled features to concatenate, in this order.")
    ] = "rgb_pooled,pose_pooled",
    annotations: Annotated[
        Path | None,
        typer.Option(help="ActivityNet JSON, or CSV: video,start,end,label[,subset] in seconds."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Videos written in parallel.")] = 2,
) -> None:
    """Write features as the files that ActionFormer, OpenTAD, MS-TCN and others read.

    If OUT ends in .hdf5, it is a single file for ActionFormer that links to FILE.

    Run the same command again to finish an interrupted export or to add new videos.
    """
    from ..exchange import export_features, read_annotations
    from ..progress import plural

    done = export_features(
        file,
        to,
        out,
        features=[name.strip() for name in features.split(",") if name.strip()],
        annotations=None if annotations is None else read_annotations(annotations),
        jobs=jobs,
    )
    say(f"{done.out}: {plural(done.videos, 'video')}, {done.written:,} of them new")
    for names, what in (
        (done.incomplete, "not complete in the file yet: left out"),
        (done.missing, "annotated but not in the file"),
        (done.unannotated, "without annotations"),
    ):
        if names:
            say(f"{plural(len(names), 'video')} {what}: {_some(names)}", err=True)
    for video_id, reason in done.failed.items():
        say(f"{video_id}: damaged in the file: {reason}", err=True)
    if done.failed:
        raise typer.Exit(3)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
