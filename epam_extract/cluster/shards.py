"""Shards: which part of a collection a run processes, and the name of its file.

A video's shard depends only on its id, or on a written plan: it does not change with the order in
which a file system lists files, or when files are added.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..video import FoundVideo  # the decoders load with it

PART = re.compile(r"(?P<stem>.+)\.shard-(?P<index>\d{5,})-of-(?P<count>\d{5,})(?P<suffix>\.[^.]*)?")
PLAN_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``; the first has index 0."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ConfigError(
                f"--shard {self.index}/{self.count}: expected I/N with I from 0 to N-1, such as "
                f"0/{max(self.count, 1)} for the first of {max(self.count, 1)} parts"
            )

    def has(self, video_id: str) -> bool:
        """Whether a video is in this shard, by a hash of its id."""
        digest = hashlib.blake2b(video_id.encode("utf-8", "surrogateescape"), digest_size=8)
        return int.from_bytes(digest.digest(), "big") % self.count == self.index

    def path(self, out: Path) -> Path:
        """The file of this shard, next to ``out``: ``feats.shard-00003-of-00016.h5``."""
        return out.with_name(
            f"{out.stem}.shard-{self.index:05d}-of-{self.count:05d}{out.suffix or '.h5'}"
        )


def parse_shard(text: str, environment: Mapping[str, str]) -> tuple[Shard, str]:
    """Parse ``I/N`` or ``auto``; returns the shard and a description of where it comes from.

    Raises:
        ConfigError: it is neither, or no scheduler says which shard this process has.
    """
    if text == "auto":
        return _from_scheduler(environment)
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if match is None:
        raise ConfigError(
            f"--shard {text}: expected I/N, such as 0/16 for the first of 16; or auto"
        )
    shard = Shard(int(match[1]), int(match[2]))
    return shard, f"part {shard.index} of {shard.count}"


def _from_scheduler(environment: Mapping[str, str]) -> tuple[Shard, str]:
    for find in (_slurm_array, _slurm_step, _aws_batch, _torch):
        found = find(environment)
        if found is not None:
            index, count, names = found
            return Shard(index, count), f"part {index} of {count}, from {names}"
    raise ConfigError(
        "--shard auto: none of SLURM_ARRAY_TASK_ID, SLURM_PROCID, AWS_BATCH_JOB_ARRAY_INDEX and "
        "RANK is set; outside these schedulers say --shard I/N, with I from 0"
    )


Found = tuple[int, int, str]
"""Index, count, and the names of the environment variables they come from."""


def _slurm_array(environment: Mapping[str, str]) -> Found | None:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    count = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN", default=0)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", default=1)
    index, rest = divmod(task - first, max(step, 1))
    if rest or not 0 <= index < count:
        raise ConfigError(
            f"--shard auto: task {task} of a SLURM array of {count} that starts at {first} is not "
            "among consecutive numbers; number the tasks 0-15 and the like, or use --shard I/N"
        )
    return index, count, "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT"


def _slurm_step(environment: Mapping[str, str]) -> Found | None:
    if "SLURM_PROCID" not in environment:
        return None
    index, count = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_NTASKS")
    return index, count, "SLURM_PROCID and SLURM_NTASKS"


def _aws_batch(environment: Mapping[str, str]) -> Found | None:
    if "AWS_BATCH_JOB_ARRAY_INDEX" not in environment:
        return None
    index = _number(environment, "AWS_BATCH_JOB_ARRAY_INDEX")
    count = _number(environment, "AWS_BATCH_JOB_ARRAY_SIZE")
    return index, count, "AWS_BATCH_JOB_ARRAY_INDEX and AWS_BATCH_JOB_ARRAY_SIZE"


def _torch(environment: Mapping[str, str]) -> Found | None:
    if "RANK" not in environment:
        return None
    index, count = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    return index, count, "RANK and WORLD_SIZE"


def _number(environment: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        what = "is not set" if text is None else f"is {text!r}, which is no whole number"
        raise ConfigError(f"--shard auto: {name} {what}; say --shard I/N instead") from None


def missing_parts(parts: Iterable[Path]) -> list[str]:
    """Names of the shards missing from ``parts``, judging by file names."""
    have: dict[tuple[str, int, str], set[int]] = {}
    for part in parts:
        match = PART.fullmatch(part.name)
        if match is not None:
            key = (match["stem"], int(match["count"]), match["suffix"] or "")
            have.setdefault(key, set()).add(int(match["index"]))
    return [
        Shard(index, count).path(Path(f"{stem}{suffix}")).name
        for (stem, count, suffix), indices in sorted(have.items())
        for index in range(count)
        if index not in indices
    ]


def write_plan(path: Path, sizes: Mapping[str, int]) -> None:
    """Write a plan: all videos with their sizes in bytes. It serves any number of shards.

    Raises:
        ConfigError: it cannot be written there.
    """
    videos = [{"id": video_id, "size": sizes[video_id]} for video_id in sorted(sizes)]
    text = json.dumps({"epam_extract_plan": PLAN_VERSION, "videos": videos}, indent=1)
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_text(text + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"--plan {path}: cannot be written: {error.strerror}") from error


def read_plan(path: Path) -> dict[str, int]:
    """Sizes of the videos in a plan, by id.

    Raises:
        ConfigError: it cannot be read or is not a plan.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["epam_extract_plan"] != PLAN_VERSION:
            raise ValueError("another version")
        return {str(video["id"]): int(video["size"]) for video in content["videos"]}
    except OSError as error:
        raise ConfigError(
            f"--plan {path}: cannot be read: {error.strerror}; --dry-run --plan writes one"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--plan {path}: is no plan of epam-extract; --dry-run --plan writes one"
        ) from error


def balanced(sizes: Mapping[str, int], count: int) -> list[list[str]]:
    """Ids of ``count`` parts: videos go to the smallest part so far, the largest video first.

    The largest part is at most 4/3 of the optimum (Graham 1969).
    """
    parts: list[list[str]] = [[] for _ in range(count)]
    loads = [(0, index) for index in range(count)]
    for video_id in sorted(sizes, key=lambda name: (-sizes[name], name)):
        load, index = heapq.heappop(loads)
        parts[index].append(video_id)
        heapq.heappush(loads, (load + max(sizes[video_id], 1), index))
    return parts


class ShardChoice:
    """Accepts the videos of one shard, by the plan, or without one by a hash of the id."""

    def __init__(self, shard: Shard, plan: Mapping[str, int] | None = None) -> None:
        self._shard, self._plan = shard, plan
        self._mine = frozenset(balanced(plan, shard.count)[shard.index] if plan else ())
        self.unplanned = 0
        """Number of videos that are not in the plan, and so in no shard."""

    def __call__(self, video: FoundVideo) -> bool:
        if self._plan is None:
            return self._shard.has(video.id)
        self.unplanned += video.id not in self._plan
        return video.id in self._mine


class PlanDraft:
    """Accepts every video and remembers its size, for a plan."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def __call__(self, video: FoundVideo) -> bool:
        self.sizes[video.id] = video.work
        return True
