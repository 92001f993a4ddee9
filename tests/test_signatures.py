"""Everything public is documented, and is called as its counterpart in asyncio is.

The counterpart is the running Python's.  What differs is listed here, with the reason.
"""

from __future__ import annotations

import asyncio
import asyncio.futures
import asyncio.selector_events
import asyncio.tasks
import asyncio.unix_events
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fastloop

# asyncio's class for each of ours; where the C type hides a signature (a bug of
# CPython's until 3.15), that of the same class in Python
COUNTERPARTS: dict[type, tuple[type, ...]] = {
    fastloop.DatagramTransport: (asyncio.selector_events._SelectorDatagramTransport,),
    fastloop.Barrier: (asyncio.Barrier,),
    fastloop.BoundedSemaphore: (asyncio.BoundedSemaphore,),
    fastloop.Condition: (asyncio.Condition,),
    fastloop.Event: (asyncio.Event,),
    fastloop.LifoQueue: (asyncio.LifoQueue,),
    fastloop.Lock: (asyncio.Lock,),
    fastloop.PriorityQueue: (asyncio.PriorityQueue,),
    fastloop.Queue: (asyncio.Queue,),
    fastloop.Semaphore: (asyncio.Semaphore,),
    fastloop.EventLoopPolicy: (fastloop.EventLoopPolicy.__base__,),
    fastloop.Future: (asyncio.Future, asyncio.futures._PyFuture),
    fastloop.Handle: (asyncio.Handle,),
    fastloop.Loop: (asyncio.SelectorEventLoop,),
    fastloop.ReadPipeTransport: (asyncio.unix_events._UnixReadPipeTransport,),
    fastloop.Server: (asyncio.Server,),
    fastloop.StreamReader: (asyncio.StreamReader,),
    fastloop.StreamReaderProtocol: (asyncio.StreamReaderProtocol,),
    fastloop.StreamWriter: (asyncio.StreamWriter,),
    fastloop.TCPTransport: (asyncio.selector_events._SelectorSocketTransport,),
    fastloop.TLSTransport: (asyncio.sslproto._SSLProtocolTransport,),
    fastloop.Task: (asyncio.Task, asyncio.tasks._PyTask),
    fastloop.TaskGroup: (asyncio.TaskGroup,),
    fastloop.Timeout: (asyncio.Timeout,),
    fastloop.TimerHandle: (asyncio.TimerHandle,),
    fastloop.WritePipeTransport: (asyncio.unix_events._UnixWritePipeTransport,),
}

# no counterpart at all
OURS_ALONE = {
    "asyncio_task_factory": "makes the tasks that asyncio makes without a factory",
    "install": "a way in",
    "libuv_version": "names a part of fastloop",
    "patch": "a way in",
    "patched": "tells of patch()",
    "uninstall": "undoes install()",
    "unpatch": "undoes patch()",
    # made available on every version
    "Handle.get_context": "asyncio has it from 3.12",
    "LifoQueue.shutdown": "asyncio has it from 3.13",
    "PriorityQueue.shutdown": "asyncio has it from 3.13",
    "Queue.shutdown": "asyncio has it from 3.13",
    "Server.abort_clients": "asyncio has it from 3.13",
    "Server.close_clients": "asyncio has it from 3.13",
    "Task.get_context": "asyncio has it from 3.12",
    "TaskGroup.cancel": "asyncio has it from 3.15",
    "TimerHandle.get_context": "asyncio has it from 3.12",
    "TLSTransport.pause_writing": "the transport is its own _ssl_protocol",
    "TLSTransport.resume_writing": "the transport is its own _ssl_protocol",
}

# a counterpart that takes other arguments
OTHERWISE = {
    "DatagramTransport": "made by create_datagram_endpoint() only",
    "Handle": "made by call_soon() only",
    "Loop": "asyncio's takes a selector",
    "Loop.create_task": "takes the keywords of asyncio's, which 3.14 no longer names",
    "ReadPipeTransport": "made by connect_read_pipe() only",
    "Server": "made by create_server() only; asyncio's takes what TLS needs, too",
    "TCPTransport": "made by create_connection() and create_server() only",
    "TLSTransport": "made by create_connection() and create_server() only",
    "TimerHandle": "made by call_later() and call_at() only",
    "WritePipeTransport": "made by connect_write_pipe() only",
    "run": "loop_factory is ours by default, and there is one on 3.11",
}

# more optional arguments than asyncio's
EXTENDED = {
    "Loop.create_connection": "all_errors, from 3.12, on every version",
    "Loop.create_server": "keep_alive, from 3.13, on every version",
    "Loop.create_unix_server": "cleanup_socket, from 3.13, on every version",
    "StreamWriter.start_tls": "ssl_shutdown_timeout, from 3.12, on every version",
    "Loop.shutdown_default_executor": "timeout, from 3.12, on every version",
}

