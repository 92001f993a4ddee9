"""Each descriptor has one owner at each instant, and is closed once.

A second close() of a number is the worst of bugs: by then the number may be another
connection's.  So every number that is given back is taken at once, by a decoy.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import tempfile
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from io_support import (
    HOST,
    Echo,
    Loop,
    LoopFactory,
    Recorder,
    asleep,
    blackhole,
    collect_reports,
    descriptors,
    facing,
    isolated,
    receive,
    refusing,
    run_once,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
    warm_up,
)

import fastloop

# --- the detector -------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def open_what_stays_open() -> None:
    """libuv's first loop opens a pair of descriptors for the life of the process."""
    loop = fastloop.new_event_loop()
    loop.run_until_complete(warm_up())
    loop.close()


class Guard:
    """Sees who closes what, turn by turn."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._before = self._seen = descriptors()
        self._decoys: set[int] = set()

    def look(self) -> None:
        """Call it after every turn."""
        now = descriptors()
        assert self._decoys <= now, "a descriptor was closed twice"
        for number in self._seen - now:
            os.dup2(self._file.fileno(), number, inheritable=False)
            self._decoys.add(number)
        self._seen = now | self._decoys

    def left(self) -> set[int]:
        """What was opened and is not closed."""
        return descriptors() - self._decoys - self._before

    def close(self) -> None:
        """All is over: is every descriptor back, and the decoys untouched?"""
        self.look()
        identity = os.fstat(self._file.fileno())
        for number in self._decoys:
            assert os.path.sameopenfile(self._file.fileno(), number), identity
            os.close(number)
        assert self.left() == set()
        assert self._before - self._decoys <= descriptors()
        self._file.close()


def test_guard_sees_a_second_close() -> None:
    guard = Guard()
    number = os.dup(0)
    guard.look()
    os.close(number)
    guard.look()
    os.close(number)
    with pytest.raises(AssertionError, match="closed twice"):
        guard.look()
    guard._file.close()


def turn(loop: Loop, guard: Guard, condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds, looking after each turn."""
    for _ in range(2000):
        if condition():
            return
        loop.call_later(0.001, loop.stop)
        loop.run_forever()
        guard.look()
    raise AssertionError(f"waited in vain, left: {guard.left()}")


# --- cancelled at every step --------------------------------------------------------

Operation = Coroutine[Any, Any, Any]
Scenario = Callable[[Loop], contextlib.AbstractContextManager[Operation]]


def give_up(result: Any) -> None:
    """Close what an operation has given us."""
    if isinstance(result, tuple):
        result[0].abort()
    elif result is not None:
        result.close()


def cancel_at_every_step(factory: LoopFactory, scenario: Scenario) -> None:
    """Start the operation, let some turns go by, and cancel it: for each number."""
    loop = factory()
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(warm_up())
    for steps in range(200):
        guard = Guard()
        with scenario(loop) as operation:
            guard.look()
            task = loop.create_task(operation)
            for _ in range(steps):
                run_once(loop)
                guard.look()
            completed = task.done()
            task.cancel()
            turn(loop, guard, task.done)
            if not task.cancelled() and task.exception() is None:
                give_up(task.result())
        del task, operation
        turn(loop, guard, lambda: not guard.left())  # noqa: B023
        loop.run_until_complete(turns())
        guard.close()
        if completed:
            break
    else:
        raise AssertionError("the operation does not end")
    assert steps > 1
    loop.close()


@contextlib.contextmanager
def connecting(loop: Loop, **options: Any) -> Iterator[Operation]:
    with socket.create_server((HOST, 0)) as listening:
        yield loop.create_connection(Recorder, *listening.getsockname(), **options)


