"""Counts the instructions of core operations: `python -m benchmarks.instructions`.

Time is noisy, instructions are not.  Each operation runs under callgrind twice, for a
short and for a long while; the difference of the two counts, over the difference of the
lengths, is what one operation takes: all else cancels out.  Hashes are not random and
the clock is one of ours (clock.c), so that two runs give the same.

The counts on file (instructions.json) are compared with: more than 3% up is an error.
They hold for one build of Python, one compiler and one libuv, which the file names;
with others, counts are shown and not judged.  `--record` puts the present ones on file.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
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


def build() -> str:
    """All that counts depend on, beside our code."""
    facts = machine.describe()
    names = ("python", "build", "python compiler", "compiler", "libuv")
    return "; ".join(facts[name] for name in names)


def judge(name: str, now: Counts, before: Counts | None) -> tuple[str, bool]:
    """A line, and whether it is an error."""
    title = f"{OPERATIONS[name].title} ({name})"
    line = f"{title:55} {now['all']:7,} {now['own']:7,}"
    if before is None:
        return line, False
    change = now["all"] / before["all"] - 1
    line += f"  {change:+7.1%}"
    if change > TOLERANCE:
        return f"{line}  TOO MANY: {before['all']:,} on file", True
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
    version = "{}.{}".format(*sys.version_info[:2])
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    record = kept.get(version, {"build": build(), "counts": {}})
    same = record["build"] == build()
    print(f"{'instructions of one':55} {'all':>7} {'own':>7}")
    names = options.operations or list(OPERATIONS)
    start(names[0], 2)  # so that all bytecode is written before anything is counted
    counts = {}
    failed = False
    with ThreadPoolExecutor(options.j) as pool:
        for name, now in zip(names, pool.map(measure, names), strict=True):
            counts[name] = now
            line, worse = judge(name, now, record["counts"].get(name))
            print(line, flush=True)
            failed |= worse
    if options.record:
        merged = {**(record["counts"] if same else {}), **counts}
        kept[version] = {"build": build(), "counts": merged}
        FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
        return 0
    if not same:
        print(f"not judged: on file for {record['build']}; this is {build()}")
        return 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
