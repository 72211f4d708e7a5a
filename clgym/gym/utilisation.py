"""Utilisation of the GPU during training, as its driver reports it.

The driver states the share of the last moments (a sixth of a second to a second, by model) in which
any program computed on the GPU, and keeps no sum. So it is asked once a second, in a thread of the
gym's process, which waits for the learner anyway.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from clgym.gym.nvml import gpu_reading

__all__ = ["UtilisationMeter"]


class UtilisationMeter:
    """Samples of a GPU's utilisation, taken only inside `measured`.

    Attributes:
        interval: Seconds between two samples.
    """

    interval = 1.0

    def __init__(self, gpu: str = "") -> None:
        """Take no samples yet.

        Args:
            gpu: Identity of the GPU that is used, as torch states it; empty for none.
        """
        self._read = gpu_reading(gpu, lambda nvml, h: nvml.nvmlDeviceGetUtilizationRates(h).gpu)
        self._samples: list[float] = []
        self._working, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def measured(self) -> Generator[None]:
        """Take samples during the block."""
        if self._read is not None and self._thread is None:
            self._thread = threading.Thread(target=self._sample, args=[self._read], daemon=True)
            self._thread.start()
        self._working.set()
        try:
            yield
        finally:
            self._working.clear()

    def _sample(self, read: Callable[[], float]) -> None:
        while not self._closed.wait(self.interval):
            if self._working.is_set():
                try:
                    self._samples.append(read() / 100)
                except Exception:  # NVML's own classes: without further samples
                    return

    def take(self) -> list[float]:
        """Return the samples since the last call, from 0 (idle) to 1 (always computing)."""
        taken, self._samples = self._samples, []
        return taken

    def close(self) -> None:
        """Take no further samples; wait for the thread, which may be reading one."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
