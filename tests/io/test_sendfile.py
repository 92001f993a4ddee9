"""sock_sendfile() and sendfile(), native and by reading, on both loops."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from io_support import (
    HOST,
    Recorder,
    call,
    connected,
    descriptors,
    facing,
    fill,
    on_both,
    outcome,
    receive,
    reset,
    tcp_pair,
    tls_client,
    tls_server,
    turns,
    until,
    words,
)

LARGE = 2_000_000
CONTENT = random.Random(3).randbytes(LARGE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: Any) -> str:
    path = tmp_path_factory.mktemp("sendfile") / "content"
    path.write_bytes(CONTENT)
    return str(path)


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = tcp_pair()
    with ours, peer:
        ours.setblocking(False)
        yield ours, peer


def shrink(transport: Any) -> None:
    """Let the kernel take little at a time."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)


async def sent(call: Any, peer: socket.socket, close: Any) -> tuple[Any, bytes]:
    """What the call answers, and what it sent."""
    task = asyncio.ensure_future(outcome(call))
    reading = asyncio.ensure_future(receive(peer))
    result = await task
    close()
    return result, await reading


# --- over sockets -------------------------------------------------------------------

RANGES = [(0, None), (0, 10), (100, None), (1_000_000, 500_000), (LARGE - 5, 100)]


@pytest.mark.parametrize(("offset", "count"), [*RANGES, (LARGE + 5, None), (0, LARGE)])
def test_sock_sendfile(path: str, offset: int, count: int | None) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, peer), open(path, "rb") as file:
            answer, data = await sent(
                loop.sock_sendfile(ours, file, offset, count), peer, ours.close
            )
            end = LARGE if count is None else offset + count
            assert data == CONTENT[offset:end]
            assert answer == len(data)
            return answer, file.tell()

    on_both(scenario)


@pytest.mark.parametrize(("offset", "count"), RANGES)
def test_sock_sendfile_by_reading(offset: int, count: int | None) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, peer):
            file = io.BytesIO(CONTENT)
            file.seek(7)
            answer, data = await sent(
                loop.sock_sendfile(ours, file, offset, count), peer, ours.close
            )
            return answer, data == CONTENT[offset : offset + answer], file.tell()

    on_both(scenario)


def test_sock_sendfile_no_fallback() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, _), tempfile.TemporaryFile() as file:
            answers = [
                await outcome(loop.sock_sendfile(ours, source, fallback=False))
                for source in (io.BytesIO(b"data"), file, object())
            ]
            with open("/dev/zero", "rb") as zero:
                answers.append(
                    await outcome(loop.sock_sendfile(ours, zero, 0, 5, fallback=False))
                )
            return answers

    answers = on_both(scenario)
    assert answers[0][0] is asyncio.SendfileNotAvailableError
    assert answers[1] == 0


def test_sock_sendfile_pipe() -> None:
    """No system call can take a position in a pipe: it is read."""

    async def scenario(loop: Any) -> Any:
        reading, writing = os.pipe()
        os.write(writing, b"from a pipe")
        os.close(writing)
        with pair() as (ours, peer), open(reading, "rb") as file:
            return await sent(loop.sock_sendfile(ours, file, 0, 11), peer, ours.close)

    on_both(scenario)


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, None), ("1", None), (1.0, None), (0, 0), (0, -1), (0, "1"), (0, 1.5)],
)
def test_sock_sendfile_bad_range(path: str, offset: Any, count: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, _), open(path, "rb") as file:
            return await outcome(loop.sock_sendfile(ours, file, offset, count))

    assert on_both(scenario)[0] in (TypeError, ValueError)


