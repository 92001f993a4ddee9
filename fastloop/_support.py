"""Cold work that the C core calls: reports, reprs, warnings, Python sockets.

The C code looks these names up once, at import (FL_STATE_SUPPORT in
src/base/state.h), and calls them by position.  Nothing here runs per callback,
per step or per packet.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import inspect
import reprlib
import socket
import sys
import warnings
from asyncio import (
    base_futures,
    base_tasks,
    constants,
    coroutines,
    format_helpers,
    selector_events,
)
from asyncio.log import logger
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from ._shadow import class_for_isinstance
from ._stream_support import (
    stream_client_connected,
    stream_debug,
    stream_reader_repr,
    stream_rejected,
    stream_separators,
    stream_start_tls,
    stream_stock_methods,
    stream_unclosed,
    stream_writer_repr,
)

if TYPE_CHECKING:
    import traceback
    from types import FrameType

    from ._core import Listener
    from .loop import Loop

__all__ = [
    "class_for_isinstance",
    "stream_client_connected",
    "stream_debug",
    "stream_reader_repr",
    "stream_rejected",
    "stream_separators",
    "stream_start_tls",
    "stream_stock_methods",
    "stream_unclosed",
    "stream_writer_repr",
]

future_repr = base_futures._future_repr  # type: ignore[attr-defined]
task_repr = base_tasks._task_repr
iscoroutine = coroutines.iscoroutine
# worded and located as the warning of a real coroutine
warn_unawaited: Callable[[Any], None] = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]

# whose methods the C code knows; of a subclass it calls them
socket_type = socket.socket
# the property of socket.socket makes an enum member of it
socket_family = _socket.socket.family

sendfile_mode = constants._SendfileMode.TRY_NATIVE

if sys.version_info >= (3, 13):
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):
        """The queue was shut down: nothing is put any more, or left to get."""

    QueueShutDown.__module__ = "fastloop"

_T = TypeVar("_T")


address_families = {int(member): member for member in socket.AddressFamily}
socket_kinds = {int(member): member for member in socket.SocketKind}


# --- debug mode ---------------------------------------------------------------


def extract_stack() -> traceback.StackSummary:
    """Return the stack of the Python code that called into C."""
    return format_helpers.extract_stack(sys._getframe(1))


def check_callback(callback: object, method: str) -> None:
    """Raise TypeError for what cannot be a callback of ``method``."""
    if coroutines.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(
            f"a callable object was expected by {method}(), got {callback!r}"
        )


def log_slow(loop: Loop, what: Any, seconds: float) -> None:
    """Warn of a Handle, or a Task whose step it was, that took too long."""
    if seconds < loop.slow_callback_duration:
        return
    if isinstance(what, asyncio.Handle):
        owner = getattr(what._callback, "__self__", None)  # type: ignore[attr-defined]
        if isinstance(owner, asyncio.Task):
            what = owner
    # what it is now: a log may be written out later
    logger.warning("Executing %s took %.3f seconds", repr(what), seconds)


def coroutine_origin(depth: int) -> tuple[tuple[str, int, str], ...]:
    """Return where a coroutine in C is made, as ``cr_origin`` tells it."""
    origin: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(origin) < depth:
        code = frame.f_code
        origin.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(origin)


# --- tasks --------------------------------------------------------------------


def task_get_stack(task: asyncio.Task[Any], *, limit: int | None = None) -> list[Any]:
    return base_tasks._task_get_stack(task, limit)


def task_print_stack(
    task: asyncio.Task[Any], *, limit: int | None = None, file: Any = None
) -> None:
    base_tasks._task_print_stack(task, limit, file)


def create_task_by_factory(
    loop: Loop,
    factory: Callable[..., Any],
    coro: Coroutine[Any, Any, Any],
    kwargs: dict[str, Any],
) -> Any:
    """Call a task factory as the running Python's asyncio calls it.

    From 3.14 it gets every keyword; before, the name is set afterwards, and a
    context is passed only where there is one.
    """
    if sys.version_info >= (3, 14):
        return factory(loop, coro, **kwargs)
    name = kwargs.pop("name", None)
    if kwargs.get("context", True) is None:
        del kwargs["context"]
    task = factory(loop, coro, **kwargs)
    if name is not None:
        task.set_name(name)
    return task


async def wrap_awaitable(awaitable: Any) -> Any:
    """Make a coroutine of what is none."""
    return await awaitable


wrap_awaitable.__name__ = wrap_awaitable.__qualname__ = "_wrap_awaitable"


if sys.version_info >= (3, 12):
    swap_current_task = asyncio.tasks._swap_current_task  # type: ignore[attr-defined]
else:

    def swap_current_task(loop: Any, task: Any) -> Any:
        tasks = asyncio.tasks._current_tasks  # type: ignore[attr-defined]
        previous = tasks.pop(loop, None)
        if task is not None:
            tasks[loop] = task
        return previous


def call_forgiven(function: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """Call what could block, where asyncio does too, as if no loop was running.

    Tools that fail a program for calls that block in a loop forgive asyncio these, and
    know it by the names of its files.
    """
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return function(*args, **kwargs)
    finally:
        asyncio._set_running_loop(running)


def set_result_unless_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# --- callbacks that failed ------------------------------------------------------

_SOURCE_TAKES_DEBUG = (
    "debug" in inspect.signature(format_helpers._format_callback_source).parameters
)


def _callback_source(callback: Any, args: Any, debug: bool) -> str:
    describe: Callable[..., str] = format_helpers._format_callback_source
    if _SOURCE_TAKES_DEBUG:
        return describe(callback, args, debug=debug)
    return describe(callback, args)


def callback_failed(loop: Loop, handle: Any, exc: BaseException) -> None:
    """Tell the loop's exception handler what a Handle's callback raised."""
    source = _callback_source(handle._callback, handle._args, loop.get_debug())
    context = {
        "message": f"Exception in callback {source}",
        "exception": exc,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def handle_repr(handle: Any) -> str:
    """Return the repr of a Handle or TimerHandle, worded as asyncio's."""
    info = [handle.__class__.__name__]
    if handle._cancelled:
        info.append("cancelled")
    if isinstance(handle, asyncio.TimerHandle):
        info.append(f"when={handle.when()}")
    if handle._callback is not None:
        debug = handle._loop.get_debug()
        info.append(_callback_source(handle._callback, handle._args, debug))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        info.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(info)}>"


