"""The event loop: the C core, plus what runs once per loop or per connection."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import warnings
import weakref
from asyncio.base_events import _run_until_complete_cb  # type: ignore[attr-defined]
from asyncio.log import logger
from collections.abc import AsyncGenerator
from typing import Any

from . import _core
from .connect import ConnectMixin
from .datagram import DatagramMixin
from .dns import DNSMixin
from .executor import ExecutorMixin
from .handlers import ExceptionHandlerMixin
from .pipes import PipesMixin
from .sendfile import SendfileMixin
from .serve import ServeMixin
from .signals import SignalsMixin
from .sockets import SocketsMixin
from .subprocesses import SubprocessMixin
from .tls import TLSMixin
from .unix import UnixMixin

# what asyncio.constants.DEBUG_STACK_DEPTH limits, too
_ORIGIN_TRACKING_DEPTH = 10

_LONGEST_SPIN = 0.001  # seconds


def _spin_of_environment() -> float | None:
    said = os.environ.get("FASTLOOP_SPIN")
    if not said:
        return None
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_SPIN:
        raise ValueError(
            f"FASTLOOP_SPIN must be from 0 to {_LONGEST_SPIN} seconds, not {said!r}"
        )
    return seconds


class Loop(
    UnixMixin,
    SubprocessMixin,
    PipesMixin,
    ConnectMixin,
    ServeMixin,
    TLSMixin,
    DatagramMixin,
    SendfileMixin,
    SocketsMixin,
    DNSMixin,
    ExecutorMixin,
    SignalsMixin,
    ExceptionHandlerMixin,
    _core.LoopBase,
    asyncio.AbstractEventLoop,
):
    """An asyncio event loop on libuv.

    See "Event Loop" in the asyncio documentation; docs/differences.md of the project
    lists what differs.
    """

    # CPython calls methods of C faster while the instance has no __dict__
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_outer_origin_depth",
        "_pidfds",
        "_signal_handlers",
        "_tracking_origins",
        "_wakeup",
        "_wakeup_pair",
    )

    def __init__(self) -> None:
        spin = _spin_of_environment()  # before there is a loop that has to be closed
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        self._default_executor = None
        self._exception_handler = None
        self._executor_shutdown_called = False
        self._outer_origin_depth = 0
        self._pidfds = None
        self._signal_handlers = None
        self._tracking_origins = False
        self._wakeup = None
        self._wakeup_pair = None
        super().__init__()
        if asyncio.coroutines._is_debug_mode():  # type: ignore[attr-defined]
            self.set_debug(True)
        if spin is not None:
            self.spin_duration = spin

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    @property
    def _closed(self) -> bool:  # programs look at asyncio's
        return self.is_closed()

    # --- running ------------------------------------------------------------------

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "Cannot run the event loop while another loop is running"
            )

    def run_forever(self) -> None:
        """Run until ``stop()`` is called."""
        self._check_closed()
        self._check_running()
        self._track_coroutine_origins(self.get_debug())
        hooks = sys.get_asyncgen_hooks()
        try:
            sys.set_asyncgen_hooks(
                firstiter=self._asyncgen_firstiter_hook,
                finalizer=self._asyncgen_finalizer_hook,
            )
            asyncio._set_running_loop(self)
            self._run_woken_by_signals()
        finally:
            asyncio._set_running_loop(None)
            self._track_coroutine_origins(False)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(self, future: Any) -> Any:
        """Run until ``future`` (an awaitable) is done; return its result."""
        self._check_closed()
        self._check_running()
        is_new = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)
        if is_new:
            # if it does not finish, an exception tells so
            future._log_destroy_pending = False
        # asyncio's very function: libraries look for it among the callbacks
        future.add_done_callback(_run_until_complete_cb)
        try:
            self.run_forever()
        except BaseException:
            if is_new and future.done() and not future.cancelled():
                # what the coroutine raised is under way: do not report it again
                future.exception()
            raise
        finally:
            future.remove_done_callback(_run_until_complete_cb)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    # --- debug mode -----------------------------------------------------------------

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode on or off."""
        self._set_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(self._track_coroutine_origins, enabled)

    def _track_coroutine_origins(self, enabled: bool) -> None:
        if bool(enabled) == self._tracking_origins:
            return
        self._tracking_origins = bool(enabled)
        if enabled:
            self._outer_origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(_ORIGIN_TRACKING_DEPTH)
        else:
            sys.set_coroutine_origin_tracking_depth(self._outer_origin_depth)

    # --- asynchronous generators ------------------------------------------------------

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {agen!r} was scheduled after "
                f"loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(agen)
        if not self.is_closed():
            # may be called by the garbage collector of another thread
            self.call_soon_threadsafe(self.create_task, agen.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that are still open."""
        self._asyncgens_shutdown_called = True
        closing = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(
            *[agen.aclose() for agen in closing], return_exceptions=True
        )
        for result, agen in zip(results, closing, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {agen!r}",
                        "exception": result,
                        "asyncgen": agen,
                    }
                )

    # --- the end ----------------------------------------------------------------------

    def close(self) -> None:
        """Close the loop: drop what is scheduled, close what is open.

        Raises RuntimeError if the loop runs.  Does not wait for the default executor.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        self._close_signals()
        self._close()
        self._close_pidfds()
        self._close_executor()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self.is_closed():
            return
        try:
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        finally:  # a warning may be an error
            if not self.is_running():
                self.close()


_core.own_methods(Loop)
