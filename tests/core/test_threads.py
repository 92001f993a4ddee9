"""Threads: loops side by side, and calls into a loop from other threads.

Nothing here depends on how fast a thread is: tests wait for what must happen, and count
what has happened.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastloop

from .support import (
    DEADLINE,
    Loop,
    LoopFactory,
    check,
    collect_reports,
    loop_class,
    next_turns,
    only_fastloop,
    run_once,
    run_python,
    until,
    within,
)

THREADS = 8


def nothing(*args: object) -> None:
    pass


def run_threads(functions: list[Callable[[], object]]) -> None:
    """Run each in a thread of its own; raise what any of them raised."""
    failures: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


@contextlib.contextmanager
def running(loop: Loop) -> Iterator[threading.Thread]:
    """Run the loop in a thread for as long as the context lasts."""
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    until(loop.is_running)
    try:
        yield thread
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE)
        assert not thread.is_alive(), "the loop did not stop"


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    """Let threads interrupt each other wherever they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


# --- loops side by side --------------------------------------------------------------


async def a_bit_of_everything(number: int) -> int:
    """Tasks, timers, futures, executors and connections."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[int] = asyncio.Queue(3)
    received = []

    async def produce() -> None:
        for i in range(50):
            await queue.put(number + i)

    async def consume() -> None:
        for _ in range(50):
            received.append(await queue.get())
            await asyncio.sleep(0)

    async def serve(reader: Any, writer: Any) -> None:
        while data := await reader.readline():
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await asyncio.gather(produce(), consume(), asyncio.sleep(0.001))
    for i in range(20):
        writer.write(b"%d\n" % (number + i))
        assert int(await reader.readline()) == number + i
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(loop.create_future(), 0.001)
    assert await loop.run_in_executor(None, lambda: number) == number
    assert asyncio.current_task() in asyncio.all_tasks()
    assert all(task.get_loop() is loop for task in asyncio.all_tasks())
    return sum(received)


@pytest.mark.parametrize("often", [False, True], ids=["", "switching-often"])
def test_a_loop_in_each_thread(loop_factory: LoopFactory, often: bool) -> None:
    results: dict[int, int] = {}

    def run(number: int) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            results[number] = runner.run(a_bit_of_everything(number))

    with switching_often() if often else contextlib.nullcontext():
        run_threads([lambda n=n: run(n) for n in range(THREADS)])  # type: ignore[misc]
    assert results == {n: sum(range(n, n + 50)) for n in range(THREADS)}


def test_loops_in_threads_made_and_closed_over_and_over(
    loop_factory: LoopFactory,
) -> None:
    """While a thread beside them collects garbage of theirs."""
    done = threading.Event()

    def run() -> None:
        for _ in range(20):
            loop = loop_factory()
            loop.self = loop  # type: ignore[attr-defined]
            loop.call_later(0, nothing, loop)
            task = loop.create_task(next_turns(3))
            loop.run_until_complete(asyncio.wait_for(task, 10))
            loop.close()

    def collect() -> None:
        while not done.is_set():
            gc.collect()
            len(asyncio.all_tasks(loop_factory_loop))

    loop_factory_loop = loop_factory()
    collector = threading.Thread(target=collect)
    collector.start()
    try:
        run_threads([run] * 4)
    finally:
        done.set()
        collector.join()
        loop_factory_loop.close()


def test_each_loop_sees_only_its_own_tasks(loop_factory: LoopFactory) -> None:
    barrier = threading.Barrier(THREADS, timeout=DEADLINE)

    async def main(number: int) -> None:
        tasks = {asyncio.create_task(asyncio.sleep(100)) for _ in range(number)}
        await asyncio.sleep(0)
        barrier.wait()
        assert asyncio.all_tasks() == {*tasks, asyncio.current_task()}
        barrier.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def run(number: int) -> None:
        loop = loop_factory()
        loop.run_until_complete(main(number))
        loop.close()

    run_threads([lambda n=n: run(n) for n in range(THREADS)])  # type: ignore[misc]


def test_futures_across_loops(loop_factory: LoopFactory) -> None:
    """A ring: the task of each loop sets the future of the next, thread-safely."""
    loops = [loop_factory() for _ in range(THREADS)]
    futures = [loop.create_future() for loop in loops]
    order: list[int] = []

    def finish(number: int) -> None:
        futures[number].set_result(None)

    async def main(number: int) -> None:
        for turn in range(10):
            if number or turn:
                await futures[number]
                futures[number] = loops[number].create_future()
            order.append(number)
            following = (number + 1) % THREADS
            loops[following].call_soon_threadsafe(finish, following)

    def run(number: int) -> None:
        loops[number].run_until_complete(main(number))

    run_threads([lambda n=n: run(n) for n in range(THREADS)])  # type: ignore[misc]
    assert order == list(range(THREADS)) * 10
    futures[0].cancel()
    for loop in loops:
        loop.close()


# --- calls from other threads --------------------------------------------------------


@pytest.mark.timeout(300)
def test_a_million_calls_from_eight_threads(fast_loop: fastloop.Loop) -> None:
    """Not one is lost, none comes twice, and those of a thread come in their order."""
    each = 1_000_000 // THREADS
    seen: list[list[int]] = [[] for _ in range(THREADS)]

    def call(number: int) -> None:
        call_soon, append = fast_loop.call_soon_threadsafe, seen[number].append
        for i in range(each):
            call_soon(append, i)
        call_soon(finish, number)

    finished: list[int] = []

    def finish(number: int) -> None:
        finished.append(number)
        if len(finished) == THREADS:
            fast_loop.stop()

    threads = [threading.Thread(target=call, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    fast_loop.run_forever()
    for thread in threads:
        thread.join()
    assert sorted(finished) == list(range(THREADS))
    expected = list(range(each))
    assert all(numbers == expected for numbers in seen)


def test_calls_while_the_loop_is_made_to_switch(loop: Loop) -> None:
    """The same on both loops, the threads switching wherever they can."""
    counter: Counter[int] = Counter()

    def call(number: int) -> None:
        for _ in range(2000):
            loop.call_soon_threadsafe(counter.update, (number,))

    async def main() -> None:
        await asyncio.gather(*[asyncio.to_thread(call, n) for n in range(THREADS)])
        await next_turns()

    with switching_often():
        loop.run_until_complete(main())
    assert counter == dict.fromkeys(range(THREADS), 2000)
    loop.run_until_complete(loop.shutdown_default_executor())


def test_calls_before_the_loop_runs(loop: Loop) -> None:
    seen: list[int] = []
    run_threads([lambda: nothing(loop.call_soon_threadsafe(seen.append, 1))] * THREADS)
    assert seen == []
    run_once(loop)
    assert seen == [1] * THREADS


def test_what_call_soon_threadsafe_returns(loop: Loop) -> None:
    handles: list[asyncio.Handle] = []
    seen: list[str] = []
    with running(loop):
        blocked = threading.Event()
        loop.call_soon_threadsafe(blocked.wait)
        handles.append(loop.call_soon_threadsafe(seen.append, "cancelled"))
        handles.append(loop.call_soon_threadsafe(seen.append, "runs"))
        assert isinstance(handles[0], asyncio.Handle)
        handles[0].cancel()
        blocked.set()
        until(lambda: seen)
    assert seen == ["runs"]


def test_the_context_of_a_call(loop: Loop) -> None:
    """It is the calling thread's, unless one is given."""
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="loop")
    seen: list[str] = []

    def call() -> None:
        var.set("thread")
        given = contextvars.copy_context()
        given.run(var.set, "given")
        loop.call_soon_threadsafe(lambda: seen.append(var.get()))
        loop.call_soon_threadsafe(lambda: seen.append(var.get()), context=given)

    with running(loop):
        run_threads([call])
        until(lambda: len(seen) == 2)
    assert seen == ["thread", "given"]
    assert var.get() == "loop"


