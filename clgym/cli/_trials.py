"""Live progress of a study, and its outcome as tables."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from clgym.cli._flags import as_text
from clgym.cli._progress import Tracker
from clgym.messages import parse_event
from clgym.protocol.bands import above_band
from clgym.protocol.outcome import Evaluation, measured
from clgym.protocol.plan import Certificate, StudyPlan
from clgym.protocol.runs import Event
from clgym.protocol.study_flags import set_by_hand
from clgym.text import duration

__all__ = ["show_certificate", "show_evaluation", "watch_trials"]

_SHOWN = 12


class TrialWatcher(AbstractContextManager["TrialWatcher"], Protocol):
    """Something that shows events while it is open."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        ...


def watch_trials(console: Console) -> TrialWatcher:
    """A live table on a terminal, lines elsewhere."""
    return _Live(console) if console.is_terminal else _TrialLines(console)


class TrialProgress:
    """Progress of a study or an evaluation, computed from its events alone."""

    def __init__(self) -> None:
        self.title, self.wanted, self.before = "", 0, 0
        self._rungs: tuple[int, ...] = ()
        self._seeds = 1
        self.running: dict[str, Tracker] = {}
        self.done: dict[str, str] = {}
        self.scores: dict[int, list[float]] = {}
        self._began = time.monotonic()

    def update(self, event: Event) -> list[str]:
        """Process an event; return the lines that stay on the screen."""
        kind = event["kind"]
        if kind in ("plan", "evaluation"):
            return self._planned(event["plan"], event)
        if kind == "runs":
            return self._begin(event["title"], event["total"])
        if kind == "missing":
            return [f"{event['row']}: not run: {event['reason']}"]
        if kind == "start":
            self.running[event["key"]] = Tracker()
        elif kind == "run" and event["key"] in self.running:
            self.running[event["key"]].update(parse_event(event["event"]))
        elif kind == "retry":
            return [f"{event['key']}: {event['reason']}; trying again"]
        elif kind == "end":
            return [self._ended(event)]
        elif kind == "pruned":
            return [self._pruned(event)]
        return []

    def _planned(self, plan: StudyPlan, event: Event) -> list[str]:
        tuning = event["kind"] == "plan"
        self.before = event.get("done", 0)
        self.wanted = plan.trials * len(plan.seeds) if tuning else len(plan.evaluation_seeds)
        if plan.mode in ("current_task", "stability_decay") and tuning:
            self.wanted *= plan.experiences
        if plan.pruner and tuning:
            self._rungs, self._seeds = plan.pruner.rungs, 1 if plan.per_seed else len(plan.seeds)
            self.wanted *= 1 + len(self._rungs)
        phase = "tuning" if tuning else f"evaluation {event['number']}"
        title = f"{plan.strategy} on {plan.pair.name}, {phase} ({plan.mode})"
        lines = self._begin(title, self.wanted)
        if tuning and (options := set_by_hand(plan)):
            lines.append(f"set by hand: {options}. {_consequence(plan)}")
        if tuning and plan.withheld_images:
            shared = len(plan.withheld_images)
            lines.append(f"{shared} image(s) of both sides were dropped from the tuning side")
        return lines

    def _begin(self, title: str, wanted: int) -> list[str]:
        """Reset the counters: one command may carry out several phases in turn."""
        self.title, self.wanted = title, wanted
        self.done, self.scores, self._began = {}, {}, time.monotonic()
        return [f"{title}: {wanted} runs" + (f", {self.before} done" if self.before else "")]

    def _ended(self, event: Event) -> str:
        self.running.pop(event["key"], None)
        name = event["key"].removeprefix("runs/")
        if event.get("status") == "failed" or "last_accuracy" not in event:
            line = f"{name}: failed: {event.get('reason', event.get('error', 'no reply'))}"
        else:
            last, average = event["last_accuracy"], event["average_incremental_accuracy"]
            several = len(event["accuracy_matrix"]) > 1
            words = f"last {100 * last:.2f} %"
            if average is not None:  # it is None if some experiences were not tested
                words += f", average {100 * average:.2f} %"
            line = f"{name}: {words if several else f'accuracy {100 * last:.2f} %'}"
            # Up to a rung a trial is easier than as a whole.
            if "trial" in event and not (self._rungs and name.startswith("experience-")):
                self.scores.setdefault(event["trial"], []).append((last + average) / 2)
        self.done[event["key"]] = line
        return f"{line}  [{self.summary}]"

    def _pruned(self, event: Event) -> str:
        """A trial that is stopped early leaves out the runs from there on."""
        later = [rung for rung in self._rungs if rung > event["after"]]
        self.wanted -= self._seeds * (1 + len(later))
        name = event["key"].removeprefix("runs/")
        score = f"{100 * event['score']:.2f} %"
        return f"{name}: pruned after experience {event['after']}, where its score was {score}"

    @property
    def summary(self) -> str:
        """Runs done, best trial so far, time left."""
        finished = self.before + len(self.done)
        parts = [f"{finished}/{self.wanted} runs"]
        if self.scores:
            most = max(map(len, self.scores.values()))  # a part of the seeds is no fair comparison
            means = {t: sum(v) / most for t, v in self.scores.items() if len(v) == most}
            best = max(means, key=lambda trial: means[trial])
            parts.append(f"best so far: trial {best}, {100 * means[best]:.2f} %")
        if self.done and finished < self.wanted:
            spent = time.monotonic() - self._began
            parts.append(f"{duration(spent * (self.wanted - finished) / len(self.done))} left")
        return ", ".join(parts)


