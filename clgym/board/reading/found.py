"""Load runs, folders of seeds, and studies from the paths that a user gives.

For figures and reports, which show what is there. What may stand on the board is decided by
`clgym.board.reading.records`, which recomputes every number first.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clgym.board.reading.records import method_of
from clgym.errors import BadRecord, Tampered
from clgym.gym.folder import RECORD
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.ledger import LedgerEntry, read_ledger
from clgym.protocol.outcome import EVALUATION, Evaluation
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.study import CERTIFICATE, read_certificate
from clgym.results.answers import Answers, answers_of
from clgym.results.record import Record, Result, read_record

__all__ = ["Method", "LoadedRun", "LoadedStudy", "answers", "load_runs", "read_study"]


@dataclass(frozen=True)
class LoadedRun:
    """A record and its path."""

    file: Path
    record: Record

    @property
    def result(self) -> Result:
        """Result block of the record."""
        return self.record.result


@dataclass(frozen=True)
class LoadedStudy:
    """A study's folder, finished or not."""

    folder: Path
    plan: StudyPlan
    entries: list[LedgerEntry]
    certificate: Certificate | None
    evaluations: list[Evaluation]
    """Complete evaluations, in order."""

    @property
    def trials(self) -> list[float | None]:
        """Scores of the trials, in order, if all were scored on the same data; else empty."""
        if self.certificate is None:
            return []
        body = self.certificate.body
        single = len(body.chosen) == 1 and len(body.chosen[0].configs) == 1
        return [trial.score for trial in body.trials] if single else []

    @property
    def tuning_seconds(self) -> float:
        """Total time of all its runs, in seconds."""
        return float(sum(e.body.get("seconds", 0.0) for e in self.entries if e.kind == "run"))


@dataclass
class Method:
    """One line of a figure: runs that differ only in their seeds, or the evaluation of a study."""

    name: str
    runs: list[LoadedRun] = field(default_factory=list)
    study: LoadedStudy | None = None

    @property
    def results(self) -> list[Result]:
        """Results of its runs, by seed."""
        return [run.result for run in self.runs]


def load_runs(paths: Sequence[Path]) -> list[Method]:
    """Load everything at these paths: runs, folders of runs, studies.

    Raises:
        BadRecord: nothing is there, it does not validate, or two runs claim one seed.
        Tampered: a study's files do not fit each other.
    """
    methods: list[Method] = []
    groups: dict[str, Method] = {}
    for path in paths:
        if (path / LEDGER).is_file():
            methods.append(_evaluated(read_study(path)))
            continue
        for run in _runs(path):
            key = method_of(run.result)
            if key not in groups:
                groups[key] = Method(run.result.strategy.name)
                methods.append(groups[key])
            _add(groups[key], run)
    for method in methods:
        method.runs.sort(key=lambda run: (run.result.seed, run.result.order_seed or 0))
    _tell_apart(methods)
    return methods


def _runs(path: Path) -> Iterator[LoadedRun]:
    inside = sorted(path.glob(f"*/{RECORD}")) if path.is_dir() else []
    alone = not inside or (path / RECORD).is_file()
    for file in [path / RECORD if path.is_dir() else path] if alone else inside:
        yield LoadedRun(file, read_record(file))


def _add(method: Method, run: LoadedRun) -> None:
    for other in method.runs:
        if (other.result.seed, other.result.order_seed) == (run.result.seed, run.result.order_seed):
            raise BadRecord(
                expected="one run for each seed of a method",
                found=f"two of {method.name} with seed {run.result.seed}: {other.file}, {run.file}",
                fix="Give only one of them",
            )
    method.runs.append(run)


def _tell_apart(methods: list[Method]) -> None:
    """Where one strategy stands for several methods, say in which options they differ."""
    for name in {method.name for method in methods}:
        same = [m for m in methods if m.name == name]
        options = [m.results[0].strategy.config if m.runs else {} for m in same]
        keys = [k for k in options[0] if len({repr(o.get(k)) for o in options}) > 1]
        for number, (method, own) in enumerate(zip(same, options, strict=True), 1):
            if len(same) > 1:
                words = ", ".join(f"{key} {own.get(key)}" for key in keys[:2])
                method.name = f"{name} ({words or number})"
    seen: dict[str, int] = {}
    for method in methods:  # longer lists of options may still agree in the first two
        seen[method.name] = seen.get(method.name, 0) + 1
        if seen[method.name] > 1:
            method.name = f"{method.name} {seen[method.name]}"


# --- studies -------------------------------------------------------------------------------------


def read_study(folder: Path) -> LoadedStudy:
    """Read and validate a study's files; `clgym verify` checks whether they can be trusted.

    Raises:
        Tampered: one does not validate.
    """
    entries = read_ledger(folder / LEDGER)
    body = entries[0].body.get("plan") if entries else None
    certificate = read_certificate(folder) if (folder / CERTIFICATE).is_file() else None
    numbered = sorted(folder.glob(f"evaluations/*/{EVALUATION}"), key=lambda f: f.parent.name)
    return LoadedStudy(
        folder,
        _validated(StudyPlan, json.dumps(body).encode(), folder / LEDGER),
        entries,
        certificate,
        [_validated(Evaluation, file.read_bytes(), file) for file in numbered],
    )


def _validated(model: Any, data: bytes, file: Path) -> Any:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise Tampered(
            expected=f"{file} to validate",
            found=f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}",
            fix="Restore the file; `clgym verify` reports details",
        ) from None


def _evaluated(study: LoadedStudy) -> Method:
    """The study's last evaluation."""
    method = Method(study.plan.strategy, study=study)
    if study.evaluations:
        last = study.evaluations[-1]
        place = study.folder / f"evaluations/{last.evaluation_number}"
        files = [place / str(s.record) / RECORD for s in last.seeds if s.status == "done"]
        method.runs = [LoadedRun(file, read_record(file)) for file in files]
    return method


# --- predictions ---------------------------------------------------------------------------------


def answers(run: LoadedRun) -> Answers:
    """Predictions of a run, by name.

    Raises:
        BadRecord: the file is not there, or not the one that the record speaks of.
    """
    return answers_of(run.file.parent, run.record)
