"""The process of one module: adapt it, run it, write down what happened.

    python -m tests.conformance.worker JOB

JOB is a file of JSON: see `supervise.Job`.  What happens goes line by line into the
job's journal, so that it is known up to the moment at which a process dies.
"""

import asyncio
import faulthandler
import gc
import importlib
import json
import os
import sys
import time
import unittest
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TextIO

PREFIX = "test.test_asyncio."


class Journal:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, event: str, **fields: Any) -> None:
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()


class Result(unittest.TestResult):
    """One line when a test begins and one when it ends."""

    def __init__(
        self, journal: Journal, native: Any, native_classes: set[type]
    ) -> None:
        super().__init__()
        self._journal = journal
        self._native = native
        self._native_classes = native_classes
        self._outcome = ""
        self._details: list[str] = []
        self._loops = 0
        self._began = 0.0

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        if self._outcome == "failed":
            collect()
        self._outcome, self._details = "passed", []
        self._loops = self._native.evidence.loops
        self._native.evidence.test = name_of(test)
        self._began = time.perf_counter()
        self._journal.write("start", test=name_of(test))

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        if asyncio._get_running_loop() is not None:
            asyncio._set_running_loop(None)
            self._failed("failed", "the test left a running loop behind")
        loops = self._native.evidence.loops
        self._journal.write(
            "stop",
            test=name_of(test),
            outcome=self._outcome,
            details="\n".join(self._details),
            seconds=round(time.perf_counter() - self._began, 3),
            native=type(test) in self._native_classes or loops > self._loops,
            loops=loops,
        )

    def _failed(self, outcome: str, details: str) -> None:
        self._outcome = outcome
        self._details.append(details)

    def addFailure(self, test: Any, err: Any) -> None:
        self._failed("failed", self._exc_info_to_string(err, test))

    def addError(self, test: Any, err: Any) -> None:
        details = self._exc_info_to_string(err, test)
        if isinstance(test, unittest.TestCase):
            self._failed("failed", details)
        else:  # setUpClass, setUpModule and their counterparts
            self._journal.write(
                "fixture", name=test.id(), outcome="failed", details=details
            )

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._failed("failed", self._exc_info_to_string(err, subtest))

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._outcome, self._details = "skipped", [reason]
        else:
            self._journal.write(
                "fixture", name=test.id(), outcome="skipped", details=reason
            )

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._failed("failed", "unexpected success")


def collect() -> None:
    """Clear away what a failed test has left, or the next one hears of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def name_of(test: Any) -> str:
    return test.id().removeprefix(PREFIX)


def chosen(name: str, patterns: list[str]) -> bool:
    """Like unittest's -k: a pattern with a star fits all of a name, others a part."""
    return not patterns or any(
        fnmatchcase(name, pattern) if "*" in pattern else pattern in name
        for pattern in patterns
    )


def plan(adaptation: Any, job: dict[str, Any], journal: Journal) -> unittest.TestSuite:
    """The tests to run.  Those that would hang, or have run before, are left out."""
    loader = unittest.TestLoader()
    suites = [loader.loadTestsFromTestCase(case) for case in adaptation.cases()]
    names = [name_of(test) for suite in suites for test in suite]
    leave_out = set(job["done"])
    journal.write(
        "plan",
        tests=names,
        chosen=[name for name in names if chosen(name, job["patterns"])],
        dropped=adaptation.dropped,
    )
    return unittest.TestSuite(
        unittest.TestSuite(
            test
            for test in suite
            if chosen(name_of(test), job["patterns"])
            and name_of(test) not in leave_out
            and not any(fnmatchcase(name_of(test), hang) for hang in job["hang"])
        )
        for suite in suites
    )


def run(job: dict[str, Any], journal: Journal) -> None:
    from .adapt import Adaptation
    from .modules import MODULES
    from .native import Native, install, probe, without_debug

    native = Native()
    install(native)
    if not job["debug"]:
        without_debug()
    if job["patch"]:
        native.module.patch()
    module = MODULES[job["module"]]
    try:
        adaptation = Adaptation(importlib.import_module(PREFIX + module.name), native)
    except unittest.SkipTest as exc:
        journal.write("skip", reason=str(exc))
        return
    module.adapt(adaptation)
    suite = plan(adaptation, job, journal)
    if job["list"]:
        return
    os.chdir(job["directory"])
    journal.write("probe", problems=probe(native))
    native.evidence.loops = 0
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        suite.run(Result(journal, native, adaptation.native_classes))
    loops = native.evidence.loops
    journal.write("probe", problems=probe(native))
    journal.write("end", loops=loops, foreign=native.evidence.complaints())


def main() -> None:
    faulthandler.enable()
    job = json.loads(Path(sys.argv[1]).read_text())
    with open(job["journal"], "a") as file:
        run(job, Journal(file))


if __name__ == "__main__":
    main()
