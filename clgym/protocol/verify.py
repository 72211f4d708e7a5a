"""Audit a record, a certificate or a whole study: everything that follows from other things.

What is stored is compared with what it must be: hashes and links first, then every number that can
be computed again. Nothing is trusted because it validates.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clgym.engines.pool import Pool, PoolSpec, gather, open_pool
from clgym.errors import BadPlan, BadRecord, ClgymError, Tampered
from clgym.files import canonical_json, sha256
from clgym.gym.folder import RECORD
from clgym.protocol.evaluation import choice_of, requests_of
from clgym.protocol.jobs import TARGET, as_message, told
from clgym.protocol.ledger import NAME, Entry, Ledger, read_ledger
from clgym.protocol.modes import choose
from clgym.protocol.outcome import EVALUATION, Evaluation, following, seed_result
from clgym.protocol.plan import Body, Certificate, Plan, evaluation_seeds
from clgym.protocol.plugin_files import plugins_of
from clgym.protocol.record_audit import against_plan, differences, parsed, record_problems
from clgym.protocol.runs import RETRY_FAILED, Runs, Where
from clgym.protocol.space import Space
from clgym.protocol.study import CERTIFICATE, body_of
from clgym.results.record import read_record

__all__ = ["ODD", "Audit", "record_problems", "verify"]

_TUNING = ("session", "trial", "run", "retry", RETRY_FAILED, "sealed")
_EVALUATING = ("opened", "evaluated", "complete")
_FIRST = f"evaluations/1/{EVALUATION}"
TOLERANCE_GPU = 0.01
"""Of an accuracy, between two runs on a GPU."""


ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError)
"""What values raise that validate and lead nowhere: whoever changed them is found out."""


@dataclass
class Audit:
    """What was looked at and what was wrong."""

    checks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    """Folders of the records that are results: not those of tuning runs."""

    def check(self, name: str, problems: Callable[[], Iterator[str]]) -> None:
        """Carry out one check; an error is a problem too."""
        self.checks.append(name)
        try:
            self.problems += [f"{name}: {problem}" for problem in problems()]
        except ClgymError as error:
            self.problems.append(f"{name}: expected {error.expected}; found {error.found}")
        except ODD as error:
            self.problems.append(f"{name}: it cannot be followed ({type(error).__name__}: {error})")


def verify(
    path: Path, rerun: int = 0, data_root: Path | None = None, plugins: tuple[Path, ...] = ()
) -> Audit:
    """Audit whatever lies at ``path``: a study's folder, a certificate, an evaluation, a record.

    Args:
        path: A file or a folder.
        rerun: Evaluation runs to repeat and compare.
        data_root: Where data lie, for those.
        plugins: Files that hold the strategy, for those.

    Raises:
        BadRecord: nothing of the kind lies there.
        BadPlan: runs are to be repeated where no evaluation is complete.
    """
    audit = Audit()
    folder = path.parent if path.is_file() else path
    study = next((f for f in (folder, *folder.resolve().parents[:3]) if (f / NAME).is_file()), None)
    if rerun and (study is None or not (study / _FIRST).is_file()):
        raise BadPlan(
            expected=f"an evaluated study at {path}, whose runs can be repeated",
            found="no complete evaluation",
            fix="`clgym evaluate` makes one; of a run by itself give `clgym run` again with "
            "another --out, and `clgym compare` both",
        )
    if study is not None:
        _Study(study, audit).audit(rerun, Where(study, PoolSpec(), data_root, plugins))
    elif (folder / CERTIFICATE).is_file():
        audit.check(CERTIFICATE, lambda: _certificate_alone(folder / CERTIFICATE))
        audit.notes.append("no ledger beside the certificate: its envelope and trials stand alone")
    elif (folder / RECORD).is_file():
        audit.check(RECORD, lambda: record_problems(folder))
        audit.records.append(str(folder))
        audit.notes.append("a record by itself: config, costs and environment have no second copy")
    elif seeds := sorted(folder.glob(f"*/{RECORD}")):
        for file in seeds:
            audit.check(f"{file.parent.name}/{RECORD}", partial(record_problems, file.parent))
            audit.records.append(str(file.parent))
        audit.notes.append(
            "records by themselves: config, costs and environment have no second copy"
        )
    else:
        raise BadRecord(
            expected=f"a study, certificate or record at {path}",
            found="none",
            fix="Name a folder that `clgym tune`, `evaluate` or `run` wrote",
        )
    return audit


def _certificate_alone(path: Path) -> Iterator[str]:
    certificate = parsed(Certificate, path.read_bytes())
    if certificate.body.digest != certificate.hash:
        yield "the body does not hash to `hash`"
    if certificate.body.plan.digest != certificate.body.plan_hash:
        yield "body.plan does not hash to body.plan_hash"


def _json(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


class _Replay(Runs):
    """Runs that are all in the ledger: nothing is carried out."""

    def _open(self) -> Pool:
        raise Tampered(
            expected="every run of the study in the ledger",
            found="one that is missing",
            fix="The study cannot be trusted any more",
        )


class _Study:
    """A study's folder under audit."""

    def __init__(self, folder: Path, audit: Audit) -> None:
        self._folder, self._audit = folder, audit
        self._entries: list[Entry] = []
        self._plan: Plan | None = None

    def audit(self, rerun: int, where: Where) -> None:
        check = self._audit.check
        check(NAME, self._chain)
        if not self._entries:
            return
        check("plan", self._plan_problems)
        if self._plan is None:
            return
        check("order of the ledger", self._grammar)
        sealed = any(entry.kind == "sealed" for entry in self._entries)
        if sealed or (self._folder / CERTIFICATE).exists():
            check(CERTIFICATE, self._certificate_problems)
        else:
            self._audit.notes.append("not sealed yet")
        for entry in self._of("run"):
            if entry.body.get("status") == "done":
                place = self._folder / str(entry.body["key"])
                check(str(entry.body["key"]), lambda e=entry, p=place: self._trial(e, p))
        for number in range(1, self._evaluations() + 1):
            check(f"evaluation {number}", lambda n=number: self._evaluation(n))
        if rerun:
            check(f"{rerun} runs repeated", lambda: self._rerun(rerun, where))

    def _of(self, kind: str) -> list[Entry]:
        return [entry for entry in self._entries if entry.kind == kind]

    def _chain(self) -> Iterator[str]:
        data = (self._folder / NAME).read_bytes()
        self._entries = read_ledger(self._folder / NAME)
        if not self._entries or not data.endswith(b"\n"):
            yield "the last line is cut off"

    def _plan_problems(self) -> Iterator[str]:
        body = self._entries[0].body
        if self._entries[0].kind != "plan" or len(self._of("plan")) != 1:
            yield "the ledger does not begin with its one plan"
            return
        plan = parsed(Plan, json.dumps(body["plan"]).encode())
        if plan.digest != body["plan_hash"]:
            yield "it does not hash to plan_hash"
        if plan.pair.digest != plan.pair_hash:
            yield "pair does not hash to pair_hash"
        if sha256(canonical_json(plan.space)) != plan.space_hash:
            yield "space does not hash to space_hash"
        if sha256(canonical_json(body["survey"]["overlap"])) != plan.overlap_hash:
            yield "the overlap report does not hash to overlap_hash"
        derived = plan.mode in ("transfer", "default")
        seeds = evaluation_seeds(plan.pair, len(plan.seeds)) if derived else plan.seeds
        if plan.evaluation_seeds != seeds:
            yield "evaluation_seeds are not the derived ones"
        self._plan = plan

    def _grammar(self) -> Iterator[str]:
        """States go forward only, and nothing is counted twice."""
        sealed = False
        seen: set[tuple[Any, ...]] = set()
        failed: set[Any] = set()
        for number, entry in enumerate(self._entries[1:], 2):
            allowed = _EVALUATING if sealed else _TUNING
            if entry.kind not in allowed:
                yield f"line {number} is {entry.kind!r}, {'after' if sealed else 'before'} the seal"
            sealed = sealed or entry.kind == "sealed"
            names = ("key",) if entry.kind in ("trial", "run") else ("evaluation", "seed")
            unique = (entry.kind, *(entry.body.get(name) for name in names))
            unique = (*unique[:2], None) if entry.kind == "opened" else unique
            if entry.kind in ("trial", "run", *_EVALUATING):
                if unique in seen:
                    yield f"line {number} counts {entry.kind} {unique[1]} twice"
                seen.add(unique)
            key = entry.body.get("key")
            if entry.kind == "run" and entry.body.get("status") == "failed":
                failed.add(key)
            if entry.kind == RETRY_FAILED:
                if key not in failed:
                    yield f"line {number} retries {key}, which had not failed"
                failed.discard(key)
                seen.discard(("run", key))
            opening = ("opened", entry.body.get("evaluation"), None)
            if entry.kind in _EVALUATING[1:] and opening not in seen:
                yield f"line {number} is of an evaluation that was not opened"

    def _certificate_problems(self) -> Iterator[str]:
        data = (self._folder / CERTIFICATE).read_bytes() if self._has(CERTIFICATE) else b""
        seals = self._of("sealed")
        if not seals or sha256(data) != seals[-1].body["certificate"]:
            yield "the file is not the one that the ledger seals"
        certificate = parsed(Certificate, data)
        if certificate.body.digest != certificate.hash:
            yield "body does not hash to `hash`"
        expected = self._expected()
        yield from (
            f"body.{place} does not follow from the ledger"
            for place in differences(_json(expected), _json(certificate.body))
        )
        if seals and certificate.envelope.ledger_head != seals[-1].prev:
            yield "envelope.ledger_head is not the link before the seal"

    def _has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def _expected(self) -> Body:
        """The body that plan and runs in the ledger lead to: settings drawn and chosen again."""
        assert self._plan is not None
        runs = _Replay(self._plan, Where(self._folder), Ledger(self._folder), lambda event: None)
        trials, chosen = choose(self._plan, Space.of(self._plan.space), runs)
        return body_of(self._plan, trials, chosen, runs)

    def _trial(self, entry: Entry, folder: Path) -> Iterator[str]:
        """A trial's record against the ledger and against the plan."""
        assert self._plan is not None
        if not (folder / RECORD).is_file():
            yield "its record is missing"
            return
        yield from record_problems(folder)
        record = read_record(folder)
        for name, value in told(record, folder).items():
            if json.loads(canonical_json(value)) != entry.body.get(name):
                yield f"{name} is not what the ledger says"
        started = {e.body["key"]: e.body["config"] for e in self._of("trial")}
        trial = str(entry.body["key"]).rpartition("/")[0]
        wanted = {**self._plan.base, **started.get(trial, {})}
        yield from against_plan(
            record, self._plan, wanted, int(entry.body["seed"]), evaluating=False
        )

    def _evaluations(self) -> int:
        folders = list(self._folder.glob(f"evaluations/*/{EVALUATION}"))
        return max(len(self._of("opened")), len(folders))

    def _evaluation(self, number: int) -> Iterator[str]:
        folder = self._folder / f"evaluations/{number}"
        ends = [e for e in self._of("complete") if e.body["evaluation"] == number]
        if not ends and not (folder / EVALUATION).exists():
            self._audit.notes.append(f"evaluation {number} was opened and is not complete")
            return
        data = (folder / EVALUATION).read_bytes() if (folder / EVALUATION).is_file() else b""
        if not ends or sha256(data) != ends[0].body["file"]:
            yield f"{EVALUATION} is not the file in the ledger"
        found: Evaluation = parsed(Evaluation, data)
        facts = _json(found)
        if sha256(canonical_json({k: v for k, v in facts.items() if k != "hash"})) != found.hash:
            yield "the rest does not hash to `hash`"
        certificate: Certificate = parsed(
            Certificate,
            (self._folder / CERTIFICATE).read_bytes() if self._has(CERTIFICATE) else b"",
        )
        plan = certificate.body.plan
        yield from self._links(found, certificate, number, folder)
        if ends and found.ledger_head != ends[0].prev:
            yield "ledger_head is not the link before its end"
        if [seed.seed for seed in found.seeds] != list(plan.evaluation_seeds):
            yield "seeds are not the plan's: one is missing, added or out of order"
        for seed in found.seeds:
            if seed.status == "done":
                yield from self._seed(certificate, folder, seed)

    def _links(
        self, found: Evaluation, certificate: Certificate, number: int, folder: Path
    ) -> Iterator[str]:
        """What the file says beside its seeds, against certificate, ledger and records."""
        done = [folder / str(s.record) for s in found.seeds if s.status == "done"]
        records = [read_record(own) for own in done if (own / RECORD).is_file()]
        facts = _json(found)
        wanted = following(certificate, found.code, list(found.seeds), records)
        wanted |= {
            "evaluation_number": number,
            "tuning_seconds": float(sum(e.body.get("seconds", 0.0) for e in self._of("run"))),
        }
        for name, value in wanted.items():
            if facts[name] != value:
                yield f"{name} does not follow from certificate, ledger and records"
        if found.study_number < 1 or found.evaluations_before < 0:
            yield "study_number or evaluations_before is no count"

    def _seed(self, certificate: Certificate, folder: Path, seed: Any) -> Iterator[str]:
        own, name = folder / str(seed.record), f"seed {seed.seed}"
        if not (own / RECORD).is_file():
            yield f"{name}: its record is missing"
            return
        yield from (f"{name}: {problem}" for problem in record_problems(own))
        record = read_record(own)
        self._audit.records.append(str(own))
        again = _json(seed_result(seed.seed, record, own))
        for place in differences(again, _json(seed)):
            yield f"{name}: {place} is not the record's"
        plan = certificate.body.plan
        try:
            config = choice_of(certificate, seed.seed).configs[-1]
        except Tampered as error:
            yield f"{name}: {error}"
            return
        wanted = {**plan.base, **config}
        for problem in against_plan(record, plan, wanted, seed.seed, evaluating=True):
            yield f"{name}: {problem}"

    def _rerun(self, count: int, given: Where) -> Iterator[str]:
        """Repeat evaluation runs: exact on a CPU, within a tolerance on a GPU."""
        certificate = parsed(Certificate, (self._folder / CERTIFICATE).read_bytes())
        evaluation: Evaluation = parsed(Evaluation, (self._folder / _FIRST).read_bytes())
        plan = certificate.body.plan
        for seed in [s for s in evaluation.seeds if s.status == "done"][:count]:
            record = read_record((self._folder / _FIRST).parent / str(seed.record))
            key = record.environment.order_key
            with tempfile.TemporaryDirectory() as folder:
                pool = PoolSpec(devices=(plan.device,))
                plugins = given.plugins or plugins_of(self._folder, Ledger(self._folder))
                where = Where(Path(folder), pool, given.data_root, plugins)
                requests = requests_of(plan, choice_of(certificate, seed.seed), seed.seed, where)
                workers = open_pool(where.pool, TARGET)
                try:
                    for request in (replace(r, order_key=key) for r in requests):
                        reply = gather(workers, [("again", as_message(request, [], True))])["again"]
                finally:
                    workers.close()
            yield from _compared(plan, seed, reply)


def _compared(plan: Plan, seed: Any, reply: dict[str, Any]) -> Iterator[str]:
    if plan.device == "cpu":
        if reply["result"] != seed.result:
            yield f"seed {seed.seed}: another result"
        return
    shift = abs(reply["last_accuracy"] - (seed.last_accuracy or 0.0))
    if shift > TOLERANCE_GPU:
        yield f"seed {seed.seed}: last accuracy differs by {shift:.4f}"
