"""A web server on this machine that has the two files of a pose mode."""

from __future__ import annotations

import http.server
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from make_onnx import Output, write_network

from epam_extract.pose.model_files import cache_folder

NAMES = {"det": "yolox_made_humanart-1", "pose": "rtmpose-made_256x192-2"}


class Site:
    """A web server on this machine that answers as told, and counts."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.length_added = 0
        self.seconds = 0.0
        self.told_length = True
        self.redirects: dict[str, str] = {}
        self.last_block = threading.Event()
        self.last_block.set()  # else the end of every answer waits for it
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                time.sleep(site.seconds)
                if self.path in site.redirects:
                    self.send_response(302)
                    self.send_header("Location", site.redirects[self.path])
                    self.end_headers()
                    return
                content = site.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                if site.told_length:
                    self.send_header("Content-Length", str(len(content) + site.length_added))
                self.end_headers()
                self.wfile.write(content[:-50])
                site.last_block.wait()
                self.wfile.write(content[-50:])

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def model_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with the two files of the mode ``lightweight``, and an empty cache."""
    from rtmlib import Body

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site = Site()
    det = write_network(tmp_path / "d", [Output("dets", np.array([[8, 8, 40, 40, 0.9]]))])
    simcc = np.eye(17, 128)
    pose = write_network(tmp_path / "p", [Output("simcc_x", simcc), Output("simcc_y", simcc)])
    for key, path in (("det", det), ("pose", pose)):
        site.files[f"/{NAMES[key]}.zip"] = zipped(path.read_bytes())
    table = {key: f"{site.url}/{name}.zip" for key, name in NAMES.items()}
    table |= {"det_input_size": (64, 64), "pose_input_size": (64, 64)}
    monkeypatch.setitem(Body.MODE, "lightweight", table)
    yield site
    site.close()


def zipped(content: bytes, name: str = "20230831/rtmpose_onnx/end2end.onnx") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr("20230831/rtmpose_onnx/detail.json", "{}")
    return out.getvalue()


def left_in_cache() -> list[str]:
    folder = cache_folder()
    return (
        sorted(p.name for p in folder.iterdir() if p.suffix not in (".lock", ".sha256"))
        if folder.is_dir()
        else []
    )
