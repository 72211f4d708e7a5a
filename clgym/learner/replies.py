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

__all__ = [
    "check_order",
    "checked_costs",
    "checked_heads",
    "checked_logits",
    "checked_progress",
    "hook_of_head",
    "own_numbers",
    "shaped_logits",
]

_HEAD_NAME = re.compile(r"[\w-]{1,40}")


def checked_logits(answer: Any, hook: str, count: int, columns: int, where: str = "") -> np.ndarray:
    """Return logits as float32 [count, columns]; minus infinity excludes a class.

    Args:
        answer: What the strategy returned.
        hook: The method that returned it.
        count: Number of images.
        columns: Number of classes seen so far.
        where: The batch, in words.

    Raises:
        BadAnswer: They have another form, or exclude all classes.
    """
    logits = shaped_logits(answer, hook, count, columns).cpu().numpy()
    check_order(hook, logits, where)
    return logits


def shaped_logits(answer: Any, hook: str, count: int, columns: int) -> Tensor:
    """Return logits as float32 [count, columns] on their device, without reading their values.

    Raises:
        BadAnswer: They have another shape, or are not real numbers.
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
    return tensor.float()


def check_order(hook: str, logits: np.ndarray, where: str = "") -> None:
    """Refuse logits [n, columns] that leave no class to name; ``where``: the batch, in words.

    Raises:
        BadAnswer: A row contains NaN, or its largest value is infinite.
    """
    if np.isfinite(logits).all():  # the usual case, which takes a tenth of the time
        return
    if not np.isfinite(logits.max(1)).all():  # NaN anywhere in a row is its largest value
        found = "NaN" if np.isnan(logits).any() else "rows whose largest is infinite"
        raise BadAnswer(
            expected=f"logits that can be ordered from {hook}",
            found=f"{found} ({where})" if where else found,
            fix="Check the training loss, which may have diverged; try a lower learning rate",
        )


def checked_heads(answers: Any, count: int, columns: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the logits of each head, as `shaped_logits` returns them.

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
        yield str(name), shaped_logits(logits, hook_of_head(str(name)), count, columns)


def hook_of_head(name: str) -> str:
    """How an error names the hook that answers for a head."""
    return f"predict_by_head ({name})"


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
