"""Check a contributor's submission before anybody runs it.

No code of the contributor is imported: a plugin's file is hashed and parsed, never executed.
"""

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from clgym._moved import report_renamed
from clgym._version import __version__
from clgym.board.reading.entries import run_flags, subfolders
from clgym.board.reading.source_files import built_in, file_that_ran, python_files
from clgym.draws import other_draws
from clgym.errors import BadRecord, ClgymError
from clgym.protocol.against_source import compare_with_sources
from clgym.protocol.audit import Audit
from clgym.protocol.bands import above_band
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.outcome import EVALUATION
from clgym.protocol.record_audit import class_order_problems
from clgym.protocol.study import CERTIFICATE
from clgym.protocol.verify import verify
from clgym.results.grouping import Seeds, by_seed, method_of
from clgym.results.layout import RECORD
from clgym.results.record import Record, StrategyFacts
from clgym.results.stored import StoredRun, open_run

__all__ = ["SubmissionFinding", "Submission", "Verdict", "check"]

report_renamed(__name__)

Verdict = Literal["ok", "flag", "wrong"]
_WANTED = (LEDGER, CERTIFICATE, EVALUATION, RECORD)
_SHOWN = 3
_KNOWN_FILES = re.compile(
    r"(record|run)\.json|(series|log)\.csv|predictions\.safetensors|.*\.(py|md|txt|toml)"
)


@dataclass(frozen=True)
class SubmissionFinding:
    """The outcome of one check."""

    place: str
    check: str
    verdict: Verdict
    words: str
    """Sentence that says what was found and how to repair it."""


@dataclass(frozen=True)
class SubmittedRecords:
    """A record or a study of the submission, with all that a maintainer needs to repeat it."""

    folder: Path
    run: StoredRun | None
    """The run; None for a study."""
    plugins: tuple[Path, ...]
    """Plugin files that the run needs."""


@dataclass
class Submission:
    """All findings of a submission."""

    findings: list[SubmissionFinding] = field(default_factory=list)
    found: list[SubmittedRecords] = field(default_factory=list)

    @property
    def wrong(self) -> list[SubmissionFinding]:
        """Findings that keep the submission off the board."""
        return [finding for finding in self.findings if finding.verdict == "wrong"]

    def add(self, place: str, name: str, verdict: Verdict, words: str) -> None:
        """Add a finding."""
        self.findings.append(SubmissionFinding(place, name, verdict, words))


def check(folders: Sequence[Path]) -> Submission:
    """Check everything in these folders.

    Raises:
        BadRecord: One of the folders contains neither a record nor a study.
    """
    submission = Submission()
    for folder in folders:
        inside = list(subfolders(folder, _WANTED)) if folder.is_dir() else []
        if not inside:
            raise BadRecord(
                expected=f"records or a study's files in {folder}",
                found="none" if folder.is_dir() else "no such folder",
                fix="Give a folder that `clgym run`, or `tune` and `evaluate`, wrote",
            )
        plugins = tuple(python_files(folder))
        for one, names in inside:
            look = _record if names.isdisjoint((LEDGER, CERTIFICATE, EVALUATION)) else _study
            look(submission, one, plugins)
        _seeds(submission, folder)
    return submission


# --- a record ------------------------------------------------------------------------------------


def _record(submission: Submission, folder: Path, plugins: tuple[Path, ...]) -> None:
    place = str(folder)
    try:
        run = open_run(folder)
    except BadRecord as error:
        submission.add(place, "record", "wrong", f"{error.found}; send {RECORD} as it was written")
        return
    result, record = run.result, run.record
    name = f"{result.strategy.name} on {result.scenario.name}, seed {result.seed}"
    submission.add(place, "record", "ok", name)
    follow = _numbers_follow(submission, run)
    needed = _strategy(submission, place, result.strategy, plugins)
    if follow:
        _images(submission, folder)
        submission.found.append(SubmittedRecords(folder, run, needed))
    _version(submission, place, record.environment.clgym)
    _breaches(submission, place, [record])
    for flag in run_flags([record]):
        submission.add(place, "shown on the board", "flag", flag)
    extra = sorted(f.name for f in folder.iterdir() if not _KNOWN_FILES.fullmatch(f.name))
    if extra:
        submission.add(place, "files", "flag", f"remove {', '.join(extra[:5])}: not needed")


