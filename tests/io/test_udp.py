"""Datagram endpoints: every parameter and method, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import socket
import sys
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from io_support import (
    HOST,
    call,
    collect_reports,
    described,
    described_report,
    descriptors,
    isolated,
    on_both,
    outcome,
    run_once,
    turns,
    until,
)

LINUX = sys.platform == "linux"
HEADER = 8 if sys.version_info >= (3, 13) else 0


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.transport: Any = None
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", described(exc)))
        self.lost = True

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


@contextlib.asynccontextmanager
async def endpoint(factory: Any = Recorder, **options: Any) -> AsyncIterator[Any]:
    """Yield the protocol of an endpoint, bound to the loopback unless told else."""
    loop = asyncio.get_running_loop()
    if not options:
        options = {"local_addr": (HOST, 0)}
    transport, protocol = await loop.create_datagram_endpoint(factory, **options)
    try:
        yield protocol
    finally:
        if not protocol.lost:
            transport.abort()
            await until(lambda: protocol.lost)
        await turns(1)


def name_of(protocol: Any) -> Any:
    return protocol.transport.get_extra_info("sockname")


async def received(protocol: Any, count: int = 1) -> list[bytes]:
    await until(lambda: len(protocol.got) >= count)
    return [data for data, _ in protocol.got]


def dead_address() -> Any:
    """An address where nobody listens any more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        return sock.getsockname()


# --- making one ---------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "::1", "localhost"])
def test_echo(host: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint(Echo, local_addr=(host, 0)) as server:
            address = name_of(server)
            async with endpoint(remote_addr=address[:2]) as client:
                client.transport.sendto(b"hello")
                client.transport.sendto(b"there", None)
                data = await received(client, 2)
                assert client.got[0][1] == address
                assert server.got[0][1] == name_of(client)
                assert client.transport.get_extra_info("peername") == address
                return data, len(client.got[0][1])

    assert on_both(scenario)[0] == [b"hello", b"there"]


def test_unconnected() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            one.transport.sendto(b"data", name_of(other))
            one.transport.sendto(data=b"more", addr=name_of(other))
            answer = await received(other, 2)
            return answer, one.transport.get_extra_info("peername", "default")

    assert on_both(scenario) == ([b"data", b"more"], None)


def test_both_addresses() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            options = {"local_addr": (HOST, 0), "remote_addr": name_of(one)}
            async with endpoint(**options) as other:
                other.transport.sendto(b"data")
                await received(one)
                return one.got[0][1] == name_of(other)

    assert on_both(scenario) is True


def test_family_alone() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint(family=socket.AF_INET) as one, endpoint() as other:
            one.transport.sendto(b"data", name_of(other))
            return name_of(one), await received(other)

    assert on_both(scenario) == (("0.0.0.0", 0), [b"data"])


def test_sock() -> None:
    async def scenario(loop: Any) -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        name = sock.getsockname()
        async with endpoint(sock=sock) as one, endpoint() as other:
            held = one.transport.get_extra_info("socket")
            assert held.fileno() == sock.fileno()
            assert type(held).__name__ == "TransportSocket"
            assert sock.gettimeout() == 0
            other.transport.sendto(b"data", name)
            data = await received(one)
        return data, sock.fileno()

    assert on_both(scenario) == ([b"data"], -1)


def test_connected_sock_ignores_the_address() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as peer, endpoint() as other:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(name_of(peer))
            async with endpoint(sock=sock) as one:
                one.transport.sendto(b"data", name_of(other))
                return await received(peer), other.got

    assert on_both(scenario) == ([b"data"], [])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"local_addr": HOST},
        {"remote_addr": (HOST,)},
        {"local_addr": (HOST, 1, 2)},
        {"remote_addr": [HOST, 1]},
        {"local_addr": (HOST, 0), "remote_addr": ("::1", 9)},
        {"local_addr": (HOST, 0), "family": socket.AF_INET6},
        {"local_addr": ("192.0.2.1", 0)},
        {"family": socket.AF_UNIX, "local_addr": 5},
        {"family": socket.AF_UNIX, "remote_addr": (HOST, 1)},
        {"family": socket.AF_UNIX, "remote_addr": "/nowhere/at/all"},
        {"family": socket.AF_UNIX, "local_addr": "/nowhere/at/all"},
        {"remote_addr": ("255.255.255.255", 9)},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, Any]) -> None:
    async def scenario(loop: Any) -> Any:
        before = descriptors()
        result = await outcome(loop.create_datagram_endpoint(Recorder, **options))
        assert len(descriptors() - before) <= 4  # the loop's own
        return result

    on_both(scenario)