def to_name(loop: Any, *addresses: Any, **options: Any) -> Operation:
    """create_connection() to a name that stands for these addresses."""

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        found = addresses if host == "name.test" else [(host, port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", to) for to in found]

    loop.getaddrinfo = getaddrinfo
    return loop.create_connection(Recorder, "name.test", 1, **options)


@contextlib.contextmanager
def connecting_to_a_name(loop: Loop) -> Iterator[Operation]:
    with refusing() as refused, socket.create_server((HOST, 0)) as listening:
        yield to_name(loop, refused, refused, listening.getsockname())


@contextlib.contextmanager
def connecting_happily(loop: Loop) -> Iterator[Operation]:
    with (
        blackhole() as silent,
        refusing() as refused,
        socket.create_server((HOST, 0)) as listening,
    ):
        to = silent, refused, silent, listening.getsockname()
        yield to_name(loop, *to, happy_eyeballs_delay=0.0001)


async def in_vain(loop: Loop, begin: Callable[[], Operation]) -> None:
    """Wait for the operation, for some turns: on any machine there are as many."""

    def give_up(turns: int) -> None:
        nonlocal waiting
        if turns:
            waiting = loop.call_soon(give_up, turns - 1)
        else:
            scope.reschedule(0)

    waiting = loop.call_soon(give_up, 10)
    try:
        async with asyncio.timeout(None) as scope:
            await begin()
        raise AssertionError("it did not wait")
    except TimeoutError:
        pass
    finally:
        waiting.cancel()


@contextlib.contextmanager
def connecting_in_vain(loop: Loop) -> Iterator[Operation]:
    with blackhole() as silent:
        yield in_vain(loop, lambda: to_name(loop, silent))


@contextlib.contextmanager
def taking_over_a_socket(loop: Loop) -> Iterator[Operation]:
    ours, peer = tcp_pair()
    with peer, ours:  # cancelled before it began, it is still the caller's
        yield loop.create_connection(Recorder, sock=ours)


@contextlib.contextmanager
def taking_over_an_accepted_socket(loop: Loop) -> Iterator[Operation]:
    ours, peer = tcp_pair()
    with peer, ours:
        yield loop.connect_accepted_socket(Recorder, ours)


@contextlib.contextmanager
def connecting_a_socket(loop: Loop) -> Iterator[Operation]:
    with socket.create_server((HOST, 0)) as listening, socket.socket() as sock:
        sock.setblocking(False)
        yield loop.sock_connect(sock, listening.getsockname())
        assert sock.fileno() >= 0  # it stays the caller's


@contextlib.contextmanager
def connecting_a_socket_in_vain(loop: Loop) -> Iterator[Operation]:
    with blackhole() as silent, socket.socket() as sock:
        sock.setblocking(False)
        yield in_vain(loop, lambda: loop.sock_connect(sock, silent))
        assert sock.fileno() >= 0
        assert loop.remove_writer(sock) is False


@contextlib.contextmanager
def streaming(loop: Loop) -> Iterator[Operation]:
    """asyncio.open_connection(), its answer closed by its writer."""

    async def open_and_close(port: int) -> None:
        _, writer = await asyncio.open_connection(HOST, port)
        writer.close()
        await writer.wait_closed()

    with socket.create_server((HOST, 0)) as listening:
        yield open_and_close(listening.getsockname()[1])


@contextlib.contextmanager
def serving(loop: Any, ssl: Any = None) -> Iterator[int]:
    """A server on the same loop; yields its port."""
    server = loop.run_until_complete(loop.create_server(Echo, HOST, 0, ssl=ssl))
    yield server.sockets[0].getsockname()[1]
    server.close()


@contextlib.contextmanager
def connecting_by_tls(loop: Loop) -> Iterator[Operation]:
    with serving(loop, ssl=tls_server()) as port:
        yield loop.create_connection(Recorder, HOST, port, ssl=tls_client())


@contextlib.contextmanager
def taking_over_for_tls(loop: Loop) -> Iterator[Operation]:
    with (
        serving(loop, ssl=tls_server()) as port,
        socket.create_connection((HOST, port)) as sock,
    ):
        yield loop.create_connection(
            Recorder, sock=sock, ssl=tls_client(), server_hostname="localhost"
        )


@contextlib.contextmanager
def starting_tls(loop: Loop) -> Iterator[Operation]:
    async def upgrade(transport: Any, protocol: Any) -> tuple[Any, Any]:
        tls = await loop.start_tls(
            transport, protocol, tls_client(), server_hostname="localhost"
        )
        return tls, protocol

    class Upgraded(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.upgrading = loop.create_task(self.upgrade())

        async def upgrade(self) -> None:
            with contextlib.suppress(OSError):
                await loop.start_tls(
                    self.transport, self, tls_server(), server_side=True
                )

    server = loop.run_until_complete(loop.create_server(Upgraded, HOST, 0))
    address = server.sockets[0].getsockname()
    made = loop.run_until_complete(loop.create_connection(Recorder, *address))
    yield upgrade(*made)
    made[0].abort()
    server.close()


SCENARIOS: list[Scenario] = [
    connecting,
    connecting_to_a_name,
    connecting_in_vain,
    taking_over_a_socket,
    taking_over_an_accepted_socket,
    connecting_a_socket,
    connecting_a_socket_in_vain,
    streaming,
    connecting_by_tls,
    taking_over_for_tls,
    starting_tls,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_cancelled_at_every_step(loop_factory: LoopFactory, scenario: Scenario) -> None:
    cancel_at_every_step(loop_factory, scenario)


def test_race_cancelled_at_every_step() -> None:
    """asyncio loses a socket that wins at that very moment."""
    cancel_at_every_step(fastloop.new_event_loop, connecting_happily)


def test_server_cancelled_at_every_step() -> None:
    """A server that nobody got does not listen; on asyncio it does, for ever."""

    @contextlib.contextmanager
    def scenario(loop: Any) -> Iterator[Operation]:
        yield loop.create_server(Recorder, [HOST, "127.0.0.2"], 0)

    cancel_at_every_step(fastloop.new_event_loop, scenario)


# --- ended at every step ------------------------------------------------------------


def end_at_every_step(
    factory: LoopFactory, end: Callable[[Any, Any], None], **options: Any
) -> None:
    """Accept two connections, let some turns go by, and end it all: for each number."""
    for steps in range(12):
        guard = Guard()
        loop: Any = factory()
        loop.set_exception_handler(lambda *_: None)
        server = loop.run_until_complete(loop.create_server(Echo, HOST, 0, **options))
        address = server.sockets[0].getsockname()
        with socket.create_connection(address), socket.create_connection(address) as b:
            b.send(b"data")
            for _ in range(steps):
                run_once(loop)
                guard.look()
            end(loop, server)
            guard.look()
        if not loop.is_closed():
            clients = loop.run_until_complete(asyncio.sleep(0.001))
            turn(loop, guard, lambda: not clients)  # noqa: B023
            loop.close()
        guard.look()
        del loop, server
        gc.collect()
        guard.close()


def close_server(loop: Any, server: Any) -> None:
    server.close()
    run_once(loop)


def close_loop(loop: Any, server: Any) -> None:
    loop.close()


def abort_clients(loop: Any, server: Any) -> None:
    server.close()
    server.abort_clients()
    run_once(loop)


@pytest.mark.parametrize("end", [close_server, close_loop, abort_clients])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_server_ended_at_every_step(end: Callable[[Any, Any], None], tls: bool) -> None:
    options = {"ssl": tls_server()} if tls else {}
    end_at_every_step(fastloop.new_event_loop, end, **options)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_loop_closed_at_every_step_of_connecting() -> None:
    for steps in range(12):
        guard = Guard()
        loop = fastloop.new_event_loop()
        ours, peer = tcp_pair()
        with socket.create_server((HOST, 0)) as listening, peer:
            tasks = [
                loop.create_task(operation)
                for operation in (
                    loop.create_connection(Recorder, *listening.getsockname()),
                    loop.create_connection(Recorder, sock=ours),
                )
            ]
            for _ in range(steps):
                run_once(loop)
                guard.look()
            loop.close()
            guard.look()
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.get_coro().close()  # type: ignore[union-attr]
        del loop, tasks, task, ours
        gc.collect()
        guard.close()


# --- the socket in the user's hands -------------------------------------------------


def test_user_goes_on_using_the_socket(loop: Loop) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        assert ours.fileno() >= 0
        assert ours.getpeername() == peer.getsockname()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        transport.write(b"data")
        assert await receive(peer, 4) == b"data"
        transport.close()
        await until(lambda: ours.fileno() == -1)
        assert await receive(peer) == b""
        with pytest.raises(OSError):
            ours.getpeername()
        ours.close()
        peer.close()

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["close", "with", "forget"])
def test_user_closes_the_socket_early(fast_loop: Loop, how: str) -> None:
    """The transport goes on with it.  (asyncio's is deaf from then on.)"""
    loop = fast_loop

    async def main() -> None:
        guard = Guard()
        ours, peer = tcp_pair()
        number = ours.fileno()
        transport, protocol = await loop.create_connection(Echo, sock=ours)
        if how == "close":
            ours.close()
        elif how == "with":
            with ours:
                pass
        del ours
        gc.collect()
        guard.look()
        peer.send(b"data")
        assert await receive(peer, 4) == b"data"
        assert number in descriptors()
        transport.close()
        await until(lambda: protocol.lost)
        guard.look()
        assert await receive(peer) == b""
        peer.close()
        guard.close()

    loop.run_until_complete(warm_up())
    loop.run_until_complete(main())


def test_user_closes_the_socket_while_data_is_pending(fast_loop: Loop) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        transport, _ = await fast_loop.create_connection(Recorder, sock=ours)
        data = os.urandom(4 << 20)
        transport.write(data)
        ours.close()
        transport.close()
        assert await receive(peer) == data
        peer.close()

    fast_loop.run_until_complete(main())


def test_makefile_outlives_the_transport(loop: Loop) -> None:
    async def main() -> None:
        guard = Guard()
        ours, peer = tcp_pair()
        file = ours.makefile("rb", buffering=0)
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        transport.abort()
        await until(lambda: transport.get_protocol() is None)
        await turns(1)
        guard.look()
        file.close()
        ours.close()
        peer.close()
        guard.close()

    loop.run_until_complete(warm_up())
    loop.run_until_complete(main())


def test_extra_info_socket_is_closed_with_the_transport(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            held = protocol.transport.get_extra_info("socket")
            assert held.fileno() >= 0
            protocol.transport.abort()
            await until(lambda: protocol.lost)
            await turns(1)
            assert held.fileno() == -1

    loop.run_until_complete(main())


def test_failing_protocol_check_closes_once(fast_loop: Loop) -> None:
    """The protocol is looked at when the transport has the descriptor already."""

    class Odd:
        @property
        def __class__(self) -> Any:
            raise ZeroDivisionError

        @__class__.setter
        def __class__(self, value: Any) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        guard = Guard()
        ours, peer = tcp_pair()
        with peer:
            with pytest.raises(ZeroDivisionError):
                await fast_loop.create_connection(Odd, sock=ours)
            for _ in range(5):
                await asyncio.sleep(0)
                guard.look()
            assert peer.recv(1) == b""
            assert ours.fileno() == -1
        guard.close()

    fast_loop.run_until_complete(warm_up())
    fast_loop.run_until_complete(main())


def test_socket_given_twice(fast_loop: Loop) -> None:
    """The transport keeps it; asyncio's late releases close it under the transport."""
    loop = fast_loop

    async def main() -> None:
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Echo, sock=ours)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(Recorder, sock=ours)
        peer.send(b"data")
        assert await receive(peer, 4) == b"data"
        transport.close()
        await until(lambda: ours.fileno() == -1)
        peer.close()

    loop.run_until_complete(main())


def test_sock_connect_closed_by_its_user(loop: Loop) -> None:
    """While it is under way: what waits is told nothing, and nothing breaks."""

    async def main() -> None:
        with blackhole() as silent:
            sock = socket.socket()
            sock.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(sock, silent))
            await turns()
            sock.close()
            await turns()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        assert await asleep()

    loop.run_until_complete(main())


@isolated
def test_sock_connect_closed_and_the_number_reused() -> None:
    """Cancelling it must leave alone what another has registered meanwhile."""

    async def main(loop: Loop) -> None:
        with blackhole() as silent:
            sock = socket.socket()
            sock.setblocking(False)
            number = sock.fileno()
            connecting = asyncio.ensure_future(loop.sock_connect(sock, silent))
            await turns()
            sock.close()
            a, b = socket.socketpair()
            if a.fileno() != number:
                os.dup2(a.fileno(), number)
            calls: list[int] = []
            loop.add_writer(number, calls.append, 1)
            await until(lambda: calls)
            connecting.cancel()
            await asyncio.wait([connecting])
            calls.clear()
            await until(lambda: calls)
            assert loop.remove_writer(number) is True
            a.close()
            b.close()

    loop = fastloop.new_event_loop()
    loop.run_until_complete(main(loop))
    loop.close()


# --- the garbage collector ----------------------------------------------------------


def test_nothing_keeps_what_is_closed(loop: Loop) -> None:
    refs: list[weakref.ref[Any]] = []

    async def main() -> None:
        ours, peer = tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        refs.extend(map(weakref.ref, (transport, protocol, ours)))
        transport.get_extra_info("socket")
        transport.abort()
        await until(lambda: protocol.lost)
        peer.close()

    loop.run_until_complete(main())
    run_once(loop)
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


@isolated
def test_everything_forgotten_at_once(loop_factory: LoopFactory) -> None:
    """Loop, transports, server and watches go as one heap of garbage."""
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)
    first = loop_factory()
    first.run_until_complete(warm_up())
    first.close()
    before = descriptors()
    loop: Any = loop_factory()
    server = loop.run_until_complete(loop.create_server(Echo, HOST, 0))
    address = server.sockets[0].getsockname()
    made = loop.run_until_complete(loop.create_connection(Recorder, *address))
    made[0].write(b"x" * (8 << 20))
    a, b = socket.socketpair()
    loop.add_reader(a, made.index)
    loop.add_writer(b, loop.stop)
    run_once(loop)
    made[1].cycle = [loop, server, made, a, b]
    del loop, server, made, a, b
    gc.collect()
    gc.collect()
    assert descriptors() == before


@isolated
def test_everything_forgotten_when_warnings_are_errors(
    loop_factory: LoopFactory,
) -> None:
    """The finaliser of the loop then fails; it has to close all the same."""
    import sys

    sys.unraisablehook = lambda unraisable: None
    first = loop_factory()
    first.run_until_complete(warm_up())
    first.close()
    before = descriptors()
    loop: Any = loop_factory()
    transport, _ = loop.run_until_complete(
        loop.create_connection(Recorder, sock=(pair := tcp_pair())[0])
    )
    del loop, transport
    pair[1].close()
    del pair, _
    gc.collect()
    gc.collect()
    assert descriptors() == before


# --- what a loop opens, and when ------------------------------------------------------


def test_a_loop_that_never_sleeps_opens_nothing() -> None:
    before = descriptors()
    loop = fastloop.new_event_loop()
    loop.call_soon_threadsafe(lambda: None)
    loop.call_later(-1, lambda: None)
    run_once(loop)
    assert loop.run_until_complete(asyncio.sleep(0, "slept")) == "slept"
    assert descriptors() == before
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(descriptors()) > len(before)
    loop.close()
    assert descriptors() == before


@isolated
def test_no_descriptors_left_when_a_loop_first_needs_them() -> None:
    """The run ends with the error, and can be repeated when there are some."""
    import errno
    import resource

    warm = fastloop.new_event_loop()
    warm.run_until_complete(warm_up())
    warm.close()
    loop = fastloop.new_event_loop()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failed = 0
    before = descriptors()
    for more in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + more, hard))
        try:
            loop.run_until_complete(asyncio.sleep(0.001))
        except OSError as exc:
            assert exc.errno == errno.EMFILE, exc
            failed += 1
            assert not loop.is_running()
            assert loop.run_until_complete(asyncio.sleep(0, more)) == more
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    assert failed > 2, failed
    assert failed < 12, failed
    loop.run_until_complete(warm_up())
    loop.close()
    assert descriptors() == before


