"""Stores that a test can fill: fsspec's ``memory://``, and a web server on this machine."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import fsspec
import numpy as np
import pytest
from stand_ins import contents


class Memory:
    """Files of fsspec's ``memory://``, gone after a test."""

    def __init__(self) -> None:
        self.fs = fsspec.filesystem("memory")

    def add(self, name: str, content: bytes | Path = b"123") -> None:
        self.fs.pipe(f"/{name}", content if isinstance(content, bytes) else content.read_bytes())

    def add_all(self, folder: Path, top: str = "videos") -> None:
        for path in folder.rglob("*.mp4"):
            self.add(f"{top}/{path.relative_to(folder)}", path)


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
def memory() -> Iterator[Memory]:
    yield Memory()
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A web server of ``tmp_path/site``."""
    pytest.importorskip("aiohttp")
    (tmp_path / "site").mkdir()
    server = Site(tmp_path / "site")
    yield server
    server.shutdown()
    server.server_close()


OF_THE_PLACE = ("source", "source_mtime_ns", "attributes_checksum")


def require_same_but_for_the_place(one: Path, other: Path) -> None:
    mine, theirs = contents(one), contents(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name.partition("@")[2] not in OF_THE_PLACE:
            np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
