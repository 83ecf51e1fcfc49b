"""A file of links shows its parts' videos as one file, and nothing that its parts are not."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
from faulty_disk import tmp_path as tmp_path
from make_parts import SPLIT, VIDEOS, in_one_run, write_parts
from make_rows import (
    HEADER,
    POSE,
    SMALL,
    WEIGHTS,
    begin,
    make_rows,
    make_video,
    require_equal,
    write_video,
)
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.cluster.shards import Shard
from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError, EpamExtractError, StoreError, StoreMismatch
from epam_extract.exchange.export import export_features
from epam_extract.store import FeatureStore, StoreHeader, StoreWriter, linked_parts
from epam_extract.store.describe import describe
from epam_extract.store.merge import merge_parts
from epam_extract.store.merge_linked import link_parts
from epam_extract.store.verify import uncovered, verify


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Four parts; of ``a`` and ``a/b``, which lie in one another, each in its own."""
    link_parts(tmp_path / "f.h5", write_parts(tmp_path, SPLIT))
    return tmp_path / "f.h5"


def require_all(path: Path, config: dict = SMALL) -> None:
    with FeatureStore(path) as store:
        assert list(store) == sorted(VIDEOS)
        for video_id, (windows, frames) in VIDEOS.items():
            require_equal(store[video_id], video_id, windows, frames, config)


