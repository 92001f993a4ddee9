"""Each test of this folder runs with asyncio's primitives and with fastloop's, on a
loop of either kind: asyncio on asyncio proves that the test itself is right."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import fastloop


@pytest.fixture(
    params=[pytest.param(asyncio, id="theirs"), pytest.param(fastloop, id="ours")]
)
def lib(request: pytest.FixtureRequest) -> ModuleType:
    """Where the primitives come from."""
    return request.param


@pytest.fixture(params=[False, True], ids=["", "debug"])
def run(
    request: pytest.FixtureRequest,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[Callable[[Any], Any]]:
    """Run a coroutine to its end; fail if the loop's handler was told anything."""
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loop_factory, debug=request.param) as runner:
        runner.get_loop().set_exception_handler(lambda _, what: reports.append(what))
        yield runner.run
        gc.collect()
    assert reports == []
