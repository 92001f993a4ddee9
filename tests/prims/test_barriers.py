"""Barrier."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from core.support import within

from .support import turns

Loop = asyncio.AbstractEventLoop


async def waiters(count: int, barrier: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.ensure_future(barrier.wait()) for _ in range(count)]
    await turns(1)
    return tasks


def state(barrier: Any) -> tuple[Any, ...]:
    return barrier.n_waiting, barrier.broken, barrier._state.name, barrier._count


def test_everybody_comes(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(parties=3)
        assert barrier.parties == 3 and state(barrier) == (0, False, "FILLING", 0)
        for _ in range(3):
            tasks = await waiters(2, barrier)
            assert state(barrier) == (2, False, "FILLING", 2)
            assert "[filling, waiters:2/3]" in repr(barrier)
            assert await barrier.wait() == 2
            assert state(barrier) == (0, False, "DRAINING", 2)
            assert "[draining, waiters:0/3]" in repr(barrier)
            assert await within(asyncio.gather(*tasks)) == [0, 1]
            assert state(barrier) == (0, False, "FILLING", 0)

    loop.run_until_complete(main())


@pytest.mark.parametrize("parties", [0, -1, 0.5])
def test_too_few(parties: Any) -> None:
    messages = []
    for lib in (asyncio, __import__("fastloop")):
        with pytest.raises(ValueError, match="parties must be") as info:
            lib.Barrier(parties)
        messages.append(str(info.value))
    assert messages[0] == messages[1]


def test_bad_parties(lib: Any) -> None:
    with pytest.raises(TypeError, match="'<' not supported"):
        lib.Barrier("2")
    with pytest.raises(TypeError, match=r"missing .*required"):
        lib.Barrier()


@pytest.mark.parametrize("parties", [1.5, math.inf, 2**70])
def test_parties_that_never_come(loop: Loop, lib: Any, parties: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(parties)
        assert barrier.parties == parties
        tasks = await waiters(3, barrier)
        assert barrier.n_waiting == 3
        await barrier.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    loop.run_until_complete(main())


def test_alone(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(1)
        assert await barrier.wait() == 0
        async with barrier as index:
            assert index == 0

    loop.run_until_complete(main())


def test_who_comes_while_it_drains(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(2)
        first = await waiters(1, barrier)
        second = await waiters(3, barrier)
        await turns(3)
        assert [task.done() for task in (*first, *second)] == [True] * 4

    loop.run_until_complete(main())


def test_abort(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(3)
        tasks = await waiters(2, barrier)
        assert await barrier.abort() is None
        for task in tasks:
            with pytest.raises(
                asyncio.BrokenBarrierError, match=r"^Abort or reset of barrier$"
            ):
                await task
        with pytest.raises(asyncio.BrokenBarrierError, match=r"^Barrier aborted$"):
            await barrier.wait()
        assert barrier.broken and repr(barrier).endswith("[broken]>")
        await barrier.reset()
        assert state(barrier) == (0, False, "FILLING", 0)
        tasks = await waiters(3, barrier)
        assert sorted(await within(asyncio.gather(*tasks))) == [0, 1, 2]

    loop.run_until_complete(main())


def test_reset(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(3)
        await barrier.reset()
        tasks = await waiters(2, barrier)
        await barrier.reset()
        assert state(barrier)[2] == "RESETTING"
        late = await waiters(3, barrier)
        for task in tasks:
            with pytest.raises(asyncio.BrokenBarrierError, match="reset"):
                await task
        assert sorted(await within(asyncio.gather(*late))) == [0, 1, 2]

    loop.run_until_complete(main())


def test_cancelled(loop: Loop, lib: Any) -> None:
    async def main() -> None:
        barrier = lib.Barrier(2)
        (task,) = await waiters(1, barrier)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert state(barrier) == (0, False, "FILLING", 0)
        tasks = await waiters(2, barrier)
        assert sorted(await within(asyncio.gather(*tasks))) == [0, 1]

    loop.run_until_complete(main())


def test_overridden_wait(loop: Loop, lib: Any) -> None:
    class Mine(lib.Barrier):  # type: ignore[misc]
        async def wait(self) -> Any:
            return "mine", await super().wait()

    async def main() -> None:
        async with Mine(1) as index:
            assert index == ("mine", 0)

    loop.run_until_complete(main())


def test_no_attribute_can_be_set(lib: Any) -> None:
    barrier = lib.Barrier(1)
    for name in ("parties", "n_waiting", "broken"):
        with pytest.raises(AttributeError):
            setattr(barrier, name, 1)
