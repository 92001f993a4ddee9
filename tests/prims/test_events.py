"""Event."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from core.support import within

import fastloop

from .support import turns

Loop = asyncio.AbstractEventLoop


async def waiters(count: int, event: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(event.wait()) for _ in range(count)]
    await turns(1)
    return tasks


def test_states(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        event = lib.Event()
        assert event.is_set() is False and "[unset]" in repr(event)
        tasks = await waiters(3, event)
        assert "[unset, waiters:3]" in repr(event)
        event.set()
        event.set()
        assert event.is_set() is True
        assert await within(asyncio.gather(*tasks)) == [True] * 3
        assert await event.wait() is True and "[set]" in repr(event)
        event.clear()
        assert not event.is_set()

    loop.run_until_complete(main())


def test_order_and_turns(loop: Loop, lib: Any) -> None:
    async def main() -> list[Any]:
        seen: list[Any] = []
        event = lib.Event()

        async def wait(name: int) -> None:
            await event.wait()
            seen.append(name)

        tasks = [asyncio.ensure_future(wait(n)) for n in range(4)]
        await turns(1)
        event.set()
        event.clear()  # who was woken is woken
        tasks.append(asyncio.ensure_future(wait(9)))
        await turns(1)
        seen.append("turn")
        await turns(2)
        event.set()
        await asyncio.gather(*tasks)
        return seen

    assert loop.run_until_complete(main()) == [0, 1, 2, 3, "turn", 9]


def test_cancelled_waiters(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        event = lib.Event()
        tasks = await waiters(4, event)
        tasks[1].cancel()
        event.set()
        tasks[2].cancel()
        await turns(2)
        assert [task.cancelled() for task in tasks] == [False, True, True, False]
        assert event._waiters == deque()

    loop.run_until_complete(main())


def test_a_waiter_that_waits_again(loop: Loop, lib: Any) -> None:
    async def main() -> int:
        event = lib.Event()
        count = 0

        async def wait() -> None:
            nonlocal count
            while count < 50:
                await event.wait()
                event.clear()
                count += 1

        task = asyncio.ensure_future(wait())
        while not task.done():
            event.set()
            await turns(1)
        return count

    assert loop.run_until_complete(main()) == 50


def test_attributes(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        event = lib.Event()
        assert event._value is False and event._waiters == deque()
        tasks = await waiters(2, event)
        assert len(event._waiters) == 2
        event.set()
        assert event._value is True
        assert all(future.result() is True for future in event._waiters)
        await asyncio.gather(*tasks)
        event._value = False
        assert not event.is_set()

    loop.run_until_complete(main())


def test_waiters_that_leave_while_it_is_set(fast_loop: fastloop.Loop) -> None:
    """A loop that calls back at once may do anything to the list meanwhile."""
    event = fastloop.Event()
    tasks: list[asyncio.Task[Any]] = []

    class Hasty(asyncio.Future):  # type: ignore[type-arg]
        def set_result(self, result: Any) -> None:
            super().set_result(result)
            for task in tasks:
                coro: Any = task.get_coro()
                if coro is not current:
                    coro.close()
            assert len(event._waiters) <= 2

    async def main() -> None:
        nonlocal current
        fast_loop.create_future = lambda: Hasty(loop=fast_loop)  # type: ignore
        tasks.extend(await waiters(5, event))
        current = tasks[0].get_coro()
        event.set()
        await turns(3)
        for task in tasks:  # the coroutines were closed under them
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert event._waiters == deque()

    current: Any = None
    fast_loop.set_exception_handler(lambda *_: None)
    fast_loop.run_until_complete(main())
    del fast_loop.create_future


def test_set_with_a_future_that_fails(loop: Loop, lib: Any) -> None:
    class Bad:
        def done(self) -> bool:
            raise ZeroDivisionError

    event = lib.Event()
    event._waiters.append(Bad())
    with pytest.raises(ZeroDivisionError):
        event.set()
    assert event.is_set()
