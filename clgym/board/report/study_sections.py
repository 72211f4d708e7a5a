"""Sections of a report about a study: plan, trials, choice, evaluations, ledger."""

import datetime
from collections.abc import Mapping
from typing import Any

from clgym.board.reading.found import LoadedStudy
from clgym.board.report.parts import Note, ReportFacts, ReportTable, Section, percent, said
from clgym.protocol.ledger import LedgerEntry
from clgym.protocol.outcome import Evaluation, measured
from clgym.protocol.plan import Trial
from clgym.protocol.study_flags import set_by_hand

__all__ = ["sections"]


def sections(study: LoadedStudy) -> list[Section]:
    """All sections that the study's own files support."""
    found = [Section("Plan", [_plan(study)])]
    if study.certificate is None:
        found.append(
            Section(
                "Choice", [Note("The study is not sealed yet, so no hyper-parameters are chosen.")]
            )
        )
    else:
        found.append(Section("Choice", _choice(study)))
        found.append(Section("Trials", [_trials(study.certificate.body.trials)]))
    for evaluation in study.evaluations:
        title = f"Evaluation {evaluation.evaluation_number}"
        found.append(Section(title, _evaluation(evaluation, study.plan.adapts)))
    found.append(Section("Ledger", [_ledger(study.entries)]))
    return found


def _plan(study: LoadedStudy) -> ReportFacts:
    plan = study.plan
    return ReportFacts(
        {
            "pair": f"{plan.pair.name}, under {plan.pair.scenario}",
            "tuned on": ", ".join([plan.pair.tuning.words, *plan.tuning.flags]),
            "evaluated on": ", ".join([plan.pair.evaluation.words, *plan.evaluation.flags]),
            "images of both sides, dropped from tuning": str(len(plan.withheld_images)),
            "mode": plan.mode,
            "criterion": f"{plan.criterion}, on {plan.score_on} rows",
            "search space": "; ".join(_dimension(d) for d in plan.space) or "none",
            "fixed options": said(plan.base),
            "of these set by hand": set_by_hand(plan) or "none stated",
            "sampler": f"{plan.sampler}, seed {plan.sampler_seed}",
            "trials": f"{plan.trials}, each with seeds {said(plan.seeds)}",
            **({"early stopping": plan.pruner.words} if plan.pruner else {}),
            "evaluation seeds": said(plan.evaluation_seeds),
            "strategy's file, SHA-256": plan.source_hash,
            "code": plan.code.commit or plan.code.tree,
        }
    )


def _dimension(dimension: Mapping[str, object]) -> str:
    """An option of the search space: its values, or its range."""
    rest = {k: v for k, v in dimension.items() if v not in (None, [], {}, False)}
    name, values = rest.pop("name", "?"), rest.pop("values", None)
    rest.pop("kind", None)
    tail = f" ({said(rest)})" if rest and values is not None else ""
    return f"{name}: {said(rest if values is None else values)}{tail}"


def _choice(study: LoadedStudy) -> list[Any]:
    assert study.certificate is not None
    body, envelope = study.certificate.body, study.certificate.envelope
    rows = [
        [
            "all" if choice.seed is None else str(choice.seed),
            "; ".join(said(config) for config in choice.configs),
            said(choice.trials),
            percent(choice.score),
        ]
        for choice in body.chosen
    ]
    facts = {
        "certificate": study.certificate.hash,
        "budget": ", ".join(f"{count:,} {name}" for name, count in body.budget.items()),
        "tuning time, summed over runs": f"{study.tuning_seconds:,.1f} s",
        "workers": f"{envelope.workers} ({envelope.engine}), {envelope.retries} retries",
        "study": f"{envelope.study_number} of this strategy and pair in its folder; "
        f"{envelope.evaluations_before} evaluations before it",
    }
    heads = ["seed", "hyper-parameters", "trial", "tuning score, %"]
    return [
        ReportTable("Chosen hyper-parameters", heads, rows, text=frozenset({0, 1, 2})),
        ReportFacts(facts),
    ]


def _trials(trials: tuple[Trial, ...]) -> ReportTable:
    heads = ["trial", "hyper-parameters", "outcome", "score, %", "last accuracy of its runs, %"]
    rows = [
        [
            _number(trial),
            said(trial.config),
            trial.outcome,
            percent(trial.score),
            ", ".join(
                percent(run.last_accuracy) if not run.error else run.error for run in trial.runs
            ),
        ]
        for trial in trials
    ]
    return ReportTable("All trials, in order", heads, rows, frozenset({0, 1, 2}), len(rows) > 20)


def _number(trial: Trial) -> str:
    parts = [str(trial.trial)]
    parts += [] if trial.seed is None else [f"seed {trial.seed}"]
    parts += [] if trial.experience is None else [f"experience {trial.experience + 1}"]
    return ", ".join(parts)


def _evaluation(evaluation: Evaluation, adapts: bool) -> list[Any]:
    heads, values = measured(evaluation, adapts)
    names = [[str(seed.seed), seed.error or seed.status] for seed in evaluation.seeds]
    rows = [
        [*name, *map(percent, row)]
        for name, row in zip([*names, ["mean", ""], ["std", ""]], values, strict=True)
    ]
    heads = ["seed", "outcome", *(f"{head}, %" for head in heads)]
    facts = {
        "tuning score of the chosen hyper-parameters, on the tuning data": percent(
            evaluation.tuning_score
        )
        + " %",
        "time of the runs": f"{evaluation.evaluation_seconds:,.1f} s",
        "time of the tuning": f"{evaluation.tuning_seconds:,.1f} s",
        "flags": said(evaluation.flags),
        "hash": evaluation.hash,
        "code": evaluation.code.commit or evaluation.code.tree,
    }
    return [ReportTable("Every seed", heads, rows, frozenset({0, 1})), ReportFacts(facts)]


def _ledger(entries: list[LedgerEntry]) -> ReportTable:
    heads = ["line", "time (UTC)", "what", "about", "hash"]
    rows = [
        [str(entry.seq + 1), _when(entry.time), entry.kind, _about(entry), entry.hash[:12]]
        for entry in entries
    ]
    return ReportTable("Every event", heads, rows, frozenset(range(5)), folded=len(rows) > 12)


def _when(seconds: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return "no time"
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _about(entry: LedgerEntry) -> str:
    """The values of a ledger line that matter to a reader."""
    shown = (
        "key",
        "status",
        "evaluation",
        "seed",
        "seeds",
        "error",
        "workers",
        "config",
        "seconds",
    )
    return said({k: entry.body[k] for k in shown if entry.body.get(k) not in (None, [])})
