"""python -m fastloop: run a program, a module, code, or an async REPL on fastloop.

`python -m fastloop bench` measures it and others, unless a file of that name is there.

The program is run as python itself would: its arguments, ``__main__``, exit code and
traceback are the same.
"""

from __future__ import annotations

import argparse
import atexit
import importlib
import importlib.machinery
import importlib.util
import io
import os
import runpy
import signal
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import fastloop

_USAGE = """\
python -m fastloop [--no-patch] [-m module | -c code | script] [argument ...]
       python -m fastloop bench [--help]"""


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastloop",
        usage=_USAGE,
        description="Run an asyncio program on fastloop, unchanged.",
        epilog="With neither program, module nor code: an async REPL, as "
        "`python -m asyncio` is.  bench times fastloop and other event loops; a file "
        "of that name in the current folder is run instead.",
        allow_abbrev=False,
    )
    version = f"fastloop {fastloop.__version__}, libuv {fastloop.libuv_version()}"
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument(
        "--no-patch",
        action="store_true",
        help="use the loop alone; asyncio's names keep their meaning",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-m", dest="module", metavar="module", help="run a module")
    what.add_argument("-c", dest="code", metavar="code", help="run code")
    parser.add_argument(
        "rest",
        nargs=argparse.REMAINDER,
        metavar="script, arguments",
        help="the program's file, and what it finds in sys.argv",
    )
    own, rest = _split(argv)
    options = parser.parse_args(own)
    options.rest = rest
    if options.code is None and options.module is None and rest:
        options.script, *options.rest = rest
    else:
        options.script = None
    return options


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part our own options from what is the program's: all after it."""
    for i, word in enumerate(argv):
        if word == "--":
            return list(argv[:i]), list(argv[i + 1 :])
        if word == "-" or not word.startswith("-"):
            return list(argv[:i]), list(argv[i:])
        if word[:2] in ("-c", "-m") and not word.startswith("--"):
            # python takes `-mmodule`, too
            end = i + 1 if len(word) > 2 else i + 2
            return list(argv[:end]), list(argv[end:])
    return list(argv), []


# --- __main__ -------------------------------------------------------------------------


def _new_main(**names: Any) -> dict[str, Any]:
    """Make a fresh module the __main__ and return its namespace."""
    module = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    vars(module).update(__builtins__=__builtins__, **names)
    sys.modules["__main__"] = module
    return vars(module)


def _run_script(path: str, arguments: list[str]) -> None:
    sys.argv[:] = [path, *arguments]
    if path == "-":
        names = _new_main()
        exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec"), names)
        return
    if os.path.isdir(path):
        runpy.run_path(path, run_name="__main__")
        return
    try:
        with io.open_code(os.path.abspath(path)) as file:
            source = file.read()
    except OSError as exc:
        print(
            f"{sys.executable}: can't open file {os.path.abspath(path)!r}: "
            f"[Errno {exc.errno}] {exc.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    if source.startswith((importlib.util.MAGIC_NUMBER, b"PK\3\4")):
        runpy.run_path(path, run_name="__main__")  # compiled, or an archive
        return
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    names = _new_main(__file__=path, __loader__=loader)
    if sys.version_info < (3, 15):
        names["__cached__"] = None
    exec(compile(source, path, "exec"), names)


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-m", *arguments]
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        print(f"{sys.executable}: No module named {name}", file=sys.stderr)
        sys.exit(1)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_code(code: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-c", *arguments]
    if not sys.flags.safe_path:
        sys.path[0] = ""
    exec(compile(code, "<string>", "exec"), _new_main())


def _run_repl() -> None:
    # asyncio's own, whose loop is ours
    sys.argv[:] = ["asyncio"]
    runpy.run_module("asyncio", run_name="__main__", alter_sys=True)


# --- the benchmarks -------------------------------------------------------------------


def _is_bench(argv: Sequence[str]) -> bool:
    """A script named bench is run as any other: only where there is none."""
    return argv[:1] == ["bench"] and not os.path.exists("bench")


def _find_suite() -> str | None:
    """The folder to run the benchmarks from: an installation's, or the checkout."""
    package = os.path.dirname(os.path.abspath(fastloop.__file__))
    for folder in (os.path.join(package, "_suite"), os.path.dirname(package)):
        if os.path.isfile(os.path.join(folder, "benchmarks", "load.c")):
            return folder
    return None


def _bench(arguments: list[str]) -> int:
    suite = _find_suite()
    if suite is None:
        print("this installation of fastloop has no benchmarks", file=sys.stderr)
        return 1
    sys.path.insert(0, suite)
    main: Callable[..., int] = importlib.import_module("benchmarks.__main__").main
    try:
        return main(arguments, prog="python -m fastloop bench")
    except KeyboardInterrupt:
        return 130


# --- as if python itself had run it ---------------------------------------------------

_OWN_FILES = (__file__, runpy.__file__, "<frozen runpy>")


def _without_our_frames(
    traceback: types.TracebackType | None,
) -> types.TracebackType | None:
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename not in _OWN_FILES:
            return traceback
        traceback = traceback.tb_next
    return None


class _Interrupted:
    """Lets the process die of SIGINT, as python does, when all else has ended."""

    def __init__(self) -> None:
        self.happened = False
        atexit.register(self._die)  # before the program's own: it runs after them

    def _die(self) -> None:
        if not self.happened:
            return
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _call(run: Callable[..., None], *arguments: Any) -> None:
    """Run, and tell of an exception without telling of ourselves."""
    interrupted = _Interrupted()
    try:
        run(*arguments)
    except SystemExit:
        raise
    except BaseException as exc:
        exc.__traceback__ = _without_our_frames(exc.__traceback__)
        if not isinstance(exc, KeyboardInterrupt):
            sys.excepthook(type(exc), exc, exc.__traceback__)
            sys.exit(1)
        sys.excepthook(type(exc), exc, exc.__traceback__)
        interrupted.happened = True
        sys.exit(130)


def main() -> None:
    """Do as the command line says."""
    if _is_bench(sys.argv[1:]):
        sys.exit(_bench(sys.argv[2:]))
    options = _parse(sys.argv[1:])
    fastloop.install(primitives=not options.no_patch)
    if options.code is not None:
        _call(_run_code, options.code, options.rest)
    elif options.module is not None:
        _call(_run_module, options.module, options.rest)
    elif options.script is not None:
        _call(_run_script, options.script, options.rest)
    else:
        _call(_run_repl)


if __name__ == "__main__":
    main()