def _consequence(plan: StudyPlan) -> str:
    """What options that were set by hand mean for the evaluation."""
    if plan.mode != "default":
        return "The evaluation will be flagged with these values"
    return (
        "These are not the strategy's defaults: the evaluation will be flagged, and the board "
        "shows it without a rank. For a rank, leave these options out or tune in the mode transfer"
    )


class _TrialLines:
    """One line per finished run."""

    def __init__(self, console: Console) -> None:
        self._console, self._progress = console, TrialProgress()

    def __enter__(self) -> "_TrialLines":
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""

    def __call__(self, event: Event) -> None:
        for line in self._progress.update(event):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Live:
    """A table of the running runs, below the last finished ones."""

    def __init__(self, console: Console) -> None:
        self._progress = TrialProgress()
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "_Live":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        self._progress.update(event)
        self._live.update(self._table())

    def _table(self) -> Table:
        progress = self._progress
        table = Table(box=SIMPLE_HEAD, title=progress.title, caption=progress.summary)
        table.add_column("run")
        table.add_column("state")
        for line in list(progress.done.values())[-_SHOWN:]:
            table.add_row(*line.split(": ", 1))
        for key, tracker in progress.running.items():
            share = f"{100 * tracker.done:.0f} %, {tracker.status}"
            table.add_row(key.removeprefix("runs/"), share, style="bold")
        return table


def show_certificate(
    console: Console, certificate: Certificate, out: Path, plugins: Sequence[Path] = ()
) -> None:
    """Print the trials, best first, and the hyper-parameters of the certificate."""
    body, plan = certificate.body, certificate.body.plan
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("trial", "score %", "hyper-parameters"):
        table.add_column(head, overflow="fold")
    ordered = sorted(
        body.trials, key=lambda t: (-(t.score if t.score is not None else -1), t.trial)
    )
    for trial in ordered[:_SHOWN]:
        score = trial.outcome if trial.score is None else f"{100 * trial.score:.2f}"
        name = ".".join(
            str(n) for n in (trial.seed, trial.experience, trial.trial) if n is not None
        )
        table.add_row(name, score, _settings(trial.config))
    console.print(table, markup=False)
    if len(ordered) > _SHOWN:
        console.print(f"... and {len(ordered) - _SHOWN} more", highlight=False)
    for choice in body.chosen:
        stream = "" if choice.seed is None else f" for stream {choice.seed}"
        for config in choice.configs if plan.mode != "default" or not plan.set_by_hand else ():
            console.print(f"chosen{stream}: {_settings(config)}", highlight=False, markup=False)
    if options := set_by_hand(plan):
        words = f"set by hand: {options}. {_consequence(plan)}"
        console.print(words, highlight=False, soft_wrap=True, markup=False)
    budget = ", ".join(f"{number:,} {name}" for name, number in body.budget.items())
    console.print(f"budget: {budget}", highlight=False)
    console.print(f"mode: {plan.mode}; certificate {certificate.hash}", highlight=False)
    console.print(f"sealed: {out}/certificate.json", highlight=False, soft_wrap=True, markup=False)
    words = " ".join(["next: clgym evaluate", str(out), *(f"--plugin {p}" for p in plugins)])
    console.print(words, highlight=False, soft_wrap=True, markup=False)


def _settings(config: dict[str, object]) -> str:
    return ", ".join(f"{name} {as_text(value)}" for name, value in config.items()) or "the defaults"


def show_evaluation(console: Console, evaluation: Evaluation, out: Path, adapts: bool) -> None:
    """Print one row per seed, mean and standard deviation, and the warnings."""
    title = f"{evaluation.strategy} on {evaluation.pair}, mode {evaluation.mode}"
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("seed")
    heads, rows = measured(evaluation, adapts)
    for head in heads:
        table.add_column(f"{head} %", justify="right")
    names = [str(seed.seed) for seed in evaluation.seeds]
    for name, row in zip([*names, "mean", "std"], rows, strict=True):
        table.add_row(name, *map(_percent, row), end_section=name == names[-1])
    console.print(table)
    if evaluation.tuning_score is not None:
        score = (
            f"tuning score of the chosen hyper-parameters: {_percent(evaluation.tuning_score)} %"
        )
        console.print(f"{score} (on the tuning data: not a result)", highlight=False)
    count = f"evaluation {evaluation.evaluation_number} of this certificate"
    study = f"study {evaluation.study_number} of this strategy and pair here"
    console.print(f"{count}; {study}", highlight=False)
    for flag in filter(None, (*evaluation.flags, above_band(evaluation))):
        console.print(f"warning: {flag}", highlight=False, markup=False)
    console.print(f"result: {out}", highlight=False, soft_wrap=True, markup=False)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
