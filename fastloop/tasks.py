"""Task factories."""

from __future__ import annotations

import asyncio
from typing import Any

# asyncio's own class, also where asyncio.Task is given another later
_StockTask = asyncio.Task


def asyncio_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any
) -> asyncio.Task[Any]:
    """Make tasks of asyncio's own type.

    For ``loop.set_task_factory()``, where a debugger or a library reads the memory of
    asyncio's tasks.  Takes what ``asyncio.Task`` takes.
    """
    return _StockTask(coro, loop=loop, **kwargs)
