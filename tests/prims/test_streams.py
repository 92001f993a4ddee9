"""StreamReader, StreamWriter and StreamReaderProtocol.

What they do on connections is in tests/io; this is about the objects.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import re
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from core.support import collect_reports, refs_lost, within

import fastloop

from .support import outcome, turns

Loop = asyncio.AbstractEventLoop
TYPES = ["StreamReader", "StreamReaderProtocol", "StreamWriter"]


class Transport(asyncio.Transport):
    """Notes what it is asked for."""

    def __init__(self, can_pause: bool = True) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.can_pause = can_pause
        self.closing = False

    def pause_reading(self) -> None:
        self.asked.append("pause")
        if not self.can_pause:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def write(self, data: Any) -> None:
        self.asked.append(bytes(data))

    def writelines(self, data: Any) -> None:
        self.asked.append(list(data))

    def write_eof(self) -> None:
        self.asked.append("eof")

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.asked.append("close")
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


def make_reader(lib: Any, loop: Loop, *chunks: bytes, limit: int = 65536) -> Any:
    reader = lib.StreamReader(limit=limit, loop=loop)
    for chunk in chunks:
        reader.feed_data(chunk)
    return reader


def make_stream(lib: Any, loop: Loop) -> tuple[Any, Any, Any, Transport]:
    """A reader, its protocol, a writer and their transport."""
    reader = lib.StreamReader(loop=loop)
    protocol = lib.StreamReaderProtocol(reader, loop=loop)
    transport = Transport()
    protocol.connection_made(transport)
    return (
        reader,
        protocol,
        lib.StreamWriter(transport, protocol, reader, loop),
        transport,
    )


# --- the data is not copied -----------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "read"),
    [
        ([b"x" * 999 + b"\n"], lambda r: r.read(1000)),
        ([b"x" * 999 + b"\n"], lambda r: r.read(10**6)),
        ([b"x" * 999 + b"\n"], lambda r: r.readexactly(1000)),
        ([b"x" * 999 + b"\n"], lambda r: r.readline()),
        ([b"x" * 999 + b"\n"], lambda r: r.readuntil(b"x\n")),
        ([b"x" * 999 + b"\n"], lambda r: r.readuntil((b"yy", b"\n"))),
        ([b"x" * 999 + b"\n"], anext),
        ([b"x" * 999 + b"\n", b"y" * 1000], lambda r: r.read(1000)),
        ([b"x" * 999 + b"\n", b"y" * 1000], lambda r: r.readline()),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_the_very_object(
    loop: Loop, chunks: list[bytes], read: Callable[[Any], Any], before: bool
) -> None:
    async def main() -> None:
        reader = make_reader(fastloop, loop, *(chunks if before else []))
        task = asyncio.ensure_future(read(reader))
        await turns(1)
        for chunk in [] if before else chunks:
            reader.feed_data(chunk)
        assert await within(task) is chunks[0]

    loop.run_until_complete(main())


def test_one_object_after_the_other(loop: Loop) -> None:
    async def main() -> None:
        chunks = [bytes([65 + i]) * 1000 for i in range(20)]
        reader = make_reader(fastloop, loop, *chunks)
        for chunk in chunks:
            assert await reader.read(1000) is chunk
        assert not reader._buffer

    loop.run_until_complete(main())


def test_several_separators(loop: Loop) -> None:
    """On every version; asyncio has them from 3.13."""

    async def main() -> None:
        reader = make_reader(fastloop, loop, b"one;two\nthree\n;four")
        separators = (b"\n;", b"\n", b";")
        for expected in (b"one;", b"two\n", b"three\n", b";"):
            assert await reader.readuntil(separators) == expected
        reader.feed_eof()
        got = await outcome(reader.readuntil(separators))
        assert got[0] == "IncompleteReadError" and reader.at_eof()
        for wrong in ((), (b"",), (b"x", b"")):
            assert (await outcome(reader.readuntil(wrong)))[0] == "ValueError"

    loop.run_until_complete(main())


@pytest.mark.parametrize("shown", [False, True])
def test_a_separator_that_empties_the_buffer(loop: Loop, shown: bool) -> None:
    """Its length is asked for when it has been found, which may run code that reads."""

    class Separator(bytearray):
        asked = 0

        def __len__(self) -> int:
            self.asked += 1
            if self.asked == when:
                with pytest.raises(StopIteration):
                    reader.read(1000).send(None)
            return super().__len__()

    async def main() -> None:
        nonlocal reader, when
        for number in range(1, 7):
            when = number
            reader = make_reader(fastloop, loop, b"x" * 600, b"y" * 600 + b"\n")
            if shown:
                assert len(reader._buffer) == 1201
            got = await outcome(within(reader.readuntil((Separator(b"\n"),))))
            assert got[0] == "result" and (b"x" * 600 + b"y" * 600).endswith(
                got[1][:-1]
            )

    when = 0
    reader: Any = None
    loop.run_until_complete(main())


@pytest.mark.parametrize("limit", [-1, -(2**63), -(2**100), -0.5, -1e300, 0])
def test_a_limit_that_was_set_to_nothing(
    loop: Loop, lib: ModuleType, limit: Any
) -> None:
    async def main() -> None:
        reader = make_reader(lib, loop)
        reader._limit = limit
        transport = Transport()
        reader.set_transport(transport)
        reader.feed_data(b"a\nb")
        assert transport.asked == ["pause"]
        assert (await outcome(reader.readuntil()))[0] == "LimitOverrunError"
        assert await reader.read(3) == b"a\nb"
        assert transport.asked == ["pause"] + ["resume"] * (limit == 0)

    loop.run_until_complete(main())


def test_what_is_no_bytes_is_copied(loop: Loop, lib: ModuleType) -> None:
    class Bytes(bytes):
        pass

    async def main() -> None:
        reader = make_reader(lib, loop)
        data = bytearray(b"ab")
        reader.feed_data(data)
        data[:] = b"xy"
        for more in (Bytes(b"cd"), memoryview(b"ef"), [103, 104], b"", bytearray()):
            reader.feed_data(more)
        read = await reader.readexactly(8)
        assert read == b"abcdefgh" and type(read) is bytes

    loop.run_until_complete(main())


@pytest.mark.parametrize("data", [None, 0, 3, "ab", ["a"], [256], object()])
def test_what_cannot_be_fed(loop: Loop, lib: ModuleType, data: Any) -> None:
    def feed(kind: Any) -> Any:
        try:
            return kind(loop=loop).feed_data(data)
        except Exception as exc:
            return type(exc), str(exc)

    assert feed(lib.StreamReader) == feed(asyncio.StreamReader)


def test_single_bytes_take_no_object_each(loop: Loop) -> None:
    reader = make_reader(fastloop, loop, limit=2**20)
    reader.feed_data(b"x")
    before = sys.getallocatedblocks()
    for _ in range(100_000):
        reader.feed_data(b"x")
    assert sys.getallocatedblocks() - before < 2000
    reader.feed_eof()
    assert loop.run_until_complete(reader.read()) == b"x" * 100_001


# --- the buffer as others see it ------------------------------------------------------


def test_buffer(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        reader = make_reader(lib, loop, b"one\n", b"two\n")
        buffer = reader._buffer
        assert type(buffer) is bytearray and buffer == b"one\ntwo\n"
        assert reader._buffer is buffer
        assert await reader.readline() == b"one\n"
        assert buffer == b"two\n"
        del buffer[:2]
        buffer.extend(b"three\n")
        reader.feed_data(b"four\n")
        assert buffer == b"o\nthree\nfour\n"
        assert [await reader.readline() for _ in range(3)] == [
            b"o\n",
            b"three\n",
            b"four\n",
        ]
        reader._buffer = bytearray(b"new")
        assert await reader.read(2) == b"ne"
        assert reader._buffer == b"w"

    loop.run_until_complete(main())


def test_a_view_of_the_buffer_keeps_it(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        reader = make_reader(lib, loop, b"one\ntwo\n")
        with memoryview(reader._buffer):
            for read in (reader.read(3), reader.readline()):
                assert (await outcome(read))[0] == "BufferError"
            with pytest.raises(BufferError):
                reader.feed_data(b"more")
        assert await reader.readline() == b"one\n"

    loop.run_until_complete(main())


def test_wrong_attributes(loop: Loop) -> None:
    reader = make_reader(fastloop, loop)
    for name, value in {"_buffer": b"", "_limit": "3"}.items():
        with pytest.raises(TypeError):
            setattr(reader, name, value)
    for name in ("_buffer", "_limit", "_eof", "_paused", "_waiter", "_transport"):
        with pytest.raises((AttributeError, TypeError)):
            delattr(reader, name)
    _, protocol, writer, transport = make_stream(fastloop, loop)
    for thing, name in ((protocol, "_paused"), (protocol, "_drain_waiters")):
        with pytest.raises(AttributeError):
            delattr(thing, name)
    with pytest.raises(AttributeError):
        writer.transport = transport
    transport.closing = True


# --- construction ---------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, False, -0.5])
def test_limit_of_nothing(loop: Loop, lib: ModuleType, limit: Any) -> None:
    with pytest.raises(ValueError, match="Limit cannot be <= 0"):
        lib.StreamReader(limit=limit, loop=loop)


@pytest.mark.parametrize("limit", [2**100, float("inf"), 10.5])
def test_odd_limits(loop: Loop, lib: ModuleType, limit: Any) -> None:
    async def main() -> None:
        reader = lib.StreamReader(limit, loop)
        assert reader._limit == limit
        transport = Transport()
        reader.set_transport(transport)
        reader.feed_data(b"x" * 21)
        assert transport.asked == []
        reader.feed_data(b"\n")
        assert transport.asked == (["pause"] if limit == 10.5 else [])
        got = await outcome(reader.readuntil())
        assert got[0] == ("LimitOverrunError" if limit == 10.5 else "result")

    loop.run_until_complete(main())


# asyncio's writer fails in __del__ if it has failed in __init__
half_made = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@half_made
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("args", [(1, 2, 3, 4, 5), ("limit",), ()])
def test_wrong_arguments(loop: Loop, lib: ModuleType, kind: str, args: Any) -> None:
    if (kind, args) == ("StreamReader", ()):
        args = (1, loop, 3)
    if (kind, args) == ("StreamReaderProtocol", ("limit",)):
        args = ("no weak reference to it", None, loop)
    with pytest.raises(TypeError):
        getattr(lib, kind)(*args)


@half_made
def test_a_writer_of_no_reader(loop: Loop, lib: ModuleType) -> None:
    with pytest.raises(AssertionError):
        lib.StreamWriter(Transport(), None, object(), loop)


def test_reprs(loop: Loop, lib: ModuleType) -> None:
    class Plain(Transport):
        def __repr__(self) -> str:
            return "<transport>"

    reader = make_reader(lib, loop)
    assert repr(reader) == "<StreamReader>"
    reader.feed_data(b"123")
    reader.feed_eof()
    reader.set_exception(ValueError("x"))
    reader.set_transport(Plain())
    expected = "<StreamReader 3 bytes eof exception=ValueError('x')"
    assert repr(reader) == f"{expected} transport=<transport>>"
    reader._limit, reader._paused = 4, True
    assert "limit=4" in repr(reader) and repr(reader).endswith(" paused>")
    transport = Plain()
    writer = lib.StreamWriter(transport, None, None, loop)
    assert repr(writer) == "<StreamWriter transport=<transport>>"
    transport.closing = True
    writer = type("Mine", (lib.StreamWriter,), {})(transport, None, reader, loop)
    assert repr(writer) == f"<Mine transport=<transport> reader={reader!r}>"


def test_initialised_again(loop: Loop, lib: ModuleType) -> None:
    reader = make_reader(lib, loop, b"abc")
    reader.feed_eof()
    reader.__init__(limit=7, loop=loop)
    assert repr(reader) == "<StreamReader limit=7>"
    assert not reader.at_eof()


def test_without_init(loop: Loop) -> None:
    """Nothing but an exception comes of it."""

    async def main() -> None:
        reader = fastloop.StreamReader.__new__(fastloop.StreamReader)
        assert (await outcome(reader.read(1)))[0] == "RuntimeError"
        reader.feed_data(b"ab")
        assert await reader.read(1) == b"a"
        assert reader.at_eof() is False and repr(reader)
        with pytest.raises(AttributeError):
            reader._paused = True
            await reader.read(1)
        writer = fastloop.StreamWriter.__new__(fastloop.StreamWriter)
        protocol = fastloop.StreamReaderProtocol.__new__(fastloop.StreamReaderProtocol)
        for call in (
            lambda: writer.write(b""),
            lambda: writer.writelines([]),
            writer.close,
            writer.is_closing,
            writer.can_write_eof,
            lambda: writer.get_extra_info("x"),
            lambda: writer._complete_fut,
            protocol.resume_writing,
            lambda: protocol.connection_made(None),
        ):
            with pytest.raises((AttributeError, AssertionError)):
                call()
        for coro in (writer.drain(), writer.wait_closed()):
            assert (await outcome(coro))[0] in ("AttributeError", "TypeError")
        repr(writer), repr(protocol)
        protocol.data_received(b"x")
        protocol.eof_received()
        protocol.pause_writing()
        assert (await outcome(protocol._drain_helper()))[0] == "AttributeError"
        protocol.connection_lost(None)
        assert (await outcome(protocol._drain_helper()))[0] == "ConnectionResetError"

    loop.run_until_complete(main())


def test_debug_mode_remembers_where(lib: ModuleType, fast_loop: Loop) -> None:
    fast_loop.set_debug(True)
    reader = make_reader(lib, fast_loop)
    assert reader._source_traceback[-2].name == "make_reader" or (
        reader._source_traceback[-1].name == "make_reader"
    )
    protocol = lib.StreamReaderProtocol(reader, loop=fast_loop)
    assert protocol._source_traceback is reader._source_traceback
    fast_loop.set_debug(False)
    assert make_reader(lib, fast_loop)._source_traceback is None


def test_the_current_loop(lib: ModuleType, loop: Loop) -> None:
    async def main() -> None:
        reader = lib.StreamReader()
        protocol = lib.StreamReaderProtocol(reader)
        assert reader._loop is protocol._loop is loop

    loop.run_until_complete(main())


def test_they_cannot_be_pickled(loop: Loop) -> None:
    reader, protocol, writer, transport = make_stream(fastloop, loop)
    for thing in (reader, protocol, writer):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    transport.closing = True


# --- coroutines -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda r, w: r.read(),
        lambda r, w: r.readline(),
        lambda r, w: r.readexactly(3),
        lambda r, w: r.readuntil(),
        lambda r, w: r.__anext__(),
        lambda r, w: w.drain(),
        lambda r, w: w.wait_closed(),
    ],
)
def test_coroutines(loop: Loop, lib: ModuleType, call: Callable[..., Any]) -> None:
    """They begin when they are awaited, and it is noticed if they are not."""
    reader, _, writer, transport = make_stream(lib, loop)
    reader.feed_data(b"ab\n")
    coro = call(reader, writer)
    assert asyncio.iscoroutine(coro)
    assert re.match("Stream(Reader|Writer)[.]", coro.__qualname__)
    coro.close()
    with pytest.warns(RuntimeWarning, match="was never awaited"):
        call(reader, writer)
        gc.collect()
    assert reader._buffer == b"ab\n"
    transport.closing = True


def test_a_drain_looks_when_it_is_awaited(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        _, protocol, writer, transport = make_stream(lib, loop)
        drain = writer.drain()
        protocol.pause_writing()
        task = asyncio.ensure_future(drain)
        await turns(2)
        assert not task.done()
        protocol.resume_writing()
        assert await within(task) is None
        transport.closing = True

    loop.run_until_complete(main())


WAITS = [
    lambda r: r.read(3),
    lambda r: r.read(),
    lambda r: r.readline(),
    lambda r: r.readexactly(3),
    lambda r: r.readuntil(b"xx"),
    lambda r: r.__anext__(),
    lambda r: r._wait_for_data("test"),
]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("how", ["cancel", "close", "drop", "fail", "both"])
def test_a_wait_that_ends_otherwise(
    loop: Loop, lib: ModuleType, wait: Callable[[Any], Any], how: str
) -> None:
    """Then nobody waits, no data is lost, and the next one may."""

    async def main() -> None:
        reader = make_reader(lib, loop)
        if how in ("close", "drop"):
            coro = wait(reader)
            coro.send(None)
            assert reader._waiter is not None
            if how == "close":
                coro.close()
            del coro
        else:
            task = asyncio.ensure_future(wait(reader))
            await turns(1)
            assert reader._waiter is not None
            if how == "fail":
                reader.set_exception(OSError("x"))
            if how == "both":
                reader.feed_data(b"one")
            if how != "fail":
                task.cancel("stop")
            kind, args = await outcome(task)
            assert kind == ("OSError" if how == "fail" else "CancelledError")
            assert args == (("x",) if how == "fail" else ("stop",))
        assert reader._waiter is None
        if how == "fail":
            assert await outcome(reader.read(1)) == ("OSError", ("x",))
            reader._exception = None
        reader.feed_data(b"two\n")
        assert (await reader.readline()).endswith(b"two\n")

    loop.run_until_complete(main())


def test_an_exception_that_is_a_class(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        reader, _, writer, transport = make_stream(lib, loop)
        reader.set_exception(OSError)
        assert await outcome(reader.read(1)) == ("OSError", ())
        assert await outcome(reader.readline()) == ("OSError", ())
        assert await outcome(writer.drain()) == ("OSError", ())
        reader._exception = "none at all"
        assert (await outcome(reader.read(1)))[0] == "TypeError"
        assert (await outcome(writer.drain()))[0] == "TypeError"
        transport.closing = True

    loop.run_until_complete(main())


# --- flow control of reading ----------------------------------------------------------


def test_a_transport_is_paused(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        reader = make_reader(lib, loop, limit=3)
        transport = Transport()
        reader.set_transport(transport)
        with pytest.raises(AssertionError, match="Transport already set"):
            reader.set_transport(transport)
        reader.feed_data(b"123456")
        assert transport.asked == []
        reader.feed_data(b"7")
        reader.feed_data(b"8")
        assert transport.asked == ["pause"] and reader._paused
        assert await reader.read(4) == b"1234"
        assert transport.asked == ["pause"]
        assert await reader.read(1) == b"5"
        assert transport.asked == ["pause", "resume"] and not reader._paused

    loop.run_until_complete(main())


def test_waiting_resumes_a_paused_transport(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        reader = make_reader(lib, loop, limit=3)
        transport = Transport()
        reader.set_transport(transport)
        reader.feed_data(b"1234567")
        task = asyncio.ensure_future(reader.readexactly(10))
        await turns(1)
        assert transport.asked == ["pause", "resume"]
        reader.feed_data(b"890")
        assert await within(task) == b"1234567890"

    loop.run_until_complete(main())


def test_a_transport_that_cannot_be_paused(loop: Loop, lib: ModuleType) -> None:
    reader = make_reader(lib, loop, limit=3)
    transport = Transport(can_pause=False)
    reader.set_transport(transport)
    reader.feed_data(b"1234567")
    reader.feed_data(b"1234567")
    assert transport.asked == ["pause"]
    assert reader._transport is None and not reader._paused


def test_a_transport_that_fails_to_pause(loop: Loop, lib: ModuleType) -> None:
    reader = make_reader(lib, loop, limit=3)
    transport = mock.Mock()
    transport.pause_reading.side_effect = OSError("x")
    transport.resume_reading.side_effect = OSError("y")
    reader.set_transport(transport)
    with pytest.raises(OSError, match="x"):
        reader.feed_data(b"1234567")
    assert not reader._paused and reader._buffer == b"1234567"
    reader._paused = True
    got = loop.run_until_complete(outcome(reader.read(7)))
    assert got == ("OSError", ("y",)) and not reader._paused


# --- overriding -----------------------------------------------------------------------


def test_a_readuntil_of_ones_own(loop: Loop, lib: ModuleType) -> None:
    class Reader(lib.StreamReader):  # type: ignore[name-defined,misc]
        answers: Iterator[Any]

        async def readuntil(self, separator: bytes = b"\n") -> Any:
            assert separator == b"\n"
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    async def main() -> None:
        reader = Reader(loop=loop, limit=100)
        reader.feed_data(b"one\ntwo\n")
        incomplete = asyncio.IncompleteReadError(b"part", None)
        overrun = asyncio.LimitOverrunError("too long", 3)
        reader.answers = iter(
            [b"mine", b"its", incomplete, overrun, overrun, OSError("x"), b""]
        )
        assert await reader.readline() == b"mine"
        assert await anext(reader) == b"its"
        assert await reader.readline() == b"part"
        assert await outcome(reader.readline()) == ("ValueError", ("too long",))
        assert reader._buffer == b"two\n"
        assert await outcome(reader.readline()) == ("ValueError", ("too long",))
        assert await outcome(reader.readline()) == ("OSError", ("x",))
        assert [line async for line in reader] == []

    loop.run_until_complete(main())


def test_other_methods_of_ones_own(loop: Loop, lib: ModuleType) -> None:
    called: list[str] = []

    class Reader(lib.StreamReader):  # type: ignore[name-defined,misc]
        async def _wait_for_data(self, func_name: str) -> None:
            called.append(f"wait {func_name}")
            await super()._wait_for_data(func_name)

        def _wakeup_waiter(self) -> None:
            called.append("wakeup")
            super()._wakeup_waiter()

        def _maybe_resume_transport(self) -> None:
            called.append("resume")
            super()._maybe_resume_transport()

        async def read(self, n: int = -1) -> bytes:
            called.append(f"read {n}")
            return await super().read(n)  # type: ignore[no-any-return]

        def readline(self) -> Any:
            called.append("readline")
            return super().readline()

    async def main() -> None:
        reader = Reader(loop=loop, limit=4)
        task = asyncio.ensure_future(anext(reader))
        await turns(2)
        reader.feed_data(b"a\nb")
        assert await within(task) == b"a\n"
        assert called == ["readline", "wait readuntil", "wakeup", "resume"]
        called.clear()
        task = asyncio.ensure_future(reader.read())
        await turns(3)
        reader.feed_data(b"cdefgh")
        reader.feed_eof()
        assert await within(task) == b"bcdefgh"
        assert called == [
            *("read -1", "read 4", "resume"),
            *("read 4", "wait read", "wakeup", "wakeup", "resume"),
            *("read 4", "resume", "read 4", "resume"),
        ]

    loop.run_until_complete(main())


@pytest.mark.parametrize("where", ["class", "instance", "subclass"])
def test_a_protocol_that_feeds_an_overridden_reader(
    loop: Loop, lib: ModuleType, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = lib.StreamReader
    if where == "subclass":
        kind = type("Reader", (kind,), {})
    reader = kind(loop=loop)
    protocol = lib.StreamReaderProtocol(reader, loop=loop)
    protocol.data_received(b"before")
    target = reader if where == "instance" else kind
    for name in ("feed_data", "feed_eof", "set_exception", "set_transport"):
        monkeypatch.setattr(target, name, mock.Mock())
    transport = Transport()
    protocol.connection_made(transport)
    protocol.data_received(b"x")
    protocol.eof_received()
    assert reader._buffer == b"before"
    reader.set_transport.assert_called_once_with(transport)
    reader.feed_data.assert_called_once_with(b"x")
    reader.feed_eof.assert_called_once_with()
    exc = OSError()
    protocol.connection_lost(exc)
    reader.set_exception.assert_called_once_with(exc)
    protocol._closed.exception()


def test_a_reader_of_anybodys(loop: Loop, lib: ModuleType) -> None:
    reader = mock.Mock(_source_traceback=None)
    protocol = lib.StreamReaderProtocol(reader, loop=loop)
    protocol.connection_made(mock.Mock())
    protocol.data_received(b"x")
    protocol.eof_received()
    protocol.connection_lost(None)
    names = [name for name, *_ in reader.mock_calls]
    assert names == ["set_transport", "feed_data", "feed_eof", "feed_eof"]


@pytest.mark.parametrize("where", ["instance", "subclass", "property"])
def test_a_writer_with_an_overridden_protocol(
    loop: Loop, lib: ModuleType, where: str
) -> None:
    async def helper(*args: Any) -> None:
        raise LookupError("mine")

    async def main() -> None:
        waiter = loop.create_future()
        waiter.set_exception(KeyError("its"))
        if where == "instance":
            reader, protocol, writer, transport = make_stream(lib, loop)
            protocol._drain_helper = helper
            protocol._get_close_waiter = lambda stream: waiter
        else:
            attributes: dict[str, Any] = {
                "_drain_helper": helper,
                "_get_close_waiter": lambda self, stream: waiter,
            }
            if where == "property":
                attributes["_stream_reader"] = property(lambda self: other)
            other = lib.StreamReader(loop=loop)
            reader = lib.StreamReader(loop=loop)
            kind = type("Protocol", (lib.StreamReaderProtocol,), attributes)
            protocol = kind(reader, loop=loop)
            transport = Transport()
            writer = lib.StreamWriter(transport, protocol, reader, loop)
            protocol.data_received(b"x")
            fed, not_fed = (other, reader) if where == "property" else (reader, other)
            assert fed._buffer == b"x" and not_fed._buffer == b""
        assert await outcome(writer.drain()) == ("LookupError", ("mine",))
        assert await outcome(writer.wait_closed()) == ("KeyError", ("its",))
        transport.closing = True

    loop.run_until_complete(main())


# --- writing --------------------------------------------------------------------------


def test_a_writer_passes_on(loop: Loop, lib: ModuleType) -> None:
    transport = mock.Mock()
    transport.is_closing.return_value = False
    transport.write.return_value = "not passed on"
    writer = lib.StreamWriter(transport, None, None, loop)
    assert writer.transport is writer._transport is transport
    assert writer.write(data=b"a") is None
    assert writer.writelines([b"b"]) is None
    assert writer.write_eof() is transport.write_eof.return_value
    assert writer.can_write_eof() is transport.can_write_eof.return_value
    assert writer.close() is transport.close.return_value
    assert writer.is_closing() is False
    assert writer.get_extra_info("x", default=3) is transport.get_extra_info("x", 3)
    assert transport.mock_calls == [
        mock.call.write(b"a"),
        mock.call.writelines([b"b"]),
        mock.call.write_eof(),
        mock.call.can_write_eof(),
        mock.call.close(),
        mock.call.is_closing(),
        mock.call.get_extra_info("x", 3),
        mock.call.get_extra_info("x", 3),
    ]
    assert writer._complete_fut.done() and writer._complete_fut.result() is None
    transport.is_closing.return_value = True


@pytest.mark.parametrize("end", ["resume", "lost", "broken"])
def test_many_drains(loop: Loop, lib: ModuleType, end: str) -> None:
    async def main() -> None:
        _, protocol, writer, transport = make_stream(lib, loop)
        protocol.pause_writing()
        with pytest.raises(AssertionError):
            protocol.pause_writing()
        tasks = [asyncio.ensure_future(writer.drain()) for _ in range(3)]
        tasks.append(asyncio.ensure_future(protocol._drain_helper()))
        await turns(2)
        assert len(protocol._drain_waiters) == 4
        tasks.append(asyncio.ensure_future(writer.drain()))
        await turns(2)
        tasks[1].cancel()
        await turns(1)
        assert len(protocol._drain_waiters) == 4
        if end == "resume":
            protocol.resume_writing()
            with pytest.raises(AssertionError):
                protocol.resume_writing()
        else:
            protocol.connection_lost(OSError("x") if end == "broken" else None)
        outcomes = [await outcome(task) for task in tasks]
        assert outcomes.pop(1) == ("CancelledError", ())
        assert set(outcomes) == {
            ("OSError", ("x",)) if end == "broken" else ("result", None)
        }
        assert len(protocol._drain_waiters) == 0
        expected = ("result", None)
        if end == "lost":
            expected = ("ConnectionResetError", ("Connection lost",))
        if end == "broken":
            expected = ("OSError", ("x",))
        assert await outcome(writer.drain()) == expected
        if end == "broken":
            assert await outcome(writer.wait_closed()) == ("OSError", ("x",))
        transport.closing = True

    loop.run_until_complete(main())


def test_drain_yields_when_closing(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        _, protocol, writer, transport = make_stream(lib, loop)
        transport.closing = True
        drain = writer.drain()
        assert drain.send(None) is None
        with pytest.raises(StopIteration):
            drain.send(None)
        loop.call_soon(protocol.connection_lost, None)
        expected = ("ConnectionResetError", ("Connection lost",))
        assert await outcome(writer.drain()) == expected
        task = asyncio.ensure_future(writer.drain())
        await turns(1)
        task.cancel()
        assert await outcome(task) == ("CancelledError", ())

    loop.run_until_complete(main())


def test_the_dead_end_of_a_protocol(loop: Loop, lib: ModuleType) -> None:
    """What ended a connection is not reported when nobody waits for it."""
    reports = collect_reports(loop)
    _, protocol, _, transport = make_stream(lib, loop)
    protocol.connection_lost(OSError("x"))
    transport.closing = True
    del protocol, _
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("state", ["open", "closing", "loop closed"])
def test_a_writer_that_is_dropped(
    loop_factory: Callable[[], Loop], lib: ModuleType, state: str
) -> None:
    loop = loop_factory()
    transport = Transport()
    writer = lib.StreamWriter(transport, None, None, loop)
    transport.closing = state == "closing"
    if state == "loop closed":
        loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del writer
        gc.collect()
    messages = [(w.category, str(w.message)) for w in caught]
    if state == "open":
        [(category, message)] = messages
        assert category is ResourceWarning
        assert message.startswith("unclosed <StreamWriter transport=")
        assert transport.asked == ["close"]
    else:
        expected = [(ResourceWarning, "loop is closed")]
        assert messages == (expected if state == "loop closed" else [])
        assert transport.asked == []
    loop.close()


def test_a_transport_that_fails_when_a_writer_is_dropped(
    loop: Loop, lib: ModuleType
) -> None:
    unraisable: list[Any] = []
    transport = mock.Mock()
    transport.is_closing.side_effect = OSError("x")
    writer = lib.StreamWriter(transport, None, None, loop)
    with mock.patch(
        "sys.unraisablehook", lambda u: unraisable.append(str(u.exc_value))
    ):
        del writer
        gc.collect()
    assert unraisable == ["x"]


def test_start_tls_calls(loop: Loop, lib: ModuleType) -> None:
    async def main() -> None:
        _, protocol, writer, old = make_stream(lib, loop)
        new = mock.Mock()
        new.is_closing.return_value = True
        context = mock.sentinel.context
        start = mock.AsyncMock(return_value=new)
        with mock.patch.object(loop, "start_tls", start):
            await writer.start_tls(context, server_hostname="name")
        args, kwargs = start.call_args
        assert args == (old, protocol, context)
        assert kwargs["server_side"] is False and kwargs["server_hostname"] == "name"
        assert writer.transport is protocol._transport is new
        assert protocol._over_ssl is True and protocol.eof_received() is False

    loop.run_until_complete(main())


# --- servers --------------------------------------------------------------------------


def test_a_server_keeps_its_reader_until_connected(loop: Loop, lib: ModuleType) -> None:
    seen: list[Any] = []
    reader = make_reader(lib, loop)
    protocol = lib.StreamReaderProtocol(
        stream_reader=reader, client_connected_cb=lambda *a: seen.extend(a), loop=loop
    )
    ref = weakref.ref(reader)
    del reader
    gc.collect()
    assert protocol._stream_reader is ref() is not None
    transport = Transport()
    protocol.connection_made(transport)
    assert seen[0] is ref()
    assert type(seen[1]) is lib.StreamWriter and seen[1].transport is transport
    transport.closing = True
    seen.clear()
    gc.collect()
    if sys.version_info >= (3, 13):
        assert ref() is None and protocol._stream_reader is None
        protocol.data_received(b"to nobody")
        protocol.eof_received()
    protocol.connection_lost(None)
    assert protocol._stream_reader_wr is None and protocol._transport is None


def test_a_client_does_not_keep_its_reader(loop: Loop, lib: ModuleType) -> None:
    protocol = lib.StreamReaderProtocol(make_reader(lib, loop), loop=loop)
    gc.collect()
    assert protocol._stream_reader is None
    protocol.connection_made(Transport())
    protocol.data_received(b"x")
    protocol.connection_lost(None)


def test_no_reader_at_all(loop: Loop, lib: ModuleType) -> None:
    protocol = lib.StreamReaderProtocol(None, loop=loop)
    assert protocol._stream_reader is None
    protocol.data_received(b"x")
    assert protocol.eof_received() is True
    protocol.connection_lost(None)


def test_a_rejected_connection(
    lib: ModuleType, loop_factory: Callable[[], Loop]
) -> None:
    loop = loop_factory()
    reports = collect_reports(loop)
    protocol = lib.StreamReaderProtocol(None, loop=loop)
    protocol._reject_connection = True
    transport = mock.Mock()
    protocol.connection_made(transport)
    transport.abort.assert_called_once_with()
    assert "garbage collected" in reports[0]["message"]
    loop.close()


@pytest.mark.parametrize("kind", ["function", "coroutine", "cancelled"])
def test_a_server_that_fails(kind: str) -> None:
    """As asyncio of 3.14, on every version."""
    loop = fastloop.new_event_loop()
    reports = collect_reports(loop)

    def function(*args: Any) -> None:
        raise OSError("x")

    async def coroutine(*args: Any) -> None:
        function()

    async def cancelled(*args: Any) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        reader = make_reader(fastloop, loop)
        handler: Any = {"function": function, "coroutine": coroutine}.get(
            kind, cancelled
        )
        protocol = fastloop.StreamReaderProtocol(reader, handler, loop)
        transport = Transport()
        protocol.connection_made(transport)
        await turns(3)
        assert transport.asked == ["close"]

    loop.run_until_complete(main())
    loop.close()
    assert [r["message"] for r in reports] == (
        [] if kind == "cancelled" else ["Unhandled exception in client_connected_cb"]
    )


# --- with asyncio's -------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_isinstance(loop: Loop, kind: str) -> None:
    theirs, ours = getattr(asyncio, kind), getattr(fastloop, kind)
    index = TYPES.index(kind)
    native = make_stream(fastloop, loop)
    stock = make_stream(asyncio, loop)
    native[3].closing = stock[3].closing = True
    assert type(native[index]) is ours and type(stock[index]) is theirs
    for thing in (native[index], stock[index]):
        assert isinstance(thing, theirs) and isinstance(thing, ours)
        assert not isinstance(thing, asyncio.Task)
    assert issubclass(theirs, ours)
    assert issubclass(fastloop.StreamReaderProtocol, asyncio.Protocol)
    assert isinstance(native[1], asyncio.Protocol)
    mine = type("Mine", (ours,), {})
    others = type("Others", (ours,), {})
    thing = mine.__new__(mine)
    assert isinstance(thing, (mine,)) and isinstance(thing, theirs)
    assert not isinstance(thing, others) and thing.__class__ == mine


@pytest.mark.parametrize("kinds", range(8))
def test_mixed_with_asyncios(loop: Loop, kinds: int) -> None:
    """Reader, protocol and writer, each of either kind."""
    libs = [fastloop if kinds >> i & 1 else asyncio for i in range(3)]

    async def main() -> None:
        reader = libs[0].StreamReader(loop=loop)
        protocol = libs[1].StreamReaderProtocol(reader, loop=loop)
        transport = Transport()
        protocol.connection_made(transport)
        writer = libs[2].StreamWriter(transport, protocol, reader, loop)
        task = asyncio.ensure_future(reader.readline())
        await turns(1)
        protocol.data_received(b"line\nmore")
        assert await within(task) == b"line\n"
        protocol.pause_writing()
        task = asyncio.ensure_future(writer.drain())
        await turns(1)
        assert not task.done()
        protocol.resume_writing()
        await within(task)
        protocol.connection_lost(OSError("x"))
        for call in (reader.read(1), writer.drain(), writer.wait_closed()):
            assert await outcome(call) == ("OSError", ("x",))
        transport.closing = True

    loop.run_until_complete(main())


def test_a_process_with_patched_streams(fast_loop: Loop) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "print(input())"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert type(process.stdout) is fastloop.StreamReader
        assert type(process.stdin) is fastloop.StreamWriter
        assert await process.communicate(b"hello\n") == (b"hello\n", None)

    fastloop.patch(only=["StreamReader", "StreamWriter"])
    try:
        fast_loop.run_until_complete(main())
    finally:
        fastloop.unpatch()


# --- garbage --------------------------------------------------------------------------


def test_cycles_are_collected(loop: Loop) -> None:
    refs: list[Any] = []

    def make() -> None:
        reader, protocol, writer, transport = make_stream(fastloop, loop)
        transport.closing = True
        transport.cycle = (reader, protocol, writer)  # type: ignore[attr-defined]
        reader.me = protocol.me = writer.me = writer
        protocol.pause_writing()
        coros = [writer.drain(), protocol._drain_helper(), reader.read(1)]
        for coro in coros:
            coro.send(None)
        reader.coros = coros
        refs.extend(map(weakref.ref, (reader, protocol, writer, *coros)))

    make()
    gc.collect()
    assert [ref for ref in refs if ref() is not None] == []


def test_exceptions_in_cycles_are_collected(loop: Loop) -> None:
    reader, protocol, writer, transport = make_stream(fastloop, loop)
    transport.closing = True
    exc = OSError("x")
    exc.reader = reader  # type: ignore[attr-defined]
    reader.set_exception(exc)
    protocol.connection_lost(exc)
    refs = [weakref.ref(thing) for thing in (reader, protocol, writer)]
    del reader, protocol, writer, exc
    gc.collect()
    assert [ref for ref in refs if ref() is not None] == []


def test_nothing_leaks(loop: Loop) -> None:
    async def use() -> None:
        reader, protocol, writer, transport = make_stream(fastloop, loop)
        reader._limit = 300
        for data in (b"x" * 299 + b"\n", b"y" * 999, bytearray(b"zz"), b"1\n2\n"):
            reader.feed_data(data)
        await reader.readline()
        await outcome(reader.readuntil())
        await outcome(reader.readline())
        await reader.readexactly(1)
        reader.feed_data(b"end")
        task = asyncio.ensure_future(reader.read())
        writer.write(b"x")
        protocol.pause_writing()
        tasks = [asyncio.ensure_future(writer.drain()) for _ in range(2)]
        await turns(2)
        bytes(reader._buffer)
        tasks[0].cancel()
        protocol.resume_writing()
        reader.feed_eof()
        await asyncio.gather(task, *tasks, return_exceptions=True)
        await outcome(reader.readexactly(5))
        protocol.connection_lost(OSError("x"))
        await outcome(writer.wait_closed())
        transport.closing = True

    def often() -> None:
        for _ in range(100):
            loop.run_until_complete(use())

    for _ in range(20):
        often()  # caches of the interpreter grow for long, with asyncio's streams, too
    assert refs_lost(often) < 50  # less than one each time
