"""Repeat runs of a study and compare: exactly on a CPU, within a tolerance on a GPU."""

import contextlib
import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from clgym.data import withheld
from clgym.draws import other_draws
from clgym.engines.pool import PoolSpec, gather, open_pool
from clgym.errors import BadPlan, ClgymError, MissingData, MissingExtra
from clgym.files import sha256
from clgym.gym.request import Request
from clgym.protocol.evaluation import choice_of, requests_of
from clgym.protocol.jobs import TARGET, as_message, rules_of
from clgym.protocol.ledger import Ledger
from clgym.protocol.outcome import EVALUATION, MEASURES, Evaluation, SeedResult
from clgym.protocol.plan import Certificate, StudyPlan, code_identity
from clgym.protocol.planning import survey
from clgym.protocol.plugin_files import plugins_of
from clgym.protocol.record_audit import parsed
from clgym.protocol.replay import Replay
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import CERTIFICATE
from clgym.registry import strategy_files
from clgym.results.record import Record, Result
from clgym.results.stored import open_run

__all__ = ["drawn", "look_again", "repeat", "repeat_tuning"]

TOLERANCE_GPU = 0.01
"""Largest difference of a measurement between two runs on a GPU."""
TOLERANCE_CELL_GPU = 0.05
"""The same for one cell of the accuracy matrix, which is the mean over fewer images."""
_STATED = {"strategy", "scenario", "sources", "backbone"}
"""Fields of a result that identify the run; all others were measured."""
_BORDERLINE = 1
"""Number of images that may count as similar on one machine only, by last bits of a correlation."""
Run = tuple[int, int]
"""Number of an evaluation, and seed."""


def drawn(head: str, runs: Sequence[Run], count: int | Literal["all"]) -> list[Run]:
    """Draw runs by the ledger's head, which is unknown until the results are in the ledger.

    Args:
        head: Hash of a line of the ledger.
        runs: Runs to draw from.
        count: Number of runs to draw.
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
    """Repeat evaluation runs, and yield the differences.

    Args:
        study: Folder of the study.
        numbers: Numbers of its complete evaluations.
        count: Number of runs to repeat.
        head: Hash that determines which runs are drawn.
        given: Data root and plugins to use.
        notes: Gets a line that names the repeated runs, and one for each that gave equal
            predictions and numbers with other facts, such as flags of its sources.
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
    plan = certificate.body.plan
    for number, seed in chosen:
        with _elsewhere(study, plan, given) as where:
            requests, stored = _in_the_same_order(study, number, certificate, seed, where)
            again = _carried_out(requests, where, [])
        yield from _compared(f"seed {seed}", plan, stored, again, notes)
        yield from _another_file(f"seed {seed}", plan, stored, again, where.plugins)


def repeat_tuning(
    study: Path,
    replay: Replay,
    count: int | Literal["all"],
    head: str,
    given: ExecutionOptions,
    notes: list[str],
) -> Iterator[str]:
    """Repeat runs of the tuning, in processes for which the evaluation side is closed.

    Args:
        study: Folder of the study.
        replay: The study's runs, as they follow from its plan and ledger.
        count: All, or any number, which stands for one run of a chosen trial and one of another.
        head: Hash that determines which runs are drawn.
        given: Data root and plugins to use.
        notes: Gets a line that names the repeated runs, and one for each that gave equal
            predictions and numbers with other facts.
    """
    chosen, others = _by_choice(replay)
    drawn_keys = _ordered(head, [*chosen, *others])
    if count != "all":
        drawn_keys = [*_ordered(head, chosen)[:1], *_ordered(head, others)[:1]]
    total = len(chosen) + len(others)
    names = ", ".join(drawn_keys)
    notes.append(f"repeated {len(drawn_keys)} of {total} runs of the tuning: {names}")
    plan = replay.plan
    closed = rules_of(plan.pair, plan.evaluation.fingerprint, plan.withheld_images)
    for key in drawn_keys:
        stored = open_run(study / key).record
        with _elsewhere(study, plan, given) as where:
            requests = replay.requests(key, where)
            try:
                again = _carried_out(requests, where, [] if plan.tunes_on_evaluation else closed)
            except (MissingData, MissingExtra) as error:
                notes.append(f"no run of the tuning could be repeated here: {error.found}")
                return
        yield from _compared(key, plan, stored, again, notes)
        yield from _another_file(key, plan, stored, again, where.plugins)


def _by_choice(replay: Replay) -> tuple[list[str], list[str]]:
    """Keys of the finished runs of the chosen trials, and of all other finished ones."""
    chained = replay.plan.mode in ("current_task", "stability_decay")
    taken: set[tuple[int, int | None, int | None]] = set()
    for choice in replay.body().chosen:
        seeds = replay.plan.seeds if choice.seed is None else (choice.seed,)
        for t, trial in enumerate(choice.trials):
            taken |= {(seed, t if chained else None, trial) for seed in seeds}
    chosen: list[str] = []
    others: list[str] = []
    for key, run in replay.required.items():
        if replay.replies.get(key, {}).get("status") == "done":
            place = (run.seed, run.experience if chained else None, run.trial)
            (chosen if place in taken else others).append(key)
    return chosen, others


def _ordered(head: str, keys: Sequence[str]) -> list[str]:
    """Keys of runs in the order in which a head draws them."""
    return sorted(keys, key=lambda key: sha256(f"{head}\n{key}".encode()))


