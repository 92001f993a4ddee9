"""The command line: `python -m tests.conformance --help`."""

import argparse
import importlib
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from . import native, reasons, report
from .modules import MODULES, PRIMITIVES
from .supervise import Job, supervise
from .verdict import Verdict, judge


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run the interpreter's own tests of asyncio on fastloop.",
    )
    add = parser.add_argument
    add("modules", nargs="*", metavar="module", help="such as test_tasks (all)")
    add("-k", action="append", default=[], metavar="PATTERN", dest="patterns")
    add("-v", "--verbose", action="store_true", help="a line for each test")
    add("-j", type=int, default=2, metavar="N", dest="parallel", help="modules at once")
    add("--list", action="store_true", help="say what there is; run nothing")
    without = "async test cases outside of debug mode"
    add("--no-debug", action="store_false", dest="debug", help=without)
    patched = "fastloop's primitives under asyncio's names"
    add("--patch", action="store_true", help=patched)
    add("--timeout", type=float, default=600.0, help="seconds for a module")
    add("--test-timeout", type=float, default=120.0, help="seconds for a test")
    return parser.parse_args(argv)


def missing() -> str | None:
    """What this Python lacks, in one line."""
    try:
        found = importlib.util.find_spec("test.test_asyncio.utils")
    except ImportError:
        found = None
    if found is None:
        return (
            f"Python {sys.version.split()[0]} comes without test.test_asyncio "
            "(Debian has it in libpython3-testsuite)"
        )
    try:
        importlib.import_module(native.NAME)
    except ImportError as exc:
        return f"cannot import {native.NAME}: {exc}"
    return None


def select(names: list[str], patched: bool) -> list[str]:
    """The modules to run: those named, or all of interest that this Python has."""
    here = {
        name: module
        for name, module in MODULES.items()
        if sys.version_info >= module.since
    }
    unknown = [name for name in names if name not in here]
    if unknown:
        known = " ".join(here)
        print(f"no {' or '.join(unknown)} here, only {known}", file=sys.stderr)
        sys.exit(2)
    return names or [name for name in here if not patched or name in PRIMITIVES]


def run(options: argparse.Namespace, entries: list[reasons.Entry]) -> list[Verdict]:
    """Run the modules, in the order of the table."""
    names = select(options.modules, options.patch)
    hang = [entry.test for entry in entries if entry.hang]
    stop = Event()

    def one(name: str) -> Verdict:
        job = Job(
            module=name,
            patterns=options.patterns,
            hang=hang,
            debug=options.debug,
            patch=options.patch,
            list=options.list,
            seconds=options.timeout,
            test_seconds=options.test_timeout,
        )
        return judge(
            supervise(job, stop),
            entries,
            partial=bool(options.patterns) or options.list,
        )

    if not options.list:
        print(report.heading())
    verdicts = []
    with ThreadPoolExecutor(options.parallel) as pool:
        try:
            for verdict in pool.map(one, names):
                verdicts.append(verdict)
                show(verdict, options)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return verdicts


def show(verdict: Verdict, options: argparse.Namespace) -> None:
    if options.list:
        print(verdict.record.module, len(verdict.record.tests))
        if options.verbose:
            print(*(f"  {test}" for test in verdict.record.tests), sep="\n")
            for name, why in verdict.record.dropped.items():
                print(f"  without {name}: {why}")
        return
    if options.verbose and verdict.words:
        print(report.each_test(verdict))
    print(report.line(verdict), flush=True)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    lack = missing()
    if lack:
        print(lack, file=sys.stderr)
        return 2
    entries = reasons.load(patched=options.patch)
    try:
        verdicts = run(options, entries)
    except KeyboardInterrupt:
        return 130
    if options.list:
        print(report.reasons(entries))
        return 0
    print(report.total(verdicts))
    for verdict in verdicts:
        if not verdict.ok:
            print(report.trouble(verdict))
    if not any(verdict.words or verdict.record.skipped for verdict in verdicts):
        print("nothing has run")
        return 1
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
