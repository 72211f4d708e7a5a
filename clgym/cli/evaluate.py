"""Run the tuned hyper-parameters of a certificate on the evaluation side of their pair.

Name the folder that `clgym tune` wrote. After `clgym tune --studies`, name the folder that holds
all studies: the result is their median. The options of the strategy are those of the certificate
and cannot be changed. Each evaluation is counted, and no seed can be left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clgym.cli._parser import Parser
from clgym.cli._pools import add_pool_flags, pool_of

if TYPE_CHECKING:
    from clgym.protocol.outcome import Evaluation

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym evaluate``."""
    parser = Parser("clgym evaluate", __doc__)
    parser.add_argument("study", type=Path, help="Folder of a sealed study, or its certificate.")
    parser.add_argument(
        "--again",
        action="store_true",
        help="Evaluate again; the result states how many evaluations there were.",
    )
    add_pool_flags(parser)
    values = parser.parse(words)

    from clgym.cli._console import Console
    from clgym.cli._trials import watch_trials
    from clgym.protocol.evaluation import evaluate
    from clgym.protocol.studies import evaluate_studies, studies_in

    plugins = tuple(values.plugin)
    where = pool_of(values), values.data_root, plugins, values.again
    several = studies_in(values.study) if values.study.is_dir() else []
    with watch_trials(Console(stderr=True)) as show:
        if several:
            evaluations = evaluate_studies(values.study, *where, show, values.sandbox)
        else:
            evaluations = [evaluate(values.study, *where, show, values.sandbox)]
    if values.json:
        found = [evaluation.model_dump(mode="json") for evaluation in evaluations]
        print(json.dumps(found if several else found[0], indent=1))
        return 0
    own = values.study.parent if values.study.is_file() else values.study
    for folder, evaluation in zip(several or [own], evaluations, strict=True):
        _show(folder, evaluation)
    if several:
        _show_spread(evaluations)
    return 0


def _show(folder: Path, evaluation: "Evaluation") -> None:
    from clgym.cli._console import Console
    from clgym.cli._trials import show_evaluation
    from clgym.protocol.evaluation import EVALUATION
    from clgym.protocol.ledger import Ledger
    from clgym.protocol.study import read_certificate

    place = folder / f"evaluations/{evaluation.evaluation_number}/{EVALUATION}"
    console = Console()
    show_evaluation(console, evaluation, place, read_certificate(folder).body.plan.adapts)
    head = Ledger(folder).head
    console.print(f"publish this head, which covers the results: {head}", soft_wrap=True)


def _show_spread(evaluations: "list[Evaluation]") -> None:
    """Median and range over studies, by measure."""
    from clgym.cli._console import Console
    from clgym.protocol.studies import spread_of

    console = Console()
    for name, spread in spread_of(evaluations).items():
        words = "none, since a seed failed"
        if spread is not None:
            low, middle, high = (100 * v for v in (spread.lowest, spread.median, spread.highest))
            words = f"median {middle:.2f} %, from {low:.2f} to {high:.2f} %"
        text = f"{name.replace('_', ' ')} over {len(evaluations)} studies: {words}"
        console.print(text, highlight=False, soft_wrap=True)
