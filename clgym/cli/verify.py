"""Audit a record, a certificate or a study: hashes, links, numbers, class orders, seeds.

Where the images are on this machine, rows and labels are compared with them too.
Leaves with exit code 1 if anything does not hold.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clgym.cli._parser import Parser

__all__ = ["main"]


def _count(text: str) -> int | Literal["all"] | None:
    """A number of runs; None if the text is none."""
    if text == "all":
        return "all"
    return int(text) if text.isdecimal() else None


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym verify``."""
    parser = Parser("clgym verify", __doc__)
    parser.add_argument(
        "path", type=Path, help="A file or folder of `clgym run`, tune or evaluate."
    )
    parser.add_argument(
        "--rerun",
        type=_count,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="Repeat N evaluation runs, or `all`, and compare: exactly on a CPU, to 0.01 of the "
        "accuracy on a GPU. The ledger's head decides which. (N: 1 if left out)",
    )
    parser.add_argument(
        "--head",
        metavar="HASH",
        help="The ledger's head as it was published: the study must be the one it names.",
    )
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="(default: CLGYM_DATA)")
    parser.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--json", action="store_true", help="Print the findings as JSON alone.")
    values = parser.parse(words)
    if values.rerun is None:
        parser.error("--rerun: a number of runs is 0 or more, or `all`")
    if values.head is not None and not re.fullmatch("[0-9a-f]{64}", values.head):
        parser.error(f"--head {values.head}: a head is 64 hexadecimal digits")

    from clgym.protocol.against_source import compare_with_sources
    from clgym.protocol.verify import verify

    plugins = tuple(values.plugin)
    audit = verify(values.path, values.rerun, values.data_root, plugins, values.head)
    if not audit.problems:
        compare_with_sources(audit, values.data_root, plugins)
    if values.json:
        print(json.dumps(vars(audit), indent=1))
    else:
        for problem in audit.problems:
            print(f"WRONG  {problem}")
        for note in audit.notes:
            print(f"note   {note}")
        if audit.head is not None and not audit.problems:
            print(f"head   {audit.head}")
        verdict = f"{len(audit.problems)} wrong" if audit.problems else "all hold"
        print(f"{len(audit.checks)} checks: {verdict}")
    return 1 if audit.problems else 0
