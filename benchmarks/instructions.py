"""Counts the instructions of core operations: `python -m benchmarks.instructions`.

Time is noisy, instructions are not.  Each operation runs under callgrind twice, for a
short and for a long while; the difference of the two counts, over the difference of the
lengths, is what one operation takes: all else cancels out.  Hashes are not random and
the clock is one of ours (clock.c), so that two runs give the same.

The counts on file (instructions.json) are compared with: more than 3% up is an error.
They hold for what the file names: one build of Python, one compiler, one libuv.  With
another build of Python that the same compiler made the extension for, only the
extension's own instructions are judged; with another compiler or other flags, and for
an extension that is no release build, nothing is.  `--record` puts the present counts
of all operations on file.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import inspect
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import machine, native
from .place import ROOT
from .workload import Loop, Timed
from .workloads import find

FILE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
LENGTHS = (200, 1200)  # operations

Build = dict[str, str]
Counts = dict[str, int]  # "all", and "own": those in fastloop's extension itself


@dataclass(frozen=True)
class Operation:
    title: str
    function: Callable[[Loop, int], Any]
    each: int = 1  # how many operations one of the function is


# --- what is counted ------------------------------------------------------------------


async def connect(loop: Loop, make: Callable[[], Any]) -> tuple[Any, Any]:
    """Two transports that are connected with one another, and their protocols."""
    listener = socket.create_server(("127.0.0.1", 0))
    here = socket.create_connection(listener.getsockname())
    there, _ = listener.accept()
    listener.close()
    protocols = []
    for sock in (here, there):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        _, protocol = await loop.connect_accepted_socket(make, sock)
        protocols.append(protocol)
    return protocols[0], protocols[1]


async def tcp(loop: Loop, n: int) -> None:
    """Two protocols that send a message to and fro; an echo is half of that."""
    left = 2 * n
    done = loop.create_future()

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            nonlocal left
            left -= 1
            if left > 0:
                self.transport.write(data)
            elif left == 0:
                done.set_result(None)

    one, _ = await connect(loop, Echo)
    one.transport.write(b"x" * 1024)
    await done


async def streams(loop: Loop, n: int) -> None:
    """The same through asyncio's streams."""

    ends: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def make() -> asyncio.StreamReaderProtocol:
        async def connected(*end: Any) -> None:
            ends.append(end)

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), connected)

    await connect(loop, make)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(n):
            writer.write(await reader.readexactly(1024))
            await writer.drain()

    ends[0][1].write(b"x" * 1024)
    await asyncio.gather(*[echo(*end) for end in ends])


def of_benchmark(name: str) -> Operation:
    workload = find(name)
    assert isinstance(workload, Timed)
    return Operation(workload.title, workload.function, workload.each)


OPERATIONS = {
    name: of_benchmark(name)
    for name in (
        "call_soon",
        "call_soon_args",
        "call_soon_chain",
        "call_soon_threadsafe",
        "timer",
        "timers_due",
        "spawn",
        "gather",
        "taskgroup",
        "switch",
        "future",
        "timeout",
        "wait_for",
        "semaphore_contended",
        "queue",
    )
}
OPERATIONS["tcp"] = Operation("TCP echo, 1 KiB", tcp, 2)
OPERATIONS["streams"] = Operation("streams echo, 1 KiB", streams, 2)


def run(name: str, n: int) -> None:
    """In the process that is counted."""
    import fastloop

    loop = fastloop.new_event_loop()
    asyncio.set_event_loop(loop)
    result = OPERATIONS[name].function(loop, n)
    if inspect.isawaitable(result):
        loop.run_until_complete(result)
    sys.stdout.flush()
    os._exit(0)


# --- counting -------------------------------------------------------------------------


def parse(text: str) -> Counts:
    """Sum up a file of callgrind's: cost lines, by the object that they are in."""
    total = own = 0
    ours = False
    inclusive = False  # the line after calls= is the cost of what was called
    names: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"ob=(\(\d+\))(?: (.*))?", line):
            if match[2]:
                names[match[1]] = match[2]
            ours = "/fastloop/_core." in names[match[1]]
        elif match := re.match(r"cob=(\(\d+\)) (.*)", line):
            names[match[1]] = match[2]
        elif line.startswith("calls="):
            inclusive = True
        elif match := re.fullmatch(r"(?:[+-]?\d+|\*) (\d+)", line):
            if not inclusive:
                total += int(match[1])
                own += int(match[1]) if ours else 0
            inclusive = False
    return {"all": total, "own": own}


def count(name: str, n: int) -> Counts:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        start(name, n, "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}")
        return parse(out.read_text())


