"""The modules of `test.test_asyncio` that run on fastloop."""

from collections.abc import Callable
from dataclasses import dataclass

from .adapt import Adaptation
from .adapters import events, futures, loops, names, tasks


def as_it_is(module: Adaptation) -> None:
    """Nothing to change: all its loops are the default ones."""


@dataclass(frozen=True)
class Module:
    name: str
    adapt: Callable[[Adaptation], None] = as_it_is
    since: tuple[int, int] = (3, 11)
    proof: str = "loops"  # what it must be seen to use: loops, types or nothing


_ALL = [
    Module("test_events", events.events),
    Module("test_futures", futures.futures, proof="types"),
    Module("test_futures2", futures.futures2),
    Module("test_tasks", tasks.tasks),
    Module("test_context"),
    Module("test_runners", loops.runners),
    Module("test_threads"),
    Module("test_server", loops.by_loop),
    Module("test_buffered_proto", loops.by_loop),
    Module("test_eager_task_factory", names.eager_task_factory, since=(3, 12)),
    Module("test_pep492", loops.pep492),
    Module("test_streams"),
    Module("test_taskgroups", loops.taskgroups),
    Module("test_timeouts"),
    Module("test_waitfor"),
    Module("test_locks"),
    Module("test_queues"),
    Module("test_staggered", since=(3, 13)),
    Module("test_graph", names.graph, since=(3, 14)),
    Module("test_free_threading", names.free_threading, since=(3, 14)),
    Module("test_server_context", since=(3, 15)),
    Module("test_sslproto", loops.by_loop),
    Module("test_ssl"),
    Module("test_subprocess"),
    Module("test_unix_events"),
    Module("test_sock_lowlevel", loops.by_loop),
    Module("test_sendfile", loops.by_loop),
    Module("test_transports", proof="nothing"),
    Module("test_protocols", proof="nothing"),
]

MODULES = {module.name: module for module in _ALL}

# those of what patch() replaces
PRIMITIVES = [
    "test_tasks",
    "test_futures",
    "test_eager_task_factory",
    "test_pep492",
    "test_runners",
    "test_streams",
    "test_taskgroups",
    "test_timeouts",
    "test_waitfor",
    "test_locks",
    "test_queues",
    "test_staggered",
    "test_graph",
]
