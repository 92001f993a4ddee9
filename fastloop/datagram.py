"""create_datagram_endpoint(): addresses, sockets, and the transport in the end."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from asyncio.base_events import BaseEventLoop
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._support import call_forgiven
from .serve import _set_reuse_port as set_reuse_port

if TYPE_CHECKING:
    from ._core import DatagramTransport
    from .sockets import SocketsMixin as _Base
else:
    _Base = object

# since 3.13 also sockets that are neither streams nor SOCK_DGRAM, say raw ones
_TAKES_ANY_DATAGRAMS = (
    "SOCK_STREAM" in BaseEventLoop.create_datagram_endpoint.__code__.co_names
)

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)
# (family, proto), (local address, remote address)
_Candidate = tuple[tuple[int, int], tuple[Any, Any]]


def _check_socket(sock: socket.socket) -> None:
    """Raise ValueError for a socket that cannot be an endpoint's."""
    if _TAKES_ANY_DATAGRAMS:
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


def _unix_addresses(local_addr: Any, remote_addr: Any) -> None:
    """Check the addresses; remove a socket that an earlier process has left."""
    for addr in (local_addr, remote_addr):
        if addr is not None and not isinstance(addr, str):
            raise TypeError("string is expected")
    if not local_addr or local_addr[0] == "\x00":
        return
    try:
        if stat.S_ISSOCK(call_forgiven(os.stat, local_addr).st_mode):
            call_forgiven(os.remove, local_addr)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # the folder may allow to make sockets and no more
        logger.error(
            "Unable to check or remove stale UNIX socket %r: %r", local_addr, exc
        )


class DatagramMixin(_Base):
    """Part of Loop."""

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], _ProtocolT],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[DatagramTransport, _ProtocolT]:
        """Make a datagram endpoint, or take over ``sock``.

        Returns ``(transport, protocol)``.  See
        ``asyncio.loop.create_datagram_endpoint``.  Raises OSError if no pair of
        addresses could be used.  A ``sock`` belongs to the transport from then on.
        """
        remote = None
        made = sock is None
        if sock is not None:
            _check_socket(sock)
            options = {
                "local_addr": local_addr,
                "remote_addr": remote_addr,
                "family": family,
                "proto": proto,
                "flags": flags,
                "reuse_port": reuse_port,
                "allow_broadcast": allow_broadcast,
            }
            if any(options.values()):
                problems = ", ".join(f"{k}={v}" for k, v in options.items() if v)
                raise ValueError(
                    "socket modifier keyword arguments can not be used "
                    f"when sock is specified. ({problems})"
                )
            sock.setblocking(False)
        else:
            candidates = await self._datagram_candidates(
                local_addr, remote_addr, family, proto, flags
            )
            sock, remote = await self._datagram_socket(
                candidates,
                bool(local_addr),
                bool(remote_addr),
                bool(reuse_port),
                bool(allow_broadcast),
            )
        return await self._start_datagram(
            sock, protocol_factory, local_addr, remote_addr, remote, made
        )

    async def _datagram_candidates(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[_Candidate]:
        """Return the families to try, each with the addresses to use."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == socket.AF_UNIX:
            _unix_addresses(local_addr, remote_addr)
            return [((family, proto), (local_addr, remote_addr))]

        found: dict[tuple[int, int], list[Any]] = {}
        for index, addr in enumerate((local_addr, remote_addr)):
            if addr is None:
                continue
            if not (isinstance(addr, tuple) and len(addr) == 2):
                raise TypeError("2-tuple is expected")
            infos = await self._ensure_resolved(
                addr, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            for fam, _, pro, _, address in infos:
                found.setdefault((fam, pro), [None, None])[index] = address
        candidates: list[_Candidate] = [
            (key, (local, remote))
            for key, (local, remote) in found.items()
            if not ((local_addr and local is None) or (remote_addr and remote is None))
        ]
        if not candidates:
            raise ValueError("can not get address information")
        return candidates

    async def _datagram_socket(
        self,
        candidates: list[_Candidate],
        bind: bool,
        connect: bool,
        reuse_port: bool,
        allow_broadcast: bool,
    ) -> tuple[socket.socket, Any]:
        """Return a socket for the first candidate that works, and where it sends to."""
        failure: OSError | None = None
        for (family, proto), (local, remote) in candidates:
            sock = None
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM, proto)
                if reuse_port:
                    set_reuse_port(sock)
                if allow_broadcast:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setblocking(False)
                if bind:
                    sock.bind(local)
                if connect and not allow_broadcast:
                    await self.sock_connect(sock, remote)
            except OSError as exc:
                if sock is not None:
                    sock.close()
                failure = failure or exc
            except BaseException:
                if sock is not None:
                    sock.close()
                raise
            else:
                return sock, remote if connect else None
        try:
            raise failure or AssertionError("no candidate")
        finally:
            failure = None  # whose traceback holds this frame

    async def _start_datagram(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], _ProtocolT],
        local_addr: Any,
        remote_addr: Any,
        remote: Any,
        made: bool,
    ) -> tuple[DatagramTransport, _ProtocolT]:
        """Hand ``sock`` to a transport and wait until its protocol was told.

        On failure it is closed if we have ``made`` it, else it stays the caller's.
        """
        try:
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._open_datagram(sock, protocol, remote, waiter)
        except BaseException:
            if made:
                sock.close()
            raise
        if self.get_debug():
            if local_addr:
                logger.info(
                    "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                    local_addr,
                    remote_addr,
                    transport,
                    protocol,
                )
            else:
                logger.debug(
                    "Datagram endpoint remote_addr=%r created: (%r, %r)",
                    remote_addr,
                    transport,
                    protocol,
                )
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol
