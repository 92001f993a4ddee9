"""asyncio.current_task() and asyncio.all_tasks(), and who awaits whom."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
from typing import Any

import pytest

import fastloop

from .support import (
    DEADLINE,
    Loop,
    LoopFactory,
    check,
    collect_reports,
    next_turns,
    outcomes,
    run_command,
    run_once,
    run_turns,
    until,
)


async def waits_for(awaitable: Any) -> Any:
    return await awaitable


# --- the current task ----------------------------------------------------------------


def test_current_task(loop: Loop) -> None:
    async def main() -> Any:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        assert asyncio.current_task() is before
        assert asyncio.current_task(loop) is before
        await asyncio.sleep(0.001)
        assert asyncio.current_task() is before
        return before

    task = loop.create_task(main())
    assert loop.run_until_complete(task) is task


def test_each_task_sees_itself(loop: Loop) -> None:
    async def look() -> None:
        me = asyncio.current_task()
        for _ in range(3):
            await asyncio.sleep(0)
            assert asyncio.current_task() is me

    async def main() -> None:
        await asyncio.gather(*(look() for _ in range(10)))

    loop.run_until_complete(main())


def test_there_is_none_in_callbacks(loop: Loop) -> None:
    seen: list[Any] = []

    def look(*_: object) -> None:
        seen.append(asyncio.current_task())

    async def main() -> None:
        loop.call_soon(look)
        loop.call_later(0, look)
        loop.call_soon_threadsafe(look)
        future = loop.create_future()
        future.add_done_callback(look)
        future.add_done_callback(look)
        future.set_result(None)
        future.add_done_callback(look)
        done = loop.create_task(asyncio.sleep(0))
        done.add_done_callback(look)
        await next_turns(4)

    loop.run_until_complete(main())
    assert seen == [None] * 7


def test_there_is_none_between_a_task_and_a_callback(loop: Loop) -> None:
    seen: list[Any] = []

    def look(*_: object) -> None:
        seen.append(asyncio.current_task())

    async def wait(future: Any) -> None:
        await future
        seen.append(asyncio.current_task())

    async def main() -> None:
        future = loop.create_future()
        tasks = []
        for _ in range(2):
            future.add_done_callback(look)
            tasks.append(loop.create_task(wait(future)))
            await next_turns()
        future.add_done_callback(look)
        future.set_result(None)
        await asyncio.wait(tasks)
        assert seen == [None, tasks[0], None, tasks[1], None]

    loop.run_until_complete(main())


def test_there_is_none_in_an_exception_handler_of_a_callback(loop: Loop) -> None:
    seen: list[Any] = []
    loop.set_exception_handler(lambda *_: seen.append(asyncio.current_task()))
    loop.call_soon(lambda: 1 / 0)
    run_once(loop)
    assert seen == [None]


def test_there_is_none_without_a_running_loop(loop: Loop) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.current_task()
    assert asyncio.current_task(loop) is None
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.current_task(loop) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_there_is_none_after_a_task_ended_the_run(
    loop: Loop, error: type[BaseException]
) -> None:
    async def main() -> None:
        raise error

    with pytest.raises(error):
        loop.run_until_complete(main())
    assert asyncio.current_task(loop) is None

    async def look() -> Any:
        return asyncio.current_task()

    task = loop.create_task(look())
    assert loop.run_until_complete(task) is task


def test_two_loops_one_after_the_other(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()

    async def look() -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    for turn in (loop, other, loop, other):
        task = turn.create_task(look())
        assert turn.run_until_complete(task) is task
    other.close()


def test_loops_in_threads(loop_factory: LoopFactory) -> None:
    """Each thread sees its own; of another loop one can ask, too."""
    inside = threading.Event()
    leave = threading.Event()
    seen: dict[str, Any] = {}

    async def in_thread() -> None:
        seen["task"] = asyncio.current_task()
        seen["loop"] = asyncio.get_running_loop()
        inside.set()
        assert leave.wait(DEADLINE)
        assert asyncio.current_task() is seen["task"]

    def run() -> None:
        theirs = loop_factory()
        try:
            theirs.run_until_complete(in_thread())
        finally:
            theirs.close()

    async def main() -> None:
        me = asyncio.current_task()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert inside.wait(DEADLINE)
            assert asyncio.current_task() is me
            assert asyncio.current_task(seen["loop"]) is seen["task"]
            assert asyncio.all_tasks() == {me}
            assert asyncio.all_tasks(seen["loop"]) == {seen["task"]}
        finally:
            leave.set()
            thread.join()

    ours = loop_factory()
    ours.run_until_complete(main())
    ours.close()


def test_a_task_of_ones_own_making(loop: Loop) -> None:
    """Third parties enter and leave tasks by asyncio's private functions."""

    class OtherTask:
        def done(self) -> bool:
            return False

        def get_loop(self) -> Loop:
            return loop

    other: Any = OtherTask()
    seen: list[Any] = []

    def callback() -> None:
        asyncio.tasks._enter_task(loop, other)  # type: ignore[attr-defined]
        seen.append(asyncio.current_task())
        asyncio.tasks._leave_task(loop, other)  # type: ignore[attr-defined]
        seen.append(asyncio.current_task())

    async def main() -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    task = loop.create_task(main())
    loop.call_soon(callback)
    asyncio.tasks._register_task(other)  # type: ignore[attr-defined]
    assert asyncio.all_tasks(loop) == {task, other}
    assert loop.run_until_complete(task) is task
    assert seen == [other, None]
    asyncio.tasks._unregister_task(other)  # type: ignore[attr-defined]
    assert asyncio.all_tasks(loop) == set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_swapping_the_current_task(loop: Loop) -> None:
    swap: Any = asyncio.tasks._swap_current_task  # type: ignore[attr-defined]

    async def main() -> None:
        me = asyncio.current_task()
        other = loop.create_task(asyncio.sleep(0))
        assert swap(loop, other) is me
        assert asyncio.current_task() is other
        assert swap(loop, None) is other
        assert asyncio.current_task() is None
        assert swap(loop, me) is None
        await other
        assert asyncio.current_task() is me

    loop.run_until_complete(main())


