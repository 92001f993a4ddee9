"""Random operations on a StreamReader: ours and asyncio's leave the same trace.

A program is a list of operations on one reader, made from a seed: data comes in random
chunks, tasks read in every way and are cancelled, the end or an exception comes, code
outside looks into the buffer.  Everything that can be seen is noted with the turn of
the loop that it happened in.

    python -m tests.prims.test_stream_random 0 100000      seeds from, to
"""

from __future__ import annotations

import asyncio
import random
import sys
from types import ModuleType
from typing import Any

import pytest

import fastloop

ALPHABET = b"ab\nb;"
SEPARATORS = [b"\n", b";", b"ab", b"b\nb", b"aaab", b"a" * 40, bytearray(b";b")]
TUPLES = [(b"\n", b";"), (b";b", b"b"), (b"ab\n", b"\n"), (b"b", b"ab"), (b";",)]
WRONG: list[Any] = [b"", "x", 3, None, [b"a"]]
if sys.version_info >= (3, 13):
    WRONG += [(), (b"", b"a"), (b"a", "x")]
SIZES = [0, 1, 1, 2, 3, 5, 8, 20, 100, 600]
TURNS = 4  # to let everything happen at the end

Operation = tuple[Any, ...]


def make_program(seed: int) -> list[Operation]:
    rng = random.Random(seed)

    def data() -> bytes:
        return bytes(rng.choices(ALPHABET, k=rng.choice(SIZES)))

    def separator() -> Any:
        kinds = [SEPARATORS] * 6 + [WRONG]
        if sys.version_info >= (3, 13):
            kinds += [TUPLES] * 2
        return rng.choice(rng.choice(kinds))

    def number() -> Any:
        return rng.choice([*SIZES, -1, -5, 2**70, True, None, "3"])

    def operation() -> Operation:
        kind = rng.choice(KINDS)
        if kind == "feed":
            return (
                kind,
                data(),
                rng.choice([bytes, bytes, bytes, bytearray, memoryview]),
            )
        if kind == "readuntil":
            return kind, separator()
        if kind in ("read", "readexactly"):
            return kind, number() if rng.random() < 0.2 else rng.choice(SIZES)
        if kind == "shrink":
            return kind, rng.randint(0, 5)
        if kind == "limit":
            return kind, rng.choice([1, 4, 50, 1000])
        return (kind,)

    KINDS = (
        ["feed"] * 10
        + ["turn"] * 8
        + ["read", "readexactly", "readline", "readuntil", "next"] * 3
        + ["cancel"] * 2
        + ["at_eof", "buffer", "repr", "resume"]
    )
    if rng.random() < 0.3:
        KINDS += ["eof"]
    if rng.random() < 0.2:
        KINDS += ["fail", "shrink", "limit", "replace", "no pausing"]
    limit = rng.choice([1, 2, 8, 50, 300, 65536])
    return [("start", limit)] + [operation() for _ in range(rng.randint(3, 60))]


class Transport:
    """Notes what the reader asks of it."""

    def __init__(self, note: Any) -> None:
        self.note = note
        self.can_pause = True

    def pause_reading(self) -> None:
        self.note("pause")
        if not self.can_pause:
            raise NotImplementedError

    def resume_reading(self) -> None:
        self.note("resume")

    def __repr__(self) -> str:
        return "<transport>"


