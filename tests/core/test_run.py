"""Running a loop, stopping it, and what is around it."""

from __future__ import annotations

import asyncio
import asyncio.base_events
import concurrent.futures
import gc
import os
import socket
import sys
import textwrap
import threading
import weakref
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastloop

from .support import (
    Loop,
    LoopFactory,
    check,
    collect_reports,
    next_turns,
    only_fastloop,
    outcomes,
    run_command,
    run_once,
    run_python,
    run_turns,
)


def nothing(*args: object) -> None:
    pass


async def returns(value: Any) -> Any:
    return value


# --- stop ----------------------------------------------------------------------------


def test_stop_lets_the_turn_finish(loop: Loop) -> None:
    seen: list[str] = []

    def schedule() -> None:
        loop.call_soon(seen.append, "next turn")

    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, "same turn")
    loop.call_soon(schedule)
    loop.run_forever()
    assert seen == ["same turn"]
    run_once(loop)
    assert seen == ["same turn", "next turn"]


def test_stop_before_the_run(loop: Loop) -> None:
    """One full turn: what is ready, what is due, what can be read."""
    seen: set[str] = set()
    reader, writer = socket.socketpair()
    writer.send(b"x")
    loop.add_reader(reader, seen.add, "reader")
    loop.call_soon(seen.add, "soon")
    loop.call_later(0, seen.add, "timer")
    loop.call_soon(lambda: loop.call_soon(seen.add, "next turn"))
    loop.stop()
    loop.run_forever()
    assert seen == {"soon", "timer", "reader"}
    loop.remove_reader(reader)
    reader.close()
    writer.close()
    run_once(loop)
    assert "next turn" in seen


@pytest.mark.parametrize("turns", [1, 3, 20])
def test_each_turn_looks_at_what_can_be_read(loop: Loop, turns: int) -> None:
    seen: list[bytes] = []
    reader, writer = socket.socketpair()
    loop.add_reader(reader, lambda: seen.append(reader.recv(1)))
    for i in range(turns):
        writer.send(bytes([i]))
        run_once(loop)
        assert len(seen) == i + 1
    loop.remove_reader(reader)
    reader.close()
    writer.close()


def test_stop_twice_is_stop_once(loop: Loop) -> None:
    loop.stop()
    loop.call_soon(loop.stop)
    loop.run_forever()
    seen: list[str] = []
    loop.call_soon(lambda: loop.call_soon(lambda: (seen.append("ran"), loop.stop())))
    loop.run_forever()
    assert seen == ["ran"]


def test_stop_with_nothing_to_do(loop: Loop) -> None:
    loop.stop()
    loop.run_forever()
    assert not loop.is_running()


def test_stop_from_a_timer_while_sleeping(loop: Loop) -> None:
    loop.call_later(0.01, loop.stop)
    loop.run_forever()


def test_stop_from_a_task(loop: Loop) -> None:
    async def main() -> str:
        loop.stop()
        await asyncio.sleep(0)
        return "went on in the next run"

    task = loop.create_task(main())
    loop.run_forever()
    assert not task.done()
    assert loop.run_until_complete(task) == "went on in the next run"


# --- run_until_complete --------------------------------------------------------------


class Awaitable:
    """Neither a coroutine nor a future."""

    def __await__(self) -> Iterator[Any]:
        yield from asyncio.sleep(0).__await__()
        return "awaited"


def test_run_until_complete(loop: Loop) -> None:
    assert loop.run_until_complete(returns(1)) == 1
    assert loop.run_until_complete(loop.create_task(returns(2))) == 2
    assert loop.run_until_complete(Awaitable()) == "awaited"
    future = loop.create_future()
    future.set_result("done before")
    assert loop.run_until_complete(future) == "done before"
    later = loop.create_future()
    loop.call_later(0.001, later.set_result, "done later")
    assert loop.run_until_complete(later) == "done later"


@pytest.mark.parametrize("value", [None, 1, "text", [], nothing, returns])
def test_what_cannot_be_completed(loop: Loop, value: Any) -> None:
    with pytest.raises(TypeError):
        loop.run_until_complete(value)


def test_a_failure_comes_out(loop: Loop) -> None:
    async def fail() -> None:
        raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        loop.run_until_complete(fail())


