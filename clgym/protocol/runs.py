"""The runs of a study: executed on a pool, written to the ledger.

Only the coordinator has the budget and the ledger; workers just carry out runs. Its decisions
depend on the plan and on results in trial order, never on which run finished first, so crashes and
the number of workers do not change the certificate's body.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from clgym._moved import report_renamed
from clgym.engines.pool import Done, PoolSpec, WorkerPool, open_pool
from clgym.errors import (
    BadAnswer,
    BadConfig,
    BadPlan,
    JobLost,
    OutOfReach,
    StrategyFailed,
    Tampered,
    WorkerDied,
    WrongPhase,
)
from clgym.gym.request import Request, Sandbox
from clgym.protocol.jobs import TARGET, RunSummary, as_message, rules_of
from clgym.protocol.ledger import INTERRUPTED, EntryBody, Ledger, LedgerEntry
from clgym.protocol.plan import RunScore, StudyPlan
from clgym.protocol.relatives import register_study
from clgym.protocol.samplers import ADAPTIVE

__all__ = [
    "FAILURES",
    "RETRY_FAILED",
    "Runs",
    "TrialRun",
    "ExecutionOptions",
    "check_files",
    "check_retry",
    "criterion_of",
    "pruned_body",
    "start_workers",
]

report_renamed(__name__)

Event = dict[str, Any]
"""Progress of a study. ``Any``: its fields depend on ``kind``, which readers check first."""
FAILURES = (StrategyFailed, BadAnswer, BadConfig, OutOfReach)
"""Errors recorded as a failed run. Any other exception (a full disk, for example) aborts the
study."""
RETRY_FAILED = "retry-failed"
"""Kind of the ledger line for a failed run that the user chose to repeat."""
_DEATHS = 2
_POLL_SECONDS = 1.0
CLUSTERS = ("ray", "slurm")


@dataclass(frozen=True)
class TrialRun:
    """One run that a study requires."""

    trial: int
    seed: int
    config: Mapping[str, Any]
    part: tuple[int, int] | None = None
    after: "TrialRun | None" = None
    """Run whose learner continues here, in modes that choose separately for each experience."""
    experience: int | None = None
    label: str = ""
    """Label that distinguishes runs which would otherwise have the same key."""

    @property
    def key(self) -> str:
        """Key of the run: its folder below the study's folder."""
        place = "" if self.experience is None else f"experience-{self.experience}/"
        return f"runs/{place}{self.label}trial-{self.trial:03}/seed-{self.seed}"


@dataclass(frozen=True)
class ExecutionOptions:
    """How a study is executed, which affects no result."""

    out: Path
    pool: PoolSpec = field(default_factory=PoolSpec)
    data_root: Path | None = None
    plugins: tuple[Path, ...] = ()
    sandbox: Sandbox = "auto"
    """Sandbox of the learners, as for a run; their records say what was enforced."""


