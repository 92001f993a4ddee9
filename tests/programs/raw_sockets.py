"""A chat over plain sockets, driven with the sock_* methods of the loop.

The server accepts with sock_accept(), one task for each guest passes on what they say;
guests leave by closing, by being cancelled, or by being thrown out.  Files are sent
with sock_sendfile(), and some words go over datagrams.
"""

import asyncio
import socket
import tempfile

HOST = "127.0.0.1"


class Room:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.guests: dict[str, socket.socket] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listening: socket.socket) -> None:
        while True:
            sock, _ = await self.loop.sock_accept(listening)
            task = self.loop.create_task(self.host(sock))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def host(self, sock: socket.socket) -> None:
        name = ""
        with sock:
            try:
                async for line in lines(sock):
                    if not name:
                        name = line
                        self.guests[name] = sock
                        await self.loop.sock_sendall(sock, b"welcome " + name.encode())
                        await self.loop.sock_sendall(sock, b"\n")
                    else:
                        await self.say(name, line)
            finally:
                self.guests.pop(name, None)

    async def say(self, who: str, what: str) -> None:
        words = f"{who}: {what}\n".encode()
        others = [sock for name, sock in self.guests.items() if name != who]
        await asyncio.gather(*[self.loop.sock_sendall(sock, words) for sock in others])


async def lines(sock: socket.socket):  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    rest = b""
    while data := await loop.sock_recv(sock, 64):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode()


class Guest:
    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.heard = lines(self.sock)

    async def enter(self, address: tuple[str, int]) -> None:
        await self.loop.sock_connect(self.sock, address)
        await self.say(self.name)
        print(await self.hear())

    async def say(self, words: str) -> None:
        await self.loop.sock_sendall(self.sock, words.encode() + b"\n")

    async def hear(self) -> str:
        return await anext(self.heard)  # type: ignore[no-any-return]


async def chat() -> None:
    room = Room()
    with socket.create_server((HOST, 0)) as listening:
        listening.setblocking(False)
        serving = asyncio.create_task(room.serve(listening))
        guests = [Guest(name) for name in ("ann", "bob", "cid")]
        for guest in guests:
            await guest.enter(listening.getsockname())
        ann, bob, cid = guests

        await ann.say("hello, all")
        print("bob hears", await bob.hear())
        print("cid hears", await cid.hear())

        await asyncio.gather(*[ann.say(f"number {i}") for i in range(3)])
        print("bob hears", sorted([await bob.hear() for _ in range(3)]))

        # somebody who waits for something and is told to stop
        waiting = asyncio.create_task(ann.hear())
        await asyncio.sleep(0.01)
        waiting.cancel()
        print("ann waited:", await asyncio.gather(waiting, return_exceptions=True))

        bob.sock.close()
        while "bob" in room.guests:
            await asyncio.sleep(0.001)
        await ann.say("is bob gone?")
        for _ in range(4):
            last = await cid.hear()
        print("cid hears at last", last)

        for task in room.tasks:
            task.cancel()
        serving.cancel()
        await asyncio.gather(serving, *room.tasks, return_exceptions=True)
        print("thrown out:", await cid.loop.sock_recv(cid.sock, 10))
        ann.sock.close()
        cid.sock.close()


async def files() -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs, tempfile.TemporaryFile() as file:
        ours.setblocking(False)
        theirs.setblocking(False)
        file.write(bytes(range(256)) * 5000)
        file.flush()
        sending = asyncio.create_task(loop.sock_sendfile(ours, file, 256))
        buffer = bytearray(1 << 16)
        received = 0
        while received < 4999 * 256:
            received += await loop.sock_recv_into(theirs, buffer)
        print("sent", await sending, "received", received, "position", file.tell())


async def datagrams() -> None:
    loop = asyncio.get_running_loop()
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one, other:
        for sock in one, other:
            sock.setblocking(False)
            sock.bind((HOST, 0))
        asking = asyncio.create_task(loop.sock_recvfrom(other, 100))
        await loop.sock_sendto(one, b"ping", other.getsockname())
        data, address = await asking
        await loop.sock_sendto(other, data[::-1], address)
        buffer = bytearray(10)
        size, address = await loop.sock_recvfrom_into(one, buffer)
        print(bytes(buffer[:size]), address == other.getsockname())


async def main() -> None:
    await chat()
    await files()
    await datagrams()


asyncio.run(main())
