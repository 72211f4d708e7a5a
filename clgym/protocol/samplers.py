"""Samplers of hyper-parameters: pure functions of the plan and of the scores known so far.

Nothing is kept between calls: a coordinator that was killed asks again and gets the same values.
"""

import hashlib
import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from clgym.errors import BadPlan, MissingExtra
from clgym.protocol import gtep
from clgym.protocol.space import Parameter, Space

__all__ = ["ADAPTIVE", "SAMPLERS", "SEEDED", "available", "proposals", "uniform"]

Config = dict[str, object]
SAMPLERS = {
    "counter": "random, without repetition, each trial by the sampler's seed and its own number",
    "gtep-paper": "the random draws of the paper's authors",
    "grid": "all combinations of listed values, in order",
    "tpe": "Optuna's tree-structured Parzen estimator, which uses the scores of earlier trials",
    "cmaes": "Optuna's CMA-ES, which uses these scores, too",
}
"""Description of each sampler."""
ADAPTIVE = ("tpe", "cmaes")
"""Samplers that use scores; they propose one generation at a time."""
SEEDED = ("counter", "tpe", "cmaes")
"""Samplers whose draws follow from the sampler's seed."""
_POPULATION = 4
"""Smallest population that CMA-ES can learn from."""
_ATTEMPTS = 1000
"""Number of draws after which hyper-parameters may repeat, since a range of floats can be too
narrow."""


def available(sampler: str, space: Space, trials: int) -> int:
    """Number of trials with distinct hyper-parameters, at most ``trials``.

    The default sampler stops when a finite space is exhausted; the others do not.
    """
    if sampler != "counter" or not space.finite:
        return trials
    return sum(1 for _ in itertools.islice(space.settings(), trials))


def proposals(
    sampler: str,
    space: Space,
    strategy: str,
    seed: int,
    trials: int,
    generation: int,
    scores: Sequence[float | None],
) -> list[Config]:
    """All hyper-parameters that are determined so far, in trial order.

    Args:
        sampler: One of `SAMPLERS`.
        space: Space to draw from.
        strategy: Name of the strategy, which ``gtep-paper`` needs.
        seed: Seed of the sampler.
        trials: Number of all trials.
        generation: Number of trials that an adaptive sampler proposes at once.
        scores: Scores of the first trials, in order, without a gap; None for a failed one. Only
            whole generations are used.
    """
    if sampler == "counter":
        return _counted(space, seed, trials)
    if sampler == "gtep-paper":
        drawn = _as_the_authors(space, strategy, trials)
    elif sampler == "grid":
        drawn = _grid(space, trials)
    else:
        return _adaptive(sampler, space, seed, trials, generation, scores)
    return [space.active(values) for values in drawn]