def test_a_cancellation_comes_out(loop: Loop) -> None:
    task = loop.create_task(asyncio.sleep(100))
    loop.call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_the_callback_that_libraries_look_for(loop: Loop) -> None:
    wanted = asyncio.base_events._run_until_complete_cb  # type: ignore[attr-defined]

    async def main() -> None:
        task: Any = asyncio.current_task()
        assert [callback for callback, _ in task._callbacks] == [wanted]
        inner: Any = asyncio.create_task(next_turns())
        assert not inner._callbacks
        await inner

    task: Any = loop.create_task(main())
    loop.run_until_complete(task)
    assert not task._callbacks


def test_stopped_before_it_is_complete(loop: Loop) -> None:
    future: Any = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="Event loop stopped before Future comp"):
        loop.run_until_complete(future)
    assert not future._callbacks
    future.set_result("later")
    assert loop.run_until_complete(future) == "later"


def test_a_coroutine_stopped_before_it_is_complete(loop: Loop) -> None:
    """The task that was made for it is dropped without a report."""
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(asyncio.sleep(100))
    (task,) = asyncio.all_tasks(loop)
    task.cancel()
    del task
    run_turns(loop, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    async def fail() -> None:
        raise error("out")

    with pytest.raises(error, match="out"):
        loop.run_until_complete(fail())
    assert not loop.is_running()
    assert loop.run_until_complete(returns("usable")) == "usable"


def test_an_exception_elsewhere_that_ends_the_run(loop: Loop) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    future: Any = loop.create_future()
    loop.call_soon(fail)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(future)
    assert not future._callbacks


def test_a_future_of_another_loop(loop: Loop, loop_factory: LoopFactory) -> None:
    other = loop_factory()
    with pytest.raises(ValueError, match=r"must agree|different loop"):
        loop.run_until_complete(other.create_future())
    other.close()


def test_the_running_loop(loop: Loop) -> None:
    async def main() -> None:
        assert asyncio.get_running_loop() is loop
        assert asyncio.get_event_loop() is loop
        assert loop.is_running()
        assert "running=True" in repr(loop)

    def fail() -> None:
        assert asyncio.get_running_loop() is loop
        raise SystemExit

    assert not loop.is_running()
    loop.run_until_complete(main())
    loop.call_soon(fail)
    with pytest.raises(SystemExit):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


def test_runs_in_one_thread_after_another(loop: Loop) -> None:
    results: list[Any] = []

    def run() -> None:
        results.append(loop.run_until_complete(asyncio.sleep(0.001, "in a thread")))

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        results.append(loop.run_until_complete(asyncio.sleep(0.001, "here")))
    assert results == ["in a thread", "here"] * 2


def test_two_threads_cannot_run_it_at_once(loop: Loop) -> None:
    async def main() -> str:
        def run() -> None:
            try:
                loop.run_forever()
            except RuntimeError as exc:
                refused.append(str(exc))

        refused: list[str] = []
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return refused[0]

    if sys.version_info[:3] == (3, 13, 0):
        only_fastloop(loop, "asyncio 3.13.0 takes the running loop down")
    assert "already running" in loop.run_until_complete(main())


# --- close ---------------------------------------------------------------------------


def test_close(loop: Loop) -> None:
    assert not loop.is_closed()
    assert "closed=False" in repr(loop)
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert "closed=True" in repr(loop)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_forever()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.run_until_complete(loop.create_future())


def test_close_with_everything_pending(loop: Loop) -> None:
    collect_reports(loop)
    loop.call_soon(pytest.fail)
    loop.call_later(0, pytest.fail)
    loop.call_later(1000, pytest.fail)
    task = loop.create_task(asyncio.sleep(1000))
    run = loop.create_task(next_turns(1000))
    loop.close()
    assert not task.done()
    for coro in (task.get_coro(), run.get_coro()):
        coro.close()  # type: ignore[union-attr]


def test_what_still_works_on_a_closed_loop(loop: Loop) -> None:
    loop.close()
    assert loop.time() > 0
    assert loop.get_debug() is False
    assert loop.is_running() is False
    assert loop.get_task_factory() is None
    future = loop.create_future()
    future.set_result(1)
    assert future.result() == 1
    loop.set_debug(True)
    loop.stop()


# --- asynchronous generators ---------------------------------------------------------


async def count(closed: list[str]) -> AsyncGenerator[int, None]:
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        closed.append("closed")


def test_a_dropped_generator_is_closed_by_the_loop(loop: Loop) -> None:
    closed: list[str] = []

    async def main() -> None:
        async for _ in count(closed):
            break
        gc.collect()
        await next_turns(5)

    loop.run_until_complete(main())
    assert closed == ["closed"]


def test_shutdown_asyncgens(loop: Loop) -> None:
    closed: list[str] = []
    generators = [count(closed) for _ in range(3)]

    async def main() -> None:
        for generator in generators:
            await anext(generator)
        await loop.shutdown_asyncgens()
        assert closed == ["closed"] * 3
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())


