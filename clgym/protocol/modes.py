"""The choice of hyper-parameters: the data that each mode may use, and its rule."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clgym.errors import BadPlan
from clgym.protocol.plan import Choice, RunScore, StudyPlan, Trial
from clgym.protocol.runs import Runs, TrialRun
from clgym.protocol.samplers import proposals
from clgym.protocol.space import Space
from clgym.protocol.trials import carried_by_rungs, trial_of

__all__ = ["MODES", "check_start", "choose"]

MODES = {
    "transfer": "the whole stream of the tuning source, as in the paper",
    "oracle": "held-out rows of the whole evaluation stream (an upper reference, not realistic)",
    "first_task": "held-out rows of the evaluation stream's first experience",
    "first_k": "held-out rows of the evaluation stream's first k experiences, which are then left "
    "out of the evaluation (Chaudhry et al. 2019)",
    "current_task": "held-out rows of the current experience of the evaluation stream; "
    "hyper-parameters are chosen anew in each",
    "stability_decay": "held-out rows of the current experience; stability starts at its "
    "strongest and is halved until the experience is learned (De Lange et al. 2021)",
    "default": "none: the strategy keeps its defaults; with options set by hand the evaluation is "
    "flagged and the board does not rank it",
}
"""Description of the data that each mode uses."""

DROP, DECAY, ATTEMPTS = 0.2, 0.5, 10
"""Values of De Lange et al.: accuracy that stability may cost, factor of a step, maximum number of
steps."""


def check_start(plan: StudyPlan, space: Space) -> None:
    """Refuse a plan whose first trial could not start, before anything is written.

    Raises:
        BadPlan: The mode or the sampler cannot work on this space.
        MissingExtra: The sampler's package is not installed.
    """
    if plan.mode == "stability_decay":
        _rates(plan, space)
    elif plan.mode != "default":
        settings(plan, space, [])


def choose(plan: StudyPlan, space: Space, runs: Runs) -> tuple[list[Trial], list[Choice]]:
    """Carry out the trials of the mode, and choose.

    Raises:
        BadPlan: No trial succeeded.
    """
    if plan.mode == "default":
        return [], [Choice(seed=None, configs=({},), trials=(None,), score=None)]
    if plan.mode == "current_task":
        return _greedy(plan, space, runs)
    if plan.mode == "stability_decay":
        return _decay(plan, space, runs)
    part = (0, plan.k) if plan.mode in ("first_task", "first_k") else None
    if not plan.per_seed:
        trials = _search(plan, space, runs, plan.seeds, part, None)
        return trials, [_best(trials, None)]
    trials: list[Trial] = []
    chosen: list[Choice] = []
    for seed in plan.seeds:
        own = _search(plan, space, runs, (seed,), part, seed)
        trials += own
        chosen.append(_best(own, seed))
    return trials, chosen


def _search(
    plan: StudyPlan,
    space: Space,
    runs: Runs,
    seeds: Sequence[int],
    part: tuple[int, int] | None,
    stream: int | None,
) -> list[Trial]:
    """Trials over some seeds; ``stream`` is set if each stream has its own trials."""
    label = "" if stream is None else f"stream-{stream}/"
    trials: list[Trial] = []
    while len(trials) < plan.trials:
        configs = settings(plan, space, [trial.score for trial in trials])
        batch = range(len(trials), len(configs))
        specs = [TrialRun(i, s, configs[i], part, label=label) for i in batch for s in seeds]
        if plan.pruner is not None:
            trials += carried_by_rungs(plan, runs, specs, stream)
            continue
        earlier = sum(run.images for trial in trials for run in trial.runs)
        done = runs.carry_out(specs, _cap(plan, runs, specs, earlier))
        for place, i in enumerate(batch):
            own = done[place * len(seeds) : (place + 1) * len(seeds)]
            trials.append(_judged(plan, i, configs[i], own, stream, trials))
    return trials


def settings(
    plan: StudyPlan, space: Space, scores: Sequence[float | None]
) -> list[dict[str, object]]:
    """All hyper-parameters that are determined so far."""
    name, seed = plan.strategy, plan.sampler_seed
    return proposals(plan.sampler, space, name, seed, plan.trials, plan.generation, scores)


def _cap(
    plan: StudyPlan, runs: Runs, specs: Sequence[TrialRun], earlier: int
) -> Callable[[TrialRun], bool]:
    """Return a function that says whether the runs before a given one have used up the cap."""

    def enough(spec: TrialRun) -> bool:
        if plan.cap_images is None:
            return False
        before = [runs.replies.get(s.key, {}) for s in specs if s.trial < spec.trial]
        return earlier + sum(reply.get("images", 0) for reply in before) >= plan.cap_images

    return enough


def _judged(
    plan: StudyPlan,
    number: int,
    config: Mapping[str, Any],
    own: Sequence[RunScore | None],
    stream: int | None,
    before: Sequence[Trial],
) -> Trial:
    """Make a trial from its runs; the cap is applied in trial order, not in order of completion."""
    used = sum(run.images for trial in before for run in trial.runs)
    over = plan.cap_images is not None and used >= plan.cap_images
    if over or any(run is None for run in own):
        config = dict(config)
        return Trial(
            trial=number, config=config, status="over-cap", score=None, runs=(), seed=stream
        )
    return trial_of(plan, number, config, [run for run in own if run is not None], stream)


def _best(trials: Sequence[Trial], seed: int | None) -> Choice:
    """Choose the trial with the highest score, and of equal ones that with the lowest number."""
    done = [trial for trial in trials if trial.score is not None]
    if not done:
        raise BadPlan(
            expected="a trial that succeeds",
            found=f"{len(trials)} trials that failed (reasons in the ledger)",
            fix="Correct the strategy or its search space and begin a new study",
        )
    best = max(done, key=lambda trial: (trial.score or 0.0, -trial.trial))
    return Choice(seed=seed, configs=(best.config,), trials=(best.trial,), score=best.score)


def _single(runs: Runs, spec: TrialRun, run: RunScore | None) -> Trial:
    """Make a trial of one experience of one stream, scored by the accuracy on that experience."""
    assert run is not None and spec.experience is not None
    score = None
    if run.status == "done":
        score = runs.replies[spec.key]["accuracy_matrix"][spec.experience][spec.experience]
    return Trial(
        trial=spec.trial,
        config=dict(spec.config),
        status=run.status,
        score=score,
        runs=(run,),
        seed=spec.seed,
        experience=spec.experience,
    )


def _greedy(plan: StudyPlan, space: Space, runs: Runs) -> tuple[list[Trial], list[Choice]]:
    """Search in every experience anew, each time from the state of the best trial."""
    configs = settings(plan, space, [])
    last: dict[int, TrialRun | None] = dict.fromkeys(plan.seeds)
    chosen: dict[int, list[Trial]] = {seed: [] for seed in plan.seeds}
    trials: list[Trial] = []
    for t in range(plan.experiences):
        specs = [
            TrialRun(i, seed, config, (0, t + 1), last[seed], t)
            for seed in plan.seeds
            for i, config in enumerate(configs)
        ]
        done = runs.carry_out(specs)
        judged = [_single(runs, spec, run) for spec, run in zip(specs, done, strict=True)]
        trials += judged
        for seed in plan.seeds:
            own = [trial for trial in judged if trial.seed == seed]
            number = _best(own, seed).trials[0]
            chosen[seed].append(own[number or 0])
            last[seed] = next(s for s in specs if s.seed == seed and s.trial == number)
    return trials, [_chain(seed, parts) for seed, parts in chosen.items()]


def _chain(seed: int, parts: Sequence[Trial]) -> Choice:
    """Hyper-parameters by experience."""
    return Choice(
        seed=seed,
        configs=tuple(trial.config for trial in parts),
        trials=tuple(trial.trial for trial in parts),
        score=sum(trial.score or 0.0 for trial in parts) / len(parts),
    )


def _decay(plan: StudyPlan, space: Space, runs: Runs) -> tuple[list[Trial], list[Choice]]:
    """De Lange et al.: the best plain learning rate, then as much stability as accuracy allows."""
    rates = _rates(plan, space)
    trials: list[Trial] = []
    chosen: list[Choice] = []
    for seed in plan.seeds:
        parts: list[Trial] = []
        last: TrialRun | None = None
        for t in range(plan.experiences):
            tried, last = _one_experience(
                plan, rates, runs, TrialRun(0, seed, {}, (0, t + 1), last, t)
            )
            trials += tried
            parts.append(tried[last.trial])
        chosen.append(_chain(seed, parts))
    return trials, chosen


def _rates(plan: StudyPlan, space: Space) -> Sequence[Any]:
    rates = next((p.values for p in space.parameters if p.name == "lr"), None)
    if not plan.stability or not rates:
        raise BadPlan(
            expected=f"STABILITY and a list for lr beside the config of {plan.strategy}",
            found="none",
            fix="Write STABILITY = {OPTION: strongest value} into its file, or use another mode",
        )
    return rates


def _one_experience(
    plan: StudyPlan, rates: Sequence[Any], runs: Runs, start: TrialRun
) -> tuple[list[Trial], TrialRun]:
    """All attempts at one experience, in order, and the accepted one."""

    def attempt(specs: list[TrialRun]) -> list[Trial]:
        done = runs.carry_out(specs)
        return [_single(runs, spec, run) for spec, run in zip(specs, done, strict=True)]

    def spec(number: int, config: Mapping[str, Any]) -> TrialRun:
        return TrialRun(number, start.seed, config, start.part, start.after, start.experience)

    plain = dict.fromkeys(plan.stability, 0.0)
    tried = attempt([spec(i, {**plain, "lr": rate}) for i, rate in enumerate(rates)])
    best = _best(tried, start.seed)
    rate, wanted = best.configs[0]["lr"], (1 - DROP) * (best.score or 0.0)
    taken: TrialRun | None = None
    for values in _weaker(plan.stability):
        taken = spec(len(tried), {**values, "lr": rate})
        tried += attempt([taken])
        if (tried[-1].score or 0.0) >= wanted:
            break
    assert taken is not None, "there is at least one attempt"
    return tried, taken


def _weaker(strongest: Mapping[str, float]) -> list[dict[str, float]]:
    """The attempts: all at their strongest, then one halved, then all halved, and so on."""
    values, attempts = dict(strongest), [dict(strongest)]
    while len(attempts) < ATTEMPTS:
        if len(values) > 1:
            attempts += [{**values, name: v * DECAY} for name, v in values.items()]
        values = {name: v * DECAY for name, v in values.items()}
        attempts.append(dict(values))
    return attempts[:ATTEMPTS]
