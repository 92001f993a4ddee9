"""TLS that goes wrong: every failure shows as it does on asyncio, with both engines."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from io_support import (
    AUTHORITY,
    HOST,
    OTHER,
    Echo,
    Recorder,
    collect_reports,
    reset,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
    words,
)
from tls_support import (
    KINDS,
    VERSIONS,
    Peer,
    facing_peer,
    loop_of,
    on_all,
    pinned,
    tls_connected,
)


def essence(exc: BaseException | None) -> Any:
    """An exception without the line of C that raised it."""
    if exc is None:
        return None
    text = re.sub(r" \(_ssl\.c:\d+\)", "", str(exc))
    facts = [getattr(exc, name, None) for name in ("reason", "library", "verify_code")]
    return type(exc).__name__, words(text), facts


def reports_of(reports: list[dict[str, Any]]) -> Any:
    return [
        (words(report["message"]), essence(report.get("exception")), sorted(report))
        for report in reports
    ]


def told(protocol: Recorder) -> Any:
    return protocol.events, bytes(protocol.data), essence(protocol.lost_with)


@contextlib.contextmanager
def playing(loop: Any, *scripts: Any) -> Iterator[list[asyncio.Task[Any]]]:
    yield [loop.create_task(script) for script in scripts]


async def attempt(
    loop: Any, script: Callable[[Peer], Any] | None, **options: Any
) -> Any:
    """What a client is told whose peer follows the script; None: a plain socket's."""
    reports = collect_reports(loop)
    near, far = tcp_pair()
    protocol = Recorder()
    context = options.pop("context", None) or tls_server()
    peer = Peer(far, context, True)
    options = {"ssl": tls_client(), "server_hostname": "localhost", **options}
    task = loop.create_task(script(peer)) if script else None
    try:
        await loop.create_connection(lambda: protocol, sock=near, **options)
        result = None
    except (OSError, EOFError) as exc:
        result = essence(exc)
    seen = None
    if task is not None:
        try:
            await task
        except (OSError, EOFError) as exc:
            seen = essence(exc)
    await turns(3)
    if protocol.transport is not None:
        await until(lambda: protocol.lost)
    far.close()
    await turns(2)
    assert near.fileno() == -1
    return result, seen, told(protocol), reports_of(reports)


# --- handshakes that fail -----------------------------------------------------------


async def shake(peer: Peer) -> None:
    await peer.handshake()
    await peer.read_all()


async def send_text(peer: Peer) -> None:
    await peer.receive_raw()
    await peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.receive_raw()


async def send_nothing_and_close(peer: Peer) -> None:
    await peer.receive_raw()
    peer.sock.close()


async def cut_off(peer: Peer) -> None:
    peer.incoming.write(await peer.receive_raw())
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    await peer.send_raw(peer.outgoing.read()[:50])
    peer.sock.close()


async def close_with_reset(peer: Peer) -> None:
    await peer.receive_raw()
    reset(peer.sock)


async def send_alert(peer: Peer) -> None:
    await peer.receive_raw()
    await peer.send_raw(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake failure
    await peer.receive_raw()


async def tamper(peer: Peer) -> None:
    peer.incoming.write(await peer.receive_raw())
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    answer = bytearray(peer.outgoing.read())
    answer[-1] ^= 1
    await peer.send_raw(answer)
    await peer.receive_raw()


def unverified() -> ssl.SSLContext:
    return ssl.create_default_context()


def old() -> ssl.SSLContext:
    context = tls_client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    "script",
    [
        send_text,
        send_nothing_and_close,
        cut_off,
        close_with_reset,
        send_alert,
        tamper,
    ],
    ids=lambda script: script.__name__,
)
def test_handshake_disturbed(script: Any) -> None:
    result, *_ = on_all(lambda loop: attempt(loop, script))
    assert result is not None


