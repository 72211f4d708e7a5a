"""Records as tables, for a reader at a terminal of 80 columns."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from clgym.cli._adaptation_tables import (
    adaptation_measures,
    show_segments,
    show_shifted_seeds,
)
from clgym.cli._deletion_tables import deletion_costs, show_requests
from clgym.cli._flags import as_failures, as_text
from clgym.messages import RunOutline, SegmentOutline
from clgym.results.layout import RECORD
from clgym.results.record import (
    Cost,
    DeletionResult,
    Environment,
    PretrainingResult,
    ProbeFacts,
    Record,
    label_of,
)
from clgym.text import duration, operations

__all__ = ["show_plan", "show_record", "show_seeds"]


def show_record(console: Console, record: Record, out: str) -> None:
    """Print everything that one run measured."""
    result = record.result
    title = f"{result.strategy.label} on {result.scenario.name}, seed {result.seed}"
    console.print(f"\n[bold]{title}[/bold] ({result.scenario.setting})", highlight=False)
    if result.scenario.setting != "adaptation":
        _show_matrix(console, record)
    if result.adaptation is not None:
        show_segments(console, result.adaptation)
    if isinstance(result, PretrainingResult):
        console.print(_probe_line(result.probe), highlight=False)
    if isinstance(result, DeletionResult):
        show_requests(console, result.deletion)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in [*_measures(record), *_costs(record), *deletion_costs(record)]:
        table.add_row(name, value)
    console.print(table)
    console.print(f"\nrecord: {out}/{RECORD}", highlight=False, soft_wrap=True, markup=False)
    _show_failures(console, record)
    if record.environment.engine == "inline":
        console.print("gym and learner shared a process: the strategy could have read the labels")


def _probe_line(facts: ProbeFacts) -> str:
    """Line that says which classifier the accuracies of a pretraining stream belong to."""
    return (
        f"accuracies of a linear probe (logistic regression, C {facts.strength:g}) on features of "
        f"{facts.rows[-1]:,} training images, {facts.widths[-1]} numbers each; head knn: "
        f"{facts.neighbours} nearest neighbours"
    )


def _show_failures(console: Console, record: Record) -> None:
    """Print the checks that the strategy is declared to fail, if any."""
    if failures := record.result.strategy.known_failures:
        line = f"known failures: {as_failures(failures)}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _show_matrix(console: Console, record: Record) -> None:
    """Print the accuracy matrix in percent, with as many digits as the console has room for."""
    result = record.result
    size = len(result.accuracy_matrix)
    wide = 9 + 8 * (size + 1) <= console.width
    if not wide and 9 + 5 * (size + 1) > console.width:
        console.print(f"\naccuracy matrix: {size} x {size}, see the record; last row and diagonal")
        rows = [
            result.accuracy_matrix[-1],
            [row[i] for i, row in enumerate(result.accuracy_matrix)],
        ]
        for name, row in zip(("last", "new"), rows, strict=True):
            console.print(f"{name:<5}" + " ".join(_percent(v, 0) for v in row), highlight=False)
        return
    digits = 2 if wide else 0
    console.print("accuracy in %; row: after experience, column: on the test rows of experience")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("after")
    for column in range(size):
        table.add_column(str(column + 1), justify="right")
    table.add_column("seen", justify="right", style="bold")
    for i, row in enumerate(result.accuracy_matrix):
        cells = [_percent(value, digits) for value in row]
        table.add_row(str(i + 1), *cells, _percent(result.accuracy_after[i], digits))
    console.print(table)


def _percent(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _points(value: float | None, why_not: str) -> str:
    return f"{100 * value:+.2f} points" if value is not None else f"none ({why_not})"


def _measures(record: Record) -> list[tuple[str, str]]:
    facts = record.result.adaptation
    shifted = [] if facts is None else adaptation_measures(facts)
    if record.result.scenario.setting == "adaptation":
        return shifted
    return [*_learning_measures(record), *shifted]


def _learning_measures(record: Record) -> list[tuple[str, str]]:
    result = record.result
    partly = result.average_incremental_accuracy is None
    single = result.tests if partly else "one experience"
    chance = sorted({f"{100 * level:.1f}" for level in result.chance[1:]}, key=float)
    against = f"chance: {' to '.join([chance[0], chance[-1]][: len(chance)])} %" if chance else ""
    if result.scenario.setting == "domain-incremental":
        against += "; earlier domains had the same classes, and one that recurs was learned before"
    early = result.tests if partly else "no experience was tested before it was learned"
    forward = _points(result.forward_transfer, early)
    average = f"{_percent(result.average_incremental_accuracy)} %"
    told = against and result.forward_transfer is not None
    lines = [
        ("last accuracy", f"{_percent(result.last_accuracy)} %"),
        ("average incremental accuracy", f"none ({result.tests})" if partly else average),
        ("forgetting", _points(result.forgetting, single).lstrip("+")),
        ("backward transfer", _points(result.backward_transfer, single)),
        ("forward transfer", forward + (f" ({against})" if told else "")),
    ]
    if result.anytime is not None:
        lines.insert(2, ("accuracy at any time", f"{_percent(result.anytime.area)} % (area)"))
    for head, after in (result.heads or {}).items():
        lines.append((f"last accuracy, head {head}", f"{_percent(after[-1])} %"))
    if result.scenario.setting == "class-incremental":
        aware = result.task_aware_accuracy_after[-1]
        lines.insert(1, ("  if the task were known", f"{_percent(aware)} %"))
    return lines


def _costs(record: Record) -> list[tuple[str, str]]:
    cost, where = record.cost, record.environment
    train, predict = sum(cost.train_seconds), sum(cost.predict_seconds)
    trained = f"training {duration(train)} at {cost.images_per_second:,.0f} images/s, "
    tested = f"testing {duration(predict)}"
    if not cost.train_seconds:  # an adaptation stream: the images are those that were answered
        trained, tested = "", f"{duration(predict)} at {cost.images_per_second:,.0f} images/s"
    return [
        *_holdings(record),
        ("time", f"{duration(cost.wall_seconds)} ({trained}{tested})"),
        *_work(cost),
        ("peak memory", f"{cost.peak_memory_bytes / 2**20:,.0f} MiB{_above_idle(cost)}"),
        ("device", _device(where)),
        *(("warning", flag) for flag in record.flags),
    ]


def _work(cost: Cost) -> list[tuple[str, str]]:
    """Processor time, operations and energy, as far as they are known."""
    lines = []
    if cost.cpu_seconds is not None:
        lines.append(("processor time", f"{duration(cost.cpu_seconds)} of the learners"))
    if cost.total_train_flops is not None:
        lines.append(("operations of training", f"{operations(cost.total_train_flops)}FLOP"))
    if cost.predict_flops_per_image is not None:
        per_image = operations(cost.predict_flops_per_image)
        lines.append(("operations of a prediction", f"{per_image}FLOP per image"))
    if cost.gpu_utilisation is not None:
        lines.append(("utilisation of the GPU", f"{100 * cost.gpu_utilisation:.0f} % in training"))
    for device, joules in sorted(cost.energy_joules.items()):
        lines.append((f"energy of the {device}", f"{joules / 3600:,.3g} Wh (whole device)"))
    return lines


def _above_idle(cost: Cost) -> str:
    added = cost.added_memory_bytes
    return "" if added is None else f" ({added / 2**20:,.0f} MiB above an idle learner)"


def _device(where: Environment) -> str:
    name = f" ({where.device_name})" if where.device_name else ""
    return f"{where.device}{name}, threads {where.threads}"


def _holdings(record: Record) -> list[tuple[str, str]]:
    """Parameters, stored samples and other stored bytes, and the numbers that were logged."""
    result, held = record.result, record.holdings
    samples = f"{result.stored_samples:,}"
    if record.conduct is not None and record.conduct.memory_capacity:
        samples += f" of {record.conduct.memory_capacity:,} declared"
    if held is None:
        return [("parameters", f"{result.parameters:,}"), ("stored samples", samples)]
    counts = f"{held.total:,} (trainable {held.trainable:,}), buffers {held.buffers:,}"
    budget = "" if held.budget_bytes is None else f" of a budget of {held.budget_bytes:,}"
    logged = [
        (f"logged {name}", f"last {facts.last:.5g}, mean {facts.mean:.5g}")
        for name, facts in record.logged.items()
    ]
    stored = f"{held.stored_bytes:,}{budget}"
    return [("parameters", counts), ("stored samples", samples), ("stored bytes", stored), *logged]


def show_plan(console: Console, plan: RunOutline) -> None:
    """Print what a run would do."""
    strategy, scenario = plan.strategy, plan.scenario
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_row(
        "strategy", f"{label_of(strategy.name, strategy.config)}: {_options(strategy.config)}"
    )
    table.add_row("scenario", f"{scenario.name}: {_options(scenario.config)}")
    table.add_row("scenario type", scenario.setting)
    for source in plan.sources:
        table.add_row("source", "; ".join([source.name, *source.flags]))
    table.add_row("images", " x ".join(map(str, plan.image_shape)) + " (channels, height, width)")
    table.add_row("seed", str(plan.seed))
    table.add_row("device", f"{plan.device}, threads {plan.threads} {plan.numerics}".rstrip())
    table.add_row("output", plan.out)
    console.print(table, highlight=False, markup=False)
    segments = [step for step in plan.experiences if isinstance(step, SegmentOutline)]
    experiences = [step for step in plan.experiences if not isinstance(step, SegmentOutline)]
    steps = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in ("experience", "classes", "training images", "test images"):
        steps.add_column(head, justify="right")
    for number, step in enumerate(experiences, 1):
        steps.add_row(str(number), str(step.classes), f"{step.train:,}", f"{step.test:,}")
    if experiences:
        console.print(steps)
    if segments:
        unlabelled = ", ".join(f"{step.name} ({step.test:,})" for step in segments)
        console.print(f"unlabelled images, in order: {unlabelled}", highlight=False)


def _options(config: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {as_text(value)}" for name, value in config.items()) or "no options"


def show_seeds(console: Console, records: Sequence[Record], outs: Sequence[str]) -> None:
    """Print one row per seed, then mean and standard deviation (n - 1)."""
    first = records[0].result
    console.print(
        f"\n[bold]{first.strategy.label} on {first.scenario.name}[/bold], {len(records)} seeds",
        highlight=False,
    )
    if first.scenario.setting != "adaptation":
        _show_learned_seeds(console, records)
    if first.adaptation is not None:
        show_shifted_seeds(console, records)
    for out in outs:
        console.print(f"record: {out}/{RECORD}", highlight=False, soft_wrap=True, markup=False)
    _show_failures(console, records[0])


def _show_learned_seeds(console: Console, records: Sequence[Record]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("seed")
    heads = ("last accuracy %", "average incr. %", "forgetting", "backward", "time")
    for head in heads:
        table.add_column(head, justify="right")
    for record in records:
        row = _numbers(record)
        cells = [f"{value:.2f}" if value is not None else "-" for value in row]
        table.add_row(str(record.result.seed), *cells, duration(record.cost.wall_seconds))
    table.add_section()
    columns = list(zip(*(_numbers(record) for record in records), strict=True))
    table.add_row("mean", *[_over(column, np.mean) for column in columns], "")
    table.add_row("std", *[_over(column, lambda v: np.std(v, ddof=1)) for column in columns], "")
    console.print(table)


def _numbers(record: Record) -> tuple[float | None, ...]:
    """Last and average incremental accuracy in percent; forgetting and transfer in points."""
    result = record.result
    values = (
        result.last_accuracy,
        result.average_incremental_accuracy,
        result.forgetting,
        result.backward_transfer,
    )
    return tuple(None if value is None else 100 * value for value in values)


def _over(column: Sequence[float | None], statistic: Callable[[list[float]], Any]) -> str:
    values = [value for value in column if value is not None]
    return f"{statistic(values):.2f}" if len(values) == len(column) else "-"
