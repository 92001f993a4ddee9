"""Subprocesses: started by the standard library, reaped by the loop.

``subprocess.Popen`` starts the process, with all its parameters.  A pidfd, which is
ready when the process has ended, is watched like any descriptor; the process is then
waited for by that descriptor, and so can be mistaken for no other.  Where the kernel
has no pidfds or does not permit them, or there are no descriptors left, a thread
waits for the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import warnings
from asyncio import base_subprocess
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._support import call_forgiven, set_result_unless_done
from .pipes import PipesMixin

if TYPE_CHECKING:
    from ._core import LoopBase as _Base
else:
    _Base = object

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)

# what asyncio reports for a process that someone else has waited for
_UNKNOWN_RETURNCODE = 255


@functools.cache
def can_use_pidfd() -> bool:
    """Does the kernel have pidfds, and may this process use them?"""
    try:
        fd = os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return False
    try:
        os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return True  # we are not our own child, that is all
    except (AttributeError, OSError):
        return False
    finally:
        os.close(fd)
    return True


async def _nothing() -> None:
    pass


def _connects_pipes_itself(loop: Any) -> bool:
    """Are the connect methods ours, and not replaced in a subclass or an instance?"""
    ours = PipesMixin.connect_read_pipe, PipesMixin.connect_write_pipe
    theirs = loop.connect_read_pipe, loop.connect_write_pipe
    return ours == tuple(getattr(method, "__func__", None) for method in theirs)


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """See ``asyncio.SubprocessTransport``."""

    _loop: Any
    _pipes: dict[int, Any]
    _returncode: int | None

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        # it waits for the child's exec()
        self._proc: Any = call_forgiven(
            subprocess.Popen,
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    def _connect_pipes(self, waiter: asyncio.Future[None] | None) -> Any:
        """Give the pipes to transports, all at once; return a coroutine to be run.

        asyncio does this in a task, which leaves the pipes to nobody if the task is
        cancelled in the midst of it.  A loop with connect methods of its own is asked
        in asyncio's way.
        """
        proc, loop = self._proc, self._loop
        if not _connects_pipes_itself(loop):
            return super()._connect_pipes(waiter)
        try:
            for fd, pipe in enumerate((proc.stdin, proc.stdout, proc.stderr)):
                if pipe is not None:
                    self._connect_pipe(fd, pipe)
        except BaseException as exc:
            # the waiter's owner will close us
            for fd, pipe in enumerate((proc.stdin, proc.stdout, proc.stderr)):
                if pipe is not None and self._pipes.get(fd) is None:
                    self._pipes.pop(fd, None)
                    pipe.close()
            if waiter is not None:
                waiter.set_exception(exc)
        loop.call_soon(self._protocol.connection_made, self)
        for callback, data in self._pending_calls:
            loop.call_soon(callback, *data)
        self._pending_calls: Any = None
        if waiter is not None:
            loop.call_soon(set_result_unless_done, waiter)
        return _nothing()

    def _connect_pipe(self, fd: int, pipe: Any) -> None:
        proto: Any
        if fd == 0:
            proto = base_subprocess.WriteSubprocessPipeProto(self, fd)
            proto.pipe = self._loop._open_write_pipe(pipe, proto, None)
        else:
            proto = base_subprocess.ReadSubprocessPipeProto(self, fd)
            proto.pipe = self._loop._open_read_pipe(pipe, proto, None)
        self._pipes[fd] = proto

    def get_pipe_transport(self, fd: int) -> Any:
        """Return the transport of stdin (0), stdout (1) or stderr (2), or None."""
        proto = self._pipes.get(fd)
        return None if proto is None else proto.pipe

    def send_signal(self, signal: int) -> None:
        """Send the signal, unless the process has ended."""
        if self._proc is None:
            raise ProcessLookupError
        # Popen.send_signal() would look whether the process has ended, and by that
        # take its status from those who wait for it
        if self._returncode is None and self._proc.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._proc.pid, signal)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _wait(transport: SubprocessTransport, pidfd: int | None) -> int | None:
    """Return what the process ended with; None if it has not.

    On Linux the process is named by its pidfd, so that no other one can be taken for
    it; a process whose status is gone counts as ended.
    """
    proc = transport._proc
    if proc.returncode is not None:
        return proc.returncode  # type: ignore[no-any-return]
    try:
        if pidfd is None:
            pid, status = os.waitpid(proc.pid, os.WNOHANG)
            return None if pid == 0 else _exit_code(status)
        result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        logger.warning(
            "child process pid %d exit status already read:  will report returncode %d",
            proc.pid,
            _UNKNOWN_RETURNCODE,
        )
        return _UNKNOWN_RETURNCODE
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return result.si_status
    return -result.si_status


def _exit_code(status: int) -> int:
    try:
        return os.waitstatus_to_exitcode(status)
    except ValueError:
        return status


def _chosen_watcher() -> Any:
    """Return the child watcher that the policy was given, or None.

    None stands also for those that would do what the loop does, at greater cost.
    """
    if sys.version_info >= (3, 14):
        return None
    policy: Any = asyncio.get_event_loop_policy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        default = asyncio.DefaultEventLoopPolicy
        if type(policy).get_child_watcher is default.get_child_watcher:
            watcher = policy._watcher
        else:
            try:
                watcher = policy.get_child_watcher()
            except NotImplementedError:
                return None
        ours = (asyncio.PidfdChildWatcher, asyncio.ThreadedChildWatcher)
    return None if type(watcher) in ours else watcher


def _check_options(
    universal_newlines: object,
    bufsize: int,
    text: object,
    encoding: object,
    errors: object,
) -> None:
    if universal_newlines:
        raise ValueError("universal_newlines must be False")
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _stream_name(stream: Any) -> str:
    if stream == subprocess.PIPE:
        return "<pipe>"
    if stream == subprocess.STDOUT:
        return "<stdout>"
    return repr(stream)


def _describe(what: str, stdin: Any, stdout: Any, stderr: Any) -> str:
    words = [what]
    if stdin is not None:
        words.append(f"stdin={_stream_name(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        words.append(f"stdout=stderr={_stream_name(stdout)}")
    else:
        if stdout is not None:
            words.append(f"stdout={_stream_name(stdout)}")
        if stderr is not None:
            words.append(f"stderr={_stream_name(stderr)}")
    return " ".join(words)


class SubprocessMixin(_Base):
    """Part of Loop."""

    # pidfds of running processes; their callbacks hold the transports
    _pidfds: set[int] | None

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        cmd: bytes | str,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = True,
        bufsize: int = 0,
        encoding: None = None,
        errors: None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _ProtocolT]:
        """Run ``cmd`` in a shell; returns ``(transport, protocol)``.

        Takes every parameter of ``subprocess.Popen`` but those for text, and raises
        what it raises.
        """
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if not shell:
            raise ValueError("shell must be True")
        _check_options(universal_newlines, bufsize, text, encoding, errors)
        # a debug log may well name the command: it may not name arguments
        return await self._run_subprocess(
            protocol_factory,
            f"run shell command {cmd!r}",
            cmd,
            True,
            stdin,
            stdout,
            stderr,
            bufsize,
            **kwargs,
        )

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: bool = False,
        shell: bool = False,
        bufsize: int = 0,
        encoding: None = None,
        errors: None = None,
        text: bool | None = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, _ProtocolT]:
        """Run ``program`` with ``args``; returns ``(transport, protocol)``.

        Takes every parameter of ``subprocess.Popen`` but those for text, and raises
        what it raises.
        """
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if shell:
            raise ValueError("shell must be False")
        _check_options(universal_newlines, bufsize, text, encoding, errors)
        return await self._run_subprocess(
            protocol_factory,
            f"execute program {program!r}",
            (program, *args),
            False,
            stdin,
            stdout,
            stderr,
            bufsize,
            **kwargs,
        )

    async def _run_subprocess(
        self,
        protocol_factory: Callable[[], _ProtocolT],
        what: str,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> tuple[SubprocessTransport, _ProtocolT]:
        protocol = protocol_factory()
        debug = self.get_debug()
        if debug:
            what = _describe(what, stdin, stdout, stderr)
            logger.debug(what)
        watcher = _chosen_watcher()
        with contextlib.nullcontext() if watcher is None else watcher as entered:
            if sys.version_info < (3, 12) and watcher is not None:
                watcher = entered  # what __enter__() returned, as asyncio takes it
            if watcher is not None and not watcher.is_active():
                # before there is a process that nobody would wait for
                raise RuntimeError(
                    "asyncio.get_child_watcher() is not activated, "
                    "subprocess support is not installed."
                )
            waiter = self.create_future()
            transport = SubprocessTransport(
                self,
                protocol,  # type: ignore[arg-type]
                args,
                shell,
                stdin,
                stdout,
                stderr,
                bufsize,
                waiter=waiter,
                **kwargs,
            )
            try:
                if watcher is None:
                    self._watch(transport)
                else:
                    pid = transport.get_pid()
                    watcher.add_child_handler(pid, self._child_exited, transport)
            except BaseException:
                transport.close()
                raise
            try:
                await waiter
            except BaseException as exc:
                if not isinstance(exc, (SystemExit, KeyboardInterrupt)):
                    transport.close()
                    await transport._wait()
                raise
        if debug:
            logger.info("%s: %r", what, transport)
        return transport, protocol

    # --- the end of a process ---------------------------------------------------------

    def _watch(self, transport: SubprocessTransport) -> None:
        """See to it that the process is waited for."""
        if can_use_pidfd():
            try:
                pidfd = os.pidfd_open(transport._proc.pid)
            except ProcessLookupError:
                # it has ended, and its status is gone
                self.call_soon(self._exited, transport, None)
                return
            except OSError:
                pass  # no descriptors are left
            else:
                if self._watch_pidfd(transport, pidfd):
                    return
        self._watch_in_thread(transport)

    def _watch_pidfd(self, transport: SubprocessTransport, pidfd: int) -> bool:
        """Return False if the kernel cannot watch one more; pidfd is closed then."""
        if self._pidfds is None:
            self._pidfds = set()
        try:
            self.add_reader(pidfd, self._exited, transport, pidfd)
        except OSError:
            os.close(pidfd)
            return False
        self._pidfds.add(pidfd)
        return True

    def _watch_in_thread(self, transport: SubprocessTransport) -> None:
        pid = transport._proc.pid
        thread = threading.Thread(
            target=self._wait_in_thread,
            args=(transport,),
            name=f"asyncio-waitpid-{pid}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            transport.close()  # kills it
            transport._proc.wait()
            self.call_soon(self._exited, transport, None)
            raise

    def _wait_in_thread(self, transport: SubprocessTransport) -> None:
        """Wait for the end, but leave the status to the loop's thread."""
        pid = transport._proc.pid
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        try:
            self.call_soon_threadsafe(self._exited, transport, None)
        except RuntimeError:
            _wait(transport, None)
            logger.warning("Loop %r that handles pid %r is closed", self, pid)

    def _exited(self, transport: SubprocessTransport, pidfd: int | None) -> None:
        """The process has ended: take its status and tell the transport."""
        still_runs = False
        try:
            returncode = _wait(transport, pidfd)
            still_runs = returncode is None
        finally:
            if pidfd is not None and not still_runs and self._pidfds is not None:
                self.remove_reader(pidfd)
                self._pidfds.discard(pidfd)
                os.close(pidfd)
        if returncode is None:
            return
        # from now on its number may be another's: no signal must be sent to it
        transport._proc.returncode = returncode
        if self.get_debug():
            logger.debug(
                "process %s exited with returncode %s",
                transport.get_pid(),
                returncode,
            )
        if sys.version_info >= (3, 14):
            transport._process_exited(returncode)
        else:
            self.call_soon(transport._process_exited, returncode)

    def _child_exited(
        self, pid: int, returncode: int, transport: SubprocessTransport
    ) -> None:
        """What the policy's child watcher calls, maybe in another thread."""
        self.call_soon_threadsafe(transport._process_exited, returncode)

    def _close_pidfds(self) -> None:
        """After the loop has been closed: processes that still run are left to run."""
        pidfds, self._pidfds = self._pidfds, None
        for pidfd in pidfds or ():
            os.close(pidfd)