# --- transports and servers -----------------------------------------------------


@reprlib.recursive_repr()
def transport_repr(transport: Any) -> str:
    """Return the repr of a transport, worded as asyncio's."""
    info = [type(transport).__name__]
    fd = transport._sock_fd
    if fd < 0:
        info.append("closed")
    else:
        if transport.is_closing():
            info.append("closing")
        info.append(f"fd={fd}")
        info.append(f"read={'polling' if transport.is_reading() else 'idle'}")
        size = transport._unsent
        state = "polling" if size else "idle"
        info.append(f"write=<{state}, bufsize={size}>")
    return f"<{' '.join(info)}>"


def transport_fatal_error(
    transport: Any, exc: BaseException, message: str, protocol: Any
) -> None:
    """Report what ends a connection: a broken one is nothing to report."""
    loop = transport._loop
    if isinstance(exc, OSError):
        if loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exc)
        return
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exc,
            "transport": transport,
            "protocol": protocol,
        }
    )


@reprlib.recursive_repr()
def pipe_repr(transport: Any) -> str:
    """Return the repr of a pipe transport, worded as asyncio's."""
    info = [type(transport).__name__]
    if transport._closed:
        info.append("closed")
    elif transport.is_closing():
        info.append("closing")
    info.append(f"fd={transport._fileno}")
    if transport._closed:
        info.append("closed")
    else:
        info.append("polling" if transport._polling else "idle")
        if hasattr(transport, "get_write_buffer_size"):
            info.append(f"bufsize={transport.get_write_buffer_size()}")
    return f"<{' '.join(info)}>"


def pipe_fatal_error(
    transport: Any, exc: BaseException, message: str, protocol: Any
) -> None:
    """Report what ends a pipe: that its other end has gone is nothing to report."""
    loop = transport._loop
    is_write_end = isinstance(transport, asyncio.WriteTransport)
    if isinstance(exc, OSError) and (is_write_end or exc.errno == errno.EIO):
        if loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exc)
        return
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exc,
            "transport": transport,
            "protocol": protocol,
        }
    )


def warn_pipe_write_failed() -> None:
    logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")


def make_socket(fd: int, family: int) -> TransportSocket:
    """Return a socket object for a descriptor that a transport owns."""
    if family in (socket.AF_INET, socket.AF_INET6):
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=fd)
    else:
        sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return hold_socket(sock)


def hold_socket(sock: socket.socket) -> TransportSocket:
    """Keep a socket that a transport has taken over from closing its descriptor.

    Counting as one more file made from it defers ``sock.close()`` until the
    transport lets go of it.
    """
    if isinstance(sock, socket.socket):
        sock._io_refs += 1  # type: ignore[attr-defined]
    return TransportSocket(sock)


def release_socket(held: TransportSocket) -> None:
    """Let the socket object forget the descriptor, which is closed right after."""
    held._sock.detach()  # type: ignore[attr-defined]


_stock_write = selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

# What write() takes, in the words of the running asyncio, which changed.
data_kinds = (
    "bytes, bytearray, or memoryview object"
    if any(
        isinstance(const, str) and "memoryview" in const
        for const in _stock_write.__code__.co_consts
    )
    else "bytes-like object"
)


