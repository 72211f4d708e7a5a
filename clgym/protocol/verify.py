"""Audit a record, a certificate or a whole study: everything that follows from other things.

What is stored is compared with what it must be: hashes and links first, then every number that can
be computed again. Nothing is trusted because it validates.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from clgym.adaptation.stream import without_paths
from clgym.data.sources import CARDS
from clgym.engines.pool import Pool, PoolSpec, gather, open_pool
from clgym.errors import BadRecord, ClgymError, Tampered
from clgym.files import canonical_json, sha256
from clgym.metrics import average_incremental_accuracy, backward_transfer, forgetting
from clgym.protocol.evaluation import (
    EVALUATION,
    Evaluation,
    choice_of,
    requests_of,
    seed_result,
    summarised,
)
from clgym.protocol.jobs import TARGET, as_message, result_hash
from clgym.protocol.ledger import NAME, Entry, Ledger, read_ledger
from clgym.protocol.modes import choose
from clgym.protocol.plan import Body, Certificate, Plan, evaluation_seeds
from clgym.protocol.runs import Runs, Where
from clgym.protocol.space import Space
from clgym.protocol.study import CERTIFICATE, body_of
from clgym.protocol.verify_adaptation import adaptation_problems
from clgym.record import Record, Result, read_record
from clgym.run_folder import RECORD
from clgym.scenario import class_permutation

__all__ = ["Audit", "verify"]

_TUNING = ("session", "trial", "run", "retry", "sealed")
_EVALUATING = ("opened", "evaluated", "complete")
TOLERANCE_GPU = 0.01
"""Of an accuracy, between two runs on a GPU."""


@dataclass
class Audit:
    """What was looked at and what was wrong."""

    checks: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self, name: str, problems: Callable[[], Iterator[str]]) -> None:
        """Carry out one check; an error is a problem too."""
        self.checks.append(name)
        try:
            self.problems += [f"{name}: {problem}" for problem in problems()]
        except ClgymError as error:
            self.problems.append(f"{name}: expected {error.expected}; found {error.found}")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError) as error:
            # Values that validate and lead nowhere: whoever changed them is found out all the same.
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
    """
    audit = Audit()
    folder = path.parent if path.is_file() else path
    study = next((f for f in (folder, *folder.resolve().parents[:3]) if (f / NAME).is_file()), None)
    if study is not None:
        _Study(study, audit).audit(rerun, Where(study, PoolSpec(), data_root, plugins))
    elif (folder / CERTIFICATE).is_file():
        audit.check(CERTIFICATE, lambda: _certificate_alone(folder / CERTIFICATE))
        audit.notes.append("no ledger beside the certificate: its envelope and trials stand alone")
    elif (folder / RECORD).is_file():
        audit.check(RECORD, lambda: record_problems(folder))
        audit.notes.append("a record by itself: config, costs and environment have no second copy")
    else:
        raise BadRecord(
            expected=f"a study, certificate or record at {path}",
            found="none",
            fix="Name a folder that `clgym tune`, `evaluate` or `run` wrote",
        )
    return audit


def _certificate_alone(path: Path) -> Iterator[str]:
    certificate = _parsed(Certificate, path.read_bytes())
    if certificate.body.digest != certificate.hash:
        yield "the body does not hash to `hash`"
    if certificate.body.plan.digest != certificate.body.plan_hash:
        yield "body.plan does not hash to body.plan_hash"


