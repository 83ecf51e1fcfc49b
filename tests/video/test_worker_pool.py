"""Decode workers: reused, bounded, watched, and gone when the run is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import make_videos as make
import pytest
from video_samples import needs_decord, numbers

from epam_extract.errors import DecodeError, MachineError, ProbeError
from epam_extract.video import (
    close_workers,
    frames,
    probe,
    read_frames,
    worker_pool,
)
from epam_extract.video.memory import MemoryLimit


@pytest.mark.slow
def test_the_decoder_runs_at_most_three_pieces_ahead(sample: Callable[[str], Path]) -> None:
    with worker_pool.borrowed() as process:
        process.open(sample("long.mp4"), "pyav", stall_seconds=20, memory=MemoryLimit(10**9))
        beats_before = int(process._beats[0])
        shown = process.read(wanted=0, piece_frames=4, slots=worker_pool.SLOTS, stall_seconds=20)
        next(shown)
        time.sleep(0.3)
        # packets are read a little ahead of the frames they hold
        assert int(process._beats[0]) - beats_before <= 4 * (worker_pool.SLOTS + 1) + 8
        assert sum(map(len, shown)) == 96


@pytest.mark.slow
def test_copies_are_made_in_the_memory_of_earlier_ones(sample: Callable[[str], Path]) -> None:
    close_workers()
    with worker_pool.borrowed() as process:
        for _ in range(2):
            process.open(sample("long.mp4"), "pyav", stall_seconds=20, memory=MemoryLimit(10**9))
            shown = process.read(wanted=0, piece_frames=4, slots=3, stall_seconds=20)
            held = list(shown)  # two of the 25 lie in slots
            assert [make.number_of(frame) for piece in held for frame in piece] == list(range(100))
            assert not worker_pool._spare
            del held
            assert len(worker_pool._spare) == 23
    assert not worker_pool._spare  # no video is being read any more


def test_the_next_video_uses_the_slots_that_the_last_one_has_released(
    sample: Callable[[str], Path],
) -> None:
    close_workers()
    limit = MemoryLimit(10**9)
    with worker_pool.borrowed() as process:
        process.open(sample("long.mp4"), "pyav", stall_seconds=20, memory=limit)
        first, *_ = process.read(wanted=0, piece_frames=4, slots=3, stall_seconds=20)
        memory = process._memory
        process.open(sample("long.mp4"), "pyav", stall_seconds=20, memory=limit)
        pieces = process.read(wanted=0, piece_frames=4, slots=3, stall_seconds=20)
        assert [make.number_of(frame) for piece in pieces for frame in piece] == list(range(100))
        assert process._memory is memory
        assert [make.number_of(frame) for frame in first] == [0, 1, 2, 3]
        process.open(sample("long.mp4"), "pyav", stall_seconds=20, memory=limit)
        pieces = process.read(wanted=0, piece_frames=5, slots=3, stall_seconds=20)
        assert [make.number_of(frame) for piece in pieces for frame in piece] == list(range(100))
        assert process._memory is not memory  # its slots lay elsewhere, and one was still held
        assert [make.number_of(frame) for frame in first] == [0, 1, 2, 3]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
