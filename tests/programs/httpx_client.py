"""httpx talking to a hand-made HTTP server.

The server is a few lines over asyncio streams: it keeps connections alive, knows a
handful of routes and can be slow.  The client makes 100 requests at once over a pool
of ten connections, follows a redirect, streams a chunked body and meets timeouts.
"""

import asyncio
import json
import sys
from collections import Counter
from urllib.parse import parse_qs, urlsplit

try:
    import httpx
except ImportError as exc:
    print(f"{exc.name} is not installed", file=sys.stderr)
    raise SystemExit(77) from None

POOL = 10


class TinyServer:
    """HTTP/1.1, just enough of it."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: Counter[str] = Counter()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        try:
            while head := await self.read_head(reader):
                await self.answer(*head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone in the middle of something
        finally:
            writer.close()

    async def read_head(
        self, reader: asyncio.StreamReader
    ) -> tuple[str, str, dict[str, str]] | None:
        """The method, the target and the headers; None when the client is done."""
        request_line = await reader.readline()
        if not request_line:
            return None
        method, target, _ = request_line.decode().split()
        headers = {}
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return method, target, headers

    async def answer(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        self.requests[f"{method} {url.path}"] += 1
        status, extra = "200 OK", ""
        match method, url.path:
            case "GET", "/square":
                n = int(parse_qs(url.query)["n"][0])
                reply = json.dumps({"square": n * n}).encode()
            case "POST", "/echo":
                reply = body
            case "GET", "/old":
                status, extra, reply = "302 Found", "Location: /square?n=12\r\n", b""
            case "GET", "/chunks":
                await self.send_chunks(writer)
                return
            case "GET", "/slow":
                await reader.read()  # say nothing until the client gives up
                return
            case _:
                status, reply = "404 Not Found", b"no such page"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(reply)}\r\n{extra}\r\n"
        writer.write(head.encode() + reply)
        await writer.drain()

    async def send_chunks(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(20):
            line = f"chunk number {i}\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def square(client: httpx.AsyncClient, n: int) -> int:
    response = await client.get("/square", params={"n": n})
    return response.raise_for_status().json()["square"]


async def echo(client: httpx.AsyncClient, n: int) -> bool:
    text = f"message {n} " * n
    response = await client.post("/echo", content=text)
    return response.text == text


async def impatient(client: httpx.AsyncClient) -> str:
    try:
        await client.get("/slow", timeout=httpx.Timeout(5, read=0.1))
    except httpx.TimeoutException as exc:
        return type(exc).__name__
    return "an answer"


async def talk(client: httpx.AsyncClient) -> None:
    squares, echoes = await asyncio.gather(
        asyncio.gather(*(square(client, n) for n in range(50))),
        asyncio.gather(*(echo(client, n) for n in range(50))),
    )
    print("squares:", len(squares), "sum:", sum(squares))
    print("echoes:", len(echoes), "all true:", all(echoes))

    response = await client.get("/old", follow_redirects=True)
    print("redirected:", response.json(), [r.status_code for r in response.history])

    async with client.stream("GET", "/chunks") as response:
        lines = [line async for line in response.aiter_lines()]
    print("chunks:", len(lines), "last:", lines[-1])

    print("slow:", await asyncio.gather(*(impatient(client) for _ in range(3))))
    try:
        async with asyncio.timeout(0.3):
            await client.get("/slow")
    except TimeoutError:
        print("slow, asked within asyncio.timeout: TimeoutError")

    try:
        (await client.get("/nowhere")).raise_for_status()
    except httpx.HTTPStatusError as exc:
        print("nowhere:", exc.response.status_code)
    print("the client still works:", await square(client, 9))


async def main() -> None:
    tiny = TinyServer()
    async with asyncio.TaskGroup() as handlers:
        server = await asyncio.start_server(
            lambda *streams: handlers.create_task(tiny.serve(*streams)), "127.0.0.1", 0
        )
        host, port = server.sockets[0].getsockname()
        client = httpx.AsyncClient(
            base_url=f"http://{host}:{port}",
            limits=httpx.Limits(max_connections=POOL),
            timeout=10,
            trust_env=False,
        )
        async with server, client:
            await talk(client)
    # every request that was given up costs its connection
    print("connections were reused:", tiny.connections <= POOL + 4)
    for request, times in sorted(tiny.requests.items()):
        print(f"{request}: {times}")


if __name__ == "__main__":
    asyncio.run(main())
