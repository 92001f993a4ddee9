"""Compare asyncio and fastloop on programs that hypothesis makes.

    python -m tests.prims.differential COUNT [SEED]

It starts itself again with the virtual clock: timers take no time.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis

import fastloop

from .programs import Program, Run, has_groups_of_several, programs
from .support import hashed_tasks

CLOCK = Path(__file__).with_name("virtual_clock.c")
CHUNK = 1000  # programs with one seed: hypothesis slows down when it makes more

LoopFactory = Callable[[], Any]


# --- in a process with the virtual clock ----------------------------------------------


class StableTimer(asyncio.TimerHandle):
    """asyncio's heap leaves the order of equal deadlines open; no two are, here."""

    __slots__ = ("number",)
    made = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        StableTimer.made += 1
        self.number = StableTimer.made

    def __lt__(self, other: Any) -> bool:
        return (self._when, self.number) < (other._when, other.number)


def trace_of(program: Program, lib: ModuleType, make_loop: LoopFactory) -> list[Any]:
    time.clock_settime(time.CLOCK_MONOTONIC, 1000)
    loop = make_loop()
    gc.disable()  # the program says when: all it makes is young
    try:
        if has_groups_of_several(program.tasks):
            native = make_loop is fastloop.new_event_loop
            loop.set_task_factory(
                hashed_tasks(fastloop.Task if native else asyncio.Task)
            )
        run = Run(program, lib, loop)
        loop.run_until_complete(run.main())
        run.log("left", len(asyncio.all_tasks(loop)))
        # what nobody cancelled ends some time later, when it is collected
        return list(run.trace)
    finally:
        loop.close()
        gc.enable()


class Slow(fastloop.Queue):  # type: ignore[type-arg]
    """What has to be found: one more turn of the loop in get()."""

    async def get(self) -> Any:
        await asyncio.sleep(0)
        return await super().get()


BROKEN = ModuleType("broken")
vars(BROKEN).update({name: getattr(fastloop, name) for name in fastloop.__all__})
vars(BROKEN).update(Queue=Slow)


def compare(program: Program, ours: ModuleType = fastloop) -> None:
    """Fail unless the program does on our loop, with our primitives, what it does on
    asyncio; and with each of them alone."""
    expected = trace_of(program, asyncio, asyncio.new_event_loop)
    for lib, make_loop in (
        (ours, fastloop.new_event_loop),
        (asyncio, fastloop.new_event_loop),
        (fastloop, asyncio.new_event_loop),
    ):
        gc.collect(1)  # the tasks of the last one
        trace = trace_of(program, lib, make_loop)
        if trace != expected:
            what = f"{lib.__name__} on a loop of {make_loop.__module__}"
            raise AssertionError(f"{difference(expected, trace, what)}\n{program}")


def difference(expected: list[Any], trace: list[Any], what: str) -> str:
    same = 0
    while expected[same : same + 1] == trace[same : same + 1]:
        same += 1
    return "\n".join(
        [
            f"{what} differs from asyncio at event {same}:",
            *[f"    {event}" for event in expected[max(same - 8, 0) : same]],
            "asyncio:",
            *[f"    {event}" for event in expected[same : same + 3]],
            "ours:",
            *[f"    {event}" for event in trace[same : same + 3]],
        ]
    )


def check(count: int, seed: int, ours: ModuleType = fastloop) -> int:
    """Run so many programs; returns how many were."""
    asyncio.events.TimerHandle = StableTimer
    ran = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        # what is known to be wrong need not be made small
        phases=set(hypothesis.Phase)
        - ({hypothesis.Phase.shrink} if ours is BROKEN else set()),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(programs())
    def run_all(program: Program) -> None:
        nonlocal ran
        ran += 1
        compare(program, ours)

    run_all()
    return ran


# --- in the process that starts it ----------------------------------------------------


def build_clock(folder: Path) -> Path:
    """Compile the virtual clock, with the compiler that made the extension."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    library = folder / "virtual_clock.so"
    command = [*compiler.split(), "-O1", "-shared", "-fPIC", str(CLOCK)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


def start(
    clock: Path, count: int, seed: int, lib: str = "fastloop"
) -> subprocess.CompletedProcess[str]:
    """Run so many programs in a process with the virtual clock."""
    preload = [os.environ.get("LD_PRELOAD", ""), str(clock)]
    return subprocess.run(
        [sys.executable, "-m", __spec__.name, "--here", str(count), str(seed), lib],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(filter(None, preload)),
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> None:
    if sys.argv[1] == "--here":
        lib = BROKEN if sys.argv[4] == "broken" else fastloop
        print(check(int(sys.argv[2]), int(sys.argv[3]), lib), "programs")
        return
    count = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        clock = build_clock(Path(folder))
        for at in range(0, count, CHUNK):
            done = start(clock, min(CHUNK, count - at), seed + at // CHUNK)
            print(f"seed {seed + at // CHUNK}:", done.stdout, end="", flush=True)
            if done.returncode != 0:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
