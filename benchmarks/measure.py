"""One measurement: a process for the subject, and one for its load.

Both are started once for all measurements of a round, and stand still between them: so
all subjects can be measured in turns that are short.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import native
from .place import BUILD, CERTIFICATE, ROOT, environment
from .subjects import FLOOR, SUBJECTS
from .workload import Held, Served, Timed, Workload

SHORT = 0.1  # seconds of a measurement: less is only to see that all works


@dataclass
class Measurement:
    """What came out; `missing` if the subject cannot do it, `failed` if it broke."""

    value: float | None = None
    p50: float | None = None  # microseconds
    p99: float | None = None
    busy: float | None = None  # the part of the time that the server was running
    missing: str | None = None
    failed: str | None = None

    def record(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


Measure = Callable[[], Measurement]


class MeasurementError(Exception):
    """It did not come to a number; `kind` is "missing" or "failed"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def cores() -> tuple[int | None, int | None]:
    """The core of what is measured, and that of its load."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[-1]) if len(free) > 1 else (None, None)


SERVER_CORE, LOAD_CORE = cores()


def pinned(core: int | None, command: list[str]) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


# --- processes ------------------------------------------------------------------------


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone when the block ends.

    What it complains of goes to a file: nobody reads it while the process runs.
    """
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=ROOT,
            **options,
        ) as process,
    ):
        process.stderr = complaints
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str], limit: float = 60) -> str:
    assert process.stdout is not None and process.stderr is not None
    readable, _, _ = select.select([process.stdout], [], [], limit)
    if not readable:
        raise MeasurementError("failed", f"no answer in {limit:g} seconds")
    line = process.stdout.readline()
    if not line:
        process.wait()
        check_alive(process)
    return line.strip()


def ask(process: subprocess.Popen[str], line: str = "") -> None:
    """If it has died, what is read next says so."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        os.write(process.stdin.fileno(), f"{line}\n".encode())


def check_alive(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        assert process.stderr is not None
        process.stderr.seek(0)
        said = process.stderr.read().strip().splitlines()
        raise MeasurementError(
            "failed", f"ended with {process.returncode}: {said[-1:] or 'silently'}"
        )


def answer(process: subprocess.Popen[str], workload: Workload) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(first_line(process, workload.limit))
    for kind in ("missing", "failed"):
        if kind in result:
            raise MeasurementError(kind, result[kind])
    return result


@contextlib.contextmanager
def child(subject: str, workload: Workload, seconds: float, peer: str = "") -> Any:
    request = {
        "subject": subject,
        "workload": workload.name,
        "seconds": seconds,
        "peer": peer,
        "core": SERVER_CORE,
    }
    command = [sys.executable, "-m", "benchmarks.child", json.dumps(request)]
    env = {**environment(), "PYTHONHASHSEED": "0"}
    with running(command, env=env, stdin=subprocess.PIPE) as process:
        yield process


# --- kinds of workloads ---------------------------------------------------------------


@contextlib.contextmanager
def timed(
    subject: str, workload: Workload, seconds: float, peer: str
) -> Iterator[Measure]:
    """The process has warmed up, and waits until it is asked for each measurement."""
    with child(subject, workload, seconds, peer) as process:
        answer(process, workload)

        def one() -> Measurement:
            check_alive(process)
            ask(process)
            return Measurement(value=answer(process, workload)["value"])

        yield one


@contextlib.contextmanager
def server(
    subject: str, workload: Served, seconds: float
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process, and its address."""
    if subject != FLOOR:
        with child(subject, workload, seconds) as process:
            address = answer(process, workload)["address"]
            yield process, address
            if address.startswith("/"):
                os.unlink(address)
                os.rmdir(os.path.dirname(address))
        return
    assert workload.floor is not None
    path = BUILD / "socket"
    path.unlink(missing_ok=True)
    if workload.floor == "tls":
        command = [str(native.floor_tls()), str(CERTIFICATE)]
    else:
        command = [str(native.floor()), workload.floor, str(path)]
    with running(pinned(SERVER_CORE, command)) as process:
        yield process, first_line(process)


