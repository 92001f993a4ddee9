"""What came out of a run, summed up; and its JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .measure import Measurement
from .runner import Results
from .subjects import OURS, REFERENCE
from .workload import Workload

Record = dict[str, Any]


def median(values: list[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None


def summary(rounds: list[Measurement]) -> Record:
    """A subject's results at one workload: the median of its rounds, and the spread."""
    values = [each.value for each in rounds if each.value is not None]
    if not values:
        reasons = [r.record() for r in rounds if r.missing or r.failed]
        return reasons[0] if reasons else {"missing": "nothing of its own"}
    record: Record = {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }
    if failed := [each.failed for each in rounds if each.failed]:
        record["failed"] = f"{failed[0]} (in {len(failed)} of {len(rounds)} turns)"
    for name in ("p50", "p99", "busy"):
        if (middle := median([getattr(each, name) for each in rounds])) is not None:
            record[name] = middle
    return record


def ratio(ours: list[Measurement], theirs: list[Measurement]) -> float | None:
    """The median of the ratios within each turn, which met the same machine."""
    pairs = [
        a.value / b.value
        for a, b in zip(ours, theirs, strict=False)
        if a.value is not None and b.value
    ]
    return statistics.median(pairs) if pairs else None


def row(workload: Workload, results: dict[str, list[Measurement]]) -> Record:
    subjects = {}
    for subject, rounds in results.items():
        record = subjects[subject] = summary(rounds)
        to_reference = ratio(rounds, results.get(REFERENCE, []))
        if to_reference is not None:
            record["ratio"] = round(to_reference, 4)
        if subject.startswith(OURS):
            record["against"] = {
                other: round(to_other, 4)
                for other, theirs in results.items()
                if not other.startswith(OURS)
                and (to_other := ratio(rounds, theirs)) is not None
            }
    return {
        "name": workload.name,
        "title": workload.title,
        "family": workload.family,
        "unit": workload.unit,
        "size": workload.size,
        "headline": workload.headline,
        "results": subjects,
    }


def rows(workloads: list[Workload], results: Results) -> list[Record]:
    return [row(workload, results[workload.name]) for workload in workloads]


# --- reading a record -----------------------------------------------------------------


@dataclass
class Cell:
    """What a row says of a subject."""

    row: Record
    subject: str

    @property
    def record(self) -> Record:
        return self.row["results"].get(self.subject, {"missing": "not measured"})

    @property
    def value(self) -> float | None:
        return self.record.get("median")

    @property
    def ratio(self) -> float | None:
        """How good it is beside the reference: more is better, of bytes too."""
        value = self.record.get("ratio")
        if value is None:
            return None
        return 1 / value if self.row["unit"] == "bytes" else value

    def lead(self, peers: list[str]) -> tuple[float, str] | None:
        """How far one of ours is ahead of the best of others, and of which."""
        against = self.record.get("against", {})
        if self.row["unit"] == "bytes":
            against = {peer: 1 / value for peer, value in against.items()}
        return min(
            ((against[peer], peer) for peer in peers if peer in against), default=None
        )

    @property
    def spread(self) -> float:
        """How far the rounds lie apart, as a part of their median."""
        if not self.value:
            return 0.0
        return (self.record["high"] - self.record["low"]) / self.value


def best(row: Record, subjects: list[str]) -> str | None:
    """The subject that is first."""
    known = [s for s in subjects if Cell(row, s).value is not None]
    if not known:
        return None
    pick = min if row["unit"] == "bytes" else max
    return pick(known, key=lambda s: Cell(row, s).value or 0.0)


# --- the file: a run for each version of Python ---------------------------------------


def read(path: Path) -> dict[str, Record]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, what: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what, indent=1) + "\n")


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def merge(path: Path, version: str, run: Record) -> dict[str, Record]:
    """Put a run in the place of the one before of its version of Python."""
    runs = {**read(path), version: run}
    runs = dict(sorted(runs.items(), key=lambda item: version_key(item[0])))
    write(path, runs)
    return runs