@contextlib.contextmanager
def _elsewhere(
    study: Path, plan: StudyPlan, given: ExecutionOptions
) -> Generator[ExecutionOptions, None, None]:
    """A temporary folder in which runs are repeated on the plan's kind of device."""
    plugins = given.plugins or plugins_of(study, Ledger(study))
    with tempfile.TemporaryDirectory() as folder:
        pool = PoolSpec(devices=(plan.device,))
        yield ExecutionOptions(Path(folder), pool, given.data_root, plugins)


def look_again(
    plan: StudyPlan, said: Mapping[str, Any], data_root: Path | None, notes: list[str]
) -> Iterator[str]:
    """Survey both sides of the pair again, and yield differences from the study's report.

    Args:
        plan: Plan of the study.
        said: Report of the survey before the study, from the ledger.
        data_root: Data root.
        notes: Gets a line if the sides cannot be compared with the report.
    """
    try:
        found = survey(plan.pair, data_root)
    except BadPlan as error:
        yield f"the pair would be refused today: {error.found}"
        return
    except (MissingData, MissingExtra) as error:
        notes.append(f"both sides were not looked at again: {error.found}")
        return
    except ClgymError as error:
        yield f"both sides could not be looked at again: {error.found}"
        return
    old, new = said["overlap"], found["overlap"]
    for name in ("shared_images", "shared_classes", "images"):
        if old[name] != new[name]:
            yield f"overlap.{name} is not what a look at both sides finds"
    if old.get("detector") != new["detector"]:
        notes.append(f"images that look alike were counted by {old.get('detector', 'clgym 0.1')}")
    elif abs(old["near_images"] - new["near_images"]) > _BORDERLINE:
        yield f"overlap.near_images is {old['near_images']}, a look finds {new['near_images']}"


def _in_the_same_order(
    study: Path, number: int, certificate: Certificate, seed: int, where: ExecutionOptions
) -> tuple[list[Request], Record]:
    """The runs of a seed, and the record of the last of them.

    Test rows are sent in the order of the key in the runs' records.
    """
    requests = requests_of(certificate.body.plan, choice_of(certificate, seed), seed, where)
    stored = [open_run(study / f"evaluations/{number}" / _folder(r).name) for r in requests]
    keys = [run.record.environment.order_key for run in stored]
    ordered = [replace(r, order_key=key) for r, key in zip(requests, keys, strict=True)]
    return ordered, stored[-1].record


def _folder(request: Request) -> Path:
    assert request.out is not None
    return request.out


def _carried_out(
    requests: Sequence[Request], where: ExecutionOptions, closed: list[withheld.Rule]
) -> Record:
    """The record of the last run; all of them have the same closed sources."""
    workers = open_pool(where.pool, TARGET)
    try:
        for request in requests:
            gather(workers, [("again", as_message(request, closed, True))])
    finally:
        workers.close()
    return open_run(_folder(requests[-1])).record


def _compared(
    name: str, plan: StudyPlan, stored: Record, again: Record, notes: list[str]
) -> Iterator[str]:
    """Yield measurements that differ; differing facts with equal numbers are added to the notes."""
    if plan.device != "cpu":
        for place, shift in _shifts(stored.result, again.result):
            if not shift <= (TOLERANCE_GPU if place in MEASURES else TOLERANCE_CELL_GPU):
                yield f"{name}: {place} differs by {shift:.4f}{_reason(stored, again)}"
        return
    old, new = (record.result.model_dump(mode="json") for record in (stored, again))
    different = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    if different - _STATED:
        yield f"{name}: another result{_reason(stored, again)}"
    elif different:
        stated = ", ".join(sorted(different))
        notes.append(f"{name}: equal predictions and numbers; what is stated of {stated} differs")


def _shifts(old: Result, new: Result) -> Iterator[tuple[str, float]]:
    """Absolute differences of the measurements of two runs, by place; infinite if one has none."""
    for name in MEASURES:
        yield name, _shift(getattr(old, name), getattr(new, name))
    for i, rows in enumerate(zip_longest(old.accuracy_matrix, new.accuracy_matrix)):
        for j, (one, two) in enumerate(zip_longest(*(row or [] for row in rows))):
            yield f"accuracy_matrix[{i}][{j}]", _shift(one, two)


def _shift(old: float | None, new: float | None) -> float:
    if old is None or new is None:
        return 0.0 if old is new else math.inf
    return abs(old - new)


def _another_file(
    name: str, plan: StudyPlan, stored: Record, again: Record, plugins: Sequence[Path]
) -> Iterator[str]:
    """Yield a problem if the strategy's files are not those of the study.

    The files of clgym's own strategies change with its releases, which only a note mentions.
    """
    old, new = stored.result.strategy.source_hash, again.result.strategy.source_hash
    released = not strategy_files(plugins) and plan.code.tree != code_identity().tree
    if old != new and not released:
        yield f"{name}: repeated by another file of {plan.strategy}"


def _reason(stored: Record, again: Record) -> str:
    """End of a sentence that says why a result may differ without manipulation."""
    draws = other_draws(stored.environment.clgym)
    if draws is None:
        return ""
    old, new = stored.result.strategy.source_hash, again.result.strategy.source_hash
    return f", but it was {draws}{', by another file of the strategy' if old != new else ''}"
