"""Choose a strategy's hyper-parameters on the tuning side of a pair, and certify them.

Name the strategy and the pair first, then options: `clgym tune replay digits-t2 --trials 8`.
Options of the strategy that are given here are fixed; the rest of its search space is tuned. The
same command given again continues an interrupted study. "The paper" below is that of the protocol:
Cha & Cho, "Hyperparameters in Continual Learning: A Reality Check", TMLR 2025.
"""

import argparse
import itertools
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym import registry
from clgym.cli._chain import Chain, chained
from clgym.cli._flags import add_flags, given
from clgym.cli._parser import BadUsage, Parser, Several
from clgym.cli._pools import add_pool_flags, pool_of
from clgym.cli._run_options import given_loosely, seeds_of

if TYPE_CHECKING:
    from clgym.gym.request import Sandbox
    from clgym.protocol.pairs import ScenarioPair
    from clgym.protocol.plan import Certificate
    from clgym.protocol.runs import ExecutionOptions
    from clgym.protocol.study import StudySpec

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym tune``."""
    names = list(itertools.takewhile(lambda word: not word.startswith("-"), words))[:2]
    chain = chained(names, list(words[len(names) :]))
    names, rest = chain.names, chain.words
    parser = _parser(names)
    early, _ = parser.parse_known_args(rest)
    if not early.help and len(names) < 2:
        raise BadUsage(
            expected="`clgym tune STRATEGY PAIR [options]`, the two names first",
            found=f"clgym tune {' '.join(words)}".rstrip(),
            fix="`clgym tune --help` lists the pairs",
        )
    if names:
        names[0], plugins = registry.named_file("strategies", names[0], early.plugin)
        rest += [f"--plugin={path}" for path in plugins if path not in early.plugin]
        early.plugin = list(plugins)
    fields = _strategy_flags(parser, chain, tuple(early.plugin), early.sandbox)
    if early.help:
        parser.print_help()
        return 0
    values = parser.parse(rest)
    asked = _asked(names, values, given(values, "strategy", fields))
    return _tune(asked, values)


def _strategy_flags(
    parser: Parser, chain: Chain, plugins: tuple[Path, ...], sandbox: "Sandbox"
) -> list:
    """Add the strategy's options to the parser; an unknown option is refused first."""
    if not chain.names:
        return []
    from clgym.gym.description import describe_strategy

    name = chain.names[0]
    registry.find("strategies", name, plugins)
    fields = describe_strategy(name, plugins, given_loosely(chain.words), sandbox).fields
    chain.check({field.name for field in fields})
    own, title = {action.dest for action in parser._actions}, f"options of {name}, fixed if given"
    add_flags(parser, title, fields, "strategy", own, {}, chain.aliases)
    return fields


def _parser(names: Sequence[str]) -> Parser:
    from clgym.protocol.modes import MODES
    from clgym.protocol.pairs import PAIRS

    lines = ["", *_wrapped("pairs: " + ", ".join(PAIRS)), "modes, by the data that tuning uses:"]
    lines += [line for name, what in MODES.items() for line in _wrapped(f"  {name}: {what}")]
    parser = Parser(
        " ".join(["clgym tune", *names]),
        f"{__doc__}{chr(10).join(lines)}",
        usage=" ".join(["clgym tune", *(names or ["STRATEGY"])])
        + (" [options]" if len(names) == 2 else " PAIR [options]"),
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="store_true", help="Show this help and exit.")
    parser.add_argument(
        "--with",
        metavar="A,B",
        help="Wrappers around the strategy, as for `clgym run`; their options are tuned, too.",
    )
    _add_study_flags(parser)
    _add_pair_flags(parser)
    add_pool_flags(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="Folder of the study. (default: below studies/)"
    )
    return parser


def _wrapped(text: str) -> list[str]:
    """A paragraph of the description, wrapped to the width of the other lines."""
    return textwrap.wrap(text, 96, subsequent_indent="    ", break_on_hyphens=False)


def _add_study_flags(parser: Parser) -> None:
    from clgym.protocol.modes import MODES

    study = parser.add_argument_group("options of the study (fixed before the first trial)")
    study.add_argument(
        "--trials", type=int, metavar="R", help="Number of trials. (default: the pair's)"
    )
    study.add_argument(
        "--seeds",
        action=Several,
        convert=seeds_of,
        metavar="A..B",
        help="Seeds of every trial (weights and class order). (default: the pair's)",
    )
    study.add_argument(
        "--mode",
        choices=tuple(MODES),
        default="transfer",
        help="Data that tuning uses. (default: transfer)",
    )
    study.add_argument(
        "--k", type=int, default=3, help="Number of experiences that first_k uses. (default: 3)"
    )
    study.add_argument(
        "--criterion",
        choices=("mean", "acc", "avg_acc", "harmonic"),
        default="mean",
        help="Score of a trial: last accuracy (acc), average incremental accuracy (avg_acc), their "
        "arithmetic mean (mean) or harmonic mean (harmonic). (default: mean)",
    )
    study.add_argument(
        "--score-on",
        choices=("valid", "test"),
        default="valid",
        help="Rows that trials are scored on: a tenth of the training rows, held out (valid), or "
        "the tuning source's test split, as in the paper (test). (default: valid)",
    )
    _add_search_flags(study)