def test_a_generator_that_fails_to_close(loop: Loop) -> None:
    reports = collect_reports(loop)

    async def fails() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise ValueError("while closing")

    generator = fails()

    async def main() -> None:
        await anext(generator)
        await loop.shutdown_asyncgens()

    loop.run_until_complete(main())
    (report,) = reports
    assert "an error occurred during closing of asynchronous" in report["message"]
    assert str(report["exception"]) == "while closing"
    assert report["asyncgen"] is generator


def test_a_generator_after_the_shutdown(loop: Loop) -> None:
    async def main() -> None:
        await loop.shutdown_asyncgens()
        generator = count([])
        with pytest.warns(ResourceWarning, match=r"after loop\.shutdown_asyncgens"):
            await anext(generator)
        await generator.aclose()

    loop.run_until_complete(main())


def test_hooks_are_restored(loop: Loop) -> None:
    before = sys.get_asyncgen_hooks()
    inside: list[Any] = []
    loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
    run_once(loop)
    assert inside[0].firstiter is not None
    assert inside[0].finalizer is not None
    assert sys.get_asyncgen_hooks() == before


def test_a_generator_dropped_after_the_loop_closed(loop: Loop) -> None:
    async def generate() -> AsyncGenerator[int, None]:
        yield 1

    async def main() -> None:
        assert await anext(generator) == 1  # noqa: F821

    generator = generate()
    loop.run_until_complete(main())
    loop.close()
    ref = weakref.ref(generator)
    del generator
    gc.collect()
    assert ref() is None


# --- executors -----------------------------------------------------------------------


def fail_in_executor() -> None:
    raise ValueError("in the executor")


def test_run_in_executor(loop: Loop) -> None:
    async def main() -> None:
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("asyncio_")
        assert await loop.run_in_executor(None, max, 1, 2) == 2
        with pytest.raises(ValueError, match="in the executor"):
            await loop.run_in_executor(None, fail_in_executor)
        results = await asyncio.gather(
            *(loop.run_in_executor(None, pow, i, 2) for i in range(50))
        )
        assert results == [i**2 for i in range(50)]
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            loop.run_in_executor(None, nothing)

    loop.run_until_complete(main())


def test_an_executor_of_ones_own(loop: Loop) -> None:
    with concurrent.futures.ThreadPoolExecutor(1, "mine") as executor:

        def name() -> str:
            return threading.current_thread().name

        async def main() -> None:
            assert (await loop.run_in_executor(executor, name)).startswith("mine")
            loop.set_default_executor(executor)
            assert (await loop.run_in_executor(None, name)).startswith("mine")

        loop.run_until_complete(main())


@pytest.mark.parametrize("executor", [None, 1, object()])
def test_what_is_no_default_executor(loop: Loop, executor: Any) -> None:
    with pytest.raises(TypeError, match="executor must be ThreadPoolExecutor"):
        loop.set_default_executor(executor)


