"""create_connection() and connect_accepted_socket()."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from io_support import (
    DEADLINE,
    HOST,
    Loop,
    LoopFactory,
    Recorder,
    blackhole,
    call,
    collect_reports,
    described,
    described_report,
    descriptors,
    end,
    on_both,
    outcome,
    refusing,
    run_once,
    tcp_pair,
    turns,
    until,
    warm_up,
)

# the options of this Python's asyncio
ALL_ERRORS: list[dict[str, Any]] = [{}]
if sys.version_info >= (3, 12):
    ALL_ERRORS.append({"all_errors": True})


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as sock:
        sock.settimeout(5)
        yield sock


def info(address: Any, family: int = socket.AF_INET) -> tuple[Any, ...]:
    """What getaddrinfo() tells of an address."""
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address


def resolve_to(loop: Any, *infos: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Let every name stand for these addresses; returns a list of what was asked."""
    asked: list[tuple[Any, ...]] = []

    async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
        asked.append((host, port))
        numeric = "".join(str(host).split(".")).isdecimal() or ":" in str(host)
        return [info((host, port))] if numeric else list(infos)

    loop.getaddrinfo = getaddrinfo
    return asked


# --- where to -----------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "localhost", HOST.encode(), "127.1"], ids=repr)
@pytest.mark.parametrize("port", [int, str])
def test_host_and_port(
    loop: Loop, listening: socket.socket, host: Any, port: type
) -> None:
    async def main() -> None:
        transport, protocol = await loop.create_connection(
            Recorder,
            host,
            port(listening.getsockname()[1]),
            family=socket.AF_INET,
        )
        assert protocol.events == ["made"]
        assert protocol.transport is transport
        assert transport.get_extra_info("peername") == listening.getsockname()
        await end(transport)

    loop.run_until_complete(main())


def test_host_none_is_this_machine(loop: Loop, listening: socket.socket) -> None:
    async def main() -> None:
        transport, _ = await loop.create_connection(
            Recorder, None, listening.getsockname()[1], family=socket.AF_INET
        )
        assert transport.get_extra_info("peername") == listening.getsockname()
        await end(transport)

    loop.run_until_complete(main())


def test_ipv6(loop: Loop) -> None:
    async def main() -> None:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
            address = listening.getsockname()
            transport, _ = await loop.create_connection(Recorder, *address[:2])
            assert transport.get_extra_info("peername") == address
            assert transport.get_extra_info("sockname")[0] == "::1"
            await end(transport)

    loop.run_until_complete(main())


def test_parameters_reach_the_resolver(loop: Loop, listening: socket.socket) -> None:
    seen: list[Any] = []

    async def getaddrinfo(*args: Any, **options: Any) -> Any:
        seen.append((args, options))
        return [info(listening.getsockname())]

    loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]

    async def main() -> None:
        transport, _ = await loop.create_connection(
            Recorder, "name.test", 99, family=socket.AF_INET, proto=6, flags=1234
        )
        await end(transport)

    loop.run_until_complete(main())
    options = {"family": socket.AF_INET, "type": socket.SOCK_STREAM}
    assert seen[0] == (("name.test", 99), {**options, "proto": 6, "flags": 1234})


@pytest.mark.parametrize("host", ["name.test", HOST])
def test_resolver_is_asked_for_names_only(listening: socket.socket, host: str) -> None:
    """Who replaces getaddrinfo() is not asked what 127.0.0.1 may be."""

    async def scenario(loop: Any) -> Any:
        address = listening.getsockname()
        asked = resolve_to(loop, info(address))
        transport, _ = await loop.create_connection(Recorder, host, address[1])
        await end(transport)
        return asked

    on_both(scenario)


def test_resolver_that_fails() -> None:
    async def scenario(loop: Any) -> Any:
        async def getaddrinfo(*args: Any, **options: Any) -> Any:
            raise socket.gaierror(-5, "no such name")

        loop.getaddrinfo = getaddrinfo
        return await outcome(loop.create_connection(Recorder, "name.test", 1))

    assert on_both(scenario)[0] is socket.gaierror


def test_resolver_that_finds_nothing() -> None:
    async def scenario(loop: Any) -> Any:
        resolve_to(loop)
        return await outcome(loop.create_connection(Recorder, "name.test", 1))

    assert on_both(scenario)[1] == "getaddrinfo() returned empty list"


def test_in_debug_mode(loop: Loop, listening: socket.socket) -> None:
    loop.set_debug(True)

    async def main() -> None:
        transport, _ = await loop.create_connection(Recorder, *listening.getsockname())
        await end(transport)

    loop.run_until_complete(main())