def _breaches(submission: Submission, place: str, records: Sequence[Record]) -> None:
    """Refuse runs that kept more than their strategy declared."""
    for words in sorted({words for record in records for words in record.breaches}):
        fix = "Declare it in Needs(memory=..., memory_bytes=...), keep it in info.memory, run again"
        submission.add(place, "memory", "wrong", f"{words}. {fix}")


def _numbers_follow(submission: Submission, run: StoredRun) -> bool:
    place = str(run.folder)
    if not run.has_predictions:
        words = f"{run.result.predictions.file} is missing; send it beside {RECORD}"
        submission.add(place, "predictions", "wrong", words)
        return False
    if problems := list(run.problems()) or _order_problems(run):
        more = f"; {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        words = f"{'; '.join(problems[:_SHOWN])}{more}. Send both files as they were written"
        submission.add(place, "numbers", "wrong", words)
        return False
    submission.add(place, "numbers", "ok", "all agree with the predictions (hash verified)")
    return True


def _images(submission: Submission, folder: Path) -> None:
    """Compare rows and labels with the images, if these are on this machine."""
    audit = Audit(records=[str(folder)])
    compare_with_sources(audit)
    for problem in audit.problems[:_SHOWN]:
        submission.add(str(folder), "images", "wrong", f"{problem}; run it again")
    for note in audit.notes:
        submission.add(str(folder), "images", "flag", note)
    if audit.checks and not audit.problems:
        submission.add(str(folder), "images", "ok", "rows and labels agree with the images")


def _order_problems(run: StoredRun) -> list[str]:
    audit = Audit()
    audit.check(RECORD, lambda: class_order_problems(run.result))
    return audit.problems


def _version(submission: Submission, place: str, version: str) -> None:
    if (draws := other_draws(version)) is not None:
        words = f"{draws}: if repeated, it gives another result wherever random numbers are drawn"
        submission.add(place, "version", "flag", words)
    elif version != __version__:
        words = f"made with clgym {version}, this is {__version__}; repeat it if its result differs"
        submission.add(place, "version", "flag", words)


def _strategy(
    submission: Submission, place: str, facts: StrategyFacts, plugins: Sequence[Path]
) -> tuple[Path, ...]:
    """Check that the code that ran is available; return the sent files that a new run needs."""
    name, own = facts.name, built_in(facts.name)
    ran = file_that_ran(facts, plugins)
    if ran is not None and own is not None and ran == own.path:
        submission.add(place, "strategy", "ok", f"{name} as it is in this repository")
    elif ran is not None:
        words = f"{ran.name} is the file that ran; read it before you run it"
        submission.add(place, "strategy", "ok", words)
        return (ran,)
    elif own is not None:
        words = f"differs from this repository's {name}; send the file that ran, or repeat the run"
        submission.add(place, "strategy", "flag", words)
    elif plugins:
        sent = ", ".join(file.name for file in plugins[:_SHOWN])
        words = f"none of {sent} is the file that ran; send that one"
        submission.add(place, "strategy", "wrong", words)
    else:
        words = f"{name} is not built in; send its file so that the run can be repeated"
        submission.add(place, "strategy", "flag", words)
    return ()


