"""subprocess_exec(), subprocess_shell(), and what asyncio makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from io_support import (
    LoopFactory,
    call,
    descriptors,
    isolated,
    on_both,
    outcome,
    run_python,
    run_until,
    turns,
    until,
    warm_up,
)

import fastloop
from fastloop import subprocesses

Loop = asyncio.AbstractEventLoop
MEGABYTE = bytes(range(256)) * 4096
CAT = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"


def children() -> list[str]:
    """The states of this process's children: Z is a zombie."""
    states = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if parent == str(os.getpid()):
                states.append(state)
    return states


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    gc.collect()
    subprocess._cleanup()  # type: ignore[attr-defined]
    assert children() == before


@pytest.fixture(params=["pidfd", "thread"])
def reaper(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without pidfds."""
    if request.param == "thread":
        monkeypatch.setattr(subprocesses, "can_use_pidfd", lambda: False)
    elif not subprocesses.can_use_pidfd():
        pytest.skip("there are no pidfds here")
    return str(request.param)


class Recorder(asyncio.SubprocessProtocol):
    """Notes what it is told; data of one pipe is one event."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = {1: b"", 2: b""}
        self.lost = False
        self.transport: Any = None

    def note(self, *event: Any) -> None:
        if event not in self.events:
            self.events.append(event)

    def connection_made(self, transport: Any) -> None:
        self.note("made")
        self.transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.note("data", fd)
        self.data[fd] += data

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.note("pipe lost", fd, type(exc))

    def process_exited(self) -> None:
        self.note("exited", self.transport.get_returncode())

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost", exc)
        self.lost = True


# --- running ------------------------------------------------------------------------


def test_communicate(loop: Loop, reaper: str) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CAT, stdin=PIPE, stdout=PIPE
        )
        assert await process.communicate(MEGABYTE) == (MEGABYTE, None)
        assert process.returncode == 0

    loop.run_until_complete(scenario())


def test_shell(loop: Loop, reaper: str) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_shell(
            "echo out; echo error >&2; exit 7", stdout=PIPE, stderr=PIPE
        )
        assert await process.communicate() == (b"out\n", b"error\n")
        assert process.returncode == 7
        assert await process.wait() == 7

    loop.run_until_complete(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_signals(loop: Loop, reaper: str, number: int) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60")
        if number == signal.SIGTERM:
            process.terminate()
        elif number == signal.SIGKILL:
            process.kill()
        else:
            process.send_signal(number)
        assert await process.wait() == process.returncode == -number

    loop.run_until_complete(scenario())


def test_signal_after_the_end() -> None:
    async def scenario(loop: Loop) -> Any:
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        await turns()
        return call(process.kill), call(process.send_signal, 0), call(process.terminate)

    on_both(scenario)


def test_callbacks_of_the_protocol() -> None:
    async def scenario(loop: Loop) -> Any:
        transport, protocol = await loop.subprocess_exec(
            Recorder, sys.executable, "-c", CAT
        )
        made = list(protocol.events)
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"text")
        await until(lambda: stdin.get_write_buffer_size() == 0)
        stdin.close()
        await until(lambda: protocol.lost)
        transport.close()
        events = set(protocol.events), protocol.events[0], protocol.events[-1]
        return made, events, protocol.data, transport.get_returncode()

    made, events, data, _ = on_both(scenario)
    assert made == [("made",)]
    assert events[1:] == (("made",), ("lost", None))
    assert data == {1: b"text", 2: b""}


