"""Running a program."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .loop import Loop
from .patching import while_running

_T = TypeVar("_T")


def new_event_loop() -> Loop:
    """Return a new event loop; the ``loop_factory`` of ``asyncio.Runner``."""
    return Loop()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    primitives: bool = True,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
) -> _T:
    """Run ``main`` on a new fastloop loop and return its result.

    Does all that ``asyncio.run()`` does: cancels what is left, finalises asynchronous
    generators, shuts down the default executor, handles Ctrl-C.  ``debug`` switches
    debug mode; None leaves it to the environment.  With ``primitives``, asyncio's names
    mean fastloop's for the time of the run, see ``patch()``.  Raises RuntimeError if a
    loop runs in this thread already.
    """
    if asyncio._get_running_loop() is not None:
        if asyncio.iscoroutine(main):
            main.close()
        raise RuntimeError("fastloop.run() cannot be called from a running event loop")
    with contextlib.ExitStack() as stack:
        if primitives:
            stack.enter_context(while_running())
        make_runner = asyncio.Runner(debug=debug, loop_factory=loop_factory)
        return stack.enter_context(make_runner).run(main)
