"""Videos at addresses: fetched into a bounded folder, and the same as files in all else."""

from __future__ import annotations

import base64
import errno
import os
import threading
from pathlib import Path

import pytest
from elsewhere import Memory, Site, memory, require_same_but_for_the_place, site
from make_videos import write_video
from stand_ins import POOLED, StandInNetwork, StandInPose, no_backbone
from typer.testing import CliRunner

from epam_extract.cli import app
from epam_extract.cluster.shards import PlanDraft
from epam_extract.config import ExtractConfig
from epam_extract.errors import ConfigError, MachineError, StoreError
from epam_extract.pipeline import models
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.records import RemoteFile
from epam_extract.store import FeatureStore
from epam_extract.store.verify import verify
from epam_extract.video import FoundVideo, find_videos, remote
from epam_extract.video.fetch import Fetcher, clear_folder, fetched_folder

__all__ = ["memory", "site"]  # fixtures

SECRETS = ("me", "pa55word", "signature", "deadbeef")


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
    monkeypatch.setattr(models, "open_pose_model", lambda *_, **__: StandInPose())
    monkeypatch.setattr("epam_extract.pipeline.run.BackboneRunner", StandInNetwork)
    monkeypatch.setattr(models, "load_backbone", no_backbone)


def run(source: object, out: Path, **options: object):  # type: ignore[no-untyped-def]
    return extract_features(source, out, options.pop("config", POOLED), **options)  # type: ignore[arg-type]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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

    monkeypatch.setattr("epam_extract.pipeline.stages.REPORT_SECONDS", 0.0)
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


@pytest.mark.slow
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


# -- what is left behind ------------------------------------------------------------------------


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
