"""create_task() and ensure_future()."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import give, outcome


class Awaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield
        return self.value


def test_create_task(lib: ModuleType, run: Any) -> None:
    variable = contextvars.ContextVar("variable", default="default")

    async def read() -> str:
        return variable.get()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = lib.create_task(give(1))
        assert type(task) is type(loop.create_task(asyncio.sleep(0)))
        assert await task == 1
        task = lib.create_task(give(2), name="named")
        assert task.get_name() == "named"
        await task
        context = contextvars.copy_context()
        context.run(variable.set, "inside")
        task = lib.create_task(read(), context=context, name=None)
        assert await task == "inside"
        assert await lib.create_task(coro=give(3)) == 3
        task = lib.create_task(name="other", coro=give(4))
        assert task.get_name() == "other"
        await task

    run(main())


def test_create_task_mistakes(lib: ModuleType, run: Any) -> None:
    coro = give(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        lib.create_task(coro)
    coro.close()

    async def main() -> None:
        with pytest.raises(TypeError):
            lib.create_task()
        with pytest.raises(TypeError):
            lib.create_task(1)
        with pytest.raises(TypeError):
            lib.create_task(1, 2)
        coro = give(1)
        with pytest.raises(TypeError):
            lib.create_task(coro, nonsense=1)
        coro.close()
        with pytest.raises(TypeError):
            lib.create_task(Awaitable(1))

    run(main())


def test_create_task_with_a_factory(lib: ModuleType, run: Any) -> None:
    made: list[dict[str, Any]] = []

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        made.append(kwargs)
        return fastloop.Task(coro, loop=loop)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        assert await lib.create_task(give(1)) == 1
        assert await lib.create_task(give(2), name="x") == 2
        assert await lib.ensure_future(give(3)) == 3
        assert await lib.gather(give(4)) == [4]
        async with lib.TaskGroup() as group:
            group.create_task(give(5), name="y")
        loop.set_task_factory(None)

    run(main())
    assert len(made) == 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks come with 3.12")
def test_eager_tasks(lib: ModuleType, run: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        seen: list[Any] = []

        async def quick(n: int) -> int:
            seen.append(n)
            return n

        seen.append(await lib.gather(quick(1), lib.sleep(0, 2), quick(3)))
        outer = lib.gather(quick(4), quick(5))
        seen.append(outer.done())
        seen.append(await outer)
        async with lib.TaskGroup() as group:
            tasks = [group.create_task(quick(6)), group.create_task(lib.sleep(0, 7))]
            seen.append([task.done() for task in tasks])
        seen.append([task.result() for task in tasks])
        loop.set_task_factory(None)
        return seen

    assert run(main()) == [
        1,
        3,
        [1, 2, 3],
        4,
        5,
        True,
        [4, 5],
        6,
        [True, False],
        [6, 7],
    ]


def test_ensure_future(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for future in (loop.create_future(), asyncio.Future(), fastloop.Future()):
            assert lib.ensure_future(future) is future
            assert lib.ensure_future(future, loop=loop) is future
        task = lib.ensure_future(give(1))
        assert lib.ensure_future(task) is task
        assert await task == 1
        assert await lib.ensure_future(Awaitable(2)) == 2
        assert await lib.ensure_future(lib.sleep(0, 3), loop=loop) == 3
        for wrong in (1, "ab", None, lambda: None, give):
            with pytest.raises(TypeError, match="a coroutine or an awaitable"):
                lib.ensure_future(wrong)

    run(main())


def test_ensure_future_of_another_loop(lib: ModuleType, loop_factory: Any) -> None:
    one, two = loop_factory(), loop_factory()
    try:
        future = one.create_future()
        with pytest.raises(ValueError, match="belongs to a different loop"):
            lib.ensure_future(future, loop=two)
    finally:
        one.close()
        two.close()


def test_ensure_future_on_a_closed_loop(lib: ModuleType, loop_factory: Any) -> None:
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        lib.ensure_future(give(1), loop=loop)  # closes the coroutine


def test_bad_awaitables(lib: ModuleType, run: Any) -> None:
    class NoIterator:
        def __await__(self) -> Any:
            return 1

    class ACoroutine:
        def __await__(self) -> Any:
            return coro

    class Raises:
        def __await__(self) -> Any:
            raise LookupError("no")

    async def main() -> None:
        nonlocal coro
        coro = give(1)
        assert (await outcome(lib.wait_for(NoIterator(), 1)))[0] == "TypeError"
        if sys.version_info >= (3, 12):  # before, it is iterated by `yield from`
            assert (await outcome(lib.wait_for(ACoroutine(), 1)))[0] == "TypeError"
        assert await outcome(lib.wait_for(Raises(), 1)) == ("LookupError", ("no",))
        coro.close()

    coro: Any = None
    run(main())
