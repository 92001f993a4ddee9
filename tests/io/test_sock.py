"""The sock_* methods: each on both loops, with every way to go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import os
import random
import socket
import ssl
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from io_support import (
    HOST,
    collect_reports,
    descriptors,
    fill,
    isolated,
    on_both,
    outcome,
    refusing,
    reset,
    run_once,
    tcp_pair,
    turns,
    until,
    words,
)

LARGE = 3_000_000


@contextlib.contextmanager
def pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, ...]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


def bound(family: int = socket.AF_INET, host: str = HOST) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def listening() -> socket.socket:
    sock = socket.create_server((HOST, 0))
    sock.setblocking(False)
    return sock


async def later(awaitable: Any, act: Any) -> Any:
    """What the awaitable gives if act() is called while it waits."""
    task = asyncio.ensure_future(awaitable)
    await turns(2)
    assert not task.done()
    act()
    return await outcome(task)


# --- receiving ----------------------------------------------------------------------


def test_recv() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            theirs.send(b"here already")
            answers = [await loop.sock_recv(ours, 4)]
            answers.append(await loop.sock_recv(ours, 65536))
            answers.append(
                await later(loop.sock_recv(ours, 100), lambda: theirs.send(b"late"))
            )
            answers.append(await later(loop.sock_recv(ours, 10), theirs.close))
            return answers

    assert on_both(scenario) == [b"here", b" already", b"late", b""]


@pytest.mark.parametrize("size", [1, 4096, 4097, 200_000, 1 << 20])
def test_recv_sizes(size: int) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            sent = min(fill(theirs), size)
            data = await loop.sock_recv(ours, size)
            return type(data), len(data) <= sent, set(data)

    assert on_both(scenario) == (bytes, True, {0})


@pytest.mark.parametrize("size", [0, -1, "x", None, 1.5, 1 << 70])
def test_recv_bad_size(size: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            theirs.send(b"data")
            return await outcome(loop.sock_recv(ours, size))

    on_both(scenario)


def test_recv_into() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            buffer = bytearray(8)
            theirs.send(b"one")
            answers = [await loop.sock_recv_into(ours, buffer)]
            theirs.send(b"two")
            answers.append(await loop.sock_recv_into(ours, memoryview(buffer)[4:6]))
            answers.append(await loop.sock_recv_into(ours, memoryview(buffer)[7:]))
            answers.append(bytes(buffer))
            waited = later(
                loop.sock_recv_into(ours, buffer), lambda: theirs.send(b"34")
            )
            answers.append(await waited)
            answers.append(await loop.sock_recv_into(ours, bytearray()))
            return [*answers, bytes(buffer)]

    assert on_both(scenario) == [3, 2, 1, b"one\0tw\0o", 2, 0, b"34e\0tw\0o"]


@pytest.mark.parametrize("buffer", [b"read only", "text", None, memoryview(b"x")])
def test_recv_into_bad_buffer(buffer: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            theirs.send(b"data")
            return await outcome(loop.sock_recv_into(ours, buffer))

    assert on_both(scenario)[0] in (TypeError, BufferError)


def test_recv_into_buffer_that_shrinks_meanwhile() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            buffer = bytearray(100)

            def act() -> None:
                del buffer[2:]
                theirs.send(b"12345")

            return await later(loop.sock_recv_into(ours, buffer), act), bytes(buffer)

    assert on_both(scenario) == (2, b"12")


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, HOST), (socket.AF_INET6, "::1")]
)
def test_datagrams(family: int, host: str) -> None:
    async def scenario(loop: Any) -> Any:
        with bound(family, host) as ours, bound(family, host) as theirs:
            here, there = ours.getsockname(), theirs.getsockname()
            answers = [await loop.sock_sendto(theirs, b"one", here)]
            data, address = await loop.sock_recvfrom(ours, 100)
            answers += [data, address == there]
            answers.append(await loop.sock_sendto(theirs, b"", here[:2]))
            data, address = await loop.sock_recvfrom(ours, 100)
            answers += [data, address == there]
            buffer = bytearray(10)
            await loop.sock_sendto(theirs, memoryview(b"three"), here)
            size, address = await loop.sock_recvfrom_into(ours, buffer)
            answers += [size, address == there, bytes(buffer)]
            await loop.sock_sendto(theirs, bytearray(b"four"), here)
            size, address = await loop.sock_recvfrom_into(ours, buffer, 2)
            answers += [size, address == there, bytes(buffer)]
            answer = await later(
                loop.sock_recvfrom(ours, 3), lambda: theirs.sendto(b"late", here)
            )
            return [*answers, answer == (b"lat", there)]

    answers = on_both(scenario)
    assert answers[:3] == [3, b"one", True]
    assert answers[-1] is True


def test_recvfrom_a_stream() -> None:
    async def scenario(loop: Any) -> Any:
        ours, peer = tcp_pair()
        with ours, peer:
            ours.setblocking(False)
            peer.send(b"data")
            return await loop.sock_recvfrom(ours, 10)

    assert on_both(scenario) == (b"data", None)


def test_recvfrom_unix_names(tmp_path: Any) -> None:
    async def scenario(loop: Any) -> Any:
        answers = []
        names = [str(tmp_path / f"s{id(loop)}"), None]
        if sys.platform == "linux":
            names.append("\0" + f"abstract {id(loop)}")
        here = str(tmp_path / f"here{id(loop)}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.setblocking(False)
            ours.bind(here)
            for name in names:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
                    if name:
                        theirs.bind(name)
                    theirs.setblocking(False)
                    await loop.sock_sendto(theirs, b"x", here)
                    _, address = await loop.sock_recvfrom(ours, 10)
                    answers.append((type(address), address == theirs.getsockname()))
        return answers

    on_both(scenario)


@pytest.mark.parametrize(
    "arguments", [(bytearray(4), -1), (bytearray(4), 5), (b"1234",), (7,), ("x", "y")]
)
def test_recvfrom_into_bad_arguments(arguments: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with bound() as ours, bound() as theirs:
            theirs.sendto(b"data", ours.getsockname())
            return await outcome(loop.sock_recvfrom_into(ours, *arguments))

    assert on_both(scenario)[0] in (TypeError, ValueError)


# --- sending ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendall(kind: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            data = kind(random.Random(1).randbytes(LARGE))
            received = bytearray()

            async def read() -> None:
                while len(received) < LARGE:
                    received.extend(await loop.sock_recv(theirs, 1 << 18))

            results = await asyncio.gather(loop.sock_sendall(ours, data), read())
            return results, received == data

    assert on_both(scenario) == ([None, None], True)


def test_sendall_holds_what_it_sends() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, _theirs):
            data = bytearray(LARGE)
            task = loop.create_task(loop.sock_sendall(ours, data))
            await turns(2)
            with pytest.raises(BufferError):
                data.clear()
            task.cancel()
            await turns(2)
            data.clear()
            return task.cancelled()

    assert on_both(scenario) is True


@pytest.mark.parametrize("data", [b"", "text", None, 3, [1]])
def test_sendall_odd_data(data: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, _):
            return await outcome(loop.sock_sendall(ours, data))

    on_both(scenario)


def test_sendall_to_a_peer_that_goes() -> None:
    async def scenario(loop: Any) -> Any:
        ours, peer = tcp_pair()
        with ours:
            ours.setblocking(False)
            return await later(
                loop.sock_sendall(ours, bytes(20 * LARGE)), lambda: reset(peer)
            )

    assert on_both(scenario)[0] is ConnectionResetError


def test_sendto_waits() -> None:
    async def scenario(loop: Any) -> Any:
        with pair(socket.SOCK_DGRAM) as (ours, theirs):
            fill(ours)
            # a name is needed by the method, but not by a pair
            with pytest.raises(TypeError):
                await loop.sock_sendto(ours, b"x", None)
            waited = loop.create_task(loop.sock_sendall(ours, b"last"))
            await turns(2)
            assert not waited.done()
            last = b""
            while not waited.done() or last != b"last":
                last = await loop.sock_recv(theirs, 1 << 17)
                await asyncio.sleep(0)
            return last

    assert on_both(scenario) == b"last"


@pytest.mark.parametrize(
    "address",
    [
        None,
        "text",
        (),
        (HOST,),
        (HOST, "port"),
        (HOST, -1),
        (HOST, 65536),
        (HOST, 1, 2),
        ("no\0name", 1),
        ("::1", 1),
        (b"127.0.0.1", 0),
        [HOST, 1],
    ],
)
def test_sendto_bad_address(address: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with bound() as ours:
            return await outcome(loop.sock_sendto(ours, b"x", address))

    on_both(scenario)


@isolated
def test_sendto_is_audited(loop_factory: Any) -> None:
    import io_support

    seen = []
    sys.addaudithook(
        lambda event, args: seen.append(args) if event == "socket.sendto" else None
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with bound() as ours, bound() as theirs:
            name = theirs.getsockname()
            await loop.sock_sendto(ours, b"x", name)
            assert seen == [(ours, name)]
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=ours.dup()
            )
            transport.sendto(b"x", name)
            assert seen[1][1] == name
            transport.close()
            await io_support.turns(2)

    loop = loop_factory()
    loop.run_until_complete(main())
    loop.close()


def test_sendto_a_name() -> None:
    async def scenario(loop: Any) -> Any:
        with bound() as ours, bound() as theirs:
            port = theirs.getsockname()[1]
            sent = await loop.sock_sendto(ours, b"x", ("localhost", port))
            return sent, await loop.sock_recv(theirs, 10)

    assert on_both(scenario) == (1, b"x")


def test_sendto_too_much() -> None:
    async def scenario(loop: Any) -> Any:
        with bound() as ours, bound() as theirs:
            call = loop.sock_sendto(ours, bytes(70_000), theirs.getsockname())
            return await outcome(call)

    assert on_both(scenario)[0] is OSError


# --- connections --------------------------------------------------------------------


def test_accept_and_connect() -> None:
    async def scenario(loop: Any) -> Any:
        with listening() as server, socket.socket() as client:
            client.setblocking(False)
            (accepted, address), done = await asyncio.gather(
                loop.sock_accept(server),
                loop.sock_connect(client, server.getsockname()),
            )
            with accepted:
                return (
                    done,
                    type(accepted),
                    accepted.gettimeout(),
                    accepted.family,
                    accepted.type,
                    os.get_inheritable(accepted.fileno()),
                    address == client.getsockname(),
                )

    assert on_both(scenario)[0] is None


def test_accept_one_that_waits() -> None:
    async def scenario(loop: Any) -> Any:
        with listening() as server, socket.create_connection(server.getsockname()):
            accepted, _ = await loop.sock_accept(server)
            accepted.close()
            return await outcome(asyncio.wait_for(loop.sock_accept(server), 0.01))

    assert on_both(scenario)[0] is TimeoutError


def test_accept_on_what_does_not_listen() -> None:
    async def scenario(loop: Any) -> Any:
        with socket.socket() as sock:
            sock.setblocking(False)
            return await outcome(loop.sock_accept(sock))

    assert on_both(scenario)[0] is OSError


def test_accept_unix(tmp_path: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as server:
            path = str(tmp_path / f"s{id(loop)}")
            server.bind(path)
            server.listen()
            server.setblocking(False)
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                await loop.sock_connect(client, path)
                accepted, address = await loop.sock_accept(server)
                accepted.close()
                return address, accepted.family

    assert on_both(scenario) == ("", socket.AF_UNIX)


def test_connect_refused() -> None:
    async def scenario(loop: Any) -> Any:
        with refusing() as address, socket.socket() as sock:
            sock.setblocking(False)
            kind, text, number = await outcome(loop.sock_connect(sock, address))
            return kind, text.replace(str(address[1]), "PORT"), number

    assert on_both(scenario)[0] is ConnectionRefusedError


def test_connect_a_name() -> None:
    async def scenario(loop: Any) -> Any:
        with listening() as server, socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("localhost", server.getsockname()[1]))
            return sock.getpeername() == server.getsockname()

    assert on_both(scenario) is True


@pytest.mark.parametrize("address", [None, (), (HOST,), "text", ("no.such.host", "x")])
def test_connect_bad_address(address: Any) -> None:
    async def scenario(loop: Any) -> Any:
        with socket.socket() as sock:
            sock.setblocking(False)
            return (await outcome(loop.sock_connect(sock, address)))[0]

    on_both(scenario)


# --- what is refused ----------------------------------------------------------------

CALLS = {
    "sock_recv": (10,),
    "sock_recv_into": (bytearray(10),),
    "sock_recvfrom": (10,),
    "sock_recvfrom_into": (bytearray(10),),
    "sock_sendall": (b"data",),
    "sock_sendto": (b"data", (HOST, 9)),
    "sock_accept": (),
}


@pytest.mark.parametrize("name", CALLS)
def test_debug_mode_refuses_blocking_sockets(name: str) -> None:
    async def scenario(loop: Any) -> Any:
        loop.set_debug(True)
        with socket.socket() as sock:
            return await outcome(getattr(loop, name)(sock, *CALLS[name]))

    assert on_both(scenario) == (ValueError, "the socket must be non-blocking", None)


@pytest.mark.parametrize("name", CALLS)
def test_tls_sockets_are_refused(name: str) -> None:
    async def scenario(loop: Any) -> Any:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with context.wrap_socket(socket.socket()) as sock:
            return await outcome(getattr(loop, name)(sock, *CALLS[name]))

    assert on_both(scenario)[0] is TypeError


@pytest.mark.parametrize("name", CALLS)
def test_closed_sockets(name: str) -> None:
    async def scenario(loop: Any) -> Any:
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        return await outcome(getattr(loop, name)(sock, *CALLS[name]))

    assert on_both(scenario)[0] is OSError


@pytest.mark.parametrize("name", CALLS)
def test_arguments_are_checked_when_called(name: str, loop: Any) -> None:
    method = getattr(loop, name)
    with pytest.raises(TypeError):
        method()
    with pytest.raises(TypeError):
        method(None, *CALLS[name], 1, 2)
    with pytest.raises(TypeError):
        method(None, *CALLS[name], nothing=1)


@pytest.mark.parametrize("name", CALLS)
def test_parameters_may_be_named(name: str, loop: Any) -> None:
    names = list(inspect.signature(getattr(loop, name)).parameters)
    values = dict(zip(names, (None, *CALLS[name]), strict=False))
    getattr(loop, name)(**values).close()


def test_socket_of_a_transport_is_refused() -> None:
    async def scenario(loop: Any) -> Any:
        ours, peer = tcp_pair()
        with peer:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            duplicate = socket.socket(fileno=ours.fileno())
            try:
                kind, text, _ = await outcome(loop.sock_recv(duplicate, 1))
                return kind, words(text).replace(str(duplicate.fileno()), "FD")
            finally:
                duplicate.detach()
                transport.abort()
                await turns(2)

    assert on_both(scenario)[0] is RuntimeError


def test_methods_of_a_subclass_are_called() -> None:
    class Shouting(socket.socket):
        def recv(self, *args: Any) -> bytes:
            return super().recv(*args).upper()

        def send(self, data: Any, *args: Any) -> int:  # type: ignore[override]
            return super().send(bytes(data[:7]), *args)

    async def scenario(loop: Any) -> Any:
        plain, theirs = socket.socketpair()
        with theirs, Shouting(fileno=plain.detach()) as ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            answer = await later(
                loop.sock_recv(ours, 10), lambda: theirs.send(b"quiet")
            )
            await loop.sock_sendall(ours, bytes(range(50)))
            return answer, theirs.recv(100)

    assert on_both(scenario) == (b"QUIET", bytes(range(50)))


def test_blocking_socket_does_not_block_the_loop(fast_loop: Any) -> None:
    """Outside debug mode asyncio's loop would hang here."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.create_server((HOST, 0)) as server:
            answer = await later(
                fast_loop.sock_recv(ours, 10), lambda: theirs.send(b"late")
            )
            assert answer == b"late"
            fill(theirs)
            theirs.setblocking(True)
            sending = asyncio.wait_for(fast_loop.sock_sendall(theirs, b"x"), 0.01)
            with pytest.raises(TimeoutError):
                await sending
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(fast_loop.sock_accept(server), 0.01)

    fast_loop.run_until_complete(main())


