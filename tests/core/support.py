"""What the tests of the scheduling core share."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import fastloop

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]

DEADLINE = 30.0  # seconds after which a test gives up waiting


def run_once(loop: Loop) -> None:
    """Let one turn of the loop go by."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def run_turns(loop: Loop, turns: int) -> None:
    for _ in range(turns):
        run_once(loop)


async def next_turns(turns: int = 1) -> None:
    """Wait until the loop has turned so often."""
    for _ in range(turns):
        await asyncio.sleep(0)


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread or process to make the condition true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


async def within(awaitable: Awaitable[Any]) -> Any:
    """Await, but not for ever."""
    return await asyncio.wait_for(awaitable, DEADLINE)


def collect_reports(loop: Loop) -> list[dict[str, Any]]:
    """Return a list that takes what the loop's exception handler is told."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def loop_class(factory: LoopFactory) -> type[Loop]:
    """The class of the loops that the factory makes."""
    loop = factory()
    loop.close()
    return type(loop)


def only_fastloop(loop: Loop, why: str) -> None:
    """Skip the test on asyncio's loop, which is known not to pass it."""
    if not isinstance(loop, fastloop.Loop):
        pytest.skip(why)


def refs_lost(make: Callable[[], object]) -> int:
    """How many memory blocks a repeated call leaves behind, in steady state.

    The least of some measurements: what a cache or another thread takes now and then
    is no leak.
    """
    deltas = []
    for _ in range(3):
        make()
    for _ in range(5):
        gc.collect()
        before = sys.getallocatedblocks()
        make()
        gc.collect()
        deltas.append(sys.getallocatedblocks() - before)
    return min(deltas)


# --- programs of their own -----------------------------------------------------------

_PRELUDE = """\
import asyncio, contextvars, gc, os, signal, sys, threading, time, warnings, weakref
import fastloop
new_event_loop = {module}.new_event_loop
"""

Result = subprocess.CompletedProcess[str]


def run_python(
    program: str,
    *,
    loop: str = "fastloop",
    **how: Any,
) -> Result:
    """Run a program in a process of its own.

    It finds the usual modules imported and ``new_event_loop`` to be that of the library
    that ``loop`` names.
    """
    code = _PRELUDE.format(module=loop) + textwrap.dedent(program)
    return run_command("-c", code, **how)


def run_command(
    *arguments: str,
    options: tuple[str, ...] = (),
    stdin: str = "",
    timeout: float = 60,
    **environment: str,
) -> Result:
    """Run Python with these arguments."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONASYNCIO")}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *options, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**env, **environment},
    )


def outcomes(program: str, **how: Any) -> tuple[str, str]:
    """What the program prints on asyncio and on fastloop."""
    stock = check(run_python(program, loop="asyncio", **how))
    ours = check(run_python(program, loop="fastloop", **how))
    return stock, ours


def check(result: Result, *, silent: bool = True) -> str:
    """Return what the program printed; fail unless it ended well (and in silence)."""
    end = f"exit code {result.returncode}"
    complaints = result.stderr if silent or result.returncode else ""
    assert (end, complaints) == ("exit code 0", ""), f"{end}: {complaints}"
    return result.stdout
