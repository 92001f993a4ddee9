"""Cycles through every type are found by the garbage collector, and only those."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fastloop

from .support import Loop, LoopFactory, collect_reports, run_once, run_turns


def nothing(*args: object) -> None:
    pass


async def waits_for(awaitable: Any) -> Any:
    return await awaitable


class Thing:
    """Something that can be referred to weakly, and holds whatever it is given."""

    def __init__(self, *held: object) -> None:
        self.held = held

    def __call__(self, *args: object) -> None:
        pass


Cycle = Callable[[Loop, Thing], object]
CYCLES: dict[str, Cycle] = {}


def cycle(function: Cycle) -> Cycle:
    """Something that makes the loop hold the thing; returns what is between them."""
    CYCLES[function.__name__] = function
    return function


@cycle
def future_result(loop: Loop, thing: Thing) -> object:
    future = loop.create_future()
    future.set_result(thing)
    return future


@cycle
def future_exception(loop: Loop, thing: Thing) -> object:
    future = loop.create_future()
    exc = ValueError(thing)
    exc.future = future  # type: ignore[attr-defined]
    future.set_exception(exc)
    future.exception()
    return future


@cycle
def future_callbacks(loop: Loop, thing: Thing) -> object:
    future = loop.create_future()
    for _ in range(3):
        future.add_done_callback(thing)
    return future


@cycle
def future_cancelled(loop: Loop, thing: Thing) -> object:
    future = loop.create_future()
    future.cancel(thing)
    return future


@cycle
def future_attribute(loop: Loop, thing: Thing) -> object:
    future: Any = loop.create_future()
    future.attribute = thing
    return future


@cycle
def future_iterator(loop: Loop, thing: Thing) -> object:
    future: Any = loop.create_future()
    future.attribute = thing
    return iter(future)


@cycle
def task_waiting(loop: Loop, thing: Thing) -> object:
    future: Any = loop.create_future()
    future.attribute = thing
    task = loop.create_task(waits_for(future))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    run_once(loop)
    return task


@cycle
def task_waiting_for_itself(loop: Loop, thing: Thing) -> object:
    tasks: list[asyncio.Task[Any]] = []

    async def wait(held: Thing) -> None:
        await asyncio.sleep(0)
        await tasks[1 - tasks.index(asyncio.current_task())]  # type: ignore[arg-type]

    for _ in range(2):
        tasks.append(loop.create_task(wait(thing)))
        tasks[-1]._log_destroy_pending = False  # type: ignore[attr-defined]
    run_once(loop)
    run_once(loop)
    return tasks[0]


@cycle
def task_done(loop: Loop, thing: Thing) -> object:
    async def work() -> Thing:
        return thing

    task = loop.create_task(work())
    run_once(loop)
    return task


@cycle
def task_context(loop: Loop, thing: Thing) -> object:
    context = contextvars.copy_context()
    context.run(contextvars.ContextVar("v").set, thing)
    task = loop.create_task(asyncio.sleep(100), context=context)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    run_once(loop)
    return task


@cycle
def task_name(loop: Loop, thing: Thing) -> object:
    class Name(str):
        pass

    name = Name("name")
    name.thing = thing  # type: ignore[attr-defined]
    task = loop.create_task(asyncio.sleep(0), name=name)
    run_once(loop)
    run_once(loop)
    return task


@cycle
def handle(loop: Loop, thing: Thing) -> object:
    return loop.call_soon(thing, thing, 1)


@cycle
def handle_with_many_arguments(loop: Loop, thing: Thing) -> object:
    return loop.call_soon(nothing, *[thing] * 10)


@cycle
def handle_context(loop: Loop, thing: Thing) -> object:
    context = contextvars.copy_context()
    context.run(contextvars.ContextVar("v").set, thing)
    return loop.call_soon(nothing, context=context)


@cycle
def timer(loop: Loop, thing: Thing) -> object:
    return loop.call_later(1000, thing, thing)


@cycle
def watch(loop: Loop, thing: Thing) -> object:
    ours, peer = socket.socketpair()
    thing.held += (ours, peer)
    loop.add_reader(ours, thing, thing)
    loop.add_writer(peer, thing, thing)
    return None


@cycle
def attribute(loop: Loop, thing: Thing) -> object:
    loop.attribute = thing  # type: ignore[attr-defined]
    return None


@cycle
def exception_handler(loop: Loop, thing: Thing) -> object:
    loop.set_exception_handler(thing)
    return None


@cycle
def task_factory(loop: Loop, thing: Thing) -> object:
    loop.set_task_factory(thing)  # type: ignore[arg-type]
    return None


@cycle
def slow_duration(loop: Loop, thing: Thing) -> object:
    loop.slow_callback_duration = thing  # type: ignore[assignment]
    return None


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("name", sorted(CYCLES))
def test_a_cycle_is_collected(
    loop_factory: LoopFactory, name: str, debug: bool, closed: bool
) -> None:
    """Loop, thing and what is between, dropped together, the loop open or closed."""
    loop = loop_factory()
    loop.set_debug(debug)
    thing = Thing(loop)
    between = CYCLES[name](loop, thing)
    thing.held += (between,)
    if closed:
        loop.close()
    dead = [weakref.ref(thing), weakref.ref(loop)]
    del thing, loop, between
    gc.collect()
    gc.collect()  # what a finaliser of the first round let go
    assert [ref() for ref in dead] == [None, None]


# what the loop holds for as long as it lives
LOOP_ITSELF = {
    "attribute",
    "exception_handler",
    "slow_duration",
    "task_factory",
    "watch",
}


@pytest.mark.parametrize("name", sorted(set(CYCLES) - LOOP_ITSELF))
def test_a_cycle_is_collected_while_the_loop_lives(loop: Loop, name: str) -> None:
    thing = Thing()
    between: Any = CYCLES[name](loop, thing)
    thing.held = (between,)
    ref = weakref.ref(thing)
    if name in ("timer", "task_context"):
        between.cancel()
    run_turns(loop, 3)
    del thing, between
    gc.collect()
    assert ref() is None


class Holder(asyncio.Protocol):
    """Holds its transport, which has something to send."""

    transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"x" * 100_000)


async def connect(loop: Loop, protocols: list[Holder]) -> Any:
    """Return a server with one connection, and note both protocols."""

    def make() -> Holder:
        protocols.append(Holder())
        return protocols[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    await loop.create_connection(make, *server.sockets[0].getsockname())
    while len(protocols) < 2 or not all(p.transport for p in protocols):
        await asyncio.sleep(0.001)
    return server


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_dropped_loop_with_connections_is_collected(
    loop_factory: LoopFactory,
) -> None:
    loop = loop_factory()
    reports = collect_reports(loop)
    protocols: list[Holder] = []
    server = loop.run_until_complete(connect(loop, protocols))
    dead = [weakref.ref(thing) for thing in (loop, server, *protocols)]
    if isinstance(loop, fastloop.Loop):
        dead += [weakref.ref(protocol.transport) for protocol in protocols]
    protocols.clear()
    del loop, server
    gc.collect()
    gc.collect()
    assert [ref() for ref in dead] == [None] * len(dead)
    assert reports == []


def test_collecting_in_every_callback(loop: Loop) -> None:
    """Nothing that is in use is taken for garbage."""

    async def work(depth: int) -> int:
        gc.collect()
        if depth == 0:
            return 0
        await asyncio.sleep(0)
        gc.collect()
        parts = await asyncio.gather(*[work(depth - 1) for _ in range(2)])
        gc.collect()
        return sum(parts) + 1

    assert loop.run_until_complete(work(4)) == 15


def test_a_collection_at_every_allocation(loop: Loop) -> None:
    """The same, wherever an object is made."""

    async def work(depth: int) -> int:
        if depth == 0:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.create_future(), 0.0001)
            return 0
        handles = [loop.call_soon(nothing, *range(count)) for count in range(6)]
        loop.call_later(0, nothing).cancel()
        parts = await asyncio.gather(*[work(depth - 1) for _ in range(2)])
        handles[0].cancel()
        return sum(parts) + 1

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        assert loop.run_until_complete(work(3)) == 7
    finally:
        gc.set_threshold(*before)
