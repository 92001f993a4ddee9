"""TLS, by asyncio's own protocol on top of a native transport."""

from __future__ import annotations

import asyncio
from asyncio import sslproto
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    import ssl as ssl_module
except ImportError:  # Python may be built without OpenSSL
    ssl_module = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import socket

    from ._core import LoopBase as _Base
else:
    _Base = object

# it takes more than typeshed says
SSLProtocol: Any = sslproto.SSLProtocol


def check_tls_options(
    ssl: object, handshake_timeout: float | None, shutdown_timeout: float | None
) -> None:
    """Raise ValueError for options that need ``ssl`` and come without."""
    if handshake_timeout is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def default_server_hostname(server_hostname: str | None, host: Any) -> str:
    """Return the name that the server's certificate must have."""
    if server_hostname is not None:
        return server_hostname
    if not host:
        raise ValueError("You must set server_hostname when using ssl without a host")
    return host  # type: ignore[no-any-return]


def reject_ssl_socket(sock: socket.socket) -> None:
    """Raise TypeError for a socket that does TLS by itself."""
    if ssl_module is not None and isinstance(sock, ssl_module.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def _move_buffered(protocol: Any, tls: Any) -> None:
    """Let the handshake have what a stream reader has read of it already."""
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
        if reader is not None and reader._buffer:
            tls._incoming.write(reader._buffer)
            reader._buffer.clear()


class TLSMixin(_Base):
    """Part of Loop."""

    def _open_tls_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        ssl: Any,
        waiter: asyncio.Future[None],
        *,
        server_side: bool,
        server_hostname: str | None,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
    ) -> asyncio.Transport:
        """Take over ``sock``; ``waiter`` is done when the handshake is."""
        tls = SSLProtocol(
            self,
            protocol,
            None if isinstance(ssl, bool) else ssl,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._open_transport(sock, tls, None, None)
        return tls._app_transport  # type: ignore[no-any-return]

    def _tls_protocol_factory(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        context: ssl_module.SSLContext,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return a factory for the protocols of a TLS server's connections."""

        def make_protocol() -> asyncio.BaseProtocol:
            waiter = self.create_future()
            waiter.add_done_callback(self._accepted)
            tls = SSLProtocol(
                self,
                protocol_factory(),
                context,
                waiter,
                True,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
            )
            return tls  # type: ignore[no-any-return]

        return make_protocol

    def _accepted(self, waiter: asyncio.Future[None]) -> None:
        """The handshake of an incoming connection has ended, well or not."""
        exc = None if waiter.cancelled() else waiter.exception()
        if exc is not None and self.get_debug():
            self.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                }
            )

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport | None:
        """Upgrade a connection to TLS and return its new transport.

        See ``asyncio.loop.start_tls``.
        """
        if ssl_module is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl_module.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, "
                f"got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        tls = SSLProtocol(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        # nothing must be read before the handshake's protocol is in place
        transport.pause_reading()
        if server_side:
            _move_buffered(protocol, tls)
        transport.set_protocol(tls)
        made = self.call_soon(tls.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            raise
        return tls._app_transport  # type: ignore[no-any-return]
