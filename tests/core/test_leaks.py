"""Nothing leaks: not a block of memory, a reference, an object or a descriptor.

Each scenario is what a program may do over and over.  In a steady state, one more
round of it must leave everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import io
import os
import signal
import socket
import sys
import threading
import tracemalloc
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

import fastloop
from fastloop import _core

from .support import Loop, collect_reports, next_turns, run_once, run_turns, within

NATIVE_TYPES = [
    *(value for value in vars(_core).values() if isinstance(value, type)),
    fastloop.Loop,
    fastloop.Server,
]
ROUNDS = 20

Scenario = Callable[[Loop], object]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def nothing(*args: object) -> None:
    pass


def fail(*args: object) -> None:
    raise ValueError("failed")


async def waits_for(awaitable: Any) -> Any:
    return await awaitable


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("failed")


# --- callbacks -----------------------------------------------------------------------


@scenario
def callbacks(loop: Loop) -> None:
    for count in (0, 1, 2, 3, 4, 7):
        loop.call_soon(nothing, *range(1000, 1000 + count))
        loop.call_soon(nothing, *range(1000, 1000 + count)).cancel()
        loop.call_soon_threadsafe(nothing, context=contextvars.copy_context())
    run_once(loop)


@scenario
def callbacks_that_fail(loop: Loop) -> None:
    reports = collect_reports(loop)
    loop.call_soon(fail, object())
    loop.call_later(0, fail)
    run_turns(loop, 2)
    reports.clear()


@scenario
def callbacks_that_end_the_run(loop: Loop) -> None:
    def leave() -> None:
        raise SystemExit

    loop.call_soon(leave)
    loop.call_soon(nothing, 1)
    with contextlib.suppress(SystemExit):
        loop.run_forever()
    run_once(loop)


@scenario
def wrong_arguments(loop: Loop) -> None:
    reports = collect_reports(loop)
    for use in (
        lambda: loop.call_soon(),  # type: ignore[call-arg]
        lambda: loop.call_soon(nothing, unknown=1),  # type: ignore[call-arg]
        lambda: loop.call_soon(nothing, context=1),  # type: ignore[arg-type]
        lambda: loop.call_later("soon", nothing),  # type: ignore[arg-type]
        lambda: loop.call_at(None, nothing),  # type: ignore[arg-type]
        lambda: loop.create_task(nothing),  # type: ignore[arg-type]
        lambda: loop.create_task(),  # type: ignore[call-arg]
        lambda: loop.add_reader("file", nothing),
        lambda: loop.add_reader(-1, nothing),
        lambda: loop.add_reader(10**6, nothing),
        lambda: loop.remove_writer(object()),  # type: ignore[arg-type]
        lambda: loop.set_task_factory(1),  # type: ignore[arg-type]
        lambda: loop.set_exception_handler(1),  # type: ignore[arg-type]
        lambda: fastloop.Future(loop=1),  # type: ignore[arg-type]
        lambda: fastloop.Future(1),  # type: ignore[call-arg]
        lambda: fastloop.Task(1, loop=loop),  # type: ignore[arg-type]
        lambda: loop.create_future().add_done_callback(),  # type: ignore[call-arg]
        lambda: loop.create_future().cancel(1, 2),  # type: ignore[call-arg]
        lambda: loop.create_future().result(),
        lambda: loop.create_future().set_exception(1),  # type: ignore[arg-type]
        lambda: loop.create_future().set_exception(StopIteration),
    ):
        with contextlib.suppress(Exception):
            use()
    run_once(loop)
    gc.collect()
    reports.clear()


@scenario
def a_task_with_a_wrong_context_or_name(loop: Loop) -> None:
    class NoName:
        def __str__(self) -> str:
            raise ValueError

    reports = collect_reports(loop)
    for options in ({"context": 1}, {"name": NoName()}):
        coro = waits_for(None)
        with contextlib.suppress(Exception):
            loop.create_task(coro, **options)  # type: ignore[arg-type]
        coro.close()
    gc.collect()
    run_turns(loop, 2)
    reports.clear()


@scenario
def timers(loop: Loop) -> None:
    handles = [loop.call_later(1000 + i % 7, nothing, i) for i in range(50)]
    for handle in handles[::2] + handles[1::2]:
        handle.cancel()
    for i in range(10):
        loop.call_later(0, nothing, i)
        loop.call_at(loop.time() - i, nothing, context=contextvars.copy_context())
    run_turns(loop, 2)
    assert handles[0] == handles[0] != handles[1]
    assert handles[0] < handles[1] or handles[0] > handles[1] or True
    assert hash(handles[0]) == hash(handles[0].when())


@scenario
def attributes(loop: Loop) -> None:
    """All there is to look at, of everything."""
    future: Any = loop.create_future()
    task: Any = loop.create_task(waits_for(future))
    handle: Any = loop.call_soon(nothing, 1, 2)
    timer: Any = loop.call_later(1000, nothing, 1, 2, 3, 4)
    run_once(loop)
    for thing in (future, task, handle, timer, loop):
        for name in dir(thing):
            with contextlib.suppress(Exception):
                getattr(thing, name)
        repr(thing), str(thing), hash(thing)
        isinstance(thing, asyncio.Task)
        with contextlib.suppress(Exception):
            thing.new_attribute = object()
    asyncio.all_tasks(loop)
    task.get_stack()
    task.print_stack(file=io.StringIO())
    task.set_name("name")
    future._cancel_message = "message"
    timer.cancel()
    task.cancel()
    run_turns(loop, 2)
    repr(task)
    if isinstance(loop, fastloop.Loop):
        del loop.__dict__["new_attribute"]


# --- futures and tasks ---------------------------------------------------------------


@scenario
def futures(loop: Loop) -> None:
    for finish in (
        lambda future: future.set_result(object()),
        lambda future: future.set_exception(ValueError(object())),
        lambda future: future.cancel(object()),
        lambda future: None,
    ):
        future = loop.create_future()
        for _ in range(5):
            future.add_done_callback(lambda _: None)
        future.add_done_callback(nothing)
        future.add_done_callback(nothing, context=contextvars.copy_context())
        future.remove_done_callback(nothing)
        finish(future)
        run_once(loop)
        for _ in range(2):
            with contextlib.suppress(BaseException):
                future.result()
            with contextlib.suppress(BaseException):
                future.exception()
        future.add_done_callback(nothing)
        run_once(loop)


@scenario
def exceptions_that_are_never_retrieved(loop: Loop) -> None:
    reports = collect_reports(loop)
    loop.create_future().set_exception(ValueError("lost"))
    loop.create_task(fails())
    run_turns(loop, 3)
    gc.collect()
    assert len(reports) == 2
    reports.clear()


@scenario
def tasks_that_are_destroyed(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def forgotten() -> None:
        await loop.create_future()

    for _ in range(3):
        loop.create_task(forgotten())
    run_once(loop)
    gc.collect()
    assert len(reports) == 3
    reports.clear()


@scenario
def many_tasks(loop: Loop) -> None:
    async def tree(depth: int) -> int:
        if depth == 0:
            await asyncio.sleep(0)
            return 1
        return sum(await asyncio.gather(*[tree(depth - 1) for _ in range(3)]))

    assert loop.run_until_complete(tree(3)) == 27


@scenario
def tasks_that_fail_or_are_cancelled(loop: Loop) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = [
            loop.create_task(fails()),
            loop.create_task(waits_for(loop.create_future())),
            loop.create_task(asyncio.sleep(1000)),
            loop.create_task(waits_for(loop.create_task(fails()))),
            loop.create_task(asyncio.wait_for(loop.create_future(), 0.0001)),
            loop.create_task(waits_for(asyncio.shield(loop.create_future()))),
        ]
        never = loop.create_task(asyncio.sleep(1000), name="never started")
        never.cancel("message")
        await next_turns(2)
        for task in tasks[:-2]:
            task.cancel(object())
            task.uncancel()
        await asyncio.wait(tasks[:-1])
        tasks[-1].cancel()
        await asyncio.wait([tasks[-1], never])
        for task in tasks:
            task.cancelled() or task.exception()

    loop.run_until_complete(main())


@scenario
def tasks_that_wait_for_each_other(loop: Loop) -> None:
    """Cycles of tasks, and the iterators of their awaits, dropped together."""
    tasks: list[Any] = []

    async def wait(other: int) -> None:
        await asyncio.sleep(0)
        await asyncio.shield(tasks[other])

    for i in range(3):
        tasks.append(loop.create_task(wait((i + 1) % 3)))
        tasks[-1]._log_destroy_pending = False
    run_turns(loop, 3)
    tasks.clear()


@scenario
def bare_awaits(loop: Loop) -> None:
    """The iterator of a future by itself, run to its end, thrown into, or dropped."""
    for finish in (lambda f: f.set_result(1), lambda f: f.set_exception(ValueError())):
        future: Any = loop.create_future()
        iterators = [future.__await__() for _ in range(4)]
        for iterator in iterators[:3]:
            next(iterator)
            future._asyncio_future_blocking = False
        finish(future)
        with contextlib.suppress(StopIteration, ValueError):
            iterators[0].send(None)
        with contextlib.suppress(KeyError):
            iterators[1].throw(KeyError("thrown"))
        iterators[2].close()
    run_once(loop)


@scenario
def subclasses(loop: Loop) -> None:
    class Future(fastloop.Future[Any]):
        pass

    class Task(fastloop.Task[Any]):
        __slots__ = ("slot",)

    async def main() -> None:
        future = Future(loop=loop)
        task = Task(waits_for(future), loop=loop)
        task.slot = task
        assert isinstance(task, asyncio.Task)
        await next_turns()
        future.set_result(1)
        await task

    loop.run_until_complete(main())


@scenario
def both_kinds(loop: Loop) -> None:
    async def main() -> None:
        for future, kind in (
            (fastloop.Future(loop=loop), asyncio.Task),
            (asyncio.Future(loop=loop), fastloop.Task),
        ):
            task: Any = kind(waits_for(future), loop=loop)
            await next_turns()
            future.set_result(1)
            await task
            assert kind(waits_for(future), loop=loop) in asyncio.all_tasks()
        await next_turns(2)

    loop.run_until_complete(main())


@scenario
def eager_tasks(loop: Loop) -> None:
    if sys.version_info < (3, 12):
        return

    async def main() -> None:
        loop.set_task_factory(asyncio.create_eager_task_factory(fastloop.Task))
        await asyncio.gather(waits_for(asyncio.sleep(0)), waits_for(next_turns()))
        assert loop.create_task(next_turns(0)).done()
        with contextlib.suppress(ValueError):
            await loop.create_task(waits_for(fails()))

    loop.run_until_complete(main())
    loop.set_task_factory(None)


@scenario
def generators(loop: Loop) -> None:
    async def count() -> AsyncGenerator[int, None]:
        try:
            for i in range(10):
                yield i
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)

    async def main() -> None:
        async for i in count():
            if i == 3:
                break
        gc.collect()
        await next_turns(4)

    loop.run_until_complete(main())


@scenario
def the_library(loop: Loop) -> None:
    async def main() -> None:
        lock, event, queue = asyncio.Lock(), asyncio.Event(), asyncio.Queue[int](1)
        async with lock, asyncio.timeout(100), asyncio.TaskGroup() as group:
            group.create_task(waits_for(event.wait()))
            group.create_task(waits_for(queue.get()))
            waits = group.create_task(waits_for(lock.acquire()))
            await next_turns()
            waits.cancel()
            await queue.put(1)
            event.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await event.wait()
                await loop.create_future()
        for next_done in asyncio.as_completed([next_turns(i) for i in range(3)]):
            await next_done
        await asyncio.gather(fails(), next_turns(), return_exceptions=True)

    loop.run_until_complete(main())


# --- threads, signals, descriptors ---------------------------------------------------


@scenario
def executor(loop: Loop) -> None:
    async def main() -> None:
        await asyncio.gather(*[loop.run_in_executor(None, nothing) for _ in range(5)])
        with contextlib.suppress(ValueError):
            await asyncio.to_thread(fail)

    loop.run_until_complete(main())


@scenario
def calls_from_a_thread(loop: Loop) -> None:
    def call() -> None:
        for i in range(100):
            loop.call_soon_threadsafe(nothing, i)
        with contextlib.suppress(ValueError):
            asyncio.run_coroutine_threadsafe(fails(), loop).result()
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=call)
    thread.start()
    loop.run_forever()
    thread.join()


@scenario
def signals(loop: Loop) -> None:
    loop.add_signal_handler(signal.SIGUSR2, loop.stop)
    signal.raise_signal(signal.SIGUSR2)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR2)


@scenario
def watched_descriptors(loop: Loop) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        loop.add_writer(ours, nothing)
        loop.add_writer(ours.fileno(), loop.stop)
        loop.add_reader(ours, nothing, object())
        loop.run_forever()
        loop.remove_writer(ours)
        peer.send(b"data")
        run_once(loop)
        loop.remove_reader(ours)
        assert not loop.remove_reader(ours)


class Echo(asyncio.Protocol):
    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.writelines([data[:1], bytearray(data[1:])])


class Fails(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket")
        fail()

    def connection_lost(self, exc: object) -> None:
        fail()


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(100)

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        pass


def _factory_that_fails() -> Any:
    raise ValueError("failed")


@scenario
def connections(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def main() -> None:
        for factory in (Echo, Fails, Buffered, _factory_that_fails):
            server = await loop.create_server(factory, "127.0.0.1", 0)
            (listening,) = server.sockets
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(b"data")
            if factory is Echo:
                await writer.drain()
                assert await reader.readexactly(4) == b"data"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0)
            repr(writer.transport)
            writer.get_extra_info("peername")
            writer.transport.abort()
            server.close()
            if sys.version_info >= (3, 13):
                server.abort_clients()
            with contextlib.suppress(OSError):
                await within(writer.wait_closed())
            await within(server.wait_closed())
            await next_turns(5)

    loop.run_until_complete(main())
    run_turns(loop, 5)
    reports.clear()


@scenario
def connections_that_fail(loop: Loop) -> None:
    async def main() -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with contextlib.suppress(ConnectionError):
                await loop.create_connection(Echo, *bound.getsockname())
            with contextlib.suppress(OSError):
                await loop.create_server(Echo, *bound.getsockname())
            task = loop.create_task(loop.create_connection(Echo, *bound.getsockname()))
            await next_turns()
            task.cancel()
            await asyncio.wait([task])
            task.cancelled() or task.exception()

    loop.run_until_complete(main())


# --- loops ---------------------------------------------------------------------------


def like(loop: Loop) -> Loop:
    """A new loop of the same kind."""
    made: Any = type(loop)
    return made()


@scenario
def loops(loop: Loop) -> None:
    """Closed with everything pending."""
    other = like(loop)
    collect_reports(other)
    other.call_soon(nothing, other)
    other.call_later(1000, nothing, other)
    task: Any = other.create_task(waits_for(other.create_future()))
    task._log_destroy_pending = False
    run_once(other)
    other.add_signal_handler(signal.SIGUSR2, nothing)
    other.call_soon(nothing, other)
    other.close()


@scenario
def loops_that_are_dropped(loop: Loop) -> None:
    other = like(loop)
    other.call_soon(nothing, other)
    other.run_until_complete(asyncio.sleep(0))
    ours, peer = socket.socketpair()
    other.add_reader(ours, nothing, other)
    del other
    gc.collect()
    ours.close()
    peer.close()


@scenario
def loops_with_connections(loop: Loop) -> None:
    async def main() -> None:
        server = await other.create_server(Echo, "127.0.0.1", 0)
        await other.create_connection(Echo, *server.sockets[0].getsockname())
        await asyncio.sleep(0.001)
        for sock in server._sockets:  # type: ignore[attr-defined]
            other.call_soon(sock.close)

    other = like(loop)
    other.run_until_complete(main())
    run_once(other)
    other.close()


@scenario
def runs(loop: Loop) -> None:
    async def main() -> None:
        asyncio.create_task(asyncio.sleep(1000))  # noqa: RUF006
        await asyncio.to_thread(nothing)

    with asyncio.Runner(loop_factory=lambda: like(loop)) as runner:
        runner.run(main())
    asyncio.set_event_loop(None)


@scenario
def runs_in_threads(loop: Loop) -> None:
    def run() -> None:
        other = like(loop)
        other.run_until_complete(next_turns(3))
        other.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- looking for what is left --------------------------------------------------------


def descriptors() -> set[str]:
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    numbers = set()
    for number in os.listdir(folder):
        with contextlib.suppress(OSError):
            os.fstat(int(number))
            numbers.add(number)
    return numbers


def count_objects() -> Counter[str]:
    gc.collect()
    return Counter(type(thing).__qualname__ for thing in gc.get_objects())


def count_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def growing(
    measure: Callable[[], int], make: Callable[[], object], rounds: int = 20
) -> list[int]:
    """Measure batches of rounds until one has added less than one a round.

    Returns [] then, or what all batches have added: a cache that fills (CPython has
    many, and so have we) comes to an end, a leak never does.
    """
    added = []
    for _ in range(20):
        before = measure()
        for _ in range(rounds):
            make()
        added.append(measure() - before)
        if added[-1] < rounds:
            return []
    return added


def settle(make: Callable[[], object]) -> None:
    """Threads of an executor are started, modules imported."""
    for _ in range(5):
        make()


all_scenarios = pytest.mark.parametrize("name", sorted(SCENARIOS))
ignoring_warnings = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@ignoring_warnings
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@all_scenarios
def test_leak_of_memory(fast_loop: fastloop.Loop, name: str, debug: bool) -> None:
    """Not one block a round; that a cache grows now and then is no leak."""
    fast_loop.set_debug(debug)
    fast_loop.slow_callback_duration = 1000
    assert growing(count_blocks, lambda: SCENARIOS[name](fast_loop)) == []
    fast_loop.set_exception_handler(None)


@ignoring_warnings
@all_scenarios
def test_leak_of_references(fast_loop: fastloop.Loop, name: str) -> None:
    """To types, to the loop, and to what every program shares."""
    shared: list[Any] = [
        *NATIVE_TYPES,
        fast_loop,
        nothing,
        asyncio.Future,
        asyncio.Task,
        asyncio.CancelledError,
        contextvars.Context,
    ]

    def count_references() -> int:
        gc.collect()
        return sum(map(sys.getrefcount, shared))

    settle(lambda: SCENARIOS[name](fast_loop))
    assert growing(count_references, lambda: SCENARIOS[name](fast_loop), 10) == []
    fast_loop.set_exception_handler(None)


@ignoring_warnings
@all_scenarios
def test_leak_of_objects_and_descriptors(fast_loop: fastloop.Loop, name: str) -> None:
    settle(lambda: SCENARIOS[name](fast_loop))
    open_before = descriptors()
    for _ in range(10):
        before = count_objects()
        for _ in range(ROUNDS):
            SCENARIOS[name](fast_loop)
        added = count_objects() - before
        if not [kind for kind, count in added.items() if count >= ROUNDS // 2]:
            break
    else:
        raise AssertionError(added)
    assert descriptors() == open_before
    fast_loop.set_exception_handler(None)


@ignoring_warnings
@all_scenarios
def test_scenarios_run_on_asyncio(name: str) -> None:
    """They are what programs do: not fitted to fastloop."""
    loop = asyncio.new_event_loop()
    SCENARIOS[name](loop)
    SCENARIOS[name](loop)
    loop.set_exception_handler(None)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()


def test_leak_of_memory_that_python_does_not_count() -> None:
    """What libuv and the lists take: the process does not grow, loop by loop."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def rounds(count: int) -> None:
        for _ in range(count):
            loop = fastloop.new_event_loop()
            connections(loop)
            timers(loop)
            loop.close()
        gc.collect()

    rounds(50)
    before = resident()
    rounds(150)
    assert resident() - before < 4 << 20  # a loop and a connection take 100 KiB


