"""Measures every workload on every subject, interleaved.

All rounds of a workload come one after the other, and in a round all subjects, each
round beginning with another one: what changes on the machine meets all alike.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from . import subjects
from .measure import Measurement, can, measure
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

    def rounds_of(self, workload: Workload) -> int:
        return min(self.rounds, workload.rounds or self.rounds)

    def order(self, workload: Workload) -> Iterator[tuple[int, str]]:
        """The rounds, and the subjects in each."""
        able = [subject for subject in self.subjects if can(subject, workload)]
        for number in range(self.rounds_of(workload)):
            start = number % len(able) if able else 0
            for subject in able[start:] + able[:start]:
                yield number, subject

    def count(self) -> int:
        return sum(sum(1 for _ in self.order(w)) for w in self.workloads)


@dataclass
class Progress:
    """What has just been measured."""

    number: int
    workload: Workload
    subject: str
    result: Measurement


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
            for _, subject in plan.order(workload):
                if any(result.value is None for result in mine[subject]):
                    result = mine[subject][0]  # it could not, and cannot now
                else:
                    result = measure(subject, workload, plan.seconds, peer)
                    mine[subject].append(result)
                number += 1
                report(Progress(number, workload, subject, result))
    return results
