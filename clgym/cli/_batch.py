"""Several runs at once: ``clgym run A B C SCENARIO --seeds 0..4 --order-seeds 0..4 --workers 2``.

Each strategy is parsed as if it were named alone, so an option must be one that all of them have.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clgym.cli._parser import BadUsage, Several
from clgym.cli._pools import add_workers, workers_of
from clgym.errors import UnknownName

if TYPE_CHECKING:
    from clgym.engines import Channel
    from clgym.engines.pool import PoolSpec
    from clgym.gym.plan import ResolvedRun
    from clgym.gym.request import Request

__all__ = [
    "PlannedRun",
    "add_batch_options",
    "execute",
    "folder_name",
    "is_batch",
    "paired",
    "plan_run",
    "run_batch_command",
    "threads_of",
]

_WORDS = ("--order-seeds", "--workers", "--workers-per-device", "--devices")
"""Options that make a command with a single strategy a batch."""


@dataclass(frozen=True)
class PlannedRun:
    """A checked run of a batch."""

    key: str
    """Name of the run's folder inside the batch's folder, which messages show, too."""
    request: "Request"
    """The run, whose output folder is fixed."""
    finished: bool
    """Whether its record exists already."""


class ParsedRun(Protocol):
    """The command line of one strategy, as `clgym.cli.run` parses it."""

    values: argparse.Namespace
    describer: "Channel | None"

    def requests(self) -> "list[Request]":
        """One request per seed."""
        ...

    def idle(self, request: "Request") -> list[str]:
        """Options given for the strategy that only the scenario has."""
        ...

    def close(self) -> None:
        """End the describing process."""
        ...


def add_batch_options(
    run: argparse._ArgumentGroup, seeds_of: Callable[[list[str]], object]
) -> None:
    """Add the options of a batch to the parser of `clgym run`."""
    run.add_argument(
        "--order-seeds",
        action=Several,
        convert=seeds_of,
        metavar="A..B",
        help="Seeds of the class orders, one for each of --seeds: the first seed runs with the "
        "first order, and so on.",
    )
    add_workers(
        run,
        "Number of parallel runs, each with one thread unless --threads says otherwise. "
        "(default: one per device)",
    )
    run.add_argument(
        "--devices",
        action=Several,
        default=[],
        metavar="DEVICE",
        help="Devices, assigned to the workers in turn: cuda:0,cuda:1. (default: --device)",
    )


def is_batch(names: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a command line asks for several strategies, paired orders or parallel runs."""
    return len(names) > 2 or any(word.partition("=")[0] in _WORDS for word in words)


def paired(seeds: Sequence[int], orders: Sequence[int] | None) -> list[tuple[int, int | None]]:
    """Each seed with its order seed.

    Raises:
        BadUsage: There are not as many orders as seeds.
    """
    if orders is None:
        return [(seed, None) for seed in seeds]
    if len(orders) != len(seeds):
        raise BadUsage(
            expected="as many order seeds as seeds",
            found=f"{len(seeds)} seeds and {len(orders)} order seeds",
            fix="Give --seeds and --order-seeds of the same length, such as 0..4 and 0..4",
        )
    return list(zip(seeds, orders, strict=True))


def run_batch_command(names: Sequence[str], parse: "Callable[[str], ParsedRun]") -> int:
    """Carry out a batch of named strategies.

    Args:
        names: Strategies, then the scenario.
        parse: Parses the command line for one of the strategies.
    """
    *strategies, scenario = names
    if len(set(strategies)) < len(strategies):
        raise BadUsage(
            expected="each strategy once",
            found=" ".join(strategies),
            fix="Use `clgym run --experiment FILE.toml` to run one strategy with several sets of "
            "options",
        )
    planned: list[PlannedRun] = []
    values = argparse.Namespace()
    for number, strategy in enumerate(strategies):
        with _parsed(strategies, number, parse) as asked:
            values = asked.values
            if values.log:
                raise BadUsage(
                    expected="--log only with one strategy whose runs follow one another",
                    found=f"--log {' '.join(values.log)} for parallel runs",
                    fix="Leave out --log, or --workers, --devices, --order-seeds and all "
                    "strategies but one",
                )
            if len(strategies) > 1 and (idle := asked.idle(asked.requests()[0])):
                raise _lacking(strategies, number, f"--{idle[0].replace('_', '-')}")
            folder = Path(folder_name(strategy)) if len(strategies) > 1 else Path()
            planned += _planned(asked, folder)
    return execute(planned, _pool(values), scenario, as_json=values.json, dry_run=values.dry_run)


@contextlib.contextmanager
def _parsed(
    strategies: Sequence[str], number: int, parse: "Callable[[str], ParsedRun]"
) -> "Iterator[ParsedRun]":
    """The command line of one strategy; an option that it lacks is refused by name."""
    try:
        asked = parse(strategies[number])
    except UnknownName as error:
        if number == 0:
            raise
        raise _lacking(strategies, number, error.found) from error
    with contextlib.closing(asked):
        yield asked


def _lacking(strategies: Sequence[str], number: int, option: str) -> UnknownName:
    return UnknownName(
        expected=f"options that all of {', '.join(strategies)} have",
        found=f"{option}, which {strategies[number]} does not have",
        fix="Leave it out, or give each strategy its own options in an --experiment file",
    )


