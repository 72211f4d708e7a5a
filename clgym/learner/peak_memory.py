"""Peak resident memory of this process, from a chosen moment on."""

import contextlib
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Measure from here on; where the system has no such reset, nothing is forgotten."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")  # Linux: the peak becomes what is resident now


def peak_bytes() -> int:
    """The peak since `forget_peak`, or since the process began where that does nothing.

    On systems that are not POSIX it is not known: 0.
    """
    if (known := _status("VmHWM")) is not None:
        return known
    try:
        import resource
    except ImportError:
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest * (1 if sys.platform == "darwin" else 1024)


def resident_bytes() -> int:
    """Resident memory now; where only the peak is known, the peak until now."""
    known = _status("VmRSS")
    return peak_bytes() if known is None else known


def _status(name: str) -> int | None:
    """A size that Linux states of this process, in bytes."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
