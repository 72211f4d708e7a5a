"""Settings of torch in a learner's process, and its peak of memory."""

import os
import sys
from typing import Any

import torch

from clgym.learner.peak_memory import forget_peak, peak_bytes

__all__ = ["be_deterministic", "peak", "start_measuring"]


def be_deterministic(threads: int) -> None:
    """Make torch choose deterministic algorithms in single precision, on some number of threads.

    `torch.use_deterministic_algorithms` imports the compiler to configure it: a second of CPU
    before every run. If nothing has imported it yet, the variable that it reads is set instead.
    Deterministic mode would fill every fresh tensor, so that reading it before it is written gives
    NaN: a twentieth of a step of a small ResNet, and no other number.
    """
    deterministic: Any = torch.utils.deterministic  # a module with a property
    deterministic.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # torch's default, which a record would not state
    if "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
        torch._C._set_deterministic_algorithms(  # pyright: ignore[reportPrivateUsage]
            True, warn_only=True
        )


def start_measuring(device: torch.device) -> None:
    """Measure the peak of memory from here on."""
    forget_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Peak of memory since `start_measuring`, in bytes; frees what a GPU's cache holds unused.

    Other processes of the run work on the same GPU.
    """
    if device.type != "cuda":
        return peak_bytes()
    torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated(device)