# --- all tasks -----------------------------------------------------------------------


def test_all_tasks(loop: Loop) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        assert asyncio.all_tasks() == {me}
        tasks = {loop.create_task(asyncio.sleep(0)) for _ in range(100)}
        assert asyncio.all_tasks() == tasks | {me}
        await asyncio.wait(tasks)
        assert asyncio.all_tasks() == {me}

    loop.run_until_complete(main())
    assert asyncio.all_tasks(loop) == set()


def test_all_tasks_without_a_running_loop(loop: Loop) -> None:
    with pytest.raises(RuntimeError):
        asyncio.all_tasks()
    task = loop.create_task(asyncio.sleep(0))
    assert asyncio.all_tasks(loop) == {task}
    loop.run_until_complete(task)


def test_all_tasks_of_each_loop(loop: Loop) -> None:
    others = [asyncio.new_event_loop(), fastloop.new_event_loop()]
    mine = loop.create_task(asyncio.sleep(0))
    theirs = [other.create_task(asyncio.sleep(0)) for other in others]
    assert asyncio.all_tasks(loop) == {mine}
    for other, task in zip(others, theirs, strict=True):
        assert asyncio.all_tasks(other) == {task}
        other.run_until_complete(task)
        other.close()
    loop.run_until_complete(mine)


def test_native_tasks_on_asyncios_loop_and_the_other_way_round(loop: Loop) -> None:
    async def main() -> None:
        me = asyncio.current_task()
        tasks: set[Any] = {
            fastloop.Task(asyncio.sleep(0), loop=loop),
            asyncio.Task(asyncio.sleep(0), loop=loop),
        }
        assert asyncio.all_tasks() == tasks | {me}
        await asyncio.wait(tasks)

    loop.run_until_complete(main())


