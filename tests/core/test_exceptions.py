"""Exceptions that nobody waits for, and who is told of them."""

from __future__ import annotations

import asyncio
import difflib
import gc
import logging
import re
import threading
from typing import Any

import pytest

from .support import Loop, collect_reports, outcomes, run_once


async def fail(error: BaseException) -> None:
    raise error


def raise_(error: BaseException) -> None:
    raise error


# --- the handler ---------------------------------------------------------------------


def test_set_and_get(loop: Loop) -> None:
    def handler(loop: Loop, context: dict[str, Any]) -> None:
        pass

    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("handler", [1, "text", object()])
def test_what_is_no_handler(loop: Loop, handler: Any) -> None:
    before = loop.get_exception_handler()
    with pytest.raises(TypeError, match="A callable object or None is expected"):
        loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is before


def test_the_handler_gets_the_loop_and_the_context(loop: Loop) -> None:
    seen: list[tuple[Any, Any]] = []
    loop.set_exception_handler(lambda *args: seen.append(args))
    context = {"message": "m", "anything": 1}
    loop.call_exception_handler(context)
    ((given_loop, given_context),) = seen
    assert given_loop is loop
    assert given_context is context


def test_a_handler_changed_by_itself(loop: Loop) -> None:
    seen: list[str] = []

    def first(*_: object) -> None:
        seen.append("first")
        loop.set_exception_handler(lambda *_: seen.append("second"))

    loop.set_exception_handler(first)
    for _ in range(2):
        loop.call_soon(raise_, ValueError())
    run_once(loop)
    assert seen == ["first", "second"]


def test_a_handler_that_schedules(loop: Loop) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: loop.call_soon(seen.append, "scheduled"))
    loop.call_soon(raise_, ValueError())
    run_once(loop)
    run_once(loop)
    assert seen == ["scheduled"]


def test_a_handler_that_stops_the_loop(loop: Loop) -> None:
    loop.set_exception_handler(lambda *_: loop.stop())
    loop.call_soon(raise_, ValueError())
    loop.run_forever()


@pytest.mark.parametrize("error", [ValueError, GeneratorExit, asyncio.CancelledError])
def test_a_handler_that_fails(
    loop: Loop, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: raise_(error("of the handler")))
    loop.call_soon(raise_, OSError("of the callback"))
    loop.call_soon(seen.append, "went on")
    run_once(loop)
    assert seen == ["went on"]
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("Unhandled error in exception handler\ncontext: {'message'")
    assert "of the callback" in text
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_handler_that_ends_the_run(loop: Loop, error: type[BaseException]) -> None:
    seen: list[str] = []
    loop.set_exception_handler(lambda *_: raise_(error("of the handler")))
    with pytest.raises(error):
        loop.call_exception_handler({"message": "m"})
    loop.call_soon(raise_, OSError("of the callback"))
    loop.call_soon(seen.append, "went on")
    with pytest.raises(error, match="of the handler"):
        loop.run_forever()
    assert seen == []
    run_once(loop)
    assert seen == ["went on"]


def test_a_handler_that_ends_the_run_for_a_future_callback(loop: Loop) -> None:
    loop.set_exception_handler(lambda *_: raise_(KeyboardInterrupt()))
    seen: list[str] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: raise_(ValueError()))
    future.add_done_callback(lambda _: seen.append("went on"))
    future.set_result(None)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    run_once(loop)
    assert seen == ["went on"]


# --- the default handler -------------------------------------------------------------