def start(name: str, n: int, *under: str) -> None:
    """Run an operation n times in a process of its own."""
    clock = native.compile_c("clock.c", f"{native.libc()}/clock.so", "-shared", "-fPIC")
    command = [*under, sys.executable, "-m", "benchmarks.instructions"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "0",
        "LD_PRELOAD": str(clock),
    }
    done = subprocess.run(
        [*command, "--run", name, str(n)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{name} fails:\n{done.stderr}")


def measure(name: str) -> Counts:
    """The instructions of one operation."""
    each = OPERATIONS[name].each
    short, long = (max(2, length // each) for length in LENGTHS)
    long = max(long, short + 10)
    first, second = count(name, short), count(name, long)
    number = (long - short) * each
    return {what: round((second[what] - first[what]) / number) for what in first}


# --- comparing ------------------------------------------------------------------------


def build() -> Build:
    """All that counts depend on, beside our code."""
    facts = machine.describe()
    names = ("python", "build", "python compiler", "libuv", "compiler")
    flags = f"{sysconfig.get_config_var('CFLAGS')} {os.environ.get('CFLAGS', '')}"
    return {
        **{name: facts[name] for name in names},
        "libc": native.libc(),
        "flags": hashlib.sha256(flags.encode()).hexdigest()[:12],
        "architecture": platform.machine(),
    }


OWN = ("compiler", "flags", "architecture")  # what the extension's own depend on


def comparable(now: Build, before: Build) -> str | None:
    """Which of the counts can be compared: "all", "own", or none."""
    if now == before:
        return "all"
    same = all(now[name] == before.get(name) for name in OWN)
    return "own" if same else None


def mode() -> str:
    """How the extension was compiled, as far as it costs instructions."""
    from fastloop import _core

    code = Path(_core.__file__).read_bytes()
    marks = {"debug": b"__assert_fail", "sanitize": b"__asan_", "coverage": b"__gcov_"}
    return " ".join(name for name, mark in marks.items() if mark in code) or "release"


def judge(
    name: str, now: Counts, before: Counts | None, what: str | None = "all"
) -> tuple[str, bool]:
    """A line, and whether it is an error; `what` of the counts can be compared."""
    title = f"{OPERATIONS[name].title} ({name})"
    line = f"{title:55} {now['all']:7,} {now['own']:7,}"
    if before is None or what is None:
        return line, False
    change = now[what] / before[what] - 1
    line += f"  {change:+7.1%}"
    if change > TOLERANCE:
        own = "own, " if what == "own" else ""
        return f"{line}  TOO MANY: {own}{before[what]:,} on file", True
    return line, False


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description="Count the instructions of core operations under callgrind.",
    )
    parser.add_argument("operations", nargs="*", help=f"of: {', '.join(OPERATIONS)}")
    parser.add_argument("--record", action="store_true", help="put them on file")
    parser.add_argument("-j", type=int, default=2, help="how many are run at once: 2")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if unknown := set(options.operations) - set(OPERATIONS):
        parser.error(f"no operation {', '.join(sorted(unknown))}")
    return options


def main(argv: Sequence[str]) -> int:
    options = arguments(argv)
    if options.run:
        run(options.run[0], int(options.run[1]))
    if shutil.which("valgrind") is None:
        sys.exit("missing: valgrind")
    if mode() != "release" and options.record:
        sys.exit(f"not recorded: the extension is built for {mode()}")
    version = "{}.{}".format(*sys.version_info[:2])
    kept: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    now = build()
    record = kept.get(version, {"build": {}, "counts": {}})
    what = comparable(now, record["build"]) if mode() == "release" else None
    print(f"{'instructions of one':55} {'all':>7} {'own':>7}")
    names = options.operations or list(OPERATIONS)
    start(names[0], 2)  # so that all bytecode is written before anything is counted
    counts = {}
    failed = False
    with ThreadPoolExecutor(options.j) as pool:
        for name, found in zip(names, pool.map(measure, names), strict=True):
            counts[name] = found
            line, worse = judge(name, found, record["counts"].get(name), what)
            print(line, flush=True)
            failed |= worse
    if options.record:
        merged = {**(record["counts"] if now == record["build"] else {}), **counts}
        kept[version] = {"build": now, "counts": merged}
        FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
        return 0
    print(verdict(what, now, record["build"]))
    return failed


def verdict(what: str | None, now: Build, before: Build) -> str:
    """What the counts were compared with."""
    if what == "all":
        return "compared with those on file"
    if mode() != "release":
        return f"not judged: the extension is built for {mode()}"
    if not before:
        return f"not judged: none on file for Python {now['python']}"
    other = ", ".join(name for name in now if now[name] != before.get(name))
    judged = "only our own are judged" if what else "not judged"
    return f"{judged}: those on file are of another {other}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
