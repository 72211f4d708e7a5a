"""Estimates of floating-point operations by the formulas of torch's own counter.

`torch.utils.flop_counter` has a formula for the number of operations by shape. Watching every step
would slow training down, so only some are watched: in each experience the first, 16th, 256th, ...
step (steps become larger while a memory fills), and the first one of each batch size. A step that
is not watched counts as many operations as the last watched one of its size.

Watching does not change results: each operation is observed and executed unchanged.
"""

# pyright: standard
# Not strict: operations take and return values of any type.

import functools
import logging
import sys
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

__all__ = ["FlopSampler", "flops_of", "load_formulas"]

_SIZES = 4
"""Maximum number of batch sizes in an experience whose first step is watched."""


@functools.cache
def load_formulas() -> dict[Any, Any]:
    """Return the formulas by operation.

    Their module imports triton, if it is installed, to count kernels that users write in it, which
    takes as long as the rest of the module. This import is prevented, unless triton is loaded
    already, as by a strategy with such kernels.
    """
    logger, hidden = logging.getLogger("torch.utils.flop_counter"), "triton" not in sys.modules
    if hidden:
        sys.modules["triton"] = None  # type: ignore[assignment]  # importing it fails
        logger.disabled = True  # otherwise its import would print a warning
    try:
        from torch.utils.flop_counter import flop_registry
    finally:
        if hidden:
            del sys.modules["triton"]
            logger.disabled = False
    return flop_registry


def flops_of(operation: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Floating-point operations of one call; 0 for an operation without a formula.

    Args:
        operation: The operator overload that was called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        result: Its result.
    """
    formula = load_formulas().get(getattr(operation, "_overloadpacket", None))
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=result))


_StepKind = tuple[int, bool]
"""Number of new images in a step's batch, and whether the pass only reads them."""


class _Watch(TorchDispatchMode):
    """Counts the operations inside ``with``; the operations themselves are not changed."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Leave `__torch_dispatch__` as it is: torch would import its compiler to wrap it."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += flops_of(func, args, kwargs or {}, result)
        return result


class FlopSampler:
    """Estimates the operations of an experience from some of its steps.

    A step reaches from one batch to the next: `begin_step` is called when a batch is handed out.
    """

    def __init__(self, *, watches: bool = True) -> None:
        """Begin before the first batch.

        Args:
            watches: False if watching would change results, as for compiled networks; the number of
                operations is then unknown.
        """
        self._watches = watches
        self._watch: _Watch | None = None
        self._steps = self._images = 0
        self._total = 0.0
        self._known: dict[_StepKind, int] = {}
        self._kind: _StepKind = (0, False)

    @property
    def is_watching(self) -> bool:
        """Whether the present step is watched."""
        return self._watch is not None

    def begin_step(self, images: int, looks: bool = False) -> None:
        """End the step before, and begin one with a batch of some images.

        Args:
            images: New images of the batch.
            looks: Whether the pass only reads the rows, instead of training on them.
        """
        if not self._watches:
            return
        self._end_step()
        self._kind, self._images = (images, looks), self._images + images
        is_new = self._kind not in self._known and len(self._known) < _SIZES
        if self._watch is None and (is_new or _is_power_of_16(self._steps + 1)):
            self._watch = _Watch()
            self._watch.__enter__()
        self._steps += 1

    def _end_step(self) -> None:
        if not self._steps:
            return
        # A mode that the strategy has entered must be left first; in that case nothing is counted.
        if self._watch is not None and _get_current_dispatch_mode() is self._watch:
            self._watch.__exit__(None, None, None)
            self._known[self._kind] = self._watch.count
            self._watch = None
        self._total += self._operations_of(self._kind)

    def _operations_of(self, kind: _StepKind) -> float:
        """Number of operations of a step; for a size that was never watched, by the largest one."""
        if kind in self._known or not self._known:
            return float(self._known.get(kind, 0))
        (size, _), known = max(self._known.items())
        return known * kind[0] / size if size else 0.0

    def finish(self, images: int) -> float | None:
        """End the last step.

        Args:
            images: Number of training images of the whole experience, including earlier sessions,
                to which the estimate is extrapolated.

        Returns:
            Number of operations of the experience; None if no batch was read or watched.
        """
        self._end_step()
        self._steps = 0
        if not self._images:
            return None
        return self._total * max(images, self._images) / self._images


def _is_power_of_16(number: int) -> bool:
    return number & (number - 1) == 0 and number.bit_length() % 4 == 1
