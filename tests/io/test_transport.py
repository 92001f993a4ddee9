"""The transport object: what it is, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import socket
import weakref
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from io_support import (
    HOST,
    Loop,
    LoopFactory,
    Recorder,
    call,
    connected,
    described,
    facing,
    fill,
    isolated,
    on_both,
    receive,
    run_once,
    tcp_pair,
    turns,
    until,
)

import fastloop

PUBLIC = [name for name in dir(asyncio.Transport) if not name.startswith("_")]


# --- what it is ---------------------------------------------------------------------


def test_is_a_transport_of_asyncio(fast_loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            transport = protocol.transport
            assert type(transport) is fastloop.TCPTransport
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.BaseTransport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            for name in PUBLIC:
                assert callable(getattr(transport, name))
                assert getattr(transport, name).__doc__

    fast_loop.run_until_complete(main())


def test_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        fastloop.TCPTransport()
    with pytest.raises(TypeError):
        fastloop.TCPTransport.__new__(fastloop.TCPTransport)


@isolated
def test_half_made_object_does_nothing() -> None:
    """Whoever gets round the constructor gets an object that is inert."""
    for make in (
        lambda: object.__new__(fastloop.TCPTransport),
        lambda: asyncio.Transport.__new__(fastloop.TCPTransport),
        lambda: fastloop.TCPTransport.__base__.__new__(fastloop.TCPTransport),
    ):
        try:
            transport: Any = make()
        except TypeError:
            continue
        for name, args in [
            *((name, ()) for name in PUBLIC),
            ("write", (b"x",)),
            ("writelines", ([b"x"],)),
            ("set_protocol", (Recorder(),)),
            ("get_extra_info", ("socket",)),
            ("get_extra_info", ("sockname",)),
            ("set_write_buffer_limits", (10,)),
            ("_force_close", (None,)),
        ]:
            call(getattr(transport, name), *args)
        call(repr, transport)
        del transport
        gc.collect()


def test_takes_attributes_and_weak_references(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            transport = protocol.transport
            transport.remark = "mine"
            assert transport.remark == "mine"
            assert vars(transport)["remark"] == "mine"
            del transport.remark
            assert not hasattr(transport, "remark")
            ref = weakref.ref(transport)
            assert ref() is transport
            assert {transport: 1}[transport] == 1
            assert transport == transport

    loop.run_until_complete(main())


def test_cycle_through_the_transport_is_collected(loop: Loop) -> None:
    async def main() -> weakref.ref[Any]:
        async with facing() as (protocol, _):
            transport = protocol.transport
            transport.myself = transport
            transport.protocol = protocol
            return weakref.ref(transport)

    ref = loop.run_until_complete(main())
    run_once(loop)
    gc.collect()
    assert ref() is None


def test_repr_names_the_descriptor(fast_loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            transport = protocol.transport
            number = transport.get_extra_info("socket").fileno()
            assert repr(transport) == (
                f"<TCPTransport fd={number} read=polling write=<idle, bufsize=0>>"
            )
            transport.pause_reading()
            assert "read=idle" in repr(transport)
            transport.write(bytes(16 << 20))
            size = transport.get_write_buffer_size()
            assert f"write=<polling, bufsize={size}>" in repr(transport)
            transport.close()
            assert repr(transport).startswith(f"<TCPTransport closing fd={number}")
            transport.abort()
            await until(lambda: protocol.lost)
            await turns(1)
            assert repr(transport) == "<TCPTransport closed>"

    fast_loop.run_until_complete(main())


def test_repr_that_meets_itself(loop: Loop) -> None:
    """A protocol whose repr shows its transport, whose repr ..."""

    async def main() -> None:
        async with facing() as (protocol, _):
            assert re.match(r"<\w*Transport fd=\d+ ", repr(protocol.transport))

    loop.run_until_complete(main())


# --- get_extra_info() ---------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_addresses(loop: Loop, host: str) -> None:
    async def main() -> None:
        async with connected(host=host) as connection:
            client, server = connection.client.transport, connection.server.transport
            for end, other in (client, server), (server, client):
                sock = end.get_extra_info("socket")
                assert end.get_extra_info("sockname") == sock.getsockname()
                assert end.get_extra_info("peername") == sock.getpeername()
                name = other.get_extra_info("sockname")
                assert end.get_extra_info("peername") == name
                assert len(name) == (4 if ":" in host else 2)

    loop.run_until_complete(main())


def test_socket_is_a_transport_socket(loop: Loop) -> None:
    async def main() -> None:
        async with connected() as connection:
            for protocol in connection.client, connection.server:
                transport = protocol.transport
                sock = transport.get_extra_info("socket")
                assert type(sock) is TransportSocket
                assert transport.get_extra_info("socket") is sock
                assert sock.family == socket.AF_INET
                assert sock.type == socket.SOCK_STREAM
                assert sock.fileno() >= 0
                assert sock.gettimeout() == 0
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert not sock.get_inheritable()

    loop.run_until_complete(main())


def test_extra_info_defaults(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            info = protocol.transport.get_extra_info
            assert info("nonsense") is None
            assert info("nonsense", "default") == "default"
            assert info("nonsense", default="default") == "default"
            assert info(name="nonsense", default=7) == 7
            assert info("sslcontext") is None
            for wrong in [(), ("a", "b", "c")]:
                with pytest.raises(TypeError):
                    info(*wrong)

    loop.run_until_complete(main())


NAMES = ["sockname", "peername", "socket"]


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_extra_info_outlives_the_connection(loop: Loop, asked: bool, end: str) -> None:
    """Whether it was asked for before or not."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            address = peer.getsockname()
            before = [transport.get_extra_info(name) for name in NAMES if asked]
            getattr(transport, end)()
            await until(lambda: protocol.lost)
            await turns(1)
            after = [transport.get_extra_info(name) for name in NAMES]
            assert before in ([], after)
            assert after[1] == address
            assert after[0] is not None
            assert after[2] is not None
            assert after[2].fileno() == -1

    loop.run_until_complete(main())