# --- they are coroutines ------------------------------------------------------------


def test_lazy(loop: Any) -> None:
    with pair() as (ours, theirs):
        theirs.send(b"data")
        coro = loop.sock_recv(ours, 10)
        assert ours.recv(10, socket.MSG_PEEK) == b"data"
        assert loop.run_until_complete(coro) == b"data"


def test_passes_for_a_coroutine(loop: Any) -> None:
    with pair() as (ours, _):
        coro = loop.sock_recv(ours, 10)
        assert asyncio.iscoroutine(coro)
        assert inspect.isawaitable(coro)
        assert not asyncio.isfuture(coro)
        assert not hasattr(coro, "__iter__")
        assert coro.__name__ == "sock_recv"
        assert coro.__qualname__.endswith(".sock_recv")
        assert coro.cr_running is False
        assert weakref.ref(coro)() is coro
        assert "sock_recv at 0x" in repr(coro)
        coro.close()


def test_awaited_in_every_way() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            theirs.send(b"abcdef")
            answers = [
                await loop.sock_recv(ours, 1),
                await loop.create_task(loop.sock_recv(ours, 1)),
                await asyncio.wait_for(loop.sock_recv(ours, 1), 10),
                *await asyncio.gather(loop.sock_recv(ours, 1)),
                await asyncio.ensure_future(loop.sock_recv(ours, 1)),
                await asyncio.shield(loop.sock_recv(ours, 1)),
            ]
            task = loop.create_task(loop.sock_recv(ours, 1), name="waits")
            await turns(1)
            assert task.get_stack() == [] or task.get_stack()
            assert "waits" in repr(task)
            assert "sock_recv" in repr(task)
            theirs.send(b"g")
            return [*answers, await task]

    assert on_both(scenario) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]