def test_transport() -> None:
    async def scenario(loop: Loop) -> Any:
        transport, protocol = await loop.subprocess_shell(
            Recorder, "sleep 60", stdin=DEVNULL, stderr=STDOUT
        )
        notes: list[Any] = [isinstance(transport, asyncio.SubprocessTransport)]
        popen = transport.get_extra_info("subprocess")
        notes += [type(popen), popen.pid == transport.get_pid()]
        notes += [transport.get_extra_info("none", 5), transport.get_returncode()]
        for fd in 0, 2, 5:
            notes.append(transport.get_pipe_transport(fd))
        stdout = transport.get_pipe_transport(1)
        notes.append(isinstance(stdout, asyncio.ReadTransport))
        notes.append(stdout.get_extra_info("pipe") is popen.stdout)
        notes += [transport.get_protocol() is protocol, transport.is_closing()]
        transport.set_protocol(protocol)
        text = repr(transport)
        notes.append(f"pid={popen.pid} running stdout=<" in text)
        transport.close()
        notes.append(transport.is_closing())
        await until(lambda: protocol.lost)
        notes.append(f"closed pid={popen.pid} returncode=-9" in repr(transport))
        notes += [transport.get_returncode(), popen.returncode, protocol.events[-1]]
        return notes

    on_both(scenario)


def test_pipes_are_pipes(fast_loop: Loop) -> None:
    """Not sockets, so that /proc/self/fd/1 can be opened."""

    async def scenario() -> None:
        process = await asyncio.create_subprocess_shell(
            "echo text > /proc/self/fd/1", stdin=PIPE, stdout=PIPE
        )
        assert await process.communicate() == (b"text\n", None)

    fast_loop.run_until_complete(scenario())


def test_parameters_of_popen(loop: Loop, tmp_path: Path) -> None:
    show = (
        "import os; os.write(1, repr((os.getcwd(), os.environ.get('NAME'),"
        "os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid(),"
        "os.umask(0), os.path.exists('/proc/self/fd/%d'))).encode())"
    )

    async def run(extra_fd: int = 999, **options: Any) -> Any:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", show % extra_fd, stdout=PIPE, **options
        )
        output, _ = await process.communicate()
        return eval(output)

    async def scenario() -> None:
        assert (await run(cwd=tmp_path))[0] == str(tmp_path)
        assert (await run(env={"NAME": "value"}))[1] == "value"
        assert (await run(process_group=0))[2]
        assert (await run(start_new_session=True))[2:4] == (True, True)
        assert (await run(umask=0o27))[4] == 0o27
        await run(user=os.getuid(), group=os.getgid(), pipesize=65536)
        reader, writer = os.pipe()
        assert not (await run(writer))[5]
        assert (await run(writer, pass_fds=[writer]))[5]
        os.set_inheritable(writer, True)
        assert (await run(writer, close_fds=False))[5]
        os.close(reader)
        os.close(writer)
        await run(restore_signals=False, executable=sys.executable)

    loop.run_until_complete(scenario())


@pytest.mark.parametrize(
    "options",
    [
        {"universal_newlines": True},
        {"bufsize": 1},
        {"text": True},
        {"encoding": "ascii"},
        {"errors": "strict"},
        {"unknown": 1},
        {"cwd": "/nowhere/at/all"},
        {"stdin": 77_777},
    ],
)
@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
def test_wrong_arguments(method: str, options: dict[str, Any]) -> None:
    before = descriptors()

    async def scenario(loop: Loop) -> Any:
        start = getattr(loop, method)
        return await outcome(start(asyncio.SubprocessProtocol, "true", **options))

    assert issubclass(on_both(scenario)[0], Exception)
    gc.collect()
    assert descriptors() == before


@isolated
def test_preexec_fn(loop_factory: LoopFactory) -> None:
    """It is called in the child, and what it raises is the caller's error."""
    called: list[int] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            "true", preexec_fn=lambda: called.append(1)
        )
        assert await process.wait() == 0
        assert called == []
        await turns(3)
        before = descriptors()
        for start in (asyncio.create_subprocess_exec, asyncio.create_subprocess_shell):
            with pytest.raises(subprocess.SubprocessError, match="preexec_fn"):
                await start("true", preexec_fn=lambda: 1 / 0)
        await turns(3)
        gc.collect()
        assert children() == []
        assert descriptors() == before

    with contextlib.closing(loop_factory()) as loop:
        loop.run_until_complete(main())


