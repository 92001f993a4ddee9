"""TaskGroup."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import weakref
from types import ModuleType
from typing import Any

import pytest

import fastloop

from .support import fail, forever, give, need, outcome, turns


def leaves(exc: BaseException) -> Any:
    """An exception group as nested lists of names."""
    if isinstance(exc, BaseExceptionGroup):
        return [leaves(inner) for inner in exc.exceptions]
    return type(exc).__name__


async def grouped(awaitable: Any) -> Any:
    try:
        return "result", await awaitable
    except BaseException as exc:
        return leaves(exc)


def test_waits_for_all(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        async with lib.TaskGroup() as group:
            tasks = [group.create_task(give(n, n % 5)) for n in range(50)]
            assert repr(group) == "<TaskGroup tasks=50 entered>"
        assert [task.result() for task in tasks] == [*range(50)]
        assert repr(group) == "<TaskGroup entered>"
        async with lib.TaskGroup():
            pass

    run(main())


def test_keywords(lib: ModuleType, run: Any) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def read() -> int:
        return variable.get()

    async def main() -> None:
        context = contextvars.copy_context()
        context.run(variable.set, 5)
        async with lib.TaskGroup() as group:
            task = group.create_task(read(), name="named", context=context)
            assert task.get_name() == "named"
            other = group.create_task(name="other", coro=give(1))
            assert other.get_name() == "other"
            coro = give(2)
            with pytest.raises(TypeError):
                group.create_task(coro, nonsense=1)
            coro.close()
            with pytest.raises(TypeError):
                group.create_task()
        assert (task.result(), other.result()) == (5, 1)

    run(main())


def test_child_fails(lib: ModuleType, run: Any) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await forever()
        finally:
            ended.append("child")

    async def body() -> None:
        async with lib.TaskGroup() as group:
            group.create_task(work())
            group.create_task(fail(KeyError(1), 2))
            try:
                await forever()
            finally:
                ended.append("body")

    async def main() -> None:
        assert await grouped(body()) == ["KeyError"]
        me = asyncio.current_task()
        assert me is not None
        assert me.cancelling() == 0
        await turns(1)
        assert sorted(ended) == ["body", "child"]

    run(main())


def test_child_fails_while_waiting(lib: ModuleType, run: Any) -> None:
    async def body() -> None:
        async with lib.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(fail(KeyError(1), 1))
            group.create_task(fail(ValueError(1), 1))

    async def main() -> None:
        found = await grouped(asyncio.create_task(body()))
        assert sorted(found) == ["KeyError", "ValueError"]

    run(main())


def test_body_fails(lib: ModuleType, run: Any) -> None:
    async def body(exc: BaseException) -> None:
        async with lib.TaskGroup() as group:
            task = group.create_task(forever())
            seen.append(task)
            await turns(1)
            raise exc

    seen: list[Any] = []

    async def main() -> None:
        assert await grouped(body(KeyError())) == ["KeyError"]
        assert seen.pop().cancelled()
        error = await outcome(asyncio.create_task(body(asyncio.CancelledError("x"))))
        assert error == ("CancelledError", ("x",))
        assert seen.pop().cancelled()

    run(main())


def test_group_without_context(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with lib.TaskGroup():
                raise KeyError
        assert caught.value.message == "unhandled errors in a TaskGroup"
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    run(main())


def test_base_errors(lib: ModuleType, loop_factory: Any) -> None:
    async def child() -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with lib.TaskGroup() as group:
            group.create_task(forever())
            group.create_task(child())

    for error in (SystemExit, KeyboardInterrupt):
        loop = loop_factory()

        async def body(error: type = error) -> None:
            async with lib.TaskGroup() as group:
                group.create_task(forever())
                await turns(1)
                raise error

        try:
            with pytest.raises(error):
                loop.run_until_complete(body())
        finally:
            loop.close()
            gc.collect()


def test_nested(lib: ModuleType, run: Any) -> None:
    async def body() -> None:
        async with lib.TaskGroup() as outer:
            outer.create_task(forever())
            async with lib.TaskGroup() as inner:
                inner.create_task(fail(KeyError()))
                inner.create_task(forever())

    async def main() -> None:
        assert await grouped(body()) == [["KeyError"]]

    run(main())


def test_cancelled_from_outside(lib: ModuleType, run: Any) -> None:
    seen: list[Any] = []

    async def body(wait_inside: bool) -> None:
        async with lib.TaskGroup() as group:
            seen.append(group.create_task(forever()))
            if wait_inside:
                await forever()

    async def main() -> None:
        for wait_inside in (True, False):
            task = asyncio.create_task(body(wait_inside))
            await turns(3)
            task.cancel("stop")
            assert await outcome(task) == ("CancelledError", ("stop",))
            assert task.cancelling() == 1
            assert seen.pop().cancelled()

    run(main())


def test_cancelled_while_aborting(lib: ModuleType, run: Any) -> None:
    """The outer cancel is not lost when the group raises for its children."""

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            await turns(5)

    async def body() -> None:
        async with lib.TaskGroup() as group:
            group.create_task(slow_to_end())
            group.create_task(fail(KeyError()))

    async def main() -> Any:
        task = asyncio.create_task(body())
        await turns(5)
        task.cancel()
        return await grouped(task), task.cancelling()

    assert run(main()) == (["KeyError"], 1 if sys.version_info >= (3, 13) else 2)


def test_create_task_when_it_may_not(lib: ModuleType, run: Any) -> None:
    async def late(group: Any) -> None:
        try:
            await forever()
        finally:
            coro = give(1)
            with pytest.raises(RuntimeError, match="is shutting down"):
                group.create_task(coro)
            coro.close()

    async def main() -> None:
        group = lib.TaskGroup()
        coro = give(1)
        with pytest.raises(RuntimeError, match="has not been entered"):
            group.create_task(coro)
        coro.close()
        async with group:
            with pytest.raises(RuntimeError, match="has already been entered"):
                await group.__aenter__()
        coro = give(1)
        with pytest.raises(RuntimeError, match="is finished"):
            group.create_task(coro)
        coro.close()
        with pytest.raises(ExceptionGroup):
            async with lib.TaskGroup() as group:
                group.create_task(late(group))
                await turns(2)
                raise KeyError

    run(main())


def test_children_make_children(lib: ModuleType, run: Any) -> None:
    """Also while the group is being left."""

    async def child(group: Any, depth: int) -> None:
        made.append(depth)
        await turns(2)
        if depth:
            group.create_task(child(group, depth - 1))

    made: list[int] = []

    async def main() -> None:
        async with lib.TaskGroup() as group:
            group.create_task(child(group, 5))
        assert made == [5, 4, 3, 2, 1, 0]

    run(main())


def test_cancelled_child_is_no_error(lib: ModuleType, run: Any) -> None:
    async def main() -> None:
        async with lib.TaskGroup() as group:
            task = group.create_task(forever())
            await turns(1)
            task.cancel()

    run(main())


def test_cancel(lib: ModuleType, run: Any) -> None:
    need(lib, "TaskGroup.cancel")

    async def main() -> None:
        me = asyncio.current_task()
        assert me is not None
        if type(me) is not fastloop.Task and sys.version_info < (3, 13):
            pytest.skip("needs uncancel() of 3.13")
        for wait_inside in (True, False):
            async with lib.TaskGroup() as group:
                task = group.create_task(forever())
                if wait_inside:
                    group.cancel()
                    group.cancel()
                    await forever()
                asyncio.get_running_loop().call_soon(group.cancel)
            assert task.cancelled()
            assert me.cancelling() == 0
            group.cancel()
        group = lib.TaskGroup()
        group.cancel()
        async with group:
            await forever()
        async with lib.TaskGroup() as group:
            group.cancel()
        await turns(2)
        assert me.cancelling() == 0

        with pytest.raises(ExceptionGroup):
            async with lib.TaskGroup() as group:
                group.cancel()
                try:
                    await forever()
                finally:
                    raise KeyError

    run(main())


def test_cancel_and_an_outer_cancel(lib: ModuleType, run: Any) -> None:
    need(lib, "TaskGroup.cancel")

    async def body() -> None:
        async with lib.TaskGroup() as group:
            groups.append(group)
            await forever()

    groups: list[Any] = []

    async def main() -> None:
        task = asyncio.create_task(body())
        await turns(2)
        task.cancel("outer")
        groups[0].cancel()
        assert (await outcome(task))[0] == "CancelledError"
        assert task.cancelling() == 1

    run(main())


def test_outside_a_task(lib: ModuleType, loop_factory: Any) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        lib.TaskGroup().__aenter__().send(None)
    loop = loop_factory()
    errors: list[str] = []

    def callback() -> None:
        try:
            lib.TaskGroup().__aenter__().send(None)
        except RuntimeError as exc:
            errors.append(str(exc))
        loop.stop()

    try:
        loop.call_soon(callback)
        loop.run_forever()
    finally:
        loop.close()
    assert "cannot determine the parent task" in errors[0]


def test_foreign_tasks(run: Any) -> None:
    """A task factory may make asyncio's own tasks."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(fastloop.asyncio_task_factory)
        async with fastloop.TaskGroup() as group:
            tasks = [group.create_task(give(n, n)) for n in range(5)]
        assert [task.result() for task in tasks] == [0, 1, 2, 3, 4]
        with pytest.raises(ExceptionGroup):
            async with fastloop.TaskGroup() as group:
                group.create_task(fail(KeyError(), 1))
                group.create_task(forever())
        loop.set_task_factory(None)

    run(main())


