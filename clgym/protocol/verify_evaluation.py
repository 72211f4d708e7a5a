"""Audit of an evaluation: its file, its records and the ledger are compared."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clgym.errors import Tampered
from clgym.files import canonical_json, sha256
from clgym.gym.request import Request
from clgym.protocol.audit import Audit
from clgym.protocol.bands import above_band
from clgym.protocol.evaluation import choice_of, requests_of
from clgym.protocol.ledger import LedgerEntry
from clgym.protocol.outcome import (
    EVALUATION,
    Evaluation,
    SeedResult,
    following,
    interruptions,
    seed_result,
)
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.record_audit import (
    ExpectedRecord,
    against_plan,
    differences,
    parsed,
    record_problems,
)
from clgym.protocol.runs import ExecutionOptions
from clgym.protocol.study import CERTIFICATE
from clgym.results.layout import is_run
from clgym.results.stored import open_run

__all__ = ["EvaluationAudit"]


class EvaluationAudit:
    """One evaluation of a study under audit."""

    def __init__(self, study: Path, number: int, entries: list[LedgerEntry], audit: Audit) -> None:
        """``entries`` are those of the study's ledger."""
        self._study, self._number, self._audit = study, number, audit
        self._folder = study / f"evaluations/{number}"
        self._entries = entries

    def problems(self) -> Iterator[str]:
        """Problems that were found."""
        ends, file = self._lines("complete"), self._folder / EVALUATION
        if not file.is_file():
            if ends:
                yield f"{EVALUATION}, which the ledger names, is missing"
            else:
                note = f"evaluation {self._number} was opened and is not complete"
                self._audit.notes.append(note)
            return
        data = file.read_bytes()
        if not ends or sha256(data) != ends[0].body["file"]:
            yield f"{EVALUATION} is not the file in the ledger"
        found: Evaluation = parsed(Evaluation, data)
        # The file as written, since fields that later versions added are not part of the hash.
        written = {key: value for key, value in json.loads(data).items() if key != "hash"}
        if sha256(canonical_json(written)) != found.hash:
            yield "the rest does not hash to `hash`"
        if ends and ends[0].body.get("hash", found.hash) != found.hash:
            yield "`hash` is not the one in the ledger"
        if ends and found.ledger_head != ends[0].prev:
            yield "ledger_head is not the link before its end"
        sealed = self._study / CERTIFICATE
        if not sealed.is_file():
            yield f"{CERTIFICATE}, from which it follows, is missing"
            return
        certificate: Certificate = parsed(Certificate, sealed.read_bytes())
        yield from self._links(found, certificate)
        if above := above_band(found):
            self._audit.notes.append(f"evaluation {self._number}: {above}")
        yield from self._seeds_of(found, certificate.body.plan)
        for seed in found.seeds:
            if seed.status == "done":
                for problem in self._seed(certificate, seed):
                    yield f"seed {seed.seed}: {problem}"

    def _lines(self, kind: str) -> list[LedgerEntry]:
        """The ledger's lines of a kind that belong to this evaluation."""
        own = [e for e in self._entries if e.kind == kind]
        return [e for e in own if e.body["evaluation"] == self._number]

    def _links(self, found: Evaluation, certificate: Certificate) -> Iterator[str]:
        """Compare values of the file, except seeds, with certificate, ledger and records."""
        done = [self._folder / str(s.record) for s in found.seeds if s.status == "done"]
        records = [open_run(own).record for own in done if is_run(own)]
        facts = found.model_dump(mode="json")
        runs = [e for e in self._entries if e.kind == "run"]
        ended = interruptions(self._entries, self._number)
        wanted = following(certificate, found.code, list(found.seeds), records, ended)
        wanted |= {
            "evaluation_number": self._number,
            "tuning_seconds": float(sum(e.body.get("seconds", 0.0) for e in runs)),
        }
        for name, value in wanted.items():
            if facts[name] != value:
                yield f"{name} does not follow from certificate, ledger and records"
        if found.study_number < 1 or found.evaluations_before < 0:
            yield "study_number or evaluations_before is no count"

    def _seeds_of(self, found: Evaluation, plan: StudyPlan) -> Iterator[str]:
        """Compare the seeds of file, plan and ledger, which has the hashes of record and result."""
        if [seed.seed for seed in found.seeds] != list(plan.evaluation_seeds):
            yield "seeds are not the plan's: one is missing, added or out of order"
        for entry in self._lines("opened"):
            if entry.body["seeds"] != list(plan.evaluation_seeds):
                yield "seeds of the ledger's opening are not the plan's"
        lines = {entry.body["seed"]: entry.body for entry in self._lines("evaluated")}
        for seed in found.seeds:
            line = lines.pop(seed.seed, None)
            if line is None:
                yield f"seed {seed.seed}: the ledger has no line of its run"
                continue
            facts = {"error": seed.error, "record": seed.record_sha256, "result": seed.result}
            for name, value in facts.items():
                if line.get(name) != value:
                    yield f"seed {seed.seed}: {name} is not what the ledger says"
        if lines:
            yield f"the ledger has lines of seeds {sorted(lines)}, which are not in {EVALUATION}"

    def _seed(self, certificate: Certificate, seed: SeedResult) -> Iterator[str]:
        """Check the records of one seed: several if each experience has its own run."""
        own = self._folder / str(seed.record)
        if not is_run(own):
            yield "its record is missing"
            return
        self._audit.records.append(str(own))
        again = seed_result(seed.seed, open_run(own)).model_dump(mode="json")
        for place in differences(again, seed.model_dump(mode="json")):
            yield f"{place} is not the record's"
        try:
            choice = choice_of(certificate, seed.seed)
        except Tampered as error:
            yield str(error)
            return
        plan = certificate.body.plan
        requests = requests_of(plan, choice, seed.seed, ExecutionOptions(self._folder))
        if requests[-1].out != own:
            yield f"record is not the folder {requests[-1].out and requests[-1].out.name}"
        lines = {e.body["seed"]: e.body for e in self._lines("evaluated")}
        yield from _part_problems(requests, lines.get(seed.seed, {}), plan)


def _part_problems(
    requests: list[Request], line: Mapping[str, Any], plan: StudyPlan
) -> Iterator[str]:
    """Compare each run's record with its predictions, the plan and its line in the ledger."""
    hashes = line.get("parts", [])
    for number, request in enumerate(requests):
        assert request.out is not None
        name = "" if len(requests) == 1 else f"experience {number}: "
        if not is_run(request.out):
            yield f"{name}its record is missing"
            continue
        run = open_run(request.out)
        if hashes and hashes[number] != run.sha256:
            yield f"{name}its record is not the one in the ledger"
        yield from (f"{name}{problem}" for problem in record_problems(run))
        wanted = ExpectedRecord(
            dict(request.strategy_config),
            dict(request.scenario_config),
            request.seed,
            request.part,
        )
        for problem in against_plan(run.record, plan, wanted, evaluating=True):
            yield f"{name}{problem}"
