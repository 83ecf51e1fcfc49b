"""Reading features: arrays by index, several files as one, datasets, and what README shows."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from faulty_disk import tmp_path as tmp_path
from make_features import noise, write_pooled
from make_rows import HEADER, POSE, WEIGHTS, make_rows, write_video
from torch.utils.data import DataLoader, Dataset, random_split
from typer.testing import CliRunner

from epam_extract import ConfigError, FeatureStore, StoreError
from epam_extract.cli import app
from epam_extract.config import ExtractConfig
from epam_extract.store import StoredArray, StoreHeader, StoreWriter, dataset, journal
from epam_extract.store.indexing import contiguous_start, select

FULL = ExtractConfig(features=("pooled", "full")).identity()
README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """One video of 5 windows with full maps, written in two commits, and one written at once."""
    path = tmp_path / "full.h5"
    with StoreWriter(path, StoreHeader(FULL, WEIGHTS, POSE)) as writer:
        write_video(writer, "two commits", 5, 70, FULL)
        writer.commit()
        write_video(writer, "a/b", 2, 40, FULL)
        writer.commit()
    return path


# -- arrays ---------------------------------------------------------------------------------


def random_key(rng: random.Random) -> object:
    def bound() -> int | None:
        return rng.choice([None, *range(-6, 7)])

    def part() -> object:
        step = rng.choice([None, 1, 1, 2, 3, -1, -2])
        return rng.choice([None, ..., rng.randrange(-5, 5), slice(bound(), bound(), step)])

    parts = tuple(part() for _ in range(rng.randrange(5)))
    return parts[0] if len(parts) == 1 else parts


def test_basic_indices_mean_what_they_mean_in_numpy() -> None:
    rng = random.Random(0)
    outcomes = {"one run": 0, "several": 0, "out of bounds": 0}
    for _ in range(5000):
        shape = tuple(rng.randrange(5) for _ in range(rng.randrange(4)))
        array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        key = random_key(rng)
        try:
            expected = array[key]  # type: ignore[index]
        except IndexError:
            with pytest.raises(IndexError):
                select(key, shape)
            outcomes["out of bounds"] += 1
            continue
        what = select(key, shape)
        assert array[what.axes].shape == what.shape
        np.testing.assert_array_equal(array[what.axes][what.after], expected)
        start = contiguous_start(what.axes, shape)
        outcomes["several" if start is None else "one run"] += 1
        if start is not None:
            run = array.reshape(-1)[start : start + int(np.prod(what.shape))]
            np.testing.assert_array_equal(run.reshape(what.shape)[what.after], expected)
    assert min(outcomes.values()) > 100


KEYS = (
    *(0, -1, slice(None), slice(1, 3), slice(None, None, -2), ..., (0, 1), (..., 0), (1, None)),
    *((slice(None), 3), (slice(0, 2), slice(1, 3)), (0, slice(5, 1, -1)), [1, 0, 1], ([1], 0)),
    *(np.array([1, 0]), np.int64(1), (np.array([0, 1]), np.array([1, 2])), slice(9, 99)),
)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_a_stored_array_is_indexed_as_numpy_s(full: Path, key: object) -> None:
    with FeatureStore(full) as store:
        for video in store.values():
            for name in ("rgb_pooled", "rgb", "keypoints"):
                whole = np.asarray(video[name])
                part = video[name][key]
                np.testing.assert_array_equal(part, whole[key])  # type: ignore[index]
                assert part.dtype == whole.dtype and part.shape == whole[key].shape  # type: ignore[index]


def test_what_else_one_does_with_an_array(full: Path) -> None:
    rows = make_rows("two commits", 0, 5, FULL)
    with FeatureStore(full) as store:
        video = store["two commits"]
        pooled, person, maps = video["rgb_pooled"], video["person"], video["rgb"]
        assert isinstance(pooled, StoredArray) and repr(pooled).endswith("(5, 432), float32)")
        assert (maps.shape, maps.dtype, maps.ndim) == ((5, 432, 16, 7, 7), np.float16, 5)
        assert (len(maps), maps.size, maps.nbytes) == (5, 1693440, 3386880)
        for name, expected in rows.items():
            array = np.asarray(video[name])
            np.testing.assert_array_equal(array, expected)
            assert array.flags.writeable and torch.from_numpy(array) is not None
        assert np.asarray(person, np.float64).dtype == np.float64
        np.testing.assert_array_equal(person * 2 == 0, rows["person"] * 2 == 0)
        np.testing.assert_array_equal(1 - person, 1 - rows["person"])
        np.testing.assert_array_equal(np.exp(person), np.exp(rows["person"]))
        assert pooled.mean(0).shape == (432,) and person.tolist() == rows["person"].tolist()
        assert [row.shape for row in pooled] == [(432,)] * 5
        np.testing.assert_array_equal(
            pooled[rows["person"] > 0.5], rows["rgb_pooled"][rows["person"] > 0.5]
        )
        np.testing.assert_array_equal(
            pooled[pooled[:] > 0.9], rows["rgb_pooled"][rows["rgb_pooled"] > 0.9]
        )
        assert maps[[]].shape == (0, 432, 16, 7, 7)
        for key, message in (((5,), "out of bounds for axis 0 with size 5"), ((0, 0), "too many")):
            with pytest.raises(IndexError, match=message):
                person[key]
        with pytest.raises(IndexError):
            pooled[[7]]
        with pytest.raises(ValueError, match="read-only"):
            person.sort()  # would be lost
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            _ = person.nonsense
        with pytest.raises(KeyError, match="has no array 'attention'"):
            video["attention"]


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all reads of the file."""
    reads: list[int] = []
    real = journal.read_at

    def counted(descriptor: int, view: memoryview, offset: int) -> None:
        reads.append(len(view))
        real(descriptor, view, offset)

    into = journal.CommittedView.readinto

    def counted_once(view: journal.CommittedView, buffer: memoryview) -> int:
        before = len(reads)
        count = into(view, buffer)
        if len(reads) == before:  # without read_at
            reads.append(count)
        return count

    monkeypatch.setattr(journal, "read_at", counted)
    monkeypatch.setattr(journal.CommittedView, "readinto", counted_once)
    return reads


