"""Signals: handlers on the loop, and a loop that wakes up for them.

A signal only sets a flag in the interpreter; a loop that sleeps in the kernel has
to be woken to let the Python handler run.  From its first sleep in a run in the main
thread, and as long as it has handlers, signal numbers are written to a socket pair of
its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import os
import signal
import socket
import sys
import threading
import warnings
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVarTuple

if TYPE_CHECKING:
    from ._core import Handle
    from ._core import LoopBase as _Base
else:
    _Base = object

_Ts = TypeVarTuple("_Ts")


def _noop(signum: int, frame: object) -> None:
    """Makes the interpreter write the signal's number to the wakeup descriptor."""


class _WakeupFd:
    """A wakeup descriptor of ours while it is installed, and whose place it took."""

    def __init__(self, fd: int) -> None:
        """Raises ValueError outside the main thread."""
        self.fd = fd
        self.outer = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        _installed.append(self)

    def forward(self, numbers: bytes) -> None:
        """Tell who listened before us."""
        if self.outer != -1:
            with contextlib.suppress(OSError):
                os.write(self.outer, numbers)

    def restore(self) -> None:
        place = _installed.index(self)
        del _installed[place]
        if place < len(_installed):
            # a loop inside this one's run goes on
            _installed[place].outer = self.outer
            return
        try:
            signal.set_wakeup_fd(self.outer)
        except (ValueError, OSError) as exc:
            # the outer one was closed meanwhile, or this is another thread
            logger.info("set_wakeup_fd(%d) failed: %s", self.outer, exc)


# of the main thread, the innermost last
_installed: list[_WakeupFd] = []


def _after_fork_in_child() -> None:
    """Keep the child's signals to the child: the descriptors are the parent's too."""
    if _installed:
        for wakeup in _installed:
            wakeup.outer = -1
        with contextlib.suppress(ValueError):  # forked by another thread
            signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _check_signal(sig: int) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


class SignalsMixin(_Base):
    """Part of Loop."""

    _signal_handlers: dict[int, Handle] | None
    _wakeup_pair: tuple[socket.socket, socket.socket] | None
    _wakeup: _WakeupFd | None  # None: not installed

    # --- the wakeup descriptor -----------------------------------------------------

    def _install_wakeup_fd(self) -> None:
        """Raises ValueError outside the main thread."""
        if self._wakeup is not None:
            return
        if self._wakeup_pair is None:
            reader, writer = socket.socketpair()
            reader.setblocking(False)
            writer.setblocking(False)
            self._wakeup_pair = reader, writer
            self.add_reader(reader.fileno(), self._read_signals)
        self._wakeup = _WakeupFd(self._wakeup_pair[1].fileno())

    def _restore_wakeup_fd(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.restore()

    def _run_woken_by_signals(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        try:
            self._run(self._install_wakeup_fd if in_main else None)
        finally:
            if self._wakeup is not None and not self._signal_handlers:
                self._restore_wakeup_fd()

    def _read_signals(self) -> None:
        assert self._wakeup_pair is not None
        try:
            numbers = self._wakeup_pair[0].recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        if self._wakeup is not None:
            self._wakeup.forward(numbers)
        for signum in numbers:
            self._handle_signal(signum)

    def _handle_signal(self, signum: int) -> None:
        handle = (self._signal_handlers or {}).get(signum)
        if handle is None:
            return
        if handle.cancelled():
            self.remove_signal_handler(signum)
        else:
            self._add_callback(handle)

    # --- handlers --------------------------------------------------------------------

    def add_signal_handler(
        self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts
    ) -> None:
        """Call ``callback(*args)`` on the loop when the signal arrives.

        Raises ValueError for a number that is no signal, RuntimeError for one that
        cannot be caught or outside the main thread.
        """
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        self._check_closed()
        try:
            self._install_wakeup_fd()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from None
        handle = self._new_handle(callback, *args)
        if self._signal_handlers is None:
            self._signal_handlers = {}
        self._signal_handlers[sig] = handle
        try:
            signal.signal(sig, _noop)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self._signal_handlers[sig]
            if not self._signal_handlers and not self.is_running():
                self._restore_wakeup_fd()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Undo ``add_signal_handler()``; return whether there was a handler."""
        _check_signal(sig)
        if not self._signal_handlers or sig not in self._signal_handlers:
            return False
        del self._signal_handlers[sig]
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from None
            raise
        if not self._signal_handlers and not self.is_running():
            self._restore_wakeup_fd()
        return True

    def _close_signals(self) -> None:
        if self._signal_handlers:
            if sys.is_finalizing():
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, "
                    f"skipping signal handlers removal",
                    ResourceWarning,
                    source=self,
                    stacklevel=2,
                )
                self._signal_handlers.clear()
            else:
                for sig in list(self._signal_handlers):
                    self.remove_signal_handler(sig)
        self._restore_wakeup_fd()
        if self._wakeup_pair is not None:
            reader, writer = self._wakeup_pair
            self._wakeup_pair = None
            if reader.fileno() >= 0:  # the garbage collector may have been first
                self.remove_reader(reader.fileno())
            reader.close()
            writer.close()
