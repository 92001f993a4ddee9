"""A JSON web service on aiohttp: an ordinary asyncio program.

Prints the port that it serves and the type of its event loop, then serves until it is
told to terminate.
"""

import asyncio
import signal

from aiohttp import web

PRICES = {"apple": 0.35, "pear": 0.4, "plum": 0.25}
BASKETS = {n: {"apple": n % 7 + 1, "pear": n % 5 + 1, "plum": 2} for n in range(100)}


async def basket(request: web.Request) -> web.Response:
    number = int(request.match_info["number"])
    if number not in BASKETS:
        raise web.HTTPNotFound(text=f"no basket {number}")
    items = [
        {"fruit": fruit, "count": count, "price": round(count * PRICES[fruit], 2)}
        for fruit, count in BASKETS[number].items()
    ]
    total = round(sum(item["price"] for item in items), 2)
    return web.json_response({"basket": number, "items": items, "total": total})


async def main() -> None:
    app = web.Application()
    app.router.add_get("/baskets/{number}", basket)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    loop = asyncio.get_running_loop()
    print(runner.addresses[0][1], type(loop).__module__, flush=True)

    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()
    await runner.cleanup()


asyncio.run(main())
