"""Context variables: which values a callback, a task or a protocol sees."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import socket
import sys
from typing import Any

import pytest

from .support import Loop, LoopFactory, only_fastloop, run_once, run_turns, within

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")


def in_context(value: str, function: Any, *args: Any) -> Any:
    """Call the function in a context of its own, where ``var`` has the value."""

    def call() -> Any:
        var.set(value)
        return function(*args)

    return contextvars.copy_context().run(call)


# --- callbacks -----------------------------------------------------------------------


def test_everything_that_schedules_captures_the_context(loop: Loop) -> None:
    seen: dict[str, str] = {}
    future = loop.create_future()
    reader, writer = socket.socketpair()

    def look(name: str, *_: object) -> None:
        seen[name] = var.get()

    def read() -> None:
        reader.recv(1)
        look("add_reader")
        loop.remove_reader(reader)

    def schedule() -> None:
        loop.call_soon(look, "call_soon")
        loop.call_soon_threadsafe(look, "call_soon_threadsafe")
        loop.call_later(0, look, "call_later")
        loop.call_at(0, look, "call_at")
        loop.add_reader(reader, read)
        future.add_done_callback(lambda _: look("add_done_callback"))

    writer.send(b"x")
    in_context("scheduled", schedule)
    future.set_result(None)
    while len(seen) < 6:
        run_once(loop)
    assert set(seen.values()) == {"scheduled"}
    assert var.get() == "default"
    reader.close()
    writer.close()


def test_a_callback_changes_nothing_for_others(loop: Loop) -> None:
    seen: list[str] = []

    def change() -> None:
        seen.append(var.get())
        var.set("changed")

    for _ in range(3):
        loop.call_soon(change)
    run_once(loop)
    assert seen == ["default"] * 3


def test_callbacks_that_share_a_context(loop: Loop) -> None:
    seen: list[str] = []
    context = contextvars.copy_context()

    def change(value: str) -> None:
        seen.append(var.get())
        var.set(value)

    loop.call_soon(change, "one", context=context)
    loop.call_later(0, change, "two", context=context)
    future = loop.create_future()
    future.add_done_callback(lambda _: change("three"), context=context)
    run_turns(loop, 2)
    future.set_result(None)
    run_once(loop)
    assert seen == ["default", "one", "two"]
    assert context[var] == "three"


def test_a_context_that_is_entered_already(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.set_exception_handler(None)
    context = contextvars.copy_context()
    loop.call_soon(pytest.fail, "ran", context=context)
    loop.call_later(0, pytest.fail, "ran", context=context)
    context.run(run_turns, loop, 2)
    assert caplog.text.count("cannot enter context") == 2


def test_a_signal_handler_runs_in_the_context_it_was_added_in(loop: Loop) -> None:
    seen: list[str] = []

    def handle() -> None:
        seen.append(var.get())
        loop.stop()

    in_context("added", loop.add_signal_handler, signal.SIGUSR1, handle)
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["added"]


# --- tasks ---------------------------------------------------------------------------


async def look_around() -> list[str]:
    seen = [var.get()]
    var.set("task")
    await asyncio.sleep(0)
    seen.append(var.get())
    await asyncio.sleep(0.001)
    seen.append(var.get())
    return seen


def test_a_task_runs_in_a_copy(loop: Loop) -> None:
    task = in_context("creator", loop.create_task, look_around())
    assert loop.run_until_complete(task) == ["creator", "task", "task"]
    assert var.get() == "default"


def test_a_task_runs_in_the_given_context(loop: Loop) -> None:
    context = contextvars.copy_context()
    task = loop.create_task(look_around(), context=context)
    assert loop.run_until_complete(task) == ["default", "task", "task"]
    assert context[var] == "task"
    again = loop.create_task(look_around(), context=context)
    assert loop.run_until_complete(again)[0] == "task"
    if sys.version_info >= (3, 12):
        assert again.get_context() is context


def test_tasks_do_not_see_each_others_values(loop: Loop) -> None:
    async def keep(value: str) -> None:
        var.set(value)
        for _ in range(5):
            await asyncio.sleep(0)
            assert var.get() == value

    async def main() -> None:
        var.set("main")
        await asyncio.gather(*(keep(str(i)) for i in range(10)))
        assert var.get() == "main"

    loop.run_until_complete(main())


def test_tokens_are_good_across_awaits(loop: Loop) -> None:
    async def main() -> None:
        token = var.set("changed")
        await asyncio.sleep(0)
        await asyncio.create_task(asyncio.sleep(0))
        var.reset(token)
        assert var.get() == "default"

    loop.run_until_complete(main())


def test_a_task_inherits_from_a_task(loop: Loop) -> None:
    async def child() -> str:
        return var.get()

    async def main() -> None:
        var.set("parent")
        task = asyncio.create_task(child())
        var.set("later")
        assert await task == "parent"
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(child())
            given = group.create_task(child(), context=contextvars.Context())
        assert grouped.result() == "later"
        assert given.result() == "default"
        assert await asyncio.wait_for(child(), 10) == "later"
        assert await asyncio.to_thread(var.get) == "later"
        assert await loop.run_in_executor(None, var.get) == "default"

    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_default_executor())


def test_callbacks_of_a_task_run_where_they_were_added(loop: Loop) -> None:
    seen: list[str] = []

    async def child() -> None:
        var.set("child")

    async def main() -> None:
        var.set("main")
        task = asyncio.create_task(child())
        task.add_done_callback(lambda _: seen.append(var.get()))
        await task
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert seen == ["main"]


def test_the_context_of_a_task_that_is_entered_already(loop: Loop) -> None:
    loop.set_exception_handler(None)
    context = contextvars.copy_context()
    task: Any = loop.create_task(asyncio.sleep(0), context=context)
    context.run(run_once, loop)
    assert not task.done()
    task._log_destroy_pending = False
    task.get_coro().close()


def test_a_context_is_released_with_its_task(loop: Loop) -> None:
    import weakref

    class Thing:
        pass

    thing = Thing()
    ref = weakref.ref(thing)
    holder: contextvars.ContextVar[Any] = contextvars.ContextVar("holder")

    async def main(thing: Any) -> None:
        holder.set(thing)
        await asyncio.sleep(0)

    loop.run_until_complete(main(thing))
    del thing
    assert ref() is None


@pytest.mark.parametrize("kind", ["soon", "task", "future"])
def test_the_exception_handler_runs_in_the_failing_context(
    loop: Loop, kind: str
) -> None:
    if sys.version_info < (3, 12):
        pytest.skip("new in 3.12")
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(var.get()))

    async def fail() -> None:
        raise ValueError

    def begin() -> None:
        if kind == "soon":
            loop.call_soon(lambda: 1 / 0)
        elif kind == "task":
            loop.create_task(fail())
        else:
            future = loop.create_future()
            future.add_done_callback(lambda _: 1 / 0)
            future.set_result(None)

    in_context("failing", begin)
    run_once(loop)
    assert seen == ["failing"]


# --- contexts that were empty ---------------------------------------------------------
#
# asyncio copies the current context for each callback and task; fastloop lends one to
# those that were made where no variable was set.


def in_empty_context(function: Any, *args: Any) -> Any:
    return contextvars.Context().run(function, *args)


def test_a_variable_that_is_reset_is_gone(loop: Loop) -> None:
    lengths: list[int] = []

    def change() -> None:
        lengths.append(len(contextvars.copy_context()))
        var.reset(var.set("changed"))

    for _ in range(3):
        in_empty_context(loop.call_soon, change)
    run_once(loop)
    assert lengths == [0, 0, 0]


def test_a_handle_keeps_its_context(loop: Loop) -> None:
    seen: list[Any] = []

    def change() -> None:
        seen.append(handle._context)
        var.set("changed")

    handle: Any = in_empty_context(loop.call_soon, change)
    context = handle._context
    assert len(context) == 0
    run_once(loop)
    assert seen == [context]
    assert seen[0] is handle._context is context
    assert context[var] == "changed"


def test_a_handle_shows_the_context_that_it_runs_in(loop: Loop) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append(handle._context)

    handle: Any = in_empty_context(loop.call_soon, look)
    other: Any = in_empty_context(loop.call_soon, var.set, "other")
    run_once(loop)
    assert seen[0] is handle._context
    assert len(seen[0]) == 0
    assert other._context[var] == "other"


def test_a_handle_that_runs_twice_finds_what_it_left(loop: Loop) -> None:
    seen: list[str] = []

    def change() -> None:
        seen.append(var.get())
        var.set("changed")

    handle: Any = in_empty_context(loop.call_soon, change)
    run_once(loop)
    handle._run()
    assert seen == ["default", "changed"]


@pytest.mark.parametrize("late", [False, True])
def test_callbacks_of_a_future_share_nothing(loop: Loop, late: bool) -> None:
    seen: list[str] = []
    future = loop.create_future()

    def change(_: object) -> None:
        seen.append(var.get())
        var.set("changed")

    def add() -> None:
        for _ in range(2):
            future.add_done_callback(change)
        assert all(len(context) == 0 for _, context in future._callbacks or ())

    if late:
        future.set_result(None)
    in_empty_context(add)
    if not late:
        in_context("another", future.set_result, None)
    in_context("runs", run_once, loop)
    assert seen == ["default", "default"]


def test_a_removed_callback_had_no_context_yet(loop: Loop) -> None:
    future = loop.create_future()
    in_empty_context(future.add_done_callback, pytest.fail)
    assert future.remove_done_callback(pytest.fail) == 1
    future.set_result(None)
    run_once(loop)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="get_context() is new in 3.12")
def test_a_task_keeps_its_context(loop: Loop) -> None:
    async def look() -> list[Any]:
        task: Any = asyncio.current_task()
        seen = [task.get_context()]
        await asyncio.sleep(0)
        seen.append(task.get_context())
        var.set("changed")
        await asyncio.sleep(0)
        return [*seen, task.get_context()]

    one = in_empty_context(loop.create_task, look())
    other = in_empty_context(loop.create_task, look())
    context = one.get_context()
    assert len(context) == 0
    assert all(seen is context for seen in loop.run_until_complete(one))
    assert all(seen is other.get_context() for seen in loop.run_until_complete(other))
    assert context is not other.get_context()
    assert context[var] == other.get_context()[var] == "changed"


def test_a_task_that_waits_for_a_foreign_future(loop: Loop) -> None:
    """The future gets the task's context along with its callback."""
    future: Any = asyncio.futures._PyFuture(loop=loop)  # type: ignore[attr-defined]

    async def wait() -> str:
        await future
        before = var.get()
        var.set("changed")
        await asyncio.sleep(0)
        return before + var.get()

    task = in_empty_context(loop.create_task, wait())
    in_context("another", loop.call_soon, future.set_result, None)
    assert loop.run_until_complete(task) == "defaultchanged"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task_changes_nothing_for_its_maker(loop: Loop) -> None:
    async def change() -> None:
        var.set("changed")
        await asyncio.sleep(0)
        assert var.get() == "changed"

    async def main() -> None:
        task: Any = asyncio.Task(change(), loop=loop, eager_start=True)
        assert len(contextvars.copy_context()) == 0
        await task
        assert len(contextvars.copy_context()) == 0

    loop.run_until_complete(in_empty_context(loop.create_task, main()))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_the_exception_handler_sees_what_the_callback_set(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: seen.append(var.get()))

    def fail() -> None:
        var.set("failing")
        raise ValueError

    in_empty_context(loop.call_soon, fail)
    in_empty_context(loop.call_soon, lambda: 1 / 0)
    run_once(loop)
    assert seen == ["failing", "default"]


