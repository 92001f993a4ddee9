"""Operations that are begun by the thousand, each cancelled at a random await.

    LD_PRELOAD=watch_descriptors.so python cancelling.py LIBRARY LOOP WHAT COUNT SEED

A program for test_descriptors.py: it ends well if no descriptor was closed twice, used
after it was closed, or left open.  It prints what was counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import json
import os
import random
import resource
import socket
import sys
import tempfile
import types
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

from io_support import (
    HOST,
    LOOPS,
    Echo,
    Recorder,
    descriptors,
    tcp_pair,
    tls_client,
    tls_server,
    until,
    warm_up,
)

AT_ONCE = 100
DELAYS = [0, 0, 0, 1, 1, 2, 3, 5, 10, 20, 50]  # turns from the await to the cancelling

Operation = Coroutine[Any, Any, Any]
Ways = list[Callable[[], Operation]]


# --- descriptors --------------------------------------------------------------------


class Watch:
    """What the preloaded library knows."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.watch_opener.restype = ctypes.c_char_p
        self._library.watch_calls.restype = ctypes.c_long
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            soft = hard
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self._limit = min(soft // 4, 4000)
        self._before: set[int] = set()

    def begin(self) -> None:
        self._before = descriptors()
        assert self._library.watch_begin(self._limit) == 0

    def left(self) -> dict[int, str]:
        """What is open now and was not before, and the calls that opened it."""
        return {
            number: self._library.watch_opener(number).decode()
            for number in descriptors() - self._before
            if not self._library.watch_is_decoy(number)
        }

    def calls(self, name: str) -> int:
        return int(self._library.watch_calls(name.encode()))

    def end(self) -> None:
        """All is over: the table has to be as it was."""
        self._library.watch_end()
        now = descriptors()
        assert now == self._before, now ^ self._before


# --- cancelling ---------------------------------------------------------------------


@types.coroutine
def cancelled_at(operation: Operation, number: int, delay: int) -> Generator[Any]:
    """Await the operation, and have the task cancelled some turns after an await."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def cancel(turns: int) -> None:
        if turns:
            loop.call_soon(cancel, turns - 1)
        else:
            task.cancel()

    resume: Callable[[], Any] = functools.partial(operation.send, None)
    awaits = 0
    while True:
        try:
            future = resume()
        except StopIteration as stop:
            return awaits, stop.value
        finally:
            del resume
        if awaits == number:
            loop.call_soon(cancel, delay)
        awaits += 1
        try:
            yield future
        except BaseException as exc:
            resume = functools.partial(operation.throw, exc)
        else:
            resume = functools.partial(operation.send, None)
        finally:
            del future


class Attempts:
    """Begins the operations of one kind, in all the ways there are."""

    def __init__(self, count: int, rng: random.Random) -> None:
        self.count, self.rng = count, rng
        self.awaits: Counter[str] = Counter()  # the most that one of this name has made
        self.ended: Counter[str] = Counter()
        self.cancelled_at: Counter[Any] = Counter()

    async def run(self, ways: Ways) -> None:
        await asyncio.gather(*[self._work(ways) for _ in range(AT_ONCE)])

    async def _work(self, ways: Ways) -> None:
        while self.ended["cancelled"] < self.count:
            await self._attempt(self.rng.choice(ways))

    async def _attempt(self, way: Callable[[], Operation]) -> None:
        name = way.__name__
        # a few are let alone, so that it is known how many awaits there are
        alone = self.rng.random() < 0.02
        number = -1 if alone else self.rng.randrange(self.awaits[name] or 1)
        delay = self.rng.choice(DELAYS)
        task = asyncio.ensure_future(_coroutine(cancelled_at(way(), number, delay)))
        await asyncio.wait([task])
        if task.cancelled():
            self.ended["cancelled"] += 1
            self.cancelled_at[name, number] += 1
        elif (exc := task.exception()) is None:
            awaits, result = task.result()
            self.awaits[name] = max(self.awaits[name], awaits)
            self.ended["completed"] += 1
            give_up(result)
        elif isinstance(exc, OSError):
            self.ended["failed"] += 1  # as its peer was cancelled
        else:
            raise exc


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable


def give_up(result: Any) -> None:
    """Close what an operation has given us."""
    if isinstance(result, tuple):
        result[0].abort()
    elif result is not None:
        result.close()


# --- connects -----------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(factory: Any = Recorder, **options: Any) -> AsyncIterator[Any]:
    """A server on the same loop; yields its address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, HOST, 0, backlog=1000, **options)
    yield server.sockets[0].getsockname()
    server.close()


