"""timeout(), timeout_at() and Timeout."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

import pytest

from .support import fail, forever, give, outcome, turns


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def test_in_time(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for make in (lib.timeout(1000), lib.timeout_at(loop.time() + 1000)):
            async with make as scope:
                assert scope is make
                await turns(1)
                assert scope.when() == pytest.approx(loop.time() + 1000, abs=5)
                assert not scope.expired()
            assert not scope.expired()
            assert repr(scope) == "<Timeout [finished]>"

    run(main())


def test_expires(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        for delay in (0.01, 0, -1, 0.0):
            with pytest.raises(TimeoutError) as caught:
                async with lib.timeout(delay) as scope:
                    await forever()
            assert isinstance(caught.value.__cause__, asyncio.CancelledError)
            assert scope.expired()
            assert repr(scope) == "<Timeout [expired]>"
            assert cancelling() == 0
        with pytest.raises(TimeoutError):
            async with lib.timeout_at(asyncio.get_running_loop().time() - 1):
                await forever()

    run(main())


def test_no_limit(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        async with lib.timeout(None) as scope:
            assert scope.when() is None
            assert repr(scope) == "<Timeout [active] when=None>"
            await turns(2)
        async with lib.timeout_at(None):
            pass
        scope = lib.Timeout(when=None)
        assert repr(scope) == "<Timeout [created]>"
        async with scope:
            pass

    run(main())


def test_no_await_no_timeout(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        async with lib.timeout(0) as scope:
            pass
        assert not scope.expired()
        await turns(2)

    run(main())


def test_reschedule(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with lib.timeout(0.001) as scope:
            scope.reschedule(loop.time() + 1000)
            await asyncio.sleep(0.01)
            scope.reschedule(None)
            assert scope.when() is None
            await turns(2)
        with pytest.raises(TimeoutError):
            async with lib.timeout(None) as scope:
                scope.reschedule(when=loop.time() - 1)
                await forever()
        with pytest.raises(
            RuntimeError, match="Cannot change state of expired Timeout"
        ):
            scope.reschedule(1)
        scope = lib.timeout(1)
        with pytest.raises(RuntimeError, match="Timeout has not been entered"):
            scope.reschedule(1)
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="Cannot change state of finished"):
            scope.reschedule(1)
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as scope:
                try:
                    await forever()
                finally:
                    with pytest.raises(RuntimeError, match="of expiring Timeout"):
                        scope.reschedule(None)

    run(main())


def test_nested(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as outer, lib.timeout(1000) as inner:
                await forever()
        assert outer.expired()
        assert not inner.expired()
        async with lib.timeout(1000) as outer:
            with pytest.raises(TimeoutError):
                async with lib.timeout(0) as inner:
                    await forever()
        assert inner.expired()
        assert not outer.expired()
        with pytest.raises(TimeoutError):
            async with lib.timeout(0) as outer, lib.timeout(0) as inner:
                await forever()
        assert outer.expired()
        assert inner.expired()
        assert cancelling() == 0

    run(main())


def test_cancelled_from_outside(lib: ModuleType, run: Any) -> None:
    async def work() -> None:
        async with lib.timeout(1000):
            await forever()

    async def main() -> None:
        task = asyncio.create_task(work())
        await turns(2)
        task.cancel("outside")
        assert await outcome(task) == ("CancelledError", ("outside",))
        assert task.cancelling() == 1

    run(main())


def test_both_at_once(lib: ModuleType, run: Any) -> None:
    """An outer cancel that arrives with the timeout wins."""

    async def work(scopes: list[Any]) -> None:
        async with lib.timeout(1000) as scope:
            scopes.append(scope)
            await forever()

    async def main() -> None:
        for timeout_first in (True, False):
            scopes: list[Any] = []
            task = asyncio.create_task(work(scopes))
            await turns(2)
            loop = asyncio.get_running_loop()
            if timeout_first:
                scopes[0].reschedule(loop.time() - 1)
                loop.call_soon(task.cancel)
            else:
                loop.call_soon(task.cancel)
                scopes[0].reschedule(loop.time() - 1)
            assert (await outcome(task))[0] == "CancelledError"
            assert task.cancelling() == 1

    run(main())


def test_cancelled_before(lib: ModuleType, run: Any) -> None:
    """What was pending when the block began is not the block's."""

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await turns(1)
        assert task.cancelling() == 1
        with pytest.raises(TimeoutError):
            async with lib.timeout(0):
                await forever()
        assert task.cancelling() == 1

    async def main() -> None:
        await asyncio.create_task(work())

    run(main())


