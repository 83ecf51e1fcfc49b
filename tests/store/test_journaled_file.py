"""Atomic commits of a plain file, whatever fails, at every single operation."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_disk import (
    FAULTS,
    FaultyDisk,
    Killed,
    RecordingDisk,
    fresh_folders,
    spread,
)
from faulty_disk import tmp_path as tmp_path

from epam_extract.errors import StoreError, StoreLocked
from epam_extract.store import journal
from epam_extract.store.journal import committed_view, journal_path, lock_path
from epam_extract.store.journaled_file import JournaledFile, Operations

# A toy format: its length in bytes 8 to 16, a table of 3 pages, then whatever was appended.
TABLE = 3 * 4096
EMPTY = b"TOYFILE!" + TABLE.to_bytes(8, "little") + bytes(TABLE - 16)
COMMITS = 6


def end_of_file(head: bytes) -> int:
    if head[:8] != b"TOYFILE!":
        raise StoreError("not a toy")
    return int.from_bytes(head[8:16], "little")


def change(file: JournaledFile, number: int) -> None:
    """The ``number``-th transaction's writes: some below the old end, some past it, one shrinks."""
    rng = random.Random(number)
    size = file.size
    if number == 4:
        size -= 3000
        file.truncate(size)
    else:
        for length in (900, 70_000 if number % 2 else 5000, 1):
            file.seek(size)
            file.write(memoryview(rng.randbytes(length)))
            size += length
    for _ in range(4):
        file.seek(rng.randrange(64, TABLE - 200))
        file.write(memoryview(rng.randbytes(150)))
    file.seek(20)
    file.write(memoryview(bytes([number + 1])))
    file.seek(8)
    file.write(memoryview(size.to_bytes(8, "little")))
    file.check()


def open_toy(path: Path, disk: Operations | None = None, patience: float = 5.0) -> JournaledFile:
    return JournaledFile(
        path, initial=EMPTY, end_of_file=end_of_file, operations=disk, patience=patience
    )


def run(path: Path, disk: Operations | None, reported: list[int]) -> None:
    """Do the commits that are missing, noting each one once it is reported as done."""
    with open_toy(path, disk) as file:
        file.seek(20)
        for number in range(file.read(1)[0], COMMITS):
            with file.transaction():
                change(file, number)
            reported.append(number + 1)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The file's bytes after 0, 1, 2, ... commits."""
    path = tmp_path_factory.mktemp("states") / "toy"
    found = [EMPTY]
    with open_toy(path) as file:
        for number in range(COMMITS):
            with file.transaction():
                change(file, number)
            found.append(path.read_bytes())
    return found


