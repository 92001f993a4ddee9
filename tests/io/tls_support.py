"""What the tests of TLS share: loops with both engines, and peers to tamper with."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from unittest import mock

from io_support import (
    HOST,
    Recorder,
    collect_reports,
    described,
    described_report,
    tcp_pair,
    tls_client,
    tls_server,
    until,
)

import fastloop

KINDS = ["asyncio", "direct", "bio"]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
_T = TypeVar("_T")


@contextlib.contextmanager
def loop_of(kind: str) -> Any:
    """A loop: asyncio's, or fastloop's with one of the engines."""
    if kind == "asyncio":
        loop: Any = asyncio.new_event_loop()
        engine = {}
    else:
        loop = fastloop.new_event_loop()
        engine = {"FASTLOOP_TLS": kind}
    with mock.patch.dict(os.environ, engine):
        try:
            yield loop
        finally:
            loop.close()


def on_all(scenario: Callable[[Any], Awaitable[_T]]) -> _T:
    """Run a scenario on asyncio and on both engines: all have to answer the same."""
    answers = []
    for kind in KINDS:
        with loop_of(kind) as loop:
            answers.append(loop.run_until_complete(scenario(loop)))
    expected, *others = answers
    for kind, answer in zip(KINDS[1:], others, strict=True):
        assert answer == expected, kind
    return expected


def check_engine(transport: Any, kind: str) -> None:
    """Make sure that a test has used what it means to test."""
    if kind != "asyncio":
        assert type(transport) is fastloop.TLSTransport
        assert transport._engine == kind


def pinned(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """The context, limited to one version of TLS."""
    context.minimum_version = context.maximum_version = version
    return context


class Peer:
    """The other end of a connection: TLS by hand on a plain socket.

    Every record passes through the hands of the test: it can be held back, changed or
    cut off.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_side: bool
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else "localhost",
        )
        self.closed = False  # the connection has ended

    async def send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await asyncio.sleep(0)

    async def receive_raw(self) -> bytes:
        """Return what comes next, b"" at the end."""
        data = b""

        def came() -> bool:
            nonlocal data
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return False
            except ConnectionError:
                data = b""
            return True

        await until(came)
        return data

    async def flush(self) -> None:
        if data := self.outgoing.read():
            await self.send_raw(data)

    async def step(self, function: Callable[[], _T]) -> _T:
        """Call a method of the SSL object until it needs no more data."""
        while True:
            try:
                result = function()
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.receive_raw()
                if not data:
                    self.closed = True
                    raise EOFError from None
                self.incoming.write(data)
            except ssl.SSLError:
                await self.flush()  # the alert
                raise
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        await self.step(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        self.tls.write(data)
        await self.flush()

    def sealed(self, data: bytes) -> bytes:
        """The records for data, not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    async def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = await self.step(functools.partial(self.tls.read, size - len(data)))
            if not part:
                break
            data += part
        return bytes(data)

    async def read_all(self) -> bytes:
        """All that comes until close-notify, or the end of the connection."""
        data = bytearray()
        with contextlib.suppress(EOFError, ssl.SSLZeroReturnError):
            while part := await self.step(lambda: self.tls.read(1 << 16)):
                data += part
        return bytes(data)

    async def unwrap(self) -> None:
        await self.step(self.tls.unwrap)

    def close_notify(self) -> bytes:
        """The record that ends our side, not sent."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()


@contextlib.asynccontextmanager
async def facing_peer(
    factory: Callable[[], Any] = Recorder,
    *,
    server_side: bool = False,
    ours: ssl.SSLContext | None = None,
    theirs: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Any, Peer]]:
    """Yield a protocol with its TLS transport, and the peer, after the handshake."""
    loop = asyncio.get_running_loop()
    near, far = tcp_pair()
    with far:
        peer = Peer(
            far,
            theirs or (tls_client() if server_side else tls_server()),
            not server_side,
        )
        shaking = loop.create_task(peer.handshake())
        if server_side:
            making = loop.connect_accepted_socket(
                factory, near, ssl=ours or tls_server(), **options
            )
        else:
            making = loop.create_connection(
                factory,
                sock=near,
                ssl=ours or tls_client(),
                server_hostname="localhost",
                **options,
            )
        transport, protocol = await making
        await shaking
        try:
            yield protocol, peer
        finally:
            transport.abort()
            if isinstance(protocol, Recorder):
                await until(lambda: protocol.lost)
            await asyncio.sleep(0)
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def tls_connected(
    client: Callable[[], Any] = Recorder,
    server: Callable[[], Any] = Recorder,
    *,
    client_context: ssl.SSLContext | None = None,
    server_context: ssl.SSLContext | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Any, Any]]:
    """Yield the protocols of both ends of a connection through a server."""
    loop = asyncio.get_running_loop()
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(server())
        return accepted[-1]

    listening = await loop.create_server(
        accept, HOST, 0, ssl=server_context or tls_server()
    )
    address = listening.sockets[0].getsockname()[:2]
    options.setdefault("server_hostname", "localhost")
    transport, protocol = await loop.create_connection(
        client, *address, ssl=client_context or tls_client(), **options
    )
    await until(lambda: accepted and accepted[0].transport)
    try:
        yield protocol, accepted[0]
    finally:
        listening.close()
        for each in transport, accepted[0].transport:
            each.abort()
        await until(lambda: protocol.lost and accepted[0].lost)
        await asyncio.sleep(0)


def told(protocol: Recorder) -> list[Any]:
    """What a protocol was told, and with which exception it lost the connection."""
    return [protocol.events, bytes(protocol.data), described(protocol.lost_with)]


@contextlib.contextmanager
def reported(loop: Any) -> Any:
    """Collect what is reported to the loop's exception handler, in comparable form."""
    reports = collect_reports(loop)
    found: list[Any] = []
    yield found
    found += [described_report(report) for report in reports]