def test_cancelled_and_failed_tasks_are_not_listed(loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError

    tasks = [loop.create_task(asyncio.sleep(100)), loop.create_task(fail())]
    tasks[0].cancel()
    run_turns(loop, 2)
    assert asyncio.all_tasks(loop) == set()
    tasks[1].exception()


def test_tasks_of_a_closed_loop(loop: Loop) -> None:
    collect_reports(loop)
    task = loop.create_task(waits_for(loop.create_future()))
    run_once(loop)
    loop.close()
    assert asyncio.all_tasks(loop) == {task}


def test_the_registry_keeps_no_task_alive(loop: Loop) -> None:
    collect_reports(loop)
    for _ in range(100):
        loop.create_task(waits_for(loop.create_future()))
    run_once(loop)
    loop.set_exception_handler(lambda *_: None)
    gc.collect()
    assert asyncio.all_tasks(loop) == set()


def test_tasks_made_while_all_are_listed(loop: Loop) -> None:
    """Comparing tasks may run any code, as with a subclass that hashes oddly."""

    class Odd(type(loop.create_task(asyncio.sleep(0)))):  # type: ignore[misc]
        def __hash__(self) -> int:
            extra.append(loop.create_task(asyncio.sleep(0)))
            return 1

        def get_loop(self) -> Loop:
            gc.collect()
            return super().get_loop()

    extra: list[Any] = []
    for _ in range(3):
        extra.append(Odd(asyncio.sleep(0), loop=loop))
    tasks = asyncio.all_tasks(loop)
    assert len(tasks) >= 3
    run_turns(loop, 3)


def test_listing_tasks_while_another_thread_makes_them(
    loop_factory: LoopFactory,
) -> None:
    theirs = loop_factory()
    stop = threading.Event()
    listed = 0

    async def churn() -> None:
        while not stop.is_set():
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(20)))

    def run() -> None:
        theirs.run_until_complete(churn())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(theirs.is_running)
        for _ in range(300):
            listed += len(asyncio.all_tasks(theirs))
    finally:
        stop.set()
        thread.join()
        theirs.close()
    assert listed


# --- names imported before fastloop --------------------------------------------------


def test_names_imported_before_fastloop() -> None:
    program = """if True:
        import asyncio
        from asyncio import all_tasks, current_task, gather
        from asyncio.tasks import all_tasks as all_tasks_2, current_task as current_2

        stock = asyncio.new_event_loop()
        early = stock.create_task(asyncio.sleep(0))

        import fastloop

        async def inner():
            assert current_task() is current_2()
            return current_task()

        async def main():
            me = current_task()
            assert me is current_2()
            task = asyncio.create_task(inner())
            assert all_tasks() == all_tasks_2() == {me, task}
            assert await task is task
            assert all_tasks(stock) == {early}

        fastloop.run(main())
        stock.run_until_complete(early)
        stock.close()
        """
    check(run_command("-W", "error", "-c", program))


def test_the_sets_that_others_hold() -> None:
    """Debuggers hold asyncio's own set of tasks since long before."""
    program = """if True:
        import asyncio, sys
        name = "_all_tasks" if sys.version_info < (3, 12) else "_scheduled_tasks"
        tasks = getattr(asyncio.tasks, name)
        import fastloop

        async def main():
            assert asyncio.current_task() in list(tasks)

        fastloop.run(main())
        """
    check(run_command("-W", "error", "-c", program))


# --- who awaits whom -----------------------------------------------------------------

call_graph = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in 3.14")


@call_graph
def test_awaited_by(loop: Loop) -> None:
    future: Any = loop.create_future()
    assert future._asyncio_awaited_by is None
    inner: Any = loop.create_task(waits_for(future))
    outer = loop.create_task(waits_for(inner))
    run_turns(loop, 2)
    assert set(future._asyncio_awaited_by) == {inner}
    assert set(inner._asyncio_awaited_by) == {outer}
    future.set_result(None)
    loop.run_until_complete(outer)
    assert not future._asyncio_awaited_by
    assert not inner._asyncio_awaited_by


@call_graph
def test_awaited_by_tasks_of_both_kinds(loop: Loop) -> None:
    future: Any = fastloop.Future(loop=loop)
    tasks = {
        asyncio.Task(waits_for(future), loop=loop),
        fastloop.Task(waits_for(future), loop=loop),
    }
    run_once(loop)
    assert set(future._asyncio_awaited_by) == tasks
    future.cancel()
    run_turns(loop, 2)
    assert not future._asyncio_awaited_by


@call_graph
@pytest.mark.parametrize("kind", [asyncio.Future, fastloop.Future])
def test_recording_who_awaits(loop: Loop, kind: Any) -> None:
    future, waiter = kind(loop=loop), kind(loop=loop)
    asyncio.future_add_to_awaited_by(future, waiter)
    assert set(future._asyncio_awaited_by) == {waiter}
    asyncio.future_discard_from_awaited_by(future, waiter)
    assert not future._asyncio_awaited_by
    asyncio.future_discard_from_awaited_by(future, waiter)
    for wrong in ((1, waiter), (future, 1), (None, None)):
        asyncio.future_add_to_awaited_by(*wrong)
        asyncio.future_discard_from_awaited_by(*wrong)
    assert not future._asyncio_awaited_by


