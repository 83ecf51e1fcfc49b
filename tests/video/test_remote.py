"""What addresses stand for, how they are named and shown, and which are refused."""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import fsspec
import pytest
from elsewhere import Memory, Site, memory, site

from epam_extract.errors import ConfigError
from epam_extract.records import RemoteFile
from epam_extract.video import find_videos, remote
from epam_extract.video.remote import is_address, shown_address, without_secrets

__all__ = ["memory", "site"]  # fixtures


def found(*sources: str, **options: object) -> dict[str, str]:
    """Id -> address."""
    return {video.id: str(video.path) for video in find_videos(sources, **options)}


def refusal(*sources: str) -> str:
    with pytest.raises(ConfigError) as refused:
        find_videos(sources)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ("memory://v", ["a", "s/b", "s/t/c"]),
        ("memory://v/", ["a", "s/b", "s/t/c"]),
        ("memory://v/s", ["b", "t/c"]),
        ("memory://v/a.mp4", ["a"]),
        ("memory://v/notes.txt", ["notes"]),
        ("memory://v/*.mp4", ["a"]),
        ("memory://v/*", ["a", "s/b", "s/t/c"]),
        ("memory://v/**/*.mkv", ["s/t/c"]),
        ("memory://v/*.txt", ["notes"]),
        ("memory://v/[ab].mp4", ["a"]),
    ],
)
def test_files_folders_and_patterns_of_a_store(source: str, ids: list[str], memory: Memory) -> None:
    for name in ("a.mp4", "s/b.MP4", "s/t/c.mkv", ".hidden/d.mp4", "s/.e.mp4", "notes.txt"):
        memory.add(f"v/{name}")
    memory.add("v2/x.mp4")
    assert list(found(source)) == ids
    assert all(address.startswith("memory://v/") for address in found(source).values())


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ("", ["a b", "s/t/c", "s/ü"]),
        ("s", ["t/c", "ü"]),
        ("s/", ["t/c", "ü"]),
        ("a%20b.mp4", ["a b"]),
        ("a%20b.mp4?version=2#top", ["a b"]),
        ("notes.txt", ["notes"]),
        ("*.mp4", ["a b"]),
        ("*", ["a b", "s/t/c", "s/ü"]),
        ("**/*.mkv", ["s/t/c"]),
        ("s/*.mp4", ["ü"]),
    ],
)
def test_files_folders_and_patterns_of_a_web_server(
    source: str, ids: list[str], site: Site, tmp_path: Path
) -> None:
    for name in ("a b.mp4", "s/ü.mp4", "s/t/c.mkv", ".hidden/d.mp4", "s/.e.mp4", "notes.txt"):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
        os.utime(path, (1e9, 1e9))
    listed = find_videos([site.url(source)])
    assert [video.id for video in listed] == ids
    assert {video.size_and_time() for video in listed} == {(4, 10**18)}
    assert site.fetched == []  # lists and headers alone


