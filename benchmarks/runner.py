"""Measures every workload on every subject, interleaved.

All rounds of a workload come one after the other, and in a round all subjects, each
round beginning with another one: what changes on the machine meets all alike.  As it
changes within a second, a round has many turns, which are short.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from . import subjects
from .measure import Measurement, can, ready
from .peers import PEERS
from .place import ROOT, environment
from .workload import Timed, Workload

Results = dict[str, dict[str, list[Measurement]]]  # by workload and subject


@dataclass
class Plan:
    workloads: Sequence[Workload]
    subjects: Sequence[str]
    rounds: int = 5
    seconds: float = 0.4

    def able(self, workload: Workload) -> list[str]:
        return [subject for subject in self.subjects if can(subject, workload)]

    def count(self) -> int:
        return sum(
            w.rounds_of(self.rounds) * w.turns(self.seconds) * len(self.able(w))
            for w in self.workloads
        )


def rotated(subjects: list[str], by: int) -> list[str]:
    by %= len(subjects)
    return subjects[by:] + subjects[:by]


@dataclass
class Progress:
    """A subject's round is over; `number` is that of the measurements so far."""

    number: int
    workload: Workload
    subject: str
    turns: list[Measurement]


@dataclass
class Here:
    """Which subjects can be measured here."""

    subjects: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def find_subjects(names: Sequence[str]) -> Here:
    """Try each in a process of its own, as importing some of them changes asyncio."""
    here = Here()
    for name in names:
        subject = subjects.SUBJECTS[name]
        code = f"from benchmarks.subjects import prepare; prepare({name!r})().close()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            here.left_out[name] = lines[-1].partition(": ")[2] if lines else "?"
            continue
        here.subjects.append(name)
        for package in subject.packages:
            here.versions[package] = subjects.version(package)
    return here


def run_round(
    plan: Plan, workload: Workload, subjects: list[str], number: int, peer: str | None
) -> Iterator[tuple[str, Measurement]]:
    """Each of the subjects, as often as it has turns."""
    seconds = workload.turn or plan.seconds
    with contextlib.ExitStack() as stack:
        measures = {
            subject: stack.enter_context(ready(subject, workload, seconds, peer))
            for subject in subjects
        }
        for turn in range(workload.turns(plan.seconds)):
            for subject in rotated(subjects, number + turn):
                yield subject, measures[subject]()


def run(plan: Plan, report: Callable[[Progress], None]) -> Results:
    results: Results = {}
    number = 0
    with contextlib.ExitStack() as stack:
        peers: dict[str, str | None] = {}
        for workload in plan.workloads:
            mine = results[workload.name] = {name: [] for name in plan.subjects}
            peer = None
            if isinstance(workload, Timed) and workload.peer is not None:
                if workload.peer not in peers:
                    peers[workload.peer] = stack.enter_context(PEERS[workload.peer]())
                peer = peers[workload.peer]
            subjects = plan.able(workload)
            turns = workload.turns(plan.seconds)
            for each in range(workload.rounds_of(plan.rounds)):
                if not subjects:
                    break
                for subject, result in run_round(plan, workload, subjects, each, peer):
                    mine[subject].append(result)
                    number += 1
                    if len(mine[subject]) == turns * (each + 1):
                        last = mine[subject][-turns:]
                        report(Progress(number, workload, subject, last))
                # what could not cannot now
                subjects = [s for s in subjects if mine[s][-1].value is not None]
    return results
