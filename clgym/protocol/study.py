"""The tuning phase: commit to a plan, carry out its trials, seal the outcome."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.config import WRAPS, resolve
from clgym.engines.pool import PoolSpec, gather, open_pool
from clgym.errors import BadPlan, Tampered
from clgym.files import canonical_json, sha256, write_atomic, writing
from clgym.gym.description import Description, describe_strategy, without_weight_paths
from clgym.gym.plan import method_hash
from clgym.gym.request import FROM_PRESET
from clgym.protocol.jobs import TARGET
from clgym.protocol.ledger import Ledger, locked
from clgym.protocol.modes import MODES, check_start, choose
from clgym.protocol.pairs import Pair
from clgym.protocol.plan import (
    Body,
    Certificate,
    Choice,
    Envelope,
    Plan,
    Trial,
    code_identity,
    evaluation_seeds,
)
from clgym.protocol.plugin_files import recorded_plugins
from clgym.protocol.relatives import register_study, relatives
from clgym.protocol.runs import RETRY_FAILED, Runs, Where, check_retry
from clgym.protocol.samplers import ADAPTIVE, SAMPLERS, available
from clgym.protocol.space import Space, find_space, literal_in, parse

__all__ = [
    "CERTIFICATE",
    "Asked",
    "body_of",
    "make_plan",
    "read_certificate",
    "survey",
    "tune",
]

CERTIFICATE = "certificate.json"
Event = dict[str, Any]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Asked:
    """A study as it is asked for."""

    strategy: str
    pair: Pair
    config: Mapping[str, Any] = field(default_factory=dict)
    """Options of the strategy that are not tuned, where they differ from its defaults."""
    space: str | None = None
    """See `clgym.protocol.space.find_space`."""
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


def _ignore(event: Event) -> None:
    """Nobody watches."""


def tune(
    asked: Asked, where: Where, on_event: OnEvent = _ignore, retry_failed: bool = False
) -> Certificate:
    """Carry out a study, or go on with the one in the folder; its certificate.

    Args:
        asked: The study.
        where: Its folder, and what carries it out.
        on_event: Called with progress.
        retry_failed: Run again what failed in an earlier session; the ledger says so.

    Raises:
        BadPlan: it cannot be carried out, or the folder holds another study.
        WrongPhase: runs are to be tried again in a study that is sealed.
        BadOutput: another process is at work in the folder.
        ClgymError: whatever else is wrong.
    """
    with locked(where.out / ".lock"), _nothing_left_of_a_refusal(where.out):
        ledger = Ledger(where.out)
        plan, space, first_line = _planned(asked, where, ledger)
        runs = Runs(plan, where, ledger, on_event)
        if retry_failed:
            check_retry(plan, ledger)
        if ledger.of("sealed"):
            on_event({"kind": "plan", "plan": plan, "done": len(runs.replies)})
            return read_certificate(where.out)
        try:
            if plan.mode != "default":
                runs.open()
            if first_line:
                ledger.append("plan", **first_line)
            pool, plugins = where.pool, recorded_plugins(where.out, where.plugins)
            ledger.append("session", engine=pool.engine, workers=pool.workers, **plugins)
            if retry_failed:
                runs.retry_failed()
            on_event({"kind": "plan", "plan": plan, "done": len(runs.replies)})
            trials, chosen = choose(plan, space, runs)
        finally:
            runs.close()
        return _seal(plan, trials, chosen, runs)


@contextlib.contextmanager
def _nothing_left_of_a_refusal(out: Path) -> Iterator[None]:
    """Take away a folder in which nothing but its lock was written."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if [p.name for p in out.iterdir()] == [".lock"]:
                (out / ".lock").unlink()
                out.rmdir()


def _planned(
    asked: Asked, where: Where, ledger: Ledger
) -> tuple[Plan, Space, dict[str, Any] | None]:
    """The plan, its space, and the ledger's first line where that is not written yet."""
    description = describe_strategy(asked.strategy, where.plugins, asked.config)
    space = _space(asked, where, description)
    question = sha256(canonical_json(asked.pair.model_dump(mode="json")))
    entries = ledger.of("plan")
    if entries and entries[0].body["asked"] == question:
        looked = entries[0].body["survey"]
    else:
        looked = survey(asked.pair, where.data_root)
    plan = make_plan(asked, where, description, space, looked)
    check_start(plan, space)
    if not entries:
        body = {"plan": plan.model_dump(mode="json"), "plan_hash": plan.digest}
        return plan, space, {**body, "survey": looked, "asked": question}
    if entries[0].body["plan_hash"] != plan.digest:
        raise _another(where.out, entries[0].body["plan"], plan.model_dump(mode="json"))
    return plan, space, None


