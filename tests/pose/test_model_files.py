"""Where model files come from: rtmlib's tables, its cache, and which file is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from model_site import NAMES, Site, left_in_cache, model_site

from epam_extract.config import POSE_MODES, PoseConfig
from epam_extract.errors import ConfigError, PoseModelError
from epam_extract.pose import download, open_pose_model
from epam_extract.pose import model_files as pose_models
from epam_extract.pose.model_files import (
    cache_folder,
    download_models,
    ensure,
    list_models,
    model_files,
)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    yield from model_site(tmp_path, monkeypatch)


# ---------------------------------------------------------------- tables


def test_modes_are_rtmlibs_tables() -> None:
    from rtmlib import Body

    for mode in ("lightweight", "balanced", "performance"):
        detector, pose = model_files(mode)
        assert (detector.role, detector.url) == ("detector", Body.MODE[mode]["det"])
        assert (pose.role, pose.url) == ("pose", Body.MODE[mode]["pose"])
        assert pose.input_size == Body.MODE[mode]["pose_input_size"]
        assert pose.path.parent == cache_folder()
        (one,) = model_files(f"rtmo-{mode}")
        assert (one.role, one.url) == ("pose", Body.RTMO_MODE[mode]["pose"])


def test_every_mode_is_listed() -> None:
    assert {file.mode for file in list_models()} == set(POSE_MODES)
    assert len(list_models()) == 3 * 2 + 3 + 2


def test_an_unknown_mode_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"rtmo-balanced.*'fast'"):
        download_models(["fast"])


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rtmlib" / "hub" / "checkpoints"


# ---------------------------------------------------------------- downloads that work


def test_a_download_is_reported_checked_and_found_by_rtmlib(site) -> None:
    from rtmlib.tools.file import download_checkpoint

    seen: list[tuple[str, int, int | None]] = []
    paths = download_models(["lightweight"], progress=lambda *now: seen.append(now))
    assert [path.name for path in paths] == [f"{name}.onnx" for name in NAMES.values()]
    assert left_in_cache() == sorted(path.name for path in paths)
    for name in NAMES.values():
        size = len(site.files[f"/{name}.zip"])
        here = [(done, total) for which, done, total in seen if which == f"{name}.onnx"]
        assert here[0] == (0, size)
        assert here[-1] == (size, size)
        found = Path(download_checkpoint(f"{site.url}/{name}.zip"))
        assert found == cache_folder() / f"{name}.onnx"
    assert len(site.asked) == 2
    download_models(["lightweight"])
    assert len(site.asked) == 2


def test_first_use_downloads(site) -> None:
    seen: list[str] = []
    estimator = open_pose_model(
        PoseConfig(mode="lightweight"), on_download=lambda name, *_: seen.append(name)
    )
    assert set(seen) == {f"{name}.onnx" for name in NAMES.values()}
    assert estimator.source["mode"] == "lightweight"


def test_an_archive_copied_into_the_cache_is_enough(site) -> None:
    cache_folder().mkdir(parents=True)
    for name in NAMES.values():
        (cache_folder() / f"{name}.zip").write_bytes(site.files[f"/{name}.zip"])
    download_models(["lightweight"])
    assert not site.asked


def test_the_mirror_takes_over(site, monkeypatch) -> None:
    def sources(url: str) -> list[str]:
        return [f"{site.url}/gone.zip", url]

    monkeypatch.setattr(pose_models, "_sources", sources)
    download_models(["lightweight"])
    assert len(site.asked) == 4


# ---------------------------------------------------------------- digests


def test_only_the_pinned_file_is_taken(site, monkeypatch) -> None:
    name = f"{NAMES['pose']}.onnx"
    monkeypatch.setitem(pose_models.PINNED, name, "0" * 64)
    with pytest.raises(
        PoseModelError, match=f"another file .SHA-256 [0-9a-f]{{64}}, expected {'0' * 64}"
    ):
        download_models(["lightweight"])
    assert left_in_cache() == [f"{NAMES['det']}.onnx"]
    monkeypatch.delitem(pose_models.PINNED, name)
    _, pose = download_models(["lightweight"])
    monkeypatch.setitem(pose_models.PINNED, name, download.sha256(pose))
    assert download_models(["lightweight"])[1] == pose
    pose.write_bytes(pose.read_bytes() + b"\0")
    with pytest.raises(PoseModelError, match="delete a damaged download"):
        download_models(["lightweight"])


def test_every_pinned_name_is_one_of_rtmlibs() -> None:
    names = {file.name for file in list_models()}
    assert set(pose_models.PINNED) <= names
    assert all(len(digest) == 64 for digest in pose_models.PINNED.values())


FETCHED = {file.name: file for file in list_models() if file.url is not None}


@pytest.mark.parametrize("name", FETCHED)
def test_every_model_that_is_fetched_is_checked(name, tmp_path, monkeypatch) -> None:
    """Against the digest that is known, or else that of its first use."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (file,) = {one for one in list_models() if one.name == name and one.mode == FETCHED[name].mode}
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"the first")
    if name in pose_models.PINNED:
        with pytest.raises(PoseModelError, match=f"expected {pose_models.PINNED[name]}"):
            ensure(file)
        return
    assert file.mode.startswith("rtmo")
    assert ensure(file) == file.path
    assert file.record.read_text() == f"{download.sha256(file.path)}  {name}\n"
    ensure(file)
    file.path.write_bytes(b"another")
    with pytest.raises(PoseModelError, match=r"its SHA-256 is .* expected"):
        ensure(file)


def test_the_first_file_used_is_the_one_that_is_kept_to(site) -> None:
    paths = download_models(["lightweight"])
    record = paths[0].with_name(f"{paths[0].name}.sha256")
    assert record.read_text() == f"{download.sha256(paths[0])}  {paths[0].name}\n"
    paths[0].unlink()
    site.files[f"/{NAMES['det']}.zip"] = site.files[f"/{NAMES['pose']}.zip"]
    with pytest.raises(PoseModelError, match="what came is another file"):
        download_models(["lightweight"])
    record.unlink()
    download_models(["lightweight"])


def test_a_cache_that_cannot_be_written_is_told(site, tmp_path, monkeypatch) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(PoseModelError, match="XDG_CACHE_HOME"):
        download_models(["lightweight"])


def test_a_model_damaged_in_the_cache_is_told(site) -> None:
    paths = download_models(["lightweight"])
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    with pytest.raises(PoseModelError, match="delete a damaged download"):
        open_pose_model(PoseConfig(mode="lightweight"))


def test_missing_bundled_models_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pose_models, "__file__", str(tmp_path / "pose_models.py"))
    with pytest.raises(PoseModelError, match=r"demo/detector\.onnx.*install epam-extract again"):
        open_pose_model(PoseConfig(mode="bundled"))
