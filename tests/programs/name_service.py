"""A name service over UDP, in the manner of the DNS.

A server answers questions for names; clients ask it over one endpoint each, match
answers to questions by number, ask again when one is lost, and hear of a server that
is not there.
"""

import asyncio
import struct
from typing import Any

ZONE = {
    "alpha.test": "192.0.2.1",
    "beta.test": "192.0.2.2",
    "gamma.test": "2001:db8::3",
}
QUESTION, ANSWER, UNKNOWN = range(3)
HEADER = struct.Struct("!HB")


class Server(asyncio.DatagramProtocol):
    """Answers; loses every fifth question on purpose."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked += 1
        if self.asked % 5 == 0:
            return
        number, kind = HEADER.unpack_from(data)
        if kind != QUESTION:
            return
        name = data[HEADER.size :].decode()
        found = ZONE.get(name)
        if found is None:
            self.transport.sendto(HEADER.pack(number, UNKNOWN), addr)
        else:
            answer = HEADER.pack(number, ANSWER) + found.encode()
            self.transport.sendto(answer, addr)


class Client(asyncio.DatagramProtocol):
    """Asks, with as many questions under way as one likes."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[str | None]] = {}
        self.numbers = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        number, kind = HEADER.unpack_from(data)
        future = self.waiting.pop(number, None)
        if future is not None and not future.done():
            found = data[HEADER.size :].decode() if kind == ANSWER else None
            future.set_result(found)

    def error_received(self, exc: Exception) -> None:
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(exc)
        self.waiting.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(exc)

    async def ask(self, name: str) -> str | None:
        for _ in range(20):
            self.numbers += 1
            future = asyncio.get_running_loop().create_future()
            self.waiting[self.numbers] = future
            question = HEADER.pack(self.numbers, QUESTION) + name.encode()
            self.transport.sendto(question)
            try:
                return await asyncio.wait_for(future, 0.2)
            except TimeoutError:
                continue
        raise TimeoutError(name)


async def make_client(address: Any) -> Client:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(Client, remote_addr=address[:2])
    return client


async def main() -> None:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        Server, local_addr=("127.0.0.1", 0)
    )
    address = transport.get_extra_info("sockname")
    clients = [await make_client(address) for _ in range(3)]

    names = [*ZONE, "nowhere.test"]
    for name in names:
        print(name, "is", await clients[0].ask(name))

    jobs = [client.ask(name) for client in clients for name in names * 5]
    answers = await asyncio.gather(*jobs)
    right = [ZONE.get(name) for _ in clients for name in names * 5]
    print("asked all at once:", len(answers), "answers, all right:", answers == right)
    print("questions were asked again:", server.asked > len(right) + len(names))

    transport.close()
    await asyncio.sleep(0.01)
    try:
        await clients[0].ask("alpha.test")
    except ConnectionRefusedError:
        print("refused: the server has gone")
    except TimeoutError:
        print("refused: nobody answers")
    print("the client's endpoint is open:", not clients[0].transport.is_closing())

    for client in clients:
        client.transport.close()
        print("closed with", await client.closed)


asyncio.run(main())
