"""The folder of fetched videos: filled ahead, in order and within its bounds, and gone at last."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from epam_extract.errors import DecodeError, FetchError, MachineError
from epam_extract.records import RemoteFile
from epam_extract.video import fetch
from epam_extract.video.fetch import Fetcher


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # read, and gone
        return 0


class Shelf:
    """Stands in for the stores: files of given sizes, whose fetching is watched."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
        self.folder, self.most, self.taken = folder, 0, []
        self.lock = threading.Lock()
        self.files = {
            f"v{number:02d}": RemoteFile(f"x://v{number:02d}.mp4", size, 1, source="x://", path="")
            for number, size in enumerate(sizes)
        }
        monkeypatch.setattr(fetch, "fetch", self.fetch)

    def fetch(self, file: RemoteFile, to: Path, on_bytes) -> None:  # type: ignore[no-untyped-def]
        with self.lock:
            self.taken.append(file.address)
        to.write_bytes(bytes(file.size or 5))
        on_bytes(file.size or 5)
        with self.lock:
            self.most = max(self.most, sum(map(size_of, self.folder.iterdir())))

    def fetcher(self, limit: int, stop: threading.Event | None = None) -> Fetcher:
        return Fetcher(
            self.folder,
            self.files,
            limit=limit,
            stop=stop or threading.Event(),
            on_bytes=lambda seconds, count: None,
        )


def wait_until(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("limit", "most"), [(10, 10), (4, 9), (1000, 31)])
def test_the_folder_holds_no_more_than_it_may(
    limit: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 4, 2, 9, 3, 1, 5, 7)
    with shelf.fetcher(limit) as fetcher:
        for video_id, file in shelf.files.items():
            with fetcher.fetched(video_id) as path:
                assert path is not None and path.stat().st_size == file.size
                assert path.suffix == ".mp4"
            assert not path.exists()
        assert not list(shelf.folder.iterdir())
    assert shelf.most <= most and len(shelf.taken) == 7
    assert not shelf.folder.exists()


def test_files_are_fetched_ahead_until_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 4, 4, 9, 1)
    with shelf.fetcher(10) as fetcher:
        wait_until(lambda: len(shelf.taken) == 2)
        time.sleep(0.05)
        assert shelf.taken == ["x://v00.mp4", "x://v01.mp4"]  # v03 would fit, but not before v02
        with fetcher.fetched("v00"), fetcher.fetched("v01"):
            pass
        with fetcher.fetched("v02") as path:
            assert path is not None
        with fetcher.fetched("v03") as path:
            assert path is not None


def test_a_file_of_unknown_size_has_the_folder_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 2, 0, 2)
    with shelf.fetcher(10) as fetcher:
        for video_id in shelf.files:
            with fetcher.fetched(video_id) as path:
                assert path is not None
    assert shelf.most == 5
    with shelf.fetcher(4) as fetcher:
        with fetcher.fetched("v00"):
            pass
        with pytest.raises(FetchError, match="--fetch-ahead"), fetcher.fetched("v01"):
            pass


def test_a_stop_ends_the_waiting_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, stop = Shelf(tmp_path / "f", monkeypatch, 4, 4), threading.Event()
    with shelf.fetcher(4, stop) as fetcher, fetcher.fetched("v00") as path:
        assert path is not None
        threading.Timer(0.05, stop.set).start()
        with fetcher.fetched("v01") as nothing:
            assert nothing is None
    assert not shelf.folder.exists()


def test_one_videos_trouble_is_not_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 4, 4, 4)
    with shelf.fetcher(4) as fetcher:
        with pytest.raises(RuntimeError), fetcher.fetched("v00"):
            raise RuntimeError("not foreseen")
        with (
            pytest.raises(DecodeError, match=r"^x://v01\.mp4: damaged"),
            fetcher.fetched("v01") as path,
        ):
            raise DecodeError(f"{path}: damaged")
        with fetcher.fetched("v02") as path:
            assert path is not None


def test_a_machines_failure_ends_the_waiting_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 4, 4)
    with shelf.fetcher(4) as fetcher:
        with pytest.raises(MachineError), fetcher.fetched("v00"):
            raise MachineError("out of memory")
        with fetcher.fetched("v01") as nothing:
            assert nothing is None


def test_parts_of_a_file_that_follow_each_other_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 4, 4)
    one, other = shelf.files.values()
    shelf.files = {"a/0-1": one, "a/1-2": one, "b": other, "a/x": one}
    with shelf.fetcher(4) as fetcher:
        with fetcher.fetched("a/0-1") as first:
            pass
        assert first is not None and first.exists() and shelf.taken == [one.address]
        with fetcher.fetched("a/1-2") as second:
            assert second == first
        assert not first.exists()
        for video_id in ("b", "a/x"):
            with fetcher.fetched(video_id) as path:
                assert path is not None and path != first
    assert shelf.taken == [one.address, other.address, one.address]
    assert not shelf.folder.exists()


def test_all_parts_of_a_file_that_cannot_be_fetched_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path / "f", monkeypatch, 0)
    (file,) = shelf.files.values()
    shelf.files = {"a/0-1": file, "a/1-2": file}
    with shelf.fetcher(4) as fetcher:
        for video_id in shelf.files:
            with pytest.raises(FetchError, match="--fetch-ahead"), fetcher.fetched(video_id):
                pass
    assert len(shelf.taken) == 1
