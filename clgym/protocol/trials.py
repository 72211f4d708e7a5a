"""Trials made from their runs: the score of a trial, and early stopping of trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clgym.protocol.plan import RunScore, StudyPlan, Trial
from clgym.protocol.pruning import goes_on
from clgym.protocol.runs import Runs, TrialRun, criterion_of

__all__ = ["carried_by_rungs", "trial_of"]


def trial_of(
    plan: StudyPlan,
    number: int,
    config: Mapping[str, Any],
    runs: Sequence[RunScore],
    stream: int | None,
) -> Trial:
    """A trial whose runs have ended; its score is the mean of their criterion.

    Args:
        plan: Plan of the study.
        number: Number of the trial.
        config: Hyper-parameters of the trial.
        runs: Scores of its runs, one per seed.
        stream: Seed of the stream, in modes that choose separately for each stream.
    """
    failed = any(run.status == "failed" for run in runs)
    values = [] if failed else [criterion_of(plan.criterion, run) for run in runs]
    return Trial(
        trial=number,
        config=dict(config),
        status="failed" if failed else "done",
        score=None if failed else sum(values) / len(values),
        runs=tuple(runs),
        seed=stream,
    )


@dataclass
class _Candidate:
    """A trial on its way from rung to rung.

    Attributes:
        whole: Runs of the trial over the whole stream, one per seed.
        last: Runs that were carried out last, which the next ones continue; None at first.
        trial: Outcome so far, whose runs count the images of all rungs.
    """

    whole: list[TrialRun]
    last: list[TrialRun] | None = None
    trial: Trial | None = None

    def next_runs(self, rung: int | None) -> list[TrialRun]:
        """Runs of the trial up to a rung, or to the end; each continues that of the rung before."""
        before = self.last or [None] * len(self.whole)
        to_rung = {} if rung is None else {"part": (0, rung), "experience": rung - 1}
        return [
            replace(run, after=earlier, **to_rung)
            for run, earlier in zip(self.whole, before, strict=True)
        ]

    def reached(self, plan: StudyPlan, runs: Runs, rung: int | None, stream: int | None) -> Trial:
        """Carry out the runs up to a rung, and return the outcome so far."""
        self.last = self.next_runs(rung)
        scores = [score for score in runs.carry_out(self.last) if score is not None]
        if self.trial is not None:
            pairs = zip(scores, self.trial.runs, strict=True)
            scores = [s.model_copy(update={"images": s.images + b.images}) for s, b in pairs]
        first = self.whole[0]
        self.trial = trial_of(plan, first.trial, first.config, scores, stream)
        return self.trial


def carried_by_rungs(
    plan: StudyPlan, runs: Runs, specs: Sequence[TrialRun], stream: int | None
) -> list[Trial]:
    """Carry trials from rung to rung; those that the plan's pruner stops end there.

    All runs of a rung are finished before trials are compared, in their order. The next run of a
    trial continues where the one of the rung before ended, and gives the result of a run that was
    never stopped.

    Args:
        plan: Plan with a pruner.
        runs: Object that carries the runs out.
        specs: Runs over the whole stream, of all trials and seeds.
        stream: Seed of the stream, in modes that choose separately for each stream.

    Returns:
        The trials, in order.
    """
    assert plan.pruner is not None
    going: dict[int, _Candidate] = {}
    for spec in specs:
        going.setdefault(spec.trial, _Candidate([])).whole.append(spec)
    ended: dict[int, Trial] = {}
    for rung in (*plan.pruner.rungs, None):
        runs.carry_out([run for one in going.values() for run in one.next_runs(rung)])
        reached = {n: one.reached(plan, runs, rung, stream) for n, one in going.items()}
        scores = {n: trial.score for n, trial in reached.items() if trial.score is not None}
        ended |= reached
        if rung is None:
            break
        on = goes_on(plan.pruner.rule, scores)
        for number in sorted(scores.keys() - on):
            told = {"status": "pruned", "score": None, "pruned_after": rung}
            ended[number] = reached[number].model_copy(update=told)
            runs.prune(going[number].whole[0], rung, scores[number])
        going = {number: one for number, one in going.items() if number in on}
    return [ended[number] for number in sorted(ended)]
