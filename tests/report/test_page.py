"""The report: what is on the page, what it calls suspicious, and that names cannot harm it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import run
from make_report import HOSTILE, VIDEOS, WINDOWS, write_video
from make_rows import POSE, WEIGHTS

from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError
from epam_extract.exchange import read_annotations
from epam_extract.records import VideoFailure
from epam_extract.report import write_report
from epam_extract.report.page import clock
from epam_extract.store import StoreHeader, StoreWriter


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "f.h5"
    config = ExtractConfig(features=("pooled", "attention"), windows=WINDOWS)
    with StoreWriter(path, StoreHeader(config.identity(), WEIGHTS, POSE)) as store:
        for video_id, how in VIDEOS.items():
            write_video(store, video_id, **how)
        store.fail(VideoFailure("broken <i>", "decode", "it is <u>no</u> video"))
        store.commit()
    return path


@pytest.fixture(scope="module")
def page(file: Path) -> str:
    labels = file.with_name("labels.csv")
    labels.write_text("good,0.5,2,wave\ngood,1,3,jump\ngood,9,12,late\nnobody,1,2,wave\n")
    out = file.with_name("page.html")
    write_report(file, out, annotations=read_annotations(labels))
    return out.read_text("utf-8")


class Page(HTMLParser):
    """Names, attributes and texts of a page's elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def kinds(page: str) -> dict[str, set[str]]:
    """Kinds of flags by video, in the order of the table."""
    rows = [one for one in Page(page).having("tr") if "data-kinds" in one]
    return {str(one["data-name"]): set(str(one["data-kinds"]).split()) for one in rows}


def test_what_is_suspicious_is_said_and_comes_first(page: str) -> None:
    found = kinds(page)
    assert found == {
        "nobody": {"no_person", "label"},
        "still": {"still"},
        "good": {"label"},
        HOSTILE: {"notes"},
        "few": {"few_persons"},
        "short": {"outside"},
    }
    assert [*found][:: len(found) - 1] == ["nobody", "short"]
    text = " ".join(Page(page).text)
    assert "late (9.0 to 12.0 s) is not within the video's 3.8 s" in text
    assert "wave (1.0 to 2.0 s): nobody is seen in it" in text
    assert "a person in only 21% of the frames" in text


def test_names_and_messages_cannot_become_markup(page: str) -> None:
    parsed = Page(page)
    assert len(parsed.having("script")) == 1 and not parsed.having("i") + parsed.having("u")
    assert not parsed.having("b")
    headings = "".join(parsed.text)
    assert HOSTILE in headings and "it is <u>no</u> video" in headings
    policy = next(one for one in parsed.having("meta") if "http-equiv" in one)["content"]
    assert policy is not None and "default-src 'none'" in policy


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    for tag, attributes in Page(page).tags:
        for name in ("href", "src", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/")), (tag, address[:80])
    assert "url(" not in page and "@import" not in page


def test_every_picture_has_words_and_every_link_a_target(page: str) -> None:
    parsed = Page(page)
    assert all(one.get("aria-label") for one in parsed.having("svg"))
    assert len(parsed.having("svg")) > 50
    names = [one["id"] for _, one in parsed.tags if one.get("id")]
    assert len(names) == len(set(names))
    for one in parsed.having("a"):
        assert str(one["href"])[1:] in names
    for _, one in parsed.tags:
        assert one.get("aria-labelledby", names[0]) in names
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings))


def test_segments_that_overlap_lie_in_two_lanes(page: str) -> None:
    styles = [
        str(one["style"])
        for one in Page(page).having("span")
        if str(one.get("class", "")).startswith("segment")
    ]
    assert [style.split("top:")[1] for style in styles].count("1.5rem") == 1
    left, width = (float(number) for number in re.findall(r"([\d.]+)%", styles[1]))
    assert (left, width) == pytest.approx((0.5 / 3.84 * 100, 1.5 / 3.84 * 100), abs=0.01)


@pytest.mark.slow
def test_the_sample_videos_are_shown_and_one_that_is_gone_is_flagged(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "sample_videos"
    shutil.copy(samples / "workout.mp4", tmp_path)
    config = ExtractConfig(features=("pooled", "attention"), windows=WINDOWS)
    with StoreWriter(tmp_path / "f.h5", StoreHeader(config.identity(), WEIGHTS, POSE)) as store:
        write_video(store, "gone")
        write_video(store, "workout", frames=150)  # in the file 90x160, on disk 288x384
        store.commit()
    write_report(tmp_path / "f.h5", tmp_path / "p.html", videos=tmp_path)
    page = (tmp_path / "p.html").read_text("utf-8")
    assert kinds(page)["gone"] == kinds(page)["workout"] == {"changed"}
    assert "the features are of 150 frames of 160x90" in "".join(Page(page).text)
    assert "data:image/jpeg" not in page


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.5, "4.5 s"), (125, "2:05"), (3725, "1:02:05"), (59.99, "59.99 s")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("out", "words"),
    [("page.txt", "ending in .html"), ("no/page.html", "there is no folder"), (".html", "ending")],
)
def test_a_wrong_place_is_one_sentence_and_status_2(file: Path, out: str, words: str) -> None:
    result = run("report", file, "--out", file.parent / out)
    assert result.exit_code == 2 and words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_command_prints_the_page_it_made(file: Path, tmp_path: Path) -> None:
    result = run("report", file, "--out", tmp_path / "p.html")
    assert (result.exit_code, result.stdout.strip()) == (0, str(tmp_path / "p.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]


def test_without_jinja2_it_says_what_to_install(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"pip install 'epam-extract\[report\]'"):
        write_report(file, tmp_path / "p.html")


@pytest.mark.slow
def test_a_file_without_complete_videos_still_gives_a_page(tmp_path: Path) -> None:
    config = ExtractConfig(features=("full",), windows=WINDOWS)
    with StoreWriter(tmp_path / "f.h5", StoreHeader(config.identity(), WEIGHTS, POSE)) as store:
        store.commit()
    write_report(tmp_path / "f.h5", tmp_path / "p.html")
    assert "No video is complete yet." in (tmp_path / "p.html").read_text("utf-8")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_runs_the_pages_script_and_nothing_else(page: str, tmp_path: Path) -> None:
    look = (
        "document.querySelector('#kind').value='still';"
        "document.querySelector('#kind').dispatchEvent(new Event('change'));"
        "document.title=JSON.stringify([document.querySelector('#shown').value,"
        "[...document.querySelectorAll('#blocks > :not([hidden])')].map(e=>e.dataset.name)])"
    )
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    changed = page.replace("</body>", "").replace(script, script + look)

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    assert digest(script) in page  # the policy lets the page's own script run
    changed = changed.replace(digest(script), digest(script + look))
    (tmp_path / "p.html").write_text(changed, "utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "p.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    assert json.loads(title.group(1)) == ["1 video", ["still"]]
