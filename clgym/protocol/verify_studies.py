"""Audit of several studies that are reported by their median: first each one, then all together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from clgym.errors import BadPlan
from clgym.protocol.audit import MALFORMED, Audit
from clgym.protocol.ledger import NAME, read_ledger
from clgym.protocol.outcome import Evaluation, evaluation_files
from clgym.protocol.places import links_and_devices
from clgym.protocol.plan import StudyPlan
from clgym.protocol.studies import spread_of, studies_in
from clgym.protocol.study import read_certificate
from clgym.protocol.verify import verify

__all__ = ["same_set", "verify_studies"]


def verify_studies(
    folder: Path,
    count: int | None = None,
    rerun: int | Literal["all"] = 0,
    data_root: Path | None = None,
    plugins: tuple[Path, ...] = (),
) -> Audit:
    """Audit every study of a folder that `tune_studies` wrote, and check that none is missing.

    Args:
        folder: Folder of the studies.
        count: Number of studies that there must be; None means the number in their certificates.
        rerun: Number of evaluation runs to repeat in each study, or all; see `verify`.
        data_root: Data root for these runs.
        plugins: Files that hold the strategy, for these runs.

    Returns:
        One audit. Its notes state the median and the range.

    Raises:
        BadPlan: The folder contains no such studies.
    """
    studies = studies_in(folder)
    if not studies:
        raise BadPlan(
            expected=f"a folder with study-1, study-2, ... at {folder}",
            found="none",
            fix="Give the --out of `clgym tune --studies`, or leave --studies out",
        )
    audit = Audit(folder=str(folder))
    for study in studies:
        one = verify(study, rerun, data_root, plugins)
        audit.checks += [f"{study.name}: {check}" for check in one.checks]
        audit.problems += [f"{study.name}: {problem}" for problem in one.problems]
        audit.notes += [f"{study.name}: {note}" for note in one.notes]
        audit.notes += [f"{study.name}: head {one.head}"]
        audit.records += one.records
    if any(problem for study in studies for problem in links_and_devices(study)):
        return audit  # what cannot be read safely is not read
    audit.check("the set of studies", lambda: _set_problems(studies, count))
    if not audit.problems:
        audit.notes += _spread(studies)
    return audit


def same_set(plan: StudyPlan) -> str:
    """Hash, hexadecimal, of the whole plan without its draws, which is equal within a set."""
    number = plan.one_of[0] if plan.one_of else 0
    changed = {"sampler_seed": plan.sampler_seed - number, "one_of": None}
    return plan.model_copy(update=changed).digest


def _set_problems(studies: list[Path], count: int | None) -> Iterator[str]:
    plans = [read_certificate(study).body.plan for study in studies]
    wanted = count or max((plan.one_of[1] for plan in plans if plan.one_of), default=0)
    places = [plan.one_of for plan in plans]
    if places != [(number, wanted) for number in range(1, wanted + 1)]:
        said = ", ".join("alone" if p is None else f"{p[0]} of {p[1]}" for p in places)
        yield f"expected studies 1 to {wanted} of {wanted}; found {said}"
    for study, plan in zip(studies[1:], plans[1:], strict=True):
        if same_set(plan) != same_set(plans[0]):
            yield f"the plan of {study.name} differs by more than its draws"


def _spread(studies: list[Path]) -> Iterator[str]:
    """Notes that state the median and the range by measure, or why there are none."""
    files = [[*evaluation_files(s, read_ledger(s / NAME)).values()] for s in studies]
    if not all(files):
        yield "not every study is evaluated: there is no median yet"
        return
    if len({len(found) for found in files}) > 1:
        yield "the studies were evaluated different numbers of times"
    try:
        last = [Evaluation.model_validate_json(found[-1].read_bytes()) for found in files]
    except MALFORMED as error:
        yield f"the evaluations cannot be read ({type(error).__name__})"
        return
    for name, spread in spread_of(last).items():
        words = "none, since a seed failed"
        if spread is not None:
            low, high = 100 * spread.lowest, 100 * spread.highest
            words = f"{100 * spread.median:.2f} %, from {low:.2f} to {high:.2f} %"
        yield f"median {name.replace('_', ' ')} of {len(studies)} studies: {words}"
