"""Downloads arrive whole or not at all, and say why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from model_site import NAMES, Site, left_in_cache, model_site, zipped

from epam_extract.config import PoseConfig
from epam_extract.errors import PoseModelError
from epam_extract.pose import download, open_pose_model
from epam_extract.pose.model_files import cache_folder, download_models


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    yield from model_site(tmp_path, monkeypatch)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_killed_download_left_is_swept(site, when) -> None:
    cache_folder().mkdir(parents=True)
    if when == "after":
        download_models(["lightweight"])
    (cache_folder() / f"{NAMES['det']}.abc.part").write_bytes(b"half")
    download_models(["lightweight"])
    assert not list(cache_folder().glob("*.part"))


@pytest.mark.slow
def test_a_killed_download_is_begun_again(site, tmp_path) -> None:
    site.last_block.clear()
    process = start(site)
    while not site.asked:
        assert process.poll() is None, process.communicate()
    while not list(cache_folder().glob("*.part")):
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert [name.split(".")[0] for name in left_in_cache()] == [NAMES["det"]]
    site.last_block.set()
    download_models(["lightweight"])
    assert left_in_cache() == sorted(f"{name}.onnx" for name in NAMES.values())


def start(site: Site) -> subprocess.Popen[str]:
    """A process of its own that downloads the two files."""
    code = """
import sys
from rtmlib import Body
Body.MODE["lightweight"] |= {"det": sys.argv[1], "pose": sys.argv[2]}
from epam_extract.pose.model_files import download_models
print(*download_models(["lightweight"]))
"""
    urls = [f"{site.url}/{name}.zip" for name in NAMES.values()]
    return subprocess.Popen(
        [sys.executable, "-c", code, *urls],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.slow
def test_two_processes_at_once_download_once(site) -> None:
    site.seconds = 0.3
    for process in (start(site), start(site)):
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert len(out.split()) == 2
    assert sorted(site.asked) == sorted(f"/{name}.zip" for name in NAMES.values())
    assert left_in_cache() == sorted(f"{name}.onnx" for name in NAMES.values())


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


def too_large(site: Site) -> None:
    site.length_added = 3 << 30


def endless(site: Site) -> None:
    site.told_length = False
    site.files = {name: content + bytes(2_000_000) for name, content in site.files.items()}


def bomb(site: Site) -> None:
    site.files = dict.fromkeys(site.files, zipped(bytes(2_000_000)))


def to_plain_http(site: Site) -> None:
    site.redirects = dict.fromkeys(site.files, "http://example.org/model.zip")


def to_a_file(site: Site) -> None:
    site.redirects = dict.fromkeys(site.files, "file:///etc/passwd")


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
        (too_large, r"larger than a model can be \(1,000,000 bytes\)"),
        (endless, r"larger than a model can be \(1,000,000 bytes\)"),
        (bomb, r"unpacks to more than a model can have \(1,000,000 bytes\)"),
        (to_plain_http, r"redirects to http://example\.org.*only https is safe"),
        (to_a_file, "Redirection to url 'file:///etc/passwd' is not allowed"),
    ],
)
def test_a_failed_download_leaves_nothing_and_tells_three_ways_out(
    site, trouble: Callable[[Site], None], told: str, monkeypatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1_000_000)
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


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(site, monkeypatch) -> None:
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    site.seconds = 3
    with pytest.raises(PoseModelError, match="no answer within"):
        download_models(["lightweight"])


@pytest.mark.slow
def test_a_download_that_drips_is_given_up(site, monkeypatch) -> None:
    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.2)
    site.seconds = 0.3
    with pytest.raises(PoseModelError, match="it was not here after"):
        download_models(["lightweight"])
    assert left_in_cache() == []


def test_only_https_is_asked(tmp_path) -> None:
    for url in ("http://example.org/a.zip", "file:///etc/passwd", "ftp://example.org/a.zip"):
        assert download.download(url, tmp_path / "a", "a", None) == "only https is safe"


def test_a_server_on_this_machine_may_send_us_to_itself(site) -> None:
    for name, content in list(site.files.items()):
        site.files[f"/moved{name}"] = content
        site.redirects[name] = f"{site.url}/moved{name}"
    download_models(["lightweight"])
    assert len(site.asked) == 4
