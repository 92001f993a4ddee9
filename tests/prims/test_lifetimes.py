"""Nothing leaks, whatever way a wait ends."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from core.support import refs_lost

import fastloop

from .support import fail, forever, give, outcome, turns


async def sleeping() -> None:
    await fastloop.sleep(0, 1)
    await fastloop.sleep(0.00001, 2)
    task = fastloop.create_task(fastloop.sleep(1000))
    await turns(1)
    task.cancel()
    await outcome(task)
    fastloop.sleep(1).close()


async def gathering() -> None:
    await fastloop.gather(give(1), give(2, 2))
    await fastloop.gather(fail(KeyError()), give(1), return_exceptions=True)
    await outcome(fastloop.gather(fail(KeyError()), give(1, 3)))
    outer = fastloop.gather(forever(), forever())
    await turns(2)
    outer.cancel()
    await outcome(outer)
    await fastloop.gather()
    await turns(3)


async def timing() -> None:
    for seconds in (0, 1000, None):
        try:
            async with fastloop.timeout(seconds) as scope:
                await turns(2)
                scope.reschedule(None)
        except TimeoutError:
            pass
    await outcome(fastloop.wait_for(forever(), 0))
    await outcome(fastloop.wait_for(forever(), 0.00001))
    await outcome(fastloop.wait_for(give(1, 2), 1000))
    task = asyncio.create_task(fastloop.wait_for(forever(), 1000))
    await turns(2)
    task.cancel()
    await outcome(task)


async def grouping() -> None:
    async with fastloop.TaskGroup() as group:
        for n in range(3):
            group.create_task(give(n, n))
    try:
        async with fastloop.TaskGroup() as group:
            group.create_task(fail(KeyError()))
            group.create_task(forever())
            await forever()
    except* KeyError:
        pass
    async with fastloop.TaskGroup() as group:
        group.create_task(forever())
        await turns(1)
        group.cancel()
        await turns(1)


async def waiting() -> None:
    for timeout in (None, 0, 1000):
        tasks = [asyncio.create_task(give(n, n)) for n in range(3)]
        await fastloop.wait(tasks, timeout=timeout)
        await asyncio.gather(*tasks)
    tasks = [asyncio.create_task(forever())]
    waiter = asyncio.create_task(fastloop.wait(tasks))
    await turns(2)
    waiter.cancel()
    await outcome(waiter)
    tasks[0].cancel()
    await outcome(tasks[0])


async def completing() -> None:
    for coro in fastloop.as_completed([give(1), fail(KeyError()), give(2, 2)]):
        await outcome(coro)
    async for done in fastloop.as_completed([give(1), give(2, 2)], timeout=1000):
        await done
    slow = asyncio.create_task(forever())
    for coro in fastloop.as_completed([slow], timeout=0):
        await outcome(coro)
    slow.cancel()
    await outcome(slow)


async def shielding() -> None:
    await fastloop.shield(give(1, 1))
    inner = asyncio.create_task(give(1, 3))
    outer = fastloop.shield(inner)
    outer.cancel()
    await outcome(outer)
    await inner
    await outcome(fastloop.shield(fail(KeyError(), 1)))


WAYS = [sleeping, gathering, timing, grouping, waiting, completing, shielding]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_leaks(loop_factory: Any, way: Callable[[], Any]) -> None:
    loop = loop_factory()

    async def often() -> None:
        for _ in range(100):
            await way()

    try:
        lost = refs_lost(lambda: loop.run_until_complete(often()))
    finally:
        loop.close()
    assert lost < 50  # freelists still grow a little


# a group that is dropped goes on waiting, as asyncio's does, and says so
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_left_alone(loop_factory: Any, way: Callable[[], Any]) -> None:
    """The loop is closed, and all dropped, at any point."""
    for steps in range(12):
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(way())
        for _ in range(steps):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del task, loop
            gc.collect()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_cancelled_at_any_point(loop_factory: Any, way: Callable[[], Any]) -> None:
    for steps in range(12):
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(way())
        for _ in range(steps):
            loop.call_soon(loop.stop)
            loop.run_forever()
        for _ in range(3):
            task.cancel()
        for _ in range(20):
            loop.call_later(0.00002, loop.stop)  # some ways wait for timers of 10 us
            loop.run_forever()
        assert task.done()
        left = asyncio.all_tasks(loop)
        for other in left:
            other.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()


def test_collected_by_the_collector_alone(loop_factory: Any) -> None:
    """Cycles through every type, found by traverse and broken by clear."""

    class Future(fastloop.Future[Any]):
        pass

    def cycles() -> None:
        loop = loop_factory()
        loop.set_exception_handler(lambda *_: None)

        async def main() -> None:
            future = Future()
            things: list[Any] = [
                fastloop.gather(future),
                fastloop.shield(future),
                fastloop.timeout(1000),
                fastloop.TaskGroup(),
                fastloop.as_completed([future], timeout=1000),
                fastloop.wait([future], timeout=1000),
                fastloop.wait_for(future, 1000),
                fastloop.sleep(1000),
            ]
            for coro in things[-3:]:
                coro.send(None)._asyncio_future_blocking = False
            things[2].things = things[3].things = things
            future.things = things  # type: ignore[attr-defined]

        loop.run_until_complete(main())
        loop.close()

    assert refs_lost(cycles) < 25


def test_made_without_init() -> None:
    for cls in (fastloop.TaskGroup, fastloop.Timeout):
        thing = cls.__new__(cls)
        repr(thing)
        for name in dir(thing):
            getattr(thing, name, None)
    group = fastloop.TaskGroup.__new__(fastloop.TaskGroup)
    with pytest.raises(RuntimeError):
        group.__aexit__(None, None, None).send(None)
    for name in ("Coroutine", "Shield", "WaitCounter", "_AsCompletedIterator"):
        with pytest.raises(TypeError):
            getattr(fastloop._core, name)()


def test_futures_made_without_init(run: Any) -> None:
    async def main() -> None:
        for wait in (
            lambda future: fastloop.wait([future]),
            lambda future: fastloop.wait_for(future, 1000),
            lambda future: fastloop.gather(future),
            lambda future: fastloop.shield(future),
        ):
            with pytest.raises(RuntimeError, match="not initialized"):
                await wait(fastloop.Future.__new__(fastloop.Future))

    run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_group_left_twice(run: Any) -> None:
    async def main() -> None:
        async def leave() -> None:
            await group.__aexit__(None, None, None)

        group = fastloop.TaskGroup()
        await group.__aenter__()
        group.create_task(fail(KeyError(), 3))
        with pytest.raises((ExceptionGroup, asyncio.CancelledError)):
            await asyncio.gather(leave(), leave())
        await turns(3)
        # dropped while it waits
        group = fastloop.TaskGroup()
        await group.__aenter__()
        task = group.create_task(forever())
        coro = group.__aexit__(None, None, None)
        coro.send(None)._asyncio_future_blocking = False
        del coro
        gc.collect()
        await turns(1)
        task.cancel()
        await turns(3)
        assert task.cancelled()

    run(asyncio.wait_for(main(), 100))


# --- what keeps a task alive --------------------------------------------------------


class Awaited:
    """What is awaited by tasks that nobody else has a reference to."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.lock = lib.Lock()
        self.event = lib.Event()
        self.semaphore = lib.Semaphore(0)
        self.condition = lib.Condition()
        self.barrier = lib.Barrier(2)
        self.empty = lib.Queue()
        self.full = lib.PriorityQueue(1)
        self.full.put_nowait(1)
        self.unfinished = lib.LifoQueue()
        self.unfinished.put_nowait(1)
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(9)]

    async def under(self, what: Any) -> None:
        async with what:
            pass

    async def wait_for_condition(self) -> None:
        async with self.condition:
            await self.condition.wait()

    async def in_group(self) -> None:
        async with self.lib.TaskGroup() as group:
            group.create_task(self.pass_on(self.futures[0]))

    async def in_time(self) -> None:
        async with self.lib.timeout(1000):
            await self.futures[1]

    async def one_by_one(self) -> None:
        for each in self.lib.as_completed([self.futures[2]]):
            await each

    async def pass_on(self, awaitable: Any) -> None:
        await awaitable

    def all(self) -> dict[str, Any]:
        lib, futures = self.lib, self.futures
        return {
            "future": self.pass_on(futures[3]),
            "group": self.in_group(),
            "timeout": self.in_time(),
            "as_completed": self.one_by_one(),
            "gather": self.pass_on(lib.gather(self.pass_on(futures[4]), futures[5])),
            "wait": lib.wait([futures[6]]),
            "wait_for": lib.wait_for(self.pass_on(futures[7]), 1000),
            "shield": self.pass_on(lib.shield(self.pass_on(futures[8]))),
            "sleep": lib.sleep(0.001),
            "acquire": self.lock.acquire(),
            "event": self.event.wait(),
            "semaphore": self.semaphore.acquire(),
            "under semaphore": self.under(self.semaphore),
            "condition": self.wait_for_condition(),
            "barrier": self.barrier.wait(),
            "get": self.empty.get(),
            "put": self.full.put(2),
            "join": self.unfinished.join(),
        }

    async def satisfy(self) -> None:
        for future in self.futures:
            future.set_result(None)
        self.lock.release()
        self.event.set()
        self.semaphore.release()
        self.semaphore.release()
        async with self.condition:
            self.condition.notify_all()
        await self.barrier.wait()
        self.empty.put_nowait(1)
        self.full.get_nowait()
        self.unfinished.get_nowait()
        self.unfinished.task_done()


