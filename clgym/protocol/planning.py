"""The request for a study, and the plan made from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from clgym import registry
from clgym.config import WRAPS, Field, resolve
from clgym.engines.channel import Message
from clgym.engines.pool import PoolSpec, gather, open_pool
from clgym.errors import BadPlan
from clgym.files import canonical_json, sha256
from clgym.gym.description import Description, without_weight_paths
from clgym.gym.plan import method_hash
from clgym.gym.request import FROM_PRESET
from clgym.protocol import gtep
from clgym.protocol.jobs import TARGET
from clgym.protocol.modes import MODES
from clgym.protocol.pairs import ScenarioPair
from clgym.protocol.plan import StudyPlan, code_identity, evaluation_seeds
from clgym.protocol.pruning import PRUNERS, rungs_of
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.samplers import ADAPTIVE, SAMPLERS, available
from clgym.protocol.space import Space, find_space, literal_in

__all__ = ["StudySpec", "given_values", "make_plan", "survey"]


@dataclass(frozen=True)
class StudySpec:
    """Request for a study."""

    strategy: str
    pair: ScenarioPair
    config: Mapping[str, Any] = field(default_factory=dict[str, object])
    """Options of the strategy that are not tuned, if they differ from its defaults."""
    space: str | None = None
    """Search space; see `clgym.protocol.space.find_space`."""
    trials: int | None = None
    seeds: tuple[int, ...] | None = None
    mode: str = "transfer"
    k: int = 1
    criterion: str = "mean"
    score_on: str = "valid"
    validation: float = 0.1
    sampler: str = "counter"
    sampler_seed: int = 0
    generation: int = 4
    cap_images: int | None = None
    threads: int = 1
    one_of: tuple[int, int] | None = None
    """Number of this study, from 1, and number of studies; None for a single study."""
    pruner: str = "none"
    """Rule by which trials are stopped early (`clgym.protocol.pruning.PRUNERS`)."""


def survey(pair: ScenarioPair, data_root: Path | None) -> Mapping[str, Any]:
    """Survey both sides in a separate process, the only one that reads both before the evaluation.

    Raises:
        BadPlan: The overlap of the sides is too large, or their streams differ in shape.
    """
    pool = open_pool(PoolSpec(), TARGET)
    root = None if data_root is None else str(data_root)
    message: Message = {"do": "survey", "pair": pair.model_dump(mode="json"), "data_root": root}
    try:
        return _without_device(gather(pool, [("survey", message)])["survey"])
    finally:
        pool.close()


def _without_device(reply: Message) -> Mapping[str, Any]:
    return json.loads(canonical_json(reply))


def make_plan(
    asked: StudySpec,
    where: ExecutionOptions,
    description: Description,
    space: Space,
    looked: Mapping[str, Any],
) -> StudyPlan:
    """Return everything that determines the outcome as one value.

    Raises:
        BadPlan: A mode, sampler, criterion or number does not exist or does not fit.
    """
    adapting = looked.get("setting") == "adaptation"
    _check(asked, looked["experiences"], adapting)
    pair = ScenarioPair.model_validate(looked["pair"])
    seeds = asked.seeds or tuple(range(pair.seeds))
    tuned = {p.name for p in space.parameters}
    values = _base_values(asked, description, pair)
    by_hand = _set_by_hand(asked, where, description, pair, values)
    _check_effects(description.fields, values, space, description.name)
    if any("@" in value for value in values.values() if isinstance(value, str)):
        # NAME@FILE: a plan contains no path, and must not depend on the place of the file.
        values = without_weight_paths(
            description.name, where.plugins, values, where.data_root, where.sandbox
        )
    own = {*pair.tuning.extra, *pair.evaluation.extra}  # of a side: its model, for one
    base = {k: v for k, v in values.items() if k not in tuned and k not in own}
    transfer = asked.mode in ("transfer", "default")
    return StudyPlan.model_validate(
        {
            **_sides(pair, looked),
            "mode": asked.mode,
            "k": {"first_task": 1, "first_k": asked.k}.get(asked.mode, 0),
            "strategy": description.name,
            "source_hash": description.source_hash,
            "base": base,
            **_searched(asked, space, pair),
            "stability": _stability(asked, where) if asked.mode == "stability_decay" else {},
            "seeds": seeds,
            # Modes that use a stream choose for that stream, and are evaluated on the same streams.
            "evaluation_seeds": evaluation_seeds(pair, len(seeds)) if transfer else seeds,
            "criterion": asked.criterion,
            "score_on": _scored_on(asked, adapting, transfer),
            "validation": 0.0 if adapting else asked.validation,
            "cap_images": asked.cap_images,
            "threads": asked.threads,
            "one_of": asked.one_of,
            "by_hand": {
                "options": [name for name in by_hand if name in base],
                "own_space": _is_own(asked, where, description, space),
            },
            "pruner": _pruner(asked, looked["experiences"]),
            "device": where.pool.device(0).partition(":")[0],
            "code": code_identity(),
            **_method(asked, where, description, values, tuned),
        }
    )


def _is_own(
    asked: StudySpec, where: ExecutionOptions, description: Description, space: Space
) -> bool:
    """Whether the search space is one that the strategy or the paper states, also in a file."""
    if asked.mode == "default" or asked.space in (None, *gtep.SPACES):
        return True
    try:
        own = find_space(asked.strategy, None, description.fields, where.plugins)
    except BadPlan:  # the strategy states none
        return False
    return own.without(given_values(asked, description)).describe() == space.describe()


def given_values(asked: StudySpec, description: Description) -> dict[str, object]:
    """Values of the options that the request gives, which are not tuned.

    Raises:
        BadConfig: A value does not fit its option.
    """
    known = {f.name: f for f in description.fields}
    given = {key.replace("-", "_"): value for key, value in asked.config.items()}
    return {k: known[k].check(v, asked.strategy) for k, v in given.items() if k in known}


def _sides(pair: ScenarioPair, looked: Mapping[str, Any]) -> dict[str, object]:
    """Facts of the plan about the pair and its survey."""
    return {
        "pair": pair,
        "pair_hash": pair.digest,
        "tuning": looked["tuning"],
        "evaluation": looked["evaluation"],
        "overlap_hash": sha256(canonical_json(looked["overlap"])),
        "withheld_images": looked["withheld_images"],
        "experiences": looked["experiences"],
    }


def _searched(asked: StudySpec, space: Space, pair: ScenarioPair) -> dict[str, object]:
    """Facts of the plan about the search: its space, its sampler and the number of trials."""
    described = space.describe()
    trials = available(asked.sampler, space, asked.trials or pair.trials)
    return {
        "space": described,
        "space_hash": sha256(canonical_json(described)),
        "sampler": asked.sampler,
        "sampler_seed": asked.sampler_seed,
        "generation": asked.generation if asked.sampler in ADAPTIVE else 0,
        "trials": 0 if asked.mode == "default" else trials,
    }


def _method(
    asked: StudySpec,
    where: ExecutionOptions,
    description: Description,
    values: dict[str, object],
    tuned: set[str],
) -> dict[str, object]:
    """Facts that every record of the study states; empty if trials wrap different strategies."""
    if any(f.kind == WRAPS and f.name in tuned for f in description.fields):
        return {}
    entry = registry.find("strategies", asked.strategy, where.plugins)
    return {
        "record_hash": method_hash(entry, description.fields, values, where.plugins),
        "known_failures": description.known_failures,
        "helpers": description.read_files or None,
    }


def _scored_on(asked: StudySpec, adapting: bool, transfer: bool) -> str:
    """Rows that are scored; on adaptation streams predictions are scored when they are made."""
    if adapting:
        return "test"
    return asked.score_on if transfer else "valid"


def _pruner(asked: StudySpec, experiences: int) -> dict[str, object] | None:
    """Facts of the plan about early stopping.

    Raises:
        BadPlan: The rule does not exist, or trials of the study cannot be compared anywhere.
    """
    if asked.pruner not in PRUNERS:
        raise BadPlan(
            expected=f"a pruner ({', '.join(PRUNERS)})",
            found=repr(asked.pruner),
            fix="See `clgym tune --help`",
        )
    if asked.pruner == "none":
        return None
    length = {"first_task": 1, "first_k": asked.k}.get(asked.mode, experiences)
    wrong = [
        (
            asked.mode in ("current_task", "stability_decay", "default"),
            "a mode that chooses once for a whole stream",
            f"the mode {asked.mode}",
        ),
        (length < 2, "runs of two experiences or more", f"runs of {length}"),
        (
            asked.sampler in ADAPTIVE,
            "a sampler that does not use scores, which stopped trials lack",
            f"the sampler {asked.sampler}",
        ),
        (asked.cap_images is not None, "no cap on images", f"a cap of {asked.cap_images}"),
    ]
    for is_wrong, expected, found in wrong:
        if is_wrong:
            raise BadPlan(
                expected=f"{expected}, for the pruner {asked.pruner}",
                found=found,
                fix="Leave --pruner out, or change the other option",
            )
    return {"rule": asked.pruner, "rungs": rungs_of(asked.pruner, length)}


def _check(asked: StudySpec, experiences: int, adapting: bool) -> None:
    """Refuse options that cannot be in a plan.

    Raises:
        BadPlan: An option is not valid; the message names the first one.
    """
    criteria = ("mean", "acc", "avg_acc", "harmonic")
    sequential = asked.mode in ("current_task", "stability_decay")
    wrong = [
        (asked.mode not in MODES, f"a mode ({', '.join(MODES)})", asked.mode),
        (
            adapting and asked.mode not in ("transfer", "default"),
            "the mode transfer or default: an adaptation stream has no held-out rows to look at",
            asked.mode,
        ),
        (asked.sampler not in SAMPLERS, f"a sampler ({', '.join(SAMPLERS)})", asked.sampler),
        (asked.criterion not in criteria, f"a criterion ({', '.join(criteria)})", asked.criterion),
        (asked.trials is not None and asked.trials < 1, "at least one trial", asked.trials),
        (asked.generation < 1, "a generation of at least one trial", asked.generation),
        (
            asked.mode == "first_k" and not 0 < asked.k < experiences,
            f"k from 1 to {experiences - 1}, experiences being left to evaluate on",
            asked.k,
        ),
        (
            sequential and asked.sampler in ADAPTIVE,
            f"a sampler that does not adapt, for the mode {asked.mode}",
            asked.sampler,
        ),
        (
            asked.seeds is not None and len(set(asked.seeds)) != len(asked.seeds),
            "seeds that differ",
            asked.seeds,
        ),
        (asked.score_on not in ("test", "valid"), "score-on test or valid", asked.score_on),
        (not 0 < asked.validation <= 0.5, "a validation share up to 0.5", asked.validation),
    ]
    for is_wrong, expected, found in wrong:
        if is_wrong:
            raise BadPlan(expected=expected, found=repr(found), fix="See `clgym tune --help`")


def _base_values(
    asked: StudySpec, description: Description, pair: ScenarioPair
) -> dict[str, object]:
    """Defaults, overridden by options of the pair with the same name, then by the request."""
    given = {**_from_pair(description, pair), **asked.config}
    values = resolve(description.fields, given, description.name)
    return {k: _listed(v) for k, v in values.items()}


def _from_pair(description: Description, pair: ScenarioPair) -> dict[str, object]:
    """Options of the strategy whose values the pair states."""
    said = {k: v for k, v in pair.config.items() if k in FROM_PRESET}
    return {f.name: said[k] for f in description.fields if (k := f.name.rpartition(".")[2]) in said}


def _set_by_hand(
    asked: StudySpec,
    where: ExecutionOptions,
    description: Description,
    pair: ScenarioPair,
    values: Mapping[str, object],
) -> list[str]:
    """Names of the options that the request gives an unusual value, or withdraws from tuning.

    The choice of a wrapped strategy is left out: it is part of the method's name.
    """
    shared, searched = _from_pair(description, pair), set[str]()
    if asked.mode != "default":
        space = find_space(asked.strategy, asked.space, description.fields, where.plugins)
        searched = {parameter.name for parameter in space.parameters}
    given = {name.replace("-", "_") for name in asked.config}
    found: list[str] = []
    for option in (f for f in description.fields if f.name in given and f.kind != WRAPS):
        usual = shared.get(option.name, option.default)
        if option.name in shared:
            usual = option.check(usual, description.name)
        if option.name in searched or values[option.name] != _listed(usual):
            found.append(option.name)
    return sorted(found)


def _check_effects(
    fields: Sequence[Field], base: Mapping[str, object], space: Space, owner: str
) -> None:
    """Refuse a space some of whose values would change nothing, or be refused, with the rest.

    Args:
        fields: Options of the strategy.
        base: Values of the options that the space does not vary.
        space: The space.
        owner: Name of the strategy.

    Raises:
        BadPlan: An option of the space, or one that is set, has no effect with some of its values.
    """
    varied = {p.name: p for p in space.parameters}
    for option in fields:
        name = option.name
        if name not in varied and base.get(name) == _listed(option.default):
            continue
        said = {other for other, _ in varied[name].when} if name in varied else set[str]()
        for other, allowed in (option.when or {}).items():
            choices = varied[other].choices if other in varied else (base.get(other),)
            idle = [value for value in choices or () if value not in allowed]
            if idle and other not in said:
                raise BadPlan(
                    expected=f"{owner}.{name} only {option.effect}",
                    found=f"a study with {other} {idle[0]}",
                    fix=f"Leave out {name}, or the other values of {other}",
                )


def _listed(value: object) -> object:
    return list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value


def _stability(asked: StudySpec, where: ExecutionOptions) -> dict[str, float]:
    """The literal ``STABILITY`` of the strategy's file: strongest values, by option."""
    entry = registry.find("strategies", asked.strategy, where.plugins)
    return literal_in(entry.path, "STABILITY")
