"""asyncio's own streams on our loop: every method answers as on asyncio's.

Scenarios return what they saw, and run on both loops; plain tests say what is right.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from io_support import (
    DEADLINE,
    HOST,
    Loop,
    LoopFactory,
    call,
    collect_reports,
    described,
    described_report,
    fill,
    on_both,
    outcome,
    receive,
    refusing,
    reset,
    run_once,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
)

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await, but not for ever."""
    return await asyncio.wait_for(awaitable, DEADLINE)


@contextlib.asynccontextmanager
async def stream(**options: Any) -> AsyncIterator[tuple[Reader, Writer, socket.socket]]:
    """Yield both ends of a stream and the plain socket it is connected to."""
    ours, peer = tcp_pair()
    peer.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, **options)
    with peer:
        try:
            yield reader, writer, peer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await within(writer.wait_closed())


@contextlib.asynccontextmanager
async def served(
    handler: Callable[[Reader, Writer], Any], **options: Any
) -> AsyncIterator[tuple[Reader, Writer, asyncio.Server]]:
    """Yield both ends of a stream to a server with the handler."""
    tasks = asyncio.all_tasks()
    server = await asyncio.start_server(handler, HOST, 0, **options)
    reader, writer = await asyncio.open_connection(
        *server.sockets[0].getsockname(), **options
    )
    try:
        yield reader, writer, server
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await within(writer.wait_closed())
        server.close()
        await within(server.wait_closed())
        # on 3.11 that does not wait for the connections
        await until(lambda: asyncio.all_tasks() <= tasks)
        await turns()


