"""Finding, probing and reading videos: exact frames, real times, kind errors, no hung run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import make_videos as make
import numpy as np
import pytest

from epam_extract.errors import ConfigError, DecodeError, MachineError, ProbeError
from epam_extract.records import Video
from epam_extract.video import (
    close_workers,
    decode,
    decord_decoder,
    find_videos,
    frames,
    open_video,
    probe,
    read_frames,
    read_header,
    worker_pool,
)
from epam_extract.video.memory import Room

HAS_DECORD = frames.has_decord()
needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this machine")

FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}
QUIET_X265 = {"x265-params": "log-level=none"}
VARIABLE = [index * 40 + (index % 3) * 11 for index in range(40)]
TS = "MPEG-TS/PS"


def _derived(name: str, change: Callable[[Path, Path], Path], first: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        return change(_make(path.parent, first), path)

    return write


def _writer(codec: str = "libx264", **settings: object) -> Callable[[Path], Path]:
    return lambda path: make.write_video(path, codec, **settings)  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": _writer(),
    "h264_b.mp4": _writer(options={"bf": "3", "g": "12"}),
    "open_gop.mp4": _writer(options={"x264-params": "open-gop=1:keyint=15:bframes=3"}),
    "h264.mkv": _writer(),
    "audio.mp4": _writer(audio=True),
    "fragmented.mp4": _writer(container_options={"movflags": "+frag_keyframe+empty_moov"}),
    "faststart.mp4": _writer(container_options={"movflags": "+faststart"}),
    "full_range.mp4": _writer(pix_fmt="yuvj420p"),
    "bt709.mp4": _writer(options={"colorspace": "bt709"}),
    "odd444.mp4": _writer(height=65, width=97, pix_fmt="yuv444p"),
    "ntsc.mp4": _writer(rate=Fraction(30000, 1001)),
    "422.mp4": _writer(pix_fmt="yuv422p"),
    "interlaced.mp4": _writer(options={"x264-params": "interlaced=1", "flags": "+ildct+ilme"}),
    "alpha.webm": _writer("libvpx-vp9", options=FAST_VPX, pix_fmt="yuva420p"),
    "mpeg2.mkv": _writer("mpeg2video", options={"bf": "2"}),
    "flv1.flv": _writer("flv"),
    "hevc.mp4": _writer("libx265", options=QUIET_X265),
    "hevc10.mp4": _writer("libx265", options=QUIET_X265, pix_fmt="yuv420p10le"),
    "vp8.webm": _writer("libvpx", options=FAST_VPX),
    "vp9.webm": _writer("libvpx-vp9", options=FAST_VPX),
    "odd.webm": _writer("libvpx-vp9", options=FAST_VPX, height=65, width=97),
    "mpeg4.avi": _writer("mpeg4"),
    "mpeg4_b.avi": _writer("mpeg4", options={"bf": "2"}),
    "mjpeg.avi": _writer("mjpeg", pix_fmt="yuvj420p"),
    "wmv2.wmv": _writer("wmv2"),
    "av1.mp4": _writer("libsvtav1", options={"preset": "12"}),
    "animated.gif": _writer("gif", pix_fmt="rgb8"),
    "h264.ts": _writer(format="mpegts"),
    "mpeg2.mpg": _writer("mpeg2video", options={"bf": "2"}),
    "raw.h264": _writer(format="h264"),
    "variable.mp4": _writer(times_ms=VARIABLE),
    "variable.mkv": _writer(times_ms=VARIABLE),
    "one.mp4": _writer(frames=1),
    "two.mp4": _writer(frames=2),
    "long.mp4": _writer(frames=100, options={"g": "30", "bf": "3"}),
    "late.mp4": _derived("late", lambda a, b: make.remux(a, b, shift=5), "h264.mp4"),
    "negative.mp4": _derived("negative", lambda a, b: make.remux(a, b, shift=-1), "h264.mp4"),
    "cut.mp4": _derived("cut", lambda a, b: make.remux(a, b, skip_seconds=1.8), "long.mp4"),
    "cut.mkv": _derived(
        "cut", lambda a, b: make.remux(a, b, skip_seconds=1.8, shift=-2.3), "long.mp4"
    ),
    "turned90.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 90), "h264.mp4"),
    "turned180.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 180), "h264.mp4"),
    "turned270.mp4": _derived("turned", lambda a, b: make.rotate(a, b, 270), "h264.mp4"),
    "short.mp4": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "faststart.mp4"),
    "short.mkv": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "h264.mkv"),
    "short.ts": _derived("short", lambda a, b: make.damage(a, b, keep=0.6), "h264.ts"),
    "hole.mp4": _derived("hole", lambda a, b: make.damage(a, b, wipe=(0.3, 0.5)), "h264.mp4"),
    "no_index.mp4": _derived("no_index", lambda a, b: make.damage(a, b, keep=0.5), "h264.mp4"),
    "sound.m4a": make.write_audio,
    "cover.m4a": make.write_cover_only,
}


NO_VIDEO = ("no_index.mp4", "sound.m4a", "cover.m4a")


def _make(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else WRITERS[name](path)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a sample the first time it is asked for."""
    folder = tmp_path_factory.mktemp("videos")
    return lambda name: _make(folder, name)


