"""What a person reads: a line per module, then what went wrong."""

from collections import Counter

from .reasons import KINDS, Entry
from .verdict import Verdict

COLUMNS = ("passed", "failed", "unrun", "listed", "skipped", "native", "loops")
WIDTH = 26


def heading() -> str:
    return (
        "module".ljust(WIDTH) + "".join(f"{name:>9}" for name in COLUMNS) + "    time"
    )


def line(verdict: Verdict) -> str:
    record = verdict.record
    note = "" if verdict.ok else "  FAILED"
    if record.skipped:
        note = f"  skipped: {record.skipped}"
    return _row(record.module, verdict.counts, record.seconds) + note


def total(verdicts: list[Verdict]) -> str:
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        counts += verdict.counts
    return _row("all", counts, sum(verdict.record.seconds for verdict in verdicts))


def _row(name: str, counts: Counter[str], seconds: float) -> str:
    cells = "".join(f"{counts[column]:>9}" for column in COLUMNS)
    return f"{name.ljust(WIDTH)}{cells}{seconds:>7.1f}s"


def each_test(verdict: Verdict) -> str:
    return "\n".join(_test(verdict, test) for test in verdict.words)


def _test(verdict: Verdict, test: str) -> str:
    text = f"  {verdict.words[test]:<8} {test}"
    done = verdict.record.outcomes.get(test)
    if done is None:
        return text
    why = f": {done.details}" if done.outcome == "skipped" else ""
    return f"{text}  ({done.seconds:.2f}s){why}"


def trouble(verdict: Verdict) -> str:
    parts = [
        f"{'=' * 70}\nFAILED {test}\n{'-' * 70}\n{details.rstrip()}"
        for test, details in verdict.failures
    ]
    parts += [f"ERROR {verdict.record.module}: {error}" for error in verdict.errors]
    return "\n".join(parts)


def reasons(entries: list[Entry]) -> str:
    parts = []
    for kind, meaning in KINDS.items():
        rows = [entry for entry in entries if entry.kind == kind]
        if rows:
            parts.append(f"{kind}: {meaning}")
        for entry in rows:
            hang = " (not run: it would hang)" if entry.hang else ""
            parts.append(f"  {entry.test}{hang}\n      {entry.reason}")
    return "\n".join(parts)
