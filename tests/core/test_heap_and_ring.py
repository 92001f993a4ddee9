"""The ready queue and the heap of timers against a model, with random schedules.

The model is asyncio's turn in a dozen lines: what is ready, then what is due.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator

import pytest

import fastloop

from .support import Loop, run_once, run_turns

seeds = pytest.mark.parametrize("seed", range(8))

PAST = -1e6


class Model:
    """What a loop does with callbacks whose deadlines have all passed."""

    def __init__(self) -> None:
        self.ready: deque[int] = deque()
        self.heap: list[tuple[float, int, int]] = []
        self.cancelled: set[int] = set()
        self.order = itertools.count()

    def soon(self, name: int) -> None:
        self.ready.append(name)

    def at(self, when: float, name: int) -> None:
        heapq.heappush(self.heap, (when, next(self.order), name))

    def cancel(self, name: int) -> None:
        self.cancelled.add(name)

    def turn(self, run: Callable[[int], None]) -> None:
        while self.heap:
            self.ready.append(heapq.heappop(self.heap)[-1])
        for _ in range(len(self.ready)):
            name = self.ready.popleft()
            if name not in self.cancelled:
                run(name)


class Real:
    """The same four operations on a loop."""

    def __init__(self, loop: Loop, run: Callable[[int], None]) -> None:
        self.loop = loop
        self.run = run
        self.handles: dict[int, object] = {}

    def soon(self, name: int) -> None:
        self.handles[name] = self.loop.call_soon(self.run, name)

    def at(self, when: float, name: int) -> None:
        self.handles[name] = self.loop.call_at(when, self.run, name)

    def cancel(self, name: int) -> None:
        self.handles[name].cancel()  # type: ignore[attr-defined]


class Schedule:
    """A random program: each callback schedules and cancels some others."""

    def __init__(self, seed: int, deadlines: Callable[[random.Random], float]) -> None:
        self.seed = seed
        self.deadlines = deadlines
        self.names = itertools.count()
        self.log: list[int] = []

    def act(self, name: int, target: Model | Real) -> None:
        """What callback ``name`` does; depends on nothing but its name."""
        self.log.append(name)
        rng = random.Random(self.seed * 1_000_003 + name)
        for _ in range(rng.choice([0, 0, 1, 1, 1, 2, 3])):
            self.add(rng, target)
        if rng.random() < 0.3:
            target.cancel(rng.randrange(self.count))

    def add(self, rng: random.Random, target: Model | Real) -> None:
        name = self.count = next(self.names)
        self.count += 1
        if name >= 4000:
            target.soon(name)  # still named, but it ends sooner or later
        elif rng.random() < 0.5:
            target.soon(name)
        else:
            target.at(self.deadlines(rng), name)

    def begin(self, target: Model | Real) -> None:
        rng = random.Random(self.seed)
        for _ in range(rng.randrange(1, 300)):
            self.add(rng, target)


def log_of_model(
    seed: int, turns: int, deadlines: Callable[[random.Random], float]
) -> list[int]:
    schedule = Schedule(seed, deadlines)
    model = Model()
    schedule.begin(model)
    for _ in range(turns):
        model.turn(lambda name: schedule.act(name, model))
    return schedule.log


def log_of_loop(
    loop: Loop, seed: int, turns: int, deadlines: Callable[[random.Random], float]
) -> list[int]:
    schedule = Schedule(seed, deadlines)
    real = Real(loop, lambda name: schedule.act(name, real))
    schedule.begin(real)
    run_turns(loop, turns)
    return schedule.log


TURNS = 12


@seeds
def test_random_schedule(loop: Loop, seed: int) -> None:
    def distinct(rng: random.Random) -> float:
        return PAST * rng.random()

    log = log_of_loop(loop, seed, TURNS, distinct)
    assert log == log_of_model(seed, TURNS, distinct)
    assert len(log) > 10


@seeds
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("count", [3, 40, 200, 3000])
def test_many_due_at_once(
    fast_loop: fastloop.Loop, seed: int, count: int, share: float
) -> None:
    """In the order of their deadlines, then of scheduling; others stay as they are."""
    rng = random.Random(seed)
    runs: list[tuple[float, int]] = []
    kept: list[asyncio.TimerHandle] = []
    far = fast_loop.time() + 10_000

    def schedule(names: range) -> list[tuple[float, int]]:
        due = []
        for name in names:
            place = rng.choice([rng.random(), rng.randrange(5), name / 1e6])
            is_due = rng.random() < share
            when = (PAST if is_due else far) + place
            handle = fast_loop.call_at(when, runs.append, (when, name))
            if rng.random() < 0.1:
                handle.cancel()
            elif is_due:
                due.append((when, name))
            else:
                kept.append(handle)
        return sorted(due)

    for first in range(0, 3 * count, count):
        expected = schedule(range(first, first + count))
        run_once(fast_loop)
        assert runs == expected
        runs.clear()
        rng.shuffle(kept)
        for handle in kept[len(kept) // 2 :]:
            assert handle._scheduled  # type: ignore[attr-defined]
            handle.cancel()
            assert not handle._scheduled  # type: ignore[attr-defined]
        del kept[len(kept) // 2 :]


@seeds
def test_random_schedule_with_equal_deadlines(
    fast_loop: fastloop.Loop, seed: int
) -> None:
    def few(rng: random.Random) -> float:
        return -float(rng.randrange(3))

    assert log_of_loop(fast_loop, seed, TURNS, few) == log_of_model(seed, TURNS, few)


# --- the heap ------------------------------------------------------------------------


@seeds
@pytest.mark.parametrize("size", [1, 5, 63, 64, 65, 1000])
def test_timers_fire_sorted(loop: Loop, seed: int, size: int) -> None:
    rng = random.Random(seed)
    fired: list[float] = []
    deadlines = [PAST * rng.random() for _ in range(size)]
    for when in deadlines:
        loop.call_at(when, fired.append, when)
    run_once(loop)
    assert fired == sorted(deadlines)


@pytest.mark.parametrize("step", [1, -1, 7, -7])
def test_timers_set_in_regular_order(loop: Loop, step: int) -> None:
    fired: list[int] = []
    size = 997
    for i in range(size):
        when = i * step % size - size
        loop.call_at(when, fired.append, when)
    run_once(loop)
    assert fired == list(range(-size, 0))


@seeds
def test_timers_removed_from_anywhere(fast_loop: fastloop.Loop, seed: int) -> None:
    """Set and cancel in turn, so that the heap shrinks, grows and shrinks again."""
    rng = random.Random(seed)
    fired: list[int] = []
    alive: list[tuple[int, int, object]] = []
    number = itertools.count()
    for goal in (500, 20, 300, 0, 700, 350):
        while len(alive) != goal:
            if len(alive) < goal:
                when, name = -rng.randrange(50), next(number)
                handle = fast_loop.call_at(when, fired.append, name)
                alive.append((when, name, handle))
            else:
                victim = alive.pop(rng.randrange(len(alive)))
                victim[2].cancel()  # type: ignore[attr-defined]
    run_once(fast_loop)
    assert fired == [name for _, name, _ in sorted(alive, key=lambda t: t[:2])]


def test_a_timer_cancels_all_that_are_due_after_it(loop: Loop) -> None:
    fired: list[int] = []

    def first() -> None:
        fired.append(0)
        for handle in handles[1::2]:
            handle.cancel()

    handles = [loop.call_at(-1000, first)]
    handles += [loop.call_at(i - 999, fired.append, i) for i in range(1, 300)]
    run_once(loop)
    assert fired == list(range(0, 300, 2))


# --- the ring ------------------------------------------------------------------------


@seeds
def test_bursts_of_callbacks(loop: Loop, seed: int) -> None:
    """The queue wraps around and grows at every possible fill."""
    rng = random.Random(seed)
    seen: list[int] = []
    number = itertools.count()

    def burst(depth: int) -> None:
        for _ in range(rng.choice([0, 1, 2, 50, 255, 256, 257, 600])):
            loop.call_soon(seen.append, next(number))
        if depth:
            loop.call_soon(burst, depth - 1)

    burst(12)
    run_turns(loop, 14)
    assert seen == list(range(next(number)))


@pytest.mark.parametrize("fill", [254, 255, 256, 257, 511, 512])
def test_a_run_that_ends_in_the_middle_of_a_futures_callbacks(
    loop: Loop, fill: int
) -> None:
    """What has not run goes back in front, even when the queue is full."""
    seen: list[object] = []
    future = loop.create_future()

    def interrupt(_: object) -> None:
        for i in range(fill):
            loop.call_soon(seen.append, i)
        raise KeyboardInterrupt

    future.add_done_callback(interrupt)
    future.add_done_callback(lambda _: seen.append("callback 2"))
    future.add_done_callback(lambda _: seen.append("callback 3"))
    future.set_result(None)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == []
    run_once(loop)
    assert seen == ["callback 2", "callback 3", *range(fill)]


def test_interrupted_again_and_again(loop: Loop) -> None:
    seen: list[int] = []

    def interrupt(i: int) -> None:
        seen.append(i)
        raise KeyboardInterrupt

    def callbacks() -> Iterator[Callable[[object], None]]:
        for i in range(20):
            yield lambda _, i=i: interrupt(i)  # type: ignore[misc]

    future = loop.create_future()
    for callback in callbacks():
        future.add_done_callback(callback)
    future.set_result(None)
    for turn in range(20):
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert seen == list(range(turn + 1))
    run_once(loop)
    assert len(seen) == 20
