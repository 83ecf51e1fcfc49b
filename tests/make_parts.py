"""Parts of a run, as shards or workers leave them."""

from __future__ import annotations

from pathlib import Path

from make_rows import POSE, SMALL, WEIGHTS, write_video

from epam_extract.cluster.shards import Shard
from epam_extract.records import VideoFailure
from epam_extract.store import StoreHeader, StoreWriter

VIDEOS = {"a": (2, 20), "a/b": (3, 40), "c": (1, 9), "ü/d e": (2, 17), "z": (1, 5)}


BROKEN = VideoFailure("broken", "decode", "61 of 74 frames")


def write_parts(folder: Path, split: list[list[str]], config: dict = SMALL) -> list[Path]:
    parts = []
    for index, ids in enumerate(split):
        parts.append(Shard(index, len(split)).path(folder / "f.h5"))
        with StoreWriter(parts[-1], StoreHeader(config, WEIGHTS, POSE)) as store:
            for video_id in ids:
                if video_id == BROKEN.video_id:
                    store.fail(BROKEN)
                else:
                    write_video(store, video_id, *VIDEOS[video_id], config)
            store.commit()
    return parts


def in_one_run(folder: Path, config: dict = SMALL) -> Path:
    (whole,) = write_parts(folder, [[*VIDEOS, "broken"]], config)
    return whole


SPLIT = [["c", "a/b"], [], ["a", "broken"], ["ü/d e", "z"]]