def test_sock_sendfile_refusals(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        with (
            pair() as (ours, _),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            open(path, encoding="latin-1") as text,
            open(path, "rb") as file,
        ):
            datagrams.setblocking(False)
            answers = [
                await outcome(loop.sock_sendfile(ours, text)),
                await outcome(loop.sock_sendfile(datagrams, file)),
            ]
            loop.set_debug(True)
            ours.setblocking(True)
            answers.append(await outcome(loop.sock_sendfile(ours, file)))
            return answers

    assert [kind for kind, _, _ in on_both(scenario)] == [ValueError] * 3


def test_sock_sendfile_does_not_block(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, peer), open(path, "rb") as file:
            fill(ours)
            task = loop.create_task(loop.sock_sendfile(ours, file))
            await turns()
            assert not task.done()
            task.cancel()
            await asyncio.wait([task])
            assert loop.remove_writer(ours) is False
            peer.setblocking(False)
            return task.cancelled()

    assert on_both(scenario) is True


def test_sock_sendfile_to_a_peer_that_goes(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, peer), open(path, "rb") as file:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
            task = loop.create_task(outcome(loop.sock_sendfile(ours, file)))
            await turns()
            reset(peer)
            return (await task)[0], file.tell() > 0

    kind, moved = on_both(scenario)
    assert issubclass(kind, ConnectionError)
    assert moved


# --- over transports ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def tls_pair() -> AsyncIterator[tuple[Any, Any]]:
    """Yield the protocols of a TLS connection."""
    loop = asyncio.get_running_loop()
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(Recorder())
        return accepted[-1]

    server = await loop.create_server(accept, HOST, 0, ssl=tls_server())
    port = server.sockets[0].getsockname()[1]
    transport, protocol = await loop.create_connection(
        Recorder, HOST, port, ssl=tls_client()
    )
    await until(lambda: accepted and accepted[0].transport)
    try:
        yield protocol, accepted[0]
    finally:
        transport.abort()
        accepted[0].transport.abort()
        server.close()
        await until(lambda: protocol.lost and accepted[0].lost)
        await turns(2)


@pytest.mark.parametrize(("offset", "count"), RANGES)
def test_sendfile(path: str, offset: int, count: int | None) -> None:
    async def scenario(loop: Any) -> Any:
        async with connected() as connection:
            client, server = connection.client, connection.server
            with open(path, "rb") as file:
                answer = await loop.sendfile(client.transport, file, offset, count)
                position = file.tell()
            client.transport.write(b"end")
            await until(lambda: server.data.endswith(b"end"))
            data = bytes(server.data[:-3])
            server.transport.write(b"reads again")
            await until(lambda: client.data)
            return answer, position, data == CONTENT[offset : offset + answer]

    assert on_both(scenario)[2]


def test_sendfile_after_what_was_written(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with connected() as connection:
            client, server = connection.client, connection.server
            before = bytes(range(256)) * 20_000
            client.transport.write(before)
            with open(path, "rb") as file:
                await loop.sendfile(client.transport, file)
            client.transport.write(b"after")
            await until(lambda: server.data.endswith(b"after"))
            return bytes(server.data) == before + CONTENT + b"after"

    assert on_both(scenario) is True


def test_no_writing_meanwhile(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            shrink(transport)
            with open(path, "rb") as file:
                task = loop.create_task(loop.sendfile(transport, file))
                await turns(2)
                assert not task.done()
                answers = [
                    call(transport.write, b"x"),
                    call(transport.writelines, [b"x"])[0],
                    transport.is_reading(),
                ]
                # asyncio's KeyError is of a private dictionary
                second, _, _ = await outcome(loop.sendfile(transport, file))
                assert second in (RuntimeError, KeyError)
                await receive(peer, LARGE)
                answers.append(await task)
                return [*answers, transport.is_reading(), call(transport.write, b"x")]

    answers = on_both(scenario)
    assert answers[0][0] is RuntimeError
    assert answers[-3:] == [LARGE, True, None]


def test_waiting_until_a_lost_connection_has_sent_all(fast_loop: Any) -> None:
    """asyncio's fails with AttributeError, having let go of the loop."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.write(b"all")
            transport.close()
            await until(lambda: protocol.lost)
            await turns()
            assert await receive(peer, 3) == b"all"
            waiter = transport._make_empty_waiter()
            with pytest.raises(RuntimeError, match="already set"):
                transport._make_empty_waiter()
            await waiter
            transport._reset_empty_waiter()

    fast_loop.run_until_complete(main())


def test_paused_reading_stays_paused(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with connected() as connection:
            transport = connection.client.transport
            transport.pause_reading()
            with open(path, "rb") as file:
                await loop.sendfile(transport, file, 0, 10)
            return transport.is_reading()

    assert on_both(scenario) is False


def test_sendfile_by_reading() -> None:
    async def scenario(loop: Any) -> Any:
        async with connected() as connection:
            client, server = connection.client, connection.server
            file = io.BytesIO(CONTENT)
            answer = await loop.sendfile(client.transport, file, 5)
            assert client.transport.get_protocol() is client
            await until(lambda: len(server.data) == answer)
            refused = await outcome(
                loop.sendfile(client.transport, file, fallback=False)
            )
            return answer, bytes(server.data) == CONTENT[5:], file.tell(), refused[0]

    assert on_both(scenario)[:2] == (LARGE - 5, True)


def test_sendfile_over_tls(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with tls_pair() as (client, server):
            with open(path, "rb") as file:
                answer = await loop.sendfile(client.transport, file, 10, 100_000)
                position = file.tell()
                refused = await outcome(
                    loop.sendfile(client.transport, file, fallback=False)
                )
            await until(lambda: len(server.data) == answer)
            assert client.transport.get_protocol() is client
            server.transport.write(b"reads again")
            await until(lambda: client.data)
            assert words(refused[1]).startswith("fallback is disabled")
            return (
                answer,
                position,
                bytes(server.data) == CONTENT[10:100_010],
                refused[0],
            )

    assert on_both(scenario) == (100_000, 100_010, True, RuntimeError)


def test_refused_transports(path: str) -> None:
    class Odd(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

    async def scenario(loop: Any) -> Any:
        with open(path, "rb") as file, open(path, encoding="latin-1") as text:
            answers = [await outcome(loop.sendfile(Odd(), file))]
            async with connected() as connection:
                transport = connection.client.transport
                answers.append(await outcome(loop.sendfile(transport, text)))
                answers.append(await outcome(loop.sendfile(transport, file, -1)))
                transport.close()
                answers.append(await outcome(loop.sendfile(transport, file)))
            return answers

    kinds = [kind for kind, _, _ in on_both(scenario)]
    assert kinds == [RuntimeError, ValueError, ValueError, RuntimeError]


def test_peer_goes_in_the_middle(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            shrink(protocol.transport)
            with open(path, "rb") as file:
                task = loop.create_task(
                    outcome(loop.sendfile(protocol.transport, file))
                )
                await turns(2)
                reset(peer)
                kind, _, _ = await task
                return issubclass(kind, ConnectionError), file.tell() > 0

    assert on_both(scenario) == (True, True)


def test_peer_goes_before_what_was_written_is_sent(path: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            protocol.transport.write(bytes(30 * LARGE))
            with open(path, "rb") as file:
                task = loop.create_task(
                    outcome(loop.sendfile(protocol.transport, file))
                )
                await turns(2)
                reset(peer)
                kind, _, _ = await task
                return issubclass(kind, ConnectionError), file.tell()

    assert on_both(scenario) == (True, 0)


@pytest.mark.parametrize("source", ["file", "memory"])
def test_aborted_in_the_middle(fast_loop: Any, path: str, source: str) -> None:
    """The call ends.  (With a file, asyncio's waits for ever.)"""

    async def main() -> None:
        async with facing() as (protocol, _):
            shrink(protocol.transport)
            with open(path, "rb") if source == "file" else io.BytesIO(CONTENT) as file:
                task = fast_loop.create_task(
                    outcome(fast_loop.sendfile(protocol.transport, file))
                )
                await turns(3)
                assert not task.done()
                protocol.transport.abort()
                kind, _, _ = await asyncio.wait_for(task, 10)
                assert issubclass(kind, ConnectionError)

    fast_loop.run_until_complete(main())


def test_cancelled_at_any_await(path: str, fast_loop: Any) -> None:
    chance = random.Random(11)

    async def main() -> None:
        async with connected():
            pass
        before = descriptors()
        for _ in range(40):
            async with facing() as (protocol, peer):
                transport = protocol.transport
                native = chance.random() < 0.5
                with open(path, "rb") if native else io.BytesIO(CONTENT) as file:
                    task = fast_loop.create_task(fast_loop.sendfile(transport, file))
                    reading = fast_loop.create_task(
                        receive(peer, chance.randrange(1, LARGE))
                    )
                    for _ in range(chance.randrange(20)):
                        await asyncio.sleep(0)
                    task.cancel()
                    reading.cancel()
                    await asyncio.gather(task, reading, return_exceptions=True)
                    assert transport.get_protocol() is protocol
                    assert transport.is_reading()
                    transport.write(b"writes again")
        assert descriptors() == before

    fast_loop.run_until_complete(main())
