"""The low level: futures, callbacks, their order, and who hears of errors.

What call_soon(), call_later() and call_at() promise; callbacks of futures; and what
the loop's exception handler gets to hear.
"""

import asyncio
import contextvars
import gc
from typing import Any

tag: contextvars.ContextVar[str] = contextvars.ContextVar("tag", default="untagged")


async def order_of_callbacks() -> None:
    """First come, first served; what is scheduled in a turn runs in the next one."""
    loop = asyncio.get_running_loop()
    log: list[str] = []
    loop.call_soon(log.append, "first")
    loop.call_soon(loop.call_soon, log.append, "scheduled by a callback")
    loop.call_soon(log.append, "second").cancel()
    loop.call_soon(log.append, "third")
    loop.call_soon_threadsafe(log.append, "fourth, thread-safe")
    await asyncio.sleep(0)
    log.append("back in the task")
    await asyncio.sleep(0)
    print("soon:", log)

    timed: list[str] = []
    now = loop.time()
    handle = loop.call_at(now + 0.03, timed.append, "at 30")
    loop.call_later(0.01, timed.append, "after 10")
    loop.call_at(now + 0.02, timed.append, "at 20")
    loop.call_later(0.015, timed.append, "never").cancel()
    loop.call_later(0, timed.append, "after 0")
    loop.call_soon(timed.append, "soon")
    await asyncio.sleep(0.05)
    print("timed:", timed)
    print("deadline kept:", handle.when() == now + 0.03, handle.cancelled())


async def order_of_done_callbacks() -> None:
    loop = asyncio.get_running_loop()
    log: list[str] = []

    def note(name: str, future: asyncio.Future[str]) -> None:
        log.append(f"{name}: {future.result()}, {tag.get()}")

    def first(future: asyncio.Future[str]) -> None:
        note("first", future)

    def twice(future: asyncio.Future[str]) -> None:
        note("twice", future)

    def removed(future: asyncio.Future[str]) -> None:
        note("removed", future)

    tagged = contextvars.copy_context()
    tagged.run(tag.set, "tagged")
    future: asyncio.Future[str] = loop.create_future()
    future.add_done_callback(first)
    future.add_done_callback(removed)
    future.add_done_callback(twice)
    future.add_done_callback(twice, context=tagged)
    future.add_done_callback(removed)
    print("removed:", future.remove_done_callback(removed))
    future.set_result("ready")
    print("not called at once:", log)
    await asyncio.sleep(0)
    print(*log, sep="\n")
    future.add_done_callback(lambda future: log.append("late, but called"))
    await asyncio.sleep(0)
    print(log[-1])

    for attempt in (future.set_result, future.set_exception):
        try:
            attempt(ValueError("once more"))  # type: ignore[arg-type]
        except asyncio.InvalidStateError:
            print("a future is done only once")
    print("cancel a done one:", future.cancel(), future.done(), future.cancelled())


async def exception_handlers() -> None:
    """What nobody can catch goes to the loop's exception handler."""
    loop = asyncio.get_running_loop()

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        message = context["message"].partition("(")[0]
        print(f"handler: {message}: {context.get('exception')!r}")

    def explode() -> None:
        raise RuntimeError("boom")

    async def forgotten() -> None:
        raise LookupError("nobody asked")

    loop.set_exception_handler(handler)
    print("installed:", loop.get_exception_handler() is handler)
    loop.call_soon(explode)
    await asyncio.sleep(0)

    task = asyncio.create_task(forgotten())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()

    future = loop.create_future()
    future.set_exception(OSError("unseen"))
    del future
    gc.collect()

    retrieved = loop.create_future()
    retrieved.set_exception(OSError("seen"))
    print("seen:", retrieved.exception())
    del retrieved
    gc.collect()

    loop.call_exception_handler({"message": "by hand", "exception": None})
    loop.set_exception_handler(None)
    print("removed:", loop.get_exception_handler())


async def main() -> None:
    await order_of_callbacks()
    await order_of_done_callbacks()
    await exception_handlers()


if __name__ == "__main__":
    asyncio.run(main())
