"""The tuning of a study decided again from its plan and ledger, and compared with the ledger."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from clgym.engines.pool import WorkerPool
from clgym.errors import BadPlan, Tampered
from clgym.files import canonical_json
from clgym.gym.request import Request
from clgym.protocol.ledger import EntryBody, Ledger, LedgerEntry
from clgym.protocol.modes import choose
from clgym.protocol.plan import Body, RunScore, StudyPlan
from clgym.protocol.runs import RETRY_FAILED, ExecutionOptions, Runs, TrialRun, pruned_body
from clgym.protocol.space import Space
from clgym.protocol.study import body_of
from clgym.results.stored import open_run

__all__ = ["Replay"]


class Replay(Runs):
    """Runs that are all in the ledger, so that nothing is carried out or written."""

    def __init__(self, plan: StudyPlan, folder: Path) -> None:
        """Read the ledger in the study's folder."""
        super().__init__(plan, ExecutionOptions(folder), Ledger(folder), lambda event: None)
        self.required: dict[str, TrialRun] = {}
        """The runs that the study requires, by key, in the order of its requests."""
        self._stopped: list[EntryBody] = []
        self._body: Body | None = None

    def body(self) -> Body:
        """The certificate's body, with all draws and choices repeated.

        Raises:
            Tampered: The ledger has no result of a run that the study requires.
            BadPlan: No trial succeeded.
        """
        if self._body is None:
            self._stopped = []
            trials, chosen = choose(self.plan, Space.of(self.plan.space), self)
            self._body = body_of(self.plan, trials, chosen, self)
        return self._body

    def carry_out(
        self, specs: Sequence[TrialRun], enough: Callable[[TrialRun], bool] = lambda spec: False
    ) -> list[RunScore | None]:
        """Note the runs that are required, and return their scores from the ledger."""
        due = [spec for spec in specs if spec.key in self.replies or not enough(spec)]
        keys = {spec.key for spec in due}
        # Runs that began before the images of others reached the cap are among those required.
        self.required |= {
            spec.key: spec
            for spec in specs
            if spec.key in keys or spec.key.rpartition("/")[0] in self._started
        }
        scores = super().carry_out(due)
        known = {spec.key: score for spec, score in zip(due, scores, strict=True)}
        return [known.get(spec.key) for spec in specs]

    def requests(self, key: str, where: ExecutionOptions) -> list[Request]:
        """Requests that repeat a run elsewhere, after those of the runs that it continues.

        Test rows are sent in the order of the key in the run's record.

        Args:
            key: Key of a finished run.
            where: Folder for the runs, and how they are executed.
        """
        run: TrialRun | None = self.required[key]
        requests: list[Request] = []
        while run is not None:
            record = open_run(self.where.out / run.key).record
            moved = replace(
                self._request(run),
                out=where.out / run.key,
                after=run.after and where.out / run.after.key,
                data_root=where.data_root,
                plugins=where.plugins,
                sandbox=where.sandbox,
                order_key=record.environment.order_key,
            )
            requests.insert(0, moved)
            run = run.after
        return requests

    def prune(self, spec: TrialRun, after: int, score: float) -> None:
        """Note a trial that is stopped early."""
        self._stopped.append(pruned_body(spec, after, score))

    def _open(self) -> WorkerPool:
        raise Tampered(
            expected="every run of the study in the ledger",
            found="one that is missing",
            fix="Run the study again, since it can no longer be trusted",
        )

    def _know(self, entry: LedgerEntry) -> None:
        # While failed runs are being repeated, the runs after them in the ledger are required, too.
        if entry.kind != RETRY_FAILED or self.ledger.of("sealed"):
            super()._know(entry)

    def trial_problems(self) -> Iterator[str]:
        """Differences of the ledger's trials and runs from those that the plan determines."""
        with contextlib.suppress(Tampered, BadPlan):  # of an unfinished study, up to its end
            self.body()
        runs = self.ledger.of("run")
        started = [entry.body for entry in self.ledger.of("trial")]
        due = self._trials()
        for number, body in enumerate(started):
            if number >= len(due) or body != due[number]:
                yield f"{body.get('key')} is not the {number + 1}. trial that the plan starts"
                break
        keys = {body["key"] for body in started}
        ran = [str(entry.body["key"]).rpartition("/")[0] for entry in runs]
        for key in sorted(set(ran) - keys):
            yield f"the ledger has runs of {key}, and no line of its start"
        for entry in runs:
            yield from self._run_problems(entry.body)

    def _trials(self) -> list[EntryBody]:
        """Bodies of the trials' lines, in the order in which any number of workers starts them."""
        found: dict[str, EntryBody] = {}
        for run in self.required.values():
            key = run.key.rpartition("/")[0]
            body = {"key": key, "trial": run.trial, "config": dict(run.config)}
            found.setdefault(key, json.loads(canonical_json(body)))
        return list(found.values())

    def _run_problems(self, body: EntryBody) -> Iterator[str]:
        run = self.required.get(body["key"])
        if run is None:
            yield f"the ledger has the run {body['key']}, which no trial of the plan requires"
        elif (body.get("trial"), body.get("seed")) != (run.trial, run.seed):
            yield f"{body['key']}: trial or seed is not that of its name"

    def pruning_problems(self) -> Iterator[str]:
        """Differences of the trials that were stopped early from those that the rule stops."""
        if [entry.body for entry in self.ledger.of("pruned")] != self._stopped:
            yield "the trials that the ledger says were pruned are not those that the rule stops"
