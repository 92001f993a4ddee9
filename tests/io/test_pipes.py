"""connect_read_pipe(), connect_write_pipe(), and their transports."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pty
import socket
import sys
import tty
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from io_support import (
    Recorder,
    asleep,
    call,
    collect_reports,
    described,
    described_report,
    descriptors,
    isolated,
    on_both,
    opened,
    outcome,
    run_python,
    run_until,
    turns,
    until,
)

import fastloop

Loop = asyncio.AbstractEventLoop
MEGABYTE = bytes(range(256)) * 4096


class Pipe:
    """A pipe object that counts how often it is closed."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = 0

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        self.closed += 1
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def pipe() -> tuple[Pipe, Pipe]:
    reader, writer = os.pipe()
    return Pipe(reader), Pipe(writer)


async def reading(loop: Loop, factory: Callable[[], Any] = Recorder) -> Any:
    """Return protocol and transport of a pipe's read end, and its write end."""
    reader, writer = pipe()
    transport, protocol = await loop.connect_read_pipe(factory, reader)
    return protocol, transport, writer


async def writing(loop: Loop, factory: Callable[[], Any] = Recorder) -> Any:
    """Return protocol and transport of a pipe's write end, and its read end."""
    reader, writer = pipe()
    os.set_blocking(reader.fd, False)
    transport, protocol = await loop.connect_write_pipe(factory, writer)
    return protocol, transport, reader


async def drain(reader: Pipe, size: int) -> bytes:
    """Read that many bytes while the loop turns."""
    data = b""
    while len(data) < size:
        try:
            data += os.read(reader.fd, 1 << 20)
        except BlockingIOError:
            await asyncio.sleep(0)
    return data


# --- reading --------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, _, writer = await reading(loop)
        for part in b"one ", b"two ", b"three":
            os.write(writer.fd, part)
            await turns(1)
        writer.close()
        await until(lambda: protocol.lost)
        return protocol.events, bytes(protocol.data), protocol.lost_with

    assert on_both(scenario) == (
        ["made", "data", "eof", "lost"],
        b"one two three",
        None,
    )


def test_much_is_read(loop: Loop) -> None:
    async def scenario() -> None:
        protocol, _, writer = await reading(loop)
        os.set_blocking(writer.fd, False)
        sent = 0
        while sent < 3 * len(MEGABYTE):
            with contextlib.suppress(BlockingIOError):
                start = sent % len(MEGABYTE)
                sent += os.write(writer.fd, MEGABYTE[start : start + 100_000])
            await asyncio.sleep(0)
        await until(lambda: len(protocol.data) == sent)
        assert protocol.data[: len(MEGABYTE)] == MEGABYTE
        assert protocol.data == (MEGABYTE * 4)[:sent]
        writer.close()
        await until(lambda: protocol.lost)

    loop.run_until_complete(scenario())


def test_data_that_waits_is_read_before_the_end(loop: Loop) -> None:
    async def scenario() -> None:
        reader, writer = pipe()
        os.write(writer.fd, b"left behind")
        writer.close()
        _, protocol = await loop.connect_read_pipe(Recorder, reader)
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert protocol.data == b"left behind"

    loop.run_until_complete(scenario())


def test_pause_and_resume_reading() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, writer = await reading(loop)
        states = [transport.is_reading()]
        transport.pause_reading()
        transport.pause_reading()  # no harm in it
        states.append(transport.is_reading())
        os.write(writer.fd, b"data")
        await turns()
        states.append(bytes(protocol.data))
        transport.resume_reading()
        transport.resume_reading()
        states.append(transport.is_reading())
        await until(lambda: protocol.data)
        transport.pause_reading()
        transport.close()
        states.append(transport.is_reading())
        transport.resume_reading()
        states.append(transport.is_reading())
        await until(lambda: protocol.lost)
        writer.close()
        return states

    assert on_both(scenario) == [True, False, b"", True, False, False]