def unhold_socket(held: TransportSocket) -> None:
    """Undo ``hold_socket()``: the transport was not made."""
    sock = held._sock  # type: ignore[attr-defined]
    if isinstance(sock, socket.socket):
        sock._decref_socketios()  # type: ignore[attr-defined]


def detach_socket(held: TransportSocket) -> int:
    """Let the socket object forget the descriptor; return it, -1 if it was closed."""
    return held._sock.detach()  # type: ignore[attr-defined,no-any-return]


def datagram_extra(sock: socket.socket) -> dict[str, Any]:
    """Return what ``get_extra_info()`` of a datagram transport tells, in a dict."""
    extra: dict[str, Any] = {"sockname": None, "peername": None}
    with contextlib.suppress(OSError):
        extra["sockname"] = sock.getsockname()
    with contextlib.suppress(OSError):
        extra["peername"] = sock.getpeername()
    return extra


def send_to_nobody(sock: socket.socket, data: bytes) -> None:
    """Send a datagram without an address, on a socket that we did not connect.

    One of a pair, or one that its user has connected, has a peer; asyncio fails there.
    """
    try:
        sock.send(data)
    except OSError as exc:
        if exc.errno not in (errno.EDESTADDRREQ, errno.ENOTCONN):
            raise
        sock.sendto(data, None)  # type: ignore[call-overload]


def warn_send_failed() -> None:
    logger.warning("socket.send() raised exception.")


def warn_unclosed(transport: object) -> None:
    warnings.warn(  # noqa: B028
        f"unclosed transport {transport!r}", ResourceWarning, source=transport
    )


def check_socket(sock: socket.socket) -> None:
    """Raise TypeError for a socket that the sock_* methods cannot use."""
    from .tls import reject_ssl_socket

    reject_ssl_socket(sock)


def accepted_socket(listening: socket.socket, fd: int) -> socket.socket:
    """Return a socket object for a connection that ``sock_accept()`` got."""
    sock = socket.socket(listening.family, listening.type, listening.proto, fileno=fd)
    sock.setblocking(False)
    return sock


_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def accept_failed(listener: Listener, sock: socket.socket, exc: OSError) -> None:
    """Report a failing accept(); after a shortage try again in a second."""
    shortage = exc.errno in _SHORTAGES
    loop = listener.loop
    loop.call_exception_handler(
        {
            "message": "socket.accept() out of system resource"
            if shortage
            else "socket.accept() failed",
            "exception": exc,
            "socket": TransportSocket(sock),
        }
    )
    if shortage:
        loop.call_later(constants.ACCEPT_RETRY_DELAY, listener.resume)


# --- TLS ----------------------------------------------------------------------

sendfile_fallback = constants._SendfileMode.FALLBACK

ssl_error: Any = ()
ssl_certificate_error: Any = ()
ssl_again_errors: Any = ()
try:
    import ssl
except ImportError:  # Python may be built without OpenSSL
    pass
else:
    ssl_error = ssl.SSLError
    ssl_certificate_error = ssl.CertificateError
    ssl_again_errors = (ssl.SSLWantReadError, ssl.SSLSyscallError)


def finish_waiter(waiter: asyncio.Future[None], exc: BaseException | None) -> None:
    """Tell who waits for a handshake how it has ended."""
    if waiter.done():
        return
    if exc is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(exc)


def tls_repr(transport: Any) -> str:
    """Return the repr of a TLS transport."""
    info = [type(transport).__name__]
    if transport._below is None:
        info.append("closed")
    else:
        if transport.is_closing():
            info.append("closing")
        info.append(f"over {transport._below!r}")
    return f"<{' '.join(info)}>"


def tls_debug(transport: Any, what: str, began: float) -> None:
    """Log, in debug mode, what asyncio would log."""
    if what == "start":
        logger.debug("%r starts SSL handshake", transport)
    elif what == "eof":
        logger.debug("%r received EOF", transport)
    else:
        took = transport._loop.time() - began
        logger.debug("%r: SSL handshake took %.1f ms", transport, took * 1e3)


def tls_handshake_timed_out(seconds: float) -> None:
    raise ConnectionAbortedError(
        f"SSL handshake is taking longer than {seconds} seconds: "
        f"aborting the connection"
    )


def tls_shutdown_timed_out() -> TimeoutError:
    return TimeoutError("SSL shutdown timed out")


def tls_fatal_error(
    transport: Any, exc: BaseException, message: str, below: Any
) -> None:
    """Report what ends a TLS connection: a broken one is nothing to report."""
    loop = transport._loop
    if isinstance(exc, OSError):
        if loop.get_debug():
            logger.debug("%r: %s", transport, message, exc_info=exc)
        return
    if isinstance(exc, asyncio.CancelledError):
        return
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exc,
            "transport": below,
            "protocol": transport,
        }
    )


def warn_eof_ignored() -> None:
    logger.warning("returning true from eof_received() has no effect when using ssl")


def warn_tls_closed() -> None:
    logger.warning("SSL connection is closed")
