"""Faults of Avalanche 0.6 with today's torch that are mended in place."""

import inspect
from typing import Any

__all__ = ["apply"]


def apply() -> None:
    """Mend Avalanche's modules in this process; does nothing the second time."""
    from avalanche.training.plugins import bic
    from torch.optim.lr_scheduler import MultiStepLR

    takes = inspect.signature(MultiStepLR).parameters
    if bic.MultiStepLR is MultiStepLR and "verbose" not in takes:
        bic.MultiStepLR = _silent_schedule


def _silent_schedule(optimizer: Any, *, verbose: bool = False, **options: Any) -> Any:
    """`MultiStepLR` as Avalanche's BiC calls it: torch has dropped ``verbose``."""
    from torch.optim.lr_scheduler import MultiStepLR

    return MultiStepLR(optimizer, **options)
