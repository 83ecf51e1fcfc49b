"""Parts of a run as one file: equal to one run's, whatever happened on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from faulty_disk import Killed
from make_parts import SPLIT, VIDEOS, in_one_run, write_parts
from make_rows import (
    FULL,
    GRID,
    HEADER,
    POSE,
    WEIGHTS,
    begin,
    make_end,
    make_rows,
    make_track,
    make_video,
    write_video,
)
from stand_ins import assert_same
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError, StoreError, StoreLocked, StoreMismatch
from epam_extract.records import VideoFailure
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter, merge
from epam_extract.store.merge import merge_parts
from epam_extract.store.verify import verify


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip"}, {"compression": "lzf", "stored_dtype": "f32"}]
)
def test_merged_parts_equal_one_run_bit_for_bit(options: dict[str, str], tmp_path: Path) -> None:
    config = ExtractConfig(features=("pooled", "full", "tokens"), **options).identity()
    parts = write_parts(tmp_path, SPLIT, config)
    whole, out = in_one_run(tmp_path, config), tmp_path / "merged.h5"
    done = merge_parts(out, parts)
    assert (done.videos, done.copied, done.failures, done.incomplete) == (5, 5, 1, ())
    assert_same(whole, out)
    with h5py.File(whole) as one, h5py.File(out) as other:
        moment = ("created", "attributes_checksum")  # which is over the other, too
        mine, theirs = (
            {n: v for n, v in h5.attrs.items() if n not in moment} for h5 in (one, other)
        )
        assert mine == theirs
        np.testing.assert_array_equal(one["failures"][()], other["failures"][()])
        for name in ("rgb", "rgb_pooled", "keypoints"):
            mine, theirs = one["videos/a/b"][name], other["videos/a/b"][name]
            assert (mine.dtype, mine.chunks, mine.compression) == (
                theirs.dtype,
                theirs.chunks,
                theirs.compression,
            )
    assert verify(out) == []
    assert not [path.name for path in tmp_path.iterdir() if path.suffix != ".h5"]


@pytest.mark.slow
def test_compressed_chunks_are_copied_as_they_are(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a"]], {**FULL, "compression": "gzip"})
    merge_parts(tmp_path / "out.h5", parts)
    with h5py.File(parts[0]) as one, h5py.File(tmp_path / "out.h5") as other:
        for row in range(2):
            where = (row, 0, 0, 0, 0)
            mine = one["videos/a/rgb"].id.read_direct_chunk(where)
            assert mine == other["videos/a/rgb"].id.read_direct_chunk(where)


def test_parts_are_left_as_they_were(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, SPLIT)
    before = [part.read_bytes() for part in parts]
    merge_parts(tmp_path / "out.h5", parts)
    assert [part.read_bytes() for part in parts] == before


@pytest.mark.slow
def test_a_merge_killed_between_any_two_commits_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, whole = write_parts(tmp_path, SPLIT), in_one_run(tmp_path)
    out = tmp_path / "out.h5"
    monkeypatch.setattr(merge, "BATCH_BYTES", 1)  # every video by itself
    copy, copied = merge._copy, []

    def copy_one_then_die(h5: h5py.File, video_id: str, part: FeatureStore) -> int:
        if copied:
            copy(h5, video_id, part)
            raise Killed
        copied.append(video_id)
        return copy(h5, video_id, part)

    monkeypatch.setattr(merge, "_copy", copy_one_then_die)
    for number in range(1, len(VIDEOS)):
        copied.clear()
        with pytest.raises(Killed):
            merge_parts(out, parts)
        with FeatureStore(out) as store:
            assert len(store) == number
    copied.clear()
    assert merge_parts(out, parts).copied == 1
    assert_same(whole, out)
    size = out.stat().st_size
    assert merge_parts(out, parts).copied == 0
    assert out.stat().st_size == size


@pytest.mark.slow
def test_parts_that_come_later_are_added(tmp_path: Path) -> None:
    parts, whole = write_parts(tmp_path, SPLIT), in_one_run(tmp_path)
    out = tmp_path / "out.h5"
    assert merge_parts(out, parts[:2]).videos == 2
    assert merge_parts(out, parts[2:]).videos == 5
    assert_same(whole, out)


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    (one,) = write_parts(tmp_path, [["a"]])
    other = tmp_path / "other.h5"
    config = ExtractConfig(features=("pooled",)).identity() | {"stride": 8}
    weights = {**WEIGHTS, "sha256": "ff"}
    with StoreWriter(other, StoreHeader(config, weights, POSE)):
        pass
    with pytest.raises(StoreMismatch) as refused:
        merge_parts(tmp_path / "out.h5", [one, other])
    message = str(refused.value)
    assert "config.stride: 8 there, 16 here" in message
    assert "weights.sha256: ff there, 0f here" in message
    assert "pose_source" not in message
    assert not (tmp_path / "out.h5").exists()
    merge_parts(tmp_path / "out.h5", [one])
    with pytest.raises(StoreMismatch, match=r"config\.stride"):
        merge_parts(tmp_path / "out.h5", [other])


def test_of_a_video_in_two_parts_the_complete_one_wins(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [[], ["a"], []])
    for part in (parts[0], parts[2]):
        with StoreWriter(part, HEADER) as store:
            begin(store, make_video("a", 20))
            store.append_windows("a", make_rows("a", 0, 1))
            store.commit()
    done = merge_parts(tmp_path / "out.h5", parts)
    assert (done.videos, done.incomplete) == (1, ())
    assert merge_parts(tmp_path / "none.h5", [parts[0]]).incomplete == ("a",)
    with FeatureStore(tmp_path / "none.h5") as store:
        assert store.survey() == ({}, {})


def test_of_a_video_that_failed_in_one_part_the_complete_one_wins(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a", "broken"], ["broken"]])
    with StoreWriter(parts[1], HEADER) as store:
        store.fail(VideoFailure("a", "decode", "no disk"))
        store.commit()
    out = tmp_path / "out.h5"
    assert merge_parts(out, parts[1:]).failures == 2
    done = merge_parts(out, parts)
    assert (done.videos, done.failures) == (1, 1)
    with FeatureStore(out) as store:
        assert (list(store), list(store.failures)) == (["a"], ["broken"])


def test_a_video_half_done_in_the_output_is_replaced(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a", "c"]])
    with StoreWriter(tmp_path / "out.h5", HEADER) as store:
        begin(store, make_video("a", 20))
        store.append_windows("a", make_rows("a", 0, 1))
        store.commit()
    merge_parts(tmp_path / "out.h5", parts)
    assert_same(parts[0], tmp_path / "out.h5")


def test_equal_copies_of_a_video_are_one_and_different_ones_are_refused(tmp_path: Path) -> None:
    one, other, third = write_parts(tmp_path, [["a", "c"], ["a"], []])
    assert merge_parts(tmp_path / "out.h5", [one, other]).videos == 2
    with StoreWriter(third, HEADER) as store:
        write_video(store, "a", 3, 40)
        store.commit()
    for files in ([one, third], [third]):
        with pytest.raises(StoreError, match=r"a is complete in both .*rgb_pooled"):
            merge_parts(tmp_path / "out.h5", files)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert list(store) == ["a", "c"]


def test_a_changed_byte_is_found_and_nothing_of_that_video_is_kept(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a", "c"]])
    with h5py.File(parts[0], "r+") as h5:
        h5["videos/c/rgb_pooled"][0, 5] += 1
    with pytest.raises(StoreError, match=r"rgb_pooled of c has changed .*verify .*--repair"):
        merge_parts(tmp_path / "out.h5", parts)
    with FeatureStore(tmp_path / "out.h5") as store:
        assert "c" not in store


def test_a_changed_attribute_is_found(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a"]])
    with h5py.File(parts[0], "r+") as h5:
        h5["videos/a"].attrs["fps_num"] = 24
    with pytest.raises(StoreError, match="an attribute of a has changed"):
        merge_parts(tmp_path / "out.h5", parts)


def test_the_same_video_read_from_two_copies_is_one_video(tmp_path: Path) -> None:
    one, other = write_parts(tmp_path, [["a"], []])
    with StoreWriter(other, HEADER) as store:
        video = replace(make_video("a", 20), path=Path("/elsewhere/a.mp4"), mtime_ns=9)
        begin(store, video)
        store.append_windows("a", make_rows("a", 0, 2))
        store.append_keypoints("a", 0, make_track("a", 0, 20))
        store.finish(video, grid=GRID, **make_end("a", 2))
        store.commit()
    assert merge_parts(tmp_path / "out.h5", [one, other]).videos == 1
    assert_same(one, tmp_path / "out.h5")


def test_a_link_to_another_file_is_not_copied(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a"], ["c"]])
    with h5py.File(parts[1], "r+") as h5:
        del h5["videos/c/box"]
        h5["videos/c/box"] = h5py.ExternalLink(parts[0].name, "/videos/a/box")
    with pytest.raises(StoreError, match="damaged"):
        merge_parts(tmp_path / "out.h5", parts)


def test_a_part_still_written_is_refused_and_left_alone(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, SPLIT)
    with (
        StoreWriter(parts[1], HEADER),
        pytest.raises(StoreLocked, match=r"00001-of-00004\.h5: process \d+ is still writing"),
    ):
        merge_parts(tmp_path / "out.h5", parts)
    assert not (tmp_path / "out.h5").exists()


def test_a_video_whose_name_is_another_ones_array_is_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a"], []])
    with StoreWriter(parts[1], HEADER) as store:
        write_video(store, "a/box/b", 1, 5)
        store.commit()
    with pytest.raises(StoreError, match="an array called box; rename"):
        merge_parts(tmp_path / "out.h5", parts)


def test_files_named_twice_are_refused(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, [["a"]])
    with pytest.raises(ConfigError, match="is named twice"):
        merge_parts(tmp_path / "out.h5", [*parts, *parts])
    with pytest.raises(ConfigError, match="the file to merge into"):
        merge_parts(parts[0], parts)


@pytest.mark.slow
def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, SPLIT)
    out = tmp_path / "out.h5"
    some = CliRunner().invoke(app, ["merge", str(out), *map(str, parts[1:])])
    assert some.exit_code == 3, some.output
    assert "f.shard-00000-of-00004.h5: missing" in some.output
    everything = CliRunner().invoke(app, ["merge", str(out), *map(str, parts)])
    assert everything.exit_code == 0, everything.output
    assert "5 videos, 2 of them new, 1 video failed" in everything.output
    none = CliRunner().invoke(app, ["merge", str(out), str(tmp_path / "no.h5")])
    assert none.exit_code == 1
    assert "there is no such file" in none.output
