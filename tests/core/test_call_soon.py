"""call_soon() and the Handle it returns."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import re
import sys
import weakref
from typing import Any

import pytest

import fastloop

from .support import (
    Loop,
    LoopFactory,
    collect_reports,
    loop_class,
    only_fastloop,
    run_once,
    run_turns,
)


def nothing(*args: object) -> None:
    pass


class Thing:
    """Something that can be referred to weakly."""


# --- scheduling ----------------------------------------------------------------------


def test_callbacks_run_in_the_order_they_were_scheduled(loop: Loop) -> None:
    seen: list[int] = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
    run_once(loop)
    assert seen == list(range(1000))


def test_what_a_callback_schedules_runs_in_the_next_turn(loop: Loop) -> None:
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_once(loop)
    assert seen == ["first", "second"]
    run_once(loop)
    assert seen == ["first", "second", "third"]


@pytest.mark.parametrize("count", range(7))
def test_arguments(loop: Loop, count: int) -> None:
    seen: list[tuple[object, ...]] = []
    args = tuple(object() for _ in range(count))
    loop.call_soon(lambda *given: seen.append(given), *args)
    run_once(loop)
    assert seen == [args]


@pytest.mark.parametrize("count", [1, 3, 4, 50])
def test_arguments_live_as_long_as_the_handle_is_not_cancelled(
    loop: Loop, count: int
) -> None:
    things = [Thing() for _ in range(count)]
    dead = [weakref.ref(thing) for thing in things]
    handle = loop.call_soon(nothing, *things)
    del things
    run_once(loop)
    assert all(ref() is not None for ref in dead)
    handle.cancel()
    assert all(ref() is None for ref in dead)


@pytest.mark.parametrize("size", [100_000])
def test_a_huge_queue(loop: Loop, size: int) -> None:
    seen: list[int] = []
    for i in range(size):
        loop.call_soon(seen.append, i)
    run_once(loop)
    assert seen == list(range(size))


def test_a_queue_that_grows_while_it_is_worked_off(loop: Loop) -> None:
    seen: list[int] = []

    def more(depth: int) -> None:
        seen.append(depth)
        for _ in range(4 if depth < 6 else 0):
            loop.call_soon(more, depth + 1)

    loop.call_soon(more, 0)
    run_turns(loop, 7)
    assert seen == [depth for depth in range(7) for _ in range(4**depth)]


def test_context(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outer")
    given = contextvars.copy_context()
    given.run(var.set, "inner")
    seen: list[str] = []

    def look() -> None:
        seen.append(var.get())

    loop.call_soon(look, context=given)
    loop.call_soon(look, context=None)
    loop.call_soon(look)
    run_once(loop)
    assert seen == ["inner", "outer", "outer"]


def test_the_current_context_is_copied_when_scheduling(loop: Loop) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)
    seen: list[int] = []

    def schedule() -> None:
        var.set(1)
        loop.call_soon(lambda: (seen.append(var.get()), var.set(3)))
        var.set(2)
        loop.call_soon(lambda: seen.append(var.get()))

    contextvars.copy_context().run(schedule)
    run_once(loop)
    assert seen == [1, 2]
    assert var.get() == 0


def test_keywords(loop: Loop) -> None:
    seen: list[object] = []
    loop.call_soon(callback=lambda: seen.append("by name"))
    loop.call_soon(callback=lambda: seen.append("and context"), context=None)
    run_once(loop)
    assert seen == ["by name", "and context"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((), {"context": None}),
        ((nothing,), {"callback": nothing}),
        ((nothing,), {"args": ()}),
        ((nothing,), {"contexts": None}),
        ((nothing,), {"": None}),
    ],
)
def test_wrong_arguments(
    loop: Loop, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        getattr(loop, method)(*args, **kwargs)
    run_once(loop)


def test_a_keyword_that_is_equal_but_not_the_same_object(loop: Loop) -> None:
    given = contextvars.copy_context()
    handle = loop.call_soon(nothing, **{"".join(["con", "text"]): given})
    assert handle._context is given


def test_a_callback_that_cannot_be_called_is_reported(loop: Loop) -> None:
    reports = collect_reports(loop)
    loop.call_soon(None)
    run_once(loop)
    (report,) = reports
    assert isinstance(report["exception"], TypeError)


def test_methods_classes_and_builtins_are_callbacks(loop: Loop) -> None:
    seen: list[object] = []

    class Target:
        def __init__(self, value: object) -> None:
            seen.append(value)

        def __call__(self, value: object) -> None:
            seen.append(value)

        def method(self, value: object) -> None:
            seen.append(value)

    target = Target("made")
    loop.call_soon(target, "called")
    loop.call_soon(target.method, "method")
    loop.call_soon(Target, "class")
    loop.call_soon(seen.append, "builtin")
    run_once(loop)
    assert seen == ["made", "called", "method", "class", "builtin"]


# --- the handle ----------------------------------------------------------------------


def test_handle_type(loop: Loop) -> None:
    handle = loop.call_soon(nothing)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert issubclass(handle.__class__, asyncio.Handle)


def test_handle_type_of_fastloop(fast_loop: fastloop.Loop) -> None:
    assert type(fast_loop.call_soon(nothing)) is fastloop.Handle


@pytest.mark.parametrize("count", range(7))
def test_handle_attributes(loop: Loop, count: int) -> None:
    context = contextvars.copy_context()
    args = tuple(range(count))
    handle = loop.call_soon(nothing, *args, context=context)
    assert handle._callback is nothing
    assert handle._args == args
    assert handle._context is context
    assert handle._loop is loop
    assert handle._source_traceback is None
    assert handle._cancelled is False
    assert handle.cancelled() is False
    if sys.version_info >= (3, 12):
        assert handle.get_context() is context


def test_attributes_stay_after_the_run(loop: Loop) -> None:
    handle = loop.call_soon(nothing, 1)
    run_once(loop)
    assert handle._callback is nothing
    assert tuple(handle._args) == (1,)
    assert handle.cancelled() is False


def test_attributes_of_a_cancelled_handle(loop: Loop) -> None:
    handle = loop.call_soon(nothing, 1)
    handle.cancel()
    assert handle._callback is None
    assert handle._args is None
    assert handle._cancelled is True
    assert handle.cancelled() is True


def test_repr(loop: Loop) -> None:
    handle = loop.call_soon(nothing, 1, "two")
    # from 3.13.1 on, arguments are shown in debug mode only
    assert re.fullmatch(
        r"<Handle nothing\((1, 'two')?\) at .*test_call_soon\.py:\d+>", repr(handle)
    )
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_repr_in_debug_mode_tells_what_was_cancelled(loop: Loop) -> None:
    loop.set_debug(True)
    handle = loop.call_soon(nothing, 1)
    pattern = (
        r"<Handle {}nothing\(1\) at .*test_call_soon\.py:\d+"
        r" created at .*test_call_soon\.py:\d+>"
    )
    assert re.fullmatch(pattern.format(""), repr(handle))
    handle.cancel()
    assert re.fullmatch(pattern.format("cancelled "), repr(handle))


def test_handles_are_hashable_and_compare_by_identity(loop: Loop) -> None:
    one = loop.call_soon(nothing)
    two = loop.call_soon(nothing)
    assert one == one
    assert one != two
    assert len({one, two}) == 2


def test_weak_references_to_a_handle(loop: Loop) -> None:
    handle = loop.call_soon(nothing)
    gone: list[object] = []
    ref = weakref.ref(handle, gone.append)
    del handle
    assert ref() is not None  # it is scheduled
    run_once(loop)
    assert gone == [ref]


def test_a_recycled_handle_has_no_weak_references(fast_loop: fastloop.Loop) -> None:
    old = weakref.ref(fast_loop.call_soon(nothing))
    run_once(fast_loop)
    handles = [fast_loop.call_soon(nothing) for _ in range(10)]
    assert old() is None
    assert weakref.getweakrefcount(handles[0]) == 0


def test_a_handle_cannot_be_made_by_hand() -> None:
    for make in (fastloop.Handle, lambda: object.__new__(fastloop.Handle)):
        with pytest.raises(TypeError):
            make()


# --- cancelling ----------------------------------------------------------------------


def test_cancel(loop: Loop) -> None:
    seen: list[str] = []
    handle = loop.call_soon(seen.append, "cancelled")
    loop.call_soon(seen.append, "other")
    handle.cancel()
    handle.cancel()
    run_once(loop)
    assert seen == ["other"]


def test_cancel_from_a_callback_of_the_same_turn(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(seen.append, "cancelled")
    loop.call_soon(seen.append, "other")
    run_once(loop)
    assert seen == ["other"]


@pytest.mark.parametrize("count", [1, 5])
def test_cancel_from_inside_itself(loop: Loop, count: int) -> None:
    seen: list[Thing] = []

    def callback(*given: Thing) -> None:
        handle.cancel()
        gc.collect()
        seen.extend(given)  # the arguments are still there

    things = [Thing() for _ in range(count)]
    handle = loop.call_soon(callback, *things)
    run_once(loop)
    assert seen == things
    assert handle.cancelled()
    assert handle._callback is None
    assert handle._args is None


def test_cancel_from_inside_itself_and_fail(loop: Loop) -> None:
    reports = collect_reports(loop)

    def callback(thing: Thing) -> None:
        handle.cancel()
        raise ValueError("after cancel")

    thing = Thing()
    ref = weakref.ref(thing)
    handle = loop.call_soon(callback, thing)
    del thing
    run_once(loop)
    (report,) = reports
    assert report["handle"] is handle
    assert str(report["exception"]) == "after cancel"
    reports.clear()
    del report
    gc.collect()
    assert ref() is None


def test_cancel_after_it_ran(loop: Loop) -> None:
    handle = loop.call_soon(nothing)
    run_once(loop)
    handle.cancel()
    assert handle.cancelled()


def test_cancel_releases_the_callback_at_once(loop: Loop) -> None:
    thing = Thing()
    ref = weakref.ref(thing)
    handle = loop.call_soon(lambda kept=thing: None)
    del thing
    handle.cancel()
    assert ref() is None


def test_a_destructor_that_cancels_again(loop: Loop) -> None:
    class Evil:
        def __del__(self) -> None:
            handle.cancel()
            handle._args  # noqa: B018
            repr(handle)

    handle = loop.call_soon(nothing, Evil(), Evil(), Evil())
    handle.cancel()
    assert handle._args is None


# --- in a callback -------------------------------------------------------------------


def test_running_the_loop_from_a_callback(loop: Loop) -> None:
    seen: list[str] = []

    if sys.version_info[:3] == (3, 13, 0):
        only_fastloop(loop, "asyncio 3.13.0 takes the running loop down")

    def callback() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_until_complete(loop.create_future())
        with pytest.raises(RuntimeError, match="Cannot close a running event loop"):
            loop.close()
        seen.append("all refused")

    loop.call_soon(callback)
    run_once(loop)
    assert seen == ["all refused"]


def test_running_another_loop_from_a_callback(
    loop: Loop, loop_factory: LoopFactory
) -> None:
    other = loop_factory()
    seen: list[str] = []

    def callback() -> None:
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        seen.append("refused")

    loop.call_soon(callback)
    run_once(loop)
    other.close()
    assert seen == ["refused"]


def test_running_the_handle_from_inside_itself(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    depth = 0

    def callback() -> None:
        nonlocal depth
        depth += 1
        if depth < 3:
            handle._run()

    handle = loop.call_soon(callback)
    run_once(loop)
    assert depth == 1
    assert "cannot enter context" in caplog.text


def test_running_a_handle_by_hand(loop: Loop) -> None:
    seen: list[int] = []
    handle = loop.call_soon(seen.append, 1)
    handle._run()
    assert seen == [1]
    run_once(loop)
    assert seen == [1, 1]


# --- closed loops --------------------------------------------------------------------


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_closed_loop(loop: Loop, method: str) -> None:
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(loop, method)(nothing)


def test_close_drops_what_is_scheduled(loop: Loop) -> None:
    thing = Thing()
    ref = weakref.ref(thing)
    loop.call_soon(nothing, thing)
    del thing
    loop.close()
    gc.collect()
    assert ref() is None


def test_a_handle_outlives_its_loop(loop: Loop) -> None:
    handle = loop.call_soon(nothing, 1)
    loop.close()
    assert "nothing" in repr(handle)
    handle.cancel()
    assert handle.cancelled()


def test_a_destructor_that_schedules_while_the_loop_closes(loop: Loop) -> None:
    refused: list[str] = []

    class Evil:
        def __del__(self) -> None:
            try:
                loop.call_soon(nothing)
            except RuntimeError as exc:
                refused.append(str(exc))

    for _ in range(3):
        loop.call_soon(nothing, Evil())
    loop.close()
    assert refused == ["Event loop is closed"] * 3


# --- exceptions ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError, asyncio.CancelledError, GeneratorExit, BaseException]
)
def test_an_exception_goes_to_the_handler(
    loop: Loop, error: type[BaseException]
) -> None:
    reports = collect_reports(loop)
    seen: list[str] = []

    def fail() -> None:
        raise error("of the callback")

    handle = loop.call_soon(fail)
    loop.call_soon(seen.append, "the next")
    run_once(loop)
    (report,) = reports
    assert report["message"].startswith("Exception in callback ")
    assert "fail() at " in report["message"]
    assert type(report["exception"]) is error
    assert report["handle"] is handle
    assert report.keys() == {"message", "exception", "handle"}
    assert seen == ["the next"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    reports = collect_reports(loop)
    seen: list[str] = []

    def fail() -> None:
        raise error("out")

    loop.call_soon(seen.append, "before")
    loop.call_soon(fail)
    loop.call_soon(seen.append, "after")
    loop.call_soon(loop.stop)
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert seen == ["before"]
    assert not loop.is_running()
    loop.run_forever()
    assert seen == ["before", "after"]
    assert reports == []


def test_a_stop_is_forgotten_when_an_exception_ends_the_run(loop: Loop) -> None:
    seen: list[str] = []

    def fail() -> None:
        loop.stop()
        raise KeyboardInterrupt

    loop.call_soon(fail)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(lambda: loop.call_soon(lambda: (seen.append("x"), loop.stop())))
    loop.run_forever()
    assert seen == ["x"]


# --- a call_soon() of the user's -----------------------------------------------------


class _Recorder:
    """Mixed into a loop class: counts what goes through call_soon()."""

    calls: int = 0

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        self.calls += 1
        return super().call_soon(callback, *args, context=context)  # type: ignore


async def _seven_calls(loop: Loop) -> None:
    """First step, two plain steps, a wakeup, three callbacks of the future."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    future = loop.create_future()
    future.add_done_callback(nothing)
    future.set_result(None)
    future.add_done_callback(nothing)
    pending = loop.create_future()
    pending.add_done_callback(nothing)
    loop.call_soon(pending.set_result, None)
    await pending


