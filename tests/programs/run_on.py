"""Run a program, unchanged, on the event loop of a chosen library.

    python run_on.py asyncio prog.py [arguments]
    python run_on.py fastloop prog.py [arguments]
    python run_on.py fastloop+patch prog.py [arguments]

The library is asyncio or a module with an EventLoopPolicy and a Loop, and with a
patch() that is called for "+patch".  The program runs as __main__ in this process.  A
program that ends well must have run on loops of the library alone: otherwise the exit
code is 1, and stderr says what was run instead.
"""

import asyncio
import faulthandler
import importlib
import runpy
import signal
import sys
import warnings


class Witness:
    """Sees which loops the policy makes, and each loop of asyncio's that is run."""

    def __init__(self, loop_class: type) -> None:
        self.loop_class = loop_class
        self.loops_made = 0
        self.strangers: set[str] = set()

    def look_at(self, loop: asyncio.AbstractEventLoop) -> None:
        if not isinstance(loop, self.loop_class):
            kind = type(loop)
            self.strangers.add(f"{kind.__module__}.{kind.__qualname__}")

    def policy(self, base: type) -> asyncio.AbstractEventLoopPolicy:
        witness = self

        class WatchedPolicy(base):
            def new_event_loop(self) -> asyncio.AbstractEventLoop:
                loop = super().new_event_loop()
                witness.loops_made += 1
                witness.look_at(loop)
                return loop

        return WatchedPolicy()

    def watch_asyncio(self) -> None:
        """Look also at loops that a program made without asking the policy."""
        run_forever = asyncio.BaseEventLoop.run_forever

        def watched_run_forever(loop: asyncio.BaseEventLoop) -> None:
            self.look_at(loop)
            run_forever(loop)

        asyncio.BaseEventLoop.run_forever = watched_run_forever  # type: ignore

    def verdict(self) -> str | None:
        if self.strangers:
            return f"ran on {', '.join(sorted(self.strangers))}"
        if not self.loops_made:
            return "never asked for a loop"
        return None


def watch(library_name: str) -> Witness:
    """Make the library's loops the ones that asyncio uses, with a witness to it."""
    library = importlib.import_module(library_name)
    witness = Witness(library.Loop)
    witness.watch_asyncio()
    policy = witness.policy(library.EventLoopPolicy)
    with warnings.catch_warnings():  # setting a policy is deprecated since 3.14
        warnings.filterwarnings(
            "ignore", ".*asyncio.set_event_loop_policy", DeprecationWarning
        )
        asyncio.set_event_loop_policy(policy)
    return witness


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: run_on.py LIBRARY[+patch] prog.py [arguments]")
    _, library_name, program, *_ = sys.argv
    del sys.argv[:2]
    library_name, _, extra = library_name.partition("+")
    faulthandler.register(signal.SIGUSR2)  # a way to ask where a program hangs

    witness = None if library_name == "asyncio" else watch(library_name)
    if extra == "patch":
        importlib.import_module(library_name).patch()
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as exc:
        if exc.code not in (None, 0):
            raise
    if witness is not None and (verdict := witness.verdict()):
        sys.exit(f"not on {library_name}: the program {verdict}")


if __name__ == "__main__":
    main()