@pytest.fixture(scope="module", autouse=True)
def _no_reader_left() -> Iterator[None]:
    yield
    close_workers()


def numbers(video: Video, turns: int = 0, **options: object) -> list[int]:
    """The frame numbers that come out."""
    pieces = read_frames(video, **options)  # type: ignore[arg-type]
    return [make.number_of(np.rot90(f, turns)) for piece in pieces for f in piece.frames]


# (name, first and number of frames shown, first time, why decord would read it wrongly)
EXACT = [
    ("h264.mp4", 0, 40, 0.0, ""),
    ("h264_b.mp4", 0, 40, 0.0, ""),
    ("open_gop.mp4", 0, 40, 0.0, ""),
    ("h264.mkv", 0, 40, 0.0, ""),
    ("audio.mp4", 0, 40, 0.0, ""),
    ("fragmented.mp4", 0, 40, 0.08, ""),
    ("faststart.mp4", 0, 40, 0.0, ""),
    ("full_range.mp4", 0, 40, 0.0, ""),
    ("bt709.mp4", 0, 40, 0.0, ""),
    ("odd444.mp4", 0, 40, 0.0, ""),
    ("hevc.mp4", 0, 40, 0.0, ""),
    ("vp8.webm", 0, 40, 0.0, ""),
    ("vp9.webm", 0, 40, 0.0, ""),
    ("mpeg4.avi", 0, 40, 0.0, ""),
    ("mpeg4_b.avi", 0, 40, 0.04, ""),
    ("mjpeg.avi", 0, 40, 0.0, ""),
    ("wmv2.wmv", 0, 40, 0.0, ""),
    ("422.mp4", 0, 40, 0.0, ""),
    ("alpha.webm", 0, 40, 0.0, ""),
    ("mpeg2.mkv", 0, 40, 0.0, ""),
    ("flv1.flv", 0, 40, 0.0, ""),
    ("late.mp4", 0, 40, 5.0, ""),
    ("one.mp4", 0, 1, 0.0, ""),
    ("two.mp4", 0, 2, 0.0, ""),
    ("hevc10.mp4", 0, 40, 0.0, ""),
    ("odd.webm", 0, 40, 0.0, ""),
    ("av1.mp4", 0, 40, 0.0, "AV1"),
    ("animated.gif", 0, 40, 0.0, "GIF"),
    ("h264.ts", 0, 40, 0.08, TS),
    ("mpeg2.mpg", 0, 40, 0.54, TS),
    ("raw.h264", 0, 40, 0.0, "missing timestamps"),
    ("negative.mp4", 25, 15, 0.0, "edit list"),
    ("cut.mp4", 60, 40, 2.4, "edit list"),
    ("cut.mkv", 60, 40, 0.48, "missing timestamps"),
]


