"""Callbacks, timers and the loop itself."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

from .. import native, subjects
from ..workload import Loop, timed

FAMILY = "scheduling"
BURST = 1_000  # callbacks in a turn
MANY = 10_000  # timers
pending: list[asyncio.TimerHandle] = []  # of timer_among_many, all its batches
scheduling = partial(timed, FAMILY)


def nothing(*args: Any) -> None:
    pass


def bare_calls(*args: Any, each: int = BURST) -> Any:
    def floor(n: int) -> None:
        native.import_bare().call(nothing, n * each, *args)

    return floor


@scheduling("call_soon()", each=BURST, floor=bare_calls(), headline=True)
def call_soon(loop: Loop, n: int) -> None:
    for _ in range(n):
        for _ in range(BURST):
            loop.call_soon(nothing)
        loop.call_soon(loop.stop)
        loop.run_forever()


@scheduling("call_soon(), two arguments", each=BURST, floor=bare_calls(1, 2))
def call_soon_args(loop: Loop, n: int) -> None:
    for _ in range(n):
        for _ in range(BURST):
            loop.call_soon(nothing, 1, 2)
        loop.call_soon(loop.stop)
        loop.run_forever()


@scheduling("call_soon(), a chain", floor=bare_calls(each=1), headline=True)
def call_soon_chain(loop: Loop, n: int) -> None:
    """Each callback schedules the next: a turn for each."""
    left = n

    def step() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    loop.run_forever()


@scheduling("call_soon_threadsafe(), own thread", each=BURST, floor=bare_calls())
def call_soon_threadsafe(loop: Loop, n: int) -> None:
    for _ in range(n):
        for _ in range(BURST):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()


@scheduling("call_soon_threadsafe(), other thread", waits=True)
def call_soon_other_thread(loop: Loop, n: int) -> None:
    def produce() -> None:
        for _ in range(n):
            loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=produce)
    thread.start()
    loop.run_forever()
    thread.join()


@scheduling("timer scheduled and cancelled", headline=True)
def timer(loop: Loop, n: int) -> None:
    for _ in range(n):
        loop.call_later(60, nothing).cancel()


@scheduling(f"the same, {MANY:,} others pending", each=100)
def timer_among_many(loop: Loop, n: int) -> None:
    if not pending:
        for i in range(MANY):
            pending.append(loop.call_later(1000 + i * 7919 % MANY, nothing))
    for _ in range(n):
        for i in range(100):
            loop.call_later(900 + i * 37 % 1000, nothing).cancel()


@scheduling(f"{MANY:,} timers due at once", each=MANY, headline=True)
def timers_due(loop: Loop, n: int) -> None:
    for _ in range(n):
        when = loop.time() - 1
        for _ in range(MANY):
            loop.call_at(when, nothing)
        loop.call_later(0, loop.stop)
        loop.run_forever()


@scheduling("loop created, run once, closed")
def loop_life(loop: Loop, n: int) -> None:
    factory = subjects.factory
    assert factory is not None
    for _ in range(n):
        new = factory()
        new.call_soon(new.stop)
        new.run_forever()
        new.close()
    asyncio.set_event_loop(loop)
