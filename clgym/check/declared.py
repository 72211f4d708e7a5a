"""Checks of what a strategy declares: its text, its options, its size."""

import pickle
from typing import Any

import numpy as np
import torch

from clgym.check.bench import Subject
from clgym.check.bounds import check_bounds, check_words
from clgym.check.report import Failed
from clgym.check.retention import buffers_in, numbers_in
from clgym.errors import BadAnswer

__all__ = ["config_bounds", "described", "parameter_count", "pickling"]


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
                "Define classes and functions at the top level of the file; keep __init__ bare",
            ) from error
        if what != "strategy" and copy != thing:
            raise Failed(f"its {what} come back changed", "Compare options by value: a dataclass")
    return "the class, its options and a strategy that has not begun"


def parameter_count(subject: Subject) -> str:
    """`parameter_count` counts the values that predictions depend on, and no others."""
    bench = subject.trained
    declared = bench.strategy.parameter_count()
    used, held = _used(subject), numbers_in(bench.strategy)
    elsewhere = bench.strategy.needs.features  # the gym holds the backbone
    if declared < used - buffers_in(bench.strategy) or (declared > held and not elsewhere):
        raise Failed(
            f"{declared:,} declared; answers depend on {used:,}, {held:,} are there in all",
            "Count every number that predict reads, trained or frozen; buffers may be left out",
        )
    return f"{declared:,} (answers depend on {used:,} of the state's numbers)"


def _used(subject: Subject) -> int:
    """Numbers of the state that answers depend on: those of tensors whose loss shows."""
    bench = subject.trained
    plain, used = bench.predict(1), 0
    state = _copy(bench.strategy.state_dict())
    try:
        for tensor in _tensors(state):
            saved = tensor.clone()
            tensor.fill_(float("nan"))
            if _changes(bench, state, plain):
                used += tensor.numel()
            tensor.copy_(saved)
    finally:
        bench.strategy.load_state_dict(_copy(state))
    return used


def _changes(bench: Any, state: dict[str, object], plain: np.ndarray) -> bool:
    """Whether answers are others with this state; one that cannot be loaded tells nothing."""
    try:
        bench.strategy.load_state_dict(_copy(state))
        return not np.array_equal(bench.predict(1), plain, equal_nan=True)
    except BadAnswer:
        return True  # NaN came through
    except Exception:
        return False


def _copy(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_copy(value) for value in state)
    return state


def _tensors(state: Any) -> list[torch.Tensor]:
    if isinstance(state, torch.Tensor):
        return [state] if state.is_floating_point() else []
    parts = state.values() if isinstance(state, dict) else state
    is_nested = isinstance(state, (dict, list, tuple))
    return [tensor for part in parts for tensor in _tensors(part)] if is_nested else []