@pytest.mark.parametrize(("name", "first", "count", "begins", "why"), EXACT)
def test_every_frame_once_in_order_at_its_time(
    sample: Callable[[str], Path], name: str, first: int, count: int, begins: float, why: str
) -> None:
    found = probe(sample(name), name)
    assert found.num_frames == count
    assert found.fps == 25
    assert np.allclose(found.timestamps, begins + np.arange(count) / 25, atol=2e-3)
    assert (found.height, found.width) == ((65, 97) if name.startswith("odd") else (64, 96))
    if why and HAS_DECORD:
        with pytest.raises(ProbeError, match=why):
            probe(sample(name), name, decoder="decord")
    assert numbers(found) == list(range(first, first + count))


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in NO_VIDEO])
def test_reading_once_finds_what_a_probe_measures(sample: Callable[[str], Path], name: str) -> None:
    with open_video(sample(name), "x") as opened:
        shown = [frame for piece in opened.frames() for frame in piece.frames]
    assert opened.video is not None
    if name == "hole.mp4":  # where the packets do not show the damage
        assert opened.video.notes == (f"damaged or cut short: {len(shown)} of 40 frames decode",)
        assert opened.video.num_frames == len(shown) < 40
        assert np.allclose(opened.video.timestamps[:7], np.arange(7) / 25)
        assert opened.video.timestamps[-1] > len(shown) / 25  # what is missing moves no other
        assert opened.video.fps == 25
        return
    found = probe(sample(name), "x")
    assert len(shown) == found.num_frames
    assert repr(opened.video) == repr(found)
    np.testing.assert_array_equal(opened.video.timestamps, found.timestamps)


@pytest.mark.parametrize("name", ["h264_b.mp4", "ntsc.mp4", "mpeg4_b.avi", "vp9.webm", "h264.mkv"])
def test_a_header_alone_says_how_many_frames_to_expect(
    sample: Callable[[str], Path], name: str
) -> None:
    header = read_header(sample(name))
    assert header.frames == 40
    assert float(header.fps) == pytest.approx(29.97 if name == "ntsc.mp4" else 25, abs=0.01)


@needs_decord
@pytest.mark.parametrize(
    "name",
    [row[0] for row in EXACT if not row[4] and row[0] not in ("hevc10.mp4", "odd.webm")]
    + ["turned90.mp4"],
)
def test_on_common_videos_both_decoders_give_the_same_bits(
    sample: Callable[[str], Path], name: str
) -> None:
    found = probe(sample(name), name)
    ours = np.concatenate([piece.frames for piece in read_frames(found, decoder="decord")])
    theirs = np.concatenate([piece.frames for piece in read_frames(found, decoder="pyav")])
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["variable.mp4", "variable.mkv"])
def test_variable_frame_rate_keeps_real_times(sample: Callable[[str], Path], name: str) -> None:
    found = probe(sample(name), name)
    assert np.allclose(found.timestamps, np.array(VARIABLE) / 1000, atol=1e-3)
    assert float(found.fps) == pytest.approx(39 / 1.56, rel=0.02)
    assert numbers(found) == list(range(40))


def test_ntsc_rate_is_the_exact_fraction(sample: Callable[[str], Path]) -> None:
    assert probe(sample("ntsc.mp4"), "x").fps == Fraction(30000, 1001)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_rotation_is_applied(
    sample: Callable[[str], Path], degrees: int, turns: int, decoder: str
) -> None:
    found = probe(sample(f"turned{degrees}.mp4"), "x")
    assert (found.height, found.width) == ((64, 96) if degrees == 180 else (96, 64))
    # a picture shown turned clockwise reads again when it is turned back, counter-clockwise
    assert numbers(found, turns, decoder=decoder) == list(range(40))


