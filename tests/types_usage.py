"""What has to pass `mypy --strict`: fastloop's types in the places of asyncio's.

Nothing here runs; `make lint` checks it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import assert_type

import fastloop


async def answer() -> int:
    return 42


def ways_in() -> None:
    assert_type(fastloop.run(answer()), int)
    assert_type(fastloop.run(answer(), debug=True), int)
    with asyncio.Runner(loop_factory=fastloop.new_event_loop) as runner:
        assert_type(runner.run(answer()), int)
    fastloop.install()
    fastloop.uninstall()
    asyncio.set_event_loop_policy(fastloop.EventLoopPolicy())
    asyncio.set_event_loop(fastloop.new_event_loop())


def future(loop: asyncio.AbstractEventLoop) -> asyncio.Future[int]:
    fut: fastloop.Future[int] = fastloop.Future(loop=loop)
    fut.add_done_callback(lambda done: print(done.result()))
    assert_type(fut.result(), int)
    return fut


def task(loop: asyncio.AbstractEventLoop) -> asyncio.Task[int]:
    native = fastloop.Task(answer(), loop=loop, name="a name")
    assert_type(native, fastloop.Task[int])
    assert_type(native.result(), int)
    also: fastloop.Future[int] = native
    also.cancel("why")
    return native


async def await_them(loop: fastloop.Loop) -> None:
    assert_type(await fastloop.Task(answer()), int)
    assert_type(await loop.create_task(answer()), int)
    assert_type(await loop.run_in_executor(None, len, "text"), int)
    assert_type(await asyncio.gather(answer(), task(loop)), tuple[int, int])


def loop_methods(loop: fastloop.Loop, sock: socket.socket) -> None:
    as_asyncio: asyncio.AbstractEventLoop = loop
    assert_type(loop.call_soon(print, "text"), fastloop.Handle)
    assert_type(loop.call_later(0.1, print), fastloop.TimerHandle)
    handle: asyncio.Handle = loop.call_soon_threadsafe(print)
    timer: asyncio.TimerHandle = loop.call_at(as_asyncio.time(), handle.cancel)
    timer.cancel()
    loop.add_reader(sock, print, "readable")
    loop.add_signal_handler(2, print, "signal")
    loop.set_exception_handler(lambda a_loop, context: print(a_loop, context))
    loop.set_task_factory(fastloop.asyncio_task_factory)


async def connections(loop: fastloop.Loop) -> None:
    transport, protocol = await loop.create_connection(asyncio.Protocol, "host", 80)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, asyncio.Protocol)
    server: asyncio.AbstractServer = await loop.create_server(asyncio.Protocol)
    server.close()
    stock: asyncio.Server = await loop.create_server(asyncio.Protocol, port=0)
    assert_type(stock.is_serving(), bool)
    if isinstance(transport, fastloop.TCPTransport):
        assert_type(transport.get_write_buffer_limits(), tuple[int, int])


async def primitives(tasks: list[asyncio.Task[int]]) -> None:
    assert_type(await fastloop.sleep(1), None)
    assert_type(await fastloop.sleep(1, "text"), str)
    assert_type(
        await fastloop.gather(answer(), fastloop.sleep(0, "x")), tuple[int, str]
    )
    assert_type(await fastloop.wait_for(answer(), 1.5), int)
    assert_type(await fastloop.shield(answer()), int)
    done, _pending = await fastloop.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert_type(done, set[asyncio.Task[int]])
    for coro in fastloop.as_completed([answer()], timeout=None):
        assert_type(await coro, int)
    async for future in fastloop.as_completed(tasks):
        assert_type(future.result(), int)
    async with fastloop.timeout(None) as scope, fastloop.TaskGroup() as group:
        scope.reschedule(3)
        assert_type(group.create_task(answer(), name="x"), asyncio.Task[int])
    assert_type(fastloop.create_task(answer()), asyncio.Task[int])
    assert_type(await fastloop.to_thread(len, "text"), int)
