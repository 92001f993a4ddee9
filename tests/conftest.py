"""Fixtures that all tests share.

A test of public behaviour takes ``loop`` or ``loop_factory`` and so runs on asyncio's
own loop as well as on fastloop's: asyncio proves that the test itself is right.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest

import fastloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(
    params=[
        pytest.param(asyncio.new_event_loop, id="asyncio"),
        pytest.param(fastloop.new_event_loop, id="fastloop"),
    ]
)
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """What makes a loop: asyncio's function, then fastloop's."""
    return request.param


def _checked(factory: LoopFactory) -> Iterator[Any]:
    """Yield a loop; fail if anything but the test took what it reported.

    A test that expects reports sets an exception handler of its own.
    """
    reports: list[dict[str, Any]] = []
    loop = factory()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    try:
        yield loop
    finally:
        loop.close()
        gc.collect()
    assert reports == []


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of either kind, closed when the test ends."""
    yield from _checked(loop_factory)


@pytest.fixture
def fast_loop() -> Iterator[fastloop.Loop]:
    """A loop of fastloop's, closed when the test ends."""
    yield from _checked(fastloop.new_event_loop)


@pytest.fixture
def strace() -> Callable[..., str]:
    """Runs a program (its text) and returns the system calls it made, a line each."""
    tracer = shutil.which("strace")
    if tracer is None:
        pytest.skip("system calls are counted with strace, which is not installed")

    def trace(
        calls: str, program: str, env: Mapping[str, str] = MappingProxyType({})
    ) -> str:
        result = subprocess.run(
            [tracer, "-f", "-e", f"trace={calls}", sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
        )
        # what the tracer says of itself, not an error of the program's
        refused = re.search(
            r"^\S*strace: .*not permitted$", result.stderr, re.MULTILINE
        )
        if result.returncode and refused:
            pytest.skip("containers may forbid ptrace(), and strace says so here")
        assert result.returncode == 0, result.stderr
        return result.stderr

    return trace


def pytest_configure() -> None:
    # a shell without job control ignores SIGINT in what it runs in the background, and
    # processes that tests start and interrupt would ignore it as well
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What exists now stays: collecting garbage need not look at it each time."""
    gc.freeze()
