"""Whatever happens to the videos while a run reads them, the others are done."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import make_videos as make
import numpy as np
import pytest
from make_rows import HEADER
from make_rows import write_video as write_features
from stand_ins import POOLED, StandInPose

from epam_extract.errors import ProbeError
from epam_extract.pipeline import plan
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.progress.records import Plan
from epam_extract.store import FeatureStore, StoreWriter
from epam_extract.store.verify import verify
from epam_extract.video import close_workers, open_video, probe, read_header, worker_pool
from epam_extract.video.frames import has_decord

VIDEOS = 40
ROUNDS = 8  # of a folder that changes under a run: some 300 changes


@pytest.fixture(scope="module", autouse=True)
def _no_worker_left() -> Iterator[None]:
    yield
    close_workers()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make.write_video(tmp_path_factory.mktemp("small") / "v.mp4", frames=20).read_bytes()


class Vandal(Progress):
    """Does something to a random video whenever the run reports anything."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder, self.lock = folder, threading.Lock()
        self.done_to: dict[str, str] = {}

    def video_started(self, video_id: str, frames: int) -> None:
        self.strike()

    def advance(self, frames: int) -> None:
        self.strike()

    def strike(self) -> None:
        with self.lock:
            number = self.random.randrange(VIDEOS)
            if number % 4 == 0:
                return  # every fourth one is left alone
            path = self.folder / f"{number:02}.mp4"
            deed = self.random.choice([m for m in dir(self) if m.startswith("do_")])
            try:
                getattr(self, deed)(path)
                self.done_to[path.stem] = deed
            except OSError:
                pass  # done to already

    def do_remove(self, path: Path) -> None:
        path.unlink()

    def do_replace(self, path: Path) -> None:
        other = path.with_suffix(".new")
        other.write_bytes(b"another file")
        other.replace(path)

    def do_truncate(self, path: Path) -> None:
        os.truncate(path, path.stat().st_size // 3)

    def do_empty(self, path: Path) -> None:
        os.truncate(path, 0)

    def do_forbid(self, path: Path) -> None:
        path.chmod(0)

    def do_dangle(self, path: Path) -> None:
        path.unlink()
        path.symlink_to("nowhere")

    def do_loop(self, path: Path) -> None:
        path.unlink()
        path.symlink_to(path.name)

    def do_become_a_folder(self, path: Path) -> None:
        path.unlink()
        path.mkdir()

    def do_become_a_pipe(self, path: Path) -> None:
        path.unlink()
        os.mkfifo(path)


@pytest.mark.slow
def test_a_folder_that_changes_under_a_run_costs_only_the_changed_videos(
    small: bytes, stand_ins: StandInPose, tmp_path: Path
) -> None:
    changes = 0
    for seed in range(ROUNDS):
        folder, out = tmp_path / str(seed), tmp_path / f"{seed}.h5"
        folder.mkdir()
        for number in range(VIDEOS):
            (folder / f"{number:02}.mp4").write_bytes(small)
        vandal = Vandal(folder, seed)
        summary = extract_features(folder, out, POOLED, progress=vandal)
        changes += len(vandal.done_to)
        failed = {failure.video_id for failure in summary.failures}
        assert failed <= vandal.done_to.keys()
        with FeatureStore(out) as store:
            assert set(store) | failed == {f"{number:02}" for number in range(VIDEOS)}
            assert len(store) == summary.done
            assert set(store.failures) == failed
        assert verify(out) == []
        assert all(failure.message for failure in summary.failures)
        shutil.rmtree(folder)
    assert changes > 100


def test_paths_the_system_refuses_cost_only_themselves(
    small: bytes, stand_ins: StandInPose, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "good.mp4").write_bytes(small)
    (folder / "dangling.mp4").symlink_to("nowhere")
    (folder / "one.mp4").symlink_to("two.mp4")
    (folder / "two.mp4").symlink_to("one.mp4")
    os.mkfifo(folder / "pipe.mp4")
    plug = socket.socket(socket.AF_UNIX)
    plug.bind(os.path.relpath(folder / "socket.mp4"))
    wrong = [f"{folder}/none.mp4", f"{folder}/a\0b.mp4", f"{folder}/{'x' * 300}.mp4"]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(wrong))
    summary = extract_features(folder, tmp_path / "f.h5", POOLED, list_file=listed)
    plug.close()
    assert summary.done == 1
    said = {failure.video_id[:9]: failure.message for failure in summary.failures}
    assert "broken link" in said["dangling"] and "broken link" in said["one"]
    assert said["pipe"].endswith("is not a regular file") == said["socket"].endswith("regular file")
    assert "No such file" in said["none"] and "null byte" in said["a\\x00b"]
    assert "too long" in said["xxxxxxxxx"]
    again = extract_features(folder, tmp_path / "f.h5", POOLED, list_file=listed)
    assert again.failed == 8 and again.skipped == 1


@pytest.mark.slow
def test_names_of_any_bytes_are_done_and_found_again(
    small: bytes, stand_ins: StandInPose, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    names = [b"bad\xff\xfe", b"bad\\xff\\xfe", b"line\nbreak", b"esc\x1b[31m", b"..", b"n" * 240]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name + b".mp4"), "wb") as file:  # noqa: PTH118, PTH123
            file.write(small)
    hidden = [folder / "...mp4"]  # hidden files count where they are named
    out = tmp_path / "f.h5"
    summary = extract_features([folder, *hidden], out, POOLED)
    refused = {failure.video_id for failure in summary.failures}
    with FeatureStore(out) as store:
        found = set(store)
        assert len(found) + len(refused) == len(names) and refused <= {".."}
        assert {"line\nbreak", "esc\x1b[31m", "n" * 240} <= found
        assert sum(name.startswith("bad\\xff\\xfe") for name in found) == 2
        for name in found:
            assert store[name]["rgb_pooled"].shape[1] == 432
    gone = {problem.video_id for problem in verify(out, videos=folder)}
    assert gone <= {".."}  # hidden in that folder
    assert extract_features([folder, *hidden], out, POOLED).skipped == len(found)


