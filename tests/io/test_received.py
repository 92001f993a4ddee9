"""The bytes that received data is given on as: nobody's change before others' eyes.

fastloop uses the object of the last read again, if nobody has kept it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from io_support import HOST, facing, until
from tls_support import facing_peer

Exchange = Callable[[bytes], Awaitable[bytes]]


class Last(asyncio.Protocol):
    """Hands out the very object that it was called with, and forgets it."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data: list[bytes] = []
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.data.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    async def take(self) -> bytes:
        await until(lambda: self.data)
        assert len(self.data) == 1
        return self.data.pop()


class LastDatagram(Last):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.data.append(data)


@contextlib.asynccontextmanager
async def over_tcp() -> AsyncIterator[Exchange]:
    async with facing(Last) as (protocol, peer):

        async def exchange(message: bytes) -> bytes:
            peer.sendall(message)
            return await protocol.take()

        yield exchange


@contextlib.asynccontextmanager
async def over_tls() -> AsyncIterator[Exchange]:
    async with facing_peer(Last) as (protocol, peer):

        async def exchange(message: bytes) -> bytes:
            await peer.write(message)
            return await protocol.take()

        yield exchange


@contextlib.asynccontextmanager
async def by_sock_recv() -> AsyncIterator[Exchange]:
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)

        async def exchange(message: bytes) -> bytes:
            peer.sendall(message)
            return await loop.sock_recv(ours, 1 << 16)

        yield exchange


@contextlib.asynccontextmanager
async def over_udp() -> AsyncIterator[Exchange]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        LastDatagram, local_addr=(HOST, 0)
    )
    address = transport.get_extra_info("sockname")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:

        async def exchange(message: bytes) -> bytes:
            peer.sendto(message, address)
            return await protocol.take()

        yield exchange
    transport.close()
    await until(lambda: protocol.lost)


ways = pytest.mark.parametrize("way", [over_tcp, over_tls, by_sock_recv, over_udp])


def numeral(size: int, digit: int) -> bytes:
    return b"%d" % digit * size


@ways
def test_kept(loop: Any, way: Any) -> None:
    """Whoever keeps an object, or a part of it, keeps what was in it."""

    async def main() -> None:
        async with way() as exchange:
            objects, parts, views, hashed = [], [], [], {}
            for digit in range(10):
                message = numeral(1000, digit)
                data = await exchange(message)
                objects.append(data)
                parts.append((await exchange(message))[1:])
                views.append(memoryview(await exchange(message)))
                hashed[await exchange(message)] = digit
            for digit in range(10):
                message = numeral(1000, digit)
                assert objects[digit] == message
                assert parts[digit] == message[1:]
                assert views[digit] == message
                assert hashed[message] == digit

    loop.run_until_complete(main())


@ways
def test_forgotten(loop: Any, way: Any) -> None:
    """A new object knows nothing of the last one: its hash, its size, its end."""

    async def main() -> None:
        async with way() as exchange:
            for size in [1, 512, 513, 1000, 999, 940, 1000, 871, 5000, 4000, 600, 1001]:
                for digit in (1, 2):
                    message = numeral(size, digit)
                    data = await exchange(message)
                    assert type(data) is bytes
                    assert len(data) == size
                    assert hash(data) == hash(message)
                    assert data == message
                    if size < 4000:  # int() reads up to the zero behind the last byte
                        assert int(data) == int(message)
                    del data

    loop.run_until_complete(main())


@ways
def test_large(loop: Any, way: Any) -> None:
    async def main() -> None:
        async with way() as exchange:
            for size in (10_000, 9_950, 10_000):
                for digit in range(3):
                    message = numeral(size, digit)
                    assert await exchange(message) == message

    loop.run_until_complete(main())


def test_messages_that_were_shorter_once(loop: Any) -> None:
    """What has been read at once will be again, however the last piece ended."""

    class Pieces(asyncio.Protocol):
        def __init__(self) -> None:
            self.sizes: list[int] = []

        def data_received(self, data: bytes) -> None:
            self.sizes.append(len(data))

    pieces: list[tuple[int, int]] = []

    async def main() -> None:
        ours, peer = socket.socketpair()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 400_000)
        with peer:
            transport, protocol = await loop.create_unix_connection(Pieces, sock=ours)
            for size in (100_000, 36_000, 100_000, 100_000, 200_000, 200_000):
                protocol.sizes.clear()
                peer.sendall(bytes(size))
                await until(lambda size=size: sum(protocol.sizes) == size)
                pieces.append((size, len(protocol.sizes)))
            transport.close()

    loop.run_until_complete(main())
    # one that is longer than those before may come in several
    assert pieces[3] == (100_000, 1)
    assert pieces[5] == (200_000, 1)


def test_written(loop: Any) -> None:
    """What was written and has not left is not changed by what is read meanwhile."""

    class Echo(Last):
        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        messages = [numeral(1000, digit) for digit in range(10)]
        async with facing(Echo) as (protocol, peer):
            peer.setblocking(False)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            written = protocol.transport.get_extra_info("socket")
            written.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            for message in messages * 20:
                await loop.sock_sendall(peer, message)
                await asyncio.sleep(0)
            received = b""
            while len(received) < 200_000:
                received += await loop.sock_recv(peer, 100_000)
            assert received == b"".join(messages * 20)

    loop.run_until_complete(main())


def test_another_read_inside_a_callback(loop: Any) -> None:
    """What has been received and is not delivered yet is safe from another read."""
    ours, peer = socket.socketpair()

    class Small(asyncio.BufferedProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.buffer = bytearray(1000)
            self.data = bytearray()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]
            peer.sendall(bytes(60_000))
            receiving = loop.sock_recv(ours, 60_000)  # as an eager task does it
            with contextlib.suppress(StopIteration):
                receiving.send(None)

    async def main() -> None:
        message = b"".join(numeral(1000, digit) for digit in range(10)) * 5
        async with facing_peer(Small) as (protocol, tls_peer):
            for at in range(0, len(message), 10_000):
                await tls_peer.write(message[at : at + 10_000])
            await until(lambda: len(protocol.data) == len(message))
            assert protocol.data == message

    with ours, peer:
        ours.setblocking(False)
        loop.run_until_complete(main())
