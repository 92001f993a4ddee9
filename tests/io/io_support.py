"""What the tests of the I/O share: peers, recorders, comparisons, processes.

A helper that waits does so up to a deadline, and never for a fixed time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

import fastloop

HOST = "127.0.0.1"
DEADLINE = 30.0  # for a machine that is slow, and busy with other things

Loop = asyncio.AbstractEventLoop
LoopFactory = Callable[[], Loop]
LOOPS: dict[str, LoopFactory] = {
    "asyncio": asyncio.new_event_loop,
    "fastloop": fastloop.new_event_loop,
}
_T = TypeVar("_T")


# --- turning and waiting ------------------------------------------------------------


def run_once(loop: Loop) -> None:
    """Let one turn of the loop go by."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def run_until(loop: Loop, condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    loop.run_until_complete(until(condition))


async def until(condition: Callable[[], object]) -> None:
    """Wait for the condition to hold."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.001)


async def turns(count: int = 5) -> None:
    """Let some turns go by, each of which looks at the sockets."""
    for _ in range(count):
        await asyncio.sleep(0.001)


async def asleep(seconds: float = 0.2) -> bool:
    """Does the loop sleep while there is nothing to do?"""
    await turns(2)
    began = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - began < seconds / 2


# --- sockets ------------------------------------------------------------------------


def tcp_pair(host: str = HOST) -> tuple[socket.socket, socket.socket]:
    """Return two connected TCP sockets."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        client = socket.create_connection(listening.getsockname()[:2])
        accepted, _ = listening.accept()
    for sock in client, accepted:
        sock.settimeout(DEADLINE)
    return client, accepted


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that its peer gets a reset."""
    linger = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, zero seconds
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sock.close()


@contextlib.contextmanager
def refusing(host: str = HOST) -> Iterator[tuple[str, int]]:
    """An address where connections are refused for as long as the context lasts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as bound:
        bound.bind((host, 0))
        yield bound.getsockname()[:2]