def test_a_change_of_picture_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    small = make.write_video(tmp_path / "a.ts", format="mpegts", frames=20)
    large = make.write_video(
        tmp_path / "b.ts", format="mpegts", frames=20, height=128, width=192, first=20
    )
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    found = probe(both, "both")
    assert (found.height, found.width) == (64, 96)
    pieces = [piece.frames for piece in read_frames(found)]
    assert sum(map(len, pieces)) == found.num_frames >= 38
    assert {piece.shape[1:] for piece in pieces} == {(64, 96, 3)}


# --------------------------------------------------------------------------------------- trouble


def test_cut_short_with_index_gives_what_decodes_and_says_so(
    sample: Callable[[str], Path],
) -> None:
    found = probe(sample("short.mp4"), "x")
    assert f"damaged or cut short: {found.num_frames} of 40 frames decode" in found.notes
    shown = numbers(found)
    assert 5 < len(shown) == found.num_frames < 30
    assert np.allclose(found.timestamps, np.array(shown) / 25)  # a lost frame moves no other


@pytest.mark.parametrize("name", ["short.mkv", "short.ts"])
def test_cut_short_stream_gives_exactly_the_frames_counted(
    sample: Callable[[str], Path], name: str
) -> None:
    found = probe(sample(name), "x")
    shown = numbers(found)
    assert 5 < len(shown) == found.num_frames < 30
    assert np.allclose(found.timestamps - found.timestamps[0], np.array(shown) / 25, atol=2e-3)


def test_damage_that_packets_do_not_show_is_a_decode_error_with_counts(
    sample: Callable[[str], Path],
) -> None:
    found = probe(sample("hole.mp4"), "x")
    with pytest.raises(DecodeError, match=r"hole\.mp4: only \d+ of 40 frames decode"):
        numbers(found)


def test_a_file_that_changes_after_the_probe_is_a_decode_error(
    sample: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(sample("h264.mp4").read_bytes())
    found = probe(path, "x")
    path.write_bytes(sample("long.mp4").read_bytes())
    with pytest.raises(DecodeError, match="40"):
        numbers(found)
    path.write_bytes(sample("two.mp4").read_bytes())
    with pytest.raises(DecodeError, match="2 of 40 frames"):
        numbers(found)


def _text(path: Path) -> Path:
    path.write_text("this is a text file\nand no video\n")
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).integers(0, 256, 20000, np.uint8).tobytes())
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _broken_link(path: Path) -> Path:
    path.symlink_to(path.parent / "gone")
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (_empty, "is empty"),
        (_text, "text file"),
        (_noise, "no video in any format"),
        (WRITERS["no_index.mp4"], "without its index"),
        (make.write_audio, "it has sound but no video"),
        (make.write_cover_only, "it has sound and a cover picture, but no video"),
        (_broken_link, "broken link"),
        (_folder, "is a directory"),
        (lambda path: path, "No such file"),
    ],
)
def test_what_is_no_video_is_one_clear_sentence(
    tmp_path: Path, write: Callable[[Path], Path], sentence: str
) -> None:
    path = write(tmp_path / "x.mp4")
    with pytest.raises(ProbeError, match=sentence) as caught:
        probe(path, "x")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@needs_decord
@pytest.mark.parametrize("name", ["h264.ts", "av1.mp4", "cut.mp4"])
def test_decord_on_request_refuses_what_it_reads_wrongly(
    sample: Callable[[str], Path], name: str
) -> None:
    with pytest.raises(ProbeError, match="--decoder auto"):
        probe(sample(name), "x", decoder="decord")


@needs_decord
def test_decord_on_request_reads_what_it_can(sample: Callable[[str], Path]) -> None:
    for name in ("h264.mp4", "hevc10.mp4"):
        found = probe(sample(name), "x", decoder="decord")
        assert numbers(found, decoder="decord") == list(range(40))
    with pytest.raises(DecodeError, match="decord gives up"):
        numbers(probe(sample("hole.mp4"), "x"), decoder="decord")


