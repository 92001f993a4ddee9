"""Forks and other processes under a loop.

A forked child gets a clear error from its parent's loop and can make a loop of its own;
the parent does not notice.  Whatever forks does so in a process of its own (isolated):
a child that goes astray must not run the rest of the tests.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from io_support import (
    DEADLINE,
    HOST,
    Echo,
    Loop,
    LoopFactory,
    Recorder,
    connected,
    descriptors,
    isolated,
    run_once,
    tcp_pair,
    turns,
    until,
    warm_up,
)

import fastloop

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork()")

# from 3.12 on, Python warns of forking with threads around
THREADS = "ignore:This process .* is multi-threaded:DeprecationWarning"


def forked(child: Callable[[], object]) -> int:
    """Run the function in a forked child; return the child's number."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(int(DEADLINE))
        child()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended_well(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def in_child(child: Callable[[], object]) -> None:
    ended_well(forked(child))


async def wait_for_child(pid: int) -> None:
    """Let the loop go on while the child runs."""
    ended: list[int] = []

    def look() -> bool:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended.append(os.waitstatus_to_exitcode(status))
        return bool(found)

    await until(look)
    assert ended == [0]


async def roundtrip() -> None:
    """Everything works: tasks, timers, threads and connections."""
    loop = asyncio.get_running_loop()
    async with connected(server=Echo) as connection:
        connection.client.transport.write(b"data")
        await until(lambda: connection.client.data == b"data")
    assert await loop.run_in_executor(None, os.getpid) == os.getpid()
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    assert asyncio.current_task() in asyncio.all_tasks()


def runs(factory: LoopFactory) -> None:
    """A new loop works from beginning to end."""
    loop = factory()
    loop.run_until_complete(roundtrip())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def refuses(use: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match="parent process"):
        use()


# --- the parent's loop in the child ---------------------------------------------------


@isolated
def test_the_parents_loop_says_so_in_the_child() -> None:
    loop = fastloop.new_event_loop()
    loop.run_until_complete(warm_up())
    ours, peer = tcp_pair()

    def child() -> None:
        refuses(loop.run_forever)
        refuses(lambda: loop.run_until_complete(loop.create_future()))
        refuses(loop._run)
        assert not loop.is_running()
        assert not loop.is_closed()
        loop.close()
        assert loop.is_closed()

    in_child(child)
    loop.run_until_complete(roundtrip())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    ours.close()
    peer.close()


@pytest.mark.parametrize("used", [False, True])
@isolated
def test_opening_something_on_the_parents_loop(used: bool) -> None:
    """Nothing that is done to it in the child may reach what it shares with it."""
    loop: Any = fastloop.new_event_loop()
    ours, peer = tcp_pair()
    ours.setblocking(False)
    watched, other = tcp_pair()
    seen: list[bytes] = []
    if used:
        loop.run_until_complete(warm_up())
        loop.add_reader(watched, lambda: seen.append(watched.recv(10)))

    def child() -> None:
        refuses(lambda: loop.add_reader(ours, print))
        refuses(lambda: loop.add_writer(ours, print))
        refuses(lambda: loop.add_reader(watched, print))
        refuses(lambda: loop.add_writer(watched, print))
        refuses(lambda: loop._open_transport(ours, Recorder(), None, None))
        assert loop.remove_reader(watched) == used
        assert not loop.remove_writer(watched)
        assert not loop.remove_reader(other)
        loop.close()

    in_child(child)
    other.send(b"data")
    if used:
        # the child's removal has not reached the parent's set
        loop.run_until_complete(until(lambda: seen))
        assert seen == [b"data"]
        loop.remove_reader(watched)
    loop.close()
    for sock in ours, peer, watched, other:
        sock.close()


@isolated
def test_what_is_scheduled_on_the_parents_loop() -> None:
    """In the child it never runs; in the parent it does, once."""
    loop = fastloop.new_event_loop()
    seen: list[str] = []
    loop.call_soon(seen.append, "soon")
    loop.call_later(0, seen.append, "later")
    task = loop.create_task(asyncio.sleep(0, "task"))

    def child() -> None:
        loop.call_soon(print, "never")
        loop.call_later(0, print, "never")
        loop.create_future().set_result(1)
        task.cancel()
        refuses(loop.run_forever)
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        assert seen == []

    in_child(child)
    assert loop.run_until_complete(task) == "task"
    run_once(loop)
    assert sorted(seen) == ["later", "soon"]
    loop.close()


@isolated
def test_transports_of_the_parent_in_the_child() -> None:
    """Closing, aborting or writing to them there sends nothing and resets nothing."""
    loop = fastloop.new_event_loop()

    async def main() -> None:
        async with connected(server=Echo) as connection:
            transport = connection.client.transport

            def child() -> None:
                for use in (
                    lambda: transport.write(b"from the child"),
                    transport.get_write_buffer_size,
                    transport.pause_reading,
                    transport.resume_reading,
                    transport.write_eof,
                    transport.close,
                    transport.abort,
                    connection.server.transport.abort,
                ):
                    use()
                assert transport.is_closing()
                loop.close() if not loop.is_running() else None

            await wait_for_child(forked(child))
            transport.write(b"from the parent")
            await until(lambda: b"parent" in connection.client.data)
            assert connection.client.data == b"from the parent"

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_pipes_of_the_parent_in_the_child() -> None:
    loop = fastloop.new_event_loop()
    ends = os.pipe()
    read_end = open(ends[0], "rb", 0)  # noqa: SIM115
    write_end = open(ends[1], "wb", 0)  # noqa: SIM115

    async def main() -> None:
        reader: Any
        reading, reader = await loop.connect_read_pipe(Recorder, read_end)
        writing, _ = await loop.connect_write_pipe(Recorder, write_end)

        def child() -> None:
            writing.write(b"from the child")
            writing.write_eof()
            writing.abort()
            reading.pause_reading()
            reading.resume_reading()
            reading.close()
            assert reading.is_closing() and writing.is_closing()

        await wait_for_child(forked(child))
        writing.write(b"from the parent")
        await until(lambda: reader.data)
        assert reader.data == b"from the parent"
        reading.close()
        writing.close()
        await turns()

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_dropping_the_parents_loop_in_the_child() -> None:
    """With all that is open on it, through the garbage collector."""
    loop: Any = fastloop.new_event_loop()
    keep: Any = []

    async def main() -> None:
        server = await loop.create_server(Echo, HOST, 0)
        address = server.sockets[0].getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        keep.extend([server, transport, protocol])
        await turns()

    loop.run_until_complete(main())

    def child() -> None:
        nonlocal loop, keep
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del loop, keep
            gc.collect()
            gc.collect()
        runs(fastloop.new_event_loop)

    in_child(child)
    server, transport, protocol = keep

    async def still_works() -> None:
        transport.write(b"data")
        await until(lambda: protocol.data == b"data")
        transport.close()
        server.close()
        await turns()

    loop.run_until_complete(still_works())
    loop.close()


@isolated
def test_a_child_that_returns_into_the_parents_loop() -> None:
    """It forgot to exit: the run ends with the error, before it touches a socket."""
    loop = fastloop.new_event_loop()
    read_end, write_end = os.pipe()

    async def main() -> None:
        async with connected(server=Echo) as connection:
            parent = os.getpid()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if not pid:
                signal.alarm(int(DEADLINE))
            for _ in range(3):
                await asyncio.sleep(0.001)
            if os.getpid() != parent:
                os.write(write_end, b"the child went on")
                os._exit(1)
            await asyncio.sleep(0.01)
            _, status = os.waitpid(pid, 0)
            assert os.waitstatus_to_exitcode(status) == 77
            connection.client.transport.write(b"data")
            await until(lambda: connection.client.data == b"data")

    parent = os.getpid()
    try:
        loop.run_until_complete(main())
    except RuntimeError as exc:
        assert "parent process" in str(exc)
        os._exit(77 if os.getpid() != parent else 1)
    finally:
        if os.getpid() != parent:
            os._exit(2)
    os.close(write_end)
    assert os.read(read_end, 100) == b""
    os.close(read_end)
    loop.close()


# --- a loop of the child's own --------------------------------------------------------


@isolated
def test_a_new_loop_in_the_child(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.run_until_complete(warm_up())
    pid = forked(lambda: runs(loop_factory))
    loop.run_until_complete(roundtrip())
    loop.run_until_complete(loop.shutdown_default_executor())
    ended_well(pid)
    loop.close()


@isolated
def test_a_new_loop_in_a_child_of_a_running_loop(loop_factory: LoopFactory) -> None:
    """Forked from a callback and from a task; no loop runs there."""
    loop = loop_factory()

    def child() -> None:
        assert asyncio._get_running_loop() is None
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        runs(loop_factory)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(roundtrip())

    async def main() -> None:
        pids = [forked(child)]
        loop.call_soon(lambda: pids.append(forked(child)))
        await roundtrip()
        for pid in pids:
            await wait_for_child(pid)

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@isolated
def test_children_of_children(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))

    def grandchild() -> None:
        runs(loop_factory)

    def child() -> None:
        mine = loop_factory()
        mine.run_until_complete(roundtrip())
        in_child(grandchild)
        mine.run_until_complete(roundtrip())
        mine.run_until_complete(mine.shutdown_default_executor())
        mine.close()

    in_child(child)
    loop.run_until_complete(roundtrip())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@isolated
def test_the_childs_tasks_are_its_own(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    task: Any = loop.create_task(asyncio.sleep(100))
    run_once(loop)

    def child() -> None:
        async def main() -> None:
            assert asyncio.all_tasks() == {asyncio.current_task()}

        new = loop_factory()
        new.run_until_complete(main())
        new.close()
        assert not task.done()

    in_child(child)
    assert asyncio.all_tasks(loop) == {task}
    task.cancel()
    run_once(loop)
    loop.close()


@isolated
def test_a_fork_while_another_thread_runs_a_loop(loop_factory: LoopFactory) -> None:
    """The loop sleeps in its thread; the child has neither, and makes its own."""
    loop = loop_factory()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    answered = threading.Event()
    loop.call_soon_threadsafe(answered.set)
    assert answered.wait(DEADLINE)
    time.sleep(0.01)  # asleep, most likely
    for _ in range(3):
        in_child(lambda: runs(loop_factory))
        answered = threading.Event()
        loop.call_soon_threadsafe(answered.set)
        assert answered.wait(DEADLINE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@isolated
def test_a_threadsafe_call_in_the_child() -> None:
    """It wakes nobody in the parent, which sleeps."""
    loop = fastloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    answered = threading.Event()
    loop.call_soon_threadsafe(answered.set)
    assert answered.wait(DEADLINE)
    time.sleep(0.01)

    def child() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(print, "never")

    in_child(child)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@isolated
def test_a_fork_from_a_thread_of_the_executor(loop_factory: LoopFactory) -> None:
    loop = loop_factory()

    async def main() -> None:
        for _ in range(3):
            child = loop.run_in_executor(None, in_child, lambda: runs(loop_factory))
            await asyncio.gather(child, roundtrip())
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()


# --- signals --------------------------------------------------------------------------


@isolated
def test_a_signal_to_the_child_does_not_reach_the_parent() -> None:
    """Both share the wakeup descriptor unless somebody sees to it."""
    loop = fastloop.new_event_loop()
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "parent's handler")

    async def main() -> None:
        def child() -> None:
            signal.signal(signal.SIGUSR1, lambda *_: seen.append("child's"))
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert seen == ["child's"] * 2
            assert signal.set_wakeup_fd(-1) == -1

        await wait_for_child(forked(child))
        await turns()
        assert seen == []
        signal.raise_signal(signal.SIGUSR1)
        await until(lambda: seen)
        assert seen == ["parent's handler"]

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_signal_handlers_of_a_loop_in_the_child(loop_factory: LoopFactory) -> None:
    if sys.version_info < (3, 12):
        loop_factory = fastloop.new_event_loop  # asyncio shares what wakes it up
    loop = loop_factory()
    seen: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "parent's")
    run_once(loop)

    def child() -> None:
        mine = loop_factory()
        mine.add_signal_handler(signal.SIGUSR1, seen.append, "child's")
        signal.raise_signal(signal.SIGUSR1)
        mine.run_until_complete(until(lambda: seen))
        assert seen == ["child's"]
        mine.close()

    in_child(child)
    loop.run_until_complete(turns())
    assert seen == []
    signal.raise_signal(signal.SIGUSR1)
    loop.run_until_complete(until(lambda: seen))
    assert seen == ["parent's"]
    loop.close()


@isolated
def test_ending_children_by_a_signal(loop_factory: LoopFactory) -> None:
    """SIGTERM for the child, whose parent has a handler of it."""
    loop = loop_factory()
    seen: list[int] = []
    loop.add_signal_handler(signal.SIGTERM, seen.append, signal.SIGTERM)

    async def main() -> None:
        context = multiprocessing.get_context("fork")
        process = context.Process(target=sleeps, args=(loop_factory,))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        await asyncio.sleep(0.05)
        process.kill()
        await asyncio.to_thread(process.join)
        assert process.exitcode == -signal.SIGKILL

    loop.run_until_complete(main())
    assert seen == []
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def sleeps(factory: LoopFactory) -> None:
    loop = factory()
    loop.run_until_complete(asyncio.sleep(DEADLINE))


# --- multiprocessing ------------------------------------------------------------------


def work(number: int) -> int:
    """What runs in another process: a loop of its own."""
    loop = fastloop.new_event_loop()
    try:
        loop.run_until_complete(roundtrip())
        return number * number
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def fails(number: int) -> int:
    raise LookupError(number)


def dies(number: int) -> int:
    os._exit(number)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@isolated
def test_processes(method: str) -> None:
    """Each runs a loop, their parent runs one as well."""
    context: Any = multiprocessing.get_context(method)
    loop = fastloop.new_event_loop()

    async def main() -> None:
        queue = context.Queue()
        processes = [
            context.Process(target=put_work, args=(queue, i)) for i in range(2)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            for process in processes:
                process.start()
        results = [await asyncio.to_thread(queue.get, True, DEADLINE) for _ in "ab"]
        assert sorted(results) == [0, 1]
        await roundtrip()
        for process in processes:
            await asyncio.to_thread(process.join)
            assert process.exitcode == 0
        queue.close()
        queue.join_thread()
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()


def put_work(queue: Any, number: int) -> None:
    queue.put(work(number))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@isolated
def test_a_pool_of_processes_under_a_running_loop(method: str) -> None:
    loop = fastloop.new_event_loop()

    async def main() -> None:
        context: Any = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                calls = [loop.run_in_executor(pool, work, i) for i in range(6)]
            done = asyncio.gather(*calls)
            await roundtrip()
            assert await done == [i * i for i in range(6)]
            with pytest.raises(LookupError, match="3"):
                await loop.run_in_executor(pool, fails, 3)
            with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                await loop.run_in_executor(pool, dies, 3)
        await roundtrip()
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()


# --- descriptors ----------------------------------------------------------------------


@isolated
def test_children_that_execute_inherit_nothing(loop_factory: LoopFactory) -> None:
    """No descriptor of the loop or of its connections survives an exec."""
    import subprocess

    loop = loop_factory()
    code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
    if sys.platform != "linux":
        pytest.skip("looks into /proc")

    async def main() -> None:
        async with connected():
            ran = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-I", "-c", code],
                stdout=subprocess.PIPE,
                close_fds=False,
            )
        # 3 is the folder that is listed
        assert eval(ran.stdout) == [0, 1, 2, 3]
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_closing_the_parents_loop_in_the_child_closes_nothing_of_its(
    loop_factory: LoopFactory,
) -> None:
    """The parent's descriptors go on working, whatever the child closes."""
    loop = loop_factory()

    async def main() -> None:
        async with connected(server=Echo) as connection:
            before = descriptors()

            def child() -> None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with contextlib.suppress(RuntimeError):
                        loop.close()  # it runs: refused

            await wait_for_child(forked(child))
            assert descriptors() == before
            connection.client.transport.write(b"data")
            await until(lambda: connection.client.data == b"data")

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_many_forks_under_load(loop_factory: LoopFactory) -> None:
    """While connections echo: nothing is lost, and nothing is left behind."""
    loop: Loop = loop_factory()

    async def main() -> None:
        async with connected(server=Echo) as connection:
            before = descriptors()
            sent = b""
            for i in range(20):
                data = bytes([i]) * 1000
                sent += data
                connection.client.transport.write(data)
                pid = forked(lambda: None)
                await wait_for_child(pid)
            await until(lambda: len(connection.client.data) == len(sent))
            assert connection.client.data == sent
            assert descriptors() == before

    loop.run_until_complete(main())
    loop.close()
