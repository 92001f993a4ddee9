"""Task: what loop.create_task() returns."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import contextvars
import gc
import io
import re
import sys
import traceback
import types
import weakref
from collections.abc import Awaitable, Callable, Generator
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
    run_turns,
    within,
)

Task = Any


def task_class(loop: Loop) -> Any:
    """The class of the loop's tasks."""
    coro = returns(None)
    task = loop.create_task(coro)
    loop.run_until_complete(task)
    return type(task)


async def returns(value: Any) -> Any:
    return value


async def raises(error: BaseException) -> None:
    raise error


async def waits_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def run(loop: Loop, coro: Any) -> Any:
    return loop.run_until_complete(coro)


# --- life ----------------------------------------------------------------------------


def test_result(loop: Loop) -> None:
    task = loop.create_task(returns("value"))
    assert not task.done()
    with pytest.raises(asyncio.InvalidStateError):
        task.result()
    assert run(loop, task) == "value"
    assert task.done()
    assert not task.cancelled()
    assert task.result() == "value"
    assert task.exception() is None


def test_exception(loop: Loop) -> None:
    error = ValueError("v")
    task = loop.create_task(raises(error))
    with pytest.raises(ValueError) as caught:
        run(loop, task)
    assert caught.value is error
    assert task.exception() is error
    assert not task.cancelled()


@pytest.mark.parametrize("error", [GeneratorExit, BaseException])
def test_exceptions_that_are_no_exception(
    loop: Loop, error: type[BaseException]
) -> None:
    task = loop.create_task(raises(error("b")))
    with pytest.raises(error, match="b"):
        run(loop, task)


def test_stop_iteration_out_of_a_coroutine(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        run(loop, loop.create_task(raises(StopIteration())))


def test_nothing_runs_before_the_loop_does(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        seen.append("ran")

    task = loop.create_task(main())
    assert seen == []
    run_once(loop)
    assert seen == ["ran"]
    assert task.done()


def test_tasks_step_in_turn(loop: Loop) -> None:
    seen: list[str] = []

    async def step(name: str) -> None:
        for i in range(3):
            seen.append(f"{name}{i}")
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(step("a"), step("b"), step("c"))

    run(loop, main())
    assert seen == [f"{name}{i}" for i in range(3) for name in "abc"]


def test_turns_between_a_result_and_who_awaits_it(loop: Loop) -> None:
    """Who awaits is woken in the turn after, wherever it stands in the chain."""
    seen: list[str] = []
    future = loop.create_future()

    async def inner() -> None:
        await future
        seen.append("inner")

    async def outer(task: Task) -> None:
        await task
        seen.append("outer")

    async def main() -> None:
        task = loop.create_task(inner())
        last = loop.create_task(outer(task))
        await next_turns()
        future.set_result(None)
        for turn in range(4):
            seen.append(f"turn {turn}")
            await asyncio.sleep(0)
        await last

    run(loop, main())
    assert seen == ["turn 0", "inner", "turn 1", "outer", "turn 2", "turn 3"]


def test_awaiting_something_done_takes_no_turn(loop: Loop) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        future = loop.create_future()
        future.set_result(None)
        task = loop.create_task(returns(None))
        await task
        loop.call_soon(seen.append, "a turn went by")
        await future
        await task
        return seen.copy()

    assert run(loop, main()) == []


def test_outcome_cannot_be_set(loop: Loop) -> None:
    task: Task = loop.create_task(returns(None))
    with pytest.raises(RuntimeError, match="does not support set_result"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="does not support set_exception"):
        task.set_exception(ValueError())
    run(loop, task)


def test_a_closed_loop_takes_no_tasks(loop: Loop) -> None:
    loop.close()
    coro = returns(None)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coro)
    coro.close()


@pytest.mark.parametrize("value", [None, 1, "text", object(), returns, [], print])
def test_what_is_no_coroutine(loop: Loop, value: Any) -> None:
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(value)
    with pytest.raises(TypeError, match="a coroutine was expected"):
        task_class(loop)(value, loop=loop)


def test_a_future_is_no_coroutine(loop: Loop) -> None:
    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(loop.create_future())


def test_wrong_arguments(loop: Loop) -> None:
    coro = returns(None)
    create: Any = loop.create_task
    cls = task_class(loop)
    for wrong in (
        lambda: create(),
        lambda: create(coro, "name"),
        lambda: create(coro, unknown=1),
        lambda: create(coro, coro=coro),
        lambda: cls(),
        lambda: cls(coro, loop),
        lambda: cls(coro, loop=loop, unknown=1),
    ):
        with pytest.raises(TypeError):
            wrong()
    coro.close()


def test_coro_by_name(loop: Loop) -> None:
    assert run(loop, loop.create_task(coro=returns(1))) == 1
    assert run(loop, task_class(loop)(coro=returns(2), loop=loop)) == 2


def test_attributes(loop: Loop) -> None:
    future = loop.create_future()
    coro = waits_for(future)
    task: Task = loop.create_task(coro)
    assert task.get_coro() is coro
    assert task._coro is coro
    assert task.get_loop() is loop
    assert task._loop is loop
    assert task._state == "PENDING"
    assert task._fut_waiter is None
    assert task._must_cancel is False
    assert task._log_destroy_pending is True
    assert task._source_traceback is None
    run_once(loop)
    assert task._fut_waiter is future
    future.set_result("value")
    run_once(loop)
    assert task._fut_waiter is None
    assert task._result == "value"
    assert task.get_coro() is coro
    task.anything = 1
    assert task.anything == 1


def test_a_callback_of_the_future_wakes_the_task(loop: Loop) -> None:
    """Libraries look for the task behind the callbacks of what it awaits."""
    future: Any = loop.create_future()
    task: Task = loop.create_task(waits_for(future))
    run_once(loop)
    ((callback, context),) = future._callbacks
    assert callback.__self__ is task
    assert isinstance(context, contextvars.Context)
    future.cancel()
    run_once(loop)


# --- names ---------------------------------------------------------------------------


def test_names_by_default_are_numbered(loop: Loop) -> None:
    tasks = [loop.create_task(returns(None)) for _ in range(3)]
    numbers = [int(task.get_name().removeprefix("Task-")) for task in tasks]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    run_once(loop)


def test_a_name_asked_for_late(loop: Loop) -> None:
    async def main() -> list[str]:
        tasks = [asyncio.ensure_future(returns(None)) for _ in range(3)]
        await asyncio.wait(tasks)
        return [task.get_name() for task in tasks]

    names = run(loop, main())
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"Task-\d+", name) for name in names)


