"""Who does which video, and when, with workers in virtual time; no Ray."""

from __future__ import annotations

import random

import pytest
from simulated_crew import SimulatedCrew

from epam_extract.cluster.scheduling import (
    AHEAD,
    Ended,
    Joined,
    Ledger,
    Lost,
    Returned,
    Started,
    hand_out,
)


def thumos(count: int, seed: int) -> dict[str, float]:
    """Lengths as in THUMOS'14: log-normal, 10 s to 30 min, 3.5 min on average."""
    draw = random.Random(seed)
    return {
        f"v{number:04d}": min(max(draw.lognormvariate(4.9, 0.95), 10.0), 1800.0)
        for number in range(count)
    }


def never() -> bool:
    return False


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_of_64_loses_nothing_does_nothing_twice_and_stays_busy(seed: int) -> None:
    draw = random.Random(100 + seed)
    lengths = thumos(1000, seed)
    failing = frozenset(draw.sample(sorted(lengths), 10))
    kills = [(draw.uniform(60, 600), number) for number in draw.sample(range(64), 3)]
    crew = SimulatedCrew(lengths, 64, failing=failing, kills=kills, seed=seed)
    hand_out(Ledger(lengths), crew, stopped=never)
    times_done = dict.fromkeys(lengths, 0)
    for worker in crew.workers:
        for video, times in worker.complete.items():
            times_done[video] += times
    assert {video for video, times in times_done.items() if times != 1} == failing
    assert {video for worker in crew.workers for video in worker.failed} == failing
    assert crew.gave_up == []
    begun_again = sum(times - 1 for times in crew.begun.values())
    assert begun_again <= 3 * 2  # what the killed were at
    assert crew.busy_share(0.95) > 0.9


def test_a_video_that_kills_is_tried_twice_and_takes_no_other_with_it() -> None:
    lengths = thumos(60, 1)
    killers = frozenset(["v0003", "v0031"])
    crew = SimulatedCrew(lengths, 3, killers=killers)
    hand_out(Ledger(lengths), crew, stopped=never)
    assert sorted(crew.gave_up) == sorted(killers)
    assert {crew.begun[video] for video in killers} == {2}
    done = {video for worker in crew.workers for video in worker.complete}
    assert done == lengths.keys() - killers


def test_workers_may_all_be_killed_again_and_again() -> None:
    lengths = thumos(80, 2)
    kills = [(60.0 + 47 * n, n % 4) for n in range(6)] + [(400.0, n) for n in range(4)]
    crew = SimulatedCrew(lengths, 4, kills=kills)
    hand_out(Ledger(lengths), crew, stopped=never)
    done = [video for worker in crew.workers for video in worker.complete]
    assert sorted([*done, *crew.gave_up]) == sorted(lengths)


# ---------------------------------------------------------------- step by step


def test_the_longest_go_out_first_one_in_turn_and_short_ones_ahead() -> None:
    ledger = Ledger({"a": 9.0, "b": 8.0, "c": 2.0, "d": 1.5, "e": 1.0, "f": 0.5})
    ledger.take(Joined(0, lanes=1))
    ledger.take(Joined(1, lanes=1))
    assert ledger.orders() == [(0, ["a", "c", "e"]), (1, ["b", "d", "f"])]
    assert len(ledger.holds(0)) == 1 + AHEAD
    ledger = Ledger({"a": 9.0, "b": 8.0, "c": 7.0, "d": 1.5, "e": 1.0, "f": 0.5})
    ledger.take(Joined(0, lanes=1))
    ledger.take(Joined(1, lanes=1))
    assert ledger.orders() == [(0, ["a"]), (1, ["b"])]  # the next one is long
    assert ledger.orders() == []
    ledger.take(Ended(1, "b"))
    assert ledger.orders() == [(1, ["c", "e"]), (0, ["d", "f"])]


