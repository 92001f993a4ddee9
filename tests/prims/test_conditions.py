"""Condition."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any

import pytest
from core.support import within

import fastloop

from .support import turns

Loop = asyncio.AbstractEventLoop

# lost notifications were mended in 3.13
MENDED = sys.version_info >= (3, 13)


def mended(lib: Any) -> None:
    if lib is asyncio and not MENDED:
        pytest.skip("asyncio of this Python loses notifications")


async def waiters(count: int, condition: Any) -> list[asyncio.Task[Any]]:
    async def wait() -> Any:
        async with condition:
            return await condition.wait()

    tasks = [asyncio.ensure_future(wait()) for _ in range(count)]
    await turns(1)
    return tasks


def done(tasks: list[asyncio.Task[Any]]) -> list[bool]:
    return [task.done() for task in tasks]


def test_states(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        assert "[unlocked]" in repr(condition)
        async with condition as nothing:
            assert nothing is None
            assert condition.locked() and "[locked]" in repr(condition)
        tasks = await waiters(3, condition)
        assert "[unlocked, waiters:3]" in repr(condition)
        async with condition:
            condition.notify()
        await turns(2)
        assert done(tasks) == [True, False, False]
        async with condition:
            condition.notify_all()
        assert await within(asyncio.gather(*tasks)) == [True] * 3

    loop.run_until_complete(main())


def test_without_the_lock(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        with pytest.raises(RuntimeError, match=r"^cannot wait on un-acquired lock$"):
            await condition.wait()
        text = r"^cannot notify on un-acquired lock$"
        with pytest.raises(RuntimeError, match=text):
            condition.notify()
        with pytest.raises(RuntimeError, match=text):
            condition.notify_all()
        with pytest.raises(RuntimeError, match="not acquired"):
            condition.release()

    loop.run_until_complete(main())


@pytest.mark.parametrize("n", [0, 1, 2, 5, -1, 1.5, 2**70, -(2**70), True])
def test_notify_so_many(loop: Loop, lib: Any, n: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        tasks = await waiters(4, condition)
        async with condition:
            condition.notify(n=n)
        await turns(6)
        expected = sum(1 for index in range(4) if index < n)
        assert done(tasks) == [True] * expected + [False] * (4 - expected)
        async with condition:
            condition.notify_all()
        await within(asyncio.gather(*tasks))

    loop.run_until_complete(main())


def test_bad_number(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        async with condition:
            condition.notify("x")  # nobody is there to be counted
        tasks = await waiters(1, condition)
        async with condition:
            with pytest.raises(TypeError, match="'>=' not supported"):
                condition.notify("x")
            condition.notify()
        await within(asyncio.gather(*tasks))

    loop.run_until_complete(main())


def test_wait_for(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        value: list[int] = []

        async def wait() -> Any:
            async with condition:
                return await condition.wait_for(predicate=lambda: value and value[0])

        task = asyncio.ensure_future(wait())
        await turns(1)
        for number in (0, 7):
            value[:] = [number]
            async with condition:
                condition.notify()
            await turns(3)
        assert await within(task) == 7
        async with condition:
            assert await condition.wait_for(lambda: "at once") == "at once"
            with pytest.raises(ZeroDivisionError):
                await condition.wait_for(lambda: 1 / 0)

    loop.run_until_complete(main())


def test_cancelled_while_it_waits(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        (task,) = await waiters(1, condition)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not condition.locked() and condition._waiters == deque()

    loop.run_until_complete(main())


def test_cancelled_while_it_gets_the_lock_back(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        condition = lib.Condition()
        (task,) = await waiters(1, condition)
        await condition.acquire()
        condition.notify()
        await turns(2)
        for _ in range(3):
            task.cancel()
            await turns(2)
            assert not task.done()
        condition.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not condition.locked()

    loop.run_until_complete(main())


def test_cancelled_waiter_passes_the_notification_on(loop: Loop, lib: Any) -> None:
    mended(lib)

    async def main() -> None:
        condition = lib.Condition()
        first, second = await waiters(2, condition)
        async with condition:
            condition.notify()
            first.cancel()
        await turns(4)
        assert first.cancelled()
        assert await within(second)

    loop.run_until_complete(main())


def test_the_last_cancellation_is_raised(loop: Loop, lib: Any) -> None:
    mended(lib)

    async def main() -> None:
        condition = lib.Condition()
        (task,) = await waiters(1, condition)
        await condition.acquire()
        task.cancel("first")
        await turns(2)
        task.cancel("second")
        await turns(2)
        condition.release()
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        assert info.value.args == ("second",)
        context = info.value.__context__
        assert isinstance(context, asyncio.CancelledError)
        assert context.args == ("first",)

    loop.run_until_complete(main())


class ListLock:
    """A lock of somebody else's."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held = False

    def locked(self) -> bool:
        return self.held

    async def acquire(self) -> bool:
        self.calls.append("acquire")
        while self.held:
            await asyncio.sleep(0)
        self.held = True
        return True

    def release(self) -> None:
        self.calls.append("release")
        self.held = False


