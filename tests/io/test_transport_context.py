"""The context variables that a protocol sees and sets.

asyncio copies the current context for each connection; fastloop lends one to those that
were made where no variable was set, whenever it calls the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from io_support import (
    HOST,
    Loop,
    Recorder,
    end,
    facing,
    receive,
    tls_client,
    tls_server,
    turns,
    until,
)

LARGE = bytes(16 << 20)  # more than the kernel takes

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def run_in_empty_context(loop: Loop, main: Callable[[], Any]) -> Any:
    def run() -> Any:
        return loop.run_until_complete(main())

    return contextvars.Context().run(run)


class Watching(Recorder):
    """Notes what the variable is before each callback, and then names it after that."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def look(self, name: str) -> None:
        self.seen.append(var.get())
        var.set(name)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.look(data.decode())


class WatchingAll(Watching):
    def __init__(self) -> None:
        super().__init__()
        self.look("factory")

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.look("made")

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.look("lost")


@contextlib.asynccontextmanager
async def clients(
    loop: Any, factory: Callable[[], Any], tls: bool = False
) -> AsyncIterator[list[tuple[Any, Any]]]:
    """Yield two accepted connections: protocol, and the transport of its client."""
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(factory())
        return accepted[-1]

    context = tls_server() if tls else None
    server = await loop.create_server(accept, HOST, 0, ssl=context)
    address = server.sockets[0].getsockname()
    options = {"ssl": tls_client(), "server_hostname": "localhost"} if tls else {}
    pairs: list[tuple[Any, Any]] = []
    try:
        for i in range(2):
            client, _ = await loop.create_connection(Recorder, *address, **options)
            await until(lambda i=i: len(accepted) > i and accepted[i].transport)
            pairs.append((accepted[i], client))
        yield pairs
    finally:
        server.close()
        for protocol, client in pairs:
            await end(client)
            await end(protocol.transport)


async def send(protocol: Any, client: Any, *messages: bytes) -> None:
    for message in messages:
        before = len(protocol.data)
        client.write(message)
        await until(lambda before=before: len(protocol.data) > before)


# --- what stays in a connection -------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_a_variable_stays_in_the_connection(loop: Loop, tls: bool) -> None:
    async def main() -> None:
        async with clients(loop, Watching, tls) as (one, other):
            await send(*one, b"a", b"b")
            await send(*other, b"c", b"d")
            await send(*one, b"e")
            assert one[0].seen == ["default", "a", "b"]
            assert other[0].seen == ["default", "c"]
        assert var.get() == "default"

    run_in_empty_context(loop, main)


def test_a_variable_of_the_server_is_copied_for_each_connection(loop: Loop) -> None:
    async def main() -> None:
        var.set("server's")
        async with clients(loop, Watching) as (one, other):
            await send(*one, b"a", b"b")
            await send(*other, b"c", b"d")
            assert one[0].seen == ["server's", "a"]
            assert other[0].seen == ["server's", "c"]
        assert var.get() == "server's"

    loop.run_until_complete(main())


def test_all_callbacks_share_what_was_set(fast_loop: Loop) -> None:
    """asyncio copies the context for connection_made() and connection_lost()."""

    async def main() -> None:
        async with clients(fast_loop, WatchingAll) as pairs:
            for pair in pairs:
                await send(*pair, b"a", b"b")
                pair[1].close()
                await until(lambda protocol=pair[0]: protocol.lost)
                assert pair[0].seen == ["default", "factory", "made", "a", "b"]

    run_in_empty_context(fast_loop, main)


def test_a_client_s_connection_has_a_context_of_its_own(fast_loop: Loop) -> None:
    async def main() -> None:
        for _ in range(2):
            async with facing(Watching) as (protocol, peer):
                peer.send(b"a")
                await until(lambda protocol=protocol: protocol.data)
                protocol.transport.abort()
                await until(lambda protocol=protocol: protocol.lost)
                assert protocol.seen == ["default"]
                assert var.get() == "default"

    run_in_empty_context(fast_loop, main)