# --- waking --------------------------------------------------------------------------


def test_waking_a_loop_that_sleeps(loop: Loop) -> None:
    """Each call is answered before the next is made: every one has to wake it."""
    with running(loop):
        for _ in range(500):
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            assert answered.wait(DEADLINE)


def test_waking_a_loop_that_sleeps_until_a_timer(loop: Loop) -> None:
    loop.call_later(1000, nothing)
    with running(loop):
        for _ in range(100):
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            assert answered.wait(DEADLINE)


def test_a_timer_set_by_a_call_is_noticed(loop: Loop) -> None:
    """The loop sleeps for longer when it is told of an earlier deadline."""
    loop.call_later(1000, nothing)
    with running(loop):
        for _ in range(20):
            answered = threading.Event()
            loop.call_soon_threadsafe(loop.call_later, 0.001, answered.set)
            assert answered.wait(DEADLINE)


def test_waking_again_and_again_while_it_wakes_up(loop: Loop) -> None:
    """Bursts, whose end the loop must not miss."""
    seen: list[int] = []
    with running(loop):
        for burst in range(1, 200):
            for i in range(burst % 7 + 1):
                loop.call_soon_threadsafe(seen.append, i)
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            assert answered.wait(DEADLINE)
    assert len(seen) == sum(burst % 7 + 1 for burst in range(1, 200))