# arguments without names: a keyword for what everybody passes by position would be
# looked for in each call
POSITIONAL = {
    "DatagramTransport.set_protocol": "one argument",
    "Future.add_done_callback": "as in asyncio's C types, which do not show it",
    "Loop.add_reader": "watches are replaced on hot paths",
    "Loop.add_writer": "watches are replaced on hot paths",
    "Loop.call_at": "shown so for brevity: when= and callback= do work",
    "Loop.call_later": "shown so for brevity: delay= and callback= do work",
    "Loop.call_soon": "shown so for brevity: callback= does work",
    "Loop.call_soon_threadsafe": "shown so for brevity: callback= does work",
    "Loop.remove_reader": "watches are removed on hot paths",
    "Loop.remove_writer": "watches are removed on hot paths",
    "Loop.set_task_factory": "one argument",
    "ReadPipeTransport.set_protocol": "one argument",
    "Task.add_done_callback": "as in asyncio's C types, which do not show it",
    "TCPTransport.set_protocol": "one argument",
    "TCPTransport.write": "one argument, on the hottest of paths",
    "TCPTransport.writelines": "one argument, on a hot path",
    "WritePipeTransport.set_protocol": "one argument",
    "WritePipeTransport.write": "one argument, on a hot path",
    "TLSTransport.set_protocol": "one argument",
    "TLSTransport.write": "one argument, on the hottest of paths",
    "TLSTransport.writelines": "one argument, on a hot path",
}

# inherited from AbstractEventLoop, where it raises NotImplementedError
NOT_YET: set[str] = set()


def public(cls: type) -> Iterator[tuple[str, Any]]:
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        if not name.startswith("_") and callable(getattr(cls, name)):
            yield name, getattr(cls, name)
        elif not name.startswith("_"):
            yield name, member


def is_abstract(name: str) -> bool:
    """Whether a method of Loop is AbstractEventLoop's, which does nothing."""
    inherited = vars(asyncio.AbstractEventLoop).get(name)
    return inherited is not None and getattr(fastloop.Loop, name) is inherited


def callables() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in fastloop.__all__:
        thing = getattr(fastloop, name)
        if isinstance(thing, type) and issubclass(thing, BaseException):
            continue  # nobody calls it
        found[name] = thing
        if isinstance(thing, type):
            found |= {f"{name}.{n}": m for n, m in public(thing) if callable(m)}
    return {
        name: thing
        for name, thing in found.items()
        if not (name.startswith("Loop.") and is_abstract(name.removeprefix("Loop.")))
    }


CALLABLES = callables()


def counterparts(name: str) -> list[Any]:
    """What asyncio has under this name; the first with a signature counts."""
    owner, _, member = name.partition(".")
    cls = getattr(fastloop, owner)
    if not member:
        return list(
            COUNTERPARTS.get(cls) or filter(None, [getattr(asyncio, name, None)])
        )
    found = [getattr(their, member, None) for their in COUNTERPARTS[cls]]
    return [method for method in found if method is not None]


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters after self, without annotations."""
    found = inspect.signature(function).parameters.values()
    return [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found
        if parameter.name != "self"
    ]


def expected(name: str) -> list[inspect.Parameter]:
    for theirs in counterparts(name):
        try:
            return parameters(theirs)
        except ValueError:
            continue
    raise AssertionError(f"asyncio has no signature for {name}")


def without_names(found: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The same parameters, with those that may be named made positional."""
    kinds = {inspect.Parameter.POSITIONAL_OR_KEYWORD: inspect.Parameter.POSITIONAL_ONLY}
    return [
        parameter.replace(kind=kinds.get(parameter.kind, parameter.kind))
        for parameter in found
    ]


def test_all_public_classes_are_compared() -> None:
    classes = {v for v in CALLABLES.values() if isinstance(v, type)}
    assert classes == set(COUNTERPARTS)


@pytest.mark.parametrize("name", CALLABLES)
def test_documented(name: str) -> None:
    assert inspect.getdoc(CALLABLES[name])


@pytest.mark.parametrize("cls", COUNTERPARTS, ids=lambda cls: cls.__name__)
def test_properties_documented(cls: type) -> None:
    undocumented = [
        name
        for name, member in public(cls)
        if inspect.isdatadescriptor(member) and not inspect.getdoc(member)
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", CALLABLES)
def test_called_as_in_asyncio(name: str) -> None:
    ours = parameters(CALLABLES[name])  # there is a signature in any case
    if name in OURS_ALONE or name in OTHERWISE:
        return
    theirs = expected(name)
    if name in EXTENDED:
        shared = {parameter.name for parameter in theirs}
        extra = [parameter for parameter in ours if parameter.name not in shared]
        assert all(p.default is not inspect.Parameter.empty for p in extra)
        ours = [parameter for parameter in ours if parameter.name in shared]
    if name in POSITIONAL:
        theirs = without_names(theirs)
    assert ours == theirs


@pytest.mark.parametrize("name", CALLABLES)
def test_has_a_counterpart(name: str) -> None:
    """What is ours alone is known, and asyncio has not got it meanwhile."""
    if not counterparts(name):
        assert name in OURS_ALONE


@pytest.mark.parametrize("cls", COUNTERPARTS, ids=lambda cls: cls.__name__)
def test_nothing_is_missing(cls: type) -> None:
    theirs = {
        name
        for their in COUNTERPARTS[cls]
        for name, member in public(their)
        if callable(member) or inspect.isdatadescriptor(member)
    }
    assert [name for name in theirs if not hasattr(cls, name)] == []


def test_what_is_not_there_yet() -> None:
    """The list is right: an entry goes when its method comes."""
    abstract = {name for name, _ in public(fastloop.Loop) if is_abstract(name)}
    assert abstract == NOT_YET


@pytest.mark.parametrize("table", [OTHERWISE, EXTENDED, POSITIONAL])
def test_lists_name_what_exists(table: dict[str, str]) -> None:
    assert [name for name in table if name not in CALLABLES] == []
