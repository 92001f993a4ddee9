"""What a protocol is told, in which order, and what comes of its exceptions."""

from __future__ import annotations

import array
import asyncio
import contextlib
import contextvars
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from io_support import (
    HOST,
    BufferedRecorder,
    Echo,
    Loop,
    Recorder,
    collect_reports,
    connected,
    described,
    described_report,
    facing,
    on_both,
    receive,
    reset,
    run_until,
    tcp_pair,
    turns,
    until,
)

KINDS = [Recorder, BufferedRecorder]
kinds = pytest.mark.parametrize("kind", KINDS)


def summary(protocol: Recorder) -> Any:
    return protocol.events, bytes(protocol.data), described(protocol.lost_with)


# --- order --------------------------------------------------------------------------


@kinds
def test_life_of_a_connection(kind: type[Recorder]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing(kind) as (protocol, peer):
            peer.send(b"some ")
            peer.send(b"data")
            peer.close()
            await until(lambda: protocol.lost)
            return summary(protocol)

    answer = on_both(scenario)
    assert answer == (["made", "data", "eof", "lost"], b"some data", None)


@kinds
def test_life_of_an_accepted_connection(kind: type[Recorder]) -> None:
    async def scenario(loop: Any) -> Any:
        async with connected(server=kind) as connection:
            connection.client.transport.write(b"data")
            connection.client.transport.close()
            await until(lambda: connection.client.lost and connection.server.lost)
            return summary(connection.client), summary(connection.server)

    client, server = on_both(scenario)
    assert client == (["made", "lost"], b"", None)
    assert server == (["made", "data", "eof", "lost"], b"data", None)


def test_data_that_waits_comes_after_connection_made(loop: Loop) -> None:
    async def main() -> None:
        ours, peer = tcp_pair()
        peer.send(b"early")
        peer.close()
        _, protocol = await loop.create_connection(Recorder, sock=ours)
        await until(lambda: protocol.lost)
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert protocol.data == b"early"

    loop.run_until_complete(main())


@kinds
def test_reset_while_reading(kind: type[Recorder]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing(kind) as (protocol, peer):
            await turns()
            reset(peer)
            await until(lambda: protocol.lost)
            return summary(protocol)

    events, _, exc = on_both(scenario)
    assert events == ["made", "lost"]
    assert exc[0] is ConnectionResetError


@kinds
def test_closing_tells_nothing_more(kind: type[Recorder]) -> None:
    """What comes after close() is not read."""

    async def scenario(loop: Any) -> Any:
        async with facing(kind) as (protocol, peer):
            peer.send(b"data")
            await until(lambda: protocol.data)
            protocol.transport.close()
            peer.send(b"too late")
            peer.close()
            await until(lambda: protocol.lost)
            return summary(protocol)

    assert on_both(scenario) == (["made", "data", "lost"], b"data", None)


def test_connection_lost_is_called_once(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            transport = protocol.transport
            transport.close()
            transport.abort()
            transport.close()
            peer.close()
            await until(lambda: protocol.lost)
            transport.abort()
            transport.close()
            await turns()
            assert protocol.events == ["made", "lost"]

    loop.run_until_complete(main())


def test_connection_lost_is_not_called_from_close(loop: Loop) -> None:
    async def main() -> None:
        for end in "close", "abort":
            async with facing() as (protocol, _):
                getattr(protocol.transport, end)()
                assert not protocol.lost
                await until(lambda: protocol.lost)

    loop.run_until_complete(main())


# --- the end of the stream ----------------------------------------------------------


class HalfOpen(Recorder):
    def eof_received(self) -> bool:
        super().eof_received()
        return True


class BufferedHalfOpen(BufferedRecorder, HalfOpen):
    pass


half_open = pytest.mark.parametrize("kind", [HalfOpen, BufferedHalfOpen])


@half_open
def test_eof_received_may_keep_the_connection(kind: type[Recorder]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing(kind) as (protocol, peer):
            peer.send(b"question")
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            await turns()
            assert not protocol.transport.is_closing()
            protocol.transport.write(b"answer")
            answer = await receive(peer, 6)
            protocol.transport.write(b", and more")
            protocol.transport.close()
            return answer + await receive(peer), summary(protocol)

    answer, told = on_both(scenario)
    assert answer == b"answer, and more"
    assert told == (["made", "data", "eof", "lost"], b"question", None)


@half_open
def test_half_closed_by_us(kind: type[Recorder]) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing(kind) as (protocol, peer):
            protocol.transport.write(b"question")
            protocol.transport.write_eof()
            question = await receive(peer)
            peer.send(b"answer")
            await until(lambda: protocol.data == b"answer")
            peer.close()
            await until(lambda: "eof" in protocol.events)
            protocol.transport.close()
            await until(lambda: protocol.lost)
            return question, summary(protocol)

    question, told = on_both(scenario)
    assert question == b"question"
    assert told == (["made", "data", "eof", "lost"], b"answer", None)


def test_half_closed_in_turn(loop: Loop) -> None:
    """First the client has said all, then the server."""

    class Server(HalfOpen):
        def eof_received(self) -> bool:
            super().eof_received()
            self.transport.write(bytes(reversed(self.data)))
            self.transport.write_eof()
            return True

    async def main() -> None:
        async with connected(client=HalfOpen, server=Server) as connection:
            client, server = connection.client, connection.server
            client.transport.write(b"abc" * 100_000)
            client.transport.write_eof()
            await until(lambda: "eof" in client.events)
            assert client.data == b"cba" * 100_000
            assert not client.transport.is_closing()
            assert not server.transport.is_closing()
            for end in client, server:
                end.transport.close()
            await until(lambda: client.lost and server.lost)
            assert client.lost_with is server.lost_with is None

    loop.run_until_complete(main())


@pytest.mark.parametrize("answer", [None, False, 0, "", True, 1, "yes", [0]])
def test_truth_of_what_eof_received_returns(answer: Any) -> None:
    class Answering(Recorder):
        def eof_received(self) -> Any:
            super().eof_received()
            return answer

    async def scenario(loop: Any) -> Any:
        async with facing(Answering) as (protocol, peer):
            peer.close()
            await until(lambda: "eof" in protocol.events)
            await turns()
            return protocol.lost

    assert on_both(scenario) == (not answer)


def test_end_of_stream_waits_for_resume_reading(loop: Loop) -> None:
    async def main() -> None:
        async with facing() as (protocol, peer):
            protocol.transport.pause_reading()
            peer.send(b"data")
            peer.close()
            await turns()
            assert protocol.events == ["made"]
            protocol.transport.resume_reading()
            await until(lambda: protocol.lost)
            assert protocol.events == ["made", "data", "eof", "lost"]

    loop.run_until_complete(main())


# --- exceptions ---------------------------------------------------------------------


def raising(name: str, base: type[Recorder], exc: BaseException) -> type[Recorder]:
    """A recorder whose method raises, the first time that it is called."""

    def method(self: Any, *args: Any) -> Any:
        result = getattr(base, name)(self, *args)
        if not hasattr(self, "raised"):
            self.raised = True
            raise exc
        return result

    method.__qualname__ = f"Raising.{name}"
    return type("Raising", (base,), {name: method})


@contextlib.asynccontextmanager
async def provoked(
    name: str, base: type[Recorder], exc: BaseException
) -> AsyncIterator[Any]:
    """A connection on which that method was called."""
    async with facing(raising(name, base, exc)) as (protocol, peer):
        if name == "eof_received":
            peer.close()
        elif name == "connection_lost":
            protocol.transport.close()
        elif name == "pause_writing":
            protocol.transport.write(bytes(16 << 20))
        elif name == "resume_writing":
            protocol.transport.write(bytes(16 << 20))
            await receive(peer, 16 << 20)
        else:
            peer.send(b"data")
        await until(lambda: hasattr(protocol, "raised"))
        await turns()
        yield protocol, peer


METHODS = [
    ("connection_made", Recorder),
    ("data_received", Recorder),
    ("get_buffer", BufferedRecorder),
    ("buffer_updated", BufferedRecorder),
    ("eof_received", Recorder),
    ("pause_writing", Recorder),
    ("resume_writing", Recorder),
]


@pytest.mark.parametrize("name,base", METHODS)
@pytest.mark.parametrize(
    "exc", [ZeroDivisionError("x"), OSError(5, "y"), asyncio.CancelledError("z")]
)
def test_failing_method_is_reported(
    name: str, base: type[Recorder], exc: BaseException
) -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        async with provoked(name, base, exc) as (protocol, _):
            lost = protocol.lost
            for report in reports:
                assert report.get("transport", protocol.transport)
                assert report.get("protocol", protocol) is protocol
            told = protocol.events, lost, described(protocol.lost_with)
        return [described_report(report) for report in reports], told

    on_both(scenario)


def test_failing_connection_lost_is_reported(loop: Loop) -> None:
    """The report names the callback, which asyncio has a private one for."""
    reports = collect_reports(loop)
    exc = ZeroDivisionError("x")

    async def main() -> None:
        async with provoked("connection_lost", Recorder, exc) as (protocol, peer):
            assert await receive(peer) == b""
            assert protocol.transport.get_protocol() is None

    loop.run_until_complete(main())
    [report] = reports
    assert report["exception"] is exc
    assert set(report) == {"message", "exception", "handle"}
    assert report["message"].startswith("Exception in callback ")
    assert "connection_lost(" in report["message"]


def test_failing_connection_lost_counts_for_the_server(loop: Loop) -> None:
    reports = collect_reports(loop)
    faulty = raising("connection_lost", Recorder, ZeroDivisionError("x"))

    async def main() -> None:
        async with connected(server=faulty) as connection:
            connection.client.transport.close()
            await until(lambda: connection.server.lost)

    loop.run_until_complete(main())
    assert len(reports) == 1


@pytest.mark.parametrize(
    "name,base",
    [
        ("connection_made", Recorder),
        ("data_received", Recorder),
        ("get_buffer", BufferedRecorder),
        ("buffer_updated", BufferedRecorder),
        ("connection_lost", Recorder),
        ("pause_writing", Recorder),
    ],
)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_fatal_exception_ends_the_run_only(
    loop: Loop, name: str, base: type[Recorder], kind: type[BaseException]
) -> None:
    """The run can be taken up again, and the connection with it."""
    reports = collect_reports(loop)
    ours, peer = tcp_pair()
    protocol = raising(name, base, kind())()
    task = loop.create_task(loop.create_connection(lambda: protocol, sock=ours))
    run = loop.run_until_complete
    with peer:
        if name == "connection_made":
            with pytest.raises(kind):
                loop.run_forever()
            run(turns())
        else:
            run(asyncio.wait([task]))
        transport = protocol.transport
        if name == "connection_lost":
            transport.close()
        elif name == "pause_writing":
            loop.call_soon(transport.write, bytes(16 << 20))
        elif name != "connection_made":
            peer.send(b"data")
        if name != "connection_made":
            with pytest.raises(kind):
                loop.run_forever()
        if name == "connection_lost":
            run(until(lambda: ours.fileno() == -1))
        else:
            peer.send(b", more")
            run(until(lambda: protocol.data.endswith(b", more")))
            assert not transport.is_closing()
            transport.abort()
            run(until(lambda: protocol.lost))
    run(asyncio.wait([task]))
    assert reports == []


# --- another protocol ---------------------------------------------------------------


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_set_protocol_in_the_middle_of_the_stream(
    first: type[Recorder], second: type[Recorder]
) -> None:
    async def scenario(loop: Any) -> Any:
        async with facing(first) as (old, peer):
            peer.send(b"one")
            await until(lambda: old.data == b"one")
            new = second()
            old.transport.set_protocol(new)
            assert old.transport.get_protocol() is new
            peer.send(b"two")
            await until(lambda: new.data == b"two")
            peer.close()
            await until(lambda: new.lost)
            return summary(old), summary(new)

    old, new = on_both(scenario)
    assert old == (["made", "data"], b"one", None)
    assert new == (["data", "eof", "lost"], b"two", None)


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_set_protocol_while_data_arrives(
    loop: Loop, first: type[Recorder], second: type[Recorder]
) -> None:
    """From inside the callback that gets the data."""
    new = second()

    def switch(self: Any, data: Any) -> None:
        base(self, data)
        self.transport.set_protocol(new)

    name = "buffer_updated" if first is BufferedRecorder else "data_received"
    base = getattr(first, name)
    switching = type("Switching", (first,), {name: switch})

    async def main() -> None:
        async with facing(switching) as (old, peer):
            size = 3 << 20
            receiving = asyncio.ensure_future(until(lambda: new.lost))
            await asyncio.to_thread(peer.sendall, bytes(size))
            peer.shutdown(socket.SHUT_WR)
            await receiving
            assert old.data
            assert len(old.data) + len(new.data) == size
            assert old.events == ["made", "data"]
            assert new.events == ["data", "eof", "lost"]
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_set_protocol_before_and_in_connection_made(loop: Loop) -> None:
    new = Recorder()

    class Replaced(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.set_protocol(new)

    async def main() -> None:
        ours, peer = tcp_pair()
        transport, old = await loop.create_connection(Replaced, sock=ours)
        assert isinstance(old, Replaced)
        assert transport.get_protocol() is new
        peer.send(b"data")
        peer.close()
        await until(lambda: new.lost)
        assert old.events == ["made"]
        assert new.events == ["data", "eof", "lost"]

    loop.run_until_complete(main())


def test_methods_are_looked_up_when_they_are_called(loop: Loop) -> None:
    """Who replaces protocol.data_received gets the data."""

    async def main() -> None:
        async with facing() as (protocol, peer):
            peer.send(b"one")
            await until(lambda: protocol.data == b"one")
            got: list[bytes] = []
            protocol.data_received = got.append
            peer.send(b"two")
            await until(lambda: got == [b"two"])

    loop.run_until_complete(main())


def test_protocol_may_be_any_object(loop: Loop) -> None:
    """Of no class of asyncio's, with the methods as attributes."""

    class Duck:
        def __init__(self) -> None:
            self.data = b""
            self.lost = False
            self.connection_made = lambda transport: None
            self.eof_received = lambda: None

        def data_received(self, data: bytes) -> None:
            self.data += data

        def connection_lost(self, exc: Any) -> None:
            self.lost = True

    async def main() -> None:
        async with facing(Duck) as (protocol, peer):
            peer.send(b"data")
            peer.close()
            await until(lambda: protocol.lost)
            assert protocol.data == b"data"

    loop.run_until_complete(main())


def test_base_protocol_of_asyncio_does_nothing(loop: Loop) -> None:
    async def main() -> None:
        async with facing(asyncio.Protocol) as (_, peer):
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            assert await receive(peer) == b""

    loop.run_until_complete(main())


# --- buffered protocols -------------------------------------------------------------


@pytest.mark.parametrize("base", [object, asyncio.BaseProtocol])
def test_buffered_protocol_may_be_any_object(fast_loop: Loop, base: type) -> None:
    """What lacks data_received() is read into its buffer; asyncio fails there."""

    class Duck(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.buffer = bytearray(3)
            self.data = b""
            self.lost = False

        def connection_made(self, transport: Any) -> None:
            pass

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

        def eof_received(self) -> None:
            pass

        def connection_lost(self, exc: Any) -> None:
            self.lost = True

    async def main() -> None:
        async with facing(Duck) as (protocol, peer):
            peer.send(b"some data")
            peer.close()
            await until(lambda: protocol.lost)
            assert protocol.data == b"some data"

    fast_loop.run_until_complete(main())


def test_protocol_without_a_way_to_read_fails_when_data_comes(loop: Loop) -> None:
    class Mute(asyncio.BaseProtocol):
        lost = False

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = isinstance(exc, AttributeError)

    async def main() -> None:
        reports = collect_reports(loop)
        async with facing(Mute) as (protocol, peer):
            peer.send(b"data")
            await until(lambda: protocol.lost)
        assert len(reports) == 1

    loop.run_until_complete(main())


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_buffer_of_any_size(loop: Loop, size: int) -> None:
    async def main() -> None:
        async with facing(lambda: BufferedRecorder(size)) as (protocol, peer):
            data = bytes(range(256)) * 64
            peer.sendall(data)
            await until(lambda: protocol.data == data)
            peer.close()
            await until(lambda: protocol.lost)

    loop.run_until_complete(main())


def test_buffer_in_small_pieces_is_filled_in_order(loop: Loop) -> None:
    """A parser asks for a header, then for a body: each time another size."""

    class Parser(BufferedRecorder):
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[bytes] = []
            self.view = memoryview(bytearray(2))
            self.filled = 0
            self.in_body = False

        def get_buffer(self, sizehint: int) -> Any:
            return self.view[self.filled :]

        def buffer_updated(self, nbytes: int) -> None:
            self.filled += nbytes
            if self.filled < len(self.view):
                return
            whole = bytes(self.view)
            self.filled = 0
            self.in_body = not self.in_body
            if self.in_body:
                self.view = memoryview(bytearray(int.from_bytes(whole, "big")))
            else:
                self.messages.append(whole)
                self.view = memoryview(bytearray(2))

    async def main() -> None:
        async with facing(Parser) as (protocol, peer):
            messages = [bytes([n]) * (n * 37 + 1) for n in range(200)]
            for message in messages:
                peer.sendall(len(message).to_bytes(2, "big") + message)
            await until(lambda: len(protocol.messages) == 200)
            assert protocol.messages == messages

    loop.run_until_complete(main())


GOOD_BUFFERS: list[Callable[[], Any]] = [
    lambda: bytearray(8),
    lambda: memoryview(bytearray(8)),
    lambda: memoryview(bytearray(64))[3:9],
    lambda: array.array("b", bytes(8)),
    lambda: array.array("i", [0, 0]),
    lambda: memoryview(array.array("i", [0, 0])),
]
BAD_BUFFERS: list[Callable[[], Any]] = [
    lambda: bytearray(),
    lambda: memoryview(b""),
    lambda: bytes(8),
    lambda: memoryview(bytearray(64))[::2],
    lambda: "text",
    lambda: None,
    lambda: 8,
    lambda: [1, 2],
    list,
]


def giving(make: Callable[[], Any]) -> type[BufferedRecorder]:
    class Giving(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = make()
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            with memoryview(self.buffer) as view:
                self.data += view.cast("B")[:nbytes]

    return Giving


@pytest.mark.parametrize("make", GOOD_BUFFERS)
def test_what_can_be_read_into(loop: Loop, make: Callable[[], Any]) -> None:
    async def main() -> None:
        async with facing(giving(make)) as (protocol, peer):
            peer.send(b"some data that is longer")
            await until(lambda: protocol.data == b"some data that is longer")

    loop.run_until_complete(main())


@pytest.mark.parametrize("make", BAD_BUFFERS)
def test_what_cannot_be_read_into(loop: Loop, make: Callable[[], Any]) -> None:
    reports = collect_reports(loop)

    async def main() -> None:
        async with facing(giving(make)) as (protocol, peer):
            peer.send(b"data")
            await until(lambda: protocol.lost)
            assert protocol.data == b""
            [report] = reports
            assert report["exception"] is protocol.lost_with
            assert report["protocol"] is protocol
            assert report["transport"] is protocol.transport
            kinds = (TypeError, BufferError, RuntimeError)
            assert isinstance(protocol.lost_with, kinds)

    loop.run_until_complete(main())


def test_buffer_is_free_while_the_loop_runs(loop: Loop) -> None:
    """A bytearray can be resized when its data is there, and whenever nothing is."""

    class Resizing(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.buffer.extend(bytes(10))

    async def main() -> None:
        async with facing(lambda: Resizing(4)) as (protocol, peer):
            peer.send(b"0123456789")
            await until(lambda: protocol.data == b"0123456789")
            await turns()
            protocol.buffer.clear()
            protocol.buffer.extend(bytes(3))
            peer.send(b"abc")
            await until(lambda: protocol.data.endswith(b"abc"))

    loop.run_until_complete(main())


ENDS = ["pause_reading", "close", "abort"]


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
def test_ending_it_inside_the_callbacks(what: str, where: str) -> None:
    class Ending(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.note("get_buffer")
            if where == "get_buffer":
                getattr(self.transport, what)()
            return super().get_buffer(sizehint)

        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            if where == "buffer_updated":
                getattr(self.transport, what)()

    async def scenario(loop: Any) -> Any:
        async with facing(lambda: Ending(4)) as (protocol, peer):
            peer.send(b"0123456789")
            await until(lambda: protocol.data)
            await turns()
            if what == "pause_reading":
                assert not protocol.transport.is_reading()
                assert protocol.data == b"0123"
                protocol.transport.resume_reading()
                await until(lambda: len(protocol.data) == 8)
                await turns()
            return summary(protocol)

    on_both(scenario)


@pytest.mark.parametrize("how", ["pause", "pause and resume", "resume"])
def test_pausing_inside_get_buffer_without_data(loop: Loop, how: str) -> None:
    """get_buffer() may be called, pause, and then nothing comes."""

    class Pausing(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            if "pause" in how:
                self.transport.pause_reading()
            if "resume" in how:
                self.transport.resume_reading()
            return super().get_buffer(sizehint)

    async def main() -> None:
        async with facing(lambda: Pausing(3)) as (protocol, peer):
            for n in range(5):
                peer.send(b"abc")
                await until(lambda: len(protocol.data) == 3 * (n + 1))  # noqa: B023
                await turns(2)
                assert protocol.transport.is_reading() == ("resume" in how)
                protocol.transport.resume_reading()
            peer.close()
            await until(lambda: protocol.lost)
            assert protocol.data == b"abc" * 5

    loop.run_until_complete(main())


def test_set_protocol_inside_get_buffer() -> None:
    new = Recorder()

    class Switching(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.transport.set_protocol(new)
            return super().get_buffer(sizehint)

    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)
        new.__init__()  # type: ignore[misc]
        async with facing(Switching) as (protocol, peer):
            peer.send(b"data")
            await until(lambda: new.lost or new.data)
            told = summary(protocol), summary(new)
        return told, [described_report(report) for report in reports]

    on_both(scenario)


# --- around the callbacks -----------------------------------------------------------


def test_callbacks_see_the_context_of_their_connection(loop: Loop) -> None:
    var = contextvars.ContextVar("var", default="default")
    seen: dict[str, set[str]] = {"client": set(), "server": set()}

    def watching(which: str) -> type[Recorder]:
        class Watching(Recorder):
            def note(self, event: str) -> None:
                super().note(event)
                seen[which].add(f"{event} {var.get()}")

        return Watching

    async def client(address: Any) -> None:
        var.set("client's")
        transport, protocol = await loop.create_connection(watching("client"), *address)
        var.set("changed later")
        transport.write(b"data")
        await until(lambda: protocol.data == b"data")
        transport.close()
        await until(lambda: protocol.lost)

    class Server(watching("server"), Echo):  # type: ignore[misc]
        pass

    async def main() -> None:
        var.set("server's")
        server = await loop.create_server(Server, HOST, 0)
        var.set("changed later")
        await asyncio.create_task(client(server.sockets[0].getsockname()))
        await until(lambda: "lost server's" in seen["server"])
        server.close()

    loop.run_until_complete(main())
    assert seen["client"] >= {"made client's", "data client's"}
    events = "made", "data", "eof", "lost"
    assert seen["server"] == {f"{event} server's" for event in events}


def test_no_task_is_current_in_a_callback(loop: Loop) -> None:
    seen: set[Any] = set()

    class Watching(Recorder):
        def note(self, event: str) -> None:
            super().note(event)
            seen.add((asyncio.current_task(), asyncio.get_running_loop()))

    async def main() -> None:
        async with facing(Watching) as (protocol, peer):
            peer.send(b"data")
            peer.close()
            await until(lambda: protocol.lost)

    loop.run_until_complete(main())
    assert seen == {(None, loop)}


def test_callbacks_may_stop_the_loop(loop: Loop) -> None:
    class Stopping(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            loop.stop()

    ours, peer = tcp_pair()
    _, protocol = loop.run_until_complete(loop.create_connection(Stopping, sock=ours))
    peer.send(b"one")
    loop.run_forever()
    assert protocol.data == b"one"
    peer.send(b", two")
    loop.run_forever()
    assert protocol.data == b"one, two"
    peer.close()
    run_until(loop, lambda: protocol.lost)