@pytest.mark.parametrize("asked", [True, False])
def test_extra_info_in_connection_lost(loop: Loop, asked: bool) -> None:
    seen: list[Any] = []

    class Looking(Recorder):
        def connection_lost(self, exc: Any) -> None:
            super().connection_lost(exc)
            seen.extend(map(self.transport.get_extra_info, NAMES))
            seen.append(seen[2].fileno())

    async def main() -> None:
        async with facing(Looking) as (protocol, peer):
            address = peer.getsockname()
            if asked:
                list(map(protocol.transport.get_extra_info, NAMES))
            peer.close()
            await until(lambda: protocol.lost)
            assert seen[1] == address
            assert seen[0] is not None
            assert seen[3] >= 0

    loop.run_until_complete(main())


def test_peer_that_is_gone_already() -> None:
    """There is no peer name any more; nothing else is amiss."""

    async def scenario(loop: Any) -> Any:
        listening = socket.create_server((HOST, 0))
        sock = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        listening.close()
        linger = b"\x01\0\0\0\0\0\0\0"
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        accepted.close()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        name = transport.get_extra_info("peername", "default")
        await until(lambda: protocol.lost)
        return name, protocol.events, described(protocol.lost_with)

    on_both(scenario)


# --- reading on and off -------------------------------------------------------------


def test_pause_and_resume_reading() -> None:
    async def scenario(loop: Any) -> Any:
        states = []
        async with facing() as (protocol, peer):
            transport = protocol.transport

            async def state(what: str) -> None:
                peer.send(b"x")
                await turns()
                states.append((what, transport.is_reading(), len(protocol.data)))

            await state("at first")
            for name in "pause", "pause", "resume", "resume", "pause", "resume":
                assert getattr(transport, f"{name}_reading")() is None
                await state(name)
            transport.pause_reading()
            transport.close()
            states.append(transport.is_reading())
            transport.resume_reading()
            transport.pause_reading()
            states.append(transport.is_reading())
            await until(lambda: protocol.lost)
            transport.resume_reading()
            transport.pause_reading()
            states.append(transport.is_reading())
            states.append(protocol.events)
        return states

    on_both(scenario)