def test_a_page_leads_nowhere_else(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site/v").mkdir()
    (tmp_path / "site/out.mp4").write_bytes(b"12")
    links = ["in.mp4", "../out.mp4", "/out.mp4", "./", "v/", "gone/", "http://127.0.0.1:9/x.mp4"]
    links += ["?C=N", ".."]
    page = "".join(f'<a href="{link}">x</a>' for link in links)
    (tmp_path / "site/v/index.html").write_text(page)
    (tmp_path / "site/v/in.mp4").write_bytes(b"12")
    assert list(found(site.url("v/"))) == ["in"]


def test_a_signature_of_a_folder_opens_its_files(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site/a.mp4").write_bytes(b"12")
    site.signature = "deadbeef"
    (video,) = find_videos([site.url("?signature=deadbeef")])
    assert (video.id, str(video.path), video.size_and_time()[0]) == ("a", site.url("a.mp4"), 2)
    assert isinstance(video.path, RemoteFile)
    remote.fetch(video.path, tmp_path / "here", lambda count: None)
    assert (tmp_path / "here").read_bytes() == b"12"


def test_names_are_as_short_as_possible_and_never_shared(memory: Memory, tmp_path: Path) -> None:
    for name in ("v/a.mp4", "w/a.mp4", "w/b.mp4", "w/b.mkv", "w//b.mp4"):
        memory.add(name)
    (tmp_path / "c.mp4").touch()
    assert list(found("memory://v", "memory://w/a.mp4", str(tmp_path))) == ["c", "v/a", "w/a"]
    assert list(found("memory://v", "memory:///v/a.mp4", "memory://v/*.mp4")) == ["a"]
    twice = found("memory://w/b.mp4", "memory://w//b.mp4")
    assert len(twice) == 2 and all(re.fullmatch(r"b~[0-9a-f]{8}", name) for name in twice)


def test_lists_hold_addresses_too(memory: Memory, tmp_path: Path) -> None:
    memory.add("v/a.mp4")
    (tmp_path / "list.txt").write_text("memory://v/a.mp4\nmemory://v/gone.mp4\nnope://x/b.mp4\n")
    assert found(list_file=tmp_path / "list.txt") == {
        "a": "memory://v/a.mp4",
        "b": "nope://x/b.mp4",
        "gone": "memory://v/gone.mp4",
    }


def test_an_address_is_never_taken_for_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory:" / "v").mkdir(parents=True)
    (tmp_path / "memory:" / "v" / "a.mp4").touch()
    (tmp_path / "a::b.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert "no such file" in refusal("memory://v/a.mp4")
    assert list(found("a::b.mp4")) == ["a::b"]
    with pytest.raises(ConfigError, match="an address is text"):
        find_videos([Path("s3://bucket/a.mp4")])
    assert not is_address("C:/videos") and not is_address("/a/b") and is_address("zip://a::s3://b")


def test_without_the_extra_an_address_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("aiohttp", "s3fs", "gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(fsspec.core, "get_filesystem_class", missing_class)
    for address in ("s3://bucket/v", "gs://bucket/v", "https://host/v/", "hf://datasets/a/b"):
        assert "pip install 'epam-extract[remote]'" in refusal(address)
    assert "Install adlfs" in refusal("abfs://container/v")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert "pip install 'epam-extract[remote]'" in refusal("memory://v")


def missing_class(protocol: str) -> type:
    raise ImportError("Install adlfs to access Azure")


def test_what_is_not_there_or_not_known_is_one_sentence(memory: Memory) -> None:
    memory.add("v/notes.txt")
    assert "no video there" in refusal("memory://v")
    assert "no video there" in refusal("memory://v/*.mp4")
    assert "there is no such file" in refusal("memory://v/gone.mp4")
    assert "Protocol not known" in refusal("nope://v")
    assert "chained" in refusal("zip://a.mp4::memory://v/x.zip")


def test_times_and_marks_of_many_stores_are_numbers() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, 123456, timezone.utc)
    whole = int(moment.timestamp())
    exact = whole * 10**9 + 123456000
    same = [
        {"LastModified": moment},
        {"mtime": moment.replace(tzinfo=None)},
        {"updated": "2024-05-06T07:08:09.123456Z"},
        {"mtime": moment.timestamp()},
        {"ETag": "x", "last_modified": moment, "created": 1},
    ]
    assert {remote._stamp(info) for info in same} == {exact}
    assert remote._stamp({"Last-Modified": "Mon, 06 May 2024 07:08:09 GMT"}) == whole * 10**9
    marks = [remote._stamp({"ETag": mark}) for mark in ("x", "y", "x")]
    assert marks[0] == marks[2] != marks[1] and 0 < marks[0] < 2**63
    assert remote._stamp({"blob_id": "x", "created": 5}) == marks[0]
    assert remote._stamp({"created": 5}) == 5 * 10**9
    assert remote._stamp({"mtime": "yesterday"}) == remote._stamp({}) == 0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pa55word@host/v/a.mp4?signature=deadbeef#x", "https://host/v/a.mp4"),
        ("s3://me:pa55word@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("ftp://me@host:21/a b.mp4", "ftp://host:21/a b.mp4"),
        ("https://me:p@ss@host/a", "https://host/a"),
        ("hf://datasets/user/repo@main/a.mp4", "hf://datasets/user/repo@main/a.mp4"),
        ("403, url='https://host/a?signature=deadbeef'", "403, url='https://host/a'"),
        ("one https://h/a?x=1 two https://u:p@h/b", "one https://h/a two https://h/b"),
        ("/videos/what?.mp4", "/videos/what?.mp4"),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, clean: str) -> None:
    assert without_secrets(text) == clean


def test_whole_addresses_lose_whatever_their_secrets_are_made_of() -> None:
    for secret in ("pa'ss", 'pa"ss', "p@ss", "pa ss", "p?ss#"):
        for address in (f"https://host/a.mp4?signature={secret}", f"https://host/a.mp4#{secret}"):
            assert shown_address(address) == "https://host/a.mp4"
        if "?" not in secret:
            assert shown_address(f"ftp://me:{secret}@host/a.mp4") == "ftp://host/a.mp4"
    assert shown_address("https://host?signature=deadbeef") == "https://host"


def test_a_name_has_no_secret_of_a_bucket() -> None:
    name, file = remote.missing_remote("s3://me:pa55word@bucket/a.mp4")
    assert (str(name), file.address) == ("/s3/bucket/a.mp4", "s3://bucket/a.mp4")
    assert "pa55word" not in f"{file} {file!r}"
