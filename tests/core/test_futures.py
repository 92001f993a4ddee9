"""Future: what loop.create_future() returns."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import itertools
import os
import pickle
import re
import sys
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fastloop

from .support import (
    Loop,
    check,
    collect_reports,
    next_turns,
    only_fastloop,
    outcomes,
    run_once,
    run_python,
)

Future = Any


def nothing(_: object) -> None:
    pass


def future_class(loop: Loop) -> Any:
    """The class of the loop's futures."""
    return type(loop.create_future())


def fail_with(future: Future, error: BaseException) -> None:
    """Set an exception that nobody will miss."""
    future.set_exception(error)
    future.exception()


# --- states --------------------------------------------------------------------------


def test_pending(loop: Loop) -> None:
    future = loop.create_future()
    assert not future.done()
    assert not future.cancelled()
    with pytest.raises(asyncio.InvalidStateError, match=r"Result is not set\."):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match=r"Exception is not set\."):
        future.exception()
    assert future._state == "PENDING"
    assert future.get_loop() is loop
    assert future._loop is loop


@pytest.mark.parametrize("result", [None, 1, "text", (1, 2), ValueError("as a result")])
def test_result(loop: Loop, result: object) -> None:
    future = loop.create_future()
    future.set_result(result)
    assert future.done()
    assert not future.cancelled()
    assert future.result() is result
    assert future.exception() is None
    assert future._state == "FINISHED"
    assert future._result is result


@pytest.mark.parametrize("given", [ValueError, ValueError("v"), KeyboardInterrupt("k")])
def test_exception(loop: Loop, given: Any) -> None:
    future = loop.create_future()
    future.set_exception(given)
    assert future.done()
    assert not future.cancelled()
    error = future.exception()
    assert isinstance(error, given if isinstance(given, type) else type(given))
    with pytest.raises(type(error)) as caught:
        future.result()
    assert caught.value is error
    assert future._exception is error
    assert future._result is None


def test_cancelled(loop: Loop) -> None:
    future = loop.create_future()
    assert future.cancel() is True
    assert future.done()
    assert future.cancelled()
    assert future._state == "CANCELLED"
    for method in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError):
            method()
    assert future.cancel() is False


@pytest.mark.parametrize(
    "finish",
    [
        lambda future: future.set_result(1),
        lambda future: fail_with(future, ValueError()),
        lambda future: future.cancel(),
    ],
    ids=["result", "exception", "cancelled"],
)
def test_a_done_future_cannot_be_finished_again(
    loop: Loop, finish: Callable[[Future], object]
) -> None:
    future = loop.create_future()
    finish(future)
    state = repr(future)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(2)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(OSError())
    assert future.cancel() is False
    assert repr(future) == state


@pytest.mark.parametrize("given", [None, "text", 1, object, ()])
def test_what_is_no_exception(loop: Loop, given: Any) -> None:
    future = loop.create_future()
    with pytest.raises(TypeError):
        future.set_exception(given)
    assert not future.done()


def test_an_exception_that_cannot_be_made(loop: Loop) -> None:
    class Fails(Exception):
        def __init__(self) -> None:
            raise OSError("no instance")

    future = loop.create_future()
    with pytest.raises(OSError, match="no instance"):
        future.set_exception(Fails)
    assert not future.done()


def test_an_exception_whose_making_finishes_the_future(
    fast_loop: fastloop.Loop,
) -> None:
    class Finishes(Exception):
        def __init__(self) -> None:
            future.set_result("from the constructor")

    future = fast_loop.create_future()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(Finishes)
    assert future.result() == "from the constructor"


@pytest.mark.parametrize("given", [StopIteration, StopIteration(1)])
def test_stop_iteration_cannot_be_raised_into_a_future(loop: Loop, given: Any) -> None:
    future = loop.create_future()
    if sys.version_info < (3, 12, 2):
        with pytest.raises(TypeError, match="interacts badly"):
            future.set_exception(given)
        assert not future.done()
        return
    future.set_exception(given)
    error = future.exception()
    assert type(error) is RuntimeError
    assert "interacts badly" in str(error)
    assert isinstance(error.__cause__, StopIteration)
    assert error.__cause__ is error.__context__


# --- callbacks -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 100])
def test_callbacks_run_in_order_through_the_loop(loop: Loop, count: int) -> None:
    future = loop.create_future()
    seen: list[tuple[int, object]] = []
    for i in range(count):
        future.add_done_callback(lambda done, i=i: seen.append((i, done)))
    future.set_result(None)
    assert seen == []
    run_once(loop)
    assert seen == [(i, future) for i in range(count)]


def test_callbacks_take_their_turn_with_others(loop: Loop) -> None:
    seen: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: seen.append("callback 1"))
    future.add_done_callback(lambda _: seen.append("callback 2"))
    loop.call_soon(seen.append, "before")
    future.set_result(None)
    loop.call_soon(seen.append, "after")
    future.add_done_callback(lambda _: seen.append("added when done"))
    run_once(loop)
    assert seen == ["before", "callback 1", "callback 2", "after", "added when done"]


