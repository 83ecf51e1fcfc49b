"""What can be no video is refused before anything is opened."""

from __future__ import annotations

import os
import socket
from fractions import Fraction
from pathlib import Path

import pytest

from epam_extract.errors import ProbeError
from epam_extract.video.files import file_status, is_folder_of_pictures, real_path, stamp_of


def test_a_regular_file_has_a_status_and_a_stamp(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(b"1234")
    os.utime(path, ns=(1, 2_000_000_003))
    assert file_status(path).st_size == 4
    assert stamp_of(path) == (4, 2_000_000_003)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "cannot be opened: No such file or directory"),
        ("folder", "is a directory, not a video"),
        ("empty", r"is empty \(0 bytes\)"),
        ("pipe", "is not a regular file"),
        ("socket", "is not a regular file"),
        ("dangling", r"is a broken link \(No such file or directory\)"),
        ("loop", r"is a broken link \(Too many levels of symbolic links\)"),
    ],
)
def test_anything_else_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("v.mp4")
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":  # by a short name: its path is limited to some 100 bytes
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind in ("dangling", "loop"):
        path.symlink_to("gone" if kind == "dangling" else path)
    with pytest.raises(ProbeError, match=rf"^v\.mp4: {words}$"):
        file_status(path)


def test_a_name_with_a_null_character_is_one_sentence() -> None:
    for look in (file_status, stamp_of):
        with pytest.raises(ProbeError, match=r"cannot be opened: .*null"):
            look(Path("a\0b.mp4"))


def test_folders_are_videos_only_where_they_have_a_rate(tmp_path: Path) -> None:
    assert is_folder_of_pictures(tmp_path, Fraction(25))
    assert not is_folder_of_pictures(tmp_path, None)
    assert not is_folder_of_pictures(tmp_path / "gone", Fraction(25))
    assert not is_folder_of_pictures(Path("a\0b"), Fraction(25))


def test_links_stay_as_the_user_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    monkeypatch.chdir(tmp_path)
    assert real_path(Path("link/../link/v.mp4")) == tmp_path / "link" / "v.mp4"