def uniform(*key: object) -> float:
    """A number in [0, 1) that depends only on ``key`` and is the same on every machine."""
    digest = hashlib.sha256("\n".join(map(str, key)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _counted(space: Space, seed: int, trials: int) -> list[Config]:
    """Hyper-parameters without repetition, until a finite space is exhausted.

    Draws depend on the option's name: methods that share an option with equal values try the same
    ones, unless one of them had that combination before and draws again.
    """
    drawn: list[Config] = []
    seen: set[str] = set()
    for trial in range(available("counter", space, trials)):
        attempts = ((n, _draw(space, seed, trial, n)) for n in itertools.count())
        config = next(
            config
            for n, config in attempts
            if repr(config) not in seen or (n >= _ATTEMPTS and not space.finite)
        )
        drawn.append(config)
        seen.add(repr(config))
    return drawn


def _draw(space: Space, seed: int, trial: int, attempt: int) -> Config:
    again = (attempt,) if attempt else ()
    shares = {p.name: uniform("clgym", seed, trial, p.name, *again) for p in space.parameters}
    return space.active({p.name: p.at(shares[p.name]) for p in space.parameters})


def _as_the_authors(space: Space, strategy: str, trials: int) -> list[Config]:
    lists: list[tuple[str, tuple[Any, ...]]] = []
    for p in space.parameters:
        if p.values is None:
            raise BadPlan(
                expected="finite values for the sampler gtep-paper",
                found=f"a range for {p.name}",
                fix="List its values, or take --sampler counter",
            )
        lists.append((p.name, p.values))
    dummy = gtep.leads_with_dummy(strategy)
    return [gtep.draw(lists, trial, dummy) for trial in range(trials)]


def _grid(space: Space, trials: int) -> list[Config]:
    if not space.finite:
        raise BadPlan(
            expected="finite values for the sampler grid",
            found="a range of floats in the space",
            fix="List its values, or take --sampler counter",
        )
    distinct = sorted(space.settings(), key=lambda values: _place(space, values))
    if trials > len(distinct):
        raise BadPlan(
            expected=f"at most {len(distinct)} trials, the size of the grid",
            found=str(trials),
            fix=f"Give --trials {len(distinct)}",
        )
    return distinct[:trials]


def _place(space: Space, values: Config) -> list[int]:
    """Sort key of a combination in the order in which the first parameter changes slowest."""
    return [
        (p.choices or ()).index(values[p.name]) if p.name in values else 0 for p in space.parameters
    ]


def _adaptive(
    sampler: str,
    space: Space,
    seed: int,
    trials: int,
    generation: int,
    scores: Sequence[float | None],
) -> list[Config]:
    """Optuna's ask and tell, repeated from the start, which gives the same proposals each time."""
    try:
        optuna: Any = importlib.import_module("optuna")  # has no types if it is not installed
        if sampler == "cmaes":
            # Optuna would fail without it only at the second trial
            importlib.import_module("cmaes")
    except ImportError as error:
        raise MissingExtra(
            expected=f"the package {error.name} for the sampler {sampler}",
            found="it is not installed",
            fix="pip install 'clgym[optuna]'",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", sampler=_optuna_sampler(optuna, sampler, seed, generation)
    )
    configs: list[Config] = []
    while len(configs) < trials:
        size = min(generation, trials - len(configs))
        asked = [study.ask() for _ in range(size)]
        configs += [_suggested(trial.suggest_categorical, trial, space, sampler) for trial in asked]
        if len(scores) < len(configs):
            break
        for trial, score in zip(asked, scores[len(configs) - size :], strict=False):
            if score is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, score)
    return configs


def _optuna_sampler(optuna: Any, sampler: str, seed: int, generation: int) -> Any:
    """A seeded sampler that uses scores after its first generation."""
    if sampler == "tpe":
        return optuna.samplers.TPESampler(
            seed=seed, constant_liar=True, n_startup_trials=generation
        )
    return optuna.samplers.CmaEsSampler(
        seed=seed,
        popsize=max(_POPULATION, generation),
        independent_sampler=optuna.samplers.RandomSampler(seed=seed),
        warn_independent_sampling=False,
    )


def _suggested(choose: Callable[..., Any], trial: Any, space: Space, sampler: str) -> Config:
    values: Config = {}
    waiting = list(space.parameters)
    while waiting:
        ready = [p for p in waiting if not any(o.name in dict(p.when) for o in waiting)]
        for p in ready:
            if space.active({**values, p.name: None}).keys() >= {p.name}:
                values[p.name] = _suggest(choose, trial, p, sampler)
        waiting = [p for p in waiting if p not in ready]
    return {p.name: values[p.name] for p in space.parameters if p.name in values}


def _suggest(choose: Callable[..., Any], trial: Any, p: Parameter, sampler: str) -> Any:
    if p.values is not None:
        # Indices instead of values, since Optuna takes no tuples. CMA-ES needs numbers; lists are
        # ordered.
        places = range(len(p.values))
        number = sampler == "cmaes" and len(p.values) > 1
        return p.values[
            trial.suggest_int(p.name, 0, places[-1]) if number else choose(p.name, places)
        ]
    if p.kind == "int":
        return trial.suggest_int(p.name, int(p.low), int(p.high), log=p.log)
    return p.rounded(trial.suggest_float(p.name, p.low, p.high, log=p.log))
