"""Threads: order, bounds, errors, closing, and stages that overlap."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from epam_extract.pipeline.concurrency import PAUSE, Budget, Feed, Meter, flat_map, map_ahead


def test_flat_map_keeps_the_order_of_each_item() -> None:
    outputs = list(flat_map(lambda n: [(n, i) for i in range(20)], range(5), workers=3, depth=4))
    assert len(outputs) == 100
    for item in range(5):
        assert [i for n, i in outputs if n == item] == list(range(20))


def test_flat_map_bounds_what_waits() -> None:
    made = 0

    def make(_: int):
        nonlocal made
        for i in range(1000):
            made += 1
            yield i

    outputs = flat_map(make, [0], workers=1, depth=3)
    next(outputs)
    time.sleep(0.1)
    assert made <= 1 + 3 + 1  # taken, waiting, in hand
    outputs.close()


def test_flat_map_raises_the_first_error_and_stops_the_others() -> None:
    running = threading.active_count()

    def work(item: int):
        if item == 1:
            raise ValueError("item 1")
        while True:
            yield item

    with pytest.raises(ValueError, match="item 1"):
        for _ in flat_map(work, range(3), workers=3, depth=2):
            pass
    assert threading.active_count() == running


def test_closing_flat_map_closes_the_generators_in_their_own_threads() -> None:
    closed = []

    def work(item: int):
        try:
            while True:
                yield item
        finally:
            closed.append(threading.current_thread().name)

    outputs = flat_map(work, range(2), workers=2, depth=1)
    seen = set()
    while len(seen) < 2:
        seen.add(next(outputs))
    outputs.close()
    assert sorted(closed) == ["lane-0", "lane-1"]


def test_map_ahead_keeps_order_and_asks_for_no_more_than_depth() -> None:
    asked = 0

    def numbers():
        nonlocal asked
        for i in range(50):
            asked += 1
            yield i

    with ThreadPoolExecutor(4) as pool:
        results = map_ahead(pool, lambda i: i * i, numbers(), depth=3)
        assert next(results) == 0
        assert asked == 3
        assert list(results) == [i * i for i in range(1, 50)]


def test_map_ahead_raises_in_turn() -> None:
    def work(i: int) -> int:
        if i == 2:
            raise KeyError(i)
        return i

    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(pool, work, range(5), depth=4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(KeyError):
            next(results)


def test_budget_lets_one_in_however_large_and_holds_back_the_rest() -> None:
    budget, inside, most = Budget(10), [], 0
    lock = threading.Lock()

    def work(amount: int) -> None:
        nonlocal most
        with budget.hold(amount):
            with lock:
                inside.append(amount)
                most = max(most, len(inside))
                assert sum(inside) <= 10 or len(inside) == 1
            time.sleep(0.01)
            with lock:
                inside.remove(amount)

    threads = [threading.Thread(target=work, args=(n,)) for n in (4, 25, 6, 10, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not inside and most >= 1


def test_meter_adds_up_over_threads() -> None:
    meter = Meter("pose", "write")
    with meter.measure("pose", 16):
        time.sleep(0.01)
    meter.add("pose", 1.0, 4)
    seconds, items = meter.totals()["pose"]
    assert seconds > 1.009 and items == 20
    assert meter.totals()["write"] == (0.0, 0)


@pytest.mark.slow
def test_a_feed_gives_what_comes_and_what_came_before_never_waits_for_it() -> None:
    feed: Feed[int] = Feed()
    feed.put([1, 2])
    with ThreadPoolExecutor(2) as pool:
        outputs = flat_map(lambda n: [n, -n], feed, workers=2, depth=9)
        results = map_ahead(pool, lambda n: n, outputs, depth=20, last=lambda n: n is PAUSE)
        first = [next(results) for _ in range(5)]
        assert sorted(n for n in first if n is not PAUSE) == [-2, -1, 1, 2]
        feed.put([3])
        later = [n for n in (next(results) for _ in range(3)) if n is not PAUSE]
        assert later == [3, -3]
        feed.close()
        assert [n for n in results if n is not PAUSE] == []


def test_what_a_feed_has_not_given_out_can_be_taken_back() -> None:
    feed: Feed[int] = Feed()
    feed.put(range(5))
    assert next(feed) == 0
    assert feed.take_back(lambda n: n in (0, 3, 4)) == [3, 4]
    assert [next(feed), next(feed)] == [1, 2]
    feed.put([7])
    feed.close()
    assert list(feed) == []


def test_an_error_ends_a_feed_whose_workers_wait() -> None:
    running = threading.active_count()
    feed: Feed[int] = Feed()
    feed.put([1])

    def work(item: int) -> list[int]:
        raise ValueError("item 1")

    with pytest.raises(ValueError, match="item 1"):
        list(flat_map(work, feed, workers=3, depth=2))
    assert threading.active_count() == running