def test_waking_from_eight_threads_at_once(loop: Loop) -> None:
    def ask() -> None:
        for _ in range(100):
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            assert answered.wait(DEADLINE)

    with running(loop), switching_often():
        run_threads([ask] * THREADS)


def test_ping_pong_between_two_loops(loop_factory: LoopFactory) -> None:
    one, two = loop_factory(), loop_factory()
    balls: list[int] = []
    done = threading.Event()

    def ping(count: int) -> None:
        balls.append(count)
        if count == 1000:
            done.set()
        else:
            (two if count % 2 == 0 else one).call_soon_threadsafe(ping, count + 1)

    with running(one), running(two):
        one.call_soon_threadsafe(ping, 0)
        assert done.wait(DEADLINE)
    assert balls == list(range(1001))
    one.close()
    two.close()


def test_a_sleeping_loop_lets_the_others_run(loop: Loop) -> None:
    """Without the GIL: a thread that computes goes on while the loop sleeps."""
    counted = 0
    with running(loop):
        for _ in range(100_000):
            counted += 1
    assert counted == 100_000


def test_a_busy_loop_lets_the_others_run(loop: Loop) -> None:
    """A loop that never sleeps, of callbacks that are all C, gives up the GIL."""
    stopped = threading.Event()
    turns = []

    def other() -> None:
        turns.append(1)
        stopped.set()
        loop.call_soon_threadsafe(loop.stop)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = loop.create_task(spin())
    thread = threading.Thread(target=other)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert turns == [1]
    task.cancel()
    run_once(loop)
    run_once(loop)


# --- stopping and closing ------------------------------------------------------------


def test_stop_from_a_thread(loop: Loop) -> None:
    timer = threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,))
    timer.start()
    loop.run_forever()
    timer.join()
    assert not loop.is_running()


def test_stopping_over_and_over(loop: Loop) -> None:
    """Each stop ends one run, and nothing that was called before it is lost."""
    seen: list[int] = []
    asked = threading.Semaphore(0)
    count = 200

    def stop() -> None:
        for i in range(count):
            assert asked.acquire(timeout=DEADLINE)
            loop.call_soon_threadsafe(seen.append, i)
            loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=stop)
    thread.start()
    for i in range(count):
        asked.release()
        loop.run_forever()
        assert seen == list(range(i + 1))
    thread.join()