def test_a_callback_that_is_added_twice_runs_twice(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[object] = []
    future.add_done_callback(seen.append)
    future.add_done_callback(seen.append)
    future.cancel()
    run_once(loop)
    assert seen == [future, future]


def test_callbacks_added_while_others_run(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[str] = []

    def first(done: Future) -> None:
        seen.append("first")
        done.add_done_callback(lambda _: seen.append("added"))

    future.add_done_callback(first)
    future.add_done_callback(lambda _: seen.append("second"))
    future.set_result(None)
    run_once(loop)
    assert seen == ["first", "second"]
    run_once(loop)
    assert seen == ["first", "second", "added"]


def test_callbacks_cannot_be_removed_once_they_are_due(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[str] = []

    def second(_: object) -> None:
        seen.append("second")

    def first(done: Future) -> None:
        seen.append("first")
        assert done.remove_done_callback(second) == 0
        assert done._callbacks is None or done._callbacks == []

    future.add_done_callback(first)
    future.add_done_callback(second)
    future.set_result(None)
    assert future.remove_done_callback(first) == 0
    run_once(loop)
    assert seen == ["first", "second"]


def test_a_failing_callback_does_not_stop_the_others(loop: Loop) -> None:
    reports = collect_reports(loop)
    future = loop.create_future()
    seen: list[str] = []
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: seen.append("second"))
    future.add_done_callback(lambda _: [][0])
    future.set_result(None)
    run_once(loop)
    assert seen == ["second"]
    first, second = reports
    assert isinstance(first["exception"], ZeroDivisionError)
    assert isinstance(second["exception"], IndexError)
    for report in reports:
        assert report["message"].startswith("Exception in callback test_a_failing_")
        assert isinstance(report["handle"], asyncio.Handle)


def test_context_of_a_callback(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outer")
    given = contextvars.copy_context()
    given.run(var.set, "given")
    future = loop.create_future()
    seen: list[str] = []

    def look(_: object) -> None:
        seen.append(var.get())

    def add() -> None:
        var.set("current")
        future.add_done_callback(look)
        var.set("later")

    future.add_done_callback(look, context=given)
    contextvars.copy_context().run(add)
    future.set_result(None)
    future.add_done_callback(look, context=given)
    run_once(loop)
    assert seen == ["given", "current", "given"]


def test_wrong_arguments(loop: Loop) -> None:
    future: Any = loop.create_future()
    for args, kwargs in [
        ((), {}),
        ((nothing, None), {}),
        ((nothing,), {"ctx": None}),
    ]:
        with pytest.raises(TypeError):
            future.add_done_callback(*args, **kwargs)
    with pytest.raises(TypeError):
        future.remove_done_callback()
    with pytest.raises(TypeError):
        future.cancel("a", "b")
    with pytest.raises(TypeError):
        future.cancel(message="a")
    with pytest.raises(TypeError):
        future.set_result()
    with pytest.raises(TypeError):
        future.set_exception()
    assert future._callbacks is None


def test_list_of_callbacks(loop: Loop) -> None:
    context = contextvars.copy_context()
    future = loop.create_future()
    assert future._callbacks is None
    future.add_done_callback(nothing, context=context)
    assert future._callbacks == [(nothing, context)]
    future.add_done_callback(print, context=context)
    assert future._callbacks == [(nothing, context), (print, context)]
    future.cancel()
    assert not future._callbacks


@pytest.mark.parametrize("finish", ["set_result", "cancel"])
def test_a_closed_loop_takes_no_callbacks(loop: Loop, finish: str) -> None:
    quiet = loop.create_future()
    future = loop.create_future()
    future.add_done_callback(nothing)
    loop.close()
    getattr(quiet, finish)(None)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(future, finish)(None)
    assert future.done()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.add_done_callback(nothing)


# --- removing callbacks --------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_remove(loop: Loop, count: int) -> None:
    seen: list[object] = []
    for position in range(count):
        future = loop.create_future()
        for i in range(count):
            future.add_done_callback(seen.append if i == position else nothing)
        assert future.remove_done_callback(seen.append) == 1
        assert future.remove_done_callback(seen.append) == 0
        assert len(future._callbacks or []) == count - 1
        future.set_result(None)
    run_once(loop)
    assert seen == []


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000])
def test_remove_all_that_are_equal(loop: Loop, count: int) -> None:
    future = loop.create_future()
    seen: list[object] = []
    for _ in range(count):
        future.add_done_callback(nothing)
        future.add_done_callback(seen.append)
    assert future.remove_done_callback(nothing) == count
    assert future.remove_done_callback(lambda _: None) == 0
    future.set_result(None)
    run_once(loop)
    assert seen == [future] * count


class Callback:
    """Called as a callback and compared by a function."""

    def __init__(self, equal: Callable[[], bool] = lambda: False) -> None:
        self.equal = equal

    def __call__(self, _: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return self.equal()

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_a_comparison_that_fails(loop: Loop, count: int) -> None:
    future = loop.create_future()
    for _ in range(count):
        future.add_done_callback(Callback(lambda: 1 // 0 == 0))
    with pytest.raises(ZeroDivisionError):
        future.remove_done_callback(nothing)
    assert len(future._callbacks) == count


@pytest.mark.parametrize(
    "change",
    [
        "[future.remove_done_callback(c) for c, _ in future._callbacks or ()]",
        "future.add_done_callback(print)",
        "[future.add_done_callback(print) for _ in range(50)]",
        "future.cancel()",
        "future.done() or future.set_result(None)",
        "gc.collect()",
        "repr(future), future._callbacks",
    ],
)
def test_a_comparison_that_changes_the_future(change: str) -> None:
    """The removal may find what it likes, but nothing may break."""
    program = f"""
        class Evil:
            def __init__(self, equal):
                self.equal = equal

            def __call__(self, _):
                pass

            def __eq__(self, other):
                global depth
                depth += 1
                if depth < 10:
                    {change}
                return self.equal

        loop = new_event_loop()
        for count in (1, 2, 3, 7):
            for equal in (True, False):
                depth = 0
                future = loop.create_future()
                for _ in range(count):
                    future.add_done_callback(Evil(equal))
                    future.add_done_callback(id)
                assert future.remove_done_callback(Evil(equal)) >= 0
                assert depth > 0
                future.cancel()
                loop.call_soon(loop.stop)
                loop.run_forever()
        loop.close()
        """
    check(run_python(program))


# --- evil callbacks ------------------------------------------------------------------


def test_callbacks_that_try_to_change_the_outcome(loop: Loop) -> None:
    future = loop.create_future()
    seen: list[object] = []

    def evil(done: Future) -> None:
        assert done.cancel() is False
        with pytest.raises(asyncio.InvalidStateError):
            done.set_result("other")
        seen.append(done.result())

    for _ in range(5):
        future.add_done_callback(evil)
    future.set_result("first")
    run_once(loop)
    assert seen == ["first"] * 5


def test_a_callback_that_drops_the_future(loop: Loop) -> None:
    futures = [loop.create_future()]
    ref = weakref.ref(futures[0])
    seen: list[str] = []

    def drop(_: object) -> None:
        futures.clear()
        gc.collect()
        seen.append("first")

    futures[0].add_done_callback(drop)
    futures[0].add_done_callback(lambda _: seen.append("second"))
    futures[0].set_result(None)
    run_once(loop)
    gc.collect()
    assert seen == ["first", "second"]
    assert ref() is None


def test_a_callback_whose_destructor_uses_the_future(loop: Loop) -> None:
    class Evil:
        def __call__(self, _: object) -> None:
            pass

        def __del__(self) -> None:
            seen.append(len(future._callbacks or []))
            future.add_done_callback(nothing)

    future = loop.create_future()
    seen: list[int] = []
    for _ in range(4):
        future.add_done_callback(Evil())
    future.set_result(None)
    run_once(loop)
    run_once(loop)
    assert len(seen) == 4


def test_a_chain_of_futures_each_finishing_the_next(loop: Loop) -> None:
    futures = [loop.create_future() for _ in range(5000)]
    for one, other in itertools.pairwise(futures):
        one.add_done_callback(lambda done, other=other: other.set_result(done.result()))
    futures[-1].add_done_callback(lambda _: loop.stop())
    futures[0].set_result("passed on")
    loop.run_forever()
    assert futures[-1].result() == "passed on"


# --- cancelling ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, ()),
        ((None,), {}, ()),
        (("why",), {}, ("why",)),
        ((), {"msg": "why"}, ("why",)),
        ((0,), {}, (0,)),
        ((("a", "b"),), {}, (("a", "b"),)),
    ],
)
def test_cancel_message(
    loop: Loop,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: tuple[object, ...],
) -> None:
    future = loop.create_future()
    future.cancel(*args, **kwargs)
    for method in (future.result, future.exception, future.result):
        with pytest.raises(asyncio.CancelledError) as caught:
            method()
        assert caught.value.args == expected
    assert future._cancel_message == (expected[0] if expected else None)


def test_the_message_reaches_who_awaits(loop: Loop) -> None:
    async def main() -> tuple[object, ...]:
        future = loop.create_future()
        loop.call_soon(future.cancel, "why")
        try:
            await future
        except asyncio.CancelledError as exc:
            return exc.args
        return ()

    assert loop.run_until_complete(main()) == ("why",)


def test_make_cancelled_error(loop: Loop) -> None:
    future: Any = loop.create_future()
    assert type(future._make_cancelled_error()) is asyncio.CancelledError
    future.cancel("why")
    assert future._make_cancelled_error().args == ("why",)


# --- exceptions nobody asks for ------------------------------------------------------


def test_never_retrieved(loop: Loop) -> None:
    reports = collect_reports(loop)
    future = loop.create_future()
    error = ValueError("forgotten")
    future.set_exception(error)
    assert future._log_traceback is True
    text = repr(future)
    del future
    gc.collect()
    (report,) = reports
    assert report["message"] == "Future exception was never retrieved"
    assert report["exception"] is error
    assert repr(report["future"]) == text
    assert report.keys() == {"message", "exception", "future"}


def test_never_retrieved_in_debug_mode_tells_where_it_was_made(loop: Loop) -> None:
    loop.set_debug(True)
    reports = collect_reports(loop)
    loop.create_future().set_exception(ValueError())
    gc.collect()
    (report,) = reports
    assert "test_futures.py" in {
        os.path.basename(frame.filename) for frame in report["source_traceback"][-2:]
    }


def test_never_retrieved_of_a_subclass(loop: Loop) -> None:
    class MyFuture(future_class(loop)):  # type: ignore[misc]
        pass

    reports = collect_reports(loop)
    MyFuture(loop=loop).set_exception(ValueError())
    gc.collect()
    (report,) = reports
    assert report["message"] == "MyFuture exception was never retrieved"
    assert type(report["future"]) is MyFuture


@pytest.mark.parametrize(
    "retrieve",
    [
        lambda future: future.exception(),
        lambda future: pytest.raises(ValueError, future.result),  # noqa: RUF061
        lambda future: future.cancel(),
        lambda future: setattr(future, "_log_traceback", False),
    ],
    ids=["exception", "result", "cancel", "attribute"],
)
def test_retrieved(loop: Loop, retrieve: Callable[[Future], object]) -> None:
    future = loop.create_future()
    future.set_exception(ValueError())
    retrieve(future)
    assert future._log_traceback is False


def test_retrieved_by_await(loop: Loop) -> None:
    async def main() -> None:
        future = loop.create_future()
        loop.call_soon(future.set_exception, ValueError())
        with pytest.raises(ValueError):
            await future
        done = loop.create_future()
        done.set_exception(ValueError())
        with pytest.raises(ValueError):
            await done

    loop.run_until_complete(main())


def test_a_report_that_keeps_the_future_alive(loop: Loop) -> None:
    kept: list[Any] = []
    loop.set_exception_handler(lambda _, context: kept.append(context["future"]))
    loop.create_future().set_exception(ValueError("kept"))
    gc.collect()
    (future,) = kept
    assert str(future.exception()) == "kept"
    future.extra = 1
    kept.clear()
    del future
    gc.collect()
    assert kept == []  # once is enough


def test_a_handler_that_fails_while_a_future_dies(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("of the handler")

    loop.set_exception_handler(fail)
    loop.create_future().set_exception(ValueError())
    gc.collect()
    assert "Unhandled error in exception handler" in caplog.text


# --- tracebacks ----------------------------------------------------------------------


def depth(error: BaseException) -> int:
    return len(traceback.extract_tb(error.__traceback__))


def test_raising_again_does_not_lengthen_the_traceback(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError())
    depths = set()
    for _ in range(5):
        with pytest.raises(ValueError) as caught:
            future.result()
        depths.add(depth(caught.value))
    assert len(depths) == 1


def test_awaiting_again_does_not_lengthen_the_traceback(loop: Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError())
    depths = set()

    async def main() -> None:
        for _ in range(5):
            try:
                await future
            except ValueError as exc:
                depths.add(depth(exc))

    loop.run_until_complete(main())
    assert depths == {1}


def test_the_traceback_from_before_is_kept_once(loop: Loop) -> None:
    def origin() -> None:
        raise ValueError

    future = loop.create_future()
    try:
        origin()
    except ValueError as exc:
        future.set_exception(exc)
    with pytest.raises(ValueError) as caught:
        future.result()
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "origin" in names


# --- awaiting ------------------------------------------------------------------------


def test_await_a_result(loop: Loop) -> None:
    async def main() -> list[object]:
        results = []
        for value in (None, 1, (1, 2), (), ValueError("v"), StopIteration(3)):
            future = loop.create_future()
            loop.call_soon(future.set_result, value)
            results.append((await future) is value)
            results.append((await future) is value)  # it is done now
        return results

    assert loop.run_until_complete(main()) == [True] * 12


def test_several_tasks_await_one_future(loop: Loop) -> None:
    future = loop.create_future()
    order: list[int] = []

    async def wait(i: int) -> object:
        result = await future
        order.append(i)
        return result

    async def main() -> list[object]:
        tasks = [loop.create_task(wait(i)) for i in range(10)]
        await next_turns()
        future.set_result("for all")
        return await asyncio.gather(*tasks)

    assert loop.run_until_complete(main()) == ["for all"] * 10
    assert order == list(range(10))


def test_several_tasks_get_the_same_exception(loop: Loop) -> None:
    future = loop.create_future()
    error = ValueError()

    async def wait() -> None:
        await future

    async def main() -> None:
        tasks = [loop.create_task(wait()) for _ in range(3)]
        await next_turns()
        future.set_exception(error)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is error

    loop.run_until_complete(main())


def test_tasks_and_callbacks_are_told_in_order(loop: Loop) -> None:
    seen: list[str] = []
    future = loop.create_future()

    async def wait(name: str) -> None:
        await future
        seen.append(name)

    async def main() -> None:
        future.add_done_callback(lambda _: seen.append("callback 1"))
        first = loop.create_task(wait("task 1"))
        await next_turns()
        future.add_done_callback(lambda _: seen.append("callback 2"))
        second = loop.create_task(wait("task 2"))
        await next_turns()
        future.set_result(None)
        loop.call_soon(seen.append, "soon")
        await asyncio.gather(first, second)

    loop.run_until_complete(main())
    assert seen == ["callback 1", "task 1", "callback 2", "task 2", "soon"]


def test_a_callback_cancels_the_task_that_is_told_next(loop: Loop) -> None:
    seen: list[str] = []
    future = loop.create_future()

    async def wait() -> None:
        try:
            await future
        except asyncio.CancelledError as exc:
            seen.append(f"cancelled {exc.args}")
            raise

    async def main() -> None:
        tasks: list[Any] = []
        future.add_done_callback(lambda _: tasks[0].cancel("by the callback"))
        tasks.append(loop.create_task(wait()))
        await next_turns()
        future.set_result(None)
        await asyncio.wait(tasks)
        assert tasks[0].cancelled()

    loop.run_until_complete(main())
    assert seen == ["cancelled ('by the callback',)"]


# --- the iterator --------------------------------------------------------------------


@pytest.fixture(params=["__iter__", "__await__"])
def iterate(request: pytest.FixtureRequest) -> Callable[[Future], Any]:
    return lambda future: getattr(future, request.param)()


def test_iterating(loop: Loop, iterate: Callable[[Future], Any]) -> None:
    future = loop.create_future()
    iterator = iterate(future)
    assert iter(iterator) is iterator
    assert future._asyncio_future_blocking is False
    assert next(iterator) is future
    assert future._asyncio_future_blocking is True
    with pytest.raises(RuntimeError, match="await wasn't used with future"):
        next(iterator)
    future.set_result(42)
    with pytest.raises(StopIteration) as caught:
        next(iterator)
    assert caught.value.value == 42
    assert caught.value.args == (42,)


@pytest.mark.parametrize(
    "value",
    [None, 0, "", (), (1,), (1, 2), [1], ValueError(), StopIteration(7), ValueError],
    ids=repr,
)
def test_the_value_in_stop_iteration(loop: Loop, value: object) -> None:
    future = loop.create_future()
    future.set_result(value)
    for advance in (next, lambda iterator: iterator.send(None)):
        with pytest.raises(StopIteration) as caught:
            advance(iter(future))
        assert type(caught.value) is not None
        assert caught.value.value is value

    def delegate() -> Any:
        return (yield from future)

    with pytest.raises(StopIteration) as caught:
        next(delegate())
    assert caught.value.value is value


def test_stop_iteration_looks_like_the_real_one(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result(42)
    with pytest.raises(StopIteration) as caught:
        next(iter(future))
    error = caught.value
    assert repr(error) == "StopIteration(42)"
    assert str(error) == "42"
    assert type(error).__name__ == "StopIteration"
    assert error.__context__ is None
    assert error.__cause__ is None
    assert traceback.format_exception_only(error) == ["StopIteration: 42\n"]
    error.add_note("a note")
    error.extra = 1  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(StopIteration(42))).value == 42


def test_a_recycled_stop_iteration_is_clean(fast_loop: fastloop.Loop) -> None:
    future = fast_loop.create_future()
    future.set_result([])
    for _ in range(3):
        with pytest.raises(StopIteration) as caught:
            next(iter(future))
        error = caught.value
        assert vars(error) == {}
        assert error.__cause__ is None
        assert error.__suppress_context__ is False
        error.add_note("a note")
        error.__cause__ = ValueError()
        del error, caught


def test_an_exception_out_of_the_iterator(
    loop: Loop, iterate: Callable[[Future], Any]
) -> None:
    future = loop.create_future()
    iterator = iterate(future)
    next(iterator)
    future.set_exception(ValueError("out"))
    with pytest.raises(ValueError, match="out"):
        next(iterator)


@pytest.mark.parametrize("value", [None, 1, "ignored"])
def test_send(loop: Loop, value: object) -> None:
    future = loop.create_future()
    iterator: Any = iter(future)
    assert iterator.send(value) is future
    future.set_result(1)
    with pytest.raises(StopIteration):
        iterator.send(value)


def test_an_exhausted_iterator(fast_loop: fastloop.Loop) -> None:
    """In asyncio this is an error, a new start or a crash, depending on the version."""
    future = fast_loop.create_future()
    future.set_result(1)
    iterator: Any = iter(future)
    with pytest.raises(StopIteration):
        next(iterator)
    for _ in range(2):
        with pytest.raises(StopIteration) as caught:
            next(iterator)
        assert caught.value.value is None
    with pytest.raises(StopIteration):
        iterator.send(None)
    assert list(iterator) == []
    thrown: Any = iter(future)
    with pytest.raises(ValueError):
        thrown.throw(ValueError)
    assert list(thrown) == []


def test_awaiting_an_exhausted_iterator(fast_loop: fastloop.Loop) -> None:
    future = fast_loop.create_future()
    future.set_result(1)
    iterator = future.__await__()

    class Awaitable:
        def __await__(self) -> Any:
            return iterator

    async def main() -> None:
        assert await Awaitable() == 1
        assert await Awaitable() in (None, 1)

    fast_loop.run_until_complete(main())


def test_throw(loop: Loop) -> None:
    future = loop.create_future()
    for given in (ValueError("thrown"), ValueError):
        iterator: Any = iter(future)
        next(iterator)
        future._asyncio_future_blocking = False
        with pytest.raises(ValueError):
            iterator.throw(given)
    assert not future.done()


@pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\) signature")
def test_throw_with_three_arguments(loop: Loop) -> None:
    future = loop.create_future()
    try:
        raise OSError
    except OSError as exc:
        trace = exc.__traceback__
    for args, expected in [
        ((ValueError, "text"), ("text",)),
        ((ValueError, ("a", "b")), ("a", "b")),
        ((ValueError, ValueError("instance")), ("instance",)),
        ((ValueError, None, None), ()),
        ((ValueError("instance"), None, trace), ("instance",)),
        ((ValueError, "text", trace), ("text",)),
    ]:
        with pytest.raises(ValueError) as caught:
            iter(future).throw(*args)  # type: ignore[attr-defined]
        assert caught.value.args == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="deprecated in 3.12")
def test_throw_with_three_arguments_is_deprecated(loop: Loop) -> None:
    iterator: Any = iter(loop.create_future())
    with pytest.warns(DeprecationWarning), pytest.raises(ValueError):
        iterator.throw(ValueError, "text")


@pytest.mark.filterwarnings("ignore:the \\(type, exc, tb\\) signature")
@pytest.mark.parametrize(
    "args",
    [
        (),
        (1,),
        ("text",),
        (object,),
        (ValueError(), ValueError()),
        (ValueError, None, 1),
        (ValueError, None, None, None),
    ],
)
def test_what_cannot_be_thrown(loop: Loop, args: tuple[Any, ...]) -> None:
    iterator: Any = iter(loop.create_future())
    with pytest.raises(TypeError):
        iterator.throw(*args)


def test_close(loop: Loop) -> None:
    future = loop.create_future()
    iterator: Any = iter(future)
    next(iterator)
    iterator.close()
    iterator.close()
    assert not future.done()


def test_an_iterator_keeps_its_future_and_is_collected(loop: Loop) -> None:
    future = loop.create_future()
    ref = weakref.ref(future)
    future.cycle = iter(future)
    del future
    assert ref() is not None
    gc.collect()
    assert ref() is None


def test_an_iterator_cannot_be_made_by_hand(fast_loop: fastloop.Loop) -> None:
    with pytest.raises(TypeError):
        type(iter(fast_loop.create_future()))()


# --- garbage -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tie",
    [
        lambda future: future.set_result(future),
        lambda future: setattr(future, "me", future),
        lambda future: future.add_done_callback(lambda _, me=future: None),
        lambda future: future.cancel(future),
        lambda future: fail_with(future, ValueError(future)),
        lambda future: [future.add_done_callback(future.cancel) for _ in range(5)],
    ],
    ids=["result", "attribute", "callback", "message", "exception", "callbacks"],
)
def test_a_cycle_is_collected(loop: Loop, tie: Callable[[Future], object]) -> None:
    future = loop.create_future()
    tie(future)
    ref = weakref.ref(future)
    del future
    gc.collect()
    assert ref() is None