async def echo(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


# --- reading --------------------------------------------------------------------------

# what comes, in pieces, and how it is read; an exception ends it
READS: dict[str, tuple[list[bytes], Callable[[Reader], Awaitable[Any]]]] = {
    "read all": ([b"one", b"two"], lambda r: r.read()),
    "read nothing": ([b"one"], lambda r: r.read(0)),
    "read one": ([b"one"], lambda r: r.read(1)),
    "read more than there is": ([b"one"], lambda r: r.read(1000)),
    "read a negative size": ([b"one"], lambda r: r.read(-5)),
    "read a line": ([b"a li", b"ne\nand more"], lambda r: r.readline()),
    "read an empty line": ([b"\n"], lambda r: r.readline()),
    "read a line without end": ([b"no end"], lambda r: r.readline()),
    "read a line of nothing": ([], lambda r: r.readline()),
    "read exactly": ([b"123", b"45678"], lambda r: r.readexactly(5)),
    "read exactly nothing": ([b"1"], lambda r: r.readexactly(0)),
    "read exactly too much": ([b"123"], lambda r: r.readexactly(5)),
    "read exactly a negative size": ([b"1"], lambda r: r.readexactly(-1)),
    "read until": ([b"key", b"=value"], lambda r: r.readuntil(b"=")),
    "read until a split separator": ([b"a\r", b"\nb"], lambda r: r.readuntil(b"\r\n")),
    "read until the end": ([b"no separator"], lambda r: r.readuntil(b"\n\n")),
    "read until an empty separator": ([b"x"], lambda r: r.readuntil(b"")),
    "read until a default": ([b"li", b"ne\n"], lambda r: r.readuntil()),
    "iterate": ([b"a\nb\n\nc"], lambda r: lines_of(r)),
}
if sys.version_info >= (3, 13):
    READS |= {
        "read until one of some": (
            [b"a;b,c"],
            lambda r: r.readuntil((b",", b";")),
        ),
        "read until no separators": ([b"x"], lambda r: r.readuntil(())),
        "read until one that contains another": (
            [b"aXYZb"],
            lambda r: r.readuntil((b"XYZ", b"XY")),
        ),
    }


async def lines_of(reader: Reader) -> list[bytes]:
    return [line async for line in reader]


async def read_all_ways(reader: Reader, how: Callable[..., Any]) -> list[Any]:
    """Read until the end, or until an error; an empty answer is the end."""
    seen: list[Any] = []
    for _ in range(20):
        answer = await outcome(within(how(reader)))
        seen.append(answer)
        if not isinstance(answer, bytes) or not answer:
            break
    seen.append((reader.at_eof(), bytes(reader._buffer)))
    return seen


@pytest.mark.parametrize("pause", [False, True], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("name", sorted(READS))
def test_reading(name: str, pause: bool) -> None:
    pieces, how = READS[name]

    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, _, peer):
            task = loop.create_task(read_all_ways(reader, how))
            for piece in pieces:
                if pause:
                    await turns()
                peer.send(piece)
            if pause:
                await turns()
            peer.shutdown(socket.SHUT_WR)
            *answers, left = await within(task)
            if pause:
                return answers, left
            # pieces may come together or apart, before or after what is read
            if name in ("read one", "read more than there is"):
                return b"".join(answers)
            return answers

    on_both(scenario)


@pytest.mark.parametrize("limit", [1, 10, 11, 12, 13, 1 << 16])
@pytest.mark.parametrize("method", ["readline", "readuntil"])
def test_limits(method: str, limit: int) -> None:
    """A line of 11 bytes: what is too long is an error, and what is behind it stays."""

    async def scenario(loop: Loop) -> Any:
        async with stream(limit=limit) as (reader, _, peer):
            peer.send(b"0123456789\nabc\n")
            peer.shutdown(socket.SHUT_WR)
            await turns()
            seen = [await outcome(within(getattr(reader, method)())) for _ in range(4)]
            return [
                (answer[0], answer[1].partition(",")[0])
                if isinstance(answer, tuple)
                else answer
                for answer in seen
            ]

    on_both(scenario)


def test_a_long_line_without_an_end(loop: Loop) -> None:
    async def main() -> None:
        async with stream(limit=100) as (reader, _, peer):
            peer.send(b"x" * 1000)
            with pytest.raises(ValueError, match="limit"):
                await within(reader.readline())
            peer.send(b"y" * 1000)
            with pytest.raises(asyncio.LimitOverrunError) as caught:
                await within(reader.readuntil(b"end"))
            assert caught.value.consumed > 0

    loop.run_until_complete(main())


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_are_none(loop: Loop, limit: int) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        with ours, peer, pytest.raises(ValueError, match="Limit"):
            await asyncio.open_connection(sock=ours, limit=limit)

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [100, 1 << 16, 1 << 20, 5_000_001])
@pytest.mark.parametrize("limit", [1 << 10, 1 << 16])
def test_much_data(loop: Loop, size: int, limit: int) -> None:
    """The reader pauses and resumes the transport; every byte comes, in order."""
    data = random.Random(size).randbytes(size)

    async def answer(reader: Reader, writer: Writer) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with served(answer, limit=limit) as (reader, _, _server):
            received = bytearray()
            while chunk := await within(reader.read(limit // 3)):
                assert len(chunk) <= limit // 3
                assert len(reader._buffer) <= 2 * limit + (1 << 18)
                received += chunk
            assert received == data
            assert reader.at_eof()

    loop.run_until_complete(main())


def test_a_reader_that_does_not_read_stops_the_sender(loop: Loop) -> None:
    async def main() -> None:
        async with stream(limit=1000) as (reader, writer, peer):
            size = 0
            for _ in range(20):
                size += fill(peer)
                await turns(2)
            assert not writer.transport.is_reading()
            assert len(reader._buffer) > 2000
            peer.setblocking(False)
            received = 0
            while received < size:
                received += len(await within(reader.read(1 << 20)))
            assert received == size
            assert writer.transport.is_reading()

    loop.run_until_complete(main())


def test_two_tasks_cannot_read_at_once(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (reader, _, peer):
            first = loop.create_task(reader.read(10))
            await turns(1)
            for read in reader.read(1), reader.readline(), reader.readexactly(2):
                with pytest.raises(RuntimeError, match="already waiting"):
                    await read
            peer.send(b"data")
            assert await within(first) == b"data"

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    "how",
    [
        lambda r: r.read(10),
        lambda r: r.readline(),
        lambda r: r.readexactly(10),
        lambda r: r.readuntil(b"end"),
    ],
    ids=["read", "readline", "readexactly", "readuntil"],
)
def test_cancelling_a_read(loop: Loop, how: Callable[[Reader], Any]) -> None:
    """What was received stays for the next one."""

    async def main() -> None:
        taken = b""
        async with stream() as (reader, _, peer):
            for piece in b"", b"par", b"tial":
                if piece:
                    peer.send(piece)
                    await until(lambda piece=piece: reader._buffer.endswith(piece))
                task = loop.create_task(how(reader))
                await turns(2)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    taken += task.result()
            peer.send(b"end")
            peer.shutdown(socket.SHUT_WR)
            assert taken + await within(reader.read()) == b"partialend"

    loop.run_until_complete(main())


def test_a_read_with_a_timeout(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (reader, _, peer):
            for _ in range(20):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(reader.readexactly(1), 0.001)
            peer.send(b"x")
            assert await within(reader.readexactly(1)) == b"x"

    loop.run_until_complete(main())


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_reset_while_reading(when: str) -> None:
    """What was received before is still there, and every read after raises."""

    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, writer, peer):
            peer.send(b"data")
            await until(lambda: reader._buffer)
            task = None
            if when == "while":
                task = loop.create_task(reader.readexactly(10))
                await turns(2)
            reset(peer)
            await until(lambda: reader.exception() is not None)
            seen = [await outcome(task)] if task else []
            for read in reader.read, reader.readline, lambda: reader.readexactly(2):
                seen.append(await outcome(within(read())))
            seen.append(described(reader.exception()))
            seen.append(await outcome(within(writer.wait_closed())))
            return seen

    on_both(scenario)


# --- writing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"bytes", bytearray(b"array"), memoryview(b"view")],
)
def test_what_can_be_written(data: Any) -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (_, writer, peer):
            answer = call(writer.write, data)
            writer.write(b"end")
            return answer and answer[0], await within(receive_until_end(peer))

    on_both(scenario)


async def receive_until_end(peer: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"end"):
        received += await receive(peer, 1)
    return received


@pytest.mark.parametrize("data", ["text", 1, object(), {1: 2}])
def test_what_cannot_be_written(data: Any) -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (_, writer, peer):
            seen = [call(writer.write, data), call(writer.writelines, data)]
            writer.write(b"end")
            received = await within(receive_until_end(peer))
            # the words of a TypeError are each implementation's own
            return [answer and answer[0] for answer in seen], received

    on_both(scenario)


def test_writelines(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (_, writer, peer):
            writer.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            writer.writelines(line for line in [b"d", b"e"])
            writer.writelines([])
            writer.writelines([b"", b"end"])
            assert await within(receive_until_end(peer)) == b"abcdeend"

    loop.run_until_complete(main())


def test_a_buffer_that_is_changed_after_it_was_written(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (_, writer, peer):
            buffer = bytearray(b"as it was ")
            writer.write(buffer)
            buffer[:] = b"----------"
            writer.write(memoryview(buffer))
            buffer[:] = b"??????????"
            writer.write(b"end")
            assert await within(receive_until_end(peer)) == b"as it was ----------end"

    loop.run_until_complete(main())


@pytest.mark.parametrize("limits", [(None, None), (0, 0), (1, None), (1 << 20, 1)])
def test_drain(limits: tuple[int | None, int | None]) -> None:
    """It waits above the high-water mark, until the low one is reached."""
    high, low = limits

    async def scenario(loop: Loop) -> Any:
        async with stream() as (_, writer, peer):
            writer.transport.set_write_buffer_limits(high, low)
            seen: list[Any] = [writer.transport.get_write_buffer_limits()]
            await within(writer.drain())
            size = 8 << 20
            writer.write(bytes(size))
            assert writer.transport.get_write_buffer_size() > 1 << 20
            tasks = [loop.create_task(writer.drain()) for _ in range(3)]
            await turns(3)
            seen.append([task.done() for task in tasks])
            received = loop.create_task(receive(peer, size))
            await within(asyncio.gather(*tasks))
            seen.append(writer.transport.get_write_buffer_size() <= (low or 1 << 18))
            seen.append(len(await within(received)))
            await within(writer.drain())
            return seen

    answer = on_both(scenario)
    assert answer[1] == [False] * 3
    assert answer[2] is True


def test_cancelling_a_drain(loop: Loop) -> None:
    """One of several: the others go on, and nothing of what is written is lost."""

    async def main() -> None:
        async with stream() as (_, writer, peer):
            size = 8 << 20
            writer.write(bytes(size))
            tasks = [loop.create_task(writer.drain()) for _ in range(3)]
            await turns(2)
            tasks[1].cancel()
            await turns(2)
            assert [task.done() for task in tasks] == [False, True, False]
            assert len(await within(receive(peer, size))) == size
            await within(asyncio.gather(tasks[0], tasks[2]))
            assert tasks[1].cancelled()

    loop.run_until_complete(main())


@pytest.mark.parametrize("how", ["reset", "abort"])
def test_a_drain_on_a_connection_that_breaks(how: str) -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, writer, peer):
            writer.write(bytes(8 << 20))
            tasks = [loop.create_task(writer.drain()) for _ in range(2)]
            await turns(2)
            if how == "reset":
                reset(peer)
            else:
                writer.transport.abort()
            seen = [await outcome(within(task)) for task in tasks]
            seen.append(await outcome(within(writer.drain())))
            seen.append(await outcome(within(writer.wait_closed())))
            seen.append(described(reader.exception()))
            # which of two errors of a broken connection the kernel tells may vary
            return [a and issubclass(a[0], ConnectionError) for a in seen]

    on_both(scenario)


def test_writing_after_the_end(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (reader, writer, peer):
            assert writer.can_write_eof()
            writer.write(b"all")
            writer.write_eof()
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.writelines([b"more"])
            assert await within(receive(peer)) == b"all"
            peer.send(b"answer")  # the other direction is open
            peer.shutdown(socket.SHUT_WR)
            assert await within(reader.read()) == b"answer"

    loop.run_until_complete(main())


def test_writing_after_close(caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped, as asyncio drops it."""

    async def scenario(loop: Loop) -> Any:
        caplog.clear()
        async with stream() as (_, writer, peer):
            writer.write(b"before")
            writer.close()
            seen: list[Any] = [writer.is_closing()]
            seen += [call(writer.write, b"after") for _ in range(10)]
            seen.append(await outcome(within(writer.drain())))
            seen.append(await outcome(within(writer.wait_closed())))
            seen.append(call(writer.write, b"after"))
            seen.append(await outcome(within(writer.drain())))
            seen.append(await within(receive(peer)))
            return seen, [record.getMessage() for record in caplog.records]

    on_both(scenario)


# --- closing --------------------------------------------------------------------------


def test_close_sends_what_was_written(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (_, writer, peer):
            size = 3 << 20
            writer.write(bytes(size))
            writer.close()
            closed = loop.create_task(writer.wait_closed())
            assert len(await within(receive(peer))) == size
            await within(closed)
            assert writer.is_closing()

    loop.run_until_complete(main())


def test_abort_does_not(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (_, writer, peer):
            size = 8 << 20
            writer.write(bytes(size))
            await turns(2)
            writer.transport.abort()
            await within(writer.wait_closed())
            with contextlib.suppress(ConnectionError):
                assert len(await within(receive(peer))) < size

    loop.run_until_complete(main())


def test_wait_closed_of_many(loop: Loop) -> None:
    async def main() -> None:
        async with stream() as (_, writer, _peer):
            waiting = [loop.create_task(writer.wait_closed()) for _ in range(5)]
            await turns(2)
            assert not any(task.done() for task in waiting)
            writer.close()
            writer.close()
            await within(asyncio.gather(*waiting))
            await within(writer.wait_closed())

    loop.run_until_complete(main())


def test_what_is_left_in_the_reader_after_close() -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, writer, peer):
            peer.send(b"left")
            await until(lambda: reader._buffer)
            writer.close()
            await within(writer.wait_closed())
            return (
                reader.at_eof(),
                await outcome(within(reader.read(2))),
                await outcome(within(reader.read())),
                reader.at_eof(),
            )

    assert on_both(scenario) == (False, b"le", b"ft", True)


def test_the_peer_closes_first() -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, writer, peer):
            peer.send(b"last words")
            peer.close()
            seen = [await outcome(within(reader.read()))]
            seen += [reader.at_eof(), writer.is_closing()]
            writer.close()
            return [*seen, await outcome(within(writer.wait_closed()))]

    assert on_both(scenario) == [b"last words", True, False, None]


def test_a_writer_that_is_dropped() -> None:
    """Its warning, where asyncio has one (3.13), and the connection's end."""

    async def scenario(loop: Loop) -> Any:
        ours, peer = tcp_pair()
        with peer, pytest.warns(ResourceWarning) as caught:
            reader, writer = await asyncio.open_connection(sock=ours)
            if sys.version_info < (3, 13):
                import warnings

                warnings.warn("nothing is told before 3.13", ResourceWarning)  # noqa: B028
                writer.close()
                await writer.wait_closed()
            del reader, writer
            gc.collect()
            assert await within(receive(peer)) == b""
        kinds = {str(warning.message).split(" ")[0] for warning in caught}
        return kinds - {"unclosed"} if sys.version_info >= (3, 13) else kinds

    on_both(scenario)


# --- information and the like ---------------------------------------------------------


def test_information() -> None:
    async def scenario(loop: Loop) -> Any:
        async with stream() as (reader, writer, peer):
            sock = writer.get_extra_info("socket")
            seen = [
                writer.get_extra_info("peername") == peer.getsockname(),
                writer.get_extra_info("sockname") == peer.getpeername(),
                type(sock).__name__,
                sock.family,
                writer.get_extra_info("unknown"),
                writer.get_extra_info("unknown", "default"),
                writer.can_write_eof(),
                writer.transport.get_protocol() is writer._protocol,  # type: ignore[attr-defined]
                repr(writer).partition(" ")[0],
                repr(reader).partition(" ")[0],
                "transport=" in repr(writer),
            ]
            return seen

    on_both(scenario)


def test_feeding_a_reader_by_hand(loop: Loop) -> None:
    """A reader without a transport."""

    async def main() -> None:
        reader = asyncio.StreamReader(limit=10)
        reader.feed_data(b"one\ntwo\n")
        reader.feed_data(b"")
        assert await reader.readline() == b"one\n"
        loop.call_soon(reader.feed_data, b"three")
        loop.call_soon(reader.feed_eof)
        assert await within(reader.read()) == b"two\nthree"
        assert reader.at_eof()
        assert await reader.read() == b""
        reader.set_exception(LookupError("told"))
        assert isinstance(reader.exception(), LookupError)
        with pytest.raises(LookupError, match="told"):
            await reader.read()

    loop.run_until_complete(main())


def test_an_exception_set_while_reading(loop: Loop) -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        task = loop.create_task(reader.read())
        await turns(1)
        reader.set_exception(LookupError("told"))
        with pytest.raises(LookupError, match="told"):
            await within(task)

    loop.run_until_complete(main())


# --- servers --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_handler(loop: Loop, kind: str) -> None:
    tasks: list[asyncio.Task[None]] = []

    def start(reader: Reader, writer: Writer) -> None:
        tasks.append(loop.create_task(echo(reader, writer)))

    async def main() -> None:
        handler: Any = echo if kind == "coroutine" else start
        async with served(handler) as (reader, writer, _server):
            for i in range(100):
                writer.write(b"%d\n" % i)
                assert await within(reader.readline()) == b"%d\n" % i
            writer.write_eof()
            assert await within(reader.read()) == b""
        await within(asyncio.gather(*tasks))

    loop.run_until_complete(main())


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_handler_that_fails(when: str) -> None:
    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)

        async def fail(reader: Reader, writer: Writer) -> None:
            if when == "later":
                await reader.read(1)
            raise LookupError("told")

        async with served(fail) as (reader, writer, _server):
            writer.write(b"data")
            if sys.version_info >= (3, 12):
                with contextlib.suppress(ConnectionError):
                    assert await within(reader.read()) == b""
            await turns()
        gc.collect()
        await turns()
        return [described_report(report)[:2] for report in reports]

    on_both(scenario)


def test_a_handler_that_is_cancelled(loop: Loop) -> None:
    started: list[asyncio.Task[Any]] = []
    reports = collect_reports(loop)

    async def handler(reader: Reader, writer: Writer) -> None:
        started.append(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await reader.read()
        finally:
            writer.close()

    async def main() -> None:
        async with served(handler) as (reader, _writer, _server):
            await until(lambda: started)
            started[0].cancel()
            assert await within(reader.read()) == b""
        await turns()

    loop.run_until_complete(main())
    assert started[0].cancelled()
    if sys.version_info >= (3, 13):  # before, asyncio takes it for an error of its own
        assert reports == []


def test_many_clients(loop: Loop) -> None:
    async def client(address: Any, number: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        data = random.Random(number).randbytes(number * 100 + 1)
        writer.write(data)
        writer.write_eof()
        assert await within(reader.read()) == data
        writer.close()
        await within(writer.wait_closed())

    async def main() -> None:
        server = await asyncio.start_server(echo, HOST, 0)
        async with server:
            address = server.sockets[0].getsockname()
            await asyncio.gather(*[client(address, i) for i in range(100)])
        await turns()

    loop.run_until_complete(main())


def test_large_traffic_both_ways(loop: Loop) -> None:
    """More than all buffers hold, so that both sides pause and resume."""
    size = 20 << 20

    async def main() -> None:
        async with served(echo) as (reader, writer, _server):

            async def send() -> None:
                for _ in range(size >> 16):
                    writer.write(bytes(1 << 16))
                    await writer.drain()
                writer.write_eof()

            sending = loop.create_task(send())
            received = 0
            while data := await within(reader.read(1 << 18)):
                received += len(data)
            assert received == size
            await sending

    loop.run_until_complete(main())


def test_a_server_that_closes_while_clients_are_there(loop: Loop) -> None:
    async def main() -> None:
        async with served(echo) as (reader, writer, server):
            writer.write(b"one")
            assert await within(reader.readexactly(3)) == b"one"
            server.close()
            assert not server.is_serving()
            writer.write(b"two")
            assert await within(reader.readexactly(3)) == b"two"
            address = writer.get_extra_info("peername")
            with pytest.raises(ConnectionError):
                await asyncio.open_connection(*address)

    loop.run_until_complete(main())


def test_serve_forever(loop: Loop) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, HOST, 0, start_serving=False)
        task = loop.create_task(server.serve_forever())
        await until(server.is_serving)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"data")
        assert await within(reader.readexactly(4)) == b"data"
        writer.close()
        await within(writer.wait_closed())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        await turns()

    loop.run_until_complete(main())


# --- connecting -----------------------------------------------------------------------


def test_a_refused_connection() -> None:
    async def scenario(loop: Loop) -> Any:
        with refusing() as address:
            answer = await outcome(asyncio.open_connection(*address))
            return answer[0], answer[2]

    on_both(scenario)


def test_wrong_arguments() -> None:
    async def scenario(loop: Loop) -> Any:
        return [
            (await outcome(opening))[0]
            for opening in (
                asyncio.open_connection(),
                asyncio.open_connection(HOST),
                asyncio.open_connection(HOST, "no such service"),
                asyncio.open_connection(sock=1),
                asyncio.open_connection(HOST, 1, unknown=1),
                asyncio.start_server(echo),
                asyncio.start_server(echo, HOST, 0, unknown=1),
            )
        ]

    on_both(scenario)


def test_cancelling_a_connection_at_every_step(loop: Loop) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, HOST, 0)
        address = server.sockets[0].getsockname()
        for steps in range(12):
            task = loop.create_task(asyncio.open_connection(*address))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            try:
                _, writer = await within(task)
            except asyncio.CancelledError:
                continue
            writer.close()
            await within(writer.wait_closed())
        server.close()
        await turns()

    loop.run_until_complete(main())


# --- TLS, a little --------------------------------------------------------------------


def test_streams_over_tls(loop: Loop) -> None:
    async def answer(reader: Reader, writer: Writer) -> None:
        line = await reader.readuntil()
        writer.write(line)
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, HOST, 0, ssl=tls_server())
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=tls_client()
        )
        writer.write(b"x" * 50_000 + b"\n")
        assert len(await within(reader.read())) == 50_001
        writer.close()
        with contextlib.suppress(OSError):
            await within(writer.wait_closed())
        server.close()
        await turns()

    loop.run_until_complete(main())


