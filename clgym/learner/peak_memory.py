"""Peak resident memory of this process, from a chosen moment on."""

import contextlib
import sys
from pathlib import Path

__all__ = ["forget_peak", "peak_bytes", "resident_bytes"]

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Reset the peak, if the system supports it."""
    with contextlib.suppress(OSError):
        _RESET.write_text("5")  # Linux: sets the peak to the present resident memory


def peak_bytes() -> int:
    """Peak in bytes since `forget_peak`, or since the process began if that has no effect.

    It is 0, which means unknown, on systems that are not POSIX.
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
    """Present resident memory in bytes, or the peak if only that is known."""
    known = _status("VmRSS")
    return peak_bytes() if known is None else known


def _status(name: str) -> int | None:
    """A size that Linux states of this process, in bytes."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
