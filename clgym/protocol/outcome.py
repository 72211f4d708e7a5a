"""``evaluation.json``: the result of an evaluation, and what its records determine."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from clgym.files import canonical_json, sha256
from clgym.protocol.jobs import order_hash
from clgym.protocol.ledger import INTERRUPTED, LedgerEntry
from clgym.protocol.plan import Certificate, Choice, Code, code_of
from clgym.protocol.study_flags import flags_of_study
from clgym.results.record import Environment, Record, result_hash
from clgym.results.stored import StoredRun

__all__ = [
    "EVALUATION",
    "Evaluation",
    "SeedResult",
    "Spread",
    "evaluation_files",
    "following",
    "interruptions",
    "measured",
    "seed_result",
    "summarised",
]

EVALUATION = "evaluation.json"
MEASURES = ("last_accuracy", "average_incremental_accuracy", "forgetting")
Digest = Field(pattern="^[0-9a-f]{64}$")


def evaluation_files(study: Path, entries: Iterable[LedgerEntry]) -> dict[int, Path]:
    """Files of the evaluations that are complete according to the ledger, by number.

    No other file below ``evaluations/`` counts, whatever its folder is called: the ledger alone
    says which evaluations there were.

    Args:
        study: Folder of the study.
        entries: Lines of the study's ledger.
    """
    said = [entry.body.get("evaluation") for entry in entries if entry.kind == "complete"]
    numbers = sorted({number for number in said if type(number) is int})
    files = {number: study / f"evaluations/{number}" / EVALUATION for number in numbers}
    return {number: file for number, file in files.items() if file.is_file()}


class _OutcomeBlock(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeedResult(_OutcomeBlock):
    """One evaluation run, with the numbers of its record, which stays beside it."""

    seed: int
    status: Literal["done", "failed"]
    error: str | None = None
    record: str | None = None
    """Folder of the record, relative to the evaluation's folder."""
    record_sha256: str | None = None
    result: str | None = None
    """SHA-256 of the record's `result` block."""
    class_order: str | None = None
    """SHA-256 of the class order."""
    accuracy_matrix: list[list[float | None]] = []
    accuracy_after: list[float | None] = []
    last_accuracy: float | None = None
    average_incremental_accuracy: float | None = None
    forgetting: float | None = None
    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    parameters: int | None = None
    stored_samples: int | None = None


class Spread(_OutcomeBlock):
    """Mean and deviation over all seeds; None if a seed failed, since no seed may be left out."""

    mean: float | None
    std: float | None
    """Standard deviation with n - 1; None for one seed."""


class Evaluation(_OutcomeBlock):
    """``evaluation.json``: the result of an evaluation. A table row states its mode."""

    schema_version: Literal[1] = 1
    hash: str = Digest
    """SHA-256 of the canonical JSON of all other fields."""
    protocol: str
    pair: str
    pair_hash: str = Digest
    scenario_hash: str = Digest
    """SHA-256 of the evaluation scenario's options."""
    tuning_fingerprint: str = Digest
    evaluation_fingerprint: str = Digest
    overlap_hash: str = Digest
    mode: str
    strategy: str
    source_hash: str = Digest
    code: Code
    """Code of the evaluation; the code of the tuning is in the certificate."""
    certificate: str = Digest
    """Hash of the certificate."""
    plan_hash: str = Digest
    space_hash: str = Digest
    chosen: list[Choice]
    tuning_score: float | None
    budget: dict[str, int]
    tuning_seconds: float
    evaluation_seconds: float
    seeds: list[SeedResult]
    summary: dict[str, Spread]
    evaluation_number: int
    study_number: int
    evaluations_before: int
    environment: Environment | None
    ledger_head: str = Digest
    """Head of the ledger before the end of this evaluation was written."""
    flags: list[str]


def seed_result(seed: int, run: StoredRun) -> SeedResult:
    """Result of one seed from its run."""
    record = run.record
    result, cost = record.result, record.cost
    return SeedResult(
        seed=seed,
        status="done",
        record=run.folder.name,
        record_sha256=run.sha256,
        result=result_hash(record),
        class_order=order_hash(record),
        accuracy_matrix=result.accuracy_matrix,
        accuracy_after=result.accuracy_after,
        last_accuracy=result.last_accuracy,
        average_incremental_accuracy=result.average_incremental_accuracy,
        forgetting=result.forgetting,
        wall_seconds=cost.wall_seconds,
        peak_memory_bytes=cost.peak_memory_bytes,
        parameters=result.parameters,
        stored_samples=result.stored_samples,
    )


def summarised(seeds: list[SeedResult]) -> dict[str, object]:
    """Mean and standard deviation over all seeds, by measure."""
    found: dict[str, object] = {}
    for name in MEASURES:
        values = [getattr(seed, name) for seed in seeds]
        if any(value is None for value in values):
            found[name] = {"mean": None, "std": None}
        else:
            std = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[name] = {"mean": float(np.mean(values)), "std": std}
    return found


