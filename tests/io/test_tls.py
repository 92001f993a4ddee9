"""TLS: data, methods and flow control, on asyncio and on both engines of fastloop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from io_support import (
    HOST,
    BufferedRecorder,
    Echo,
    Recorder,
    call,
    isolated,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
)
from tls_support import (
    KINDS,
    VERSIONS,
    Peer,
    check_engine,
    facing_peer,
    loop_of,
    on_all,
    pinned,
    tls_connected,
    told,
)

import fastloop
from fastloop import _core

SIZES = [1, 1024, 100_000, 3_000_000]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def loop(kind: str) -> Iterator[Any]:
    """asyncio's loop, fastloop with the direct engine, fastloop with the other."""
    with loop_of(kind) as made:
        reports: list[Any] = []
        made.set_exception_handler(lambda _, context: reports.append(context))
        yield made
    gc.collect()
    assert reports == []


class Sized(BufferedRecorder):
    """A buffer of a given size; TLS tells how much has come, not -1."""

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint >= 0
        return memoryview(self.buffer)  # asyncio would lose data in slices of others


# --- data ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("size", SIZES)
def test_echo(loop: Any, kind: str, version: ssl.TLSVersion, size: int) -> None:
    async def main() -> None:
        data = os.urandom(size)
        contexts = {
            "client_context": pinned(tls_client(), version),
            "server_context": pinned(tls_server(), version),
        }
        async with tls_connected(Recorder, Echo, **contexts) as (client, server):
            check_engine(client.transport, kind)
            check_engine(server.transport, kind)
            client.transport.write(data)
            await until(lambda: len(client.data) == size)
            assert client.data == server.data == data
            assert client.transport.get_extra_info("ssl_object").version() in (
                "TLSv1.2",
                "TLSv1.3",
            )

    loop.run_until_complete(main())


@pytest.mark.parametrize("buffer_size", [1, 100, 16384, 1 << 20])
def test_buffered_protocol(loop: Any, buffer_size: int) -> None:
    async def main() -> None:
        size = 2000 if buffer_size == 1 else 200_000
        data = os.urandom(size)
        async with facing_peer(lambda: Sized(buffer_size)) as (protocol, peer):
            await peer.write(data)
            await until(lambda: len(protocol.data) == size)
            assert protocol.data == data
            protocol.transport.write(data)
            assert await peer.read(size) == data

    loop.run_until_complete(main())


def test_streams(loop: Any) -> None:
    async def serve(reader: Any, writer: Any) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                writer.writelines([b"<", line.strip(), b">\n"])
                await writer.drain()

    async def main() -> None:
        server = await asyncio.start_server(serve, HOST, 0, ssl=tls_server())
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(HOST, port, ssl=tls_client())
        for number in range(50):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"<%d>\n" % number
        writer.close()
        await writer.wait_closed()
        server.close()
        await turns()

    loop.run_until_complete(main())


def test_many_small_writes_arrive_in_order(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            sent = bytearray()
            for number in range(3000):
                data = b"%d," % number
                protocol.transport.write(data)
                sent += data
                if number % 700 == 0:
                    await asyncio.sleep(0)
            protocol.transport.writelines(
                [b"a", bytearray(b"b"), memoryview(b"c"), b""]
            )
            assert await peer.read(len(sent) + 3) == bytes(sent) + b"abc"

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [10, 100_000])
def test_mutable_data_is_taken_as_it_is_when_written(loop: Any, size: int) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            data = bytearray(b"a" * size)
            protocol.transport.write(data)
            data[:] = b"b" * size
            protocol.transport.write(memoryview(data))
            data[:] = b"c" * size
            assert await peer.read(2 * size) == b"a" * size + b"b" * size

    loop.run_until_complete(main())