# --- several addresses --------------------------------------------------------------


def test_first_address_that_works(loop: Loop, listening: socket.socket) -> None:
    async def main() -> None:
        with refusing() as first, refusing() as second:
            address = listening.getsockname()
            resolve_to(loop, info(first), info(second), info(address), info(first))
            await warm_up()
            before = descriptors()
            transport, _ = await loop.create_connection(Recorder, "name.test", 1)
            assert transport.get_extra_info("peername") == address
            await end(transport)
            assert descriptors() == before

    loop.run_until_complete(main())


@pytest.mark.parametrize("options", ALL_ERRORS, ids=repr)
@pytest.mark.parametrize("delay", [None, 0.01, 5])
@pytest.mark.parametrize("how_many", [1, 2, 3])
def test_no_address_works(
    options: dict[str, Any], delay: float | None, how_many: int
) -> None:
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(refusing()) for _ in range(how_many)]

        async def scenario(loop: Any) -> Any:
            resolve_to(loop, *map(info, addresses))
            await warm_up()
            before = descriptors()
            answer = await outcome(
                loop.create_connection(
                    Recorder,
                    "name.test",
                    1,
                    happy_eyeballs_delay=delay,
                    **options,
                )
            )
            assert descriptors() == before
            return answer

        on_both(scenario)


def test_equal_errors_are_one(loop: Loop) -> None:
    with refusing() as address:
        resolve_to(loop, info(address), info(address))
        with pytest.raises(ConnectionRefusedError, match="Connect call failed") as got:
            loop.run_until_complete(loop.create_connection(Recorder, "name.test", 1))
    assert str(address) in str(got.value)


def test_bad_family_is_one_more_failure(listening: socket.socket) -> None:
    async def scenario(loop: Any) -> Any:
        resolve_to(loop, (99, 1, 6, "", (HOST, 1)), info(listening.getsockname()))
        transport, _ = await loop.create_connection(Recorder, "name.test", 1)
        await end(transport)
        resolve_to(loop, (99, 1, 6, "", (HOST, 1)))
        return await outcome(loop.create_connection(Recorder, "name.test", 1))

    assert on_both(scenario)[0] is OSError


def test_failure_leaves_no_reference_cycle(loop: Loop) -> None:
    class Tracked(OSError):
        alive = 0

        def __init__(self, *args: Any) -> None:
            Tracked.alive += 1

        def __del__(self) -> None:
            Tracked.alive -= 1

    async def sock_connect(sock: Any, address: Any) -> None:
        raise Tracked

    async def main() -> None:
        with pytest.raises(Tracked):
            await loop.create_connection(Recorder, "name.test", 1)

    resolve_to(loop, info((HOST, 1)), info((HOST, 2)))
    loop.sock_connect = sock_connect  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    try:
        loop.run_until_complete(main())
        run_once(loop)
        assert Tracked.alive == 0
    finally:
        gc.enable()


# --- happy eyeballs -----------------------------------------------------------------


def test_silent_address_does_not_hold_up_the_next(
    loop: Loop, listening: socket.socket
) -> None:
    async def main() -> None:
        with blackhole() as silent:
            resolve_to(loop, info(silent), info(silent), info(listening.getsockname()))
            await warm_up()
            before = descriptors()
            transport, _ = await asyncio.wait_for(
                loop.create_connection(
                    Recorder, "name.test", 1, happy_eyeballs_delay=0.02
                ),
                DEADLINE,
            )
            assert transport.get_extra_info("peername") == listening.getsockname()
            await end(transport)
            assert descriptors() == before

    loop.run_until_complete(main())


def test_refusal_does_not_wait_for_the_delay(
    loop: Loop, listening: socket.socket
) -> None:
    async def main() -> None:
        with refusing() as first:
            resolve_to(loop, info(first), info(listening.getsockname()))
            began = time.monotonic()
            transport, _ = await loop.create_connection(
                Recorder, "name.test", 1, happy_eyeballs_delay=60
            )
            assert time.monotonic() - began < DEADLINE
            await end(transport)

    loop.run_until_complete(main())


V4 = [info((f"192.0.2.{n}", 1)) for n in range(1, 4)]
V6 = [info((f"2001:db8::{n}", 1, 0, 0), socket.AF_INET6) for n in range(1, 4)]


