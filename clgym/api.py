"""The public functions: the same in Python as on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clgym import registry
from clgym.arguments import check_arguments, folders_of, name_of, names_of
from clgym.check import check_scenario, check_source, check_strategy
from clgym.errors import BadConfig
from clgym.gym.conversation import OnEvent
from clgym.gym.loggers import listening
from clgym.gym.request import Request, make_stream, preset_values
from clgym.gym.run import run as _run
from clgym.results.collection import Records
from clgym.results.record import Record
from clgym.scenario import Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clgym.board.summary.model import Axis, Spread
    from clgym.board.summary.ranking import Ranking
    from clgym.board.summary.table import SummaryTable
    from clgym.protocol.audit import Audit
    from clgym.protocol.outcome import Evaluation
    from clgym.protocol.plan import Certificate
    from clgym.results.compare import Comparison

__all__ = [
    "check_scenario",
    "check_source",
    "check_strategy",
    "compare",
    "evaluate",
    "load",
    "make_scenario",
    "make_strategy",
    "plot",
    "records",
    "register_strategy",
    "run",
    "table",
    "tune",
    "verify",
]


Folders = str | Path | Sequence[str | Path]
"""One output folder, or several in a list."""


def run(
    strategy: str,
    scenario: str,
    *,
    config: Mapping[str, Any] | None = None,
    scenario_config: Mapping[str, Any] | None = None,
    log: Sequence[str] = (),
    callbacks: Sequence[OnEvent] = (),
    **options: Any,
) -> Record:
    """Run a strategy on a scenario and return the record.

    Args:
        strategy: A name of ``clgym list strategies``, or a file: ``FILE.py``, ``FILE.py:CLASS``.
        scenario: A name of ``clgym list scenarios``, or a file.
        config: Options of the strategy.
        scenario_config: Options of the scenario.
        log: Names of loggers, as for ``--log``: csv, tensorboard, wandb, mlflow.
        callbacks: Called with each event of the run (`clgym.messages`), in this process.
        **options: The other fields of `clgym.gym.request.Request`: ``source, seed, order_seed,
            device, threads, engine, sandbox, timeout_minutes, out, data_root, plugins,
            checkpoint_minutes, evaluate_every`` and others; paths may be text.

    Raises:
        ClgymError: The request is invalid, or the strategy failed.
    """
    check_arguments(options, Request, "clgym.run")
    for name in options.keys() & {"out", "data_root"}:
        options[name] = options[name] and Path(options[name])
    plugins = tuple(Path(p) for p in options.get("plugins", ()))
    strategy, plugins = registry.named_file("strategies", name_of(strategy), plugins)
    scenario, plugins = registry.named_file("scenarios", name_of(scenario), plugins)
    options["source"], options["plugins"] = registry.named_source(options.get("source"), plugins)
    request = Request(
        strategy,
        scenario,
        strategy_config=config or {},
        scenario_config=scenario_config or {},
        **options,
    )
    with listening(log, callbacks) as listen:
        return _run(request, listen)


def make_scenario(
    name: str,
    *,
    data_root: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    **options: Any,
) -> Stream:
    """Create a stream: ``make_scenario("split-digits", increments=[5])``.

    Args:
        name: A name of ``clgym list scenarios``, or a file.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.
        plugins: Files that hold the scenario or its source, if these are given by name.
        **options: ``source``, ``order_seed`` and the options of the scenario.

    Raises:
        ClgymError: The options do not fit the source, or data are missing.
    """
    source, seed = options.pop("source", None), options.pop("order_seed", None)
    name, files = registry.named_file("scenarios", name_of(name), tuple(map(Path, plugins)))
    source, files = registry.named_source(source, files)
    asked = Request("", name, source, {}, options, order_seed=seed, data_root=_folder(data_root))
    return make_stream(replace(asked, plugins=files))


def make_strategy(name: str, *, stream: Stream | None = None, **config: Any) -> Any:
    """Create a `clgym.strategy.Strategy` in this process: ``make_strategy("nmc")``.

    Args:
        name: A name of ``clgym list strategies``, or a file.
        stream: The stream that it will learn, whose preset gives options such as ``network`` and
            ``memory_size`` as in ``clgym run``; without it the strategy's own defaults hold.
        **config: Options of the strategy.

    Raises:
        ClgymError: The name is unknown, or an option is not valid.
    """
    from clgym.learner import assembly

    name, plugins = registry.named_file("strategies", name, ())
    files = [str(path) for path in plugins]
    if stream is not None:
        fields = assembly.config_fields(assembly.strategy_class(name, files), config, files)
        config = {**preset_values(fields, stream.preset), **config}
    return assembly.make_strategy(name, config, files)


def register_strategy(cls: type) -> type:
    """Register a strategy class under its name (``MyMethod``: ``my-method``).

    It can be used as a decorator. The class must be at the top level of a file. Workers import that
    file, so code in it that starts a run must be below ``if __name__ == "__main__":``.

    Raises:
        BadPlugin: The class is not defined in a file.
        DuplicateName: Its name is taken; raised when a name is looked up.
    """
    registry.register("strategies", cls)
    return cls


def load(folder: str | Path, device: str = "cpu", plugins: Sequence[str | Path] = ()) -> Any:
    """Load the trained classifier of a finished run, as a `clgym.learner.trained.Trained`.

    Args:
        folder: Output folder of the run.
        device: Device of the classifier.
        plugins: The file of its strategy, if that is not installed.

    Raises:
        BadRecord: The folder holds no record of a finished run.
    """
    from clgym.learner.trained import Trained

    return Trained.load(Path(folder), device, tuple(Path(p) for p in plugins))


def records(*paths: Folders) -> Records:
    """Return the records of runs, folders of runs and studies.

    Args:
        *paths: Output folders of `clgym run` or `clgym evaluate`, or folders that hold several.

    Raises:
        BadRecord: There is no finished run.
    """
    from clgym.board.reading.found import load_runs

    methods = load_runs(folders_of(paths))
    return Records(run.record for method in methods for run in method.runs)


def _folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def table(
    *paths: Folders,
    rows: "Axis" = "strategy",
    measures: Sequence[str] = (),
    spread: "Spread" = "std",
) -> "SummaryTable":
    """Make the table of a paper; see `clgym table`.

    Args:
        *paths: Output folders, as for `records`.
        rows: Axis of the rows, ``strategy`` or ``scenario``; the other one gives the columns.
        measures: Names of measures; none means last, average, forgetting and error where there are
            any.
        spread: ``std``, or ``ci95`` for the half-width of the interval of the mean.

    Returns:
        The table, which `SummaryTable.render` writes as text.

    Raises:
        ClgymError: Records cannot be used, or a measure is unknown.
    """
    from clgym.board.reading.found import load_runs
    from clgym.board.summary.table import summarize

    return summarize(load_runs(folders_of(paths)), rows, names_of(measures), spread)


def compare(*sides: str | Path, measure: str | None = None) -> "Comparison | Ranking":
    """Compare two sides by paired tests, or three or more by their ranks; see `clgym compare`.

    Args:
        *sides: Folders of runs, of runs over seeds, or of studies.
        measure: Name of the measure by which three sides or more are ranked.

    Raises:
        BadRecord: The sides cannot be paired.
        BadConfig: A side is a list.
    """
    from clgym.board.summary.sides import compare_all

    if len(sides) > 1 and any(isinstance(side, (list, tuple)) for side in sides):
        raise BadConfig(
            expected="one folder for each side, which may hold runs over seeds",
            found="a list for a side",
            fix="Put the runs of a side into one folder, as `clgym run --seeds` does",
        )
    return compare_all(folders_of(sides), measure)


def plot(
    *paths: Folders,
    kinds: Sequence[str] = (),
    size: str | None = None,
    font_size: float | None = None,
    labels: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
) -> "list[Figure]":
    """Draw figures of runs and studies; see `clgym plot`.

    Args:
        *paths: Output folders, as for `records`.
        kinds: Names of figures; none means all that the records allow.
        size: ``single-column``, ``double-column`` or ``WxH`` in inches.
        font_size: Font size in points.
        labels: New names of methods, by old name.
        order: Names of the methods that come first.

    Returns:
        Matplotlib figures; `clgym.board.figures.drawing.save` writes one with the same bytes for
        the same data.

    Raises:
        ClgymError: The records cannot be drawn, or a kind is unknown.
    """
    from clgym.board.figures.canvas import FigureStyle, drawn_in
    from clgym.board.figures.plots import draw
    from clgym.board.reading.found import arranged, load_checked_runs

    style = FigureStyle.parse(size, font_size)
    methods = arranged(load_checked_runs(folders_of(paths)), labels or {}, order)
    with drawn_in(style):
        return [made.draw() for made in draw(methods, names_of(kinds))]


def tune(
    strategy: str,
    pair: str,
    *,
    out: str | Path,
    config: Mapping[str, Any] | None = None,
    workers: int = 1,
    devices: Sequence[str] = ("cpu",),
    data_root: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    retry_failed: bool = False,
    **options: Any,
) -> "Certificate":
    """Choose a strategy's hyper-parameters on the tuning side of a pair; see `clgym tune`.

    Args:
        strategy: A name of ``clgym list strategies``, or a file.
        pair: Name of a preset pair.
        out: Folder of the study; the same call continues an interrupted one.
        config: Options of the strategy that are fixed.
        workers: Number of parallel runs.
        devices: Devices, assigned to the workers in turn.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.
        plugins: Files that hold strategies.
        retry_failed: Whether to repeat the failed runs of an unfinished study.
        **options: The other fields of `clgym.protocol.planning.StudySpec`: ``trials, seeds, mode,
            criterion, score_on, space, sampler, pruner, ...``.

    Raises:
        ClgymError: The study cannot be carried out.
    """
    from clgym.engines.pool import PoolSpec
    from clgym.protocol import study as studies
    from clgym.protocol.pairs import find_pair
    from clgym.protocol.runs import ExecutionOptions

    check_arguments(options, studies.StudySpec, "clgym.tune")
    name, files = registry.named_file("strategies", name_of(strategy), tuple(map(Path, plugins)))
    if options.get("seeds") is not None:
        options["seeds"] = tuple(options["seeds"])
    asked = studies.StudySpec(name, find_pair(pair), config or {}, **options)
    pool = PoolSpec(workers=workers, devices=tuple(devices))
    where = ExecutionOptions(Path(out), pool, _folder(data_root), files)
    return studies.tune(asked, where, retry_failed=retry_failed)


def evaluate(
    study: str | Path,
    *,
    workers: int = 1,
    devices: Sequence[str] = ("cpu",),
    data_root: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    again: bool = False,
) -> "Evaluation":
    """Run the hyper-parameters of a sealed study on the evaluation side; see `clgym evaluate`.

    Args:
        study: Folder of a sealed study.
        workers: Number of parallel runs.
        devices: Devices, assigned to the workers in turn.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.
        plugins: Files that hold the strategy; none means those used in tuning.
        again: Whether to begin a further evaluation, which is counted.

    Raises:
        ClgymError: The study is not sealed, was changed, or was evaluated before.
    """
    from clgym.engines.pool import PoolSpec
    from clgym.protocol import evaluation

    pool = PoolSpec(workers=workers, devices=tuple(devices))
    root, files = _folder(data_root), tuple(map(Path, plugins))
    return evaluation.evaluate(Path(study), pool, root, files, again)


def verify(
    path: str | Path,
    *,
    rerun: "int | Literal['all']" = 0,
    data_root: str | Path | None = None,
    plugins: Sequence[str | Path] = (),
    head: str | None = None,
) -> "Audit":
    """Audit a record, a certificate, an evaluation or a study; see `clgym verify`.

    Args:
        path: A file or a folder.
        rerun: Number of evaluation runs to repeat and compare, beside which two runs of the tuning
            are repeated; or ``all`` of both.
        data_root: Data root; None means ``CLGYM_DATA``, else the user's data folder.
        plugins: Files that hold the strategy.
        head: Published head of the ledger.

    Returns:
        The audit, whose ``problems`` are empty if every check holds.

    Raises:
        BadRecord: There is nothing at ``path`` that can be audited.
    """
    from clgym.protocol import verify as protocol_verify
    from clgym.protocol.against_source import compare_with_sources

    root, files = _folder(data_root), tuple(map(Path, plugins))
    audit = protocol_verify.verify(Path(path), rerun, root, files, head)
    if not audit.problems:
        compare_with_sources(audit, root, files)
    return audit
