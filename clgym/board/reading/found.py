"""Load runs, folders of seeds, and studies from the paths that a user gives.

Figures and reports use this module and show what they find. The board uses
`clgym.board.reading.records`, which recomputes every number first and excludes what does not agree.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clgym.board.reading.entries import subfolders
from clgym.errors import BadConfig, BadRecord, Tampered, UnknownName, WrongPhase, near
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.ledger import LedgerEntry, read_ledger
from clgym.protocol.outcome import Evaluation, evaluation_files
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.study import CERTIFICATE, read_certificate
from clgym.results.grouping import by_seed, method_of
from clgym.results.identity import label_of
from clgym.results.layout import RECORD, is_run, run_folders
from clgym.results.record import Result
from clgym.results.stored import StoredRun, open_run

__all__ = [
    "LoadedStudy",
    "Method",
    "arranged",
    "groups_in",
    "load_checked_runs",
    "load_runs",
    "read_study",
    "runs_of_group",
]


@dataclass(frozen=True)
class LoadedStudy:
    """A study's folder, finished or not."""

    folder: Path
    plan: StudyPlan
    entries: list[LedgerEntry]
    certificate: Certificate | None
    evaluations: list[Evaluation]
    """Complete evaluations, in order."""

    def runs_of(self, evaluation: Evaluation) -> list[StoredRun]:
        """Finished runs of an evaluation, in the order of its seeds.

        Raises:
            ClgymError: A record cannot be read.
        """
        place = self.folder / f"evaluations/{evaluation.evaluation_number}"
        done = [seed for seed in evaluation.seeds if seed.status == "done"]
        return [open_run(place / str(seed.record)) for seed in done]

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
    runs: list[StoredRun] = field(default_factory=list)
    study: LoadedStudy | None = None

    @property
    def results(self) -> list[Result]:
        """Results of its runs, by seed."""
        return [run.result for run in self.runs]

    @property
    def absent(self) -> list[int]:
        """Seeds that its evaluation promised and that have no result, since their runs failed."""
        if self.study is None or not self.study.evaluations:
            return []
        return [s.seed for s in self.study.evaluations[-1].seeds if s.status != "done"]


def groups_in(path: Path) -> list[Path]:
    """Folders that hold one method each, at or below a path, in order.

    Args:
        path: A run, a folder of runs over seeds, a study, or a folder that holds several of these,
            at any depth.

    Returns:
        Folders of a study, of one run, or of the runs of one method; ``[path]`` if nothing is
        there, so that opening it raises the error that names the problem.
    """
    if not path.is_dir() or is_run(path):
        return [path]
    places = [
        folder if LEDGER in names or folder == path else folder.parent
        for folder, names in subfolders(path, (LEDGER, RECORD))
    ]
    return list(dict.fromkeys(places)) or [path]


def runs_of_group(group: Path) -> list[StoredRun]:
    """Open the runs in one folder of `groups_in`; for a study, those of its last evaluation.

    Raises:
        BadRecord: There is no run, or one does not validate.
        WrongPhase: The study has no complete evaluation.
    """
    if not (group / LEDGER).is_file():
        return [open_run(place) for place in run_folders(group) or [group]]
    method = _evaluated(read_study(group))
    if not method.runs:
        raise WrongPhase(
            expected=f"a study with a complete evaluation at {group}",
            found="none",
            fix=f"Run `clgym evaluate {group}` first",
        )
    return method.runs


def load_checked_runs(paths: Sequence[Path]) -> list[Method]:
    """`load_runs`, but a run whose numbers contradict each other is refused.

    Raises:
        BadRecord: For the reasons of `load_runs`, or a record contradicts itself.
    """
    methods = load_runs(paths)
    for run in (run for method in methods for run in method.runs):
        run.check()
    return methods


