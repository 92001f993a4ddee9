"""Writing: what is sent, in which order, when, and what flow control tells of it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import hashlib
import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from io_support import (
    HOST,
    BufferedRecorder,
    Loop,
    Recorder,
    call,
    collect_reports,
    connected,
    described,
    facing,
    fill,
    on_both,
    receive,
    reset,
    run_once,
    run_until,
    stable_repr,
    tcp_pair,
    turns,
    until,
)

MIB = 1 << 20
LARGE = 300_000  # more than is collected in a turn

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for TCP_INFO")


def text(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def segments_sent(transport: Any) -> int:
    """How many segments with data TCP has sent, from Linux' struct tcp_info."""
    # not through get_extra_info("socket"), which sends what is pending
    with socket.socket(fileno=os.dup(transport._sock_fd)) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, 156)[0]


# --- what can be written ------------------------------------------------------------


def kinds_of(data: bytes) -> list[Any]:
    return [
        data,
        bytearray(data),
        memoryview(data),
        memoryview(bytearray(data)),
        memoryview(b"before" + data + b"after")[6:-5],
        memoryview(bytearray(b"before" + data + b"after"))[6:-5],
        memoryview(memoryview(b"x" + data))[1:],
        type("Bytes", (bytes,), {})(data),
        type("ByteArray", (bytearray,), {})(data),
    ]