def test_a_default_handler_of_ones_own(
    loop: Loop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    loop.set_exception_handler(None)
    monkeypatch.setattr(loop, "default_exception_handler", seen.append)
    loop.call_exception_handler({"message": "m"})
    assert seen == [{"message": "m"}]
    monkeypatch.setattr(
        loop, "default_exception_handler", lambda context: raise_(ValueError())
    )
    loop.call_exception_handler({"message": "m"})
    (record,) = caplog.records
    assert record.getMessage() == "Exception in default exception handler"
    monkeypatch.setattr(
        loop, "default_exception_handler", lambda context: raise_(SystemExit())
    )
    with pytest.raises(SystemExit):
        loop.call_exception_handler({"message": "m"})


def test_both_handlers_fail(
    loop: Loop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.set_exception_handler(lambda *_: raise_(OSError("custom")))
    monkeypatch.setattr(
        loop, "default_exception_handler", lambda context: raise_(ValueError())
    )
    loop.call_exception_handler({"message": "m"})
    (record,) = caplog.records
    assert record.getMessage() == (
        "Exception in default exception handler while handling an unexpected error "
        "in custom exception handler"
    )


def test_level_and_logger(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_exception_handler(None)
    error = ValueError("v")
    loop.call_exception_handler({"message": "m", "exception": error})
    (record,) = caplog.records
    assert record.name == "asyncio"
    assert record.levelno == logging.ERROR
    assert record.exc_info == (ValueError, error, error.__traceback__)


_SCENARIOS = """
    import logging

    class Show(logging.Handler):
        def emit(self, record):
            error = record.exc_info[1] if record.exc_info else None
            print(repr(error), record.levelname, record.getMessage())

    logging.getLogger("asyncio").addHandler(Show())
    logging.getLogger("asyncio").propagate = False

    class Error(Exception):
        pass

    async def fail():
        raise Error("of the task")

    async def wait():
        await loop.create_future()

    def callback(*args):
        raise Error("of the callback")

    def failing_handler(loop, context):
        raise Error("of the handler")

    class Representable:
        def __repr__(self):
            return "<an object>"

    def scenarios():
        yield lambda: loop.call_soon(callback)
        yield lambda: loop.call_soon(callback, 1, "two", [3])
        yield lambda: loop.call_later(0, callback)
        yield lambda: loop.create_future().set_exception(Error("of the future"))
        yield lambda: loop.create_task(fail())
        yield lambda: loop.create_task(wait())
        def done():
            future = loop.create_future()
            future.add_done_callback(callback)
            future.set_result(None)
        yield done
        for context in (
            {},
            {"message": None},
            {"message": "only a message"},
            {"exception": Error("only an exception")},
            {"message": "m", "exception": Error("e"), "z": 1, "a": Representable()},
            {"message": "m", "task": None, "future": None, "handle": None},
            {"message": "m", "source_traceback": [("f.py", 1, "name", "line")]},
            {"message": "m", "handle_traceback": [("f.py", 1, "name", "line")]},
        ):
            yield lambda: loop.call_exception_handler(context)

    def run():
        for number, scenario in enumerate(scenarios()):
            print("scenario", number)
            scenario()
            for _ in range(2):
                loop.call_soon(loop.stop)
                loop.run_forever()
            gc.collect()

    loop = new_event_loop()
    run()
    loop.set_exception_handler(failing_handler)
    run()
    loop.set_exception_handler(None)
    loop.set_debug(True)
    run()
    loop.close()
    """

_FRAME = re.compile(r'  File "(?P<path>[^"]+)", line \d+, in .*\n(    .*\n)*')


def _comparable(text: str) -> list[str]:
    """Without addresses, numbers of tasks and lines, and frames of the libraries."""

    def keep(match: re.Match[str]) -> str:
        path = match["path"]
        return "" if "/asyncio/" in path or "/fastloop/" in path else match[0]

    text = _FRAME.sub(keep, text)
    text = re.sub(r"created at .*?:\d+>", "created at>", text)
    text = re.sub(r"<Future finis\.\.\.[^)]*", "<Future>", text)
    text = re.sub(r"0x[0-9a-f]+|Task-\d+|when=[0-9.]+", "-", text)
    return text.splitlines()


def test_reports_read_as_asyncios() -> None:
    stock, ours = outcomes(_SCENARIOS)
    differences = difflib.ndiff(_comparable(stock), _comparable(ours))
    assert [line for line in differences if not line.startswith(" ")] == []


def test_a_report_from_a_callback_in_debug_mode(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    """It tells where the callback was scheduled."""
    loop.set_exception_handler(None)
    loop.set_debug(True)
    loop.call_soon(loop.call_exception_handler, {"message": "from a callback"})
    run_once(loop)
    assert "from a callback" in caplog.text
    assert "handle_traceback: Handle created at" in caplog.text
    assert "test_exceptions.py" in caplog.text


def test_a_task_that_dies_with_an_exception_on_its_way(loop: Loop) -> None:
    """Reporting a dead task must not disturb what is being raised."""
    collect_reports(loop)
    task = loop.create_task(fail(ValueError("of the task")))
    run_once(loop)
    holder = [task]
    del task
    with pytest.raises(KeyError, match="on its way"):
        try:
            raise KeyError("on its way")
        finally:
            holder.clear()
            gc.collect()


def test_reports_from_another_thread(loop: Loop) -> None:
    reports = collect_reports(loop)
    futures = [loop.create_future()]
    futures[0].set_exception(ValueError("dropped elsewhere"))
    thread = threading.Thread(target=futures.clear)
    thread.start()
    thread.join()
    (report,) = reports
    assert str(report["exception"]) == "dropped elsewhere"