def test_closing_while_threads_call_in(loop_factory: LoopFactory) -> None:
    """They get asyncio's error at once, whether the loop ran just before or not."""
    for round_ in range(10):
        loop = loop_factory()
        errors: list[str] = []
        started = threading.Semaphore(0)

        def call(
            loop: Loop = loop,
            errors: list[str] = errors,
            started: threading.Semaphore = started,
        ) -> None:
            started.release()
            try:
                while True:
                    for _ in range(50):
                        loop.call_soon_threadsafe(nothing, object())
                    time.sleep(0.0001)  # or the loop has millions to run
            except RuntimeError as exc:
                errors.append(str(exc))

        threads = [threading.Thread(target=call, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert started.acquire(timeout=DEADLINE)
        if round_ % 2:
            run_once(loop)
        with switching_often():
            loop.close()
        for thread in threads:
            thread.join(DEADLINE)
        assert errors == ["Event loop is closed"] * THREADS


def test_dropping_a_loop_while_threads_call_in() -> None:
    """They hold it: it goes with the last of them."""
    program = """
        def call(loop):
            for _ in range(2000):
                loop.call_soon_threadsafe(int)

        for _ in range(10):
            loop = new_event_loop()
            loop.call_soon(loop.stop)
            loop.run_forever()
            threads = [
                threading.Thread(target=call, args=(loop,)) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            del loop
            for thread in threads:
                thread.join()
            threads.clear()
            del thread
            gc.collect()
        print("alive")
        """
    assert check(run_python(program, options=("-W", "ignore"))) == "alive\n"


def test_closing_from_another_thread_while_it_runs(loop: Loop) -> None:
    errors: list[str] = []

    def close() -> None:
        for _ in range(3):
            with pytest.raises(RuntimeError) as caught:
                loop.close()
            errors.append(str(caught.value))

    with running(loop):
        run_threads([close])
        assert not loop.is_closed()
    assert errors == ["Cannot close a running event loop"] * 3


def test_many_threads_try_to_run_it(loop: Loop) -> None:
    """One at a time does, the others are told so; it is whole afterwards."""
    only_fastloop(loop, "asyncio's check is not atomic: two threads can get past it")
    told: list[str] = []
    ended: list[int] = []

    def run() -> None:
        for _ in range(20):
            try:
                loop.run_forever()
            except RuntimeError as exc:
                told.append(str(exc))
        ended.append(1)

    def stop() -> None:
        while len(ended) < 4:
            loop.call_soon_threadsafe(loop.stop)

    with switching_often():
        run_threads([*[run] * 4, stop])
    assert set(told) <= {"This event loop is already running"}
    run_once(loop)  # forgets the last stop
    assert loop.run_until_complete(asyncio.sleep(0, "whole")) == "whole"


def test_a_loop_that_moves_from_thread_to_thread(loop: Loop) -> None:
    """With transports, timers and tasks that wait."""
    seen: list[int] = []
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    future = loop.create_future()

    async def wait() -> str:
        return await future

    task = loop.create_task(wait())
    loop.add_reader(ours, lambda: seen.append(ours.recv(1)[0]))

    def run(number: int) -> None:
        peer.send(bytes([number]))
        loop.call_later(0.001, loop.stop)
        loop.run_forever()

    for number in range(5):
        run_threads([lambda n=number: run(n)])  # type: ignore[misc]
    assert seen == list(range(5))
    run_threads([lambda: future.set_result("done")])
    assert loop.run_until_complete(task) == "done"
    loop.remove_reader(ours)
    ours.close()
    peer.close()


# --- run_coroutine_threadsafe --------------------------------------------------------


def test_coroutines_from_threads(loop: Loop) -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.001 * (number % 2))
        assert asyncio.get_running_loop() is loop
        return number * 2

    def ask(number: int) -> None:
        for i in range(20):
            future = asyncio.run_coroutine_threadsafe(work(number + i), loop)
            assert future.result(DEADLINE) == (number + i) * 2

    with running(loop):
        run_threads([lambda n=n: ask(n) for n in range(THREADS)])  # type: ignore[misc]


def test_a_coroutine_from_a_thread_that_fails(loop: Loop) -> None:
    async def fail() -> None:
        raise LookupError("told")

    with running(loop):
        future = asyncio.run_coroutine_threadsafe(fail(), loop)
        with pytest.raises(LookupError, match="told"):
            future.result(DEADLINE)


def test_a_coroutine_from_a_thread_that_is_cancelled(loop: Loop) -> None:
    cancelled = threading.Event()
    started = threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with running(loop):
        future = asyncio.run_coroutine_threadsafe(wait(), loop)
        assert started.wait(DEADLINE)
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0)
        future.cancel()
        assert cancelled.wait(DEADLINE)
    assert future.cancelled()


