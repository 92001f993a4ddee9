"""create_server() and the Server that it returns."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import resource
import socket
import sys
import time
import weakref
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from io_support import (
    DEADLINE,
    HOST,
    LOOPS,
    Echo,
    Loop,
    LoopFactory,
    Recorder,
    asleep,
    call,
    collect_reports,
    described_report,
    end,
    isolated,
    on_both,
    opened,
    outcome,
    receive,
    reset,
    run_once,
    turns,
    until,
)

import fastloop


@pytest.fixture
def newer_loop(request: pytest.FixtureRequest) -> Any:
    """The loops that have what asyncio got with Python 3.13."""
    loop = request.param()
    yield loop
    loop.close()


with_3_13 = pytest.mark.parametrize(
    "newer_loop",
    [
        pytest.param(factory, id=name)
        for name, factory in LOOPS.items()
        if name == "fastloop" or sys.version_info >= (3, 13)
    ],
    indirect=True,
)


def port_of(server: Any) -> int:
    return server.sockets[0].getsockname()[1]


async def talk(address: Any, data: bytes = b"hello") -> bytes:
    """Connect, send, return what comes back until the connection ends."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(Recorder, *address[:2])
    transport.write(data)
    await until(lambda: len(protocol.data) >= len(data) or protocol.lost)
    await end(transport)
    return bytes(protocol.data)


async def answers(server: Any) -> bool:
    """Does an Echo answer at every socket of the server?"""
    for sock in server.sockets:
        if await talk(sock.getsockname()) != b"hello":
            return False
    return True


async def close(server: Any) -> None:
    server.close()
    await server.wait_closed()
    await turns(1)


# --- where to listen ----------------------------------------------------------------


@pytest.mark.parametrize(
    "host,families",
    [
        (HOST, {socket.AF_INET}),
        ("::1", {socket.AF_INET6}),
        ("localhost", {socket.AF_INET, socket.AF_INET6}),
        ([HOST], {socket.AF_INET}),
        ((HOST, "127.0.0.2", "127.0.0.3"), {socket.AF_INET}),
        ([HOST, "::1"], {socket.AF_INET, socket.AF_INET6}),
        ([HOST, HOST, HOST], {socket.AF_INET}),
        ({HOST: 1}, {socket.AF_INET}),
        (None, {socket.AF_INET, socket.AF_INET6}),
        ("", {socket.AF_INET, socket.AF_INET6}),
    ],
    ids=repr,
)
def test_hosts(host: Any, families: set[int]) -> None:
    async def scenario(loop: Any) -> Any:
        server = await loop.create_server(Echo, host, 0)
        names = sorted(sock.getsockname()[0] for sock in server.sockets)
        assert {sock.family for sock in server.sockets} <= families
        assert await answers(server)
        await close(server)
        return names

    on_both(scenario)


def test_port_is_shared_by_all_hosts(loop: Loop) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        hosts = [HOST, "127.0.0.2", "::1"]
        server = await loop.create_server(Echo, hosts, port)
        assert {sock.getsockname()[1] for sock in server.sockets} == {port}
        assert len(server.sockets) == 3
        assert await answers(server)
        await close(server)

    loop.run_until_complete(main())


def test_ipv6_socket_leaves_ipv4_alone(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "::", 0)
        sock = server.sockets[0]
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
        assert await talk(("::1", port_of(server))) == b"hello"
        with pytest.raises(ConnectionRefusedError):
            await talk((HOST, port_of(server)))
        await close(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_family(loop: Loop, family: int) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, None, 0, family=family)
        assert {sock.family for sock in server.sockets} == {family}
        await close(server)

    loop.run_until_complete(main())


def test_flags_reach_the_resolver() -> None:
    async def scenario(loop: Any) -> Any:
        asked = []

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            asked.append((host, port, options["family"], options["flags"]))
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, 0))]

        loop.getaddrinfo = getaddrinfo
        for options in {}, {"flags": 0}, {"family": socket.AF_INET}:
            await close(await loop.create_server(Echo, "name.test", 99, **options))
        await close(await loop.create_server(Echo, ["a.test", "b.test"], 99))
        return sorted(asked)

    on_both(scenario)


