"""Tasks, and what they wait for: the primitives of asyncio.

Everything is looked up in `asyncio` when it is used, so that a library may have put
its own there.
"""

from __future__ import annotations

import asyncio
import resource
from functools import partial
from pathlib import Path
from typing import Any

from .. import native
from ..workload import Loop, Weighed, register, timed

FAMILY = "tasks"
HUNDRED = 100
tasks = partial(timed, FAMILY)


async def nothing() -> None:
    pass


async def yielding(times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def bare_spawn(n: int) -> None:
    native.import_bare().spawn(nothing, n)


def bare_spawn_hundred(n: int) -> None:
    bare_spawn(n * HUNDRED)


def bare_spawn_yielding(n: int) -> None:
    native.import_bare().spawn(yielding, n * HUNDRED)


def bare_switches(n: int) -> None:
    native.import_bare().rounds([yielding(n) for _ in range(HUNDRED)])


# --- making tasks ---------------------------------------------------------------------


@tasks("task made and awaited", floor=bare_spawn, headline=True)
async def spawn(loop: Loop, n: int) -> None:
    for _ in range(n):
        await asyncio.create_task(nothing())


@tasks("gather() of 100", each=HUNDRED, floor=bare_spawn_hundred, headline=True)
async def gather(loop: Loop, n: int) -> None:
    for _ in range(n):
        await asyncio.gather(*[nothing() for _ in range(HUNDRED)])


@tasks("gather() of 100 that each sleep(0)", each=HUNDRED, floor=bare_spawn_yielding)
async def gather_yielding(loop: Loop, n: int) -> None:
    for _ in range(n):
        await asyncio.gather(*[yielding() for _ in range(HUNDRED)])


@tasks("TaskGroup of 100", each=HUNDRED, floor=bare_spawn_hundred, headline=True)
async def taskgroup(loop: Loop, n: int) -> None:
    for _ in range(n):
        async with asyncio.TaskGroup() as group:
            for _ in range(HUNDRED):
                group.create_task(nothing())


# --- switching between them -----------------------------------------------------------


@tasks("sleep(0), among 100 tasks", each=HUNDRED, floor=bare_switches, headline=True)
async def switch(loop: Loop, n: int) -> None:
    await asyncio.gather(*[yielding(n) for _ in range(HUNDRED)])


@tasks("future set and awaited")
async def future(loop: Loop, n: int) -> None:
    for _ in range(n):
        waiter = loop.create_future()
        loop.call_soon(waiter.set_result, None)
        await waiter


@tasks("future ping-pong of two tasks", each=2)
async def ping_pong(loop: Loop, n: int) -> None:
    ping, pong = loop.create_future(), loop.create_future()

    async def player() -> None:
        nonlocal ping, pong
        for _ in range(n):
            await ping
            ping = loop.create_future()
            pong.set_result(None)

    other = asyncio.create_task(player())
    for _ in range(n):
        ping.set_result(None)
        await pong
        pong = loop.create_future()
    await other


# --- time -----------------------------------------------------------------------------


@tasks("timeout() around sleep(0)", headline=True)
async def timeout(loop: Loop, n: int) -> None:
    for _ in range(n):
        async with asyncio.timeout(60):
            await asyncio.sleep(0)


@tasks("timeouts that fire, 100 at once", each=HUNDRED)
async def timeout_fires(loop: Loop, n: int) -> None:
    async def late() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        except TimeoutError:
            pass

    for _ in range(n):
        await asyncio.gather(*[late() for _ in range(HUNDRED)])


@tasks("wait_for() of a coroutine", headline=True)
async def wait_for(loop: Loop, n: int) -> None:
    for _ in range(n):
        await asyncio.wait_for(yielding(), 60)


@tasks("sleep(0.0001), among 100 tasks", each=HUNDRED, waits=True)
async def short_sleep(loop: Loop, n: int) -> None:
    async def sleeper() -> None:
        for _ in range(n):
            await asyncio.sleep(0.0001)

    await asyncio.gather(*[sleeper() for _ in range(HUNDRED)])


# --- waiting for several --------------------------------------------------------------


@tasks("wait() for the first of 10")
async def wait_first(loop: Loop, n: int) -> None:
    pending = [loop.create_future() for _ in range(9)]
    for _ in range(n):
        first = loop.create_future()
        loop.call_soon(first.set_result, None)
        await asyncio.wait([first, *pending], return_when=asyncio.FIRST_COMPLETED)


@tasks("as_completed() of 100", each=HUNDRED)
async def as_completed(loop: Loop, n: int) -> None:
    for _ in range(n):
        for each in asyncio.as_completed([nothing() for _ in range(HUNDRED)]):
            await each


# --- synchronisation ------------------------------------------------------------------


@tasks("Semaphore, free")
async def semaphore(loop: Loop, n: int) -> None:
    free = asyncio.Semaphore(10)
    for _ in range(n):
        async with free:
            pass


async def contend(lock: Any, n: int) -> None:
    async def worker() -> None:
        for _ in range(n):
            async with lock:
                await asyncio.sleep(0)

    await asyncio.gather(*[worker() for _ in range(HUNDRED)])


@tasks("Semaphore of 10, 100 tasks", each=HUNDRED, headline=True)
async def semaphore_contended(loop: Loop, n: int) -> None:
    await contend(asyncio.Semaphore(10), n)


@tasks("Lock, 100 tasks", each=HUNDRED)
async def lock_contended(loop: Loop, n: int) -> None:
    await contend(asyncio.Lock(), n)


@tasks("Event, 100 tasks woken", each=HUNDRED)
async def event(loop: Loop, n: int) -> None:
    signal = asyncio.Event()

    async def listener() -> None:
        for _ in range(n):
            await signal.wait()
            await asyncio.sleep(0)

    listeners = [asyncio.create_task(listener()) for _ in range(HUNDRED)]
    while not all(task.done() for task in listeners):
        signal.set()
        signal.clear()
        await asyncio.sleep(0)


@tasks("Queue, one to one", headline=True)
async def queue(loop: Loop, n: int) -> None:
    pipe: asyncio.Queue[int] = asyncio.Queue(10)

    async def produce() -> None:
        for i in range(n):
            await pipe.put(i)

    producer = asyncio.create_task(produce())
    for _ in range(n):
        await pipe.get()
    await producer


@tasks("Queue, 10 workers, join()", each=HUNDRED)
async def workers(loop: Loop, n: int) -> None:
    jobs: asyncio.Queue[int] = asyncio.Queue()

    async def worker() -> None:
        while True:
            await jobs.get()
            await asyncio.sleep(0)
            jobs.task_done()

    pool = [asyncio.create_task(worker()) for _ in range(10)]
    for _ in range(n):
        for i in range(HUNDRED):
            jobs.put_nowait(i)
        await jobs.join()
    for task in pool:
        task.cancel()
    await asyncio.gather(*pool, return_exceptions=True)


@tasks("run_in_executor(), there and back", waits=True)
async def executor(loop: Loop, n: int) -> None:
    for _ in range(n):
        await loop.run_in_executor(None, int)


# --- memory ---------------------------------------------------------------------------


def resident() -> int:
    """The memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def parked_task(loop: Loop) -> float:
    count = 100_000

    async def park() -> None:
        await loop.create_future()

    before = resident()
    parked = [asyncio.ensure_future(park()) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(not task.done() for task in parked)
    return (resident() - before) / count


register(
    Weighed(
        name="parked_task",
        title="memory of a task that waits, with its frame and future",
        family=FAMILY,
        function=parked_task,
        unit="bytes",
        rounds=1,
    )
)