@contextlib.asynccontextmanager
async def connects(rng: random.Random) -> AsyncIterator[Ways]:
    """Clients that give up."""
    loop: Any = asyncio.get_running_loop()

    async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        found = [refused, refused, address] if host == "name.test" else [(host, port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", to) for to in found]

    async def by_address() -> Any:
        return await loop.create_connection(Recorder, *address)

    async def by_name() -> Any:
        return await loop.create_connection(Recorder, "name.test", 1)

    async def from_an_address() -> Any:
        return await loop.create_connection(Recorder, *address, local_addr=(HOST, 0))

    async def happily() -> Any:
        return await loop.create_connection(
            Recorder, "name.test", 1, happy_eyeballs_delay=rng.choice([0.0001, 0.1])
        )

    async def by_a_socket() -> Any:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            await loop.sock_sendall(sock, b"data")
            await loop.sock_recv(sock, 4)

    async def with_a_socket() -> Any:
        sock = socket.create_connection(address)
        with sock:  # cancelled before it began, it is still ours
            return await loop.create_connection(Recorder, sock=sock)

    async def streaming() -> Any:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"data")
        with contextlib.closing(writer):
            await reader.readexactly(4)
        await writer.wait_closed()

    async def to_a_path() -> Any:
        return await loop.create_unix_connection(Recorder, path)

    loop.getaddrinfo = getaddrinfo
    with socket.socket() as bound, tempfile.TemporaryDirectory() as folder:
        bound.bind((HOST, 0))
        refused = bound.getsockname()
        path = str(Path(folder, "socket"))
        async with serving(Echo) as address:
            server = await loop.create_unix_server(Echo, path)
            yield [
                *(by_address, by_name, from_an_address, happily),
                *(by_a_socket, with_a_socket, streaming, to_a_path),
            ]
            server.close()
    del loop.getaddrinfo


# --- accepts ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def accepts(rng: random.Random) -> AsyncIterator[Ways]:
    """Servers that give up: what accepts, and what handles the connection."""
    loop: Any = asyncio.get_running_loop()

    def client(address: Any) -> socket.socket:
        sock = socket.create_connection(address)
        sock.send(b"data")
        return sock

    async def by_a_socket() -> Any:
        with socket.create_server((HOST, 0)) as listening, socket.socket() as sock:
            listening.setblocking(False)
            sock.setblocking(False)
            # the connection is there, or comes while we wait
            delay = rng.choice([0, rng.random() / 500])
            connecting = loop.call_later(
                delay, sock.connect_ex, listening.getsockname()
            )
            try:
                accepted, _ = await loop.sock_accept(listening)
            finally:
                connecting.cancel()
            with accepted:
                await loop.sock_sendall(accepted, b"data")
                await loop.sock_recv(sock, 4)
                return await loop.connect_accepted_socket(Recorder, accepted)

    async def with_a_socket() -> Any:
        ours, peer = tcp_pair()
        with ours, peer:
            return await loop.connect_accepted_socket(Recorder, ours)

    async def for_a_handler() -> None:
        """The handler is cancelled beside us, which begins it."""

        async def handle(reader: Any, writer: Any) -> None:
            with contextlib.closing(writer):
                writer.write(await reader.read(4))
                await writer.drain()

        def accepted(reader: Any, writer: Any) -> None:
            handling = _coroutine(
                cancelled_at(handle(reader, writer), rng.randrange(2), 0)
            )
            tasks.append(loop.create_task(handling))

        tasks: list[Any] = []
        server = await asyncio.start_server(accepted, HOST, 0)
        try:
            with client(server.sockets[0].getsockname()):
                await until(lambda: tasks)
                await asyncio.wait(tasks)
        finally:
            server.close()

    async def for_a_server_that_closes() -> None:
        server = await loop.create_server(Recorder, HOST, 0)
        address = server.sockets[0].getsockname()
        try:
            with client(address), client(address):
                for _ in range(4):
                    await asyncio.sleep(0)
        finally:
            server.close()
            if hasattr(server, "abort_clients"):
                server.abort_clients()

    yield [by_a_socket, with_a_socket, for_a_handler, for_a_server_that_closes]


# --- TLS handshakes -----------------------------------------------------------------


@contextlib.asynccontextmanager
async def handshakes(
    rng: random.Random,
) -> AsyncIterator[Ways]:
    """Clients and servers that give up in the midst of a handshake, or after it."""
    loop: Any = asyncio.get_running_loop()
    client, server = tls_client(), tls_server()

    class Upgrading(Recorder):
        """Starts TLS when the first byte comes."""

        def data_received(self, data: bytes) -> None:
            self.upgrading = loop.create_task(self.upgrade())

        async def upgrade(self) -> None:
            upgrade = loop.start_tls(self.transport, self, server, server_side=True)
            number = rng.choice([-1, 0, 1])
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await cancelled_at(upgrade, number, rng.choice(DELAYS))
                self.transport.close()

    async def connecting() -> Any:
        return await loop.create_connection(Recorder, *address, ssl=client)

    async def streaming() -> Any:
        reader, writer = await asyncio.open_connection(*address, ssl=client)
        writer.write(b"data")
        with contextlib.closing(writer):
            await reader.readexactly(4)
        await writer.wait_closed()

    async def upgrading() -> Any:
        raw, protocol = await loop.create_connection(Recorder, *plain)
        raw.write(b"S")
        try:
            tls = await loop.start_tls(raw, protocol, client, server_hostname=HOST)
        except BaseException:
            raw.abort()
            raise
        return tls, protocol

    async def on_both_sides() -> Any:
        """The other side is cancelled beside us, at an await of its own."""
        near, far = tcp_pair()
        with near, far:
            accepting = loop.connect_accepted_socket(Recorder, far, ssl=server)
            number = rng.choice([-1, 0, 1, 2])
            other = loop.create_task(
                _coroutine(cancelled_at(accepting, number, rng.choice(DELAYS)))
            )
            try:
                return await loop.create_connection(
                    Recorder, sock=near, ssl=client, server_hostname=HOST
                )
            finally:
                other.add_done_callback(give_up_other)

    def give_up_other(other: Any) -> None:
        if not other.cancelled() and other.exception() is None:
            give_up(other.result()[1])

    async with serving(Echo, ssl=server) as address, serving(Upgrading) as plain:
        yield [connecting, streaming, upgrading, on_both_sides]


# --- subprocesses -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def processes(rng: random.Random) -> AsyncIterator[Ways]:
    """Processes whose start, use and end is given up."""
    loop: Any = asyncio.get_running_loop()
    PIPE = asyncio.subprocess.PIPE

    async def end(process: Any) -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()

    async def without_pipes() -> None:
        process = await asyncio.create_subprocess_exec("true")
        try:
            assert await process.wait() == 0
        finally:
            await end(process)

    async def with_pipes() -> None:
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        try:
            assert await process.communicate(b"data") == (b"data", b"")
        finally:
            await end(process)

    async def with_a_protocol() -> Any:
        transport, _ = await loop.subprocess_exec(
            asyncio.SubprocessProtocol, "cat", stderr=None
        )
        transport.get_pipe_transport(0).write(b"data")
        try:
            await asyncio.sleep(0)
        finally:
            transport.close()

    yield [without_pipes, with_pipes, with_a_protocol]
    await until(lambda: no_child_is_left())


def no_child_is_left() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) and False
    except ChildProcessError:
        return True


