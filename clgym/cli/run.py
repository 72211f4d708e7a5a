"""Run a strategy on a scenario, or continue an interrupted run.

Name the strategy and the scenario first, then options; a file of your own goes
by its path, FILE.py or FILE.py:CLASS. `clgym run STRATEGY SCENARIO --help`
lists the options of that pairing. An option on the command line overrides
--config, which overrides the scenario's preset, which overrides the defaults.
The same command given again continues an interrupted run.

Several strategies may be named before the scenario: `clgym run A B C SCENARIO
--seeds 0..4 --workers 2`. `clgym run --experiment FILE.toml` carries out a list
of runs; `clgym run --experiment --help` shows an example.
"""

import argparse
import contextlib
import itertools
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clgym import registry
from clgym.cli._batch import add_batch_options, is_batch, run_batch_command
from clgym.cli._chain import Chain, chained, short_options, spelled_out
from clgym.cli._experiment import OPTION, run_experiment
from clgym.cli._flags import add_flags, as_text, given, minutes
from clgym.cli._numerics import add_numerics
from clgym.cli._parser import BadUsage, Parser, Several, add_plugin_option
from clgym.cli._pools import add_sandbox_flag
from clgym.errors import BadConfig, UnknownName, near

if TYPE_CHECKING:
    from clgym.config import Field
    from clgym.engines import Channel
    from clgym.gym.request import Request
    from clgym.messages import Event
    from clgym.results.record import Record