def test_reading_paused_in_connection_made(loop: Loop) -> None:
    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def scenario() -> None:
        protocol, transport, writer = await reading(loop, Pausing)
        os.write(writer.fd, b"data")
        await turns()
        assert protocol.events == ["made"]
        transport.resume_reading()
        await until(lambda: protocol.data)
        transport.close()
        await until(lambda: protocol.lost)
        writer.close()

    loop.run_until_complete(scenario())


def test_close_of_the_read_end() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, writer = await reading(loop)
        os.write(writer.fd, b"never read")
        before = transport.is_closing()
        transport.close()
        transport.close()
        now = transport.is_closing(), protocol.lost
        await until(lambda: protocol.lost)
        events = list(protocol.events)
        await turns(2)
        pipe = transport.get_extra_info("pipe")
        ends = transport.get_protocol(), pipe.closed, call(os.write, writer.fd, b"x")
        writer.close()
        return before, now, events, protocol.events, ends

    on_both(scenario)


@pytest.mark.parametrize("method", ["data_received", "eof_received", "connection_lost"])
def test_failing_callback_of_the_read_end(method: str) -> None:
    class Failing(Recorder):
        pass

    def fail(self: Any, *args: Any) -> None:
        getattr(Recorder, method)(self, *args)
        raise ZeroDivisionError

    setattr(Failing, method, fail)

    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        protocol, transport, writer = await reading(loop, Failing)
        os.write(writer.fd, b"one")
        await until(lambda: protocol.data)
        os.write(writer.fd, b"two")
        await until(lambda: len(protocol.data) == 6)
        writer.close()
        await until(lambda: protocol.lost)
        await turns(1)
        closed = transport.get_extra_info("pipe").closed
        return [sorted(r) for r in reports], protocol.events, closed

    on_both(scenario)


def test_failing_connection_made() -> None:
    class Failing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ZeroDivisionError

    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        protocol, _, writer = await reading(loop, Failing)
        os.write(writer.fd, b"read all the same")
        await until(lambda: protocol.data)
        writer.close()
        await until(lambda: protocol.lost)
        return [described_report(report) for report in reports], protocol.events

    on_both(scenario)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize(
    "method", ["data_received", "connection_made", "connection_lost"]
)
def test_fatal_exception_ends_the_run_only(
    loop: Loop, method: str, kind: type[BaseException]
) -> None:
    class Fatal(Recorder):
        pass

    def fail(self: Any, *args: Any) -> None:
        getattr(Recorder, method)(self, *args)
        raise kind

    setattr(Fatal, method, fail)
    reader, writer = pipe()
    made: list[Any] = []

    async def scenario() -> None:
        task = loop.connect_read_pipe(lambda: made.append(Fatal()) or made[0], reader)
        await asyncio.ensure_future(task)
        if not writer.closed:
            os.write(writer.fd, b"data")
            await until(lambda: made[0].data)
            writer.close()
        await until(lambda: made[0].lost)

    with pytest.raises(kind):
        loop.run_until_complete(scenario())
    if writer.fd >= 0:
        writer.close()
    run_until(loop, lambda: made[0].lost and reader.closed)
    assert made[0].events[0] == "made"
    assert made[0].events[-1] == "lost"
    assert reader.closed == 1
    for task in asyncio.all_tasks(loop):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)


def test_set_protocol(loop: Loop) -> None:
    async def scenario() -> None:
        first, transport, writer = await reading(loop)
        assert transport.get_protocol() is first
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        os.write(writer.fd, b"data")
        await until(lambda: second.data)
        writer.close()
        await until(lambda: second.lost)
        assert first.events == ["made"]
        assert second.events == ["data", "eof", "lost"]

    loop.run_until_complete(scenario())