# --- runners -------------------------------------------------------------------------


def test_a_runner_keeps_one_context(loop_factory: LoopFactory) -> None:
    async def change(value: str) -> str:
        before = var.get()
        var.set(value)
        return before

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(change("one")) == "default"
        assert runner.run(change("two")) == "one"
        given = contextvars.copy_context()
        assert runner.run(change("three"), context=given) == "default"
        assert runner.run(change("four")) == "two"
    assert var.get() == "default"


# --- protocols -----------------------------------------------------------------------


class Watcher(asyncio.Protocol):
    """Notes what each of its methods sees, and then sets a value of its own."""

    def __init__(self, seen: list[tuple[str, str]], closed: Any) -> None:
        self.seen = seen
        self.closed = closed
        seen.append(("__init__", var.get()))

    def note(self, name: str) -> None:
        self.seen.append((name, var.get()))
        var.set(name)

    def connection_made(self, transport: Any) -> None:
        self.note("connection_made")
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        self.note("data_received")

    def eof_received(self) -> None:
        self.note("eof_received")

    def connection_lost(self, exc: Exception | None) -> None:
        self.note("connection_lost")
        self.closed.set_result(None)


def one_context_per_connection(loop: Loop) -> None:
    if sys.version_info < (3, 15):
        only_fastloop(loop, "in asyncio, each kind of event has a context of its own")


