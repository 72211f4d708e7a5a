"""Several studies of one method on one pair that differ only in their random draws.

One study may be lucky. The result of several is their median, and the spread is shown. Each is a
separate study in its own folder; its plan contains its number and the number of studies, so that
the best of them cannot be shown as if it were the only one.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, WrongPhase
from clgym.gym.request import Sandbox
from clgym.protocol.evaluation import evaluate
from clgym.protocol.ledger import NAME, read_ledger
from clgym.protocol.outcome import EVALUATION, MEASURES, Evaluation
from clgym.protocol.plan import Certificate
from clgym.protocol.runs import Event, ExecutionOptions
from clgym.protocol.samplers import SEEDED
from clgym.protocol.study import StudySpec, read_certificate, tune

__all__ = ["StudiesSpread", "evaluate_studies", "spread_of", "studies_in", "tune_studies"]

OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class StudiesSpread:
    """One measure over several studies; each study counts by its mean over seeds."""

    median: float
    lowest: float
    highest: float


def tune_studies(
    asked: StudySpec,
    count: int,
    where: ExecutionOptions,
    on_event: OnEvent = lambda event: None,
    retry_failed: bool = False,
) -> list[Certificate]:
    """Carry out several studies one after the other, or continue them.

    Args:
        asked: Specification of the first study; later ones have the next sampler seeds.
        count: Number of studies, at least 2.
        where: Folder of ``study-1``, ``study-2``, ..., and how they are executed.
        on_event: Called with progress.
        retry_failed: See `tune`.

    Raises:
        BadPlan: The sampler draws the same values in every study, or the engine is inline.
        ClgymError: For the reasons of `tune`.
    """
    if count < 2 or asked.sampler not in SEEDED or asked.mode == "default":
        raise BadPlan(
            expected=f"2 studies or more, of a mode that tunes, with a sampler that draws by its "
            f"seed ({', '.join(SEEDED)})",
            found=f"{count} studies, mode {asked.mode}, sampler {asked.sampler}",
            fix="Leave --studies out, or give another --sampler",
        )
    if where.pool.engine == "inline":
        raise BadPlan(
            expected="an engine with separate processes, since each study first surveys both sides",
            found="--engine inline, which closes the evaluation side permanently",
            fix="Leave --engine out, or tune each study separately",
        )
    return [
        tune(
            replace(
                asked,
                sampler_seed=asked.sampler_seed + number,
                one_of=(number + 1, count),
            ),
            replace(where, out=where.out / f"study-{number + 1}"),
            on_event,
            retry_failed,
        )
        for number in range(count)
    ]


def studies_in(folder: Path) -> list[Path]:
    """Folders of the studies that a folder holds, by number; none if it is no such folder."""
    named = {p: re.fullmatch(r"study-(\d+)", p.parent.name) for p in folder.glob(f"study-*/{NAME}")}
    numbered = {int(name[1]): path.parent for path, name in named.items() if name}
    return [numbered[number] for number in sorted(numbered)]


def evaluate_studies(
    folder: Path,
    pool: PoolSpec | None = None,
    data_root: Path | None = None,
    plugins: tuple[Path, ...] = (),
    again: bool = False,
    on_event: OnEvent = lambda event: None,
    sandbox: Sandbox = "auto",
) -> list[Evaluation]:
    """Evaluate every study of a folder, in order; evaluated ones are not run again.

    Args:
        folder: Folder that `tune_studies` wrote.
        pool: Workers that carry out the runs; None means the default.
        data_root: Data root; None means the default.
        plugins: Files that contain the strategy, if it is not built in.
        again: Whether to evaluate each study once more, which is counted.
        on_event: Called with progress.
        sandbox: Sandbox of the learners.

    Raises:
        WrongPhase: A study is missing or not sealed.
        ClgymError: For the reasons of `evaluate`.
    """
    studies = studies_in(folder)
    _check_whole(folder, studies)
    found: list[Evaluation] = []
    for study in studies:
        entries = read_ledger(study / NAME)
        opened, ended = ([e for e in entries if e.kind == kind] for kind in ("opened", "complete"))
        if ended and len(ended) == len(opened) and not again:
            file = study / f"evaluations/{len(ended)}" / EVALUATION
            found.append(Evaluation.model_validate_json(file.read_bytes()))
        else:
            found.append(evaluate(study, pool, data_root, plugins, again, on_event, sandbox))
    return found


def _check_whole(folder: Path, studies: Sequence[Path]) -> None:
    """Refuse an incomplete set of studies, whose median would differ.

    Raises:
        WrongPhase: A study is missing or not sealed.
    """
    sealed = [s for s in studies if any(e.kind == "sealed" for e in read_ledger(s / NAME))]
    places = [read_certificate(study).body.plan.one_of or (0, 0) for study in sealed]
    wanted = max((count for _, count in places), default=0)
    if places != [(number, wanted) for number in range(1, wanted + 1)] or not wanted:
        raise WrongPhase(
            expected=f"all studies of {folder}, sealed",
            found=f"{len(sealed)} sealed of {wanted or len(studies)}",
            fix="Repeat the same `clgym tune --studies`",
        )


def spread_of(evaluations: Sequence[Evaluation]) -> dict[str, StudiesSpread | None]:
    """Median and range over studies, by measure; None if a seed of one of them failed."""
    found: dict[str, StudiesSpread | None] = {}
    for name in MEASURES:
        means = [evaluation.summary[name].mean for evaluation in evaluations]
        known = [mean for mean in means if mean is not None]
        found[name] = (
            StudiesSpread(float(np.median(known)), min(known), max(known))
            if known and len(known) == len(means)
            else None
        )
    return found