def test_socket(loop: Loop) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind((HOST, 0))
        server = await loop.create_server(Echo, sock=sock)
        assert server.sockets[0]._sock is sock
        assert sock.gettimeout() == 0
        assert await answers(server)
        await close(server)
        assert sock.fileno() == -1

    loop.run_until_complete(main())


def test_socket_that_listens_already(loop: Loop) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as sock:
            early = socket.create_connection(sock.getsockname())
            server = await loop.create_server(Echo, sock=sock)
            early.send(b"early")
            assert await receive(early, 5) == b"early"
            early.close()
            await close(server)

    loop.run_until_complete(main())


# --- options ------------------------------------------------------------------------


def option(sock: Any, name: int) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, name))


@pytest.mark.parametrize("reuse", [None, True, False])
def test_reuse_address(reuse: bool | None) -> None:
    async def scenario(loop: Any) -> Any:
        server = await loop.create_server(Echo, HOST, 0, reuse_address=reuse)
        answer = option(server.sockets[0], socket.SO_REUSEADDR)
        await close(server)
        return answer

    assert on_both(scenario) is (reuse is not False)


def test_reuse_port(loop: Loop) -> None:
    """Two servers on one port share the connections."""
    served: list[int] = []

    class Counting(Echo):
        def __init__(self, which: int) -> None:
            super().__init__()
            served.append(which)

    async def main() -> None:
        first = await loop.create_server(lambda: Counting(1), HOST, 0, reuse_port=True)
        port = port_of(first)
        second = await loop.create_server(
            lambda: Counting(2), HOST, port, reuse_port=True
        )
        with pytest.raises(OSError, match="error while attempting to bind"):
            await loop.create_server(Echo, HOST, port)
        while set(served) != {1, 2}:
            assert await talk((HOST, port)) == b"hello"
            assert len(served) < 1000
        await close(first)
        assert await talk((HOST, port)) == b"hello"
        await close(second)

    loop.run_until_complete(main())


@with_3_13
@pytest.mark.parametrize("keep_alive", [None, True, False])
def test_keep_alive(newer_loop: Any, keep_alive: bool | None) -> None:
    async def main() -> None:
        server = await newer_loop.create_server(Echo, HOST, 0, keep_alive=keep_alive)
        sock = server.sockets[0]
        assert option(sock, socket.SO_KEEPALIVE) is bool(keep_alive)
        await close(server)

    newer_loop.run_until_complete(main())


def test_backlog_is_the_kernels(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0, backlog=1)
        assert await answers(server)
        await close(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("backlog", [1, 5, 100])
def test_more_connections_at_once_than_the_backlog(loop: Loop, backlog: int) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0, backlog=backlog)
        address = server.sockets[0].getsockname()
        talks = [talk(address, b"number %d" % n) for n in range(backlog)]
        assert await asyncio.gather(*talks) == [
            b"number %d" % n for n in range(backlog)
        ]
        await close(server)

    loop.run_until_complete(main())


