"""Real programs, unchanged."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ..workload import Loop, served, timed
from .network import BACKLOG, HOST, port_of, tasks

FAMILY = "programs"
AT_ONCE = 20  # requests of the clients
programs = partial(served, family=FAMILY)
kept: dict[str, Any] = {}  # what clients have open, from one measurement to the next


async def aiohttp_service(loop: Loop) -> int:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="Hello, world!")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=BACKLOG).start()
    return int(runner.addresses[0][1])


def asgi_app(body: bytes) -> Any:
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/plain"),
            (b"content-length", b"%d" % len(body)),
        ],
    }
    answer = {"type": "http.response.body", "body": body}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(answer)

    return app


async def uvicorn_service(body: bytes, loop: Loop) -> int:
    import uvicorn

    config = uvicorn.Config(
        asgi_app(body),
        host=HOST,
        port=0,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",
        backlog=BACKLOG,
    )
    server = uvicorn.Server(config)
    tasks.add(loop.create_task(server.serve()))
    while not server.started:
        await asyncio.sleep(0.01)
    return port_of(server.servers[0])


async def websockets_service(loop: Loop) -> int:
    from websockets.asyncio.server import serve

    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    server = await serve(echo, HOST, 0, compression=None, backlog=BACKLOG)
    return int(next(iter(server.sockets)).getsockname()[1])


HTTP: dict[str, Any] = {"load": ("--http",), "message": 0}

programs(
    "aiohttp_server",
    "aiohttp server",
    function=aiohttp_service,
    needs=("aiohttp",),
    floor="http",
    headline=True,
    **HTTP,
)
programs(
    "uvicorn",
    "uvicorn server (httptools)",
    function=partial(uvicorn_service, b"Hello, world!"),
    needs=("uvicorn", "httptools"),
    floor="http",
    headline=True,
    **HTTP,
)
programs(
    "uvicorn_10k",
    "uvicorn server, 10 KiB",
    function=partial(uvicorn_service, b"x" * 10240),
    needs=("uvicorn", "httptools"),
    **HTTP,
)
programs(
    "websockets",
    "websockets server, echo of 1 KiB",
    function=websockets_service,
    needs=("websockets",),
    load=("--websocket",),
    headline=True,
)


@timed(
    FAMILY,
    "aiohttp client",
    needs=("aiohttp",),
    peer="http",
    each=AT_ONCE,
    waits=True,
)
async def aiohttp_client(loop: Loop, n: int, port: str) -> None:
    import aiohttp

    if "session" not in kept:
        kept["session"] = aiohttp.ClientSession()
    session = kept["session"]

    async def get() -> None:
        for _ in range(n):
            async with session.get(f"http://{HOST}:{port}/") as response:
                assert await response.read() == b"Hello, world!"

    await asyncio.gather(*[get() for _ in range(AT_ONCE)])


async def selects(connections: int, n: int, dsn: str) -> float:
    """Seconds that n queries on each of the connections take."""
    import asyncpg

    async def ask(connection: Any, times: int) -> None:
        for _ in range(times):
            assert await connection.fetchval("SELECT 1") == 1

    if "pool" not in kept:
        pool = kept["pool"] = [await asyncpg.connect(dsn) for _ in range(connections)]
        # PostgreSQL's new processes are slow to answer at first
        await asyncio.gather(*[ask(connection, 50) for connection in pool])
    began = time.perf_counter()  # uvloop's time() has but milliseconds
    await asyncio.gather(*[ask(connection, n) for connection in kept["pool"]])
    return time.perf_counter() - began


ASYNCPG: dict[str, Any] = {
    "needs": ("asyncpg",),
    "peer": "postgres",
    "own_clock": True,
    "often": 2,
}


@timed(FAMILY, "asyncpg, SELECT 1", each=AT_ONCE, **ASYNCPG)
async def asyncpg_select(loop: Loop, n: int, dsn: str) -> float:
    return await selects(AT_ONCE, n, dsn)


@timed(FAMILY, "asyncpg, SELECT 1, one connection", **ASYNCPG)
async def asyncpg_one(loop: Loop, n: int, dsn: str) -> float:
    return await selects(1, n, dsn)
