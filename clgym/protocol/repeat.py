"""Repeat evaluation runs of a study and compare: exactly on a CPU, within a tolerance on a GPU."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from clgym.draws import other_draws
from clgym.engines.channel import Message
from clgym.engines.pool import PoolSpec, gather, open_pool
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.protocol.evaluation import choice_of, requests_of
from clgym.protocol.jobs import TARGET, RunSummary, as_message
from clgym.protocol.ledger import Ledger
from clgym.protocol.outcome import EVALUATION, Evaluation, SeedResult
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.plugin_files import plugins_of
from clgym.protocol.record_audit import parsed
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import CERTIFICATE
from clgym.results.stored import open_run

__all__ = ["drawn", "repeat"]

TOLERANCE_GPU = 0.01
"""Largest difference of an accuracy between two runs on a GPU."""
Run = tuple[int, int]
"""Number of an evaluation, and seed."""


def drawn(head: str, runs: Sequence[Run], count: int | Literal["all"]) -> list[Run]:
    """Draw runs by the ledger's head, which nobody knows before the results stand in it.

    Args:
        head: Hash of a line of the ledger.
        runs: All that can be drawn.
        count: How many.
    """
    order = sorted(runs, key=lambda run: sha256(f"{head}\n{run[0]}\n{run[1]}".encode()))
    return order if count == "all" else order[:count]


def repeat(
    study: Path,
    numbers: Sequence[int],
    count: int | Literal["all"],
    head: str,
    given: ExecutionOptions,
    notes: list[str],
) -> Iterator[str]:
    """What differs in runs that are carried out once more.

    Args:
        study: Folder of the study.
        numbers: Its complete evaluations.
        count: Number of runs to repeat.
        head: Which runs are drawn follows from it.
        given: Data root and plugins to use.
        notes: Gets a line that says which runs were repeated.
    """
    certificate: Certificate = parsed(Certificate, (study / CERTIFICATE).read_bytes())
    results: dict[Run, SeedResult] = {}
    for number in numbers:
        data = (study / f"evaluations/{number}" / EVALUATION).read_bytes()
        evaluation: Evaluation = parsed(Evaluation, data)
        results |= {(number, s.seed): s for s in evaluation.seeds if s.status == "done"}
    chosen = drawn(head, list(results), count)
    names = ", ".join(f"seed {seed} of evaluation {number}" for number, seed in chosen)
    notes.append(f"repeated {len(chosen)} of {len(results)} runs, drawn by the head: {names}")
    plugins = given.plugins or plugins_of(study, Ledger(study))
    for number, seed in chosen:
        with tempfile.TemporaryDirectory() as folder:
            pool = PoolSpec(devices=(certificate.body.plan.device,))
            where = ExecutionOptions(Path(folder), pool, given.data_root, plugins)
            requests, version = _in_the_same_order(study, number, certificate, seed, where)
            reply = _carried_out(requests, where)
        for problem in _compared(certificate.body.plan, results[number, seed], reply):
            # Many runs draw nothing that matters, so all are repeated; equal ones need no reason.
            reason = other_draws(version)
            yield f"{problem}, but it was {reason}" if reason else problem


def _in_the_same_order(
    study: Path, number: int, certificate: Certificate, seed: int, where: ExecutionOptions
) -> tuple[list[Request], str]:
    """The runs of a seed, and the release that made the last of them.

    Test rows go out in the order that the runs' records name the key of.
    """
    requests = requests_of(certificate.body.plan, choice_of(certificate, seed), seed, where)
    keys, version = [], ""
    for request in requests:
        assert request.out is not None
        earlier = open_run(study / f"evaluations/{number}" / request.out.name)
        keys.append(earlier.record.environment.order_key)
        version = earlier.record.environment.clgym
    return [replace(r, order_key=key) for r, key in zip(requests, keys, strict=True)], version


def _carried_out(requests: Sequence[Request], where: ExecutionOptions) -> RunSummary:
    """The reply to the last run."""
    workers, reply = open_pool(where.pool, TARGET), Message()
    try:
        for request in requests:
            reply = gather(workers, [("again", as_message(request, [], True))])["again"]
    finally:
        workers.close()
    return cast(RunSummary, reply)  # as `clgym.protocol.jobs.Jobs` made it


def _compared(plan: StudyPlan, seed: SeedResult, reply: RunSummary) -> Iterator[str]:
    if plan.device == "cpu":
        if reply["result"] != seed.result:
            yield f"seed {seed.seed}: another result"
        return
    shift = abs(reply["last_accuracy"] - (seed.last_accuracy or 0.0))
    if shift > TOLERANCE_GPU:
        yield f"seed {seed.seed}: last accuracy differs by {shift:.4f}"