@pytest.mark.parametrize(
    "options",
    [
        {"ssl": unverified()},
        {"server_hostname": "wrong.test"},
        {"server_hostname": "10.0.0.1"},
        {"context": tls_server(OTHER)},
        {
            "ssl": old(),
            "context": pinned(tls_server(), ssl.TLSVersion.TLSv1_3),
        },
    ],
    ids=["authority", "hostname", "address", "other name", "version"],
)
def test_handshake_refused_by_the_client(options: Any) -> None:
    result, *_ = on_all(lambda loop: attempt(loop, shake, **options))
    assert result[0] in ("SSLCertVerificationError", "SSLError")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_client_without_a_certificate(version: ssl.TLSVersion) -> None:
    """With TLS 1.3 the client hears of it after its handshake."""

    async def scenario(loop: Any) -> Any:
        theirs = pinned(tls_server(), version)
        theirs.verify_mode = ssl.CERT_REQUIRED
        theirs.load_verify_locations(AUTHORITY)

        async def refuse(peer: Peer) -> None:
            try:
                await peer.handshake()
            finally:
                await peer.flush()
                peer.sock.shutdown(socket.SHUT_WR)

        return await attempt(loop, refuse, context=theirs)

    on_all(scenario)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.0\r\n\r\n", b"", b"\x16\x03\x01\x02", bytes(1000)],
    ids=["http", "nothing", "part", "zeros"],
)
def test_plain_client_of_a_tls_server(data: bytes, debug: bool) -> None:
    async def scenario(loop: Any) -> Any:
        loop.set_debug(debug)
        loop.slow_callback_duration = 10
        reports = collect_reports(loop)
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, HOST, 0, ssl=tls_server())
        with socket.create_connection(server.sockets[0].getsockname()) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            sock.setblocking(False)
            received = b"?"

            def ended() -> bool:
                nonlocal received
                try:
                    received = sock.recv(1000)
                except BlockingIOError:
                    return False
                except ConnectionError:
                    received = b""
                return not received

            await until(ended)
        await turns(3)
        server.close()
        await server.wait_closed()
        return [told(protocol) for protocol in made], reports_of(reports)

    on_all(scenario)


def test_server_refuses_the_client() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        theirs = tls_server()
        theirs.verify_mode = ssl.CERT_REQUIRED
        theirs.load_verify_locations(AUTHORITY)
        made: list[Recorder] = []
        server = await loop.create_server(
            lambda: made.append(Recorder()) or made[-1], HOST, 0, ssl=theirs
        )
        address = server.sockets[0].getsockname()
        client = Recorder()
        await loop.create_connection(
            lambda: client, *address, ssl=tls_client(), server_hostname="localhost"
        )
        await until(lambda: client.lost)
        server.close()
        await turns(3)
        return told(client), [told(each) for each in made], reports_of(reports)

    on_all(scenario)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_failing_factory_of_a_server() -> None:
    async def scenario(loop: Any) -> Any:
        loop.set_debug(True)
        reports = collect_reports(loop)
        server = await loop.create_server(lambda: 1 / 0, HOST, 0, ssl=tls_server())
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: reports)
        server.close()
        return [(report["message"], essence(report["exception"])) for report in reports]

    on_all(scenario)
    gc.collect()  # asyncio forgets to close the socket


# --- timeouts -----------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.05, 1e-9])
def test_handshake_timeout_of_a_client(seconds: float) -> None:
    async def silent(peer: Peer) -> None:
        while await peer.receive_raw():
            pass

    result, *_ = on_all(
        lambda loop: attempt(loop, silent, ssl_handshake_timeout=seconds)
    )
    assert result[0] == "ConnectionAbortedError"


def test_handshake_timeout_of_a_server() -> None:
    async def scenario(loop: Any) -> Any:
        loop.set_debug(True)
        reports = collect_reports(loop)
        server = await loop.create_server(
            Recorder, HOST, 0, ssl=tls_server(), ssl_handshake_timeout=0.05
        )
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: reports)
        server.close()
        await turns(3)
        return reports_of(reports)

    (report,) = on_all(scenario)
    assert report[1][0] == "ConnectionAbortedError"


def test_shutdown_timeout() -> None:
    """A peer that never answers close-notify."""

    async def scenario(loop: Any) -> Any:
        async with facing_peer(ssl_shutdown_timeout=0.05) as (protocol, _):
            protocol.transport.write(b"data")
            protocol.transport.close()
            await until(lambda: protocol.lost)
            return told(protocol)

    _, _, exc = on_all(scenario)
    assert exc[:2] == ("TimeoutError", "SSL shutdown timed out")


# --- connections that break ---------------------------------------------------------


async def truncate(peer: Peer) -> None:
    await peer.write(b"some data")
    peer.sock.shutdown(socket.SHUT_WR)


async def truncate_in_a_record(peer: Peer) -> None:
    await peer.send_raw(peer.sealed(b"whole") + peer.sealed(b"partial")[:-3])
    peer.sock.shutdown(socket.SHUT_WR)


async def break_a_record(peer: Peer) -> None:
    record = bytearray(peer.sealed(b"data"))
    record[-1] ^= 1
    await peer.send_raw(record)


async def send_garbage(peer: Peer) -> None:
    await peer.send_raw(b"garbage" * 100)


async def go_plain(peer: Peer) -> None:
    await peer.send_raw(b"\x17\x03\x03\x00\x05hello")


async def alert(peer: Peer) -> None:
    await peer.send_raw(b"\x15\x03\x03\x00\x02\x02\x28")


