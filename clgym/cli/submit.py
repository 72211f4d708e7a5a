"""Check a submission to the leaderboard; nothing leaves this machine.

A folder may hold records, each with its predictions, studies with all their
files, and the strategy's file where it is not built in. The last lines are the
commands that repeat the runs. The exit code is 2 if a check fails.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import Parser
from clgym.errors import ClgymError

if TYPE_CHECKING:
    from clgym.board.submission import Submission

__all__ = ["NotAccepted", "main"]


class NotAccepted(ClgymError):
    """A submission that the board would not show."""

    problem = "the submission is not accepted"


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym submit``."""
    parser = Parser("clgym submit", __doc__)
    parser.add_argument(
        "--check", type=Path, nargs="+", required=True, metavar="FOLDER", help="Folders to check."
    )
    parser.add_argument("--json", action="store_true", help="Print only the findings, as JSON.")
    values = parser.parse(words)

    from clgym.board.submission import check

    submission = check(values.check)
    commands = _commands(submission)
    if values.json:
        findings = [vars(finding) for finding in submission.findings]
        print(json.dumps({"findings": findings, "again": commands}, indent=1))
    else:
        _show(submission, commands)
    if submission.wrong:
        first = submission.wrong[0]
        raise NotAccepted(
            expected="a submission whose checks all pass",
            found=f"{len(submission.wrong)} of {len(submission.findings)} checks wrong, the first "
            f"in {first.place}: {first.words}",
            fix="Each line marked wrong says what to do",
        )
    return 0


def _commands(submission: "Submission") -> list[str]:
    """Commands that repeat every run whose checks pass."""
    from clgym.cli._again import rerun, verify_again

    lines = []
    for found in submission.found:
        if found.run is None:
            lines.append(verify_again(found.folder, found.plugins))
        else:
            lines.append(rerun(found.run.record, found.plugins))
    return lines


def _show(submission: "Submission", commands: Sequence[str]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from clgym.board.figures.canvas import plain
    from clgym.board.submission import places
    from clgym.cli._console import Console

    console = Console(highlight=False)
    for place, findings in places(submission):
        console.print(Text(plain(place, 200)))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for head in ("check", "", "what was found, what to do"):
            table.add_column(head)
        for finding in findings:
            # A record may hold any text: it must not act as markup or control the terminal.
            table.add_row(finding.check, finding.verdict, Text(plain(finding.words, 400)))
        console.print(table)
    if commands:
        console.print("to repeat the runs, after reading any plugin:")
    for line in commands:
        console.print(Text(f"  {line}"), soft_wrap=True)
