"""Options of `clgym run` itself, and its file of options; those of plugins come later."""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from clgym.cli._batch import add_batch_options
from clgym.cli._flags import minutes
from clgym.cli._numerics import add_numerics
from clgym.cli._parser import Parser, Several, add_plugin_option
from clgym.cli._pools import add_sandbox_flag
from clgym.errors import BadConfig, UnknownName, near

__all__ = ["given_loosely", "read_config", "run_options", "run_parser", "seeds_of"]


def run_options() -> set[str]:
    """Names of the run's own options; a plugin's option of such a name gets a prefix."""
    return {action.dest for action in run_parser([])._actions}


def run_parser(names: Sequence[str], description: str | None = None) -> Parser:
    """A parser of the run's own options."""
    parser = Parser(
        " ".join(["clgym run", *names]),
        description,
        usage=" ".join(["clgym run", *(names or ["STRATEGY"])])
        + (" [options]" if len(names) == 2 else " SCENARIO [options]"),
        add_help=False,
    )
    run = parser.add_argument_group("options of the run")
    run.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    run.add_argument(
        "--source",
        metavar="NAME",
        help="Source of the images, by name or file. (default: the preset's)",
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
        help="On streams with requests to forget: folder of a finished run of retrain, to which "
        "distances and times are measured, with the same seed; with --seeds that of all seeds.",
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


def given_loosely(words: Sequence[str]) -> dict[str, str]:
    """Every ``--name value``, even of unknown options, since they may name wrapped strategies."""
    found = {}
    for word, following in itertools.pairwise([*words, ""]):
        if word.startswith("--"):
            name, equals, value = word[2:].removeprefix("strategy.").partition("=")
            found[name] = value if equals else following
    return found


def seeds_of(words: list[str]) -> list[int]:
    """Seeds from words such as ``0..4`` or ``0``, ``3``, ``7``.

    Raises:
        argparse.ArgumentTypeError: The words name no seeds, or a seed twice.
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


def read_config(path: Path | None) -> dict[str, dict[str, object]]:
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