def test_run_until_complete(loop: Any) -> None:
    with pair() as (ours, theirs):
        theirs.send(b"data")
        assert loop.run_until_complete(loop.sock_recv(ours, 10)) == b"data"


def test_asyncio_tasks_can_wait(fast_loop: Any) -> None:
    async def main() -> bytes:
        with pair() as (ours, theirs):
            task = asyncio.create_task(fast_loop.sock_recv(ours, 10))
            assert type(task).__module__ != "fastloop"
            fast_loop.call_later(0.01, theirs.send, b"late")
            return await task

    import fastloop

    fast_loop.set_task_factory(fastloop.asyncio_task_factory)
    assert fast_loop.run_until_complete(main()) == b"late"


def test_never_awaited(loop: Any) -> None:
    with pair() as (ours, _), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.sock_recv(ours, 10)
        gc.collect()
        loop.sock_recv(ours, 10).close()
        gc.collect()
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "sock_recv' was never awaited" in str(caught[0].message)


def test_never_awaited_origin(loop: Any) -> None:
    depth = sys.get_coroutine_origin_tracking_depth()
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        with pair() as (ours, _):
            coro = loop.sock_recv(ours, 10)
            (filename, _, name), *_ = coro.cr_origin
            assert (filename, name) == (__file__, "test_never_awaited_origin")
            coro.close()
    finally:
        sys.set_coroutine_origin_tracking_depth(depth)


