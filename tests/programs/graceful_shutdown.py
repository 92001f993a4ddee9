"""A server that shuts down gracefully when it is told to.

SIGTERM stops the listening, tells the clients to finish, waits for the answers that
are under way and drains them; SIGUSR1 asks for a report meanwhile.  Then SIGINT in
both of its roles: as a handler of the loop, and as the KeyboardInterrupt that
asyncio.run() turns into a cancellation.  The program sends the signals to itself.
"""

import asyncio
import os
import signal

CLIENTS = 8


class Server:
    """Doubles numbers, slowly; says goodbye to each client when it is stopped."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.connections: set[asyncio.Task[None]] = set()
        self.answered = 0

    async def start(self) -> asyncio.Server:
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return self.listener

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        stop = asyncio.create_task(self.stopping.wait())
        try:
            while True:
                line = asyncio.create_task(reader.readline())
                await asyncio.wait({line, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done():
                    line.cancel()
                    break
                if not (number := line.result()):
                    break
                await asyncio.sleep(0.05)  # the work, which a shutdown does not cut
                self.answered += 1
                writer.write(b"%d\n" % (2 * int(number)))
                await writer.drain()
            writer.write(b"goodbye\n")
            await writer.drain()
        finally:
            stop.cancel()
            writer.close()
            await writer.wait_closed()
            self.connections.discard(task)

    async def shut_down(self) -> None:
        self.listener.close()
        self.stopping.set()
        if self.connections:
            await asyncio.wait(self.connections, timeout=5)
        await self.listener.wait_closed()


async def client(host: str, port: int, number: int, ready: asyncio.Barrier) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"%d\n" % number)
    await reader.readline()
    writer.write(b"%d\n" % (number + 100))  # this one is under way at the shutdown
    await writer.drain()
    await asyncio.sleep(0.01)
    await ready.wait()
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return rest.decode().replace("\n", " ").strip()


async def on_sigterm() -> None:
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    server = Server()
    listener = await server.start()
    host, port = listener.sockets[0].getsockname()

    def report(what: str) -> None:
        print(f"{what}: {len(server.connections)} connected")

    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_signal_handler(signal.SIGUSR1, report, "SIGUSR1")

    ready = asyncio.Barrier(CLIENTS + 1)
    clients = [
        asyncio.create_task(client(host, port, number, ready))
        for number in range(CLIENTS)
    ]
    await ready.wait()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(told.wait(), 5)
    print("SIGTERM: shutting down")
    await server.shut_down()
    for number, rest in enumerate(await asyncio.gather(*clients)):
        print(f"client {number} still got: {rest}")
    print("answered:", server.answered, "still connected:", len(server.connections))
    print("listening:", listener.is_serving())
    try:
        await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        print("a newcomer is refused")

    print("handler removed:", loop.remove_signal_handler(signal.SIGTERM))
    print("removed again:", loop.remove_signal_handler(signal.SIGTERM))
    loop.remove_signal_handler(signal.SIGUSR1)


async def on_sigint() -> None:
    """With a handler of its own the loop goes on: SIGINT is a signal like others."""
    loop = asyncio.get_running_loop()
    interrupts: asyncio.Queue[str] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGINT, interrupts.put_nowait, "SIGINT")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        print(await asyncio.wait_for(interrupts.get(), 5), "handled by the loop")
    loop.remove_signal_handler(signal.SIGINT)
    try:
        loop.add_signal_handler(signal.SIGKILL, print)
    except (RuntimeError, ValueError, OSError):
        print("SIGKILL cannot be handled")


async def interrupted() -> None:
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("the main task is cancelled")
        await asyncio.sleep(0.01)
        print("and has time to clean up")
        raise


if __name__ == "__main__":
    asyncio.run(on_sigterm())
    asyncio.run(on_sigint())
    try:
        asyncio.run(interrupted())
    except KeyboardInterrupt:
        print("KeyboardInterrupt came out of asyncio.run()")
