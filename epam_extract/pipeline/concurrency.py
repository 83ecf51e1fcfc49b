"""The one place where threads are started, and where their work is measured."""

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

In = TypeVar("In")
Out = TypeVar("Out")


class Feed(Generic[In]):
    """Items that come while others are worked on: an iterator that waits for the next one.

    Any thread may add items, take back those that nobody has begun, and close it.
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
        """Remove and return the items that ``wanted`` accepts, of those still waiting."""
        with self._changed:
            taken = [item for item in self._items if wanted(item)]
            self._items = deque(item for item in self._items if not wanted(item))
            return taken

    def close(self) -> None:
        """No more items come: the iterator ends, and what still waits is dropped."""
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
    """Stands among the outputs of a :class:`Feed`'s items where none came for a while."""


PAUSE = Pause()


def flat_map(
    fn: Callable[[In], Iterable[Out]], items: Iterable[In], *, workers: int, depth: int
) -> Generator[Out | Pause, None, None]:
    """Run ``fn`` over ``items`` in ``workers`` threads, yielding what each call yields.

    Outputs of one item keep their order; items interleave. At most ``depth`` outputs wait unread.
    The first exception stops every worker and is raised here; closing stops them too. Where the
    items are a :class:`Feed`, ``PAUSE`` is yielded after every half second without an output, so
    that nobody holds on to what came before.
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
                with lock:  # nobody else could have an item either while this one waits
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
    """``map(fn, items)`` in order, with up to ``depth`` calls under way in ``executor``.

    The next item is only asked for when a result is taken, so memory stays bounded; after one that
    ``last`` accepts, when all results are taken. The first exception is raised in its turn; calls
    that have not begun by then are cancelled.
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


class Budget:
    """A bound on something that several threads hold, such as bytes of frames."""

    def __init__(self, total: int) -> None:
        self._total, self._held = total, 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Wait until ``amount`` fits beside what others hold, or nobody holds anything."""
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
    """Adds up, over all threads, how long each stage worked and how much it did."""

    def __init__(self, *stages: str) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(stages, 0.0)
        self._items = dict.fromkeys(stages, 0.0)
        self._last = (time.monotonic(), self.totals())

    @contextmanager
    def measure(self, stage: str, items: int = 1) -> Iterator[None]:
        """Count the time inside the block, and ``items``, for ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start, items)

    def add(self, stage: str, seconds: float, items: float = 0) -> None:
        """Count time measured elsewhere, such as in a decoder's process."""
        with self._lock:
            self._seconds[stage] += seconds
            self._items[stage] += items

    @property
    def age(self) -> float:
        """Seconds since :meth:`since_last` was last called, or the meter was made."""
        return time.monotonic() - self._last[0]

    def since_last(self) -> tuple[float, dict[str, tuple[float, float]]]:
        """Seconds since the last call, and what was added in them, as :meth:`totals` has it."""
        (then, old), self._last = self._last, (time.monotonic(), self.totals())
        now, new = self._last
        work = {
            stage: (new[stage][0] - seconds, new[stage][1] - items)
            for stage, (seconds, items) in old.items()
        }
        return max(now - then, 1e-6), work

    def totals(self) -> dict[str, tuple[float, float]]:
        """Stage -> (seconds of work, items) so far."""
        with self._lock:
            return {stage: (self._seconds[stage], self._items[stage]) for stage in self._seconds}


@contextmanager
def single_threaded_ops() -> Iterator[None]:
    """One core for each call of torch and OpenCV: the pools are what fills the cores."""
    threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