def test_awaited_twice() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            theirs.send(b"data")
            coro = loop.sock_recv(ours, 10)
            await coro
            answers = [await outcome(coro)]
            coro = loop.sock_recv(ours, 10)
            task = loop.create_task(coro)
            await turns(1)

            async def again() -> Any:
                return await coro

            answers.append(await outcome(again()))
            theirs.send(b"late")
            answers.append(await task)
            return answers

    answers = on_both(scenario)
    assert answers[0][1] == "cannot reuse already awaited coroutine"
    assert answers[1][1] == "coroutine is being awaited already"


def test_driven_by_hand(loop: Any) -> None:
    with pair() as (ours, theirs):
        coro = loop.sock_recv(ours, 10)
        with pytest.raises(TypeError, match="just-started"):
            coro.send(1)
        future = coro.send(None)
        assert asyncio.isfuture(future)
        theirs.send(b"data")
        while not future.done():
            run_once(loop)
        with pytest.raises(StopIteration) as caught:
            coro.send(None)
        assert caught.value.value == b"data"
        for call in (coro.send, coro.throw):
            with pytest.raises(RuntimeError, match="already awaited"):
                call(None if call == coro.send else KeyError())
        coro.close()


def test_sent_to_while_it_waits(loop: Any) -> None:
    with pair() as (ours, _):
        coro = loop.sock_recv(ours, 10)
        coro.send(None)
        with pytest.raises(RuntimeError, match="await wasn't used with future"):
            coro.send(None)


