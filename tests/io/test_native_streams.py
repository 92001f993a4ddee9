"""The tests of streams once more, with fastloop's streams under asyncio's names.

Where a scenario runs on both loops, asyncio's loop has asyncio's streams and
fastloop's loop has fastloop's: both have to answer the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import os
import random
import socket
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import test_streams
from io_support import HOST, tls_client, tls_server, turns, until
from test_streams import *  # noqa: F403

import fastloop

NAMES = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
]


@pytest.fixture(autouse=True)
def native_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def on_both(scenario: Callable[[Any], Awaitable[Any]]) -> Any:
        answers = []
        for factory, names in (
            (asyncio.new_event_loop, []),
            (fastloop.new_event_loop, NAMES),
        ):
            fastloop.unpatch()
            fastloop.patch(only=names)
            loop = factory()
            try:
                answers.append(loop.run_until_complete(scenario(loop)))
            finally:
                loop.close()
        expected, answer = answers
        assert answer == expected
        return answer

    monkeypatch.setattr(test_streams, "on_both", on_both)
    fastloop.patch(only=NAMES)
    yield
    fastloop.unpatch()


def test_they_are_native() -> None:
    assert asyncio.StreamReader is fastloop.StreamReader
    assert asyncio.streams.start_server is fastloop.start_server


# --- the ways between transports and streams ----------------------------------------

Pair = tuple[tuple[Any, Any], tuple[Any, Any]]
KINDS = ["tcp", "unix", "tls"]


@contextlib.asynccontextmanager
async def connected(kind: str, path: Path, lib: Any = fastloop) -> AsyncIterator[Pair]:
    """The two ends of a connection: (reader, writer) of a client and of a server."""
    accepted = asyncio.get_running_loop().create_future()

    def serve(reader: Any, writer: Any) -> None:
        accepted.set_result((reader, writer))

    if kind == "unix":
        name = str(path / "socket")
        server = await lib.start_unix_server(serve, name)
        client = await lib.open_unix_connection(name)
    else:
        secure: dict[str, Any] = {"ssl": tls_server()} if kind == "tls" else {}
        server = await lib.start_server(serve, HOST, 0, **secure)
        if secure:
            secure = {"ssl": tls_client(), "server_hostname": "localhost"}
        client = await lib.open_connection(*server.sockets[0].getsockname(), **secure)
    pair = client, await accepted
    try:
        yield pair
    finally:
        for _, writer in pair:
            writer.close()
        for _, writer in pair:
            with contextlib.suppress(OSError, AssertionError, BufferError):
                await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def exchange(pair: Pair) -> None:
    for (reader, _), (_, writer) in (pair, pair[::-1]):
        for size in (1, 100, 70_000, 1_000_000):
            data = os.urandom(size)
            writer.write(data)
            assert await reader.readexactly(size) == data
            await writer.drain()


@pytest.mark.parametrize("kind", KINDS)
def test_exchange(loop: Any, kind: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with connected(kind, tmp_path) as pair:
            await exchange(pair)

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left(loop: Any, kind: str, tmp_path: Path) -> None:
    refs: list[Any] = []

    async def main() -> None:
        async with connected(kind, tmp_path) as pair:
            await exchange(pair)
            for reader, writer in pair:
                protocol = writer.transport.get_protocol()
                refs.extend(map(weakref.ref, (reader, writer, protocol)))
            tasks = [asyncio.ensure_future(pair[0][0].read()) for _ in range(2)]
            await turns(2)
            with pytest.raises(RuntimeError, match="already waiting"):
                await tasks[1]

    loop.run_until_complete(main())
    loop.run_until_complete(turns(5))
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []


@pytest.fixture(params=["theirs", "ours"])
def lib(request: pytest.FixtureRequest) -> Any:
    """asyncio's streams, which ours are not patched over, or fastloop's."""
    if request.param == "ours":
        return fastloop
    fastloop.unpatch()
    return asyncio


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name", ["feed_data", "_wakeup_waiter", "read", "readexactly", "_wait_for_data"]
)
@pytest.mark.parametrize("where", ["class", "instance"])
def test_patched_readers(
    fast_loop: Any, lib: Any, kind: str, name: str, where: str, tmp_path: Path
) -> None:
    """Whatever is put in a method's place is called, and not before."""

    async def main() -> None:
        async with connected(kind, tmp_path, lib) as pair:
            await exchange(pair)
            reader = pair[0][0]
            target = reader if where == "instance" else lib.StreamReader
            own = getattr(target, name)
            calls = []

            def patch(*args: Any) -> Any:
                calls.append(args)
                return own(*args)

            with mock.patch.object(target, name, patch):
                await exchange(pair)
            assert calls or name == "read"
            count = len(calls)
            await exchange(pair)
            # what was put on an instance stays in its way, as itself
            assert len(calls) == count

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["class", "instance", "subclass"])
def test_patched_protocols(
    fast_loop: Any, lib: Any, kind: str, where: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with connected(kind, tmp_path, lib) as pair:
            await exchange(pair)
            _, writer = pair[0]
            protocol = writer.transport.get_protocol()
            assert type(protocol) is lib.StreamReaderProtocol
            received = []
            if where == "subclass":

                class Protocol(lib.StreamReaderProtocol):  # type: ignore[misc]
                    def data_received(self, data: bytes) -> None:
                        received.append(data)
                        super().data_received(data)

                other = Protocol(pair[0][0], loop=fast_loop)
                other.connection_lost = protocol.connection_lost
                writer.transport.set_protocol(other)
                await exchange(pair)
            else:
                target: Any = protocol
                if where == "class":
                    target = lib.StreamReaderProtocol
                own = target.data_received

                def data_received(*args: Any) -> None:
                    received.append(args[-1])
                    own(*args)

                with mock.patch.object(target, "data_received", data_received):
                    await exchange(pair)
            total = sum(map(len, received))
            assert total == 1_070_101 * (2 if where == "class" else 1)

    fast_loop.run_until_complete(main())


def noting(calls: list[Any], own: Any) -> Any:
    def call(*args: Any) -> Any:
        calls.append(args)
        return own(*args)

    return call


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["class", "instance"])
def test_patched_transports(
    fast_loop: Any, kind: str, where: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with connected(kind, tmp_path) as pair:
            await exchange(pair)
            reader, writer = pair[0]
            transport: Any = writer.transport
            transport.attribute = "not in the way"
            target = transport if where == "instance" else type(transport)
            names = ["write", "is_closing", "pause_reading", "resume_reading"]
            calls: dict[str, list[Any]] = {name: [] for name in names}
            with contextlib.ExitStack() as patches:
                for name in names:
                    call = noting(calls[name], getattr(target, name))
                    patches.enter_context(mock.patch.object(target, name, call))
                writer.write(b"x")
                await writer.drain()
                reader.feed_data(b"y" * 200_000)
                await reader.readexactly(200_000)
            assert all(len(called) == 1 for called in calls.values())
            assert await pair[1][0].readexactly(1) == b"x"
            await exchange(pair)
            assert all(len(called) == 1 for called in calls.values())

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("kind", KINDS)
def test_data_comes_without_a_call(
    fast_loop: Any, lib: Any, kind: str, tmp_path: Path
) -> None:
    """No function in Python runs between a transport and a reader."""
    called = set()

    def profile(frame: Any, event: str, arg: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_name)

    async def main() -> None:
        async with connected(kind, tmp_path, lib) as pair:
            await exchange(pair)
            sys.setprofile(profile)
            await exchange(pair)
            sys.setprofile(None)

    fast_loop.run_until_complete(main())
    # asyncio's own pause their transports, the last time that there is too much data
    assert "_stream_reader" not in called or lib is asyncio
    small = {"data_received", "feed_data", "_wakeup_waiter", "_stream_reader"}
    assert not called & small or lib is asyncio


def test_little_data_comes_to_asyncios_reader_without_a_call(
    fast_loop: Any, tmp_path: Path
) -> None:
    fastloop.unpatch()
    called = []

    async def main() -> None:
        async with connected("tcp", tmp_path, asyncio) as ((reader, _), (_, writer)):
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            sys.setprofile(lambda frame, *_: called.append(frame.f_code.co_name))
            for wait in (0, 0, 10):
                writer.write(b"x" * 100)
                await turns(wait)
                assert await reader.readexactly(100) == b"x" * 100
            sys.setprofile(None)

    fast_loop.run_until_complete(main())
    assert "readexactly" in called and "turns" in called
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & set(called)


@contextlib.asynccontextmanager
async def asyncios_reader(limit: int = 1 << 16) -> AsyncIterator[Any]:
    """A reader of asyncio's that expects much, and the socket that feeds it."""
    ours, peer = socket.socketpair()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
    with peer:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=limit)
        for _ in range(3):
            peer.sendall(bytes(70_000))
            await reader.readexactly(70_000)
        try:
            yield reader, peer
        finally:
            writer.close()
            with contextlib.suppress(OSError, AssertionError, BufferError):
                await writer.wait_closed()


