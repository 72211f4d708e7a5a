"""Sections of a report about runs: numbers, figures, classes, options, cost."""

from collections.abc import Sequence

import numpy as np

from clgym.board.figures import drawing
from clgym.board.figures.plots import CannotDraw, draw, mean_matrix
from clgym.board.reading.found import Method
from clgym.board.report.parts import (
    Note,
    Picture,
    ReportFacts,
    ReportTable,
    Section,
    percent,
    points,
    said,
)
from clgym.errors import BadRecord
from clgym.results.layout import SERIES
from clgym.results.record import Cost, Record
from clgym.results.stored import StoredRun

__all__ = ["pictures", "sections"]


def sections(method: Method) -> list[Section]:
    """All sections about the runs of one method."""
    results = method.results
    first = results[0]
    found = [Section("Result")]
    if _learned(method):
        found[0].parts.append(_numbers(method))
    if first.average_incremental_accuracy is None:
        words = f"The learner was {first.tests}: measures over all experiences are missing."
        found[0].parts.append(Note(words))
    if first.adaptation is not None:
        found[0].parts += [_errors(method), _segments(method)]
    if shown := pictures(method):
        found.append(Section("Figures", [*shown, *_matrix(method)]))
    found.append(Section("Classes", _classes(method)))
    found.append(_settings(method))
    if any(run.record.logged for run in method.runs):
        found.append(Section("Logged numbers", [_logged(method)]))
    found.append(Section("Cost", [_cost(method)]))
    found.append(Section("Environment", [_environment(method.runs[0].record)]))
    return found


def _learned(method: Method) -> bool:
    """Whether experiences were learned; a stream may have a learning and an adaptation phase."""
    return method.results[0].scenario.setting != "adaptation"


def pictures(method: Method) -> list[Picture]:
    """All figures that the method's records allow."""
    try:
        plots = draw([method])
    except CannotDraw:
        return []
    made = []
    for plot in plots:
        try:
            made.append(Picture(plot.words, drawing.svg(plot.draw(), plot.words)))
        except BadRecord:
            continue  # predictions are missing; the section on classes says so
    return made


def _numbers(method: Method) -> ReportTable:
    """A row for each seed, then mean and standard deviation."""
    heads = ["seed", "last accuracy, %", "average incremental, %"]
    heads += ["forgetting", "backward transfer", "forward transfer"]
    names = ("last_accuracy", "average_incremental_accuracy")
    names += ("forgetting", "backward_transfer", "forward_transfer")
    columns = [[getattr(result, name) for result in method.results] for name in names]
    rows = [
        [_seed(run), *(percent(c[i]) for c in columns[:3]), *(points(c[i]) for c in columns[3:])]
        for i, run in enumerate(method.runs)
    ]
    title = "Accuracies; differences in points"
    if method.results[0].scenario.setting == "domain-incremental":
        title += "; forward transfer is above chance, though earlier domains had the same classes"
    return ReportTable(title, heads, [*rows, *_spread(columns, 3)])


def _errors(method: Method) -> ReportTable:
    heads = ["seed", "mean error, %", "error over all images, %", "calibration error, %"]
    facts = [result.adaptation for result in method.results]
    columns = [
        [f.mean_error if f else None for f in facts],
        [f.pooled_error if f else None for f in facts],
        [float(np.mean([s.calibration_error for s in f.segments])) if f else None for f in facts],
    ]
    rows = [[_seed(run), *(percent(c[i]) for c in columns)] for i, run in enumerate(method.runs)]
    return ReportTable("Online errors", heads, [*rows, *_spread(columns, len(columns))])


def _seed(run: StoredRun) -> str:
    order = run.result.order_seed
    same = order is None or order == run.result.seed
    return str(run.result.seed) if same else f"{run.result.seed} (order {order})"


def _spread(columns: Sequence[Sequence[float | None]], plain: int) -> list[list[str]]:
    """Mean and standard deviation (n - 1), if there is more than one run."""
    if len(columns[0]) < 2:
        return []
    mean, std = ["mean"], ["standard deviation"]
    for number, column in enumerate(columns):
        values = [value for value in column if value is not None]
        whole = len(values) == len(column)
        write = percent if number < plain else points
        mean.append(write(float(np.mean(values)) if whole else None))
        std.append(percent(float(np.std(values, ddof=1)) if whole else None))
    return [mean, std]