@pytest.mark.parametrize("resume", [False, True])
def test_pause_reading_in_connection_made(loop: Loop, resume: bool) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()
            if resume:
                transport.resume_reading()

    async def main() -> None:
        async with facing(Pausing) as (protocol, peer):
            peer.send(b"data")
            await turns()
            assert protocol.transport.is_reading() is resume
            assert bool(protocol.data) is resume
            protocol.transport.resume_reading()
            await until(lambda: protocol.data == b"data")

    loop.run_until_complete(main())


def test_pause_reading_before_connection_made(loop: Loop) -> None:
    """By whoever has the transport first: the server's list of its clients."""

    async def main() -> None:
        ours, peer = tcp_pair()
        made: list[Any] = []

        class Pausing(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                made.append(transport.is_reading())

        transport, protocol = await loop.create_connection(Pausing, sock=ours)
        assert made == [True]
        transport.pause_reading()
        peer.send(b"data")
        await turns()
        assert protocol.data == b""
        peer.close()
        transport.abort()
        await until(lambda: protocol.lost)

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [1, 100_000])
def test_pause_reading_while_data_arrives(loop: Loop, size: int) -> None:
    """Not one more call of data_received() comes after it."""

    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            assert self.transport.is_reading()
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        async with facing(Pausing) as (protocol, peer):
            total = 50 * size
            peer.setblocking(False)
            sent = 0
            while len(protocol.data) < total:
                if sent < total:
                    with contextlib.suppress(BlockingIOError):
                        sent += peer.send(bytes(min(size, total - sent)))
                await asyncio.sleep(0)
                protocol.transport.resume_reading()

    loop.run_until_complete(main())


# --- the end ------------------------------------------------------------------------


ENDINGS = ["close", "abort"]


@pytest.mark.parametrize("first", ENDINGS)
@pytest.mark.parametrize("second", ENDINGS)
def test_ending_twice(first: str, second: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            states = [transport.is_closing()]
            assert getattr(transport, first)() is None
            states.append(transport.is_closing())
            assert getattr(transport, second)() is None
            states.append(transport.is_closing())
            await until(lambda: protocol.lost)
            states.append(transport.is_closing())
            getattr(transport, first)()
            assert await receive(peer) == b""
            await turns()
            return states, protocol.events, described(protocol.lost_with)

    answer = on_both(scenario)
    assert answer == ([False, True, True, True], ["made", "lost"], None)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "where", ["data_received", "eof_received", "connection_lost", "pause_writing"]
)
def test_ending_inside_a_callback(ending: str, where: str) -> None:
    class Ending(Recorder):
        pass

    def method(self: Any, *args: Any) -> Any:
        result = getattr(Recorder, where)(self, *args)
        getattr(self.transport, ending)()
        return result

    setattr(Ending, where, method)

    async def scenario(loop: Any) -> Any:
        async with facing(Ending) as (protocol, peer):
            if where == "data_received":
                peer.send(b"data")
            elif where == "pause_writing":
                protocol.transport.write(bytes(16 << 20))
                await receive(peer)
            else:
                peer.close()
            await until(lambda: protocol.lost)
            await turns()
            return protocol.events, described(protocol.lost_with)

    on_both(scenario)


def test_get_protocol_after_loss(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            transport = protocol.transport
            assert transport.get_protocol() is protocol
            transport.close()
            assert transport.get_protocol() is protocol
            await until(lambda: protocol.lost)
            await turns(1)
            assert transport.get_protocol() is None

    loop.run_until_complete(main())


def test_methods_after_loss() -> None:
    """Nothing is done, and nothing raised that asyncio would not."""

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, _):
            transport = protocol.transport
            transport.abort()
            await until(lambda: protocol.lost)
            await turns(2)
            calls: list[tuple[Any, ...]] = [
                ("is_closing",),
                ("is_reading",),
                ("write", b"x"),
                ("write_eof",),
                ("can_write_eof",),
                ("pause_reading",),
                ("resume_reading",),
                ("get_write_buffer_size",),
                ("get_write_buffer_limits",),
                ("set_write_buffer_limits",),
                ("close",),
                ("abort",),
                ("get_protocol",),
            ]
            return [(call(getattr(transport, name), *args)) for name, *args in calls]

    on_both(scenario)


