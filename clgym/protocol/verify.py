"""Audit of a record, a certificate or a study: everything that other files determine.

Stored values are compared with expected ones: hashes and links first, then every number that can be
computed again. A file is not trusted just because it validates.
"""

import functools
import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from clgym._moved import report_renamed
from clgym.engines.pool import PoolSpec
from clgym.errors import BadPlan, BadRecord
from clgym.files import canonical_json, sha256
from clgym.protocol.audit import Audit
from clgym.protocol.conditions import condition_problems
from clgym.protocol.jobs import run_summary
from clgym.protocol.ledger import INTERRUPTED, NAME, LedgerEntry, read_ledger
from clgym.protocol.ledger_audit import envelope_problems, line_problems
from clgym.protocol.outcome import evaluation_files
from clgym.protocol.pairs import name_problems
from clgym.protocol.places import links_and_devices, study_of
from clgym.protocol.plan import Certificate, Pruner, StudyPlan, evaluation_seeds
from clgym.protocol.plugin_files import other_plugins
from clgym.protocol.record_audit import (
    ExpectedRecord,
    against_plan,
    differences,
    parsed,
    record_problems,
)
from clgym.protocol.repeat import look_again, repeat, repeat_tuning
from clgym.protocol.replay import Replay
from clgym.protocol.runs import RETRY_FAILED, ExecutionOptions
from clgym.protocol.study import CERTIFICATE
from clgym.protocol.verify_evaluation import EvaluationAudit
from clgym.results.layout import PREDICTIONS, RECORD, is_run, run_folders
from clgym.results.stored import open_run
from clgym.text import printable

__all__ = ["verify"]

report_renamed(__name__)

_TUNING = ("session", "trial", "run", "retry", RETRY_FAILED, INTERRUPTED, "pruned", "sealed")
_RUNG = re.compile(r"^runs/experience-\d+/")
_EVALUATING = ("opened", "evaluated", "complete")
_SURVEYED = ("pair", "tuning", "evaluation", "withheld_images", "experiences")
"""Fields of a plan that come from the survey of both sides."""


def verify(
    path: Path,
    rerun: int | Literal["all"] = 0,
    data_root: Path | None = None,
    plugins: tuple[Path, ...] = (),
    head: str | None = None,
) -> Audit:
    """Audit the study, certificate, evaluation or record at ``path``.

    Args:
        path: A file or a folder.
        rerun: Number of evaluation runs to repeat and compare, beside which two runs of the tuning
            are repeated; or all of both.
        data_root: Data root for these runs.
        plugins: Files that hold the strategy, for these runs.
        head: Published head of the ledger, which must be a link of the chain.

    Raises:
        BadRecord: There is nothing at ``path`` that can be audited.
        BadPlan: Runs are to be repeated, or a head compared, but there is no evaluated study.
    """
    audit = Audit()
    folder = path.parent if path.is_file() else path
    study = study_of(path)
    audit.folder = str(study or folder)
    if study is not None:
        where = ExecutionOptions(study, PoolSpec(), data_root, plugins)
        _Study(study, audit, head).audit(rerun, where)
        return audit
    if rerun or head:
        raise _no_study(path)
    others = path.is_file() and path.name not in (CERTIFICATE, RECORD, PREDICTIONS)
    if (folder / CERTIFICATE).is_file() and not others:
        audit.check(CERTIFICATE, lambda: _certificate_alone(folder / CERTIFICATE))
        audit.notes.append("no ledger beside the certificate: its envelope and trials stand alone")
    elif (places := run_folders(folder)) and not others:
        _runs_alone(places, folder, audit)
    else:
        raise BadRecord(
            expected=f"a study, certificate or record at {path}",
            found="none, or nothing that the ledger of a study names",
            fix="Give a folder that `clgym tune`, `evaluate` or `run` wrote",
        )
    return audit


def _runs_alone(places: Sequence[Path], folder: Path, audit: Audit) -> None:
    """Audit runs that belong to no study; ``folder`` contains them, or is that of the only run."""
    for place in places:
        name = RECORD if place == folder else f"{place.name}/{RECORD}"
        audit.check(name, partial(_run_problems, place))
        audit.records.append(str(place))
    what = "a record by itself" if places[0] == folder else "records by themselves"
    audit.notes.append(f"{what}: config, costs and environment have no second copy")


def _run_problems(folder: Path) -> Iterator[str]:
    yield from record_problems(open_run(folder))


def _no_study(path: Path) -> BadPlan:
    return BadPlan(
        expected=f"an evaluated study at {path}, whose runs can be repeated",
        found="no complete evaluation",
        fix="Make one by `clgym evaluate`; to repeat a single run, give `clgym run` again with "
        "another --out, and `clgym compare` both",
    )


def _certificate_alone(path: Path) -> Iterator[str]:
    certificate = parsed(Certificate, path.read_bytes())
    if certificate.body.digest != certificate.hash:
        yield "the body does not hash to `hash`"
    if certificate.body.plan.digest != certificate.body.plan_hash:
        yield "body.plan does not hash to body.plan_hash"


