"""Unix sockets: a service behind a path, as databases and supervisors have it.

A server of streams and one of protocols, clients that come at once, a half-close, who
the peer is, a server that takes the place of one that died, and the file in the end.
"""

import asyncio
import os
import socket
import tempfile
from pathlib import Path


async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers `set name value` and `get name`."""
    values: dict[bytes, bytes] = {}
    async for line in reader:
        match line.split():
            case [b"set", name, value]:
                values[name] = value
                writer.write(b"ok\n")
            case [b"get", name]:
                writer.write(values.get(name, b"nothing") + b"\n")
            case _:
                writer.write(b"what?\n")
        await writer.drain()
    writer.write(b"%d values\n" % len(values))
    writer.close()
    await writer.wait_closed()


async def ask(path: Path, *questions: str) -> list[str]:
    reader, writer = await asyncio.open_unix_connection(path)
    answers = []
    for question in questions:
        writer.write(question.encode() + b"\n")
        answers.append((await reader.readline()).decode().strip())
    writer.write_eof()
    answers.append((await reader.read()).decode().strip())
    writer.close()
    await writer.wait_closed()
    return answers


async def clients(path: Path) -> None:
    server = await asyncio.start_unix_server(store, path)
    async with server:
        print(await ask(path, "set colour blue", "get colour", "get size", "dance"))
        results = await asyncio.gather(
            *[ask(path, f"set name {n}", "get name") for n in range(50)]
        )
        print(
            "all got their own:", [r[1] for r in results] == list(map(str, range(50)))
        )
    try:
        await ask(path, "get colour")
    except (ConnectionRefusedError, FileNotFoundError):
        print("no longer served")


class Introduction(asyncio.Protocol):
    """Tells its peer what the kernel says of it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore
        sock = transport.get_extra_info("socket")
        name = transport.get_extra_info("sockname")
        peer = transport.get_extra_info("peername")
        answer = f"{sock.family.name} {os.path.basename(name)} {peer!r}"
        transport.write(answer.encode() + b"x" * 1_000_000)
        transport.close()


async def introduce(path: Path) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path) + ".dead")  # as a server that was killed leaves it
    path = Path(str(path) + ".dead")
    server = await loop.create_unix_server(Introduction, path)
    reader, writer = await asyncio.open_unix_connection(path)
    peer = writer.get_extra_info("peername")
    print("client's peer:", os.path.basename(peer), writer.get_extra_info("sockname"))
    answer = await reader.read()
    print("server's:", answer.rstrip(b"x").decode(), answer.count(b"x"))
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    path.unlink(missing_ok=True)


async def pair() -> None:
    """Both ends in one program."""
    left, right = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=left)
    loop = asyncio.get_running_loop()
    there = asyncio.StreamReader()
    transport, _ = await loop.connect_accepted_socket(
        lambda: asyncio.StreamReaderProtocol(there), right
    )
    writer.writelines([b"one\n", b"two\n"])
    print(await there.readline(), await there.readline())
    transport.write(b"three\n")
    print(await reader.readline())
    transport.close()
    print("end:", await reader.read())
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await clients(Path(folder, "store"))
        await introduce(Path(folder, "introduction"))
        await pair()
        print("left:", [n for n in os.listdir(folder) if n != "store"])


if __name__ == "__main__":
    asyncio.run(main())
