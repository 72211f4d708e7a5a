"""The check that a strategy's state contains everything that learning changes."""

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
    """Everything that learning changes is in the state: a restored learner has equal attributes."""
    first, second = subject.bench(), subject.bench()
    if subject.adapts:
        first.whole()  # on an adaptation stream the learner is set up with the first batch
    before = _outside(first.strategy)
    learner = second if subject.adapts else first
    learned = _learned(learner, subject)
    after = _outside(learned)
    changed = sorted(place for place in before | after if before.get(place) != after.get(place))
    if changed:
        raise Failed(
            f"learning changes {changed[0]}, which lies outside the strategy",
            "Keep learned values in attributes that setup makes: they are saved and restored",
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
            f"self.{lost[0]} differs in a learner that was restored",
            "Leave state_dict and load_state_dict to the base class, or handle it in both",
        )
    return f"the same {len(wanted)} attributes after a restart, and nothing changed elsewhere"


def _learned(bench: Any, subject: Subject) -> Strategy:
    """Let a learner learn something, and return its strategy."""
    if subject.adapts:
        bench.whole()
    else:
        bench.train(0)
        bench.train(1)
    return bench.strategy


def _attributes(strategy: Strategy) -> dict[str, str]:
    """Fingerprint of each attribute that is state and can be read."""
    left_out = strategy.stateless()
    found = {}
    for name in vars(strategy).keys() - left_out:
        others = vars(strategy).keys() - {name}
        try:
            state = attributes.state_of(strategy, others)
        except BadPlugin:
            continue  # a strategy with its own state_dict may hold objects of any type
        found[name] = state_fingerprint(state)
    return found


def _outside(strategy: Strategy) -> dict[str, str]:
    """Fingerprint of everything that variables of a strategy's file and classes hold, by place."""
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
