"""test_tasks: one class for each pair of implementations of Task and Future."""

import asyncio
from asyncio import futures as asyncio_futures
from asyncio import tasks as asyncio_tasks
from typing import Any

from ..adapt import Adaptation

MIXED = "covered by the mixes of native tasks and futures with asyncio's"


def tasks(module: Adaptation) -> None:
    _pairs(module)
    _registry(module)
    _gather(module)


def _pairs(module: Adaptation) -> None:
    native = module.native
    c_task, c_future = asyncio_tasks._CTask, asyncio_futures._CFuture
    py_future = asyncio_futures._PyFuture
    ours = {"Task": native.Task, **_public("all_tasks", "current_task")}
    both = {**ours, "Future": native.Future}

    module.variant("NativeTask_NativeFuture_Tests", "CTask_CFuture_Tests", **both)
    mix = "CTask_PyFuture_Tests"
    module.variant("NativeTask_CFuture_Tests", mix, **ours, Future=c_future)
    module.variant("NativeTask_PyFuture_Tests", mix, **ours, Future=py_future)
    module.variant("CTask_NativeFuture_Tests", mix, Future=native.Future)
    mix = "PyTask_CFuture_Tests"
    module.variant("PyTask_NativeFuture_Tests", mix, Future=native.Future)

    subclass = module.module.add_subclass_tests
    module.variant(
        "NativeTask_NativeFuture_SubclassTests",
        "BaseTaskTests",
        finish=subclass,
        **both,
    )
    module.variant(
        "NativeTask_CFuture_SubclassTests",
        "BaseTaskTests",
        finish=subclass,
        **ours,
        Future=c_future,
    )
    module.variant(
        "CTask_NativeFuture_SubclassTests",
        "BaseTaskTests",
        finish=subclass,
        **_public("all_tasks", "current_task"),
        Task=c_task,
        Future=native.Future,
    )
    # CTask_CFuture_Tests stays: many of its tests run on a native loop.
    module.drop(
        MIXED,
        "CTask_CFuture_SubclassTests",
        "CTaskSubclass_PyFuture_Tests",
        "PyTask_CFutureSubclass_Tests",
        "CTask_PyFuture_Tests",
        "PyTask_CFuture_Tests",
        "PyTask_PyFuture_Tests",
        "PyTask_PyFuture_SubclassTests",
    )


def _registry(module: Adaptation) -> None:
    """Who is running and who exists.  asyncio's functions must go on working too."""
    native = module.native
    names = ("register_task", "unregister_task", "enter_task", "leave_task")
    public = _public("all_tasks", "current_task")
    private = {f"_{name}": staticmethod(_named(f"_{name}")) for name in names}
    module.variant(
        "NativeIntrospectionTests",
        "CIntrospectionTests",
        **public,
        **private,
        Task=native.Task,
    )
    module.variant(
        "NativeCurrentLoopTests",
        "CCurrentLoopTests",
        **public,
        new_task=lambda self, coro: native.Task(coro, loop=self.loop),
    )


def _gather(module: Adaptation) -> None:
    """`gather` on a loop of asyncio's, over native tasks and futures."""
    native = module.native

    def new_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
        return native.Task(coro, loop=loop, **kwargs)

    for kind in ("Future", "Coroutine"):
        base = module[f"{kind}GatherTests"]

        def new_test_loop(self: Any, gen: Any = None, base: type = base) -> Any:
            loop = super(base, self).new_test_loop(gen)
            loop.create_future = lambda: native.Future(loop=loop)
            loop.set_task_factory(new_task)
            return loop

        module.variant(
            f"Native{kind}GatherTests",
            f"{kind}GatherTests",
            new_test_loop=new_test_loop,
        )


def _named(name: str) -> Any:
    return getattr(asyncio_tasks, name)


def _public(*names: str) -> dict[str, Any]:
    """Functions under asyncio's public names, as fastloop has left them."""
    return {name: staticmethod(getattr(asyncio, name)) for name in names}
