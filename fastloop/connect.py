"""create_connection(): addresses, attempts, and the transport in the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from asyncio.log import logger
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .bind import bind_error
from .dns import AddrInfo
from .tls import check_tls_options, default_server_hostname, reject_ssl_socket

if TYPE_CHECKING:
    import ssl as ssl_module

    from .sockets import SocketsMixin
    from .tls import TLSMixin

    class _Base(TLSMixin, SocketsMixin): ...
else:
    _Base = object

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


def interleave_families(
    infos: Sequence[AddrInfo], first_family_count: int
) -> list[AddrInfo]:
    """Reorder addresses so that families alternate (RFC 8305, section 4).

    The first ``first_family_count`` addresses are of the family that came first.
    """
    by_family: dict[Any, list[AddrInfo]] = {}
    for info in infos:
        by_family.setdefault(info[0], []).append(info)
    groups = list(by_family.values())
    ahead = max(first_family_count - 1, 0)
    head, groups[0] = groups[0][:ahead], groups[0][ahead:]
    rounds = itertools.zip_longest(*groups)
    return head + [info for row in rounds for info in row if info is not None]


def _raise_failures(failures: list[OSError], all_errors: bool) -> None:
    """Raise what tells best why no attempt succeeded."""
    try:
        if all_errors:
            raise ExceptionGroup("create_connection failed", failures)
        if not failures:
            raise TimeoutError("create_connection failed")
        model = str(failures[0])
        if all(str(exc) == model for exc in failures):
            raise failures[0]
        words = ", ".join(str(exc) for exc in failures)
        raise OSError(f"Multiple exceptions: {words}")
    finally:
        # an exception's traceback holds this frame: break the cycle
        del failures


def _bind_local(
    sock: socket.socket,
    family: int,
    local_infos: Iterable[AddrInfo],
    failures: list[OSError],
) -> None:
    """Bind to the first local address that works."""
    for local_family, _, _, _, address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as exc:
            failures.append(bind_error(exc, address))
    if failures:
        raise failures.pop()
    raise OSError(f"no matching local address with {family=} found")


def _succeeded(task: asyncio.Task[socket.socket]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _close_result(task: asyncio.Task[socket.socket]) -> None:
    if _succeeded(task):
        task.result().close()


class ConnectMixin(_Base):
    """Part of Loop."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        host: str | bytes | None = None,
        port: int | str | None = None,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Connect to ``host`` and ``port``, or take over a connected ``sock``.

        Returns ``(transport, protocol)``.  See ``asyncio.loop.create_connection``:
        every parameter of Python 3.14 is here.  Raises OSError if no address could
        be connected to (an ExceptionGroup of all failures with ``all_errors``).  A
        ``sock`` belongs to the transport from then on; on failure it is closed.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if ssl:
            server_hostname = default_server_hostname(server_hostname, host)
        if sock is not None:
            reject_ssl_socket(sock)
        if happy_eyeballs_delay is not None and interleave is None:
            interleave = 1

        if host is not None or port is not None:
            if sock is not None:
                raise ValueError(
                    "host/port and sock can not be specified at the same time"
                )
            infos = await self._resolve(host, port, family, proto, flags)
            local_infos = None
            if local_addr is not None:
                local_infos = await self._resolve(*local_addr[:2], family, proto, flags)
            if interleave:
                infos = interleave_families(infos, interleave)
            sock = await self._connect_any(
                infos, local_infos, happy_eyeballs_delay, all_errors
            )
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")

        transport, protocol = await self._start_connection(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug(
                "%r connected to %s:%r: (%r, %r)",
                transport.get_extra_info("socket"),
                host,
                port,
                transport,
                protocol,
            )
        return transport, protocol

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        sock: socket.socket,
        *,
        ssl: bool | ssl_module.SSLContext | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Make a transport of a socket that was accepted elsewhere.

        Returns ``(transport, protocol)``; with ``ssl`` as the server's side.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        check_tls_options(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        reject_ssl_socket(sock)
        transport, protocol = await self._start_connection(
            sock,
            protocol_factory,
            ssl,
            "",
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            held = transport.get_extra_info("socket")
            logger.debug("%r handled: (%r, %r)", held, transport, protocol)
        return transport, protocol

    # --- addresses ------------------------------------------------------------------

    async def _resolve(
        self, host: Any, port: Any, family: int, proto: int, flags: int
    ) -> list[AddrInfo]:
        infos = await self._ensure_resolved(
            (host, port), family=family, proto=proto, flags=flags
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return infos

    async def _connect_any(
        self,
        infos: Sequence[AddrInfo],
        local_infos: Sequence[AddrInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """Return a socket connected to one of the addresses."""
        failures: list[list[OSError]] = []  # of each attempt

        async def attempt(info: AddrInfo) -> socket.socket:
            failures.append([])
            return await self._connect_one(info, local_infos, failures[-1])

        sock: socket.socket | None = None
        try:
            if delay is None:
                for info in infos:
                    with contextlib.suppress(OSError):
                        sock = await attempt(info)
                        break
            else:
                sock = await self._race((attempt(info) for info in infos), delay)
            if sock is None:
                _raise_failures(list(itertools.chain(*failures)), all_errors)
                raise AssertionError
            return sock
        finally:
            # as above
            failures = []
            del attempt

    async def _connect_one(
        self,
        info: AddrInfo,
        local_infos: Sequence[AddrInfo] | None,
        failures: list[OSError],
    ) -> socket.socket:
        """Return a connected socket; what goes wrong is kept in ``failures``, too."""
        family, kind, proto, _, address = info
        sock = None
        try:
            sock = socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local_infos is not None:
                _bind_local(sock, family, local_infos, failures)
            await self.sock_connect(sock, address)
            return sock
        except BaseException as exc:
            if isinstance(exc, OSError):
                failures.append(exc)
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()
            raise
        finally:
            # as above
            del failures

    async def _race(
        self, attempts: Iterable[Coroutine[Any, Any, socket.socket]], delay: float
    ) -> socket.socket | None:
        """Return the first socket that gets connected (RFC 8305), None if none does.

        An attempt starts when the one before has failed, or is ``delay`` seconds old.
        """
        tasks: list[asyncio.Task[socket.socket]] = []
        winner: asyncio.Task[socket.socket] | None = None

        async def wait(deadline: float | None, until: Callable[[], bool]) -> None:
            nonlocal winner
            while not until():
                left = None if deadline is None else deadline - self.time()
                if left is not None and left <= 0:
                    return
                running = [task for task in tasks if not task.done()]
                await asyncio.wait(
                    running, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                winner = next(filter(_succeeded, tasks), None)
                if winner is not None:
                    return

        try:
            for attempt in attempts:
                newest = self.create_task(attempt)
                tasks.append(newest)
                await wait(self.time() + delay, newest.done)
                winner = next(filter(_succeeded, tasks), None)
                if winner is not None:
                    break
            else:
                await wait(None, lambda: all(task.done() for task in tasks))
            losers = [task for task in tasks if task is not winner]
            for task in losers:
                task.cancel()
            if losers:
                await asyncio.wait(losers)
            return None if winner is None else winner.result()
        except BaseException:
            winner = None
            raise
        finally:
            for task in tasks:
                if task is not winner:
                    task.cancel()
                    task.add_done_callback(_close_result)
            tasks = []

    # --- the transport ----------------------------------------------------------------

    async def _start_connection(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], _ProtocolT],
        ssl: Any,
        server_hostname: str | None,
        *,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, _ProtocolT]:
        """Hand ``sock`` to a transport and wait until its protocol was told.

        From here on ``sock`` has one owner at each instant: us until the transport
        is made, the transport after that; whoever it is closes it on failure.
        """
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            waiter = self.create_future()
            transport: asyncio.Transport
            if ssl:
                transport = self._open_tls_transport(
                    sock,
                    protocol,
                    ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                )
            else:
                transport = self._open_transport(sock, protocol, waiter, None)
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol
