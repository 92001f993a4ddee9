"""call_later(), call_at() and the TimerHandle they return."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import math
import random
import re
import sys
import time
import weakref
from fractions import Fraction
from typing import Any

import pytest

import fastloop

from .support import Loop, collect_reports, next_turns, run_once, run_turns, within

PAST = -1000.0


def nothing(*args: object) -> None:
    pass


class Thing:
    """Something that can be referred to weakly."""


def early_by(loop: Loop) -> float:
    """By how much a timer may be early: asyncio rounds the clock, fastloop never."""
    return getattr(loop, "_clock_resolution", 0.0)


# --- when ----------------------------------------------------------------------------


def test_the_clock_is_the_monotonic_one(loop: Loop) -> None:
    before = time.monotonic()
    now = loop.time()
    assert before <= now <= time.monotonic()


@pytest.mark.parametrize("seed", range(3))
def test_never_early(loop: Loop, seed: int) -> None:
    rng = random.Random(seed)

    def fire(when: float) -> None:
        now = loop.time()
        assert now >= when - early_by(loop)
        fired.append(when)
        if len(fired) == len(deadlines):
            loop.stop()

    fired: list[float] = []
    now = loop.time()
    deadlines = [now + rng.uniform(-0.001, 0.03) for _ in range(300)]
    deadlines += [now + rng.randrange(30) / 1000 for _ in range(100)]
    for when in deadlines:
        loop.call_at(when, fire, when)
    loop.run_forever()
    assert fired == sorted(deadlines)


@pytest.mark.parametrize("delay", [0, 1e-9, 1e-6, 1e-4, 0.0009, 0.001, 0.0011, 0.0123])
def test_a_delay_is_never_short(loop: Loop, delay: float) -> None:
    async def main() -> None:
        for _ in range(3):
            future = loop.create_future()
            began = loop.time()
            loop.call_later(delay, future.set_result, None)
            await within(future)
            assert loop.time() - began >= delay - early_by(loop)

    loop.run_until_complete(main())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has timer slack")
def test_short_sleeps_leave_the_timer_slack_as_it_is(loop: Loop) -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    set_slack, get_slack = 29, 30  # prctl(2)
    before = prctl(get_slack, 0, 0, 0, 0)
    assert prctl(set_slack, 70_000, 0, 0, 0) == 0
    try:
        for _ in range(5):
            loop.call_later(1e-4, loop.stop)
            loop.run_forever()
            assert prctl(get_slack, 0, 0, 0, 0) == 70_000
    finally:
        prctl(set_slack, before, 0, 0, 0)


def test_when(loop: Loop) -> None:
    deadline = loop.time() + 10
    assert loop.call_at(deadline, nothing).when() == deadline
    before = loop.time()
    when = loop.call_later(5, nothing).when()
    assert before + 5 <= when <= loop.time() + 5


@pytest.mark.parametrize("delay", [0, False, -1, 0.0, -0.0, Fraction(1, 10**6)])
def test_any_real_number_is_a_delay(loop: Loop, delay: Any) -> None:
    before = loop.time()
    handle = loop.call_later(delay, loop.stop)
    assert handle.when() == pytest.approx(before + float(delay), abs=1)
    loop.run_forever()


@pytest.mark.parametrize("when", [0, -(10**9), True, Fraction(-1, 3), -math.inf])
def test_any_real_number_is_a_deadline(loop: Loop, when: Any) -> None:
    handle = loop.call_at(when, loop.stop)
    assert handle.when() == pytest.approx(float(when))
    loop.run_forever()


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_not_a_number_is_due(fast_loop: fastloop.Loop, method: str) -> None:
    handle = getattr(fast_loop, method)(math.nan, fast_loop.stop)
    assert math.isnan(handle.when())
    fast_loop.run_forever()


@pytest.mark.parametrize("delay", [1e6, 1e10, 2.0**62, sys.float_info.max, math.inf])
def test_a_deadline_far_away(loop: Loop, delay: float) -> None:
    far = loop.call_later(delay, pytest.fail, "fired")
    loop.call_later(0.002, loop.stop)
    loop.run_forever()
    assert far.when() > loop.time()
    far.cancel()
    run_once(loop)


@pytest.mark.parametrize("delay", [None, "1", b"1", [], object()])
def test_what_is_no_delay(loop: Loop, delay: Any) -> None:
    with pytest.raises(TypeError):
        loop.call_later(delay, nothing)


@pytest.mark.parametrize("when", [None, "1", b"1", [], object()])
def test_what_is_no_deadline(fast_loop: fastloop.Loop, when: Any) -> None:
    with pytest.raises(TypeError):
        fast_loop.call_at(when, nothing)


def test_an_integer_too_large(loop: Loop) -> None:
    with pytest.raises(OverflowError):
        loop.call_later(10**400, nothing)


# --- arguments -----------------------------------------------------------------------


@pytest.mark.parametrize("count", range(7))
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_arguments(loop: Loop, method: str, count: int) -> None:
    seen: list[tuple[int, ...]] = []
    args = tuple(range(count))
    handle = getattr(loop, method)(0, lambda *given: seen.append(given), *args)
    assert handle._args == args
    run_turns(loop, 2)
    assert seen == [args]


@pytest.mark.parametrize(
    ("method", "time_name"), [("call_later", "delay"), ("call_at", "when")]
)
def test_keywords(loop: Loop, method: str, time_name: str) -> None:
    seen: list[str] = []
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outer")
    context = contextvars.copy_context()
    context.run(var.set, "inner")
    call = getattr(loop, method)

    def look() -> None:
        seen.append(var.get())

    call(0, look, context=context)
    call(0, callback=look)
    call(callback=look, context=context, **{time_name: 0})
    run_turns(loop, 2)
    assert sorted(seen) == ["inner", "inner", "outer"]
    for args, kwargs in [
        ((), {}),
        ((0,), {}),
        ((), {"callback": nothing}),
        ((0, nothing), {time_name: 0}),
        ((0, nothing), {"callback": nothing}),
        ((0, nothing), {"unknown": 0}),
    ]:
        with pytest.raises(TypeError):
            call(*args, **kwargs)


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_closed_loop(loop: Loop, method: str) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(loop, method)(0, nothing)


# --- order ---------------------------------------------------------------------------


def test_due_timers_run_after_what_was_ready(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(seen.append, "soon 1")
    loop.call_later(0, seen.append, "later 1")
    loop.call_soon(seen.append, "soon 2")
    loop.call_at(PAST, seen.append, "past")
    run_once(loop)  # its stop() stands before the timers, in the same turn
    assert seen == ["soon 1", "soon 2", "past", "later 1"]


def test_a_timer_set_in_a_callback_runs_in_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []

    def callback() -> None:
        loop.call_later(0, seen.append, "timer")
        loop.call_soon(seen.append, "soon")

    loop.call_soon(callback)
    loop.call_soon(seen.append, "same turn")
    run_once(loop)
    assert seen == ["same turn"]
    run_once(loop)
    assert seen == ["same turn", "soon", "timer"]


def test_a_timer_that_sets_itself_again_takes_one_turn_each(loop: Loop) -> None:
    seen: list[str] = []

    def again(left: int) -> None:
        seen.append(f"timer {left}")
        if left:
            loop.call_later(0, again, left - 1)

    async def main() -> None:
        loop.call_later(0, again, 3)
        for turn in range(6):
            seen.append(f"turn {turn}")
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == [
        "turn 0",
        "turn 1",
        "timer 3",
        "turn 2",
        "timer 2",
        "turn 3",
        "timer 1",
        "turn 4",
        "timer 0",
        "turn 5",
    ]


def test_deadlines_in_the_past_run_in_their_order(loop: Loop) -> None:
    seen: list[float] = []
    deadlines = [-3.0, -1.0, -7.5, -2.0, 0.0, -7.0]
    for when in deadlines:
        loop.call_at(when, seen.append, when)
    run_once(loop)
    assert seen == sorted(deadlines)


@pytest.mark.parametrize("count", [2, 3, 64, 1000])
def test_equal_deadlines_run_in_the_order_they_were_set(
    fast_loop: fastloop.Loop, count: int
) -> None:
    seen: list[int] = []
    for i in range(count):
        fast_loop.call_at(PAST, seen.append, i)
    run_once(fast_loop)
    assert seen == list(range(count))


def test_infinite_deadlines_keep_their_order_too(fast_loop: fastloop.Loop) -> None:
    seen: list[object] = []
    fast_loop.call_at(-1e308, seen.append, "finite")
    for i, when in enumerate((math.nan, -math.inf, math.nan)):
        fast_loop.call_at(when, seen.append, i)
    run_once(fast_loop)
    assert seen == [0, 1, 2, "finite"]


def test_an_earlier_timer_set_while_waiting_for_a_later_one(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(30, lambda: (seen.append("later"), loop.stop()))
    loop.call_later(
        0.001,
        lambda: loop.call_later(0.001, lambda: (seen.append("earlier"), loop.stop())),
    )
    loop.run_forever()
    assert seen == ["earlier"]


# --- the handle ----------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 0.0, -1, 1])
def test_handle_type(loop: Loop, delay: float) -> None:
    for handle in (loop.call_later(delay, nothing), loop.call_at(delay, nothing)):
        assert isinstance(handle, asyncio.TimerHandle)
        assert isinstance(handle, asyncio.Handle)
        if isinstance(loop, fastloop.Loop):
            assert type(handle) is fastloop.TimerHandle


def test_handle_attributes(loop: Loop) -> None:
    context = contextvars.copy_context()
    handle = loop.call_at(-1.5, nothing, 1, 2, context=context)
    assert handle._when == -1.5
    assert handle._scheduled is True
    assert handle._callback is nothing
    assert handle._args == (1, 2)
    assert handle._context is context
    assert handle._loop is loop
    assert handle.cancelled() is False
    run_once(loop)
    assert handle._scheduled is False
    assert handle.cancelled() is False


def test_repr(loop: Loop) -> None:
    handle = loop.call_at(1e9, nothing)
    where = r"nothing\(\) at .*test_timers\.py:\d+"
    assert re.fullmatch(rf"<TimerHandle when=1000000000.0 {where}>", repr(handle))
    handle.cancel()
    assert repr(handle) == "<TimerHandle cancelled when=1000000000.0>"


def test_weak_references(loop: Loop) -> None:
    handle = loop.call_at(PAST, nothing)
    ref = weakref.ref(handle)
    del handle
    assert ref() is not None
    run_once(loop)
    assert ref() is None


def test_ordering_of_handles(loop: Loop) -> None:
    early = loop.call_at(1, nothing)
    late = loop.call_at(2, nothing)
    assert early < late
    assert early <= late
    assert late > early
    assert late >= early
    assert early != late
    assert not early > late
    assert not early >= late
    assert not late < early
    assert not late <= early
    assert sorted([late, early]) == [early, late]


def test_equality_of_handles(loop: Loop) -> None:
    one = loop.call_at(1, nothing, "a")
    same = loop.call_at(1, nothing, "a")
    assert one == same
    assert one <= same
    assert one >= same
    assert (one != same) is False
    assert not one < same
    assert hash(one) == hash(same)
    assert one != loop.call_at(1, nothing, "b")
    assert one != loop.call_at(1, print, "a")
    same.cancel()
    assert one != same
    assert not one <= same
    assert not one >= same


def test_comparing_with_something_else(loop: Loop) -> None:
    handle = loop.call_at(1, nothing)
    assert handle != 1
    assert handle != loop.call_soon(nothing)
    for compare in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"):
        if compare != "__ne__":
            assert getattr(handle, compare)(1) is NotImplemented
    with pytest.raises(TypeError):
        handle < 1  # noqa: B015


def test_comparing_with_a_handle_of_asyncio(fast_loop: fastloop.Loop) -> None:
    native = fast_loop.call_at(1, nothing, "a")
    stock = asyncio.TimerHandle(1, nothing, ("a",), fast_loop)
    later = asyncio.TimerHandle(2, nothing, (), fast_loop)
    assert native == stock
    assert stock == native
    assert native < later
    assert later > native
    assert not later < native


# --- cancelling ----------------------------------------------------------------------


def test_cancel(loop: Loop) -> None:
    handle = loop.call_later(0, pytest.fail, "fired")
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    assert handle.when() > 0
    run_turns(loop, 2)


def test_cancel_a_timer_that_is_due(loop: Loop) -> None:
    first = loop.call_at(PAST, lambda: second.cancel())
    second = loop.call_at(PAST + 1, pytest.fail, "fired")
    third = loop.call_at(PAST + 2, lambda: first.cancel())
    run_once(loop)
    assert first.cancelled()
    assert not third.cancelled()


def test_cancel_from_inside_itself(loop: Loop) -> None:
    seen: list[object] = []

    def callback(*args: object) -> None:
        handle.cancel()
        seen.extend(args)

    handle = loop.call_at(PAST, callback, 1, 2, 3, 4)
    run_once(loop)
    assert seen == [1, 2, 3, 4]
    assert handle.cancelled()


def test_cancel_after_it_fired(loop: Loop) -> None:
    handle = loop.call_at(PAST, nothing)
    run_once(loop)
    handle.cancel()
    assert handle.cancelled()
    run_once(loop)


def test_cancel_in_the_destructor_of_an_argument(loop: Loop) -> None:
    class Evil:
        def __del__(self) -> None:
            other.cancel()
            handle.cancel()
            loop.call_later(0, nothing)

    other = loop.call_later(1, nothing)
    handle = loop.call_later(0.5, nothing, Evil())
    handle.cancel()
    gc.collect()
    assert other.cancelled()
    run_turns(loop, 2)


def test_cancel_after_the_loop_closed(loop: Loop) -> None:
    handle = loop.call_later(1, nothing)
    loop.close()
    assert handle.when() > 0
    assert "nothing" in repr(handle)
    handle.cancel()
    assert handle.cancelled()


def test_cancelling_lets_go_of_everything(fast_loop: fastloop.Loop) -> None:
    thing = Thing()
    ref = weakref.ref(thing)
    handle = fast_loop.call_later(1000, nothing, thing)
    del thing
    alone = sys.getrefcount(handle) - 1  # the heap holds one
    handle.cancel()
    assert ref() is None
    assert sys.getrefcount(handle) == alone


def test_cancelled_timers_do_not_accumulate(fast_loop: fastloop.Loop) -> None:
    kept = [fast_loop.call_later(1000 + i, nothing) for i in range(100)]

    def churn(count: int) -> None:
        for i in range(count):
            fast_loop.call_later(500 + i % 1000, nothing, i).cancel()

    churn(5000)
    before = sys.getallocatedblocks()
    churn(100_000)
    assert sys.getallocatedblocks() - before < 100
    for handle in kept:
        handle.cancel()


def test_many_timers_cancelled_at_random(fast_loop: fastloop.Loop) -> None:
    rng = random.Random(7)
    fired: list[float] = []
    handles = []
    for _ in range(100_000):
        when = -rng.random()
        handles.append(fast_loop.call_at(when, fired.append, when))
    rng.shuffle(handles)
    for handle in handles[:90_000]:
        handle.cancel()
    run_once(fast_loop)
    assert fired == sorted(handle.when() for handle in handles[90_000:])


# --- exceptions ----------------------------------------------------------------------


def test_an_exception_goes_to_the_handler(loop: Loop) -> None:
    reports = collect_reports(loop)
    handle = loop.call_at(PAST, lambda: 1 / 0)
    run_once(loop)
    (report,) = reports
    assert report["handle"] is handle
    assert isinstance(report["exception"], ZeroDivisionError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    seen: list[str] = []

    def fail() -> None:
        raise error

    loop.call_at(PAST, fail)
    loop.call_at(PAST + 1, seen.append, "the next timer")
    with pytest.raises(error):
        loop.run_forever()
    assert seen == []
    run_once(loop)
    assert seen == ["the next timer"]


# --- sleeping ------------------------------------------------------------------------


def test_sleeps_end_in_the_order_of_their_deadlines(loop: Loop) -> None:
    ended: list[int] = []

    async def sleep(milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)
        ended.append(milliseconds)

    async def main() -> None:
        await asyncio.gather(*(sleep(ms) for ms in (30, 5, 20, 1, 10)))

    loop.run_until_complete(main())
    assert ended == [1, 5, 10, 20, 30]


def test_a_cancelled_sleep_leaves_no_timer(fast_loop: fastloop.Loop) -> None:
    async def main() -> None:
        before = sys.getallocatedblocks()
        for _ in range(3):
            before = sys.getallocatedblocks()
            for _ in range(1000):
                task = asyncio.ensure_future(asyncio.sleep(1000))
                await next_turns()
                task.cancel()
                await next_turns(2)
        del task
        assert sys.getallocatedblocks() - before < 100

    fast_loop.run_until_complete(main())
