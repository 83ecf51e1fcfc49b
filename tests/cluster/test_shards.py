"""Which part of a collection a run does: by hash, by plan, by what a scheduler says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from epam_extract.cluster.shards import (
    PlanDraft,
    Shard,
    ShardChoice,
    balanced,
    missing_parts,
    parse_shard,
    read_plan,
    write_plan,
)
from epam_extract.errors import ConfigError
from epam_extract.records import Segment
from epam_extract.video import FoundVideo


def chosen_ids(ids: list[str], shard: Shard, plan: dict[str, int] | None = None) -> list[str]:
    choice = ShardChoice(shard, plan)
    return [name for name in ids if choice(FoundVideo(name, Path(name)))]


IDS = [f"class {number % 7}/v_{number:04d}" for number in range(2000)]


def test_every_video_is_in_exactly_one_part_and_parts_are_alike_in_size() -> None:
    parts = [chosen_ids(IDS, Shard(index, 16)) for index in range(16)]
    assert sorted(name for part in parts for name in part) == sorted(IDS)
    assert all(80 < len(part) < 170 for part in parts)


def test_a_video_keeps_its_part_whatever_else_is_there_and_on_every_machine() -> None:
    assert [Shard(i, 5).has("a/b c") for i in range(5)].index(True) == 4
    assert [Shard(i, 5).has("ü") for i in range(5)].index(True) == 0
    assert [Shard(i, 5).has("\udcff") for i in range(5)].count(True) == 1
    fewer = random.Random(0).sample(IDS, 100)
    mine = set(chosen_ids(IDS, Shard(3, 16)))
    assert set(chosen_ids(fewer, Shard(3, 16))) == mine & set(fewer)


@pytest.mark.parametrize(
    ("environment", "index", "count"),
    [
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "16"}, 7, 16),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "2",
                "SLURM_PROCID": "0",  # of the batch script, which is one process
                "SLURM_NTASKS": "8",
            },
            3,
            4,
        ),
        (
            {
                "SLURM_ARRAY_TASK_ID": "6",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            3,
            4,
        ),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "3"}, 2, 3),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "1", "AWS_BATCH_JOB_ARRAY_SIZE": "9"}, 1, 9),
        ({"RANK": "0", "WORLD_SIZE": "2"}, 0, 2),
    ],
)
def test_auto_reads_what_the_scheduler_set_and_says_which(
    environment: dict[str, str], index: int, count: int
) -> None:
    shard, said = parse_shard("auto", environment)
    assert shard == Shard(index, count)
    assert next(iter(environment)) in said


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ("5/4", {}, "I from 0 to N-1"),
        ("4/4", {}, "I from 0 to N-1"),
        ("0/0", {}, "I from 0 to N-1"),
        ("-1/4", {}, "expected I/N"),
        ("1of4", {}, "expected I/N"),
        ("auto", {}, "none of SLURM_ARRAY_TASK_ID"),
        ("auto", {"RANK": "0"}, "WORLD_SIZE is not set"),
        ("auto", {"RANK": "zero", "WORLD_SIZE": "2"}, "'zero'"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3"}, "consecutive"),
    ],
)
def test_what_is_no_shard_is_refused_in_one_sentence(
    text: str, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        parse_shard(text, environment)
    assert "\n" not in str(refused.value)


def test_a_part_lies_beside_the_file_and_missing_ones_are_named() -> None:
    out = Path("/data/feats.h5")
    assert Shard(3, 16).path(out) == Path("/data/feats.shard-00003-of-00016.h5")
    assert Shard(0, 2).path(Path("feats")) == Path("feats.shard-00000-of-00002.h5")
    parts = [Shard(index, 4).path(out) for index in (0, 2)]
    assert missing_parts([*parts, Path("old.h5")]) == [
        "feats.shard-00001-of-00004.h5",
        "feats.shard-00003-of-00004.h5",
    ]
    assert missing_parts([Shard(0, 1).path(out), Path("feats.h5")]) == []


def test_a_plan_balances_by_size_and_is_the_same_for_all(tmp_path: Path) -> None:
    rng = random.Random(1)
    sizes = {name: int(rng.lognormvariate(17, 1.2)) for name in IDS}
    write_plan(tmp_path / "plan.json", sizes)
    plan = read_plan(tmp_path / "plan.json")
    assert plan == sizes
    parts = balanced(plan, 16)
    assert sorted(name for part in parts for name in part) == sorted(IDS)
    loads = [sum(sizes[name] for name in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes.values())
    assert max(loads) < 1.01 * sum(sizes.values()) / 16
    shuffled = dict(rng.sample(list(plan.items()), len(plan)))
    assert balanced(shuffled, 16) == parts
    choice = ShardChoice(Shard(5, 16), plan)
    here = [FoundVideo(name, Path(name)) for name in [*IDS, "came later"]]
    assert sorted(video.id for video in here if choice(video)) == sorted(parts[5])
    assert choice.unplanned == 1


def test_a_plan_is_drafted_from_the_sizes_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(bytes(300))
    draft = PlanDraft()
    assert draft(FoundVideo("a", tmp_path / "a.mp4"))
    assert draft(FoundVideo("gone", tmp_path / "gone.mp4"))
    assert draft.sizes == {"a": 300, "gone": 0}


def test_videos_of_unknown_size_are_spread_too() -> None:
    parts = balanced(dict.fromkeys("abcdefgh", 0), 4)
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    assert balanced({"a": 1}, 3) == [["a"], [], []]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epam_extract_plan": 9, "videos": []}', "null"])
def test_a_plan_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match="is no plan"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_that_cannot_be_read_or_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_plan(tmp_path / "no folder" / "plan.json", {})
    bad = {"epam_extract_plan": 1, "videos": [{"id": "a"}]}
    (tmp_path / "plan.json").write_text(json.dumps(bad))
    with pytest.raises(ConfigError, match="is no plan"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_weighs_segments_by_their_length() -> None:
    draft = PlanDraft()
    for segment in (Segment(1, 2), Segment(1, 4)):
        draft(FoundVideo(segment.id_in("v"), Path("/v.mp4"), segment))
    assert draft.sizes == {"v/1000-2000": 1000, "v/1000-4000": 3000}
