"""Run a paper's rows: missing requirements are reported first, finished runs are not repeated.

The name of a run's folder follows from the run's options, so papers that need the same run share
it. Runs go to a pool of workers; studies follow, each with the same number of workers.
"""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from clgym.data.locate import locate
from clgym.data.root import data_root as root_of
from clgym.engines.pool import PoolSpec
from clgym.errors import ClgymError
from clgym.files import canonical_json, sha256
from clgym.gym.folder import ANOTHER
from clgym.gym.obstacles import obstacles
from clgym.gym.request import Request, Sandbox
from clgym.papers.claims import ClaimRow, ClaimRun, ClaimStudy, Paper
from clgym.papers.status import PaperStatus, RowStatus, read_status, write_status
from clgym.papers.verdicts import Measured, judge, not_run
from clgym.protocol.batch import run_batch
from clgym.protocol.evaluation import EVALUATION, Evaluation, evaluate
from clgym.protocol.ledger import NAME as LEDGER
from clgym.protocol.ledger import read_ledger
from clgym.protocol.pairs import find_pair
from clgym.protocol.runs import Event, ExecutionOptions
from clgym.protocol.study import CERTIFICATE, StudySpec, tune
from clgym.results.layout import PREDICTIONS, RECORD, is_run
from clgym.results.stored import open_run

__all__ = ["Reproduction", "Task"]

KEPT = (RECORD, PREDICTIONS, EVALUATION, CERTIFICATE, LEDGER)
"""Files of a finished folder that are copied to the board."""
FIRST = "evaluations/1"
"""Folder of a study's first evaluation, by which claims are judged."""


@dataclass(frozen=True)
class Task:
    """A run or a study that some rows need."""

    key: str
    what: ClaimRun | ClaimStudy
    device: str
    reference: str | None = None
    """Key of the run to which distances are measured."""