def test_any_lock(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = ListLock()
        condition = lib.Condition(lock)
        assert condition._lock is lock and condition.locked.__self__ is lock
        tasks = await waiters(2, condition)
        async with condition:
            condition.notify_all()
        assert await within(asyncio.gather(*tasks)) == [True, True]
        assert sorted(lock.calls) == ["acquire"] * 5 + ["release"] * 5
        with pytest.raises(AttributeError):
            lib.Condition(object())

    loop.run_until_complete(main())


def test_lock_of_either_kind(loop: Loop, lib: Any) -> None:
    async def main(lock: Any) -> None:
        condition = lib.Condition(lock=lock)
        assert condition._lock is lock
        async with lock:
            assert condition.locked()
        tasks = await waiters(2, condition)
        async with lock:
            condition.notify(2)
        await within(asyncio.gather(*tasks))

    for lock in (asyncio.Lock(), fastloop.Lock(), asyncio.Semaphore()):
        if hasattr(lock, "_locked"):
            loop.run_until_complete(main(lock))


def test_two_conditions_share_a_lock(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        lock = lib.Lock()
        one, other = lib.Condition(lock), lib.Condition(lock)
        tasks = [*await waiters(1, one), *await waiters(1, other)]
        async with lock:
            one.notify()
        await turns(3)
        assert done(tasks) == [True, False]
        async with other:
            other.notify()
        await within(asyncio.gather(*tasks))

    loop.run_until_complete(main())


def test_the_methods_are_the_locks(lib: Any) -> None:
    condition = lib.Condition()
    assert {"locked", "acquire", "release"} <= set(vars(condition))
    assert condition.release == condition._lock.release


def test_lock_that_fails(loop: Loop, lib: Any) -> None:
    mended(lib)

    class Bad(ListLock):
        bad = False

        async def acquire(self) -> bool:
            if self.bad:
                raise ZeroDivisionError
            return await super().acquire()

    async def main() -> None:
        lock = Bad()
        condition = lib.Condition(lock)
        first, second = await waiters(2, condition)
        async with condition:
            condition.notify()
            lock.bad = True
        await turns(3)
        assert isinstance(first.exception(), ZeroDivisionError)
        await turns(3)  # the notification went on to the second
        assert isinstance(second.exception(), ZeroDivisionError)

    loop.run_until_complete(main())


def test_overridden_methods(loop: Loop, lib: Any) -> None:
    class Mine(lib.Condition):  # type: ignore[misc]
        waits = 0
        notified: Any = None

        async def wait(self) -> Any:
            self.waits += 1
            return await super().wait()

        def notify(self, n: int = 1) -> None:
            self.notified = n
            super().notify(n)

    async def main() -> None:
        condition = Mine()
        flag = False

        async def wait() -> None:
            async with condition:
                await condition.wait_for(lambda: flag)

        task = asyncio.ensure_future(wait())
        await turns(1)
        flag = True
        async with condition:
            condition.notify_all()
        await within(task)
        assert condition.waits == 1 and condition.notified == 1

    loop.run_until_complete(main())


def test_closed_while_it_gets_the_lock_back(loop: Loop, lib: Any) -> None:
    """A coroutine that waits for a lock in its `finally` cannot be closed."""

    async def main() -> None:
        condition = lib.Condition()
        await condition.acquire()
        coro = condition.wait()
        coro.send(None)
        await condition.acquire()
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coro.close()
        condition.release()

    loop.run_until_complete(main())
