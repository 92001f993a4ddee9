"""Types have descriptors of their own for inherited methods: CPython calls them faster.

It does so while instances have no ``__dict__``, too.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import fastloop
from fastloop import _core

from .support import Loop

METHOD = type(list.append)
INHERITING = {
    fastloop.Task: fastloop.Future,
    fastloop.Loop: _core.LoopBase,
    fastloop.BoundedSemaphore: fastloop.Semaphore,
    fastloop.PriorityQueue: fastloop.Queue,
    _core.TimerHandle: _core.Handle,
}


def own(cls: type) -> list[str]:
    return [name for name, value in vars(cls).items() if isinstance(value, METHOD)]


@pytest.mark.parametrize("cls", INHERITING)
def test_methods_are_the_types_own(cls: type) -> None:
    inherited = own(INHERITING[cls])
    assert inherited
    for name in inherited:
        method = getattr(cls, name)
        assert not isinstance(method, METHOD) or method.__objclass__ is cls
        assert method.__name__ == name


def test_what_is_overridden_stays_so() -> None:
    class Base(fastloop.Future[Any]):
        def done(self) -> bool:
            return False

    _core.own_methods(Base)
    assert "done" not in own(Base)
    assert "result" in own(Base)
    assert fastloop.Loop.set_debug.__code__.co_filename.endswith("loop.py")


def test_a_metaclass_may_change_the_base() -> None:
    class Base(fastloop.Future[Any]):
        pass

    class Meta(type(Base)):  # type: ignore[misc]
        def __getattribute__(cls, name: str) -> Any:
            for each in own(Base):
                delattr(Base, each)
            return super().__getattribute__(name)

    class Derived(Base, metaclass=Meta):
        pass

    _core.own_methods(Base)
    assert "done" in own(Base)
    _core.own_methods(Derived)
    assert own(Base) == []
    assert Derived.done.__objclass__ is Derived


def test_a_metaclass_may_change_the_bases() -> None:
    class One(fastloop.Future[Any]):
        pass

    class Two(fastloop.Future[Any]):
        pass

    class Meta(type(One)):  # type: ignore[misc]
        def __getattribute__(cls, name: str) -> Any:
            bases = super().__getattribute__("__bases__")
            cls.__bases__ = (Two,) if bases == (One,) else (One,)
            return super().__getattribute__(name)

    class Derived(One, metaclass=Meta):
        pass

    _core.own_methods(Derived)
    assert "done" in type.__getattribute__(Derived, "__dict__")


def test_a_metaclass_that_fails() -> None:
    class Meta(type(fastloop.Future)):  # type: ignore[misc]
        def __getattribute__(cls, name: str) -> Any:
            if name == "result":
                raise KeyError(name)
            return super().__getattribute__(name)

    class Derived(fastloop.Future[Any], metaclass=Meta):
        pass

    with pytest.raises(KeyError, match="result"):
        _core.own_methods(Derived)
    assert "result" not in own(Derived)
    assert Derived.done.__objclass__ in (Derived, fastloop.Future)


def test_own_methods_of_what_is_no_class() -> None:
    with pytest.raises(TypeError, match="a class was expected"):
        _core.own_methods(1)  # type: ignore[arg-type]


def test_a_method_refuses_others(fast_loop: Loop) -> None:
    future = fast_loop.create_future()
    with pytest.raises(TypeError, match="Task"):
        fastloop.Task.done(future)
    assert fastloop.Future.done(future) is False


def test_a_loop_that_is_used_has_no_dict(fast_loop: Loop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        loop.set_exception_handler(None)
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        await loop.shutdown_default_executor()

    fast_loop.run_until_complete(main())
    assert vars(fast_loop) == {}
    fast_loop.mine = 1  # type: ignore[attr-defined]
    assert vars(fast_loop) == {"mine": 1}