@pytest.mark.parametrize("started", [False, True])
def test_throw(loop: Any, started: bool) -> None:
    with pair() as (ours, _):
        coro = loop.sock_recv(ours, 10)
        if started:
            coro.send(None)
        with pytest.raises(KeyError, match="thrown"):
            coro.throw(KeyError("thrown"))
        with pytest.raises(RuntimeError, match="already awaited"):
            coro.send(None)
        run_once(loop)


def test_reentered(fast_loop: Any) -> None:
    """A method of the socket that drives the very coroutine that called it."""
    seen: list[Any] = []

    class Odd(socket.socket):
        def recv(self, *args: Any) -> bytes:
            for act in (
                lambda: coro.send(None),
                coro.close,
                lambda: coro.throw(KeyError),
            ):
                with pytest.raises(ValueError, match="already executing"):
                    act()
            seen.append(coro.cr_running)
            return super().recv(*args)

    plain, theirs = socket.socketpair()
    with theirs, Odd(fileno=plain.detach()) as ours:
        ours.setblocking(False)
        theirs.send(b"data")
        coro = fast_loop.sock_recv(ours, 10)
        assert fast_loop.run_until_complete(coro) == b"data"
    assert seen == [True]


# --- waiting ------------------------------------------------------------------------


def test_closed_loop(loop: Any) -> None:
    with pair() as (ours, _):
        loop.close()
        coro = loop.sock_recv(ours, 10)
        with pytest.raises(RuntimeError, match="closed"):
            coro.send(None)


