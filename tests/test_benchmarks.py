"""The benchmark suite works: what it measures is not looked at here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUBJECTS = ["asyncio", "fastloop"]
MOMENT = ("--quick", "--seconds", "0.01", "--subjects", ",".join(SUBJECTS))

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the load uses epoll"
)


def bench(
    *options: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *options]
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def measure(folder: Path, *workloads: str) -> dict[str, dict[str, dict[str, float]]]:
    """Measure for a moment; return the results by workload and subject."""
    done = bench(*MOMENT, "--only", ",".join(workloads), "--save", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads((folder / "benchmarks.json").read_text()).values()
    assert [row["name"] for row in run["rows"]] == list(workloads)
    for row in run["rows"]:
        assert row["title"] in done.stdout
        assert row["title"] in (folder / "benchmarks.md").read_text()
    return {row["name"]: row["results"] for row in run["rows"]}


def test_timed_and_served(tmp_path: Path) -> None:
    results = measure(tmp_path, "call_soon", "tcp_64_1")
    for workload in results.values():
        for subject in SUBJECTS:
            record = workload[subject]
            assert 0 < record["low"] <= record["median"] <= record["high"]
    for subject in SUBJECTS:
        assert results["tcp_64_1"][subject]["p50"] > 0


@pytest.mark.usefixtures("from_root")
def test_what_cannot_be_measured_is_no_failure() -> None:
    from benchmarks.measure import measure
    from benchmarks.workloads import find

    assert measure("floor", find("getaddrinfo"), 0.01).missing
    assert measure("asyncio", find("asyncpg_select"), 0.01, peer=None).missing


@pytest.mark.usefixtures("from_root")
def test_how_many_rounds() -> None:
    """Where a round has but one turn there are more, if not one was asked for."""
    from benchmarks.workload import LEAST
    from benchmarks.workloads import find

    for name, wanted, rounds in [
        ("tcp_64_1", 2, 2),
        ("switch_among_100000", 5, 5),
        ("connections_10000", 2, 2),
        ("timer_among_1000000", 1, 1),
        ("timer_among_1000000", 2, LEAST),
        ("timer_among_1000000", LEAST + 1, LEAST + 1),
        ("idle_tcp", 5, 1),
        ("parked_task", 5, 1),
    ]:
        assert find(name).rounds_of(wanted) == rounds, name


@pytest.mark.usefixtures("from_root")
def test_how_many_turns() -> None:
    """They are short where they can be, and last as long together."""
    from benchmarks.workload import LONGER, TURN
    from benchmarks.workloads import find

    for name, turn in [
        ("call_soon", TURN),
        ("tcp_1k_50", TURN),
        ("connections_10000", 0.5),
        ("switch_among_100000", 0.1),
    ]:
        workload = find(name)
        assert workload.turn == pytest.approx(turn), name
        in_all = 5 * LONGER * workload.often
        assert workload.turns(5) * turn == pytest.approx(in_all), name
        assert workload.turns(0.001) == 1, name
    for name in ("timer_among_1000000", "idle_tcp", "parked_task"):
        assert find(name).turn is None, name
        assert find(name).turns(5) == 1, name


@pytest.mark.usefixtures("from_root")
@pytest.mark.parametrize("subject", ["asyncio", "fastloop", "floor"])
@pytest.mark.parametrize(
    "workload", ["bulk_send", "bulk_write", "bulk_read", "udp_1k_50", "turnover_50"]
)
def test_the_load_stands_still_between_turns(subject: str, workload: str) -> None:
    """What was under way when a turn ended does not keep the next from beginning."""
    from benchmarks.measure import ready
    from benchmarks.workloads import find

    with ready(subject, find(workload), 0.01) as measure:
        for _ in range(3):
            result = measure()
            assert (result.missing or result.failed) is None
            assert result.value
            assert result.busy is not None


@pytest.mark.usefixtures("from_root")
def test_turns_that_failed_are_named() -> None:
    from benchmarks import report, results
    from benchmarks.measure import Measurement
    from benchmarks.workloads import find

    turns = [Measurement(value=3.0), Measurement(failed="why"), Measurement(value=5.0)]
    row = results.row(find("tcp_64_1"), {"fastloop": turns})
    assert row["results"]["fastloop"]["median"] == 4
    said = ["fastloop failed at tcp_64_1: why (in 1 of 3 turns)"]
    assert report.failures({"rows": [row]}) == said


@pytest.mark.usefixtures("from_root")
@pytest.mark.parametrize("workload", ["tcp_64_1", "tls_1k_50"])
def test_floor_of_servers(workload: str) -> None:
    from benchmarks.measure import measure
    from benchmarks.workloads import find

    result = measure("floor", find(workload), 0.01)
    assert result.failed is None
    assert result.value or result.missing


def test_unknown_names_are_errors() -> None:
    assert "no subject" in bench("--subjects", "nonsense").stderr
    assert "no workload" in bench("--only", "nonsense").stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The suite as a wheel has it: away from the checkout, in a folder of its own."""
    folder = tmp_path / "_suite"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=ignored)
    return folder


