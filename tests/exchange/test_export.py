"""Exports: the files are what each reader expects, whole or not there, and none of them lies."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import run
from make_features import setting, write_features

from epam_extract.config import WindowConfig
from epam_extract.errors import ConfigError, StoreError
from epam_extract.exchange import FORMATS, export_features, read_annotations
from epam_extract.exchange.export_target import Target
from epam_extract.store import FeatureStore, StoredVideo


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_features(
        tmp_path / "f.h5", WindowConfig(), {"a/b.c": "25 fps", "d": "ntsc", "e": "variable"}
    )


def test_an_interrupted_export_is_finished_by_the_same_command(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, saved = tmp_path / "out", []
    real = np.save

    def broken(target: object, array: np.ndarray) -> None:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(target)
        real(target, array)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        export_features(file, "actionformer", out)
    assert len(list(out.rglob("*.npy"))) == 2 and not list(out.rglob(".*"))
    monkeypatch.setattr(np, "save", real)
    done = export_features(file, "actionformer", out, jobs=3)
    assert (done.videos, done.written) == (3, 1)
    assert export_features(file, "actionformer", out).written == 0
    assert len(list(out.rglob("*.npy"))) == 3


def test_what_changed_is_written_again(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_features(file, "segmentation", out)
    assert not (out / "groundTruth").exists()
    truth = out / "groundTruth" / "d.txt"
    for label in ("kick", "throw"):  # the features are there already
        (tmp_path / "a.csv").write_text(f"d,1,2,{label}\n")
        annotations = read_annotations(tmp_path / "a.csv")
        done = export_features(file, "segmentation", out, annotations=annotations)
        assert done.written == 0 and set(truth.read_text().split()) == {"background", label}
    before = np.load(out / "features" / "d.npy")
    write_features(file, WindowConfig(), {"d": "ntsc"}, times=2)
    assert export_features(file, "segmentation", out).written == 1
    np.testing.assert_array_equal(np.load(out / "features" / "d.npy"), 2 * before)


def test_one_file_links_to_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_features(Path("f.h5"), WindowConfig(), {"50%b/v": "25 fps", "d": "ntsc"})
    Path("a.csv").write_text("d,1,2,kick\n50%b/v,2,3,kick\n")
    out = Path("linked %b/feats.hdf5")
    for _ in range(2):
        done = export_features(
            file, "actionformer", out, annotations=read_annotations(Path("a.csv"))
        )
    assert done.videos == 2 and out.stat().st_size < 20_000
    config = (out.parent / "feats.config.yaml").read_text()
    named = Path(json.loads(config.split("feat_folder: ")[1].split(",\n")[0]))
    assert named.is_absolute() and named == out.resolve()
    database = json.loads((out.parent / "feats.annotations.json").read_text())["database"]
    monkeypatch.chdir(tmp_path.parent)  # where the training runs
    with FeatureStore(tmp_path / file) as store, h5py.File(named) as h5:
        assert h5.keys() == database.keys() == {"50%b__v", "d"}
        for name in store:
            both = np.concatenate([store[name]["rgb_pooled"], store[name]["pose_pooled"]], 1)
            np.testing.assert_array_equal(h5[name.replace("/", "__")][()], both)
    (tmp_path / file).unlink()
    with h5py.File(named) as h5:
        assert np.isnan(h5["d"][()]).all()  # no training takes that for features
    with pytest.raises(ConfigError, match="only --to actionformer writes one"):
        export_features(tmp_path / file, "npy", Path("n.hdf5"))
    (tmp_path / "mine.hdf5").touch()
    file = write_features(tmp_path / "f.h5", WindowConfig(), {"d": "ntsc"})
    with pytest.raises(ConfigError, match="was not made by epam-extract"):
        export_features(file, "actionformer", tmp_path / "mine.hdf5")


def test_readers_see_the_annotated_videos_and_their_classes_alone(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("d,1,2,kick\ngone,1,2,throw\n")
    result = run(
        *("export", file, tmp_path / "o", "--to", "actionformer"),
        *("--annotations", tmp_path / "a.csv"),
    )
    assert result.exit_code == 0
    assert "1 video annotated but not in the file: gone" in result.stderr
    assert "2 videos without annotations: a/b.c, e" in result.stderr
    database = json.loads((tmp_path / "o" / "annotations.json").read_text())["database"]
    assert database.keys() == {"d"}  # ActionFormer would train on the others as if nothing happened
    config = (tmp_path / "o" / "config.yaml").read_text()
    assert setting(config, "num_classes") == 1  # it refuses a class that no video has
    assert (tmp_path / "o" / "missing.txt").read_text().splitlines() == [
        "gone: annotated, but not in the file",
        "a/b.c: in the file, but not annotated",
        "e: in the file, but not annotated",
    ]


def test_a_damaged_video_costs_only_itself(file: Path, tmp_path: Path) -> None:
    with h5py.File(file, "r+") as h5:
        del h5["videos/d/pose_pooled"]
    result = run("export", file, tmp_path / "o", "--to", "npy")
    assert result.exit_code == 3 and "d: damaged in the file" in result.stderr
    assert not (tmp_path / "o" / "d.npy").exists()
    assert (tmp_path / "o" / "e.npy").exists() and (tmp_path / "o" / "a" / "b.c.npy").exists()
    assert "d: damaged in the file" in (tmp_path / "o" / "missing.txt").read_text()


def test_a_video_that_cannot_be_read_is_left_out_of_everything(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Target.matrix

    def broken(target: Target, video: StoredVideo) -> np.ndarray:
        if video.id == "d":
            raise StoreError("a part of it is damaged")
        return real(target, video)

    monkeypatch.setattr(Target, "matrix", broken)
    (tmp_path / "a.csv").write_text("d,1,2,kick\ne,1,2,throw\n")
    annotations = read_annotations(tmp_path / "a.csv")
    done = export_features(file, "actionformer", tmp_path / "o", annotations=annotations)
    assert (done.videos, done.written, done.failed) == (2, 2, {"d": "a part of it is damaged"})
    database = json.loads((tmp_path / "o" / "annotations.json").read_text())["database"]
    assert database.keys() == {"e"}
    assert setting((tmp_path / "o" / "config.yaml").read_text(), "num_classes") == 1


def test_a_full_disk_is_one_sentence(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: object, array: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    result = run("export", file, tmp_path / "o", "--to", "npy")
    assert result.exit_code == 1 and len(result.stderr.strip().splitlines()) == 1
    assert "No space left on device; what is written whole stays" in result.stderr
    assert not list((tmp_path / "o").rglob("*.npy"))


@pytest.mark.slow
def test_what_cannot_be_exported_is_one_sentence(file: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").touch()
    export_features(file, "tsu", tmp_path / "tsu")
    (tmp_path / "a.json").write_text('{"videos": []}')
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    (tmp_path / "c.csv").write_text("d,1,2,x,fold 1\n")
    single = write_features(tmp_path / "s.h5", WindowConfig(grid="single"), {"v": "25 fps"})
    alike = write_features(tmp_path / "x.h5", WindowConfig(), {"a/b": "25 fps", "a__b": "25 fps"})
    beside = write_features(tmp_path / "y.h5", WindowConfig(), {"a": "ntsc", "a_rgb": "ntsc"})
    for arguments, said in (
        ([file, tmp_path / "o", "--to", "mat"], "--to must be one of actionformer, opentad"),
        ([file, mine, "--to", "npy"], "has thesis.tex in it"),
        ([file, tmp_path / "tsu", "--to", "npy"], "holds an export of another format"),
        ([file, tmp_path / "o", "--to", "npy", "--features", "rgb"], "cannot export rgb"),
        ([file, tmp_path / "o", "--to", "npy", "--annotations", tmp_path / "a.json"], "database"),
        ([file, tmp_path / "o", "--to", "npy", "--annotations", tmp_path / "b.csv"], "columns"),
        ([single, tmp_path / "p", "--to", "opentad"], "nothing to localize"),
        ([alike, tmp_path / "q", "--to", "tsu"], "would both be written to a__b"),
        ([beside, tmp_path / "r", "--to", "npy"], "would both be written to a_rgb.npy"),
        ([file, tmp_path / "o", "--to", "npy", "--annotations", tmp_path / "c.csv"], "'fold 1'"),
    ):
        result = run("export", *arguments)
        assert result.exit_code == 2, result.stderr
        assert len(result.stderr.strip().splitlines()) == 1 and said in result.stderr
    assert run("export", tmp_path / "none.h5", tmp_path / "o", "--to", "npy").exit_code == 1
    assert sorted(path.name for path in mine.iterdir()) == ["thesis.tex"]


def test_annotations_of_another_cut_are_refused(file: Path, tmp_path: Path) -> None:
    entry = {"subset": "validation", "duration": 30.0, "annotations": []}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"d": entry}}))
    annotations = read_annotations(tmp_path / "a.json")
    with pytest.raises(ConfigError, match=r"d is annotated as 30 s, measured 6\.77"):
        export_features(file, "actionformer", tmp_path / "o", annotations=annotations)


def test_every_format_is_named_in_the_help() -> None:
    words = run("export", "--help").stdout.replace("\n", " ")
    assert all(name in words for name in FORMATS)