def test_a_coroutine_that_cancels_itself(loop: Loop) -> None:
    async def cancel() -> None:
        task: Any = asyncio.current_task()
        task.cancel()
        await asyncio.sleep(0)

    with running(loop):
        future = asyncio.run_coroutine_threadsafe(cancel(), loop)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(DEADLINE)


def test_run_coroutine_threadsafe_takes_coroutines(loop: Loop) -> None:
    with pytest.raises(TypeError, match="coroutine"):
        asyncio.run_coroutine_threadsafe(loop.create_future(), loop)  # type: ignore[arg-type]


# --- executors -----------------------------------------------------------------------


def test_traffic_of_an_executor(loop: Loop) -> None:
    """Results and exceptions from many threads, each to the task that asked."""

    def work(number: int) -> int:
        if number % 10 == 0:
            raise ValueError(number)
        return number

    async def ask(number: int) -> object:
        try:
            return await loop.run_in_executor(None, work, number)
        except ValueError as exc:
            return exc.args

    async def main() -> None:
        results = await asyncio.gather(*[ask(i) for i in range(1000)])
        assert results == [(i,) if i % 10 == 0 else i for i in range(1000)]
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_an_executor_shared_by_loops(loop_factory: LoopFactory) -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:

        async def main() -> None:
            loop = asyncio.get_running_loop()
            for i in range(50):
                assert await loop.run_in_executor(pool, abs, -i) == i

        def run() -> None:
            loop = loop_factory()
            loop.run_until_complete(main())
            loop.close()

        run_threads([run] * THREADS)


def test_work_that_calls_back(loop: Loop) -> None:
    """From inside the executor, into the loop that waits for it."""
    seen: list[int] = []

    def work(number: int) -> None:
        loop.call_soon_threadsafe(seen.append, number)
        coro = asyncio.sleep(0, number)
        assert asyncio.run_coroutine_threadsafe(coro, loop).result(DEADLINE) == number

    async def main() -> None:
        await within(asyncio.gather(*[asyncio.to_thread(work, i) for i in range(50)]))
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())
    assert sorted(seen) == list(range(50))


def test_cancelling_what_waits_for_an_executor(loop: Loop) -> None:
    """While the work is done: its result comes to nobody, and harms nothing."""
    reports = collect_reports(loop)

    async def main() -> None:
        for _ in range(50):
            futures = [loop.run_in_executor(None, nothing) for _ in range(4)]
            await asyncio.sleep(0)
            for future in futures:
                future.cancel()
        await loop.shutdown_default_executor()
        await next_turns(3)

    with switching_often():
        loop.run_until_complete(main())
    assert reports == []


# --- the wrong thread ----------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda loop: loop.call_soon(nothing),
        lambda loop: loop.call_later(1, nothing),
        lambda loop: loop.call_at(1, nothing),
        lambda loop: loop.create_task(waits()),
    ],
    ids=["call_soon", "call_later", "call_at", "create_task"],
)
def test_the_wrong_thread_is_told_in_debug_mode(
    loop: Loop, use: Callable[[Loop], object]
) -> None:
    reports = collect_reports(loop)  # the task that could not be scheduled
    loop.set_debug(True)
    with running(loop), pytest.raises(RuntimeError, match="Non-thread-safe operation"):
        use(loop)
    gc.collect()
    reports.clear()


