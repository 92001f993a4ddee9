"""TLS: what happens once per connection.  The rest is src/io/tls*.c.

Two engines pass data through OpenSSL: "direct" calls its functions, "bio" the methods
of Python's ``SSLObject``.  The first is used wherever a self-test finds that it can be;
the environment variable ``FASTLOOP_TLS=bio`` asks for the second.
"""

from __future__ import annotations

import asyncio
import functools
import os
from asyncio import constants, sslproto
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _core

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


def _timeout(seconds: float | None, default: float, name: str) -> float:
    if seconds is None:
        return default
    if seconds <= 0:
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds


def _default_context(
    server_side: bool, server_hostname: str | None
) -> ssl_module.SSLContext:
    """Return the context of ``ssl=True``."""
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl_module.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


def _may_drive(context: Any, ssl_object: Any) -> bool:
    """Whether the direct engine does all that Python's methods would do.

    A subclass may have methods of its own; and what a message callback raises is
    raised by Python's methods only.
    """
    return (
        os.environ.get("FASTLOOP_TLS", "") != "bio"
        and type(ssl_object) is ssl_module.SSLObject
        and getattr(context, "_msg_callback", None) is None
    )


def _move_buffered(protocol: Any, tls: Any) -> None:
    """Let the handshake have what a stream reader has read of it already."""
    if isinstance(protocol, asyncio.StreamReaderProtocol):
        reader: Any = protocol._stream_reader  # type: ignore[attr-defined]
        if reader is not None and reader._buffer:
            if isinstance(tls, _core.TLSTransport):
                tls._feed(reader._buffer)
            else:
                tls._incoming.write(reader._buffer)
            reader._buffer.clear()


class TLSMixin(_Base):
    """Part of Loop."""

    def _new_tls(
        self,
        protocol: asyncio.BaseProtocol,
        context: Any,
        waiter: asyncio.Future[None],
        *,
        server_side: bool,
        server_hostname: str | None,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
        call_connection_made: bool = True,
    ) -> _core.TLSTransport:
        """Return a TLS transport, to be set as the protocol of another transport."""
        if ssl_module is None:
            raise RuntimeError("stdlib ssl module not available")
        handshake_timeout = _timeout(
            ssl_handshake_timeout,
            constants.SSL_HANDSHAKE_TIMEOUT,
            "ssl_handshake_timeout",
        )
        shutdown_timeout = _timeout(
            ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT, "ssl_shutdown_timeout"
        )
        if not context:
            context = _default_context(server_side, server_hostname)
        incoming, outgoing = ssl_module.MemoryBIO(), ssl_module.MemoryBIO()
        ssl_object = context.wrap_bio(
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=None if server_side else server_hostname or None,
        )
        return self._make_tls(
            protocol,
            context,
            (ssl_object, incoming, outgoing),
            _may_drive(context, ssl_object),
            waiter,
            handshake_timeout,
            shutdown_timeout,
            not call_connection_made,
        )

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
        tls = self._new_tls(
            protocol,
            None if isinstance(ssl, bool) else ssl,
            waiter,
            server_side=server_side,
            server_hostname=server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        self._open_transport(sock, tls, None, None)  # type: ignore[arg-type]
        return tls

    def _tls_protocol_factory(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        context: ssl_module.SSLContext,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return a factory for the protocols of a TLS server's connections."""

        def make_protocol() -> Any:
            waiter = self.create_future()
            protocol = protocol_factory()
            tls = self._new_tls(
                protocol,
                context,
                waiter,
                server_side=True,
                server_hostname=None,
                ssl_handshake_timeout=handshake_timeout,
                ssl_shutdown_timeout=shutdown_timeout,
            )
            waiter.add_done_callback(functools.partial(self._accepted, protocol, tls))
            return tls

        return make_protocol

    def _accepted(
        self,
        protocol: asyncio.BaseProtocol,
        transport: asyncio.Transport,
        waiter: asyncio.Future[None],
    ) -> None:
        """The handshake of an incoming connection has ended, well or not."""
        exc = None if waiter.cancelled() else waiter.exception()
        if exc is not None and self.get_debug():
            self.call_exception_handler(
                {
                    "message": "Error on transport creation for incoming connection",
                    "exception": exc,
                    "protocol": protocol,
                    "transport": transport,
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
        options: Any = {
            "server_side": server_side,
            "server_hostname": server_hostname,
            "ssl_handshake_timeout": ssl_handshake_timeout,
            "ssl_shutdown_timeout": ssl_shutdown_timeout,
            "call_connection_made": False,
        }
        tls: Any
        app_transport: asyncio.Transport
        if isinstance(transport, (_core.TCPTransport, _core.TLSTransport)):
            tls = app_transport = self._new_tls(protocol, sslcontext, waiter, **options)
            begin: tuple[Any, ...] = (tls._begin,)
        else:
            # a transport of someone else's making
            tls = SSLProtocol(self, protocol, sslcontext, waiter, **options)
            app_transport = tls._app_transport
            begin = (tls.connection_made, transport)
        # nothing must be read before the handshake's protocol is in place
        transport.pause_reading()
        if server_side:
            _move_buffered(protocol, tls)
        transport.set_protocol(tls)
        made = self.call_soon(*begin)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            raise
        return app_transport
