"""Echo over asyncio streams, and what streams can do besides.

Many clients at once, megabytes through small buffers with drain() to hold the sender
back, and a connection that is half-closed so that the server knows when to answer.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Session = Callable[[str, int], Awaitable[None]]

MEGABYTE = bytes(range(256)) * 4096


async def with_server(handler: Handler, session: Session, **options: int) -> None:
    """Run a client's session against a server that lives as long as it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    async with asyncio.TaskGroup() as handlers:
        server = await asyncio.start_server(
            lambda *streams: handlers.create_task(serve(*streams)),
            "127.0.0.1",
            0,
            **options,
        )
        async with server:
            await session(*server.sockets[0].getsockname())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def many_clients(host: str, port: int) -> None:
    async def client(n: int) -> int:
        reader, writer = await asyncio.open_connection(host, port)
        lines = [f"client {n} line {i}\n".encode() for i in range(20)]
        good = 0
        for line in lines:
            writer.write(line)
            good += await reader.readline() == line
        writer.writelines(lines)
        good += await reader.readexactly(len(b"".join(lines))) == b"".join(lines)
        writer.close()
        await writer.wait_closed()
        return good

    good = await asyncio.gather(*(client(n) for n in range(100)))
    print("clients:", len(good), "good answers:", sum(good))


async def large_payloads(host: str, port: int) -> None:
    """The sender outruns its buffer; drain() holds it back until the reader reads."""

    async def client(times: int) -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        writer.transport.set_write_buffer_limits(high=4096, low=1024)
        sent, received = hashlib.sha256(), hashlib.sha256()

        async def send() -> None:
            for _ in range(times):
                for start in range(0, len(MEGABYTE), 50_000):
                    piece = MEGABYTE[start : start + 50_000]
                    sent.update(piece)
                    writer.write(piece)
                    await writer.drain()
                    assert writer.transport.get_write_buffer_size() <= 4096
            writer.write_eof()

        sending = asyncio.create_task(send())
        while data := await reader.read(30_000):
            received.update(data)
        await sending
        writer.close()
        await writer.wait_closed()
        return sent.digest() == received.digest()

    print("megabytes intact:", await asyncio.gather(*map(client, (1, 2, 3))))


async def summarise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when the client has said all that it has to say."""
    data = await reader.read()
    writer.write(f"{len(data)} bytes, {data.count(b'x')} of them x".encode())
    await writer.drain()


async def half_close(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    print("can write eof:", writer.can_write_eof())
    writer.write(b"xyz" * 100_000)
    writer.write_eof()
    print("after half-close:", (await reader.read()).decode())
    print("closing:", writer.is_closing(), end=" ")
    writer.close()
    print("closing:", writer.is_closing())
    await writer.wait_closed()


async def main() -> None:
    await with_server(echo, many_clients)
    await with_server(echo, large_payloads, limit=8192)
    await with_server(summarise, half_close)


if __name__ == "__main__":
    asyncio.run(main())
