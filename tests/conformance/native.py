"""The implementation under test, made the default, and the proof that it was used."""

import asyncio
import importlib
import os
import sys
import unittest
from types import ModuleType
from typing import Any

# Another module with the same names can stand in for fastloop.  That is how the
# harness itself is checked: on asyncio's own loop every test has to pass.
NAME = os.environ.get("FASTLOOP_CONFORMANCE_IMPL", "fastloop")


class Evidence:
    """What was seen of native loops and tasks, and of others where none should be."""

    def __init__(self) -> None:
        self.loops = 0
        self.test = "a plain asyncio.run"  # what runs
        self._foreign: dict[str, list[str]] = {}

    def foreign(self, what: str, kind: type, where: str) -> None:
        self._foreign.setdefault(f"{what} of {kind}", []).append(where)

    def complaints(self) -> list[str]:
        return [
            f"{what}, {len(where)} times, first in {where[0]}"
            for what, where in self._foreign.items()
        ]


class Native:
    """fastloop's names, and loops that are counted."""

    def __init__(self) -> None:
        self.module: ModuleType = importlib.import_module(NAME)
        self.Loop: type = self.module.Loop
        self.Task: type = self.module.Task
        self.Future: type = self.module.Future
        self.evidence = Evidence()

    def new_event_loop(self) -> Any:
        return self._counted(self.module.new_event_loop())

    def _counted(self, loop: Any) -> Any:
        if isinstance(loop, self.Loop):
            self.evidence.loops += 1
        else:
            self.evidence.foreign("a loop", type(loop), self.evidence.test)
        return loop

    def policy(self) -> type:
        native = self

        class CountingPolicy(self.module.EventLoopPolicy):
            def new_event_loop(self) -> Any:
                return native._counted(super().new_event_loop())

        return CountingPolicy

    def loop_class(self) -> type:
        """What `asyncio.SelectorEventLoop` becomes: makes and recognises ours."""
        native = self

        class Meta(type):
            def __call__(cls, selector: Any = None) -> Any:
                if selector is not None:
                    selector.close()
                return native.new_event_loop()

            def __instancecheck__(cls, instance: Any) -> bool:
                return isinstance(instance, native.Loop)

            def __subclasscheck__(cls, subclass: type) -> bool:
                return issubclass(subclass, native.Loop)

        return Meta("EventLoop", (), {})


def install(native: Native) -> None:
    """Make native loops what asyncio hands out when nobody asks for a particular one.

    The default policy is replaced, not the current one, so that it is also what
    comes back when a test sets the policy to None.
    """
    from test.test_asyncio import utils

    _watch_foreign_loops(native)
    _watch_async_cases(native)
    loop_class = native.loop_class()
    asyncio.SelectorEventLoop = loop_class
    if hasattr(asyncio, "EventLoop"):  # 3.13
        asyncio.EventLoop = loop_class
    policy = native.policy()
    if sys.version_info >= (3, 14):
        asyncio.unix_events._DefaultEventLoopPolicy = policy
        utils.DefaultEventLoopPolicy = policy
        asyncio.events._set_event_loop_policy(None)
    else:
        asyncio.DefaultEventLoopPolicy = policy
        asyncio.set_event_loop_policy(None)
    _adapt_cleanup(native, utils.TestCase)


def _watch_foreign_loops(native: Native) -> None:
    base = asyncio.selector_events.BaseSelectorEventLoop
    init = base.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, native.Loop):
            native.evidence.foreign("a loop", type(self), native.evidence.test)
        init(self, *args, **kwargs)

    base.__init__ = __init__


def _watch_async_cases(native: Native) -> None:
    """Every asynchronous test case begins with `asyncSetUp`, in a task of its loop."""

    current_task = asyncio.current_task  # some tests put others in its place

    async def asyncSetUp(self: Any) -> None:
        task = current_task()
        factory = asyncio.get_running_loop().get_task_factory()
        if type(task) is not native.Task and factory is None:
            native.evidence.foreign("a task", type(task), self.id())

    unittest.IsolatedAsyncioTestCase.asyncSetUp = asyncSetUp


def _adapt_cleanup(native: Native, case: Any) -> None:
    """The tests' cleanup looks for a loop's executor in a private attribute."""
    close_loop = case.close_loop

    def close(loop: Any) -> None:
        if not isinstance(loop, native.Loop) or hasattr(loop, "_default_executor"):
            close_loop(loop)
            return
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    case.close_loop = staticmethod(close)


def without_debug() -> None:
    """Let asynchronous test cases, which use debug mode, run without it."""
    case: Any = unittest.IsolatedAsyncioTestCase
    setup = case._setupAsyncioRunner

    def _setupAsyncioRunner(self: Any) -> None:
        setup(self)
        self._asyncioRunner._debug = False

    case._setupAsyncioRunner = _setupAsyncioRunner


def probe(native: Native) -> list[str]:
    """What of a plain `asyncio.run` is not native."""

    async def look() -> tuple[Any, Any, Any]:
        loop = asyncio.get_running_loop()
        return loop, asyncio.current_task(), loop.create_future()

    loop, task, future = asyncio.run(look())
    found = {"loop": isinstance(loop, native.Loop)}
    found["task"] = type(task) is native.Task
    found["future"] = type(future) is native.Future
    return [
        f"asyncio.run uses a foreign {what}" for what, ok in found.items() if not ok
    ]
