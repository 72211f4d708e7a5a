"""Class of the error that stands for an exception in a learner's process.

A study counts failures of its strategy as failed runs. Faults of the machine, and of clgym itself,
are not among them: they would change which hyper-parameters are chosen.
"""

import errno
import traceback
from pathlib import Path

import torch

from clgym.errors import ClgymError, GymFailed, OutOfMemory, StrategyFailed
from clgym.learner.provenance import is_library, is_ours

__all__ = ["blamed"]

_OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.ESTALE, errno.ENODEV),
    *(errno.ENOMEM, errno.EAGAIN),
}
"""Errors of the operating system that no code causes by its own mistake."""


def blamed(error: BaseException, plugin: Path | None) -> type[ClgymError]:
    """Class of the error that stands for an exception without a name of its own.

    Args:
        error: The exception.
        plugin: The strategy's file, if it is known.
    """
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return GymFailed
    if _is_out_of_memory(error):
        return OutOfMemory
    if isinstance(error, OSError) and _raised_by_clgym(error, plugin):
        return GymFailed
    return StrategyFailed


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _raised_by_clgym(error: OSError, plugin: Path | None) -> bool:
    """Whether the innermost code outside of libraries is clgym's own."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if plugin is not None and Path(frame.filename).is_relative_to(plugin.parent):
            return False  # of a plugin that is installed among the libraries
        if is_ours(frame.filename) or not is_library(frame.filename):
            return is_ours(frame.filename)
    return False
