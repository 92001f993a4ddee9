"""Run one module in a process of its own, and see it through crashes and hangs.

A test that kills the process, or that does not end, is a failure of that test; the
rest of the module goes on in a new process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

MOST_PROCESSES = 25  # for one module: a loop that is this broken needs no more proof
POLL = 0.05
LAST_WORDS = 5.0  # from SIGABRT, at which a process tells where it was, to SIGKILL
LOG_LINES = 60


@dataclass
class Job:
    module: str
    patterns: list[str]
    hang: list[str]  # patterns of the tests that are not to be run
    debug: bool = True
    patch: bool = False
    list: bool = False
    seconds: float = 600.0
    test_seconds: float = 120.0


@dataclass
class Outcome:
    test: str
    outcome: str  # passed, failed, skipped; died: it did not end by itself
    details: str = ""
    seconds: float = 0.0
    native: bool = False


@dataclass
class Record:
    """All that is known of one module's run."""

    module: str
    tests: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    fixtures: list[dict[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    loops: int = 0
    seconds: float = 0.0

    def finish(self, test: str, outcome: str, details: str, **more: Any) -> None:
        self.outcomes[test] = Outcome(test, outcome, details, **more)


class Process:
    """One process, its journal and its log."""

    def __init__(self, job: Job, directory: Path, done: list[str]) -> None:
        directory.mkdir()
        (directory / "work").mkdir()
        self.journal = directory / "journal"
        self.log = directory / "log"
        self._offset = 0
        self.journal.touch()
        description = directory / "job"
        description.write_text(
            json.dumps(
                {
                    **vars(job),
                    "done": done,
                    "journal": str(self.journal),
                    "directory": str(directory / "work"),
                }
            )
        )
        worker = f"{__package__}.worker"
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *flags(), "-m", worker, str(description)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that it ends with its own children
            )

    def events(self) -> Iterator[dict[str, Any]]:
        """What is new in the journal; a line that is not whole waits."""
        with open(self.journal, "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                yield json.loads(line)

    def end(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(LAST_WORDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])


def flags() -> list[str]:
    return subprocess._args_from_interpreter_flags()


def supervise(job: Job, stop: Event) -> Record:
    record = Record(job.module)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="conformance-") as directory:
        for number in range(MOST_PROCESSES):
            done = list(record.outcomes)
            process = Process(job, Path(directory) / str(number), done)
            watch = Watch(job, record, process, began + job.seconds)
            try:
                again = watch.to_the_end(stop)
            finally:
                process.end()
            if not again:
                break
        else:
            record.problems.append(f"given up after {MOST_PROCESSES} processes")
    record.seconds = time.monotonic() - began
    return record


class Watch:
    """Read one process's journal into the record until the process has ended."""

    def __init__(
        self, job: Job, record: Record, process: Process, deadline: float
    ) -> None:
        self.job = job
        self.record = record
        self.process = process
        self.deadline = deadline
        self.running = ""  # the test that has begun and not ended
        self.last = ""  # the one that has ended last
        self.since = time.monotonic()  # the last event
        self.loops = 0
        self.finished = False  # the last event has come

    def to_the_end(self, stop: Event) -> bool:
        """Return whether another process is to run the rest."""
        while not stop.is_set():
            gone = self.process.popen.poll() is not None
            self._read()
            if gone:
                return self._gone()
            now = time.monotonic()
            if now > self.deadline:
                return self._out_of_time()
            if now - self.since > self.job.test_seconds:
                return self._silent()
            time.sleep(POLL)
        return False

    def _read(self) -> None:
        for event in self.process.events():
            self.since = time.monotonic()
            getattr(self, f"_on_{event.pop('event')}")(**event)

    def _on_plan(self, tests: list[str], chosen: list[str], dropped: Any) -> None:
        self.record.tests, self.record.chosen = tests, chosen
        self.record.dropped = dropped
        self.finished = self.job.list

    def _on_skip(self, reason: str) -> None:
        self.record.skipped = reason
        self.finished = True

    def _on_start(self, test: str) -> None:
        self.running = test

    def _on_stop(self, test: str, loops: int, **more: Any) -> None:
        self.record.finish(test, **more)
        self.running, self.last = "", test
        self._count(loops)

    def _on_fixture(self, **fixture: str) -> None:
        self.record.fixtures.append(fixture)

    def _on_probe(self, problems: list[str]) -> None:
        self.record.problems += problems

    def _on_end(self, loops: int, foreign: list[str]) -> None:
        self._count(loops)
        self.record.problems += foreign
        self.finished = True

    def _count(self, loops: int) -> None:
        self.record.loops += loops - self.loops
        self.loops = loops

    def _gone(self) -> bool:
        status = self.process.popen.returncode
        if self.finished and status == 0:
            return False
        return self._blame(describe(status))

    def _silent(self) -> bool:
        self.process.end()
        return self._blame(f"no sign of life for {self.job.test_seconds:.0f} seconds")

    def _out_of_time(self) -> bool:
        self.process.end()
        self._blame(f"the module took more than {self.job.seconds:.0f} seconds")
        return False

    def _blame(self, why: str) -> bool:
        """Return whether a new process can go on: one test more is behind us."""
        details = f"{why}\n{self.process.last_words()}"
        if self.running:
            self.record.finish(self.running, "died", details)
            return True
        if self.finished:
            self.record.problems.append(f"at the very end, {details}")
            return False
        # A loop is often closed when the test that used it has ended.
        where = f"after {self.last}" if self.last else "before any test"
        self.record.problems.append(f"{where}, {details}")
        return bool(self.last)


def describe(status: int) -> str:
    if status >= 0:
        return f"the process ended with status {status}"
    return f"the process died of {signal.Signals(-status).name}"