def test_start_serving_later(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await talk(server.sockets[0].getsockname())
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        assert await answers(server)
        await close(server)
        assert not server.is_serving()

    loop.run_until_complete(main())


def test_never_started_server_can_be_closed(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0, start_serving=False)
        await close(server)
        assert server.sockets == ()

    loop.run_until_complete(main())


# --- errors -------------------------------------------------------------------------


WRONG: list[dict[str, Any]] = [
    {},
    {"host": HOST, "port": 0, "ssl": True},
    {"host": HOST, "port": 0, "ssl": False},
    {"host": HOST, "port": 0, "ssl_handshake_timeout": 1},
    {"host": HOST, "port": 0, "ssl_shutdown_timeout": 1},
    {"host": HOST, "port": 0, "sock": "stream"},
    {"port": 0, "sock": "stream"},
    {"sock": "datagram"},
    {"host": HOST, "port": "used"},
    {"host": HOST, "port": "used", "reuse_port": True},
    {"host": [HOST, "127.0.0.2"], "port": "used"},
    {"host": "203.0.113.7", "port": 0},
    {"host": ["203.0.113.7"], "port": 0},
    {"host": [HOST, "203.0.113.7"], "port": 0},
    {"host": HOST, "port": "no such service"},
    {"host": HOST, "port": 65536},
    {"host": HOST, "port": -1},
    {"host": [], "port": 0},
    {"host": HOST, "port": 0, "nonsense": 1},
]


@pytest.mark.parametrize("arguments", WRONG, ids=repr)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with (
        socket.socket() as stream,
        socket.socket(type=socket.SOCK_DGRAM) as datagram,
        socket.create_server((HOST, 0)) as used,
    ):
        given = dict(arguments)
        if given.get("port") == "used":
            given["port"] = used.getsockname()[1]
        if "sock" in given:
            given["sock"] = {"stream": stream, "datagram": datagram}[given["sock"]]

        async def scenario(loop: Any) -> Any:
            if "nonsense" in given:
                return call(loop.create_server, Echo, **given)[0]
            answer = await outcome(loop.create_server(Echo, **given))
            if not isinstance(answer, tuple):
                names = [sock.getsockname()[0] for sock in answer.sockets]
                await close(answer)
                answer = names
            assert stream.fileno() >= 0 and datagram.fileno() >= 0
            return answer

        on_both(scenario)


def test_resolver_that_finds_nothing() -> None:
    async def scenario(loop: Any) -> Any:
        async def getaddrinfo(*args: Any, **options: Any) -> Any:
            return []

        loop.getaddrinfo = getaddrinfo
        return await outcome(loop.create_server(Echo, "name.test", 0))

    assert on_both(scenario)[1] == "getaddrinfo('name.test') returned empty list"


def test_bad_family_is_left_out(loop: Loop) -> None:
    async def getaddrinfo(*args: Any, **options: Any) -> Any:
        good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, 0))
        return [(99, socket.SOCK_STREAM, 6, "", (HOST, 0)), good]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]

    async def main() -> None:
        server = await loop.create_server(Echo, "name.test", 0)
        assert len(server.sockets) == 1
        await close(server)

    loop.run_until_complete(main())


# --- the Server ---------------------------------------------------------------------


def test_server_is_one_of_asyncio(fast_loop: Loop) -> None:
    async def main() -> None:
        server = await fast_loop.create_server(Echo, HOST, 0)
        assert type(server) is fastloop.Server
        assert isinstance(server, asyncio.Server)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.get_loop() is fast_loop
        assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket ")
        names = {n for n in dir(asyncio.Server) if not n.startswith("_")}
        assert names <= set(dir(server))
        for name in names - {"sockets"}:
            theirs = inspect.signature(getattr(asyncio.Server, name))
            ours = inspect.signature(getattr(fastloop.Server, name))
            assert [*theirs.parameters] == [*ours.parameters]
        await close(server)
        assert repr(server) == "<Server sockets=()>"

    fast_loop.run_until_complete(main())


@isolated
def test_half_made_server() -> None:
    """Nothing of what is called on it may crash."""
    for make in (
        lambda: fastloop.Server.__new__(fastloop.Server),
        lambda: fastloop.Server.__base__.__new__(fastloop.Server),
        lambda: fastloop.Server.__mro__[1](),
        lambda: fastloop.Server(None, [], Echo, 1),  # type: ignore[arg-type]
        lambda: fastloop.Server(None, [None], Echo, 1),  # type: ignore[arg-type, list-item]
    ):
        with contextlib.suppress(TypeError, AttributeError):
            server: Any = make()
            for name in dir(server):
                if inspect.iscoroutinefunction(getattr(type(server), name, None)):
                    with contextlib.suppress(Exception):
                        coro = getattr(server, name)()
                        coro.send(None)
                    coro.close()
                elif not name.startswith("__"):
                    attribute = call(getattr, server, name)
                    if callable(attribute):
                        call(attribute)
            call(repr, server)
            weakref.ref(server)
            del server
    gc.collect()


def test_sockets(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, [HOST, "127.0.0.2"], 0)
        assert isinstance(server.sockets, tuple)
        assert [type(sock) for sock in server.sockets] == [TransportSocket] * 2
        assert all(sock.fileno() >= 0 for sock in server.sockets)
        assert all(not sock.get_inheritable() for sock in server.sockets)
        before = server.sockets
        await close(server)
        assert server.sockets == ()
        assert all(sock.fileno() == -1 for sock in before)

    loop.run_until_complete(main())