def _json(model: BaseModel) -> Any:
    return model.model_dump(mode="json")


class _Study:
    """A study's folder under audit."""

    def __init__(self, folder: Path, audit: Audit, head: str | None) -> None:
        self._folder, self._audit, self._head = folder, audit, head
        self._entries: list[LedgerEntry] = []
        self._plan: StudyPlan | None = None

    def audit(self, rerun: int | Literal["all"], where: ExecutionOptions) -> None:
        check = self._audit.check
        check("files and folders", lambda: links_and_devices(self._folder))
        if self._audit.problems:
            return  # what cannot be read safely is not read
        check(NAME, self._chain)
        complete = [*evaluation_files(self._folder, self._entries)]
        if rerun and not complete:
            raise _no_study(self._folder)
        if not self._entries:
            return
        check("plan", self._plan_problems)
        if self._plan is None:
            return
        check("order of the ledger", self._grammar)
        check("lines of the ledger", lambda: line_problems(self._entries))
        check("trials", lambda: self._replay.trial_problems())
        sealed = any(entry.kind == "sealed" for entry in self._entries)
        if sealed or (self._folder / CERTIFICATE).exists():
            check(CERTIFICATE, self._certificate_problems)
        else:
            self._audit.notes.append("not sealed yet")
        for entry in self._of("run"):
            if entry.body.get("status") == "done":
                place = self._folder / str(entry.body["key"])
                check(str(entry.body["key"]), lambda e=entry, p=place: self._trial(e, p))
        if (self._folder / "evaluations").is_dir():
            check("evaluations", self._not_opened)
        for number in range(1, len(self._of("opened")) + 1):  # `_grammar` checks the numbers
            own = EvaluationAudit(self._folder, number, self._entries, self._audit)
            check(f"evaluation {number}", own.problems)
        if rerun:
            head = self._head or self._entries[-1].hash
            rest = (rerun, head, where, self._audit.notes)
            check(f"{rerun} runs repeated", partial(repeat, self._folder, complete, *rest))
            if self._plan.mode != "default":
                tuned = self._folder
                check("tuning repeated", lambda: repeat_tuning(tuned, self._replay, *rest))
            said = self._entries[0].body["survey"]
            look = partial(look_again, self._plan, said, where.data_root, self._audit.notes)
            check("both sides looked at again", look)

    @functools.cached_property
    def _replay(self) -> Replay:
        assert self._plan is not None
        return Replay(self._plan, self._folder)

    def _of(self, kind: str) -> list[LedgerEntry]:
        return [entry for entry in self._entries if entry.kind == kind]

    def _chain(self) -> Iterator[str]:
        data = (self._folder / NAME).read_bytes()
        self._entries = read_ledger(self._folder / NAME)
        if not self._entries or not data.endswith(b"\n"):
            yield "the last line is cut off"
        if self._entries:
            self._audit.head = self._entries[-1].hash
        if self._head is not None:
            yield from self._published(self._head)

    def _published(self, head: str) -> Iterator[str]:
        """Check that the published head is a link of the chain, and covers the results."""
        links = [entry.hash for entry in self._entries]
        if head not in links:
            yield "the published head is no link of this chain: the ledger was written anew"
            return
        later = [e.kind for e in self._entries[links.index(head) + 1 :]]
        if results := sum(kind in _EVALUATING for kind in later):
            self._audit.notes.append(
                f"the published head does not cover {results} later lines of evaluations"
            )

    def _plan_problems(self) -> Iterator[str]:
        body = self._entries[0].body
        if self._entries[0].kind != "plan" or len(self._of("plan")) != 1:
            yield "the ledger does not begin with its one plan"
            return
        plan = parsed(StudyPlan, json.dumps(body["plan"]).encode())
        if plan.digest != body["plan_hash"]:
            yield "it does not hash to plan_hash"
        if plan.pair.digest != plan.pair_hash:
            yield "pair does not hash to pair_hash"
        if plan.by_hand is not None:  # presets of earlier versions had other options
            yield from name_problems(plan.pair)
        if sha256(canonical_json(plan.space)) != plan.space_hash:
            yield "space does not hash to space_hash"
        if sha256(canonical_json(body["survey"]["overlap"])) != plan.overlap_hash:
            yield "the overlap report does not hash to overlap_hash"
        stored = _json(plan)
        for name in _SURVEYED:
            if body["survey"][name] != stored[name]:
                yield f"{name} is not what the look at both sides found"
        alike = body["survey"]["overlap"].get("near_images", 0)
        said = any(flag.startswith(f"{alike} of its images") for flag in plan.tuning.flags)
        if alike and not said:
            yield "tuning.flags do not say how many images look like one of the evaluation"
        derived = plan.mode in ("transfer", "default")
        seeds = evaluation_seeds(plan.pair, len(plan.seeds)) if derived else plan.seeds
        if plan.evaluation_seeds != seeds:
            yield "evaluation_seeds are not the derived ones"
        yield from other_plugins(plan, [entry.body for entry in self._of("session")])
        self._plan = plan

    def _grammar(self) -> Iterator[str]:
        """Check the order of lines: phases follow one another, and nothing is counted twice."""
        sealed, opened = False, 0
        seen: set[tuple[Any, ...]] = set()
        failed: set[Any] = set()
        for number, entry in enumerate(self._entries[1:], 2):
            allowed = (*_EVALUATING, INTERRUPTED) if sealed else _TUNING
            if entry.kind not in allowed:
                yield f"line {number} is {entry.kind!r}, {'after' if sealed else 'before'} the seal"
            sealed = sealed or entry.kind == "sealed"
            names = ("key",) if entry.kind in ("trial", "run", "pruned") else ("evaluation", "seed")
            unique = (entry.kind, *(entry.body.get(name) for name in names))
            unique = (*unique[:2], None) if entry.kind == "opened" else unique
            if entry.kind in ("trial", "run", "pruned", *_EVALUATING):
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
            if entry.kind == "opened":
                opened += 1
                said = entry.body.get("evaluation")
                if type(said) is not int or said != opened:
                    yield f"line {number} opens another evaluation than {opened}"
            opening = ("opened", entry.body.get("evaluation"), None)
            if entry.kind in _EVALUATING[1:] and opening not in seen:
                yield f"line {number} is of an evaluation that was not opened"
            ending = ("complete", entry.body.get("evaluation"), None)
            if entry.kind == "evaluated" and ending in seen:
                yield f"line {number} adds a run to an evaluation that was complete"

    def _certificate_problems(self) -> Iterator[str]:
        if not self._has(CERTIFICATE):
            yield "the file, which the ledger seals, is missing"
            return
        data, seals = (self._folder / CERTIFICATE).read_bytes(), self._of("sealed")
        if not seals or sha256(data) != seals[-1].body["certificate"]:
            yield "the file is not the one that the ledger seals"
        certificate = parsed(Certificate, data)
        if certificate.body.digest != certificate.hash:
            yield "body does not hash to `hash`"
        expected = _json(self._replay.body())
        yield from self._replay.pruning_problems()
        yield from (
            f"body.{place} does not follow from the ledger"
            for place in differences(expected, _json(certificate.body))
        )
        yield from condition_problems(certificate, self._entries)
        if seals and certificate.hash != seals[-1].body["hash"]:
            yield "`hash` is not the one in the ledger's seal"
        yield from envelope_problems(certificate.envelope, self._entries)

    def _has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def _trial(self, entry: LedgerEntry, folder: Path) -> Iterator[str]:
        """Compare a trial's record with the ledger and the plan."""
        assert self._plan is not None
        spec = self._replay.required.get(entry.body["key"])
        if spec is None:
            return  # the check of the trials names it
        if not is_run(folder):
            yield "its record is missing"
            return
        run = open_run(folder)
        yield from record_problems(run)
        stated = {"key": spec.key, "trial": spec.trial, "seed": spec.seed, "status": "done"}
        summary = run_summary(run, self._plan.by_hand is not None)
        expected = json.loads(canonical_json({**stated, **summary}))
        for name in sorted({*expected, *entry.body}):
            if name not in entry.body or expected.get(name) != entry.body[name]:
                yield f"{name} is not what the ledger says"
        wanted = ExpectedRecord(
            strategy={**self._plan.base, **spec.config},
            scenario=self._plan.options(evaluating=False),
            seed=spec.seed,
            part=spec.part,
        )
        yield from against_plan(run.record, self._plan, wanted, evaluating=False)
        if self._plan.pruner is not None:
            yield from self._rung_problems(self._plan.pruner, entry)

    def _rung_problems(self, pruner: Pruner, entry: LedgerEntry) -> Iterator[str]:
        """A run that goes on from rungs must begin with what was measured there."""
        matrices = {e.body["key"]: e.body.get("accuracy_matrix") for e in self._of("run")}
        own, name = entry.body["accuracy_matrix"], re.sub(_RUNG, "runs/", entry.body["key"])
        for rung in (number for number in pruner.rungs if number < len(own)):
            earlier = matrices.get(name.replace("runs/", f"runs/experience-{rung - 1}/"))
            if earlier != [row[:rung] for row in own[:rung]]:
                yield f"its first {rung} experiences are not those of its run up to there"

    def _not_opened(self) -> Iterator[str]:
        """Name folders that look like evaluations, of which the ledger knows nothing."""
        opened = {str(entry.body.get("evaluation")) for entry in self._of("opened")}
        for path in sorted((self._folder / "evaluations").iterdir()):
            if path.is_dir() and path.name not in opened:
                yield f"{printable(path.name)!r} is no evaluation that the ledger opened"