def test_reuse_address_is_no_parameter(loop: Any) -> None:
    with pytest.raises(TypeError):
        loop.create_datagram_endpoint(Recorder, reuse_address=True)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_sock_of_another_kind(kind: int) -> None:
    async def scenario(loop: Any) -> Any:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with ours, theirs:
            try:
                transport, protocol = await loop.create_datagram_endpoint(
                    Recorder, sock=ours
                )
            except ValueError as exc:
                return type(exc), str(exc).split(",")[0]
            theirs.send(b"data")
            data = await received(protocol)
            transport.close()
            await until(lambda: protocol.lost)
            return data

    on_both(scenario)


def test_sock_with_other_options() -> None:
    async def scenario(loop: Any) -> Any:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            options = {"local_addr": (HOST, 0), "flags": 1, "allow_broadcast": True}
            return await outcome(
                loop.create_datagram_endpoint(Recorder, sock=sock, **options)
            )

    assert on_both(scenario)[0] is ValueError


def test_failing_factory() -> None:
    async def scenario(loop: Any) -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            await outcome(loop.create_datagram_endpoint(lambda: 1 / 0, sock=sock))
            return sock.fileno() >= 0

    assert on_both(scenario) is True


def test_failing_factory_leaks_nothing(fast_loop: Any) -> None:
    async def main() -> None:
        async with endpoint():
            pass
        before = descriptors()
        with pytest.raises(ZeroDivisionError):
            await fast_loop.create_datagram_endpoint(
                lambda: 1 / 0, local_addr=(HOST, 0)
            )
        assert descriptors() == before

    fast_loop.run_until_complete(main())


def test_reuse_port() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint(local_addr=(HOST, 0), reuse_port=True) as one:
            name = name_of(one)
            async with endpoint(local_addr=name, reuse_port=True) as other:
                same = name_of(other) == name
            return same, await outcome(
                loop.create_datagram_endpoint(Recorder, local_addr=name)
            )

    same, (kind, _, number) = on_both(scenario)
    assert (same, kind, number) == (True, OSError, errno.EADDRINUSE)


def test_allow_broadcast() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            options = {"remote_addr": name_of(one), "allow_broadcast": True}
            async with endpoint(**options) as other:
                # not connected, but there is one address to send to
                other.transport.sendto(b"data")
                data = await received(one)
                held = other.transport.get_extra_info("socket")
                return (
                    data,
                    held.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST),
                    other.transport.get_extra_info("peername"),
                )

    assert on_both(scenario) == ([b"data"], 1, None)


@pytest.mark.skipif(not LINUX, reason="all of 127.0.0.0/8 is local on Linux")
def test_broadcast_is_refused_unless_allowed() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            one.transport.sendto(b"x", ("255.255.255.255", 9))
            one.transport.sendto(b"x", ("<broadcast>", 9))
            return [described(exc) for exc in one.errors]

    assert [kind for kind, _, _ in on_both(scenario)] == [PermissionError] * 2


def test_scope_ids() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint(local_addr=("::1", 0)) as one:
            host, port, flow, scope = name_of(one)
            for address in ((host, port), (host, port, flow), (host, port, 0, scope)):
                one.transport.sendto(b"x", address)
            await received(one, 3)
            one.transport.sendto(b"x", (host, port, 1 << 20, 0))
            return len(one.got), one.errors

    # the last is refused with OverflowError, which ends the endpoint
    async def reported(loop: Any) -> Any:
        reports = collect_reports(loop)
        await scenario(loop)
        return [described_report(context) for context in reports]

    assert len(on_both(reported)) == 1


def test_pair_of_sockets(fast_loop: Any) -> None:
    """Its peer needs no address; asyncio asks for one."""

    async def main() -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with other:
            async with endpoint(sock=one) as ours:
                other.send(b"ping")
                assert await received(ours) == [b"ping"]
                ours.transport.sendto(b"pong")
                assert other.recv(100) == b"pong"
                other.close()
                ours.transport.sendto(b"lost")
                await until(lambda: ours.errors)
                assert isinstance(ours.errors[0], ConnectionRefusedError)

    fast_loop.run_until_complete(main())


def test_unconnected_endpoint_needs_an_address() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with endpoint() as ours:
            ours.transport.sendto(b"whereto")
            await until(lambda: ours.lost)
            return ours.events, [described_report(report) for report in reports]

    on_both(scenario)


