"""A small aiohttp service and the clients that use it, on one loop.

The service has JSON routes, a streamed response, an upload that is hashed as it
arrives, a route that is too slow, and a websocket.  The client side makes 200
requests, twenty at a time, together with the streams, the uploads and the websockets.
"""

import asyncio
import hashlib
import sys
from collections import Counter
from collections.abc import AsyncIterator

try:
    import aiohttp
    from aiohttp import web
except ImportError as exc:
    print(f"{exc.name} is not installed", file=sys.stderr)
    raise SystemExit(77) from None

REQUESTS = 200
AT_A_TIME = 20


class Service:
    """The handlers and what they count."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.going_down = asyncio.Event()

    def make_app(self) -> web.Application:
        app = web.Application(middlewares=[self.count], client_max_size=2**22)
        app.add_routes(
            [
                web.get("/square/{n}", self.square),
                web.post("/add", self.add),
                web.get("/lines/{n}", self.lines),
                web.put("/upload", self.upload),
                web.get("/slow", self.slow),
                web.get("/chat", self.chat),
            ]
        )
        app.on_shutdown.append(self.on_shutdown)
        return app

    @web.middleware
    async def count(self, request: web.Request, handler) -> web.StreamResponse:
        response = await handler(request)
        self.served[request.path.split("/")[1]] += 1
        return response

    async def square(self, request: web.Request) -> web.Response:
        n = int(request.match_info["n"])
        return web.json_response({"n": n, "square": n * n})

    async def add(self, request: web.Request) -> web.Response:
        numbers = await request.json()
        await asyncio.sleep(0.001)
        return web.json_response({"sum": sum(numbers)})

    async def lines(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for i in range(int(request.match_info["n"])):
            await response.write(f"line {i}\n".encode())
        await response.write_eof()
        return response

    async def upload(self, request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_chunked(65536):
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"size": size, "sha256": digest.hexdigest()})

    async def slow(self, request: web.Request) -> web.Response:
        await self.going_down.wait()
        return web.Response(text="at last")

    async def chat(self, request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await websocket.send_str(message.data.upper())
            elif message.type is aiohttp.WSMsgType.BINARY:
                await websocket.send_bytes(message.data[::-1])
        return websocket

    async def on_shutdown(self, app: web.Application) -> None:
        self.going_down.set()


async def many_requests(session: aiohttp.ClientSession) -> None:
    slots = asyncio.Semaphore(AT_A_TIME)

    async def one(n: int) -> int:
        async with slots:
            if n % 2:
                async with session.get(f"/square/{n}") as response:
                    return (await response.json())["square"]
            async with session.post("/add", json=[n, 1, 2]) as response:
                return (await response.json())["sum"]

    answers = await asyncio.gather(*(one(n) for n in range(REQUESTS)))
    print("requests:", len(answers), "sum of the answers:", sum(answers))


async def stream_lines(session: aiohttp.ClientSession, n: int) -> int:
    async with session.get(f"/lines/{n}") as response:
        return len([line async for line in response.content])


async def upload(session: aiohttp.ClientSession, size: int) -> bool:
    data = bytes(range(256)) * (size // 256)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 10_000):
            yield data[start : start + 10_000]

    async with session.put("/upload", data=pieces()) as response:
        answer = await response.json()
    digest = hashlib.sha256(data).hexdigest()
    return answer == {"size": size, "sha256": digest}


async def chat(session: aiohttp.ClientSession, name: str) -> int:
    async with session.ws_connect("/chat") as websocket:
        for i in range(25):
            await websocket.send_str(f"{name} says {i}")
            assert await websocket.receive_str() == f"{name} says {i}".upper()
        await websocket.send_bytes(b"abc" * 1000)
        assert await websocket.receive_bytes() == b"cba" * 1000
        await websocket.close()
        return websocket.close_code or 0


async def impatient(session: aiohttp.ClientSession) -> str:
    try:
        await session.get("/slow", timeout=aiohttp.ClientTimeout(total=0.3))
    except TimeoutError:
        return "timeout"
    return "answer"


async def main() -> None:
    service = Service()
    runner = web.AppRunner(service.make_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]

    async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
        async with asyncio.TaskGroup() as group:
            group.create_task(many_requests(session))
            lines = [group.create_task(stream_lines(session, n)) for n in (1, 10, 500)]
            uploads = [group.create_task(upload(session, 2**n)) for n in (10, 16, 20)]
            chats = [group.create_task(chat(session, name)) for name in ("ann", "bob")]
            waits = [group.create_task(impatient(session)) for _ in range(3)]
        print("lines streamed:", [task.result() for task in lines])
        print("uploads intact:", [task.result() for task in uploads])
        print("websockets closed with:", [task.result() for task in chats])
        print("impatient clients:", [task.result() for task in waits])
        async with session.get("/nowhere") as response:
            print("no such page:", response.status)

    await runner.cleanup()
    for route, times in sorted(service.served.items()):
        print(f"served {route}: {times}")


if __name__ == "__main__":
    asyncio.run(main())