def _segments(method: Method) -> ReportTable:
    facts = method.results[0].adaptation
    heads = ["segment", "images", "error, %", "calibration error, %", "largest class, points"]
    rows = [
        [
            segment.name,
            f"{segment.images:,}",
            percent(segment.error),
            percent(segment.calibration_error),
            points(segment.largest_class),
        ]
        for segment in (facts.segments if facts else [])
    ]
    return ReportTable(f"Segments in order, seed {method.results[0].seed}", heads, rows)


def _matrix(method: Method) -> list[ReportTable]:
    """The numbers of the heat map as a table, for readers who cannot see it."""
    if len(method.results[0].accuracy_matrix) < 2:
        return []
    matrix = mean_matrix(method)
    heads = ["after", *(str(j + 1) for j in range(len(matrix)))]
    rows = [[str(i + 1), *(percent(v, 1) for v in row)] for i, row in enumerate(matrix)]
    return [ReportTable("Accuracy matrix as a table, %", heads, rows, folded=True)]


# --- classes -------------------------------------------------------------------------------------


def _classes(method: Method) -> list[ReportTable | Note]:
    adapted = method.results[0].adaptation is not None
    found: list[ReportTable | Note] = [_adapted_classes(method)] if adapted else []
    try:
        return [_learned_classes(method.runs), *found] if _learned(method) else found
    except BadRecord as error:
        return [Note(f"Accuracy by class needs the predictions: {error.found}."), *found]


def _adapted_classes(method: Method) -> ReportTable:
    tables = [r.adaptation.per_class for r in method.results if r.adaptation]
    rows = []
    for name in tables[0]:
        values = [value for table in tables if (value := table.get(name)) is not None]
        rows.append([name, percent(float(np.mean(values)) if values else None)])
    return ReportTable("Error by class, over the whole stream", ["class", "error, %"], rows)


def _learned_classes(runs: Sequence[StoredRun]) -> ReportTable:
    """Accuracy by class after the last experience, over all runs, the worst class first."""
    hits: dict[str, list[bool]] = {}
    taken: dict[str, dict[str, int]] = {}
    step: dict[str, list[int]] = {}
    for run in runs:
        names, last = run.result.class_order, len(run.result.accuracy_matrix) - 1
        kept = run.predictions().after(last)
        columns = (kept.label, kept.predicted, kept.group)
        for label, predicted, experience in zip(*(c.tolist() for c in columns), strict=True):
            name = names[label]
            hits.setdefault(name, []).append(label == predicted)
            step.setdefault(name, []).append(experience + 1)
            if label != predicted:
                wrong = taken.setdefault(name, {})
                wrong[names[predicted]] = wrong.get(names[predicted], 0) + 1
    rows = [
        [
            name,
            _experiences(step[name]),
            f"{len(found):,}",
            percent(float(np.mean(found)), 1),
            _mistaken(taken.get(name, {}), len(found)),
        ]
        for name, found in sorted(hits.items(), key=lambda item: (np.mean(item[1]), item[0]))
    ]
    heads = ["class", "experience", "test images", "accuracy, %", "most often confused with"]
    caption = "After the last experience, the worst first"
    return ReportTable(caption, heads, rows, text=frozenset({0, 4}), folded=len(rows) > 20)


def _experiences(steps: Sequence[int]) -> str:
    low, high = min(steps), max(steps)
    return str(low) if low == high else f"{low} to {high}"


def _mistaken(wrong: dict[str, int], total: int) -> str:
    if not wrong:
        return ""
    name, count = max(wrong.items(), key=lambda item: (item[1], item[0]))
    return f"{name} ({100 * count / total:.0f} %)"


# --- settings, cost, environment -----------------------------------------------------------------