@pytest.mark.parametrize("size", [1, 1000, LARGE])
@pytest.mark.parametrize("index", range(9))
def test_kinds_of_data(loop: Loop, size: int, index: int) -> None:
    data = text(size)

    async def main() -> None:
        async with facing() as (protocol, peer):
            assert protocol.transport.write(kinds_of(data)[index]) is None
            assert await receive(peer, size) == data

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [2, 100_000])
@pytest.mark.parametrize("code", "bBhHiIqQfd")
def test_memoryview_of_an_array(fast_loop: Loop, code: str, size: int) -> None:
    """Its bytes are sent.  (asyncio counts them wrongly.)"""
    data = array.array(code, [1, 2] * (size // 2))

    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(memoryview(data))
            assert await receive(peer, len(data.tobytes())) == data.tobytes()

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("size", [4, LARGE])
def test_memoryview_with_gaps_is_refused(fast_loop: Loop, size: int) -> None:
    """The caller is told; on asyncio the connection is lost."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            with pytest.raises(BufferError, match="contiguous"):
                protocol.transport.write(memoryview(bytearray(2 * size))[::2])
            protocol.transport.write(b"still open")
            assert await receive(peer, 10) == b"still open"

    fast_loop.run_until_complete(main())


WRONG = [None, "text", 1, 1.0, [b"x"], object(), array.array("b", b"x"), bytes, ()]


@pytest.mark.parametrize("data", WRONG, ids=stable_repr)
@pytest.mark.parametrize("state", ["open", "after write_eof", "closed"])
def test_what_cannot_be_written(data: Any, state: str) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            if state == "after write_eof":
                transport.write_eof()
            elif state == "closed":
                transport.close()
            answer = call(transport.write, data)
            if state == "open":
                transport.write(b"still open")
                assert await receive(peer, 10) == b"still open"
            return answer

    assert on_both(scenario)[0] is TypeError


def test_nothing_is_not_sent(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            for empty in b"", bytearray(), memoryview(b""):
                protocol.transport.write(empty)
            protocol.transport.writelines([])
            protocol.transport.writelines([b"", b""])
            await turns()
            assert fill(peer) > 0
            with pytest.raises(BlockingIOError):
                peer.recv(1)

    loop.run_until_complete(main())


# --- data that changes after write() ------------------------------------------------


@pytest.mark.parametrize("size", [1, 1000, 65536, LARGE, 8 * MIB])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "slice", "writelines"])
def test_buffer_may_change_after_write(
    fast_loop: Loop, size: int, full: bool, kind: str
) -> None:
    """asyncio keeps what the kernel did not take, and sends what became of it."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            ahead = 4 * MIB if full else 0
            transport.write(bytes(ahead))
            buffer = bytearray(text(size))
            before = bytes(buffer)
            if kind == "bytearray":
                transport.write(buffer)
            elif kind == "writelines":
                transport.writelines([buffer])
            elif kind == "memoryview":
                with memoryview(buffer) as view:
                    transport.write(view)
            else:
                buffer = bytearray(b"<" + before + b">")
                with memoryview(buffer) as view:
                    transport.write(view[1:-1])
            buffer[:] = b"X" * len(buffer)
            buffer.clear()  # nothing holds it, either
            got = await receive(peer, ahead + size)
            assert got[ahead:] == before

    fast_loop.run_until_complete(main())


def test_bytes_are_not_copied(fast_loop: Loop) -> None:
    """What waits is the very object that was written."""

    async def main() -> None:
        async with facing() as (protocol, _):
            protocol.transport.write(bytes(16 * MIB))
            data = text(8 * MIB)
            before = sys.getrefcount(data)
            protocol.transport.write(data)
            assert sys.getrefcount(data) > before
            protocol.transport.abort()
            await until(lambda: protocol.lost)
            await turns()
            assert sys.getrefcount(data) == before

    fast_loop.run_until_complete(main())


@pytest.mark.parametrize("end", ["close", "abort", "sent"])
def test_written_data_is_let_go(loop: Loop, end: str) -> None:
    import gc
    import weakref

    class Data(bytearray):
        pass

    async def main() -> None:
        async with facing() as (protocol, peer):
            data = Data(8 * MIB)
            ref = weakref.ref(data)
            protocol.transport.write(data)
            del data
            if end != "sent":
                getattr(protocol.transport, end)()
            if end != "abort":
                await receive(peer, 8 * MIB)
            await turns()
            gc.collect()
            assert ref() is None

    loop.run_until_complete(main())


# --- writelines() -------------------------------------------------------------------


ITERABLES: list[Callable[[list[bytes]], Iterable[Any]]] = [
    list,
    tuple,
    iter,
    lambda pieces: (piece for piece in pieces),
    lambda pieces: [bytearray(piece) for piece in pieces],
    lambda pieces: [memoryview(piece) for piece in pieces],
    lambda pieces: dict.fromkeys(pieces),
]


@pytest.mark.parametrize("index", range(len(ITERABLES)))
@pytest.mark.parametrize("size", [3, 70_000])
def test_writelines(loop: Loop, index: int, size: int) -> None:
    pieces = [text(size, seed) for seed in range(50)]

    async def main() -> None:
        async with facing() as (protocol, peer):
            assert protocol.transport.writelines(ITERABLES[index](pieces)) is None
            whole = b"".join(pieces)
            assert await receive(peer, len(whole)) == whole

    loop.run_until_complete(main())


@pytest.mark.parametrize("wrong", [None, 1, [b"x", "y"], [b"x", None]], ids=repr)
def test_writelines_of_what_cannot_be_written(fast_loop: Loop, wrong: Any) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            with pytest.raises(TypeError):
                protocol.transport.writelines(wrong)
            protocol.transport.write(b"still open")
            got = await receive(peer, 11 if isinstance(wrong, list) else 10)
            assert got.lstrip(b"x") == b"still open"

    fast_loop.run_until_complete(main())


def test_writelines_of_a_generator_that_fails(fast_loop: Loop) -> None:
    """The connection is as before; asyncio's of 3.15 never sends again."""
    loop = fast_loop

    def lines() -> Iterable[bytes]:
        yield b"one"
        raise ZeroDivisionError

    async def main() -> None:
        async with facing() as (protocol, peer):
            with pytest.raises(ZeroDivisionError):
                protocol.transport.writelines(lines())
            protocol.transport.write(b"end")
            protocol.transport.write_eof()
            assert (await receive(peer)).endswith(b"end")

    loop.run_until_complete(main())


def test_writelines_while_the_list_changes(fast_loop: Loop) -> None:
    """pause_writing() empties the list that is being written."""
    pieces: list[bytes] = []

    class Emptying(Recorder):
        def pause_writing(self) -> None:
            pieces.clear()

    async def main() -> None:
        async with facing(Emptying) as (protocol, peer):
            fill(protocol.transport.get_extra_info("socket")._sock)
            pieces.extend(text(70_000, seed) for seed in range(20))
            protocol.transport.writelines(pieces)
            assert pieces == []
            protocol.transport.close()
            assert (await receive(peer)).endswith(text(70_000, 0)[-100:])

    fast_loop.run_until_complete(main())


# --- order --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_order_of_many_writes(loop: Loop, seed: int) -> None:
    """Small and large, mutable or not, one by one or in lines, over many turns."""
    rng = random.Random(seed)

    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            digest = hashlib.sha256()
            total = 0

            def piece() -> bytes:
                nonlocal total
                limit = rng.choice([10, 2000, 70_000, LARGE])
                data = rng.randbytes(rng.randrange(1, limit))
                digest.update(data)
                total += len(data)
                return data

            async def write() -> None:
                for _ in range(300):
                    how = rng.randrange(4)
                    if how == 0:
                        transport.write(piece())
                    elif how == 1:
                        transport.write(bytearray(piece()))
                    elif how == 2:
                        transport.writelines([piece() for _ in range(3)])
                    else:
                        await asyncio.sleep(0)
                transport.write_eof()

            writing = asyncio.ensure_future(write())
            got = await receive(peer)
            await writing
            assert len(got) == total
            assert hashlib.sha256(got).digest() == digest.digest()

    loop.run_until_complete(main())


def test_writing_inside_of_flow_control() -> None:
    """What pause_writing() and resume_writing() write comes in its place."""

    class Talkative(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            self.transport.write(b"<pause>")

        def resume_writing(self) -> None:
            super().resume_writing()
            self.transport.write(b"<resume>")
            if self.events.count("resume") < 3:
                self.transport.write(b"again" * 20_000)

    async def scenario(loop: Any) -> Any:
        async with facing(Talkative) as (protocol, peer):
            full = fill(protocol.transport.get_extra_info("socket")._sock)
            for piece in b"1" * LARGE, bytearray(b"2" * LARGE), b"3", b"4" * LARGE:
                protocol.transport.write(piece)
            size = full + 3 * LARGE + len(b"<pause>3<resume>")
            got = await receive(peer, size)
            await turns()
            protocol.transport.close()
            got += await receive(peer)
            return got[full:], protocol.events

    got, events = on_both(scenario)
    assert got.startswith(b"1" * LARGE + b"<pause>" + b"2" * LARGE + b"3")
    assert b"4<resume>again" in got
    assert events[1:3] == ["pause", "resume"]


# --- together and in time -----------------------------------------------------------


@linux
def test_writes_of_a_turn_leave_together(fast_loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            before = segments_sent(transport)
            for n in range(50):
                transport.write(b"%d," % n)
            transport.writelines([b"head", b"body"])
            assert segments_sent(transport) == before
            expected = b"".join(b"%d," % n for n in range(50)) + b"headbody"
            assert await receive(peer, len(expected)) == expected
            assert segments_sent(transport) == before + 1
            await asyncio.sleep(0)
            transport.write(b"x")
            await receive(peer, 1)
            assert segments_sent(transport) == before + 2

    fast_loop.run_until_complete(main())


@linux
def test_answers_of_a_callback_leave_together(fast_loop: Loop) -> None:
    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            for _ in range(10):
                self.transport.write(b"answer")

    async def main() -> None:
        async with facing(Answering) as (protocol, peer):
            before = segments_sent(protocol.transport)
            peer.send(b"question")
            assert await receive(peer, 60) == b"answer" * 10
            assert segments_sent(protocol.transport) == before + 1

    fast_loop.run_until_complete(main())


def test_a_busy_loop_does_not_hold_back_what_was_written(loop: Loop) -> None:
    """It is sent when the turn ends, though the next has begun."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            peer.setblocking(False)
            busy = True

            def spin() -> None:
                if busy:
                    loop.call_soon(spin)

            spin()
            for n in range(20):
                protocol.transport.write(b"%d" % (n % 10))
                await asyncio.sleep(0)
                assert peer.recv(10) == b"%d" % (n % 10)
            busy = False

    loop.run_until_complete(main())


def test_a_turn_that_lasts_sends_large_data_early(loop: Loop) -> None:
    """A callback may write and then compute: the peer can begin."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            peer.setblocking(False)
            for _ in range(10):
                protocol.transport.write(bytes(20_000))
            assert len(peer.recv(MIB)) > 0

    loop.run_until_complete(main())


def test_every_turn_sends_also_the_last(loop: Loop) -> None:
    """Whether the run ends by stop(), by a result or by an exception."""
    ours, peer = tcp_pair()
    transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))

    def interrupt() -> None:
        transport.write(b"three")
        raise KeyboardInterrupt

    def stop() -> None:
        transport.write(b"one")
        loop.stop()

    async def main() -> None:
        transport.write(b"two")

    peer.setblocking(False)
    loop.call_soon(stop)
    loop.run_forever()
    assert peer.recv(10) == b"one"
    loop.run_until_complete(main())
    assert peer.recv(10) == b"two"
    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert peer.recv(10) == b"three"
    transport.abort()
    run_until(loop, lambda: ours.fileno() == -1)
    peer.close()


SENDING = f"""
import asyncio, socket, sys, fastloop
sys.path.insert(0, {os.path.dirname(__file__)!r})
from io_support import facing, receive

async def main():
    async with facing() as (protocol, peer):
        for _ in range(10):
            for n in range(20):
                protocol.transport.write(b"0123456789")
            assert len(await receive(peer, 200)) == 200

asyncio.Runner(loop_factory=fastloop.new_event_loop).run(main())
"""


def test_one_system_call_a_turn(strace: Callable[..., str]) -> None:
    calls = strace("sendto,sendmsg,write,writev", SENDING)
    sent = [line for line in calls.splitlines() if "0123456789" in line]
    assert len(sent) == 10, sent


# --- flow control -------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"high": 1000},
        {"low": 1000},
        {"high": 1000, "low": 10},
        {"high": 1000, "low": 1000},
        {"high": 0},
        {"high": 0, "low": 0},
        {"low": 0},
        {"high": 1 << 40},
        {"high": 10, "low": 11},
        {"high": -1},
        {"low": -1},
        {"high": 10, "low": -1},
        {"high": None, "low": None},
        {"high": 100, "low": None},
        {"high": True},
    ],
    ids=repr,
)
def test_write_buffer_limits(limits: dict[str, Any]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, _):
            transport = protocol.transport
            answers = [transport.get_write_buffer_limits()]
            for args, kwargs in [((), limits), (limits.values(), {})]:
                answer = call(transport.set_write_buffer_limits, *args, **kwargs)
                answers.append(answer and answer[0])
                answers.append(transport.get_write_buffer_limits())
            return answers

    on_both(scenario)


