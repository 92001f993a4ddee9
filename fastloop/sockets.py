"""Operations on the user's own sockets."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from .tls import reject_ssl_socket

if TYPE_CHECKING:
    from ._core import LoopBase as _Base
else:
    _Base = object

_UNRESOLVED = (socket.AF_INET, socket.AF_INET6)


class SocketsMixin(_Base):
    """Part of Loop."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket to ``address``.

        Raises ValueError in debug mode if the socket blocks.
        """
        reject_ssl_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in _UNRESOLVED:
            address = await self._resolve_for(sock, address)
        try:
            sock.connect(address)
        except (BlockingIOError, InterruptedError):
            await self._connected(sock, address)

    async def _resolve_for(self, sock: socket.socket, address: Any) -> Any:
        host, port = address[:2]
        infos = await self.getaddrinfo(
            host, port, family=sock.family, type=sock.type, proto=sock.proto
        )
        resolved = infos[0][4]
        if len(address) > 2:
            # flow information and scope are the caller's
            resolved = (*resolved[:2], *address[2:])
        return resolved

    async def _connected(self, sock: socket.socket, address: Any) -> None:
        """Wait for the outcome of a connect() that is under way."""
        done = self.create_future()
        fd = sock.fileno()

        def outcome() -> None:
            if done.done():
                return
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                done.set_exception(OSError(error, f"Connect call failed {address}"))
            else:
                done.set_result(None)

        handle = self._add_writer(fd, outcome)
        try:
            await done
        finally:
            # a cancelled handle means that the number is another's by now
            if not handle.cancelled():
                self.remove_writer(fd)
