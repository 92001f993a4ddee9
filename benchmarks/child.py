"""The process that is measured: one subject, one workload.

    python -m benchmarks.child '{"subject": ..., "workload": ..., ...}'

Prints lines of JSON: {"address": ...} of a server, which then serves until it is
killed; {"ready": true} of what is timed here, and {"value": ...} for each line that it
reads then; {"missing": ...} if the subject cannot do it; {"failed": ...} if it should
but does not.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .subjects import FLOOR, prepare
from .workload import Loop, Served, Timed, Weighed, Workload
from .workloads import find

SHORTEST = 0.002  # seconds that a batch takes: less cannot be timed


def say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def pin(core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})


def use_all_descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# --- timing ---------------------------------------------------------------------------


def batch(workload: Timed, loop: Loop | None, n: int, *extra: Any) -> float:
    """Do n operations; return the seconds they took."""
    clock = time.perf_counter if workload.waits else time.process_time
    gc.collect()
    began = clock()
    if loop is None:
        assert workload.floor is not None
        result = workload.floor(n)
    else:
        result = workload.function(loop, n, *extra)
        if inspect.isawaitable(result):
            result = loop.run_until_complete(result)
    took = clock() - began
    return result if workload.own_clock else took


class Meter:
    """Finds out how many operations fill a batch, and then measures when called."""

    def __init__(
        self, workload: Timed, loop: Loop | None, seconds: float, *extra: Any
    ) -> None:
        self.workload = workload
        self.batch = functools.partial(batch, workload, loop)
        self.extra = extra
        self.first: float | None = None
        began = time.perf_counter()
        took = self.batch(1, *extra)  # import, compile, warm up
        self.n = 1
        if workload.size is not None and time.perf_counter() - began > 4 * seconds:
            # it takes long, however little is measured: this has to do
            self.first = workload.each / took
            return
        took = self.batch(1, *extra)
        while took < SHORTEST:
            self.n *= max(2, min(100, int(2 * SHORTEST / max(took, 1e-6))))
            took = self.batch(self.n, *extra)
        self.n = max(1, int(self.n * seconds / took))

    def __call__(self) -> float:
        """Operations per second."""
        if self.first is not None:
            first, self.first = self.first, None
            return first
        return self.n * self.workload.each / self.batch(self.n, *self.extra)


# --- kinds of workloads ---------------------------------------------------------------


def serve(workload: Served, loop: Loop) -> NoReturn:
    async def start() -> None:
        say(address=str(await workload.function(loop)))

    loop.run_until_complete(start())
    loop.run_forever()
    raise SystemExit


def weigh(workload: Weighed, loop: Loop) -> float:
    result = workload.function(loop)
    if inspect.isawaitable(result):
        result = loop.run_until_complete(result)
    return float(result)


def meter(request: dict[str, Any], workload: Workload) -> Callable[[], float]:
    seconds = request["seconds"]
    if request["subject"] == FLOOR:
        assert isinstance(workload, Timed)
        return Meter(workload, None, seconds)
    loop = prepare(request["subject"])()
    asyncio.set_event_loop(loop)
    if isinstance(workload, Served):
        serve(workload, loop)
    if isinstance(workload, Weighed):
        return functools.partial(weigh, workload, loop)
    assert isinstance(workload, Timed)
    extra = [] if workload.peer is None else [request["peer"]]
    return Meter(workload, loop, seconds, *extra)


def run(request: dict[str, Any]) -> None:
    measure = meter(request, find(request["workload"]))
    say(ready=True)
    for _ in sys.stdin:
        say(value=measure())


def main() -> None:
    request = json.loads(sys.argv[1])
    pin(request["core"])
    use_all_descriptors()
    try:
        run(request)
    except (NotImplementedError, AttributeError) as exc:
        say(missing=f"{type(exc).__name__}: {exc}")
    except Exception as exc:
        say(failed=f"{type(exc).__name__}: {exc}")
    sys.stdout.flush()
    # what an event loop does when it goes away is not what is measured
    os._exit(0)


if __name__ == "__main__":
    main()
