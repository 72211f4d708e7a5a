"""Energy used during a run, by the counters of the hardware.

Two counters are read, and nothing is estimated: that of the processor's packages (RAPL, by Linux's
powercap files) and that of the GPU (NVML, by NVIDIA's own binding, extra ``energy``). Both count
the whole device, including other work. A counter that is absent or not readable gives no number.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from clgym.gym.nvml import gpu_reading

__all__ = ["EnergyMeter"]

_POWERCAP = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e-6, 1e-3


class EnergyMeter:
    """Joules by device since the last reading.

    Attributes:
        powercap: Folder with the packages' counters.
    """

    powercap = _POWERCAP

    def __init__(self, gpu: str = "") -> None:
        """Begin to count.

        Args:
            gpu: Identity of the GPU that is used, as torch states it; empty for none.
        """
        self._packages = sorted(self.powercap.glob("intel-rapl:[0-9]"))
        self._gpu = gpu_reading(gpu, lambda nvml, h: nvml.nvmlDeviceGetTotalEnergyConsumption(h))
        self._before = dict(self._readings())

    def take(self) -> dict[str, float]:
        """Return the joules of ``processor`` and ``gpu`` since the beginning or the last call."""
        now, spent = dict(self._readings()), dict[str, float]()
        for name, (value, limit) in now.items():
            if name in self._before:
                change = value - self._before[name][0]
                device = name.partition(" ")[0]
                spent[device] = spent.get(device, 0.0) + (change if change >= 0 else change + limit)
        self._before = now
        return spent

    def _readings(self) -> Iterator[tuple[str, tuple[float, float]]]:
        """Value of each counter, and the value at which it wraps around, in joules."""
        for package in self._packages:
            with contextlib.suppress(OSError, ValueError):
                value = int((package / "energy_uj").read_text())
                limit = int((package / "max_energy_range_uj").read_text())
                yield f"processor {package.name}", (value * _MICRO, limit * _MICRO)
        if self._gpu is not None:
            yield "gpu", (self._gpu() * _MILLI, 0.0)