def _add_search_flags(study: argparse._ArgumentGroup) -> None:
    from clgym.protocol.samplers import SAMPLERS

    study.add_argument(
        "--space",
        metavar="FILE",
        help="Search space: a TOML or JSON file; `paper` for that of the paper; or `paper-lite` "
        "for the same with epochs divided by ten and batch sizes by four. "
        "(default: the search values in the strategy's file)",
    )
    study.add_argument(
        "--studies",
        type=int,
        default=1,
        metavar="K",
        help="Number of studies, each with its own sampler seed, in folders study-1, study-2, ... "
        "of --out; `clgym evaluate` shows their median. (default: 1)",
    )
    study.add_argument(
        "--sampler",
        choices=tuple(SAMPLERS),
        default="counter",
        help="Sampler of hyper-parameters. "
        + "; ".join(f"{name}: {what}" for name, what in SAMPLERS.items())
        + ". (default: counter)",
    )
    study.add_argument(
        "--sampler-seed", type=int, default=0, metavar="N", help="Seed of the sampler. (default: 0)"
    )
    study.add_argument(
        "--generation",
        type=int,
        default=4,
        metavar="N",
        help="Trials per generation of the samplers tpe and cmaes. (default: 4)",
    )
    _add_budget_flags(study)


def _add_budget_flags(study: argparse._ArgumentGroup) -> None:
    from clgym.protocol.pruning import PRUNERS

    study.add_argument(
        "--cap-images",
        type=int,
        metavar="N",
        help="Maximum number of training images over all runs; once it is reached, no further "
        "trial starts.",
    )
    study.add_argument(
        "--pruner",
        choices=tuple(PRUNERS),
        default="none",
        help="Early stopping of trials, compared by their scores so far. "
        + "; ".join(f"{name}: {what}" for name, what in PRUNERS.items())
        + ". (default: none)",
    )
    study.add_argument(
        "--retry-failed",
        action="store_true",
        help="Repeat the failed runs of an unfinished study; the ledger records each repetition.",
    )
    study.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="Number of torch threads per run. (default: 1)",
    )


def _add_pair_flags(parser: Parser) -> None:
    sides = parser.add_argument_group("options of the pair (your own pair, or a changed preset)")
    sides.add_argument(
        "--tuning", metavar="SOURCE", help="Tuning source; SOURCE[0-4] for some of its classes."
    )
    sides.add_argument(
        "--evaluation",
        metavar="SOURCE",
        help="Evaluation source; SOURCE[5-9] for some of its classes.",
    )
    sides.add_argument("--scenario", metavar="NAME", help="Scenario of both sides.")
    sides.add_argument(
        "--pair-option",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="Option of the scenario, such as increments=[2]; may be repeated.",
    )


def _asked(
    names: Sequence[str], values: argparse.Namespace, config: dict[str, object]
) -> "StudySpec":
    from clgym.protocol.study import StudySpec

    chosen = ("trials", "mode", "k", "criterion", "score_on", "space", "sampler", "sampler_seed")
    chosen += ("generation", "cap_images", "threads", "pruner")
    return StudySpec(
        strategy=names[0],
        pair=_pair(names[1], values),
        config=config,
        seeds=None if values.seeds is None else tuple(values.seeds),
        **{name: getattr(values, name) for name in chosen},
    )


def _pair(name: str, values: argparse.Namespace) -> "ScenarioPair":
    from clgym.protocol.pairs import find_pair

    options: dict[str, object] = {}
    for word in values.pair_option:
        key, equals, text = word.partition("=")
        try:
            options[key.replace("-", "_")] = json.loads(text)
        except json.JSONDecodeError:
            options[key.replace("-", "_")] = text
        if not equals:
            raise BadUsage(
                expected="--pair-option NAME=VALUE", found=repr(word), fix="Write increments=[2]"
            )
    return find_pair(name, values.tuning, values.evaluation, values.scenario, options)


def _tune(asked: "StudySpec", values: argparse.Namespace) -> int:
    from clgym.cli._console import Console
    from clgym.cli._trials import show_certificate, watch_trials
    from clgym.protocol.runs import ExecutionOptions
    from clgym.protocol.study import tune

    name = f"{asked.strategy}-{asked.pair.name}-{asked.mode}".replace(":", "-")
    where = ExecutionOptions(
        values.out or Path("studies") / name,
        pool_of(values),
        values.data_root,
        tuple(values.plugin),
        values.sandbox,
    )
    stderr = Console(stderr=True)
    if values.studies != 1:
        return _tune_several(asked, where, values)
    with watch_trials(stderr) as show:
        certificate: Certificate = tune(asked, where, show, values.retry_failed)
    plan, wanted = certificate.body.plan, asked.trials or asked.pair.trials
    if plan.mode != "default" and plan.trials < wanted:
        stderr.print(
            f"{plan.trials} trials instead of {wanted}: the search space has no more combinations"
        )
    if values.json:
        print(json.dumps(certificate.model_dump(mode="json"), indent=1))
    else:
        show_certificate(Console(), certificate, where.out, values.plugin)
    return 0


def _tune_several(asked: "StudySpec", where: "ExecutionOptions", values: argparse.Namespace) -> int:
    """Carry out studies that differ in the sampler's seed, and print what each chose."""
    from clgym.cli._console import Console
    from clgym.cli._trials import show_certificate, watch_trials
    from clgym.protocol.studies import tune_studies

    with watch_trials(Console(stderr=True)) as show:
        made = tune_studies(asked, values.studies, where, show, values.retry_failed)
    if values.json:
        print(json.dumps([certificate.model_dump(mode="json") for certificate in made], indent=1))
        return 0
    for number, certificate in enumerate(made, 1):
        show_certificate(Console(), certificate, where.out / f"study-{number}", values.plugin)
    words = " ".join(
        ["all: clgym evaluate", str(where.out), *(f"--plugin {p}" for p in values.plugin)]
    )
    Console().print(words, highlight=False, soft_wrap=True, markup=False)
    return 0