def read_committed(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return committed_view(descriptor, path, end_of_file=end_of_file).read()
    finally:
        os.close(descriptor)


def require_intact(path: Path, states: list[bytes], reported: list[int]) -> None:
    """A reader, then recovery, then the rest of the run all see what was reported."""
    least = max(reported, default=0)
    if path.exists():
        assert states.index(read_committed(path)) >= least
        with open_toy(path, FaultyDisk()):
            pass
        assert states.index(path.read_bytes()) >= least
    else:
        assert least == 0
    run(path, FaultyDisk(), [])  # without faults: only its syncs cost no time
    assert path.read_bytes() == states[-1]


NAMES_TAKEN_AWAY = 2  # at the end: journal and lock; it is no failure if that does not work


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_operation_loses_nothing(
    tmp_path: Path, states: list[bytes], fault: str
) -> None:
    counting = FaultyDisk()
    run(tmp_path / "toy", counting, [])
    assert counting.count > 60
    for at, folder in zip(range(counting.count), fresh_folders(tmp_path), strict=False):
        reported: list[int] = []
        leaving = at >= counting.count - NAMES_TAKEN_AWAY and fault.startswith("full")
        unseen = leaving or fault == "full once"
        with _maybe(OSError) if unseen else pytest.raises((Killed, OSError)):
            run(folder / "toy", FaultyDisk(at=at, fault=fault), reported)
        require_intact(folder / "toy", states, reported)


class _maybe:
    """Swallows an error if there is one: a courtesy like the lock's process id may fail unseen."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is not None and issubclass(kind, self._kind)


def test_a_run_goes_on_after_the_disk_was_full_once(tmp_path: Path, states: list[bytes]) -> None:
    """In the same process, with the same file object, up to the commit point."""
    path = tmp_path / "toy"
    counting = FaultyDisk()
    with open_toy(path, counting) as file:
        opening = counting.count
        with file.transaction():
            change(file, 0)
        full = counting.count
        journal_synced = full - 4  # then come the head, the pages, the fsync and the striking out
    for at, folder in zip(range(opening, journal_synced), fresh_folders(tmp_path), strict=False):
        path = folder / "toy"
        with open_toy(path, FaultyDisk(at=at, fault="full once")) as file:
            with pytest.raises(OSError, match="No space"), file.transaction():
                change(file, 0)
            assert path.read_bytes() == EMPTY
            with file.transaction():
                change(file, 0)
        assert path.read_bytes() == states[1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["before", "half", "after"])
def test_a_kill_during_recovery_loses_nothing(
    tmp_path: Path, states: list[bytes], fault: str
) -> None:
    counting = FaultyDisk()
    run(tmp_path / "toy", counting, [])
    trials = 0
    fresh = fresh_folders(tmp_path)
    for first in range(0, counting.count, 6):
        for second in range(12):
            folder = next(fresh)
            path = folder / "toy"
            reported: list[int] = []
            with pytest.raises(Killed):
                run(path, FaultyDisk(at=first, fault="after"), reported)
            disk = FaultyDisk(at=second, fault=fault)
            with _maybe(Killed), open_toy(path, disk):
                pass
            require_intact(path, states, reported)
            trials += 1
            if disk.count <= second:
                break
    assert trials > 80


@pytest.mark.slow
def test_a_power_cut_loses_nothing(tmp_path: Path, states: list[bytes]) -> None:
    disk = RecordingDisk()
    path = tmp_path / "recorded" / "toy"
    path.parent.mkdir()
    reports: list[tuple[int, int]] = []
    with open_toy(path, disk) as file:
        for number in range(COMMITS):
            with file.transaction():
                change(file, number)
            reports.append((len(disk.log), number + 1))
    rng = random.Random(0)
    for _, folder in zip(range(400), fresh_folders(tmp_path), strict=False):
        after = rng.randint(1, len(disk.log))
        disk.cut(folder, after=after, rng=rng)
        reported = [number for length, number in reports if length <= after]
        require_intact(folder / "toy", states, reported)


def test_forgetting_a_sync_is_noticed(tmp_path: Path, states: list[bytes]) -> None:
    """The power cuts above can fail: without the first fsync of a commit they do."""

    class Forgetful(RecordingDisk):
        def fsync(self, descriptor: int) -> None:
            if os.fstat(descriptor).st_size >= len(EMPTY):  # the main file's
                return
            super().fsync(descriptor)

    disk = Forgetful()
    path = tmp_path / "recorded" / "toy"
    path.parent.mkdir()
    run(path, disk, [])
    rng = random.Random(0)
    broken = 0
    for _, folder in zip(range(60), fresh_folders(tmp_path), strict=False):
        disk.cut(folder, after=len(disk.log), rng=rng)
        try:
            require_intact(folder / "toy", states, [COMMITS])
        except (AssertionError, ValueError, StoreError):
            broken += 1
    assert broken > 10


def test_an_abort_leaves_identical_bytes(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    run(path, None, [])
    with open_toy(path) as file:
        for number in (0, 3, 4):
            with pytest.raises(ZeroDivisionError), file.transaction():
                change(file, number)
                raise ZeroDivisionError
            assert path.read_bytes() == states[-1]
        with file.transaction():
            pass
        assert not journal_path(path).read_bytes()[:8].strip(b"\0")
    assert path.read_bytes() == states[-1]


def test_a_reader_sees_old_bytes_until_the_commit(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    seen: list[int] = []

    class Watched(Operations):
        def fsync(self, descriptor: int) -> None:
            if path.exists():
                seen.append(states.index(read_committed(path)))

    run(path, Watched(), [])
    assert seen == sorted(seen)
    assert set(seen) == set(range(COMMITS + 1))


@pytest.mark.slow
def test_a_reader_holds_a_commit_up_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "toy"
    script = "import fcntl,sys;f=open(sys.argv[1]);fcntl.flock(f,fcntl.LOCK_SH);print(1,flush=True)"
    with open_toy(path, patience=0.2) as file:
        reader = subprocess.Popen(
            [sys.executable, "-c", f"{script};sys.stdin.read()", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert reader.stdout is not None and reader.stdin is not None
        reader.stdout.readline()
        with pytest.raises(StoreLocked, match="kept it open") as refusal, file.transaction():
            change(file, 0)
        if Path("/proc/locks").exists():
            assert f"process {reader.pid}" in str(refusal.value)
        assert path.read_bytes() == EMPTY
        timer = threading.Timer(0.1, reader.communicate)
        timer.start()
        with file.transaction():  # waits until the reader is gone
            change(file, 0)
        timer.join()


def test_a_second_writer_is_refused_with_the_process_id(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    with (
        open_toy(path),
        pytest.raises(StoreLocked, match=f"process {os.getpid()} is writing"),
    ):
        open_toy(path)
    with open_toy(path):
        pass


def test_a_foreign_writer_is_kept_out(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    with open_toy(path), path.open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreLocked, match="open for writing"):
            open_toy(path)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    file = open_toy(path)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"running")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(told, 7) == b"running"
        file.close()
        open_toy(path).close()
    finally:
        os.close(told)
        os.close(tell)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def half_applied(path: Path) -> None:
    """Leave a whole journal and a main file into which half of it was copied."""
    counting = FaultyDisk()
    with open_toy(path.with_name("counting"), counting) as file:
        with file.transaction():
            change(file, 0)
        end = counting.count
    with pytest.raises(Killed):
        run(path, FaultyDisk(at=end - 4, fault="half"), [])
    assert journal_path(path).stat().st_size


def test_readers_need_no_recovery(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    half_applied(path)
    assert path.read_bytes() not in states
    assert read_committed(path) == states[1]


def test_a_journal_of_another_file_is_refused(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    half_applied(path)
    path.write_bytes(states[3])
    with pytest.raises(StoreError, match="another version of toy"):
        open_toy(path)
    with pytest.raises(StoreError, match="another version of toy"):
        read_committed(path)
    assert path.read_bytes() == states[3]
    journal_path(path).unlink()
    run(path, None, [])
    assert path.read_bytes() == states[-1]


def test_a_journal_without_its_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    half_applied(path)
    path.unlink()
    with pytest.raises(StoreError, match="which is gone"):
        open_toy(path)
    assert not path.exists()


def test_something_else_in_the_journals_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    run(path, None, [])
    journal_path(path).write_text("my notes")
    with pytest.raises(StoreError, match="was not written by"):
        open_toy(path)
    assert journal_path(path).read_text() == "my notes"


def test_a_torn_journal_never_happened(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    half_applied(path)
    whole = journal_path(path).read_bytes()
    for length in spread(len(whole), 40):
        if length < len(whole):
            path.write_bytes(states[0])
            journal_path(path).write_bytes(whole[:length])
            with open_toy(path):
                pass
            assert path.read_bytes() == states[0]


def test_a_file_cut_short_is_refused(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    path.write_bytes(states[3][:-10])
    with pytest.raises(StoreError, match=r"cut short: \d+ bytes of \d+"):
        open_toy(path)
    assert path.read_bytes() == states[3][:-10]


def test_what_lies_past_the_stated_end_is_cut_off(tmp_path: Path, states: list[bytes]) -> None:
    path = tmp_path / "toy"
    path.write_bytes(states[3] + b"left by a killed run")
    with open_toy(path):
        assert path.read_bytes() == states[3]


@pytest.mark.parametrize("fault", FAULTS)
def test_replacing_the_file_is_atomic(tmp_path: Path, states: list[bytes], fault: str) -> None:
    counting = FaultyDisk()
    path = tmp_path / "toy"
    path.write_bytes(states[3])
    with open_toy(path, counting) as file:
        opening = counting.count
        file.replace(EMPTY)
        end = counting.count
    assert path.read_bytes() == EMPTY
    for at, folder in zip(range(opening, end), fresh_folders(tmp_path), strict=False):
        path = folder / "toy"
        path.write_bytes(states[3])
        with (
            pytest.raises((Killed, OSError)),
            open_toy(path, FaultyDisk(at=at, fault=fault)) as file,
        ):
            file.replace(EMPTY)
        assert path.read_bytes() in (states[3], EMPTY)
        with open_toy(path) as file:
            file.replace(EMPTY)
            with file.transaction():
                change(file, 0)
        assert path.read_bytes() == states[1]


def test_writing_through_a_link_keeps_the_link(tmp_path: Path, states: list[bytes]) -> None:
    (tmp_path / "disk").mkdir()
    path = tmp_path / "toy"
    path.symlink_to(tmp_path / "disk" / "big")
    run(path, None, [])
    with open_toy(path) as file:
        file.replace(EMPTY)
    assert path.is_symlink()
    assert (tmp_path / "disk" / "big").read_bytes() == EMPTY
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["big"]


def test_only_the_file_is_left_after_a_good_end(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    with open_toy(path) as file:
        assert lock_path(path).exists() and journal_path(path).exists()
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} is writing it"):
            open_toy(path)
        with file.transaction():
            change(file, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_lock_whose_name_was_taken_away_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before leaves between our opening of its lock file and our locking it."""
    path = tmp_path / "toy"
    before = open_toy(path)
    real, closed = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX and not closed:
            closed.append(True)
            before.close()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with open_toy(path) as file:
        assert closed and os.path.samestat(os.fstat(file._lock), lock_path(path).stat())
        with pytest.raises(StoreLocked):
            open_toy(path)


@pytest.mark.slow
def test_writers_that_come_and_go_never_meet(tmp_path: Path) -> None:
    """Four processes open, add one and close, over and over; no addition is lost."""
    path = tmp_path / "toy"
    open_toy(path).close()
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            done = 0
            while done < 25:
                try:
                    with open_toy(path):
                        counter.write_text(str(int(counter.read_text()) + 1))
                        done += 1
                except StoreLocked:
                    time.sleep(0.001)
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert counter.read_text() == "100"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter", "toy"]


@pytest.mark.parametrize("companion", [lock_path, journal_path])
def test_companions_that_are_not_ours_are_refused_and_left_alone(
    tmp_path: Path, companion: Callable[[Path], Path]
) -> None:
    path, notes = tmp_path / "toy", tmp_path / "notes.txt"
    open_toy(path).close()
    notes.write_text("dear diary")
    other = companion(path)
    other.symlink_to(notes)
    with pytest.raises(StoreError, match="was not written by epam-extract"):
        open_toy(path)
    other.unlink()
    os.mkfifo(other)
    with pytest.raises(StoreError, match="was not written by epam-extract"):
        open_toy(path)
    other.unlink()
    other.write_text("dear diary")
    with pytest.raises(StoreError, match="was not written by epam-extract"):
        open_toy(path)
    assert other.read_text() == notes.read_text() == "dear diary"


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 1 << 40), ("length", 1 << 50), ("size", 1 << 60), ("page", 1 << 31)],
)
def test_a_forged_journal_is_no_commit(
    tmp_path: Path, states: list[bytes], field: str, value: int
) -> None:
    """Whole by its digest, and of claims that no commit makes: nothing is read that far."""
    path = tmp_path / "toy"
    path.write_bytes(states[1])
    base = len(states[1])
    claims = {"count": 1, "length": journal.HEADER.size + 12, "size": base, "page": 0}
    claims[field] = value
    record = journal.HEADER.pack(
        journal.MAGIC, base, claims["size"], 0, claims["count"], claims["length"]
    ) + journal.PAGE_HEADER.pack(0, claims["page"])
    record += hashlib.sha256(record).digest()
    journal_path(path).write_bytes(record)
    os.truncate(journal_path(path), 1 << 40)  # a sparse terabyte
    refused = contextlib.nullcontext() if field == "length" else pytest.raises(StoreError)
    with refused:
        assert read_committed(path) == states[1]
    with refused, open_toy(path) as file:
        assert file.size == base
    assert path.read_bytes() == states[1]


