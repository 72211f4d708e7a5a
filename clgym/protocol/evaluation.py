"""The evaluation phase, which needs a certificate and cannot change the method.

Only processes that are started for it load the evaluation source; this one does not. Every
evaluation is counted in the study's ledger before its first run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

from clgym import registry
from clgym.engines.channel import Message
from clgym.engines.pool import PoolSpec, WorkerPool, gather, open_pool
from clgym.errors import ClgymError, JobLost, Tampered, WorkerDied, WrongPhase
from clgym.files import canonical_json, locked, sha256, write_atomic, writing
from clgym.gym.description import describe_strategy
from clgym.gym.plan import method_hash
from clgym.gym.request import Request, Sandbox
from clgym.protocol.jobs import TARGET, RunSummary, as_message
from clgym.protocol.ledger import INTERRUPTED, NAME, Ledger
from clgym.protocol.outcome import (
    EVALUATION,
    Evaluation,
    SeedResult,
    following,
    interruptions,
    seed_result,
)
from clgym.protocol.plan import Certificate, Choice, StudyPlan, code_identity
from clgym.protocol.plugin_files import plugins_of
from clgym.protocol.relatives import register_opening, register_study, relatives
from clgym.protocol.runs import FAILURES, Event, ExecutionOptions, check_files, start_workers
from clgym.protocol.study import CERTIFICATE, read_certificate
from clgym.results.record import Record
from clgym.results.stored import open_run

__all__ = ["EVALUATION", "Evaluation", "SeedResult", "evaluate", "open_certificate", "requests_of"]


def open_certificate(folder: Path, ledger: Ledger) -> Certificate:
    """Return the certificate of a study, after checks that it may be used.

    Raises:
        WrongPhase: The study is not sealed.
        Tampered: Certificate, ledger or the strategy's code differ from what was sealed.
    """
    seals = ledger.of("sealed")
    if not seals:
        raise WrongPhase(
            expected=f"a sealed study in {folder}",
            found="a study that is still tuning" if ledger.entries else "no study",
            fix="Finish it with `clgym tune`",
        )
    certificate = read_certificate(folder)
    if sha256((folder / CERTIFICATE).read_bytes()) != seals[-1].body["certificate"]:
        raise Tampered(
            expected=f"{CERTIFICATE} with the hash in the ledger's seal",
            found="a different file",
            fix="Restore the file, or tune again",
        )
    return certificate


def evaluate(
    folder: Path,
    pool: PoolSpec | None = None,
    data_root: Path | None = None,
    plugins: tuple[Path, ...] = (),
    again: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
    sandbox: Sandbox = "auto",
) -> Evaluation:
    """Run the sealed hyper-parameters on the evaluation source, or continue doing so.

    Args:
        folder: Folder of the study, or its certificate.
        pool: Where to run.
        data_root: Where data lie.
        plugins: Files that hold the strategy, if it is not built in; if none is given, those
            of the study's last tuning session.
        again: Whether to begin another evaluation although one is complete; it is counted.
        on_event: Called with progress.
        sandbox: Sandbox of the learners, as for a run.

    Raises:
        WrongPhase: The study is not sealed, or was evaluated before and ``again`` is not set.
        Tampered: Something differs from what was sealed.
    """
    folder = folder.parent if folder.is_file() else folder
    if not (folder / NAME).is_file():
        raise WrongPhase(
            expected=f"a study in {folder}", found="no ledger", fix="Give the folder of a study"
        )
    with locked(folder / ".lock"):
        ledger = Ledger(folder)
        certificate = open_certificate(folder, ledger)
        number = _number(ledger, again)
        plugins = plugins or plugins_of(folder, ledger)
        out = folder / f"evaluations/{number}"
        where = ExecutionOptions(out, pool or PoolSpec(), data_root, plugins, sandbox)
        return _Evaluating(certificate, where, ledger, number, on_event).carry_out()


def _number(ledger: Ledger, again: bool) -> int:
    """Number of the evaluation to begin or continue.

    Raises:
        WrongPhase: All evaluations are complete, and no further one was requested.
    """
    opened, complete = len(ledger.of("opened")), len(ledger.of("complete"))
    if opened > complete:
        return opened
    if opened and not again:
        raise WrongPhase(
            expected="a certificate without an evaluation",
            found=f"{opened} complete evaluation{'s' if opened > 1 else ''} of it",
            fix="Give --again to evaluate once more, which is counted; each seed gives the same "
            "result",
        )
    return opened + 1


def requests_of(
    plan: StudyPlan, choice: Choice, seed: int, where: ExecutionOptions
) -> list[Request]:
    """The runs of one seed: one, or one per experience if hyper-parameters differ between them."""
    whole = (plan.k, plan.experiences) if plan.mode == "first_k" else None
    single = len(choice.configs) == 1
    requests: list[Request] = []
    for t, config in enumerate(choice.configs):
        requests.append(
            Request(
                strategy=plan.strategy,
                scenario=plan.pair.scenario,
                strategy_config={**plan.base, **config},
                scenario_config=plan.options(evaluating=True),
                seed=seed,
                order_seed=seed,
                threads=plan.threads,
                engine="inline" if where.pool.engine == "inline" else "process",
                out=where.out / (f"seed-{seed}" if single else f"seed-{seed}-experience-{t}"),
                data_root=where.data_root,
                plugins=where.plugins,
                sandbox=where.sandbox,
                part=whole if single else (0, t + 1),
                after=requests[-1].out if requests else None,
            )
        )
    return requests


def choice_of(certificate: Certificate, seed: int) -> Choice:
    """Hyper-parameters chosen for a stream.

    Raises:
        Tampered: The certificate has no choice for the seed, although a study chooses for all
            seeds.
    """
    for choice in certificate.body.chosen:
        if choice.seed in (None, seed):
            return choice
    raise Tampered(
        expected=f"a choice for seed {seed} in the certificate",
        found=f"choices for {[choice.seed for choice in certificate.body.chosen]}",
        fix="Get the certificate from its author",
    )


class _Evaluating:
    """One evaluation, from its opening to its last run."""

    def __init__(
        self,
        certificate: Certificate,
        where: ExecutionOptions,
        ledger: Ledger,
        number: int,
        emit: Callable[[Event], None],
    ) -> None:
        self._certificate, self._plan = certificate, certificate.body.plan
        self._where, self._ledger, self._number, self._emit = where, ledger, number, emit
        self._failed = {
            entry.body["seed"]: entry.body["error"]
            for entry in ledger.of("evaluated")
            if entry.body["evaluation"] == number and entry.body["error"]
        }

    def carry_out(self) -> Evaluation:
        ledger = self._ledger
        self._check_code()
        self._check_source()
        pool = start_workers(self._where.pool, self._pass_on)
        try:
            self._begin()
            self._run(pool)
        finally:
            pool.close()
        result = self._result()
        text = json.dumps(result.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        write_atomic(self._where.out / EVALUATION, text.encode())
        ends = {"file": sha256(text.encode()), "hash": result.hash}
        ledger.append("complete", evaluation=self._number, **ends)
        return result

    def _begin(self) -> None:
        """Count the evaluation, unless an earlier session did."""
        plan, ledger = self._plan, self._ledger
        if len(ledger.of("opened")) < self._number:
            seeds = list(plan.evaluation_seeds)
            ledger.append("opened", evaluation=self._number, seeds=seeds)
        register_study(ledger, plan)  # of a study that was tuned elsewhere
        register_opening(ledger, ledger.of("opened")[self._number - 1])
        self._emit({"kind": "evaluation", "number": self._number, "plan": plan})
        with writing(self._where.out):
            self._where.out.mkdir(parents=True, exist_ok=True)

    def _check_code(self) -> None:
        """Check that the files of the strategy, wrapped strategies and helpers are unchanged."""
        plan, plugins = self._plan, self._where.plugins
        entry = registry.find("strategies", plan.strategy, plugins)
        changed = [] if entry.source_hash == plan.source_hash else [entry.file_name]
        if not changed:  # else there is no need to import it
            described = describe_strategy(plan.strategy, plugins, plan.base, self._where.sandbox)
            now, read = (
                method_hash(entry, described.fields, plan.base, plugins),
                described.read_files,
            )
            changed += [n for n, digest in (plan.helpers or {}).items() if read.get(n) != digest]
            if plan.record_hash not in (None, now):
                changed.append("a wrapped strategy")
        if changed:
            raise Tampered(
                expected=f"the file of {plan.strategy} as it was in tuning, with everything that "
                "it imports",
                found=f"different content ({', '.join(changed)})",
                fix="Restore it, or tune again",
            )

    def _check_source(self) -> None:
        """Compare the fingerprint of the evaluation source, which a new process loads first."""
        pool = open_pool(PoolSpec(), TARGET)
        root = self._where.data_root
        message: Message = {
            "do": "fingerprint",
            "source": self._plan.pair.evaluation.source,
            "data_root": None if root is None else str(root),
        }
        try:
            found = gather(pool, [("fingerprint", message)])["fingerprint"]["fingerprint"]
        finally:
            pool.close()
        if found != self._plan.evaluation.fingerprint:
            raise Tampered(
                expected=f"{self._plan.evaluation.name} with the fingerprint in the plan",
                found="different content",
                fix="Restore the data, or tune again",
            )

    def _run(self, pool: WorkerPool) -> None:
        """Carry out all runs; runs of one seed follow one another."""
        plan = self._plan
        waiting = {
            seed: requests_of(plan, choice_of(self._certificate, seed), seed, self._where)
            for seed in plan.evaluation_seeds
            if seed not in self._failed
        }
        deaths: set[tuple[str, str]] = set()
        running: set[int] = set()
        while any(waiting.values()) or running:
            for seed, requests in waiting.items():
                if requests and seed not in running and pool.free:
                    running.add(seed)
                    self._emit({"kind": "start", "key": str(seed), "seed": seed})
                    pool.submit(str(seed), as_message(requests[0], [], keep_state=True))
            for done in pool.wait(1.0):
                seed = int(done.key)
                running.discard(seed)
                death = (done.key, type(done.error).__name__)
                if isinstance(done.error, (WorkerDied, JobLost)) and death not in deaths:
                    deaths.add(death)
                    self._interrupted(seed, done.error)
                    continue
                if done.error is not None and not isinstance(done.error, FAILURES):
                    self._interrupted(seed, done.error)
                    raise done.error
                # Made by `clgym.protocol.jobs.Jobs`; empty if the run failed.
                summary = cast(RunSummary, done.reply or {})
                self._check_files(waiting[seed][0], summary)
                waiting[seed] = waiting[seed][1:] if done.error is None else []
                if not waiting[seed]:
                    self._ended(seed, done.error, summary)

    def _interrupted(self, seed: int, error: ClgymError) -> None:
        """Write a line for a run that ended without a result, and will be repeated."""
        facts = {"error": type(error).__name__, "reason": error.found}
        self._ledger.append(INTERRUPTED, evaluation=self._number, seed=seed, **facts)

    def _check_files(self, request: Request, reply: RunSummary) -> None:
        """Check that the files that the strategy read are those of the tuning."""
        assert request.out is not None
        known = self._certificate.body.read_files or {}
        check_files(known, reply.get("read_files", {}), request.out)

    def _pass_on(self, key: str, event: Event) -> None:
        self._emit({"kind": "run", "key": key, "event": event})

    def _ended(self, seed: int, error: ClgymError | None, reply: RunSummary) -> None:
        known = {
            entry.body["seed"]
            for entry in self._ledger.of("evaluated")
            if entry.body["evaluation"] == self._number
        }
        if error is not None:
            self._failed[seed] = type(error).__name__
        if seed not in known:
            self._ledger.append(
                "evaluated",
                evaluation=self._number,
                seed=seed,
                error=self._failed.get(seed),
                reason=None if error is None else error.found,
                record=reply.get("record"),
                result=reply.get("result"),
                **self._parts(seed, error),
            )
        self._emit({"kind": "end", "key": str(seed), "seed": seed, **reply})

    def _parts(self, seed: int, error: ClgymError | None) -> dict[str, object]:
        """Hashes of the records of a seed's runs, if it has one for each experience."""
        requests = requests_of(self._plan, choice_of(self._certificate, seed), seed, self._where)
        if error is not None or len(requests) == 1:
            return {}
        folders = [request.out for request in requests if request.out is not None]
        return {"parts": [open_run(folder).sha256 for folder in folders]}

    def _result(self) -> Evaluation:
        plan = self._plan
        seeds: list[SeedResult] = []
        records: list[Record] = []
        for seed in plan.evaluation_seeds:
            if seed in self._failed:
                seeds.append(SeedResult(seed=seed, status="failed", error=self._failed[seed]))
                continue
            requests = requests_of(plan, choice_of(self._certificate, seed), seed, self._where)
            out = requests[-1].out
            assert out is not None
            run = open_run(out)
            records.append(run.record)
            seeds.append(seed_result(seed, run))
        others = relatives(self._where.out.parent.parent, plan)
        code = code_identity()
        facts: dict[str, object] = {
            "schema_version": 1,
            **following(
                self._certificate,
                code,
                seeds,
                records,
                interruptions(self._ledger.entries, self._number),
            ),
            "code": code.model_dump(mode="json"),
            "tuning_seconds": self._tuning_seconds(),
            "seeds": [seed.model_dump(mode="json") for seed in seeds],
            "evaluation_number": self._number,
            "study_number": others.number,
            "evaluations_before": others.evaluations,
            "ledger_head": self._ledger.head,
        }
        return Evaluation.model_validate({**facts, "hash": sha256(canonical_json(facts))})

    def _tuning_seconds(self) -> float:
        """Total seconds over the runs of all trials, in all sessions."""
        return float(sum(e.body.get("seconds", 0.0) for e in self._ledger.of("run")))
