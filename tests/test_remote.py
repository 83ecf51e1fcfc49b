"""Videos at addresses: found, fetched into a bounded folder, and the same as files in all else."""

from __future__ import annotations

import base64
import errno
import http.server
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import fsspec
import numpy as np
import pytest
from make_videos import write_video
from test_pipeline import POOLED, StandInNetwork, StandInPose, contents, no_backbone
from typer.testing import CliRunner

from epam_extract import pipeline
from epam_extract.cli import app
from epam_extract.cli.extract import bytes_of
from epam_extract.cluster.shards import PlanDraft
from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError, DecodeError, FetchError, MachineError, StoreError
from epam_extract.pipeline import extract_features
from epam_extract.progress import Progress
from epam_extract.records import RemoteFile
from epam_extract.store import FeatureStore
from epam_extract.verify import verify
from epam_extract.video import FoundVideo, fetch, find_videos, remote
from epam_extract.video.fetch import Fetcher, clear_folder, fetched_folder
from epam_extract.video.remote import is_address, shown_address, without_secrets

SECRETS = ("me", "pa55word", "signature", "deadbeef")
OF_THE_PLACE = ("source", "source_mtime_ns", "attributes_checksum")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 90, 20 and 1 frames."""
    root = tmp_path_factory.mktemp("videos")
    (root / "sub").mkdir()
    for name, frames in (("long", 90), ("sub/short", 20), ("sub/one", 1)):
        write_video(root / f"{name}.mp4", frames=frames)
    return root


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "open_pose_model", lambda *_, **__: StandInPose())
    monkeypatch.setattr(pipeline, "Network", StandInNetwork)
    monkeypatch.setattr(pipeline, "load_backbone", no_backbone)


class Memory:
    """Files of fsspec's ``memory://``, gone after a test."""

    def __init__(self) -> None:
        self.fs = fsspec.filesystem("memory")

    def add(self, name: str, content: bytes | Path = b"123") -> None:
        self.fs.pipe(f"/{name}", content if isinstance(content, bytes) else content.read_bytes())

    def add_all(self, folder: Path, top: str = "videos") -> None:
        for path in folder.rglob("*.mp4"):
            self.add(f"{top}/{path.relative_to(folder)}", path)


@pytest.fixture
def memory() -> Iterator[Memory]:
    yield Memory()
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