@pytest.mark.parametrize("infos", [V4 + V6, V6 + V4, V4, V4[:1] + V6 + V4[1:]])
@pytest.mark.parametrize("interleave", [None, 0, 1, 2, 3, 9])
@pytest.mark.parametrize("delay", [None, 0])
def test_order_of_attempts(
    infos: list[Any], interleave: int | None, delay: float | None
) -> None:
    async def scenario(loop: Any) -> Any:
        attempts: list[str] = []

        async def sock_connect(sock: socket.socket, address: Any) -> None:
            attempts.append(address[0])
            raise OSError(f"not {address[0]}")

        loop.sock_connect = sock_connect
        resolve_to(loop, *infos)
        connecting = loop.create_connection(
            Recorder,
            "name.test",
            1,
            interleave=interleave,
            happy_eyeballs_delay=delay,
        )
        return attempts, await outcome(connecting)

    on_both(scenario)


# --- local addresses ----------------------------------------------------------------


def test_local_address(loop: Loop, listening: socket.socket) -> None:
    async def main() -> None:
        transport, _ = await loop.create_connection(
            Recorder, *listening.getsockname(), local_addr=("127.0.0.2", 0)
        )
        accepted, peer = listening.accept()
        assert peer[0] == "127.0.0.2"
        assert peer == transport.get_extra_info("sockname")
        accepted.close()
        await end(transport)

    loop.run_until_complete(main())


def test_second_local_address_if_the_first_is_not_ours(
    loop: Loop, listening: socket.socket
) -> None:
    resolve_to(loop, info(("203.0.113.1", 0)), info(("127.0.0.3", 0)))

    async def main() -> None:
        transport, _ = await loop.create_connection(
            Recorder, *listening.getsockname(), local_addr=("name.test", 0)
        )
        assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
        await end(transport)

    loop.run_until_complete(main())


LOCAL_ADDRESSES = {
    "one that is not ours": [info(("203.0.113.1", 0))],
    "two that are not ours": [info(("203.0.113.1", 0)), info(("203.0.113.2", 0))],
    "another family": [info(("::1", 0), socket.AF_INET6)],
    "none": [],
}


@pytest.mark.parametrize("local", LOCAL_ADDRESSES)
@pytest.mark.parametrize("options", ALL_ERRORS, ids=repr)
def test_no_local_address_works(
    listening: socket.socket, local: str, options: dict[str, Any]
) -> None:
    async def scenario(loop: Any) -> Any:
        resolve_to(loop, *LOCAL_ADDRESSES[local])
        return await outcome(
            loop.create_connection(
                Recorder,
                *listening.getsockname(),
                local_addr=("name.test", 0),
                **options,
            )
        )

    on_both(scenario)


# --- a socket that is connected already ---------------------------------------------


def test_socket(loop: Loop) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        held = transport.get_extra_info("socket")
        assert held._sock is ours
        assert ours.gettimeout() == 0
        assert ours.getpeername() == peer.getsockname()
        peer.close()
        await until(lambda: protocol.lost)
        await turns(1)
        assert ours.fileno() == -1

    loop.run_until_complete(main())


def test_unix_socket_pair() -> None:
    async def scenario(loop: Any) -> Any:
        ours, peer = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        names = [transport.get_extra_info(n, "?") for n in ("peername", "sockname")]
        peer.send(b"data")
        await until(lambda: protocol.data == b"data")
        transport.write(b"answer")
        await turns(1)
        assert peer.recv(10) == b"answer"
        peer.close()
        await until(lambda: protocol.lost)
        return names, protocol.events

    on_both(scenario)


# --- wrong arguments ----------------------------------------------------------------


@contextlib.contextmanager
def tls_socket() -> Iterator[ssl.SSLSocket]:
    a, b = socket.socketpair()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with b, context.wrap_socket(a, do_handshake_on_connect=False) as wrapped:
        yield wrapped


WRONG: list[dict[str, Any]] = [
    {},
    {"host": HOST, "port": 1, "server_hostname": "x"},
    {"host": HOST, "port": 1, "ssl_handshake_timeout": 1},
    {"host": HOST, "port": 1, "ssl_shutdown_timeout": 1},
    {"port": 1, "ssl": True},
    {"host": "", "port": 1, "ssl": True},
    {"sock": "stream", "ssl": True},
    {"sock": "stream", "host": HOST, "port": 1},
    {"sock": "stream", "port": 1},
    {"sock": "stream", "host": HOST},
    {"sock": "datagram"},
    {"sock": "tls"},
    {"sock": "tls", "ssl": True},
    {"sock": "tls", "host": HOST, "port": 1},
    {"host": HOST, "port": "no such service"},
    {"host": HOST, "port": []},
    {"host": HOST, "port": 65536},
    {"host": HOST, "port": 1 << 70},
    {"host": HOST, "port": -1},
    {"host": HOST, "port": 1, "nonsense": 1},
]


