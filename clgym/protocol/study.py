"""The tuning phase: fix a plan, carry out its trials, seal the outcome."""

import contextlib
import json
from collections.abc import Callable, Generator
from pathlib import Path

from clgym._moved import report_renamed
from clgym.errors import BadPlan, Tampered
from clgym.files import canonical_json, locked, sha256, write_atomic, writing
from clgym.gym.description import Description, describe_strategy
from clgym.protocol.conditions import lacks_of
from clgym.protocol.ledger import Ledger
from clgym.protocol.modes import check_start, choose
from clgym.protocol.pairs import check_name
from clgym.protocol.plan import Body, Certificate, Choice, Envelope, StudyPlan, Trial
from clgym.protocol.planning import StudySpec, given_values, make_plan, survey
from clgym.protocol.plugin_files import recorded_plugins
from clgym.protocol.relatives import register_study, relatives
from clgym.protocol.runs import RETRY_FAILED, Event, ExecutionOptions, Runs, check_retry
from clgym.protocol.space import Space, find_space, parse
from clgym.results.layout import STATE

__all__ = [
    "CERTIFICATE",
    "StudySpec",
    "body_of",
    "make_plan",
    "read_certificate",
    "survey",
    "tune",
]

report_renamed(__name__)

CERTIFICATE = "certificate.json"
OnEvent = Callable[[Event], None]


def _ignore(event: Event) -> None:
    """Ignore an event."""


def tune(
    asked: StudySpec,
    where: ExecutionOptions,
    on_event: OnEvent = _ignore,
    retry_failed: bool = False,
) -> Certificate:
    """Carry out a study, or continue the one in the folder; return its certificate.

    Args:
        asked: The request for the study.
        where: Folder of the study, and how it is executed.
        on_event: Called with progress.
        retry_failed: Whether to repeat runs that failed earlier; the ledger records it.

    Raises:
        BadPlan: The study cannot be carried out, or the folder holds another study.
        WrongPhase: Failed runs are to be repeated in a sealed study.
        BadOutput: Another process works in the folder.
        ClgymError: The study failed for another reason.
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
            how = {"engine": pool.engine, "workers": pool.workers, "sandbox": where.sandbox}
            ledger.append("session", **how, **plugins)
            if retry_failed:
                runs.retry_failed()
            on_event({"kind": "plan", "plan": plan, "done": len(runs.replies)})
            trials, chosen = choose(plan, space, runs)
        finally:
            runs.close()
        if plan.pruner is not None:  # nothing goes on from a rung any more
            for state in where.out.glob(f"runs/experience-*/**/{STATE}"):
                state.unlink()
        return _seal(plan, trials, chosen, runs)


@contextlib.contextmanager
def _nothing_left_of_a_refusal(out: Path) -> Generator[None, None, None]:
    """Delete the folder if a refusal leaves nothing but the lock in it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if [p.name for p in out.iterdir()] == [".lock"]:
                (out / ".lock").unlink()
                out.rmdir()


def _planned(
    asked: StudySpec, where: ExecutionOptions, ledger: Ledger
) -> tuple[StudyPlan, Space, dict[str, object] | None]:
    """The plan, its space, and the ledger's first line if it is not written yet."""
    check_name(asked.pair)
    description = describe_strategy(asked.strategy, where.plugins, asked.config, where.sandbox)
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


def _another(out: Path, old: dict[str, object], new: dict[str, object]) -> BadPlan:
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return BadPlan(
        expected=f"the plan of the study in {out}",
        found=f"different {', '.join(differing)}",
        fix="Give another --out: a changed plan is a new study"
        + (", or use the code that it began with" if differing == ["code"] else ""),
    )


def _space(asked: StudySpec, where: ExecutionOptions, description: Description) -> Space:
    """Search space of the study: the strategy's, without options that were given a value."""
    if asked.mode == "default":
        return parse({}, description.fields, asked.strategy)
    space = find_space(asked.strategy, asked.space, description.fields, where.plugins)
    return space.without(given_values(asked, description))


def body_of(plan: StudyPlan, trials: list[Trial], chosen: list[Choice], runs: Runs) -> Body:
    """The certificate's body, which the plan and the runs determine."""
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
            "pruned": statuses.count("pruned"),
            "runs": len(done),
            "images": sum(run.images for run in done),
            **({"retried": retried} if retried else {}),
        },
        device_class=", ".join(sorted(runs.device_names - {""})) or plan.device,
        read_files=runs.read_files or None,
    )


def _seal(plan: StudyPlan, trials: list[Trial], chosen: list[Choice], runs: Runs) -> Certificate:
    """Write the certificate, then its hash to the ledger, after which nothing can be added."""
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
        trials_without=lacks_of(ledger.entries),
    )
    certificate = Certificate(hash=body.digest, body=body, envelope=envelope)
    text = json.dumps(certificate.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
    with writing(where.out):
        where.out.mkdir(parents=True, exist_ok=True)
    write_atomic(where.out / CERTIFICATE, text.encode())
    ledger.append("sealed", certificate=sha256(text.encode()), hash=certificate.hash)
    return certificate


def read_certificate(path: Path) -> Certificate:
    """Read a certificate, or the one in a folder, and check its hash.

    Raises:
        Tampered: The file does not hold a certificate, or was changed.
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
