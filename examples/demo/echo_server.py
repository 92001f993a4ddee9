"""An echo server on asyncio's streams: an ordinary asyncio program.

Prints the port that it serves and the type of its event loop, then serves until it is
told to terminate.
"""

import asyncio
import signal


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client has gone
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    print(server.sockets[0].getsockname()[1], type(loop).__module__, flush=True)

    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    server.close()


asyncio.run(main())