def test_leak_seen_by_tracemalloc(fast_loop: fastloop.Loop) -> None:
    """Memory by the line that takes it, over all scenarios of tasks and callbacks."""

    def make() -> None:
        for name in ("callbacks", "timers", "futures", "many_tasks", "bare_awaits"):
            SCENARIOS[name](fast_loop)

    def traced() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] // 16  # what an object takes at least

    tracemalloc.start()
    try:
        assert growing(traced, make, 50) == []
    finally:
        tracemalloc.stop()


def test_leak_of_closed_loops() -> None:
    """Hundreds, each used and closed: all die, and give their descriptors back."""
    loop = fastloop.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    before = descriptors()
    refs = []
    for _ in range(300):
        loop = fastloop.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.add_reader(0, nothing) if os.isatty(0) else None
        loop.close()
        refs.append(weakref.ref(loop))
    assert descriptors() == before
    del loop
    gc.collect()
    assert [ref for ref in refs if ref() is not None] == []


def test_leak_of_many_loops_at_once() -> None:
    before = descriptors()
    loops = [fastloop.new_event_loop() for _ in range(50)]
    for loop in loops:
        loop.call_soon(loop.stop)
    for loop in loops:
        loop.run_forever()
    for loop in loops[::2] + loops[1::2]:
        loop.close()
    assert descriptors() == before


def test_leak_when_there_are_no_descriptors_left() -> None:
    """A loop that cannot be made leaves nothing behind, and says why."""
    resource = pytest.importorskip("resource")
    first = fastloop.new_event_loop()
    first.run_until_complete(asyncio.sleep(0.001))
    first.close()
    gc.collect()
    before = descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(map(int, before)) + 1
    try:
        for limit in range(top, top + 6):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                loop = fastloop.new_event_loop()
            except OSError as exc:
                assert "open files" in str(exc)
                continue
            coro = asyncio.sleep(0)
            try:
                loop.run_until_complete(coro)
            except OSError as exc:  # what a run opens
                assert "open files" in str(exc)
                coro.close()
            finally:
                loop.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
