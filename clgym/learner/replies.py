"""Replies of a strategy, checked before they leave the learner's process."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from clgym.errors import BadAnswer
from clgym.messages import TrainProgress

__all__ = ["checked_costs", "checked_heads", "checked_logits", "checked_progress", "own_numbers"]

_HEAD_NAME = re.compile(r"[\w-]{1,40}")


def checked_logits(answer: Any, hook: str, count: int, columns: int) -> np.ndarray:
    """Return logits as float32 [count, columns]; minus infinity excludes a class.

    Raises:
        BadAnswer: They have another form, or exclude all classes.
    """
    tensor = _plain(answer)
    if tensor is None or tuple(tensor.shape) != (count, columns):
        raise BadAnswer(
            expected=f"logits of shape ({count}, {columns}) from {hook}",
            found=_kind(answer) if tensor is None else str(tuple(tensor.shape)),
            fix="Return one column for every class seen so far",
        )
    if tensor.is_complex():
        raise BadAnswer(
            expected=f"logits that can be ordered from {hook}",
            found=str(tensor.dtype),
            fix="Return real numbers",
        )
    logits = tensor.float().cpu().numpy()
    if not np.isfinite(logits.max(1)).all():  # NaN anywhere in a row is its largest value
        raise BadAnswer(
            expected=f"logits that can be ordered from {hook}",
            found="NaN" if np.isnan(logits).any() else "rows whose largest is infinite",
            fix="Check the training loss, which may have diverged; try a lower learning rate",
        )
    return logits


def checked_heads(answers: Any, like: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the logits of each head, checked like those of ``predict``; ``like`` has their shape.

    Raises:
        BadAnswer: They have another form, or are not given by names of heads.
    """
    plain = isinstance(answers, Mapping)
    found = cast(Mapping[object, object], answers).items() if plain else ()
    if not plain or not all(isinstance(n, str) and _HEAD_NAME.fullmatch(n) for n, _ in found):
        raise BadAnswer(
            expected="logits by the name of a head (letters, digits, - and _) from predict_by_head",
            found=f"the names {[name for name, _ in found]}" if plain else _kind(answers),
            fix="Return a dict such as {'linear': ..., 'nme': ...}",
        )
    for name, logits in found:
        yield str(name), checked_logits(logits, f"predict_by_head ({name})", *like.shape)


def _plain(answer: Any) -> Tensor | None:
    """The actual numbers of a tensor of any class; None for other objects."""
    if not issubclass(type(answer), Tensor):
        return None
    with torch._C.DisableTorchFunctionSubclass():  # pyright: ignore[reportPrivateUsage]
        return Tensor.detach(Tensor.as_subclass(answer, Tensor))


def checked_costs(found: Any) -> dict[str, float]:
    """Costs that `Strategy.costs` reports, as plain numbers.

    Raises:
        BadAnswer: A value is of another kind; the message names it.
    """
    if not isinstance(found, dict):
        raise _bad_cost(_kind(found))
    costs = cast(dict[object, object], found)
    checked: dict[str, float] = {}
    for name, value in costs.items():
        if not isinstance(name, str):
            raise _bad_cost(f"the key {name!r}")
        if not isinstance(value, Real) or not math.isfinite(value):
            kind = value if isinstance(value, Real) else _kind(value)
            raise _bad_cost(f"{kind} under {name!r}")
        checked[name] = float(value)
    return checked


def _bad_cost(found: str) -> BadAnswer:
    return BadAnswer(
        expected="finite numbers by name from costs()",
        found=found,
        fix="Give plain numbers, such as float(tensor)",
    )


_PROGRESS = {field.name for field in fields(TrainProgress)} - {"kind"}


def own_numbers(reported: Mapping[str, Any]) -> dict[str, object]:
    """Numbers that were given to `Experience.report` under names other than those of progress."""
    return {name: value for name, value in reported.items() if name not in _PROGRESS}


def checked_progress(reported: Mapping[str, Any]) -> TrainProgress:
    """Progress given to `Experience.report`, as an event; other names are `own_numbers`.

    Raises:
        BadAnswer: A value has another type.
    """
    try:
        return TrainProgress(**{name: v for name, v in reported.items() if name in _PROGRESS})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadAnswer(
            expected="plain numbers from experience.report(...)",
            found=f"{_kind(first['input'])} for {name}",
            fix="Give plain numbers, such as float(tensor)",
        ) from None


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
