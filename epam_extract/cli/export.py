"""``epam-extract export``: features for those who train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import File, one_line_errors


def export(
    file: Annotated[Path, typer.Argument(show_default=False, help="File of features.")],
    out: Annotated[Path, typer.Argument(show_default=False, help="Folder to write.")],
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
        str, typer.Option(metavar="NAMES", help="Pooled features, side by side in this order.")
    ] = "rgb_pooled,pose_pooled",
    annotations: Annotated[
        File,
        typer.Option(help="ActivityNet JSON, or CSV: video,start,end,label[,subset] in seconds."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Videos written at the same time.")] = 2,
) -> None:
    """Write features as the files that ActionFormer, OpenTAD, MS-TCN and others read.

    The same command finishes an interrupted export, and adds videos that are complete by then.
    """
    with one_line_errors():
        from ..exchange import export_features, read_annotations
        from ..progress import counted

        done = export_features(
            file,
            to,
            out,
            features=[name.strip() for name in features.split(",") if name.strip()],
            annotations=None if annotations is None else read_annotations(annotations),
            jobs=jobs,
        )
        typer.echo(f"{done.out}: {counted(done.videos, 'video')}, {done.written:,} of them new")
        for count, what in (
            (done.incomplete, "not complete in the file yet: left out"),
            (len(done.missing), f"annotated but not in the file: {_some(done.missing)}"),
            (len(done.unannotated), f"without annotations: {_some(done.unannotated)}"),
        ):
            if count:
                typer.echo(f"{counted(count, 'video')} {what}", err=True)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    from ..progress import escaped

    return escaped(", ".join(names[:5])) + more