@needs_decord
def test_decord_needs_no_look_at_every_packet_where_the_index_says_enough(
    sample: Callable[[str], Path],
) -> None:
    def by_index(name: str) -> decode.Measured | None:
        return decode.PyavDecoder(str(sample(name)), lambda: None, Room(10**9)).by_index()

    for name in ("h264.mp4", "h264_b.mp4", "ntsc.mp4", "late.mp4", "one.mp4"):
        found, measured = by_index(name), probe(sample(name), "x")
        assert found is not None
        np.testing.assert_array_equal(found.timestamps, measured.timestamps)
    for name in ("h264.mkv", "variable.mp4", "negative.mp4", "cut.mp4", "short.mp4", "av1.mp4"):
        assert by_index(name) is None


def test_decord_on_request_must_be_installed(
    sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "has_decord", lambda: False)
    assert numbers(probe(sample("h264.mp4"), "x")) == list(range(40))
    with pytest.raises(ConfigError, match="decord is not installed"):
        probe(sample("h264.mp4"), "x", decoder="decord")


def test_another_decoder_is_refused(sample: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="auto, decord, pyav"):
        probe(sample("h264.mp4"), "x", decoder="opencv")


@pytest.mark.parametrize("shown", [(64, 96, 3), (96, 64, 3)])
def test_decord_is_refused_when_its_first_frame_is_another(shown: tuple[int, int, int]) -> None:
    right = make.picture(0)
    decord_decoder._agree(right, right.copy())
    with pytest.raises(decode.Unreadable, match="decord"):
        decord_decoder._agree(make.picture(1).reshape(shown), right)


# ---------------------------------------------------------------------------------------- pieces


def test_pieces_are_full_but_the_last_and_start_anywhere(sample: Callable[[str], Path]) -> None:
    found = probe(sample("long.mp4"), "x")
    pieces = list(read_frames(found))
    assert [piece.start for piece in pieces] == list(range(0, 100, 16))
    assert [len(piece.frames) for piece in pieces] == [16] * 6 + [4]
    for decoder in ("auto", "pyav"):
        later = list(read_frames(found, start=48, decoder=decoder))
        assert [piece.start for piece in later] == [48, 64, 80, 96]
        for ours, theirs in zip(later, pieces[3:], strict=True):
            assert np.array_equal(ours.frames, theirs.frames)
    assert list(read_frames(found, start=100)) == []
    with pytest.raises(ValueError, match="start"):
        read_frames(found, start=101)


def test_pieces_stay_right_for_as_long_as_they_are_held(sample: Callable[[str], Path]) -> None:
    found = probe(sample("long.mp4"), "x")
    first = list(read_frames(found))
    views = [piece.frames[3:, ::2] for piece in first[:2]]
    copies = [view.copy() for view in views]
    whole = [piece.frames.copy() for piece in first]
    held = first[-1].frames
    del first
    again = list(read_frames(found))
    other = list(read_frames(probe(sample("turned90.mp4"), "y")))
    close_workers()
    assert len(other) == 3
    for view, copy in zip(views, copies, strict=True):
        assert np.array_equal(view, copy)
    assert np.array_equal(held, whole[-1])
    for piece, copy in zip(again, whole, strict=True):
        assert np.array_equal(piece.frames, copy)


def test_the_decoder_runs_at_most_three_pieces_ahead(sample: Callable[[str], Path]) -> None:
    with worker_pool.borrowed() as process:
        process.open(sample("long.mp4"), "pyav", stall_seconds=20, room=Room(10**9))
        beats_before = int(process._beats[0])
        shown = process.read(wanted=0, piece_frames=4, slots=worker_pool.SLOTS, stall_seconds=20)
        next(shown)
        time.sleep(0.3)
        # packets are read a little ahead of the frames they hold
        assert int(process._beats[0]) - beats_before <= 4 * (worker_pool.SLOTS + 1) + 8
        assert sum(map(len, shown)) == 96


