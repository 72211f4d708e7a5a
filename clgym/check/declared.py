"""Checks of a strategy's declarations: its text, its options, its size."""

import pickle
from collections.abc import Sequence

import numpy as np
import torch

from clgym.check.bench import Subject
from clgym.check.bounds import check_bounds, check_words
from clgym.check.report import Failed
from clgym.learner.dataflow import Dataflow, address
from clgym.learner.holdings import HeldNumbers, held_by
from clgym.strategy import Batch, Strategy

__all__ = ["config_bounds", "described", "parameters_counted", "pickling"]


def described(subject: Subject) -> str:
    """The file has a first line for `clgym list`, and every option one line of help."""
    return check_words(subject.summary, subject.fields)


def config_bounds(subject: Subject) -> str:
    """Every option has a default, numbers have ranges, and values outside are refused."""
    return check_bounds(subject.cls.Config, subject.fields, subject.name)


def pickling(subject: Subject) -> str:
    """The class, its options and a new learner can be sent to another process."""
    made = subject.make()
    for what, thing in (("class", subject.cls), ("options", made.config), ("strategy", made)):
        try:
            copy = pickle.loads(pickle.dumps(thing))  # nosec B301 # its own bytes
        except Exception as error:
            raise Failed(
                f"its {what} cannot be pickled ({error})",
                "Define classes and functions at the top level of the file; do no work in __init__",
            ) from error
        if what != "strategy" and copy != thing:
            raise Failed(
                f"its {what} changed by pickling", "Compare options by value: use a dataclass"
            )
    return "the class, its options and a strategy that has not begun"


def parameters_counted(subject: Subject) -> str:
    """All numbers that predictions depend on are where the gym counts them.

    A network that only variables of another module refer to would be missing from the record.
    """
    strategy, hook = subject.trained.strategy, "predict" if subject.adapts else subject.answering
    answering = getattr(strategy, hook)
    flows, answers, batches = list[Dataflow](), list[torch.Tensor](), list[Batch]()

    def watched(batch: Batch) -> torch.Tensor:
        flows.append(Dataflow(follow_updates=True))
        with flows[-1]:
            answers.append(answering(batch))
        batches.append(batch)
        return answers[-1]

    setattr(strategy, hook, watched)
    try:
        subject.trained.predict(1)
        subject.trained.predict(1)  # tensors used both times existed before
    finally:
        delattr(strategy, hook)
    held = held_by(strategy)
    sources = [flow.sources(answer) for flow, answer in zip(flows, answers, strict=True)]
    before = set.intersection(*(set(flow.given) for flow in flows), *sources)
    uncounted = before - _counted(strategy, held) - _given(batches)
    if numbers := sum(flows[0].given[place].numel() for place in uncounted):
        raise Failed(
            f"predictions depend on {numbers:,} numbers that no attribute refers to",
            "Keep them in attributes of the strategy",
        )
    used = [one for one in held.values() if one.addresses & sources[0]]
    return f"predictions depend on {sum(map(_numbers, used)):,} numbers, all counted"


def _counted(strategy: Strategy, held: dict[str, HeldNumbers]) -> set[int]:
    """Addresses of all tensors that the gym counts, including the declared backbone's."""
    backbone = vars(strategy).get("backbone")
    weights = backbone.state_dict().values() if isinstance(backbone, torch.nn.Module) else ()
    own = {start for one in held.values() for start in one.addresses}
    return own | {address(tensor) for tensor in weights}


def _given(batches: Sequence[Batch]) -> set[int]:
    """Addresses of the tensors in the batches, which come from the gym."""
    tensors = [value for batch in batches for value in vars(batch).values()]
    return {address(tensor) for tensor in tensors if isinstance(tensor, torch.Tensor)}


def _numbers(held: HeldNumbers) -> int:
    tensors = (*held.parameters, *held.buffers, *held.loose)
    return sum(int(np.prod(tensor.shape)) for tensor in tensors)
