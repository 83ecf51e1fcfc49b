"""Feature files made to mislead: what reads or writes one stays in it, and answers at once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from faulty_disk import tmp_path as tmp_path
from make_rows import HEADER, begin, make_rows, make_track, make_video, write_video
from rich.console import Console

from epam_extract.cli.info_table import info_report
from epam_extract.errors import EpamExtractError, StoreError, VideoError
from epam_extract.store import FeatureStore, StoredVideo, StoreWriter
from epam_extract.store.describe import describe
from epam_extract.store.feature_file import FeatureFile
from epam_extract.store.verify import repair, uncovered, verify

SECRET = b"what nobody asked for " * 400
MEMORY = 4 << 30  # bytes of address space for whatever reads a hostile file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two complete videos and a begun one; beside them, files that are none of a reader's."""
    path = tmp_path / "feats.h5"
    with StoreWriter(path, HEADER) as store:
        for video_id in ("a", "b"):
            write_video(store, video_id, 2, 20)
        begin(store, make_video("half", 40))
        store.append_windows("half", make_rows("half", 0, 1))
        store.append_keypoints("half", 0, make_track("half", 0, 16))
        store.commit()
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["rows"] = np.ones((2, 432), np.float32)
        h5.create_group("video").attrs["complete"] = True
    return path