def test_large_pieces_and_systems_without_memfd(
    sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    close_workers()
    monkeypatch.setattr(worker_pool, "LARGE_PIECE", 1)  # two slots instead of three
    monkeypatch.delattr(os, "memfd_create", raising=False)
    found = probe(sample("long.mp4"), "x")
    held = list(read_frames(found))
    shown = [make.number_of(frame) for piece in held for frame in piece.frames]
    assert shown == list(range(100))


def test_a_reader_that_cannot_start_stops_the_run(
    sample: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    close_workers()
    monkeypatch.setattr(worker_pool, "BOOT", "raise ImportError('no av here')")
    with pytest.raises(MachineError, match=r"no av here.*pip install"):
        probe(sample("h264.mp4"), "x")


def test_one_process_serves_one_video_after_the_other(sample: Callable[[str], Path]) -> None:
    close_workers()
    seen = set()
    for name in ("h264.mp4", "h264.ts", "vp9.webm"):
        numbers(probe(sample(name), name))
        seen |= {process.pid for process in worker_pool._idle}
    assert len(seen) == 1


def test_closing_in_mid_video_ends_the_process(sample: Callable[[str], Path]) -> None:
    close_workers()
    found = probe(sample("long.mp4"), "x")
    (pid,) = {process.pid for process in worker_pool._idle}
    pieces = read_frames(found)
    next(pieces)
    pieces.close()
    assert worker_pool._idle == []
    assert not _alive(pid)
    assert numbers(found) == list(range(100))


def test_videos_are_read_in_threads_at_the_same_time(sample: Callable[[str], Path]) -> None:
    names = ["h264.mp4", "h264.ts", "long.mp4", "vp9.webm"]
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda name: numbers(probe(sample(name), name)), names))
    assert [len(g) for g in got] == [40, 40, 100, 40]
    assert all(g == list(range(len(g))) for g in got)


