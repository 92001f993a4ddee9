"""Debug mode: what it checks, what it tells, and how it is switched on."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import re
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import fastloop

from .support import (
    Loop,
    LoopFactory,
    check,
    next_turns,
    run_command,
    run_once,
    run_python,
    run_turns,
)


def nothing(*args: object) -> None:
    pass


async def coroutine_function() -> None:
    pass


@pytest.fixture
def debug_loop(loop: Loop) -> Loop:
    loop.set_debug(True)
    return loop


def here() -> int:
    """The line of the caller."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


# --- switching -----------------------------------------------------------------------


def test_off_by_default(loop: Loop) -> None:
    assert loop.get_debug() is False


@pytest.mark.parametrize("value", [True, False, 1, 0, "yes", [], None])
def test_set_debug(loop: Loop, value: Any) -> None:
    loop.set_debug(value)
    assert bool(loop.get_debug()) is bool(value)
    run_once(loop)


_SHOW = """
    loop = new_event_loop()
    print(loop.get_debug())
    loop.close()
    """


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((), {}, "False"),
        ((), {"PYTHONASYNCIODEBUG": "1"}, "True"),
        ((), {"PYTHONASYNCIODEBUG": ""}, "False"),
        (("-X", "dev"), {}, "True"),
        (("-E",), {"PYTHONASYNCIODEBUG": "1"}, "False"),
        ((), {"PYTHONDEVMODE": "1"}, "True"),
    ],
)
def test_switched_on_from_outside(
    options: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    result = run_python(_SHOW, options=options, **environment)
    assert check(result) == f"{expected}\n"


def test_a_runner_switches_it(loop_factory: LoopFactory) -> None:
    async def look() -> bool:
        return asyncio.get_running_loop().get_debug()

    for debug in (True, False):
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            assert runner.run(look()) is debug
    assert fastloop.run(look(), debug=True) is True
    assert fastloop.run(look()) is False


def test_switched_while_running(loop: Loop) -> None:
    """What was made before and after works with what comes later."""

    async def main() -> None:
        handles = []
        for debug in (True, False, True, False):
            loop.set_debug(debug)
            handles.append(loop.call_soon(nothing))
            handles.append(loop.call_later(0, nothing))
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(5)))
            future = loop.create_future()
            future.add_done_callback(nothing)
            loop.call_soon(future.set_result, None)
            await future
            assert (future._source_traceback is not None) is debug  # type: ignore
        for handle in handles:
            handle.cancel()

    loop.run_until_complete(main())


def test_switched_inside_a_callback_or_a_step(loop: Loop) -> None:
    async def switch(debug: bool) -> None:
        loop.set_debug(debug)

    for debug in (True, False, True, False):
        loop.call_soon(loop.set_debug, debug)
        run_once(loop)
        loop.run_until_complete(switch(not debug))
        future = loop.create_future()
        future.add_done_callback(lambda _, debug=debug: loop.set_debug(debug))
        future.add_done_callback(nothing)
        future.set_result(None)
        run_once(loop)
        assert loop.get_debug() is debug


# --- slow callbacks ------------------------------------------------------------------


def slow(*_: object) -> None:
    time.sleep(0.11)