def load_runs(paths: Sequence[Path]) -> list[Method]:
    """Load everything at or below these paths: runs, folders of runs, studies.

    Raises:
        BadRecord: Nothing is there, a file does not validate, or two runs have one seed.
        Tampered: The files of a study contradict each other.
    """
    methods: list[Method] = []
    groups: dict[str, Method] = {}
    for path in (group for given in paths for group in groups_in(given)):
        if (path / LEDGER).is_file():
            methods.append(_evaluated(read_study(path)))
            continue
        for run in runs_of_group(path):
            key = method_of(run.result)
            if key not in groups:
                groups[key] = Method(run.result.strategy.label)
                methods.append(groups[key])
            groups[key].runs.append(run)
    for method in groups.values():
        method.runs = _one_of_each_seed(method)
    _tell_apart(methods)
    return methods


def arranged(
    methods: Sequence[Method], labels: Mapping[str, str], order: Sequence[str]
) -> list[Method]:
    """Rename and order loaded methods for a figure.

    Args:
        methods: Methods that `load_runs` returned.
        labels: New names by old name.
        order: Names, old or new, of the methods that come first.

    Raises:
        UnknownName: No method has one of the names.
        BadConfig: Two methods would have the same name.
    """
    names = [method.name for method in methods]
    shown = [labels.get(name, name) for name in names]
    for name in [*labels, *order]:
        if name not in (names if name in labels else [*names, *shown]):
            raise UnknownName(
                expected=f"a method ({', '.join(dict.fromkeys(names))})",
                found=repr(name),
                fix=f"{near(name, names)}Use the names that figures show without --labels",
            )
    if labels and len(set(shown)) < len(set(names)):
        raise BadConfig(
            expected="a different label for each method",
            found=", ".join(shown),
            fix="Change --labels",
        )
    last = len(order)
    places = {name: place for place, name in enumerate(order)}
    ordered = sorted(
        zip(names, shown, methods, strict=True),
        key=lambda item: min(places.get(item[0], last), places.get(item[1], last)),
    )
    return [replace(method, name=new) for _, new, method in ordered]


def _one_of_each_seed(method: Method) -> list[StoredRun]:
    """Return the runs of a method in the order of their seeds.

    Raises:
        BadRecord: Two runs have one seed.
    """
    groups = by_seed(method.runs, lambda run: run.result)
    for seeds, runs in groups.items():
        if len(runs) > 1:
            raise BadRecord(
                expected="one run for each seed of a method",
                found=f"two of {method.name} with seed {seeds[0]}: "
                f"{runs[0].folder}, {runs[1].folder}",
                fix="Give only one of them",
            )
    return [runs[0] for runs in groups.values()]


def _tell_apart(methods: list[Method]) -> None:
    """Add to the names of methods of one strategy the options in which they differ."""
    for name in {method.name for method in methods}:
        same = [m for m in methods if m.name == name]
        options = [_options(m) for m in same]
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


def _options(method: Method) -> dict[str, object]:
    """Options of a method, with the options for speed last."""
    if not method.runs:
        return {}
    result = method.results[0]
    words = result.numerics.words() if result.numerics else ["none"]
    return {**result.strategy.config, "speed options": " ".join(words)}


# --- studies -------------------------------------------------------------------------------------


def read_study(folder: Path) -> LoadedStudy:
    """Read and validate a study's files; `clgym verify` checks whether they can be trusted.

    Raises:
        Tampered: A file does not validate.
    """
    entries = read_ledger(folder / LEDGER)
    body = entries[0].body.get("plan") if entries else None
    certificate = read_certificate(folder) if (folder / CERTIFICATE).is_file() else None
    files = evaluation_files(folder, entries)
    return LoadedStudy(
        folder,
        _validated(StudyPlan, json.dumps(body).encode(), folder / LEDGER),
        entries,
        certificate,
        [_validated(Evaluation, file.read_bytes(), file) for file in files.values()],
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
    method = Method(label_of(study.plan.strategy, study.plan.base), study=study)
    if study.evaluations:
        groups = by_seed(study.runs_of(study.evaluations[-1]), lambda run: run.result)
        method.runs = [run for runs in groups.values() for run in runs]
    return method