# --- writing on a lost connection ---------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_write_after_the_end_is_dropped(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The fifth one is worth a warning, and each that follows."""
    caplog.set_level(logging.WARNING, "asyncio")

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            getattr(protocol.transport, ending)()
            warned = []
            for _ in range(8):
                caplog.clear()
                assert protocol.transport.write(b"lost") is None
                warned.append([record.getMessage() for record in caplog.records])
            assert await receive(peer) == b""
            await until(lambda: protocol.lost)
            for _ in range(2):
                caplog.clear()
                protocol.transport.write(b"lost")
                warned.append([record.getMessage() for record in caplog.records])
            protocol.transport.write(b"")
            return warned

    warned = on_both(scenario)
    assert [len(messages) for messages in warned] == [0] * 4 + [1] * 6
    assert warned[-1] == ["socket.send() raised exception."]


def test_write_after_reset_is_dropped(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            linger = b"\x01\0\0\0\0\0\0\0"
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            peer.close()
            await until(lambda: protocol.lost)
            for data in b"lost", b"x" * (1 << 20), bytearray(b"lost"):
                protocol.transport.write(data)
            assert protocol.transport.get_write_buffer_size() == 0
            assert isinstance(protocol.lost_with, ConnectionResetError)

    loop.run_until_complete(main())


def test_write_after_close_while_data_is_pending() -> None:
    """The connection is not lost yet: it goes out, too."""

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            first = b"a" * (8 << 20)
            transport.write(first)
            transport.close()
            transport.write(b"and this")
            got = await receive(peer)
            await until(lambda: protocol.lost)
            return got.lstrip(b"a"), len(got) - len(first)

    assert on_both(scenario) == (b"nd this", 8)


# --- the loop's end -----------------------------------------------------------------


def test_unclosed_transport_is_warned_of(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    ours, peer = tcp_pair()
    with pytest.warns(ResourceWarning, match="unclosed transport <"):
        transport, protocol = loop.run_until_complete(
            loop.create_connection(Recorder, sock=ours)
        )
        loop.close()
        assert protocol.events == ["made"]
        del transport, protocol.transport
        gc.collect()
    with peer:
        assert ours.fileno() == -1
        assert peer.recv(1) == b""


@isolated
def test_using_a_transport_of_a_closed_loop() -> None:
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)
    loop = fastloop.new_event_loop()
    ours, peer = tcp_pair()
    transport, protocol = loop.run_until_complete(
        loop.create_connection(Recorder, sock=ours)
    )
    fill(peer)
    transport.write(bytes(1 << 24))
    loop.close()
    for name in PUBLIC:
        call(getattr(transport, name))
    for name in "write", "writelines", "set_protocol", "get_extra_info":
        call(getattr(transport, name), b"x")
    call(transport.write, bytes(1 << 20))
    call(transport.write, bytearray(1 << 20))
    assert transport.is_closing()
    assert protocol.events[0] == "made" and "lost" not in protocol.events
    repr(transport)
    peer.close()
    assert ours.fileno() == -1


def test_data_written_before_the_loop_closes_is_sent(loop_factory: LoopFactory) -> None:
    """write() outside of a run has sent it already, on asyncio."""
    import warnings

    loop = loop_factory()
    ours, peer = tcp_pair()
    transport, protocol = loop.run_until_complete(
        loop.create_connection(Recorder, sock=ours)
    )
    transport.write(b"last words")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        del transport, protocol
        gc.collect()
    with peer:
        assert peer.recv(100) == b"last words"


def test_data_written_outside_of_a_run_arrives(loop: Loop) -> None:
    """Without another turn of the loop: the caller may wait for the answer."""
    ours, peer = tcp_pair()
    transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))
    peer.settimeout(1)
    try:
        transport.write(b"data")
        assert peer.recv(100) == b"data"
    finally:
        transport.abort()
        peer.close()
        run_once(loop)
        run_once(loop)


def test_data_written_before_the_socket_is_shut_down(loop: Loop) -> None:
    """Through get_extra_info("socket"): the order of the two is kept."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(b"data")
            sock = protocol.transport.get_extra_info("socket")
            sock.shutdown(socket.SHUT_WR)
            assert await receive(peer) == b"data"

    loop.run_until_complete(main())