def test_what_is_upgraded_to_tls_keeps_its_variables(fast_loop: Loop) -> None:
    class Plain(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            var.set("plain")

    async def main() -> None:
        async with clients(fast_loop, Plain) as ((server, client), _):
            protocol = Watching()
            upgraded, above = await asyncio.gather(
                fast_loop.start_tls(
                    server.transport, protocol, tls_server(), server_side=True
                ),
                fast_loop.start_tls(
                    client,
                    client.get_protocol(),
                    tls_client(),
                    server_hostname="localhost",
                ),
            )
            assert upgraded is not None and above is not None
            await send(protocol, above, b"a", b"b")
            assert protocol.seen == ["plain", "a"]

    run_in_empty_context(fast_loop, main)


# --- contexts and those who look at them ----------------------------------------------


def test_a_copy_of_the_context_is_a_copy(loop: Loop) -> None:
    copies: list[contextvars.Context] = []

    class Copying(Watching):
        def data_received(self, data: bytes) -> None:
            copies.append(contextvars.copy_context())
            copies[-1].run(var.set, "copy's")
            super().data_received(data)

    async def main() -> None:
        async with clients(loop, Copying) as (one, _):
            await send(*one, b"a", b"b")
            assert one[0].seen == ["default", "a"]
        assert [len(copy) for copy in copies] == [1, 1]
        assert [copy[var] for copy in copies] == ["copy's", "copy's"]

    run_in_empty_context(loop, main)


def test_a_variable_that_is_reset_is_gone(loop: Loop) -> None:
    lengths: list[int] = []

    class Resetting(Recorder):
        def data_received(self, data: bytes) -> None:
            lengths.append(len(contextvars.copy_context()))
            var.reset(var.set("changed"))
            super().data_received(data)

    async def main() -> None:
        async with clients(loop, Resetting) as pairs:
            for pair in pairs:
                await send(*pair, b"a", b"b")
        assert lengths == [0] * 4

    run_in_empty_context(loop, main)


def test_connections_that_set_nothing_have_no_context(fast_loop: Loop) -> None:
    def count() -> int:
        return sum(isinstance(o, contextvars.Context) for o in gc.get_objects())

    async def main() -> None:
        async with clients(fast_loop, Recorder) as pairs:
            before = count()
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(10):
                    more = await stack.enter_async_context(clients(fast_loop, Recorder))
                    for pair in [*pairs, *more]:
                        await send(*pair, b"data")
                assert count() - before < 10

    run_in_empty_context(fast_loop, main)


# --- one inside of another ------------------------------------------------------------


class PausingInside(Recorder):
    """Has pause_writing() called by a write() of a callback's."""

    def __init__(self, sets: bool) -> None:
        super().__init__()
        self.sets = sets
        self.seen: list[str] = []

    def data_received(self, data: bytes) -> None:
        if not self.data:
            if self.sets:
                var.set("before")
            self.transport.write(LARGE)
        self.seen.append(var.get())
        super().data_received(data)

    def pause_writing(self) -> None:
        self.seen.append(var.get())
        var.set("paused")
        super().pause_writing()


@pytest.mark.parametrize("sets", [True, False])
def test_pause_writing_inside_of_a_callback(loop: Loop, sets: bool) -> None:
    """It sees what the callback has set; what it sets is seen after it, and stays."""

    async def main() -> None:
        async with facing(lambda: PausingInside(sets)) as (protocol, peer):
            peer.send(b"a")
            await receive(peer, len(LARGE))
            peer.send(b"b")
            await until(lambda: len(protocol.data) == 2)
            first = "before" if sets else "default"
            assert protocol.seen == [first, "paused", "paused"]
        assert var.get() == "default"

    run_in_empty_context(loop, main)


def test_writing_to_another_connection(fast_loop: Loop) -> None:
    """Its pause_writing() is called in its own context, not in that of the callback."""
    others: list[Any] = []

    class Forwarding(Watching):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            others[0].transport.write(LARGE)
            self.seen.append(var.get())

    class Pausing(Watching):
        def pause_writing(self) -> None:
            self.look("paused")

        def resume_writing(self) -> None:
            self.look("resumed")

    async def main() -> None:
        async with (
            facing(Pausing) as (other, peer),
            facing(Forwarding) as (protocol, sender),
        ):
            others.append(other)
            sender.send(b"a")
            await receive(peer, len(LARGE))
            await until(lambda: len(other.seen) == 2)
            assert protocol.seen == ["default", "a"]
            assert other.seen == ["default", "paused"]
            assert var.get() == "default"

    run_in_empty_context(fast_loop, main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task_of_a_callback_has_its_own_context(loop: Loop) -> None:
    tasks: list[Any] = []

    async def change(seen: list[str]) -> None:
        seen.append(var.get())
        var.set("task's")
        await asyncio.sleep(0)
        seen.append(var.get())

    class Starting(Watching):
        def data_received(self, data: bytes) -> None:
            task: Any = asyncio.Task(change(self.seen), loop=loop, eager_start=True)
            tasks.append(task)
            super().data_received(data)

    async def main() -> None:
        async with clients(loop, Starting) as (one, other):
            for pair in one, other:
                await send(*pair, b"a")
                await tasks[-1]
                await send(*pair, b"b")
                await tasks[-1]
                assert pair[0].seen == ["default", "default", "task's", *"aa", "task's"]

    run_in_empty_context(loop, main)


def test_a_thread_that_writes_while_a_callback_runs(fast_loop: Loop) -> None:
    """No program should; the context is the callback's as long as that runs."""

    class Threading(Watching):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            thread = threading.Thread(target=self.transport.write, args=[LARGE])
            thread.start()
            thread.join()

        def pause_writing(self) -> None:
            self.seen.append(var.get())
            super().pause_writing()

    async def main() -> None:
        async with facing(Threading) as (protocol, peer):
            peer.send(b"a")
            await until(lambda: "pause" in protocol.events)
            assert protocol.seen == ["default", "default"]
            await receive(peer, len(LARGE))
            peer.send(b"b")
            await until(lambda: len(protocol.data) == 2)
            assert protocol.seen[2] == "a"

    run_in_empty_context(fast_loop, main)


# --- the end --------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["close", "abort"])
@pytest.mark.parametrize("sets", [False, True])
def test_a_callback_that_closes_and_forgets(
    loop: Loop, method: str, sets: bool
) -> None:
    class Closing(Watching):
        def data_received(self, data: bytes) -> None:
            if sets:
                var.set("closing")
            getattr(self.transport, method)()
            self.transport = None
            gc.collect()
            self.seen.append(var.get())

        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            self.look("lost")

    async def main() -> None:
        for _ in range(2):
            loop_side: list[Any] = []

            def make(made: list[Any] = loop_side) -> Any:
                made.append(Closing())
                return made[-1]

            server = await loop.create_server(make, HOST, 0)
            client, recorder = await loop.create_connection(
                Recorder, *server.sockets[0].getsockname()
            )
            client.write(b"a")
            await until(lambda recorder=recorder: recorder.lost)
            await until(lambda made=loop_side: made[0].lost)
            assert loop_side[0].seen == ["closing" if sets else "default"] * 2
            server.close()
            await turns()

    run_in_empty_context(loop, main)


@pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="before 3.12 the exception handler runs in the context of who runs the loop,"
    " as asyncio's does",
)
@pytest.mark.parametrize("name", ["connection_made", "connection_lost"])
def test_a_failure_is_reported_in_the_connection_s_context(
    fast_loop: Loop, name: str
) -> None:
    seen: list[str] = []
    fast_loop.set_exception_handler(lambda *_: seen.append(var.get()))

    def fail(self: Any, *args: Any) -> None:
        getattr(Recorder, name)(self, *args)
        raise ValueError

    failing = type("Failing", (Recorder,), {name: fail})

    async def main() -> None:
        async with facing(failing) as (protocol, _):
            protocol.transport.close()
            await until(lambda: protocol.lost)

    task = contextvars.Context().run(fast_loop.create_task, main())
    token = var.set("of who runs the loop")
    try:
        fast_loop.run_until_complete(task)
    finally:
        var.reset(token)
    assert seen == ["default"]
