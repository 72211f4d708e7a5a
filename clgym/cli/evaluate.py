"""Run tuned and sealed hyper-parameters on the evaluation side of their pair.

Name the folder that `clgym tune` wrote. The options of the strategy are those of the certificate
and cannot be changed. Each evaluation is counted, and no seed can be left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from clgym.cli._parser import Parser
from clgym.cli._pools import add_pool_flags, pool_of

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry out ``clgym evaluate``."""
    parser = Parser("clgym evaluate", __doc__)
    parser.add_argument("study", type=Path, help="Folder of a sealed study, or its certificate.")
    parser.add_argument(
        "--again", action="store_true", help="Evaluate again; the result states its number."
    )
    add_pool_flags(parser)
    values = parser.parse(words)

    from clgym.cli._console import Console
    from clgym.cli._trials import show_evaluation, watch_trials
    from clgym.protocol.evaluation import EVALUATION, evaluate
    from clgym.protocol.ledger import Ledger
    from clgym.protocol.study import read_certificate

    with watch_trials(Console(stderr=True)) as show:
        evaluation = evaluate(
            values.study,
            pool_of(values),
            values.data_root,
            tuple(values.plugin),
            values.again,
            show,
        )
    if values.json:
        print(json.dumps(evaluation.model_dump(mode="json"), indent=1))
        return 0
    folder = values.study.parent if values.study.is_file() else values.study
    place = folder / f"evaluations/{evaluation.evaluation_number}/{EVALUATION}"
    plan = read_certificate(folder).body.plan
    console = Console()
    show_evaluation(console, evaluation, place, plan.adapts)
    head = Ledger(folder).head
    console.print(f"publish this head, which covers the results: {head}", soft_wrap=True)
    return 0
