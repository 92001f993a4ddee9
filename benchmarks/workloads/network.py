"""Servers under load, sockets, DNS, processes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from functools import partial
from typing import Any

from ..place import CERTIFICATE
from ..workload import Held, Loop, register, served, timed

FAMILY = "network"
HOST = "127.0.0.1"
BACKLOG = 4096
KIB = 1024

tasks: set[asyncio.Task[None]] = set()  # those of the servers, which never end


def port_of(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


# --- protocols ------------------------------------------------------------------------


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoAndClose(Echo):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.close()


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * KIB))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # a copy: what is sent later must not change when more arrives
        self.transport.write(bytes(self.buffer[:nbytes]))


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Source(asyncio.Protocol):
    """Sends without end, as fast as flow control lets it."""

    chunk = bytes(64 * KIB)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self.send)

    def send(self) -> None:
        # a connection that is lost while it is written to never pauses
        while not self.paused and not self.transport.is_closing():
            self.transport.write(self.chunk)


async def protocol(factory: Any, loop: Loop, **options: Any) -> int:
    server = await loop.create_server(factory, HOST, 0, backlog=BACKLOG, **options)
    return port_of(server)


async def tls_protocol(factory: Any, loop: Loop) -> int:
    return await protocol(factory, loop, ssl=server_context())


async def unix_protocol(factory: Any, loop: Loop) -> str:
    path = os.path.join(tempfile.mkdtemp(prefix="fastloop-benchmark-"), "socket")
    await loop.create_unix_server(factory, path, backlog=BACKLOG)
    return path


async def datagrams(loop: Loop) -> int:
    transport, _ = await loop.create_datagram_endpoint(Datagrams, local_addr=(HOST, 0))
    return int(transport.get_extra_info("socket").getsockname()[1])


# --- streams --------------------------------------------------------------------------


async def echo_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while data := await reader.read(256 * KIB):
        writer.write(data)
        await writer.drain()


async def echo_lines(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def discard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(256 * KIB):
        pass


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(Source.chunk)
        await writer.drain()


async def stream(handler: Any, loop: Loop, **options: Any) -> int:
    server = await asyncio.start_server(handler, HOST, 0, backlog=BACKLOG, **options)
    return port_of(server)


async def tls_stream(handler: Any, loop: Loop) -> int:
    return await stream(handler, loop, ssl=server_context())


# --- sockets --------------------------------------------------------------------------


async def sock_echo(loop: Loop) -> int:
    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    listener.setblocking(False)

    def start(coro: Any) -> None:
        task = loop.create_task(coro)
        tasks.add(task)

    async def serve(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await loop.sock_recv(sock, 256 * KIB):
            await loop.sock_sendall(sock, data)

    async def accept() -> None:
        while True:
            sock, _ = await loop.sock_accept(listener)
            start(serve(sock))

    # try it once, so that a loop that cannot says so now
    one, other = socket.socketpair()
    one.setblocking(False)
    other.send(b"x")
    assert await loop.sock_recv(one, 1) == b"x"
    await loop.sock_sendall(one, b"x")
    start(accept())
    return int(listener.getsockname()[1])


# --- the servers' workloads -----------------------------------------------------------

network = partial(served, family=FAMILY)


def of(function: Any, what: Any) -> dict[str, Any]:
    return {"function": partial(function, what)}


network(
    "tcp_64_1",
    "TCP echo, 64 B, 1 connection",
    **of(protocol, Echo),
    floor="tcp",
    message=64,
    connections=1,
)
network(
    "tcp_1k_50",
    "TCP echo, 1 KiB, 50 connections",
    **of(protocol, Echo),
    floor="tcp",
    headline=True,
)
network(
    "tcp_1k_1000",
    "TCP echo, 1 KiB, 1,000 connections",
    **of(protocol, Echo),
    floor="tcp",
    connections=1000,
)
network(
    "tcp_100k_50",
    "TCP echo, 100 KiB, 50 connections",
    **of(protocol, Echo),
    floor="tcp",
    message=100 * KIB,
)
network(
    "buffered_1k_50",
    "TCP echo, BufferedProtocol, 1 KiB",
    **of(protocol, BufferedEcho),
    floor="tcp",
)
network(
    "streams_1k_50",
    "streams echo, 1 KiB",
    **of(stream, echo_chunks),
    floor="tcp",
    headline=True,
)
network(
    "streams_100k_50",
    "streams echo, 100 KiB",
    **of(stream, echo_chunks),
    floor="tcp",
    message=100 * KIB,
)
network(
    "readline_64_50",
    "streams echo by readline(), 64 B",
    **of(stream, echo_lines),
    floor="tcp",
    message=64,
)
network("sock_1k_50", "sock_recv(), sock_sendall(), 1 KiB", function=sock_echo)
network(
    "unix_1k_50",
    "Unix socket echo, 1 KiB",
    **of(unix_protocol, Echo),
    floor="unix",
    headline=True,
)
network(
    "udp_1k_50",
    "UDP echo, 1 KiB",
    function=datagrams,
    floor="udp",
    load=("--udp",),
    headline=True,
)
TLS: dict[str, Any] = {"load": ("--tls",), "floor": "tls"}
network(
    "tls_1k_50",
    "TLS echo, 1 KiB",
    **of(tls_protocol, Echo),
    **TLS,
    headline=True,
)
network(
    "tls_100k_50",
    "TLS echo, 100 KiB",
    **of(tls_protocol, Echo),
    **TLS,
    message=100 * KIB,
)
network("tls_streams_1k_50", "TLS streams, 1 KiB", **of(tls_stream, echo_chunks), **TLS)
network(
    "tls_streams_100k_50",
    "TLS streams, 100 KiB",
    **of(tls_stream, echo_chunks),
    **TLS,
    message=100 * KIB,
)
BULK: dict[str, Any] = {"connections": 1, "message": 0, "unit": "B/s", "often": 4}
network(
    "bulk_send",
    "protocol that sends without end",
    **of(protocol, Source),
    floor="download",
    load=("--download",),
    **BULK,
)
network(
    "bulk_write",
    "stream that writes without end",
    **of(stream, pour),
    floor="download",
    load=("--download",),
    **BULK,
)
network(
    "bulk_read",
    "stream that reads without end",
    **of(stream, discard),
    floor="upload",
    load=("--upload",),
    **BULK,
)
network(
    "turnover_50",
    "connection opened, echo, closed",
    **of(protocol, EchoAndClose),
    floor="turnover",
    load=("--turnover",),
    message=64,
    headline=True,
)


# --- timed in the process itself ------------------------------------------------------


@timed(FAMILY, "sock_* ping-pong of two tasks", headline=True)
async def sock_ping_pong(loop: Loop, n: int) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    async def answer() -> None:
        for _ in range(n):
            await loop.sock_sendall(theirs, await loop.sock_recv(theirs, 64))

    other = asyncio.create_task(answer())
    for _ in range(n):
        await loop.sock_sendall(ours, b"ping")
        await loop.sock_recv(ours, 64)
    await other
    ours.close()
    theirs.close()


@timed(FAMILY, "getaddrinfo() of a numeric host", waits=True)
async def getaddrinfo(loop: Loop, n: int) -> None:
    for _ in range(n):
        await loop.getaddrinfo(HOST, 80, type=socket.SOCK_STREAM)


@timed(FAMILY, "process started and waited for", waits=True)
async def subprocess_spawn(loop: Loop, n: int) -> None:
    for _ in range(n):
        process = await asyncio.create_subprocess_exec("/bin/true")
        assert await process.wait() == 0


# --- memory ---------------------------------------------------------------------------


def held(name: str, title: str, function: Any, **options: Any) -> None:
    register(
        Held(
            name=name,
            title=title,
            family=FAMILY,
            function=function,
            unit="bytes",
            rounds=1,
            limit=90,
            message=0,
            **options,
        )
    )


class Idle(asyncio.Protocol):
    pass


held(
    "idle_tcp",
    "memory of an idle connection, of 10,000",
    partial(protocol, Idle),
    connections=10_000,
)
held(
    "idle_tls",
    "memory of an idle TLS connection, of 10,000",
    partial(tls_protocol, Idle),
    connections=10_000,
    load=TLS["load"],
)