def test_a_process_pool() -> None:
    program = """
        import concurrent.futures, multiprocessing

        async def main():
            loop = asyncio.get_running_loop()
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
                futures = [loop.run_in_executor(executor, pow, i, 2) for i in range(9)]
                print(await asyncio.gather(*futures))
                try:
                    await loop.run_in_executor(executor, int, "no number")
                except ValueError as exc:
                    print(exc)

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    stock, ours = outcomes(program, options=("-W", "ignore"))
    assert ours == stock
    assert "no number" in ours


def test_cancelling_what_runs_in_an_executor(loop: Loop) -> None:
    begun, release = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        release.wait(30)
        return "too late"

    async def main() -> None:
        future = loop.run_in_executor(None, work)
        while not begun.is_set():
            await asyncio.sleep(0.001)
        future.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await future
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_an_executor_that_ends_after_the_loop(loop: Loop) -> None:
    release = threading.Event()

    async def main() -> None:
        loop.run_in_executor(None, release.wait, 30)

    loop.run_until_complete(main())
    loop.close()
    release.set()


def test_shutdown_of_the_executor_with_a_timeout(loop: Loop) -> None:
    if sys.version_info < (3, 13):
        only_fastloop(loop, "new in 3.12, where it waits nonetheless")
    release = threading.Event()

    async def main() -> None:
        future = loop.run_in_executor(None, release.wait, 30)
        shutdown: Any = loop.shutdown_default_executor
        with pytest.warns(RuntimeWarning, match="did not finishing joining"):
            await shutdown(timeout=0.01)
        release.set()
        assert await future is True

    loop.run_until_complete(main())


def test_shutdown_of_an_executor_that_was_never_used(loop: Loop) -> None:
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.run_until_complete(loop.shutdown_default_executor())


# --- runners -------------------------------------------------------------------------


def test_runner(loop_factory: LoopFactory) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(returns(1)) == 1
        assert runner.run(returns(2)) == 2
        loop = runner.get_loop()
        assert not loop.is_closed()
        leftover = loop.create_task(asyncio.sleep(1000))
    assert loop.is_closed()
    assert leftover.cancelled()


def test_run() -> None:
    closed: list[str] = []
    leftovers: list[Any] = []

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        leftovers.append(loop.create_task(asyncio.sleep(1000)))
        generator = count(closed)
        leftovers.append(generator)
        await anext(generator)
        await loop.run_in_executor(None, nothing)
        return loop

    loop = fastloop.run(main())
    assert type(loop) is fastloop.Loop
    assert loop.is_closed()
    assert leftovers[0].cancelled()
    assert closed == ["closed"]


def test_run_passes_exceptions() -> None:
    async def fail() -> None:
        raise ValueError("out")

    with pytest.raises(ValueError, match="out"):
        fastloop.run(fail())


def test_run_with_another_factory() -> None:
    async def main() -> Any:
        return type(asyncio.get_running_loop())

    assert fastloop.run(main(), loop_factory=asyncio.SelectorEventLoop) is (
        asyncio.SelectorEventLoop
    )


def test_run_inside_of_run() -> None:
    async def main() -> None:
        coro = returns(1)
        with pytest.raises(RuntimeError, match="cannot be called from a running"):
            fastloop.run(coro)

    fastloop.run(main())


@pytest.mark.parametrize("value", [None, 1, returns])
def test_run_takes_coroutines(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        fastloop.run(value)


_INTERRUPTED = """
    import signal

    async def main():
        threading.Thread(target=interrupt).start()
        try:
            {wait}
        except asyncio.CancelledError:
            print("cancelled")
            raise

    def interrupt():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("interrupted")
    """


@pytest.mark.parametrize(
    "wait",
    [
        "await asyncio.sleep(1000)",
        "await asyncio.get_running_loop().create_future()",
        "while True: await asyncio.sleep(0)",
    ],
)
def test_interrupted_by_the_keyboard(wait: str) -> None:
    stock, ours = outcomes(_INTERRUPTED.format(wait=wait))
    assert ours == stock == "cancelled\ninterrupted\n"


@pytest.mark.parametrize("busy", [True, False])
def test_interrupted_without_a_runner(busy: bool) -> None:
    program = f"""
        def again():
            loop.call_soon(again)

        def interrupt():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)

        loop = new_event_loop()
        if {busy}:
            again()
        loop.call_soon(threading.Thread(target=interrupt).start)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        """
    stock, ours = outcomes(program)
    assert ours == stock == "interrupted\n"


# --- policies ------------------------------------------------------------------------


def test_install() -> None:
    program = """if True:
        import asyncio, fastloop

        async def main():
            return type(asyncio.get_running_loop()).__module__

        fastloop.install()
        print(asyncio.run(main()))
        print(type(asyncio.new_event_loop()).__module__)
        fastloop.uninstall()
        print(asyncio.run(main()))
        fastloop.uninstall()
        """
    options = ("-W", "error", "-W", "ignore::ResourceWarning")
    printed = check(run_command(*options, "-c", program)).split()
    assert printed == ["fastloop.loop", "fastloop.loop", "asyncio.unix_events"]


_POLICY = """
    import asyncio, sys, threading, warnings

    def show(what, function):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = function()
            except BaseException as exc:
                result = f"{type(exc).__name__}: {exc}"
        if isinstance(result, asyncio.AbstractEventLoop):
            loops.append(result)
            result = "a loop"
        told = [f"{w.category.__name__}: {w.message}" for w in caught
                if w.category is not ResourceWarning]
        print(what, "->", result, told)
        return result

    loops = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sys.argv[1] == "fastloop":
            import fastloop
            asyncio.set_event_loop_policy(fastloop.EventLoopPolicy())
        else:
            asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
        policy = asyncio.get_event_loop_policy()

    async def main():
        show("inside", asyncio.get_event_loop)
        return asyncio.get_event_loop() is asyncio.get_running_loop()

    show("first", asyncio.get_event_loop)
    show("again", asyncio.get_event_loop)
    show("of the policy", policy.get_event_loop)
    show("new", asyncio.new_event_loop)
    show("set none", lambda: asyncio.set_event_loop(None))
    show("after none", asyncio.get_event_loop)
    show("of the policy after none", policy.get_event_loop)
    show("set wrong", lambda: asyncio.set_event_loop(1))
    loop = policy.new_event_loop()
    show("set", lambda: asyncio.set_event_loop(loop))
    show("same", lambda: asyncio.get_event_loop() is loop)
    show("run", lambda: loop.run_until_complete(main()))
    show("asyncio.run", lambda: asyncio.run(main()))
    show("after run", asyncio.get_event_loop)
    thread = threading.Thread(
        target=lambda: show("in a thread", asyncio.get_event_loop))
    thread.start()
    thread.join()
    show("future", lambda: asyncio.Future().get_loop())
    if sys.version_info < (3, 14):
        show("watcher", lambda: type(policy.get_child_watcher()).__name__)
    show("is a policy", lambda: isinstance(policy, asyncio.AbstractEventLoopPolicy))
    loop.close()
    for each in loops:
        each.close()
    """


def test_the_policy_behaves_as_the_default_one() -> None:
    program = textwrap.dedent(_POLICY)
    stock, ours = (
        check(run_command("-W", "ignore", "-c", program, name))
        for name in ("asyncio", "fastloop")
    )
    assert ours.splitlines() == stock.splitlines()


def test_the_policy_makes_our_loops() -> None:
    policy = fastloop.EventLoopPolicy()
    loop = policy.new_event_loop()
    assert type(loop) is fastloop.Loop
    loop.close()


# --- the module ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("-X", "dev"), ("-O",), ("-OO",), ("-I",)])
def test_importing_says_nothing(options: tuple[str, ...]) -> None:
    program = f"import sys; sys.path.insert(0, {str(Path.cwd())!r}); import fastloop"
    assert check(run_command(*options, "-W", "error", "-c", program)) == ""


def test_importing_twice() -> None:
    program = """
        import importlib
        for name in list(sys.modules):
            if name.startswith("fastloop"):
                del sys.modules[name]
        try:
            importlib.import_module("fastloop")
        except ImportError as exc:
            print(exc)
        else:
            sys.modules["fastloop"].run(asyncio.sleep(0))
        """
    check(run_python(program))


def test_public_names() -> None:
    for name in fastloop.__all__:
        assert getattr(fastloop, name) is not None
    assert set(fastloop.__all__) <= set(dir(fastloop))
    assert fastloop.libuv_version().count(".") == 2


def test_the_asyncio_repl(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import fastloop; fastloop.install()\n")
    typed = """\
import asyncio
type(asyncio.get_running_loop()).__module__
await asyncio.sleep(0.001, "slept")
x = await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
print(x)
raise ValueError("typed")
"""
    path = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    result = run_command("-m", "asyncio", stdin=typed, PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    text = result.stdout + result.stderr
    assert "'fastloop.loop'" in text
    assert "'slept'" in text
    assert "[1, 2]" in text
    assert "ValueError: typed" in text


def test_a_loop_may_be_referred_to_weakly(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    ref = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert ref() is None


def test_a_loop_is_an_abstract_event_loop(fast_loop: fastloop.Loop) -> None:
    assert isinstance(fast_loop, asyncio.AbstractEventLoop)