async def close_properly(peer: Peer) -> None:
    await peer.write(b"last words")
    await peer.unwrap()


async def close_and_go_on(peer: Peer) -> None:
    """Data after close-notify."""
    late = peer.sealed(b"early"), peer.close_notify()
    await peer.send_raw(b"".join(late) + b"\x17\x03\x03\x00\x13" + bytes(19))


async def close_and_leave(peer: Peer) -> None:
    await peer.send_raw(peer.close_notify())
    peer.sock.shutdown(socket.SHUT_WR)


async def reset_it(peer: Peer) -> None:
    reset(peer.sock)


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    "script",
    [
        truncate,
        truncate_in_a_record,
        break_a_record,
        send_garbage,
        go_plain,
        alert,
        close_properly,
        close_and_go_on,
        close_and_leave,
        reset_it,
    ],
    ids=lambda script: script.__name__,
)
def test_connection_disturbed(
    script: Any, version: ssl.TLSVersion, server_side: bool
) -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        ours = tls_server() if server_side else tls_client()
        async with facing_peer(server_side=server_side, ours=pinned(ours, version)) as (
            protocol,
            peer,
        ):
            await script(peer)
            await until(lambda: protocol.lost)
            return told(protocol), reports_of(reports)

    (events, *_), _ = on_all(scenario)
    assert events[0] == "made" and events[-1] == "lost"


@pytest.mark.parametrize("script", [break_a_record, truncate, close_properly])
def test_streams_of_a_disturbed_connection(script: Any) -> None:
    async def scenario(loop: Any) -> Any:
        reader = asyncio.StreamReader(loop=loop)
        async with facing_peer(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop)
        ) as (_, peer):
            await script(peer)
            try:
                return await reader.read(), essence(reader.exception())
            except OSError as exc:
                return essence(exc), essence(reader.exception())

    on_all(scenario)


# --- closing ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 100_000, 5_000_000])
def test_close_sends_all_and_close_notify(size: int) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            transport.write(bytes(size))
            transport.close()
            assert transport.is_closing()
            transport.write(b"too late")
            data = await peer.read_all()
            assert not peer.closed  # it was close-notify that ended it
            assert not protocol.lost
            await peer.unwrap()
            await until(lambda: protocol.lost)
            return len(data), told(protocol)

    assert on_all(scenario)[0] == size


def test_close_is_prompt_when_the_peer_goes_on_sending() -> None:
    """It does not read for ssl_shutdown_timeout what the peer sends."""

    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, peer):
            protocol.transport.close()
            await turns(3)
            with contextlib.suppress(OSError):
                for _ in range(3):
                    await peer.write(b"still talking")
            await until(lambda: protocol.lost)
            return told(protocol)

    _, _, exc = on_all(scenario)
    assert exc[0] == "SSLError"


@pytest.mark.parametrize("paused", [False, True])
def test_close_with_data_on_the_way(paused: bool) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, peer):
            if paused:
                protocol.transport.pause_reading()
            await peer.write(b"data")
            if paused:
                await until(lambda: protocol.transport.get_read_buffer_size() > 0)
            else:
                await until(lambda: protocol.data)
            protocol.transport.close()
            if not paused:
                await peer.read_all()
                await peer.unwrap()
            await until(lambda: protocol.lost)
            return told(protocol)

    on_all(scenario)


def test_end_while_reading_is_paused() -> None:
    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, peer):
            protocol.transport.pause_reading()
            await peer.write(b"data")
            peer.sock.shutdown(socket.SHUT_WR)
            await turns(10)
            before = list(protocol.events), bytes(protocol.data)
            protocol.transport.resume_reading()
            await until(lambda: protocol.lost)
            return before, told(protocol)

    before, after = on_all(scenario)
    assert before == (["made"], b"")
    assert after == (["made", "data", "eof", "lost"], b"data", None)


@pytest.mark.parametrize("how", ["abort", "_force_close"])
def test_abort(how: str) -> None:
    if how == "_force_close" and sys.version_info < (3, 13):
        pytest.skip("fails with a TypeError on asyncio")

    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, peer):
            transport = protocol.transport
            transport.write(b"written before")
            if how == "abort":
                transport.abort()
            else:
                transport._force_close(ZeroDivisionError("mine"))
            assert transport.is_closing()
            transport.write(b"written after")
            transport.abort()
            transport.close()
            data = await peer.read_all()
            assert peer.closed
            await until(lambda: protocol.lost)
            return data if how == "abort" else None, told(protocol)

    on_all(scenario)


