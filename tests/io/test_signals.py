"""Signals: handlers on the loop, Ctrl-C, and a loop that wakes up for both."""

from __future__ import annotations

import asyncio
import contextvars
import os
import select
import signal
import socket
import threading
import time
from typing import Any

import pytest
from io_support import (
    LoopFactory,
    call,
    collect_reports,
    described_report,
    isolated,
    on_both,
    run_once,
    run_until,
    turns,
    until,
)

import fastloop

SOON = 0.05
LATE = 30


def send(sig: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), sig)


def send_soon(loop: Any, sig: int) -> threading.Timer:
    """Send it when the loop runs, and sleeps by then if it has nothing to do."""
    timer = threading.Timer(SOON, send, [sig])
    loop.call_soon(timer.start)
    return timer


# --- handlers -----------------------------------------------------------------------


@isolated
def test_handler_is_called_with_its_arguments(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    calls: list[Any] = []

    def handler(*args: Any) -> None:
        calls.append((args, asyncio.get_running_loop(), asyncio.current_task()))

    assert loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two") is None
    loop.call_soon(send)
    run_until(loop, lambda: calls)
    assert calls == [((1, "two"), loop, None)], calls
    send()
    run_until(loop, lambda: len(calls) == 2)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.close()


@isolated
def test_handler_wakes_a_sleeping_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    late: list[int] = []
    loop.call_later(LATE, late.append, 1)
    loop.call_later(LATE, loop.stop)
    timer = send_soon(loop, signal.SIGUSR1)
    loop.run_forever()
    assert late == []
    timer.join()
    loop.close()


@isolated
def test_handler_of_the_signal_module_runs_at_once(loop_factory: LoopFactory) -> None:
    """The loop does not sleep on while Python has a signal to handle."""
    loop = loop_factory()
    calls: list[str] = []

    def handler(*_: Any) -> None:
        calls.append("handler")
        loop.call_soon_threadsafe(loop.stop)

    signal.signal(signal.SIGUSR1, handler)
    loop.call_later(LATE, calls.append, "late")
    loop.call_later(LATE, loop.stop)
    timer = send_soon(loop, signal.SIGUSR1)
    loop.run_forever()
    assert calls == ["handler"]
    timer.join()
    loop.close()


@isolated
def test_exception_of_a_handler_of_the_signal_module(loop_factory: LoopFactory) -> None:
    """It comes out of the run, which can be taken up again."""
    loop = loop_factory()

    def handler(*_: Any) -> None:
        raise ZeroDivisionError

    signal.signal(signal.SIGUSR1, handler)
    timer = send_soon(loop, signal.SIGUSR1)
    with pytest.raises(ZeroDivisionError):
        loop.run_forever()
    timer.join()
    loop.run_until_complete(turns())
    loop.close()


@isolated
def test_handler_is_replaced(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    calls: list[str] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "old")
    loop.add_signal_handler(signal.SIGUSR1, calls.append, "new")
    send()
    run_until(loop, lambda: calls)
    run_once(loop)
    assert calls == ["new"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    loop.close()


@isolated
def test_handler_added_while_the_loop_does_not_run(loop_factory: LoopFactory) -> None:
    """What arrives before the run is handled in it."""
    loop = loop_factory()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    send()
    assert calls == []
    run_until(loop, lambda: calls)
    loop.run_until_complete(turns())
    send()
    assert calls == [1]
    run_until(loop, lambda: len(calls) == 2)
    loop.close()


@isolated
def test_handler_runs_in_the_context_of_its_registration(
    loop_factory: LoopFactory,
) -> None:
    loop = loop_factory()
    var = contextvars.ContextVar("var", default="outside")
    seen: list[str] = []

    def register() -> None:
        var.set("inside")
        loop.add_signal_handler(signal.SIGUSR1, lambda: seen.append(var.get()))

    contextvars.copy_context().run(register)
    send()
    run_until(loop, lambda: seen)
    assert seen == ["inside"]
    loop.close()


@isolated
def test_several_signals_at_once(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    calls: list[int] = []
    signals = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM]
    for sig in signals:
        loop.add_signal_handler(sig, calls.append, sig)
    for sig in signals:
        send(sig)
    run_until(loop, lambda: set(calls) == set(signals))
    loop.close()


@isolated
def test_flood_of_signals() -> None:
    """Signals may be merged; the last one is handled all the same.

    asyncio complains, on the standard error stream, of each that it has no room for.
    """
    loop = fastloop.new_event_loop()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    for _ in range(20_000):
        send()
    run_until(loop, lambda: calls)
    loop.run_until_complete(turns())
    calls.clear()
    send()
    run_until(loop, lambda: calls)
    loop.close()


@isolated
def test_stopped_by_a_signal_and_run_again(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    for _ in range(5):
        timer = send_soon(loop, signal.SIGTERM)
        loop.run_forever()
        timer.join()
    loop.close()


@isolated
def test_removed_before_it_is_handled(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    def both() -> None:
        send()
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.call_soon(both)
    loop.run_until_complete(turns())
    assert calls == []
    loop.close()


@isolated
def test_removing_restores_the_default(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGINT)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.close()


@isolated
def test_closing_the_loop_removes_all_handlers(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    for sig in signal.SIGUSR1, signal.SIGINT:
        loop.add_signal_handler(sig, print)
    loop.run_until_complete(turns())
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


@isolated
def test_failing_handler_is_reported() -> None:
    async def scenario(loop: Any) -> Any:
        reports = collect_reports(loop)

        def handler() -> None:
            raise ZeroDivisionError("in the handler")

        loop.add_signal_handler(signal.SIGUSR1, handler)
        send()
        await until(lambda: reports)
        send()
        await until(lambda: len(reports) == 2)
        return [described_report(report) for report in reports]

    assert on_both(scenario)[0][1][0] is ZeroDivisionError


@isolated
def test_fatal_exception_in_a_handler(loop_factory: LoopFactory) -> None:
    loop = loop_factory()

    def handler() -> None:
        raise SystemExit(3)

    loop.add_signal_handler(signal.SIGUSR1, handler)
    timer = send_soon(loop, signal.SIGUSR1)
    with pytest.raises(SystemExit):
        loop.run_forever()
    timer.join()
    loop.run_until_complete(turns())
    loop.close()


# --- errors -------------------------------------------------------------------------


async def coroutine_function() -> None:
    pass


@isolated
def test_errors() -> None:
    async def scenario(loop: Any) -> list[Any]:
        answers = []
        for sig in "SIGINT", 1.0, None, b"1", -1, 0, 1000, 2**40:
            answers.append(call(loop.add_signal_handler, sig, print))
            answers.append(call(loop.remove_signal_handler, sig))
        for sig in signal.SIGKILL, signal.SIGSTOP:
            answers.append(call(loop.add_signal_handler, sig, print))
            answers.append(call(loop.remove_signal_handler, sig))
        answers.append(
            call(loop.add_signal_handler, signal.SIGUSR1, coroutine_function)
        )
        coro = coroutine_function()
        answers.append(call(loop.add_signal_handler, signal.SIGUSR1, coro))
        coro.close()
        answers.append(call(loop.add_signal_handler, signal.SIGUSR1)[0])
        answers.append(call(loop.add_signal_handler)[0])
        answers.append(loop.remove_signal_handler(signal.SIGUSR1))
        answers.append(loop.remove_signal_handler(signal.SIGCHLD))
        return answers

    on_both(scenario)


@isolated
def test_closed_loop(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_signal_handler(signal.SIGUSR1, print)
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@isolated
def test_not_in_the_main_thread() -> None:
    answers = []

    def run(factory: LoopFactory) -> None:
        loop = factory()
        answers.append(call(loop.add_signal_handler, signal.SIGUSR1, print))
        answers.append(call(loop.remove_signal_handler, signal.SIGUSR1))
        loop.run_until_complete(turns())
        loop.close()

    for factory in asyncio.new_event_loop, fastloop.new_event_loop:
        thread = threading.Thread(target=run, args=[factory])
        thread.start()
        thread.join()
    assert answers[:2] == answers[2:], answers
    assert answers[0][0] is RuntimeError
    assert signal.set_wakeup_fd(-1) == -1


@isolated
def test_loop_in_another_thread_leaves_signals_alone(loop_factory: LoopFactory) -> None:
    other = loop_factory()
    thread = threading.Thread(target=other.run_forever)
    thread.start()
    loop = loop_factory()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    send()
    run_until(loop, lambda: calls)
    other.call_soon_threadsafe(other.stop)
    thread.join()
    send()
    run_until(loop, lambda: len(calls) == 2)
    other.close()
    loop.close()


# --- Ctrl-C -------------------------------------------------------------------------


@isolated
def test_keyboard_interrupt_while_sleeping(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    for _ in range(3):
        timer = send_soon(loop, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        timer.join()
    assert loop.run_until_complete(asyncio.sleep(0, "works")) == "works"
    loop.close()


@isolated
def test_keyboard_interrupt_while_busy(loop_factory: LoopFactory) -> None:
    loop = loop_factory()

    def spin() -> None:
        loop.call_soon(spin)

    spin()
    timer = send_soon(loop, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    loop.close()


@isolated
def test_keyboard_interrupt_in_a_callback_that_computes(
    loop_factory: LoopFactory,
) -> None:
    loop = loop_factory()

    def compute() -> None:
        while True:
            pass

    timer = send_soon(loop, signal.SIGINT)
    loop.call_soon(compute)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    loop.close()


@isolated
def test_keyboard_interrupt_of_run_until_complete(loop_factory: LoopFactory) -> None:
    """The task is left as it was and goes on in the next run."""
    loop = loop_factory()
    released = asyncio.Event()

    async def main() -> str:
        await released.wait()
        return "done"

    task = loop.create_task(main())
    timer = send_soon(loop, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    timer.join()
    assert not task.done()
    released.set()
    assert loop.run_until_complete(task) == "done"
    loop.close()


@isolated
def test_handler_for_sigint_replaces_ctrl_c(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    loop.add_signal_handler(signal.SIGINT, loop.stop)
    timer = send_soon(loop, signal.SIGINT)
    loop.run_forever()
    timer.join()
    loop.remove_signal_handler(signal.SIGINT)
    timer = send_soon(loop, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    timer.join()
    loop.close()


@isolated
def test_runner_cancels_the_main_task(loop_factory: LoopFactory) -> None:
    seen: list[str] = []

    async def main() -> None:
        timer.start()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned up")
            raise

    timer = threading.Timer(SOON, send, [signal.SIGINT])
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert seen == ["cancelled", "cleaned up"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert runner.run(asyncio.sleep(0, "again")) == "again"
    timer.join()


@isolated
def test_runner_and_a_task_that_does_not_mind(loop_factory: LoopFactory) -> None:
    """The first Ctrl-C cancels, the second interrupts."""
    seen: list[str] = []

    async def main() -> str:
        timer.start()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                if len(seen) > 1:
                    raise
                again.start()

    timer, again = (threading.Timer(SOON, send, [signal.SIGINT]) for _ in range(2))
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        assert seen == ["cancelled"]
    assert seen == ["cancelled", "cancelled"]
    timer.join()
    again.join()


# --- the wakeup descriptor ----------------------------------------------------------


def wakeup_pair() -> tuple[socket.socket, socket.socket]:
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    return reader, writer


@isolated
def test_previous_wakeup_descriptor_is_restored(loop_factory: LoopFactory) -> None:
    """After a run without handlers."""
    reader, writer = wakeup_pair()
    loop = loop_factory()
    loop.run_until_complete(turns())
    assert signal.set_wakeup_fd(-1) == writer.fileno()
    signal.set_wakeup_fd(writer.fileno())
    loop.close()
    assert signal.set_wakeup_fd(-1) == writer.fileno()
    reader.close()
    writer.close()


@isolated
def test_previous_wakeup_descriptor_is_restored_after_handlers() -> None:
    """When the last handler goes, in a run or not, and when the loop is closed."""
    reader, writer = wakeup_pair()
    number = writer.fileno()

    def is_restored() -> bool:
        current = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(current)
        return current == number

    loop = fastloop.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGUSR2, print)
    assert not is_restored()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert not is_restored()
    loop.remove_signal_handler(signal.SIGUSR2)
    assert is_restored()
    loop.add_signal_handler(signal.SIGUSR1, print)

    async def remove() -> None:
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(remove())
    assert is_restored()
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.run_until_complete(turns())
    loop.close()
    assert is_restored()
    signal.set_wakeup_fd(-1)
    reader.close()
    writer.close()


@isolated
def test_previous_wakeup_descriptor_is_fed() -> None:
    """Whoever listened before goes on hearing of signals."""
    reader, writer = wakeup_pair()
    signal.signal(signal.SIGUSR2, lambda *_: None)
    loop = fastloop.new_event_loop()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    async def main() -> None:
        send(signal.SIGUSR1)
        await until(lambda: calls)
        send(signal.SIGUSR2)
        await turns()
        got = reader.recv(100)
        assert got == bytes([signal.SIGUSR1, signal.SIGUSR2]), got

    loop.run_until_complete(main())
    loop.close()
    signal.set_wakeup_fd(-1)
    reader.close()
    writer.close()


@isolated
def test_previous_wakeup_descriptor_that_is_closed_meanwhile() -> None:
    reader, writer = wakeup_pair()
    loop = fastloop.new_event_loop()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)
    reader.close()
    writer.close()
    send()
    run_until(loop, lambda: calls)
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.run_until_complete(turns())
    loop.close()


@isolated
def test_wakeup_descriptor_is_taken_for_the_first_sleep_only() -> None:
    """A run that never sleeps leaves it alone; what is set in a run is fed, too."""
    loop = fastloop.new_event_loop()

    def current() -> int:
        number = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(number, warn_on_full_buffer=False)
        return number

    async def main() -> None:
        await asyncio.sleep(0)
        assert current() == -1
        reader, writer = wakeup_pair()
        await asyncio.sleep(0.001)
        assert current() not in (-1, writer.fileno())
        signal.signal(signal.SIGUSR2, lambda *_: None)
        send(signal.SIGUSR2)
        await until(lambda: select.select([reader], [], [], 0)[0])
        assert reader.recv(100) == bytes([signal.SIGUSR2])
        main.pair = reader, writer  # type: ignore[attr-defined]

    loop.run_until_complete(main())
    reader, writer = main.pair  # type: ignore[attr-defined]
    assert current() == writer.fileno()
    loop.close()
    signal.set_wakeup_fd(-1)
    reader.close()
    writer.close()


@isolated
def test_signal_right_before_the_first_sleep(loop_factory: LoopFactory) -> None:
    """It ends the sleep, wherever on the way there it comes."""
    handled: list[int] = []
    loops: list[Any] = []

    def handler(signum: int, frame: object) -> None:
        handled.append(signum)
        loops[-1].call_soon_threadsafe(loops[-1].stop)

    signal.signal(signal.SIGALRM, handler)
    for count in range(1, 21):
        loops.append(loop_factory())
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        loops[-1].run_forever()
        assert handled == [signal.SIGALRM] * count
        loops[-1].close()


@isolated
def test_signal_for_a_loop_that_waits_while_another_runs(
    loop_factory: LoopFactory,
) -> None:
    waiting, running = loop_factory(), loop_factory()
    calls: list[int] = []
    waiting.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    async def main() -> None:
        send()
        await turns()

    running.run_until_complete(main())
    run_until(waiting, lambda: calls)
    running.close()
    waiting.close()


@isolated
def test_closing_the_outer_of_two_loops() -> None:
    """The inner one goes on hearing of signals."""
    outer, inner = fastloop.new_event_loop(), fastloop.new_event_loop()
    outer.add_signal_handler(signal.SIGUSR1, print)
    calls: list[int] = []
    inner.add_signal_handler(signal.SIGUSR2, calls.append, 1)

    async def main() -> None:
        outer.close()
        send(signal.SIGUSR2)
        await until(lambda: calls)

    inner.run_until_complete(main())
    timer = send_soon(inner, signal.SIGUSR2)
    run_until(inner, lambda: len(calls) == 2)
    timer.join()
    inner.close()


# --- children -----------------------------------------------------------------------


@isolated
def test_signal_of_a_forked_child_is_its_own() -> None:
    """The parent's loop must not hear of it (asyncio before 3.12 does)."""
    loop = fastloop.new_event_loop()
    calls: list[int] = []
    loop.add_signal_handler(signal.SIGUSR1, calls.append, 1)

    async def main() -> None:
        child = os.fork()
        if child == 0:
            send()
            time.sleep(0.05)
            os._exit(0)
        os.waitpid(child, 0)
        await turns()
        assert calls == []
        send()
        await until(lambda: calls)

    loop.run_until_complete(main())
    loop.close()


@isolated
def test_ctrl_c_in_a_forked_child(loop_factory: LoopFactory) -> None:
    """Its own loop is interrupted; the parent's is not."""
    loop = loop_factory()

    def child() -> int:
        own = loop_factory()
        timer = send_soon(own, signal.SIGINT)
        try:
            own.run_forever()
        except KeyboardInterrupt:
            timer.join()
            own.close()
            return 7
        return 1

    async def main() -> int:
        pid = os.fork()
        if pid == 0:
            asyncio._set_running_loop(None)
            os._exit(child())
        _, status = os.waitpid(pid, 0)
        await turns()
        return os.waitstatus_to_exitcode(status)

    assert loop.run_until_complete(main()) == 7
    loop.close()