def test_loop_closed_while_somebody_waits(loop_factory: Any) -> None:
    loop = loop_factory()
    with pair() as (ours, _):
        coro = loop.sock_recv(ours, 10)
        coro.send(None)
        loop.close()
        coro.close()


def test_waiting_task_is_kept_alive() -> None:
    """Nobody but the loop holds the task."""

    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            done: list[bytes] = []

            async def wait() -> None:
                done.append(await loop.sock_recv(ours, 10))

            reference = weakref.ref(loop.create_task(wait()))
            await turns(1)
            gc.collect()
            assert reference() is not None
            theirs.send(b"data")
            await until(lambda: done)
            return done

    assert on_both(scenario) == [b"data"]


def test_both_directions_at_once() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            filled = fill(ours)
            receiving = loop.create_task(loop.sock_recv(ours, 10))
            sending = loop.create_task(loop.sock_sendall(ours, b"last"))
            await turns(2)
            theirs.send(b"data")
            first = await receiving
            assert not sending.done()
            size = 0
            while size < filled + 4:
                size += len(await loop.sock_recv(theirs, 1 << 18))
            await sending
            return first, size - filled

    assert on_both(scenario) == (b"data", 4)


def test_next_to_a_reader() -> None:
    """add_writer() of the same socket goes on while somebody receives."""

    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            calls: list[None] = []
            loop.add_writer(ours, calls.append, None)
            answer = await later(loop.sock_recv(ours, 10), lambda: theirs.send(b"data"))
            before = len(calls)
            await turns(3)
            loop.remove_writer(ours)
            return answer, len(calls) > before > 0

    assert on_both(scenario) == (b"data", True)


def test_takes_the_place_of_a_reader() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            loop.add_reader(ours, print, "never called")
            answer = await later(loop.sock_recv(ours, 10), lambda: theirs.send(b"data"))
            return answer, loop.remove_reader(ours)

    assert on_both(scenario) == (b"data", False)


def test_reader_takes_its_place() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            calls: list[bytes] = []
            task = loop.create_task(loop.sock_recv(ours, 10))
            await turns(1)
            loop.add_reader(ours, lambda: calls.append(ours.recv(10)))
            theirs.send(b"data")
            await until(lambda: calls)
            task.cancel()
            await turns(2)
            theirs.send(b"more")
            await until(lambda: len(calls) == 2)
            loop.remove_reader(ours)
            return calls, task.cancelled()

    assert on_both(scenario) == ([b"data", b"more"], True)


def test_woken_for_nothing() -> None:
    """Somebody else has read what came."""

    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            task = loop.create_task(loop.sock_recv(ours, 10))
            await turns(1)
            theirs.send(b"gone")
            ours.recv(10)
            await turns(3)
            assert not task.done()
            theirs.send(b"data")
            return await task

    assert on_both(scenario) == b"data"


@pytest.mark.parametrize("when", ["waiting", "ready", "before"])
def test_cancel(when: str) -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            task = loop.create_task(loop.sock_recv(ours, 10))
            if when != "before":
                await turns(1)
            if when == "ready":
                theirs.send(b"data")
            task.cancel("enough")
            result = await asyncio.wait([task])
            assert task in result[0]
            assert task.cancelled()
            assert loop.remove_reader(ours) is False
            if when == "ready":
                # what came was not read by somebody who is gone
                return await loop.sock_recv(ours, 10)
            return None

    on_both(scenario)


def test_cancelled_ones_leave_no_watch(fast_loop: Any) -> None:
    async def main() -> None:
        with pair() as (ours, theirs):
            for _ in range(50):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(fast_loop.sock_recv(ours, 1), 0)
                task = fast_loop.create_task(fast_loop.sock_recv(ours, 1))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
            theirs.send(b"x")
            assert await fast_loop.sock_recv(ours, 1) == b"x"

    fast_loop.run_until_complete(main())


