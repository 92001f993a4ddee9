"""Unix sockets: create_unix_connection() and create_unix_server()."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ._support import call_forgiven
from .server import Server
from .tls import check_tls_options

if TYPE_CHECKING:
    import ssl as ssl_module

    from .connect import ConnectMixin as _Base
else:
    _Base = object

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# asyncio removes the socket's file since 3.13
_CLEANUP_SOCKET = sys.version_info >= (3, 13)

# seconds between attempts to connect to a listener whose backlog is full
_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05


def _is_abstract(path: str | bytes) -> bool:
    return path[0] in (0, "\x00")


def _check_socket(sock: socket.socket | None, complaint: str) -> socket.socket:
    if sock is None:
        raise ValueError(complaint)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    return sock


def _remove_stale(path: str | bytes) -> None:
    """Remove the socket that an earlier server has left at ``path``."""
    try:
        if stat.S_ISSOCK(call_forgiven(os.stat, path).st_mode):
            call_forgiven(os.remove, path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # perhaps sockets can be made in this folder all the same
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)


def _bind(path: str | bytes) -> socket.socket:
    """Return a socket bound to ``path``."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not _is_abstract(path):
            _remove_stale(path)
        sock.bind(path)
    except OSError as exc:
        sock.close()
        if exc.errno != errno.EADDRINUSE:
            raise
        message = f"Address {path!r} is already in use"
        raise OSError(errno.EADDRINUSE, message) from None
    except BaseException:
        sock.close()
        raise
    return sock


class _File:
    """The file of a listening socket, to be removed if it is still that one."""

    def __init__(self, path: str | bytes) -> None:
        self.path = path
        self.inode = call_forgiven(os.stat, path).st_ino

    def remove(self) -> None:
        try:
            if call_forgiven(os.stat, self.path).st_ino == self.inode:
                call_forgiven(os.unlink, self.path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error(
                "Unable to clean up listening UNIX socket %r: %r", self.path, exc
            )


def _file_of(sock: socket.socket) -> _File | None:
    path = sock.getsockname()
    if _is_abstract(path):
        return None
    try:
        return _File(path)
    except FileNotFoundError:
        return None


class UnixMixin(_Base):
    """Part of Loop."""

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        path: _Path | None = None,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Connect to the Unix socket at ``path``, or take over a connected ``sock``.

        Returns ``(transport, protocol)``.  A path that begins with a null character
        is an abstract name.  See ``asyncio.loop.create_unix_connection``.
        """
        assert server_hostname is None or isinstance(server_hostname, str)
        if ssl:
            if server_hostname is None:
                raise ValueError("you have to pass server_hostname when using ssl")
        elif server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = await self._connect_unix(os.fspath(path))
        else:
            sock = _check_socket(sock, "no path and sock were specified")
        return await self._start_connection(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def _connect_unix(self, path: str | bytes) -> socket.socket:
        """Return a socket connected to ``path``.

        The kernel refuses at once where the listener's backlog is full, and does not
        tell when that changes; a connect() that may block would wait.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        pause = _FIRST_PAUSE
        try:
            sock.setblocking(False)
            while True:
                try:
                    sock.connect(path)
                    return sock
                except (BlockingIOError, InterruptedError) as exc:
                    if exc.errno != errno.EAGAIN:
                        await self.sock_connect(sock, path)
                        return sock
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        except BaseException:
            sock.close()
            raise

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: _Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: ssl_module.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _CLEANUP_SOCKET,
    ) -> Server:
        """Listen on a Unix socket at ``path``, or on a bound ``sock``.

        Returns a ``Server``.  A socket that is left at ``path`` from before is
        replaced.  With ``cleanup_socket`` (the default from Python 3.13) closing the
        server removes the socket's file.  Raises OSError if ``path`` cannot be bound.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind(os.fspath(path))
        else:
            sock = _check_socket(sock, "path was not specified, and no sock specified")
        try:
            file = _file_of(sock) if cleanup_socket else None
        except BaseException:
            if path is not None:
                sock.close()
            raise
        sock.setblocking(False)
        if ssl is not None:
            protocol_factory = self._tls_protocol_factory(
                protocol_factory, ssl, ssl_handshake_timeout, ssl_shutdown_timeout
            )
        server = Server(
            self,  # type: ignore[arg-type]
            [sock],
            protocol_factory,
            backlog,
            on_close=None if file is None else file.remove,
        )
        if start_serving:
            try:
                await server.start_serving()
            except BaseException:
                server.close()  # nobody else has it
                raise
        return server
