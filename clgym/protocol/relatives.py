"""Number of studies of one method on one evaluation, which every result states.

Studies are known from the registry in this installation's state folder, wherever their folders were
and even if they were deleted, and from the folders beside the study. A study is identified by the
first line of its ledger, so a copy of its folder is the same study. The order is that of the
registry's chain. A study beside this one that the registry does not contain has no place in that
order, but is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from clgym.errors import Tampered
from clgym.files import canonical_json, locked, sha256
from clgym.gym.withheld_order import state_folder
from clgym.protocol.ledger import NAME, Ledger, LedgerEntry, read_ledger
from clgym.protocol.plan import StudyPlan

__all__ = ["Relatives", "evaluates", "register_opening", "register_study", "relatives"]

REGISTRY = "studies.jsonl"
"""Ledger in the state folder with one line per study and one per evaluation."""
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""Errors on ledgers that do not exist, or are somebody else's."""


@dataclass(frozen=True)
class Relatives:
    """Other studies of a method on an evaluation."""

    number: int
    """Position of this study among them, from 1."""
    evaluations: int
    """Number of evaluations of the other studies, and of copies of this study."""
    registry: str
    """Head of the registry's chain."""


@dataclass
class _Known:
    """A study, as known from the registry or a folder."""

    names: set[str]
    """Names and code hashes of the strategy, either of which identifies the method."""
    evaluates: str
    openings: set[str] = field(default_factory=set[str])
    """Hashes of the ledger's lines that opened an evaluation."""


def evaluates(plan: StudyPlan) -> str:
    """Identity of a plan's evaluation, without options that have no effect on it.

    Two plans agree in the images, classes and rows of the evaluation and in the number of
    experiences. The tuning side, memory sizes, networks, seeds and similar options do not matter.
    """
    side = plan.pair.evaluation
    facts = [plan.evaluation.fingerprint, side.classes, side.extra, plan.experiences]
    return sha256(canonical_json([plan.pair.scenario, *facts]))


def relatives(out: Path, plan: StudyPlan) -> Relatives:
    """Count the studies of this method and evaluation that have a result.

    Args:
        out: The study's folder.
        plan: The study's plan.
    """
    entries = read_ledger(out / NAME)
    own, registry = entries[0].hash, _registry()
    ordered = _registered(registry.entries)
    before = dict(ordered)
    if own in ordered:
        before = dict(list(ordered.items())[: list(ordered).index(own)])
    for study, known in _beside(out.resolve()):
        if study in ordered:
            ordered[study].openings |= known.openings
        elif study in before:
            before[study].openings |= known.openings
        else:
            before[study] = known
    copies = ordered[own].openings if own in ordered else set[str]()
    copies |= before.pop(own).openings if own in before else set[str]()
    mine, names = evaluates(plan), _names(plan)
    others = [k for k in before.values() if k.evaluates == mine and k.names & names]
    openings = set[str]().union(copies, *(known.openings for known in others))
    openings -= {entry.hash for entry in entries if entry.kind == "opened"}
    return Relatives(len(others) + 1, len(openings), registry.head)


def _names(plan: StudyPlan) -> set[str]:
    return {plan.strategy, plan.method_hash}


def _registered(entries: list[LedgerEntry]) -> dict[str, _Known]:
    """Studies of the registry in the order of its chain."""
    found: dict[str, _Known] = {}
    for entry in entries:
        body = entry.body
        if entry.kind == "study":
            found[body["study"]] = _Known({body["strategy"], body["code"]}, body["evaluates"])
        elif body["study"] in found:
            found[body["study"]].openings.add(body["opening"])
    return found


def _beside(out: Path) -> Iterator[tuple[str, _Known]]:
    """Studies in the folders beside one, this one left out.

    A study without a finished run is left out, since it has revealed nothing.

    Raises:
        Tampered: A ledger cannot be read at the moment.
    """
    for path in sorted(out.parent.glob(f"*/{NAME}")):
        if path.parent == out:
            continue
        try:
            entries = read_ledger(path)
            plan = StudyPlan.model_validate(entries[0].body["plan"])
        except (Tampered, ValidationError, LookupError) as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, _ABSENT):
                raise  # a study that cannot be read now is no reason to count one less
            continue  # `clgym verify` of that folder reports it
        if any(entry.kind in ("run", "sealed") for entry in entries):
            openings = {entry.hash for entry in entries if entry.kind == "opened"}
            yield entries[0].hash, _Known(_names(plan), evaluates(plan), openings)


def register_study(ledger: Ledger, plan: StudyPlan) -> None:
    """Write a study to the registry, once: when its first run has ended, or at its seal.

    Raises:
        BadOutput: The state folder cannot be written.
        Tampered: The registry's chain does not hold.
    """
    study = ledger.entries[0].hash
    facts = {"strategy": plan.strategy, "code": plan.method_hash, "evaluates": evaluates(plan)}
    _register("study", study, {**facts, "plan_hash": plan.digest})


def register_opening(ledger: Ledger, opening: LedgerEntry) -> None:
    """Write to the registry that an evaluation of a study was opened.

    Raises:
        BadOutput: The state folder cannot be written.
        Tampered: The registry's chain does not hold.
    """
    _register("opening", ledger.entries[0].hash, {"opening": opening.hash})


def _register(kind: str, study: str, facts: dict[str, object]) -> None:
    body = {"study": study, **facts}
    with locked(state_folder() / ".studies.lock", wait=True):
        registry = _registry()
        if not any(entry.body == body for entry in registry.of(kind)):
            registry.append(kind, **body)


def _registry() -> Ledger:
    """Open the registry."""
    try:
        return Ledger(state_folder(), REGISTRY)
    except Tampered as error:
        raise Tampered(
            expected=f"the registry of studies in {state_folder()} as it was written",
            found=error.found,
            fix=f"Move {REGISTRY} away, so that counting begins anew; certificates name its new "
            "head",
        ) from error