__all__ = ["main", "run_options", "seeds_of"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym run``."""
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    if any(word.partition("=")[0] == OPTION for word in words):
        return run_experiment(words, seeds_of)
    options = words[len(names) :]
    wants_help = not {"-h", "--help"}.isdisjoint(options)
    if len(names) > 1 and is_batch(names, options) and not wants_help:
        return run_batch_command(
            names, lambda strategy: _RunCommand([strategy, names[-1]], options)
        )
    if len(names) > 2:
        names = [names[0], names[-1]]
    with contextlib.closing(_RunCommand(names, options)) as asked:
        return _carry_out(asked)


def _carry_out(asked: "_RunCommand") -> int:
    names = asked.names
    if asked.values.help:
        asked.parser.print_help()
        return 0
    values, requests = asked.values, asked.requests()
    for option in asked.idle(requests[0]):
        print(
            f"note: {names[0]} has no option {option}; that of {names[1]} changes nothing",
            file=sys.stderr,
        )
    several = values.seeds is not None
    if values.dry_run:
        return _show_plans(asked, values.json, several)
    try:
        return _run_all(asked, values.json, several, values.log)
    except KeyboardInterrupt:
        print(
            "interrupted; the same command continues from the last save",
            file=sys.stderr,
        )
        return 130


class _RunCommand:
    """A command line, parsed in two passes: the second knows the options of the pairing.

    Attributes:
        describer: Process that reports the strategy's options and needs, for all runs of the
            command; None where no strategy is named.
    """

    describer: "Channel | None" = None

    def __init__(self, names: Sequence[str], words: Sequence[str]) -> None:
        self._find(chained(names, words))
        if names and (short := short_options(words)):
            fields = self._strategy_options()
            own = {name for name in short for f in fields if f.name.rpartition(".")[2] == name}
            self._find(chained(names, spelled_out(words, own)))
        self.strategy_fields, self.scenario_fields = self._fields()
        self.values = self.parser.parse(self._words)

    def _find(self, chain: Chain) -> None:
        """Find what is named; whatever is wrong here is said before a worker is asked."""
        names, self._words, self._aliases = list(chain.names), chain.words, chain.aliases
        self.parser = _parser(names)
        self._early, _ = self.parser.parse_known_args(self._words)
        self.plugins = tuple(self._early.plugin)
        kinds: tuple[registry.Kind, ...] = ("strategies", "scenarios")
        for place, kind in enumerate(kinds[: len(names)]):
            names[place], self.plugins = registry.named_file(kind, names[place], self.plugins)
            registry.find(kind, names[place], self.plugins)
        if len(names) < 2 and not self._early.help:
            raise BadUsage(
                expected="`clgym run STRATEGY SCENARIO [options]`, the two names first",
                found=f"clgym run {' '.join([*names, *self._words])}".rstrip(),
                fix="`clgym list` shows the names",
            )
        self.names = names
        self.file = _read_config(self._early.config)

    def close(self) -> None:
        """End the describing process."""
        if self.describer is not None:
            self.describer.close()

    def _strategy_options(self) -> list["Field"]:
        """Request the options of the strategy, and of those that it wraps."""
        from clgym.gym.description import ask_options, open_learner
        from clgym.gym.request import Request

        known = self.file["strategy"] | _loosely(self._words)
        request = Request(
            self.names[0],
            "",
            strategy_config=known,
            plugins=self.plugins,
            sandbox=self._early.sandbox,
            data_root=self._early.data_root,
        )
        self.describer = self.describer or open_learner(request)
        entry = registry.find("strategies", self.names[0], self.plugins)
        return ask_options(entry, self.plugins, self.describer, known).fields

    def _fields(self) -> tuple[list["Field"], list["Field"]]:
        """Request the options of both, and add them to the parser."""
        if not self.names:
            return [], []
        from clgym.gym.request import preset_values, scenario_fields

        own = {action.dest for action in self.parser._actions}
        strategy = self._strategy_options()
        scenario = []
        if len(self.names) > 1:
            scenario = [
                f for f in scenario_fields(self.names[1], self.plugins) if f.name not in own
            ]
        presets = preset_values(strategy, {f.name: f.default for f in scenario})
        notes = {n: f"default: {as_text(v)}, from the scenario" for n, v in presets.items()}
        title = f"options of {self.names[0]}"
        add_flags(self.parser, title, strategy, "strategy", own, notes, self._aliases)
        taken = own | {name for f in strategy for name in (f.name, *self._aliases(f.name))}
        add_flags(self.parser, f"options of {self.names[-1]}", scenario, "scenario", taken)
        return strategy, scenario

    def idle(self, request: "Request") -> list[str]:
        """Options meant for the strategy that only the scenario has."""
        from clgym.gym.request import FROM_PRESET

        own = {field.name.rpartition(".")[2] for field in self.strategy_fields}
        return [name for name in FROM_PRESET if name in request.scenario_config.keys() - own]

    def requests(self) -> list["Request"]:
        """One request per seed."""
        from clgym.gym.request import Request

        values, file = self.values, self.file
        several = values.seeds is not None
        return [
            Request(
                strategy=self.names[0],
                scenario=self.names[1],
                source=values.source,
                strategy_config=file["strategy"] | given(values, "strategy", self.strategy_fields),
                scenario_config=file["scenario"] | given(values, "scenario", self.scenario_fields),
                seed=seed,
                order_seed=values.order_seed,
                device=values.device,
                threads=values.threads,
                arithmetic=values.arithmetic,
                channels_last=values.channels_last,
                compile=values.compile,
                eval_batch=values.eval_batch,
                engine=values.engine,
                sandbox=values.sandbox,
                timeout_minutes=values.timeout,
                out=values.out / f"seed-{seed}" if values.out and several else values.out,
                data_root=values.data_root,
                plugins=self.plugins,
                checkpoint_minutes=values.checkpoint_minutes,
                reference=values.reference,
            )
            for seed in (values.seeds if several else [values.seed])
        ]


def run_options() -> set[str]:
    """Names of the run's own options; a plugin's option of such a name gets a prefix."""
    return {action.dest for action in _parser([])._actions}


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Each ``--option`` with the word after it, before any option is known."""
    split = [part for word in words for part in (word.split("=", 1) if "=" in word else [word])]
    return {
        option[2:]: value
        for option, value in itertools.pairwise(split)
        if option.startswith("--") and not value.startswith("--")
    }


def _parser(names: Sequence[str]) -> Parser:
    parser = Parser(
        " ".join(["clgym run", *names]),
        __doc__,
        usage=" ".join(["clgym run", *(names or ["STRATEGY"])])
        + (" [options]" if len(names) == 2 else " SCENARIO [options]"),
        add_help=False,
    )
    run = parser.add_argument_group("options of the run")
    run.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    run.add_argument(
        "--source", metavar="NAME", help="Source of the images. (default: the preset's)"
    )
    _add_seeds(run)
    _add_places(run)
    _add_execution(run)
    add_numerics(run)
    run.add_argument(
        "--dry-run", action="store_true", help="Check the options, show the plan, run nothing."
    )
    run.add_argument("--json", action="store_true", help="Print only the record, as JSON.")
    return parser


def _add_seeds(run: argparse._ArgumentGroup) -> None:
    seeds = run.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed", type=int, default=0, metavar="N", help="Seed of the learner. (default: 0)"
    )
    seeds.add_argument(
        "--seeds",
        action=Several,
        convert=seeds_of,
        metavar="A..B",
        help="One run per seed: 0..4 (both ends), or a list.",
    )
    run.add_argument(
        "--order-seed",
        type=int,
        metavar="N",
        help="Seed of the class order. (default: the preset's order)",
    )
    add_batch_options(run, seeds_of)


def _add_places(run: argparse._ArgumentGroup) -> None:
    """Options that name files and folders."""
    run.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="Output folder; with --seeds it holds one folder per seed. (default: below runs/)",
    )
    run.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML or JSON file of options, in the tables strategy and scenario.",
    )
    add_plugin_option(run)
    run.add_argument(
        "--with",
        metavar="A,B",
        help="Wrappers around the strategy, the outermost first: --with ema,sam. Options of a "
        "wrapper have its name in front: --ema.decay 0.9. Short for a wrapper and its option: "
        "--schedule NAME (lr-schedule) and --replay-rate X (rate-replay).",
    )
    run.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="Streams of forgetting: folder of a finished run of retrain, to which distances and "
        "times are measured.",
    )
    run.add_argument(
        "--log",
        action=Several,
        known=("csv", "tensorboard", "wandb", "mlflow"),
        default=[],
        metavar="NAME",
        help="Additional loggers: csv, tensorboard, wandb, mlflow.",
    )
    run.add_argument(
        "--data-root",
        type=Path,
        metavar="DIR",
        help="Folder of the data sets. (default: $CLGYM_DATA, else the user's data folder)",
    )