def _parsed(model: Any, data: bytes) -> Any:
    """Validate strictly: a file that only means the same is not the same."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the top"
        raise Tampered(
            expected="a file that validates", found=f"{first['msg']} at {place}", fix="Restore it"
        ) from None


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Places where two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from differences(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from differences(a, b, f"{place}[{i}]")
    elif canonical_json(one) != canonical_json(other):
        yield place or "the whole"


def _json(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


# --- records -------------------------------------------------------------------------------------


def record_problems(folder: Path) -> Iterator[str]:
    """What in a record does not follow from its predictions, its matrix and its seeds."""
    record = _parsed(Record, (folder / RECORD).read_bytes())
    result = record.result
    after = result.accuracy_after
    derived = {
        "last_accuracy": after[-1],
        "average_incremental_accuracy": average_incremental_accuracy(after),
        "forgetting": forgetting(result.accuracy_matrix),
        "backward_transfer": backward_transfer(result.accuracy_matrix),
    }
    for name, value in derived.items():
        if getattr(result, name) != value:
            yield f"result.{name} does not follow from the matrix"
    yield from _prediction_problems(folder, record)
    yield from _order_problems(record)


def _prediction_problems(folder: Path, record: Record) -> Iterator[str]:
    result = record.result
    path = folder / result.predictions.file
    data = path.read_bytes() if path.is_file() else b""
    if sha256(data) != result.predictions.sha256:
        yield f"{path.name} does not hash to result.predictions.sha256"
        return
    try:
        answers = load(data)
        if result.scenario.setting != "adaptation":
            yield from _matrix_problems(result, answers)
        if result.adaptation is not None:
            yield from adaptation_problems(result, answers)
    except (KeyError, SafetensorError) as error:
        yield f"{path.name} cannot be read ({type(error).__name__})"


def _matrix_problems(result: Result, answers: dict[str, np.ndarray]) -> Iterator[str]:
    for i, row in enumerate(result.accuracy_matrix):
        step, hits = (
            answers[f"{i}/experience"],
            answers[f"{i}/predicted"] == answers[f"{i}/label"],
        )
        again = [
            float(hits[step == j].mean()) if (step == j).any() else None for j in range(len(row))
        ]
        if again != row:
            yield f"result.accuracy_matrix[{i}] does not follow from the predictions"
        seen = float(hits[step <= i].mean())
        pooled = result.scenario.setting in ("class-incremental", "learn-then-shift")
        if pooled and result.accuracy_after[i] != seen:
            yield f"result.accuracy_after[{i}] does not follow from the predictions"
        counts = [int((step == j).sum()) for j in range(i + 1)]
        if any(n and n != result.test_counts[j] for j, n in enumerate(counts)):
            yield f"result.test_counts does not fit the predictions after experience {i + 1}"


def _order_problems(record: Record) -> Iterator[str]:
    """The class order is computed again where the class names of the source are known."""
    result = record.result
    config, seed = result.scenario.config, result.order_seed
    card = CARDS.get(result.sources[0].name)
    if result.scenario.setting != "class-incremental" or card is None or not card.classes:
        return
    if not {"classes", "order_seed", "increments", "first"} <= config.keys():
        return
    chosen = config["classes"] or list(range(len(card.classes)))
    chosen = sorted(set(chosen))
    order = class_permutation(len(chosen), config["order_seed"] if seed is None else seed)
    names = [card.classes[chosen[i]] for i in order]
    start = stop = None
    if result.part is not None:
        sizes = [config["first"] or config["increments"][0]]
        while sum(sizes) < len(names):
            steps = config["increments"]
            sizes.append(steps[min(len(sizes) - 1, len(steps) - 1)])
        start, stop = (sum(sizes[:end]) for end in result.part)
    if result.class_order != names[start:stop]:
        yield "result.class_order is not the order of its seed"


# --- studies -------------------------------------------------------------------------------------


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
        plan = _parsed(Plan, json.dumps(body["plan"]).encode())
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
            opening = ("opened", entry.body.get("evaluation"), None)
            if entry.kind in _EVALUATING[1:] and opening not in seen:
                yield f"line {number} is of an evaluation that was not opened"

    def _certificate_problems(self) -> Iterator[str]:
        data = (self._folder / CERTIFICATE).read_bytes() if self._has(CERTIFICATE) else b""
        seals = self._of("sealed")
        if not seals or sha256(data) != seals[-1].body["certificate"]:
            yield "the file is not the one that the ledger seals"
        certificate = _parsed(Certificate, data)
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
        if sha256((folder / RECORD).read_bytes()) != entry.body["record"]:
            yield "record.json is not the one in the ledger"
        yield from record_problems(folder)
        record = read_record(folder)
        if result_hash(record) != entry.body["result"]:
            yield "result does not hash to the ledger's"
        started = {e.body["key"]: e.body["config"] for e in self._of("trial")}
        trial = str(entry.body["key"]).rpartition("/")[0]
        wanted = {**self._plan.base, **started.get(trial, {})}
        yield from _against(record, self._plan, wanted, int(entry.body["seed"]), evaluating=False)

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
        found: Evaluation = _parsed(Evaluation, data)
        facts = _json(found)
        if sha256(canonical_json({k: v for k, v in facts.items() if k != "hash"})) != found.hash:
            yield "the rest does not hash to `hash`"
        certificate: Certificate = _parsed(
            Certificate,
            (self._folder / CERTIFICATE).read_bytes() if self._has(CERTIFICATE) else b"",
        )
        body, plan = certificate.body, certificate.body.plan
        links = {
            "certificate": certificate.hash,
            "plan_hash": body.plan_hash,
            "mode": plan.mode,
            "strategy": plan.strategy,
            "source_hash": plan.source_hash,
            "pair_hash": plan.pair_hash,
            "evaluation_fingerprint": plan.evaluation.fingerprint,
            "chosen": [_json(choice) for choice in body.chosen],
            "budget": body.budget,
            "evaluation_number": number,
        }
        for name, value in links.items():
            if facts[name] != value:
                yield f"{name} is not the certificate's"
        if ends and found.ledger_head != ends[0].prev:
            yield "ledger_head is not the link before its end"
        if [seed.seed for seed in found.seeds] != list(plan.evaluation_seeds):
            yield "seeds are not the plan's: one is missing, added or out of order"
        if summarised(found.seeds) != {k: _json(v) for k, v in found.summary.items()}:
            yield "summary does not follow from the seeds"
        for seed in found.seeds:
            if seed.status == "done":
                yield from self._seed(certificate, folder, seed)

    def _seed(self, certificate: Certificate, folder: Path, seed: Any) -> Iterator[str]:
        own, name = folder / str(seed.record), f"seed {seed.seed}"
        if not (own / RECORD).is_file():
            yield f"{name}: its record is missing"
            return
        yield from (f"{name}: {problem}" for problem in record_problems(own))
        record = read_record(own)
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
        for problem in _against(record, plan, wanted, seed.seed, evaluating=True):
            yield f"{name}: {problem}"

    def _rerun(self, count: int, given: Where) -> Iterator[str]:
        """Repeat evaluation runs: exact on a CPU, within a tolerance on a GPU."""
        certificate = _parsed(Certificate, (self._folder / CERTIFICATE).read_bytes())
        path = self._folder / f"evaluations/1/{EVALUATION}"
        if not path.is_file():
            yield "there is no complete evaluation to repeat"
            return
        evaluation: Evaluation = _parsed(Evaluation, path.read_bytes())
        plan = certificate.body.plan
        for seed in [s for s in evaluation.seeds if s.status == "done"][:count]:
            with tempfile.TemporaryDirectory() as folder:
                pool = PoolSpec(devices=(plan.device,))
                where = Where(Path(folder), pool, given.data_root, given.plugins)
                requests = requests_of(plan, choice_of(certificate, seed.seed), seed.seed, where)
                workers = open_pool(where.pool, TARGET)
                try:
                    for request in requests:
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


def _against(
    record: Record, plan: Plan, config: dict[str, Any], seed: int, evaluating: bool
) -> Iterator[str]:
    """A record against what the plan says its run must have been."""
    result = record.result
    side = plan.evaluation if evaluating or plan.tunes_on_evaluation else plan.tuning
    facts = {
        "seed": (result.seed, seed),
        "order_seed": (result.order_seed, seed),
        "strategy.name": (result.strategy.name, plan.strategy),
        "sources": ([s.fingerprint for s in result.sources], [side.fingerprint]),
        "scored_on": (result.scored_on, "test" if evaluating else plan.score_on),
    }
    for name, (found, wanted) in facts.items():
        if found != wanted:
            yield f"result.{name} is not the plan's"
    options = plan.options(evaluating)
    shorten = without_paths if result.adaptation else dict  # as the record has them
    for kind, found, wanted in (
        ("strategy", result.strategy.config, shorten(config)),
        ("scenario", result.scenario.config, shorten(options)),
    ):
        for name, value in wanted.items():
            if name not in found or not _same(found[name], value):
                yield f"result.{kind}.config.{name} is not the plan's"


def _same(found: Any, wanted: Any) -> bool:
    """Equal values; a list may have become a tuple, a whole number a float."""
    return bool(np.array_equal(np.asarray(found, dtype=object), np.asarray(wanted, dtype=object)))