def test_wrong_commands() -> None:
    async def scenario(loop: Loop) -> Any:
        make = asyncio.SubprocessProtocol
        return [
            await outcome(loop.subprocess_shell(make, ["true"])),  # type: ignore
            await outcome(loop.subprocess_shell(make, "", shell=False)),  # type: ignore
            await outcome(loop.subprocess_exec(make, "true", shell=True)),  # type: ignore
            await outcome(loop.subprocess_exec(make, "/nowhere/at/all")),
            await outcome(loop.subprocess_exec(make, "/etc/passwd")),
            await outcome(loop.subprocess_exec(make, 5)),
        ]

    on_both(scenario)


def test_stdin_that_nobody_reads(loop: Loop) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
        assert await process.communicate(MEGABYTE) == (None, None)
        assert process.returncode == 0

    loop.run_until_complete(scenario())


def test_pipe_is_held_by_a_grandchild(loop: Loop, reaper: str) -> None:
    """The process has ended when it has, not when its output has."""

    async def scenario() -> None:
        transport, protocol = await loop.subprocess_shell(
            Recorder, "sleep 60 & echo $!", stdin=None, stderr=None
        )
        await until(lambda: protocol.data[1] and ("exited", 0) in protocol.events)
        assert not protocol.lost
        os.kill(int(protocol.data[1]), signal.SIGKILL)
        await until(lambda: protocol.lost)
        assert protocol.events[-1] == ("lost", None)
        transport.close()

    loop.run_until_complete(scenario())


def test_flow_control_of_stdin(loop: Loop) -> None:
    class Pausing(Recorder):
        def pause_writing(self) -> None:
            self.note("pause")

        def resume_writing(self) -> None:
            self.note("resume")

    async def scenario() -> None:
        transport, protocol = await loop.subprocess_exec(
            Pausing, sys.executable, "-c", CAT
        )
        stdin: Any = transport.get_pipe_transport(0)
        stdin.write(MEGABYTE)
        assert ("pause",) in protocol.events
        await until(lambda: ("resume",) in protocol.events)
        stdin.close()
        await until(lambda: protocol.lost)
        assert protocol.data[1] == MEGABYTE
        transport.close()

    loop.run_until_complete(scenario())