# --- the program --------------------------------------------------------------------

KINDS = {
    "connects": (connects, "connect"),
    "accepts": (accepts, "accept4 gave"),
    "handshakes": (handshakes, "accept4 gave"),
    "processes": (processes, "pidfd_open"),
}


async def play(what: str, count: int, rng: random.Random) -> Attempts:
    make, _ = KINDS[what]
    attempts = Attempts(count, rng)
    async with make(rng) as ways:
        await attempts.run(ways)
    await until(lambda: not tasks_left())
    return attempts


def without_epoll() -> set[int]:
    """The descriptors that are open, but for epoll sets."""
    numbers = set()
    for number in descriptors():
        with contextlib.suppress(OSError):
            if "eventpoll" not in os.readlink(f"/proc/self/fd/{number}"):
                numbers.add(number)
    return numbers


def tasks_left() -> set[Any]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def main() -> None:
    library, kind, what, count, seed = sys.argv[1:]
    reports: list[Any] = []
    watch = Watch(library)
    rng = random.Random(int(seed))
    LOOPS[kind]().close()  # libuv keeps a pair of descriptors for good
    loop = LOOPS[kind]()
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.run_until_complete(warm_up())
    # some are not watched, for what is opened once and stays: that is an epoll set
    before = without_epoll()
    loop.run_until_complete(play(what, 20, rng))
    loop.run_until_complete(until(lambda: without_epoll() == before))
    watch.begin()
    attempts = loop.run_until_complete(play(what, int(count), rng))
    with contextlib.suppress(AssertionError):
        loop.run_until_complete(until(lambda: not watch.left()))
    assert not watch.left(), f"left open: {watch.left()}"
    called = watch.calls(KINDS[what][1])
    watch.end()
    loop.close()
    gc.collect()
    assert not reports, reports[:3]
    told = {"calls": called, "ended": attempts.ended, "awaits": attempts.awaits}
    told["cancelled"] = sorted(attempts.cancelled_at)
    print(json.dumps(told))


if __name__ == "__main__":
    os.environ.pop("LD_PRELOAD", None)  # processes that are started go without it
    main()