def test_writing_to_a_lost_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: Any) -> Any:
        caplog.clear()
        async with facing_peer() as (protocol, _):
            protocol.transport.abort()
            await until(lambda: protocol.lost)
            for _ in range(8):
                protocol.transport.write(b"into the void")
            return [record.getMessage() for record in caplog.records]

    assert set(on_all(scenario)) == {"SSL connection is closed"}


def test_methods_after_the_end() -> None:
    async def scenario(loop: Any) -> Any:
        async with facing_peer() as (protocol, _):
            transport = protocol.transport
            transport.abort()
            await until(lambda: protocol.lost)
            transport.pause_reading()
            transport.resume_reading()
            transport.writelines([b"x"])
            transport.set_write_buffer_limits(10)
            answers = [
                transport.is_closing(),
                transport.get_write_buffer_size(),
                transport.get_protocol(),
                transport.get_extra_info("peername"),
                transport.get_extra_info("cipher") is not None,
            ]
            await turns(2)
            return answers

    on_all(scenario)


# --- protocols that raise -----------------------------------------------------------


class CustomError(Exception):
    pass


@pytest.mark.parametrize("error", [CustomError, OSError, asyncio.CancelledError])
@pytest.mark.parametrize(
    "name", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
def test_failing_callback(name: str, error: type[BaseException]) -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)

        class Failing(Recorder):
            pass

        def fail(self: Any, *args: Any) -> None:
            getattr(Recorder, name)(self, *args)
            raise error("from the protocol")

        setattr(Failing, name, fail)
        near, far = tcp_pair()
        protocol = Failing()
        peer = Peer(far, tls_server(), True)

        async def play() -> None:
            with contextlib.suppress(EOFError, OSError):
                await peer.handshake()
                await peer.write(b"data")
                await peer.unwrap()

        task = loop.create_task(play())
        try:
            await loop.create_connection(
                lambda: protocol,
                sock=near,
                ssl=tls_client(),
                server_hostname="localhost",
            )
            result = None
        except BaseException as exc:
            result = essence(exc)
        await task
        await until(lambda: protocol.lost)
        far.close()
        await turns(3)
        return result, told(protocol), reports_of(reports)

    on_all(scenario)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", ["data_received", "eof_received", "connection_lost"])
def test_fatal_exception_ends_the_run(name: str, error: type[BaseException]) -> None:

    class Failing(Recorder):
        pass

    def fail(self: Any, *args: Any) -> None:
        getattr(Recorder, name)(self, *args)
        raise error

    setattr(Failing, name, fail)
    for kind in KINDS:
        with loop_of(kind) as loop:
            loop.set_exception_handler(lambda *_: None)

            async def main() -> None:
                near, far = tcp_pair()
                peer = Peer(far, tls_server(), True)

                async def play() -> None:
                    with contextlib.suppress(EOFError, OSError):
                        await peer.handshake()
                        await peer.write(b"data")
                        await peer.unwrap()
                        far.close()

                task = asyncio.ensure_future(play())
                await loop.create_connection(
                    Failing, sock=near, ssl=tls_client(), server_hostname="localhost"
                )
                await task
                await asyncio.sleep(5)

            with pytest.raises(error):
                loop.run_until_complete(main())
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with contextlib.suppress(BaseException):
                loop.run_until_complete(turns(5))
        gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["raises", "empty", "read-only"])
def test_bad_buffers(what: str) -> None:
    class Bad(Recorder, asyncio.BufferedProtocol):
        def get_buffer(self, sizehint: int) -> Any:
            if what == "raises":
                raise CustomError
            return b"read-only" if what == "read-only" else bytearray()

        def buffer_updated(self, nbytes: int) -> None:
            raise AssertionError

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        near, far = tcp_pair()
        protocol = Bad()
        peer = Peer(far, tls_server(), True)

        async def play() -> None:
            with contextlib.suppress(EOFError, OSError):
                await peer.handshake()
                await peer.write(b"data")

        task = loop.create_task(play())
        with contextlib.suppress(Exception):
            await loop.create_connection(
                lambda: protocol,
                sock=near,
                ssl=tls_client(),
                server_hostname="localhost",
            )
        if what == "empty":  # asyncio takes that for the end of the stream
            await task
            far.close()
        await until(lambda: protocol.lost)
        await task
        far.close()
        await turns(2)
        if what == "empty":
            return None
        return type(protocol.lost_with), [type(r["exception"]) for r in reports]

    on_all(scenario)
    gc.collect()  # asyncio forgets to close the socket


def test_both_ends_close_at_once() -> None:
    async def scenario(loop: Any) -> Any:
        async with tls_connected(Recorder, Echo) as (client, server):
            client.transport.close()
            server.transport.close()
            await until(lambda: client.lost and server.lost)
            return told(client), told(server)

    on_all(scenario)
