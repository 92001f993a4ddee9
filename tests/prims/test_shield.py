"""shield()."""

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


def test_results(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        assert await lib.shield(give(1, 2)) == 1
        assert await lib.shield(arg=give(2)) == 2
        assert await outcome(lib.shield(fail(KeyError(1)))) == ("KeyError", (1,))
        for future in (asyncio.Future(), fastloop.Future()):
            asyncio.get_running_loop().call_soon(future.set_result, 3)
            assert await lib.shield(future) == 3

    run(main())


def test_done_is_returned_itself(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        task = asyncio.create_task(give(1))
        await turns(2)
        assert lib.shield(task) is task

    run(main())


def test_shields(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        inner = asyncio.create_task(give("kept", 4))
        waiting = asyncio.create_task(_await(lib.shield(inner)))
        await turns(2)
        waiting.cancel("why")
        assert await outcome(waiting) == ("CancelledError", ("why",))
        assert not inner.cancelled()
        assert await inner == "kept"

    run(main())


async def _await(awaitable: Any) -> Any:
    return await awaitable


def test_inner_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        inner = asyncio.create_task(forever())
        outer = lib.shield(inner)
        await turns(1)
        inner.cancel("inner")
        assert await outcome(outer) == ("CancelledError", ())
        assert outer.cancelled()

    run(main())


def test_outer_cancelled_inner_fails(lib: ModuleType, loop_factory: Any) -> None:
    """From 3.14 on the exception is logged, once; before it counts as seen."""
    reports: list[Any] = []

    async def main() -> None:
        inner = asyncio.create_task(fail(KeyError(1), 4))
        shields = [lib.shield(inner) for _ in range(3)]
        await turns(1)
        for shield in shields:
            shield.cancel()
        await turns(8)
        assert inner.done()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        runner.run(main())
        gc.collect()
    expected = 1
    assert len(reports) == expected
    if sys.version_info >= (3, 14):
        assert reports[0]["message"] == "KeyError exception in shielded future"


def test_outer_and_inner_in_one_turn(lib: ModuleType, run: Any) -> None:
    async def main() -> list[Any]:
        found = []
        for order in (0, 1):
            inner = asyncio.get_running_loop().create_future()
            outer = lib.shield(inner)
            actions = [lambda inner=inner: inner.set_result(1), outer.cancel]
            for action in actions[:: 1 - 2 * order]:
                action()
            found.append(await outcome(outer))
        return found

    assert run(main()) == [("CancelledError", ())] * 2


def test_no_callbacks_stay(lib: ModuleType, run: Any) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("one stays, which logs")

    async def main() -> None:
        inner = asyncio.get_running_loop().create_future()
        for _ in range(10):
            lib.shield(inner).cancel()
        await turns(2)
        assert not inner._callbacks

    run(main())


def test_mistakes(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="a coroutine or an awaitable"):
            lib.shield(1)
        with pytest.raises(TypeError):
            lib.shield()

    run(main())


def test_collected(lib: ModuleType, loop_factory: Any) -> None:
    class Thing:
        pass

    def make() -> Any:
        loop = loop_factory()
        inner = loop.create_future()

        async def main() -> Any:
            thing = Thing()
            inner.thing = thing
            thing.outer = lib.shield(inner)  # type: ignore[attr-defined]
            return weakref.ref(thing)

        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    ref = make()
    gc.collect()
    assert ref() is None
