"""What programs await: the native primitives, and where asyncio has its own.

Most are C.  What runs once per call to a thread is Python.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
from asyncio import futures
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from ._core import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    Semaphore,
    TaskGroup,
    Timeout,
    as_completed,
    create_task,
    ensure_future,
    gather,
    shield,
    sleep,
    timeout,
    timeout_at,
    wait,
    wait_for,
)
from ._support import QueueShutDown
from .streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "Semaphore",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "TaskGroup",
    "Timeout",
    "as_completed",
    "create_task",
    "ensure_future",
    "gather",
    "open_connection",
    "open_unix_connection",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "wait",
    "wait_for",
]

_T = TypeVar("_T")
_P = ParamSpec("_P")


def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop
) -> concurrent.futures.Future[_T]:
    """Run a coroutine on a loop that runs in another thread.

    Returns a ``concurrent.futures.Future`` for its result; cancelling that cancels the
    task.  Raises TypeError if ``coro`` is no coroutine.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError("A coroutine object is required")
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def start() -> None:
        try:
            task = ensure_future(coro, loop=loop)
            futures._chain_future(task, future)  # type: ignore[attr-defined]
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            if future.set_running_or_notify_cancel():
                future.set_exception(exc)
            raise

    loop.call_soon_threadsafe(start)
    return future


async def to_thread(
    func: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Call ``func`` in a thread of the default executor and give its result.

    It runs in a copy of the current context.
    """
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    call = functools.partial(context.run, func, *args, **kwargs)
    return await loop.run_in_executor(None, call)


# the native object for each name, and the module of asyncio that defines the other
NATIVE: dict[str, tuple[str, Any]] = {
    "TaskGroup": ("asyncio.taskgroups", TaskGroup),
    "Timeout": ("asyncio.timeouts", Timeout),
    "as_completed": ("asyncio.tasks", as_completed),
    "create_task": ("asyncio.tasks", create_task),
    "ensure_future": ("asyncio.tasks", ensure_future),
    "gather": ("asyncio.tasks", gather),
    "run_coroutine_threadsafe": ("asyncio.tasks", run_coroutine_threadsafe),
    "shield": ("asyncio.tasks", shield),
    "sleep": ("asyncio.tasks", sleep),
    "timeout": ("asyncio.timeouts", timeout),
    "timeout_at": ("asyncio.timeouts", timeout_at),
    "to_thread": ("asyncio.threads", to_thread),
    "wait": ("asyncio.tasks", wait),
    "wait_for": ("asyncio.tasks", wait_for),
    "Barrier": ("asyncio.locks", Barrier),
    "BoundedSemaphore": ("asyncio.locks", BoundedSemaphore),
    "Condition": ("asyncio.locks", Condition),
    "Event": ("asyncio.locks", Event),
    "Lock": ("asyncio.locks", Lock),
    "Semaphore": ("asyncio.locks", Semaphore),
    "LifoQueue": ("asyncio.queues", LifoQueue),
    "PriorityQueue": ("asyncio.queues", PriorityQueue),
    "Queue": ("asyncio.queues", Queue),
    "QueueShutDown": ("asyncio.queues", QueueShutDown),
    "StreamReader": ("asyncio.streams", StreamReader),
    "StreamReaderProtocol": ("asyncio.streams", StreamReaderProtocol),
    "StreamWriter": ("asyncio.streams", StreamWriter),
    "open_connection": ("asyncio.streams", open_connection),
    "open_unix_connection": ("asyncio.streams", open_unix_connection),
    "start_server": ("asyncio.streams", start_server),
    "start_unix_server": ("asyncio.streams", start_unix_server),
}
