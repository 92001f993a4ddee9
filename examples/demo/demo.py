"""Two programs on asyncio and, unchanged, on fastloop, side by side.

    python demo.py [--seconds 2] [--rounds 3] [--connections 50]

A JSON web service on aiohttp (web_service.py) and an echo server on streams
(echo_server.py) each run on both event loops.  Clients in processes of their own drive
now one, now the other, so that both meet the same machine.  The table has the median
of the rounds; the ratio is the median of those within each round.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fastloop

HERE = Path(__file__).resolve().parent
LOOPS = ("asyncio", "fastloop")


@dataclass
class Measurement:
    rate: float  # requests per second
    p50: float  # microseconds
    p99: float


@dataclass
class Workload:
    name: str
    kind: str  # of the load
    program: str
    load: list[str]  # the command; PORT, CONNECTIONS and so on follow


# --- servers and clients ----------------------------------------------------------


@contextlib.contextmanager
def server(library: str, program: str) -> Iterator[int]:
    """Run a program on an event loop; yield the port that it serves."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "run_on.py"), library, str(HERE / program)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if len(words) != 2:
            sys.exit(f"{program} does not start on {library}")
        port, module = words
        if module.split(".")[0] != library:
            sys.exit(f"{program} runs on {module}, not on {library}")
        yield int(port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(
    workload: Workload, port: int, connections: int, seconds: float
) -> Measurement:
    if workload.load[0] == sys.executable:
        clients = max(1, min(4, (os.cpu_count() or 2) - 1))
        options = [workload.kind, port, connections, seconds, clients]
    else:
        options = ["127.0.0.1", port, connections, 1024]
    done = subprocess.run(
        [*workload.load, *map(str, options)],
        input=f"{seconds}\n",  # the clients in C measure for each line they read
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"the clients of the {workload.name} failed")
    # those say before that they are running, and behind how busy a server was
    return Measurement(*map(float, done.stdout.splitlines()[-1].split()[:3]))


def compile_load(folder: Path) -> list[str]:
    """The echo clients in C where they compile (Linux), else those in Python."""
    source = HERE.parent.parent / "benchmarks" / "load.c"
    program = folder / "load"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    command = [*shlex.split(compiler), "-O2", str(source), "-o", str(program)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return [sys.executable, str(HERE / "load.py")]
    return [str(program)]


# --- rounds and the table ---------------------------------------------------------


def run(
    workload: Workload, rounds: int, connections: int, seconds: float
) -> dict[str, list[Measurement]]:
    """Measure in turns; which loop begins changes from round to round."""
    results: dict[str, list[Measurement]] = {library: [] for library in LOOPS}
    with contextlib.ExitStack() as stack:
        ports = {
            library: stack.enter_context(server(library, workload.program))
            for library in LOOPS
        }
        for port in ports.values():
            measure(workload, port, connections, 0.3)  # warm up
        for number in range(rounds):
            print(
                f"{workload.name}, round {number + 1} of {rounds}:", end="", flush=True
            )
            for library in LOOPS if number % 2 == 0 else reversed(LOOPS):
                print(f"  {library}", end=" ", flush=True)
                result = measure(workload, ports[library], connections, seconds)
                results[library].append(result)
                print(f"{result.rate:,.0f}/s", end="", flush=True)
            print()
    return results


def row(*cells: str) -> str:
    """Two columns for names, the others for numbers."""
    widths = (-22, -10, 12, 10, 10, 8)
    return "".join(
        cell.ljust(-width) if width < 0 else cell.rjust(width)
        for cell, width in zip(cells, widths, strict=True)
    ).rstrip()


HEADING = row("", "", "requests/s", "p50, ms", "p99, ms", "ratio")


def rows(name: str, results: dict[str, list[Measurement]]) -> Iterator[str]:
    ratios = [
        ours.rate / theirs.rate
        for ours, theirs in zip(results["fastloop"], results["asyncio"], strict=True)
    ]
    for library in LOOPS:
        rate = statistics.median(m.rate for m in results[library])
        p50 = statistics.median(m.p50 for m in results[library]) / 1000
        p99 = statistics.median(m.p99 for m in results[library]) / 1000
        yield row(
            name if library == LOOPS[0] else "",
            library,
            f"{rate:,.0f}",
            f"{p50:.2f}",
            f"{p99:.2f}",
            f"{statistics.median(ratios):.2f}x" if library == "fastloop" else "",
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fastloop and asyncio, side by side")
    parser.add_argument("--seconds", type=float, default=2.0, help="each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=50)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    load_in_python = [sys.executable, str(HERE / "load.py")]
    with tempfile.TemporaryDirectory() as folder:
        workloads = [
            Workload("aiohttp JSON service", "http", "web_service.py", load_in_python),
            Workload(
                "streams echo, 1 KiB",
                "echo",
                "echo_server.py",
                compile_load(Path(folder)),
            ),
        ]
        if importlib.util.find_spec("aiohttp") is None:
            python = ".".join(map(str, sys.version_info[:2]))
            print(f"no aiohttp here (there may be no wheel for Python {python}):")
            print("the web service is left out\n")
            del workloads[0]
        print(
            f"fastloop {fastloop.__version__}, libuv {fastloop.libuv_version()}, "
            f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, "
            f"{options.connections} connections\n"
        )
        table = [HEADING]
        for workload in workloads:
            results = run(
                workload, options.rounds, options.connections, options.seconds
            )
            table += rows(workload.name, results)
    print("\n" + "\n".join(table))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
