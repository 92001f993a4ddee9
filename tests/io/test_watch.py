"""add_reader(), add_writer() and their opposites."""

from __future__ import annotations

import asyncio
import contextvars
import os
import resource
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from io_support import (
    HOST,
    Loop,
    LoopFactory,
    Recorder,
    asleep,
    call,
    collect_reports,
    connected,
    described_report,
    isolated,
    on_both,
    receive,
    run_once,
    run_until,
    stable_repr,
    tcp_pair,
    turns,
    until,
)

import fastloop

Pair = tuple[socket.socket, socket.socket]


def nothing() -> None:
    pass


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


# --- being called -------------------------------------------------------------------


def test_reader_is_called_with_its_arguments(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[tuple[Any, ...]] = []

    def ready(*args: Any) -> None:
        calls.append(args)
        a.recv(100)

    assert loop.add_reader(a, ready, 1, "two", None) is None
    run_once(loop)
    assert calls == []
    b.send(b"x")
    run_until(loop, lambda: calls)
    assert calls == [(1, "two", None)]
    loop.remove_reader(a)


def test_writer_is_called_with_its_arguments(loop: Loop, pair: Pair) -> None:
    calls: list[tuple[Any, ...]] = []

    def ready(*args: Any) -> None:
        calls.append(args)
        loop.remove_writer(pair[0])

    assert loop.add_writer(pair[0], ready, 1, "two") is None
    run_until(loop, lambda: calls)
    run_once(loop)
    assert calls == [(1, "two")]


def test_remove_tells_whether_there_was_a_callback(loop: Loop, pair: Pair) -> None:
    a, _ = pair
    assert loop.remove_reader(a) is False
    assert loop.remove_writer(a) is False
    loop.add_reader(a, nothing)
    assert loop.remove_writer(a) is False
    assert loop.remove_reader(a) is True
    assert loop.remove_reader(a) is False
    loop.add_writer(a, nothing)
    assert loop.remove_reader(a) is False
    assert loop.remove_writer(a) is True
    assert loop.remove_writer(a) is False


def test_both_directions_are_independent(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[str] = []
    loop.add_reader(a, calls.append, "read")
    loop.add_writer(a, calls.append, "write")
    run_until(loop, lambda: len(calls) >= 3)
    assert set(calls) == {"write"}
    b.send(b"x")
    run_until(loop, lambda: "read" in calls)
    assert loop.remove_writer(a)
    run_once(loop)
    calls.clear()
    run_until(loop, lambda: len(calls) >= 3)
    assert set(calls) == {"read"}
    loop.add_writer(a, calls.append, "write")
    assert loop.remove_reader(a)
    run_once(loop)
    calls.clear()
    run_until(loop, lambda: len(calls) >= 3)
    assert set(calls) == {"write"}
    assert loop.remove_writer(a)


def test_reader_is_called_as_long_as_there_is_data(loop: Loop, pair: Pair) -> None:
    a, b = pair
    got: list[bytes] = []
    loop.add_reader(a, lambda: got.append(a.recv(1)))
    b.send(b"abc")
    run_until(loop, lambda: len(got) == 3)
    for _ in range(3):
        run_once(loop)
    assert got == [b"a", b"b", b"c"]
    loop.remove_reader(a)


def test_end_of_stream_is_readable(loop: Loop, pair: Pair) -> None:
    a, b = pair
    got: list[bytes] = []
    loop.add_reader(a, lambda: got.append(a.recv(1)))
    b.close()
    run_until(loop, lambda: len(got) >= 2)
    assert set(got) == {b""}
    loop.remove_reader(a)


def test_failed_connect_is_writable(loop: Loop) -> None:
    calls: list[int] = []
    with socket.socket() as unreachable, socket.socket() as sock:
        unreachable.bind((HOST, 0))
        sock.setblocking(False)
        sock.connect_ex(unreachable.getsockname())
        loop.add_writer(sock, calls.append, 1)
        run_until(loop, lambda: calls)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert loop.remove_writer(sock)


# --- replacing and removing ---------------------------------------------------------


def test_second_callback_replaces_the_first(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[str] = []
    loop.add_reader(a, calls.append, "old")
    loop.add_reader(a, calls.append, "new")
    b.send(b"x")
    run_until(loop, lambda: calls)
    assert set(calls) == {"new"}
    assert loop.remove_reader(a) is True
    assert loop.remove_reader(a) is False


@pytest.mark.parametrize("how", ["remove", "replace"])
def test_callback_that_is_due_already_can_be_stopped(
    loop: Loop, pair: Pair, how: str
) -> None:
    socks = pair
    calls: list[str] = []

    def first_of_the_turn(which: int) -> None:
        """Both are ready: whichever comes first stops the other."""
        calls.append("due")
        other = socks[1 - which]
        if how == "remove":
            loop.remove_reader(other)
        else:
            loop.add_reader(other, calls.append, "new")
        loop.remove_reader(socks[which])

    for which, sock in enumerate(socks):
        loop.add_reader(sock, first_of_the_turn, which)
        socks[1 - which].send(b"x")
    for _ in range(3):
        run_once(loop)
    assert calls.count("due") == 1
    assert ("new" in calls) == (how == "replace")
    for sock in socks:
        loop.remove_reader(sock)


def test_callback_may_remove_itself_and_come_back(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[int] = []

    def ready(n: int) -> None:
        calls.append(n)
        assert loop.remove_reader(a)
        if n < 5:
            loop.add_reader(a, ready, n + 1)

    loop.add_reader(a, ready, 1)
    b.send(b"x")
    run_until(loop, lambda: len(calls) == 5)
    run_once(loop)
    assert calls == [1, 2, 3, 4, 5]


def test_watching_begins_while_the_loop_runs(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[int] = []

    async def main() -> None:
        b.send(b"x")
        await turns(2)
        loop.add_reader(a, calls.append, 1)
        await until(lambda: calls)
        loop.remove_reader(a)

    loop.run_until_complete(main())


def test_data_of_another_thread_wakes_the_loop(loop: Loop, pair: Pair) -> None:
    a, b = pair
    loop.add_reader(a, loop.stop)
    threading.Timer(0.05, b.send, [b"x"]).start()
    loop.run_forever()
    loop.remove_reader(a)


def test_callback_runs_in_the_context_of_its_registration(
    loop: Loop, pair: Pair
) -> None:
    var = contextvars.ContextVar("var", default="outside")
    a, b = pair
    seen: list[str] = []

    def register() -> None:
        var.set("inside")
        loop.add_reader(a, lambda: seen.append(var.get()))

    contextvars.copy_context().run(register)
    b.send(b"x")
    run_until(loop, lambda: seen)
    assert set(seen) == {"inside"}
    loop.remove_reader(a)


# --- what can be watched ------------------------------------------------------------


def test_number_and_object_mean_the_same(loop: Loop, pair: Pair) -> None:
    a, b = pair
    calls: list[str] = []
    loop.add_reader(a.fileno(), calls.append, "number")
    loop.add_reader(a, calls.append, "object")
    b.send(b"x")
    run_until(loop, lambda: calls)
    assert set(calls) == {"object"}
    assert loop.remove_reader(a.fileno()) is True
    assert loop.remove_reader(a) is False


def test_pipe_by_its_file_object(loop: Loop) -> None:
    r, w = os.pipe()
    with open(r, "rb", buffering=0) as reading, open(w, "wb", buffering=0) as writing:
        calls: list[str] = []
        loop.add_reader(reading, calls.append, "read")
        loop.add_writer(writing, calls.append, "write")
        run_until(loop, lambda: calls)
        writing.write(b"x")
        run_until(loop, lambda: "read" in calls)
        assert loop.remove_reader(reading) and loop.remove_writer(writing)


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_closed_object_can_be_removed(loop: Loop, direction: str) -> None:
    a, b = socket.socketpair()
    with b:
        getattr(loop, f"add_{direction}")(a, nothing)
        a.close()
        assert getattr(loop, f"remove_{direction}")(a) is True


def test_regular_file_is_refused(loop: Loop) -> None:
    with open(__file__, "rb") as file:
        for add in loop.add_reader, loop.add_writer:
            with pytest.raises(PermissionError):
                add(file, nothing)
        assert loop.remove_reader(file) is False
        assert loop.remove_writer(file) is False
    run_once(loop)


class File:
    """Something with fileno()."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def fileno(self) -> Any:
        if isinstance(self.answer, type) and issubclass(self.answer, BaseException):
            raise self.answer
        return self.answer

    def __repr__(self) -> str:
        return f"File({self.answer})"


NO_DESCRIPTORS: list[Any] = [
    -1,
    -(2**31),
    None,
    "1",
    1.0,
    object(),
    File(-1),
    File(None),
    File("x"),
    File(ValueError),
    File(AttributeError),
    File(TypeError),
    File(KeyError),
    File(OSError),
]


@pytest.mark.parametrize("what", NO_DESCRIPTORS, ids=stable_repr)
@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_what_is_no_descriptor_cannot_be_added(what: Any, method: str) -> None:
    async def scenario(loop: Any) -> Any:
        return call(getattr(loop, method), what, nothing)

    assert on_both(scenario) is not None


@pytest.mark.parametrize("what", NO_DESCRIPTORS, ids=stable_repr)
@pytest.mark.parametrize("method", ["remove_reader", "remove_writer"])
def test_what_is_no_descriptor_cannot_be_removed(what: Any, method: str) -> None:
    async def scenario(loop: Any) -> Any:
        return call(getattr(loop, method), what)

    on_both(scenario)


@pytest.mark.parametrize("number", [987, 2**16, 2**24, 2**30, 2**31 - 1])
@isolated
def test_closed_number_is_an_os_error(loop_factory: LoopFactory, number: int) -> None:
    """Whatever the number, and without taking memory for all that are below it."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, resource.RLIM_INFINITY))
    loop = loop_factory()
    for add in loop.add_reader, loop.add_writer:
        with pytest.raises(OSError, match="Bad file descriptor"):
            add(number, nothing)
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False
    run_once(loop)
    loop.close()


@pytest.mark.parametrize("number", [2**31, 2**32, 2**63, 2**64, 2**200])
@isolated
def test_number_beyond_all_descriptors(loop_factory: LoopFactory, number: int) -> None:
    loop = loop_factory()
    for add in loop.add_reader, loop.add_writer:
        with pytest.raises((OverflowError, ValueError, OSError)):
            add(number, nothing)
    for remove in loop.remove_reader, loop.remove_writer:
        assert call(remove, number) is not True
    loop.close()


def test_callback_is_required(loop: Loop, pair: Pair) -> None:
    for add in loop.add_reader, loop.add_writer:
        with pytest.raises(TypeError):
            add(pair[0])  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            add()  # type: ignore[call-arg]
    assert loop.remove_reader(pair[0]) is False


# --- descriptors of transports ------------------------------------------------------


def test_descriptor_of_a_transport_is_refused() -> None:
    async def scenario(loop: Any) -> list[Any]:
        answers = []
        async with connected() as connection:
            sock = connection.client.transport.get_extra_info("socket")
            for method in "add_reader", "add_writer":
                answers.append(call(getattr(loop, method), sock, nothing))
            for method in "remove_reader", "remove_writer":
                answers.append(call(getattr(loop, method), sock))
        return answers

    answers = on_both(scenario)
    assert [answer[0] for answer in answers] == [RuntimeError] * 4
    assert "is used by transport" in answers[0][1]


def test_number_of_a_transport_is_refused(loop: Loop) -> None:
    async def main() -> None:
        async with connected() as connection:
            number = connection.client.transport.get_extra_info("socket").fileno()
            with pytest.raises(
                RuntimeError, match=f"File descriptor {number} is used by transport"
            ):
                loop.add_reader(number, nothing)

    loop.run_until_complete(main())


def test_number_is_free_once_the_transport_is_closed(loop: Loop, pair: Pair) -> None:
    async def main() -> int:
        async with connected() as connection:
            return connection.client.transport.get_extra_info("socket").fileno()

    number = loop.run_until_complete(main())
    os.dup2(pair[0].fileno(), number)
    calls: list[int] = []
    loop.add_writer(number, calls.append, 1)
    run_until(loop, lambda: calls)
    assert loop.remove_writer(number)
    os.close(number)


def test_watched_socket_that_a_transport_takes_over(loop: Loop) -> None:
    """The transport reads, and nobody else."""

    async def main() -> None:
        ours, peer = tcp_pair()
        calls: list[str] = []
        loop.add_reader(ours, calls.append, "watched")
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        with peer:
            peer.send(b"data")
            await until(lambda: protocol.data == b"data")
            peer.send(b", more")
            await until(lambda: protocol.data == b"data, more")
            transport.pause_reading()
            peer.send(b" that waits")
            await turns()
            assert calls == []
            transport.resume_reading()
            await until(lambda: protocol.data == b"data, more that waits")
        assert calls == []
        await until(lambda: protocol.lost)
        transport.close()

    loop.run_until_complete(main())


# --- failing callbacks --------------------------------------------------------------


def test_failing_callback_is_reported_and_called_again() -> None:
    async def scenario(loop: Any) -> list[Any]:
        reports = collect_reports(loop)
        a, b = socket.socketpair()

        def fail() -> None:
            a.recv(1)
            raise ZeroDivisionError("in the callback")

        with a, b:
            loop.add_reader(a, fail)
            b.send(b"xy")
            await until(lambda: len(reports) == 2)
            loop.remove_reader(a)
        return [described_report(report) for report in reports]

    reports = on_both(scenario)
    assert reports[0] == reports[1]
    assert reports[0][1][0] is ZeroDivisionError


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_fatal_exception_ends_the_run(
    loop: Loop, pair: Pair, kind: type[BaseException]
) -> None:
    a, b = pair
    got: list[bytes] = []

    def fail_once() -> None:
        got.append(a.recv(1))
        if len(got) == 1:
            raise kind

    loop.add_reader(a, fail_once)
    b.send(b"xy")
    with pytest.raises(kind):
        loop.run_forever()
    run_until(loop, lambda: len(got) == 2)
    loop.remove_reader(a)


# --- the closed loop ----------------------------------------------------------------


def test_closed_loop_watches_nothing(loop_factory: LoopFactory, pair: Pair) -> None:
    loop = loop_factory()
    loop.add_reader(pair[0], nothing)
    loop.close()
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0]) is False
    for add in loop.add_reader, loop.add_writer:
        with pytest.raises(RuntimeError, match="closed"):
            add(pair[0], nothing)


def test_callback_is_let_go(loop: Loop, pair: Pair) -> None:
    """By removing, by replacing, and by closing the loop."""
    import gc
    import weakref

    def callback() -> Callable[[], None]:
        def ready() -> None:
            pass

        refs.append(weakref.ref(ready))
        return ready

    refs: list[weakref.ref[Any]] = []
    loop.add_reader(pair[0], callback())
    loop.add_reader(pair[0], callback())
    loop.add_writer(pair[0], callback())
    loop.remove_writer(pair[0])
    loop.add_writer(pair[1], callback())
    gc.collect()
    assert [ref() is None for ref in refs] == [True, False, True, False]
    loop.close()
    gc.collect()
    assert [ref() is None for ref in refs] == [True] * 4


# --- thousands ----------------------------------------------------------------------


@isolated
def test_thousands_of_descriptors(loop_factory: LoopFactory) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > 9000:
        soft = 9000
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    loop = loop_factory()
    pipes = [os.pipe() for _ in range(soft // 2 - 50)]
    counts = [0] * len(pipes)

    def ready(index: int) -> None:
        counts[index] += 1
        os.read(pipes[index][0], 1)

    for index, (r, _) in enumerate(pipes):
        loop.add_reader(r, ready, index)
    for _, w in pipes[::2]:
        os.write(w, b"x")
    run_until(loop, lambda: sum(counts) >= len(pipes) // 2)
    assert counts[::2] == [1] * len(counts[::2])
    assert not any(counts[1::2])
    for _, w in pipes[1::2]:
        os.write(w, b"xx")
    run_until(loop, lambda: sum(counts) >= len(pipes[::2]) + 2 * len(pipes[1::2]))
    assert counts[1::2] == [2] * len(counts[1::2])
    for r, _ in pipes:
        assert loop.remove_reader(r)
    assert loop.run_until_complete(asleep())
    loop.close()
    for r, w in pipes:
        os.close(r)
        os.close(w)


# --- hazards: the descriptor is closed behind the loop's back -----------------------


def number_of(sock: socket.socket, number: int) -> socket.socket:
    """Give a socket a certain descriptor number, which must be free."""
    if sock.fileno() == number:
        return sock
    os.dup2(sock.fileno(), number, inheritable=False)
    sock.close()
    return socket.socket(fileno=number)


class Bystander:
    """A watched socket that has nothing to do with it all."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.got: list[bytes] = []
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        loop.add_reader(self.sock, lambda: self.got.append(self.sock.recv(10)))

    async def is_served(self) -> bool:
        """Does the loop still do its work, and sleep when there is none?"""
        self.got.clear()
        self.peer.send(b"x")
        await until(lambda: self.got == [b"x"])
        return await asleep()

    def close(self) -> None:
        assert self.loop.remove_reader(self.sock) is True
        self.sock.close()
        self.peer.close()


Main = Callable[[Loop, Bystander], Coroutine[Any, Any, None]]


def run_main(factory: LoopFactory, main: Main) -> None:
    loop = factory()
    bystander = Bystander(loop)
    loop.run_until_complete(main(loop, bystander))
    bystander.close()
    loop.close()


@isolated
def test_closed_while_watched(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        a, b = socket.socketpair()
        calls: list[str] = []
        loop.add_reader(a, calls.append, "read")
        loop.add_writer(b, calls.append, "write")
        await until(lambda: "write" in calls)
        number = b.fileno()
        a.close()
        b.close()
        await turns()
        calls.clear()
        assert await bystander.is_served()
        assert calls == []
        assert loop.remove_reader(a) is True
        assert loop.remove_writer(number) is True
        assert await bystander.is_served()

    run_main(loop_factory, main)


@isolated
def test_closed_while_watched_and_never_removed(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        a, b = socket.socketpair()
        loop.add_reader(a, nothing)
        loop.add_writer(a, nothing)
        a.close()
        b.close()
        assert await bystander.is_served()

    run_main(loop_factory, main)


@isolated
def test_closed_before_the_poll(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        for _ in range(50):
            a, b = socket.socketpair()
            loop.add_reader(a, nothing)
            loop.add_writer(b, nothing)
            b.close()
            a.close()
            assert loop.remove_reader(a) is True
            assert loop.remove_writer(b) is True
        assert await bystander.is_served()

    run_main(loop_factory, main)


@isolated
def test_closed_by_another_thread(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        a, b = socket.socketpair()
        loop.add_reader(a, nothing)
        closer = threading.Timer(0.05, os.close, [a.detach()])
        closer.start()
        await asyncio.sleep(0.1)
        closer.join()
        assert await bystander.is_served()
        b.close()

    run_main(loop_factory, main)


@isolated
def test_closed_and_the_number_is_another_sockets(loop_factory: LoopFactory) -> None:
    """Nobody watches the other one: nobody may be called for it."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        loop.add_reader(a, calls.append, "old")
        number = a.fileno()
        a.close()
        c = number_of(c, number)
        d.send(b"x")
        assert await bystander.is_served()
        assert calls == []
        assert loop.remove_reader(number) is True
        assert await bystander.is_served()
        for sock in b, c, d:
            sock.close()

    run_main(loop_factory, main)


@isolated
def test_closed_and_the_number_is_watched_again() -> None:
    """asyncio answers the second add_reader() with FileNotFoundError."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        loop.add_reader(a, calls.append, "old")
        number = a.fileno()
        a.close()
        c = number_of(c, number)
        loop.add_reader(c, calls.append, "new")
        assert await bystander.is_served()
        assert calls == []
        d.send(b"x")
        await until(lambda: calls)
        assert set(calls) == {"new"}
        assert loop.remove_reader(c) is True
        assert await bystander.is_served()
        for sock in b, c, d:
            sock.close()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_closed_and_the_number_is_watched_in_the_other_direction() -> None:
    """The reader of the socket that is gone must not read from the one that came."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        loop.add_reader(a, calls.append, "old reader")
        number = a.fileno()
        a.close()
        c = number_of(c, number)
        loop.add_writer(c, calls.append, "new writer")
        d.send(b"x")
        await until(lambda: "new writer" in calls)
        await turns()
        assert loop.remove_writer(c) is True
        assert set(calls) == {"new writer"}, set(calls)
        for sock in b, c, d:
            sock.close()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_replaced_by_dup2(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        loop.add_reader(a, calls.append, "old")
        os.dup2(c.fileno(), a.fileno())
        d.send(b"x")
        assert await bystander.is_served()
        assert calls == []
        for sock in a, b, c, d:
            sock.close()

    run_main(loop_factory, main)


@isolated
def test_duplicate_left_open_after_removing(loop_factory: LoopFactory) -> None:
    """The order that is right: removed, then closed."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        a, b = socket.socketpair()
        loop.add_reader(a, nothing)
        copy = os.dup(a.fileno())
        loop.remove_reader(a)
        a.close()
        b.send(b"x")
        assert await bystander.is_served()
        os.close(copy)
        b.close()

    run_main(loop_factory, main)


@isolated
def test_duplicate_left_open_after_closing() -> None:
    """Closed, then removed: the kernel goes on telling of the duplicate.

    A loop of asyncio never sleeps again.
    """

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        loop.add_reader(a, calls.append, "old")
        copy = os.dup(a.fileno())
        a.close()
        assert loop.remove_reader(a) is True
        b.send(b"x")
        assert await bystander.is_served()
        assert calls == []
        os.close(copy)
        b.close()

    run_main(fastloop.new_event_loop, main)


@pytest.mark.parametrize("removed", [True, False])
@isolated
def test_duplicate_left_open_and_the_number_is_watched_again(removed: bool) -> None:
    """Of two files under one number, the loop tells them apart."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        loop.add_reader(a, calls.append, "old")
        number = a.fileno()
        copy = os.dup(number)
        a.close()
        if removed:
            assert loop.remove_reader(number) is True
        c = number_of(c, number)
        loop.add_reader(c, calls.append, "new")
        b.send(b"to the duplicate")
        served = await bystander.is_served()
        assert calls == [], set(calls)
        assert served
        d.send(b"x")
        await until(lambda: calls)
        assert set(calls) == {"new"}
        assert loop.remove_reader(c) is True
        assert await bystander.is_served()
        os.close(copy)
        for sock in b, c, d:
            sock.close()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_watches_outlive_a_stale_duplicate() -> None:
    """What the loop does about a stale registration leaves the others as they were."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        pairs = [socket.socketpair() for _ in range(20)]
        got: list[int] = []

        def ready(index: int) -> None:
            got.append(index)
            pairs[index][0].recv(10)

        for index, (sock, _) in enumerate(pairs):
            loop.add_reader(sock, ready, index)
        a, b = socket.socketpair()
        loop.add_reader(a, nothing)
        copy = os.dup(a.fileno())
        a.close()
        assert loop.remove_reader(a) is True
        b.send(b"x")
        await turns()
        for _, sock in pairs:
            sock.send(b"x")
        await until(lambda: sorted(got) == list(range(20)))
        assert await bystander.is_served()
        os.close(copy)
        b.close()
        for sock, other in pairs:
            assert loop.remove_reader(sock)
            sock.close()
            other.close()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_transport_inherits_a_watched_number() -> None:
    """asyncio's transport does not get to read there."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        ours, peer = tcp_pair()
        loop.add_reader(a, calls.append, "old reader")
        loop.add_writer(a, calls.append, "old writer")
        number = a.fileno()
        a.close()
        ours = number_of(ours, number)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        assert transport.get_extra_info("socket").fileno() == number
        peer.send(b"data")
        await until(lambda: protocol.data == b"data")
        transport.write(b"answer")
        assert await receive(peer, 6) == b"answer"
        transport.close()
        await until(lambda: protocol.lost)
        assert calls == [], set(calls)
        b.close()
        peer.close()
        assert await bystander.is_served()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_transport_inherits_a_number_and_then_a_stale_duplicate_shows() -> None:
    """The callback of a closed socket must not come to life on a transport's."""

    async def main(loop: Loop, bystander: Bystander) -> None:
        calls: list[str] = []
        a, b = socket.socketpair()
        c, d = socket.socketpair()
        ours, peer = tcp_pair()
        loop.add_reader(a, calls.append, "old")
        number = a.fileno()
        a.close()
        ours = number_of(ours, number)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)

        loop.add_reader(c, nothing)
        copy = os.dup(c.fileno())
        c.close()
        assert loop.remove_reader(c) is True
        d.send(b"x")
        await turns()

        peer.send(b"data")
        await until(lambda: protocol.data == b"data")
        transport.pause_reading()
        peer.send(b"more")
        served = await bystander.is_served()
        assert calls == [], set(calls)
        assert served
        transport.abort()
        await until(lambda: protocol.lost)
        os.close(copy)
        for sock in b, d, peer:
            sock.close()

    run_main(fastloop.new_event_loop, main)


@isolated
def test_number_becomes_another_loops(loop_factory: LoopFactory) -> None:
    async def main(loop: Loop, bystander: Bystander) -> None:
        a, b = socket.socketpair()
        calls: list[str] = []
        loop.add_reader(a, calls.append, "read")
        loop.add_writer(b, calls.append, "write")
        a.close()
        b.close()
        others = [loop_factory() for _ in range(3)]
        assert loop.remove_reader(a) is True
        assert loop.remove_writer(b) is True
        assert await bystander.is_served()
        for other in others:
            other.call_soon(other.stop)
            thread = threading.Thread(target=other.run_forever)
            thread.start()
            thread.join()
            other.close()
        assert await bystander.is_served()

    run_main(loop_factory, main)


@isolated
def test_loop_closes_with_closed_descriptors(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    pairs = [socket.socketpair() for _ in range(10)]
    for a, b in pairs:
        loop.add_reader(a, nothing)
        loop.add_writer(b, nothing)
        a.close()
    run_once(loop)
    for _, b in pairs:
        b.close()
    loop.close()