def test_callbacks_run_in_one_context(fast_loop: Loop) -> None:
    import contextvars

    where = contextvars.ContextVar("where", default="nowhere")
    seen: list[str] = []

    class Looking(Recorder):
        def note(self, event: str) -> None:
            seen.append(where.get())

    async def scenario() -> None:
        where.set("here")
        protocol, _, writer = await reading(fast_loop, Looking)
        where.set("elsewhere")
        os.write(writer.fd, b"data")
        await until(lambda: protocol.data)
        writer.close()
        await until(lambda: protocol.lost)
        assert set(seen) == {"here"}

    fast_loop.run_until_complete(scenario())


# --- writing --------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"data", bytearray(b"data"), memoryview(b"data")])
def test_what_is_written_arrives(loop: Loop, data: Any) -> None:
    async def scenario() -> None:
        protocol, transport, reader = await writing(loop)
        transport.write(data)
        assert os.read(reader.fd, 100) == b"data"
        transport.writelines([data, b"", data])
        assert os.read(reader.fd, 100) == b"datadata"
        transport.close()
        await until(lambda: protocol.lost)
        assert os.read(reader.fd, 100) == b""
        assert protocol.events == ["made", "lost"]
        reader.close()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_much_is_written(loop: Loop, wrap: Any) -> None:
    async def scenario() -> None:
        protocol, transport, reader = await writing(loop)
        parts = [MEGABYTE, b"x", MEGABYTE[:100_000], b"", MEGABYTE]
        for part in parts:
            data = wrap(part)
            transport.write(data)
            if wrap is bytearray:
                data[:] = bytes(len(data))  # it was copied
        expected = b"".join(parts)
        assert await drain(reader, len(expected)) == expected
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await until(lambda: protocol.lost)
        reader.close()

    loop.run_until_complete(scenario())


def test_part_of_a_larger_object_is_written(loop: Loop) -> None:
    async def scenario() -> None:
        protocol, transport, reader = await writing(loop)
        for start in 5, 77:
            transport.write(memoryview(MEGABYTE)[start:200_000])
        size = 400_000 - 82
        expected = MEGABYTE[5:200_000] + MEGABYTE[77:200_000]
        assert await drain(reader, size) == expected
        transport.abort()
        await until(lambda: protocol.lost)
        reader.close()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("data", ["text", 5, None, [b"data"]])
def test_what_cannot_be_written(data: Any) -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        answer = call(transport.write, data)
        transport.close()
        await until(lambda: protocol.lost)
        reader.close()
        return answer[0]

    assert on_both(scenario) is AssertionError


def test_flow_control() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        transport.set_write_buffer_limits(high=1000)
        notes: list[Any] = [transport.get_write_buffer_limits()]
        transport.write(MEGABYTE[:65_536])
        notes.append(transport.get_write_buffer_size())
        transport.write(bytes(1000))
        notes += [transport.get_write_buffer_size(), list(protocol.events)]
        transport.write(b"x")
        notes += [transport.get_write_buffer_size(), list(protocol.events)]
        transport.write(b"x")
        notes.append(list(protocol.events))
        await drain(reader, 65_536 + 1002)
        await turns(2)
        notes += [transport.get_write_buffer_size(), list(protocol.events)]
        transport.write(bytes(65_536 + 10))
        notes.append(list(protocol.events))
        transport.set_write_buffer_limits(high=5)
        notes.append(list(protocol.events))
        transport.abort()
        await until(lambda: protocol.lost)
        reader.close()
        return notes, protocol.events

    notes, events = on_both(scenario)
    assert notes[0] == (250, 1000)
    assert events == ["made", "pause", "resume", "pause", "lost"]


@pytest.mark.parametrize(
    "limits",
    [{}, {"high": 10}, {"low": 10}, {"high": 5, "low": 9}, {"low": -1}, {"high": 0}],
)
def test_limits(limits: dict[str, int]) -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        answer = call(transport.set_write_buffer_limits, **limits)
        found = transport.get_write_buffer_limits()
        transport.close()
        await until(lambda: protocol.lost)
        reader.close()
        return answer, found

    on_both(scenario)


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_failing_flow_control(method: str) -> None:
    class Failing(Recorder):
        pass

    def fail(self: Any) -> None:
        raise ZeroDivisionError

    setattr(Failing, method, fail)

    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        protocol, transport, reader = await writing(loop, Failing)
        transport.write(MEGABYTE)
        assert await drain(reader, len(MEGABYTE)) == MEGABYTE
        transport.close()
        await until(lambda: protocol.lost)
        reader.close()
        return [described_report(report) for report in reports], protocol.events

    on_both(scenario)


