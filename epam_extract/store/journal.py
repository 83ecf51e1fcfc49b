"""The journal of a file: its format, and the file as of its last commit.

One record: header (magic, committed end before, size after, fingerprint of the main file, number
of pages, length), the pages, a SHA-256 over all of it. A record whose digest is incomplete or wrong
is ignored. Each record overwrites the one before and is struck out with a header of zeros: both
leave the journal's blocks where they are, which makes syncing it cheap. :mod:`journaled_file`
writes it; this module also reads it, so that readers need no writer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import StoreError
from .disk import in_the_way, open_to_read

PAGE = 4096
MAGIC = b"REDOJRN1"
HEADER = struct.Struct("<8sQQIQQ")  # magic, base, size, fingerprint, pages, length of it all
STRUCK_OUT = bytes(HEADER.size)
PAGE_HEADER = struct.Struct("<QI")  # page number, bytes
DIGEST = hashlib.sha256().digest_size
FINGERPRINT = 1 << 16  # bytes on either side of the old end that tie a journal to its file
SLACK = 4096  # pages more than the file has, so that a journal of another file is recognized
HEAD = 64  # bytes of the main file that `end_of_file` gets


class CommittedView:
    """Read-only file object: ``size`` bytes of a file, with pages laid over parts of it.

    ``committed_size`` bytes of it are committed; the writer, which is also one, has bytes after it.
    """

    def __init__(
        self, descriptor: int = -1, size: int = 0, *, pages: Mapping[int, bytes] | None = None
    ) -> None:
        self.descriptor = descriptor
        self.committed_size = self.size = size
        self.pages: dict[int, bytearray] = {
            number: bytearray(data) for number, data in (pages or {}).items()
        }
        self.position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to ``offset``; return the new position."""
        if whence != os.SEEK_SET:
            offset += self.position if whence == os.SEEK_CUR else self.size
        self.position = offset
        return offset

    def tell(self) -> int:
        """Position of the next read or write."""
        return self.position

    def flush(self) -> None:
        """Nothing to do: only a commit makes bytes count."""

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes; -1 reads to the end."""
        left = max(self.size - self.position, 0)
        data = bytearray(left if count < 0 else min(count, left))
        self.readinto(memoryview(data))
        return bytes(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill ``buffer``, past the end with zeros, since HDF5 ignores short reads."""
        if not self.pages:  # 9 times for each video that `info` looks at
            count = os.preadv(self.descriptor, (buffer,), self.position)
            if count == len(buffer):
                self.position += count
                return count
        view = memoryview(buffer).cast("B")
        self.fill(view, self.position)
        self.position += len(view)
        return len(view)

    def fill(self, view: memoryview, start: int) -> None:
        """Fill ``view``, of bytes, from offset ``start``, past the end with zeros."""
        read_at(self.descriptor, view, start)
        if self.pages and start < self.committed_size:
            stop = start + len(view)
            last = min(stop, self.committed_size)
            for number in range(start // PAGE, -(-last // PAGE)):
                page = self.pages.get(number)
                if page is not None:
                    low = max(number * PAGE, start)
                    high = min(number * PAGE + len(page), stop)
                    if high > low:
                        view[low - start : high - start] = page[low - number * PAGE :][: high - low]


class Journal:
    """A commit that reached its commit point: ``pages`` to lay over a file of ``size`` bytes."""

    def __init__(self, base: int, size: int, fingerprint: int, pages: dict[int, bytes]) -> None:
        self.base, self.size, self.fingerprint, self.pages = base, size, fingerprint, pages


def journal_path(path: Path) -> Path:
    """Where the journal of ``path`` lies."""
    return path.with_name(path.name + ".journal")


def lock_path(path: Path) -> Path:
    """Where the writer's lock of ``path`` lies."""
    return path.with_name(path.name + ".lock")


def read_journal(descriptor: int, path: Path, *, main_size: int) -> Journal | None:
    """The commit in an open journal, or None if it is empty or torn.

    Reads no more than a commit to a file of ``main_size`` bytes can need, whatever the journal
    claims. Raises StoreError if it is not one of ours.
    """
    there = os.fstat(descriptor).st_size
    head = bytearray(min(HEADER.size, there))
    read_at(descriptor, memoryview(head), 0)
    start = bytes(head[: len(MAGIC)])
    if any(byte not in (0, ours) for byte, ours in zip(start, MAGIC, strict=False)):
        raise in_the_way(journal_path(path))
    if len(head) < HEADER.size or start != MAGIC:
        return None
    _, base, size, fingerprint, count, length = HEADER.unpack(head)
    most = HEADER.size + (main_size // PAGE + SLACK) * (PAGE_HEADER.size + PAGE)
    if not HEADER.size <= length <= most or there < length + DIGEST:
        return None  # no commit to this file claims that: it is torn
    data = bytearray(length + DIGEST)
    read_at(descriptor, memoryview(data), 0)
    body, digest = memoryview(data)[:length], data[length:]
    if hashlib.sha256(body).digest() != digest:
        return None
    pages = {}
    at = HEADER.size
    while at + PAGE_HEADER.size <= length:
        number, filled = PAGE_HEADER.unpack_from(body, at)
        at += PAGE_HEADER.size
        if filled > PAGE or at + filled > length or number * PAGE >= max(base, size):
            break
        pages[number] = bytes(body[at : at + filled])
        at += filled
    if at != length or len(pages) != count:
        raise StoreError(
            f"{journal_path(path)}: is whole, but holds no commit that this program writes. Delete "
            f"it to keep {path.name} as it is now."
        )
    return Journal(base, size, fingerprint, pages)


def stated_size(descriptor: int, end_of_file: Callable[[bytes], int], path: Path) -> int:
    """The length stated in the file's own header. Raises StoreError if the file is shorter."""
    size, there = _stated(descriptor, end_of_file), os.fstat(descriptor).st_size
    if there < size:
        raise StoreError(
            f"{path}: is cut short: {there} bytes of {size}, so it was damaged outside this "
            "program (an unfinished copy?). Copy it again or delete it."
        )
    return size


def committed_view(
    descriptor: int, path: Path, *, end_of_file: Callable[[bytes], int]
) -> CommittedView:
    """The file as of its last commit, even if its writer died halfway through one.

    ``descriptor`` is the main file, on which the caller holds ``SH``.
    """
    journal = None
    with contextlib.suppress(FileNotFoundError, PermissionError):
        beside = open_to_read(journal_path(path))
        try:
            journal = read_journal(beside, path, main_size=os.fstat(descriptor).st_size)
        finally:
            os.close(beside)
    if journal is None:
        return CommittedView(descriptor, stated_size(descriptor, end_of_file, path))
    require_match(descriptor, journal, path, end_of_file=end_of_file)
    return CommittedView(descriptor, journal.size, pages=journal.pages)


def pack(descriptor: int, base: int, size: int, pages: Mapping[int, bytes]) -> bytes:
    """The record of a commit: ``pages`` over a main file that grows from ``base`` to ``size``."""
    parts = []
    for number in sorted(pages):
        parts += [PAGE_HEADER.pack(number, len(pages[number])), pages[number]]
    mark = _fingerprint(descriptor, base, size, pages)
    length = HEADER.size + sum(map(len, parts))
    record = b"".join([HEADER.pack(MAGIC, base, size, mark, len(pages), length), *parts])
    return record + hashlib.sha256(record).digest()


def _fingerprint(descriptor: int, base: int, size: int, pages: Mapping[int, bytes]) -> int:
    """crc32 of the bytes near the old and the new end that this commit's pages do not cover.

    It is the same before, during and after the pages are copied, and ties a journal to its file.
    """
    kept = min(base, size)
    mark = 0
    for number in range(max(0, kept - FINGERPRINT) // PAGE, -(-kept // PAGE)):
        if number not in pages:
            mark = _crc(descriptor, number * PAGE, min((number + 1) * PAGE, kept), mark)
    return _crc(descriptor, max(base, size - FINGERPRINT), size, mark)


def _crc(descriptor: int, start: int, stop: int, mark: int) -> int:
    data = bytearray(max(stop - start, 0))
    read_at(descriptor, memoryview(data), start)
    return zlib.crc32(data, mark)


def require_match(
    descriptor: int, journal: Journal, path: Path, *, end_of_file: Callable[[bytes], int]
) -> None:
    """Raise StoreError unless this journal's commit is the file's next one, or its last one."""
    fits = os.fstat(descriptor).st_size >= journal.size and (
        _fingerprint(descriptor, journal.base, journal.size, journal.pages) == journal.fingerprint
    )
    if not fits or _stated(descriptor, end_of_file) not in (journal.base, journal.size):
        raise StoreError(
            f"{journal_path(path)}: holds a commit to another version of {path.name}. Put that "
            f"version back, or delete the journal to keep {path.name} as it is now."
        )


def _stated(descriptor: int, end_of_file: Callable[[bytes], int]) -> int:
    head = bytearray(HEAD)
    read_at(descriptor, memoryview(head), 0)
    return end_of_file(bytes(head))


def runs(pages: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Neighbouring pages joined: the offset of each run in the file, and its bytes."""
    parts: list[bytes] = []
    first = following = -1
    for number in sorted(pages):
        if number != following:
            if parts:
                yield first * PAGE, b"".join(parts)
            parts, first = [], number
        parts.append(pages[number])
        following = number + 1
    if parts:
        yield first * PAGE, b"".join(parts)


def read_at(descriptor: int, view: memoryview, offset: int) -> None:
    """Fill ``view`` from ``offset``, past the end of the file with zeros."""
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            view[done:] = bytes(len(view) - done)
            return
        done += count
