"""What a transport can tell, and the ways in which a connection ends.

Half-closing with write_eof(), changing the protocol of a connection, the limits of
the write buffer, get_extra_info(), close() and abort(), and a server that starts to
serve only when it is told to.
"""

import asyncio


class Summary(asyncio.Protocol):
    """Answers when the client has half-closed, then closes."""

    def __init__(self, made: asyncio.Queue["Summary"]) -> None:
        self.made = made
        self.lost: asyncio.Future[Exception | None] = asyncio.Future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore
        self.transport, self.size = transport, 0
        self.made.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        self.size += len(data)

    def eof_received(self) -> bool:
        self.transport.write(b"%d bytes" % self.size)
        asyncio.get_running_loop().call_soon(self.transport.close)
        return True  # keep the transport open for the answer

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Visitor(asyncio.Protocol):
    """A client that remembers what it was told."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.Future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Shouting(Visitor):
    def data_received(self, data: bytes) -> None:
        super().data_received(data.upper())


class Visits:
    """Makes connections, and knows the protocol at the other end of each."""

    def __init__(self) -> None:
        self.made: asyncio.Queue[Summary] = asyncio.Queue()
        self.peers: list[Summary] = []

    async def serve(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Summary(self.made), "127.0.0.1", 0, start_serving=False
        )
        self.address = server.sockets[0].getsockname()
        return server

    async def connect(self) -> tuple[asyncio.Transport, Visitor]:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(Visitor, *self.address)
        self.peers.append(await self.made.get())
        return transport, client


async def half_close(visits: Visits) -> None:
    transport, client = await visits.connect()
    transport.write(b"x" * 1_000_000)
    print("can write eof:", transport.can_write_eof())
    transport.write_eof()
    print("ended:", await client.lost, "after:", client.received)


async def new_protocol(visits: Visits) -> None:
    transport, client = await visits.connect()
    transport.set_protocol(shouting := Shouting())
    print("new protocol:", transport.get_protocol() is shouting)
    transport.write(b"quiet words")
    transport.write_eof()
    print("ended:", await shouting.lost, "after:", shouting.received)
    print("the old protocol heard:", client.received, client.lost.done())


async def what_it_can_tell(visits: Visits) -> None:
    transport, client = await visits.connect()
    here, there = map(transport.get_extra_info, ("sockname", "peername"))
    print("from", here[0], "to the server:", there == visits.address)
    peer = visits.peers[-1].transport
    print("the other end agrees:", peer.get_extra_info("peername") == here)
    sock = transport.get_extra_info("socket")
    print("socket:", sock.family.name, sock.type.name, sock.getsockname() == here)
    print("unknown:", transport.get_extra_info("colour", "no idea"))

    transport.set_write_buffer_limits(high=4000)
    print("limits:", transport.get_write_buffer_limits())
    transport.set_write_buffer_limits(high=4000, low=100)
    print("limits:", transport.get_write_buffer_limits())
    try:
        transport.set_write_buffer_limits(high=1, low=2)
    except ValueError:
        print("low may not be above high")
    try:
        transport.write("text")  # type: ignore
    except TypeError:
        print("only bytes can be written")
    print("reading:", transport.is_reading(), "closing:", transport.is_closing())
    transport.close()
    transport.close()  # no harm in it
    print("closing:", transport.is_closing(), "ended:", await client.lost)


async def abort(visits: Visits) -> None:
    transport, client = await visits.connect()
    transport.write(b"x" * 10_000_000)
    print("unsent:", transport.get_write_buffer_size() > 0)
    transport.abort()
    print("closing:", transport.is_closing(), "ended:", await client.lost)
    print("dropped:", transport.get_write_buffer_size() == 0)


async def main() -> None:
    visits = Visits()
    server = await visits.serve()
    print("serving:", server.is_serving())
    await server.start_serving()
    print("serving:", server.is_serving())
    async with server:
        await half_close(visits)
        await new_protocol(visits)
        await what_it_can_tell(visits)
        await abort(visits)
        await asyncio.gather(*(peer.lost for peer in visits.peers))
        print("the server has lost them all:", len(visits.peers))
    print("serving:", server.is_serving())


if __name__ == "__main__":
    asyncio.run(main())