def test_strange_names_are_paths_and_nothing_else(
    sample: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:0.mp4", "-x.mp4", "männ %03d #1?.mp4", "concat:a|b.mp4"):
        Path(name).write_bytes(sample("h264.mp4").read_bytes())
        assert numbers(probe(Path(name), name)) == list(range(40))


# -------------------------------------------------------------------------------------- watchdog

HANG = "__import__('ctypes').PyDLL(None).sleep(60)"  # in C, holding Python's lock
CRASH = "__import__('os').kill(__import__('os').getpid(), 11)"


@pytest.fixture
def broken_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make a method of a decoder in new workers do ``trouble`` at the 20th frame it gives."""

    def install(method: str, trouble: str, at: int = 20) -> None:
        close_workers()
        decoder, method = method.split(".")
        home = {"PyavDecoder": "decode", "DecordDecoder": "decord_decoder"}[decoder]
        monkeypatch.setattr(
            worker_pool,
            "BOOT",
            f"""
import sys; sys.path[:] = [sys.argv[4], *filter(None, sys.path)]
from epam_extract.video.{home} import {decoder}
from epam_extract.video import decode_worker
real = {decoder}.{method}
def broken(*arguments):
    for index, frame in enumerate(real(*arguments)):
        if index == {at}:
            {trouble}
        yield frame
{decoder}.{method} = broken
decode_worker.serve()
""",
        )

    yield install
    close_workers()


KILL = "__import__('os').kill(__import__('os').getpid(), 9)"
TOLD = {
    CRASH: "were read, then the decoder process died",
    KILL: r"then the decoder process was killed \(SIGKILL\), perhaps because memory is full",
}


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "crash"), [(1, CRASH), (2, CRASH), (3, CRASH), (3, KILL)])
def test_a_worker_that_is_killed_is_no_fault_of_the_video(
    sample: Callable[[str], Path],
    broken_worker: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kills: int,
    crash: str,
) -> None:
    """Two more workers go on where it died; the video is to blame when three died in a row."""
    count = tmp_path / "kills"
    count.touch()
    die = f"""
            path = __import__('pathlib').Path({str(count)!r})
            if len(path.read_text()) < {kills}:
                path.write_text(path.read_text() + "x")
                {crash}"""
    broken_worker("PyavDecoder.frames", die.strip(), at=2)
    found = probe(sample("long.mp4"), "x")
    if kills < frames.ATTEMPTS:
        assert numbers(found) == list(range(100))
        assert caplog.text.count("another one is tried") == kills
    else:
        with pytest.raises(DecodeError, match=TOLD[crash]):
            numbers(found)


@pytest.mark.slow
@needs_decord
def test_a_hang_of_decord_on_request_is_reported(
    sample: Callable[[str], Path], broken_worker: Callable[[str, str], None]
) -> None:
    broken_worker("DecordDecoder.frames", HANG)
    found = probe(sample("long.mp4"), "x")
    with pytest.raises(DecodeError, match="16 of 100 frames were read, then the decoder stood"):
        numbers(found, decoder="decord", stall_seconds=0.5)


def test_a_hang_of_pyav_is_reported(
    sample: Callable[[str], Path], broken_worker: Callable[[str, str], None]
) -> None:
    broken_worker("PyavDecoder.frames", HANG)
    found = probe(sample("long.mp4"), "x")
    with pytest.raises(DecodeError, match="16 of 100 frames were read, then the decoder stood"):
        numbers(found, decoder="pyav", stall_seconds=0.5)


@pytest.mark.slow
def test_a_hang_of_the_probe_is_reported(
    sample: Callable[[str], Path], broken_worker: Callable[[str, str], None]
) -> None:
    broken_worker("PyavDecoder._decode", HANG)
    with pytest.raises(ProbeError, match="stood still"):
        probe(sample("h264.ts"), "x", stall_seconds=0.5)


@pytest.mark.slow
def test_a_slow_reader_is_no_hung_one(
    sample: Callable[[str], Path],
    broken_worker: Callable[[str, str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken_worker("PyavDecoder.frames", "pass\n        __import__('time').sleep(0.02)")
    found = probe(sample("long.mp4"), "x")
    # a piece takes longer than the limit, a frame does not
    assert numbers(found, decoder="pyav", stall_seconds=0.25) == list(range(100))
    assert not caplog.records


def test_signals_for_the_parent_do_not_end_a_reader(sample: Callable[[str], Path]) -> None:
    close_workers()
    found = probe(sample("long.mp4"), "x")
    (pid,) = {process.pid for process in worker_pool._idle}
    assert os.getsid(pid) != os.getsid(0)  # Ctrl-C does not even reach it
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert numbers(found) == list(range(100))
    assert {process.pid for process in worker_pool._idle} == {pid}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["pass", HANG.replace("PyDLL", "CDLL")])
def test_nothing_is_left_when_the_parent_is_killed(
    sample: Callable[[str], Path], trouble: str
) -> None:
    """Not a process, even one stuck in C, and no shared memory with a name."""
    shared = Path("/dev/shm")
    before = set(shared.iterdir()) if shared.is_dir() else set()
    script = f"""
import sys, time
from pathlib import Path
from epam_extract import video
from epam_extract.video import worker_pool
worker_pool.BOOT = '''
import sys; sys.path[:] = [sys.argv[4], *filter(None, sys.path)]
from epam_extract.video import decode_worker
from epam_extract.video.decode import PyavDecoder
real = PyavDecoder.frames
def stuck(*arguments):
    for index, frame in enumerate(real(*arguments)):
        if index == 40:
            {trouble}
        yield frame
PyavDecoder.frames = stuck
decode_worker.serve()
'''
found = video.probe(Path(sys.argv[1]), "x")
print(worker_pool._idle[0].pid, flush=True)
frames = video.read_frames(found, decoder="pyav")
next(frames), next(frames)
print("reading", flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(sample("long.mp4"))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert parent.stdout.readline() == "reading\n"
    assert _alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _alive(pid) and not _zombie(pid):  # it notices by itself, or this never ends
        time.sleep(0.05)
    after = set(shared.iterdir()) if shared.is_dir() else set()
    assert not {path for path in after - before if "epam" in path.name or "psm" in path.name}


def _zombie(pid: int) -> bool:
    """Dead but not yet collected, as under a container's init that collects nobody."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return False


# --------------------------------------------------------------------------------------- finding


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