@dataclass
class Reproduction:
    """Rows of papers, and the folders of their runs, records and verdicts."""

    rows: Sequence[tuple[Paper, ClaimRow]]
    runs: Path
    """Folder of runs and studies, kept so that the same command continues."""
    board: Path
    """Folder that gets ``records/`` and ``status/``."""
    root: Path | None = None
    """Data root; None means ``CLGYM_DATA``, else the user's data folder."""
    pool: PoolSpec = field(default_factory=lambda: PoolSpec(workers=2))
    emit: Callable[[Event], None] = lambda event: None
    sandbox: Sandbox = "auto"
    """Sandbox of the learners, as for `clgym run`."""

    def task(self, paper: Paper, row: ClaimRow, name: str) -> Task:
        """Run or study that a row refers to by name."""
        what = paper.runs.get(name) or paper.studies[name]
        is_run = isinstance(what, ClaimRun)
        to = self.task(paper, row, what.reference).key if is_run and what.reference else None
        digest = sha256(canonical_json([what.facts, row.device, *([to] if to else [])]))[:8]
        key = f"{what.strategy}-{what.scenario if is_run else what.pair}-{digest}"
        return Task(key.replace(":", "-"), what, row.device, to)

    def tasks(self) -> dict[str, Task]:
        """All runs and studies that the rows need, by key."""
        wanted = [(p, r, name) for p, r in self.rows for name in r.wanted]
        references = [
            (p, r, run.reference)
            for p, r, name in wanted
            if (run := p.runs.get(name)) is not None and run.reference
        ]
        found = [self.task(p, r, name) for p, r, name in [*references, *wanted]]
        return {task.key: task for task in found}

    def missing(self) -> dict[str, str]:
        """By key, the reason why a run cannot be executed here."""
        return {key: "; ".join(reasons) for key, reasons in self.obstacles().items()}

    def obstacles(self) -> dict[str, list[str]]:
        """Everything that each run lacks here (data, weights, device), by key."""
        found: dict[str, list[str]] = {}
        for key, task in self.tasks().items():
            if not self._finished(task) and (errors := self._lacks(task)):
                found[key] = list(dict.fromkeys(map(self._reason, errors)))
        return found

    def _lacks(self, task: Task) -> list[ClgymError]:
        """Errors about a task's sources (for a study, those of both sides), weights and device."""
        errors: list[ClgymError] = []
        try:
            if isinstance(task.what, ClaimStudy):
                pair = find_pair(task.what.pair, config=self._filled(task.what.stream))
                try:
                    locate(pair.evaluation.source, self.root, None)
                except ClgymError as error:
                    errors.append(error)
            return [*errors, *obstacles(self._first(task))]
        except ClgymError as error:
            return [*errors, error]

    def _first(self, task: Task) -> Request:
        """A run request with the task's requirements; for a study, one on its tuning side.

        Raises:
            ClgymError: The study's pair cannot be made.
        """
        study = task.what
        if isinstance(study, ClaimRun):
            return replace(self._requests(task)[0], reference=None)  # it may not have run yet
        pair = find_pair(study.pair, config=self._filled(study.stream))
        return Request(
            study.strategy,
            pair.scenario,
            strategy_config=self._filled(study.config),
            scenario_config={**pair.config, **pair.tuning.options()},
            device=task.device,
            data_root=self.root,
            sandbox=self.sandbox,
        )

    def _reason(self, error: ClgymError) -> str:
        """Text of an error without the data root's path, which must not stand in status files."""
        # A row names its device: no option of `clgym reproduce` changes it.
        fix = "the row needs this device" if "--device" in error.fix else error.fix
        text, root = f"{error.found}; {fix}", root_of(self.root)
        for path in {str(root), str(root.resolve())}:
            text = text.replace(path, "DATA_ROOT")
        return text

    def carry_out(self) -> list[PaperStatus]:
        """Run all tasks that can be run; return the statuses in the order of the papers."""
        lost, tasks = self.missing(), self.tasks()
        for key, why in lost.items():
            self.emit({"kind": "missing", "row": key, "reason": why})
        # A finished run is kept even if the code has changed since: its record says which code
        # it was, and the board shows a warning.
        able = [t for key, t in tasks.items() if key not in lost and not self._finished(t)]
        lost |= self._run_all([task for task in able if isinstance(task.what, ClaimRun)])
        for task in able:
            if isinstance(task.what, ClaimStudy):
                lost |= self._study(task)
        return self._statuses(lost)

    # Any: options as a paper's file has them.
    def _filled(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options in which ``{data}`` is replaced by the data root."""
        found = {}
        for key, value in options.items():
            if isinstance(value, str) and "{data}" in value:
                value = value.replace("{data}", str(root_of(self.root).resolve()))
            found[key] = value
        return found

    def _requests(self, task: Task) -> list[Request]:
        run = task.what
        assert isinstance(run, ClaimRun)
        return [
            Request(
                run.strategy,
                run.scenario,
                self._filled({"source": run.source})["source"],
                self._filled(run.config),
                self._filled(run.stream),
                seed=seed,
                order_seed=seed if run.order_seeds else None,
                device=task.device,
                threads=run.threads,
                out=self.runs / task.key / f"seed-{seed}",
                data_root=self.root,
                sandbox=self.sandbox,
                reference=self.runs / task.reference / f"seed-{seed}" if task.reference else None,
            )
            for seed in run.seeds
        ]

    def _folders(self, task: Task) -> list[Path]:
        """Folders of the records in the order of seeds; for a study, of its first evaluation."""
        out = self.runs / task.key
        if isinstance(task.what, ClaimRun):
            return [out / f"seed-{seed}" for seed in task.what.seeds]
        file = out / FIRST / EVALUATION
        if not file.is_file():
            return []
        seeds = Evaluation.model_validate_json(file.read_bytes()).seeds
        return [out / FIRST / str(seed.record or f"seed-{seed.seed}") for seed in seeds]

    def _finished(self, task: Task) -> bool:
        folders = self._folders(task)
        return bool(folders) and all(map(is_run, folders))

    def _run_all(self, tasks: Sequence[Task]) -> dict[str, str]:
        """Carry out runs on the pool; return the reason of each failure by key."""
        if not tasks:
            return {}
        before = {
            self.task(p, r, name).key: self.task(p, r, run.first).key
            for p, r in self.rows
            for name in r.wanted
            if (run := p.runs.get(name)) is not None and run.first
        }
        waiting = {f"{t.key}/seed-{q.seed}": q for t in tasks for q in self._requests(t)}
        self.emit({"kind": "runs", "title": "runs of papers", "total": len(waiting)})

        def held(key: str, unfinished: Collection[str]) -> bool:
            first = before.get(key.rpartition("/")[0])
            return bool(first) and any(k.startswith(f"{first}/") for k in unfinished)

        lost = run_batch(waiting, self.pool, self.emit, held)
        return {
            key.rpartition("/")[0]: f"failed: {self._failure(key, error)}"
            for key, error in lost.items()
        }

    def _failure(self, key: str, error: ClgymError) -> str:
        if error.found == ANOTHER:
            return f"{ANOTHER}; delete {key} in the folder of --runs to run it again"
        return self._reason(error)

    def _study(self, task: Task) -> dict[str, str]:
        """Tune, and evaluate once; return the reason of a failure by key."""
        study = task.what
        assert isinstance(study, ClaimStudy)
        asked = StudySpec(
            strategy=study.strategy,
            pair=find_pair(study.pair, config=self._filled(study.stream)),
            config=self._filled(study.config),
            space=study.space,
            trials=study.trials,
            seeds=study.seeds,
            mode=study.mode,
            score_on=study.score_on,
            sampler=study.sampler,
        )
        out = self.runs / task.key
        pool = replace(self.pool, devices=(task.device,))
        where = ExecutionOptions(out, pool, self.root, sandbox=self.sandbox)
        try:
            if not _complete(out / LEDGER):
                tune(asked, where, self.emit)
                evaluate(out, pool, self.root, on_event=self.emit, sandbox=self.sandbox)
        except ClgymError as error:
            return {task.key: f"failed: {self._reason(error)}"}
        # A claim is judged on all seeds or on none.
        gone = [f.name for f in self._folders(task) if not is_run(f)]
        return {task.key: f"{', '.join(gone)} failed"} if gone else {}

    def _statuses(self, lost: Mapping[str, str]) -> list[PaperStatus]:
        """Judge, and write status and records to the board."""
        found = []
        for paper in {p.name: p for p, _ in self.rows}.values():
            rows = [self.judged(p, row, lost) for p, row in self.rows if p.name == paper.name]
            status = PaperStatus(
                paper=paper.name, title=paper.title, link=paper.link, rows=tuple(rows)
            )
            file = self.board / "status" / f"{paper.name}.json"
            status = status.joined(read_status(file) if file.is_file() else None)
            if kept := [row for row in status.rows if row.decided]:
                write_status(file, status.model_copy(update={"rows": tuple(kept)}))
            found.append(status)
        for key, task in self.tasks().items():
            if key not in lost and self._finished(task):
                keep(self.runs / key, self.board / "records" / key)
        return found

    def judged(self, paper: Paper, row: ClaimRow, lost: Mapping[str, str]) -> RowStatus:
        """A row's claims beside the results of its finished runs.

        Args:
            paper: Paper of the row.
            row: Row to judge.
            lost: Reason why a task did not run, by key.
        """
        tasks = {name: self.task(paper, row, name) for name in row.wanted}
        gone = {
            name: lost.get(task.key, "no records")
            for name, task in tasks.items()
            if task.key in lost or not self._finished(task)
        }
        measured = {n: self._measured(task) for n, task in tasks.items() if n not in gone}
        claims = []
        for claim in row.claims:
            why = "; ".join(f"{name}: {gone[name]}" for name in claim.about if name in gone)
            claims.append(not_run(claim, why) if why else judge(claim, measured))
        told = {name: _told(found) for name, found in measured.items()}
        return RowStatus(
            row=row.name,
            scale=row.scale,
            about=row.about,
            claims=tuple(claims),
            runs=told | {name: f"not run: {why}" for name, why in gone.items()},
            seconds=sum(r.record.cost.wall_seconds for m in measured.values() for r in m.runs),
        )

    def _measured(self, task: Task) -> Measured:
        runs = tuple(open_run(folder) for folder in self._folders(task))
        if isinstance(task.what, ClaimRun):
            return Measured(runs)
        data = (self.runs / task.key / FIRST / EVALUATION).read_bytes()
        return Measured(runs, Evaluation.model_validate_json(data).tuning_score)


def _complete(ledger: Path) -> bool:
    """Whether a study's ledger says that an evaluation of it is complete."""
    return ledger.is_file() and any(e.kind == "complete" for e in read_ledger(ledger))


def keep(finished: Path, target: Path) -> None:
    """Copy to the board everything that an audit reads, without weights."""
    for file in sorted(finished.rglob("*")):
        if file.name in KEPT:
            place = target / file.relative_to(finished)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _told(found: Measured) -> str:
    """Text about a run: the mean of its main measure over seeds."""
    results = [run.result for run in found.runs]
    if results[0].adaptation is not None:
        errors = [100 * r.adaptation.mean_error for r in results if r.adaptation]
        return f"mean error {sum(errors) / len(errors):.2f} %"
    last = 100 * sum(r.last_accuracy for r in results) / len(results)
    averages = [v for r in results if (v := r.average_incremental_accuracy) is not None]
    if len(averages) < len(results):
        return f"last {last:.2f} %"
    return f"average {100 * sum(averages) / len(results):.2f} %, last {last:.2f} %"