def _another(out: Path, old: dict[str, Any], new: dict[str, Any]) -> BadPlan:
    differing = [name for name in new if old.get(name) != new[name]]
    return BadPlan(
        expected=f"the plan that the study in {out} is committed to",
        found=f"another {', '.join(differing)}",
        fix="Give another --out: a changed plan is a new study"
        + (", or go back to the code it began with" if differing == ["code"] else ""),
    )


def _space(asked: Asked, where: Where, description: Description) -> Space:
    """What is tried: the strategy's space, less what was given a value."""
    if asked.mode == "default":
        return parse({}, description.fields, asked.strategy)
    space = find_space(asked.strategy, asked.space, description.fields, where.plugins)
    known = {f.name: f for f in description.fields}
    given = {key.replace("-", "_"): value for key, value in asked.config.items()}
    return space.without(
        {k: known[k].check(v, asked.strategy) for k, v in given.items() if k in known}
    )


def survey(pair: Pair, data_root: Path | None) -> dict[str, Any]:
    """Have a short process of its own look at both sides; the only look before the evaluation.

    Raises:
        BadPlan: the sides share what they must not, or give streams of different shapes.
    """
    pool = open_pool(PoolSpec(), TARGET)
    root = None if data_root is None else str(data_root)
    message = {"do": "survey", "pair": pair.model_dump(mode="json"), "data_root": root}
    try:
        return _without_device(gather(pool, [("survey", message)])["survey"])
    finally:
        pool.close()


def _without_device(reply: dict[str, Any]) -> dict[str, Any]:
    return json.loads(canonical_json(reply))


def make_plan(
    asked: Asked, where: Where, description: Description, space: Space, looked: dict[str, Any]
) -> Plan:
    """Everything that decides the outcome, as one value.

    Raises:
        BadPlan: a mode, sampler, criterion or number that does not exist or does not fit.
    """
    adapting = looked.get("setting") == "adaptation"
    _check(asked, looked["experiences"], adapting)
    pair = Pair.model_validate(looked["pair"])
    seeds = asked.seeds or tuple(range(pair.seeds))
    tuned = {p.name for p in space.parameters}
    values = _base_values(asked, description, pair)
    if any("@" in value for value in values.values() if isinstance(value, str)):
        # NAME@FILE: a plan holds no path, and is the same wherever the file lies.
        values = without_weight_paths(description.name, where.plugins, values)
    own = {*pair.tuning.extra, *pair.evaluation.extra}  # of a side: its model, for one
    transfer = asked.mode in ("transfer", "default")
    described = space.describe()
    return Plan.model_validate(
        {
            "pair": pair,
            "pair_hash": pair.digest,
            "tuning": looked["tuning"],
            "evaluation": looked["evaluation"],
            "overlap_hash": sha256(canonical_json(looked["overlap"])),
            "withheld_images": looked["withheld_images"],
            "experiences": looked["experiences"],
            "mode": asked.mode,
            "k": {"first_task": 1, "first_k": asked.k}.get(asked.mode, 0),
            "strategy": description.name,
            "source_hash": description.source_hash,
            "base": {k: v for k, v in values.items() if k not in tuned and k not in own},
            "space": described,
            "space_hash": sha256(canonical_json(described)),
            "stability": _stability(asked, where) if asked.mode == "stability_decay" else {},
            "sampler": asked.sampler,
            "sampler_seed": asked.sampler_seed,
            "generation": asked.generation if asked.sampler in ADAPTIVE else 0,
            "trials": 0
            if asked.mode == "default"
            else available(asked.sampler, space, asked.trials or pair.trials),
            "seeds": seeds,
            # Modes that look at a stream choose for that stream: they are evaluated on the same.
            "evaluation_seeds": evaluation_seeds(pair, len(seeds)) if transfer else seeds,
            "criterion": asked.criterion,
            "score_on": _scored_on(asked, adapting, transfer),
            "validation": 0.0 if adapting else asked.validation,
            "cap_images": asked.cap_images,
            "threads": asked.threads,
            "device": where.pool.device(0).partition(":")[0],
            "code": code_identity(),
            **_method(asked, where, description, values, tuned),
        }
    )


