"""create_unix_connection(), create_unix_server(), and other Unix sockets."""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import os
import socket
import stat
import struct
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from io_support import (
    CERTS,
    Echo,
    Recorder,
    collect_reports,
    described,
    descriptors,
    end,
    on_both,
    outcome,
    receive,
    run_until,
    tls_client,
    tls_server,
    turns,
    until,
)

import fastloop

Loop = asyncio.AbstractEventLoop
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux")
MEGABYTE = bytes(range(256)) * 4096
assert CERTS


def abstract() -> str:
    return f"\0fastloop-{uuid.uuid4()}"


async def echo(loop: Loop, path: Any, **options: Any) -> bytes:
    """Serve, connect, send and receive; return what came back."""
    server = await loop.create_unix_server(Echo, path, **options)
    transport, protocol = await loop.create_unix_connection(Recorder, path)
    transport.write(MEGABYTE)
    await until(lambda: len(protocol.data) == len(MEGABYTE))
    transport.close()
    await until(lambda: protocol.lost)
    server.close()
    await server.wait_closed()
    await turns(2)
    return bytes(protocol.data)


# --- connections --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_path(loop: Loop, tmp_path: Path, kind: Any) -> None:
    path = kind(str(tmp_path / "socket"))
    assert loop.run_until_complete(echo(loop, path)) == MEGABYTE


@LINUX
@pytest.mark.parametrize("kind", [str, str.encode])
def test_abstract_name(loop: Loop, kind: Any) -> None:
    name = kind(abstract())
    assert loop.run_until_complete(echo(loop, name)) == MEGABYTE
    assert loop.run_until_complete(echo(loop, name, backlog=5)) == MEGABYTE


def test_streams(loop: Loop, tmp_path: Path) -> None:
    async def shout(reader: Any, writer: Any) -> None:
        writer.write((await reader.read()).upper())
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        path = tmp_path / "socket"
        async with await asyncio.start_unix_server(shout, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"quiet words")
            writer.write_eof()
            assert await reader.read() == b"QUIET WORDS"
            writer.close()
            await writer.wait_closed()

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("kind", ["path", "abstract", "bound", "pair"])
def test_names(tmp_path: Path, kind: str) -> None:
    """What is told of both sides, while they are open and afterwards."""
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("Linux")
    name = abstract()
    run = iter(range(10))

    async def scenario(loop: Loop) -> Any:
        number = next(run)
        accepted: list[Any] = []

        def accept() -> Any:
            accepted.append(Recorder())
            return accepted[0]

        def path(what: str) -> str:
            return str(tmp_path / f"{what}{'x' * 40}{number}")

        server = None
        if kind == "pair":
            left, right = socket.socketpair()
            await loop.connect_accepted_socket(accept, right)
            transport, client = await loop.create_unix_connection(Recorder, sock=left)
        else:
            address = name if kind == "abstract" else path("server")
            server = await loop.create_unix_server(accept, address)
            sock = socket.socket(socket.AF_UNIX)
            if kind == "bound":
                sock.bind(path("client"))
            sock.connect(address)
            transport, client = await loop.create_unix_connection(Recorder, sock=sock)
        await until(lambda: accepted and accepted[0].transport)
        ends = transport, accepted[0].transport
        notes: list[Any] = []

        def note() -> None:
            for side in ends:
                for key in "sockname", "peername":
                    known = side.get_extra_info(key)
                    assert side.get_extra_info(key) == known
                    if isinstance(known, str):
                        known = os.path.basename(known).rstrip("0123456789")
                    notes.append(known)

        if kind != "bound":
            note()
        held = [side.get_extra_info("socket") for side in ends]
        notes += [(s.family, s.type, s.fileno() >= 0) for s in held]
        transport.close()
        await until(lambda: client.lost and accepted[0].lost)
        await turns(2)
        note()
        notes += [s.fileno() for s in held]
        if server is not None:
            server.close()
        return notes

    on_both(scenario)


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="Linux")
def test_credentials(loop: Loop) -> None:
    """The socket can be asked for what only it knows."""

    async def scenario() -> None:
        left, right = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=left)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert struct.unpack("3i", peer) == (os.getpid(), os.getuid(), os.getgid())
        right.send(b"data")
        await until(lambda: protocol.data == b"data")
        await end(transport)
        right.close()

    loop.run_until_complete(scenario())