def test_number_used_again(fast_loop: Any) -> None:
    """A socket closed while somebody waits does not take the next one along.

    (asyncio still has the old one in its table, and never waits for the new one.)
    """
    loop = fast_loop

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        fd = ours.fileno()
        task = loop.create_task(loop.sock_recv(ours, 10))
        await turns(1)
        ours.close()
        theirs.close()
        with pair() as (again, other):
            if again.fileno() != fd:
                again, other = other, again
            assert again.fileno() == fd
            waiting = loop.create_task(loop.sock_recv(again, 10))
            await turns(1)
            task.cancel()
            await turns(2)
            assert task.cancelled()
            other.send(b"data")
            assert await waiting == b"data"

    loop.run_until_complete(main())


def test_replaced_under_the_number() -> None:
    """dup2() over the descriptor: the next wait is for what is there now."""

    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs), pair() as (new, other):
            theirs.send(b"old")
            answers = [await loop.sock_recv(ours, 10)]
            answers.append(
                await later(loop.sock_recv(ours, 10), lambda: theirs.send(b"old"))
            )
            os.dup2(new.fileno(), ours.fileno())
            answers.append(
                await later(loop.sock_recv(ours, 10), lambda: other.send(b"new"))
            )
            return answers

    assert on_both(scenario) == [b"old", b"old", b"new"]


def test_closed_with_a_duplicate_open() -> None:
    async def scenario(loop: Any) -> Any:
        with pair() as (ours, theirs):
            with ours.dup() as duplicate:
                task = loop.create_task(loop.sock_recv(duplicate, 10))
                await turns(1)
            theirs.send(b"data")
            await turns(3)
            task.cancel()
            await turns(1)
            return await loop.sock_recv(ours, 10)

    assert on_both(scenario) == b"data"


def test_random_cancellation_leaks_nothing(fast_loop: Any) -> None:
    """Cancelled at any await: no descriptor stays, no other's number is touched."""
    chance = random.Random(7)
    loop = fast_loop

    async def serve(server: socket.socket) -> None:
        accepted, _ = await loop.sock_accept(server)
        with accepted:
            while data := await loop.sock_recv(accepted, 1 << 14):
                await loop.sock_sendall(accepted, data)

    async def visit(address: Any) -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            for _ in range(5):
                await loop.sock_sendall(sock, bytes(5000))
                size = 0
                while size < 5000:
                    data = await loop.sock_recv(sock, 1 << 14)
                    if not data:
                        return
                    size += len(data)

    async def main() -> None:
        with listening() as server, pair() as (guard, guarded):
            address = server.getsockname()
            bystander = loop.create_task(loop.sock_recv(guard, 10))
            await turns(1)
            before = descriptors()
            for _ in range(300):
                tasks = [
                    loop.create_task(serve(server)),
                    loop.create_task(visit(address)),
                ]
                for _ in range(chance.randrange(12)):
                    await asyncio.sleep(0)
                chance.shuffle(tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        server.accept()[0].close()
            assert descriptors() == before
            guarded.send(b"still here")
            assert await bystander == b"still here"

    loop.run_until_complete(main())


def test_sock_calls_do_not_leak(fast_loop: Any) -> None:
    async def main() -> int:
        with pair() as (ours, theirs), bound() as a, bound() as b:
            for _ in range(200):
                theirs.send(b"data")
                await fast_loop.sock_recv(ours, 10)
                await fast_loop.sock_sendto(a, b"x", b.getsockname())
                await fast_loop.sock_recvfrom(b, 10)
                task = fast_loop.create_task(fast_loop.sock_recv(ours, 10))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
        del task
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(3):
        before = fast_loop.run_until_complete(main())
    assert fast_loop.run_until_complete(main()) - before < 50


def test_exception_of_a_callback_does_not_matter(fast_loop: Any) -> None:
    reports = collect_reports(fast_loop)

    async def main() -> bytes:
        with pair() as (ours, theirs):
            fast_loop.call_soon(lambda: 1 / 0)
            return await later(
                fast_loop.sock_recv(ours, 10), lambda: theirs.send(b"data")
            )

    assert fast_loop.run_until_complete(main()) == b"data"
    assert len(reports) == 1
