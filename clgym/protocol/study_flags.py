"""Warnings of an evaluation about how its study was made."""

from collections.abc import Iterator

from clgym.files import canonical_json
from clgym.protocol.plan import Certificate, StudyPlan

__all__ = ["flags_of_study", "set_by_hand"]


def set_by_hand(plan: StudyPlan) -> str:
    """Options that the author set by hand, with their values, as one text; empty without any."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else canonical_json(value).decode()}"
        for name, value in plan.set_by_hand.items()
    )


def flags_of_study(certificate: Certificate) -> Iterator[str]:
    """Warnings about what the author chose, and about trials that chose nothing.

    Studies of earlier versions get none: their plans do not say what was chosen by hand, and the
    flags of their evaluations are fixed.

    Args:
        certificate: The study's certificate.
    """
    plan = certificate.body.plan
    if plan.by_hand is None:
        return
    if options := set_by_hand(plan):
        yield f"set by hand: {options}"