class Run:
    def __init__(self, lib: ModuleType, program: list[Operation]) -> None:
        self.lib = lib
        self.program = program
        self.trace: list[Any] = []
        self.turn = 0
        self.tasks: list[asyncio.Task[None]] = []

    def note(self, *what: Any) -> None:
        self.trace.append((self.turn, *what))

    async def read(self, number: int, kind: str, args: tuple[Any, ...]) -> None:
        try:
            if kind == "next":
                result = await anext(self.reader)
            else:
                result = await getattr(self.reader, kind)(*args)
            assert type(result) is bytes
            self.note(number, kind, result)
        except asyncio.CancelledError:
            self.note(number, kind, "cancelled")
        except Exception as exc:
            where = type(exc.__context__).__name__
            extra = getattr(exc, "partial", None), getattr(exc, "consumed", None)
            self.note(number, kind, type(exc).__name__, str(exc), *extra, where)

    async def do(self, number: int, kind: str, *args: Any) -> None:
        reader = self.reader
        if kind in ("read", "readexactly", "readline", "readuntil", "next"):
            self.tasks.append(asyncio.ensure_future(self.read(number, kind, args)))
        elif kind == "feed":
            data, as_type = args
            reader.feed_data(as_type(data))
        elif kind == "turn":
            await asyncio.sleep(0)
            self.turn += 1
        elif kind == "cancel" and self.tasks:
            self.tasks[-1].cancel()
        elif kind == "at_eof":
            self.note(number, kind, reader.at_eof())
        elif kind == "buffer":
            self.note(number, kind, bytes(reader._buffer), len(reader._buffer))
        elif kind == "repr":
            waits = reader._waiter is not None
            self.note(number, kind, waits, "" if waits else repr(reader))
        elif kind == "resume":
            reader._maybe_resume_transport()
            self.note(number, kind, reader._paused)
        elif kind == "eof":
            reader.feed_eof()
        elif kind == "fail":
            reader.set_exception(ConnectionError("broken"))
            self.note(number, kind, repr(reader.exception()))
        elif kind == "shrink":
            del reader._buffer[: args[0]]
        elif kind == "limit":
            reader._limit = args[0]
        elif kind == "replace":
            reader._buffer = bytearray(b"replaced\n")
        elif kind == "no pausing":
            self.transport.can_pause = False

    async def main(self) -> list[Any]:
        (_, limit), *rest = self.program
        loop = asyncio.get_running_loop()
        self.transport = Transport(self.note)
        self.reader = self.lib.StreamReader(limit=limit, loop=loop)
        self.reader.set_transport(self.transport)
        for number, operation in enumerate(rest):
            try:
                await self.do(number, *operation)
            except Exception as exc:
                self.note(number, operation[0], type(exc).__name__, str(exc))
        for _ in range(TURNS):
            await asyncio.sleep(0)
            self.turn += 1
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.note("left", bytes(self.reader._buffer), self.reader._paused)
        return self.trace


def trace(lib: ModuleType, factory: Any, seed: int) -> list[Any]:
    loop = factory()
    try:
        result: list[Any] = loop.run_until_complete(Run(lib, make_program(seed)).main())
        return result
    finally:
        loop.close()


def check(seed: int, factories: list[Any]) -> None:
    expected = trace(asyncio, asyncio.new_event_loop, seed)
    for factory in factories:
        assert trace(fastloop, factory, seed) == expected, seed


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_same_trace(first: int) -> None:
    for seed in range(first, first + 100):
        check(seed, [fastloop.new_event_loop])


def test_same_trace_on_asyncios_loop() -> None:
    for seed in range(1000, 1100):
        check(seed, [asyncio.new_event_loop])


def test_programs_do_much() -> None:
    """What the traces hold, so that they do not come to compare nothing."""
    seen = {
        what
        for seed in range(300)
        for entry in trace(fastloop, fastloop.new_event_loop, seed)
        for what in entry[1:]
        if isinstance(what, str)
    }
    expected = {
        "pause",
        "resume",
        "cancelled",
        "IncompleteReadError",
        "LimitOverrunError",
        "ValueError",
        "RuntimeError",
        "ConnectionError",
        "StopAsyncIteration",
        "AssertionError",
    }
    assert expected <= seen


if __name__ == "__main__":
    begin, end = map(int, sys.argv[1:])
    for number in range(begin, end):
        check(number, [fastloop.new_event_loop, asyncio.new_event_loop])
    print(f"{end - begin} programs: no difference")
