"""List or delete the cached features of pretrained networks."""

import json
import time
from collections.abc import Sequence
from typing import Any

from clgym.cli._parser import Parser
from clgym.data import vectors

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym cache``."""
    parser = Parser("clgym cache", __doc__)
    parser.add_argument(
        "action", nargs="?", choices=("list", "clean"), default="list", help="(default: list)"
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    parser.add_argument(
        "--older-than",
        type=float,
        default=0.0,
        metavar="DAYS",
        help="Delete only what was not used for this number of days. (default: 0, everything)",
    )
    values = parser.parse(words)
    clean = values.action == "clean"
    held = vectors.clean(values.older_than) if clean else vectors.entries()
    if values.json:
        print(json.dumps([_facts(entry) for entry in held], indent=1))
        return 0
    for entry in held:
        print(_line(_facts(entry)))
    total = sum(entry.size for entry in held) / 1e6
    print(f"{len(held)} tables, {total:,.1f} MB{' deleted' if clean else ''}")
    return 0


def _facts(entry: vectors.VectorSlot) -> dict[str, object]:
    return {
        **entry.facts,
        "filled": entry.filled,
        "bytes": entry.size,
        "days_since_use": round((time.time() - entry.used) / 86400, 2),
    }


def _line(facts: dict[str, Any]) -> str:  # as the cache's file has them
    fed = facts["input"]
    source, split, _ = facts["content"]
    shown = f"{fed['size']} px {fed['fit']}{', normalised' if fed['normalise'] else ''}"
    return (
        f"{facts['bytes'] / 1e6:8.1f} MB  {facts['filled']:>7,} of {facts['rows']:,} rows  "
        f"{facts['backbone']} {facts['weights'][:8]}  {shown}  {split} of {source[:8]}  "
        f"used {facts['days_since_use']:g} days ago"
    )
