"""Audit a record, a certificate or a study: hashes, links, numbers, class orders, seeds.

Where the images are on this machine, rows and labels are compared with them, too.
The exit code is 1 if any check fails.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clgym.cli._parser import Parser, add_plugin_option

__all__ = ["main"]


def _count(text: str) -> int | Literal["all"] | None:
    """A number of runs or ``all``; None for any other text."""
    if text == "all":
        return "all"
    return int(text) if text.isdecimal() else None


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym verify``."""
    parser = Parser("clgym verify", __doc__)
    parser.add_argument("path", type=Path, help="File or folder of `clgym run`, tune or evaluate.")
    parser.add_argument(
        "--rerun",
        type=_count,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="Number of evaluation runs to repeat and compare, or `all`: exactly on a CPU, to 0.01 "
        "of the accuracy on a GPU. The ledger's head selects them. (N: 1 if left out)",
    )
    parser.add_argument(
        "--head",
        metavar="HASH",
        help="Published head of the ledger, which the study must match.",
    )
    parser.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="Folder of the data sets. (default: $CLGYM_DATA)",
    )
    add_plugin_option(parser)
    parser.add_argument("--json", action="store_true", help="Print only the findings, as JSON.")
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