def test_a_task_lives_as_long_as_what_it_waits_for(lib: Any, run: Any) -> None:
    async def main() -> None:
        awaited = Awaited(lib)
        await awaited.lock.acquire()
        ended: list[str] = []

        async def note(name: str, coro: Any) -> None:
            await coro
            ended.append(name)

        def start() -> list[str]:
            coros = awaited.all()
            for name, coro in coros.items():
                # nobody keeps the task, which is what this is about
                asyncio.get_running_loop().create_task(note(name, coro))
            return sorted(coros)

        names = start()
        await turns(5)
        for _ in range(3):
            gc.collect()
        await awaited.satisfy()
        while len(ended) < len(names):
            await lib.sleep(0.001)
        assert sorted(ended) == names

    run(asyncio.wait_for(main(), 20))


def test_a_primitive_dies_with_those_that_wait_for_it(lib: Any, run: Any) -> None:
    """A task, what it awaits and the primitive are garbage together."""

    class Lock(lib.Lock):  # type: ignore[misc]
        def __del__(self) -> None:
            died.append(1)

    died: list[int] = []

    async def hold() -> None:
        lock = Lock()
        async with lock, lock:
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # "Task was destroyed"
        for _ in range(3):
            loop.create_task(hold())  # noqa: RUF006
        await turns(3)
        gc.collect()
        assert len(died) == 3

    run(main())
