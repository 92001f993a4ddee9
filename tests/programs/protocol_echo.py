"""Transports and protocols, the layer below streams.

An echo server and its client, once with Protocol and once with BufferedProtocol.  Both
servers have flow control: a client that does not read makes the server stop reading.
"""

import asyncio
import socket

PAYLOAD = bytes(range(256)) * 2**14  # 4 MiB
LIMIT = 32 * 1024


class FlowControl(asyncio.BaseProtocol):
    """Stops reading while the other side does not take what was written."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.Future()
        self.paused = asyncio.Event()
        self.pauses = self.resumes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        transport.set_write_buffer_limits(high=LIMIT)

    def pause_writing(self) -> None:
        self.pauses += 1
        self.transport.pause_reading()
        self.paused.set()

    def resume_writing(self) -> None:
        self.resumes += 1
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Echo(FlowControl, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(FlowControl, asyncio.BufferedProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = memoryview(bytearray(16 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class Collecting(asyncio.BaseProtocol):
    """A client gathers what it gets, until there is enough of it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.wanted = 0
        self.enough = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.Future()

    def add(self, data: bytes | memoryview) -> None:
        self.received += data
        if len(self.received) >= self.wanted:
            self.enough.set()

    async def collect(self, size: int) -> bytes:
        self.enough.clear()
        self.wanted = size
        if len(self.received) < size:
            await self.enough.wait()
        data, self.received = bytes(self.received[:size]), self.received[size:]
        return data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Client(Collecting, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.add(data)


class BufferedClient(Collecting, asyncio.BufferedProtocol):
    def __init__(self) -> None:
        super().__init__()
        self.buffer = memoryview(bytearray(100_000))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.add(self.buffer[:nbytes])


async def converse(
    server_kind: type[Echo] | type[BufferedEcho],
    client_kind: type[Client] | type[BufferedClient],
) -> None:
    loop = asyncio.get_running_loop()
    peers: list[Echo | BufferedEcho] = []

    def accept() -> Echo | BufferedEcho:
        peers.append(server_kind())
        return peers[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    transport, client = await loop.create_connection(client_kind, *address)
    transport.write(b"hello ")
    transport.writelines([b"wide", bytearray(b" "), memoryview(b"world")])
    print(f"{server_kind.__name__} says:", await client.collect(16))

    (peer,) = peers
    transport.pause_reading()
    print("the client reads:", transport.is_reading())
    transport.write(PAYLOAD)
    await peer.paused.wait()
    print("the server reads:", peer.transport.is_reading())
    print("it has to keep:", peer.transport.get_write_buffer_size() > LIMIT)
    transport.resume_reading()
    print("the client reads:", transport.is_reading())
    print("all came back:", await client.collect(len(PAYLOAD)) == PAYLOAD)

    transport.close()
    print("closing:", transport.is_closing(), await client.lost, await peer.lost)
    print("resumed as often as paused:", peer.pauses == peer.resumes > 0)
    server.close()
    await server.wait_closed()


async def main() -> None:
    await converse(Echo, Client)
    await converse(BufferedEcho, BufferedClient)


if __name__ == "__main__":
    asyncio.run(main())
