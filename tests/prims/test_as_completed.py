"""as_completed(), plain and asynchronous."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import fail, forever, give, outcome, turns


def need_async(lib: ModuleType) -> None:
    if lib is asyncio and sys.version_info < (3, 13):
        pytest.skip("asynchronous iteration comes with 3.13")


def test_plain(lib: ModuleType, run: Any) -> None:
    async def main() -> list[Any]:
        work = [give("late", 6), fail(KeyError("k"), 3), give("early")]
        return [await outcome(coro) for coro in lib.as_completed(work)]

    assert run(main()) == [
        ("result", "early"),
        ("KeyError", ("k",)),
        ("result", "late"),
    ]


def test_asynchronous(lib: ModuleType, run: Any) -> None:
    need_async(lib)

    async def main() -> None:
        tasks = [asyncio.create_task(give(n, n * 2)) for n in (3, 1, 2)]
        future = asyncio.get_running_loop().create_future()
        found = []
        async for done in lib.as_completed([*tasks, future]):
            assert done.done()
            found.append(done)
            if len(found) == 3:
                future.set_result("last")
        assert found == [tasks[1], tasks[2], tasks[0], future]

    run(main())


def test_asynchronous_over_coroutines(lib: ModuleType, run: Any) -> None:
    need_async(lib)

    async def main() -> None:
        found = []
        async for task in lib.as_completed([give(2, 4), give(1)]):
            assert isinstance(task, asyncio.Task)
            found.append(await task)
        assert found == [1, 2]
        async for _ in lib.as_completed([]):
            raise AssertionError

    run(main())


def test_awaited_in_any_order(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        first, second, third = lib.as_completed([give(1, 1), give(2, 3), give(3, 5)])
        tasks = [asyncio.create_task(c) for c in (third, first, second)]
        assert await asyncio.gather(*tasks) == [1, 2, 3]

    run(main())


def test_all_done_first(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(give(n)) for n in range(5)]
        await turns(3)
        results = [await coro for coro in lib.as_completed(tasks)]
        assert sorted(results) == [0, 1, 2, 3, 4]
        assert list(lib.as_completed([])) == []

    run(main())


def test_duplicates(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = give(1)
        assert [await c for c in lib.as_completed([coro, coro])] == [1]

    run(main())


def test_timeout(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        slow = [asyncio.create_task(forever()) for _ in range(2)]
        coros = list(lib.as_completed([give(1), *slow], timeout=0.3))
        found = [(await outcome(coro))[0] for coro in coros]
        assert found == ["result", "TimeoutError", "TimeoutError"]
        assert not any(task._callbacks for task in slow)  # type: ignore[attr-defined]
        for task in slow:
            assert not task.done()
            task.cancel()
        await asyncio.wait(slow)

        coros = list(lib.as_completed([give(1), give(2)], timeout=1000))
        assert sorted([await coro for coro in coros]) == [1, 2]

    run(main())


def test_timeout_asynchronous(lib: ModuleType, run: Any) -> None:
    need_async(lib)

    async def main() -> None:
        slow = asyncio.create_task(forever())
        found = []
        with pytest.raises(TimeoutError):
            async for task in lib.as_completed([slow, give(1)], timeout=0.3):
                found.append(await task)
        assert found == [1]
        slow.cancel()

    run(main())


def test_a_waiter_is_cancelled(lib: ModuleType, run: Any) -> None:
    """Neither before its turn nor in the same turn is a result lost."""

    async def main() -> list[Any]:
        found: list[Any] = []
        for same_turn in (False, True):
            futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
            waiters = [asyncio.create_task(c) for c in lib.as_completed(futures)]
            await turns(2)
            if same_turn:
                futures[0].set_result("a")
                await turns(1)  # the result is in, its waiter is woken
            waiters[0].cancel()
            for future in futures:
                if not future.done():
                    future.set_result("b")
            found.append([(await outcome(waiter))[0] for waiter in waiters[:2]])
            waiters[2].cancel()
            found.append(await outcome(waiters[2]))
        return found

    assert run(main())[0] == ["CancelledError", "result"]


def test_mistakes(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = give(1)
        future = asyncio.get_running_loop().create_future()
        for wrong in (coro, future, 1):
            with pytest.raises(TypeError):
                list(lib.as_completed(wrong))
        with pytest.raises(TypeError):
            list(lib.as_completed([1]))
        with pytest.raises(TypeError):
            lib.as_completed([coro], 1)
        coro.close()

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="starts at once from 3.13")
def test_starts_with_the_iteration(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = give(1)
        iterator = lib.as_completed([coro])
        assert len(asyncio.all_tasks()) == 1
        assert await next(iterator) == 1

    run(main())


def test_collected(lib: ModuleType, loop_factory: Any) -> None:
    class Thing:
        pass

    def make() -> Any:
        loop = loop_factory()

        async def main() -> Any:
            future = loop.create_future()
            coro = next(iter(lib.as_completed([future], timeout=1000)))
            coro.send(None)._asyncio_future_blocking = False
            future.thing = thing = Thing()
            thing.coro = coro  # type: ignore[attr-defined]
            return weakref.ref(thing)

        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    ref = make()
    gc.collect()
    assert ref() is None


def test_futures_of_any_type(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        made: list[Any] = [asyncio.Future(), fastloop.Future()]
        made += [asyncio.Task(give(2)), fastloop.Task(give(3))]
        for number, future in enumerate(made[:2]):
            asyncio.get_running_loop().call_soon(future.set_result, number)
        assert sorted([await c for c in lib.as_completed(made)]) == [0, 1, 2, 3]

    run(main())
