"""Executors: blocking calls in threads or processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, TypeVarTuple

from ._support import check_callback

if TYPE_CHECKING:
    from ._core import LoopBase as _Base
else:
    _Base = object

_Source: TypeAlias = concurrent.futures.Future[Any]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class ExecutorMixin(_Base):
    """Part of Loop."""

    _default_executor: concurrent.futures.Executor | None
    _executor_shutdown_called: bool

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Run ``func(*args)`` in an executor (None: the default one).

        Returns a future.  Raises RuntimeError after ``shutdown_default_executor()``.
        """
        self._check_closed()
        if self.get_debug():
            check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._get_default_executor()
        return _wrap(executor.submit(func, *args), self)

    def _get_default_executor(self) -> concurrent.futures.Executor:
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        if self._default_executor is None:
            self._default_executor = concurrent.futures.ThreadPoolExecutor(
                thread_name_prefix="asyncio"
            )
        return self._default_executor

    def set_default_executor(self, executor: Any) -> None:
        """Set the executor of ``run_in_executor(None, ...)``: a ThreadPoolExecutor."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until the default executor's threads have ended.

        After ``timeout`` seconds (None: no limit) warns and does not wait longer.
        """
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        done = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, done))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            warnings.warn(
                "The executor did not finishing joining its threads within "
                f"{timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _join_executor(
        self, executor: concurrent.futures.Executor, done: asyncio.Future[None]
    ) -> None:
        try:
            executor.shutdown(wait=True)
        except Exception as exc:
            if not self.is_closed():
                self.call_soon_threadsafe(_finish, done, exc)
        else:
            if not self.is_closed():
                self.call_soon_threadsafe(_finish, done, None)

    def _close_executor(self) -> None:
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)


# --- from a thread's future to the loop's ---------------------------------------------
#
# asyncio.wrap_future() does it for futures of all kinds, by way of twice as many calls.


def _wrap(source: Any, loop: ExecutorMixin) -> asyncio.Future[Any]:
    """A future of the loop's that gets the outcome of source, and cancels it."""
    if not isinstance(source, concurrent.futures.Future):
        # an executor of the user's: what asyncio accepts, or its error
        return asyncio.wrap_future(source, loop=loop)
    future = loop.create_future()
    future.add_done_callback(functools.partial(_cancel, source))
    source.add_done_callback(functools.partial(_announce, loop, future))
    return future


def _cancel(source: _Source, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        source.cancel()


def _announce(
    loop: ExecutorMixin, future: asyncio.Future[Any], source: _Source
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(_copy, source, future)


def _copy(source: _Source, future: asyncio.Future[Any]) -> None:
    if future.cancelled():
        return
    try:
        exc = source.exception()
    except concurrent.futures.CancelledError:
        future.cancel()
        return
    if exc is None:
        future.set_result(source.result())
    else:
        future.set_exception(_converted(exc))


def _converted(exc: BaseException) -> BaseException:
    """The exception of asyncio's for one of concurrent.futures' with the same name."""
    for theirs, ours in (
        (concurrent.futures.CancelledError, asyncio.CancelledError),
        (concurrent.futures.InvalidStateError, asyncio.InvalidStateError),
    ):
        if type(exc) is theirs:
            return ours(*exc.args).with_traceback(exc.__traceback__)
    return exc


def _finish(future: asyncio.Future[None], exc: BaseException | None) -> None:
    if future.done():
        return
    if exc is None:
        future.set_result(None)
    else:
        future.set_exception(exc)