@call_graph
@pytest.mark.parametrize("kind", [asyncio.Future, fastloop.Future])
def test_recording_that_several_await(loop: Loop, kind: Any) -> None:
    future = kind(loop=loop)
    waiters = [kind(loop=loop) for _ in range(3)]
    for waiter in (*waiters, waiters[0]):
        asyncio.future_add_to_awaited_by(future, waiter)
    assert set(future._asyncio_awaited_by) == set(waiters)
    for waiter in (waiters[1], waiters[0], waiters[1]):
        asyncio.future_discard_from_awaited_by(future, waiter)
    assert set(future._asyncio_awaited_by) == {waiters[2]}
    asyncio.future_add_to_awaited_by(future, waiters[0])
    assert set(future._asyncio_awaited_by) == {waiters[0], waiters[2]}
    for function in (
        asyncio.future_add_to_awaited_by,
        asyncio.future_discard_from_awaited_by,
    ):
        with pytest.raises(TypeError):
            function(future)  # type: ignore[call-arg]


_GRAPHS = """
    async def leaf():
        await asyncio.sleep(100)

    async def by_await(task):
        await task

    async def by_gather(task):
        await asyncio.gather(task)

    async def by_group(task):
        async with asyncio.TaskGroup() as group:
            group.create_task(by_await(task), name="grouped")

    async def by_shield(task):
        await asyncio.shield(task)

    async def by_wait(task):
        await asyncio.wait([task])

    async def by_wait_for(task):
        await asyncio.wait_for(task, 100)

    async def by_timeout(task):
        async with asyncio.timeout(100):
            await task

    async def main():
        for by in (by_await, by_gather, by_group, by_shield, by_wait, by_wait_for,
                   by_timeout):
            task = asyncio.create_task(leaf(), name="leaf")
            outer = asyncio.create_task(by(task), name="outer")
            for _ in range(4):
                await asyncio.sleep(0)
            for each in (task, outer):
                print(asyncio.format_call_graph(each))
            graph = asyncio.capture_call_graph(task)
            print([awaiter.future.get_name() for awaiter in graph.awaited_by
                   if isinstance(awaiter.future, asyncio.Task)])
            outer.cancel()
            task.cancel()
            await asyncio.wait([outer, task])
        asyncio.print_call_graph(depth=1, file=sys.stdout)

    loop = new_event_loop()
    loop.run_until_complete(loop.create_task(main(), name="main"))
    loop.close()
    """


@call_graph
def test_call_graphs_look_like_asyncios() -> None:
    def shape(text: str) -> list[str]:
        """Without addresses, and the frames below main, which are the loop's own."""
        lines = re.sub("0x[0-9a-f]+", "0x", text).splitlines()
        own = ("/base_events.py", "/events.py", "/fastloop/", "/runners.py")
        return [line for line in lines if not any(path in line for path in own)]

    stock, ours = outcomes(_GRAPHS)
    assert shape(ours) == shape(stock)


@call_graph
def test_the_call_graph_of_the_current_task(loop: Loop) -> None:
    async def main() -> None:
        graph = asyncio.capture_call_graph()
        assert graph is not None
        assert graph.future is asyncio.current_task()
        assert graph.call_stack[0].frame.f_code.co_name == "main"
        assert "main" in (asyncio.format_call_graph() or "")

    loop.run_until_complete(main())


@pytest.mark.parametrize("module", [asyncio, fastloop])
def test_iscoroutine(loop: Loop, module: Any) -> None:
    """Also of futures that are coroutines by their methods, and of other things."""

    class Both(asyncio.Future):  # type: ignore[type-arg]
        def send(self, value: object) -> None: ...
        def throw(self, *args: Any) -> None: ...
        def close(self) -> None: ...

    class Rude:
        @property
        def __class__(self) -> Any:
            raise ZeroDivisionError

    async def coroutine() -> None: ...

    coro = coroutine()
    assert asyncio.iscoroutine(coro)
    assert asyncio.iscoroutine(Both(loop=loop))
    task = module.Task(coro, loop=loop)
    for other in (task, module.Future(loop=loop), [], coroutine, loop, int):
        assert not asyncio.iscoroutine(other)
    loop.run_until_complete(task)
    with pytest.raises(ZeroDivisionError):
        asyncio.iscoroutine(Rude())