def test_a_window_is_read_without_the_others(full: Path, read_bytes: list[int]) -> None:
    with FeatureStore(full) as store:
        video = store["two commits"]
        for name, item in (("rgb", 2 * 432 * 16 * 49), ("rgb_pooled", 4 * 432)):
            _ = video[name][0]
            for key in (3, slice(3, 4), [3]):
                read_bytes.clear()
                _ = video[name][key]
                assert item <= sum(read_bytes) < item + 4096, (name, key)
        _ = video["keypoints"][0, 0]
        read_bytes.clear()
        assert video["keypoints"][1, 10:20].nbytes == sum(read_bytes)
        read_bytes.clear()
        assert video["rgb"].shape[0] == len(video["rgb"]) == 5 and sum(read_bytes) == 0


def test_an_array_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as writer, FeatureStore(path) as store:
        write_video(writer, "one", 2, 20)
        writer.commit()
        array = store["one"]["rgb_pooled"]
        assert array.shape == (2, 432)
        write_video(writer, "one", 3, 20)
        writer.commit()
        assert len(array) == 3 and array[2].shape == (432,)
        writer.drop("one")
        writer.commit()
        with pytest.raises(KeyError, match="no longer has the video 'one'"):
            array[0]


# -- several files --------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with two parts of a run, of which b is half done in the first."""
    write_pooled(tmp_path / "f.shard-0.h5", {"a": noise(0, 2), "b": noise(1)}, unfinished=("b",))
    write_pooled(tmp_path / "f.shard-1.h5", {"b": noise(2, 3), "c/d": noise(3)})
    (tmp_path / "f.shard-1.h5.lock").write_text("")
    return tmp_path


@pytest.mark.parametrize("how", ["folder", "pattern", "list", "text"])
def test_several_files_are_read_as_one(parts: Path, how: str) -> None:
    given = {
        "folder": parts,
        "pattern": str(parts / "f.shard-*"),
        "list": [parts / f"f.shard-{i}.h5" for i in (0, 1, 0)],
        "text": str(parts),
    }
    with FeatureStore(given[how]) as store:
        assert [path.name for path in store.paths] == ["f.shard-0.h5", "f.shard-1.h5"]
        assert list(store) == ["a", "b", "c/d"] and len(store) == 3 and "c/d" in store
        assert store["b"].path == parts / "f.shard-1.h5" and len(store["b"]["times"]) == 3
        np.testing.assert_array_equal(store["b"]["rgb_pooled"], noise(2, 3)[0].astype(np.float32))
        matrix, index = store.table()
        assert matrix.shape == (6, 648) and index["video"].tolist() == [0, 0, 1, 1, 1, 2]
        assert store.progress("b").complete and store.progress("x") is None  # type: ignore[union-attr]
        assert store.survey() == ({"a": True, "b": True, "c/d": True}, {})
        assert store.config["features"] == ["pooled"] and "2 videos" not in repr(store)
        with pytest.raises(KeyError, match=r"f.shard-0.h5 and 1 more has no .*did you mean 'c/d'"):
            store["c/e"]
        assert pickle.loads(pickle.dumps(store)).ids == store.ids


