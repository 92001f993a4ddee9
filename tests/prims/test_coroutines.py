"""What stands in for asyncio's coroutines is taken for one everywhere."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import sys
import warnings
import weakref
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import forever, outcome, turns


def test_passes_for_a_coroutine(lib: ModuleType) -> None:
    coro = lib.sleep(0)
    assert asyncio.iscoroutine(coro)
    assert inspect.isawaitable(coro)
    assert isinstance(coro, collections.abc.Coroutine)
    assert coro.__name__ == coro.__qualname__ == "sleep"
    assert repr(coro).startswith("<coroutine object sleep at 0x")
    coro.close()


def test_never_awaited(lib: ModuleType) -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'sleep' was never awaited"):
        lib.sleep(0)
        gc.collect()


def test_closed_is_not_warned_of(lib: ModuleType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lib.sleep(0).close()
        coro = lib.wait_for(None, 1)
        with pytest.raises(ZeroDivisionError):
            coro.throw(ZeroDivisionError())
        del coro
        gc.collect()


@pytest.mark.parametrize("result", [None, 1])
def test_driven_by_hand(lib: ModuleType, result: Any) -> None:
    def begun() -> Any:
        coro = lib.sleep(0) if result is None else lib.sleep(0, result)
        assert coro.send(None) is None
        return coro

    coro = begun()
    with pytest.raises(StopIteration) as ended:
        coro.send(None)
    assert ended.value.value == result
    for again in (lambda: coro.send(None), lambda: coro.throw(KeyError())):
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            again()
    with pytest.raises(KeyError):
        begun().throw(KeyError())
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        begun().throw(StopIteration(5))
    coro = begun()
    coro.close()
    coro.close()
    unstarted = lib.sleep(0)
    with pytest.raises(TypeError, match="can't send non-None value"):
        unstarted.send(1)
    unstarted.close()


def test_forgotten_in_a_cycle(lib: ModuleType) -> None:
    """The garbage collector finds it, started or not, when another has been made."""

    class Node:
        coro: Any = None

    async def main() -> None:
        lock = lib.Lock()
        await lock.acquire()
        for started in (False, True):
            node = Node()
            node.coro = lib.wait_for(node, 1) if not started else lock.acquire()
            if started:
                lock.owner = node
                node.coro.send(None)
            gone = weakref.ref(node)
            lib.sleep(0).close()
            del node
            if started:
                del lock
            gc.collect()
            assert gone() is None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(main())


def test_result_of_one_in_a_cycle(lib: ModuleType) -> None:
    class Node:
        caught: Any = None

    node = Node()
    gone = weakref.ref(node)
    for value in (node, 1):
        coro = lib.sleep(0, value)
        coro.send(None)
        try:
            coro.send(None)
        except StopIteration as stop:
            assert stop.value is value
            assert stop.args == (value,)
            if value is node:
                node.caught = stop
    del node, value, coro
    gc.collect()
    assert gone() is None


def test_awaited_once(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = lib.sleep(0, 1)
        assert await coro == 1
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await coro
        coro.close()

    run(main())


def test_awaited_by_two(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = lib.sleep(0.001)
        task = asyncio.create_task(coro)
        await turns(1)
        with pytest.raises(RuntimeError, match="awaited already"):
            await coro
        await task

    run(main())


def test_send_throw_close(lib: ModuleType) -> None:
    coro = lib.sleep(0, "result")
    with pytest.raises(TypeError, match="can't send non-None value"):
        coro.send(1)
    assert coro.send(None) is None
    with pytest.raises(StopIteration) as stop:
        coro.send(None)
    assert stop.value.value == "result"
    with pytest.raises(RuntimeError):
        coro.send(None)

    coro = lib.sleep(0)
    coro.send(None)
    with pytest.raises(KeyError):
        coro.throw(KeyError(1))
    coro = lib.sleep(0)
    coro.send(None)
    coro.close()
    coro.close()
    with pytest.raises(RuntimeError):
        coro.send(None)


def test_await_method(lib: ModuleType) -> None:
    assert list(lib.sleep(0).__await__()) == [None]


def test_result_of_any_type(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for value in (None, 1, (1, 2), ValueError("no"), StopIteration(3), [1]):
            assert await lib.sleep(0, value) is value
            assert await lib.sleep(0.00001, value) is value
            assert await asyncio.create_task(lib.sleep(0, value)) is value

    run(main())


def test_in_tasks(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(lib.sleep(1000), name="sleeper")
        assert "coro=<sleep()" in repr(task)
        await turns(1)
        assert task._fut_waiter is not None  # type: ignore[attr-defined]
        assert isinstance(task.get_stack(), list)
        task.print_stack()
        task.cancel("enough")
        assert await outcome(task) == ("CancelledError", ("enough",))

    run(main())


def test_run_until_complete(lib: ModuleType, loop_factory: Any) -> None:
    loop = loop_factory()
    try:
        assert loop.run_until_complete(lib.sleep(0, 5)) == 5
        assert loop.run_until_complete(lib.sleep(0.001, 6)) == 6
    finally:
        loop.close()


def test_weakly_referenced_and_collected(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        class Thing:
            pass

        thing: Any = Thing()
        thing.coro = lib.sleep(0, thing)
        thing.coro.send(None)
        ref = weakref.ref(thing)
        weak = weakref.ref(thing.coro)
        del thing
        gc.collect()
        assert ref() is None
        assert weak() is None

    run(main())


def test_dropped_while_suspended(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        makers = [lambda: lib.sleep(1000), lambda: lib.wait([future])]
        if sys.version_info >= (3, 12):  # before, a callback stays
            makers.append(lambda: lib.wait_for(future, 1000))
        for make in makers:
            coro = make()
            coro.send(None)._asyncio_future_blocking = False
            del coro
        gc.collect()
        assert not future.done()
        assert not future._callbacks

    run(main())


def test_inside_itself(run: Any) -> None:
    """A body that is entered again from what it calls says so."""
    failures = []

    class Delay:
        def __le__(self, other: object) -> bool:
            for method in (coro.close, lambda: coro.send(None)):
                try:
                    method()
                except ValueError as exc:
                    failures.append(str(exc))
            return True

    async def main() -> None:
        nonlocal coro
        coro = fastloop.sleep(Delay())  # type: ignore[arg-type]
        await coro

    coro: Any = None
    run(main())
    assert failures == ["coroutine already executing"] * 2


def test_no_call_graph_without_frames(run: Any) -> None:
    if not hasattr(asyncio, "capture_call_graph"):
        pytest.skip("asyncio has the call graph from 3.14")

    async def child() -> None:
        await fastloop.wait_for(forever(), 1000)

    async def main() -> None:
        async with fastloop.TaskGroup() as group:
            task = group.create_task(child(), name="child")
            gathering = asyncio.create_task(fastloop.sleep(1000))
            gathered = fastloop.gather(gathering)
            await turns(2)
            graph = asyncio.capture_call_graph(task)
            assert graph is not None
            names = [entry.frame.f_code.co_name for entry in graph.call_stack]
            assert names == ["child"]
            me = asyncio.current_task()
            assert [by.future for by in graph.awaited_by] == [me]
            graph = asyncio.capture_call_graph(gathering)
            assert graph is not None
            assert [by.future for by in graph.awaited_by] == [me]
            assert "child" in asyncio.format_call_graph(task)
            gathered.cancel()
            task.cancel()
            await asyncio.wait([task, gathering])
            assert (await outcome(gathered))[0] == "CancelledError"

    run(main())
