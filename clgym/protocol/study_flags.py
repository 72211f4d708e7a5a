"""Warnings of an evaluation about how its study was made."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from clgym.files import canonical_json
from clgym.protocol.plan import Certificate, StudyPlan, Trial
from clgym.protocol.samplers import SEEDED
from clgym.protocol.space import Space

__all__ = ["LACKS", "flags_of_study", "set_by_hand"]

LACKS = {
    "process": "tuned without a process of its own for the learner",
    "sandbox": "tuned without a sandbox",
}
"""Warning about what learners of the trials lacked (`Envelope.trials_without`)."""


_CHANCE = 0.05
"""Chance from which on it is no wonder that all trials drew the same value of an option."""


def set_by_hand(plan: StudyPlan) -> str:
    """Options that the author set by hand, with their values, as one text; empty without any."""
    return _as_text(plan.set_by_hand)


def _as_text(options: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else canonical_json(value).decode()}"
        for name, value in options.items()
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
    if not plan.by_hand.own_space:
        yield "the search space is not the strategy's own"
    usual_seed = plan.one_of[0] - 1 if plan.one_of else 0
    if plan.trials and plan.sampler in SEEDED and plan.sampler_seed != usual_seed:
        yield f"the sampler's seed is {plan.sampler_seed} instead of {usual_seed}"
    yield from _without_choice(plan, certificate.body.trials)
    yield from (LACKS[lack] for lack in certificate.envelope.trials_without or ())


def _without_choice(plan: StudyPlan, trials: Sequence[Trial]) -> Iterator[str]:
    """Warnings about trials between which there was nothing, or less than it seems, to choose."""
    if len({canonical_json(trial.config) for trial in trials}) < 2:
        return  # flagged as one setting, if there is any
    streams: dict[tuple[int | None, int | None], list[object]] = defaultdict(list)
    for trial in trials:
        if trial.status == "done":
            streams[trial.seed, trial.experience].append(_scores(trial))
    compared = [scores for scores in streams.values() if len(scores) > 1]
    if compared and all(map(_all_equal, compared)):
        yield "all trials have the same scores"
    space = Space.of(plan.space).parameters
    same: dict[str, object] = {}
    for parameter in space:
        values = [t.config[parameter.name] for t in trials if parameter.name in t.config]
        number = math.inf if parameter.choices is None else len(parameter.choices)
        if number > 1 and _all_equal(values) and number ** (1 - len(values)) < _CHANCE:
            same[parameter.name] = values[0]
    if same:
        yield f"all trials have the same {_as_text(same)}"


def _scores(trial: Trial) -> list[tuple[float | None, float | None]]:
    """What was measured in the trial's runs, whose hashes differ with the options."""
    return [(run.last_accuracy, run.average_incremental_accuracy) for run in trial.runs]


def _all_equal(values: Sequence[object]) -> bool:
    """Whether there are several values, which are all the same."""
    return len(values) > 1 and all(value == values[0] for value in values)
