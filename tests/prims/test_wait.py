"""wait() and wait_for()."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import fail, forever, give, outcome, turns

MODES = [asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION, asyncio.ALL_COMPLETED]


def names(tasks: set[Any]) -> list[str]:
    return sorted(task.get_name() for task in tasks)


def start(**coros: Any) -> list[Any]:
    return [asyncio.create_task(coro, name=name) for name, coro in coros.items()]


async def clean_up(tasks: Any) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_modes(lib: ModuleType, run: Any) -> None:
    async def main() -> list[Any]:
        found = []
        for mode in MODES:
            tasks = start(a=give(1, 2), b=fail(KeyError(1), 4), c=give(1, 6))
            done, pending = await lib.wait(tasks, return_when=mode)
            found.append((names(done), names(pending)))
            await clean_up(tasks)
        return found

    assert run(main()) == [
        (["a"], ["b", "c"]),
        (["a", "b"], ["c"]),
        (["a", "b", "c"], []),
    ]


def test_done_already(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for mode in MODES:
            tasks = start(a=give(1), b=give(2))
            await turns(3)
            done, pending = await lib.wait(tasks, return_when=mode)
            assert (names(done), pending) == (["a", "b"], set())

    run(main())


def test_cancelled_is_no_exception(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        tasks = start(a=forever(), b=give(1, 4))
        await turns(1)
        tasks[0].cancel()
        done, pending = await lib.wait(tasks, return_when="FIRST_EXCEPTION")
        assert (names(done), pending) == (["a", "b"], set())

    run(main())


def test_timeout(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for seconds in (0, 0.01, -1):
            tasks = start(a=forever(), b=give(1))
            done, pending = await lib.wait(iter(tasks) and tasks, timeout=seconds)
            assert names(pending) in (["a"], ["a", "b"])
            assert not any(task._callbacks for task in tasks)  # type: ignore[attr-defined]
            await clean_up(tasks)
        tasks = start(b=give(1))
        done, pending = await lib.wait(tasks, timeout=1000)
        assert names(done) == ["b"]

    run(main())


def test_wait_is_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        tasks = start(a=forever(), b=forever())
        waiting = asyncio.create_task(lib.wait(tasks, timeout=1000))
        await turns(2)
        waiting.cancel("no more")
        assert await outcome(waiting) == ("CancelledError", ("no more",))
        assert not any(task.done() or task._callbacks for task in tasks)  # type: ignore[attr-defined]
        await clean_up(tasks)

    run(main())


def test_wait_mistakes(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(give(1))
        coro = give(2)
        for wrong, error in [
            (task, TypeError),
            (coro, TypeError),
            ([], ValueError),
            ([coro], TypeError),
            (1, TypeError),
            ([1], (AttributeError, TypeError)),
        ]:
            with pytest.raises(error):
                await lib.wait(wrong)
        with pytest.raises(ValueError, match="Invalid return_when value: never"):
            await lib.wait([task], return_when="never")
        with pytest.raises(TypeError):
            lib.wait([task], 1, 2)
        coro.close()
        await task

    run(main())


def test_wait_with_any_futures(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        futures: list[Any] = [asyncio.Future(), fastloop.Future()]
        futures += [asyncio.Task(give(1)), fastloop.Task(give(2))]
        futures[0].set_result(0)
        asyncio.get_running_loop().call_soon(futures[1].set_result, 1)
        done, pending = await lib.wait(futures)
        assert done == set(futures)
        assert pending == set()

    run(main())


# --- wait_for ------------------------------------------------------------------------


def test_in_time(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for timeout in (1000, 1000.0, None):
            assert await lib.wait_for(give(1, 2), timeout) == 1
            assert await lib.wait_for(asyncio.create_task(give(2, 2)), timeout) == 2
            assert await lib.wait_for(fut=give(3), timeout=timeout) == 3
            future = asyncio.get_running_loop().create_future()
            future.set_result(4)
            assert await lib.wait_for(future, timeout) == 4
            error = await outcome(lib.wait_for(fail(KeyError(1)), timeout))
            assert error == ("KeyError", (1,))

    run(main())


def test_too_late(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(forever())
        with pytest.raises(TimeoutError) as caught:
            await lib.wait_for(task, 0.01)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert task.cancelled()
        me = asyncio.current_task()
        assert me is not None
        assert me.cancelling() == 0
        with pytest.raises(TimeoutError):
            await lib.wait_for(forever(), 0.01)

    run(main())


@pytest.mark.parametrize("timeout", [0, -1, 0.0, -0.5])
def test_no_time(lib: ModuleType, run: Any, timeout: float) -> None:
    async def main() -> None:
        started = []

        async def work() -> None:
            started.append(1)

        with pytest.raises(TimeoutError) as caught:
            await lib.wait_for(work(), timeout)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert started == []
        task = asyncio.create_task(give(1))
        await turns(2)
        assert await lib.wait_for(task, timeout) == 1
        failed = asyncio.create_task(fail(KeyError(1)))
        await turns(2)
        assert await outcome(lib.wait_for(failed, timeout)) == ("KeyError", (1,))

        async def stubborn() -> str:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            return "kept"

        task = asyncio.create_task(stubborn())  # type: ignore[arg-type]
        await turns(1)
        assert await lib.wait_for(task, timeout) == "kept"

    run(main())


def test_wait_for_is_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for timeout in (1000, None):
            inner = asyncio.create_task(forever())
            outer = asyncio.create_task(lib.wait_for(inner, timeout))
            await turns(2)
            outer.cancel("outside")
            error, args = await outcome(outer)
            assert error == "CancelledError"
            assert inner.cancelled()
            assert args == ("outside",) or sys.version_info < (3, 12)

    run(main())


def test_cancelled_and_done_in_one_turn(lib: ModuleType, run: Any) -> None:
    async def main() -> list[Any]:
        found = []
        for order in ("result", "cancel"):
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(lib.wait_for(future, 1000))
            await turns(2)
            if order == "result":
                future.set_result(1)
                task.cancel()
            else:
                task.cancel()
                if not future.done():
                    future.set_result(1)
            found.append((await outcome(task), future.cancelled()))
        return found

    assert run(main()) == _race()


def _race() -> list[Any]:
    """What asyncio's own wait_for() does, which differs between versions."""

    async def main() -> list[Any]:
        found = []
        for order in ("result", "cancel"):
            future = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(asyncio.wait_for(future, 1000))
            await turns(2)
            if order == "result":
                future.set_result(1)
                task.cancel()
            else:
                task.cancel()
                if not future.done():
                    future.set_result(1)
            found.append((await outcome(task), future.cancelled()))
        return found

    with asyncio.Runner() as runner:
        return runner.run(main())


def test_outside_a_task(lib: ModuleType) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("asyncio's wait_for() makes a task before 3.12")
    coro = lib.wait_for(None, 1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        coro.send(None)


def test_not_awaitable(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await lib.wait_for(1, 1000)
        with pytest.raises(TypeError):
            await lib.wait_for(give, None)
        coro = give(1)
        with pytest.raises(TypeError):
            await lib.wait_for(coro, "1")
        coro.close()

    run(main())


def test_coroutine_awaited_elsewhere(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        coro = give(1, 3)
        task = asyncio.create_task(coro)
        await turns(1)
        if sys.version_info >= (3, 12):
            with pytest.raises(RuntimeError, match="awaited already"):
                await lib.wait_for(coro, 1000)
        assert await task == 1

    run(main())


def test_leaves_nothing(lib: ModuleType, run: Any) -> None:
    class Thing:
        pass

    async def main() -> None:
        async def work(thing: Thing) -> Thing:
            await turns(1)
            return thing

        thing = Thing()
        ref = weakref.ref(thing)
        await lib.wait_for(work(thing), 1000)
        del thing
        await turns(2)
        gc.collect()
        assert ref() is None

    run(main())
