"""Modules whose classes put one implementation under asyncio's public names."""

import asyncio
from typing import Any
from unittest import mock

from ..adapt import Adaptation

WHOLLY_PYTHON = (
    "puts the pure Python functions of asyncio, which know only pure Python tasks, "
    "under the public names, while the loop's own tasks are native"
)


def eager_task_factory(module: Adaptation) -> None:
    Task = module.native.Task
    # asyncio's C tasks stay: they run on a native loop.
    for kind in ("CEagerTaskFactoryLoopTests", "NonEagerCTaskTests", "EagerCTaskTests"):
        name = kind.replace("C", "Native", 1)
        module.variant(name, kind, Task=Task, **_undisturbed(module[kind]))
    module.drop("the same as the classes of C tasks", "NonEagerTests", "EagerTests")
    module.drop(
        WHOLLY_PYTHON,
        "PyEagerTaskFactoryLoopTests",
        "NonEagerPyTaskTests",
        "EagerPyTaskTests",
    )


def graph(module: Adaptation) -> None:
    module.variant(
        "TestCallStackNative",
        "TestCallStackC",
        **_native_names(module, "TestCallStackC"),
    )
    module.drop(WHOLLY_PYTHON, "TestCallStackPy")


def free_threading(module: Adaptation) -> None:
    Task = module.native.Task

    def factory(self: Any, loop: Any, coro: Any, **kwargs: Any) -> Any:
        return Task(coro, loop=loop, **kwargs)

    def eager(self: Any, loop: Any, coro: Any, **kwargs: Any) -> Any:
        return Task(coro, loop=loop, **{"eager_start": True, **kwargs})

    names = _native_names(module, "TestCFreeThreading")
    module.variant(
        "TestNativeFreeThreading", "TestCFreeThreading", **names, factory=factory
    )
    module.variant(
        "TestEagerNativeFreeThreading", "TestCFreeThreading", **names, factory=eager
    )
    module.drop(WHOLLY_PYTHON, "TestPyFreeThreading", "TestEagerPyFreeThreading")


def _undisturbed(original: type) -> dict[str, Any]:
    """Fixtures that pass by those of `original`, which change asyncio's names."""

    def setUp(self: Any) -> None:
        super(original, self).setUp()

    def tearDown(self: Any) -> None:
        super(original, self).tearDown()

    return {"setUp": setUp, "tearDown": tearDown}


def _native_names(module: Adaptation, original: str) -> dict[str, Any]:
    """Fixtures that put native types under asyncio's names, and leave the functions."""
    native = module.native
    cls = module[original]

    def setUp(self: Any) -> None:
        for owner in (asyncio, asyncio.tasks):
            self.enterContext(mock.patch.object(owner, "Task", native.Task))
        for owner in (asyncio, asyncio.futures):
            self.enterContext(mock.patch.object(owner, "Future", native.Future))
        super(cls, self).setUp()

    return {**_undisturbed(cls), "setUp": setUp}