def test_a_server_protocol_runs_in_the_context_of_the_server(loop: Loop) -> None:
    one_context_per_connection(loop)
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        closed = loop.create_future()
        var.set("server")
        server = await loop.create_server(lambda: Watcher(seen, closed), "127.0.0.1", 0)
        var.set("later")
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readexactly(5) == b"hello"
        for _ in range(2):
            writer.write(b"data")
            count = len(seen)
            while len(seen) == count:
                await asyncio.sleep(0)
        writer.close()
        await within(closed)
        server.close()
        await server.wait_closed()
        assert var.get() == "later"

    loop.run_until_complete(main())
    assert seen == [
        ("__init__", "server"),
        ("connection_made", "server"),
        ("data_received", "connection_made"),
        ("data_received", "data_received"),
        ("eof_received", "data_received"),
        ("connection_lost", "eof_received"),
    ]


def test_a_client_protocol_runs_in_the_context_of_who_connects(loop: Loop) -> None:
    one_context_per_connection(loop)
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        one, other = socket.socketpair()
        other.setblocking(False)
        closed = loop.create_future()
        var.set("client")
        transport, _ = await loop.create_connection(
            lambda: Watcher(seen, closed), sock=one
        )
        var.set("later")
        other.send(b"data")
        while len(seen) < 3:
            await asyncio.sleep(0)
        transport.abort()
        await within(closed)
        other.close()

    loop.run_until_complete(main())
    assert seen == [
        ("__init__", "client"),
        ("connection_made", "client"),
        ("data_received", "connection_made"),
        ("connection_lost", "data_received"),
    ]