def test_write_in_resume_writing(fast_loop: Loop) -> None:
    """asyncio calls connection_lost() twice."""

    class Going(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"last words")
            self.transport.close()

    async def scenario() -> None:
        protocol, transport, reader = await writing(fast_loop, Going)
        transport.write(MEGABYTE)
        data = await drain(reader, len(MEGABYTE) + 10)
        assert data == MEGABYTE + b"last words"
        await until(lambda: protocol.lost)
        reader.close()

    fast_loop.run_until_complete(scenario())


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_end_of_writing_waits_for_what_was_written(end: str) -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        transport.write(MEGABYTE)
        notes: list[Any] = [transport.can_write_eof(), transport.is_closing()]
        getattr(transport, end)()
        getattr(transport, end)()
        notes.append(transport.is_closing())
        transport.write(b"too late")
        await turns()
        notes.append(protocol.lost)
        received = await drain(reader, len(MEGABYTE))
        await until(lambda: protocol.lost)
        notes += [received == MEGABYTE, os.read(reader.fd, 10), protocol.events]
        notes.append(transport.get_extra_info("pipe").closed)
        reader.close()
        return notes, protocol.lost_with

    on_both(scenario)


def test_abort_drops_what_was_written() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        transport.write(MEGABYTE)
        transport.abort()
        notes = [transport.is_closing(), transport.get_write_buffer_size()]
        await until(lambda: protocol.lost)
        await turns(1)
        size = len(await drain(reader, 65_536))
        notes += [size, os.read(reader.fd, 10), transport.get_protocol()]
        reader.close()
        return notes, protocol.events, protocol.lost_with

    on_both(scenario)


@pytest.mark.parametrize("unsent", [False, True])
def test_reader_goes_away(unsent: bool) -> None:
    """It is noticed without a write."""

    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        if unsent:
            transport.write(MEGABYTE)
        reader.close()
        await until(lambda: protocol.lost)
        await turns(1)
        return protocol.events, described(protocol.lost_with)

    on_both(scenario)


def test_reader_goes_away_while_closing() -> None:
    async def scenario(loop: Loop) -> Any:
        protocol, transport, reader = await writing(loop)
        transport.write(MEGABYTE)
        transport.close()
        await turns(2)
        reader.close()
        await until(lambda: protocol.lost)
        return protocol.events, described(protocol.lost_with)

    on_both(scenario)


def test_write_to_a_broken_pipe(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: Loop) -> Any:
        caplog.clear()
        protocol, transport, reader = await writing(loop)
        reader.close()
        for _ in range(8):
            transport.write(b"data")
        closing = transport.is_closing()
        await until(lambda: protocol.lost)
        warned = [record.getMessage() for record in caplog.records]
        return closing, protocol.events, described(protocol.lost_with), warned

    assert on_both(scenario)[2][0] is BrokenPipeError


def test_write_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: Loop) -> Any:
        caplog.clear()
        protocol, transport, reader = await writing(loop)
        transport.close()
        for _ in range(8):
            transport.write(b"data")
        await until(lambda: protocol.lost)
        transport.write(b"data")
        transport.close()
        transport.write_eof()
        transport.get_write_buffer_size()
        reader.close()
        return protocol.events, [record.getMessage() for record in caplog.records]

    assert len(on_both(scenario)[1]) == 4


def test_idle_pipes_cost_nothing(fast_loop: Loop) -> None:
    async def scenario() -> None:
        one, reads, writer = await reading(fast_loop)
        two, writes, reader = await writing(fast_loop)
        writes.write(MEGABYTE)
        assert await asleep()
        reads.pause_reading()
        os.write(writer.fd, b"data")
        assert await asleep()
        reads.close()
        writes.abort()
        await until(lambda: one.lost and two.lost)
        reader.close()
        writer.close()

    fast_loop.run_until_complete(scenario())


