"""gather()."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import fail, forever, give, outcome, turns


def test_results_in_order(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        assert await lib.gather(give(1, 3), give(2), give(3, 1)) == [1, 2, 3]
        assert await lib.gather(*[give(n, n % 7) for n in range(200)]) == [*range(200)]

    run(main())


def test_nothing(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        future = lib.gather()
        assert asyncio.isfuture(future)
        assert future.done()
        assert await future == []
        assert await lib.gather(return_exceptions=True) == []

    run(main())


def test_is_a_future(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        outer = lib.gather(give(1))
        assert isinstance(outer, asyncio.Future)
        assert repr(outer).startswith("<_GatheringFuture pending")
        assert outer.get_loop() is asyncio.get_running_loop()
        calls: list[Any] = []
        outer.add_done_callback(calls.append)
        assert await outer == [1]
        await turns(1)
        assert calls == [outer]
        assert outer.result() == [1]
        assert outer.exception() is None
        assert not outer.cancel()

    run(main())


def test_duplicates(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        future = asyncio.ensure_future(give("f"))
        coro = give("c")
        outer = lib.gather(future, coro, future, give("o"), coro)
        assert await outer == ["f", "c", "f", "o", "c"]

    run(main())


def test_duplicates_by_equality(lib: ModuleType, run: Any) -> None:
    class Equal:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal) and self.value == other.value

        def __hash__(self) -> int:
            return hash(self.value)

        def __await__(self) -> Any:
            runs.append(self.value)
            yield
            return self.value

    runs: list[int] = []

    async def main() -> None:
        made = lib.gather(Equal(1), give(0), Equal(2), Equal(1), Equal(1), give(5))
        assert await made == [1, 0, 2, 1, 1, 5]
        assert runs == [1, 2]
        with pytest.raises(TypeError, match="unhashable"):
            lib.gather([])

    run(main())


def test_comparison_fails(lib: ModuleType, run: Any) -> None:
    class Bad:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        def __await__(self) -> Any:
            yield

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            lib.gather(Bad(), Bad())
        await turns(3)

    run(main())


def test_first_failure(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        rest = asyncio.ensure_future(give("rest", 5))
        outer = lib.gather(give(1), fail(KeyError(1), 1), rest, fail(ValueError(2), 2))
        assert await outcome(outer) == ("KeyError", (1,))
        assert not rest.done()
        assert await rest == "rest"
        assert outer.cancel() is False

    run(main())


def test_return_exceptions(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        cancelled = asyncio.ensure_future(forever())
        cancelled.cancel("msg")
        other = asyncio.ensure_future(forever())
        other.cancel()
        error = KeyError(1)
        results = await lib.gather(
            give(1), fail(error), cancelled, other, return_exceptions=True
        )
        assert results[:2] == [1, error]
        assert [(type(r).__name__, r.args) for r in results[2:]] == [
            ("CancelledError", ("",)),
            ("CancelledError", ("",)),
        ]

    run(main())


def test_child_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        child = asyncio.ensure_future(forever())
        rest = asyncio.ensure_future(give(1, 4))
        outer = lib.gather(child, rest)
        await turns(1)
        child.cancel("why")
        assert await outcome(outer) == ("CancelledError", ("why",))
        assert not outer.cancelled()  # it failed with the exception
        assert not rest.done()
        await rest

    run(main())


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_outer_cancelled(lib: ModuleType, run: Any, return_exceptions: bool) -> None:
    async def main() -> None:
        children = [asyncio.ensure_future(forever()) for _ in range(3)]
        done = asyncio.ensure_future(give(1))
        outer = lib.gather(done, *children, return_exceptions=return_exceptions)
        await turns(3)
        assert outer.cancel("why")
        assert not outer.cancelled()
        assert await outcome(outer) == ("CancelledError", ("why",))
        assert all(child.cancelled() for child in children)
        assert outer.cancel() is False

    run(main())


def test_waiting_task_cancelled(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        ended: list[int] = []

        async def child(number: int) -> None:
            try:
                await forever()
            finally:
                await turns(2)
                ended.append(number)

        async def parent() -> None:
            await lib.gather(child(1), lib.gather(child(2), child(3)))

        task = asyncio.create_task(parent())
        await turns(3)
        task.cancel("deep")
        assert await outcome(task) == ("CancelledError", ("deep",))
        assert sorted(ended) == [1, 2, 3]

    run(main())


def test_child_resists_cancellation(lib: ModuleType, run: Any) -> None:
    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "still here"
        raise AssertionError

    async def main() -> None:
        outer = lib.gather(stubborn(), return_exceptions=True)
        await turns(2)
        assert outer.cancel()
        assert (await outcome(outer))[0] == "CancelledError"

    run(main())


def test_mixed_futures(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        futures = [loop.create_future(), asyncio.Future(), fastloop.Future()]
        for number, future in enumerate(futures):
            loop.call_soon(future.set_result, number)
        tasks = [fastloop.Task(give(3)), asyncio.Task(give(4))]
        assert await lib.gather(*futures, *tasks) == [0, 1, 2, 3, 4]

    run(main())


def test_loops_mixed(lib: ModuleType, loop_factory: Any) -> None:
    one, two = loop_factory(), loop_factory()
    try:
        futures = [one.create_future(), two.create_future()]
        with pytest.raises(ValueError, match="belongs to a different loop"):
            lib.gather(*futures)
        futures[0].set_result(1)
        one.run_until_complete(asyncio.sleep(0))
    finally:
        one.close()
        two.close()


def test_outside_a_loop(lib: ModuleType, loop_factory: Any) -> None:
    loop = loop_factory()
    try:
        futures = [loop.create_future() for _ in range(2)]
        outer = lib.gather(*futures)
        loop.call_soon(futures[0].set_result, 0)
        loop.call_soon(futures[1].set_result, 1)
        assert outer.get_loop() is loop
        assert loop.run_until_complete(outer) == [0, 1]
    finally:
        loop.close()


def test_exceptions_count_as_seen(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        outer = lib.gather(fail(KeyError(1)), fail(ValueError(2), 3))
        with pytest.raises(KeyError):
            await outer
        await turns(5)
        del outer
        gc.collect()

    run(main())  # reports nothing


def test_mistakes(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="a coroutine or an awaitable"):
            lib.gather(1)
        with pytest.raises(TypeError):
            lib.gather(nonsense=1)
        with pytest.raises(TypeError):
            lib.gather(give, return_exceptions=True)

    run(main())


def test_turn_for_turn(loop_factory: Any) -> None:
    """Children, callbacks and the waiting task run in the turns they run in with
    asyncio's gather()."""

    def trace(lib: ModuleType) -> list[Any]:
        seen: list[Any] = []

        async def ticker() -> None:
            for number in range(8):
                seen.append(number)
                await asyncio.sleep(0)

        async def child(name: str, wait: int) -> None:
            seen.append(name)
            await turns(wait)
            seen.append(name + " ends")

        async def main() -> None:
            clock = asyncio.create_task(ticker())
            gathering = lib.gather(child("a", 1), child("b", 3))
            gathering.add_done_callback(lambda _: seen.append("done"))
            await gathering
            seen.append("main")
            await clock

        loop = loop_factory()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()
        return seen

    assert trace(fastloop) == trace(asyncio)


def test_collected_in_a_cycle(lib: ModuleType, loop_factory: Any) -> None:
    class Thing:
        pass

    def make() -> Any:
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)
        future = loop.create_future()
        outer = lib.gather(future, loop.create_future())
        future.thing = thing = Thing()
        thing.outer = outer  # type: ignore[attr-defined]
        loop.close()
        return weakref.ref(thing)

    ref = make()
    gc.collect()
    assert ref() is None


def test_cancel_runs_code_that_drops_all(lib: ModuleType, run: Any) -> None:
    class Child(fastloop.Future[Any]):
        def cancel(self, msg: Any = None) -> bool:
            box.clear()
            gc.collect()
            return super().cancel(msg)

    box: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        children = [Child() for _ in range(3)]
        box.append(lib.gather(*children))
        del children
        assert box[0].cancel("x")
        gc.collect()
        await turns(3)

    run(main())