class Runs:
    """Executes the runs of a study on a pool, and writes the ledger."""

    def __init__(
        self,
        plan: StudyPlan,
        where: ExecutionOptions,
        ledger: Ledger,
        emit: Callable[[Event], None],
    ) -> None:
        """Take over the finished runs of the ledger."""
        self.plan, self.where, self.ledger, self._emit = plan, where, ledger, emit
        self.replies: dict[str, EntryBody] = {}
        self.pruned: dict[str, EntryBody] = {}
        self.device_names: set[str] = set()
        self.read_files: dict[str, str] = {}
        self._pool: WorkerPool | None = None
        self._deaths: Counter[tuple[str, str]] = Counter()
        self._registered = False
        for entry in ledger.entries:
            self._know(entry)
        self._started = {entry.body["key"] for entry in ledger.of("trial")}

    def _know(self, entry: LedgerEntry) -> None:
        """Process one ledger line; a run that the user chose to repeat counts as not done."""
        key = entry.body.get("key", "")
        if entry.kind == "retry":
            self._deaths[key, entry.body.get("error", WorkerDied.__name__)] += 1
        elif entry.kind == RETRY_FAILED:
            self._deaths.pop((key, WorkerDied.__name__), None)
            del self.replies[key]
        elif entry.kind == "pruned":
            self.pruned[key] = entry.body
        elif entry.kind == "run":
            self.replies[key] = entry.body
            self.read_files |= entry.body.get("read_files", {})
            self.device_names.add(entry.body.get("device_name", ""))

    def retry_failed(self) -> None:
        """Discard the failed runs, after writing a ledger line for each."""
        for key in [key for key, reply in self.replies.items() if reply["status"] == "failed"]:
            self._know(self.ledger.append(RETRY_FAILED, key=key, error=self.replies[key]["error"]))

    def prune(self, spec: TrialRun, after: int, score: float) -> None:
        """Write a ledger line for a trial that is stopped early, unless it is there.

        Args:
            spec: One of its runs over the whole stream.
            after: Number of experiences after which it is stopped.
            score: Its score there.
        """
        body = pruned_body(spec, after, score)
        if body["key"] not in self.pruned:
            self._know(self.ledger.append("pruned", **body))
        self._emit({"kind": "pruned", **body})

    def open(self) -> None:
        """Start the workers; otherwise `carry_out` starts them.

        Raises:
            ClgymError: The engine cannot be used here.
        """
        self._open()

    def close(self) -> None:
        """Stop the workers."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def carry_out(
        self, specs: Sequence[TrialRun], enough: Callable[[TrialRun], bool] = lambda spec: False
    ) -> list[RunScore | None]:
        """Carry out the runs that are not done; return scores in the order of ``specs``.

        Args:
            specs: Runs to carry out.
            enough: Called before each start; if it returns True, the run is skipped (score None).
        """
        waiting = deque(spec for spec in specs if spec.key not in self.replies)
        running: dict[str, TrialRun] = {}
        while waiting or running:
            pool = self._open()
            while waiting and pool.free:
                spec = waiting.popleft()
                if not enough(spec):
                    self._start(pool, spec)
                    running[spec.key] = spec
            for done in pool.wait(_POLL_SECONDS) if running else ():
                spec = running.pop(done.key)
                if not self._ended(spec, done):
                    waiting.appendleft(spec)
        return [_score(self.replies.get(spec.key), spec) for spec in specs]

    def _open(self) -> WorkerPool:
        if self._pool is None:
            self._pool = start_workers(self.where.pool, self._pass_on)
        return self._pool

    def _pass_on(self, key: str, event: Event) -> None:
        self._emit({"kind": "run", "key": key, "event": event})

    def _start(self, pool: WorkerPool, spec: TrialRun) -> None:
        trial = spec.key.rpartition("/")[0]
        if trial not in self._started:
            self._started.add(trial)
            self.ledger.append("trial", key=trial, trial=spec.trial, config=dict(spec.config))
        plan = self.plan
        # Modes that tune on the evaluation source are marked as such; nothing is closed for them.
        closed = rules_of(plan.pair, plan.evaluation.fingerprint, plan.withheld_images)
        keep = spec.experience is not None
        message = as_message(self._request(spec), [] if plan.tunes_on_evaluation else closed, keep)
        self._emit({"kind": "start", "key": spec.key, "trial": spec.trial, "seed": spec.seed})
        pool.submit(spec.key, message)

    def _request(self, spec: TrialRun) -> Request:
        plan, out = self.plan, self.where.out
        return Request(
            strategy=plan.strategy,
            scenario=plan.pair.scenario,
            strategy_config={**plan.base, **spec.config},
            scenario_config=plan.options(evaluating=False),
            seed=spec.seed,
            order_seed=spec.seed,
            threads=plan.threads,
            engine="inline" if self.where.pool.engine == "inline" else "process",
            out=out / spec.key,
            data_root=self.where.data_root,
            plugins=self.where.plugins,
            sandbox=self.where.sandbox,
            score_on=plan.score_on,
            part=spec.part,
            after=spec.after and out / spec.after.key,
        )

    def _ended(self, spec: TrialRun, done: Done) -> bool:
        """Write a run's end to the ledger; return False if it is to be tried again.

        Raises:
            ClgymError: An error that occurs for all hyper-parameters.
        """
        key, error = spec.key, done.error
        if isinstance(error, (WorkerDied, JobLost)):
            # A lost job is no attempt of the strategy.
            name = type(error).__name__
            self._deaths[key, name] += 1
            if self._deaths[key, name] < _DEATHS:
                self.ledger.append("retry", key=key, error=name, reason=error.found)
                self._emit({"kind": "retry", "key": key, "reason": error.found})
                return False
        if error is not None and not isinstance(error, FAILURES):
            self.ledger.append(INTERRUPTED, key=key, error=type(error).__name__, reason=error.found)
            raise error
        body: EntryBody = {"key": key, "trial": spec.trial, "seed": spec.seed}
        if error is not None:
            # The reason may contain paths of this machine, so it is not part of the certificate.
            failed = {"status": "failed", "error": type(error).__name__, "reason": error.found}
            self.replies[key] = {**body, **failed}
        else:
            summary = cast(RunSummary, done.reply)  # made by `clgym.protocol.jobs.Jobs`
            self._check_source(summary)
            read = summary.get("read_files", {})
            check_files(self.read_files, read, self.where.out / key)
            self.read_files |= read
            self.device_names.add(summary["device_name"])
            self.replies[key] = {**body, "status": "done", **summary}
        self.ledger.append("run", **self.replies[key])
        if not self._registered:
            register_study(self.ledger, self.plan)
            self._registered = True
        self._emit({"kind": "end", **self.replies[key]})
        return True

    def _check_source(self, reply: RunSummary) -> None:
        side = self.plan.evaluation if self.plan.tunes_on_evaluation else self.plan.tuning
        if reply["fingerprints"] != [side.fingerprint]:
            raise Tampered(
                expected=f"{side.name} with the fingerprint in the plan",
                found="different content",
                fix="Restore the data, or start a new study",
            )


def pruned_body(spec: TrialRun, after: int, score: float) -> EntryBody:
    """What the ledger says of a trial that is stopped early; arguments as for `Runs.prune`."""
    key = spec.key.rpartition("/")[0]
    return {"key": key, "trial": spec.trial, "after": after, "score": score}


def check_files(known: Mapping[str, str], read: Mapping[str, str], run: Path) -> None:
    """Refuse a run whose strategy read other helper files than earlier runs.

    Args:
        known: SHA-256 of the files that earlier runs read, by name.
        read: SHA-256 of the files that this run read, by name.
        run: Folder of this run.

    Raises:
        Tampered: Files changed; the message names them.
    """
    changed = sorted(name for name in known.keys() & read.keys() if known[name] != read[name])
    if changed:
        raise Tampered(
            expected="the files that the strategy read in the study's earlier runs",
            found=f"different {', '.join(changed)}",
            fix=f"Restore them and delete {run}, or tune into another --out",
        )


def check_retry(plan: StudyPlan, ledger: Ledger) -> None:
    """Refuse to repeat failed runs if that would change later ones.

    Raises:
        WrongPhase: The study is sealed.
        BadPlan: Later trials were chosen by the scores of earlier ones.
    """
    last = {e.body["key"]: e.body["status"] for e in ledger.of("run")}
    failed = [key for key, status in last.items() if status == "failed"]
    if failed and ledger.of("sealed"):
        raise WrongPhase(
            expected="an unfinished study, whose failed runs can be repeated",
            found=f"a sealed study with {len(failed)} failed runs",
            fix="Give another --out, since this study is sealed",
        )
    chained = plan.mode in ("current_task", "stability_decay")
    if failed and (plan.sampler in ADAPTIVE or chained or plan.pruner):
        rule = f" with the pruner {plan.pruner.rule}" if plan.pruner else ""
        found = f"the sampler {plan.sampler} in the mode {plan.mode}{rule}, and {failed[0]} failed"
        raise BadPlan(
            expected="a study in which no trial depends on the score of another",
            found=found,
            fix="Tune into another --out",
        )


def start_workers(spec: PoolSpec, on_event: Callable[[str, Event], None]) -> WorkerPool:
    """Open a pool for the protocol's jobs.

    Raises:
        BadPlan: There is no such cluster here, or it does not take the options.
        MissingExtra: The engine's package is not installed.
    """
    try:
        return open_pool(spec, TARGET, on_event)
    except (RuntimeError, OSError, ValueError, NameError) as error:
        if spec.engine not in CLUSTERS:
            raise
        raise BadPlan(
            expected=f"a cluster that --engine {spec.engine} can use from this machine",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="Run the command on a machine of the cluster, check --engine-option, or leave "
            "--engine out to run here",
        ) from error


def _score(reply: Mapping[str, Any] | None, spec: TrialRun) -> RunScore | None:
    if reply is None:
        return None
    names = RunScore.model_fields.keys() - {"seed"}
    return RunScore(seed=spec.seed, **{name: reply[name] for name in names if name in reply})


def criterion_of(name: str, run: RunScore) -> float:
    """Score of one run, in [0, 1]."""
    last, average = run.last_accuracy, run.average_incremental_accuracy
    assert last is not None and average is not None
    if name == "acc":
        return last
    if name == "avg_acc":
        return average
    if name == "harmonic":
        return 2 * last * average / (last + average) if last + average else 0.0
    return (last + average) / 2