def test_descriptors_that_are_sent(loop: Loop) -> None:
    """They are for a socket of the user's: a transport reads data only."""

    async def scenario() -> None:
        left, right = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(Recorder, left)
        before = descriptors()
        numbers = array.array("i", [right.fileno()])
        right.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
        await until(lambda: protocol.data == b"x")
        assert descriptors() == before
        await end(transport)
        right.close()

    loop.run_until_complete(scenario())


def test_half_close_and_flow_control() -> None:
    async def scenario(loop: Loop) -> Any:
        left, right = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=left)
        transport.write(MEGABYTE)
        assert protocol.events == ["made", "pause"]
        transport.write_eof()
        received = await receive(right)
        await until(lambda: protocol.events[-1] == "resume")
        right.send(b"answer")
        right.close()
        await until(lambda: protocol.lost)
        return received == MEGABYTE, protocol.events, bytes(protocol.data)

    on_both(scenario)


def test_reset() -> None:
    """The peer goes with data unread."""

    async def scenario(loop: Loop) -> Any:
        left, right = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=left)
        transport.write(b"never read")
        await turns(1)
        right.close()
        await until(lambda: protocol.lost)
        return protocol.events, described(protocol.lost_with)

    on_both(scenario)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "x", "sock": "unix"},
        {"sock": "tcp"},
        {"sock": "datagram"},
        {"path": "x", "ssl": True},
        {"path": "x", "server_hostname": "x"},
        {"path": "x", "server_hostname": 5},
        {"path": "x", "ssl_handshake_timeout": 1},
        {"path": "x", "ssl_shutdown_timeout": 1},
        {"path": 5},
        {"path": "/nowhere/at/all"},
        {"path": "/etc/passwd"},
        {"path": "x" * 200},
        {"path": "a\0b"},
        {"ssl": True, "server_hostname": "x"},
    ],
    ids=str,
)
def test_wrong_arguments_of_connections(options: dict[str, Any]) -> None:
    before = descriptors()

    async def scenario(loop: Loop) -> Any:
        with contextlib.ExitStack() as stack:
            given = {**options, **_sockets(options, stack)}
            return await outcome(loop.create_unix_connection(Recorder, **given))

    assert issubclass(on_both(scenario)[0], Exception)
    gc.collect()
    assert descriptors() == before


def _sockets(options: dict[str, Any], stack: contextlib.ExitStack) -> dict[str, Any]:
    kinds = {
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM),
        "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM),
        "tcp": (socket.AF_INET, socket.SOCK_STREAM),
    }
    if "sock" not in options:
        return {}
    return {"sock": stack.enter_context(socket.socket(*kinds[options["sock"]]))}


@LINUX
def test_backlog_is_full(fast_loop: Loop) -> None:
    """asyncio would take the refused sockets for connected."""

    async def scenario() -> None:
        name = abstract()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
            listening.listen(1)
            tasks = [
                asyncio.ensure_future(fast_loop.create_unix_connection(Recorder, name))
                for _ in range(10)
            ]
            await turns(3)
            assert 0 < sum(task.done() for task in tasks) < 10
            tasks.pop().cancel()
            accepted = [listening.accept()[0] for _ in range(2)]
            listening.listen(100)
            for transport, _ in await asyncio.gather(*tasks):
                await end(transport)
            for sock in accepted:
                sock.close()

    fast_loop.run_until_complete(scenario())


def test_many_connect_at_once(fast_loop: Loop, tmp_path: Path) -> None:
    """More than the backlog holds."""

    async def one(path: Path) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"data")
        data = await reader.readexactly(4)
        writer.close()
        await writer.wait_closed()
        return data

    async def scenario() -> None:
        path = tmp_path / "socket"
        server = await fast_loop.create_unix_server(Echo, path, backlog=10)
        answers = await asyncio.gather(*[one(path) for _ in range(300)])
        assert answers == [b"data"] * 300
        server.close()
        await server.wait_closed()
        await turns(2)

    fast_loop.run_until_complete(scenario())