def test_one_file_has_one_writer_whatever_its_names(tmp_path: Path) -> None:
    path = tmp_path / "toy"
    (tmp_path / "other").mkdir()
    with open_toy(path) as file:
        (tmp_path / "other" / "hard").hardlink_to(path)
        (tmp_path / "soft").symlink_to(path)
        for name in ("other/hard", "soft"):
            with pytest.raises(StoreLocked, match="is writing it"):
                open_toy(tmp_path / name)
        with file.transaction():
            change(file, 0)


def test_a_file_of_several_names_is_not_written(tmp_path: Path, states: list[bytes]) -> None:
    """Its journal lies beside one of them, and the others may be somebody's backup."""
    path = tmp_path / "toy"
    path.write_bytes(states[0])
    (tmp_path / "backup").hardlink_to(path)
    for name in ("toy", "backup"):
        with pytest.raises(StoreError, match="one file with 2 names"):
            open_toy(tmp_path / name)
    assert {file.name for file in tmp_path.iterdir()} == {"toy", "backup"}
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    with open_toy(path) as file, file.transaction():
        change(file, 0)
    assert (tmp_path / "backup").read_bytes() == states[0]


@pytest.mark.parametrize("deed", ["deleted", "moved", "replaced by another file"])
def test_a_file_that_is_not_in_its_place_any_more_ends_the_writing(
    tmp_path: Path, deed: str
) -> None:
    path = tmp_path / "toy"
    with open_toy(path) as file:
        with file.transaction():
            change(file, 0)
        if deed == "deleted":
            path.unlink()
        else:
            path.rename(tmp_path / "elsewhere")
        if deed.startswith("replaced"):
            path.write_bytes(b"another file")
        with (
            pytest.raises(StoreError, match=f"toy: was {deed} while it was written") as failure,
            file.transaction(),
        ):
            change(file, 1)
    assert ("elsewhere" in str(failure.value)) == (deed != "deleted")
    if deed.startswith("replaced"):
        assert path.read_bytes() == b"another file"


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match="has no file locks"):
        open_toy(tmp_path / "toy")


def test_a_broken_file_takes_no_more_transactions(tmp_path: Path, states: list[bytes]) -> None:
    counting = FaultyDisk()
    with open_toy(tmp_path / "counting", counting) as file, file.transaction():
        change(file, 0)
    path = tmp_path / "toy"
    disk = FaultyDisk(at=counting.count - 3, fault="full once")  # while pages are copied
    with open_toy(path, disk) as file:
        with pytest.raises(OSError, match="No space"), file.transaction():
            change(file, 0)
        with pytest.raises(StoreError, match="open it again"), file.transaction():
            change(file, 1)
    with open_toy(path):
        assert path.read_bytes() == states[1]
