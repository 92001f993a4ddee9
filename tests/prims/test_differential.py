"""Programs that hypothesis makes run on fastloop as on asyncio, event for event.

Each task meets the others at a few primitives, is cancelled and times out; both
libraries have to leave the same trace, in the same order.  See programs.py for what the
programs do, differential.py for how they run; ``python -m tests.prims.differential N``
runs more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .differential import CHUNK, build_clock, start

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the virtual clock replaces epoll_wait()"
)

CHECKED = any(os.environ.get(f"FASTLOOP_{how}") for how in ("DEBUG", "SANITIZE"))
COUNT = CHUNK // 10 if CHECKED else CHUNK  # such a build is many times slower


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clock(tmp_path_factory.mktemp("clock"))


# ten thousand in all
@pytest.mark.parametrize("seed", range(1, 11))
def test_same_events(clock: Path, seed: int) -> None:
    done = start(clock, COUNT, seed)
    assert done.returncode == 0, done.stdout
    assert done.stdout == f"{COUNT} programs\n"


def test_a_difference_is_found(clock: Path) -> None:
    done = start(clock, COUNT, 1, "broken")
    assert done.returncode == 1, done.stdout
    assert "differs from asyncio" in done.stdout
    assert "Program(tasks=[[" in done.stdout


NAPS = """
import asyncio
import fastloop

async def main():
    clock = asyncio.get_running_loop().time
    for nap in 0.0001, 0.0005, 0.0009:
        began = clock()
        await asyncio.sleep(nap)
        print(round((clock() - began) * 1e6))

fastloop.run(main(), primitives=False)
"""


@pytest.mark.parametrize("looks", ["0", "0.00005", "0.001"])
def test_short_sleeps_are_not_rounded_to_milliseconds(clock: Path, looks: str) -> None:
    """And end although this clock stands still while the loop looks."""
    done = subprocess.run(
        [sys.executable, "-c", NAPS],
        env={
            **os.environ,
            "LD_PRELOAD": f"{os.environ.get('LD_PRELOAD', '')} {clock}".strip(),
            "PYTHONPATH": os.pathsep.join(sys.path),
            "FASTLOOP_SPIN": looks,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout.split() == ["100", "500", "900"]
