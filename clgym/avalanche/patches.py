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
    """One subset at least, as in the authors' code: none, where a batch exceeds the samples."""

    def get_rand_mem_grads(self: Any, strategy: Any, grad_dims: Any, gss_batch_size: int) -> Any:
        size = min(gss_batch_size, self.ext_mem_list_current_index)
        return theirs(self, strategy, grad_dims, size)

    return get_rand_mem_grads


def _replay_of_what_is_there(theirs: Any) -> Any:
    """Leave out free places: black images of class 0, which Avalanche replays with the samples."""

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
    """A full memory draws a stored sample against each of the batch, never the one of least score.

    Where the batch, replayed samples at its end included, has more rows than that, the rest of it
    is not offered. Samples of one score are alike: one of them, drawn, is spared.
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
    """A loss that is exactly zero, as that of a task of one class, counts as none at all there."""
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
        """Let rows of another task follow a part of one, whose labels are of another class."""

        def mended(self: Any, other: Any) -> Any:
            if isinstance(other, ConstantSequence):
                return FlatData([self, other])
            return theirs(self, other)

        return mended

    _replace(FlatData, "concat", concat)