def test_subclass(lib: ModuleType, run: Any) -> None:
    class Mine(lib.TaskGroup):  # type: ignore[name-defined, misc]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    async def main() -> None:
        async with Mine("mine") as group:
            group.create_task(give(1))
            assert group.name == "mine"

    run(main())
    with pytest.raises(TypeError):
        lib.TaskGroup(1)


def test_collected(lib: ModuleType, run: Any) -> None:
    class Thing:
        pass

    async def main() -> None:
        async def body() -> Any:
            thing = Thing()
            try:
                async with lib.TaskGroup() as group:
                    group.thing = thing
                    thing.group = group  # type: ignore[attr-defined]
                    group.create_task(fail(KeyError(thing)))
            except ExceptionGroup:
                pass
            return weakref.ref(thing)

        ref = await asyncio.create_task(body())
        gc.collect()
        assert ref() is None

    run(main())


def test_body_is_closed(lib: ModuleType, run: Any) -> None:
    async def body() -> None:
        async with lib.TaskGroup() as group:
            tasks.append(group.create_task(forever()))
            await forever()

    tasks: list[Any] = []

    async def main() -> None:
        coro = body()
        future = coro.send(None)
        future._asyncio_future_blocking = False
        # it waits for its children even now, which a coroutine must not
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            coro.close()
        await turns(2)
        del coro
        gc.collect()

    run(main())