def test_what_nobody_has_begun_is_taken_back_for_an_idle_worker() -> None:
    ledger = Ledger({"a": 9.0, "b": 5.0, "c": 4.0})
    ledger.take(Joined(0, lanes=1))
    assert ledger.orders() == [(0, ["a", "b", "c"])]
    ledger.take(Started(0, "a"))
    ledger.take(Joined(1, lanes=1))
    assert ledger.orders() == []
    assert ledger.recalls() == [(0, ["c"])]
    assert ledger.recalls() == []  # it was asked already
    ledger.take(Returned(0, ["c"]))
    assert ledger.orders() == [(1, ["c"])]
    assert ledger.recalls() == []
    ledger.take(Ended(1, "c"))
    assert ledger.recalls() == [(0, ["b"])]
    ledger.take(Returned(0, []))  # it has begun it meanwhile
    ledger.take(Started(0, "b"))
    assert ledger.recalls() == []


def test_a_suspect_is_tried_alone_and_what_waited_is_no_suspect() -> None:
    ledger = Ledger({"a": 9.0, "b": 5.0, "c": 4.0, "d": 3.0})
    ledger.take(Joined(0, lanes=2))
    assert ledger.orders() == [(0, ["a", "b", "c", "d"])]
    ledger.take(Lost(0))  # before it said what it had begun
    ledger.take(Joined(0, lanes=2))
    assert ledger.orders() == [(0, ["a"])]
    ledger.take(Started(0, "a"))
    ledger.take(Lost(0))
    assert ledger.give_up() == ["a"] and ledger.give_up() == []
    ledger.take(Joined(0, lanes=2))
    assert ledger.orders() == [(0, ["b"])]
    ledger.take(Ended(0, "b"))
    assert ledger.orders() == [(0, ["c", "d"])]
    assert ledger.left == 2


def test_a_lost_workers_part_counts_and_its_half_done_videos_go_home() -> None:
    costs = {"a": 9.0, "b": 5.0, "c": 4.0, "d": 1.0, "e": 20.0}
    ledger = Ledger(costs, homes={"d": 1})
    ledger.take(Joined(0, lanes=3))
    assert ledger.orders() == [(0, ["e", "a", "b", "c"])]
    ledger.take(Started(0, "a"))
    ledger.take(Lost(0, ended=frozenset("a"), half_done=frozenset("b"), blameless=True))
    assert ledger.left == 4
    ledger.take(Joined(1, lanes=1))
    assert ledger.orders() == [(1, ["d"])]
    ledger.take(Ended(1, "d"))
    assert ledger.orders() == [(1, ["e", "c"])]
    ledger.take(Joined(0, lanes=1))
    assert ledger.orders() == [(0, ["b"])]


def test_half_done_videos_of_a_part_that_nobody_opens_are_done_by_others_in_the_end() -> None:
    ledger = Ledger({"a": 9.0, "b": 5.0, "c": 4.0}, homes={"a": 7, "b": 7})
    ledger.take(Joined(0, lanes=1))
    assert ledger.orders() == [(0, ["c"])]
    ledger.take(Ended(0, "c"))
    assert ledger.orders() == [(0, ["a"])]
    ledger.take(Started(0, "a"))
    ledger.take(Lost(0, half_done=frozenset("a")))  # which may have killed it
    ledger.take(Joined(1, lanes=1))
    assert ledger.orders() == [(1, ["b"])]
    ledger.take(Ended(1, "b"))
    assert ledger.orders() == [(1, ["a"])]


def test_a_worker_that_leaves_blamelessly_makes_no_suspect() -> None:
    ledger = Ledger({"a": 9.0, "b": 5.0})
    for worker in range(3):
        ledger.take(Joined(worker, lanes=1))
        assert ledger.orders() == [(worker, ["a", "b"])]
        ledger.take(Lost(worker, blameless=True))
    assert ledger.give_up() == [] and ledger.left == 2


def test_a_restarted_worker_that_nobody_missed_is_a_lost_one() -> None:
    ledger = Ledger({"a": 9.0})
    ledger.take(Joined(0, lanes=1))
    assert ledger.orders() == [(0, ["a"])]
    ledger.take(Joined(0, lanes=1))
    assert ledger.orders() == [(0, ["a"])]
    ledger.take(Joined(0, lanes=1))
    assert ledger.give_up() == ["a"]
