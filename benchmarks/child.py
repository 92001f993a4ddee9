"""The process that is measured: one subject, one workload.

    python -m benchmarks.child '{"subject": ..., "workload": ..., ...}'

Prints lines of JSON: {"address": ...} of a server, which then serves until it is
killed; {"value": ...} of what is timed here; {"missing": ...} if the subject cannot do
it; {"failed": ...} if it should but does not.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import resource
import statistics
import sys
import time
from typing import Any, NoReturn

from .subjects import FLOOR, prepare
from .workload import Loop, Served, Timed, Weighed
from .workloads import find

BATCHES = 5  # in the seconds of a measurement
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


def rate(workload: Timed, loop: Loop | None, seconds: float, *extra: Any) -> float:
    """Operations per second: the median of some batches."""
    began = time.perf_counter()
    took = batch(workload, loop, 1, *extra)  # import, compile, warm up
    if workload.rounds == 1 and time.perf_counter() - began > 4 * seconds:
        # it takes long, however little is measured: once has to do
        return workload.each / took
    n = 1
    took = batch(workload, loop, n, *extra)
    # find out how many operations fill a batch
    while took < SHORTEST:
        n *= max(2, min(100, int(2 * SHORTEST / max(took, 1e-6))))
        took = batch(workload, loop, n, *extra)
    n = max(1, int(n * seconds / BATCHES / took))
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        rates.append(n * workload.each / batch(workload, loop, n, *extra))
    return statistics.median(rates)


# --- kinds of workloads ---------------------------------------------------------------


def serve(workload: Served, loop: Loop) -> NoReturn:
    async def start() -> None:
        say(address=str(await workload.function(loop)))

    loop.run_until_complete(start())
    loop.run_forever()
    raise SystemExit


def run(request: dict[str, Any]) -> None:
    workload = find(request["workload"])
    seconds = request["seconds"]
    if request["subject"] == FLOOR:
        assert isinstance(workload, Timed)
        say(value=rate(workload, None, seconds))
        return
    loop = prepare(request["subject"])()
    asyncio.set_event_loop(loop)
    if isinstance(workload, Served):
        serve(workload, loop)
    if isinstance(workload, Weighed):
        result = workload.function(loop)
        if inspect.isawaitable(result):
            result = loop.run_until_complete(result)
        say(value=result)
    else:
        assert isinstance(workload, Timed)
        extra = [] if workload.peer is None else [request["peer"]]
        say(value=rate(workload, loop, seconds, *extra))


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