# --- kinds of pipes -------------------------------------------------------------------


def test_fifo(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def scenario() -> None:
        reader = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0)
        writer = os.fdopen(os.open(path, os.O_WRONLY), "wb", 0)
        _, source = await loop.connect_read_pipe(Recorder, reader)
        transport, sink = await loop.connect_write_pipe(Recorder, writer)
        transport.write(MEGABYTE)
        await until(lambda: len(source.data) == len(MEGABYTE))
        assert not sink.lost
        transport.close()
        await until(lambda: source.lost and sink.lost)
        assert source.data == MEGABYTE
        assert reader.closed
        assert writer.closed

    loop.run_until_complete(scenario())


def test_sockets(loop: Loop) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        transport, source = await loop.connect_read_pipe(Recorder, left)
        sink_transport, sink = await loop.connect_write_pipe(Recorder, right)
        sink_transport.write(b"data")
        await until(lambda: source.data == b"data")
        transport.close()
        await until(lambda: source.lost and sink.lost)
        assert left.fileno() == right.fileno() == -1

    loop.run_until_complete(scenario())


def test_terminal() -> None:
    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        master, slave = pty.openpty()
        tty.setraw(slave)
        # both directions of one descriptor
        _, source = await loop.connect_read_pipe(Recorder, Pipe(os.dup(master)))
        writes, sink = await loop.connect_write_pipe(Recorder, Pipe(master))
        os.write(slave, b"shown")
        await until(lambda: source.data == b"shown")
        writes.write(b"typed")
        typed = os.read(slave, 100)
        os.close(slave)
        await until(lambda: source.lost)
        writes.close()
        await until(lambda: sink.lost)
        lost = described(source.lost_with), sink.lost_with
        return typed, source.events, sink.events, lost, reports

    on_both(scenario)


def test_null_device_takes_all(loop: Loop) -> None:
    async def scenario() -> None:
        null = os.fdopen(os.open(os.devnull, os.O_WRONLY), "wb", 0)
        transport, protocol = await loop.connect_write_pipe(Recorder, null)
        transport.write(MEGABYTE)
        assert transport.get_write_buffer_size() == 0
        transport.close()
        await until(lambda: protocol.lost)
        assert null.closed

    loop.run_until_complete(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="epoll")
def test_device_that_cannot_be_waited_for() -> None:
    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        device = Pipe(os.open("/dev/zero", os.O_RDONLY))
        transport, protocol = await loop.connect_read_pipe(Recorder, device)
        await turns(2)
        failures = [described(report["exception"])[::2] for report in reports]
        transport.pause_reading()
        again = call(transport.resume_reading)
        transport.close()
        await until(lambda: protocol.lost)
        return failures, again[0], protocol.events, device.closed

    on_both(scenario)


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_regular_file_is_refused(method: str, tmp_path: Path) -> None:
    async def scenario(loop: Loop) -> Any:
        with open(tmp_path / "file", "wb+") as file:
            answer = await outcome(getattr(loop, method)(Recorder, file))
            return answer, file.closed

    assert on_both(scenario)[0][0] is ValueError


@pytest.mark.parametrize("method", ["_open_read_pipe", "_open_write_pipe"])
def test_what_is_no_pipe(fast_loop: Any, method: str) -> None:
    """asyncio's errors; but the transport, which was never one, warns of nothing."""
    connect = getattr(fast_loop, method)
    with pytest.raises(AttributeError):
        connect(5, Recorder(), None)
    closed = Pipe(-1)
    with pytest.raises((OSError, ValueError)):
        connect(closed, Recorder(), None)
    assert closed.closed == 0

    class Odd:
        def fileno(self) -> str:
            return "three"

    with pytest.raises(TypeError):
        connect(Odd(), Recorder(), None)
    with pytest.raises(TypeError):
        connect(closed, Recorder())
    fast_loop.close()
    reader, writer = pipe()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        connect(reader, Recorder(), None)
    reader.close()
    writer.close()


