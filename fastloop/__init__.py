"""asyncio on libuv, with native tasks and futures.

Four ways in, all of which run an unchanged asyncio program::

    fastloop.run(main())
    asyncio.Runner(loop_factory=fastloop.new_event_loop)
    fastloop.install()
    asyncio.set_event_loop_policy(fastloop.EventLoopPolicy())
"""

from __future__ import annotations

from . import _classes, _registry
from ._core import (
    Barrier,
    BoundedSemaphore,
    Condition,
    DatagramTransport,
    Event,
    Future,
    Handle,
    LifoQueue,
    Lock,
    PriorityQueue,
    Queue,
    ReadPipeTransport,
    Semaphore,
    Task,
    TCPTransport,
    TimerHandle,
    TLSTransport,
    WritePipeTransport,
    libuv_version,
)
from ._support import QueueShutDown
from .loop import Loop
from .patching import patch, patched, unpatch
from .policy import EventLoopPolicy, install, uninstall
from .primitives import (
    TaskGroup,
    Timeout,
    as_completed,
    create_task,
    ensure_future,
    gather,
    run_coroutine_threadsafe,
    shield,
    sleep,
    timeout,
    timeout_at,
    to_thread,
    wait,
    wait_for,
)
from .runners import new_event_loop, run
from .server import Server
from .streams import (
    StreamReader,
    StreamReaderProtocol,
    StreamWriter,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from .tasks import asyncio_task_factory

__version__ = "0.1.0"

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "DatagramTransport",
    "Event",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "LifoQueue",
    "Lock",
    "Loop",
    "PriorityQueue",
    "Queue",
    "QueueShutDown",
    "ReadPipeTransport",
    "Semaphore",
    "Server",
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "TCPTransport",
    "TLSTransport",
    "Task",
    "TaskGroup",
    "Timeout",
    "TimerHandle",
    "WritePipeTransport",
    "as_completed",
    "asyncio_task_factory",
    "create_task",
    "ensure_future",
    "gather",
    "install",
    "libuv_version",
    "new_event_loop",
    "open_connection",
    "open_unix_connection",
    "patch",
    "patched",
    "run",
    "run_coroutine_threadsafe",
    "shield",
    "sleep",
    "start_server",
    "start_unix_server",
    "timeout",
    "timeout_at",
    "to_thread",
    "uninstall",
    "unpatch",
    "wait",
    "wait_for",
]

_registry.hook()
_classes.hook()