def _count(loop: Any) -> int:
    loop.calls = 0
    task = loop.create_task(_seven_calls(loop))
    run_turns(loop, 6)
    assert task.done()
    return loop.calls - 6  # those of run_turns() itself


def test_a_subclass_sees_every_step(loop_factory: LoopFactory) -> None:
    class Recording(_Recorder, loop_class(loop_factory)):
        pass

    loop: Any = Recording()
    try:
        assert _count(loop) == 8
    finally:
        loop.close()


def test_call_soon_set_on_the_loop_sees_every_step(loop: Any) -> None:
    stock = loop.call_soon

    def call_soon(callback: Any, *args: Any, context: Any = None) -> Any:
        loop.calls += 1
        return stock(callback, *args, context=context)

    loop.call_soon = call_soon
    assert _count(loop) == 8
    del loop.call_soon
    assert _count(loop) == -6


def test_call_soon_set_on_the_class_sees_every_step(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = type(loop).call_soon

    def call_soon(self: Any, callback: Any, *args: Any, context: Any = None) -> Any:
        self.calls += 1
        return stock(self, callback, *args, context=context)

    monkeypatch.setattr(type(loop), "call_soon", call_soon)
    loop.calls = 0
    run_turns(loop, 1)  # seen from the next run on
    assert _count(loop) == 8


def test_a_task_that_waits_when_call_soon_is_replaced(loop: Any) -> None:
    future = loop.create_future()
    seen: list[Any] = []

    async def wait() -> None:
        seen.append(await future)

    task = loop.create_task(wait())
    run_once(loop)
    stock = loop.call_soon
    scheduled: list[Any] = []

    def call_soon(callback: Any, *args: Any, context: Any = None) -> Any:
        scheduled.append(args)
        return stock(callback, *args, context=context)

    loop.call_soon = call_soon
    future.set_result("woken")
    assert scheduled == [(future,)]
    del loop.call_soon
    run_once(loop)
    assert seen == ["woken"]
    assert task.done()


def test_a_call_soon_that_fails(loop: Any) -> None:
    collect_reports(loop)  # of the task that could not be scheduled
    future = loop.create_future()
    future.add_done_callback(nothing)
    coro = asyncio.sleep(0)

    def call_soon(*args: object, **kwargs: object) -> None:
        raise OSError("no")

    loop.call_soon = call_soon
    with pytest.raises(OSError, match="no"):
        loop.create_task(coro)
    with pytest.raises(OSError, match="no"):
        future.set_result(1)
    with pytest.raises(OSError, match="no"):
        future.add_done_callback(nothing)
    del loop.call_soon
    assert future.result() == 1
    coro.close()
