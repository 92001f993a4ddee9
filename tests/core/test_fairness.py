"""However busy the ready queue is, everything else gets its turn.

All is counted in turns of the loop or in callbacks, nothing in seconds: design.md
promises that a busy loop polls at least every 256 turns and reads the clock every 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .support import Loop, next_turns, run_once, within

POLL_BOUND = 256 + 8 + 1  # turns without a poll, as the clock is read, and our own
CLOCK_BOUND = 8 + 1
GIVE_UP = 100_000

pytestmark = pytest.mark.timeout(60)


class Busy:
    """Keeps a loop busy, and counts its turns."""

    def __init__(self, loop: Loop, load: str) -> None:
        self.loop = loop
        self.turns = 0
        self.going = True
        self.each_turn: Callable[[], None] = lambda: None
        self.tasks: list[asyncio.Task[None]] = []
        loop.call_soon(self.tick)
        LOADS[load](self)

    def tick(self) -> None:
        self.turns += 1
        assert self.turns < GIVE_UP, "starved"
        self.each_turn()
        if self.going:
            self.loop.call_soon(self.tick)

    def spawn(self, coro: Any) -> None:
        self.tasks.append(self.loop.create_task(coro))

    def run(self) -> None:
        """Run until stop(), then let the load come to its end."""
        try:
            self.loop.run_forever()
        finally:
            self.end()

    def end(self) -> None:
        self.going = False
        self.loop.run_until_complete(self.wait())

    async def wait(self) -> None:
        await asyncio.gather(*self.tasks, next_turns(3))

    def stop(self) -> None:
        self.loop.stop()


LOADS: dict[str, Callable[[Busy], None]] = {}


def load(function: Callable[[Busy], None]) -> Callable[[Busy], None]:
    LOADS[function.__name__] = function
    return function


@load
def one_chain(busy: Busy) -> None:
    """A callback that schedules itself: the tick does already."""


@load
def many_chains(busy: Busy) -> None:
    def step() -> None:
        if busy.going:
            busy.loop.call_soon(step)

    for _ in range(100):
        busy.loop.call_soon(step)


@load
def threadsafe_chains(busy: Busy) -> None:
    def step() -> None:
        if busy.going:
            busy.loop.call_soon_threadsafe(step)

    for _ in range(10):
        busy.loop.call_soon_threadsafe(step)


@load
def one_task(busy: Busy) -> None:
    async def switch() -> None:
        while busy.going:
            await asyncio.sleep(0)

    busy.spawn(switch())


@load
def many_tasks(busy: Busy) -> None:
    for _ in range(60):
        one_task(busy)


@load
def new_tasks(busy: Busy) -> None:
    async def child() -> None:
        await asyncio.sleep(0)

    async def parent() -> None:
        while busy.going:
            await asyncio.gather(*[child() for _ in range(5)])

    busy.spawn(parent())


@load
def queues(busy: Busy) -> None:
    """Two tasks that wake each other."""
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        while busy.going:
            await queue.put(1)
        await queue.put(0)

    async def consume() -> None:
        while await queue.get():
            pass

    busy.spawn(produce())
    busy.spawn(consume())


@load
def overdue_timers(busy: Busy) -> None:
    def step() -> None:
        if busy.going:
            busy.loop.call_at(0, step)

    for _ in range(10):
        busy.loop.call_later(0, step)


@load
def slow_callbacks(busy: Busy) -> None:
    """Turns that are longer than a poll can wait."""

    def step() -> None:
        time.sleep(0.0002)
        if busy.going:
            busy.loop.call_soon(step)

    busy.loop.call_soon(step)


@load
def a_descriptor_that_is_always_ready(busy: Busy) -> None:
    """And a chain of callbacks (the tick), so that the loop never sleeps."""
    ours, peer = socket.socketpair()

    def readable() -> None:
        if not busy.going:
            busy.loop.remove_reader(ours)
            ours.close()
            peer.close()

    peer.send(b"never read")
    busy.loop.add_reader(ours, readable)


loads = pytest.mark.parametrize("busy_with", sorted(LOADS))


def measure(
    loop: Loop,
    busy_with: str,
    trigger: Callable[[Callable[[], None]], None],
    times: int = 6,
) -> list[int]:
    """Return the turns between each trigger(served) and the call of served()."""
    busy = Busy(loop, busy_with)
    took: list[int] = []
    began = 0

    def begin() -> None:
        nonlocal began
        began = busy.turns
        trigger(served)

    def served() -> None:
        took.append(busy.turns - began)
        if len(took) == times:
            busy.stop()
        else:
            # at another place in the rhythm of polls
            wait(len(took) * 37)

    def wait(turns: int) -> None:
        loop.call_soon(wait, turns - 1) if turns else begin()

    loop.call_soon(begin)
    busy.run()
    return took


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    with ours, peer:
        yield ours, peer


# --- what is served -------------------------------------------------------------------


@loads
def test_a_descriptor_that_becomes_readable(loop: Loop, busy_with: str) -> None:
    with socket_pair() as (ours, peer):

        def trigger(served: Callable[[], None]) -> None:
            def readable() -> None:
                loop.remove_reader(ours)
                assert ours.recv(10) == b"data"
                served()

            loop.add_reader(ours, readable)
            peer.send(b"data")

        assert max(measure(loop, busy_with, trigger)) <= POLL_BOUND


@loads
def test_a_descriptor_that_is_writable(loop: Loop, busy_with: str) -> None:
    with socket_pair() as (ours, _):

        def trigger(served: Callable[[], None]) -> None:
            def writable() -> None:
                loop.remove_writer(ours)
                served()

            loop.add_writer(ours, writable)

        assert max(measure(loop, busy_with, trigger)) <= POLL_BOUND


@loads
def test_a_timer(loop: Loop, busy_with: str) -> None:
    """Counted from the first turn in which loop.time() has reached its deadline."""
    busy = Busy(loop, busy_with)
    due: float = loop.time() + 0.0005
    due_at: int | None = None
    took: list[int] = []

    def look() -> None:
        nonlocal due_at
        if due_at is None and loop.time() >= due:
            due_at = busy.turns

    def fire() -> None:
        nonlocal due, due_at
        assert loop.time() >= due
        # due between two looks: it came at once
        took.append(0 if due_at is None else busy.turns - due_at)
        if len(took) == 10:
            busy.stop()
            return
        due_at = None
        due = loop.time() + 0.0005
        loop.call_at(due, fire)

    busy.each_turn = look
    loop.call_at(due, fire)
    busy.run()
    assert max(took) <= CLOCK_BOUND


@loads
def test_a_timer_that_is_due_already(loop: Loop, busy_with: str) -> None:
    def trigger(served: Callable[[], None]) -> None:
        loop.call_later(0, served)

    assert max(measure(loop, busy_with, trigger)) <= CLOCK_BOUND


@loads
def test_a_call_from_another_thread(loop: Loop, busy_with: str) -> None:
    """Counted from the first turn that sees that the call was made."""
    busy = Busy(loop, busy_with)
    asked = threading.Semaphore(0)
    called_at: int | None = None
    called = threading.Event()
    took: list[int] = []

    def look() -> None:
        nonlocal called_at
        time.sleep(0)  # give the thread a chance, too
        if called_at is None and called.is_set():
            called_at = busy.turns

    def answer() -> None:
        nonlocal called_at
        took.append(0 if called_at is None else busy.turns - called_at)
        called_at = None
        called.clear()
        if len(took) == 10:
            busy.stop()
        else:
            asked.release()

    def ask() -> None:
        for _ in range(10):
            asked.acquire()
            loop.call_soon_threadsafe(answer)
            called.set()

    busy.each_turn = look
    thread = threading.Thread(target=ask)
    thread.start()
    asked.release()
    busy.run()
    thread.join()
    assert max(took) <= 2


@loads
def test_a_result_of_an_executor(loop: Loop, busy_with: str) -> None:
    """However long it takes: it comes, with the queue never empty."""

    def trigger(served: Callable[[], None]) -> None:
        def notice() -> None:
            if future.done():
                served()
            else:
                time.sleep(0)
                loop.call_soon(notice)

        future = loop.run_in_executor(None, int)
        # without a call of its own: only what the loop does brings the result
        notice()

    measure(loop, busy_with, trigger, times=3)
    loop.run_until_complete(loop.shutdown_default_executor())


@loads
def test_a_signal(loop: Loop, busy_with: str) -> None:
    def trigger(served: Callable[[], None]) -> None:
        loop.add_signal_handler(signal.SIGUSR1, served)
        signal.raise_signal(signal.SIGUSR1)

    took = measure(loop, busy_with, trigger)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert max(took) <= 2 * POLL_BOUND


class Echo(asyncio.Protocol):
    lost: asyncio.Future[None]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: object) -> None:
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Asks(asyncio.Protocol):
    served: Callable[[], None]

    def data_received(self, data: bytes) -> None:
        self.served()


@contextlib.contextmanager
def echo_connection(loop: Loop) -> Iterator[tuple[Any, Asks]]:
    echo = Echo()
    echo.lost = loop.create_future()

    async def connect() -> Any:
        server = await loop.create_server(lambda: echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        return server, *await loop.create_connection(Asks, *address)

    async def disconnect() -> None:
        server.close()
        transport.close()
        await within(echo.lost)

    server, transport, protocol = loop.run_until_complete(connect())
    try:
        yield transport, protocol
    finally:
        loop.run_until_complete(disconnect())


@loads
def test_an_answer_on_a_connection(loop: Loop, busy_with: str) -> None:
    """There and back: what both ends wait for, and the system in between."""
    with echo_connection(loop) as (transport, protocol):

        def trigger(served: Callable[[], None]) -> None:
            protocol.served = served
            transport.write(b"data")

        took = measure(loop, busy_with, trigger)
    # the kernel may deliver a packet late: but most are there at the next poll
    assert sorted(took)[len(took) // 2] <= 2 * POLL_BOUND


@loads
def test_accepting_a_connection(loop: Loop, busy_with: str) -> None:
    on_accept: list[Callable[[], None]] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.abort()
            on_accept.pop()()

    async def listen() -> Any:
        return await loop.create_server(Accepted, "127.0.0.1", 0)

    server = loop.run_until_complete(listen())
    address = server.sockets[0].getsockname()
    peers = []

    def trigger(served: Callable[[], None]) -> None:
        on_accept.append(served)
        peers.append(socket.create_connection(address))

    took = measure(loop, busy_with, trigger)
    for peer in peers:
        peer.close()
    server.close()
    loop.run_until_complete(next_turns(5))
    assert sorted(took)[len(took) // 2] <= POLL_BOUND + 5


@loads
def test_what_is_written_leaves_at_the_end_of_the_turn(
    loop: Loop, busy_with: str
) -> None:
    """The peer, a plain socket, has it one turn later."""
    ours, peer = socket.socketpair()
    peer.setblocking(False)

    async def connect() -> Any:
        return await loop.create_connection(asyncio.Protocol, sock=ours)

    transport, _ = loop.run_until_complete(connect())

    def trigger(served: Callable[[], None]) -> None:
        def look() -> None:
            try:
                assert peer.recv(10) == b"data"
            except BlockingIOError:
                loop.call_soon(look)
            else:
                served()

        transport.write(b"data")
        loop.call_soon(look)

    took = measure(loop, busy_with, trigger)
    transport.abort()
    loop.run_until_complete(next_turns(3))
    peer.close()
    assert max(took) <= 1


# --- the ready queue itself -----------------------------------------------------------


@loads
def test_a_callback_waits_for_one_turn(loop: Loop, busy_with: str) -> None:
    def trigger(served: Callable[[], None]) -> None:
        loop.call_soon(served)

    assert max(measure(loop, busy_with, trigger)) <= 1


@loads
def test_stop_ends_with_the_turn(loop: Loop, busy_with: str) -> None:
    busy = Busy(loop, busy_with)
    stopped_at: list[int] = []

    def stop() -> None:
        stopped_at.append(busy.turns)
        loop.stop()

    def wait(turns: int) -> None:
        loop.call_soon(wait, turns - 1) if turns else stop()

    loop.call_soon(wait, 20)
    loop.run_forever()
    assert busy.turns - stopped_at[0] <= 1
    busy.end()


def test_all_chains_advance_alike(loop: Loop) -> None:
    """Of callbacks, tasks and threadsafe calls: none gets ahead by more than one."""
    counts = [0] * 30
    going = True

    def call(i: int) -> None:
        counts[i] += 1
        if going:
            loop.call_soon(call, i)

    def call_threadsafe(i: int) -> None:
        counts[i] += 1
        if going:
            loop.call_soon_threadsafe(call_threadsafe, i)

    async def switch(i: int) -> None:
        while going:
            counts[i] += 1
            await asyncio.sleep(0)

    async def main() -> None:
        nonlocal going
        for i in range(10):
            loop.call_soon(call, i)
            loop.call_soon_threadsafe(call_threadsafe, i + 10)
        tasks = [loop.create_task(switch(i + 20)) for i in range(10)]
        for _ in range(1000):
            await asyncio.sleep(0)
            assert max(counts) - min(counts) <= 1
        going = False
        await asyncio.gather(*tasks)

    loop.run_until_complete(main())
    run_once(loop)
    assert min(counts) >= 999


def test_a_turn_runs_no_more_than_was_ready(loop: Loop) -> None:
    """What a turn schedules waits, even if it schedules more and more."""
    turns: list[int] = []
    ran = 0

    def grow() -> None:
        nonlocal ran
        ran += 1
        if ran < 2000:
            loop.call_soon(grow)
            loop.call_soon(grow)

    loop.call_soon(grow)
    for _ in range(11):
        before = ran
        run_once(loop)
        turns.append(ran - before)
    assert turns == [2**i for i in range(11)]
    while loop_has_work(loop, lambda: ran):
        pass


def loop_has_work(loop: Loop, count: Callable[[], int]) -> bool:
    before = count()
    run_once(loop)
    return count() != before


# --- I/O that never ends --------------------------------------------------------------


def test_callbacks_run_beside_endless_input(loop: Loop) -> None:
    """A descriptor that is always readable: a chain advances at every call of it."""
    chain = 0
    reads: list[int] = []

    def step() -> None:
        nonlocal chain
        chain += 1
        loop.call_soon(step) if len(reads) < 500 else loop.stop()

    with socket_pair() as (ours, peer):
        peer.send(b"never read")
        loop.add_reader(ours, lambda: reads.append(chain))
        loop.call_soon(step)
        loop.run_forever()
        loop.remove_reader(ours)
    assert chain >= len(reads) - 1
    assert all(after - before >= 0 for before, after in itertools.pairwise(reads))


def test_timers_run_beside_endless_input(loop: Loop) -> None:
    reads = 0
    fired = []

    def readable() -> None:
        nonlocal reads
        reads += 1
        assert reads < GIVE_UP * 10, "starved"

    with socket_pair() as (ours, peer):
        peer.send(b"never read")
        loop.add_reader(ours, readable)
        for i in range(10):
            loop.call_later(0.001 * i, fired.append, i)
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        loop.remove_reader(ours)
    assert fired == list(range(10))


def test_many_ready_descriptors_are_served_alike(loop: Loop) -> None:
    """More than one poll reports: none is called much more often than another."""
    count = 300
    calls = [0] * count
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(socket_pair()) for _ in range(count)]

        def readable(i: int) -> None:
            calls[i] += 1
            if min(calls) == 20 or max(calls) > 1000:
                loop.stop()

        for i, (ours, peer) in enumerate(pairs):
            peer.send(b"never read")
            loop.add_reader(ours, readable, i)
        loop.run_forever()
        for ours, _ in pairs:
            loop.remove_reader(ours)
    assert max(calls) <= 3 * min(calls)


def test_a_flood_on_one_connection_leaves_the_others_alone(loop: Loop) -> None:
    """Answers on one connection, counted in reads of another that never pauses."""
    flood_reads = 0
    waited: list[int] = []

    class Flooded(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            nonlocal flood_reads
            flood_reads += 1
            assert flood_reads < GIVE_UP, "starved"

    async def main() -> None:
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        flooded, _ = await loop.create_connection(Flooded, sock=ours)

        def pour() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    peer.send(bytes(1 << 16))

        loop.add_writer(peer, pour)
        with contextlib.closing(peer):
            for _ in range(30):
                began = flood_reads
                answer = loop.create_future()
                protocol.served = lambda answer=answer: answer.set_result(None)  # type: ignore[misc]
                transport.write(b"data")
                await answer
                waited.append(flood_reads - began)
            loop.remove_writer(peer)
            flooded.abort()
            await asyncio.sleep(0.001)

    with echo_connection(loop) as (transport, protocol):
        loop.run_until_complete(main())
    # a poll may read one connection 32 times before it looks at the next
    assert sorted(waited)[len(waited) // 2] <= 4 * 32