@pytest.mark.parametrize("limit", [1000, 40_000, 1 << 16, 1 << 20])
def test_much_data_comes_to_asyncios_reader(limit: int) -> None:
    """Where it goes into the reader's buffer directly, and where that is too small."""

    async def scenario(loop: Any) -> Any:
        seen: list[Any] = []
        async with asyncios_reader(limit) as (reader, peer):
            for size in (100_000, 36_000, 1, 100_000, 100_000, 0, 70_000):
                data = random.Random(size).randbytes(size)
                peer.sendall(data)
                assert await reader.readexactly(size // 2) == data[: size // 2]
                assert await reader.readexactly(size - size // 2) == data[size // 2 :]
            peer.sendall(b"more")
            peer.shutdown(socket.SHUT_WR)
            seen.append(await reader.read())
            seen.append(reader.at_eof())
            seen.append(bytes(reader._buffer))
        return seen

    fastloop.unpatch()
    answers = []
    for factory in (asyncio.new_event_loop, fastloop.new_event_loop):
        loop = factory()
        answers.append(loop.run_until_complete(scenario(loop)))
        loop.close()
    assert answers[0] == answers[1] == [b"more", True, b""]


def test_much_data_comes_to_asyncios_reader_without_a_call(fast_loop: Any) -> None:
    fastloop.unpatch()
    called = []

    async def main() -> None:
        async with asyncios_reader() as (reader, peer):
            sys.setprofile(lambda frame, *_: called.append(frame.f_code.co_name))
            for _ in range(3):
                peer.sendall(bytes(70_000))
                assert await reader.readexactly(70_000) == bytes(70_000)
            sys.setprofile(None)

    fast_loop.run_until_complete(main())
    assert "readexactly" in called
    assert not {"data_received", "feed_data", "_wakeup_waiter"} & set(called)


@pytest.mark.parametrize("what", ["view", "reset", "eof fed", "nobody waits"])
def test_much_is_expected_and_something_else_comes(fast_loop: Any, what: str) -> None:
    fastloop.unpatch()
    reports: list[Any] = []
    fast_loop.set_exception_handler(lambda _, context: reports.append(context))

    async def main() -> None:
        async with asyncios_reader() as (reader, peer):
            if what == "view":
                with memoryview(reader._buffer):
                    peer.sendall(b"y")
                    await until(lambda: reports)
                assert reader._buffer == b""
                assert type(reports[0]["exception"]) is BufferError
            elif what == "reset":
                peer.setblocking(False)
                reader._transport.write(b"nobody reads this")
                await turns()
                peer.close()
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
                assert reader._buffer == b""
            elif what == "eof fed":
                reader.feed_eof()
                peer.sendall(b"y")
                await until(lambda: reports)
                assert type(reports[0]["exception"]) is AssertionError
            else:
                peer.sendall(b"y" * 50_000)
                await until(lambda: reader._buffer)
                assert await reader.readexactly(50_000) == b"y" * 50_000

    fast_loop.run_until_complete(main())
    assert len(reports) == (what in ("view", "eof fed"))


@pytest.mark.parametrize(
    "change",
    [
        {"_buffer": bytearray(b"old")},
        {"_buffer": type("Buffer", (bytearray,), {})(b"old")},
        {"_limit": 10.5},
        {"_limit": 2**80},
        {"_limit": 1},
        {"_eof": 0},
        {"_paused": True},
        {"_transport": None},
    ],
)
def test_readers_of_asyncios_that_somebody_has_changed(
    change: dict[str, Any], tmp_path: Path
) -> None:
    async def scenario(loop: Any) -> Any:
        async with connected("tcp", tmp_path, asyncio) as ((reader, _), (_, writer)):
            transport = reader._transport
            for name, value in change.items():
                setattr(reader, name, copy.copy(value))
            seen = []
            for size in (100, 1, 5000):
                writer.write(b"x" * size)
                await until(lambda: len(reader._buffer) or reader._paused)
                seen.append((len(reader._buffer), reader._paused))
                seen.append(await reader.read(4000))
                seen.append((len(reader._buffer), reader._paused))
                if reader._paused:
                    reader._paused = False
                    transport.resume_reading()
            return seen

    fastloop.unpatch()
    answers = []
    for factory in (asyncio.new_event_loop, fastloop.new_event_loop):
        loop = factory()
        answers.append(loop.run_until_complete(scenario(loop)))
        loop.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize("what", ["asyncio", "cancelled", "view"])
def test_asyncios_reader_with_another_waiter(
    fast_loop: Any, what: str, tmp_path: Path
) -> None:
    fastloop.unpatch()
    reports: list[Any] = []
    fast_loop.set_exception_handler(lambda _, context: reports.append(context))

    async def main() -> None:
        async with connected("tcp", tmp_path, asyncio) as ((reader, _), (_, writer)):
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            waiter = asyncio.futures._PyFuture(loop=fast_loop)  # type: ignore[attr-defined]
            if what == "cancelled":
                waiter = fast_loop.create_future()
                waiter.cancel()
            if what == "view":
                view = memoryview(reader._buffer)
                writer.write(b"y")
                await until(lambda: reports)
                view.release()
                return
            reader._waiter = waiter
            writer.write(b"y")
            await until(lambda: reader._buffer)
            assert reader._waiter is None
            assert waiter.done() and waiter.cancelled() == (what == "cancelled")

    fast_loop.run_until_complete(main())
    kinds = [type(report["exception"]) for report in reports]
    assert kinds == ([BufferError] if what == "view" else [])


def test_patched_together(fast_loop: Any, tmp_path: Path) -> None:
    """Everything overridden at once is asyncio's way again."""

    async def main() -> None:
        class Reader(fastloop.StreamReader):
            def feed_data(self, data: Any) -> None:
                seen.append(type(data))
                super().feed_data(data)

        async with connected("tcp", tmp_path) as pair:
            _, writer = pair[0]
            reader = Reader(loop=fast_loop)
            first = writer.transport.get_protocol()
            protocol = fastloop.StreamReaderProtocol(reader, loop=fast_loop)
            writer.transport.set_protocol(protocol)
            pair[1][1].write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.transport.set_protocol(first)

    seen: list[type] = []
    fast_loop.run_until_complete(main())
    assert seen == [bytes]


def test_a_reader_that_is_dropped_while_data_comes(
    fast_loop: Any, tmp_path: Path
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with connected("tcp", tmp_path) as pair:
            _, writer = pair[0]
            first = writer.transport.get_protocol()
            reader = fastloop.StreamReader(loop=loop)
            writer.transport.set_protocol(
                fastloop.StreamReaderProtocol(reader, loop=loop)
            )
            pair[1][1].write(b"one")
            assert await reader.read(3) == b"one"
            del reader
            pair[1][1].write(b"two")
            await turns(20)
            writer.transport.set_protocol(first)

    fast_loop.run_until_complete(main())


def test_data_after_the_end(fast_loop: Any, tmp_path: Path) -> None:
    reports: list[Any] = []
    fast_loop.set_exception_handler(lambda _, context: reports.append(context))

    async def main() -> None:
        async with connected("tcp", tmp_path) as pair:
            pair[0][0].feed_eof()
            pair[1][1].write(b"x")
            await until(lambda: reports)

    fast_loop.run_until_complete(main())
    assert isinstance(reports[0]["exception"], AssertionError)
    assert reports[0]["message"].startswith("Fatal error: protocol.data_received()")


@pytest.mark.parametrize("overridden", [False, True])
def test_a_read_pipe(fast_loop: Any, overridden: bool) -> None:
    async def main() -> None:
        reader = fastloop.StreamReader(loop=fast_loop)
        protocol = fastloop.StreamReaderProtocol(reader, loop=fast_loop)
        if overridden:
            own = protocol.data_received
            protocol.data_received = lambda data: own(data.upper())  # type: ignore[method-assign]
        receive, send = os.pipe()
        with os.fdopen(send, "wb", 0) as pipe:
            transport, _ = await fast_loop.connect_read_pipe(
                lambda: protocol, os.fdopen(receive, "rb", 0)
            )
            pipe.write(b"line\nlast")
            expected = b"LINE\n" if overridden else b"line\n"
            assert await reader.readline() == expected
        assert (await reader.read()).lower() == b"last"
        transport.close()

    fast_loop.run_until_complete(main())


def test_a_loop_that_schedules_in_its_own_way(tmp_path: Path) -> None:
    """Its call_soon() is called in the context of the connection."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = set()

    class Loop(fastloop.Loop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            seen.add(variable.get("none"))
            return super().call_soon(callback, *args, context=context)

    async def main() -> None:
        variable.set("connection")
        async with connected("tcp", tmp_path) as pair:
            variable.set("task")
            await exchange(pair)

    loop = Loop()
    loop.run_until_complete(main())
    loop.close()
    assert "connection" in seen
