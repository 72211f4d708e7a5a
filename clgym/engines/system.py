"""Calls of the operating system that Python does not offer; they do nothing if unavailable."""

import ctypes
import os
import signal
import sys
from functools import cache
from typing import Any

__all__ = ["adopt_orphans", "die_with_parent", "gain_no_privileges", "libc"]

_PDEATHSIG, _CHILD_SUBREAPER, _NO_NEW_PRIVS = 1, 36, 38


@cache
def libc() -> Any:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """End this process when the one that forked it ends."""
    parent = os.getppid()
    _prctl(_PDEATHSIG, signal.SIGKILL)
    if parent == 1:  # it ended before the call
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends."""
    _prctl(_CHILD_SUBREAPER, 1)


def gain_no_privileges() -> bool:
    """Prevent programs that are started later from gaining privileges; return whether it worked."""
    return _prctl(_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    zero = ctypes.c_ulong(0)
    return libc().prctl(option, ctypes.c_ulong(value), zero, zero, zero) == 0
