"""patch(): the native names under asyncio's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ._core import Future, Task
from .primitives import NATIVE

_NATIVE: dict[str, tuple[str, Any]] = {
    **NATIVE,
    "Future": ("asyncio.futures", Future),
    "Task": ("asyncio.tasks", Task),
}

_lock = threading.Lock()
_stock: dict[str, Any] = {}  # what each patched name meant before
_runs = 0  # how many runs have asked for patched names


def _places(name: str) -> list[Any]:
    module = importlib.import_module(_NATIVE[name][0])
    return [place for place in (asyncio, module) if hasattr(place, name)]


def _replace(name: str, old: Any, new: Any) -> None:
    """What somebody else has put in the place stays."""
    for place in _places(name):
        if getattr(place, name) is old:
            setattr(place, name, new)


def patch(*, only: Iterable[str] | None = None) -> None:
    """Let asyncio's names mean fastloop's primitives, or those in ``only``.

    ``asyncio.gather``, ``asyncio.Queue``, ``asyncio.Task`` and so on become the native
    ones, in asyncio and in the submodule that defines them.  Objects that exist already
    work with those made afterwards, and ``isinstance()`` accepts both kinds under
    either name.  A name that the running asyncio lacks is not added to it.

    Does nothing for what is patched already; raises ValueError for a name that fastloop
    has no primitive for.  ``unpatch()`` undoes it.
    """
    names = list(_NATIVE) if only is None else [only] if isinstance(only, str) else only
    names = list(names)
    unknown = sorted(set(names) - set(_NATIVE))
    if unknown:
        raise ValueError(f"fastloop has no primitive called {', '.join(unknown)}")
    with _lock:
        _patch(names)


def _patch(names: Iterable[str]) -> list[str]:
    """Return those that were not patched yet."""
    new = [name for name in names if name not in _stock and _places(name)]
    for name in new:
        _stock[name] = getattr(_places(name)[-1], name)
        _replace(name, _stock[name], _NATIVE[name][1])
    return new


def _unpatch(names: Iterable[str]) -> None:
    for name in names:
        if name in _stock:
            _replace(name, _NATIVE[name][1], _stock.pop(name))


def unpatch() -> None:
    """Give asyncio's names their own meaning again; does nothing if they have it."""
    with _lock:
        _unpatch(list(_stock))
        _for_runs.clear()


def patched(name: str | None = None) -> bool:
    """Return True if ``patch()`` is in force, for ``name`` or for any name."""
    return bool(_stock) if name is None else name in _stock


_for_runs: list[str] = []  # patched by the first run, restored after the last


@contextlib.contextmanager
def while_running() -> Iterator[None]:
    """patch() for the time of a run; several may overlap, in threads."""
    global _runs
    with _lock:
        _runs += 1
        _for_runs.extend(_patch(list(_NATIVE)))
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if _runs == 0:
                _unpatch(_for_runs)
                _for_runs.clear()