# --- about the transports -------------------------------------------------------------


def test_kinds_of_transport(loop: Loop) -> None:
    async def scenario() -> None:
        one, reads, writer = await reading(loop)
        two, writes, reader = await writing(loop)
        for base in asyncio.BaseTransport, asyncio.ReadTransport:
            assert isinstance(reads, base)
        assert not isinstance(reads, asyncio.WriteTransport)
        for base in asyncio.BaseTransport, asyncio.WriteTransport, asyncio.Transport:
            assert isinstance(writes, base)
        reads.attribute = writes.attribute = 5
        assert weakref.ref(reads)() is reads
        reads.close()
        writes.close()
        await until(lambda: one.lost and two.lost)
        reader.close()
        writer.close()

    loop.run_until_complete(scenario())


def test_extra_info(loop: Loop) -> None:
    async def scenario() -> None:
        protocol, transport, writer = await reading(loop)
        known = transport.get_extra_info("pipe")
        assert isinstance(known, Pipe)
        assert transport.get_extra_info("pipe", 5) is known
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("peername", default=5) == 5
        writer.close()
        await until(lambda: protocol.lost)
        assert transport.get_extra_info("pipe") is known

    loop.run_until_complete(scenario())


def test_repr(fast_loop: Loop) -> None:
    async def scenario() -> None:
        one, reads, writer = await reading(fast_loop)
        two, writes, reader = await writing(fast_loop)
        fd = reads.get_extra_info("pipe").fd
        assert repr(reads) == f"<ReadPipeTransport fd={fd} polling>"
        reads.pause_reading()
        assert repr(reads) == f"<ReadPipeTransport fd={fd} idle>"
        reads.close()
        assert repr(reads) == f"<ReadPipeTransport closing fd={fd} idle>"
        await until(lambda: one.lost)
        await turns(1)
        assert repr(reads) == f"<ReadPipeTransport closed fd={fd} closed>"
        fd = writes.get_extra_info("pipe").fd
        assert repr(writes) == f"<WritePipeTransport fd={fd} idle bufsize=0>"
        writes.write(bytes(65_536 + 7))
        assert repr(writes) == f"<WritePipeTransport fd={fd} polling bufsize=7>"
        writes.abort()
        await until(lambda: two.lost)
        reader.close()
        writer.close()

    fast_loop.run_until_complete(scenario())


def test_cannot_be_made_by_hand() -> None:
    for kind in fastloop.ReadPipeTransport, fastloop.WritePipeTransport:
        with pytest.raises(TypeError):
            kind()
        with pytest.raises(TypeError):
            object.__new__(kind)


# --- who closes the descriptor --------------------------------------------------------


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_cancelled_at_every_step(loop: Loop, method: str, steps: int) -> None:
    reader, writer = pipe()
    loop.add_reader(reader, print)  # the loop has all that it needs
    loop.remove_reader(reader)
    reader.close()
    writer.close()
    loop.run_until_complete(turns(1))
    before = descriptors()

    async def scenario() -> None:
        ends = pipe()
        mine, other = ends if "read" in method else ends[::-1]
        task = asyncio.ensure_future(getattr(loop, method)(Recorder, mine))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        result = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result[0], tuple):
            result[0][0].close()
        await turns(2)
        if steps == 0:
            assert mine.closed == 0  # it was never looked at
            mine.close()
        assert mine.closed == 1
        other.close()

    loop.run_until_complete(scenario())
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pipe_that_fails_to_close() -> None:
    class Stubborn(Pipe):
        def close(self) -> None:
            super().close()
            raise OSError(5, "no")

    async def scenario(loop: Loop) -> Any:
        reports = collect_reports(loop)
        reader, writer = pipe()
        stubborn = Stubborn(reader.fd)
        transport, protocol = await loop.connect_read_pipe(Recorder, stubborn)
        transport.close()
        await until(lambda: stubborn.closed)
        await turns(2)
        writer.close()
        found = [described(report["exception"]) for report in reports]
        return found, protocol.events, stubborn.closed

    on_both(scenario)
    gc.collect()  # asyncio's transport wants to close it once more


