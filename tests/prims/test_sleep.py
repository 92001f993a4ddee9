"""sleep(), to_thread() and run_coroutine_threadsafe()."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import fractions
import sys
import threading
from types import ModuleType
from typing import Any

import pytest

from .support import fail, outcome, turns


@pytest.mark.parametrize("delay", [0, -1, 0.0, -0.5, False, fractions.Fraction(-1)])
def test_no_time_takes_one_turn(lib: ModuleType, run: Any, delay: Any) -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def worker(number: int) -> None:
            for _ in range(3):
                seen.append(number)
                await lib.sleep(delay)

        await asyncio.gather(worker(1), worker(2))
        return seen

    assert run(main()) == [1, 2] * 3


@pytest.mark.parametrize("delay", [0.01, True * 0.01, fractions.Fraction(1, 100)])
def test_takes_its_time(lib: ModuleType, run: Any, delay: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await lib.sleep(delay, result="x") == "x"
        assert loop.time() - began >= 0.01

    run(main())


def test_order_of_sleepers(lib: ModuleType, run: Any) -> None:
    async def main() -> list[float]:
        seen: list[float] = []

        async def sleeper(seconds: float) -> None:
            await lib.sleep(seconds)
            seen.append(seconds)

        await asyncio.gather(sleeper(0.2), sleeper(0.001))
        return seen

    assert run(main()) == [0.001, 0.2]


def test_arguments(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        assert await lib.sleep(delay=0, result=1) == 1
        assert await lib.sleep(0, 2) == 2
        assert await lib.sleep(0) is None

    run(main())
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            lib.sleep(*wrong)
    with pytest.raises(TypeError):
        lib.sleep(0, nonsense=1)


def test_bad_delays(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await lib.sleep("1")
        with pytest.raises(TypeError):
            await lib.sleep(None)
        if sys.version_info >= (3, 13):
            with pytest.raises(ValueError, match="Invalid delay: NaN"):
                await lib.sleep(float("nan"))

    run(main())


def test_needs_a_running_loop_only_to_wait(lib: ModuleType) -> None:
    coro = lib.sleep(0, 1)
    assert coro.send(None) is None
    with pytest.raises(StopIteration):
        coro.send(None)
    coro = lib.sleep(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for delay in (0, 1000):
            task = asyncio.create_task(lib.sleep(delay))
            await turns(1)
            task.cancel("msg")
            assert await outcome(task) == ("CancelledError", ("msg",))
        task = asyncio.create_task(lib.sleep(1000))
        task.cancel()
        assert await outcome(task) == ("CancelledError", ())

    run(main())


def test_timer_and_cancel_in_one_turn(lib: ModuleType, run: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(lib.sleep(0.0001, "slept"))
        await turns(1)
        waiter = task._fut_waiter  # type: ignore[attr-defined]
        while not waiter.done():
            await turns(1)
        task.cancel()
        assert loop is waiter.get_loop()
        return await outcome(task)

    assert run(main()) == ("CancelledError", ())


def test_mocked_clock(lib: ModuleType, loop_factory: Any) -> None:
    """A loop whose methods are replaced is asked."""
    loop = loop_factory()
    asked: list[float] = []
    call_later = loop.call_later

    def hurry(delay: float, callback: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(delay)
        return call_later(0, callback, *args, **kwargs)

    loop.call_later = hurry
    try:
        assert loop.run_until_complete(lib.sleep(3600, "quick")) == "quick"
    finally:
        loop.close()
    assert asked == [3600]


def test_to_thread(lib: ModuleType, run: Any) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    def work(a: int, *, b: int) -> Any:
        return a, b, variable.get(), threading.current_thread()

    async def main() -> None:
        variable.set(7)
        a, b, value, thread = await lib.to_thread(work, 1, b=2)
        assert (a, b, value) == (1, 2, 7)
        assert thread is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await lib.to_thread(lambda: 1 // 0)

    run(main())


def test_run_coroutine_threadsafe(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def call(coro: Any) -> Any:
            return lib.run_coroutine_threadsafe(coro, loop).result(10)

        assert await asyncio.to_thread(call, lib.sleep(0, 3)) == 3
        with pytest.raises(KeyError):
            await asyncio.to_thread(call, fail(KeyError(1)))
        with pytest.raises(TypeError, match="A coroutine object is required"):
            lib.run_coroutine_threadsafe(lambda: None, loop)

        future = lib.run_coroutine_threadsafe(lib.sleep(1000), loop)
        await turns(3)
        future.cancel()
        await turns(3)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others

    run(main())