@pytest.mark.parametrize("arguments", WRONG, ids=repr)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    async def scenario(loop: Any) -> Any:
        stream, peer = socket.socketpair()
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        with stream, peer, datagram, tls_socket() as tls:
            socks = {"stream": stream, "datagram": datagram, "tls": tls}
            given = dict(arguments)
            if "sock" in given:
                given["sock"] = socks[given["sock"]]
            create = loop.create_connection
            if "nonsense" in given:
                return call(create, Recorder, **given)[0]
            answer = await outcome(create(Recorder, **given))
            # they stay the caller's
            assert min(sock.fileno() for sock in (*socks.values(), peer)) >= 0
        return answer

    on_both(scenario)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sock": "datagram"},
        {"sock": "tls"},
        {"sock": "stream", "ssl_handshake_timeout": 1},
        {"sock": "stream", "ssl_shutdown_timeout": 1},
    ],
    ids=repr,
)
def test_wrong_arguments_of_connect_accepted_socket(arguments: dict[str, Any]) -> None:
    async def scenario(loop: Any) -> Any:
        stream, peer = socket.socketpair()
        datagram = socket.socket(type=socket.SOCK_DGRAM)
        with stream, peer, datagram, tls_socket() as tls:
            socks = {"stream": stream, "datagram": datagram, "tls": tls}
            given = {**arguments, "sock": socks[arguments["sock"]]}
            answer = await outcome(loop.connect_accepted_socket(Recorder, **given))
            assert min(sock.fileno() for sock in (*socks.values(), peer)) >= 0
        return answer

    on_both(scenario)


def test_closed_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    connecting = loop.create_connection(Recorder, HOST, 1)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_until_complete(connecting)
    connecting.close()


# --- accepted sockets ---------------------------------------------------------------


def test_connect_accepted_socket(loop: Loop) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
        assert protocol.events == ["made"]
        assert transport.get_extra_info("socket")._sock is ours
        peer.send(b"data")
        await until(lambda: protocol.data == b"data")
        peer.close()
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "data", "eof", "lost"]

    loop.run_until_complete(main())


# --- protocols that fail ------------------------------------------------------------


def fail() -> Any:
    raise ZeroDivisionError("no protocol today")


def test_failing_factory(fast_loop: Loop, listening: socket.socket) -> None:
    """asyncio leaves the socket to the garbage collector."""

    async def main() -> None:
        await warm_up()
        before = descriptors()
        with pytest.raises(ZeroDivisionError):
            await fast_loop.create_connection(fail, *listening.getsockname())
        assert descriptors() == before

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
def test_failing_factory_closes_the_socket_it_got(fast_loop: Loop, method: str) -> None:
    """As asyncio does since late releases of 3.14; before, the caller kept it."""

    async def main() -> None:
        ours, peer = tcp_pair()
        with peer:
            with pytest.raises(ZeroDivisionError):
                await getattr(fast_loop, method)(fail, sock=ours)
            assert ours.fileno() == -1

    fast_loop.run_until_complete(main())


class Faulty(Recorder):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        raise ZeroDivisionError("not made")


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
def test_failing_connection_made(method: str) -> None:
    """It is reported; the connection lives on."""

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        ours, peer = tcp_pair()
        _, protocol = await getattr(loop, method)(Faulty, sock=ours)
        peer.send(b"data")
        await until(lambda: protocol.data == b"data")
        peer.close()
        await until(lambda: protocol.lost)
        return protocol.events, [described_report(report) for report in reports]

    events, reports = on_both(scenario)
    assert events == ["made", "data", "eof", "lost"]
    assert reports[0][1][0] is ZeroDivisionError


def closes(transport: Any) -> None:
    transport.close()


def aborts(transport: Any) -> None:
    transport.abort()


def writes_and_closes(transport: Any) -> None:
    transport.write(b"bye")
    transport.close()


@pytest.mark.parametrize("what", [closes, aborts, writes_and_closes])
def test_connection_made_that_ends_it(what: Callable[[Any], None]) -> None:
    class Brief(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            what(transport)

    async def scenario(loop: Any) -> Any:
        ours, peer = tcp_pair()
        with peer:
            peer.send(b"never seen")
            transport, protocol = await loop.create_connection(Brief, sock=ours)
            assert protocol.transport is transport
            assert transport.is_closing()
            await until(lambda: protocol.lost)
            return protocol.events, described(protocol.lost_with)

    assert on_both(scenario) == (["made", "lost"], None)


def test_waiting_for_a_connection_that_ends_at_once(loop: Loop) -> None:
    """create_connection() answers also when the connection is gone by then."""

    async def main() -> None:
        ours, peer = tcp_pair()
        peer.close()
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "eof", "lost"]

    loop.run_until_complete(main())