def test_other_exceptions(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with lib.timeout(1000) as scope:
                await fail(KeyError())
        assert not scope.expired()
        with pytest.raises(ZeroDivisionError) as caught:
            async with lib.timeout(0):
                try:
                    await forever()
                except asyncio.CancelledError:
                    _ = 1 // 0
        context = caught.value.__context__
        if sys.version_info >= (3, 13):
            assert type(context) is TimeoutError
            assert isinstance(context.__cause__, asyncio.CancelledError)
        else:
            assert isinstance(context, asyncio.CancelledError)
        with pytest.raises(ExceptionGroup) as group:
            async with lib.timeout(0):
                try:
                    await forever()
                except asyncio.CancelledError as exc:
                    inner = KeyError()
                    inner.__context__ = exc
                    raise ExceptionGroup("group", [inner]) from None
        inner_context = group.value.exceptions[0].__context__
        expected = (
            TimeoutError if sys.version_info >= (3, 13) else asyncio.CancelledError
        )
        assert type(inner_context) is expected

    run(main())


def test_swallowed(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        async with lib.timeout(0) as scope:
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
        assert scope.expired()
        assert cancelling() == 0

    run(main())


def test_misuse(lib: ModuleType, run: Any) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        lib.timeout(1)
    for wrong in ((), (1, 2)):
        with pytest.raises(TypeError):
            lib.Timeout(*wrong)
        with pytest.raises(TypeError):
            lib.timeout(*wrong)

    async def main() -> None:
        scope = lib.timeout(1)
        async with scope:
            with pytest.raises(RuntimeError, match="already been entered"):
                async with scope:
                    pass
        with pytest.raises(RuntimeError, match="already been entered"):
            await scope.__aenter__()
        for wrong in ("1", [], object()):
            with pytest.raises(TypeError):
                lib.timeout(wrong)
            with pytest.raises(TypeError):
                async with lib.timeout_at(wrong):
                    pass
        with pytest.raises(AssertionError):
            await lib.timeout(1).__aexit__(None, None, None)
        with pytest.raises(TypeError):
            await lib.timeout(1).__aexit__()

    run(main())


def test_outside_a_task(lib: ModuleType, loop_factory: Any) -> None:
    loop = loop_factory()
    errors: list[BaseException] = []

    def callback() -> None:
        try:
            lib.timeout(1).__aenter__().send(None)
        except RuntimeError as exc:
            errors.append(exc)
        loop.stop()

    try:
        loop.call_soon(callback)
        loop.run_forever()
    finally:
        loop.close()
    assert [str(error) for error in errors] == ["Timeout should be used inside a task"]


def test_subclass(lib: ModuleType, run: Any) -> None:
    class Mine(lib.Timeout):  # type: ignore[name-defined, misc]
        def __init__(self, when: float | None, name: str) -> None:
            super().__init__(when)
            self.name = name

    async def main() -> None:
        async with Mine(None, "mine") as scope:
            assert scope.name == "mine"

    run(main())


def test_without_init(run: Any) -> None:
    import fastloop

    async def main() -> None:
        scope = fastloop.Timeout.__new__(fastloop.Timeout)
        assert scope.when() is None
        assert repr(scope) == "<Timeout [created]>"
        with pytest.raises(RuntimeError):
            await scope.__aenter__()

    run(main())


def test_collected(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        scope = lib.timeout(1000)
        scope.me = scope
        ref = weakref.ref(scope)
        async with scope:
            await give(1)
        del scope
        gc.collect()
        assert ref() is None

    run(main())


def test_mocked_clock(lib: ModuleType, loop_factory: Any) -> None:
    """A loop whose clock is replaced is asked for the time."""
    loop = loop_factory()
    loop.time = lambda: 50.0

    async def main() -> None:
        scope = lib.timeout(2)
        assert scope.when() == 52.0

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