def test_records_that_come_byte_by_byte(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            for byte in peer.sealed(b"hello") + peer.sealed(b" world"):
                await peer.send_raw(bytes([byte]))
                await asyncio.sleep(0)
            await until(lambda: protocol.data == b"hello world")

    loop.run_until_complete(main())


def test_data_with_the_handshake(loop: Any) -> None:
    """What the peer sends right after its last handshake message is not lost."""

    async def main() -> None:
        class Greeter(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"server says hello")

        class Client(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.write(b"client says hello")

        async with tls_connected(Client, Greeter) as (client, server):
            await until(lambda: client.data and server.data)
            assert client.data == b"server says hello"
            assert server.data == b"client says hello"

    loop.run_until_complete(main())


def test_one_send_for_a_turn() -> None:
    """What a turn writes comes as one segment: the peer gets it in one read."""
    for kind in KINDS[1:]:
        with loop_of(kind) as loop:

            async def main() -> None:
                async with facing_peer() as (protocol, peer):
                    await turns()
                    peer.incoming.read()
                    with contextlib.suppress(BlockingIOError):
                        peer.incoming.write(peer.sock.recv(1 << 16))
                    for _ in range(10):
                        protocol.transport.write(b"x" * 100)
                    data = await peer.receive_raw()
                    peer.incoming.write(data)
                    assert peer.tls.read(5000) == b"x" * 1000  # and one record

            loop.run_until_complete(main())


# --- what the transport tells -------------------------------------------------------


def test_type_and_attributes(loop: Any) -> None:
    async def main() -> None:
        async with tls_connected() as (client, server):
            for protocol in client, server:
                transport = protocol.transport
                assert isinstance(transport, asyncio.Transport)
                assert transport._start_tls_compatible
                assert transport.get_protocol() is protocol
                assert not transport.is_closing()
                assert transport.is_reading()
                assert transport.can_write_eof() is False
                assert transport._loop is loop
                assert transport._sendfile_compatible.name == "FALLBACK"
                with pytest.raises(NotImplementedError):
                    transport.write_eof()
                transport.remark = "mine"
                assert vars(transport)["remark"] == "mine"
                assert weakref.ref(transport)() is transport
                assert {transport: 1}[transport] == 1

    loop.run_until_complete(main())


def test_extra_info() -> None:
    async def scenario(loop: Any) -> Any:
        ours = tls_client()
        async with tls_connected(client_context=ours) as (client, server):
            transport = client.transport
            info = transport.get_extra_info
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert info("ssl_object") is info("ssl_object")
            assert info("sslcontext") is ours
            assert info("socket").fileno() >= 0
            assert info("peercert") is info("peercert")
            assert info("peername") == server.transport.get_extra_info("sockname")
            default = object()
            assert info("unknown", default) is default
            assert info(name="unknown", default=default) is default
            names = "peercert", "cipher", "compression", "unknown"
            answers = [
                [each.transport.get_extra_info(name) for name in names]
                for each in (client, server)
            ]
            transport.abort()
            await until(lambda: client.lost)
            answers.append([info(n) for n in ("peername", "socket", "cipher")])
            assert info("ssl_object").version()
            return answers

    on_all(scenario)


def test_extra_info_before_the_handshake_has_ended(loop: Any) -> None:
    """A server's protocol cannot ask earlier; a client that is upgraded can."""

    async def main() -> None:
        near, far = tcp_pair()
        with far:
            raw, protocol = await loop.create_connection(Recorder, sock=near)
            upgrading = loop.create_task(
                loop.start_tls(raw, protocol, tls_client(), server_hostname="localhost")
            )
            await turns(2)
            tls = raw.get_protocol()
            if hasattr(tls, "_app_transport"):
                tls = tls._app_transport
            assert tls.get_extra_info("sslcontext") is not None
            assert tls.get_extra_info("ssl_object") is None
            assert tls.get_extra_info("cipher", 1) == 1
            assert tls.get_extra_info("peername") == far.getsockname()
            upgrading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await upgrading
            await until(lambda: protocol.lost or raw.is_closing())
            await turns(2)

    loop.run_until_complete(main())


def test_wrong_arguments() -> None:
    async def scenario(loop: Any) -> Any:
        answers = []
        async with facing_peer() as (protocol, _):
            transport = protocol.transport
            for data in ["text", 1, None, [b""]]:
                answers.append(call(transport.write, data))
            for limits in [(1, 2), (-1,), (None, -1), (10, 11)]:
                answers.append(call(transport.set_write_buffer_limits, *limits))
                answers.append(call(transport.set_read_buffer_limits, *limits))
        return answers

    on_all(scenario)


def test_wrong_options() -> None:
    async def scenario(loop: Any) -> Any:
        answers = []
        near, far = tcp_pair()
        for options in [
            {"ssl_handshake_timeout": 0},
            {"ssl_handshake_timeout": -1},
            {"ssl_shutdown_timeout": 0},
            {"ssl_shutdown_timeout": -0.5},
            {"server_hostname": None},
            {"ssl": tls_server()},
        ]:
            options = {"ssl": tls_client(), "server_hostname": "x", **options}
            sock = near.dup()
            try:
                await loop.create_connection(Recorder, sock=sock, **options)
            except (ValueError, ssl.SSLError) as exc:
                answers.append((type(exc), str(exc).partition(" (_ssl")[0]))
            sock.close()
        near.close()
        far.close()
        return answers

    assert len(on_all(scenario)) == 6


def test_buffer_limits() -> None:
    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, _):
            transport = protocol.transport
            answers = [
                transport.get_write_buffer_limits(),
                transport.get_read_buffer_limits(),
                transport.get_write_buffer_size(),
                transport.get_read_buffer_size(),
            ]
            for limits in [(1000,), (None, 1000), (0,), (2000, 1000), ()]:
                transport.set_write_buffer_limits(*limits)
                transport.set_read_buffer_limits(*limits)
                answers.append(transport.get_write_buffer_limits())
                answers.append(transport.get_read_buffer_limits())
            transport.set_write_buffer_limits(high=5, low=3)
            answers.append(transport.get_write_buffer_limits())
            return answers

    on_all(scenario)


def test_repr_and_engine() -> None:
    for kind in KINDS[1:]:
        with loop_of(kind) as loop:

            async def main() -> None:
                async with facing_peer() as (protocol, _):
                    transport = protocol.transport
                    assert repr(transport).startswith("<TLSTransport over <TCPTr")
                    assert transport._engine == kind  # noqa: B023
                assert repr(transport) == "<TLSTransport closed>"

            loop.run_until_complete(main())


@isolated
def test_half_made_object_does_nothing() -> None:
    """Whoever gets round the constructor gets an object that is inert."""
    with pytest.raises(TypeError):
        fastloop.TLSTransport()
    for make in (
        lambda: object.__new__(fastloop.TLSTransport),
        lambda: asyncio.Transport.__new__(fastloop.TLSTransport),
        lambda: fastloop.TLSTransport.__base__.__new__(fastloop.TLSTransport),
    ):
        try:
            transport: Any = make()
        except TypeError:
            continue
        for name in dir(fastloop.TLSTransport):
            if name.startswith("__") and name != "__repr__":
                continue
            with contextlib.suppress(Exception):
                method = getattr(transport, name)
                for args in [(), (b"x",), ([b"x"],), (None,), (10,)]:
                    call(method, *args)
        del transport
        gc.collect()


@isolated
def test_make_tls_checks_its_arguments() -> None:
    loop = fastloop.new_event_loop()
    for args in [(), (1,) * 8, (Recorder(), 1, (1, 2), 1, 1, 1, 1, 1)]:
        with pytest.raises(TypeError):
            loop._make_tls(*args)
    with pytest.raises(AttributeError):
        loop._make_tls(Recorder(), 1, (1, 2, 3), True, None, 1, 1, False)
    loop.close()


# --- flow control -------------------------------------------------------------------


def test_pause_and_resume_reading(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            context = transport.get_extra_info("sslcontext")
            assert transport._ssl_protocol._sslcontext is context
            transport.pause_reading()
            assert not transport.is_reading()
            assert transport._ssl_protocol._app_reading_paused
            transport.pause_reading()
            await peer.write(b"first")
            await turns()
            assert protocol.data == b""
            assert transport.get_read_buffer_size() > 0
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            assert not transport._ssl_protocol._app_reading_paused
            await until(lambda: protocol.data == b"first")
            assert transport.get_read_buffer_size() == 0
            await peer.write(b" second")
            await until(lambda: protocol.data == b"first second")

    loop.run_until_complete(main())


def test_paused_reading_holds_up_the_peer(loop: Any) -> None:
    """What is not read stays in bounds: the transport below pauses, too."""

    async def main() -> None:
        size = 20_000_000
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            transport.pause_reading()
            sending = loop.create_task(peer.write(bytes(size)))
            await until(lambda: transport.get_read_buffer_size() >= 256 * 1024)
            await turns(20)
            assert not sending.done()
            assert transport.get_read_buffer_size() < 1 << 20
            transport.resume_reading()
            await until(lambda: len(protocol.data) == size)
            await sending

    loop.run_until_complete(main())


def test_pausing_in_data_received(loop: Any) -> None:
    class Sipping(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    async def main() -> None:
        data = os.urandom(1_000_000)
        async with facing_peer(Sipping) as (protocol, peer):
            sending = loop.create_task(peer.write(data))
            await until(lambda: len(protocol.data) == len(data))
            await sending
            assert protocol.data == data

    loop.run_until_complete(main())


def test_pausing_before_data_comes(loop: Any) -> None:
    class Waiting(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"hello")
            transport.pause_reading()

    async def main() -> None:
        async with facing_peer(Waiting) as (protocol, peer):
            assert await peer.read(5) == b"hello"
            await peer.write(b"data")
            await turns()
            assert protocol.data == b""
            protocol.transport.resume_reading()
            await until(lambda: protocol.data == b"data")

    loop.run_until_complete(main())


def test_flow_control_of_writing(loop: Any) -> None:
    """A peer that does not read makes the protocol pause, and then resume."""

    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            chunk = os.urandom(100_000)
            count = 0
            while "pause" not in protocol.events:
                transport.write(chunk)
                count += 1
                assert count < 1000
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() >= 512 * 1024
            assert transport._protocol_paused
            assert await peer.read(len(chunk) * count) == chunk * count
            await until(lambda: protocol.events[-1] == "resume")
            assert transport.get_write_buffer_size() <= 128 * 1024
            assert not transport._protocol_paused
            transport.write(b"end")
            assert await peer.read(3) == b"end"

    loop.run_until_complete(main())


def test_low_marks(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            transport.set_write_buffer_limits(high=100)
            size = 8_000_000
            transport.write(bytes(size))
            transport.write(bytes(size))
            assert protocol.events == ["made", "pause"]
            assert len(await peer.read(2 * size)) == 2 * size
            await until(lambda: protocol.events[-1] == "resume")
            assert transport.get_write_buffer_size() <= 25

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["pause_writing", "resume_writing"])
def test_failing_flow_control(name: str) -> None:
    class Failing(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            if name == "pause_writing":
                raise ZeroDivisionError

        def resume_writing(self) -> None:
            super().resume_writing()
            if name == "resume_writing":
                raise ZeroDivisionError

    async def scenario(loop: Any) -> Any:
        reports: list[Any] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        async with facing_peer(Failing) as (protocol, peer):
            size = 8_000_000
            protocol.transport.write(bytes(size))
            protocol.transport.write(bytes(size))
            assert len(await peer.read(2 * size)) == 2 * size
            await until(lambda: protocol.events[-1] == "resume")
            return [
                (report["message"], type(report["exception"]), sorted(report))
                for report in reports
            ]

    assert len(on_all(scenario)) == 1


def test_write_buffer_size_counts_what_waits(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            transport.write(b"small")
            assert transport.get_write_buffer_size() == 0
            assert await peer.read(5) == b"small"

    loop.run_until_complete(main())


# --- set_protocol, callbacks that act -----------------------------------------------


def test_set_protocol(loop: Any) -> None:
    async def main() -> None:
        async with facing_peer() as (first, peer):
            transport = first.transport
            await peer.write(b"one")
            await until(lambda: first.data == b"one")
            second = Sized(1 << 16)
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            await peer.write(b"two")
            await until(lambda: second.data == b"two")
            third = Recorder()
            transport.set_protocol(third)
            await peer.write(b"three")
            await until(lambda: third.data == b"three")
            transport.abort()
            await until(lambda: third.lost)
            assert first.events == ["made", "data"]
            first.lost = True

    loop.run_until_complete(main())


@pytest.mark.parametrize("act", ["close", "abort", "pause_reading"])
@pytest.mark.parametrize("where", ["made", "data", "eof", "lost", "pause"])
def test_acting_in_a_callback(where: str, act: str) -> None:
    class Acting(Recorder):
        def note(self, event: str) -> None:
            super().note(event)
            if event == where and self.transport is not None:
                getattr(self.transport, act)()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            super().connection_made(transport)

    async def scenario(loop: Any) -> Any:
        near, far = tcp_pair()
        peer = Peer(far, tls_server(), True)

        async def play() -> None:
            with contextlib.suppress(EOFError, OSError):
                await peer.handshake()
                await peer.write(b"data")
                if where == "pause":
                    await turns(3)
                    await peer.read_all()
                await peer.unwrap()
                await peer.read_all()
            far.close()

        playing = loop.create_task(play())
        transport, protocol = await loop.create_connection(
            Acting, sock=near, ssl=tls_client(), server_hostname="localhost"
        )
        if where == "pause":
            transport.write(bytes(8_000_000))
            transport.write(bytes(3_000_000))
        if act == "pause_reading" and where in ("made", "data"):
            await turns(5)
            transport.close()
        if where == "pause" and act == "pause_reading":
            transport.close()
        await playing
        await until(lambda: protocol.lost)
        await turns(2)
        return protocol.events

    answer = on_all(scenario)
    assert answer[-1] == "lost"


def test_loop_in_debug_mode(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="asyncio")
    with loop_of(kind) as loop:
        loop.set_debug(True)

        async def main() -> None:
            async with tls_connected(Recorder, Echo) as (client, _):
                client.transport.write(b"data")
                await until(lambda: client.data == b"data")

        loop.run_until_complete(main())
    assert "starts SSL handshake" in caplog.text
    assert "SSL handshake took" in caplog.text


def test_unclosed_transport_is_warned_of(kind: str) -> None:
    with loop_of(kind) as loop:

        async def main() -> socket.socket:
            near, far = tcp_pair()
            peer = Peer(far, tls_server(), True)
            shaking = loop.create_task(peer.handshake())
            await loop.create_connection(
                Recorder, sock=near, ssl=tls_client(), server_hostname="localhost"
            )
            await shaking
            return far

        with pytest.warns(ResourceWarning, match="unclosed") as caught:
            far = loop.run_until_complete(main())
            loop.close()
            gc.collect()
        far.close()
        del caught  # holds what was warned of
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def test_nothing_is_left_of_a_connection(loop: Any) -> None:
    async def main() -> list[weakref.ref[Any]]:
        async with tls_connected(Recorder, Echo) as (client, server):
            client.transport.write(b"data")
            await until(lambda: client.data)
            ssl_object = client.transport.get_extra_info("ssl_object")
            return [
                weakref.ref(each)
                for each in (client, server, client.transport, ssl_object._sslobj)
                if hasattr(type(each), "__weakref__")
                or isinstance(each, asyncio.Transport)
            ]

    refs = loop.run_until_complete(main())
    loop.run_until_complete(turns())
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


@isolated
def test_ssl_object_outlives_its_connection() -> None:
    """It can be asked, and used, when the transport has gone."""
    for kind in KINDS[1:]:
        with loop_of(kind) as loop:

            async def main() -> Any:
                async with facing_peer() as (protocol, _):
                    return protocol.transport.get_extra_info("ssl_object")

            ssl_object = loop.run_until_complete(main())
        del loop
        gc.collect()
        assert ssl_object.version()
        assert ssl_object.getpeercert()
        for method, *args in [("read", 10), ("write", b"x"), ("unwrap",), ("pending",)]:
            call(getattr(ssl_object, method), *args)
        del ssl_object
        gc.collect()


@isolated
def test_ssl_object_used_behind_our_back() -> None:
    for kind in KINDS[1:]:
        with loop_of(kind) as loop:

            async def main() -> None:
                async with facing_peer() as (protocol, peer):
                    ssl_object = protocol.transport.get_extra_info("ssl_object")
                    with pytest.raises(ssl.SSLWantReadError):
                        ssl_object.read(10)
                    ssl_object.write(b"from outside ")
                    protocol.transport.write(b"from inside")
                    assert await peer.read(24) == b"from outside from inside"

            loop.run_until_complete(main())


def test_direct_engine_is_usable_here() -> None:
    """On the Pythons that the tests run on, the self-test has to pass."""
    with loop_of("direct") as loop:

        async def main() -> str:
            async with facing_peer() as (protocol, _):
                return protocol.transport._engine

        assert loop.run_until_complete(main()) == "direct"


def test_objects_that_the_direct_engine_leaves_alone() -> None:
    class Reading(ssl.SSLObject):
        def read(self, *args: Any) -> Any:
            self.reads = getattr(self, "reads", 0) + 1
            return super().read(*args)

    async def main() -> None:
        context = tls_client()
        context.sslobject_class = Reading
        async with facing_peer(ours=context) as (protocol, peer):
            await peer.write(b"data")
            await until(lambda: protocol.data == b"data")
            assert protocol.transport._engine == "bio"
            assert protocol.transport.get_extra_info("ssl_object").reads

    with loop_of("direct") as loop:
        loop.run_until_complete(main())


def test_told_the_same_by_all() -> None:
    async def scenario(loop: Any) -> Any:
        async with tls_connected(Recorder, Echo) as (client, server):
            client.transport.write(b"ping")
            await until(lambda: client.data == b"ping")
            client.transport.close()
            assert client.transport.is_closing()
            await until(lambda: client.lost and server.lost)
            return told(client), told(server)

    on_all(scenario)


def test_type_is_exported() -> None:
    assert fastloop.TLSTransport is _core.TLSTransport
    assert fastloop.TLSTransport.__module__ == "fastloop"