# --- two thousand -------------------------------------------------------------------


def test_thousands_of_connections_cancelled_at_random(fast_loop: Loop) -> None:
    loop = fast_loop
    reports = collect_reports(loop)
    rng = random.Random(3)
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    async def attempt(address: Any, how: int) -> None:
        sock = socket.socket()
        if how == 0:
            connecting = loop.create_connection(Recorder, *address)
        else:
            sock.connect(address)
            if how == 1:
                connecting = loop.create_connection(Recorder, sock=sock)
            else:
                connecting = loop.connect_accepted_socket(Recorder, sock)
        task = loop.create_task(connecting)
        for _ in range(rng.randrange(8)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            transport, _ = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.abort()
        sock.close()
        if accepted and rng.random() < 0.3:
            transport = rng.choice(accepted).transport
            if transport is not None:
                transport.abort()

    async def main() -> None:
        await warm_up()
        guard = Guard()
        server = await loop.create_server(accept, HOST, 0)
        address = server.sockets[0].getsockname()
        for n in range(2000 // 20):
            await asyncio.gather(
                *[attempt(address, rng.randrange(3)) for _ in range(20)]
            )
            guard.look()
            if n % 10 == 0:
                accepted[:] = [p for p in accepted if not p.lost]
        server.close()
        await until(lambda: all(p.lost for p in accepted if p.transport))
        await until(lambda: not guard.left())
        guard.close()

    loop.run_until_complete(main())
    assert reports == []
