"""What a module's run means, once it is held against the list of reasons."""

from collections import Counter
from dataclasses import dataclass, field

from .modules import MODULES
from .reasons import Entry
from .supervise import Record


@dataclass
class Verdict:
    record: Record
    words: dict[str, str] = field(default_factory=dict)  # of each test, one word
    failures: list[tuple[str, str]] = field(default_factory=list)  # test, details
    errors: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        counts = Counter(self.words.values())
        counts["native"] = sum(one.native for one in self.record.outcomes.values())
        counts["loops"] = self.record.loops
        return counts

    @property
    def ok(self) -> bool:
        return not self.failures and not self.errors


def judge(record: Record, entries: list[Entry], *, partial: bool) -> Verdict:
    """`partial` says that only some of the module's tests were asked for."""
    verdict = Verdict(record, errors=list(dict.fromkeys(record.problems)))
    if not record.tests:  # skipped, or dead before it knew them
        return verdict
    for test in record.chosen:
        listed = [entry for entry in entries if entry.fits(test)]
        verdict.words[test] = _judge_test(verdict, test, listed)
    _judge_unrun(verdict)
    for fixture in record.fixtures:
        if fixture["outcome"] == "failed":
            verdict.failures.append((fixture["name"], fixture["details"]))
    if not partial:
        _judge_list(verdict, entries)
        _judge_evidence(verdict)
    return verdict


def _judge_test(verdict: Verdict, test: str, listed: list[Entry]) -> str:
    """One word for a test; what is wrong with it goes into the verdict."""
    done = verdict.record.outcomes.get(test)
    if len(listed) > 1:
        patterns = " and ".join(entry.test for entry in listed)
        verdict.errors.append(f"{test} is listed twice: {patterns}")
    if done is None:
        hang = any(entry.hang for entry in listed)
        return "listed" if hang else _fixture_outcome(verdict.record, test)
    if done.outcome == "passed" and listed:
        verdict.errors.append(f"{test} is listed but passes: remove it")
    if done.outcome == "failed" and listed:
        return "listed"
    # No reason excuses a test that takes the interpreter with it.
    if done.outcome in ("failed", "died"):
        verdict.failures.append((test, done.details))
        return "failed"
    return done.outcome


def _fixture_outcome(record: Record, test: str) -> str:
    """What became of a test whose class or module could not be set up."""
    for fixture in record.fixtures:
        owner = fixture["name"].rpartition("(")[2].rstrip(")")
        owner = owner.removeprefix("test.test_asyncio.")
        if f"{test}.".startswith(f"{owner}."):
            return fixture["outcome"]
    return "unrun"


def _judge_unrun(verdict: Verdict) -> None:
    unrun = [test for test, word in verdict.words.items() if word == "unrun"]
    if unrun:
        first, count = unrun[0], len(unrun)
        verdict.errors.append(f"{count} tests never ran, {first} the first of them")


def _judge_list(verdict: Verdict, entries: list[Entry]) -> None:
    for entry in entries:
        if entry.module != verdict.record.module:
            continue
        if not any(entry.fits(test) for test in verdict.record.tests):
            verdict.errors.append(f"the list has {entry.test}, which fits no test")


def _judge_evidence(verdict: Verdict) -> None:
    proof = MODULES[verdict.record.module].proof
    if proof == "loops" and not verdict.record.loops:
        verdict.errors.append("no native loop was made: nothing is proved")
    if proof != "nothing" and not verdict.counts["native"]:
        verdict.errors.append("no test used a native loop, task or future")
