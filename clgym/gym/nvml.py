"""Readings of a GPU by NVML, NVIDIA's own interface, through its binding (extra ``energy``)."""

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["gpu_reading"]


def gpu_reading(identity: str, read: Callable[[Any, Any], float]) -> Callable[[], float] | None:
    """Return a function that reads one number of a GPU.

    Args:
        identity: Identity of the GPU, as torch states it; empty for none.
        read: Reads the number, given the binding and the GPU's handle.

    Returns:
        The function; None without a GPU, the binding, its driver, or that number.
    """
    if not identity:
        return None
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        read(nvml, handle)
    except Exception:  # NVML raises errors of its own classes, one for each cause
        return None
    return lambda: read(nvml, handle)