def test_a_video_complete_in_two_files_is_told(parts: Path) -> None:
    write_pooled(parts / "third.h5", {"a": noise(0, 2)})
    said = r"a is complete in both .*f.shard-0.h5 and .*third.h5; read one of them, or"
    for look in (len, lambda store: store["a"], lambda store: store.table()):
        with FeatureStore(parts) as store, pytest.raises(StoreError, match=said):
            look(store)


def test_files_that_do_not_belong_together_are_refused(parts: Path) -> None:
    write_pooled(parts / "x.h5", {"e": noise(0)}, weights={"file": "epam.pth", "sha256": "ee"})
    with pytest.raises(StoreError, match=r"x.h5 was made with other settings .*weights.sha256: ee"):
        FeatureStore(parts)
    (parts / "x.h5").write_text("text")
    with pytest.raises(StoreError, match=r"x.h5: is not an HDF5 file"):
        FeatureStore(parts)


def test_names_that_lead_to_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given, said in (
        (tmp_path / "empty", r"is a directory without any file \*\.h5"),
        (tmp_path / "f-*.h5", r"f-\*\.h5: there is no file of such a name"),
        ([], "the list of them is empty"),
        ([tmp_path / "f.h5"], "there is no such file"),
    ):
        with pytest.raises(StoreError, match=said):
            FeatureStore(given)
    write_pooled(tmp_path / "f[1].h5", {"a": noise(0)})
    with FeatureStore(tmp_path / "f[1].h5") as store:
        assert store.ids == ["a"]


def test_a_video_that_failed_in_one_part_and_is_complete_in_another(tmp_path: Path) -> None:
    from epam_extract.records import VideoFailure

    for name in ("one", "two"):
        with StoreWriter(tmp_path / f"{name}.h5", HEADER) as writer:
            if name == "one":
                writer.fail(VideoFailure("a", "decode", "broken"))
                writer.fail(VideoFailure("b", "decode", "broken"))
            else:
                write_video(writer, "a", 1, 20)
            writer.commit()
    with FeatureStore(tmp_path) as store:
        assert list(store.failures) == ["b"] and store.ids == ["a"]


# -- datasets -------------------------------------------------------------------------------


@pytest.fixture
def pooled(tmp_path: Path) -> Path:
    """Three videos of 4, 1 and 3 windows."""
    counts = {"x": 4, "sub/y": 1, "z": 3}
    return write_pooled(
        tmp_path / "feats.h5", {name: noise(i, n) for i, (name, n) in enumerate(counts.items())}
    )


