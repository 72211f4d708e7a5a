"""Run a list of runs from a TOML file; finished ones are not repeated.

::

    [defaults]                   # for every run that does not say otherwise
    scenario = "split-digits"
    seeds = "0..2"
    order_seeds = "0..2"

    [[runs]]
    strategy = "replay"
    options = { memory_size = 50 }

    [[runs]]
    name = "replay-large"        # folder of the run (default: the strategy's name)
    strategy = "replay"
    options = { memory_size = 500 }
"""

import argparse
import contextlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clgym import registry
from clgym.cli._batch import PlannedRun, execute, folder_name, paired, plan_run, threads_of
from clgym.cli._parser import BadUsage, Parser
from clgym.cli._pools import add_pool_flags, pool_of
from clgym.errors import BadConfig, UnknownName, near

if TYPE_CHECKING:
    from clgym.engines import Channel
    from clgym.gym.request import Request

__all__ = ["run_experiment"]

OPTION = "--experiment"
_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "strategy": str,
    "scenario": str,
    "source": str,
    "seeds": (str, list, int),
    "order_seeds": (str, list, int),
    "threads": int,
    "options": dict,
    "scenario_options": dict,
}
"""Keys of a run in the file, with the types of their values."""


def run_experiment(words: Sequence[str], seeds_of: Callable[[list[str]], list[int]]) -> int:
    """Carry out the runs of a file."""
    parser = _parser()
    if not {"-h", "--help"}.isdisjoint(words):  # before argparse asks for the file
        parser.print_help()
        return 0
    values = parser.parse(words)
    runs = _read(values.experiment)
    out = values.out or Path("runs") / values.experiment.stem
    pool = pool_of(values)
    if pool.engine not in ("process", "inline"):
        raise BadUsage(
            expected="--engine process or inline for an experiment",
            found=pool.engine,
            fix="Leave out --engine",
        )
    planned: list[PlannedRun] = []
    with contextlib.ExitStack() as stack:
        describers: dict[object, Channel] = {}
        for name, run in runs.items():
            for request in _requests(run, values, seeds_of, out / name):
                describer = _describer(request, describers, stack)
                planned.append(plan_run(f"{name}/seed-{request.seed}", request, describer))
    return execute(planned, pool, out.name, as_json=values.json, dry_run=values.dry_run)


def _parser() -> Parser:
    parser = Parser(f"clgym run {OPTION} FILE", __doc__)
    parser.add_argument(
        OPTION, type=Path, required=True, metavar="FILE", help="TOML file with the runs."
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="Output folder. (default: runs/ and FILE's name)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="Check everything, list the runs, run nothing."
    )
    add_pool_flags(parser)
    return parser


# Any: what a TOML file holds; types are checked here.
def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Runs by name, each with the defaults filled in.

    Raises:
        BadConfig: The file is no TOML file, or its runs are incomplete or share a name.
        UnknownName: A key has no meaning.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise _refused(path, "a TOML file", str(reason)) from error
    for key in content.keys() - {"defaults", "runs"}:
        raise _unknown(path, key, ("defaults", "runs"), "the table defaults and the list runs")
    defaults, runs = content.get("defaults", {}), content.get("runs", [])
    if not isinstance(defaults, dict) or not isinstance(runs, list) or not runs:
        raise _refused(path, "one or more [[runs]]", "none" if runs == [] else "something else")
    found: dict[str, dict[str, Any]] = {}  # as TOML has it
    for number, own in enumerate(runs, 1):
        if not isinstance(own, dict):
            raise _refused(path, "tables in the list runs", repr(own))
        run = _checked(path, number, {**defaults, **own})
        name = run.get("name") or folder_name(run["strategy"])
        if not name or name in found or "/" in name or name.startswith("."):
            raise _refused(
                path,
                "a different name for each run, which can be that of a folder",
                f"{name!r} for run {number}",
            )
        found[name] = run
    return found


# Any: what a TOML file holds.
def _checked(path: Path, number: int, run: dict[str, Any]) -> dict[str, Any]:
    for key, value in run.items():
        if key not in _KEYS:
            raise _unknown(path, key, _KEYS, f"keys of a run ({', '.join(_KEYS)})")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            kind = type(value).__name__
            raise _refused(path, f"a {_described(key)} for {key} of run {number}", kind)
    for key in ("strategy", "scenario"):
        if key not in run:
            raise _refused(path, f"a {key} for run {number}", "none")
    return run


def _described(key: str) -> str:
    kinds = _KEYS[key]
    names = {str: "text", int: "number", dict: "table", list: "list"}
    return " or ".join(names[kind] for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))


def _refused(path: Path, expected: str, found: str) -> BadConfig:
    return BadConfig(
        expected=f"{expected} in {path}",
        found=found,
        fix="`clgym run --experiment FILE --help` shows an example",
    )


def _unknown(path: Path, key: str, known: "Mapping[str, Any] | tuple", what: str) -> UnknownName:
    return UnknownName(
        expected=f"{what} in {path}", found=repr(key), fix=f"{near(key, known)}Rename it"
    )


def _requests(
    run: Mapping[str, Any],
    values: argparse.Namespace,
    seeds_of: Callable[[list[str]], list[int]],
    out: Path,
) -> "list[Request]":
    """One request per seed."""
    from clgym.gym.request import Request

    seeds = _seeds(run.get("seeds", [0]), seeds_of)
    orders = run.get("order_seeds")
    pairs = paired(seeds, None if orders is None else _seeds(orders, seeds_of))
    plugins = tuple(values.plugin)
    strategy, plugins = registry.named_file("strategies", run["strategy"], plugins)
    scenario, plugins = registry.named_file("scenarios", run["scenario"], plugins)
    source, plugins = registry.named_source(run.get("source"), plugins)
    pool = pool_of(values)
    return [
        Request(
            strategy,
            scenario,
            source,
            _keys(run.get("options", {})),
            _keys(run.get("scenario_options", {})),
            seed=seed,
            order_seed=order,
            device=pool.devices[0],
            threads=threads_of(run.get("threads"), pool),
            engine="inline" if pool.engine == "inline" else "process",
            sandbox=values.sandbox,
            out=out / f"seed-{seed}",
            data_root=values.data_root,
            plugins=plugins,
        )
        for seed, order in pairs
    ]


def _seeds(value: object, seeds_of: Callable[[list[str]], list[int]]) -> list[int]:
    """Seeds from ``"0..4"``, a number or a list of numbers."""
    words = value if isinstance(value, list) else [value]
    try:
        return seeds_of([part for word in words for part in str(word).replace(",", " ").split()])
    except argparse.ArgumentTypeError as error:
        raise BadConfig(
            expected='seeds, such as "0..4" or [0, 1, 2]',
            found=str(error),
            fix="Correct the file",
        ) from error


# Any: options, of any type.
def _keys(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in options.items()}


def _describer(
    request: "Request", describers: "dict[object, Channel]", stack: contextlib.ExitStack
) -> "Channel":
    """Process that reports a strategy's options and needs; one for each strategy."""
    from clgym.gym.description import open_learner

    key = request.strategy, repr(sorted(request.strategy_config.items()))
    if key not in describers:
        describers[key] = open_learner(request)
        stack.callback(describers[key].close)
    return describers[key]
