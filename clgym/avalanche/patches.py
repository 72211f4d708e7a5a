"""Patches of faults in Avalanche 0.6, with recent versions of torch and on small streams."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["apply"]


def apply() -> None:
    """Patch Avalanche's modules in this process; does nothing the second time."""
    _mend_schedule()
    _mend_gss()
    _mend_mas()
    _mend_concat()


def _mend_schedule() -> None:
    from avalanche.training.plugins import bic
    from torch.optim.lr_scheduler import MultiStepLR

    takes = inspect.signature(MultiStepLR).parameters
    if bic.MultiStepLR is MultiStepLR and "verbose" not in takes:
        bic.MultiStepLR = _silent_schedule


def _silent_schedule(optimizer: Any, *, verbose: bool = False, **options: Any) -> Any:
    """`MultiStepLR` as Avalanche's BiC calls it: torch has dropped ``verbose``."""
    from torch.optim.lr_scheduler import MultiStepLR

    return MultiStepLR(optimizer, **options)


def _replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method of Avalanche by a patched one, once."""
    theirs = getattr(owner, name)
    if not hasattr(theirs, "__wrapped__"):
        setattr(owner, name, functools.wraps(theirs)(make(theirs)))


# --- gradient-based sample selection -------------------------------------------------------------


def _mend_gss() -> None:
    from avalanche.training.plugins.gss_greedy import GSS_greedyPlugin

    _replace(GSS_greedyPlugin, "get_rand_mem_grads", _subsets_of_what_is_there)
    _replace(GSS_greedyPlugin, "before_training_exp", _replay_of_what_is_there)
    _replace(GSS_greedyPlugin, "after_forward", _as_many_as_can_be_replaced)


def _subsets_of_what_is_there(theirs: Any) -> Any:
    """Give at least one subset, as the authors' code; Avalanche's gives none to large batches."""

    def get_rand_mem_grads(self: Any, strategy: Any, grad_dims: Any, gss_batch_size: int) -> Any:
        size = min(gss_batch_size, self.ext_mem_list_current_index)
        return theirs(self, strategy, grad_dims, size)

    return get_rand_mem_grads


def _replay_of_what_is_there(theirs: Any) -> Any:
    """Replay samples only; Avalanche also replays free places, as black images of class 0."""

    def before_training_exp(self: Any, strategy: Any, **options: Any) -> None:
        whole = self.ext_mem_list_x, self.ext_mem_list_y
        filled = self.ext_mem_list_current_index
        self.ext_mem_list_x, self.ext_mem_list_y = (values[:filled] for values in whole)
        try:
            theirs(self, strategy, **options)
        finally:
            self.ext_mem_list_x, self.ext_mem_list_y = whole

    return before_training_exp


def _as_many_as_can_be_replaced(theirs: Any) -> Any:
    """Offer a full memory at most as many samples of the batch as it can replace.

    Avalanche draws another stored sample for each sample of the batch, never one of the lowest
    score. Rows of the batch above that number are not offered; replayed samples are at its end. If
    all scores are equal, one stored sample, drawn at random, cannot be replaced.
    """
    import torch

    def after_forward(self: Any, strategy: Any, **options: Any) -> None:
        scores, batch = self.buffer_score, strategy.mbatch
        if self.ext_mem_list_current_index < len(scores):
            theirs(self, strategy, **options)
            return
        if len(scores) > 1 and (scores == scores[0]).all():
            scores[int(torch.randint(len(scores), ()))] -= 1e-6
        count = int((scores > scores.min()).sum())
        if count == 0:  # a memory of one
            return
        strategy.mbatch = [values[:count] for values in batch]
        try:
            theirs(self, strategy, **options)
        finally:
            strategy.mbatch = batch

    return after_forward


# --- memory-aware synapses -----------------------------------------------------------------------


def _mend_mas() -> None:
    from avalanche.training.plugins.mas import MASPlugin

    _replace(MASPlugin, "before_backward", _with_a_loss_of_zero)


def _with_a_loss_of_zero(theirs: Any) -> Any:
    """Replace a loss of exactly zero, as in a task of one class: Avalanche takes it for none."""
    import torch

    def before_backward(self: Any, strategy: Any, **options: Any) -> None:
        if isinstance(strategy.loss, torch.Tensor) and not strategy.loss:
            strategy.loss = strategy.loss + torch.finfo(strategy.loss.dtype).tiny
        theirs(self, strategy, **options)

    return before_backward


# --- datasets ------------------------------------------------------------------------------------


def _mend_concat() -> None:
    from avalanche.benchmarks.utils.flat_data import ConstantSequence, FlatData

    def concat(theirs: Any) -> Any:
        """Append a `ConstantSequence`, such as task ids, to a subset, which is a `FlatData`."""

        def mended(self: Any, other: Any) -> Any:
            if isinstance(other, ConstantSequence):
                return FlatData([self, other])
            return theirs(self, other)

        return mended

    _replace(FlatData, "concat", concat)
