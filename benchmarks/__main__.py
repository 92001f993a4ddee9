"""The command line: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fnmatch
import sys
import time
from pathlib import Path
from typing import Any

from . import machine, native, picture, report, results, runner
from .place import BUILD
from .subjects import FLOOR, SUBJECTS
from .workload import Served, Workload
from .workloads import FAMILIES, WORKLOADS

LAST = BUILD / "last.json"  # what the last run said, whether saved or not


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def arguments(argv: list[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Time fastloop and other event loops, interleaved.  "
        "`pip install 'fastloop[bench]'` brings the others; a C compiler is needed "
        "for what has servers, OpenSSL's headers for TLS.",
    )
    add = parser.add_argument
    add(
        "--only",
        type=words,
        default=[],
        metavar="WORKLOADS",
        help="families, names (with * and ?) or: headline; commas between",
    )
    add("--subjects", type=words, default=[], metavar="NAMES", help="of: all")
    add("--rounds", type=int, metavar="N", help="5")
    add(
        "--seconds",
        type=float,
        metavar="S",
        help="for a measurement: 0.4; a round of many turns takes a few times that",
    )
    add("--quick", action="store_true", help="one short round: does it work?")
    add("--list", action="store_true", help="say what there is; measure nothing")
    add(
        "--save",
        type=Path,
        metavar="FOLDER",
        help="write benchmarks.json, .md and .svg there",
    )
    add("--note", metavar="TEXT", help="is written beside the numbers")
    add(
        "--redraw",
        type=Path,
        metavar="FOLDER",
        help="write .md and .svg there anew, from the .json; measure nothing",
    )
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.05 if options.quick else 0.4)
    unknown = [name for name in options.subjects if name not in (*SUBJECTS, FLOOR)]
    if unknown:
        parser.error(
            f"no subject {', '.join(unknown)}: there are {', '.join(SUBJECTS)}"
        )
    options.workloads = select(options.only)
    if not options.workloads:
        parser.error("no workload has such a name; --list says which there are")
    return options


def select(patterns: list[str]) -> list[Workload]:
    return [
        workload
        for name, workload in WORKLOADS.items()
        if not patterns
        or any(
            fnmatch.fnmatch(name, pattern)
            or pattern == workload.family
            or (pattern == "headline" and workload.headline)
            for pattern in patterns
        )
    ]


def can_be_measured(
    workloads: list[Workload], floor: list[str], left_out: dict[str, str]
) -> tuple[list[Workload], list[str]]:
    """Compile all now, so that nothing is while something else is measured.

    What cannot be compiled here is left out, and named.
    """
    if any(isinstance(workload, Served) for workload in workloads):
        try:
            native.load()
        except native.CannotCompileError as exc:
            left_out["all that has servers"] = str(exc)
            workloads = [w for w in workloads if not isinstance(w, Served)]
    if floor:
        try:
            native.bare()
            native.floor()
        except native.CannotCompileError as exc:
            left_out[FLOOR] = str(exc)
            floor = []
    if floor and any(getattr(w, "floor", None) == "tls" for w in workloads):
        with contextlib.suppress(native.CannotCompileError):
            native.floor_tls()
    return workloads, floor


def list_workloads(workloads: list[Workload]) -> None:
    for family, what in FAMILIES.items():
        print(f"{family}: {what}")
        for workload in workloads:
            if workload.family == family:
                print(f"  {workload.name:22} {workload.title}")


class Screen:
    """Progress, a line for each workload in a terminal or not.

    A number for each subject and round: the median of its turns.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.began = time.monotonic()
        self.workload: Workload | None = None

    def __call__(self, progress: runner.Progress) -> None:
        if progress.workload is not self.workload:
            self.workload = progress.workload
            left = self.left(progress.number)
            print(
                f"\n[{progress.number}/{self.total}{left}] {self.workload.title}:",
                end="",
            )
        summed_up = results.summary(progress.turns)
        text = report.number(summed_up.get("median"), progress.workload.unit)
        if "failed" in summed_up:
            text = "FAILED"
        print(f"  {progress.subject} {text}", end="", flush=True)

    def left(self, number: int) -> str:
        if number <= self.total // 50:
            return ""
        passed = time.monotonic() - self.began
        minutes = passed / number * (self.total - number) / 60
        return f", {minutes:.0f} min left"


def save(folder: Path, run: dict[str, Any]) -> None:
    version = ".".join(run["machine"]["python"].split(".")[:2])
    runs = results.merge(folder / "benchmarks.json", version, run)
    write(folder, runs)


def write(folder: Path, runs: dict[str, Any]) -> None:
    pictures = picture.draw(runs, folder)
    (folder / "benchmarks.md").write_text(report.page(runs, pictures))
    print(f"written: {folder / 'benchmarks.md'}, {', '.join(pictures) or 'no picture'}")


def main(argv: list[str], prog: str = "python -m benchmarks") -> int:
    options = arguments(argv, prog)
    if options.list:
        list_workloads(options.workloads)
        return 0
    if options.redraw:
        write(options.redraw, results.read(options.redraw / "benchmarks.json"))
        return 0
    names = options.subjects or list(SUBJECTS)
    here = runner.find_subjects([name for name in names if name != FLOOR])
    floor = [FLOOR] if not options.subjects or FLOOR in options.subjects else []
    workloads, floor = can_be_measured(options.workloads, floor, here.left_out)
    for name, reason in here.left_out.items():
        print(f"left out: {name} ({reason})")
    if not here.subjects or not workloads:
        print("nothing is left to measure", file=sys.stderr)
        return 1
    plan = runner.Plan(
        workloads, here.subjects + floor, options.rounds, options.seconds
    )
    run = {
        "date": datetime.date.today().isoformat(),
        "machine": machine.describe(),
        "versions": here.versions,
        "left_out": here.left_out,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "subjects": plan.subjects,
    }
    if options.note:
        run["note"] = options.note
    run["rows"] = results.rows(workloads, runner.run(plan, Screen(plan.count())))
    print("\n\n" + report.table(run))
    results.write(LAST, run)
    if options.save:
        save(options.save, run)
    failed = report.failures(run)
    print("\n".join(failed))
    return any(line.startswith("fastloop") for line in failed)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
