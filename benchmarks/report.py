"""The results as text: a table for the terminal, a page for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .reasons import REASONS, STOCK
from .results import Cell, Record, best
from .subjects import FLOOR, OURS, REFERENCE
from .workloads import FAMILIES

AHEAD = 1.1  # times the best of the others: what goes without saying

INTRODUCTION = """\
# How fast fastloop is

`make bench` measures all of this anew and writes this page, `benchmarks.json` and the
pictures; `make bench ARGS='--help'` lists what else it can do.  Do not edit this page:
its words are in `benchmarks/report.py`.

"""

METHOD = """
## How it is measured

- All subjects are measured in one run, interleaved: a round of a workload has many
  turns of 20 ms of all of them (longer ones where there are very many tasks or
  connections, one where there are a million), each of which begins with another
  subject.  All processes of a round are started first, and stand still but for those of
  the one that is measured: servers are stopped, clients and the others wait to be
  asked, with their connections open and no message under way.  So the machine, which
  changes by a third within tenths of a second, is the same for all: one program under
  two names differs by less than a percent.  A value is the median of the turns, a
  ratio the median of the ratios within each turn.  Ratios are to uvloop; more is
  better, also where bytes are counted.
- Each process is fresh, and pinned to one core.  Its clients run on another one; they
  are one C program (`benchmarks/load.c`) that does little more than its system calls.
  `busy` in the JSON is the part of the time that a server was running: where it is near
  1, the clients were not what was measured, or the server polled for them.  But on one
  machine who sends pays for the receiving, too: an echo costs the clients as much as
  the floor, and where a server comes near that, all differences are smaller than they
  were with clients that cost nothing.
- What never waits (callbacks, timers, tasks) is timed by the processor time of its
  process, all threads together; what waits for sockets, sleeps or threads by the clock
  on the wall.  So the latter suffers when other things run on the machine, and the
  former hardly.
- Garbage collection is on, as in any program.
- **floor** is what is left without an event loop of Python's.  For servers it is a C
  program on libuv alone (`benchmarks/floor.c`), or on OpenSSL and epoll
  (`benchmarks/floor_tls.c`), for callbacks and tasks a loop in C around CPython's calls
  (`benchmarks/bare.c`): the same callbacks called, the same coroutines stepped.
- **-** means that a library cannot do it, that it failed, that there is no floor, or
  that the row is not about it: aiofastnet changes networking alone.  `benchmarks.json`
  says why.
- fastloop is what `pip install` builds.  Several things that some wheels of others have
  (profile-guided optimisation, for instance) are not in it.