def folder_name(strategy: str) -> str:
    """Return a strategy's name in a form that can be the name of a folder."""
    return Path(strategy.partition(".py")[0]).name.replace(":", "-")


def _planned(asked: "ParsedRun", folder: Path) -> list[PlannedRun]:
    """The runs of one strategy, checked before any of the batch starts."""
    values = asked.values
    requests = asked.requests()
    if values.order_seeds is not None:
        if values.seeds is None or values.order_seed is not None:
            raise BadUsage(
                expected="--order-seeds with --seeds, and without --order-seed",
                found="--order-seed" if values.order_seed is not None else "no --seeds",
                fix="Give both lists: --seeds 0..4 --order-seeds 0..4",
            )
        pairs = paired(values.seeds, values.order_seeds)
        requests = [
            replace(request, order_seed=order)
            for request, (_, order) in zip(requests, pairs, strict=True)
        ]
    found = []
    for request in requests:
        place = folder / f"seed-{request.seed}"
        out = values.out / place if values.out else None
        threads = threads_of(request.threads, _pool(values))
        request = replace(request, out=out, threads=threads)
        found.append(plan_run(str(place), request, asked.describer))
    return found


def plan_run(key: str, request: "Request", describer: "Channel | None") -> PlannedRun:
    """Check a run; nothing is written.

    Raises:
        ClgymError: The run cannot be carried out; the subclass says why.
    """
    from clgym.gym.folder import check_available
    from clgym.gym.plan import resolve

    resolved: ResolvedRun = resolve(request, describer)
    finished = check_available(resolved) is not None
    return PlannedRun(key, replace(request, out=resolved.out), finished)


def threads_of(asked: int | None, pool: "PoolSpec") -> int | None:
    """Number of torch threads of a run: parallel runs must not each use all cores."""
    shared = pool.workers > 1 and "OMP_NUM_THREADS" not in os.environ
    return 1 if asked is None and shared else asked


def _pool(values: argparse.Namespace) -> "PoolSpec":
    from clgym.engines.pool import PoolSpec

    devices = tuple(values.devices or [values.device])
    return PoolSpec(values.engine, workers_of(values, len(devices)), devices)


def execute(
    planned: Sequence[PlannedRun], pool: "PoolSpec", title: str, *, as_json: bool, dry_run: bool
) -> int:
    """Carry out the unfinished runs, and print a table of all runs.

    Returns:
        1 if a run failed, 130 if it was interrupted, else 0.
    """
    if dry_run:
        return _show_plan(planned, as_json)
    from clgym.cli._console import Console
    from clgym.cli._trials import watch_trials
    from clgym.protocol.batch import run_batch

    todo = {_distinct(run, planned): run.request for run in planned if not run.finished}
    done, stderr = len(planned) - len(todo), Console(stderr=True)
    if done:
        stderr.print(f"{done} of {len(planned)} runs were already finished", highlight=False)
    failed: Mapping[str, Exception] = {}
    try:
        if todo:
            with watch_trials(stderr) as show:
                show({"kind": "runs", "title": title, "total": len(todo)})
                failed = run_batch(todo, pool, show, keep_state=True)
    except KeyboardInterrupt:
        words = "interrupted; the same command continues from the last save"
        print(words, file=sys.stderr)
        return 130
    _show_results(planned, as_json)
    for key, error in failed.items():
        stderr.print(f"failed: {key}: {error}", highlight=False, markup=False, soft_wrap=True)
    return 1 if failed else 0


def _distinct(run: PlannedRun, planned: Sequence[PlannedRun]) -> str:
    """Readable name of a run: its place among the seeds of its strategy."""
    group = Path(run.key).parent
    siblings = [other.key for other in planned if Path(other.key).parent == group]
    place = f"seed {siblings.index(run.key) + 1} of {len(siblings)}"
    return place if group == Path() else f"{group}, {place}"


def _show_plan(planned: Sequence[PlannedRun], as_json: bool) -> int:
    rows = [
        {
            "run": run.key,
            "strategy": run.request.strategy,
            "scenario": run.request.scenario,
            "seed": run.request.seed,
            "order_seed": run.request.order_seed,
            "out": str(run.request.out),
            "finished": run.finished,
        }
        for run in planned
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        order = "the preset's order" if row["order_seed"] is None else f"order {row['order_seed']}"
        state = "finished" if row["finished"] else "to run"
        names = f"{row['strategy']} on {row['scenario']}"
        print(f"{names}, seed {row['seed']}, {order}: {state}, {row['out']}")
    return 0


def _show_results(planned: Sequence[PlannedRun], as_json: bool) -> None:
    from clgym.board.reading.found import load_runs
    from clgym.board.summary.table import summarize
    from clgym.results.layout import is_run

    outs = [run.request.out for run in planned if run.request.out and is_run(run.request.out)]
    if as_json:
        from clgym.results.stored import open_run

        records = [open_run(out).record.model_dump(mode="json") for out in outs]
        print(json.dumps(records, indent=1))
    elif outs:
        from clgym.cli.table import show_table

        show_table(summarize(load_runs(outs)))
        for folder in dict.fromkeys(out.parent for out in outs):
            print(f"records: {folder}")
