"""Every way to read from a stream, and what can go wrong.

Lines, exact amounts, up to a separator, to the end; a stream as an iterator; limits
that are overrun, and connections that end too early.
"""

import asyncio
from collections.abc import Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Session = Callable[[str, int], Awaitable[None]]


async def with_server(handler: Handler, session: Session) -> None:
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
        )
        async with server:
            await session(*server.sockets[0].getsockname())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def every_way(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"a line\nhead|body;0123456789rest of it")
    print("readline:", await reader.readline())
    print("readuntil:", await reader.readuntil(b"|"), await reader.readuntil(b";"))
    print("readexactly:", await reader.readexactly(10))
    print("read, at most 4:", await reader.read(4))
    print("at eof:", reader.at_eof())
    writer.write_eof()
    print("read to the end:", await reader.read(), "at eof:", reader.at_eof())
    print("and then:", await reader.read(), await reader.read(9))
    writer.close()
    await writer.wait_closed()

    reader, writer = await asyncio.open_connection(host, port)
    writer.writelines([b"one\n", b"two\n", b"three without an end"])
    writer.write_eof()
    print("lines:", [line async for line in reader])
    writer.close()
    await writer.wait_closed()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One short line, one long line, and the beginning of a third."""
    writer.write(b"short\n" + b"long" * 100 + b"\nand so")
    await writer.drain()


async def limits(host: str, port: int) -> None:
    async def connect(limit: int) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(host, port, limit=limit)
        writers.append(writer)
        return reader

    writers: list[asyncio.StreamWriter] = []
    reader = await connect(64)
    print("within the limit:", await reader.readline())
    try:
        await reader.readline()
    except ValueError as exc:
        print("readline:", type(exc).__name__)
    reader = await connect(64)
    await reader.readuntil(b"\n")
    try:
        await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as exc:
        print("readuntil:", type(exc).__name__, "consumed:", exc.consumed >= 64)
    reader = await connect(1024)
    await reader.readuntil(b"\n")
    print("with a larger limit:", len(await reader.readuntil(b"\n")))
    try:
        await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as exc:
        print("readuntil at the end:", exc.partial, exc.expected)
    reader = await connect(1024)
    try:
        await reader.readexactly(1000)
    except asyncio.IncompleteReadError as exc:
        print("readexactly at the end:", len(exc.partial), "of", exc.expected)
    for writer in writers:
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    await with_server(echo, every_way)
    await with_server(babble, limits)


if __name__ == "__main__":
    asyncio.run(main())