@pytest.mark.parametrize("given", ["name", "", "ünï", 5, ("a", 1), b"b"])
def test_a_given_name(loop: Loop, given: Any) -> None:
    task = loop.create_task(returns(None), name=given)
    assert task.get_name() == str(given)
    task.set_name([1])  # type: ignore[arg-type]
    assert task.get_name() == "[1]"
    run(loop, task)
    task.set_name("after the end")
    assert task.get_name() == "after the end"


def test_no_name_given(loop: Loop) -> None:
    task = loop.create_task(returns(None), name=None)
    assert task.get_name().startswith("Task-")
    run(loop, task)


def test_a_name_that_cannot_be_made(loop: Loop) -> None:
    class Nameless:
        def __str__(self) -> str:
            raise OSError("nameless")

    collect_reports(loop)  # of the task that was never made
    coro = returns(None)
    with pytest.raises(OSError, match="nameless"):
        task_class(loop)(coro, loop=loop, name=Nameless())
    coro.close()
    task = loop.create_task(returns(None), name="kept")
    with pytest.raises(OSError, match="nameless"):
        task.set_name(Nameless())  # type: ignore[arg-type]
    assert task.get_name() == "kept"
    run(loop, task)


# --- cancelling ----------------------------------------------------------------------


def test_cancel_before_the_start(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        seen.append("started")

    task = loop.create_task(main())
    assert task.cancel() is True
    assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        run(loop, task)
    assert task.cancelled()
    assert seen == []


def test_cancel_while_waiting(loop: Loop) -> None:
    future = loop.create_future()
    task = loop.create_task(waits_for(future))
    run_once(loop)
    assert task.cancel() is True
    assert future.cancelled()
    assert not task.done()
    run_once(loop)
    assert task.cancelled()


def test_cancel_when_done(loop: Loop) -> None:
    task = loop.create_task(returns(1))
    run(loop, task)
    assert task.cancel() is False
    assert task.cancelling() == 0
    assert task.result() == 1


def test_cancel_after_the_result_came_in_the_same_turn(loop: Loop) -> None:
    """The result is lost: the task was cancelled before it could see it."""
    future = loop.create_future()
    task: Task = loop.create_task(waits_for(future))
    run_once(loop)
    future.set_result("too late")
    assert task.cancel() is True
    assert task._must_cancel is True
    run_once(loop)
    assert task.cancelled()


def test_a_result_after_cancel_in_the_same_turn(loop: Loop) -> None:
    future = loop.create_future()
    task = loop.create_task(waits_for(future))
    run_once(loop)
    task.cancel()
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result("refused")
    run_once(loop)
    assert task.cancelled()


def test_cancel_between_two_steps(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("in sleep")
            raise

    task = loop.create_task(main())
    run_once(loop)
    task.cancel()
    run_once(loop)
    assert seen == ["in sleep"]
    assert task.cancelled()


def test_cancel_itself_and_return(loop: Loop) -> None:
    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "lost"

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError):
        run(loop, task)
    assert task.cancelled()


def test_cancel_itself_and_await(loop: Loop) -> None:
    async def main() -> str:
        task: Task = asyncio.current_task()
        task.cancel("self")
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as exc:
            assert task._must_cancel is False
            return str(exc)
        return "not reached"

    assert run(loop, main()) == "self"


def test_cancel_itself_and_await_something_done(loop: Loop) -> None:
    async def main() -> list[str]:
        seen = []
        future = loop.create_future()
        future.set_result("done")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        seen.append(await future)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled")
        return seen

    assert run(loop, main()) == ["done", "cancelled"]


def test_cancel_itself_and_fail(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        raise ValueError("wins")

    with pytest.raises(ValueError, match="wins"):
        run(loop, main())


def test_cancelled_twice(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        for i in range(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                seen.append(f"cancelled {i}")
        await asyncio.sleep(0)

    task = loop.create_task(main())
    run_once(loop)
    assert task.cancel()
    run_once(loop)
    assert task.cancel()
    run(loop, task)
    assert seen == ["cancelled 0", "cancelled 1"]
    assert task.cancelling() == 2
    assert not task.cancelled()


def test_cancelled_twice_before_it_can_react(loop: Loop) -> None:
    seen: list[tuple[object, ...]] = []

    async def main() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as exc:
            seen.append(exc.args)
        try:
            await asyncio.sleep(0)
            seen.append(("not cancelled again",))
        except asyncio.CancelledError as exc:
            seen.append(exc.args)

    task = loop.create_task(main())
    run_once(loop)
    task.cancel("one")
    task.cancel("two")
    run_turns(loop, 3)
    assert task.done()
    assert seen == [("one",), ("not cancelled again",)]


def test_cancelled_during_cleanup(loop: Loop) -> None:
    seen: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            seen.append("cleanup")
            await asyncio.sleep(0)
            seen.append("cleaned up")

    task = loop.create_task(main())
    run_once(loop)
    task.cancel()
    run_once(loop)
    assert seen == ["cleanup"]
    task.cancel()
    run_once(loop)
    assert seen == ["cleanup"]
    assert task.cancelled()


def test_a_cancellation_that_is_swallowed(loop: Loop) -> None:
    async def main() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        await asyncio.sleep(0)
        return "went on"

    task = loop.create_task(main())
    run_once(loop)
    task.cancel()
    assert run(loop, task) == "went on"
    assert task.cancelling() == 1


def test_uncancel(loop: Loop) -> None:
    async def main() -> list[int]:
        task = asyncio.current_task()
        assert task is not None
        counts = [task.cancelling(), task.uncancel()]
        task.cancel()
        task.cancel()
        counts.append(task.cancelling())
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            counts += [task.uncancel(), task.uncancel(), task.uncancel()]
        return counts

    assert run(loop, main()) == [0, 0, 2, 1, 0, 0]


def test_uncancel_takes_a_pending_cancellation_back(loop: Loop) -> None:
    async def main() -> str:
        task: Task = asyncio.current_task()
        task.cancel()
        task.uncancel()
        pending = task._must_cancel
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return f"{pending}: cancelled"
        return f"{pending}: went on"

    expected = "False: went on" if sys.version_info >= (3, 13) else "True: cancelled"
    assert run(loop, main()) == expected


@pytest.mark.parametrize("args", [(), ("why",), (None,), (("a", "b"),)])
def test_the_message(loop: Loop, args: tuple[Any, ...]) -> None:
    expected = () if args in ((), (None,)) else args

    async def inner() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as exc:
            assert exc.args == expected
            raise

    task = loop.create_task(inner())
    run_once(loop)
    task.cancel(*args)
    with pytest.raises(asyncio.CancelledError) as caught:
        run(loop, waits_for(task))
    assert caught.value.args == expected


def test_the_message_of_a_cancellation_before_the_start(loop: Loop) -> None:
    task = loop.create_task(returns(1))
    task.cancel(msg="early")
    with pytest.raises(asyncio.CancelledError, match="early"):
        run(loop, task)


def test_a_message_does_not_outlive_its_cancellation(loop: Loop) -> None:
    async def main() -> tuple[object, ...]:
        for message in ("first", None):
            try:
                task = asyncio.current_task()
                assert task is not None
                task.cancel(message)
                await asyncio.sleep(100)
            except asyncio.CancelledError as exc:
                args = exc.args
        return args

    assert run(loop, main()) == ()


def test_cancelling_a_task_that_awaits_a_task(loop: Loop) -> None:
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append("inner")
            raise

    async def outer(task: Task) -> None:
        try:
            await task
        except asyncio.CancelledError:
            seen.append("outer")
            raise

    first = loop.create_task(inner())
    second = loop.create_task(outer(first))
    run_turns(loop, 2)
    second.cancel("all")
    run_turns(loop, 3)
    assert seen == ["inner", "outer"]
    assert first.cancelled()
    assert second.cancelled()


def test_an_inner_task_that_refuses_to_be_cancelled(loop: Loop) -> None:
    async def inner() -> str:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "refused"
        return "not reached"

    async def main() -> str:
        task = loop.create_task(inner())
        outer = loop.create_task(waits_for(task))
        await next_turns(2)
        outer.cancel()
        return await outer

    assert run(loop, main()) == "refused"


def test_cancelling_an_inner_task_alone(loop: Loop) -> None:
    async def main() -> str:
        inner = loop.create_task(asyncio.sleep(100))
        loop.call_soon(inner.cancel, "inner only")
        try:
            await inner
        except asyncio.CancelledError as exc:
            return str(exc)
        return "not reached"

    task = loop.create_task(main())
    assert run(loop, task) == "inner only"
    assert task.cancelling() == 0


def test_the_same_exception_goes_from_task_to_task(loop: Loop) -> None:
    caught: list[BaseException] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError as exc:
            caught.append(exc)
            raise

    async def main() -> None:
        task = loop.create_task(inner())
        loop.call_soon(task.cancel)
        try:
            await task
        except asyncio.CancelledError as exc:
            caught.append(exc)

    run(loop, main())
    assert len(caught) == 2
    assert caught[0] is caught[1]


def test_each_who_asks_gets_an_exception_of_its_own(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(100))
    run_once(loop)
    task.cancel("why")
    run_once(loop)
    errors = set()
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError) as caught:
            task.result()
        errors.add(caught.value)
    assert len(errors) == 3


def test_cancelling_from_a_callback_of_the_future(loop: Loop) -> None:
    future = loop.create_future()
    task = loop.create_task(waits_for(future))
    run_once(loop)
    future.add_done_callback(lambda _: task.cancel())  # after the wakeup: too late
    future.set_result(1)
    run_once(loop)
    assert task.result() == 1


def test_a_waiter_whose_cancel_lies(loop: Loop) -> None:
    """cancel() of the awaited object says True but does nothing."""

    class Liar(type(loop.create_future())):  # type: ignore[misc]
        def cancel(self, *args: Any, **kwargs: Any) -> bool:
            return True

    future = Liar(loop=loop)
    task = loop.create_task(waits_for(future))
    run_once(loop)
    assert task.cancel() is True
    run_once(loop)
    assert not task.done()
    future.set_result("in the end")
    assert run(loop, task) == "in the end"


def test_a_waiter_whose_cancel_fails(loop: Loop) -> None:
    class Fails(type(loop.create_future())):  # type: ignore[misc]
        def cancel(self, *args: Any, **kwargs: Any) -> bool:
            raise OSError("no")

    future = Fails(loop=loop)
    task = loop.create_task(waits_for(future))
    run_once(loop)
    with pytest.raises(OSError, match="no"):
        task.cancel()
    future.set_result("in the end")
    assert run(loop, task) == "in the end"


def test_a_waiter_whose_cancel_finishes_the_task(loop: Loop) -> None:
    class Finishes(type(loop.create_future())):  # type: ignore[misc]
        def cancel(self, *args: Any, **kwargs: Any) -> bool:
            self.set_result("instead")
            return False

    future = Finishes(loop=loop)
    task = loop.create_task(waits_for(future))
    run_once(loop)
    assert task.cancel() is True
    run_once(loop)
    assert task.cancelled()


def test_cancelling_a_long_chain_of_tasks() -> None:
    """asyncio gives up with RecursionError; to crash is none of the options."""
    program = """
        async def wait(other):
            await other

        async def main(loop):
            future = loop.create_future()
            tasks = [future]
            for _ in range(100_000):
                tasks.append(loop.create_task(wait(tasks[-1])))
            await asyncio.sleep(0)
            try:
                tasks[-1].cancel()
            except RecursionError:
                future.cancel()
            await asyncio.wait(tasks[1:])
            return all(task.cancelled() for task in tasks)

        def run():
            loop = new_event_loop()
            print(loop.run_until_complete(main(loop)))
            loop.close()

        threading.stack_size(1024 * 1024)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        """
    assert check(run_python(program), silent=False) == "True\n"


# --- wrong awaits --------------------------------------------------------------------


@types.coroutine
def bare_yield(value: Any) -> Generator[Any, Any, Any]:
    return (yield value)


def test_await_itself(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        await task

    with pytest.raises(RuntimeError, match="Task cannot await on itself: <Task "):
        run(loop, main())


def test_await_itself_by_a_subclass(loop: Loop) -> None:
    class MyTask(task_class(loop)):  # type: ignore[misc]
        pass

    async def main() -> None:
        await asyncio.current_task()  # type: ignore[misc]

    with pytest.raises(RuntimeError, match="Task cannot await on itself"):
        run(loop, MyTask(main(), loop=loop))


@pytest.mark.parametrize("value", [1, "text", object(), ValueError])
def test_yielding_something_else(loop: Loop, value: object) -> None:
    with pytest.raises(RuntimeError, match="Task got bad yield: "):
        run(loop, waits_for(bare_yield(value)))


def test_yielding_none_takes_one_turn(loop: Loop) -> None:
    assert run(loop, waits_for(bare_yield(None))) is None


def test_yielding_a_generator(loop: Loop) -> None:
    with pytest.raises(
        RuntimeError, match="yield was used instead of yield from for generator"
    ):
        run(loop, waits_for(bare_yield(x for x in ())))


def test_yielding_a_future(loop: Loop) -> None:
    future = loop.create_future()
    with pytest.raises(
        RuntimeError, match="yield was used instead of yield from in task"
    ):
        run(loop, waits_for(bare_yield(future)))


def test_a_future_of_another_loop(loop: Loop) -> None:
    for other in (fastloop.new_event_loop(), asyncio.new_event_loop()):
        future = other.create_future()
        task = other.create_task(returns(None))
        for foreign in (future, task):
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                run(loop, waits_for(foreign))
        other.run_until_complete(task)
        other.close()


def test_the_coroutine_survives_a_wrong_await(loop: Loop) -> None:
    async def main() -> str:
        for wrong in (1, "text", loop.create_future(), asyncio.current_task()):
            with pytest.raises(RuntimeError):
                await bare_yield(wrong)
        return await within(asyncio.sleep(0, "fine"))

    assert run(loop, main()) == "fine"


def test_a_wrong_await_and_a_cancellation(loop: Loop) -> None:
    """The cancellation comes before the complaint."""

    async def main() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await bare_yield(1)
        except BaseException as exc:
            return type(exc).__name__
        return "nothing"

    assert run(loop, main()) == "CancelledError"


# --- exceptions ----------------------------------------------------------------------


def test_context_of_an_exception(loop: Loop) -> None:
    async def inner() -> None:
        raise ValueError("inner")

    async def outer() -> None:
        try:
            await loop.create_task(inner())
        except ValueError:
            await asyncio.sleep(0)
            raise KeyError("outer")  # noqa: B904

    with pytest.raises(KeyError) as caught:
        run(loop, outer())
    assert str(caught.value.__context__) == "inner"


def test_context_of_a_thrown_cancellation(loop: Loop) -> None:
    contexts: list[BaseException | None] = []

    async def main() -> None:
        try:
            raise ValueError("being handled")
        except ValueError:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError as exc:
                contexts.append(exc.__context__)

    task = loop.create_task(main())
    run_once(loop)
    task.cancel()
    run(loop, task)
    assert [str(context) for context in contexts] == ["being handled"]


def test_an_exception_being_handled_does_not_leak_into_other_tasks(loop: Loop) -> None:
    contexts: list[BaseException | None] = []

    async def handling(future: Any) -> None:
        try:
            raise ValueError("private")
        except ValueError:
            await future

    async def fails() -> None:
        try:
            raise KeyError
        except KeyError as exc:
            contexts.append(exc.__context__)

    async def main() -> None:
        future = loop.create_future()
        task = loop.create_task(handling(future))
        await next_turns()
        await loop.create_task(fails())
        assert sys.exc_info() == (None, None, None)
        future.set_result(None)
        await task

    run(loop, main())
    assert contexts == [None]


def names_in(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_the_traceback_leads_through_all_tasks(loop: Loop) -> None:
    async def innermost() -> None:
        raise ValueError

    async def middle() -> None:
        await loop.create_task(innermost())

    async def outermost() -> None:
        await loop.create_task(middle())

    with pytest.raises(ValueError) as caught:
        run(loop, outermost())
    assert names_in(caught.value)[-3:] == ["outermost", "middle", "innermost"]


def test_the_traceback_does_not_grow(loop: Loop) -> None:
    async def main() -> list[int]:
        task = loop.create_task(raises(ValueError()))
        depths = []
        for _ in range(5):
            try:
                await task
            except ValueError as exc:
                depths.append(len(names_in(exc)))
        return depths

    assert run(loop, main()) == [2, 1, 1, 1, 1]


def test_never_retrieved(loop: Loop) -> None:
    reports = collect_reports(loop)
    task = loop.create_task(raises(ValueError("forgotten")))
    run_once(loop)
    assert task._log_traceback is True
    del task
    gc.collect()
    (report,) = reports
    assert report["message"] == "Task exception was never retrieved"
    assert str(report["exception"]) == "forgotten"
    assert isinstance(report["future"], asyncio.Task)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    task = loop.create_task(raises(error("out")))
    after = loop.create_task(other())
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert seen == []
    assert type(task.exception()) is error
    run(loop, after)
    assert seen == ["other"]
    assert asyncio.all_tasks(loop) == set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_run_after_a_wait(
    loop: Loop, error: type[BaseException]
) -> None:
    async def main(future: Any) -> None:
        await future
        raise error("out")

    future = loop.create_future()
    future.add_done_callback(lambda _: None)
    task = loop.create_task(main(future))
    told: list[object] = []
    task.add_done_callback(told.append)
    run_once(loop)
    future.set_result(None)
    with pytest.raises(error, match="out"):
        loop.run_forever()
    assert type(task.exception()) is error
    run_once(loop)
    assert told == [task]


def test_a_task_awaits_one_that_ended_the_run(loop: Loop) -> None:
    async def main(task: Task) -> str:
        try:
            await task
        except KeyboardInterrupt:
            return "caught"
        return "not reached"

    inner = loop.create_task(raises(KeyboardInterrupt()))
    outer = loop.create_task(main(inner))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert run(loop, outer) == "caught"


# --- stacks --------------------------------------------------------------------------


async def outer_frame(inner: Awaitable[Any]) -> None:
    await inner_frame(inner)


async def inner_frame(inner: Awaitable[Any]) -> None:
    await inner


def frames(task: Task, **kwargs: Any) -> list[str]:
    return [frame.f_code.co_name for frame in task.get_stack(**kwargs)]


def test_stack_of_a_suspended_task(loop: Loop) -> None:
    future = loop.create_future()
    task = loop.create_task(outer_frame(future))
    assert frames(task) == ["outer_frame"]
    run_once(loop)
    assert frames(task) == ["outer_frame"]  # the coroutine of the task alone
    printed = io.StringIO()
    task.print_stack(file=printed)
    assert printed.getvalue().startswith("Stack for <Task pending ")
    assert "await inner_frame(inner)" in printed.getvalue()
    future.set_result(None)
    run(loop, task)
    assert frames(task) == []
    printed = io.StringIO()
    task.print_stack(file=printed)
    assert printed.getvalue().startswith("No stack for <Task finished ")


def test_stack_of_a_failed_task(loop: Loop) -> None:
    task = loop.create_task(outer_frame(raises(ValueError("why"))))
    run_once(loop)
    assert frames(task) == ["outer_frame", "inner_frame", "raises"]
    assert frames(task, limit=1) == ["outer_frame"]
    printed = io.StringIO()
    task.print_stack(file=printed, limit=2)
    text = printed.getvalue()
    assert text.startswith("Traceback for <Task finished ")
    assert "outer_frame" in text
    assert text.endswith("ValueError: why\n")
    task.exception()


def test_print_stack_goes_to_stdout(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    task = loop.create_task(returns(None))
    task.print_stack()
    assert "Stack for <Task pending " in capsys.readouterr().out
    run(loop, task)


def test_stacks_take_keywords_only(loop: Loop) -> None:
    task: Any = loop.create_task(returns(None))
    for wrong in (
        lambda: task.get_stack(1),
        lambda: task.get_stack(file=1),
        lambda: task.print_stack(1),
        lambda: task.print_stack(limit=1, file=None, more=1),
    ):
        with pytest.raises(TypeError):
            wrong()
    run(loop, task)


# --- eager start ---------------------------------------------------------------------

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")


def start(coro: Any, **kwargs: Any) -> Task:
    """Start a task of the running loop's own class eagerly."""
    loop = asyncio.get_running_loop()
    cls = fastloop.Task if isinstance(loop, fastloop.Loop) else asyncio.Task
    return cls(coro, loop=loop, eager_start=True, **kwargs)


@eager
def test_eager_start_to_the_end(loop: Loop) -> None:
    async def main() -> None:
        task = start(returns("at once"), name="named")
        assert task.done()
        assert task.result() == "at once"
        assert task.get_name() == "named"
        # asyncio 3.12.1 crashes here
        if isinstance(loop, fastloop.Loop) or sys.version_info[:3] != (3, 12, 1):
            assert task.get_coro() is None
            assert task.get_stack() == []
            assert "named" in repr(task)
        assert task not in asyncio.all_tasks()
        assert await task == "at once"

    run(loop, main())


@eager
def test_eager_start_up_to_the_first_wait(loop: Loop) -> None:
    seen: list[str] = []
    future = loop.create_future()

    async def inner() -> str:
        seen.append("started")
        return await future

    async def main() -> None:
        task = start(inner())
        assert seen == ["started"]
        assert not task.done()
        assert task._fut_waiter is future
        assert task in asyncio.all_tasks()
        future.set_result("later")
        assert await task == "later"

    run(loop, main())


@eager
def test_eager_start_that_gives_way(loop: Loop) -> None:
    seen: list[str] = []

    async def inner() -> None:
        seen.append("started")
        await asyncio.sleep(0)
        seen.append("resumed")

    async def main() -> None:
        task = start(inner())
        loop.call_soon(seen.append, "callback")
        await task

    run(loop, main())
    assert seen == ["started", "resumed", "callback"]


@eager
def test_the_current_task_during_an_eager_start(loop: Loop) -> None:
    seen: list[Any] = []

    async def inner(depth: int) -> None:
        seen.append(asyncio.current_task())
        if depth:
            before = asyncio.current_task()
            start(inner(depth - 1))
            assert asyncio.current_task() is before
        assert asyncio.current_task() in asyncio.all_tasks()

    async def main() -> None:
        me = asyncio.current_task()
        task = start(inner(2))
        assert asyncio.current_task() is me
        assert seen[0] is task
        assert len({*seen, me}) == 4

    run(loop, main())


@eager
def test_eager_start_from_a_callback(loop: Loop) -> None:
    seen: list[object] = []

    async def inner() -> None:
        seen.append(asyncio.current_task())

    def callback() -> None:
        seen.append(start(inner()))
        seen.append(asyncio.current_task())

    loop.call_soon(callback)
    run_once(loop)
    assert seen[0] is seen[1]
    assert seen[2] is None


@eager
def test_eager_start_that_fails(loop: Loop) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        task = start(raises(ValueError("at once")))
        assert asyncio.current_task() is me
        with pytest.raises(ValueError, match="at once"):
            await task

    run(loop, main())


@eager
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_eager_start_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    caught: list[object] = []

    async def main() -> None:
        reports = collect_reports(loop)  # of a task that nobody has got
        me = asyncio.current_task()
        try:
            start(raises(error("out")))
        except error as exc:
            caught.append(str(exc))
        assert asyncio.current_task() is me
        gc.collect()
        assert len(reports) == 1

    run(loop, main())
    assert caught == ["out"]


@eager
def test_eager_start_that_is_cancelled(loop: Loop) -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel("self")
        await asyncio.sleep(100)

    async def main() -> None:
        for coro in (cancels_itself(), raises(asyncio.CancelledError("self"))):
            task = start(coro)
            with pytest.raises(asyncio.CancelledError, match="self"):
                await task
            assert task.cancelled()

    run(loop, main())


@eager
def test_eager_start_runs_in_a_context_of_its_own(loop: Loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")

    async def inner() -> str:
        value = var.get()
        var.set("inner")
        await asyncio.sleep(0)
        return f"{value}, {var.get()}"

    async def main() -> None:
        var.set("outer")
        task = start(inner())
        assert var.get() == "outer"
        assert await task == "outer, inner"
        given = contextvars.copy_context()
        await start(inner(), context=given)
        assert given[var] == "inner"

    run(loop, main())


@eager
def test_eager_start_without_a_running_loop(loop: Loop) -> None:
    seen: list[str] = []

    async def inner() -> None:
        seen.append("ran")

    task = task_class(loop)(inner(), loop=loop, eager_start=True)
    assert seen == []
    run(loop, task)
    assert seen == ["ran"]


@eager
def test_eager_task_factory(loop: Loop) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(returns(i)) for i in range(3)]
        assert all(task.done() for task in tasks)
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(returns("grouped"), name="named")
            assert grouped.done()
        assert grouped.get_name() == "named"
        return await asyncio.gather(*tasks, returns(3))

    assert run(loop, main()) == [0, 1, 2, 3]


@eager
def test_an_eager_factory_of_native_tasks(fast_loop: fastloop.Loop) -> None:
    factory = asyncio.create_eager_task_factory(fastloop.Task)
    fast_loop.set_task_factory(factory)

    async def main() -> Any:
        task = asyncio.create_task(returns(1))
        assert task.done()
        assert type(task) is fastloop.Task
        return await asyncio.gather(task, returns(2))

    assert run(fast_loop, main()) == [1, 2]


@eager
def test_eager_start_is_awaited_by_many(loop: Loop) -> None:
    async def main() -> list[Any]:
        async def inner() -> int:
            await asyncio.sleep(0)
            return 1

        task = start(inner())
        return await asyncio.gather(*(waits_for(task) for _ in range(5)))

    assert run(loop, main()) == [1] * 5


# --- tasks that are dropped ----------------------------------------------------------


def test_destroyed_while_pending(loop: Loop) -> None:
    reports = collect_reports(loop)
    task = loop.create_task(waits_for(loop.create_future()), name="lost")
    run_once(loop)
    text = repr(task)
    del task
    gc.collect()
    (report,) = reports
    assert report["message"] == "Task was destroyed but it is pending!"
    assert report.keys() == {"message", "task"}
    lost = report["task"]
    assert isinstance(lost, asyncio.Task)
    assert lost.get_name() == "lost"
    assert text.startswith("<Task pending name='lost' coro=<waits_for()")


def test_a_task_that_is_reported_as_lost_is_not_listed(
    fast_loop: fastloop.Loop,
) -> None:
    reports = collect_reports(fast_loop)
    fast_loop.create_task(waits_for(fast_loop.create_future()))
    run_once(fast_loop)
    gc.collect()
    assert len(reports) == 1
    assert asyncio.all_tasks(fast_loop) == set()


def test_destroyed_while_pending_in_debug_mode(loop: Loop) -> None:
    loop.set_debug(True)
    reports = collect_reports(loop)
    loop.create_task(waits_for(loop.create_future()))
    run_once(loop)
    gc.collect()
    (report,) = reports
    assert any("test_tasks.py" in f.filename for f in report["source_traceback"])


def test_destroyed_in_silence(loop: Loop) -> None:
    task: Task = loop.create_task(waits_for(loop.create_future()))
    run_once(loop)
    task._log_destroy_pending = False
    ref = weakref.ref(task)
    del task
    gc.collect()
    assert ref() is None


def test_a_lost_task_can_be_found_and_finished(loop: Loop) -> None:
    reports = collect_reports(loop)
    future = loop.create_future()
    task = loop.create_task(waits_for(future))
    run_once(loop)
    del task, future
    gc.collect()
    (report,) = reports
    lost: Task = report["task"]
    lost.cancel()
    run_turns(loop, 2)
    # its coroutine was closed by the garbage collector
    assert isinstance(lost.exception(), RuntimeError)


def test_a_task_with_nothing_but_the_loop_to_hold_it(loop: Loop) -> None:
    async def main() -> str:
        await asyncio.sleep(0.001)
        gc.collect()
        await asyncio.sleep(0.001)
        return "alive"

    ref = weakref.ref(loop.create_task(main()))
    run_once(loop)
    gc.collect()
    task = ref()
    assert task is not None
    assert run(loop, task) == "alive"


def test_a_done_task_dies_at_once(loop: Loop) -> None:
    task = loop.create_task(returns(1))
    run(loop, task)
    ref = weakref.ref(task)
    del task
    assert ref() is None


def test_a_done_task_lets_go_of_its_locals(loop: Loop) -> None:
    class Thing:
        pass

    async def main() -> Any:
        thing = Thing()
        ref = weakref.ref(thing)
        await asyncio.sleep(0)
        return ref

    task = loop.create_task(main())
    ref = run(loop, task)
    assert ref() is None
    assert task.done()


@pytest.mark.parametrize("wait", [True, False])
def test_cycles_are_collected(loop: Loop, wait: bool) -> None:
    async def main() -> None:
        task: Any = asyncio.current_task()
        task.cycle = [task]
        task.add_done_callback(task.cycle.append)
        if wait:
            await asyncio.sleep(0)

    task = loop.create_task(main())
    run(loop, task)
    ref = weakref.ref(task)
    del task
    gc.collect()
    assert ref() is None


def test_looking_at_all_tasks_while_one_dies() -> None:
    """The last reference goes, and a weak reference's callback looks for tasks."""
    program = """
        loop = new_event_loop()

        async def main():
            await asyncio.sleep(1)

        coro = main()
        task = loop.create_task(coro)
        task._log_destroy_pending = False
        found = []
        ref = weakref.ref(task, lambda _: found.append(asyncio.all_tasks(loop)))
        loop.close()
        del task
        print(found)
        coro.close()
        """
    assert check(run_python(program)) == "[set()]\n"


def test_looking_at_all_tasks_while_a_cycle_dies() -> None:
    program = """
        loop = new_event_loop()
        loop.set_exception_handler(lambda loop, context: look())

        def look(*_):
            found.append(list(map(repr, asyncio.all_tasks(loop))))

        async def main():
            await loop.create_future()

        found = []
        for silent in (True, False):
            task = loop.create_task(main())
            task._log_destroy_pending = not silent
            task.cycle = task
            ref = weakref.ref(task, look)
            loop.call_soon(loop.stop)
            loop.run_forever()
            del task
            gc.collect()
        loop.close()
        assert len(found) == 3
        """
    check(run_python(program))


def test_a_recycled_task_shows_nothing_of_its_former_life(loop: Loop) -> None:
    async def eventful() -> None:
        task: Any = asyncio.current_task()
        task.attribute = "old"
        weakref.finalize(task, lambda: None)
        task.add_done_callback(lambda _: None)
        await asyncio.sleep(0)
        task.cancel("old")
        task.cancel("older")

    for coro in (eventful(), returns([1]), raises(ValueError()), eventful()):
        task: Any = loop.create_task(coro, name="old")
        run_turns(loop, 4)
        assert task.done()
        task.cancelled() or task.exception()
        del task
    gc.collect()
    fresh: list[Any] = [loop.create_task(returns(i)) for i in range(20)]
    for task in fresh:
        assert not task.done()
        assert task.get_name().startswith("Task-")
        assert task.cancelling() == 0
        assert task._must_cancel is False
        assert task._fut_waiter is None
        assert task._callbacks is None
        assert task._cancel_message is None
        assert task._log_destroy_pending is True
        assert task._asyncio_future_blocking is False
        assert task._exception is None
        assert task._result is None
        assert not hasattr(task, "attribute")
        assert weakref.getweakrefcount(task) <= 1  # the registry's
    run_turns(loop, 2)
    assert [task.result() for task in fresh] == list(range(20))


# --- what kinds of coroutine ---------------------------------------------------------


class CustomCoroutine(collections.abc.Coroutine):
    """A coroutine of a class of its own, as Cython and others have them."""

    def __init__(self, *yields: Any) -> None:
        self.yields = list(yields)
        self.got: list[object] = []

    def send(self, value: object) -> Any:
        self.got.append(value)
        if not self.yields:
            raise StopIteration("result")
        return self.yields.pop(0)

    def throw(self, *args: Any) -> Any:  # type: ignore[override]
        self.got.append(args)
        return self.send(None)

    def close(self) -> None:
        pass

    def __await__(self) -> Any:
        return self


def test_a_custom_coroutine(loop: Loop) -> None:
    coro = CustomCoroutine(None, None)
    assert run(loop, loop.create_task(coro)) == "result"
    assert coro.got == [None, None, None]


def test_a_custom_coroutine_that_waits(loop: Loop) -> None:
    future: Any = loop.create_future()
    future._asyncio_future_blocking = True
    coro = CustomCoroutine(future)
    task = loop.create_task(coro)
    run_once(loop)
    future.set_result("not sent")
    assert run(loop, task) == "result"
    assert coro.got == [None, None]


def test_a_custom_coroutine_takes_exceptions(loop: Loop) -> None:
    coro = CustomCoroutine("bad yield", None)
    assert run(loop, loop.create_task(coro)) == "result"
    thrown = coro.got[1]
    assert isinstance(thrown, tuple)
    assert isinstance(thrown[0], RuntimeError)


def test_a_custom_coroutine_is_cancelled(loop: Loop) -> None:
    coro = CustomCoroutine(None, None)
    task = loop.create_task(coro)
    run_once(loop)
    task.cancel("why")
    assert run(loop, task) == "result"
    thrown = coro.got[1]
    assert isinstance(thrown, tuple)
    assert isinstance(thrown[0], asyncio.CancelledError)
    assert thrown[0].args == ("why",)


@pytest.mark.parametrize("value", [None, 1, (), (1, 2), ValueError("v")])
def test_what_a_custom_coroutine_returns(loop: Loop, value: object) -> None:
    class Returns(CustomCoroutine):
        def send(self, _: object) -> Any:
            raise StopIteration(value)

    class ReturnsWhenThrownAt(CustomCoroutine):
        def throw(self, *args: Any) -> Any:  # type: ignore[override]
            raise StopIteration(value)

    assert run(loop, loop.create_task(Returns())) is value
    task = loop.create_task(ReturnsWhenThrownAt(None))
    task.cancel()
    assert run(loop, task) is value


def test_many_types_of_coroutines(loop: Loop) -> None:
    for i in range(150):
        kind = type(f"Coroutine{i}", (CustomCoroutine,), {})
        assert run(loop, loop.create_task(kind(None))) == "result"


def test_a_coroutine_by_its_methods_alone(loop: Loop) -> None:
    class Duck:
        send = CustomCoroutine.send
        throw = CustomCoroutine.throw
        close = CustomCoroutine.close
        __await__ = CustomCoroutine.__await__

        def __init__(self) -> None:
            self.yields: list[Any] = [None]
            self.got: list[object] = []

    assert asyncio.iscoroutine(Duck())
    assert run(loop, loop.create_task(Duck())) == "result"  # type: ignore[arg-type]


def test_a_coroutine_without_throw(loop: Loop) -> None:
    class Throwless(CustomCoroutine):
        @property
        def throw(self) -> Any:  # type: ignore[override]
            raise AttributeError("no throw")

    task = loop.create_task(Throwless("bad yield"))
    with pytest.raises(AttributeError, match="no throw"):
        run(loop, task)


def test_generator_based_coroutines() -> None:
    program = """
        import types

        @types.coroutine
        def old_style():
            yield
            return "result"

        loop = new_event_loop()
        try:
            print(loop.run_until_complete(loop.create_task(old_style())))
        except TypeError as exc:
            print(str(exc).partition(", got")[0])
        loop.close()
        """
    stock, ours = outcomes(program)
    assert ours == stock


def test_an_asynchronous_generator_is_no_coroutine(loop: Loop) -> None:
    async def generate() -> Any:
        yield 1

    with pytest.raises(TypeError, match="a coroutine was expected"):
        loop.create_task(generate())


def test_a_coroutine_that_is_run_twice(loop: Loop) -> None:
    coro = returns(1)
    first = loop.create_task(coro)
    second = loop.create_task(coro)
    assert run(loop, first) == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        run(loop, second)


def test_a_coroutine_that_is_closed(loop: Loop) -> None:
    coro = waits_for(loop.create_future())
    task = loop.create_task(coro)
    run_once(loop)
    coro.close()
    task.cancel()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        run(loop, task)


# --- wakeups by hand -----------------------------------------------------------------


def test_waking_a_task_twice() -> None:
    """Once by hand, so that it awaits something else when the loop wakes it."""
    program = """
        class Other:
            '''A future whose memory is full of non-zero words.'''

            __slots__ = tuple(f"slot{i}" for i in range(40))
            _asyncio_future_blocking = False

            def __init__(self):
                for slot in self.__slots__:
                    setattr(self, slot, "x" * 100)

            def get_loop(self):
                return loop

            def add_done_callback(self, callback, *, context):
                self.slot0 = callback

            def __await__(self):
                type(self)._asyncio_future_blocking = True
                yield self
                return "result"

            def __setattr__(self, name, value):
                if name in self.__slots__:
                    super().__setattr__(name, value)

            def result(self):
                return None

        async def main():
            await future
            return await other

        loop = new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        future = loop.create_future()
        other = Other()
        task = loop.create_task(main())
        loop.call_soon(loop.stop)
        loop.run_forever()
        wakeup = future._callbacks[0][0]
        loop.call_soon(wakeup, future)
        future.set_result(None)
        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        if not task.done():
            loop.call_soon(other.slot0, other)
            loop.call_soon(loop.stop)
            loop.run_forever()
        print(task.result())
        loop.close()
        """
    assert check(run_python(program)) == "result\n"


def test_waking_a_task_that_is_done(loop: Loop) -> None:
    reports = collect_reports(loop)
    future: Any = loop.create_future()
    task = loop.create_task(waits_for(future))
    run_once(loop)
    wakeup = future._callbacks[0][0]
    future.set_result(1)
    assert run(loop, task) == 1
    loop.call_soon(wakeup, future)
    run_once(loop)
    (report,) = reports
    assert isinstance(report["exception"], asyncio.InvalidStateError)


def test_waking_the_task_that_runs(loop: Loop) -> None:
    async def main() -> None:
        future: Any = loop.create_future()
        loop.call_soon(lambda: wakeups.append(future._callbacks[0][0]))
        loop.call_soon(future.set_result, None)
        wakeups: list[Any] = []
        await future
        with pytest.raises(RuntimeError, match="Cannot enter into task"):
            wakeups[0](future)

    run(loop, main())


# --- subclasses ----------------------------------------------------------------------


def test_a_subclass(loop: Loop) -> None:
    class MyTask(task_class(loop)):  # type: ignore[misc]
        def __init__(self, coro: Any, extra: int, **kwargs: Any) -> None:
            self.extra = extra
            super().__init__(coro, **kwargs)

        def cancel(self, msg: object = None) -> bool:
            self.extra += 1
            return super().cancel(msg)

    async def main() -> Any:
        me: Any = asyncio.current_task()
        assert type(me) is MyTask
        assert me in asyncio.all_tasks()
        await asyncio.sleep(0)
        return me.extra

    task = MyTask(main(), 5, loop=loop, name="mine")
    assert isinstance(task, MyTask)
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert not isinstance(task, asyncio.Handle)
    assert task.__class__ == MyTask
    assert repr(task).startswith("<MyTask pending name='mine' ")
    assert run(loop, task) == 5
    sleeping = MyTask(asyncio.sleep(100), 0, loop=loop)
    outer = loop.create_task(waits_for(sleeping))
    run_turns(loop, 2)
    outer.cancel()
    run_turns(loop, 4)
    assert outer.cancelled()
    assert sleeping.cancelled()
    assert sleeping.extra == 1


def test_an_instance_check_with_both_classes(loop: Loop) -> None:
    class MyTask(task_class(loop)):  # type: ignore[misc]
        pass

    class OtherTask(task_class(loop)):  # type: ignore[misc]
        pass

    task = MyTask(returns(None), loop=loop)
    assert isinstance(task, (int, MyTask))
    assert not isinstance(task, OtherTask)
    run(loop, task)


def test_a_subclass_with_a_destructor(loop: Loop) -> None:
    reports = collect_reports(loop)
    died: list[str] = []

    class Mortal(task_class(loop)):  # type: ignore[misc]
        def __del__(self) -> None:
            died.append(self.get_name())
            super().__del__()

    Mortal(waits_for(loop.create_future()), loop=loop, name="one")
    run_once(loop)
    gc.collect()
    assert died == ["one"]
    (report,) = reports
    assert report["message"] == "Task was destroyed but it is pending!"


def test_class(loop: Loop) -> None:
    task = loop.create_task(returns(None))
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert task.__class__ is asyncio.Task
    assert asyncio.isfuture(task)
    assert task_class(loop)[int].__args__ == (int,)
    run(loop, task)


def test_class_of_fastloop(fast_loop: fastloop.Loop) -> None:
    async def main() -> None:
        assert type(asyncio.current_task()) is fastloop.Task
        assert type(asyncio.create_task(returns(1))) is fastloop.Task
        assert type(asyncio.ensure_future(returns(1))) is fastloop.Task
        await next_turns()

    run(fast_loop, main())
    assert issubclass(fastloop.Task, fastloop.Future)


def test_init_again(loop: Loop) -> None:
    if sys.version_info < (3, 15):
        only_fastloop(loop, "asyncio starts anew, and loses what it had")
    task: Any = loop.create_task(returns(1))
    coro = returns(2)
    with pytest.raises(RuntimeError, match="already initialized"):
        task.__init__(coro, loop=loop)
    coro.close()
    assert run(loop, task) == 1


def test_repr(loop: Loop) -> None:
    here = r"/test_tasks\.py:\d+"
    defined = rf"<waits_for\(\) done, defined at .*{here}>"
    future = loop.create_future()
    task = loop.create_task(waits_for(future), name="named")
    assert re.fullmatch(
        rf"<Task pending name='named' coro=<waits_for\(\) running at .*{here}>>",
        repr(task),
    )
    run_once(loop)
    assert re.fullmatch(
        rf"<Task pending name='named' coro=<waits_for\(\) running at .*{here}> "
        r"wait_for=<Future pending cb=\[Task\.task_wakeup\(\)\]>>",
        repr(task),
    )
    task.cancel()
    run_once(loop)
    assert re.fullmatch(rf"<Task cancelled name='named' coro={defined}>", repr(task))
    done = loop.create_task(returns("r"), name="done")
    run(loop, done)
    assert repr(done).endswith(" result='r'>")


def test_repr_of_a_task_that_will_be_cancelled(loop: Loop) -> None:
    task = loop.create_task(returns(None))
    task.cancel()
    assert repr(task).startswith("<Task cancelling name=")
    run_once(loop)
    assert repr(task).startswith("<Task cancelled name=")


# --- not initialised -----------------------------------------------------------------


def test_an_uninitialised_task_behaves_as_asyncios() -> None:
    program = """
        task_class = type(new_event_loop().create_future())
        task_class = asyncio.Task if task_class is asyncio.Future else fastloop.Task

        for use in (
            "task.result()",
            "task.exception()",
            "task.set_result(1)",
            "task.set_exception(ValueError())",
            "task.add_done_callback(print)",
            "task.remove_done_callback(print)",
            "task.cancelled()",
            "task.cancelling()",
            "task.uncancel()",
            "task.done()",
            "task.get_loop()",
            "task.set_name('name')",
            "iter(task)",
            "repr(task)",
            "task._state",
            "task._loop",
            "task._coro",
            "task._fut_waiter",
            "task._must_cancel",
            "task._log_destroy_pending",
            "setattr(task, '_log_destroy_pending', False)",
            "task in asyncio.all_tasks(new_event_loop())",
            "isinstance(task, asyncio.Task)",
            "asyncio.ensure_future(task) is task",
            "weakref.ref(task)() is task",
        ):
            task = task_class.__new__(task_class)
            try:
                result = repr(eval(use))
            except BaseException as exc:
                result = type(exc).__name__
            print(use, "->", result.partition(" object at ")[0])
            del task
        """
    stock, ours = outcomes(program, options=("-W", "ignore"))
    assert ours.splitlines() == stock.splitlines()


def test_a_task_whose_init_failed(loop: Loop) -> None:
    cls = task_class(loop)
    task = cls.__new__(cls)
    with pytest.raises(TypeError):
        task.__init__(1, loop=loop)
    with pytest.raises(TypeError):
        task.__init__()
    gc.collect()
    assert task not in asyncio.all_tasks(loop)
    task._log_destroy_pending = False


ACTIONS: dict[str, Callable[[Task], object]] = {
    "iter": lambda task: next(iter(task)),
    "callback": lambda task: task.add_done_callback(print),
    "cancel": lambda task: task.cancel(),
    "attribute": lambda task: setattr(task, "me", task),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_task_that_is_touched_and_dropped(loop: Loop, action: str) -> None:
    task: Task = loop.create_task(returns(1))
    ACTIONS[action](task)
    task.remove_done_callback(print)
    ref = weakref.ref(task)
    run_once(loop)
    assert task.done()
    del task
    gc.collect()
    assert ref() is None