def test_installed(installed: Path, tmp_path: Path) -> None:
    """What it compiles, and the last results, go to the user's cache."""
    cache = tmp_path / "cache"
    done = bench(
        *(*MOMENT, "--only", "spawn,tcp_64_1"),
        cwd=installed,
        PYTHONPATH=str(ROOT),
        PYTHONDONTWRITEBYTECODE="1",
        XDG_CACHE_HOME=str(cache),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task made and awaited" in done.stdout
    names = {path.name.partition("-")[0] for path in cache.rglob("*")}
    assert {"load", "last.json"} <= names
    assert [path.name for path in installed.iterdir()] == ["benchmarks"]


def test_no_compiler(installed: Path, tmp_path: Path) -> None:
    """What needs no program in C is measured all the same."""
    surroundings = {
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "CC": "no-such-compiler",
    }
    only = (*MOMENT, "--only", "spawn,tcp_64_1")
    done = bench(*only, cwd=installed, **surroundings)
    assert done.returncode == 0, done.stdout + done.stderr
    (told,) = (line for line in done.stdout.splitlines() if "left out" in line)
    assert "servers" in told
    assert "no no-such-compiler: install gcc" in told
    assert "task made and awaited" in done.stdout
    assert "TCP" not in done.stdout
    done = bench(*MOMENT, "--only", "tcp_64_1", cwd=installed, **surroundings)
    assert done.returncode == 1
    assert "nothing is left to measure" in done.stderr


def test_list() -> None:
    done = bench("--list")
    assert done.returncode == 0
    for name in ("call_soon", "spawn", "tcp_1k_50", "uvicorn", "switch_among_100"):
        assert f" {name} " in done.stdout


@pytest.fixture
def from_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("from_root")
def test_instructions_are_compared() -> None:
    from benchmarks import instructions

    before = {"all": 1000, "own": 100}
    _, failed = instructions.judge("spawn", {"all": 1029, "own": 100}, before)
    assert not failed
    line, failed = instructions.judge("spawn", {"all": 1031, "own": 100}, before)
    assert failed
    assert "spawn" in line
    assert "+3.1%" in line


@pytest.mark.usefixtures("from_root")
def test_instructions_of_other_builds() -> None:
    """Nobody is told of a change that is another compiler's."""
    from benchmarks import instructions

    here = instructions.build()
    assert instructions.comparable(here, here) == "all"
    assert instructions.comparable(here, {**here, "python": "3.99.0"}) == "own"
    assert instructions.comparable(here, {**here, "compiler": "cc 99"}) is None
    assert instructions.comparable(here, {**here, "flags": "-O9"}) is None
    assert instructions.comparable(here, {}) is None
    before = {"all": 1000, "own": 100}
    now = {"all": 2000, "own": 100}
    assert not instructions.judge("spawn", now, before, "own")[1]
    assert not instructions.judge("spawn", now, before, None)[1]
    line, failed = instructions.judge("spawn", {"all": 1, "own": 104}, before, "own")
    assert failed
    assert "own, 100 on file" in line


@pytest.mark.usefixtures("from_root")
def test_instructions_on_file_are_of_release_builds() -> None:
    from benchmarks import instructions

    kept = json.loads(instructions.FILE.read_text())
    for record in kept.values():
        assert set(record["build"]) == set(instructions.build())
        assert set(record["counts"]) == set(instructions.OPERATIONS)
    words = {"release", "debug", "coverage", "sanitize"}
    assert set(instructions.mode().split()) <= words


CALLGRIND = """\
positions: line
events: Ir
summary: 100

ob=(1) /usr/lib/libpython3.so
fl=(1) a.c
fn=(1) one
10 20
+1 3
cob=(2) /somewhere/fastloop/_core.cpython-313.so
cfn=(2) two
calls=2 15
* 70

ob=(2)
fn=(2)
15 60
-2 10

ob=(1)
fn=(1)
* 7
totals: 100
"""


@pytest.mark.usefixtures("from_root")
def test_callgrind_is_read() -> None:
    from benchmarks.instructions import parse

    assert parse(CALLGRIND) == {"all": 100, "own": 70}


def record(**values: float) -> dict[str, dict[str, float]]:
    return {name: {"median": value} for name, value in values.items()}


@pytest.mark.usefixtures("from_root")
def test_fewer_bytes_are_better() -> None:
    from benchmarks.results import best

    row = {"unit": "/s", "results": record(asyncio=10, fastloop=20)}
    assert best(row, SUBJECTS) == "fastloop"
    row = {"unit": "bytes", "results": record(asyncio=10, fastloop=20)}
    assert best(row, SUBJECTS) == "asyncio"


@pytest.mark.usefixtures("from_root")
@pytest.mark.parametrize("turns", [1, 2])
def test_turns_are_interleaved(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    """Each begins with another subject; a round's processes are there at once."""
    from benchmarks import runner
    from benchmarks.measure import Measurement
    from benchmarks.workload import LONGER
    from benchmarks.workloads import find

    said: list[str] = []

    @contextlib.contextmanager
    def ready(subject: str, *_: object) -> Iterator[Callable[[], Measurement]]:
        def measure() -> Measurement:
            said.append(subject)
            return Measurement(value=1.0)

        said.append(f"+{subject}")
        yield measure
        said.append(f"-{subject}")

    monkeypatch.setattr(runner, "ready", ready)
    subjects = ["asyncio", "uvloop", "fastloop"]
    ping_pong = find("ping_pong")
    assert ping_pong.turn is not None
    seconds = turns * ping_pong.turn / LONGER
    plan = runner.Plan([ping_pong], subjects, rounds=2, seconds=seconds)
    shown: list[runner.Progress] = []
    results = runner.run(plan, shown.append)
    started, ended = [f"+{s}" for s in subjects], [f"-{s}" for s in subjects[::-1]]
    first = ["asyncio", "uvloop", "fastloop"]
    second = ["uvloop", "fastloop", "asyncio"]
    third = ["fastloop", "asyncio", "uvloop"]
    rounds = [first, second] if turns == 1 else [first + second, second + third]
    assert said == [s for each in rounds for s in (*started, *each, *ended)]
    assert [len(measured) for measured in results["ping_pong"].values()] == 3 * [
        2 * turns
    ]
    assert plan.count() == 6 * turns
    # once for each subject and round
    assert [len(progress.turns) for progress in shown] == [turns] * 6
    assert shown[-1].number == plan.count()


@pytest.mark.usefixtures("from_root")
def test_what_fails_is_not_tried_in_the_next_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from benchmarks import results, runner
    from benchmarks.measure import Measurement
    from benchmarks.workloads import find

    tried: list[str] = []

    @contextlib.contextmanager
    def ready(subject: str, *_: object) -> Iterator[Callable[[], Measurement]]:
        tried.append(subject)
        yield lambda: Measurement(failed="of course")

    monkeypatch.setattr(runner, "ready", ready)
    workload = find("tcp_64_1")
    found = runner.run(runner.Plan([workload], ["uvloop"], rounds=3), lambda _: None)
    assert tried == ["uvloop"]
    row = results.row(workload, found["tcp_64_1"])
    assert row["results"]["uvloop"] == {"failed": "of course"}


@pytest.mark.usefixtures("from_root")
def test_a_server_stands_still_between_its_turns() -> None:
    from benchmarks.measure import ready
    from benchmarks.workloads import find

    def stopped() -> bool:
        """Is our one server, in a moment?  Its load waits to be asked."""
        end = time.monotonic() + 10
        while states() != ["S", "T"] and time.monotonic() < end:
            time.sleep(0.001)
        return states() == ["S", "T"]

    def states() -> list[str]:
        """Of the processes that this one has started, in order."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                state, parent = path.read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid():
                    found.append(state)
        return sorted(found)

    assert states() == []
    with ready("asyncio", find("tcp_64_1"), 0.01) as measure:
        for _ in range(2):
            assert stopped()
            assert (measure().value or 0) > 0
        assert stopped()
    assert states() == []


@pytest.mark.usefixtures("from_root")
@pytest.mark.parametrize("workload", ["tcp_64_1", "call_soon"])
def test_a_process_that_has_died(
    monkeypatch: pytest.MonkeyPatch, workload: str
) -> None:
    """One process does for all turns; when it has died, each of them says so."""
    from benchmarks import measure
    from benchmarks.workloads import find

    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with measure.ready("asyncio", find(workload), 0.01) as one:
        for _ in range(2):
            assert one().value
        assert sum("benchmarks.child" in each.args for each in started) == 1
        started[0].kill()
        started[0].wait()
        for _ in range(2):
            assert "ended with -9" in (one().failed or "")


@pytest.mark.usefixtures("from_root")
def test_leads_are_of_pairs() -> None:
    """A turn in which the machine was slow is slow for all."""
    from benchmarks import results
    from benchmarks.measure import Measurement
    from benchmarks.workloads import find

    def turns(*values: float) -> list[Measurement]:
        return [Measurement(value=value) for value in values]

    measured = {
        "asyncio": turns(100, 10, 50),
        "uvloop": turns(80, 8, 44),
        "fastloop": turns(120, 12, 60),
    }
    row = results.row(find("tcp_64_1"), measured)
    cell = results.Cell(row, "fastloop")
    assert cell.record["against"] == {"asyncio": 1.2, "uvloop": 1.5}
    assert cell.lead(["asyncio", "uvloop"]) == (1.2, "asyncio")
    assert cell.lead([]) is None
    assert results.Cell({**row, "unit": "bytes"}, "fastloop").lead(["uvloop"]) == (
        pytest.approx(1 / 1.5),
        "uvloop",
    )
