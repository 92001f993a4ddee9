"""Turn the test classes of a module of `test.test_asyncio` to fastloop."""

import unittest
from collections.abc import Callable
from types import ModuleType
from typing import Any

from .native import Native


class Adaptation:
    """The classes of one module that will run, and why others will not.

    An adapter names the classes it changes.  If one is not there, the module is not
    what the adapter was written for, and that is an error: better than to lose it.
    """

    def __init__(self, module: ModuleType, native: Native) -> None:
        self.module = module
        self.native = native
        self.native_classes: set[type] = set()
        self.dropped: dict[str, str] = {}
        self._originals = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, unittest.TestCase)
            and value.__module__ == module.__name__
        }
        self._variants: dict[str, type] = {}

    def __getitem__(self, name: str) -> type:
        """A class of the module, test case or mixin."""
        found = getattr(self.module, name, None)
        if not isinstance(found, type):
            raise LookupError(f"{self.module.__name__} has no class {name}")
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._originals

    def variant(
        self, name: str, *bases: str, finish: Callable = lambda cls: cls, **attrs: Any
    ) -> None:
        """Add a test case on the named classes, with native types in `attrs`.

        `finish` is one of the module's own class decorators.
        """
        mixins = tuple(self[base] for base in bases)
        if not any(issubclass(mixin, unittest.TestCase) for mixin in mixins):
            from test.test_asyncio import utils

            mixins += (utils.TestCase,)
        attrs["__module__"] = self.module.__name__
        cls = finish(type(name, mixins, attrs))
        setattr(self.module, name, cls)
        self._variants[name] = cls
        self.native_classes.add(cls)

    def patch(self, name: str, **attrs: Any) -> None:
        """Change a base class in place, and so the test cases built on it."""
        for attr, value in attrs.items():
            setattr(self[name], attr, value)

    def drop(self, why: str, *names: str) -> None:
        for name in names:
            if name not in self:
                raise LookupError(f"{self.module.__name__} has no test case {name}")
            self.dropped[name] = why

    def cases(self) -> list[type]:
        kept = {n: c for n, c in self._originals.items() if n not in self.dropped}
        return [*kept.values(), *self._variants.values()]

    def by_loop(self) -> None:
        """Replace the classes that differ only in how they make their loop.

        asyncio has one for each selector.  What they build on says what they test,
        so one native class is made for each list of bases, from the class with the
        plainest selector.
        """
        groups: dict[tuple[type, ...], list[str]] = {}
        for name, cls in self._originals.items():
            if _loop_maker(cls):
                groups.setdefault(cls.__bases__, []).append(name)
        for names in groups.values():
            plain = next((n for n in names if n.startswith(_PLAIN)), names[0])
            maker = _loop_maker(self[plain])
            name = _native_name(plain)
            new_loop = self.native.new_event_loop
            self.variant(name, plain, **{maker: lambda self, make=new_loop: make()})
            self.drop(f"{name} does the same on a native loop", *names)


_PLAIN = ("Select", "BufferedProtocolSelector")


def _loop_maker(cls: type) -> str | None:
    makers = ("create_event_loop", "new_loop")
    return next((maker for maker in makers if maker in vars(cls)), None)


def _native_name(name: str) -> str:
    for selector in ("Selector", "Select", "EPoll", "Epoll", "Poll", "Kqueue"):
        if selector in name:
            return name.replace(selector, "Native", 1)
    return f"Native{name}"