def external_storage(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    secret = Path(video.file.filename).with_name("secret")
    files = [(os.fspath(secret), 0, h5py.h5f.UNLIMITED)]
    video.create_dataset("rgb_pooled", (2, 432), "<f4", external=files)


def virtual_dataset(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    layout = h5py.VirtualLayout((2, 432), "<f4")
    other = Path(video.file.filename).with_name("other.h5")
    layout[:] = h5py.VirtualSource(os.fspath(other), "rows", (2, 432))
    video.create_virtual_dataset("rgb_pooled", layout)


def external_link(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video["rgb_pooled"] = h5py.ExternalLink("other.h5", "rows")


def soft_link(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video["rgb_pooled"] = h5py.SoftLink("/videos/b/rgb_pooled")


def shared_array(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video["rgb_pooled"] = video.parent["b/rgb_pooled"]


def huge_contiguous(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video.create_dataset("rgb_pooled", (1 << 50, 432), "<f4")


def huge_chunked(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video.create_dataset("rgb_pooled", (1 << 50, 432), "<f4", chunks=(1, 432))


def huge_chunk(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video.create_dataset(
        "rgb_pooled", (2, 432), "<f4", chunks=(1 << 20, 432), maxshape=(None, 432), compression=1
    )


def texts_for_numbers(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video["rgb_pooled"] = np.full((2, 432), b"text", object).astype(h5py.string_dtype())


def filter_of_others(video: h5py.Group) -> None:
    del video["rgb_pooled"]
    video.create_dataset("rgb_pooled", (2, 432), "<f4", chunks=True, scaleoffset=2)


def attribute_of_many(video: h5py.Group) -> None:
    video.attrs["num_windows"] = np.arange(3)


def attribute_of_one(video: h5py.Group) -> None:
    video.attrs["num_windows"] = np.array([2])


def attribute_of_small_ones(video: h5py.Group) -> None:  # as long as one large one
    video.attrs["num_windows"] = np.arange(8, dtype=np.int8)


def attribute_of_none(video: h5py.Group) -> None:
    video.attrs["duration"] = h5py.Empty("<f8")


def numbers_for_text(video: h5py.Group) -> None:  # read as text, HDF5 crashes
    value = np.empty((), h5py.vlen_dtype(np.int64))
    value[()] = np.arange(2, dtype=np.int64)
    video.attrs.create("source", value, dtype=h5py.vlen_dtype(np.int64))


def attribute_of_text(video: h5py.Group) -> None:
    video.attrs["num_frames"] = "many"


HOSTILE: list[Callable[[h5py.Group], None]] = [
    external_storage,
    virtual_dataset,
    external_link,
    soft_link,
    shared_array,
    huge_contiguous,
    huge_chunked,
    huge_chunk,
    texts_for_numbers,
    filter_of_others,
    attribute_of_many,
    attribute_of_one,
    attribute_of_small_ones,
    attribute_of_none,
    attribute_of_text,
    numbers_for_text,
]


@pytest.mark.parametrize("deed", HOSTILE)
def test_a_video_that_leads_elsewhere_is_found_and_repaired(
    path: Path, deed: Callable[[h5py.Group], None]
) -> None:
    with h5py.File(path, "r+") as h5:
        deed(h5["videos/a"])
    problems = verify(path)
    assert {problem.video_id for problem in problems} <= {"a", "b"} and problems
    assert describe(path)["failures"] == []
    with FeatureStore(path) as store, FeatureFile(path) as file:
        for name in ("rgb_pooled", "frames"):
            for read in (lambda array: array[:], lambda array: array[0]):
                try:
                    content = read(StoredVideo(file, "a")[name]).tobytes()
                except StoreError:
                    continue
                assert content not in SECRET and SECRET[:40] not in content
        assert store["b"]["rgb_pooled"].shape == (2, 432)
    repair(path, problems)
    assert verify(path) == []
    assert (path.with_name("secret")).read_bytes() == SECRET


@pytest.mark.parametrize("deed", [external_storage, virtual_dataset, external_link, soft_link])
def test_resuming_a_video_that_leads_elsewhere_writes_nothing_there(
    path: Path, deed: Callable[[h5py.Group], None]
) -> None:
    with h5py.File(path, "r+") as h5:
        deed(h5["videos/half"])
    other = path.with_name("other.h5").read_bytes()
    with StoreWriter(path, HEADER) as store, pytest.raises((EpamExtractError, ValueError)):
        store.append_windows("half", make_rows("half", 1, 2))
        store.commit()
    assert path.with_name("secret").read_bytes() == SECRET
    assert path.with_name("other.h5").read_bytes() == other


@pytest.mark.parametrize(
    "link",
    [
        h5py.ExternalLink("other.h5", "video"),
        h5py.SoftLink("/videos/a"),
        h5py.SoftLink("/nowhere"),
        "/videos",
        "/videos/a",
        "/",
    ],
    ids=str,
)
def test_links_are_not_followed_and_circles_end(path: Path, link: object) -> None:
    with h5py.File(path, "r+") as h5:
        h5["videos/a/x"] = h5[link] if isinstance(link, str) else link
    problems = verify(path)
    assert problems[0].video_id.startswith("a/x")
    assert describe(path)["totals"]["videos"] == 2  # type: ignore[index]
    with FeatureStore(path) as store:
        assert store.ids == ["a", "b"]
    repair(path, problems)
    assert verify(path) == []
    with FeatureStore(path) as store:
        assert {"a", "b"} & set(store.ids)


@pytest.mark.parametrize("name", ["..", "x" * 20_000])
def test_names_that_leave_a_folder_are_no_videos(path: Path, name: str) -> None:
    with h5py.File(path, "r+") as h5:
        h5.move("videos/b", f"videos/{name}")
    with FeatureStore(path) as store:
        assert store.ids == ["a"]
    (problem,) = verify(path)
    assert problem.video_id == name
    with StoreWriter(path, HEADER) as store, pytest.raises(VideoError, match="name"):
        begin(store, make_video(name))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("config", "{no JSON"),
        ("config", "[]"),
        ("config", "{}"),
        ("config", ""),
        ("config", "[" * 100_000),
        ("config", '{"features": {"pooled": 1}, "stored_dtype": "f16", "compression": "none"}'),
        ("config", '{"features": ["pooled"], "stored_dtype": [], "compression": "none"}'),
        ("config", '{"features": ["pooled"], "stored_dtype": "f16", "compression": "rar"}'),
        ("weights", "7"),
        ("schema_version", -5),
        ("schema_version", "one"),
        ("created", None),
        ("tool", np.arange(9)),
    ],
)
def test_attributes_that_are_no_description_are_one_sentence(
    path: Path, attribute: str, value: object
) -> None:
    with h5py.File(path, "r+") as h5:
        if value is None:
            del h5.attrs[attribute]
        else:
            h5.attrs[attribute] = value
    for look in (verify, describe, FeatureStore, lambda path: repair(path, [])):
        with pytest.raises(StoreError) as failure:
            look(path)
        assert len(str(failure.value)) < 500
        assert str(path) in str(failure.value)


def test_failures_that_share_one_long_text_are_refused(path: Path) -> None:
    """As h5repack or a forger could make them: 4000 rows of one text of 1 MB."""
    with h5py.File(path, "r+") as h5:
        table = h5["failures"]
        table.resize(1, 0)
        table[0] = ("x", "decode", "y" * (1 << 20), 0, 0)
        where = table.id.get_chunk_info(0).byte_offset
        table.resize(64, 0)
        table.file.flush()
    data = bytearray(path.read_bytes())
    row = data[where : where + 64]
    data[where : where + 64 * 64] = row * 64
    path.write_bytes(data)
    with pytest.raises(StoreError, match="more than the file can hold"):
        FeatureStore(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "feats.h5"
    os.mkfifo(pipe)
    for target in (pipe, Path("/dev/null")):
        for look in (verify, describe, FeatureStore, lambda path: StoreWriter(path, HEADER)):
            with pytest.raises(StoreError, match="no regular file"):
                look(target)
    assert [path.name for path in tmp_path.iterdir()] == ["feats.h5"]


def test_a_changed_attribute_is_found(path: Path) -> None:
    for holder, attribute, value in (
        ("/", "pose_source", '{"mode": "other"}'),
        ("videos/a", "feat_stride", 15.0),
        ("videos/b", "source", "elsewhere.mp4"),
    ):
        with h5py.File(path, "r+") as h5:
            before = h5[holder].attrs[attribute]
            h5[holder].attrs[attribute] = value
        (problem,) = verify(path)
        assert "attributes have changed" in problem.message
        assert problem.video_id == holder.rpartition("/")[2]
        assert problem.droppable == (holder != "/")
        with h5py.File(path, "r+") as h5:
            h5[holder].attrs[attribute] = before
        assert verify(path) == []


@pytest.mark.parametrize(
    "put",
    [
        lambda video, name, secret: video.create_dataset(
            name, (1, 16, 17, 2), "<f4", external=[(secret, 0, h5py.h5f.UNLIMITED)]
        ),
        lambda video, name, _: video.__setitem__(name, h5py.SoftLink(f"/videos/a/{name}")),
        lambda video, name, _: video.create_dataset(
            name, (1 << 20, 1 << 20, 17, 2), "<f4", chunks=(1, 16, 17, 2)
        ),
        lambda video, name, _: None,
    ],
    ids=["external", "link", "huge", "missing"],
)
@pytest.mark.parametrize("name", ["keypoints", "keypoint_scores"])
def test_keypoints_to_go_on_with_lie_in_the_file(
    put: Callable[[h5py.Group, str, str], object], name: str, path: Path
) -> None:
    with StoreWriter(path, HEADER) as store:
        assert store.keypoints("half", range(4, 9)).keypoints.shape[1:] == (5, 17, 2)
    with h5py.File(path, "r+") as h5:
        del h5["videos/half"][name]
        put(h5["videos/half"], name, os.fspath(path.with_name("secret")))
    with (
        StoreWriter(path, HEADER) as store,
        pytest.raises(StoreError, match="a part of it is damaged"),
    ):
        store.keypoints("half", range(4, 9))


def shown(contents: dict[str, object]) -> str:
    """What ``info`` prints, on one line."""
    console = Console(width=200, file=io.StringIO())
    console.print(info_report(contents))
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_older_files_without_checksums_of_attributes_are_read_and_told(path: Path) -> None:
    assert uncovered(path) == 0
    with h5py.File(path, "r+") as h5:
        for holder in (h5, h5["videos/a"]):
            del holder.attrs["attributes_checksum"]
    assert uncovered(path) == 2
    whole = describe(path)
    assert whole["totals"]["uncovered"] == 2  # type: ignore[index]
    assert not whole["videos"][0]["covered"] and whole["videos"][1]["covered"]  # type: ignore[index]
    assert "without checksums of the attributes" in shown(whole)
    assert verify(path) == []
    with FeatureStore(path) as store:
        assert store.ids == ["a", "b"]


@pytest.mark.slow
def test_hostile_files_need_no_memory(path: Path) -> None:
    """All of them in one file, looked at as the command does, with little memory."""
    with h5py.File(path, "r+") as h5:
        huge_contiguous(h5["videos/a"])
        huge_chunked(h5["videos/b"])
        h5["videos/a/x"] = h5["videos"]
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))\n"
        "from epam_extract.store.in_child import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", path, '{"videos": null}'],
        capture_output=True,
        check=True,
    )
    problems = json.loads(done.stdout)["result"]["problems"]
    assert {problem["video_id"] for problem in problems} == {"a", "b", "a/x"}