def test_debug_mode(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(loop: Loop) -> Any:
        loop.set_debug(True)
        caplog.clear()
        with caplog.at_level("DEBUG", logger="asyncio"):
            process = await asyncio.create_subprocess_exec(
                "echo", "secret", stdin=PIPE, stdout=PIPE, stderr=STDOUT
            )
            await process.communicate()
        messages = [record.getMessage() for record in caplog.records]
        found = [m for m in messages if m.startswith("execute program")]
        return found[0], "secret" in "".join(messages)

    assert on_both(scenario) == (
        "execute program 'echo' stdin=<pipe> stdout=stderr=<pipe>",
        False,
    )


# --- the end of a process -----------------------------------------------------------


def test_many_processes(loop: Loop) -> None:
    async def one(number: int) -> int:
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {number}")
        return await process.wait()

    async def scenario() -> None:
        codes = await asyncio.gather(*[one(n % 256) for n in range(300)])
        assert codes == [n % 256 for n in range(300)]

    loop.run_until_complete(scenario())
    assert "Z" not in children()


def test_many_that_run_at_once(fast_loop: Loop) -> None:
    async def scenario() -> None:
        started = [asyncio.create_subprocess_exec("sleep", "60") for _ in range(100)]
        processes = await asyncio.gather(*started)
        for process in processes:
            process.kill()
        codes = await asyncio.gather(*[process.wait() for process in processes])
        assert codes == [-9] * 100

    fast_loop.run_until_complete(scenario())


def test_no_signal_between_the_end_and_its_news(
    fast_loop: Loop, reaper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was waited for, its number may be another's."""
    sent: list[int] = []
    told = subprocesses.SubprocessTransport._process_exited  # type: ignore

    def exited(self: Any, returncode: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda pid, number: sent.append(pid))
            self.kill()
        told(self, returncode)

    monkeypatch.setattr(subprocesses.SubprocessTransport, "_process_exited", exited)

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        assert await process.wait() == 3
        assert sent == []

    fast_loop.run_until_complete(scenario())


@pytest.mark.parametrize("who", ["waitpid", "poll"])
def test_reaped_by_someone_else(
    fast_loop: Loop, reaper: str, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "60")
        process.kill()
        popen = process._transport.get_extra_info("subprocess")  # type: ignore
        if who == "waitpid":
            os.waitpid(process.pid, 0)
            assert await process.wait() == 255
            assert "will report returncode 255" in caplog.text
        else:  # through the object that knows it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert popen.poll() == -9
            assert await process.wait() == -9
            assert caplog.text == ""

    fast_loop.run_until_complete(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="children reap themselves")
@isolated
def test_children_that_nobody_has_to_wait_for() -> None:
    """With SIGCHLD ignored the kernel forgets how they ended."""
    import logging

    logging.disable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 255

    fastloop.run(main())


def test_exited_before_it_is_watched(
    fast_loop: Loop, reaper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = fastloop.Loop._watch

    def late(self: Any, transport: Any) -> None:
        pid = transport.get_pid()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        watch(self, transport)

    monkeypatch.setattr(fastloop.Loop, "_watch", late)

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "echo text; exit 3", stdout=PIPE
        )
        assert await process.communicate() == (b"text\n", None)
        assert process.returncode == 3

    fast_loop.run_until_complete(scenario())


def test_reaped_before_it_is_watched(
    fast_loop: Loop, reaper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = fastloop.Loop._watch

    def late(self: Any, transport: Any) -> None:
        os.waitpid(transport.get_pid(), 0)
        watch(self, transport)

    monkeypatch.setattr(fastloop.Loop, "_watch", late)

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 255

    fast_loop.run_until_complete(scenario())


def test_no_descriptor_for_a_pidfd(
    fast_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    subprocesses.can_use_pidfd()
    monkeypatch.setattr(os, "pidfd_open", none_left)

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        assert await process.wait() == 3

    fast_loop.run_until_complete(scenario())


def test_no_thread_either(fast_loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    fast_loop.run_until_complete(warm_up())
    monkeypatch.setattr(subprocesses, "can_use_pidfd", lambda: False)
    monkeypatch.setattr(threading.Thread, "start", start)
    before = descriptors()

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE)
        assert "Z" not in children()
        assert "S" not in children()
        await turns()

    fast_loop.run_until_complete(scenario())
    gc.collect()
    assert descriptors() <= before


@pytest.mark.parametrize("limit", range(1, 9))
def test_shortage_of_descriptors(limit: int) -> None:
    """Whatever fails in the making, nothing is left of it."""
    loop = fastloop.new_event_loop()

    async def scenario() -> None:
        reader, writer = os.pipe()
        transport, _ = await loop.connect_read_pipe(
            asyncio.Protocol, os.fdopen(reader, "rb", 0)
        )
        await asyncio.sleep(0.001)
        before = descriptors()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        held = []
        try:
            while True:
                held.append(os.dup(writer))
                if max(held) >= max(before) + 1:
                    break
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + limit, hard))
            try:
                process = await asyncio.create_subprocess_exec(
                    "cat", stdin=PIPE, stdout=PIPE, stderr=PIPE
                )
            except OSError as exc:
                assert exc.errno == errno.EMFILE
            else:
                await process.communicate(b"data")
                assert process.returncode == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        await turns(3)
        gc.collect()
        assert descriptors() == before
        os.close(writer)
        transport.close()
        await turns(2)

    loop.run_until_complete(scenario())
    loop.close()


# --- cancellation -------------------------------------------------------------------


async def _use_process() -> None:
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        # more would pause reading, and before 3.13.1 asyncio then waits for ever
        await process.communicate(bytes(100_000))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        process._transport.close()  # type: ignore[attr-defined]


def test_cancelled_at_every_step(fast_loop: Loop, reaper: str) -> None:
    async def scenario() -> None:
        await _use_process()
        await turns(3)
        before = descriptors()
        for steps in range(25):
            task = asyncio.ensure_future(_use_process())
            for _ in range(steps):
                await asyncio.sleep(0 if steps < 12 else 0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            await until(lambda: descriptors() == before)
            assert children() == []

    fast_loop.run_until_complete(scenario())


def test_many_cancelled_at_random(fast_loop: Loop) -> None:
    dice = random.Random(5)

    async def scenario() -> None:
        await _use_process()
        await turns(3)
        before = descriptors()
        for _ in range(10):
            tasks = [asyncio.ensure_future(_use_process()) for _ in range(10)]
            for task in tasks:
                fast_loop.call_later(dice.random() * 0.05, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: descriptors() == before)
        assert children() == []

    fast_loop.run_until_complete(scenario())


def test_cancelled_twice(fast_loop: Loop) -> None:
    async def scenario() -> None:
        task = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "60"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        # nobody is left waiting for the process, whose end comes when it will
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await until(lambda: children() == [])

    fast_loop.run_until_complete(scenario())


def test_run_is_cancelled_while_a_process_starts() -> None:
    before = descriptors()

    async def main() -> None:
        task = asyncio.ensure_future(
            asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE)
        )
        await asyncio.sleep(0)
        del task

    fastloop.run(main())
    gc.collect()
    assert children() == []
    assert descriptors() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("pipes", [{}, {"stdin": PIPE, "stdout": PIPE}])
def test_loop_closed_with_a_live_child(reaper: str, pipes: dict[str, Any]) -> None:
    before = descriptors()
    loop = fastloop.new_event_loop()
    process = loop.run_until_complete(
        asyncio.create_subprocess_exec("sleep", "60", **pipes)
        if not pipes
        else _create(pipes)
    )
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    assert process.returncode is None
    assert popen.poll() is None
    process.kill()
    popen.wait()
    del process, popen, loop
    gc.collect()
    if reaper == "thread":
        run_until_joined()
    assert descriptors() == before


async def _create(pipes: dict[str, Any]) -> Any:
    return await asyncio.create_subprocess_exec("sleep", "60", **pipes)


def run_until_joined() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("asyncio-waitpid"):
            thread.join(10)


def test_transport_that_is_forgotten(fast_loop: Loop) -> None:
    """While its process runs, the loop knows it."""

    async def scenario() -> None:
        protocol = Recorder()
        await fast_loop.subprocess_shell(
            lambda: protocol, "sleep 0.1", stdin=None, stdout=None, stderr=None
        )
        protocol.transport = None
        gc.collect()
        protocol.transport = type("Any", (), {"get_returncode": lambda self: 0})()
        await until(lambda: protocol.lost)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        fast_loop.run_until_complete(scenario())
        gc.collect()


# --- threads, policies, overridden methods ------------------------------------------


def test_loops_in_threads(loop_factory: LoopFactory, reaper: str) -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        for number in range(10):
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", f"cat; exit {number}", stdin=PIPE, stdout=PIPE
            )
            assert await process.communicate(b"text") == (b"text", None)
            assert process.returncode == number

    def run() -> None:
        loop = loop_factory()
        try:
            loop.run_until_complete(main())
        except BaseException as exc:
            failures.append(exc)
        finally:
            loop.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_loop_with_connect_methods_of_its_own() -> None:
    connected: list[Any] = []

    class Own(fastloop.Loop):
        async def connect_read_pipe(self, factory: Any, pipe: Any) -> Any:
            transport, protocol = await super().connect_read_pipe(factory, pipe)
            connected.append(transport)
            return transport, protocol

    loop = Own()  # type: ignore[abstract]

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CAT, stdin=PIPE, stdout=PIPE
        )
        assert await process.communicate(b"text") == (b"text", None)

    loop.run_until_complete(scenario())
    loop.close()
    assert len(connected) == 1


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are none any more")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestChildWatchers:
    @pytest.fixture(autouse=True)
    def policy(self) -> Iterator[Any]:
        before = asyncio.get_event_loop_policy()
        policy = fastloop.EventLoopPolicy()
        asyncio.set_event_loop_policy(policy)
        yield policy
        asyncio.set_event_loop_policy(before)

    def test_watcher_of_the_policy(self, policy: Any) -> None:
        watcher = asyncio.get_child_watcher()  # type: ignore[attr-defined]
        assert isinstance(watcher, asyncio.AbstractChildWatcher)  # type: ignore
        assert watcher is policy.get_child_watcher()

    def test_watcher_that_was_set_is_used(self, policy: Any) -> None:
        watcher = asyncio.SafeChildWatcher()  # type: ignore[attr-defined]
        policy.set_child_watcher(watcher)
        assert asyncio.get_child_watcher() is watcher  # type: ignore[attr-defined]
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)  # attaches the watcher
        assert isinstance(loop, fastloop.Loop)

        async def main() -> None:
            process = await asyncio.create_subprocess_exec(
                "sh", "-c", "cat; exit 4", stdin=PIPE, stdout=PIPE
            )
            assert watcher._callbacks
            assert await process.communicate(b"text") == (b"text", None)
            assert process.returncode == 4

        loop.run_until_complete(main())
        policy.set_child_watcher(None)
        asyncio.set_event_loop(None)
        loop.close()

    def test_watcher_that_is_not_attached(self, policy: Any) -> None:
        watcher = asyncio.SafeChildWatcher()  # type: ignore[attr-defined]
        policy.set_child_watcher(watcher)
        before = children()

        async def main() -> None:
            with pytest.raises(RuntimeError, match="is not activated"):
                await asyncio.create_subprocess_exec("sleep", "60")

        fastloop.run(main())
        assert children() == before
        policy.set_child_watcher(None)

    def test_policy_without_watchers(self) -> None:
        class Policy(asyncio.AbstractEventLoopPolicy):
            def get_event_loop(self) -> Any:
                raise NotImplementedError

            def set_event_loop(self, loop: Any) -> None:
                pass

            def new_event_loop(self) -> Any:
                return fastloop.new_event_loop()

        asyncio.set_event_loop_policy(Policy())

        async def main() -> None:
            process = await asyncio.create_subprocess_exec("true")
            assert await process.wait() == 0

        fastloop.run(main())


# --- the ends of interpreters -------------------------------------------------------


def test_child_alive_when_the_interpreter_ends() -> None:
    code = """
import asyncio, fastloop
async def main():
    global process
    process = await asyncio.create_subprocess_exec("sleep", "60", stdin=-1, stdout=-1)
    print(process.pid)
loop = fastloop.new_event_loop()
loop.run_until_complete(main())
"""
    result = run_python("-W", "ignore", "-c", code)
    assert result.returncode == 0, result.stderr
    pid = int(result.stdout)
    with contextlib.suppress(ProcessLookupError):  # it was killed, as asyncio's is
        os.kill(pid, signal.SIGKILL)


@isolated
def test_fork_while_a_process_runs() -> None:
    """A forked child closes the loop; its parent's process is still waited for."""
    loop = fastloop.new_event_loop()

    async def scenario() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "0.2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                asyncio._set_running_loop(None)
                del process
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert await process.wait() == 0

    loop.run_until_complete(scenario())
    run_until(loop, lambda: True)
    loop.close()
