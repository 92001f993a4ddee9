"""Asynchronous context managers, and the context of each task.

What is opened is shut, in the right order, whatever happens meanwhile.  And context
variables: what a task, a generator and a callback see of those of their maker.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator

request: contextvars.ContextVar[str] = contextvars.ContextVar("request")


@contextlib.asynccontextmanager
async def connection(name: str) -> AsyncIterator[str]:
    await asyncio.sleep(0)
    print(f"  {name} opened")
    try:
        yield name.upper()
    except LookupError as exc:
        print(f"  {name} swallowed {exc!r}")
    finally:
        await asyncio.sleep(0)
        print(f"  {name} shut")


async def context_managers() -> None:
    async with connection("outer"), connection("inner") as name:
        print("in use:", name)
        raise LookupError("lost")
    async with contextlib.AsyncExitStack() as stack:
        names = [await stack.enter_async_context(connection(n)) for n in ("one", "two")]
        stack.push_async_callback(asyncio.sleep, 0)
        stack.callback(print, "  a plain callback")
        print("stacked:", names)


async def task_contexts() -> None:
    """Every task has a copy of the context in which it was made."""

    async def handle(name: str) -> str:
        request.set(name)
        await asyncio.sleep(0.001)
        inner = await asyncio.create_task(read_and_change())
        return f"{name}: {inner}, {request.get()}"

    async def read_and_change() -> str:
        seen = request.get()
        request.set("changed in a task")
        await asyncio.sleep(0)
        return seen

    async def tagged() -> AsyncIterator[str]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield request.get()

    request.set("main")
    print(await asyncio.gather(*(handle(f"request {n}") for n in range(3))))
    own = contextvars.copy_context()
    await asyncio.create_task(read_and_change(), context=own)
    print("in a context of my own:", own[request], "- here:", request.get())
    await read_and_change()
    print("a plain await shares it:", request.get())
    seen = []
    async for value in tagged():
        seen.append(value)
        request.set(f"set after {len(seen)}")
    print("seen by a generator:", seen)

    called = asyncio.get_running_loop().create_future()
    request.set("when call_soon was called")
    asyncio.get_running_loop().call_soon(lambda: called.set_result(request.get()))
    request.set("later")
    print("seen by a callback:", await called)


async def main() -> None:
    await context_managers()
    await task_contexts()


if __name__ == "__main__":
    asyncio.run(main())