def _settings(method: Method) -> Section:
    result = method.results[0]
    about = {
        "setting": result.scenario.setting,
        "images": "; ".join(", ".join([s.name, *s.flags]) for s in result.sources),
        "fingerprint of the images": "; ".join(s.fingerprint for s in result.sources),
        "scored on": result.scored_on,
        "strategy's file, SHA-256": result.strategy.source_hash,
        "class order": said(result.class_order),
    }
    if result.part is not None:
        about["part of the stream"] = f"experiences {result.part[0] + 1} to {result.part[1]}"
    if result.numerics is not None:
        about["options for speed"] = "; ".join(result.numerics.flags())
    if result.strategy.known_failures:
        about["checks declared to fail"] = said(result.strategy.known_failures)
    if result.backbone is not None:
        about["backbone"] = said(result.backbone.model_dump(mode="json"))
    if result.adaptation is not None:
        about["classifier adapted"] = said(result.adaptation.model.model_dump(mode="json"))
    return Section(
        "Options",
        [
            Note(f"Strategy {result.strategy.name}:"),
            ReportFacts({name: said(v) for name, v in result.strategy.config.items()}),
            Note(f"Scenario {result.scenario.name}:"),
            ReportFacts({name: said(v) for name, v in result.scenario.config.items()}),
            ReportFacts(about),
        ],
    )


def _logged(method: Method) -> ReportTable:
    """Numbers that the strategy logged; a file beside each record contains the whole series."""
    rows = [
        [
            _seed(run),
            name,
            f"{n.count:,}",
            *(f"{v:.5g}" for v in (n.last, n.mean, n.minimum, n.maximum)),
        ]
        for run in method.runs
        for name, n in run.record.logged.items()
    ]
    heads = ["seed", "name", "values", "last", "mean", "lowest", "highest"]
    return ReportTable(
        f"Numbers that the strategy logged ({SERIES} beside each record)", heads, rows
    )


def _cost(method: Method) -> ReportTable:
    heads = ["seed", "time, s", "training, s", "testing, s", "images per s", "memory, MiB"]
    heads += ["parameters", "trainable", "buffers", "stored samples", "stored, bytes"]
    heads += ["state, MiB", "resumed", "processor, s", "memory above idle, MiB"]
    heads += ["training, FLOP", "prediction of an image, FLOP", "energy of the devices, Wh"]
    heads += ["utilisation of the GPU, %"]
    rows = []
    for run in method.runs:
        cost, result, held = run.record.cost, run.result, run.record.holdings
        rows.append(
            [
                _seed(run),
                f"{cost.wall_seconds:,.1f}",
                f"{sum(cost.train_seconds):,.1f}",
                f"{sum(cost.predict_seconds):,.1f}",
                f"{cost.images_per_second:,.0f}",
                f"{cost.peak_memory_bytes / 2**20:,.0f}",
                f"{result.parameters:,}",
                "" if held is None else f"{held.trainable:,}",
                "" if held is None else f"{held.buffers:,}",
                f"{result.stored_samples:,}",
                "" if held is None else f"{held.stored_bytes:,}",
                f"{cost.state_bytes / 2**20:,.1f}",
                str(cost.resumed),
                *_work(cost),
            ]
        )
    return ReportTable("Cost of each run", heads, rows)


def _work(cost: Cost) -> list[str]:
    """Costs that older records lack; empty cells where a record lacks them."""
    added, flops, energy = cost.added_memory_bytes, cost.total_train_flops, cost.energy_joules
    per_image = cost.predict_flops_per_image
    return [
        "" if cost.cpu_seconds is None else f"{cost.cpu_seconds:,.1f}",
        "" if added is None else f"{added / 2**20:,.0f}",
        "" if flops is None else f"{flops:.3g}",
        "" if per_image is None else f"{per_image:.3g}",
        f"{sum(energy.values()) / 3600:,.3g}" if energy else "",
        "" if cost.gpu_utilisation is None else f"{100 * cost.gpu_utilisation:.0f}",
    ]


def _environment(record: Record) -> ReportFacts:
    facts = record.environment.model_dump(mode="json")
    return ReportFacts({name.replace("_", " "): said(value) for name, value in facts.items()})