class Handler(http.server.SimpleHTTPRequestHandler):
    """A folder as Python's server shows it, behind a password or a signature where asked for."""

    server: Site

    def send_head(self):  # type: ignore[no-untyped-def]  # of GET and HEAD
        site, parts = self.server, urlsplit(self.path)
        site.asked.append((self.command, parts.path))
        if site.user and self.headers.get("Authorization") != site.user:
            return self.send_error(401)
        if site.signature and parse_qs(parts.query).get("signature") != [site.signature]:
            return self.send_error(403, f"not signed: {self.path}")
        if self.command == "GET" and parts.path in site.broken:
            return self.send_error(500, f"no {self.path}, {parts.query.partition('=')[2]}")
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.user = self.signature = ""
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "", user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/{path}"

    @property
    def fetched(self) -> list[str]:
        return [path for command, path in self.asked if command == "GET" and "." in path]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A web server of ``tmp_path/site``."""
    pytest.importorskip("aiohttp")
    (tmp_path / "site").mkdir()
    server = Site(tmp_path / "site")
    yield server
    server.shutdown()
    server.server_close()


def found(*sources: str, **options: object) -> dict[str, str]:
    """Id -> address."""
    return {video.id: str(video.path) for video in find_videos(sources, **options)}


def refusal(*sources: str) -> str:
    with pytest.raises(ConfigError) as refused:
        find_videos(sources)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# -- finding -----------------------------------------------------------------------------------


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


# -- a run -------------------------------------------------------------------------------------


def run(source: object, out: Path, **options: object):  # type: ignore[no-untyped-def]
    return extract_features(source, out, options.pop("config", POOLED), **options)  # type: ignore[arg-type]


def require_same_but_for_the_place(one: Path, other: Path) -> None:
    mine, theirs = contents(one), contents(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name.partition("@")[2] not in OF_THE_PLACE:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


@pytest.mark.parametrize("crop", ["window", "video"])
def test_a_run_from_elsewhere_equals_one_from_files(
    crop: str,
    videos: Path,
    stand_ins: None,
    memory: Memory,
    tmp_path: Path,
) -> None:
    memory.add_all(videos)
    config = ExtractConfig(**{**vars(POOLED), "crop": crop})
    run(videos, tmp_path / "files.h5", config=config)
    summary = run("memory://videos", tmp_path / "f.h5", config=config)
    assert (summary.done, summary.failed) == (3, 0)
    require_same_but_for_the_place(tmp_path / "files.h5", tmp_path / "f.h5")
    with FeatureStore(tmp_path / "f.h5") as store:
        attributes = store["sub/short"].attrs
        assert attributes["source"] == "memory://videos/sub/short.mp4"
        (listed,) = find_videos(["memory://videos/sub/short.mp4"])
        stored = attributes["source_size"], attributes["source_mtime_ns"]
        assert stored == listed.size_and_time()
    assert verify(tmp_path / "f.h5") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.h5", "files.h5"]


def test_what_is_done_is_not_fetched_again_and_what_changed_is(
    videos: Path,
    stand_ins: None,
    site: Site,
    tmp_path: Path,
) -> None:
    for number, name in enumerate("ab"):
        write_video(tmp_path / f"site/{name}.mp4", frames=20 + number)
    out = tmp_path / "f.h5"
    assert run(site.url(), out).done == 2
    assert sorted(site.fetched) == ["/a.mp4", "/b.mp4"]
    site.asked.clear()
    again = run(site.url(), out)
    assert (again.skipped, again.done, site.fetched) == (2, 2, [])
    write_video(tmp_path / "site/b.mp4", frames=40)
    assert run(site.url(), out).skipped == 1
    assert site.fetched == ["/b.mp4"]
    with FeatureStore(out) as store:
        assert store["b"].attrs["num_frames"] == 40


def test_an_interrupted_run_fetches_what_is_left(
    stand_ins: None,
    memory: Memory,
    tmp_path: Path,
) -> None:
    for name in "abc":
        memory.add(f"v/{name}.mp4", write_video(tmp_path / f"{name}.mp4", frames=30))
    out, stop = tmp_path / "f.h5", threading.Event()

    class StopAtTheFirst(Progress):
        def video_done(self, video_id: str, windows: int) -> None:
            stop.set()

    config = ExtractConfig(**{**vars(POOLED), "workers": 1})
    first = run("memory://v", out, config=config, stop=stop, progress=StopAtTheFirst())
    assert first.interrupted and not fetched_folder(out).exists()
    assert run("memory://v", out, config=config).done == 3
    run([tmp_path / f"{name}.mp4" for name in "abc"], tmp_path / "files.h5")
    require_same_but_for_the_place(tmp_path / "files.h5", out)


def test_a_download_that_fails_is_that_videos_failure(
    stand_ins: None,
    site: Site,
    tmp_path: Path,
) -> None:
    for name in "ab":
        write_video(tmp_path / f"site/{name}.mp4", frames=20)
    (tmp_path / "site/text.mp4").write_text("this is no video")
    site.broken.add("/a.mp4")
    out = tmp_path / "f.h5"
    summary = run(site.url(), out)
    assert summary.done == 1
    assert {f.video_id: f.stage for f in summary.failures} == {"a": "fetch", "text": "probe"}
    messages = {f.video_id: f.message for f in summary.failures}
    assert messages["a"].startswith(
        f"{site.url('a.mp4')}: cannot be fetched: ClientResponseError: 500"
    )
    assert messages["text"].startswith(site.url("text.mp4")) and ".fetched" not in messages["text"]
    site.asked.clear()
    assert run(site.url(), out).failed == 2 and site.fetched == []
    site.broken.clear()
    assert run(site.url(), out, retry_failed=True).done == 2
    assert sorted(site.fetched) == ["/a.mp4", "/text.mp4"]


def test_a_file_that_differs_from_its_listing_is_a_failure(
    stand_ins: None,
    memory: Memory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("short", "long", "gone"):
        memory.add(f"v/{name}.mp4", write_video(tmp_path / f"{name}.mp4", frames=20))
    begin = Fetcher.__enter__

    def change(self: Fetcher) -> Fetcher:
        memory.add("v/short.mp4", b"12")
        memory.add("v/long.mp4", (tmp_path / "long.mp4").read_bytes() + b"more")
        memory.fs.rm("/v/gone.mp4")
        return begin(self)

    monkeypatch.setattr(Fetcher, "__enter__", change)
    summary = run("memory://v", tmp_path / "f.h5")
    found = {failure.video_id: failure.message for failure in summary.failures}
    assert "2 bytes came" in found["short"] and "more bytes come" in found["long"]
    assert "there is no such file" in found["gone"]
    assert not fetched_folder(tmp_path / "f.h5").exists()


def test_a_dry_run_fetches_nothing_and_says_how_much_there_is(
    site: Site,
    tmp_path: Path,
    videos: Path,
) -> None:
    for name in "ab":
        (tmp_path / f"site/{name}.mp4").write_bytes(bytes(500_000))
    messages: list[str] = []

    class Listen(Progress):
        def message(self, text: str) -> None:
            messages.append(text)

    summary = run([site.url(), str(videos)], tmp_path / "f.h5", dry_run=True, progress=Listen())
    assert summary.videos == 5 and site.fetched == []
    assert any("2 videos of 1.0 MB elsewhere" in text for text in messages)
    assert not (tmp_path / "f.h5").exists()


def test_the_plan_becomes_exact_as_videos_arrive(
    videos: Path,
    stand_ins: None,
    memory: Memory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory.add_all(videos)
    memory.add("videos/text.mp4", b"no video")
    plans, stages = [], []

    class Listen(Progress):
        def plan(self, plan: object) -> None:
            plans.append(plan)

        def stages(self, loads: object, *, bottleneck: str | None = None) -> None:
            stages.append(loads)

    monkeypatch.setattr(pipeline, "REPORT_SECONDS", 0.0)
    run("memory://videos", tmp_path / "f.h5", progress=Listen())
    assert not plans[0].exact and plans[-1].exact
    assert (plans[-1].to_do, plans[-1].frames, plans[-1].windows) == (4, 111, 16)
    assert stages and all("fetch" in loads for loads in stages)


def test_parts_are_balanced_by_the_listing(memory: Memory) -> None:
    memory.add("v/a.mp4", bytes(7))
    draft = PlanDraft()
    assert all(draft(video) for video in find_videos(["memory://v"]))
    assert draft.sizes == {"a": 7}


def test_other_commands_need_files_here() -> None:
    file = RemoteFile("s3://b/a.mp4", 1, 1, source="s3://b", path="b/a.mp4")
    with pytest.raises(ConfigError, match=r"s3://b/a\.mp4: is elsewhere"):
        _ = FoundVideo("a", file).file


# -- no secrets --------------------------------------------------------------------------------


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


@pytest.mark.parametrize("broken", [False, True])
def test_no_secret_is_shown_logged_or_stored(
    broken: bool,
    videos: Path,
    stand_ins: None,
    site: Site,
    tmp_path: Path,
) -> None:
    (tmp_path / "site/a.mp4").write_bytes((videos / "sub/short.mp4").read_bytes())
    if broken:
        site.broken.add("/a.mp4")
    token = base64.b64encode(b"me:pa55word").decode()
    site.user, site.signature = f"Basic {token}", "deadbeef"
    address = site.url("a.mp4?signature=deadbeef", user="me:pa55word@")
    out, log = tmp_path / "f.h5", tmp_path / "log.txt"
    options = ["--random-weights", "0", "--no-full", "--stride", "8", "--log-file", str(log)]
    options += ["--summary-json", str(tmp_path / "s.json"), "-v", "--progress", "plain"]
    done = CliRunner().invoke(app, ["extract", address, "--out", str(out), *options])
    assert done.exit_code == (3 if broken else 0), done.output
    shown = done.output if broken else str(out.read_bytes())
    assert f"127.0.0.1:{site.server_port}/a.mp4" in shown
    written = [out.read_bytes(), log.read_bytes(), (tmp_path / "s.json").read_bytes()]
    for text in (done.output.encode(), *written):
        for secret in (*SECRETS[1:], token):
            assert secret.encode() not in text, secret
    assert "me:" not in done.output and "me@" not in done.output
    site.signature = "another"
    refused = CliRunner().invoke(app, ["extract", address, "--out", str(out), *options])
    assert refused.exit_code == 2 and "cannot be looked up" in refused.output
    assert not any(secret in refused.output for secret in SECRETS[1:])


# -- the folder --------------------------------------------------------------------------------


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


def test_a_full_disk_stops_the_run_with_one_sentence(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.add("v/a.mp4")
    (video,) = find_videos(["memory://v"])

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(memory.fs), "get_file", full)
    with pytest.raises(MachineError, match=r"No space left on device while memory://v/a\.mp4"):
        remote.fetch(video.path, tmp_path / "0", lambda count: None)


def test_what_a_killed_run_left_is_cleared_and_nothing_else(
    videos: Path,
    stand_ins: None,
    tmp_path: Path,
) -> None:
    out = tmp_path / "f.h5"
    folder = fetched_folder(out)
    assert folder == tmp_path / "f.h5.fetched"
    folder.mkdir()
    (folder / "00000007.mp4").write_bytes(b"half")
    run(videos, out)
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine.mp4").write_bytes(b"of the user")
    with pytest.raises(StoreError, match=r"f\.h5\.fetched: exists, and holds"):
        run(videos, out)
    assert (folder / "mine.mp4").exists()
    (folder / "mine.mp4").unlink()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/00000001.mp4").touch()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        clear_folder(folder)
    assert (tmp_path / "elsewhere/00000001.mp4").exists()


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), ("1.5 tb", 15 * 10**11), ("500M", 5 * 10**8), ("7", 7), ("8kB", 8000)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "1e9", "1 G B", "nan"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a size such as 20GB"):
        bytes_of(text)
    with pytest.raises(ConfigError):
        ExtractConfig(fetch_ahead=0)