def _seeds(submission: Submission, folder: Path) -> None:
    """Check runs that differ only in their seeds: one is too few, and none may be left out."""
    methods: dict[str, list[StoredRun]] = {}
    for found in submission.found:
        if found.run is not None and found.folder.is_relative_to(folder):
            methods.setdefault(method_of(found.run.result), []).append(found.run)
    for runs in methods.values():
        result = runs[0].result
        groups = by_seed(runs, lambda run: run.result)
        seeds = sorted(run.result.seed for run in runs)
        about = f"{result.strategy.name} on {result.scenario.name}"
        if any(len(group) > 1 for group in groups.values()):
            words = f"{about}: two runs of one seed and class order among {seeds}; send one of them"
            submission.add(str(folder), "seeds", "wrong", words)
        elif len(seeds) == 1:
            words = f"{about}: a single seed has no interval and no rank; send at least three"
            submission.add(str(folder), "seeds", "flag", words)
        elif gaps := sorted({*range(seeds[0], seeds[-1])} - {*seeds})[:5]:
            words = f"{about}: {gaps} missing between {seeds[0]} and {seeds[-1]}; send or explain"
            submission.add(str(folder), "seeds", "flag", words)
        else:
            submission.add(str(folder), "seeds", "ok", f"{about}: {_orders(groups)}")


def _orders(seeds: Iterable[Seeds]) -> str:
    """Seeds of runs, with their class orders where these were drawn."""
    return ", ".join(str(s) if order < 0 else f"{s} (order {order})" for s, order in seeds)


# --- a study -------------------------------------------------------------------------------------


def _study(submission: Submission, folder: Path, plugins: tuple[Path, ...]) -> None:
    from clgym.board.reading.found import read_study

    place = str(folder)
    missing = [name for name in (LEDGER, CERTIFICATE) if not (folder / name).is_file()]
    if missing:
        words = f"{missing[0]} is missing; send the study's whole folder, sealed"
        submission.add(place, "study", "wrong", words)
        return
    try:
        study = read_study(folder)
    except ClgymError as error:
        submission.add(place, "study", "wrong", f"{error.found}; send its files as written")
        return
    plan = study.plan
    submission.add(place, "study", "ok", f"{plan.strategy} on {plan.pair.name} ({plan.mode})")
    _audit(submission, folder)
    facts = StrategyFacts(name=plan.strategy, source_hash=plan.source_hash, config=plan.base)
    needed = _strategy(submission, place, facts, plugins)
    if study.evaluations:
        count = len(study.evaluations)
        words = f"{count} complete, of {len(plan.evaluation_seeds)} seeds"
        submission.add(place, "evaluations", "flag" if count > 1 else "ok", words)
        submission.found.append(SubmittedRecords(folder, None, needed))
    else:
        words = "no evaluation is complete; run `clgym evaluate`"
        submission.add(place, "evaluations", "wrong", words)
    _version(submission, place, plan.code.clgym)
    flags = {flag for e in study.evaluations for flag in (*e.flags, above_band(e)) if flag}
    with contextlib.suppress(ClgymError):  # the audit says what is wrong with a record
        runs = [run for evaluation in study.evaluations for run in study.runs_of(evaluation)]
        records = [run.record for run in runs]
        _breaches(submission, place, records)
        flags |= set(run_flags(records))
    for flag in sorted(flags):
        submission.add(place, "shown on the board", "flag", flag)


def _audit(submission: Submission, folder: Path) -> None:
    """Add everything that `clgym verify` finds without repeating runs."""
    audit = verify(folder)
    if not audit.problems:
        compare_with_sources(audit)
    for problem in audit.problems[:10]:
        submission.add(str(folder), "audit", "wrong", f"{problem}; send the folder as it was")
    if len(audit.problems) > 10:
        submission.add(str(folder), "audit", "wrong", f"{len(audit.problems) - 10} more problems")
    if not audit.problems:
        submission.add(str(folder), "audit", "ok", f"{len(audit.checks)} checks, all hold")
    for note in audit.notes:
        submission.add(str(folder), "audit", "flag", note)


def places(submission: Submission) -> Iterator[tuple[str, list[SubmissionFinding]]]:
    """Findings grouped by folder, in order."""
    for place, group in itertools.groupby(submission.findings, lambda finding: finding.place):
        yield place, list(group)
