"""Settings of torch in a learner's process, and its peak of memory."""

import os
import sys
from typing import Any

import torch

from clgym.learner.peak_memory import forget_peak, peak_bytes

__all__ = ["be_deterministic", "peak", "start_measuring"]


def be_deterministic(threads: int) -> None:
    """Make torch use deterministic algorithms in single precision, with a number of threads.

    `torch.use_deterministic_algorithms` imports the compiler to configure it, which takes a second
    of CPU time before every run. If nothing has imported it yet, the variable that it reads is set
    instead. Deterministic mode would also fill every new tensor with NaN, so that reading unset
    values shows; this is switched off, since it takes a twentieth of a step of a small ResNet and
    changes no result.
    """
    deterministic: Any = torch.utils.deterministic  # a module with a property
    deterministic.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    # torch allows TF32 by default, which the record would not state
    torch.backends.cudnn.allow_tf32 = False
    if "torch._inductor.config" in sys.modules:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
        torch._C._set_deterministic_algorithms(  # pyright: ignore[reportPrivateUsage]
            True, warn_only=True
        )


def start_measuring(device: torch.device) -> None:
    """Start the measurement of the peak of memory."""
    forget_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int:
    """Peak of memory since `start_measuring`, in bytes; frees unused memory in a GPU's cache.

    The memory is freed because other processes of the run use the same GPU.
    """
    if device.type != "cuda":
        return peak_bytes()
    torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated(device)