@pytest.mark.parametrize("kept", [True, False])
def test_a_dataset_has_an_item_for_each_window(
    pooled: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(dataset, "IN_MEMORY", 0)
    with FeatureStore(pooled) as store:
        windows = store.dataset()
        assert isinstance(windows, Dataset) and len(windows) == 8
        assert repr(windows) == "WindowDataset(rgb_pooled, pose_pooled: 8 windows of 3 videos)"
        for number, item in enumerate(windows[i] for i in range(8)):
            window = item["window"]
            assert isinstance(window, dataset.Window)
            video, row = store[window.video], window.row
            assert windows.index["row"][number] == row
            assert windows.ids[windows.index["video"][number]] == video.id
            assert [*window[2:]] == video["times"][row].tolist()
            for name in ("rgb_pooled", "pose_pooled"):
                value = item[name]
                assert isinstance(value, torch.Tensor)
                np.testing.assert_array_equal(value, video[name][row])
                assert value.numpy().dtype == video[name].dtype
        assert windows[-1]["window"][:2] == ("z", 2)
        with pytest.raises(IndexError):
            windows[8]
        windows[0]["rgb_pooled"].zero_()  # type: ignore[union-attr]
        assert windows[0]["rgb_pooled"].any()  # type: ignore[union-attr]
        some = store.dataset(["person", "pose_pooled"], ids=["z", "sub/y"])
        assert some.ids == ["z", "sub/y"] and len(some) == 4 and some[0]["person"] == 1
        one, _ = random_split(windows, [3, 5], torch.Generator().manual_seed(0))
        assert sum(len(batch["window"]) for batch in DataLoader(one, batch_size=2)) == 3
        with pytest.raises(KeyError, match="no array 'rgb'"):
            store.dataset(["rgb"])
        with pytest.raises(ConfigError, match="keypoints: has no row for each window"):
            store.dataset(["keypoints"])
        assert len(store.dataset(ids=[])) == 0


def test_full_maps_come_window_by_window(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "IN_MEMORY", 1 << 20)
    with FeatureStore(full) as store:
        windows = store.dataset(["rgb", "pose"])
        item = windows[3]  # the second row of the second video
        assert item["window"][:2] == ("two commits", 1)
        np.testing.assert_array_equal(item["pose"], store["two commits"]["pose"][1])
        with pytest.raises(ConfigError, match=r"rgb: is \(432, 16, 7, 7\) a window, and a table"):
            store.table(["rgb"])


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_for_themselves(
    pooled: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FeatureStore(pooled) as store:
        windows = store.dataset()
        if start == "fork":  # a spawned worker imports the module afresh
            monkeypatch.setattr(windows, "_fits", False)
        context = multiprocessing.get_context(start)
        loader = DataLoader(
            windows,
            batch_size=3,
            num_workers=1 + (start == "fork"),
            multiprocessing_context=context,
        )
        batches = list(loader)
        matrix, _ = store.table()
        both = [torch.cat([b["rgb_pooled"], b["pose_pooled"]], 1) for b in batches]
        np.testing.assert_array_equal(torch.cat(both), matrix)
        assert [w.video for b in batches for w in b["window"]] == ["sub/y", *"xxxx", *"zzz"]
        assert batches[0]["window"][1] == windows[1]["window"]


def test_a_dataset_whose_videos_were_replaced_says_so(pooled: Path) -> None:
    with FeatureStore(pooled) as store:
        travelling = pickle.dumps(store.dataset())
    write_pooled(pooled, {name: noise(0, 2) for name in ("x", "sub/y", "z")})
    with pytest.raises(StoreError, match="its videos were replaced since the dataset was made"):
        pickle.loads(travelling)[0]


# -- README ---------------------------------------------------------------------------------


def snippet(language: str, containing: str) -> str:
    """The one block of README in this language that contains a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the feats.h5 and annotations.json that README speaks of."""
    rng = np.random.default_rng(0)
    videos = {}
    for number, name in enumerate(("walk_1", "walk_2", "wave_1", "wave_2")):
        level = 3.0 * (number > 1)
        videos[name] = (rng.normal(level, 1, (20, 432)), rng.normal(level, 1, (20, 216)))
    write_pooled(tmp_path / "feats.h5", videos)
    events = [{"segment": [1.0, 4.0], "label": "walk"}]
    entries = {name: {"subset": "training", "annotations": events} for name in videos}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": entries}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_reads_a_file(here: Path) -> None:
    names: dict[str, object] = {}
    exec(compile(snippet("python", "store.items()"), "README.md", "exec"), names)
    assert names["matrix"].shape == (80, 648)  # type: ignore[attr-defined]


def test_readme_feeds_actionformer(here: Path) -> None:
    first, second = snippet("bash", "--to actionformer").splitlines()
    _, *arguments = first.split()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert second.endswith("../actionformer/config.yaml")
    assert (here / "actionformer" / "config.yaml").exists()
    matrix, _ = FeatureStore(here / "feats.h5").table(ids=["wave_1"])
    stored = np.load(here / "actionformer" / "features" / "wave_1.npy")
    np.testing.assert_array_equal(stored, matrix)


@pytest.mark.slow
def test_readme_trains_with_pytorch(here: Path) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(compile(snippet("python", "DataLoader"), "README.md", "exec"), names)
    assert len(names["windows"]) == 80  # type: ignore[arg-type]
    assert names["features"].shape == (16, 648)  # type: ignore[attr-defined]
    assert torch.isfinite(names["loss"])  # type: ignore[arg-type]


def test_readme_trains_with_scikit_learn(here: Path) -> None:
    pytest.importorskip("sklearn")
    names: dict[str, object] = {}
    exec(compile(snippet("python", "GroupKFold"), "README.md", "exec"), names)
    assert np.min(names["scores"]) > 0.9  # type: ignore[call-overload]
