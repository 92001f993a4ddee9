"""Semaphore and BoundedSemaphore."""

from __future__ import annotations

import asyncio
import fractions
import math
from collections import deque
from typing import Any

import pytest
from core.support import within

import fastloop

from .support import turns

Loop = asyncio.AbstractEventLoop
KINDS = ["Semaphore", "BoundedSemaphore"]


async def waiters(count: int, semaphore: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(semaphore.acquire()) for _ in range(count)]
    await turns(1)
    return tasks


def extra(semaphore: Any) -> str:
    return repr(semaphore).partition(" [")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_states(loop: Loop, lib: Any, kind: str) -> None:
    async def main() -> None:
        semaphore = getattr(lib, kind)(2)
        assert extra(semaphore) == "unlocked, value:2]>"
        assert await semaphore.acquire() is True
        async with semaphore as nothing:
            assert nothing is None
            assert semaphore.locked() and extra(semaphore) == "locked]>"
            tasks = await waiters(2, semaphore)
            assert extra(semaphore) == "locked, waiters:2]>"
        assert semaphore.locked()  # promised to the first who waits
        assert await within(tasks[0])
        semaphore.release()
        assert await within(tasks[1])
        semaphore.release()
        semaphore.release()
        assert not semaphore.locked() and semaphore._value == 2

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_default_and_bad_values(lib: Any, kind: str) -> None:
    cls = getattr(lib, kind)
    assert cls()._value == 1 and cls(value=3)._value == 3
    with pytest.raises(ValueError, match=r"^Semaphore initial value must be >= 0$"):
        cls(-1)
    with pytest.raises(TypeError, match="'<' not supported"):
        cls("1")


def test_released_too_often(lib: Any) -> None:
    bounded = lib.BoundedSemaphore(1)
    with pytest.raises(ValueError, match=r"^BoundedSemaphore released too many times$"):
        bounded.release()
    assert bounded._bound_value == 1
    plain = lib.Semaphore(1)
    plain.release()
    assert plain._value == 2


@pytest.mark.parametrize("value", [2.5, fractions.Fraction(3, 2), True, 2**80, 2**62])
def test_values_that_are_no_small_ints(loop: Loop, lib: Any, value: Any) -> None:
    async def main() -> None:
        semaphore = lib.BoundedSemaphore(value)
        assert await semaphore.acquire()
        assert semaphore._value == value - 1
        semaphore.release()
        assert semaphore._value == value
        assert semaphore.locked() is False
        assert f"value:{value}" in repr(semaphore).replace("value:1]", "value:True]")
        with pytest.raises(ValueError, match="too many"):
            semaphore.release()

    loop.run_until_complete(main())


def test_unlimited(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        semaphore = lib.Semaphore(math.inf)
        for _ in range(3):
            await semaphore.acquire()
        semaphore.release()
        assert semaphore._value == math.inf and not semaphore.locked()

    loop.run_until_complete(main())


def test_value_that_fails(loop: Loop, lib: Any) -> None:
    class Odd(int):
        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = int.__hash__

    async def main() -> None:
        semaphore = lib.Semaphore(Odd(2))
        with pytest.raises(ZeroDivisionError):
            await semaphore.acquire()

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_waiter_passes_its_permit_on(loop: Loop, lib: Any, kind: str) -> None:
    async def main() -> None:
        semaphore = getattr(lib, kind)(1)
        await semaphore.acquire()
        first, second = await waiters(2, semaphore)
        semaphore.release()
        first.cancel()
        await turns(2)
        assert first.cancelled() and await within(second)
        assert semaphore._value == 0

    loop.run_until_complete(main())


def test_many_releases_at_once(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        semaphore = lib.Semaphore(0)
        tasks = await waiters(5, semaphore)
        tasks[1].cancel()
        for _ in range(3):
            semaphore.release()
        await turns(2)
        assert [task.done() for task in tasks] == [True, True, True, True, False]
        semaphore.release()
        assert await within(tasks[4])
        assert semaphore._value == 0

    loop.run_until_complete(main())


def test_nobody_overtakes(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        order: list[str] = []
        semaphore = lib.Semaphore(0)

        async def take(name: str) -> None:
            await semaphore.acquire()
            order.append(name)

        tasks = [asyncio.ensure_future(take(name)) for name in "abc"]
        await turns(1)
        semaphore.release()
        semaphore.release()
        tasks.append(asyncio.ensure_future(take("late")))
        await turns(2)
        semaphore.release()
        semaphore.release()
        await within(asyncio.gather(*tasks))
        assert order == ["a", "b", "c", "late"]

    loop.run_until_complete(main())


def test_attributes(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        semaphore = lib.Semaphore(1)
        assert semaphore._waiters is None
        semaphore._value = 0
        (task,) = await waiters(1, semaphore)
        assert isinstance(semaphore._waiters, deque)
        assert len(semaphore._waiters) == 1
        semaphore._value = 3
        assert not semaphore._waiters[0].done()
        # 3.13 says whether it woke somebody
        assert semaphore._wake_up_next() in (True, None)
        assert await within(task) and semaphore._value == 2
        semaphore._waiters = deque()
        assert semaphore._wake_up_next() in (False, None)
        semaphore._waiters = None
        assert not semaphore.locked()

    loop.run_until_complete(main())


def test_overridden_locked(loop: Loop, lib: Any) -> None:
    class Closed(lib.Semaphore):  # type: ignore[misc]
        closed = True

        def locked(self) -> bool:
            return self.closed or super().locked()

    async def main() -> None:
        semaphore = Closed(5)
        (task,) = await waiters(1, semaphore)
        assert not task.done() and "[locked" in repr(semaphore)
        semaphore.closed = False
        semaphore.release()
        assert await within(task)

    loop.run_until_complete(main())


def test_evil_value(fast_loop: fastloop.Loop) -> None:
    """A value whose arithmetic changes the semaphore it belongs to."""

    class Evil(float):
        def __add__(self, other: Any) -> Any:
            semaphore.__init__(0)  # type: ignore[misc]
            return Evil(float(self) + other)

        def __gt__(self, other: Any) -> bool:
            semaphore._waiters = None
            return True

        def __eq__(self, other: object) -> bool:
            semaphore._value = 1
            return False

        __hash__ = float.__hash__

    async def main() -> None:
        tasks = await waiters(2, semaphore)
        semaphore._value = Evil(1)
        semaphore.release()
        tasks += await waiters(2, semaphore)
        semaphore._value = Evil(1)
        await turns(3)
        semaphore._value = 0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    semaphore = fastloop.Semaphore(0)
    fast_loop.run_until_complete(main())
