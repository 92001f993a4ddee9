"""Native tasks and futures together with asyncio's and with those of others.

Every kind of task awaits every kind of future, on either loop.
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import asyncio.tasks
import concurrent.futures
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import fastloop

from .support import Loop, collect_reports, next_turns, run_once, run_turns, within


class DuckFuture:
    """A future of somebody else's: the protocol, and nothing more."""

    _asyncio_future_blocking = False

    def __init__(self, *, loop: Loop) -> None:
        self._loop = loop
        self._callbacks: list[tuple[Any, Any]] = []
        self._outcome: Any = None
        self._state = "PENDING"

    def get_loop(self) -> Loop:
        return self._loop

    def done(self) -> bool:
        return self._state != "PENDING"

    def cancelled(self) -> bool:
        return self._state == "CANCELLED"

    def result(self) -> Any:
        if self.cancelled():
            raise asyncio.CancelledError
        assert self.done()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def exception(self) -> BaseException | None:
        if self.cancelled():
            raise asyncio.CancelledError
        return self._outcome if isinstance(self._outcome, BaseException) else None

    def add_done_callback(
        self, fn: Callable[[Any], object], *, context: Any = None
    ) -> None:
        if self.done():
            self._loop.call_soon(fn, self, context=context)
        else:
            self._callbacks.append((fn, context))

    def remove_done_callback(self, fn: Callable[[Any], object]) -> int:
        kept = [pair for pair in self._callbacks if pair[0] != fn]
        removed = len(self._callbacks) - len(kept)
        self._callbacks[:] = kept
        return removed

    def _finish(self, state: str, outcome: Any) -> None:
        if self.done():
            raise asyncio.InvalidStateError
        self._state, self._outcome = state, outcome
        for fn, context in self._callbacks:
            self._loop.call_soon(fn, self, context=context)
        self._callbacks.clear()

    def set_result(self, result: Any) -> None:
        self._finish("FINISHED", result)

    def set_exception(self, error: BaseException) -> None:
        self._finish("FINISHED", error)

    def cancel(self, msg: Any = None) -> bool:
        if self.done():
            return False
        self._finish("CANCELLED", None)
        return True

    def __await__(self) -> Iterator[Any]:
        if not self.done():
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    __iter__ = __await__


class NativeSub(fastloop.Future):
    """A subclass of the native Future."""


class StockSub(asyncio.Future):
    """A subclass of asyncio's Future."""


class NativeTaskSub(fastloop.Task):
    """A subclass of the native Task."""


FUTURES = {
    "native": fastloop.Future,
    "native subclass": NativeSub,
    "asyncio": asyncio.Future,
    "asyncio subclass": StockSub,
    "asyncio in Python": asyncio.futures._PyFuture,  # type: ignore[attr-defined]
    "somebody else's": DuckFuture,
}

TASKS = {
    "native": fastloop.Task,
    "native subclass": NativeTaskSub,
    "asyncio": asyncio.Task,
}
if sys.version_info < (3, 14):  # later, current_task() does not know them
    TASKS["asyncio in Python"] = asyncio.tasks._PyTask  # type: ignore[attr-defined]


@pytest.fixture(params=FUTURES)
def make_future(request: pytest.FixtureRequest, loop: Loop) -> Callable[[], Any]:
    return lambda: FUTURES[request.param](loop=loop)


@pytest.fixture(params=TASKS)
def make_task(request: pytest.FixtureRequest, loop: Loop) -> Callable[[Any], Any]:
    return lambda coro, **kwargs: TASKS[request.param](coro, loop=loop, **kwargs)


async def waits_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


# --- any task awaits any future ------------------------------------------------------