def _add_execution(run: argparse._ArgumentGroup) -> None:
    run.add_argument("--device", default="cpu", help="Device: cpu, cuda, cuda:1. (default: cpu)")
    run.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="Number of torch threads, which may change the last digits of a result. "
        "(default: $OMP_NUM_THREADS, else all cores)",
    )
    run.add_argument(
        "--engine",
        choices=("process", "inline"),
        default="process",
        help="process: gym and learner in two processes; inline: both in one, for a debugger; "
        "the learner could then reach the labels. (default: process)",
    )
    add_sandbox_flag(run)
    run.add_argument(
        "--timeout",
        type=minutes,
        metavar="X",
        help="Time limit in minutes per experience, or per batch of an adaptation stream; a run "
        "that exceeds it ends with an error. (default: no limit)",
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=5.0,
        metavar="X",
        help="Minutes between checkpoints inside an experience. (default: 5)",
    )


def _loosely(words: Sequence[str]) -> dict[str, str]:
    """Each ``--name value`` whatever the name, since wrapped strategies are named there too."""
    found = {}
    for word, following in itertools.pairwise([*words, ""]):
        if word.startswith("--"):
            name, equals, value = word[2:].removeprefix("strategy.").partition("=")
            found[name] = value if equals else following
    return found


def seeds_of(words: list[str]) -> list[int]:
    """Seeds from words such as ``0..4`` or ``0``, ``3``, ``7``.

    Raises:
        argparse.ArgumentTypeError: no seeds, or one twice.
    """
    seeds: list[int] = []
    for word in words:
        first, dots, last = word.partition("..")
        try:
            seeds += range(int(first), int(last) + 1) if dots else [int(first)]
        except ValueError:
            seeds.append(-1)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(
            f"{','.join(words)!r} names no seeds: write 0..4 (rising, both ends included) or "
            "0,3,7, each at least 0 and once"
        )
    return seeds


def _read_config(path: Path | None) -> dict[str, dict[str, object]]:
    """The tables ``strategy`` and ``scenario`` of a file; empty without a file."""
    tables: dict[str, dict[str, object]] = {"strategy": {}, "scenario": {}}
    if path is None:
        return tables
    import tomllib

    try:
        text = path.read_text()
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadConfig(
            expected=f"{path} to be a TOML file, or a JSON file with the ending .json",
            found=str(reason),
            fix="Correct the file or give another --config",
        ) from error
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise BadConfig(
            expected=f"the tables strategy and scenario in {path}",
            found="values outside a table",
            fix="Move them below [strategy] or [scenario]",
        )
    for key, values in content.items():
        if key not in tables:
            raise UnknownName(
                expected=f"the tables strategy and scenario in {path}",
                found=repr(key),
                fix=f"{near(key, tables)}Rename it",
            )
        tables[key] = {name.replace("-", "_"): value for name, value in values.items()}
    return tables


def _show_plans(asked: _RunCommand, as_json: bool, several: bool) -> int:
    from clgym.gym.folder import check_available
    from clgym.gym.plan import resolve
    from clgym.messages import to_tree

    prepared = [resolve(request, asked.describer) for request in asked.requests()]
    for plan in prepared:
        check_available(plan)
    plans = [plan.describe() for plan in prepared]
    if as_json:
        trees = [to_tree(plan) for plan in plans]
        print(json.dumps(trees if several else trees[0], indent=1))
        return 0
    from clgym.cli._console import Console
    from clgym.cli._tables import show_plan

    for plan in plans:
        show_plan(Console(), plan)
    return 0


def _run_all(asked: _RunCommand, as_json: bool, several: bool, logs: Sequence[str]) -> int:
    from clgym.cli._console import Console
    from clgym.cli._progress import watch
    from clgym.cli._tables import show_record, show_seeds
    from clgym.gym.loggers import listening
    from clgym.gym.run import run

    records: list[Record] = []
    outs: list[str] = []
    console = Console(stderr=True)
    requests = asked.requests()
    for number, request in enumerate(requests, 1):
        if several:
            console.print(f"seed {number} of {len(requests)}", highlight=False)
        with watch(console) as show, listening(logs, [show, partial(_note_out, outs)]) as listen:
            records.append(run(request, listen, asked.describer))
    if as_json:
        data = [record.model_dump(mode="json") for record in records]
        print(json.dumps(data if several else data[0], indent=1))
    elif several:
        show_seeds(Console(), records, outs)
    else:
        show_record(Console(), records[0], outs[0])
    return 0


def _note_out(outs: list[str], event: "Event") -> None:
    """Remember where the record was written."""
    from clgym.messages import RunFinished

    if isinstance(event, RunFinished):
        outs.append(event.out)
