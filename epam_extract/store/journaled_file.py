"""Atomic commits to one growing file, through a redo journal and an ordinary file object.

This module knows nothing of videos or HDF5. Anything that can read and write through a Python file
object becomes transactional, for instance ``h5py.File(file, "r+")``::

    with JournaledFile(Path("x.h5"), initial=empty_file_bytes, end_of_file=end_from_header) as file:
        with file.transaction() as io:      # all of it, or nothing
            with h5py.File(io, "r+") as h5:
                h5["a"] = 1

How it works
------------
While ``x.h5`` is written, ``x.h5.lock`` and ``x.h5.journal`` lie next to it. The process that holds
the lock removes both when it is done; after a kill they stay.

1. One writer: ``flock(EX)`` on the lock file, which also holds the writer's process id. After
   locking it, a process checks that the name still means the file it locked. The main file is held
   ``SH``, as HDF5 does itself, which admits readers and keeps out foreign writers.
2. In a transaction, bytes past the committed end go straight to the main file, where no reader
   looks. Changes before that end stay in memory as 4 KB pages laid over the file.
3. Commit: fsync the main file; take it ``EX``; write base, size, a fingerprint of the main file,
   the pages and their SHA-256 to the journal and fsync it. *That is the commit point.* Then copy
   the pages into the main file, fsync, strike out the journal, return to ``SH``.
4. Abort: forget the pages, truncate. After the commit point a commit can only be completed.
5. Open: a complete journal whose fingerprint matches is replayed (twice does no harm). A torn one
   never reached its commit point and is dropped. Bytes past the end stated in the main file's own
   header are cut off.

Three fsyncs per commit. A reader that takes ``SH``, as HDF5's own do, sees the last commit. There
is one gap: while the pages are copied (some 0.1 ms) the file itself is a mixture. ``EX`` hides it
as long as the writer lives. If it is killed at that moment, the file needs its journal until it is
next opened for writing. :func:`journal.committed_view` lays the journal's pages over the file in
memory, so that our own readers need not wait for that.

To use this elsewhere, also take :mod:`journal`, :mod:`locks`, :mod:`disk` and two exceptions.

Every call that changes the disk goes through one :class:`Operations` object, so a test can fail,
halve, forget or record any of them. POSIX only: it needs ``fcntl.flock``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import StoreError
from .disk import Operations, is_at, open_companion, require_in_place, require_one_name
from .journal import (
    HEAD,
    PAGE,
    STRUCK_OUT,
    CommittedView,
    journal_path,
    lock_path,
    pack,
    read_at,
    read_journal,
    require_match,
    runs,
    stated_size,
)
from .locks import claim, hold_shared, lock_exclusive, take_lock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOST_FILE = 1 << 32  # bytes: how large a lost file is taken to be when its journal is read


class JournaledFile(CommittedView):
    """The only writer of a file; every commit is atomic. A context manager.

    ``path`` is created with the bytes ``initial`` if it does not exist. ``end_of_file`` gets the
    first 64 bytes of the main file and returns the length they state, or raises StoreError.
    ``patience`` is how many seconds a commit waits for readers that hold the file open.

    Raises:
        StoreLocked: another process writes it.
        StoreError: the journal belongs to another file, its file is gone, or the file is cut short.
        OSError: the disk is full, read-only, ...; what was committed stays.
    """

    def __init__(
        self,
        path: Path,
        *,
        initial: bytes,
        end_of_file: Callable[[bytes], int],
        operations: Operations | None = None,
        patience: float = 600.0,
    ) -> None:
        super().__init__()
        if fcntl is None:
            raise StoreError(f"{path}: writing needs POSIX file locks; on Windows use WSL")
        self.path = path.resolve()
        self._journal_path = journal_path(self.path)
        self._ops = operations or Operations()
        self._end_of_file = end_of_file
        self._patience = patience
        self._lock = self._journal = -1
        self._error: BaseException | None = None
        self._broken = False
        self._open = False  # whether the journal is known to be ours
        _live.add(self)
        try:
            self._lock = take_lock(lock_path(self.path), self._ops, output=self.path)
            self._journal = open_companion(self._journal_path, self._ops)
            if self.path.exists():
                self.descriptor = self._ops.open(self.path, os.O_RDWR)
                claim(self.descriptor, self.path)
                require_one_name(self.descriptor, self.path)
                self._sync_directory()  # the journal's name
                hold_shared(self.descriptor, self.path)
                self._recover()
            else:
                if read_journal(self._journal, self.path, main_size=LOST_FILE) is not None:
                    raise StoreError(
                        f"{self._journal_path}: holds a commit to {self.path.name}, which "
                        "is gone. Put that file back, or delete the journal to start over."
                    )
                self._install(initial)
            self._open = True
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> JournaledFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is not committed, release the locks and remove their files.

        A journal that the next opening needs stays. Never raises if the disk fails.
        """
        try:
            if self._lock >= 0:
                self._remove_companions()
        finally:
            self._forget()

    def _remove_companions(self) -> None:
        """The journal and then the lock, which keeps other writers out until the end."""
        with contextlib.suppress(OSError):
            done = self._open and not self._broken
            empty = self._journal >= 0 and not os.fstat(self._journal).st_size
            if (done or empty) and is_at(self._journal, self._journal_path):
                self._ops.unlink(self._journal_path)
        with contextlib.suppress(OSError):
            self._ops.unlink(lock_path(self.path))

    def _forget(self) -> None:
        """Close everything without changing a file, as a forked child must."""
        self._open = False
        for name in ("_journal", "descriptor", "_lock"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.pages.clear()
        _live.discard(self)

    # -- one transaction --------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[JournaledFile]:
        """Commit what the block writes; if it raises, leave the file unchanged."""
        if self.descriptor < 0 or self._broken:
            raise StoreError(f"{self.path}: closed by an earlier error; open it again to continue")
        try:
            yield self
        except BaseException as error:
            cause = self._error
            self.abort()
            if cause is not None and cause is not error:
                raise cause from error
            raise
        self.commit()

    def write(self, data: memoryview) -> int:
        """Write at the position: before the committed end to memory, past it to the file.

        Never raises, since HDF5 cannot handle that. The first error is kept and raised by
        :meth:`check` or the commit; later writes are dropped.
        """
        view = memoryview(data).cast("B")
        if self._error is None:
            try:
                self._write_at(view, self.position)
            except BaseException as error:
                self._error = error
        self.position += len(view)
        self.size = max(self.size, self.position)
        return len(view)

    def truncate(self, length: int | None = None) -> int:
        """Set the size. Before the commit the file is never cut to less than its committed end."""
        length = self.position if length is None else length
        if self._error is None:
            try:
                self._set_length(length)
            except BaseException as error:
                self._error = error
        self.size = length
        return length

    def check(self) -> None:
        """Raise the first error of a write or truncate in this transaction."""
        if self._error is not None:
            raise self._error

    def require_in_place(self) -> None:
        """Raise StoreError unless the path still names the file being written."""
        require_in_place(self.descriptor, self.path)

    def commit(self) -> None:
        """Commit this transaction. Use :meth:`transaction` instead."""
        try:
            self.check()
            self.require_in_place()
            if not self.pages and self.size == self.committed_size:
                return
            self._set_length(self.size)
            self._ops.fsync(self.descriptor)
            pages = {n: bytes(p) for n, p in self.pages.items() if n * PAGE < self.size}
            record = pack(self.descriptor, self.committed_size, self.size, pages)
            lock_exclusive(self.descriptor, self.path, self._patience)
        except BaseException:
            self.abort()
            raise
        try:
            self._write_all(self._journal, record, 0)
            self._ops.fsync(self._journal)  # the commit point
        except BaseException:
            self._withdraw()
            raise
        try:
            self._apply(pages, self.size)
            self._strike_out()  # unsynced: a second replay would change nothing
        except BaseException:
            self._broken = True  # committed; the next opening finishes the copy
            raise
        self.pages.clear()
        self.committed_size = self.size
        hold_shared(self.descriptor, self.path)

    def abort(self) -> None:
        """Go back to the last commit."""
        if self._broken:
            return
        self.pages.clear()
        self._error = None
        self.size = self.committed_size
        self._set_length(self.committed_size)
        hold_shared(self.descriptor, self.path)

    def replace(self, content: bytes) -> None:
        """Replace the file by a new one with these bytes, atomically.

        Readers that have the old one open keep it until they close it.
        """
        if self.pages or self.size != self.committed_size:
            raise StoreError(f"{self.path}: cannot be replaced inside a transaction")
        self._strike_out()
        self._ops.fsync(self._journal)
        self._install(content)

    # -- opening ----------------------------------------------------------------------------

    def _install(self, content: bytes) -> None:
        temporary = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.new")
        descriptor = self._ops.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            claim(descriptor, self.path)
            self._write_all(descriptor, content, 0)
            self._ops.fsync(descriptor)
            self._ops.rename(temporary, self.path)
            self._sync_directory()
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self._ops.unlink(temporary)
            raise
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = descriptor
        self.committed_size = self.size = len(content)
        hold_shared(self.descriptor, self.path)

    def _recover(self) -> None:
        there = os.fstat(self.descriptor).st_size
        journal = read_journal(self._journal, self.path, main_size=there)
        if journal is not None:
            require_match(self.descriptor, journal, self.path, end_of_file=self._end_of_file)
            lock_exclusive(self.descriptor, self.path, self._patience)
            self._apply(journal.pages, journal.size)
            hold_shared(self.descriptor, self.path)
            self._strike_out()
            self._ops.fsync(self._journal)
        self.committed_size = self.size = stated_size(self.descriptor, self._end_of_file, self.path)
        if os.fstat(self.descriptor).st_size > self.size:
            self._ops.ftruncate(self.descriptor, self.size)
            self._ops.fsync(self.descriptor)

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY)
        try:
            self._ops.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- writing ----------------------------------------------------------------------------

    def _write_at(self, view: memoryview, offset: int) -> None:
        stop = min(offset + len(view), self.committed_size)
        at = offset
        while at < stop:
            number = at // PAGE
            page = self.pages.get(number)
            if page is None:
                page = bytearray(min(PAGE, self.committed_size - number * PAGE))
                read_at(self.descriptor, memoryview(page), number * PAGE)
                self.pages[number] = page
            end = min(stop, number * PAGE + len(page))
            page[at - number * PAGE : end - number * PAGE] = view[at - offset : end - offset]
            at = end
        self._write_all(self.descriptor, view[at - offset :], at)

    def _set_length(self, length: int) -> None:
        """Set the length of the main file, at least its committed end."""
        length = max(length, self.committed_size)
        if os.fstat(self.descriptor).st_size != length:
            self._ops.ftruncate(self.descriptor, length)

    def _write_all(self, descriptor: int, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while len(view):
            done = self._ops.pwrite(descriptor, view, offset)
            if done <= 0:
                raise OSError(errno.EIO, "the disk accepted no bytes", str(self.path))
            view = view[done:]
            offset += done

    def _apply(self, pages: Mapping[int, bytes], size: int) -> None:
        """Copy the pages into the main file, in few writes.

        A writer killed here leaves a complete journal and a mixed file. A file that grows states
        its new length first, so that nothing in it points past its end.
        """
        if 0 in pages and size > self.committed_size:
            self._write_all(self.descriptor, pages[0][:HEAD], 0)
        for start, run in runs(pages):
            self._write_all(self.descriptor, run, start)
        if os.fstat(self.descriptor).st_size > size:
            self._ops.ftruncate(self.descriptor, size)
        self._ops.fsync(self.descriptor)

    def _withdraw(self) -> None:
        """Strike out a journal that may or may not be on disk; if that fails too, give up."""
        try:
            self._strike_out()
            self._ops.fsync(self._journal)
        except BaseException:
            self._broken = True
            raise
        self.abort()

    def _strike_out(self) -> None:
        self._write_all(self._journal, STRUCK_OUT, 0)


_live: weakref.WeakSet[JournaledFile] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child must not keep its parent's locks alive after the parent is killed."""
    for file in list(_live):
        file._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