def _method(
    asked: Asked, where: Where, description: Description, values: dict[str, Any], tuned: set[str]
) -> dict[str, Any]:
    """What every record of the study states; nothing where trials wrap different strategies."""
    if any(f.kind == WRAPS and f.name in tuned for f in description.fields):
        return {}
    entry = registry.find("strategies", asked.strategy, where.plugins)
    return {
        "record_hash": method_hash(entry, description.fields, values, where.plugins),
        "known_failures": description.known_failures,
    }


def _scored_on(asked: Asked, adapting: bool, transfer: bool) -> str:
    """Answers on an adaptation stream are scored as they are given: nothing is held out."""
    if adapting:
        return "test"
    return asked.score_on if transfer else "valid"


def _check(asked: Asked, experiences: int, adapting: bool) -> None:
    """Refuse what no plan can hold.

    Raises:
        BadPlan: with the first thing that is wrong.
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


def _base_values(asked: Asked, description: Description, pair: Pair) -> dict[str, Any]:
    """Defaults, then what the pair says under the same name, then what was asked."""
    said = {k: v for k, v in pair.config.items() if k in FROM_PRESET}
    shared = {
        f.name: said[k] for f in description.fields if (k := f.name.rpartition(".")[2]) in said
    }
    values = resolve(description.fields, {**shared, **asked.config}, description.name)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _stability(asked: Asked, where: Where) -> dict[str, float]:
    """The literal ``STABILITY`` of the strategy's file: strongest values, by option."""
    entry = registry.find("strategies", asked.strategy, where.plugins)
    return literal_in(entry.path, "STABILITY")


def body_of(plan: Plan, trials: list[Trial], chosen: list[Choice], runs: Runs) -> Body:
    """The certificate's body: it follows from the plan and the runs."""
    statuses = [trial.status for trial in trials]
    done = [run for trial in trials for run in trial.runs]
    retried = len(runs.ledger.of(RETRY_FAILED))
    return Body(
        plan=plan,
        plan_hash=plan.digest,
        trials=tuple(trials),
        chosen=tuple(chosen),
        budget={
            "started": len(trials) - statuses.count("over-cap"),
            "finished": statuses.count("done"),
            "failed": statuses.count("failed"),
            "pruned": 0,
            "runs": len(done),
            "images": sum(run.images for run in done),
            **({"retried": retried} if retried else {}),
        },
        device_class=", ".join(sorted(runs.device_names - {""})) or plan.device,
    )


def _seal(plan: Plan, trials: list[Trial], chosen: list[Choice], runs: Runs) -> Certificate:
    """Write the certificate, then its hash to the ledger: from then on nothing can be added."""
    ledger, where = runs.ledger, runs.where
    body = body_of(plan, trials, chosen, runs)
    register_study(ledger, plan)
    others = relatives(where.out, plan)
    began, sessions = ledger.of("plan")[0].time, ledger.of("session")
    envelope = Envelope(
        sealed_at=ledger.entries[-1].time,
        wall_seconds=round(ledger.entries[-1].time - began, 3),
        sessions=len(sessions),
        retries=len(ledger.of("retry")) + len(ledger.of(RETRY_FAILED)),
        engine=where.pool.engine,
        workers=where.pool.workers,
        ledger_head=ledger.head,
        study_number=others.number,
        evaluations_before=others.evaluations,
        registry=others.registry,
    )
    certificate = Certificate(hash=body.digest, body=body, envelope=envelope)
    text = json.dumps(certificate.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    with writing(where.out):
        where.out.mkdir(parents=True, exist_ok=True)
    write_atomic(where.out / CERTIFICATE, text.encode())
    ledger.append("sealed", certificate=sha256(text.encode()), hash=certificate.hash)
    return certificate


def read_certificate(path: Path) -> Certificate:
    """Read a certificate, or the one in a folder; its own hash must hold.

    Raises:
        Tampered: it is none, or was changed.
    """
    file = path / CERTIFICATE if path.is_dir() else path
    try:
        certificate = Certificate.model_validate_json(file.read_bytes())
    except OSError as error:
        raise Tampered(
            expected=f"a certificate at {file}",
            found=str(error.strerror),
            fix="Finish the study with `clgym tune`, which seals it",
        ) from error
    except ValueError as error:
        found = str(error).splitlines()
        raise Tampered(
            expected=f"a certificate at {file.name}",
            found="; ".join(line.strip() for line in found[1:3]),
            fix="Restore the file",
        ) from None
    if certificate.body.digest != certificate.hash:
        raise Tampered(
            expected="the certificate's body to have its hash",
            found=f"body {certificate.body.digest[:16]}, hash {certificate.hash[:16]}",
            fix="Restore the file",
        )
    return certificate