def test_number_that_the_user_closes(fast_loop: Loop) -> None:
    """The transport does no harm to whoever has the number next."""

    async def scenario() -> None:
        protocol, transport, writer = await reading(fast_loop)
        pipe = transport.get_extra_info("pipe")
        fd = pipe.fd
        os.close(fd)
        left, right = socket.socketpair()
        mine = socket.socket(fileno=os.dup2(left.detach(), fd))
        ready = fast_loop.create_future()
        fast_loop.add_reader(mine, lambda: ready.done() or ready.set_result(None))
        pipe.fd = -1
        transport.close()
        await until(lambda: protocol.lost)
        right.send(b"x")
        await asyncio.wait_for(ready, 5)
        fast_loop.remove_reader(mine)
        for sock in mine, right:
            sock.close()
        writer.close()

    fast_loop.run_until_complete(scenario())


def test_closing_the_loop_closes_the_pipes() -> None:
    loop = opened(fastloop.new_event_loop())
    before = descriptors()
    one, reads, writer = loop.run_until_complete(reading(loop))
    two, writes, reader = loop.run_until_complete(writing(loop))
    writes.write(MEGABYTE)
    with pytest.warns(ResourceWarning, match="unclosed transport") as warned:
        loop.close()
    assert len([w for w in warned if "PipeTransport" in str(w.message)]) == 2
    for transport in reads, writes:
        assert transport.get_extra_info("pipe").closed == 1
        assert transport.is_closing()
        transport.close()
        assert transport.get_protocol() is None
    assert one.events == two.events[:1] == ["made"]
    reads.pause_reading()
    reads.resume_reading()
    writes.write(b"data")
    writes.abort()
    writes.set_write_buffer_limits(1)
    reader.close()
    writer.close()
    del one, two
    gc.collect()
    assert descriptors() < before


def test_loop_closed_before_connection_made() -> None:
    loop = fastloop.new_event_loop()
    reader, writer = pipe()
    recorder = Recorder()
    loop._open_read_pipe(reader, recorder, None)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert reader.closed == 1
    assert recorder.events == []
    writer.close()


def test_loop_closed_before_connection_lost() -> None:
    loop = fastloop.new_event_loop()
    _, transport, writer = loop.run_until_complete(reading(loop))
    transport.close()
    loop.close()
    assert transport.get_extra_info("pipe").closed == 1
    writer.close()


@isolated
def test_everything_forgotten_at_once() -> None:
    import warnings

    warnings.simplefilter("ignore", ResourceWarning)
    for _ in range(3):
        loop = fastloop.new_event_loop()
        one, reads, writer = loop.run_until_complete(reading(loop))
        two, writes, reader = loop.run_until_complete(writing(loop))
        writes.write(MEGABYTE)
        one.cycle = two.cycle = loop
        watched = weakref.ref(loop)
        del loop, one, two, reads, writes
        gc.collect()
        assert watched() is None
        reader.close()
        writer.close()


def test_pipes_open_when_the_interpreter_ends() -> None:
    code = """
import asyncio, fastloop, os
async def main():
    global kept
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe()
    kept = [await loop.connect_read_pipe(asyncio.Protocol, open(reader, "rb", 0)),
            await loop.connect_write_pipe(asyncio.Protocol, open(writer, "wb", 0))]
    kept[1][0].write(bytes(1 << 20))
loop = fastloop.new_event_loop()
loop.run_until_complete(main())
print("end")
"""
    result = run_python("-W", "ignore", "-c", code)
    assert (result.returncode, result.stdout) == (0, "end\n"), result.stderr
