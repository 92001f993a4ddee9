"""create_server(): binding the listening sockets."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from asyncio.log import logger
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .bind import LEAVES_OUT, bind_error
from .server import Server
from .tls import check_tls_options, reject_ssl_socket

if TYPE_CHECKING:
    import ssl as ssl_module

    from .sockets import SocketsMixin
    from .tls import TLSMixin

    class _Base(TLSMixin, SocketsMixin): ...
else:
    _Base = object

_INET = (socket.AF_INET, socket.AF_INET6)


def _set_reuse_port(sock: socket.socket) -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, "
            "SO_REUSEPORT defined but not implemented."
        ) from None


def _hosts(host: Any) -> list[Any]:
    if host == "":
        return [None]
    if isinstance(host, str) or not isinstance(host, Iterable):
        return [host]
    return list(host)


class ServeMixin(_Base):
    """Part of Loop."""

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: ssl_module.SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listen on ``host`` (one or several) and ``port``, or on a bound ``sock``.

        Returns a ``Server``.  See ``asyncio.loop.create_server``: every parameter of
        Python 3.14 is here.  Raises OSError if no address could be bound.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        # an SSLContext, even one whose truth is odd, is an SSLContext
        check_tls_options(ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            reject_ssl_socket(sock)

        if host is not None or port is not None:
            if sock is not None:
                raise ValueError(
                    "host/port and sock can not be specified at the same time"
                )
            infos = await self._resolve_to_bind(_hosts(host), port, family, flags)
            sockets = self._bind_all(
                infos,
                reuse_address=reuse_address is None or reuse_address,
                reuse_port=bool(reuse_port),
                keep_alive=bool(keep_alive),
            )
        else:
            if sock is None:
                raise ValueError("Neither host/port nor sock were specified")
            if sock.type != socket.SOCK_STREAM:
                raise ValueError(f"A Stream Socket was expected, got {sock!r}")
            sockets = [sock]
        for listening in sockets:
            listening.setblocking(False)

        if ssl is not None:
            protocol_factory = self._tls_protocol_factory(
                protocol_factory, ssl, ssl_handshake_timeout, ssl_shutdown_timeout
            )
        server = Server(self, sockets, protocol_factory, backlog)  # type: ignore[arg-type]
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:
                server.close()  # nobody else has it
                raise
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_to_bind(
        self, hosts: list[Any], port: Any, family: int, flags: int
    ) -> list[Any]:
        """Return the distinct addresses of all hosts."""

        async def resolve(host: Any) -> list[Any]:
            infos = await self._ensure_resolved(
                (host, port), family=family, flags=flags
            )
            if not infos:
                raise OSError(f"getaddrinfo({host!r}) returned empty list")
            return infos

        found = await asyncio.gather(*[resolve(host) for host in hosts])
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    def _bind_all(self, infos: list[Any], **options: bool) -> list[socket.socket]:
        """Return a socket bound to each address; those that cannot be are left out."""
        sockets: list[socket.socket] = []
        try:
            for info in infos:
                sock = self._bind_one(info, **options)
                if sock is not None:
                    sockets.append(sock)
            if not sockets and LEAVES_OUT:
                addresses = [info[4] for info in infos]
                raise OSError(f"could not bind on any address out of {addresses!r}")
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _bind_one(
        self, info: Any, *, reuse_address: bool, reuse_port: bool, keep_alive: bool
    ) -> socket.socket | None:
        family, kind, proto, _, address = info
        try:
            sock = socket.socket(family, kind, proto)
        except OSError:
            # a combination that this system does not have
            if self.get_debug():
                logger.warning(
                    "create_server() failed to create socket.socket(%r, %r, %r)",
                    family,
                    kind,
                    proto,
                    exc_info=True,
                )
            return None
        try:
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if reuse_port and family in _INET:
                _set_reuse_port(sock)
            if keep_alive:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
            if family == socket.AF_INET6:
                # one socket a family: IPv4 has its own
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            sock.bind(address)
        except OSError as exc:
            sock.close()
            error = bind_error(exc, address)
            if exc.errno == errno.EADDRNOTAVAIL and LEAVES_OUT:
                # the family is not enabled
                if self.get_debug():
                    logger.warning(error.strerror)
                return None
            raise error from None
        except BaseException:
            sock.close()
            raise
        return sock