@contextlib.contextmanager
def blackhole() -> Iterator[tuple[str, int]]:
    """An address that never answers: a listener whose backlog is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield listening.getsockname()


async def receive(sock: socket.socket, size: int = -1) -> bytes:
    """Read from a plain socket while the loop turns: size bytes, or all there is."""
    sock.setblocking(False)
    received = bytearray()
    deadline = time.monotonic() + DEADLINE
    while size < 0 or len(received) < size:
        try:
            data = sock.recv(
                1 << 20 if size < 0 else min(size - len(received), 1 << 20)
            )
        except BlockingIOError:
            assert time.monotonic() < deadline, f"{len(received)} bytes came"
            await asyncio.sleep(0)
            continue
        if not data:
            break
        received += data
    return bytes(received)


def fill(sock: socket.socket) -> int:
    """Write to a socket until the kernel takes no more; return how much it took.

    It makes room for more when the other end has acknowledged what was moved there,
    which may take 40 ms.
    """
    sock.setblocking(False)
    size = 0
    while True:
        before = size
        with contextlib.suppress(BlockingIOError):
            while True:
                size += sock.send(bytes(1 << 16))
        if size == before:
            break
        time.sleep(0.05)
    return size


# --- TLS ----------------------------------------------------------------------------

CERTS = Path(__file__).resolve().parent / "certs"
LOCALHOST = str(CERTS / "localhost.pem")  # for localhost, 127.0.0.1 and ::1
OTHER = str(CERTS / "other.pem")  # for other.test
AUTHORITY = str(CERTS / "authority.pem")  # which both are signed by


def tls_server(certificate: str = LOCALHOST) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def tls_client() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=AUTHORITY)


# --- descriptors --------------------------------------------------------------------

_FD_FOLDER = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"


def descriptors() -> set[int]:
    """The numbers of the descriptors that are open now."""
    numbers = set()
    for name in os.listdir(_FD_FOLDER):
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            numbers.add(int(name))
    return numbers


# --- protocols ----------------------------------------------------------------------


class Recorder(asyncio.Protocol):
    """Notes what it is told.  Data that comes in several pieces is one event."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.lost = False
        self.lost_with: BaseException | None = None

    def note(self, event: str) -> None:
        if event != "data" or self.events[-1:] != ["data"]:
            self.events.append(event)

    def connection_made(self, transport: Any) -> None:
        self.note("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.note("data")
        self.data += data

    def eof_received(self) -> bool | None:
        self.note("eof")
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.note("lost")
        self.lost = True
        self.lost_with = exc

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same, reading into a buffer of its own."""

    def __init__(self, size: int = 1024) -> None:
        super().__init__()
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> Any:
        assert sizehint == -1
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.note("data")
        self.data += self.buffer[:nbytes]


class Echo(Recorder):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


ProtocolFactory = Callable[[], Any]


async def end(transport: Any) -> None:
    """Abort a connection, wherever in its life it is, and wait until it is gone."""
    if transport.get_protocol() is not None:
        transport.abort()
        await until(lambda: transport.get_protocol() is None)
    await turns(1)


@contextlib.asynccontextmanager
async def facing(factory: ProtocolFactory = Recorder) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a protocol on a transport, and the plain socket at the other end."""
    ours, peer = tcp_pair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    with peer:
        try:
            yield protocol, peer
        finally:
            await end(transport)
            assert ours.fileno() == -1


def opened(loop: Any) -> Any:
    """Have the loop open what it needs for itself, which the first sleep does."""
    loop.run_until_complete(asyncio.sleep(0.001))
    return loop


async def warm_up() -> None:
    """Let the loop open what descriptors it needs for itself."""
    async with facing():
        await asyncio.sleep(0.001)


@dataclasses.dataclass
class Connection:
    """Both protocols of a connection, each with its ``transport``."""

    client: Any
    server: Any


@contextlib.asynccontextmanager
async def connected(
    client: ProtocolFactory = Recorder,
    server: ProtocolFactory = Recorder,
    host: str = HOST,
) -> AsyncIterator[Connection]:
    """Yield the protocols of a connection through a server."""
    loop = asyncio.get_running_loop()
    accepted: list[Any] = []

    def accept() -> Any:
        accepted.append(server())
        return accepted[-1]

    listening = await loop.create_server(accept, host, 0)
    address = listening.sockets[0].getsockname()[:2]
    transport, protocol = await loop.create_connection(client, *address)
    await until(lambda: accepted and accepted[0].transport)
    try:
        yield Connection(protocol, accepted[0])
    finally:
        listening.close()
        await end(transport)
        await end(accepted[0].transport)


# --- what both loops answer ---------------------------------------------------------


def words(value: object) -> str:
    """A text without what differs from run to run and from loop to loop."""
    text = str(value)
    while (shorter := re.sub(r"<[^<>]*>", "(...)", text)) != text:
        text = shorter
    return text


def described(exc: BaseException | None) -> Any:
    """An exception as something that can be compared."""
    if exc is None:
        return None
    if isinstance(exc, BaseExceptionGroup):
        return type(exc), exc.message, [described(inner) for inner in exc.exceptions]
    return type(exc), words(exc), getattr(exc, "errno", None)


def described_report(context: dict[str, Any]) -> Any:
    """A context of the exception handler as something that can be compared."""
    exc = described(context.get("exception"))
    return words(context["message"]), exc, sorted(context)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """The exception that the awaitable ends with, described; or its result."""
    try:
        return await awaitable
    except Exception as exc:
        return described(exc)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The exception that the function raises, described; or its result."""
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        return described(exc)


def collect_reports(loop: Loop) -> list[dict[str, Any]]:
    """Return a list that takes what the loop's exception handler is told."""
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def on_both(scenario: Callable[[Any], Awaitable[_T]]) -> _T:
    """Run ``scenario(loop)`` on asyncio, then on fastloop, which must answer the same.

    Returns the answer.
    """
    answers = []
    for factory in LOOPS.values():
        loop = opened(factory())
        try:
            answers.append(loop.run_until_complete(scenario(loop)))
        finally:
            loop.close()
    expected, answer = answers
    assert answer == expected
    return answer


# --- processes of their own ---------------------------------------------------------

_CHILD = "import io_support; io_support.run_isolated()"


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own, so that a crash is one failed test.

    Tests that fork are among them: in a process with threads, the child may wait for
    ever for a lock that one of them held, such as the allocator's of the sanitizers.
    The process has to end well and to print nothing.  Of the fixtures, only
    ``loop_factory`` and parameters that JSON can hold get there.
    """

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        for name, factory in LOOPS.items():
            if arguments.get("loop_factory") is factory:
                arguments["loop_factory"] = name
        what = [inspect.getfile(test), test.__name__, arguments]
        result = run_python("-c", _CHILD, json.dumps(what))
        if result.returncode or result.stdout or result.stderr:
            pytest.fail(
                f"exit code {result.returncode}\n{result.stdout}{result.stderr}"
            )

    return run


def stable_repr(value: object) -> str:
    """The same in every process: tests are told apart by it."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def run_isolated() -> None:
    """What the process of an isolated test does."""
    import faulthandler

    faulthandler.dump_traceback_later(2 * DEADLINE, exit=True)
    # that is a thread, which a test that forks is warned of
    warnings.filterwarnings(
        "ignore", "This process .* multi-threaded", DeprecationWarning
    )
    path, name, arguments = json.loads(sys.argv[1])
    if "loop_factory" in arguments:
        arguments["loop_factory"] = LOOPS[arguments["loop_factory"]]
    # as a module that can be imported by the processes that the test starts
    sys.path.insert(0, str(Path(path).parent))
    module = __import__(Path(path).stem)
    getattr(module, name).__wrapped__(**arguments)


def run_python(
    *arguments: str, timeout: float = 3 * DEADLINE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter; warnings are errors, crashes leave a traceback."""
    here = Path(__file__).resolve().parent
    path = os.pathsep.join([str(here), str(here.parent.parent)])
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONASYNCIO")}
    env = {**env, "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
    )