def test_a_future_dies_at_once_without_a_cycle(loop: Loop) -> None:
    future = loop.create_future()
    future.add_done_callback(nothing)
    future.attribute = 1
    ref = weakref.ref(future)
    del future
    assert ref() is None


def test_weak_references(loop: Loop) -> None:
    future = loop.create_future()
    told: list[object] = []
    ref = weakref.ref(future, told.append)
    assert ref() is future
    weakref.WeakSet([future]).add(future)
    del future
    assert told == [ref]


def test_an_old_result_is_released_with_its_future(loop: Loop) -> None:
    class Thing:
        pass

    thing = Thing()
    ref = weakref.ref(thing)
    future = loop.create_future()
    future.set_result(thing)
    del thing
    assert ref() is not None
    del future
    assert ref() is None


# --- recycling -----------------------------------------------------------------------


def _eventful_lives(loop: Loop) -> None:
    """Make, use and drop futures in every way."""
    for finish in (
        lambda future: future.set_result([1]),
        lambda future: fail_with(future, ValueError("old")),
        lambda future: future.cancel("old message"),
        lambda future: next(iter(future)),
        lambda future: fail_with(future, KeyError()),
        lambda future: None,
    ):
        future: Any = loop.create_future()
        future.attribute = "old"
        weakref.finalize(future, lambda: None)
        for _ in range(4):
            future.add_done_callback(nothing)
        finish(future)
        del future