def measured(evaluation: Evaluation, adapts: bool) -> tuple[list[str], list[list[float | None]]]:
    """An evaluation as a table: headings, and fractions for each seed, then mean and deviation.

    Args:
        evaluation: Evaluation with its seeds.
        adapts: Whether predictions were scored when they were made (`StudyPlan.adapts`), so that
            the mean error is the only measure.
    """
    names = MEASURES[:1] if adapts else MEASURES
    nothing = Spread(mean=None, std=None)
    spreads = [evaluation.summary.get(name, nothing) for name in names]
    rows = [[getattr(seed, name) for name in names] for seed in evaluation.seeds]
    rows.append([spread.mean for spread in spreads])
    if adapts:
        rows = [[None if value is None else 1 - value for value in row] for row in rows]
    heads = ["mean error"] if adapts else [name.replace("_", " ") for name in names]
    return heads, [*rows, [spread.std for spread in spreads]]


def interruptions(entries: Iterable[LedgerEntry], number: int) -> list[str]:
    """Errors that ended runs of the tuning or of an evaluation without a result, by their names.

    Such a run is begun again, so a strategy that causes them itself has more attempts than others.

    Args:
        entries: Lines of the ledger.
        number: Number of the evaluation.
    """
    lines = [entry.body for entry in entries if entry.kind in (INTERRUPTED, "retry")]
    own = [body for body in lines if body.get("evaluation", number) == number]
    return [body["error"] for body in own if "error" in body]  # earlier versions named none


def following(
    certificate: Certificate,
    code: Code,
    seeds: list[SeedResult],
    records: list[Record],
    ended: Sequence[str] = (),
) -> dict[str, object]:
    """All values of an evaluation that other files determine, for writing and for the audit.

    Args:
        certificate: Certificate of the evaluation.
        code: Code of the evaluation.
        seeds: Results of the seeds, in the order of the plan.
        records: Records of the seeds that did not fail.
        ended: Errors that ended runs without a result.
    """
    body = certificate.body
    plan = body.plan
    scores = [choice.score for choice in body.chosen if choice.score is not None]
    return {
        "protocol": plan.protocol,
        "pair": plan.pair.name,
        "pair_hash": plan.pair_hash,
        "scenario_hash": sha256(canonical_json(plan.options(evaluating=True))),
        "tuning_fingerprint": plan.tuning.fingerprint,
        "evaluation_fingerprint": plan.evaluation.fingerprint,
        "overlap_hash": plan.overlap_hash,
        "mode": plan.mode,
        "strategy": plan.strategy,
        "source_hash": plan.source_hash,
        "certificate": certificate.hash,
        "plan_hash": body.plan_hash,
        "space_hash": plan.space_hash,
        "chosen": [choice.model_dump(mode="json") for choice in body.chosen],
        "tuning_score": float(np.mean(scores)) if scores else None,
        "budget": body.budget,
        "evaluation_seconds": float(sum(s.wall_seconds or 0 for s in seeds)),
        "summary": summarised(seeds),
        "environment": records[0].environment.model_dump(mode="json") if records else None,
        "flags": sorted({*_flags(certificate, code, seeds, records), *_interrupted(ended)}),
    }


def _interrupted(ended: Sequence[str]) -> Iterator[str]:
    if ended:
        runs = f"{len(ended)} run was" if len(ended) == 1 else f"{len(ended)} runs were"
        yield f"{runs} ended without a result and begun again: {', '.join(sorted(set(ended)))}"


def _flags(
    certificate: Certificate, code: Code, seeds: list[SeedResult], records: list[Record]
) -> list[str]:
    plan, trials = certificate.body.plan, certificate.body.trials
    flags = {flag for record in records for s in record.result.sources for flag in s.flags}
    flags |= {f"tuning source: {flag}" for flag in plan.tuning.flags}
    flags |= {flag for record in records for flag in record.flags}
    changed = [n for n in Code.model_fields if getattr(code, n) != getattr(plan.code, n)]
    # The commit is ignored, since it changes with every edit of the documentation, unlike the tree.
    flags |= {f"{name} changed since tuning" for name in changed if name != "commit"}
    names = [tuple(record.environment.packages) for record in records]
    ran = [code_of(record.environment) for record in records]
    if any(own != code_of(code, packages) for own, packages in zip(ran, names, strict=True)):
        flags.add("seeds were evaluated with other versions than the evaluation ended with")
    tuned, runs = certificate.body.read_files or {}, certificate.body.budget["runs"]
    read = [record.environment.read_files for record in records]
    if new := sorted({name for files in read for name in files.keys() - tuned.keys()}):
        flags |= {f"read {name}, which tuning did not" for name in new if runs}
    if plan.one_of:
        flags.add(f"study {plan.one_of[0]} of {plan.one_of[1]}: their median is the result")
    if failed := [seed for seed in seeds if seed.status == "failed"]:
        flags.add(f"{len(failed)} of {len(plan.evaluation_seeds)} seeds failed")
    if len({canonical_json(trial.config) for trial in trials}) == 1:
        flags.add("one setting was tried: nothing was tuned")
    if retried := certificate.body.budget.get("retried"):
        flags.add(f"{retried} failed tuning {'run was' if retried == 1 else 'runs were'} retried")
    flags |= set(flags_of_study(certificate))
    if plan.pruner:
        stopped = sum(trial.status == "pruned" for trial in trials)
        flags.add(f"{stopped} of {len(trials)} trials were stopped early ({plan.pruner.words})")
    if plan.tunes_on_evaluation:
        flags.add(f"tuned on the evaluation source (mode {plan.mode})")
    if any(record.environment.engine == "inline" for record in records):
        flags.add("gym and learner shared a process")
    return sorted(flags)