def test_a_result(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    task = make_task(waits_for(future))
    run_once(loop)
    assert task._fut_waiter is future
    assert future._asyncio_future_blocking is False
    future.set_result("result")
    run_once(loop)
    assert task.result() == "result"


def test_an_exception(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    task = make_task(waits_for(future))
    run_once(loop)
    future.set_exception(ValueError("failed"))
    run_once(loop)
    assert str(task.exception()) == "failed"


def test_something_done(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    future.set_result("result")
    task = make_task(waits_for(future))
    run_once(loop)
    assert task.result() == "result"


def test_the_future_is_cancelled(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    task = make_task(waits_for(future))
    run_once(loop)
    future.cancel()
    run_once(loop)
    assert task.cancelled()


def test_the_task_is_cancelled(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    task = make_task(waits_for(future))
    run_once(loop)
    assert task.cancel("why") is True
    assert future.cancelled()
    run_once(loop)
    assert task.cancelled()


def test_cancelled_after_the_result_came(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    task = make_task(waits_for(future))
    run_once(loop)
    future.set_result("lost")
    assert task.cancel() is True
    run_once(loop)
    assert task.cancelled()


def test_cancelled_before_it_waits(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await future

    task = make_task(main())
    run_turns(loop, 2)
    assert future.cancelled()
    assert task.cancelled()


def test_the_order_of_wakeups(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    seen: list[int] = []

    async def wait(i: int, future: Any) -> None:
        await future
        seen.append(i)
        await asyncio.sleep(0)
        seen.append(10 + i)

    futures = [make_future() for _ in range(3)]
    tasks = [make_task(wait(i, future)) for i, future in enumerate(futures)]
    run_once(loop)
    for future in (futures[2], futures[0], futures[1]):
        future.set_result(None)
    run_once(loop)
    assert seen == [2, 0, 1]
    run_once(loop)
    assert seen == [2, 0, 1, 12, 10, 11]
    assert all(task.done() for task in tasks)


def test_the_context_is_the_tasks(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="outer")
    future = make_future()

    async def main() -> str:
        var.set("inner")
        await future
        return var.get()

    task = make_task(main())
    run_once(loop)
    future.set_result(None)
    run_once(loop)
    assert task.result() == "inner"
    assert var.get() == "outer"


def test_the_current_task(
    loop: Loop, make_task: Callable[[Any], Any], make_future: Callable[[], Any]
) -> None:
    future = make_future()
    seen: list[Any] = []

    async def main() -> None:
        seen.append(asyncio.current_task())
        await future
        seen.append(asyncio.current_task())

    future.add_done_callback(lambda _: seen.append(asyncio.current_task()))
    task = make_task(main())
    run_once(loop)
    assert task in asyncio.all_tasks(loop)
    future.set_result(None)
    run_once(loop)
    assert seen == [task, None, task]
    assert task not in asyncio.all_tasks(loop)


def test_a_future_of_another_loop(loop: Loop, make_task: Callable[[Any], Any]) -> None:
    for other in (asyncio.new_event_loop(), fastloop.new_event_loop()):
        for kind in FUTURES.values():
            task = make_task(waits_for(kind(loop=other)))
            run_turns(loop, 2)
            assert "attached to a different loop" in str(task.exception())
        other.close()


# --- any task awaits any task --------------------------------------------------------


@pytest.fixture(params=TASKS)
def make_inner(request: pytest.FixtureRequest, loop: Loop) -> Callable[[Any], Any]:
    return lambda coro: TASKS[request.param](coro, loop=loop)


def test_a_task_awaits_a_task(
    loop: Loop, make_task: Callable[[Any], Any], make_inner: Callable[[Any], Any]
) -> None:
    inner = make_inner(asyncio.sleep(0, "slept"))
    outer = make_task(waits_for(inner))
    assert loop.run_until_complete(outer) == "slept"


def test_cancellation_goes_down_and_comes_up(
    loop: Loop, make_task: Callable[[Any], Any], make_inner: Callable[[Any], Any]
) -> None:
    inner = make_inner(asyncio.sleep(100))
    outer = make_task(waits_for(inner))
    run_turns(loop, 2)
    outer.cancel("why")
    with pytest.raises(asyncio.CancelledError, match="why"):
        loop.run_until_complete(outer)
    assert inner.cancelled()
    assert inner.cancelling() == 1


def test_an_inner_task_that_refuses(
    loop: Loop, make_task: Callable[[Any], Any], make_inner: Callable[[Any], Any]
) -> None:
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
        return "refused"

    inner = make_inner(stubborn())
    outer = make_task(waits_for(inner))
    run_turns(loop, 2)
    outer.cancel()
    assert loop.run_until_complete(outer) == "refused"


# --- asyncio's own tools -------------------------------------------------------------


def mixed_futures(loop: Loop) -> list[Any]:
    """One of each kind that asyncio's tools know."""
    return [kind(loop=loop) for kind in FUTURES.values() if kind is not DuckFuture]


def mixed_tasks(loop: Loop, coro: Callable[[], Any]) -> list[Any]:
    return [kind(coro(), loop=loop) for kind in TASKS.values()]


def test_gather(loop: Loop) -> None:
    async def main() -> list[Any]:
        futures = mixed_futures(loop)
        for i, future in enumerate(futures):
            loop.call_soon(future.set_result, i)
        tasks = mixed_tasks(loop, lambda: asyncio.sleep(0, "task"))
        return await asyncio.gather(*futures, *tasks, asyncio.sleep(0, "coro"))

    results = loop.run_until_complete(main())
    assert results == [*range(5), *["task" for _ in TASKS], "coro"]


def test_gather_with_a_failure(loop: Loop) -> None:
    async def main() -> None:
        futures = mixed_futures(loop)
        for failing in futures:
            others = mixed_futures(loop)
            loop.call_soon(failing.set_exception, ValueError("v"))
            with pytest.raises(ValueError, match="v"):
                await asyncio.gather(failing, *others)
            assert not any(other.done() for other in others)

    loop.run_until_complete(main())


def test_gather_is_cancelled(loop: Loop) -> None:
    async def main() -> None:
        futures = mixed_futures(loop)
        tasks = mixed_tasks(loop, lambda: asyncio.sleep(100))
        gathering = asyncio.gather(*futures, *tasks)
        loop.call_soon(gathering.cancel)
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert all(child.cancelled() for child in futures + tasks)

    loop.run_until_complete(main())


def test_wait(loop: Loop) -> None:
    async def main() -> None:
        futures = mixed_futures(loop)
        tasks = mixed_tasks(loop, lambda: asyncio.sleep(0))
        done, pending = await asyncio.wait(
            [*futures, *tasks], return_when=asyncio.FIRST_COMPLETED
        )
        assert done
        assert set(futures) <= pending
        loop.call_soon(futures[0].set_result, None)
        done, pending = await asyncio.wait(
            [*futures, *tasks], return_when=asyncio.ALL_COMPLETED, timeout=0.1
        )
        assert done == {futures[0], *tasks}
        assert pending == set(futures[1:])
        for future in futures[1:]:
            future.cancel()
        assert (await asyncio.wait(futures))[0] == set(futures)

    loop.run_until_complete(main())


def test_as_completed(loop: Loop) -> None:
    async def main() -> list[Any]:
        futures = mixed_futures(loop)
        for i, future in reversed(list(enumerate(futures))):
            loop.call_soon(future.set_result, i)
        return [await each for each in asyncio.as_completed(futures)]

    assert loop.run_until_complete(main()) == [4, 3, 2, 1, 0]


def test_shield(loop: Loop) -> None:
    async def main() -> None:
        for inner in mixed_futures(loop):
            task = loop.create_task(waits_for(asyncio.shield(inner)))
            await next_turns(2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not inner.done()
            inner.set_result("survived")
            assert await asyncio.shield(inner) == "survived"

    loop.run_until_complete(main())


def test_wait_for(loop: Loop) -> None:
    async def main() -> None:
        for future in mixed_futures(loop):
            loop.call_soon(future.set_result, 1)
            assert await asyncio.wait_for(future, 30) == 1
        for future in mixed_futures(loop):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 0.001)
            assert future.cancelled()

    loop.run_until_complete(main())


def test_timeout(loop: Loop, make_task: Callable[[Any], Any]) -> None:
    async def main() -> str:
        for future in mixed_futures(loop):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await future
        me = asyncio.current_task()
        assert me is not None
        assert me.cancelling() == 0
        return "in time"

    assert loop.run_until_complete(make_task(main())) == "in time"


def test_task_group(loop: Loop, make_task: Callable[[Any], Any]) -> None:
    async def fails(error: Exception) -> None:
        await asyncio.sleep(0)
        raise error

    async def main() -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, i)) for i in range(3)]
        assert [task.result() for task in tasks] == [0, 1, 2]
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails(ValueError("v")))
                group.create_task(fails(KeyError("k")))
                waiting = group.create_task(waits_for(loop.create_future()))
        assert waiting.cancelled()
        return sorted(map(repr, caught.value.exceptions))

    expected = ["KeyError('k')", "ValueError('v')"]
    assert loop.run_until_complete(make_task(main())) == expected


def test_locks_and_queues(loop: Loop) -> None:
    async def main() -> int:
        lock = asyncio.Lock()
        queue: asyncio.Queue[int] = asyncio.Queue(maxsize=1)
        total = 0

        async def produce() -> None:
            for i in range(10):
                async with lock:
                    await asyncio.sleep(0)
                await queue.put(i)

        async def consume() -> None:
            nonlocal total
            for _ in range(10):
                got = await queue.get()
                total += got
                queue.task_done()

        producers = mixed_tasks(loop, produce)
        consumers = mixed_tasks(loop, consume)
        await within(asyncio.gather(*producers, *consumers))
        await within(queue.join())
        return total

    assert loop.run_until_complete(main()) == len(TASKS) * 45


def test_wrap_future(loop: Loop) -> None:
    async def main() -> Any:
        outside: concurrent.futures.Future[Any] = concurrent.futures.Future()
        wrapped = asyncio.wrap_future(outside)
        loop.call_soon(outside.set_result, "from outside")
        return await wrapped

    assert loop.run_until_complete(main()) == "from outside"


def test_futures_chained_with_concurrent_ones(loop: Loop) -> None:
    """As run_in_executor() and run_coroutine_threadsafe() do."""
    chain = asyncio.futures._chain_future  # type: ignore[attr-defined]
    for finish in ("result", "exception", "cancel source", "cancel target"):
        for i, inside in enumerate(mixed_futures(loop) + mixed_futures(loop)):
            outside: Any = concurrent.futures.Future()
            source, target = (outside, inside) if i < 5 else (inside, outside)
            chain(source, target)
            if finish == "result":
                source.set_result("chained")
            elif finish == "exception":
                source.set_exception(ValueError("chained"))
            elif finish == "cancel source":
                source.cancel()
            else:
                target.cancel()
            run_turns(loop, 3)
            for future in (inside, outside):
                assert future.cancelled() is finish.startswith("cancel")
            if finish == "result":
                assert target.result() == "chained"
            elif finish == "exception":
                assert str(target.exception()) == "chained"
                source.exception()


def test_ensure_future_leaves_every_kind_alone(loop: Loop) -> None:
    for future in [*mixed_futures(loop), DuckFuture(loop=loop)]:
        assert asyncio.isfuture(future)
        assert asyncio.ensure_future(future, loop=loop) is future


def test_run_until_complete_with_every_kind(loop: Loop) -> None:
    for future in [*mixed_futures(loop), DuckFuture(loop=loop)]:
        loop.call_soon(future.set_result, "done")
        assert loop.run_until_complete(future) == "done"


# --- futures that break the protocol -------------------------------------------------


class Broken(DuckFuture):
    """Fails in one method; tells which in the message."""

    def __init__(self, method: str, *, loop: Loop) -> None:
        super().__init__(loop=loop)
        self._method = method
        if method == "_asyncio_future_blocking":
            return

        def fail(*args: object, **kwargs: object) -> Any:
            raise OSError(f"{method} failed")

        setattr(self, method, fail)


@pytest.mark.parametrize("method", ["get_loop", "add_done_callback"])
def test_a_future_that_fails_when_it_is_awaited(
    loop: Loop, make_task: Callable[[Any], Any], method: str
) -> None:
    """The task hangs, as asyncio's do; the loop is told."""
    reports = collect_reports(loop)
    task = make_task(waits_for(Broken(method, loop=loop)))
    run_turns(loop, 3)
    (report,) = reports
    assert str(report["exception"]) == f"{method} failed"
    task._log_destroy_pending = False


def test_a_future_whose_result_fails(
    loop: Loop, make_task: Callable[[Any], Any]
) -> None:
    future = Broken("result", loop=loop)
    task = make_task(waits_for(future))
    run_once(loop)
    future.set_result(None)
    run_once(loop)
    assert str(task.exception()) == "result failed"


def test_a_future_without_get_loop(loop: Loop, make_task: Callable[[Any], Any]) -> None:
    """Of old, futures had no more than ``_loop``."""

    class Old(DuckFuture):
        @property
        def get_loop(self) -> Any:  # type: ignore[override]
            raise AttributeError("get_loop")

    future = Old(loop=loop)
    task = make_task(waits_for(future))
    run_once(loop)
    future.set_result("old")
    run_once(loop)
    assert task.result() == "old"


@pytest.mark.parametrize("blocking", [False, None])
def test_a_future_that_is_not_blocking(
    loop: Loop, make_task: Callable[[Any], Any], blocking: Any
) -> None:
    class Yields(DuckFuture):
        def __await__(self) -> Iterator[Any]:
            self._asyncio_future_blocking = blocking
            yield self

    task = make_task(waits_for(Yields(loop=loop)))
    run_turns(loop, 2)
    message = "yield was used instead of" if blocking is False else "bad yield"
    assert message in str(task.exception())


# --- the task factory ----------------------------------------------------------------


def test_asyncio_task_factory(loop: Loop) -> None:
    loop.set_task_factory(fastloop.asyncio_task_factory)
    assert loop.get_task_factory() is fastloop.asyncio_task_factory

    async def main() -> None:
        task = asyncio.current_task()
        assert type(task) is asyncio.Task
        named = asyncio.create_task(asyncio.sleep(0, "slept"), name="named")
        assert named.get_name() == "named"
        assert named in asyncio.all_tasks()
        assert await named == "slept"
        context = contextvars.copy_context()
        given = asyncio.create_task(asyncio.sleep(0), context=context)
        if sys.version_info >= (3, 12):
            assert given.get_context() is context
        await given
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(asyncio.sleep(0, 1))
        assert grouped.result() == 1

    loop.run_until_complete(main())
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_a_task_factory_of_ones_own(loop: Loop) -> None:
    made: list[dict[str, Any]] = []

    def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
        made.append(kwargs)
        return NativeTaskSub(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)

    async def main() -> str:
        task = asyncio.create_task(asyncio.sleep(0, "slept"), name="named")
        assert type(task) is NativeTaskSub
        assert task.get_name() == "named"
        return await task

    assert loop.run_until_complete(main()) == "slept"
    assert len(made) == 2


@pytest.mark.parametrize("factory", [1, "text", object()])
def test_what_is_no_task_factory(loop: Loop, factory: Any) -> None:
    with pytest.raises(TypeError):
        loop.set_task_factory(factory)
    assert loop.get_task_factory() is None


def test_a_task_factory_that_fails(loop: Loop) -> None:
    def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
        coro.close()
        raise OSError("no task")

    loop.set_task_factory(factory)
    with pytest.raises(OSError, match="no task"):
        loop.create_task(asyncio.sleep(0))
    loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="keywords pass from 3.14 on")
def test_a_task_factory_gets_every_keyword(loop: Loop) -> None:
    made: list[dict[str, Any]] = []

    def factory(loop: Loop, coro: Any, **kwargs: Any) -> Any:
        made.append(kwargs)
        coro.close()
        return loop.create_future()

    loop.set_task_factory(factory)
    create: Any = loop.create_task
    create(asyncio.sleep(0), name="n", context=None, eager_start=True, custom=1)
    assert made == [{"name": "n", "context": None, "eager_start": True, "custom": 1}]