def test_server_cancelled_while_it_starts(fast_loop: Loop, tmp_path: Path) -> None:
    """Nobody else could close it."""

    async def scenario() -> None:
        path = tmp_path / "socket"
        with socket.socket() as sock:
            fast_loop.add_reader(sock, print)  # now the loop has all that it needs
            fast_loop.remove_reader(sock)
        await turns(2)
        known = descriptors()
        task = asyncio.ensure_future(
            fast_loop.create_unix_server(Recorder, path, cleanup_socket=True)
        )
        await asyncio.sleep(0)
        assert path.exists()
        task.cancel()
        assert isinstance(
            (await asyncio.gather(task, return_exceptions=True))[0],
            asyncio.CancelledError,
        )
        assert descriptors() == known
        assert not path.exists()

    fast_loop.run_until_complete(scenario())


@pytest.mark.parametrize("steps", range(5))
def test_cancelled_at_every_step(loop: Loop, tmp_path: Path, steps: int) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        server = await loop.create_unix_server(Recorder, path)
        transport, _ = await loop.create_unix_connection(Recorder, path)
        await end(transport)  # now the loop has all that it needs
        before = descriptors()
        task = asyncio.ensure_future(loop.create_unix_connection(Recorder, path))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, tuple):
            result[0].close()
        await until(lambda: descriptors() == before)
        server.close()
        await turns(2)

    loop.run_until_complete(scenario())


