"""Audit a record, a certificate or a study: hashes, links, numbers, class orders, seeds.

Where the images are on this machine, rows and labels are compared with them, too.
The exit code is 1 if any check fails.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clgym.cli._parser import Parser, add_data_root_option, add_plugin_option
from clgym.text import printable

if TYPE_CHECKING:
    from clgym.protocol.audit import Audit

__all__ = ["main"]


def _count(text: str) -> int | Literal["all"] | None:
    """Parse a number of runs or ``all``; None for any other text."""
    if text == "all":
        return "all"
    return int(text) if text.isdecimal() else None


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym verify``."""
    parser = _parser()
    values = parser.parse(words)
    if values.rerun is None:
        parser.error("--rerun: a number of runs is 0 or more, or `all`")
    if values.head is not None and not re.fullmatch("[0-9a-f]{64}", values.head):
        parser.error(f"--head {values.head}: a head is 64 hexadecimal digits")
    if values.studies is not None and values.studies < 2:
        parser.error("--studies: a set holds 2 studies or more")

    from clgym.protocol.against_source import compare_with_sources
    from clgym.protocol.studies import studies_in
    from clgym.protocol.verify import verify
    from clgym.protocol.verify_studies import verify_studies

    plugins, rest = tuple(values.plugin), (values.rerun, values.data_root)
    if values.studies is None and not studies_in(values.path):
        audit = verify(values.path, *rest, plugins, values.head)
    elif values.head is not None:
        parser.error("--head: give the folder of the study whose head it is")
    else:
        audit = verify_studies(values.path, values.studies, *rest, plugins)
    if not audit.problems:
        compare_with_sources(audit, values.data_root, plugins)
    if values.json:
        print(json.dumps(vars(audit), indent=1))
    else:
        _show(audit)
    return 1 if audit.problems else 0


def _parser() -> Parser:
    parser = Parser("clgym verify", __doc__)
    parser.add_argument("path", type=Path, help="File or folder of `clgym run`, tune or evaluate.")
    parser.add_argument(
        "--rerun",
        type=_count,
        nargs="?",
        const=1,
        default=0,
        metavar="N",
        help="Number of evaluation runs to repeat and compare, exactly on a CPU, to 0.01 on a GPU; "
        "of the tuning, one run of a chosen trial and one of another are repeated, too; `all` "
        "repeats every run of both. The ledger's head determines which. (N: 1 if left out)",
    )
    parser.add_argument(
        "--head",
        metavar="HASH",
        help="Published head of the ledger, which the study must match.",
    )
    parser.add_argument(
        "--studies",
        type=int,
        metavar="K",
        help="Number of studies that the folder must hold, study-1 to study-K, as reported by "
        "their median. (default: as many as their certificates say)",
    )
    add_data_root_option(parser)
    add_plugin_option(parser)
    parser.add_argument("--json", action="store_true", help="Print only the findings, as JSON.")
    return parser


def _show(audit: "Audit") -> None:
    print(f"folder {printable(audit.folder)}")
    for problem in audit.problems:
        print(f"WRONG  {problem}")
    for note in audit.notes:
        print(f"note   {note}")
    if audit.head is not None and not audit.problems:
        print(f"head   {audit.head}")
    verdict = f"{len(audit.problems)} wrong" if audit.problems else "all hold"
    print(f"{len(audit.checks)} checks: {verdict}")
