"""Server: the listening sockets of create_server() and their connections."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from .loop import Loop

# Whether a cancelled serve_forever() closes the connections, too, changed between
# releases of asyncio: do as the running one does.
_CANCEL_CLOSES_CLIENTS = (
    "close_clients" in asyncio.Server.serve_forever.__code__.co_names
)


class Server(_core.ServerBase, asyncio.Server):
    """See ``asyncio.Server``; every method of Python 3.14 is here."""

    def __init__(
        self,
        loop: Loop,
        sockets: Sequence[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
        *,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = list(sockets)
        self._waiters: list[asyncio.Future[None]] | None = []
        self._backlog = backlog
        self._on_close = on_close
        self._serving = False
        self._serving_forever: asyncio.Future[None] | None = None
        context = contextvars.copy_context()
        self._listeners = [
            _core.Listener(loop, self, sock, protocol_factory, backlog, context)
            for sock in sockets
        ]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    # --- state ----------------------------------------------------------------------

    def get_loop(self) -> Loop:
        """Return the loop that serves."""
        return self._loop

    def is_serving(self) -> bool:
        """Return True while connections are accepted."""
        return self._serving

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:  # type: ignore[override]
        """The listening sockets; empty once closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    # --- serving ----------------------------------------------------------------------

    def _start_serving(self) -> None:
        if self._serving:
            return
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._serving = True
        for sock, listener in zip(self._sockets, self._listeners, strict=True):
            sock.listen(self._backlog)
            listener.start()

    async def start_serving(self) -> None:
        """Begin to accept connections; does nothing if it has begun.

        Raises RuntimeError once the server is closed.
        """
        self._start_serving()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, then close the server."""
        if self._serving_forever is not None:
            raise RuntimeError(
                f"server {self!r} is already being awaited on serve_forever()"
            )
        self._start_serving()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                self.close()
                if _CANCEL_CLOSES_CLIENTS:
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    # --- the end ----------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening; open connections stay."""
        sockets = self._sockets
        if sockets is None:
            return
        self._sockets = None
        for listener in self._listeners:
            listener.stop()
        self._listeners = []
        for sock in sockets:
            sock.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()
        self._serving = False
        forever = self._serving_forever
        if forever is not None and not forever.done():
            forever.cancel()
            self._serving_forever = None
        if self._connection_count == 0:
            self._wake_waiters()

    def close_clients(self) -> None:
        """Close all connections, each once what was written is sent."""
        for transport in self._transports():
            transport.close()

    def abort_clients(self) -> None:
        """Close all connections at once; what is not sent is lost."""
        for transport in self._transports():
            transport.abort()

    def _connections_gone(self) -> None:
        """Called from C when the last connection is gone."""
        if self._sockets is None:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until the server is closed and all its connections are gone.

        On Python 3.11 it returns as soon as the server is closed, as asyncio's does.
        """
        if self._waiters is None:
            return
        if sys.version_info < (3, 12) and self._sockets is None:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self.close()
        await self.wait_closed()
