"""Which videos files, directories, patterns and lists stand for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from video_samples import numbers

from epam_extract.errors import ConfigError
from epam_extract.video import find_videos, probe


def _touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _ids(*sources: str | Path, **options: str | Path) -> list[str]:
    return [found.id for found in find_videos(sources, **options)]


def test_directories_are_searched_through_and_through(tmp_path: Path) -> None:
    _touch(
        tmp_path, "b.mp4", "a/x.MKV", "a/b/y.Avi", "a.txt", ".hidden.mp4", ".git/z.mp4", "B.webm"
    )
    assert _ids(tmp_path) == ["B", "a/b/y", "a/x", "b"]
    assert _ids(str(tmp_path) + "/") == ["B", "a/b/y", "a/x", "b"]


def test_ids_shared_by_two_files_keep_their_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "x.mp4", "x.avi", "y.v2.mp4", "sub/x.mp4", "x.mp4.mkv")
    assert _ids(tmp_path) == ["sub/x", "x.avi", "x.mp4", "x.mp4.mkv", "y.v2"]


def test_ids_shared_by_two_roots_get_their_names_in_front(tmp_path: Path) -> None:
    _touch(tmp_path, "one/x.mp4", "two/x.mp4", "two/y.mp4")
    expected = ["one/x", "two/x", "y"]
    assert _ids(tmp_path / "one", tmp_path / "two") == expected
    assert _ids(tmp_path / "two", tmp_path / "one") == expected
    assert _ids(*sorted(tmp_path.glob("*/*.mp4"))) == expected


def test_a_file_named_twice_counts_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a/x.mp4")
    assert _ids(tmp_path, tmp_path / "a" / "x.mp4", tmp_path / "a" / ".." / "a") == ["a/x"]


def test_symbolic_links_are_followed_and_loops_survived(tmp_path: Path) -> None:
    _touch(tmp_path, "top/a/x.mp4", "elsewhere/y.mp4")
    top = tmp_path / "top"
    (top / "a" / "loop").symlink_to(top)
    (top / "0").symlink_to(top / "a")  # sorts before, yet the real directory gives the id
    (top / "out").symlink_to(tmp_path / "elsewhere")
    (top / "linked.mp4").symlink_to(tmp_path / "elsewhere" / "y.mp4")
    (top / "gone.mp4").symlink_to(tmp_path / "nothing")
    assert _ids(top) == ["a/x", "gone", "linked", "out/y"]


def test_files_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "d/a1.mp4", "d/a2.mov", "d/a.txt", "d/e/a3.mp4", "d/clip[1].mp4", "d/raw.dat")
    monkeypatch.chdir(tmp_path)
    assert _ids("d/a1.mp4") == ["a1"]
    assert _ids("d/raw.dat") == ["raw"]  # named, so meant
    assert _ids("d/clip[1].mp4") == ["clip[1]"]
    assert _ids("d/a*") == ["a1", "a2"]
    assert _ids("d/*.dat") == ["raw"]
    assert _ids("d/**/a*.mp4") == ["a1", "e/a3"]
    assert _ids("*/e") == ["d/e/a3"]


def test_lists_come_from_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "a.mp4", "d/b.mp4", "with space.mp4")
    text = f"\ufeff# my videos\n{tmp_path}/with space.mp4\r\n\n{tmp_path}/d\n{tmp_path}/gone.mp4\n"
    names = tmp_path / "list.txt"
    names.write_text(text, encoding="utf-8")
    expected = ["b", "gone", "with space"]  # the missing one fails on its own
    assert _ids(list_file=names) == expected
    assert _ids(tmp_path / "a.mp4", list_file=names) == ["a", *expected]
    for options in ({"list_file": "-"}, {}):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text.lstrip("\ufeff")))
        assert _ids(*([] if options else ["-"]), **options) == expected


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing", "missing: no such file or directory"),
        ("empty", r"empty: no video in this directory.*\.avi.*\.mp4"),
        ("other", "other: no video in this directory"),
        ("empty/*.mp4", "no video matches this pattern"),
    ],
)
def test_nothing_found_says_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    _touch(tmp_path, "other/readme.txt", "good.mp4")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        find_videos(["good.mp4", source])


def test_bad_lists_and_no_source_at_all(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="holds no path"):
        find_videos([], list_file=tmp_path / "list.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_videos([], list_file=tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="no video given"):
        find_videos([])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_get_a_readable_id(
    sample: Callable[[str], Path], tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    path.write_bytes(sample("h264.mp4").read_bytes())
    (found,) = find_videos([tmp_path])
    assert found.id == "caf\\xe9"
    assert numbers(probe(found.path, found.id)) == list(range(40))