# --- servers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"path": "x", "sock": "unix"},
        {"sock": "tcp"},
        {"sock": "datagram"},
        {"path": "x", "ssl": True},
        {"path": "x", "ssl_handshake_timeout": 1},
        {"path": "x", "ssl_shutdown_timeout": 1},
        {"path": 5},
        {"path": "/nowhere/at/all"},
        {"path": "/etc/passwd"},
        {"path": "/etc"},
        {"path": "x" * 200},
        {"path": "a\0b"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio forgets sockets
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_wrong_arguments_of_servers(options: dict[str, Any]) -> None:
    before = descriptors()

    async def scenario(loop: Loop) -> Any:
        with contextlib.ExitStack() as stack:
            given = {**options, **_sockets(options, stack)}
            return await outcome(loop.create_unix_server(Recorder, **given))

    assert issubclass(on_both(scenario)[0], Exception)
    gc.collect()
    assert descriptors() == before
    assert stat.S_ISREG(os.stat("/etc/passwd").st_mode)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_empty_path() -> None:
    """asyncio leaves the socket open until it is collected."""

    async def scenario(loop: Loop) -> Any:
        return (await outcome(loop.create_unix_server(Recorder, "")))[0]

    assert on_both(scenario) is IndexError
    gc.collect()


def test_server_of_a_socket(loop: Loop, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "socket")
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = await loop.create_unix_server(Echo, sock=sock, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        await server.start_serving()
        assert server.is_serving()
        assert [s.getsockname() for s in server.sockets] == [path]
        transport, _ = await loop.create_unix_connection(Recorder, path)
        await end(transport)
        server.close()
        assert sock.fileno() == -1
        await server.wait_closed()
        await turns(2)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize(
    "options", [{}, {"cleanup_socket": True}, {"cleanup_socket": False}]
)
def test_file_of_the_socket(tmp_path: Path, options: dict[str, Any]) -> None:
    if sys.version_info < (3, 13) and options:
        pytest.skip("asyncio has it from 3.13")

    async def scenario(loop: Loop) -> Any:
        path = tmp_path / "socket"
        path.unlink(missing_ok=True)
        server = await loop.create_unix_server(Recorder, path, **options)
        found = [path.is_socket()]
        server.close()
        await server.wait_closed()
        found.append(path.exists())
        path.unlink(missing_ok=True)
        server = await loop.create_unix_server(Recorder, path, **options)
        path.unlink()
        path.write_text("another")  # which is not ours to remove
        server.close()
        found.append(path.exists())
        path.unlink()
        server = await loop.create_unix_server(Recorder, path, **options)
        path.unlink()
        server.close()  # nothing to remove, and no harm in it
        return found

    on_both(scenario)


def test_file_is_removed_on_every_version(fast_loop: Any, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = fast_loop.run_until_complete(
        fast_loop.create_unix_server(Recorder, path, cleanup_socket=True)
    )
    server.close()
    assert not path.exists()


def test_file_that_cannot_be_removed(
    fast_loop: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Any) -> None:
        raise PermissionError(13, "no")

    path = tmp_path / "socket"
    server = fast_loop.run_until_complete(
        fast_loop.create_unix_server(Recorder, path, cleanup_socket=True)
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        server.close()
    assert "Unable to clean up listening UNIX socket" in caplog.text
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", refuse)
        with pytest.raises(OSError, match="is already in use"):
            fast_loop.run_until_complete(fast_loop.create_unix_server(Recorder, path))
    assert "Unable to check or remove stale UNIX socket" in caplog.text


def test_socket_left_from_before_is_replaced(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    assert loop.run_until_complete(echo(loop, path)) == MEGABYTE


@LINUX
def test_abstract_name_in_use() -> None:
    name = abstract()

    async def scenario(loop: Loop) -> Any:
        server = await loop.create_unix_server(Recorder, name)
        answer = await outcome(loop.create_unix_server(Recorder, name))
        server.close()
        return answer

    assert on_both(scenario)[0] is OSError


def test_shortage_while_accepting(loop: Loop, tmp_path: Path) -> None:
    """The rules of accepting are those of TCP."""
    import resource

    async def scenario() -> None:
        reports = collect_reports(loop)
        path = str(tmp_path / "socket")
        server = await loop.create_unix_server(Echo, path)
        client = socket.socket(socket.AF_UNIX)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = [os.dup(0)]
        while held[-1] < max(descriptors()):
            held.append(os.dup(0))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1, hard))
            client.connect(path)
            await until(lambda: reports)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        assert reports[0]["message"] == "socket.accept() out of system resource"
        client.send(b"data")  # a second later it is accepted
        assert await receive(client, 4) == b"data"
        client.close()
        server.close()
        await server.wait_closed()
        await turns(2)

    loop.run_until_complete(scenario())


def test_clients_of_a_server(fast_loop: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        server = await fast_loop.create_unix_server(Echo, path)
        clients = [
            (await fast_loop.create_unix_connection(Recorder, path))[1]
            for _ in range(3)
        ]
        await until(lambda: len(server._transports()) == 3)
        server.close()
        server.close_clients()
        await server.wait_closed()
        await until(lambda: all(client.lost for client in clients))

    fast_loop.run_until_complete(scenario())


def test_tls(loop: Loop, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        server = await loop.create_unix_server(Echo, path, ssl=tls_server())
        transport, protocol = await loop.create_unix_connection(
            Recorder, path, ssl=tls_client(), server_hostname="localhost"
        )
        assert transport.get_extra_info("ssl_object").version().startswith("TLS")
        transport.write(MEGABYTE)
        await until(lambda: len(protocol.data) == len(MEGABYTE))
        transport.close()
        await until(lambda: protocol.lost)
        server.close()
        await server.wait_closed()
        await turns(2)

    loop.run_until_complete(scenario())


def test_connection_open_when_the_loop_closes(tmp_path: Path) -> None:
    before = descriptors()
    loop = fastloop.new_event_loop()
    path = tmp_path / "socket"

    async def scenario() -> Any:
        server = await loop.create_unix_server(Recorder, path)
        transport, _ = await loop.create_unix_connection(Recorder, path)
        await until(lambda: server._transports())
        return server, transport

    server, transport = loop.run_until_complete(scenario())
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
    assert transport.is_closing()
    server.close()
    del server, transport
    gc.collect()
    assert descriptors() == before


def test_repr(fast_loop: Loop) -> None:
    left, right = socket.socketpair()
    transport, protocol = fast_loop.run_until_complete(
        fast_loop.create_unix_connection(Recorder, sock=left)
    )
    assert f"fd={left.fileno()} read=polling" in repr(transport)
    transport.close()
    run_until(fast_loop, lambda: protocol.lost)
    right.close()
