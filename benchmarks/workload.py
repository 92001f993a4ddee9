"""What a workload is.

Workloads are registered under their names, in the order of the tables, by the
decorators here.  A function of a workload gets the event loop under test; it must not
import a library that not everybody has, but do so when called.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Loop = asyncio.AbstractEventLoop
F = TypeVar("F", bound=Callable[..., Any])

TURN = 0.02  # seconds: the machine changes within tenths of a second
EACH = 50e-6  # seconds for a connection, so that each has some answers in a turn
GROWN = 1e-6  # seconds for each of the others, where something grows
LONGER = 2  # so much longer than a single turn are the many, all together
LEAST = 4  # rounds of what has but one turn because it is large
MOST = 100_000  # tasks or timers: ten processes that have had more take much memory


@dataclass(frozen=True, kw_only=True)
class Workload:
    name: str
    title: str
    family: str
    function: Callable[..., Any]
    unit: str = "/s"  # of the value; bytes are the better the fewer
    needs: tuple[str, ...] = ()  # the modules that it imports
    size: int | None = None  # of what grows
    rounds: int | None = None  # at most so many: it takes long, or hardly varies
    often: int = 1  # so many times the usual turns
    headline: bool = False  # is in the README's picture
    limit: float = 60  # seconds: then something hangs

    @property
    def turn(self) -> float | None:
        """The seconds of a turn, of which a round has many; None if it has but one."""
        return None

    def turns(self, seconds: float) -> int:
        """How often each subject is measured in a round, without a new process."""
        if self.turn is None:
            return 1
        return max(1, round(seconds * LONGER * self.often / self.turn))

    def rounds_of(self, wanted: int) -> int:
        """How many rounds to measure if so many are wanted; one is to be quick."""
        if wanted > 1 and self.turn is None and self.size is not None:
            return max(wanted, LEAST)
        return min(wanted, self.rounds or wanted)

    def missing(self) -> str | None:
        """The first module that is not here."""
        for name in self.needs:
            if importlib.util.find_spec(name) is None:
                return name
        return None


@dataclass(frozen=True, kw_only=True)
class Timed(Workload):
    """`function(loop, n)` does n operations, or returns an awaitable that does.

    `each`: how many of what is counted an operation is.  `floor`: `floor(n)` does the
    same with no event loop.  `peer`: the program on the other core that it talks to.
    `own_clock`: the function returns the seconds that count.  `waits`: what counts is
    the time on the wall, not how long the processor was busy.
    """

    each: int = 1
    floor: Callable[[int], Any] | None = None
    peer: str | None = None
    own_clock: bool = False
    waits: bool = False

    @property
    def turn(self) -> float | None:
        size = self.size or 0
        return max(TURN, size * GROWN) if size <= MOST else None


@dataclass(frozen=True, kw_only=True)
class Served(Workload):
    """`await function(loop)` starts a server and returns its port, or its path.

    The load is `load LOAD HOST PORT CONNECTIONS BYTES SECONDS`; `floor` is the kind of
    server that the C program of that name is; "tls" is a program of its own.
    """

    often: int = 2
    load: tuple[str, ...] = ()
    connections: int = 50
    message: int = 1024  # bytes
    floor: str | None = None

    @property
    def turn(self) -> float | None:
        return max(TURN, self.connections * EACH)


@dataclass(frozen=True, kw_only=True)
class Held(Served):
    """The memory of a server for each of many connections that are open and idle."""

    @property
    def turn(self) -> float | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Weighed(Workload):
    """`function(loop)` returns a number of bytes."""


REGISTERED: dict[str, Workload] = {}


def register(workload: Workload) -> Workload:
    assert workload.name not in REGISTERED, workload.name
    REGISTERED[workload.name] = workload
    return workload


def timed(family: str, title: str, **options: Any) -> Callable[[F], F]:
    """Register the function as a `Timed` workload of its name."""

    def decorate(function: F) -> F:
        name = function.__name__
        register(
            Timed(name=name, title=title, family=family, function=function, **options)
        )
        return function

    return decorate


def served(
    name: str,
    title: str,
    family: str,
    function: Callable[[Loop], Awaitable[int | str]],
    **options: Any,
) -> None:
    """Register a `Served` workload: one server has several, with different loads."""
    register(
        Served(name=name, title=title, family=family, function=function, **options)
    )
