"""The list of tests that cannot hold for fastloop: reading it, and what it says."""

import re
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .modules import MODULES

PATH = Path(__file__).with_name("reasons.toml")
KINDS = {
    "private": "tests asyncio's private implementation",
    "differs": "tests what fastloop does otherwise on purpose",
    "pending": "tests what fastloop does not do yet",
}


@dataclass(frozen=True)
class Entry:
    test: str  # a pattern of whole names: test_module.Class.test
    kind: str
    reason: str
    python: str = ""  # the versions it is for: ">=3.12, <3.14", "==3.13"
    patched: bool = False  # only with fastloop's primitives under asyncio's names
    hang: bool = False  # the test would not end, so it is not run

    @property
    def module(self) -> str:
        return self.test.partition(".")[0]

    def applies(self) -> bool:
        return all(_holds(clause) for clause in self.python.split(",") if clause)

    def fits(self, test: str) -> bool:
        return fnmatchcase(test, self.test)


def _holds(clause: str) -> bool:
    match = re.fullmatch(r"\s*(>=|<|==)\s*(\d+(?:\.\d+)+)\s*", clause)
    if match is None:
        raise ValueError(f"not a range of versions: {clause!r}")
    version = tuple(int(part) for part in match[2].split("."))
    running = sys.version_info[: len(version)]
    return {
        ">=": running >= version,
        "<": running < version,
        "==": running == version,
    }[match[1]]


def load(path: Path = PATH, *, patched: bool = False) -> list[Entry]:
    """The entries for the running Python."""
    table = tomllib.loads(path.read_text())
    entries = []
    for kind, rows in table.items():
        if kind not in KINDS:
            raise ValueError(f"{path.name}: {kind} is none of {', '.join(KINDS)}")
        for row in rows:
            names = row.pop("test")
            for name in [names] if isinstance(names, str) else names:
                if name.partition(".")[0] not in MODULES:
                    raise ValueError(f"{path.name}: {name} is in no known module")
                reason = " ".join(row["reason"].split())
                entries.append(Entry(name, kind, **{**row, "reason": reason}))
    return [e for e in entries if e.applies() and (patched or not e.patched)]