def test_async_with() -> None:
    async def scenario(loop: Any) -> Any:
        async with await loop.create_server(Echo, HOST, 0) as server:
            assert server.is_serving()
            assert await answers(server)
        states = [server.is_serving(), server.sockets]
        with pytest.raises(ZeroDivisionError):
            async with await loop.create_server(Echo, HOST, 0) as server:
                raise ZeroDivisionError
        return [*states, server.is_serving(), server.sockets]

    assert on_both(scenario) == [False, (), False, ()]


def test_closing_twice(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        server.close()
        server.close()
        await server.wait_closed()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_closed_server_refuses(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await talk(address)

    loop.run_until_complete(main())


def test_serving_on_a_closed_server() -> None:
    async def scenario(loop: Any) -> Any:
        server = await loop.create_server(Echo, HOST, 0)
        await close(server)
        started = await outcome(server.start_serving())
        return await outcome(server.serve_forever()), isinstance(started, tuple)

    on_both(scenario)


def test_connections_outlive_the_server(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(b"one")
        await until(lambda: protocol.data == b"one")
        server.close()
        await turns()
        transport.write(b", two")
        await until(lambda: protocol.data == b"one, two")
        await end(transport)
        await turns()

    loop.run_until_complete(main())


# --- waiting ------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [0, 1, 3])
def test_wait_closed(clients: int) -> None:
    """What it waits for changed between the releases of asyncio."""

    async def scenario(loop: Any) -> Any:
        accepted: list[Recorder] = []

        def accept() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        server = await loop.create_server(accept, HOST, 0)
        address = server.sockets[0].getsockname()
        made = [
            await loop.create_connection(Recorder, *address) for _ in range(clients)
        ]
        await until(lambda: all(p.transport for p in accepted))
        await until(lambda: len(accepted) == clients)
        states = []
        before = asyncio.ensure_future(server.wait_closed())
        await turns()
        states.append(("open", before.done()))
        server.close()
        after = asyncio.ensure_future(server.wait_closed())
        await turns()
        states.append(("closed", before.done(), after.done()))
        for transport, _ in made:
            await turns()
            states.append(("connections", before.done(), after.done()))
            await end(transport)
        await until(lambda: all(p.lost for p in accepted))
        await turns()
        states.append(("gone", before.done(), after.done()))
        await asyncio.wait_for(server.wait_closed(), 5)
        before.cancel()
        after.cancel()
        await asyncio.wait([before, after])
        return states

    on_both(scenario)


def test_wait_closed_when_all_connections_have_gone_before(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        assert await answers(server)
        await turns()
        waiting = asyncio.ensure_future(server.wait_closed())
        await turns()
        server.close()
        await asyncio.wait_for(waiting, 5)

    if sys.version_info >= (3, 12):
        loop.run_until_complete(main())


def test_wait_closed_may_be_cancelled(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        waiting = [asyncio.ensure_future(server.wait_closed()) for _ in range(3)]
        await turns()
        if waiting[1].done():  # Python 3.12.0
            pytest.skip("wait_closed() of this Python does not wait")
        waiting[1].cancel()
        server.close()
        done, _ = await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [False, True, False]
        assert len(done) == 3

    loop.run_until_complete(main())


# --- serve_forever() ----------------------------------------------------------------


def test_serve_forever_is_cancelled(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0, start_serving=False)
        serving = asyncio.ensure_future(server.serve_forever())
        await until(server.is_serving)
        assert await answers(server)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()
        assert server.sockets == ()

    loop.run_until_complete(main())


def test_serve_forever_ends_with_close(loop: Loop) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        serving = asyncio.ensure_future(server.serve_forever())
        await turns()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await serving

    loop.run_until_complete(main())


def test_serve_forever_twice() -> None:
    async def scenario(loop: Any) -> Any:
        server = await loop.create_server(Echo, HOST, 0)
        serving = asyncio.ensure_future(server.serve_forever())
        await turns()
        answer = await outcome(server.serve_forever())
        serving.cancel()
        await asyncio.wait([serving])
        return answer

    assert on_both(scenario)[0] is RuntimeError


def test_connections_when_serve_forever_is_cancelled() -> None:
    """Whether they are closed, too, changed between the releases of asyncio."""

    async def scenario(loop: Any) -> Any:
        accepted: list[Echo] = []

        def accept() -> Echo:
            accepted.append(Echo())
            return accepted[-1]

        server = await loop.create_server(accept, HOST, 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        await until(lambda: accepted and accepted[0].transport)
        serving = asyncio.ensure_future(server.serve_forever())
        await turns()
        serving.cancel()
        await turns(10)
        lost, done = protocol.lost, serving.done()
        await end(transport)
        await asyncio.wait([serving])
        await turns()
        return lost, done

    on_both(scenario)


# --- the connections ----------------------------------------------------------------


@with_3_13
@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_ending_all_connections(newer_loop: Any, how: str) -> None:
    loop = newer_loop
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    async def main() -> None:
        server = await loop.create_server(accept, HOST, 0)
        address = server.sockets[0].getsockname()
        made = [await loop.create_connection(Recorder, *address) for _ in range(10)]
        await until(lambda: len(accepted) == 10 and all(p.transport for p in accepted))
        data = bytes(8 << 20)
        accepted[0].transport.write(data)
        getattr(server, how)()
        assert server.is_serving()
        await until(lambda: all(protocol.lost for _, protocol in made))
        await until(lambda: all(protocol.lost for protocol in accepted))
        assert (made[0][1].data == data) == (how == "close_clients")
        assert all(protocol.lost_with is None for protocol in accepted)
        assert (await talk(address, b""))[:0] == b""
        await until(lambda: len(accepted) == 11)
        getattr(server, how)()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        getattr(server, how)()

    loop.run_until_complete(main())


@with_3_13
def test_ending_connections_that_are_not_made_yet(newer_loop: Any) -> None:
    """Accepted, but the protocol was not told."""
    loop = newer_loop
    accepted: list[Recorder] = []

    def accept() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    async def main() -> None:
        server = await loop.create_server(accept, HOST, 0)
        for steps in range(6):
            sock = socket.create_connection(server.sockets[0].getsockname())
            for _ in range(steps):
                await asyncio.sleep(0)
            server.abort_clients()
            await turns()
            server.abort_clients()
            with contextlib.suppress(ConnectionResetError):
                assert await receive(sock) == b""
            sock.close()
        await until(lambda: all(protocol.lost for protocol in accepted))
        assert {tuple(p.events) for p in accepted} <= {
            ("made", "lost"),
            ("made", "eof", "lost"),
        }
        await close(server)

    loop.run_until_complete(main())


def test_connection_that_is_reset_in_the_backlog(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        for _ in range(20):
            reset(socket.create_connection(server.sockets[0].getsockname()))
        await turns()
        assert await answers(server)
        await close(server)

    loop.run_until_complete(main())
    assert reports == []


def test_server_closed_by_a_connection(fast_loop: Loop) -> None:
    """From the factory and from connection_made, with more in the backlog.

    asyncio fails with an AssertionError of its own.
    """
    loop = fast_loop
    for where in "factory", "connection_made":
        servers: list[Any] = []

        class Closing(Recorder):
            def __init__(self) -> None:
                super().__init__()
                if where == "factory":  # noqa: B023
                    servers[0].close()  # noqa: B023

            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                servers[0].close()  # noqa: B023
                transport.close()

        async def main() -> None:
            server = await loop.create_server(Closing, HOST, 0)
            servers.append(server)  # noqa: B023
            socks = [
                socket.create_connection(server.sockets[0].getsockname())
                for _ in range(5)
            ]
            for sock in socks:
                with contextlib.suppress(ConnectionResetError):
                    assert await receive(sock) == b""
                sock.close()
            await asyncio.wait_for(server.wait_closed(), 5)

        loop.run_until_complete(main())


def test_listening_socket_closed_by_its_user(fast_loop: Loop) -> None:
    """And its number taken by another: the server lets that one alone."""

    async def main() -> None:
        sock = socket.create_server((HOST, 0))
        number = sock.fileno()
        server = await fast_loop.create_server(Echo, sock=sock)
        sock.close()
        await turns()
        a, b = socket.socketpair()
        other = a if a.fileno() == number else b
        assert other.fileno() == number
        calls: list[int] = []
        other.setblocking(False)
        fast_loop.add_writer(other, calls.append, 1)
        await until(lambda: calls)
        fast_loop.add_reader(other, calls.append, 2)
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        (b if other is a else a).send(b"x")
        await until(lambda: 2 in calls)
        assert other.recv(10) == b"x"
        fast_loop.remove_reader(other)
        fast_loop.remove_writer(other)
        a.close()
        b.close()
        assert await asleep()

    reports = collect_reports(fast_loop)
    fast_loop.run_until_complete(main())
    assert reports == []


def test_listening_socket_closed_and_the_number_written_to(fast_loop: Loop) -> None:
    """Watching the new socket must not make the server accept on it."""

    async def main() -> None:
        sock = socket.create_server((HOST, 0))
        number = sock.fileno()
        server = await fast_loop.create_server(Echo, sock=sock)
        sock.close()
        a, b = socket.socketpair()
        other, peer = (a, b) if a.fileno() == number else (b, a)
        assert other.fileno() == number
        calls: list[int] = []
        fast_loop.add_writer(other, calls.append, 1)
        peer.send(b"x")
        await until(lambda: calls)
        await turns()
        fast_loop.remove_writer(other)
        a.close()
        b.close()
        server.close()

    reports = collect_reports(fast_loop)
    fast_loop.run_until_complete(main())
    assert reports == []


# --- a factory that fails -----------------------------------------------------------


class Failing:
    """A factory that fails each second time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Echo:
        self.calls += 1
        if self.calls % 2:
            raise ZeroDivisionError("no protocol")
        return Echo()


# asyncio leaves the socket to the garbage collector
dropped = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@dropped
def test_failing_factory(loop: Loop) -> None:
    """The connection is dropped, the next one is served."""
    loop.set_exception_handler(None)

    async def main() -> None:
        server = await loop.create_server(Failing(), HOST, 0)
        address = server.sockets[0].getsockname()
        got = [await talk(address) for _ in range(4)]
        assert got == [b"", b"hello", b"", b"hello"]
        await close(server)

    loop.run_until_complete(main())


@dropped
@pytest.mark.parametrize("debug", [False, True])
def test_failing_factory_is_reported_in_debug_mode(
    debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        loop.set_debug(debug)
        server = await loop.create_server(Failing(), HOST, 0)
        for _ in range(4):
            with socket.create_connection(server.sockets[0].getsockname()):
                await turns()
        await close(server)
        return [described_report(report) for report in reports]

    assert len(on_both(scenario)) == 2 * debug


@dropped
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_fatal_exception_in_the_factory(loop: Loop, kind: type[BaseException]) -> None:
    collect_reports(loop)  # asyncio reports it, too
    calls: list[int] = []

    def factory() -> Echo:
        calls.append(1)
        if len(calls) == 1:
            raise kind
        return Echo()

    server = loop.run_until_complete(loop.create_server(factory, HOST, 0))
    address = server.sockets[0].getsockname()
    with socket.create_connection(address) as sock:
        with pytest.raises(kind):
            loop.run_forever()
        assert loop.run_until_complete(answers(server))
        sock.close()
    loop.run_until_complete(turns())
    server.close()
    loop.run_until_complete(turns())


@dropped
def test_failing_factory_counts_no_connection(loop: Loop) -> None:
    def factory() -> Any:
        raise ZeroDivisionError

    async def main() -> None:
        server = await loop.create_server(factory, HOST, 0)
        for _ in range(3):
            assert await talk(server.sockets[0].getsockname()) == b""
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    loop.run_until_complete(main())


def test_factory_that_returns_no_protocol(fast_loop: Loop) -> None:
    """None, say: what is called on it fails and is reported, nothing crashes."""
    loop = fast_loop
    reports = collect_reports(loop)

    async def main() -> None:
        server = await loop.create_server(lambda: None, HOST, 0)  # type: ignore[arg-type, return-value]
        sock = socket.create_connection(server.sockets[0].getsockname())
        sock.send(b"x")
        await until(lambda: len(reports) >= 2)
        sock.close()
        await turns()
        server.close()

    loop.run_until_complete(main())
    assert {type(report["exception"]) for report in reports} == {AttributeError}


# --- no more descriptors ------------------------------------------------------------


@isolated
def test_out_of_descriptors(loop_factory: LoopFactory) -> None:
    """It is reported, tried again after a second, and no connection is lost."""
    from asyncio import constants

    constants.ACCEPT_RETRY_DELAY = 0.2
    loop = loop_factory()
    reports = collect_reports(loop)

    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        assert await answers(server)
        socks = [socket.socket() for _ in range(5)]
        spare = [socket.socket() for _ in range(1)]
        highest = max(sock.fileno() for sock in [*socks, *spare])
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, 1 << 12))
        for sock in socks:
            sock.connect(address)
            sock.send(b"hello")
        await until(lambda: reports)
        assert await asleep(0.1)
        report = reports[0]  # asyncio's retries at once, as often as the backlog
        assert report["message"] == "socket.accept() out of system resource"
        assert isinstance(report["exception"], OSError)
        assert isinstance(report["socket"], TransportSocket)
        assert set(report) == {"message", "exception", "socket"}
        began = time.monotonic()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 12, 1 << 12))
        for sock in socks:
            assert await receive(sock, 5) == b"hello"
            sock.close()
        assert time.monotonic() - began < DEADLINE
        for sock in spare:
            sock.close()
        assert await answers(server)
        await turns()
        server.close()
        await turns()

    loop.run_until_complete(main())
    assert len(reports) == 1 or loop_factory is asyncio.new_event_loop
    loop.close()


@isolated
def test_closed_while_out_of_descriptors() -> None:
    """The second try finds the server closed, and its number another's.

    asyncio watches what it finds there.
    """
    from asyncio import constants

    constants.ACCEPT_RETRY_DELAY = 0.1
    loop = opened(fastloop.new_event_loop())
    reports = collect_reports(loop)

    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        number = server.sockets[0].fileno()
        sock = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, 1 << 12))
        sock.connect(server.sockets[0].getsockname())
        await until(lambda: reports)
        server.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 12, 1 << 12))
        taken = socket.create_server((HOST, 0))
        assert taken.fileno() == number
        with contextlib.suppress(ConnectionResetError):
            assert await receive(sock) == b""
        client = socket.create_connection(taken.getsockname())
        await asyncio.sleep(0.3)
        taken.setblocking(False)
        accepted, _ = taken.accept()
        for s in accepted, client, taken, sock:
            s.close()

    loop.run_until_complete(main())
    assert len(reports) == 1
    loop.close()


# --- the end of the loop ------------------------------------------------------------


def test_loop_closed_under_a_server(loop_factory: LoopFactory) -> None:
    import warnings

    loop = loop_factory()
    server = loop.run_until_complete(loop.create_server(Echo, HOST, 0))
    address = server.sockets[0].getsockname()
    client = socket.create_connection(address)
    run_once(loop)
    run_once(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        server.close()
        server.close()
        del server
        gc.collect()
    client.settimeout(5)
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


@dropped
def test_server_is_let_go(loop: Loop) -> None:
    refs: list[weakref.ref[Any]] = []

    async def main() -> None:
        factory = Failing()
        server = await loop.create_server(factory, HOST, 0)
        refs.extend([weakref.ref(server), weakref.ref(factory)])
        assert await talk(server.sockets[0].getsockname()) == b""
        await turns()
        await close(server)

    loop.run_until_complete(main())
    run_once(loop)
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_two_servers_on_two_loops(loop_factory: LoopFactory) -> None:
    """They do not meet: each loop turns for its own."""
    loops = [loop_factory() for _ in range(2)]
    servers = [
        loop.run_until_complete(loop.create_server(Echo, HOST, 0)) for loop in loops
    ]
    for loop, server in zip(loops, servers, strict=True):
        assert loop.run_until_complete(answers(server))
        loop.run_until_complete(turns())
    for loop, server in zip(loops, servers, strict=True):
        server.close()
        loop.run_until_complete(turns())
        loop.close()


def test_parameters_are_asyncios() -> None:
    """The signature has every parameter that this Python's asyncio has."""
    theirs = inspect.signature(asyncio.AbstractEventLoop.create_server)
    ours = inspect.signature(fastloop.Loop.create_server)
    assert set(theirs.parameters) <= set(ours.parameters)
    for name, parameter in theirs.parameters.items():
        assert ours.parameters[name].kind == parameter.kind
        assert ours.parameters[name].default == parameter.default
