"""The public functions: the same in Python as on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clgym import registry
from clgym.check import check_scenario, check_source, check_strategy
from clgym.gym.conversation import OnEvent
from clgym.gym.loggers import listening
from clgym.gym.request import Request, make_stream
from clgym.gym.run import run as _run
from clgym.results.record import Record
from clgym.scenario import Stream

__all__ = [
    "check_scenario",
    "check_source",
    "check_strategy",
    "load",
    "make_scenario",
    "make_strategy",
    "register_strategy",
    "run",
]


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
        config: The strategy's options.
        scenario_config: The scenario's options.
        log: Names of loggers, as for ``--log``: csv, tensorboard, wandb, mlflow.
        callbacks: Called with each event of the run (`clgym.messages`), in this process.
        **options: The other fields of `clgym.gym.request.Request`: ``source, seed, order_seed,
            device, threads, engine, sandbox, timeout_minutes, out, data_root, plugins,
            checkpoint_minutes``; paths may be text.

    Raises:
        ClgymError: the request is invalid, or the strategy failed.
    """
    for name in options.keys() & {"out", "data_root"}:
        options[name] = options[name] and Path(options[name])
    plugins = tuple(Path(p) for p in options.get("plugins", ()))
    strategy, plugins = registry.named_file("strategies", strategy, plugins)
    scenario, options["plugins"] = registry.named_file("scenarios", scenario, plugins)
    request = Request(
        strategy,
        scenario,
        strategy_config=config or {},
        scenario_config=scenario_config or {},
        **options,
    )
    with listening(log, callbacks) as listen:
        return _run(request, listen)


def make_scenario(name: str, *, data_root: Path | None = None, **options: Any) -> Stream:
    """Create a stream: ``make_scenario("split-digits", increments=[5])``.

    Args:
        name: A name of ``clgym list scenarios``, or a file.
        data_root: Where the data lie; None means ``CLGYM_DATA``.
        **options: ``source``, ``order_seed`` and the scenario's own options.

    Raises:
        ClgymError: the options do not fit, or data are missing.
    """
    source, seed = options.pop("source", None), options.pop("order_seed", None)
    name, plugins = registry.named_file("scenarios", name, ())
    asked = Request("", name, source, {}, options, order_seed=seed, data_root=data_root)
    return make_stream(replace(asked, plugins=plugins))


def make_strategy(name: str, **config: Any) -> Any:
    """Create a `clgym.strategy.Strategy` in this process: ``make_strategy("nmc")``.

    ``name`` is a name of ``clgym list strategies``, or a file.

    Raises:
        ClgymError: an unknown name or a bad option.
    """
    from clgym.learner import assembly

    name, plugins = registry.named_file("strategies", name, ())
    return assembly.make_strategy(name, config, [str(path) for path in plugins])


def register_strategy(cls: type) -> type:
    """Register a strategy class under its name (``MyMethod``: ``my-method``).

    Also a decorator. The class must stand at the top level of a file: workers import that file, so
    what starts a run there must be below ``if __name__ == "__main__":``.

    Raises:
        BadPlugin: it stands in no file.
        DuplicateName: its name is taken; raised when a name is looked up.
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
        BadRecord: the folder holds no record of a finished run.
    """
    from clgym.learner.trained import Trained

    return Trained.load(Path(folder), device, tuple(Path(p) for p in plugins))
