"""run_in_executor(): how the outcome of a thread's future becomes the loop's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import fastloop

from .support import (
    DEADLINE,
    Loop,
    LoopFactory,
    collect_reports,
    next_turns,
    within,
)


class Recorder(concurrent.futures.Executor):
    """Hands out futures that the test finishes."""

    def __init__(self, make: Callable[[], Any] = Future) -> None:
        self.make = make
        self.made: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.made.append(self.make())
        return self.made[-1]


def in_thread(function: Callable[..., object], *args: object) -> None:
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("outcome", [None, 7, ValueError("a result, not raised")])
def test_a_result(loop: Loop, outcome: object) -> None:
    async def main() -> None:
        recorder = Recorder()
        future = loop.run_in_executor(recorder, print)
        assert not future.done()
        in_thread(recorder.made[0].set_result, outcome)
        assert not future.done()
        assert await within(future) is outcome

    loop.run_until_complete(main())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("no"), ValueError),
        (TimeoutError("late"), TimeoutError),
        (asyncio.InvalidStateError("why"), asyncio.InvalidStateError),
        (concurrent.futures.InvalidStateError("why"), asyncio.InvalidStateError),
        (concurrent.futures.CancelledError("who"), asyncio.CancelledError),
        (concurrent.futures.BrokenExecutor("all"), concurrent.futures.BrokenExecutor),
    ],
    ids=lambda case: getattr(case, "__name__", None) or type(case).__qualname__,
)
def test_an_exception(
    loop: Loop, raised: Exception, expected: type[BaseException]
) -> None:
    """Those of concurrent.futures that asyncio has of its own become asyncio's."""

    def work() -> None:
        raise raised

    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = loop.run_in_executor(pool, work)
            with pytest.raises(expected) as caught:
                await future
        assert type(caught.value) is expected
        assert caught.value.args == raised.args
        # the exception of a cancelled future is made anew, and asyncio made all that it
        # converts anew before 3.13
        if isinstance(loop, fastloop.Loop) and expected is not asyncio.CancelledError:
            frames = traceback.extract_tb(caught.value.__traceback__)
            assert "work" in [frame.name for frame in frames]

    loop.run_until_complete(main())


def test_work_that_is_cancelled(loop: Loop) -> None:
    async def main() -> None:
        recorder = Recorder()
        future = loop.run_in_executor(recorder, print)
        in_thread(recorder.made[0].cancel)
        in_thread(recorder.made[0].set_running_or_notify_cancel)
        with pytest.raises(asyncio.CancelledError):
            await within(future)
        assert future.cancelled()

    loop.run_until_complete(main())


def test_a_pool_that_drops_its_work(loop: Loop) -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(DEADLINE)

    async def main() -> None:
        pool = concurrent.futures.ThreadPoolExecutor(1)
        first = loop.run_in_executor(pool, work)
        others = [loop.run_in_executor(pool, print) for _ in range(10)]
        begun.wait(DEADLINE)
        pool.shutdown(wait=False, cancel_futures=True)
        end.set()
        assert await within(first) is None
        await within(asyncio.wait(others))
        assert all(other.cancelled() for other in others)

    loop.run_until_complete(main())


def test_cancelling_reaches_the_work(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def main() -> None:
        recorder = Recorder()
        waiting = loop.run_in_executor(recorder, print)
        running = loop.run_in_executor(recorder, print)
        recorder.made[1].set_running_or_notify_cancel()
        waiting.cancel()
        running.cancel()
        await next_turns(2)
        assert recorder.made[0].cancelled()
        assert not recorder.made[1].cancelled()
        in_thread(recorder.made[1].set_result, "of what nobody waits for")
        await next_turns(2)
        assert running.cancelled()

    loop.run_until_complete(main())
    assert reports == []


def test_a_future_that_has_been_finished_by_hand(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def main() -> None:
        recorder = Recorder()
        future = loop.run_in_executor(recorder, print)
        future.set_result("mine")  # type: ignore[arg-type]
        in_thread(recorder.made[0].set_result, "the thread's")
        assert await within(future) == "mine"
        while not reports:
            await asyncio.sleep(0)

    loop.run_until_complete(within(main()))
    assert len(reports) == 1


def test_executors_of_other_kinds(loop: Loop) -> None:
    """What submit() returns may be a future of the loop's."""

    async def main() -> None:
        recorder = Recorder(loop.create_future)
        assert loop.run_in_executor(recorder, print) is recorder.made[0]
        with pytest.raises(AssertionError, match="Future is expected"):
            loop.run_in_executor(Recorder(object), print)

    loop.run_until_complete(main())


def test_work_that_outlives_the_loop(
    loop_factory: LoopFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """Its result comes to nobody, and nothing is said of that."""
    for cancel in False, True:
        recorder = Recorder()
        loop = loop_factory()

        async def main(
            loop: Loop = loop, recorder: Recorder = recorder
        ) -> asyncio.Future[None]:
            return loop.run_in_executor(recorder, print)

        future = loop.run_until_complete(main())
        recorder.made[0].set_running_or_notify_cancel()
        if cancel:
            future.cancel()
        loop.close()
        in_thread(recorder.made[0].set_result, 1)
        assert future.done() == cancel
    assert caplog.records == []


def test_nothing_is_kept_of_what_is_done(loop: Loop) -> None:
    """The two futures let go of each other."""

    class Result:
        pass

    async def main() -> None:
        recorder = Recorder()
        future = loop.run_in_executor(recorder, print)
        result = Result()
        gone = weakref.ref(result)
        in_thread(recorder.made.pop().set_result, result)
        del result
        await future
        del future
        await next_turns(2)
        assert gone() is None

    gc.disable()
    try:
        loop.run_until_complete(main())
    finally:
        gc.enable()