def test_unix(tmp_path: Any) -> None:
    async def scenario(loop: Any) -> Any:
        family = {"family": socket.AF_UNIX}
        path, other_path = (str(tmp_path / f"{n}{id(loop)}") for n in "ab")
        async with endpoint(Echo, local_addr=path, **family):
            options = {"local_addr": other_path, "remote_addr": path}
            async with endpoint(**family, **options) as other:
                other.transport.sendto(b"data")
                await received(other)
                address = other.got[0][1]
                assert name_of(other) == other_path
                assert other.transport.get_extra_info("peername") == path
            async with endpoint(**family, local_addr=other_path) as again:
                again.transport.sendto(b"data", path)
                data = await received(again)
        return data, address == path

    assert on_both(scenario) == ([b"data"], True)


def test_unix_stale_path(tmp_path: Any) -> None:
    """A socket left behind is removed, anything else is not."""

    async def scenario(loop: Any) -> Any:
        path = tmp_path / f"file{id(loop)}"
        path.write_text("kept")
        options = {"family": socket.AF_UNIX, "local_addr": str(path)}
        kind, _, _ = await outcome(loop.create_datagram_endpoint(Recorder, **options))
        return kind, path.read_text()

    assert on_both(scenario) == (OSError, "kept")


@pytest.mark.skipif(not LINUX, reason="abstract names are Linux's")
def test_unix_abstract() -> None:
    async def scenario(loop: Any) -> Any:
        family = {"family": socket.AF_UNIX}
        name = f"\0fastloop {id(loop)} {os.getpid()}"
        async with (
            endpoint(local_addr=name, **family) as one,
            endpoint(local_addr=name + "x", **family) as other,
        ):
            other.transport.sendto(b"data", name)
            await received(one)
            return one.got[0][1] == (name + "x").encode()

    assert on_both(scenario) is True


def test_resolver_is_asked() -> None:
    async def scenario(loop: Any) -> Any:
        asked = []

        async def getaddrinfo(*args: Any, **options: Any) -> Any:
            asked.append((args, sorted(options.items())))
            return [
                (socket.AF_INET, socket.SOCK_DGRAM, 17, "", (HOST, 0)),
                (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
            ]

        loop.getaddrinfo = getaddrinfo
        async with endpoint(local_addr=("some.name", 9), flags=5) as one:
            return asked, name_of(one)[0]

    assert on_both(scenario)[1] == HOST


def test_second_address_serves() -> None:
    async def scenario(loop: Any) -> Any:
        async def getaddrinfo(*args: Any, **options: Any) -> Any:
            return [
                (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 0)),
                (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("::1", 0, 0, 0)),
            ]

        loop.getaddrinfo = getaddrinfo
        async with endpoint(local_addr=("some.name", 9)) as one:
            return name_of(one)[0]

    assert on_both(scenario) == "::1"


def test_nothing_found() -> None:
    async def scenario(loop: Any) -> Any:
        async def getaddrinfo(*args: Any, **options: Any) -> Any:
            return []

        loop.getaddrinfo = getaddrinfo
        return await outcome(
            loop.create_datagram_endpoint(Recorder, local_addr=("some.name", 9))
        )

    assert on_both(scenario)[:2] == (OSError, "getaddrinfo() returned empty list")


# --- receiving ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1024, 9000, 65507])
def test_sizes(size: int) -> None:
    async def scenario(loop: Any) -> Any:
        data = random.Random(size).randbytes(size)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            async with endpoint() as one:
                peer.sendto(data, name_of(one))
                return await received(one) == [data]

    assert on_both(scenario) is True


def test_large_unix_datagram() -> None:
    async def scenario(loop: Any) -> Any:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            theirs.setblocking(False)
            async with endpoint(sock=ours) as one:
                assert one.transport.max_size == 256 * 1024
                size = 150_000
                theirs.send(bytes(size))
                return [len(data) == size for data in await received(one)], one.got[0][
                    1
                ]

    assert on_both(scenario) == ([True], None)


def test_in_order_and_all() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint(remote_addr=name_of(one)) as other:
            for i in range(100):
                other.transport.sendto(b"%d" % i)
            data = await received(one, 100)
            return data == [b"%d" % i for i in range(100)]

    assert on_both(scenario) is True


def test_many_peers() -> None:
    """More than addresses are remembered for."""

    async def scenario(loop: Any) -> Any:
        async with endpoint(Echo) as one, contextlib.AsyncExitStack() as stack:
            peers = [
                await stack.enter_async_context(endpoint(remote_addr=name_of(one)))
                for _ in range(40)
            ]
            for turn in range(3):
                for i, peer in enumerate(peers):
                    peer.transport.sendto(b"%d %d" % (i, turn))
                for i, peer in enumerate(peers):
                    data = await received(peer, turn + 1)
                    assert data[-1] == b"%d %d" % (i, turn)
            return len(one.got)

    assert on_both(scenario) == 120


