"""Processor time of a learner, the memory that it has when idle, and the name of its device."""

import contextlib
import functools
import platform
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from clgym.learner.peak_memory import resident_bytes

__all__ = ["ProcessorTime", "idle_memory", "identity_of_device", "name_of_device"]


class ProcessorTime:
    """Processor seconds (user and system, all threads) that a learner's process uses for a run.

    If the learner shares the gym's process (engine ``inline``), the gym's work is not counted: the
    clock is stopped while an event is sent.
    """

    def __init__(self) -> None:
        """Begin at zero, with the clock stopped."""
        self._spent, self._since = 0.0, 0.0
        self._runs = False

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Count inside ``with``."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextlib.contextmanager
    def standing(self) -> Generator[None]:
        """Do not count inside ``with``."""
        was = self._runs
        self._end()
        try:
            yield
        finally:
            if was:
                self._begin()

    def take(self) -> float:
        """Return the seconds since it was last asked."""
        was = self._runs
        self._end()
        spent, self._spent = self._spent, 0.0
        if was:
            self._begin()
        return spent

    def _begin(self) -> None:
        self._since, self._runs = time.process_time(), True

    def _end(self) -> None:
        if self._runs:
            self._spent += time.process_time() - self._since
        self._runs = False


def idle_memory(device: torch.device) -> int:
    """Memory of a learner that has not begun, measured like its peak, in bytes."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return resident_bytes()


def name_of_device(device: torch.device) -> str:
    """Model of the GPU or of the processor; empty if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor_name() if device.type == "cpu" else ""


def identity_of_device(device: torch.device) -> str:
    """Unique identity of a GPU; empty for a processor."""
    if device.type != "cuda":
        return ""
    cuda: Any = torch.cuda  # its properties are untyped
    return str(getattr(cuda.get_device_properties(device), "uuid", ""))


@functools.cache
def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    return " ".join(platform.processor().split())
