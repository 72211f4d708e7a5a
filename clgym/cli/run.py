"""Run a strategy on a scenario, or continue an interrupted run.

Name the strategy and the scenario first, then options; name a file of your own
by its path, FILE.py or FILE.py:CLASS. `clgym run STRATEGY SCENARIO --help`
lists the options of that pairing. An option on the command line overrides
--config, which overrides the scenario's preset, which overrides the defaults.
The same command given again continues an interrupted run.

Several strategies may be named before the scenario: `clgym run A B C SCENARIO
--seeds 0..4 --workers 2`. `clgym run --experiment FILE.toml` carries out a list
of runs; `clgym run --experiment --help` shows an example.
"""

import contextlib
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clgym import registry
from clgym.cli._batch import is_batch, run_batch_command
from clgym.cli._chain import Chain, chained, short_options, spelled_out
from clgym.cli._experiment import OPTION, run_experiment
from clgym.cli._flags import add_flags, as_text, given
from clgym.cli._parser import BadUsage
from clgym.cli._run_options import given_loosely, read_config, run_parser, seeds_of

if TYPE_CHECKING:
    from clgym.config import Field
    from clgym.engines import Channel
    from clgym.gym.request import Request
    from clgym.messages import Event
    from clgym.results.record import Record

__all__ = ["main", "own_reference"]


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
        self._check_data()
        if names and (short := short_options(words)):
            fields = self._strategy_options()
            own = {name for name in short for f in fields if f.name.rpartition(".")[2] == name}
            self._find(chained(names, spelled_out(words, own)))
        self.strategy_fields, self.scenario_fields = self._fields()
        self.values = self.parser.parse(self._words)

    def _find(self, chain: Chain) -> None:
        """Find the named plugins, so that unknown names are refused before a worker starts."""
        names, self._words, self._chain = list(chain.names), chain.words, chain
        self.parser = run_parser(names, __doc__)
        self._early, _ = self.parser.parse_known_args(self._words)
        self.plugins = tuple(self._early.plugin)
        kinds: tuple[registry.Kind, ...] = ("strategies", "scenarios")
        for place, kind in enumerate(kinds[: len(names)]):
            names[place], self.plugins = registry.named_file(kind, names[place], self.plugins)
            registry.find(kind, names[place], self.plugins)
        self.source, self.plugins = registry.named_source(self._early.source, self.plugins)
        if len(names) < 2 and not self._early.help:
            raise BadUsage(
                expected="`clgym run STRATEGY SCENARIO [options]`, the two names first",
                found=f"clgym run {' '.join([*names, *self._words])}".rstrip(),
                fix="`clgym list` shows the names",
            )
        self.names = names
        self.file = read_config(self._early.config)

    def _check_data(self) -> None:
        """Refuse missing data before a worker starts.

        Checked only if no word of the command may be an option of the scenario: such a word may
        choose other data, or belong to the strategy, whose options only the worker knows.
        """
        if self._early.help or len(self.names) < 2:
            return
        from clgym.gym.request import Request, check_data, scenario_fields

        scenario = self.names[1]
        fields = {field.name for field in scenario_fields(scenario, self.plugins)}
        if fields.isdisjoint(word.replace("-", "_") for word in given_loosely(self._words)):
            config, source = self.file["scenario"], self._early.source
            request = Request(self.names[0], scenario, source, scenario_config=config)
            root = self._early.data_root
            check_data(replace(request, data_root=root, plugins=self.plugins))

    def close(self) -> None:
        """End the describing process."""
        if self.describer is not None:
            self.describer.close()

    def _strategy_options(self) -> list["Field"]:
        """Request the options of the strategy, and of those that it wraps."""
        from clgym.gym.description import ask_options, open_learner
        from clgym.gym.request import Request

        known = self.file["strategy"] | given_loosely(self._words)
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
        self._chain.check({field.name for field in strategy})
        scenario = []
        if len(self.names) > 1:
            scenario = [
                f for f in scenario_fields(self.names[1], self.plugins) if f.name not in own
            ]
        presets = preset_values(strategy, {f.name: f.default for f in scenario})
        notes = {n: f"default: {as_text(v)}, from the scenario" for n, v in presets.items()}
        title = f"options of {self.names[0]}"
        add_flags(self.parser, title, strategy, "strategy", own, notes, self._chain.aliases)
        taken = own | {name for f in strategy for name in (f.name, *self._chain.aliases(f.name))}
        add_flags(self.parser, f"options of {self.names[-1]}", scenario, "scenario", taken)
        return strategy, scenario

    def idle(self, request: "Request") -> list[str]:
        """Options given for the strategy that only the scenario has."""
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
                source=self.source,
                strategy_config=file["strategy"] | given(values, "strategy", self.strategy_fields),
                scenario_config=file["scenario"] | given(values, "scenario", self.scenario_fields),
                seed=seed,
                order_seed=values.order_seed,
                device=values.device,
                threads=values.threads,
                arithmetic=values.arithmetic,
                channels_last=values.channels_last,
                compile=values.compile,
                optimizer_kernel=values.optimizer_kernel,
                eval_batch=values.eval_batch,
                evaluate_every=values.evaluate_every,
                engine=values.engine,
                sandbox=values.sandbox,
                timeout_minutes=values.timeout,
                out=values.out / f"seed-{seed}" if values.out and several else values.out,
                data_root=values.data_root,
                plugins=self.plugins,
                checkpoint_minutes=values.checkpoint_minutes,
                reference=own_reference(values.reference, seed),
            )
            for seed in (values.seeds if several else [values.seed])
        ]


def own_reference(folder: Path | None, seed: int) -> Path | None:
    """The reference of one seed: in the folder of a run with --seeds each seed has its own."""
    if folder is not None and (own := folder / f"seed-{seed}").is_dir():
        return own
    return folder


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