@pytest.fixture
def slow_log(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> Callable[[], Any]:
    """Everything from 0.1 s on is slow, as usual; call to get what was logged."""
    caplog.set_level(logging.WARNING, logger="asyncio")
    return lambda: [record.getMessage() for record in caplog.records]


def took(what: str) -> str:
    return rf"Executing {what} took \d\.\d\d\d seconds"


def test_a_slow_callback(debug_loop: Loop, slow_log: Callable[[], Any]) -> None:
    debug_loop.call_soon(slow)
    run_once(debug_loop)
    (message,) = slow_log()
    assert re.fullmatch(
        took(r"<Handle slow\(\) at .*test_debug.py:\d+ created at .*:\d+>"), message
    )


def test_a_slow_timer(debug_loop: Loop, slow_log: Callable[[], Any]) -> None:
    debug_loop.call_later(0, slow)
    run_turns(debug_loop, 2)
    (message,) = slow_log()
    assert re.fullmatch(took(r"<TimerHandle when=.* slow\(\) at .*>"), message)


def test_a_slow_callback_that_cancels_itself(
    debug_loop: Loop, slow_log: Callable[[], Any]
) -> None:
    def callback() -> None:
        handle.cancel()
        slow()

    handle = debug_loop.call_soon(callback)
    run_once(debug_loop)
    (message,) = slow_log()
    assert message.startswith("Executing <Handle cancelled ")
    assert "callback() at " in message


def test_a_slow_callback_of_a_future(
    debug_loop: Loop, slow_log: Callable[[], Any]
) -> None:
    future = debug_loop.create_future()
    future.add_done_callback(slow)
    future.add_done_callback(nothing)
    future.set_result(None)
    run_once(debug_loop)
    (message,) = slow_log()
    assert re.fullmatch(took(r"<Handle slow\(<Future finis.*>"), message)


@pytest.mark.parametrize("wait", [True, False])
def test_a_slow_step(debug_loop: Loop, slow_log: Callable[[], Any], wait: bool) -> None:
    async def main() -> None:
        if wait:
            await asyncio.sleep(0.001)
        slow()
        await asyncio.sleep(0.001)

    task = debug_loop.create_task(main(), name="slow one")
    debug_loop.run_until_complete(task)
    (message,) = slow_log()
    assert re.fullmatch(took(r"<Task pending name='slow one' coro=<.*>"), message)


def test_a_slow_callback_that_fails(
    debug_loop: Loop, slow_log: Callable[[], Any]
) -> None:
    debug_loop.set_exception_handler(lambda *_: None)

    def fail() -> None:
        slow()
        raise ValueError

    debug_loop.call_soon(fail)
    run_once(debug_loop)
    (message,) = slow_log()
    assert message.startswith("Executing <Handle ")


def test_what_is_quick_is_not_told(
    debug_loop: Loop, slow_log: Callable[[], Any]
) -> None:
    debug_loop.slow_callback_duration = 10
    debug_loop.call_soon(slow)
    run_once(debug_loop)
    assert slow_log() == []


def test_nothing_is_slow_outside_of_debug_mode(
    debug_loop: Loop, slow_log: Callable[[], Any]
) -> None:
    debug_loop.set_debug(False)
    debug_loop.call_soon(slow)
    run_once(debug_loop)
    assert slow_log() == []


def test_slow_callback_duration(loop: Any) -> None:
    assert loop.slow_callback_duration == 0.1
    for value in (0, 1, 0.5, float("inf")):
        loop.slow_callback_duration = value
        assert loop.slow_callback_duration == value


# --- wrong threads -------------------------------------------------------------------


def in_thread(function: Callable[[], Any]) -> BaseException | None:
    """What the function raises when another thread calls it."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


WRONG = "Non-thread-safe operation invoked on an event loop other than the current one"


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(nothing),
        lambda loop: loop.call_later(0, nothing),
        lambda loop: loop.call_at(0, nothing),
    ],
    ids=["call_soon", "call_later", "call_at"],
)
def test_scheduling_from_another_thread(
    debug_loop: Loop, call: Callable[[Loop], Any]
) -> None:
    async def main() -> None:
        error = in_thread(lambda: call(debug_loop))
        assert isinstance(error, RuntimeError)
        assert str(error) == WRONG

    debug_loop.run_until_complete(main())


def test_a_task_made_by_another_thread(debug_loop: Loop) -> None:
    async def main() -> None:
        coro = coroutine_function()
        debug_loop.set_exception_handler(lambda *_: None)
        error = in_thread(lambda: debug_loop.create_task(coro))
        assert str(error) == WRONG
        coro.close()
        gc.collect()

    debug_loop.run_until_complete(main())


@pytest.mark.parametrize("finish", ["set_result", "cancel"])
@pytest.mark.parametrize("awaited", [True, False])
def test_a_future_finished_by_another_thread(
    debug_loop: Loop, finish: str, awaited: bool
) -> None:
    """Its callbacks, or the task that awaits it, cannot be scheduled."""

    async def wait(future: Any) -> None:
        await future

    async def main() -> None:
        future = debug_loop.create_future()
        task: Any = None
        if awaited:
            task = debug_loop.create_task(wait(future))
            await next_turns()
        else:
            future.add_done_callback(nothing)
        error = in_thread(lambda: getattr(future, finish)(None))
        assert str(error) == WRONG
        if task is not None:
            task.cancel()
            task._log_destroy_pending = False

    debug_loop.run_until_complete(main())


def test_call_soon_threadsafe_is_for_other_threads(debug_loop: Loop) -> None:
    async def main() -> None:
        future = debug_loop.create_future()
        error = in_thread(
            lambda: debug_loop.call_soon_threadsafe(future.set_result, None)
        )
        assert error is None
        await future

    debug_loop.run_until_complete(main())


def test_any_thread_will_do_while_the_loop_does_not_run(debug_loop: Loop) -> None:
    seen: list[int] = []
    assert in_thread(lambda: debug_loop.call_soon(seen.append, 1)) is None
    run_once(debug_loop)
    assert seen == [1]


def test_threads_are_not_checked_outside_of_debug_mode(loop: Loop) -> None:
    async def main() -> None:
        assert in_thread(lambda: loop.call_soon(nothing)) is None
        await next_turns()

    loop.run_until_complete(main())


# --- what is no callback -------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("call_soon", ()),
        ("call_soon_threadsafe", ()),
        ("call_later", (0,)),
        ("call_at", (0,)),
        ("run_in_executor", (None,)),
    ],
)
def test_coroutines_are_no_callbacks(
    debug_loop: Loop, method: str, args: tuple[Any, ...]
) -> None:
    call = getattr(debug_loop, method)
    with pytest.raises(TypeError, match=r"coroutines cannot be used with \w+\(\)"):
        call(*args, coroutine_function)
    coro = coroutine_function()
    with pytest.raises(TypeError, match=r"coroutines cannot be used with \w+\(\)"):
        call(*args, coro)
    coro.close()
    with pytest.raises(TypeError, match=r"a callable object was expected by \w+\(\)"):
        call(*args, 1)
    run_once(debug_loop)


# --- where things were made ----------------------------------------------------------


def source(thing: Any) -> list[tuple[str, int]]:
    return [
        (frame.filename.rpartition("/")[-1], frame.lineno)
        for frame in thing._source_traceback
    ]


def test_source_of_handles(debug_loop: Loop) -> None:
    for make in (
        lambda: (debug_loop.call_soon(nothing), here()),
        lambda: (debug_loop.call_later(1, nothing), here()),
        lambda: (debug_loop.call_at(1, nothing), here()),
        lambda: (debug_loop.call_soon_threadsafe(nothing), here()),
    ):
        handle, line = make()
        assert source(handle)[-1] == ("test_debug.py", line)
        handle.cancel()


def test_source_of_a_task(debug_loop: Loop) -> None:
    async def main() -> None:
        task, line = asyncio.create_task(coroutine_function()), here()
        assert ("test_debug.py", line) in source(task)[-2:]
        task, line = asyncio.ensure_future(coroutine_function()), here()
        assert ("test_debug.py", line) in source(task)
        assert f"created at {task._source_traceback[-1].filename}" in repr(task)
        await next_turns()

    task, line = debug_loop.create_task(main()), here()
    assert source(task)[-1] == ("test_debug.py", line)
    debug_loop.run_until_complete(task)


def test_source_of_a_future(debug_loop: Loop) -> None:
    future, line = debug_loop.create_future(), here()
    assert ("test_debug.py", line) in source(future)[-2:]
    assert "created at " in repr(future)
    direct, line = type(future)(loop=debug_loop), here()
    assert source(direct)[-1] == ("test_debug.py", line)


def test_sources_are_short(fast_loop: fastloop.Loop) -> None:
    def deep(depth: int) -> Any:
        if depth:
            return deep(depth - 1)
        return fast_loop.call_soon(nothing), fast_loop.create_future()

    fast_loop.set_debug(True)
    for thing in deep(50):
        assert 5 <= len(source(thing)) <= 10


def test_no_sources_outside_of_debug_mode(loop: Loop) -> None:
    assert loop.call_soon(nothing)._source_traceback is None  # type: ignore
    assert loop.create_future()._source_traceback is None  # type: ignore
    assert fastloop.Future(loop=loop)._source_traceback is None
    run_once(loop)


def test_native_futures_on_asyncios_loop_have_sources() -> None:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    future, line = fastloop.Future(loop=loop), here()
    assert source(future)[-1] == ("test_debug.py", line)
    task, line = fastloop.Task(coroutine_function(), loop=loop), here()
    assert source(task)[-1] == ("test_debug.py", line)
    loop.run_until_complete(task)
    loop.close()


def test_a_recycled_handle_has_no_source(fast_loop: fastloop.Loop) -> None:
    fast_loop.set_debug(True)
    for _ in range(5):
        fast_loop.call_soon(nothing)
        fast_loop.create_future()
    run_once(fast_loop)
    fast_loop.set_debug(False)
    for _ in range(10):
        assert fast_loop.call_soon(nothing)._source_traceback is None
        assert fast_loop.create_future()._source_traceback is None
    run_once(fast_loop)


# --- coroutines that were never awaited ----------------------------------------------


def test_origins_are_tracked_while_a_debug_loop_runs(debug_loop: Loop) -> None:
    depths: list[int] = []
    get = sys.get_coroutine_origin_tracking_depth

    async def main() -> None:
        depths.append(get())
        debug_loop.set_debug(False)
        await next_turns(2)
        depths.append(get())
        debug_loop.set_debug(True)
        await next_turns(2)
        depths.append(get())

    outer = get()
    debug_loop.run_until_complete(main())
    assert depths == [10, outer, 10]
    assert get() == outer


def test_an_outer_depth_is_restored(debug_loop: Loop) -> None:
    get, set_ = (
        sys.get_coroutine_origin_tracking_depth,
        sys.set_coroutine_origin_tracking_depth,
    )
    outer = get()
    set_(3)
    try:
        run_once(debug_loop)
        assert get() == 3
    finally:
        set_(outer)


def test_never_awaited(debug_loop: Loop) -> None:
    async def main() -> None:
        coroutine_function()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        debug_loop.run_until_complete(main())
    messages = [str(warning.message) for warning in caught]
    (message,) = [m for m in messages if "never awaited" in m]
    assert "coroutine 'coroutine_function' was never awaited" in message
    assert "Coroutine created at (most recent call last)" in message
    assert "in main" in message


# --- loops that are never closed -----------------------------------------------------


@pytest.mark.parametrize("used", [True, False])
def test_an_unclosed_loop(loop_factory: LoopFactory, used: bool) -> None:
    loop = loop_factory()
    if used:
        run_once(loop)
    ref = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop <.*closed=False"):
        del loop
        gc.collect()
    assert ref() is None


def test_a_loop_that_was_closed_does_not_complain(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del loop
        gc.collect()


def test_closing_is_told(debug_loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="asyncio")
    debug_loop.close()
    assert [record.msg for record in caplog.records] == ["Close %r"]
    assert caplog.records[0].args == (debug_loop,)


# --- whole programs ------------------------------------------------------------------


@pytest.mark.parametrize("options", [("-X", "dev"), ("-X", "dev", "-W", "error")])
def test_a_program_in_development_mode(options: tuple[str, ...]) -> None:
    program = """if True:
        import asyncio, fastloop

        async def echo(reader, writer):
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main():
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\\n")
            print((await reader.readline()).decode(), end="")
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            async with asyncio.TaskGroup() as group:
                for i in range(10):
                    group.create_task(asyncio.sleep(i / 1000))
            await asyncio.to_thread(len, "")

        fastloop.run(main())
        """
    assert check(run_command(*options, "-c", program)) == "hello\n"