def test_start_tls_of_a_writer(loop: Loop) -> None:
    async def upgrade(reader: Reader, writer: Writer) -> None:
        assert await reader.readline() == b"starttls\n"
        writer.write(b"go on\n")
        await writer.start_tls(tls_server())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with served(upgrade) as (reader, writer, _server):
            writer.write(b"starttls\n")
            assert await within(reader.readline()) == b"go on\n"
            await within(writer.start_tls(tls_client(), server_hostname=HOST))
            assert writer.get_extra_info("ssl_object") is not None
            writer.write(b"secret\n")
            assert await within(reader.readline()) == b"secret\n"
            writer.close()
            with contextlib.suppress(OSError):
                await within(writer.wait_closed())

    loop.run_until_complete(main())


# --- the loop's end -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_streams_on_a_loop_that_closes(loop_factory: LoopFactory) -> None:
    """Readers and writers that outlive it answer, or raise; none crashes."""
    loop = loop_factory()
    loop.set_exception_handler(lambda *_: None)

    async def open_stream() -> Any:
        ours, peer = tcp_pair()
        return *await asyncio.open_connection(sock=ours), peer

    reader, writer, peer = loop.run_until_complete(open_stream())
    writer.write(b"data")
    loop.close()
    use_after_the_end(reader, writer)
    peer.close()
    del reader, writer
    gc.collect()