def test_not_before_what_was_scheduled() -> None:
    """A task that was scheduled before the datagram came is there when it is told."""

    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            other.transport.sendto(b"data", name_of(one))
            order: list[str] = []
            one.datagram_received = lambda data, addr: order.append("datagram")
            loop.call_soon(order.append, "scheduled")
            await until(lambda: len(order) == 2)
            return order

    assert on_both(scenario) == ["scheduled", "datagram"]


def test_pause_reading() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            states = [one.transport.is_reading()]
            one.transport.pause_reading()
            one.transport.pause_reading()
            other.transport.sendto(b"data", name_of(one))
            await turns()
            states += [one.transport.is_reading(), len(one.got)]
            one.transport.resume_reading()
            one.transport.resume_reading()
            await received(one)
            return [*states, one.transport.is_reading()]

    assert on_both(scenario) == [True, False, 0, True]


@pytest.mark.parametrize("act", ["pause_reading", "close", "abort"])
def test_stops_at_once(act: str) -> None:
    """What has not been delivered stays where it is."""

    class Stopping(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            getattr(self.transport, act)()

    async def scenario(loop: Any) -> Any:
        async with endpoint(Stopping) as one, endpoint() as other:
            for i in range(20):
                other.transport.sendto(b"%d" % i, name_of(one))
            await turns()
            return one.got[0][0], len(one.got)

    assert on_both(scenario) == (b"0", 1)


def test_stop_of_the_loop(loop: Any) -> None:
    protocol = Recorder()
    transport, _ = loop.run_until_complete(
        loop.create_datagram_endpoint(lambda: protocol, local_addr=(HOST, 0))
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(20):
            peer.sendto(b"data", name_of(protocol))
        protocol.datagram_received = lambda *args: (  # type: ignore[method-assign]
            protocol.got.append(args),
            loop.stop(),
        )[0]
        loop.run_forever()
        assert len(protocol.got) == 1
    transport.close()
    run_once(loop)
    run_once(loop)


def test_others_have_their_turn(fast_loop: Any) -> None:
    """An endpoint that is flooded does not keep the loop to itself."""

    async def main() -> None:
        class Flood(Echo):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.got.append((data, addr))
                self.transport.sendto(data, addr)  # to itself, for ever

        async with endpoint(Flood) as one:
            for _ in range(100):
                one.transport.sendto(b"x", name_of(one))
            await until(lambda: one.got)
            for _ in range(5):
                before = len(one.got)
                await asyncio.sleep(0)
                assert len(one.got) - before <= 100

    fast_loop.run_until_complete(main())


def test_exception_in_datagram_received() -> None:
    """It is reported, and the endpoint goes on."""

    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise KeyError(data)

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with endpoint(Failing) as one, endpoint() as other:
            for _ in range(2):
                other.transport.sendto(b"data", name_of(one))
            await received(one, 2)
            closing = one.transport.is_closing()
        kinds = [(described(r["exception"]), sorted(r)) for r in reports]
        assert all(r["message"].startswith("Exception in callback") for r in reports)
        return closing, kinds

    closing, kinds = on_both(scenario)
    assert not closing
    assert len(kinds) == 2


@pytest.mark.parametrize("exc", [KeyboardInterrupt, SystemExit])
def test_fatal_exception_leaves_the_loop(loop: Any, exc: type[BaseException]) -> None:
    class Failing(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) == 1:
                raise exc

    transport, one = loop.run_until_complete(
        loop.create_datagram_endpoint(Failing, local_addr=(HOST, 0))
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(3):
            peer.sendto(b"data", name_of(one))
        with pytest.raises(exc):
            loop.run_forever()
        loop.run_until_complete(until(lambda: len(one.got) == 3))
    transport.close()
    loop.run_until_complete(until(lambda: one.lost))


def test_context() -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    class Looking(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.events.append(variable.get())

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.events.append(variable.get())

        def connection_lost(self, exc: Exception | None) -> None:
            self.events.append(variable.get())
            super().connection_lost(exc)

    async def scenario(loop: Any) -> Any:
        variable.set("made")
        async with endpoint(Looking) as one, endpoint() as other:
            variable.set("later")
            other.transport.sendto(b"data", name_of(one))
            await received(one)
        return one.events[:3]

    assert on_both(scenario) == ["made", "made", "made"]


# --- errors of the network ----------------------------------------------------------


@pytest.mark.skipif(not LINUX, reason="other systems tell less")
def test_icmp_errors() -> None:
    """They are told, and close nothing."""

    async def scenario(loop: Any) -> Any:
        async with endpoint(remote_addr=dead_address()) as one:
            one.transport.sendto(b"one")
            await until(lambda: one.errors)
            one.transport.sendto(b"two")
            await until(lambda: len(one.errors) == 2)
            return [described(e) for e in one.errors], one.transport.is_closing()

    errors, closing = on_both(scenario)
    assert not closing
    assert [kind for kind, _, _ in errors] == [ConnectionRefusedError] * 2


@pytest.mark.skipif(not LINUX, reason="other systems tell less")
def test_icmp_errors_then_data() -> None:
    async def scenario(loop: Any) -> Any:
        address = dead_address()
        async with endpoint(remote_addr=address) as one:
            for _ in range(5):
                one.transport.sendto(b"lost")
                await turns(2)
            assert one.errors
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.bind(address)
                peer.sendto(b"alive", name_of(one))
                data = await received(one)
                one.transport.sendto(b"back")
                peer.settimeout(5)
                return data, peer.recv(10)

    assert on_both(scenario) == ([b"alive"], b"back")


def test_unconnected_hears_no_errors() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            one.transport.sendto(b"x", dead_address())
            await turns()
            return one.errors, one.transport.is_closing()

    assert on_both(scenario) == ([], False)


@pytest.mark.parametrize(
    "address", [("192.0.2.1.5", 9), ("no.such.host.invalid", 9), (HOST, 0)]
)
def test_sendto_errors_are_told(address: Any) -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            one.transport.sendto(b"x", address)
            await turns(1)
            kinds = [type(exc).__mro__[-3] for exc in one.errors]
            return kinds, one.transport.is_closing()

    on_both(scenario)


def test_sendto_too_much() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            one.transport.sendto(bytes(70_000), name_of(one))
            return [described(exc) for exc in one.errors], one.transport.is_closing()

    [(_, _, number)], closing = on_both(scenario)
    assert (number, closing) == (errno.EMSGSIZE, False)


def test_exception_in_error_received() -> None:
    """Out of sendto() it comes to the caller."""

    class Failing(Recorder):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise KeyError("from error_received")

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with endpoint(Failing) as one:
            answer = call(one.transport.sendto, bytes(70_000), name_of(one))
            closing = one.transport.is_closing()
        return answer, closing, len(reports)

    answer, closing, reports = on_both(scenario)
    assert (answer[0], closing, reports) == (KeyError, False, 0)


# --- sendto -------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["text", None, 3, [b"x"], object])
def test_sendto_bad_data(data: Any) -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            answer = call(one.transport.sendto, data, name_of(one))
            return answer, one.transport.is_closing()

    assert on_both(scenario)[0][0] is TypeError


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendto_kinds(kind: Any) -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint(remote_addr=name_of(one)) as other:
            one.transport.sendto(kind(b"data"), name_of(other))
            other.transport.sendto(kind(b"back"))
            return await received(other), await received(one)

    assert on_both(scenario) == ([b"data"], [b"back"])


def test_empty_datagrams() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint(remote_addr=name_of(one)) as other:
            other.transport.sendto(b"")
            other.transport.sendto(b"last")
            await until(lambda: one.got and one.got[-1][0] == b"last")
            return [data for data, _ in one.got]

    expected = [b"", b"last"] if sys.version_info >= (3, 13) else [b"last"]
    assert on_both(scenario) == expected


@pytest.mark.parametrize("address", [None, "text", (), (HOST,), (HOST, "x"), 5])
def test_sendto_bad_address(address: Any) -> None:
    """What is no OSError ends the endpoint."""

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with endpoint() as one:
            answer = call(one.transport.sendto, b"data", address)
            closing = one.transport.is_closing()
            await until(lambda: one.lost)
        return answer, closing, one.events, [described_report(r) for r in reports]

    answer, closing, _, reports = on_both(scenario)
    assert (answer, closing, len(reports)) == (None, True, 1)


def test_sendto_another_address_than_the_peer() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            name = name_of(one)
            async with endpoint(remote_addr=name) as other:
                other.transport.sendto(b"data", name)
                other.transport.sendto(b"more", (*name,))
                kind, text, _ = call(other.transport.sendto, b"x", (HOST, 9))
                return await received(one, 2), kind, text.replace(str(name[1]), "PORT")

    assert on_both(scenario)[1] is ValueError


def test_sendto_strange_addresses() -> None:
    class Address(tuple):  # type: ignore[type-arg]
        pass

    class Text(str):
        __slots__ = ()

    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            port = name_of(one)[1]
            for address in (
                Address((HOST, port)),
                (Text(HOST), port),
                (HOST, True + port - 1),
                ("localhost", port),
            ):
                other.transport.sendto(b"x", address)
            return len(await received(one, 4))

    assert on_both(scenario) == 4


# --- flow control -------------------------------------------------------------------


def full_pair() -> tuple[socket.socket, socket.socket]:
    """Two datagram sockets, the first of which takes no more."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"filled")
    return ours, theirs


class Named(socket.socket):
    """A socket of a pair, which has a peer but cannot tell its name."""

    def getpeername(self) -> Any:
        return "peer"


def empty(sock: socket.socket) -> list[bytes]:
    data = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data.append(sock.recv(1 << 18))
    return data


@contextlib.asynccontextmanager
async def blocked(factory: Any = Recorder) -> AsyncIterator[Any]:
    """Yield the protocol of an endpoint that cannot send, and its peer."""
    ours, theirs = full_pair()
    async with endpoint(factory, sock=Named(fileno=ours.detach())) as one:
        with theirs:
            yield one, theirs


def test_queue_is_counted() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, _):
            sizes = [one.transport.get_write_buffer_size()]
            for data in (b"1234", bytearray(5), memoryview(b"123456")):
                one.transport.sendto(data)
                sizes.append(one.transport.get_write_buffer_size())
            return sizes

    h = HEADER
    assert on_both(scenario) == [0, 4 + h, 9 + 2 * h, 15 + 3 * h]


def test_queue_is_sent() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, theirs):
            mutable = bytearray(b"before")
            one.transport.sendto(mutable)
            mutable[:] = b"after!"
            for i in range(20):
                one.transport.sendto(b"%d" % i)
            got: list[bytes] = []
            while got[-1:] != [b"19"]:
                got += empty(theirs)
                await asyncio.sleep(0)
            return [data for data in got if data != b"filled"]

    assert on_both(scenario) == [b"before", *(b"%d" % i for i in range(20))]


def test_size_is_zero_again(fast_loop: Any) -> None:
    """(In some releases asyncio counts headers that it never takes off again.)"""

    async def main() -> None:
        async with blocked() as (one, theirs):
            for _ in range(100):
                one.transport.sendto(b"data")
            while one.transport.get_write_buffer_size():
                empty(theirs)
                await asyncio.sleep(0)
            assert one.transport._unsent == 0

    fast_loop.run_until_complete(main())


def test_pause_and_resume() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, theirs):
            limits = [one.transport.get_write_buffer_limits()]
            one.transport.set_write_buffer_limits(high=2000, low=1000)
            limits.append(one.transport.get_write_buffer_limits())
            for _ in range(30):
                one.transport.sendto(bytes(100))
            paused = list(one.events)
            # asyncio's count of headers differs from release to release
            one.transport.set_write_buffer_limits(high=2000, low=999)
            while "resume" not in one.events:
                empty(theirs)
                await asyncio.sleep(0)
            return limits, paused, list(one.events)

    limits, paused, events = on_both(scenario)
    assert limits == [(16384, 65536), (1000, 2000)]
    assert paused == ["made", "pause"]
    assert events == ["made", "pause", "resume"]


def test_limits() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, _):
            one.transport.sendto(bytes(100))
            answers = []
            for limits in ({"low": 10}, {"high": 8}, {}, {"high": 1, "low": 2}):
                answers.append(call(one.transport.set_write_buffer_limits, **limits))
                answers.append(one.transport.get_write_buffer_limits())
            return answers, list(one.events)

    assert on_both(scenario)[1] == ["made", "pause"]


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_failing_flow_control(name: str) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            if name == "pause_writing":
                raise KeyError

        def resume_writing(self) -> None:
            super().resume_writing()
            if name == "resume_writing":
                raise KeyError

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with blocked(Failing) as (one, theirs):
            one.transport.set_write_buffer_limits(high=50)
            one.transport.sendto(bytes(100))
            while "resume" not in one.events:
                empty(theirs)
                await asyncio.sleep(0)
        return [described_report(r) for r in reports], one.events[:3]

    reports, _ = on_both(scenario)
    assert reports[0][0] == f"protocol.{name}() failed"


def test_peer_goes_while_something_is_queued() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, theirs):
            for _ in range(3):
                one.transport.sendto(b"data")
            theirs.close()
            await until(lambda: len(one.errors) >= 3)
            return {type(exc) for exc in one.errors}, one.transport.is_closing()

    assert on_both(scenario)[1] is False


# --- closing ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
def test_closing(how: str) -> None:
    async def scenario(loop: Any) -> Any:
        transport, one = await loop.create_datagram_endpoint(
            Recorder, local_addr=(HOST, 0)
        )
        name = name_of(one)
        getattr(transport, how)()
        states = [transport.is_closing(), transport.is_reading(), one.lost]
        getattr(transport, how)()
        transport.close()
        transport.abort()
        await until(lambda: one.lost)
        transport.pause_reading()
        transport.resume_reading()
        states += [
            transport.get_protocol(),
            transport.get_extra_info("sockname") == name,
            transport.get_extra_info("socket").fileno(),
            transport.get_write_buffer_size(),
        ]
        return states, one.events

    assert on_both(scenario) == (
        [True, False, False, None, True, -1, 0],
        ["made", ("lost", None)],
    )


def test_close_sends_what_is_queued() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, theirs):
            one.transport.sendto(b"queued")
            one.transport.close()
            one.transport.sendto(b"after close")
            await turns(2)
            assert not one.lost
            got = empty(theirs)
            await until(lambda: one.lost)
            got += empty(theirs)
            return [data for data in got if data != b"filled"]

    assert on_both(scenario) == [b"queued", b"after close"]


def test_abort_drops_what_is_queued() -> None:
    async def scenario(loop: Any) -> Any:
        async with blocked() as (one, theirs):
            one.transport.sendto(b"queued")
            one.transport.abort()
            await until(lambda: one.lost)
            return set(empty(theirs)), one.events[-1]

    assert on_both(scenario) == ({b"filled"}, ("lost", None))


def test_sendto_right_after_close() -> None:
    """Without a remote address the socket still sends until connection_lost()."""

    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            other.transport.close()
            other.transport.sendto(b"data", name_of(one))
            return await received(one)

    assert on_both(scenario) == [b"data"]


def test_sendto_to_the_peer_after_close(caplog: Any) -> None:
    async def scenario(loop: Any) -> Any:
        caplog.clear()
        async with endpoint() as one, endpoint(remote_addr=name_of(one)) as other:
            other.transport.close()
            for _ in range(7):
                other.transport.sendto(b"dropped")
            await turns()
            return one.got, [record.message for record in caplog.records]

    assert on_both(scenario) == ([], ["socket.send() raised exception."] * 3)


def test_sendto_when_closed(fast_loop: Any) -> None:
    """It is dropped.  (asyncio's raises AttributeError.)"""

    async def main() -> None:
        async with endpoint() as one:
            name = name_of(one)
            one.transport.abort()
            await until(lambda: one.lost)
            for _ in range(3):
                one.transport.sendto(b"dropped", name)
            assert one.transport.get_write_buffer_size() == 0

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("callback", ["connection_made", "connection_lost"])
def test_failing_callbacks(callback: str) -> None:
    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if callback == "connection_made":
                raise KeyError

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if callback == "connection_lost":
                raise KeyError

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with endpoint(Failing) as one:
            fd = one.transport.get_extra_info("socket").fileno()
        with pytest.raises(OSError):
            os.fstat(fd)
        return [(described(r["exception"]), sorted(r)) for r in reports]

    assert len(on_both(scenario)) == 1


def test_closed_in_connection_made() -> None:
    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    async def scenario(loop: Any) -> Any:
        async with endpoint(Closing) as one:
            await until(lambda: one.lost)
            return one.events

    assert on_both(scenario) == ["made", ("lost", None)]


def test_set_protocol() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one, endpoint() as other:
            second = Recorder()
            one.transport.set_protocol(second)
            assert one.transport.get_protocol() is second
            other.transport.sendto(b"data", name_of(one))
            data = await received(second)
            one.transport.abort()
            await until(lambda: second.lost)
            one.lost = True
            return data, one.events, second.events

    assert on_both(scenario) == ([b"data"], ["made"], [("lost", None)])


def test_cancelled_while_it_is_made() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint():
            pass
        before = descriptors()
        results = []
        for rounds in range(4):
            task = loop.create_task(
                loop.create_datagram_endpoint(Recorder, local_addr=(HOST, 0))
            )
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            [result] = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, tuple):
                result[0].abort()
            results.append(isinstance(result, asyncio.CancelledError))
            await turns(2)
        assert descriptors() == before
        return results[:2]

    on_both(scenario)


def test_sock_of_an_endpoint_cannot_be_had_twice() -> None:
    async def scenario(loop: Any) -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        async with endpoint(sock=sock):
            return [
                call(loop.add_reader, sock.fileno(), print)[0],
                call(loop.remove_writer, sock.fileno())[0],
            ]

    assert on_both(scenario) == [RuntimeError, RuntimeError]


def test_user_closes_the_sock(fast_loop: Any) -> None:
    """The endpoint goes on, and closes the descriptor itself in the end."""

    async def main() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((HOST, 0))
        async with endpoint(sock=sock) as one, endpoint() as other:
            sock.close()
            other.transport.sendto(b"data", name_of(one))
            assert await received(one) == [b"data"]
            fd = one.transport._sock_fd
        with pytest.raises(OSError):
            os.fstat(fd)

    fast_loop.run_until_complete(main())


# --- about the object ---------------------------------------------------------------


def test_kind() -> None:
    async def scenario(loop: Any) -> Any:
        async with endpoint() as one:
            transport = one.transport
            assert isinstance(transport, asyncio.DatagramTransport) or (
                sys.version_info < (3, 12)
            )
            assert weakref.ref(transport)() is transport
            transport.own_attribute = 1
            return (
                isinstance(transport, asyncio.Transport),
                transport.get_protocol() is one,
                transport.get_extra_info("nothing", "default"),
                call(transport.write, b"x"),
                call(transport.write_eof),
                repr(transport).split("fd=")[1].split(" ", 1)[1],
            )

    on_both(scenario)


def test_cannot_be_made_or_subclassed() -> None:
    import fastloop

    with pytest.raises(TypeError):
        fastloop.DatagramTransport()
    with pytest.raises(TypeError):
        type("Sub", (fastloop.DatagramTransport,), {})


def test_unclosed_transport_is_warned_of(loop_factory: Any) -> None:
    loop = loop_factory()
    transport, one = loop.run_until_complete(
        loop.create_datagram_endpoint(Recorder, local_addr=(HOST, 0))
    )
    fd = transport.get_extra_info("socket").fileno()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        del transport
        one.transport = None
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


@isolated
def test_dropped_with_its_loop(loop_factory: Any) -> None:
    """Loop, transport and protocol are one heap of garbage."""
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)

    def make() -> set[int]:
        loop = loop_factory()
        loop.run_until_complete(
            loop.create_datagram_endpoint(Recorder, local_addr=(HOST, 0))
        )
        del loop
        gc.collect()
        return descriptors()

    assert make() == make()


@isolated
def test_exit_with_open_endpoints(loop_factory: Any) -> None:
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)
    loop = loop_factory()
    keep = [
        loop.run_until_complete(
            loop.create_datagram_endpoint(Recorder, local_addr=(HOST, 0))
        )
        for _ in range(3)
    ]
    keep[0][0].sendto(b"x", keep[1][0].get_extra_info("sockname"))
    keep[1][0].close()
    sys.keep = keep, loop  # type: ignore[attr-defined]


@isolated
def test_fork_with_open_endpoints() -> None:
    import warnings

    import fastloop

    warnings.simplefilter("ignore")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with endpoint(Echo) as one, endpoint(remote_addr=name_of(one)) as other:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    asyncio._set_running_loop(None)
                    with (
                        socket.socketpair()[0] as sock,
                        pytest.raises(RuntimeError, match="parent"),
                    ):
                        loop._sock_writable(sock).send(None)
                    new = fastloop.new_event_loop()
                    new.run_until_complete(in_child(name_of(one)))
                    new.close()
                    code = 0
                finally:
                    os._exit(code)
            while not (waited := os.waitpid(child, os.WNOHANG))[0]:
                await asyncio.sleep(0.01)
            assert waited[1] == 0
            other.transport.sendto(b"parent")
            assert await received(other) == [b"parent"]

    async def in_child(address: Any) -> None:
        async with endpoint(remote_addr=address) as mine:
            mine.transport.sendto(b"child")
            assert await received(mine) == [b"child"]

    loop = fastloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()


def test_endpoints_do_not_leak(fast_loop: Any) -> None:
    # the same peers each time: the tuples of some hundred are remembered
    here, there = dead_address(), dead_address()

    async def main() -> int:
        for _ in range(30):
            async with (
                endpoint(Echo, local_addr=here) as one,
                endpoint(local_addr=there, remote_addr=here) as two,
            ):
                two.transport.sendto(b"data")
                await received(two)
        del one, two
        gc.collect()
        return sys.getallocatedblocks()

    before = descriptors()
    for _ in range(3):
        blocks = fast_loop.run_until_complete(main())
    assert fast_loop.run_until_complete(main()) - blocks < 60
    assert len(descriptors() - before) <= 4
