"""Run every attack of `tests/attacks/attacks.toml`, and print how each ended.

    python benchmarks/red_team.py [--promise withholding] [--write]

Ends with 1 if an attack ended otherwise than the registry says. `--write` runs nothing: it writes
the table of docs/red-team.md from the registry.
"""

import argparse
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REGISTRY = ROOT / "tests" / "attacks" / "attacks.toml"
PAGE = ROOT / "docs" / "red-team.md"
PROMISES = {
    "withholding": "What a learner cannot know",
    "protocol": "What a study cannot hide",
    "board": "What a record that is sent cannot claim",
}
OUTCOMES = ("prevented", "detected", "documented")
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->\n"


@dataclass(frozen=True)
class Attack:
    """One entry of the registry, whose head says what the fields are."""

    promise: str
    tries: str
    outcome: str
    test: str | None = None
    page: str | None = None
    said: str | None = None


def attacks() -> list[Attack]:
    """The registry in its order."""
    return [Attack(**entry) for entry in tomllib.loads(REGISTRY.read_text())["attack"]]


def table(chosen: Sequence[Attack]) -> str:
    """Counts, then a table for each promise, as Markdown."""
    counts = Counter((a.promise, a.outcome) for a in chosen)
    lines = [f"| promise | tried | {' | '.join(OUTCOMES)} |", "|---|---|---|---|---|"]
    for promise, title in PROMISES.items():
        own = [counts[promise, outcome] for outcome in OUTCOMES]
        lines.append(f"| {title} | {sum(own)} | {' | '.join(map(str, own))} |")
    for promise, title in PROMISES.items():
        lines += ["", f"## {title}", "", "| an attacker who | is | shown by |", "|---|---|---|"]
        lines += [_row(attack) for attack in chosen if attack.promise == promise]
    return "\n".join(lines) + "\n"


def _row(attack: Attack) -> str:
    if attack.test is None:
        return f"| {attack.tries} | documented | [{attack.page}]({attack.page}) |"
    return f"| {attack.tries} | {attack.outcome} | `{attack.test.removeprefix('tests/')}` |"


def with_table(page: str) -> str:
    """A page whose table is that of the registry."""
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    return f"{before}{BEGIN}\n{table(attacks())}\n{END}{after}"


class Outcomes:
    """What pytest says of each test."""

    def __init__(self) -> None:
        """Nothing is known."""
        self.by_node: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of setup, call and teardown."""
        known = self.by_node.get(report.nodeid, "passed")
        self.by_node[report.nodeid] = report.outcome if known == "passed" else known

    def of(self, attack: Attack) -> str:
        """``held``, ``did not hold``, or ``not tried here`` where a test is skipped."""
        wanted = attack.test or ""
        found = [
            outcome
            for node, outcome in self.by_node.items()
            if node == wanted or ("[" not in wanted and node.startswith(f"{wanted}["))
        ]
        if not found or "failed" in found:
            return "did not hold"
        return "not tried here" if "skipped" in found else "held"


def main() -> int:
    """Run or write; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--promise", choices=PROMISES)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.write:
        PAGE.write_text(with_table(PAGE.read_text()))
        return 0
    chosen = [a for a in attacks() if asked.promise in (None, a.promise)]
    tests = list(dict.fromkeys(a.test for a in chosen if a.test is not None))
    paths = [str(ROOT / test) for test in tests]
    outcomes = Outcomes()
    # `-m ''`: the slow ones, too.
    pytest.main(["-q", "--no-header", "-m", "", f"--rootdir={ROOT}", *paths], plugins=[outcomes])
    ended = {attack: "documented" for attack in chosen if attack.test is None}
    ended |= {attack: outcomes.of(attack) for attack in chosen if attack.test is not None}
    for attack, how in ended.items():
        print(f"{how:14}  {attack.outcome:10}  {attack.tries}")
    counts = Counter(ended.values())
    print(f"\n{len(ended)} attacks: " + ", ".join(f"{n} {how}" for how, n in counts.items()))
    return 1 if counts["did not hold"] else 0


if __name__ == "__main__":
    sys.exit(main())