def use_after_the_end(reader: Reader, writer: Writer) -> None:
    for use in (
        lambda: writer.write(b"more"),
        lambda: writer.writelines([b"more"]),
        writer.write_eof,
        writer.is_closing,
        writer.can_write_eof,
        lambda: writer.get_extra_info("peername"),
        lambda: repr(writer),
        lambda: repr(reader),
        reader.at_eof,
        reader.feed_eof,
        writer.close,
        writer.transport.abort,
    ):
        with contextlib.suppress(RuntimeError, OSError):
            use()


def test_a_stream_of_two_processes(loop: Loop) -> None:
    """A real peer, which is slow, and dies in the middle of a line."""
    program = (
        "import socket, sys, time\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "sock.send(b'whole line\\nhalf a'); time.sleep(0.01); sock.send(b' line')\n"
    )
    seen: list[bytes] = []
    done = asyncio.Event()

    async def handler(reader: Reader, writer: Writer) -> None:
        seen.append(await reader.readline())
        try:
            await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as exc:
            seen.append(exc.partial)
        writer.close()
        done.set()

    async def main() -> None:
        server = await asyncio.start_server(handler, HOST, 0)
        host, port = server.sockets[0].getsockname()
        with tempfile.TemporaryFile() as errors:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", program, host, str(port)],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, errors.fileno(), 2)],
            )
            await within(done.wait())
        await asyncio.to_thread(os.waitpid, pid, 0)
        server.close()
        await loop.shutdown_default_executor()
        await turns()

    loop.run_until_complete(main())
    run_once(loop)
    assert seen == [b"whole line\n", b"half a line"]