def refusal(path: Path) -> str:
    """The one sentence that opening a file ends with."""
    with pytest.raises(StoreError) as refused:
        FeatureStore(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("split", [SPLIT, [["a", "a/b", "c"], ["ü/d e", "z", "broken"]]])
def test_it_shows_what_one_run_would_hold(split: list[list[str]], tmp_path: Path) -> None:
    whole, files = in_one_run(tmp_path), write_parts(tmp_path, split)
    out = tmp_path / "f.h5"
    done = link_parts(out, files)
    assert (done.videos, done.copied, done.failures, done.incomplete) == (5, 5, 1, ())
    require_all(out)
    with FeatureStore(whole) as one, FeatureStore(out) as other:
        assert one.failures == other.failures
        assert one.survey() == other.survey()
        for ours, theirs in zip(one.table(), other.table(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for video_id in VIDEOS:
            assert one[video_id].attrs == other[video_id].attrs
            assert one.progress(video_id) == other.progress(video_id)
        assert other.progress("nobody") is None and "a/b/c" not in other
    mine, theirs = describe(whole), describe(out)
    for name in mine.keys() - {"path", "bytes", "created", "parts"}:
        assert mine[name] == theirs[name], name
    assert theirs["parts"] == sorted(file.name for file in files)
    assert verify(out) == [] and uncovered(out) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {whole.name, out.name, *(file.name for file in files)}


def test_plain_hdf5_follows_the_same_links(linked: Path) -> None:
    with h5py.File(linked) as h5:
        assert isinstance(h5["videos"].get("c", getlink=True), h5py.ExternalLink)
        for video_id, (windows, _) in VIDEOS.items():
            rows = make_rows(video_id, 0, windows)["rgb_pooled"]
            np.testing.assert_array_equal(h5["videos"][video_id]["rgb_pooled"][()], rows)
            assert h5["videos"][video_id].attrs["complete"]


def test_nothing_is_copied(tmp_path: Path) -> None:
    config = ExtractConfig(features=("full",)).identity()
    files = write_parts(tmp_path, [["a"], ["c", "z"]], config)
    link_parts(tmp_path / "f.h5", files)
    assert (tmp_path / "f.h5").stat().st_size < 20_000 < 3_000_000 < files[0].stat().st_size
    with FeatureStore(tmp_path / "f.h5") as store:
        require_equal(store["a"], "a", 2, 20, config)


def test_the_folder_can_be_moved(
    linked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    for file in list(tmp_path.glob("*.h5")):
        file.rename(tmp_path / "there" / file.name)
    require_all(tmp_path / "there/f.h5")
    monkeypatch.chdir(tmp_path / "there")
    require_all(Path("f.h5"))
    (tmp_path / "name.h5").symlink_to("there/f.h5")
    require_all(tmp_path / "name.h5")


def test_parts_may_lie_in_folders_below(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    link_parts(tmp_path / "f.h5", write_parts(tmp_path / "shards", SPLIT))
    require_all(tmp_path / "f.h5")
    with h5py.File(tmp_path / "f.h5") as h5:
        assert h5["videos"].get("c", getlink=True).filename.startswith("shards/f.shard-00000")


def test_merging_again_adds_parts_and_takes_changes(tmp_path: Path) -> None:
    files, out = write_parts(tmp_path, SPLIT), tmp_path / "f.h5"
    assert link_parts(out, files[:2]).videos == 2
    with StoreWriter(files[1], HEADER) as store:
        write_video(store, "new", 1, 5)
        store.commit()
    assert files[1].name in refusal(out)
    done = link_parts(out, files[2:])
    assert (done.videos, done.copied) == (6, 4)
    with FeatureStore(out) as store:
        assert list(store) == sorted([*VIDEOS, "new"])
    assert link_parts(out, files).copied == 0


def test_an_open_store_follows_a_merge_and_notices_a_change(tmp_path: Path) -> None:
    files, out = write_parts(tmp_path, SPLIT), tmp_path / "f.h5"
    link_parts(out, files[:2])
    with FeatureStore(out) as store:
        assert len(store) == 2
        link_parts(out, files)
        assert len(store) == 5
        os.utime(files[0])
        with pytest.raises(StoreError, match=r"00000-of-00004.*changed or replaced.*merge --link"):
            store["c"]["rgb_pooled"]
        link_parts(out, files)
        require_equal(store["c"], "c", *VIDEOS["c"], SMALL)
        with pickle.loads(pickle.dumps(store)) as copy:
            require_equal(copy["c"], "c", *VIDEOS["c"], SMALL)


def test_many_parts_are_not_all_kept_open(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked_parts, "MOST_OPEN", 1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with FeatureStore(linked) as store:
        for _ in range(2):
            for video_id, sizes in VIDEOS.items():
                require_equal(store[video_id], video_id, *sizes, SMALL)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert verify(linked) == []


def test_it_may_be_one_of_several_files(linked: Path) -> None:
    beside = linked.with_name("more.h5")
    with StoreWriter(beside, StoreHeader(SMALL, WEIGHTS, POSE)) as writer:
        write_video(writer, "more", 2, 20, SMALL)
        writer.commit()
    with FeatureStore([beside, linked]) as store:
        assert list(store) == sorted([*VIDEOS, "more"]) and "a/b" in store
        assert store["more"].path == beside and store["c"].path == part_of(linked)
        array = store["a/b"]["rgb_pooled"]
        np.testing.assert_array_equal(array[1:], np.asarray(array)[1:])
        with pytest.raises(IndexError):
            array[len(array)]
        assert len(store.table()[0]) == 2 + sum(windows for windows, _ in VIDEOS.values())
        assert store.progress("z").windows == 1  # type: ignore[union-attr]
        assert store.failures.keys() == {"broken"} and len(store.survey()[0]) == 6
        with pytest.raises(KeyError, match="has no complete video 'd'"):
            store["d"]
        copy = pickle.loads(pickle.dumps(store.dataset()))
        assert len(copy) == len(store.table()[0])
    said = r"c is complete in both .*f\.h5 and .*f\.shard-00000"
    with FeatureStore([linked, part_of(linked)]) as store, pytest.raises(StoreError, match=said):
        store["c"]


def part_of(linked: Path) -> Path:
    return Shard(0, 4).path(linked)


def gone(part: Path, folder: Path) -> None:
    part.unlink()


def replaced(part: Path, folder: Path) -> None:
    shutil.copyfile(folder / "f.shard-00001-of-00004.h5", part)


def a_folder(part: Path, folder: Path) -> None:
    part.unlink()
    part.mkdir()


def a_pipe(part: Path, folder: Path) -> None:
    part.unlink()
    os.mkfifo(part)


def a_socket(part: Path, folder: Path) -> None:
    part.unlink()
    here = Path.cwd()
    os.chdir(part.parent)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(part.name)
    os.chdir(here)


def a_link_out(part: Path, folder: Path) -> None:
    outside = folder.parent / "outside.h5"
    part.rename(outside)
    part.symlink_to(outside)


def a_link_to_itself(part: Path, folder: Path) -> None:
    part.unlink()
    part.symlink_to(part.name)


CHANGES = [gone, replaced, a_folder, a_pipe, a_socket, a_link_out, a_link_to_itself]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_part_that_is_not_what_it_was_is_named(change, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    files = write_parts(folder, SPLIT)
    link_parts(folder / "f.h5", files)
    with FeatureStore(folder / "f.h5") as store:
        change(files[0], folder)
        with pytest.raises(StoreError, match="00000-of-00004"):
            store["c"]["rgb_pooled"]
    assert files[0].name in refusal(folder / "f.h5")
    for command in (["info"], ["verify"], ["export", "--to", "npz"]):
        name, *options = command
        arguments = [name, str(folder / "f.h5"), *options]
        done = CliRunner().invoke(app, arguments + ([str(tmp_path / "x")] if options else []))
        assert done.exit_code == 1 and files[0].name in done.output, done.output


def rewrite(path: Path, name: str, stamp: object) -> None:
    """Make the file say that ``name`` is its part, too."""
    with h5py.File(path, "r+") as h5:
        listed = json.loads(h5.attrs["parts"])
        h5.attrs["parts"] = json.dumps({**listed, name: stamp})


@pytest.mark.parametrize("name", ["../other.h5", "{}/other.h5", "sub/../../other.h5", "a\0b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    link_parts(folder / "f.h5", write_parts(folder, [["a"]]))
    (other,) = write_parts(tmp_path, [["c"]])
    other = other.rename(tmp_path / "other.h5")
    status = other.stat()
    rewrite(folder / "f.h5", name.format(tmp_path), [status.st_size, status.st_mtime_ns])
    assert "its part" in refusal(folder / "f.h5")


def test_links_to_anything_but_the_listed_parts_are_damage(linked: Path) -> None:
    folder = linked.parent
    (secret,) = write_parts(folder, [["z"]])
    secret = secret.rename(folder / "secret.h5")
    for number, link in enumerate(
        (
            h5py.ExternalLink("secret.h5", "/videos/x0"),  # no part of this file
            h5py.ExternalLink("f.shard-00003-of-00004.h5", "/videos/z"),  # another video
            h5py.ExternalLink("f.shard-00003-of-00004.h5", "/"),
            h5py.ExternalLink("f.h5", "/videos/x3"),
            h5py.SoftLink("/videos/z"),
            h5py.ExternalLink("f.shard-00003-of-00004.h5", "/videos/x5"),  # which it has not
        )
    ):
        with h5py.File(linked, "r+") as h5:
            h5["videos"][f"x{number}"] = link
    with h5py.File(linked, "r+") as h5:
        h5["videos/folder"] = h5["videos"]  # a circle
        h5["videos/own"] = np.zeros(3)
        group = h5.create_group("videos/video")
        group.attrs["complete"] = np.bool_(True)
    with FeatureStore(linked) as store:
        found, damaged = store.survey()
        assert sorted(found) == sorted(VIDEOS)
        assert sorted(damaged) == ["folder", "own", "video", "x0", "x1", "x2", "x3", "x4", "x5"]
        for number in range(6):
            with pytest.raises((StoreError, KeyError)):
                store[f"x{number}"]
    wrong = {problem.video_id for problem in verify(linked) if problem.array is None}
    assert wrong >= damaged.keys()


@pytest.mark.parametrize(
    "listed", ["[]", "{", '{"f.h5": 1}', '{"f.h5": [1]}', '{"f.h5": ["x", 1]}']
)
def test_a_damaged_list_of_parts_is_one_sentence(listed: str, linked: Path) -> None:
    with h5py.File(linked, "r+") as h5:
        h5.attrs["parts"] = listed
    assert "damaged" in refusal(linked)


def test_a_part_must_be_a_feature_file_of_the_same_settings(linked: Path) -> None:
    (other,) = write_parts(linked.parent, [["z"]], ExtractConfig(features=("tokens",)).identity())
    text = linked.parent / "text.h5"
    text.write_text("no features")
    for file, reason in ((other, "other settings"), (text, "not an HDF5 file"), (linked, "links")):
        with h5py.File(linked, "r+") as h5:
            h5["videos"][file.stem] = h5py.ExternalLink(file.name, f"/videos/{file.stem}")
            status = file.stat()
            stamp = [status.st_size, status.st_mtime_ns]
            if file == linked:  # it cannot hold its own time of change: have it pass by hand
                continue
        rewrite(linked, file.name, stamp)
        with FeatureStore(linked) as store, pytest.raises(StoreError, match=reason):
            store[file.stem]
        with h5py.File(linked, "r+") as h5:
            del h5["videos"][file.stem]


def test_links_to_links_are_refused(linked: Path) -> None:
    with pytest.raises(StoreError, match=r"f\.h5 holds only links itself"):
        link_parts(linked.parent / "g.h5", [linked])


def test_a_file_of_links_can_be_copied_into_a_real_one(linked: Path) -> None:
    told: list[tuple[int, int]] = []
    done = merge_parts(linked.parent / "real.h5", [linked], on_bytes=lambda *now: told.append(now))
    parts = linked.parent.glob("f.shard-*.h5")
    assert told[-1][1] == sum(part.stat().st_size for part in parts)
    assert (done.videos, done.failures) == (5, 1)
    require_all(linked.parent / "real.h5")
    assert verify(linked.parent / "real.h5") == []


def test_nothing_else_writes_it(linked: Path) -> None:
    before = linked.read_bytes()
    with FeatureStore(linked) as store:
        header = StoreHeader(store.config, store.weights, store.pose_source)
    writers = [
        lambda: StoreWriter(linked, header),
        lambda: StoreWriter(linked, header, overwrite=True),
        lambda: merge_parts(linked, [linked.parent / "f.shard-00000-of-00004.h5"]),
    ]
    for write in writers:
        with pytest.raises(StoreError, match="written by merge --link alone"):
            write()
    assert linked.read_bytes() == before


def test_what_cannot_be_linked_is_one_sentence(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "f", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    inside, outside = (write_parts(where, [["a"]])[0] for where in (folder, elsewhere))
    out = folder / "f.h5"
    (folder / "link.h5").symlink_to(outside)
    for part in (outside, folder / "link.h5", Path(f"{folder}/../elsewhere/{outside.name}")):
        with pytest.raises(ConfigError, match="lies outside of"):
            link_parts(out, [part])
    with pytest.raises(ConfigError, match="named twice"):
        link_parts(out, [inside, inside])
    with pytest.raises(ConfigError, match="the file to merge into"):
        link_parts(inside, [inside])
    assert not out.exists()
    with StoreWriter(out, HEADER):
        pass
    with pytest.raises(StoreError, match="holds features, and no links"):
        link_parts(out, [inside])


def test_different_settings_and_different_copies_are_refused(tmp_path: Path) -> None:
    (one,) = write_parts(tmp_path, [["a"]])
    other, third = tmp_path / "other.h5", tmp_path / "third.h5"
    config = ExtractConfig(features=("pooled",)).identity() | {"stride": 8}
    with StoreWriter(other, StoreHeader(config, HEADER.weights, HEADER.pose_source)):
        pass
    with pytest.raises(StoreMismatch, match=r"config\.stride"):
        link_parts(tmp_path / "f.h5", [one, other])
    with StoreWriter(third, HEADER) as store:
        write_video(store, "a", 3, 40)
        store.commit()
    with pytest.raises(StoreError, match="a is complete in both"):
        link_parts(tmp_path / "f.h5", [one, third])
    assert not (tmp_path / "f.h5").exists()


def test_incomplete_videos_are_left_out(tmp_path: Path) -> None:
    (one,) = write_parts(tmp_path, [["a"]])
    with StoreWriter(one, HEADER) as store:
        begin(store, make_video("half", 20))
        store.append_windows("half", make_rows("half", 0, 1))
        store.commit()
    assert link_parts(tmp_path / "f.h5", [one]).incomplete == ("half",)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert store.survey() == ({"a": True}, {})


@pytest.mark.slow
def test_damage_in_a_part_is_found_through_the_links(linked: Path) -> None:
    part = linked.parent / "f.shard-00000-of-00004.h5"
    status = part.stat()
    with h5py.File(part, "r+") as h5:
        h5["videos/c/rgb_pooled"][0, 5] += 1
    os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))  # as decay does
    assert [(p.video_id, p.array) for p in verify(linked)] == [("c", "rgb_pooled")]
    done = CliRunner().invoke(app, ["verify", str(linked), "--repair"])
    assert done.exit_code == 1 and "written by merge --link alone" in done.output


@pytest.mark.slow
@pytest.mark.parametrize("to", ["npz", "actionformer"])
def test_exporters_follow_links(to: str, linked: Path) -> None:
    whole = in_one_run(linked.parent)
    for file in (linked, whole):
        export_features(file, to, linked.parent / f"{file.stem}.{to}")
    for path in sorted((linked.parent / f"f.{to}").rglob("*.np[yz]")):
        other = linked.parent / f"{whole.stem}.{to}" / path.relative_to(linked.parent / f"f.{to}")
        assert path.read_bytes() == other.read_bytes()
    out = linked.parent / "features.hdf5"
    export_features(linked, "actionformer", out)
    with h5py.File(out) as h5:
        shown = {name: array[()] for name, array in h5.items()}
    assert len(shown) == len(VIDEOS)
    assert not any(np.isnan(array).any() for array in shown.values())


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    files, out = write_parts(tmp_path, SPLIT), tmp_path / "f.h5"
    some = CliRunner().invoke(app, ["merge", "--link", str(out), *map(str, files[1:])])
    assert some.exit_code == 3 and "f.shard-00000-of-00004.h5: missing" in some.output
    everything = CliRunner().invoke(app, ["merge", str(out), *map(str, files), "--link"])
    assert everything.exit_code == 0, everything.output
    assert "5 videos, 2 of them new, 1 video failed" in everything.output
    shown = CliRunner().invoke(app, ["info", str(out)])
    assert shown.exit_code == 0 and "f.shard-00000-of-00004.h5" in shown.output
    assert CliRunner().invoke(app, ["verify", str(out)]).output == f"{out}: all is well\n"
    (tmp_path / "v.mp4").touch()
    for option in ("--no-full", "--overwrite", "--dry-run"):
        command = ["extract", str(tmp_path / "v.mp4"), "--out", str(out), "--demo", option]
        extract = CliRunner().invoke(app, command)
        assert extract.exit_code == 1 and "written by merge --link alone" in extract.output
    none = CliRunner().invoke(app, ["merge", "--link", str(out), str(tmp_path / "no.h5")])
    assert none.exit_code == 1 and "there is no such file" in none.output
    with pytest.raises(EpamExtractError):
        link_parts(out, [tmp_path / "no.h5"])