@pytest.mark.parametrize("wrong", ["1", 1.5, [], b"1"], ids=repr)
@pytest.mark.parametrize("name", ["high", "low"])
def test_write_buffer_limits_that_are_no_numbers(
    fast_loop: Loop, wrong: Any, name: str
) -> None:
    async def main() -> None:
        async with facing() as (protocol, _):
            before = protocol.transport.get_write_buffer_limits()
            with pytest.raises(TypeError):
                protocol.transport.set_write_buffer_limits(**{name: wrong})
            assert protocol.transport.get_write_buffer_limits() == before

    fast_loop.run_until_complete(main())


def sizes(step: int, count: int) -> list[int]:
    return [step] * count


WRITES = {
    "one large": [8 * MIB],
    "two large": [8 * MIB, 8 * MIB],
    "large and small": [4 * MIB, 1, 1, 1],
    "many middling": sizes(100_000, 100),
    "many small": sizes(10_000, 800),
    "a bit at a time": sizes(1000, 8000),
    "small only": [1, 2, 3],
}
LIMITS: list[dict[str, int]] = [
    {},
    {"high": 0},
    {"high": 1},
    {"high": 1000, "low": 0},
    {"high": MIB, "low": MIB},
    {"high": 64 * MIB},
]


@pytest.mark.parametrize("limits", LIMITS, ids=repr)
@pytest.mark.parametrize("writes", WRITES)
def test_sequence_of_pause_and_resume(writes: str, limits: dict[str, int]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.set_write_buffer_limits(**limits)
            events = []
            total = 0
            for size in WRITES[writes]:
                transport.write(bytes(size))
                total += size
            events.append(("written", list(protocol.events)))
            await turns()
            events.append(("turned", list(protocol.events)))
            await receive(peer, total)
            await turns()
            events.append(("received", list(protocol.events)))
            transport.write(b"once more")
            await receive(peer, 9)
            events.append(("small", list(protocol.events)))
            return events

    on_both(scenario)


@pytest.mark.parametrize("size", [100, 10_000, 65_536])
@pytest.mark.parametrize("high", [0, 1000, 100_000, 300_000])
def test_pause_writing_comes_within_write(size: int, high: int) -> None:
    """Whoever writes until told to stop stops at the same byte as on asyncio.

    A plain socket that is full already makes the kernel's part of it the same.
    """

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.set_write_buffer_limits(high=high)
            full = fill(transport.get_extra_info("socket")._sock)
            written = 0
            while "pause" not in protocol.events and written < 4 * MIB:
                transport.write(bytes(size))
                written += size
            buffered = transport.get_write_buffer_size()
            transport.write_eof()
            got = len(await receive(peer)) - full
            await turns()
            return written, buffered, got, protocol.events

    on_both(scenario)


def test_get_write_buffer_size(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            assert transport.get_write_buffer_size() == 0
            transport.write(b"taken by the kernel")
            assert transport.get_write_buffer_size() == 0
            await receive(peer, 19)
            full = fill(transport.get_extra_info("socket")._sock)
            expected = 0
            for size in 1, 100, 70_000, MIB, 5:
                transport.write(bytes(size))
                expected += size
                assert transport.get_write_buffer_size() == expected
            await receive(peer, full + expected)
            await turns()
            assert transport.get_write_buffer_size() == 0

    loop.run_until_complete(main())


def test_limits_set_while_data_is_pending() -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.set_write_buffer_limits(high=64 * MIB)
            full = fill(transport.get_extra_info("socket")._sock)
            transport.write(bytes(MIB))
            events = [list(protocol.events)]
            transport.set_write_buffer_limits(high=1000)
            events.append(list(protocol.events))
            transport.set_write_buffer_limits(high=64 * MIB)
            events.append(list(protocol.events))
            await turns()
            events.append(list(protocol.events))
            await receive(peer, full + MIB)
            await turns()
            events.append(list(protocol.events))
            return events

    on_both(scenario)


# --- the end of writing -------------------------------------------------------------


def test_write_eof_sends_what_is_pending_first(loop: Loop) -> None:
    data = text(10 * MIB)

    async def main() -> None:
        async with facing() as (protocol, peer):
            assert protocol.transport.can_write_eof() is True
            protocol.transport.write(data)
            assert protocol.transport.write_eof() is None
            assert protocol.transport.write_eof() is None
            assert await receive(peer) == data
            assert not protocol.transport.is_closing()
            peer.send(b"answer")
            await until(lambda: protocol.data == b"answer")

    loop.run_until_complete(main())


def test_write_after_write_eof() -> None:
    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, _):
            transport = protocol.transport
            transport.write_eof()
            return [
                call(transport.write, b"x"),
                call(transport.write, b""),
                call(transport.writelines, [b"x"])[0],
            ]

    assert {
        answer if type(answer) is type else answer[0] for answer in on_both(scenario)
    } == {RuntimeError}


@pytest.mark.parametrize("order", ["eof then close", "close then eof"])
def test_write_eof_and_close(loop: Loop, order: str) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(bytes(5 * MIB))
            for name in order.split(" then "):
                {
                    "eof": protocol.transport.write_eof,
                    "close": protocol.transport.close,
                }[name]()
            assert len(await receive(peer)) == 5 * MIB
            await until(lambda: protocol.lost)
            assert protocol.lost_with is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_close_delivers_what_is_pending(loop: Loop, kind: type) -> None:
    data = text(10 * MIB)

    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(kind(data))
            protocol.transport.close()
            assert not protocol.lost
            assert await receive(peer) == data
            await until(lambda: protocol.lost)
            assert protocol.lost_with is None
            assert protocol.events[-1] == "lost"

    loop.run_until_complete(main())


def test_close_in_the_turn_of_the_write(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(b"bye")
            protocol.transport.close()
            assert await receive(peer) == b"bye"

    loop.run_until_complete(main())


@pytest.mark.parametrize("then", ["abort", "close", "write", "size", "socket", "block"])
def test_close_with_data_and_then(then: str) -> None:
    """All is as if write() had sent it at once, as asyncio's does."""

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.write(b"bye")
            transport.close()
            told: Any = None
            if then in ("abort", "close"):
                told = getattr(transport, then)()
            elif then == "write":
                for _ in range(8):
                    transport.write(b" and more")
            elif then == "size":
                told = transport.get_write_buffer_size()
            elif then == "socket":
                transport.get_extra_info("socket")
                told = peer.recv(100)
            else:
                loop.call_soon(lambda: None)
            got = await receive(peer)
            await until(lambda: protocol.lost)
            return told, got, protocol.lost_with, protocol.events

    on_both(scenario)


def test_close_with_data_that_the_kernel_does_not_take(loop: Loop) -> None:
    """The connection is lost when the peer has read all, and not before."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            full = fill(protocol.transport.get_extra_info("socket")._sock)
            protocol.transport.write(b"bye")
            protocol.transport.close()
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert not protocol.lost
            assert (await receive(peer))[full:] == b"bye"
            await until(lambda: protocol.lost)
            assert protocol.lost_with is None
            assert protocol.events.count("lost") == 1

    loop.run_until_complete(main())


def test_close_with_data_to_a_peer_that_is_gone() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with facing() as (protocol, peer):
            protocol.transport.pause_reading()
            reset(peer)
            protocol.transport.write(b"bye")
            protocol.transport.close()
            await until(lambda: protocol.lost)
            return type(protocol.lost_with), protocol.events.count("lost"), len(reports)

    on_both(scenario)


def test_close_with_data_in_the_last_turn(loop: Loop) -> None:
    """The data leaves, though the loop runs no further."""
    ours, peer = tcp_pair()

    async def main() -> Any:
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        transport.write(b"bye")
        transport.close()
        loop.stop()
        return protocol

    with peer:
        task = loop.create_task(main())
        loop.run_forever()
        assert not task.done() or not task.result().lost
        peer.settimeout(5)
        assert peer.recv(100) == b"bye"
        protocol = loop.run_until_complete(task)
        loop.run_until_complete(until(lambda: protocol.lost))


def test_abort_drops_what_is_pending(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(bytes(32 * MIB))
            protocol.transport.abort()
            await until(lambda: protocol.lost)
            assert protocol.lost_with is None
            with contextlib.suppress(ConnectionResetError):
                assert len(await receive(peer)) < 32 * MIB

    loop.run_until_complete(main())


def test_abort_in_the_turn_of_the_write() -> None:
    """asyncio's write() has given it to the kernel, which sends it."""

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            protocol.transport.write(b"last words")
            protocol.transport.abort()
            return await receive(peer)

    assert on_both(scenario) == b"last words"


# --- the peer goes away -------------------------------------------------------------


def test_reset_while_writing() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with facing() as (protocol, peer):
            protocol.transport.write(bytes(16 * MIB))
            await turns()
            reset(peer)
            await until(lambda: protocol.lost)
            await turns()
            protocol.transport.write(b"dropped")
            return described(protocol.lost_with), protocol.events[-1], reports

    exc, last, reports = on_both(scenario)
    assert exc[0] in (ConnectionResetError, BrokenPipeError)
    assert last == "lost"
    assert reports == []


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("size", [10, MIB])
def test_write_after_a_reset(kind: type, size: int) -> None:
    """The first write fails with what the peer did, not with EPIPE as a second."""

    async def scenario(loop: Any) -> Any:
        async with facing() as (protocol, peer):
            protocol.transport.pause_reading()
            await turns()
            reset(peer)
            protocol.transport.write(kind(size))
            await until(lambda: protocol.lost)
            return described(protocol.lost_with), protocol.events

    assert on_both(scenario)[0][0] is ConnectionResetError


def test_reset_while_closing(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.write(bytes(16 * MIB))
            protocol.transport.close()
            await turns()
            reset(peer)
            await until(lambda: protocol.lost)
            assert isinstance(protocol.lost_with, ConnectionError)

    loop.run_until_complete(main())


def test_write_to_a_peer_that_has_closed(loop: Loop) -> None:
    """eof_received() has kept the connection; writing shows that nobody reads."""

    class Stubborn(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async def main() -> None:
        async with facing(Stubborn) as (protocol, peer):
            peer.close()
            await until(lambda: "eof" in protocol.events)
            while not protocol.lost:
                protocol.transport.write(b"hello?")
                await turns(1)
            assert isinstance(protocol.lost_with, ConnectionError)
            assert protocol.events == ["made", "eof", "lost"]

    loop.run_until_complete(main())


def test_error_of_writing_comes_after_what_was_read(loop: Loop) -> None:
    """The peer answers and closes while it is written to."""

    async def main() -> None:
        for _ in range(20):
            async with facing() as (protocol, peer):
                peer.send(b"answer")
                peer.close()
                protocol.transport.write(b"question")
                await until(lambda: protocol.lost)
                assert protocol.data in (b"answer", b"")
                assert protocol.events[-1] == "lost"
                assert protocol.events.count("lost") == 1

    loop.run_until_complete(main())


# --- both directions ----------------------------------------------------------------


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_large_transfer_both_ways(loop: Loop, kind: type[Recorder]) -> None:
    """64 MiB each way, in pieces, with flow control."""
    piece = text(256 * 1024)
    count = 256

    class Sender(kind):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__(*([256 * 1024] if kind is BufferedRecorder else []))
            self.received = hashlib.sha256()
            self.size = 0
            self.left = count
            self.paused = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.go_on()

        def go_on(self) -> None:
            while self.left and not self.paused:
                self.left -= 1
                self.transport.write(piece)
            if not self.left:
                self.transport.write_eof()

        def pause_writing(self) -> None:
            self.paused = True

        def resume_writing(self) -> None:
            self.paused = False
            self.go_on()

        def data_received(self, data: bytes) -> None:
            self.received.update(data)
            self.size += len(data)

        def buffer_updated(self, nbytes: int) -> None:
            self.data_received(self.buffer[:nbytes])

        def eof_received(self) -> bool:
            super().eof_received()
            return True

    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(piece)

    async def main() -> None:
        async with connected(Sender, Sender, host=HOST) as connection:
            for end in connection.client, connection.server:
                await until(lambda: "eof" in end.events)  # noqa: B023
                assert end.size == 64 * MIB
                assert end.received.digest() == expected.digest()

    loop.run_until_complete(main())
    run_once(loop)