def test_a_recycled_future_shows_nothing_of_its_former_life(loop: Loop) -> None:
    _eventful_lives(loop)
    run_once(loop)
    gc.collect()
    for future in [loop.create_future() for _ in range(20)]:
        assert not future.done()
        assert not future.cancelled()
        assert future.get_loop() is loop
        assert future._callbacks is None
        assert future._result is None
        assert future._exception is None
        assert future._cancel_message is None
        assert future._log_traceback is False
        assert future._asyncio_future_blocking is False
        assert future._source_traceback is None
        assert not hasattr(future, "attribute")
        assert weakref.getweakrefcount(future) == 0
        assert repr(future) == "<Future pending>"
        assert future.cancel() is True
        with pytest.raises(asyncio.CancelledError) as caught:
            future.result()
        assert caught.value.args == ()


def test_futures_of_two_loops_are_recycled_for_each_other(
    fast_loop: fastloop.Loop,
) -> None:
    other = fastloop.new_event_loop()
    other.create_future()
    mine = fast_loop.create_future()
    other.close()
    assert mine.get_loop() is fast_loop
    mine.set_result(1)
    del mine
    again = fast_loop.create_future()
    assert again.get_loop() is fast_loop
    assert not again.done()


# --- what kind of object -------------------------------------------------------------


