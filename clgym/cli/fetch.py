"""Download a source into the data root; the only command that uses the network."""

from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym fetch``."""
    parser = Parser("clgym fetch", __doc__)
    parser.add_argument("name", help="A source of `clgym list sources`.")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="Where to. (default: CLGYM_DATA)"
    )
    values = parser.parse(words)
    from clgym.data.fetch import fetch

    for path in fetch(values.name, values.data_root, print):
        print(f"now at {path}")
    return 0
