"""Whole programs behave on fastloop as they do on asyncio.

Each program of tests/programs runs in processes of its own, on asyncio, on fastloop,
and there with fastloop's primitives under asyncio's names, too.  It has to end well, to
print the same, and to complain of nothing.

A program that lacks something ends with code 77 and a line that says what; its test
is skipped, unless FASTLOOP_TEST_ALL=1.  PostgreSQL is the one that is given by
FASTLOOP_TEST_PG_DSN, or else a throw-away one, where its programs are installed.
FASTLOOP_TEST_LOOP names another library to compare with asyncio.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)  # two programs of at most 60 s, and a database

Result = subprocess.CompletedProcess[str]

TESTS = Path(__file__).resolve().parent
RUN_ON = TESTS / "programs" / "run_on.py"
PROGRAMS = sorted(set(RUN_ON.parent.glob("*.py")) - {RUN_ON})
NEEDS_POSTGRES = {"asyncpg_queries"}

LOOP = os.environ.get("FASTLOOP_TEST_LOOP", "fastloop")
DSN = "FASTLOOP_TEST_PG_DSN"
MISSING = 77
TIMEOUT = 60
# tell of crashes, and of transports and sockets that are never closed
OPTIONS = ("-X", "faulthandler", "-W", "error::ResourceWarning")


@pytest.fixture(scope="session")
def postgres() -> Iterator[None]:
    """A PostgreSQL to be found through the environment, if there can be one."""
    if os.environ.get(DSN):
        yield
        return
    helper = runpy.run_path(str(TESTS / "postgres.py"))
    try:
        helper["find_binaries"]()
    except helper["PostgresError"]:
        yield  # the programs will say what they miss
        return
    with helper["cluster"]() as dsn, pytest.MonkeyPatch.context() as patch:
        patch.setenv(DSN, dsn)
        yield


@pytest.fixture(params=PROGRAMS, ids=lambda path: path.stem)
def program(request: pytest.FixtureRequest) -> Path:
    if request.param.stem in NEEDS_POSTGRES:
        request.getfixturevalue("postgres")
    return request.param


def run(loop: str, program: Path, **environment: str) -> Result:
    """Run the program; fails when it does not end, skips when it cannot run here."""
    command = [sys.executable, *OPTIONS, str(RUN_ON), loop, str(program)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONHASHSEED": "random", **environment},
    )
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR2)  # run_on.py tells where it hangs
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)  # and the processes that it started
        stdout, stderr = process.communicate()
        pytest.fail(f"{program.stem} hangs on {loop}:\n{stdout}\n{stderr}")
    if process.returncode == MISSING and os.environ.get("FASTLOOP_TEST_ALL") != "1":
        pytest.skip(stderr.strip())
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


@cache
def run_on_asyncio(program: Path) -> Result:
    return run("asyncio", program)


def test_on_asyncio(program: Path) -> None:
    """The program itself is in order."""
    result = run_on_asyncio(program)
    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout


def test_same_on_our_loop(program: Path) -> None:
    expected = run_on_asyncio(program)
    result = run(LOOP, program)
    assert result.stderr == expected.stderr
    assert result.stdout == expected.stdout
    assert result.returncode == expected.returncode == 0


@pytest.mark.skipif(LOOP != "fastloop", reason="patch() is fastloop's")
def test_same_with_patch(program: Path) -> None:
    """With the native tasks, locks, queues and so on."""
    expected = run_on_asyncio(program)
    result = run("fastloop+patch", program)
    assert result.stderr == expected.stderr
    assert result.stdout == expected.stdout
    assert result.returncode == expected.returncode == 0


def test_patch_is_in_force(tmp_path: Path) -> None:
    asking = tmp_path / "asking.py"
    asking.write_text(
        "import asyncio, fastloop\n"
        "async def main():\n"
        "    print(asyncio.Lock is fastloop.Lock, fastloop.patched())\n"
        "asyncio.run(main())\n"
    )
    assert run("fastloop", asking).stdout == "False False\n"
    assert run("fastloop+patch", asking).stdout == "True True\n"


def test_same_in_debug_mode(program: Path) -> None:
    """In debug mode too; there, stderr may tell of callbacks that were slow."""
    expected = run_on_asyncio(program)
    result = run(LOOP, program, PYTHONASYNCIODEBUG="1")
    assert result.stdout == expected.stdout, result.stderr
    assert result.returncode == expected.returncode == 0, result.stderr


def test_runner_notices_a_stock_loop(tmp_path: Path) -> None:
    """A program that escapes to asyncio's own loop does not count as run on ours."""
    stowaway = tmp_path / "stowaway.py"
    stowaway.write_text(
        "import asyncio\n"
        "loop = asyncio.SelectorEventLoop()\n"
        "loop.run_until_complete(asyncio.sleep(0))\n"
        "loop.close()\n"
    )
    assert run("asyncio", stowaway).returncode == 0
    result = run(LOOP, stowaway)
    assert result.returncode == 1
    assert f"not on {LOOP}: the program ran on asyncio." in result.stderr


def test_runner_notices_that_no_loop_was_used(tmp_path: Path) -> None:
    idler = tmp_path / "idler.py"
    idler.write_text("print('no loop is needed for this')\n")
    result = run(LOOP, idler)
    assert result.returncode == 1
    assert result.stderr == f"not on {LOOP}: the program never asked for a loop\n"