def test_class(loop: Loop) -> None:
    future = loop.create_future()
    assert isinstance(future, asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert future.__class__ is asyncio.Future
    assert asyncio.isfuture(future)
    assert asyncio.ensure_future(future) is future


def test_class_of_fastloop(fast_loop: fastloop.Loop) -> None:
    assert type(fast_loop.create_future()) is fastloop.Future


def test_generic_alias(loop: Loop) -> None:
    alias = future_class(loop)[int]
    assert alias.__args__ == (int,)


def test_repr(loop: Loop) -> None:
    future = loop.create_future()
    assert repr(future) == "<Future pending>"
    future.add_done_callback(nothing)
    where = r"nothing\(\) at .*test_futures\.py:\d+"
    assert re.fullmatch(rf"<Future pending cb=\[{where}\]>", repr(future))
    future.add_done_callback(nothing)
    assert re.fullmatch(rf"<Future pending cb=\[{where}, {where}\]>", repr(future))
    future.add_done_callback(nothing)
    assert "<1 more>" in repr(future)
    future.set_result("r")
    assert repr(future) == "<Future finished result='r'>"
    failed = loop.create_future()
    fail_with(failed, ValueError("v"))
    assert repr(failed) == "<Future finished exception=ValueError('v')>"
    cancelled = loop.create_future()
    cancelled.cancel()
    assert repr(cancelled) == "<Future cancelled>"


def test_repr_of_a_future_that_contains_itself(loop: Loop) -> None:
    future = loop.create_future()
    future.set_result([future])
    assert repr(future).startswith("<Future finished result=")


@pytest.mark.parametrize(
    "dump",
    [pickle.dumps, copy.copy, copy.deepcopy, lambda future: future.__reduce_ex__(4)],
)
def test_no_copies(loop: Loop, dump: Callable[[object], object]) -> None:
    with pytest.raises(TypeError):
        dump(loop.create_future())


def test_attributes_that_can_be_set(loop: Loop) -> None:
    future: Any = loop.create_future()
    future.anything = 1
    assert future.anything == 1
    del future.anything
    assert not hasattr(future, "anything")
    future._asyncio_future_blocking = True
    assert future._asyncio_future_blocking is True
    future._cancel_message = "set"
    assert future._cancel_message == "set"
    future._log_traceback = False
    with pytest.raises(ValueError):
        future._log_traceback = True
    for name in ("_asyncio_future_blocking", "_log_traceback", "_cancel_message"):
        with pytest.raises(AttributeError):
            delattr(future, name)


@pytest.mark.parametrize(
    "name",
    ["_state", "_loop", "_callbacks", "_result", "_exception", "_source_traceback"],
)
def test_attributes_that_cannot_be_set(loop: Loop, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(loop.create_future(), name, None)


def test_construction(loop: Loop) -> None:
    cls = future_class(loop)
    assert cls(loop=loop).get_loop() is loop
    for args, kwargs in [((1,), {}), ((loop,), {}), ((), {"lop": loop})]:
        with pytest.raises(TypeError):
            cls(*args, **kwargs)
    with pytest.raises(AttributeError):
        cls(loop=object())

    async def main() -> Loop:
        return cls().get_loop()

    assert loop.run_until_complete(main()) is loop


def test_init_again(loop: Loop) -> None:
    if sys.version_info < (3, 15):
        only_fastloop(loop, "asyncio starts anew, and loses what it had")
    future = loop.create_future()
    future.set_result(1)
    with pytest.raises(RuntimeError, match="already initialized"):
        future.__init__(loop=loop)
    assert future.result() == 1


# --- subclasses ----------------------------------------------------------------------


def test_a_subclass(loop: Loop) -> None:
    class MyFuture(future_class(loop)):  # type: ignore[misc]
        def __init__(self, extra: int, *, loop: Loop) -> None:
            super().__init__(loop=loop)
            self.extra = extra

        def set_result(self, result: object) -> None:
            super().set_result((self.extra, result))

    future = MyFuture(1, loop=loop)
    assert type(future) is MyFuture
    assert isinstance(future, MyFuture)
    assert isinstance(future, asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert asyncio.isfuture(future)
    assert future.__class__ == MyFuture
    assert repr(future) == "<MyFuture pending>"
    loop.call_soon(future.set_result, "r")
    assert loop.run_until_complete(future) == (1, "r")


def test_a_subclass_with_slots(loop: Loop) -> None:
    class Slotted(future_class(loop)):  # type: ignore[misc]
        __slots__ = ("extra",)

    future = Slotted(loop=loop)
    future.extra = future
    ref = weakref.ref(future)
    assert isinstance(future, asyncio.Future)
    del future
    gc.collect()
    assert ref() is None


def test_a_subclass_with_a_destructor(loop: Loop) -> None:
    reports = collect_reports(loop)
    died: list[bool] = []

    class Mortal(future_class(loop)):  # type: ignore[misc]
        def __del__(self) -> None:
            died.append(self.done())
            super().__del__()

    future = Mortal(loop=loop)
    future.set_exception(ValueError("forgotten"))
    del future
    gc.collect()
    assert died == [True]
    (report,) = reports
    assert str(report["exception"]) == "forgotten"


def test_a_subclass_that_survives_its_destructor(loop: Loop) -> None:
    survivors: list[Any] = []

    class Survivor(future_class(loop)):  # type: ignore[misc]
        def __del__(self) -> None:
            survivors.append(self)

    Survivor(loop=loop)
    (future,) = survivors
    future.set_result("still works")
    assert future.result() == "still works"
    survivors.clear()


def test_a_task_uses_what_a_subclass_overrides(loop: Loop) -> None:
    calls: list[str] = []

    class Watched(future_class(loop)):  # type: ignore[misc]
        def add_done_callback(self, *args: Any, **kwargs: Any) -> None:
            calls.append("add_done_callback")
            super().add_done_callback(*args, **kwargs)

        def cancel(self, *args: Any, **kwargs: Any) -> bool:
            calls.append("cancel")
            return super().cancel(*args, **kwargs)

        def get_loop(self) -> Loop:
            calls.append("get_loop")
            return super().get_loop()

    async def wait(future: Future) -> None:
        await future

    async def main() -> None:
        task = loop.create_task(wait(Watched(loop=loop)))
        await next_turns()
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())
    assert calls == ["get_loop", "add_done_callback", "cancel"]


# --- not initialised -----------------------------------------------------------------


_OUTCOME = """
    future_class = type(new_event_loop().create_future())

    def outcome(use, **names):
        future = future_class.__new__(future_class)
        try:
            result = repr(eval(use, globals(), {"future": future, **names}))
        except BaseException as exc:
            return type(exc).__name__
        return result.partition(" object at ")[0]
"""


def test_an_uninitialised_future_behaves_as_asyncios() -> None:
    program = (
        _OUTCOME
        + """
    for use in (
        "future.result()",
        "future.exception()",
        "future.set_result(1)",
        "future.set_exception(ValueError())",
        "future.add_done_callback(print)",
        "future.remove_done_callback(print)",
        "future.cancel()",
        "future.cancel('message')",
        "future.cancelled()",
        "future.done()",
        "future.get_loop()",
        "future.__await__()",
        "iter(future)",
        "repr(future)",
        "future._state",
        "future._loop",
        "future._callbacks",
        "future._result",
        "future._exception",
        "future._log_traceback",
        "future._source_traceback",
        "future._cancel_message",
        "future._asyncio_future_blocking",
        "setattr(future, '_asyncio_future_blocking', True)",
        "setattr(future, '_log_traceback', False)",
        "setattr(future, '_cancel_message', 1)",
        "setattr(future, 'attribute', 1)",
        "isinstance(future, asyncio.Future)",
        "asyncio.isfuture(future)",
        "asyncio.ensure_future(future) is future",
        "new_event_loop().run_until_complete(future)",
        "weakref.ref(future)() is future",
        "future == future",
    ):
        print(use, "->", outcome(use))
    """
    )
    stock, ours = outcomes(program, options=("-W", "ignore"))
    assert ours.splitlines() == stock.splitlines()


def test_nothing_breaks_an_uninitialised_future() -> None:
    """Every attribute, called with any number of arguments, and awaited."""
    program = (
        _OUTCOME
        + """
    loop = new_event_loop()

    async def wait(future):
        future._log_destroy_pending = False
        await future

    for base in (future_class, fastloop.Task):
        future_class = type("Sub", (base,), {})
        for future_class in (base, future_class):
            for name in sorted(set(dir(base)) - {"__class__", "print_stack"}):
                for arguments in ("", "()", "(None)", "(None, None)", "(future)"):
                    outcome(f"future.{name}{arguments}")
            outcome("loop.run_until_complete(wait(future))", loop=loop, wait=wait)
            gc.collect()
    loop.close()
    """
    )
    check(run_python(program, options=("-W", "ignore")), silent=False)


def test_a_future_without_a_loop_behaves_as_asyncios() -> None:
    """Made outside of a running loop, with and without a current one."""
    program = """
        future_class = type(new_event_loop().create_future())
        for current in (None, new_event_loop()):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                asyncio.set_event_loop(current)
                try:
                    print(future_class().get_loop() is current)
                except RuntimeError as exc:
                    print(exc)
            print([str(w.message) for w in caught])
        """
    stock, ours = outcomes(program, options=("-W", "ignore"))
    assert ours == stock
