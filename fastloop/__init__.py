"""asyncio on libuv, with native tasks and futures.

Four ways in, all of which run an unchanged asyncio program::

    fastloop.run(main())
    asyncio.Runner(loop_factory=fastloop.new_event_loop)
    fastloop.install()
    asyncio.set_event_loop_policy(fastloop.EventLoopPolicy())
"""

from __future__ import annotations

from . import _registry
from ._core import (
    DatagramTransport,
    Future,
    Handle,
    ReadPipeTransport,
    Task,
    TCPTransport,
    TimerHandle,
    TLSTransport,
    WritePipeTransport,
    libuv_version,
)
from .loop import Loop
from .policy import EventLoopPolicy, install, uninstall
from .runners import new_event_loop, run
from .server import Server
from .tasks import asyncio_task_factory

__version__ = "0.1.0"

__all__ = [
    "DatagramTransport",
    "EventLoopPolicy",
    "Future",
    "Handle",
    "Loop",
    "ReadPipeTransport",
    "Server",
    "TCPTransport",
    "TLSTransport",
    "Task",
    "TimerHandle",
    "WritePipeTransport",
    "asyncio_task_factory",
    "install",
    "libuv_version",
    "new_event_loop",
    "run",
    "uninstall",
]

_registry.hook()
