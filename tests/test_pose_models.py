"""Where model files come from: downloads that arrive whole or not at all, and say why not."""

from __future__ import annotations

import http.server
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from make_onnx import Output, write_network

from epam_extract.config import POSE_MODES, PoseConfig
from epam_extract.errors import ConfigError, PoseModelError
from epam_extract.pose import models as pose_models
from epam_extract.pose import open_pose_model
from epam_extract.pose.models import (
    cache_folder,
    download_models,
    list_models,
    model_files,
)

NAMES = {"det": "yolox_made_humanart-1", "pose": "rtmpose-made_256x192-2"}


class Site:
    """A web server on this machine that answers as told, and counts."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.length_added = 0
        self.seconds = 0.0
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                time.sleep(site.seconds)
                content = site.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + site.length_added))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
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
        sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") if folder.is_dir() else []
    )


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


def test_what_a_killed_download_left_is_swept(site) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{NAMES['det']}.abc.part").write_bytes(b"half")
    download_models(["lightweight"])
    assert not list(cache_folder().glob("*.part"))


def test_two_processes_at_once_download_once(site, tmp_path) -> None:
    site.seconds = 0.3
    code = """
import sys
from rtmlib import Body
Body.MODE["lightweight"] |= {"det": sys.argv[1], "pose": sys.argv[2]}
from epam_extract.pose.models import download_models
print(*download_models(["lightweight"]))
"""
    urls = [f"{site.url}/{name}.zip" for name in NAMES.values()]
    root = Path(__file__).parents[1]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, *urls],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert len(out.split()) == 2
    assert sorted(site.asked) == sorted(f"/{name}.zip" for name in NAMES.values())
    assert left_in_cache() == sorted(f"{name}.onnx" for name in NAMES.values())


# ---------------------------------------------------------------- downloads that do not


def missing(site: Site) -> None:
    site.files.clear()


def longer(site: Site) -> None:
    site.length_added = 1000


def cut(site: Site) -> None:
    site.files = {name: content[:-200] for name, content in site.files.items()}


def flipped(site: Site) -> None:
    for name, content in site.files.items():
        spoiled = bytearray(content)
        spoiled[120] ^= 0xFF
        site.files[name] = bytes(spoiled)


def page(site: Site) -> None:
    site.files = dict.fromkeys(site.files, b"<html>Please log in to the network</html>")


def other_archive(site: Site) -> None:
    site.files = dict.fromkeys(site.files, zipped(b"x", name="weights.pth"))


def no_network_inside(site: Site) -> None:
    site.files = dict.fromkeys(site.files, zipped(b"no onnx"))


def nobody_there(site: Site) -> None:
    site.close()


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (missing, "HTTP 404"),
        (longer, r"ended after [\d,]+ of [\d,]+ bytes|connection broke after"),
        (cut, "no ONNX network|archive is damaged"),
        (flipped, "archive is damaged"),
        (page, "no ONNX network"),
        (other_archive, r"no end2end\.onnx"),
        (no_network_inside, "no ONNX network"),
        (nobody_there, "[Rr]efused"),
    ],
)
def test_a_failed_download_leaves_nothing_and_tells_three_ways_out(
    site, trouble: Callable[[Site], None], told: str
) -> None:
    trouble(site)
    with pytest.raises(PoseModelError, match=told) as error:
        open_pose_model(PoseConfig(mode="lightweight"))
    message = str(error.value)
    for way in (
        "epam-extract models download lightweight",
        str(cache_folder()),
        "--det-model",
        "--pose-model",
        "--pose bundled",
    ):
        assert way in message
    assert "\n" not in message
    assert left_in_cache() == []


def test_a_server_that_never_answers_is_given_up(site, monkeypatch) -> None:
    monkeypatch.setattr(pose_models, "CONNECT_SECONDS", 0.3)
    site.seconds = 3
    with pytest.raises(PoseModelError, match="no answer within"):
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
