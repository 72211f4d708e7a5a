"""The check that a strategy's state holds all that learning changes."""

import copy
import hashlib
from typing import Any

import numpy as np
import torch

from clgym import attributes
from clgym.check.bench import Subject
from clgym.check.report import Failed
from clgym.errors import BadPlugin
from clgym.learner.reachable import roots_of, walk
from clgym.learner.state import state_fingerprint
from clgym.strategy import Strategy

__all__ = ["state_is_complete"]


def state_is_complete(subject: Subject) -> str:
    """What learning changes lies in the state: a restored learner has the same attributes."""
    first, second = subject.bench(), subject.bench()
    if subject.adapts:
        first.whole()  # an adaptation stream sets its learner up with the first batch
    before = _outside(first.strategy)
    learner = second if subject.adapts else first
    learned = _learned(learner, subject)
    after = _outside(learned)
    changed = sorted(place for place in before | after if before.get(place) != after.get(place))
    if changed:
        raise Failed(
            f"learning changes {changed[0]}, which lies outside the strategy",
            "Keep what is learned in attributes that setup makes: they are saved and restored",
        )
    restored = (first if subject.adapts else second).strategy
    restored.info.memory.load_state_dict(
        copy.deepcopy(learned.info.memory.state_dict()), restored.info.device
    )
    restored.load_state_dict(copy.deepcopy(learned.state_dict()))
    wanted, found = _attributes(learned), _attributes(restored)
    lost = [name for name in wanted if wanted[name] != found.get(name)]
    if lost:
        raise Failed(
            f"self.{lost[0]} is another in a learner that was restored",
            "Leave state_dict and load_state_dict to the base class, or put it into both",
        )
    return f"the same {len(wanted)} attributes after a restart, and none elsewhere changed"


def _learned(bench: Any, subject: Subject) -> Strategy:
    """The strategy of a bench, once it has learned something."""
    if subject.adapts:
        bench.whole()
    else:
        bench.train(0)
        bench.train(1)
    return bench.strategy


def _attributes(strategy: Strategy) -> dict[str, str]:
    """A fingerprint of each attribute that is state and that the walk can read."""
    left_out = strategy.stateless()
    found = {}
    for name in vars(strategy).keys() - left_out:
        others = vars(strategy).keys() - {name}
        try:
            state = attributes.state_of(strategy, others)
        except BadPlugin:
            continue  # a strategy with a state_dict of its own may hold anything
        found[name] = state_fingerprint(state)
    return found


def _outside(strategy: Strategy) -> dict[str, str]:
    """What the variables of the strategy's file and of its classes lead to, by place."""
    roots = roots_of(strategy)
    del roots["self"]
    leaves = ((place, _leaf(value)) for place, value in walk(roots, plain=True))
    return {place: leaf for place, leaf in leaves if leaf is not None}


def _leaf(value: Any) -> str | None:
    if isinstance(value, (bool, int, float, str, bytes, type(None))):
        return repr(value)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return str(len(value)) if isinstance(value, (dict, list, set)) else None