"""


def number(value: float | None, unit: str = "/s") -> str:
    """With three digits, and K, M or G."""
    if value is None:
        return "-"
    if unit == "bytes":
        return f"{value:,.0f} B" if value < 10_000 else f"{value / 1024:.1f} KiB"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            scaled = value / factor
            return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{letter}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def times(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}x" if value >= 100 else f"{value:.2f}x"


def of_family(run: Record, family: str) -> list[Record]:
    return [row for row in run["rows"] if row["family"] == family]


def competitors(run: Record) -> list[str]:
    return [subject for subject in run["subjects"] if subject != FLOOR]


# --- the terminal ---------------------------------------------------------------------


def aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def table(run: Record) -> str:
    """Medians; the first of each row has a star."""
    lines = [["", *run["subjects"]]]
    for row in run["rows"]:
        first = best(row, competitors(run))
        cells = []
        for subject in run["subjects"]:
            text = number(Cell(row, subject).value, row["unit"])
            cells.append(text + ("*" if subject == first else " "))
        lines.append([row["title"], *cells])
    return aligned(lines)


def failures(run: Record) -> list[str]:
    """What broke, as opposed to what a library cannot do."""
    return [
        f"{subject} failed at {row['name']}: {record['failed']}"
        for row in run["rows"]
        for subject, record in row["results"].items()
        if "failed" in record
    ]


# --- the page -------------------------------------------------------------------------


def markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    rule = ["---"] + ["--:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *rest])


def cell(row: Record, subject: str, first: str | None) -> str:
    one = Cell(row, subject)
    if one.value is None:
        return "-"
    text = number(one.value, row["unit"])
    if subject == first:
        text = f"**{text}**"
    if one.ratio is not None and subject not in (REFERENCE, FLOOR):
        text += f"<br>{times(one.ratio)}"
    elif subject == FLOOR and (
        ours := Cell(row, OURS).record.get("against", {}).get(FLOOR)
    ):
        text += f"<br>we: {ours:.2f}"
    return text


def spread(row: Record, run: Record) -> str:
    """How far the rounds lie apart, at the subject where they do most."""
    widest = max((Cell(row, s).spread for s in run["subjects"]), default=0)
    return f"{widest:.0%}" if widest else ""


def measured(run: Record, rows: list[Record]) -> list[str]:
    """The subjects that any of the rows has a value of."""
    return [s for s in run["subjects"] if any(Cell(r, s).value for r in rows)]


def values(run: Record, family: str) -> str:
    rows = of_family(run, family)
    subjects = measured(run, rows)
    lines = [["", *subjects, "spread"]]
    for row in rows:
        first = best(row, competitors(run))
        title = row["title"]
        if row["unit"] in ("bytes", "B/s"):
            title += f", {row['unit']}"
        cells = [cell(row, subject, first) for subject in subjects]
        lines.append([title, *cells, spread(row, run)])
    return markdown(lines)


def microseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def latencies(run: Record) -> str:
    rows = [
        row
        for row in run["rows"]
        if row["family"] != "growth"
        and any("p50" in record for record in row["results"].values())
    ]
    subjects = measured(run, rows)
    lines = [["p50 / p99, µs", *subjects]]
    for row in rows:
        cells = []
        for subject in subjects:
            record = Cell(row, subject).record
            p50, p99 = record.get("p50"), record.get("p99")
            known = p50 is not None
            cells.append(f"{microseconds(p50)} / {microseconds(p99)}" if known else "-")
        lines.append([row["title"], *cells])
    return markdown(lines) if rows else ""


def behind(row: Record, subjects: list[str]) -> str:
    """What to say of a row in which one of ours leads by less than a tenth, or ""."""
    peers = [s for s in subjects if not s.startswith(OURS)]
    ours = [Cell(row, s) for s in subjects if s.startswith(OURS)]
    leads = [(*found, cell) for cell in ours if (found := cell.lead(peers))]
    if not leads:
        return f"{row['title']}: fastloop has no result"
    if min(ahead for ahead, _, _ in leads) >= AHEAD:
        return ""
    text = ", ".join(f"{mine.subject} {times(x)} of {peer}" for x, peer, mine in leads)
    text = f"{row['title']}: {text}"
    most, other, mine = max(leads, key=lambda each: each[0])
    if to_floor := mine.record["against"].get(FLOOR):
        text += f"; {to_floor:.2f} of the floor"
    pair = mine.record.get("busy"), Cell(row, other).record.get("busy")
    if None not in pair:
        text += (
            f"; the servers were running {pair[0]:.0%} and {pair[1]:.0%} of the time"
        )
    reason = REASONS.get(row["name"], "")
    if not reason and row["family"] == "tasks" and most >= AHEAD:
        reason = f"Without patch(), {STOCK}."
    return f"{text}.  {reason}".rstrip()


def not_ahead(run: Record) -> Iterator[str]:
    for row in run["rows"]:
        if text := behind(row, competitors(run)):
            yield f"- {text}"


def about(run: Record) -> Iterator[str]:
    """The machine, the versions, and who is missing."""
    facts = run["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items())
    yield (
        f"{run['date']}; {facts['processor']}; {facts['system']}; "
        f"libuv {facts['libuv']}; {facts['openssl']}; compiled with "
        f"{facts['compiler']}, Python itself with {facts['python compiler']}."
    )
    yield f"Subjects: {versions}."
    for name, reason in run["left_out"].items():
        yield f"Left out: {name} ({reason})."
    yield (
        f"{run['rounds']} rounds of {run['seconds']:g} s.  The load of the machine "
        f"when the run began was {facts['load at the start']}."
    )
    if "note" in run:
        yield run["note"]


def section(version: str, run: Record, pictures: Sequence[str]) -> Iterator[str]:
    yield f"\n## Python {run['machine']['python']}\n"
    yield from (f"- {line}" for line in about(run))
    for name in pictures:
        if f"-{version}" in name:
            yield f"\n![Python {version}]({name})"
    for family, title in FAMILIES.items():
        if of_family(run, family):
            yield f"\n### {title}\n"
            yield values(run, family)
    if text := latencies(run):
        yield f"\n### Latency\n\n{text}"
    if broken := failures(run):
        yield "\n### What failed\n"
        yield from (f"- {line}." for line in broken)
    if rows := list(not_ahead(run)):
        yield "\n### Where fastloop is not first, or leads by less than a tenth\n"
        yield from rows


def page(runs: dict[str, Any], pictures: Sequence[str]) -> str:
    """All of docs/benchmarks.md: a section for each version of Python."""
    parts = [INTRODUCTION.rstrip()]
    if "benchmarks.svg" in pictures:
        parts.append("\n![fastloop compared with others](benchmarks.svg)")
    parts.append(METHOD.rstrip())
    for version, run in reversed(runs.items()):
        parts += section(version, run, pictures)
    return "\n".join(parts) + "\n"
