"""What is compared: how each library makes an event loop.

A subject is a name and a function that returns a loop factory, or raises ImportError.
It is called in a process that has imported nothing else yet.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import Callable
from dataclasses import dataclass

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

FLOOR = "floor"
OURS = "fastloop"  # what the names of our subjects begin with
REFERENCE = "uvloop"  # ratios are to this one


@dataclass(frozen=True)
class Subject:
    name: str
    prepare: Callable[[], LoopFactory]
    packages: tuple[str, ...]
    families: frozenset[str] | None = None  # those it differs in from its base; all


def stock() -> LoopFactory:
    return asyncio.new_event_loop


def uvloop() -> LoopFactory:
    import uvloop

    return uvloop.new_event_loop


def zuvloop() -> LoopFactory:
    import zuvloop

    return zuvloop.new_event_loop


def rsloop() -> LoopFactory:
    import rsloop

    return rsloop.new_event_loop


def rloop() -> LoopFactory:
    import rloop

    return rloop.new_event_loop


def aiofastnet_over(base: Callable[[], LoopFactory]) -> Callable[[], LoopFactory]:
    def prepare() -> LoopFactory:
        import aiofastnet

        return aiofastnet.loop_factory(base())

    return prepare


def fastloop() -> LoopFactory:
    import fastloop

    return fastloop.new_event_loop


def fastloop_with_patch() -> LoopFactory:
    import fastloop

    if not hasattr(fastloop, "patch"):
        raise ImportError("fastloop has no patch() yet")
    fastloop.patch()
    return fastloop.new_event_loop


NETWORK = frozenset({"network", "programs"})

SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("asyncio", stock, ()),
        Subject(REFERENCE, uvloop, ("uvloop",)),
        Subject("zuvloop", zuvloop, ("zuvloop",)),
        Subject("rsloop", rsloop, ("rsloop",)),
        Subject("rloop", rloop, ("rloop",)),
        Subject("asyncio+aiofastnet", aiofastnet_over(stock), ("aiofastnet",), NETWORK),
        Subject(
            "uvloop+aiofastnet",
            aiofastnet_over(uvloop),
            ("aiofastnet", "uvloop"),
            NETWORK,
        ),
        Subject("fastloop", fastloop, ("fastloop",)),
        Subject("fastloop+patch", fastloop_with_patch, ("fastloop",)),
    )
}


factory: LoopFactory | None = None  # this process's, once it is prepared


def prepare(name: str) -> LoopFactory:
    """Make this process one of the subject's.

    aiohttp uses aiofastnet by itself where it is installed: so it must not be found,
    unless it is what is measured.
    """
    if "aiofastnet" not in SUBJECTS[name].packages:
        sys.modules["aiofastnet"] = None  # type: ignore[assignment]
    global factory
    factory = SUBJECTS[name].prepare()
    return factory


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # fastloop, from a checkout
        module = importlib.import_module(package)
        return str(getattr(module, "__version__", "unknown"))