def load_command(
    workload: Served, address: str, connections: int, *options: str
) -> list[str]:
    if "--tls" in workload.load and not native.has_tls():
        raise MeasurementError("missing", "the load has no OpenSSL to compile with")
    host, port = (address, "0") if address.startswith("/") else ("127.0.0.1", address)
    numbers = [str(connections), str(workload.message)]
    words = [*options, *workload.load, host, port, *numbers]
    return pinned(LOAD_CORE, [str(native.load()), *words])


@contextlib.contextmanager
def served(subject: str, workload: Served, seconds: float) -> Iterator[Measure]:
    """The server stands still unless it is measured: others have its core then."""
    with contextlib.ExitStack() as stack:
        process, address = stack.enter_context(server(subject, workload, seconds))
        options = ["--server", str(process.pid)]
        command = load_command(workload, address, workload.connections, *options)
        load = stack.enter_context(running(command, stdin=subprocess.PIPE))
        first_line(load, workload.limit)
        process.send_signal(signal.SIGSTOP)

        def one() -> Measurement:
            check_alive(process)
            process.send_signal(signal.SIGCONT)
            try:
                ask(load, f"{seconds}")
                words = first_line(load, workload.limit).split()
            finally:
                process.send_signal(signal.SIGSTOP)
            rate, p50, p99, busy = map(float, words)
            if not rate:
                raise MeasurementError("failed", "its clients got no answer")
            if workload.unit == "B/s":
                return Measurement(value=rate, busy=busy)
            return Measurement(value=rate, p50=p50, p99=p99, busy=busy)

        yield one


@contextlib.contextmanager
def holding(workload: Held, address: str, connections: int) -> Iterator[None]:
    """Connections that are open and idle until the block ends."""
    command = load_command(workload, address, connections, "--hold")
    with running(command, stdin=subprocess.PIPE) as load:
        first_line(load, workload.limit)
        time.sleep(0.2)
        yield


def held(subject: str, workload: Held, seconds: float) -> Measurement:
    """The first connections live on what memory starting the server has left free: up
    to a megabyte, by whether its modules had to be compiled."""
    connections = workload.connections // (1 if seconds >= SHORT else 20)
    with (
        server(subject, workload, seconds) as (process, address),
        holding(workload, address, connections // 5),
    ):
        before = resident(process.pid)
        with holding(workload, address, connections):
            after = resident(process.pid)
    return Measurement(value=(after - before) / connections)


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- all of them ----------------------------------------------------------------------


def can(subject: str, workload: Workload) -> bool:
    """Whether there is anything to measure."""
    if subject == FLOOR:
        return getattr(workload, "floor", None) is not None
    families = SUBJECTS[subject].families
    return families is None or workload.family in families


def why_not(subject: str, workload: Workload, peer: str | None) -> str | None:
    if not can(subject, workload):
        return "nothing of its own"
    if module := workload.missing():
        return f"{module} is not installed"
    if isinstance(workload, Timed) and workload.peer is not None and peer is None:
        return f"no {workload.peer} here"
    return None


@contextlib.contextmanager
def no_number(reason: Measurement) -> Iterator[None]:
    """What keeps the block from a number is written there."""
    try:
        yield
    except MeasurementError as exc:
        setattr(reason, exc.kind, str(exc))
    except native.CannotCompileError as exc:
        reason.missing = str(exc).splitlines()[0]


@contextlib.contextmanager
def ready(
    subject: str, workload: Workload, seconds: float, peer: str | None = None
) -> Iterator[Measure]:
    """A function that measures once.  What keeps it from a number is in its result."""
    with contextlib.ExitStack() as stack:
        reason = Measurement(missing=why_not(subject, workload, peer))
        one: Measure | None = None
        if reason.missing is None:
            with no_number(reason):
                if isinstance(workload, Held):
                    one = functools.partial(held, subject, workload, seconds)
                elif isinstance(workload, Served):
                    one = stack.enter_context(served(subject, workload, seconds))
                else:
                    one = stack.enter_context(
                        timed(subject, workload, seconds, peer or "")
                    )

        def measure() -> Measurement:
            if one is not None and reason.missing is None and reason.failed is None:
                with no_number(reason):
                    return one()
            return reason

        yield measure


def measure(
    subject: str, workload: Workload, seconds: float, peer: str | None = None
) -> Measurement:
    with ready(subject, workload, seconds, peer) as one:
        return one()
