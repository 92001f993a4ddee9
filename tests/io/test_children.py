"""Thousands of children: every exit code is right, no zombie and no descriptor is left.

With FASTLOOP_TEST_ALL=1 there are 2,400 in each test, otherwise 120.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import threading
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from io_support import LoopFactory, descriptors, opened, until

import fastloop
from fastloop import subprocesses

ALL = os.environ.get("FASTLOOP_TEST_ALL") == "1"
COUNT = 2400 if ALL else 120
AT_ONCE = 200
THREADS = 4

pytestmark = pytest.mark.timeout(300)


def has_children() -> bool:
    """Is there a child that nobody has waited for, running or not?"""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return True
    return False


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    subprocess._cleanup()  # type: ignore[attr-defined]
    assert not has_children()
    opened(fastloop.new_event_loop()).close()  # what libuv opens for good
    before = descriptors()
    yield
    gc.collect()
    assert not has_children()
    assert descriptors() == before


@pytest.fixture(params=["pidfd", "thread"])
def reaper(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without pidfds."""
    if request.param == "thread":
        monkeypatch.setattr(subprocesses, "can_use_pidfd", lambda: False)
    elif not subprocesses.can_use_pidfd():
        pytest.skip("there are no pidfds here")
    return str(request.param)


# --- what a child does ----------------------------------------------------------------


async def exits(number: int) -> None:
    """Ends by itself, maybe before it is watched."""
    process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number % 256}")
    assert await process.wait() == number % 256


async def talks(number: int) -> None:
    """Reads all, answers on both pipes, and ends."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"cat; echo {number} >&2; exit {number % 7}"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    data = b"%d " % number * (number % 500)
    assert await process.communicate(data) == (data, b"%d\n" % number)
    assert process.returncode == number % 7


async def is_killed(number: int) -> None:
    """Runs until it gets a signal."""
    which = [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1][number % 3]
    process = await asyncio.create_subprocess_exec("sleep", "600")
    await asyncio.sleep(0)
    process.send_signal(which)
    assert await process.wait() == -which


async def forks(number: int) -> None:
    """Ends before a child of its own, which goes on writing."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f"(cat; echo {number}) & exit 3"), stdin=PIPE, stdout=PIPE
    )
    output, _ = await process.communicate(b"data ")
    # sh gives a command that is left to itself an empty input
    assert output == b"%d\n" % number
    assert process.returncode == 3


KINDS: list[Callable[[int], Any]] = [exits, talks, is_killed, forks]


async def have_children(count: int, at_once: int = AT_ONCE) -> None:
    """Start so many in all, of all kinds, and wait for each."""
    limit = asyncio.Semaphore(at_once)
    numbers = list(range(count))
    random.shuffle(numbers)
    done: list[int] = []

    async def one(number: int) -> None:
        async with limit:
            await KINDS[number % len(KINDS)](number)
            done.append(number)

    async with asyncio.TaskGroup() as group:
        for number in numbers:
            group.create_task(one(number))
    assert sorted(done) == list(range(count))


# --- the tests ------------------------------------------------------------------------


def test_thousands_of_children(loop_factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(have_children(COUNT))


def test_thousands_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocesses, "can_use_pidfd", lambda: False)
    with asyncio.Runner(loop_factory=fastloop.new_event_loop) as runner:
        runner.run(have_children(COUNT))
    join_threads()


def test_loops_in_threads_that_all_have_children(reaper: str) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=fastloop.new_event_loop) as runner:
                together.wait()
                runner.run(have_children(COUNT // THREADS, AT_ONCE // THREADS))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    join_threads()
    assert failures == []


def test_many_that_run_at_once_and_are_left(reaper: str) -> None:
    """The tasks that have children are cancelled, all at once."""

    async def use() -> None:
        process = await asyncio.create_subprocess_exec(
            "sleep", "600", stdin=PIPE, stdout=PIPE
        )
        started.append(process)
        try:
            await process.wait()
        finally:
            process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]

    async def main() -> None:
        tasks = [asyncio.ensure_future(use()) for _ in range(AT_ONCE)]
        await until(lambda: len(started) == AT_ONCE)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert {process.returncode for process in started} == {-signal.SIGKILL}

    started: list[Any] = []
    with asyncio.Runner(loop_factory=fastloop.new_event_loop) as runner:
        runner.run(main())
    join_threads()


def join_threads() -> None:
    """Wait for the threads that have waited for children."""
    for thread in threading.enumerate():
        if thread.name.startswith("asyncio-waitpid"):
            thread.join()
