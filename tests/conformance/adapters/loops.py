"""Modules whose classes say which loop they run on."""

import asyncio
from typing import Any
from unittest import mock

from ..adapt import Adaptation


def by_loop(module: Adaptation) -> None:
    module.by_loop()


def pep492(module: Adaptation) -> None:
    """Its loop is a `BaseEventLoop` with a mock for a selector."""
    base = module["BaseTest"]
    make = module.native.new_event_loop

    def setUp(self: Any) -> None:
        super(base, self).setUp()
        self.loop = make()
        self.set_event_loop(self.loop)

    module.patch("BaseTest", setUp=setUp)


def runners(module: Adaptation) -> None:
    """Its loop is a `BaseEventLoop` that notes the end of asynchronous generators."""
    make = module.native.new_event_loop

    def new_loop(self: Any) -> Any:
        loop = make()
        loop.shutdown_ag_run = False

        async def note_shutdown() -> None:
            loop.shutdown_ag_run = True

        loop.shutdown_asyncgens = mock.Mock(side_effect=note_shutdown)
        return loop

    module.patch("BaseTest", new_loop=new_loop)


def taskgroups(module: Adaptation) -> None:
    if "TestEagerTaskTaskGroup" not in module:  # 3.14
        return
    native = module.native

    def loop_factory() -> Any:
        loop = native.new_event_loop()
        loop.set_task_factory(asyncio.create_eager_task_factory(native.Task))
        return loop

    module.variant(
        "TestNativeEagerTaskTaskGroup",
        "TestEagerTaskTaskGroup",
        loop_factory=staticmethod(loop_factory),
    )