async def waits() -> None:
    """Not started: but a warning of that is not what these tests are about."""


pytestmark = pytest.mark.filterwarnings("ignore:coroutine 'waits' was never awaited")


def test_the_right_thread_is_not_told(loop: Loop) -> None:
    """Neither when the loop does not run, nor inside of it, in whatever thread."""
    loop.set_debug(True)
    run_threads([lambda: nothing(loop.call_soon(nothing))])
    loop.call_soon(nothing)

    async def main() -> None:
        loop.call_soon(nothing)
        loop.call_later(0, nothing)
        loop.call_soon_threadsafe(nothing)
        await asyncio.sleep(0.001)

    run_threads([lambda: loop.run_until_complete(main())])
    loop.run_until_complete(main())


def test_threadsafe_calls_are_never_told(loop: Loop) -> None:
    loop.set_debug(True)
    with running(loop):
        run_threads([lambda: nothing(loop.call_soon_threadsafe(nothing))] * 4)
        assert loop.is_running()


def test_the_wrong_thread_without_debug_mode_harms_nothing(loop: Loop) -> None:
    """It is wrong, and asyncio's may run it late; but nothing is lost or broken."""
    seen: list[int] = []
    count = 2000

    def call() -> None:
        for i in range(count):
            loop.call_soon(seen.append, i)

    with running(loop), switching_often():
        run_threads([call] * 4)
        loop.call_soon_threadsafe(nothing)
        until(lambda: len(seen) == 4 * count)
    assert Counter(seen) == dict.fromkeys(range(count), 4)


def test_futures_finished_by_the_wrong_thread(loop: Loop) -> None:
    """Wrong, too: but what waits is woken once the loop turns."""
    futures = [loop.create_future() for _ in range(500)]

    async def wait(future: Any) -> int:
        return await future

    async def main() -> list[int]:
        return await asyncio.gather(*[wait(future) for future in futures])

    def finish() -> None:
        for i, future in enumerate(futures):
            future.set_result(i)
            if i % 10 == 0:
                loop.call_soon_threadsafe(nothing)
        loop.call_soon_threadsafe(nothing)

    with running(loop), switching_often():
        result = asyncio.run_coroutine_threadsafe(main(), loop)
        time.sleep(0.001)
        run_threads([finish])
        assert result.result(DEADLINE) == list(range(500))


def test_signal_handlers_need_the_main_thread(loop_factory: LoopFactory) -> None:
    def run() -> None:
        loop = loop_factory()
        try:
            with pytest.raises((RuntimeError, ValueError)):
                loop.add_signal_handler(signal.SIGUSR1, nothing)
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    run_threads([run])


def test_objects_that_die_in_another_thread(loop: Loop) -> None:
    """Handles, futures and tasks, while the loop makes more of them."""
    made: list[Any] = []
    done = threading.Event()

    def drop() -> None:
        while not done.is_set():
            with contextlib.suppress(IndexError):
                while True:
                    made.pop()

    async def work() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(500):
            task = loop.create_task(work())
            made.extend([loop.call_soon(nothing), loop.call_later(0, nothing)])
            made.extend([loop.create_future(), task, iter(loop.create_future())])
            await asyncio.sleep(0)
            await task

    thread = threading.Thread(target=drop)
    thread.start()
    with switching_often():
        loop.run_until_complete(main())
    done.set()
    thread.join()
    run_once(loop)


def test_loops_of_both_kinds_in_threads() -> None:
    """Side by side, native tasks in each."""

    def run(factory: LoopFactory) -> None:
        loop = factory()
        assert type(loop) is loop_class(factory)
        loop.set_task_factory(lambda loop, coro, **kw: fastloop.Task(coro, loop=loop))
        assert loop.run_until_complete(a_bit_of_everything(1)) == sum(range(1, 51))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    run_threads(
        [
            lambda f=f: run(f)  # type: ignore[misc]
            for f in [asyncio.new_event_loop, fastloop.new_event_loop] * 3
        ]
    )
