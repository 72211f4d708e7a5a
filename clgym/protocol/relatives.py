"""Studies of one strategy and pair in folders beside each other: each result counts them."""

from pathlib import Path

from clgym.errors import Tampered
from clgym.protocol.ledger import NAME, Entry, read_ledger
from clgym.protocol.plan import Plan

__all__ = ["relatives"]


def relatives(out: Path, plan: Plan) -> tuple[int, int]:
    """Other studies of this strategy and pair beside this folder that got as far as a result.

    Returns:
        The number of this one in the order of their plans, and how many evaluations they made.
    """
    own = read_ledger(out / NAME)[0].time
    number, evaluations = 1, 0
    for path in sorted(out.resolve().parent.glob(f"*/{NAME}")):
        if path.parent == out.resolve():
            continue
        try:
            entries = read_ledger(path)
        except Tampered:
            continue  # `clgym verify` of that folder says so
        # Of a study that was refused before its first run ended nobody learned anything.
        told = any(entry.kind in ("run", "sealed") for entry in entries)
        if told and _is_of(entries[0], plan) and entries[0].time <= own:
            number += 1
            evaluations += sum(entry.kind == "opened" for entry in entries)
    return number, evaluations


def _is_of(entry: Entry, plan: Plan) -> bool:
    other = entry.body.get("plan", {})
    return (other.get("strategy"), other.get("pair_hash")) == (plan.strategy, plan.pair_hash)
