"""Running functions in threads with bounded queues between them, and measuring their work."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Generic, TypeVar

import cv2
import torch

from ..errors import MachineError

OPEN_FILES = 48  # of a process with torch, models, output and log; 22 were too few, 28 enough
OPEN_FILES_PER_VIDEO = 8  # a decoder's pipes and shared memory

In = TypeVar("In")
Out = TypeVar("Out")


class Feed(Generic[In]):
    """A queue of items as an iterator, which waits for the next item until the feed is closed.

    Any thread may add items, take back those still in the queue, and close it.
    """

    def __init__(self) -> None:
        self._items: deque[In] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, items: Iterable[In]) -> None:
        """Add items at the end."""
        with self._changed:
            self._items.extend(items)
            self._changed.notify_all()

    def take_back(self, wanted: Callable[[In], bool]) -> list[In]:
        """Remove and return the items in the queue that ``wanted`` accepts."""
        with self._changed:
            taken = [item for item in self._items if wanted(item)]
            self._items = deque(item for item in self._items if not wanted(item))
            return taken

    def close(self) -> None:
        """End the iterator; items still in the queue are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Feed[In]:
        return self

    def __next__(self) -> In:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if self._closed:
                raise StopIteration
            return self._items.popleft()


PAUSE_SECONDS = 0.5


class Pause:
    """Yielded between the outputs of a :class:`Feed`'s items when none has come for a while."""


PAUSE = Pause()


def flat_map(
    fn: Callable[[In], Iterable[Out]], items: Iterable[In], *, workers: int, depth: int
) -> Generator[Out | Pause, None, None]:
    """Run ``fn`` over ``items`` in ``workers`` threads, yielding what each call yields.

    Outputs of one item keep their order; those of different items interleave. At most ``depth``
    outputs wait to be taken. The first exception stops all workers and is raised here; closing the
    generator stops them too. If ``items`` is a :class:`Feed`, ``PAUSE`` is yielded after every half
    second without an output, so that the receiver does not keep earlier outputs waiting.
    """
    feed = items if isinstance(items, Feed) else None
    patience = None if feed is None else PAUSE_SECONDS
    source, lock = iter(items), threading.Lock()
    out: queue.Queue[object] = queue.Queue(maxsize=depth)
    stop, done = threading.Event(), object()

    def put(value: object) -> bool:
        while not stop.is_set():
            try:
                out.put(value, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            while not stop.is_set():
                with lock:  # also while waiting for a feed: the others would have to wait as well
                    item = next(source, done)
                if item is done:
                    break
                outputs = fn(item)  # type: ignore[arg-type]
                try:
                    for value in outputs:
                        if not put(value):
                            return
                finally:
                    close = getattr(outputs, "close", None)
                    if close is not None:
                        close()
        except BaseException as error:
            put(error)
        finally:
            put(done)

    threads = [threading.Thread(target=work, name=f"lane-{i}", daemon=True) for i in range(workers)]
    for thread in threads:
        thread.start()
    try:
        running = workers
        while running:
            try:
                value = out.get(timeout=patience)
            except queue.Empty:
                value = PAUSE
            if value is done:
                running -= 1
            elif isinstance(value, BaseException):
                raise value
            else:
                yield value  # type: ignore[misc]
    finally:
        stop.set()
        if feed is not None:
            feed.close()
        for thread in threads:
            thread.join()


def map_ahead(
    executor: Executor,
    fn: Callable[[In], Out],
    items: Iterable[In],
    *,
    depth: int,
    last: Callable[[In], bool] | None = None,
) -> Generator[Out, None, None]:
    """``map(fn, items)`` in order, with up to ``depth`` calls running or queued in ``executor``.

    The next item is requested only when a result has been taken, which bounds memory; after an item
    that ``last`` accepts, only when all results have been taken. An exception is raised when its
    result would be; calls that have not started by then are cancelled.
    """
    pending: deque[Future[Out]] = deque()
    try:
        for item in items:
            pending.append(executor.submit(fn, item))
            least = 0 if last is not None and last(item) else depth - 1
            while len(pending) > least:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_open_files(videos: int) -> None:
    """Raise this process's limit of open files, if needed, to read so many videos at a time.

    Raises:
        MachineError: the system does not allow that many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = OPEN_FILES + OPEN_FILES_PER_VIDEO * videos
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard) or hard >= needed:
        if soft != resource.RLIM_INFINITY and soft < needed:
            resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise MachineError(
        f"this process may open only {hard} files at a time and a run needs {needed}: raise the "
        "limit (ulimit -n 1024), or use fewer --workers"
    )


class Budget:
    """A limit on what several threads hold together, such as bytes of frames."""

    def __init__(self, total: int) -> None:
        self._total, self._held = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until ``amount`` fits in with what others hold, or no one holds anything."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + amount <= self._total)
            self._held += amount
        try:
            yield
        finally:
            with self._changed:
                self._held -= amount
                self._changed.notify_all()


class Meter:
    """Adds up how long each stage worked and how much it did, in all threads."""

    def __init__(self, *stages: str) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(stages, 0.0)
        self._items = dict.fromkeys(stages, 0.0)
        self._last = (time.monotonic(), self.totals())

    @contextmanager
    def measure(self, stage: str, items: int = 1) -> Iterator[None]:
        """Count the duration of the block, and ``items``, for ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start, items)

    def add(self, stage: str, seconds: float, items: float = 0) -> None:
        """Count time that was measured elsewhere, such as in a decoder process."""
        with self._lock:
            self._seconds[stage] += seconds
            self._items[stage] += items

    @property
    def age(self) -> float:
        """Seconds since :meth:`since_last` was last called, or since the meter was created."""
        return time.monotonic() - self._last[0]

    def since_last(self) -> tuple[float, dict[str, tuple[float, float]]]:
        """Seconds since the last call, and what was added since, in the form of :meth:`totals`."""
        (then, old), self._last = self._last, (time.monotonic(), self.totals())
        now, new = self._last
        work = {
            stage: (new[stage][0] - seconds, new[stage][1] - items)
            for stage, (seconds, items) in old.items()
        }
        return max(now - then, 1e-6), work

    def totals(self) -> dict[str, tuple[float, float]]:
        """Per stage: (seconds of work, items) so far."""
        with self._lock:
            return {stage: (self._seconds[stage], self._items[stage]) for stage in self._seconds}


@contextmanager
def single_threaded_ops() -> Iterator[None]:
    """Limit each call of torch and OpenCV to one core: the thread pools fill the cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