def test_damage_in_the_middle_costs_the_frames_that_do_not_decode(
    stand_ins: StandInPose, tmp_path: Path
) -> None:
    whole = make.write_video(tmp_path / "whole.mp4", frames=60)
    make.damage(whole, tmp_path / "hole.mp4", wipe=(0.3, 0.5))
    summary = extract_features(tmp_path / "hole.mp4", tmp_path / "f.h5", POOLED)
    assert summary.done == 1
    with FeatureStore(tmp_path / "f.h5") as store:
        attributes = store["hole"].attrs
        frames = attributes["num_frames"]
        assert attributes["notes"] == f"damaged or cut short: {frames} of 60 frames decode"
        assert 0 < frames < 60 and store["hole"]["keypoints"].shape[1] == frames
    assert any("hole" in note and "60 frames decode" in note for note in summary.notes)


LISTS = {
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "old concat": "# a list\nfile '{path}'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n",
    "local hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{name}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="0" mimeType="video/mp4"><BaseURL>{url}</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "ram": "{url}\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "m3u8", "ts", "%03d.png"])
def test_lists_of_other_files_and_addresses_are_not_followed(
    small: bytes, tmp_path: Path, kind: str, suffix: str
) -> None:
    target = tmp_path / "target.mp4"
    target.write_bytes(small)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        port = server.getsockname()[1]
        text = LISTS[kind].format(
            name=target.name, path=target, url=f"http://127.0.0.1:{port}/v.mp4", port=port
        )
        path = tmp_path / f"list.{suffix}"
        path.write_text(text)
        with pytest.raises(ProbeError, match="text file"):
            probe(path, "x")
        with pytest.raises(TimeoutError):  # nobody called
            server.accept()


def test_names_are_shown_escaped_everywhere(
    tmp_path: Path,
) -> None:
    from rich.console import Console

    from epam_extract.cli.info_table import info_report
    from epam_extract.cli.tables import failure_table, problem_table
    from epam_extract.progress.logging_setup import logging_to
    from epam_extract.progress.plain import PlainLines
    from epam_extract.progress.tqdm_bar import TqdmBar
    from epam_extract.records import VideoFailure
    from epam_extract.store.describe import describe

    name = "esc\x1b[31m\nred\u202e"
    shown = r"esc\x1b[31m\nred\u202e"
    failure = VideoFailure(name, "probe", f"{name}: no")
    with StoreWriter(tmp_path / "f.h5", HEADER) as store:
        write_features(store, name, 1, 9)
        store.commit()
    console = Console(file=io.StringIO(), width=200)
    for display in (PlainLines(console), TqdmBar(console)):
        with logging_to(display, verbose=True, log_file=tmp_path / "log"):
            display.video_failed(failure)
            display.warning(name)
    console.print(failure_table([failure]))
    console.print(problem_table([(name, None, name)]))
    console.print(info_report(describe(tmp_path / "f.h5")))
    text = console.file.getvalue() + (tmp_path / "log").read_text()  # type: ignore[attr-defined]
    assert "\x1b" not in text and "\u202e" not in text
    assert text.count(shown) >= 8


@pytest.mark.slow
def test_a_video_is_read_once_and_a_header_costs_next_to_nothing(tmp_path: Path) -> None:
    """Bytes that the decoder's process reads, as the system counts them."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 480, 640, 3), np.uint8)
    path = tmp_path / "noise.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuvj420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 2
        for picture in [*noise] * 4:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    size = path.stat().st_size
    assert size > 10e6
    close_workers()
    read_header(path)  # starts the one worker there is
    (worker,) = worker_pool._idle

    def read_by(work: Callable[[], object]) -> float:
        def count() -> int:
            lines = Path(f"/proc/{worker.pid}/io").read_text().splitlines()
            return int(dict(line.split(": ") for line in lines)["rchar"])

        before = count()
        work()
        assert worker_pool._idle == [worker]
        return (count() - before) / size

    def drain(decoder: str) -> None:
        with open_video(path, "x", decoder=decoder) as opened:
            assert sum(len(piece.frames) for piece in opened.frames()) == 96

    assert read_by(lambda: read_header(path)) < 0.02
    assert read_by(lambda: drain("pyav")) < 1.1
    if has_decord():
        assert read_by(lambda: drain("decord")) < 2.1


@pytest.mark.slow
def test_the_first_features_do_not_wait_for_the_plan(
    small: bytes, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every header but the first takes until two videos are done."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.mp4").write_bytes(small)
    done = threading.Semaphore(0)
    real, plans = plan.read_header, []

    def slow(path: Path, **options: object):
        if path.stem != "0":
            assert done.acquire(timeout=60)
            done.release()
        return real(path, **options)

    class Listen(Progress):
        def plan(self, plan: Plan) -> None:
            plans.append((plan.exact, plan.frames))

        def video_done(self, video_id: str, windows: int) -> None:
            done.release()

    monkeypatch.setattr(plan, "read_header", slow)
    monkeypatch.setattr("epam_extract.pipeline.output.COMMIT_SECONDS", 0.0)
    summary = extract_features(folder, tmp_path / "f.h5", POOLED, progress=Listen())
    assert summary.done == 6
    assert plans[0] == (False, 0)
