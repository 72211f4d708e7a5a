"""Copies from the host's memory to the device of a run; all code uses these functions.

A GPU reads pinned memory without the host. From other memory the driver copies piece by piece, and
the host waits for the last piece and thus for all work that was queued before.
"""

import torch
from torch import Tensor

__all__ = ["copy_to", "staged", "to_device"]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device; values that are there already are returned as they are.

    The copy to a GPU is made while the host continues. Work that is queued afterwards sees it, and
    the caller may change the values immediately.

    Args:
        values: A tensor of any shape and type.
        device: Device of the copy.
    """
    if values.device == device:
        return values  # the most frequent case, several times in a step
    return copy_to(staged(values, device), device)


def staged(values: Tensor, device: torch.device) -> Tensor:
    """A copy of a host's values in pinned memory, if the device is a GPU; else the values.

    Every call makes a new copy, since a reused buffer could be changed before the GPU has read it.
    torch reuses pinned memory only when all copies from it have ended.
    """
    return pinned(values) if is_sent(values, device) else values


def copy_to(values: Tensor, device: torch.device) -> Tensor:
    """Copy `staged` values, which must not change any more, to a device."""
    return values.to(device, non_blocking=is_sent(values, device))


def is_sent(values: Tensor, device: torch.device) -> bool:
    """Whether values are in the host's memory and the device is a GPU."""
    return device.type == "cuda" and values.device.type == "cpu"


def pinned(values: Tensor) -> Tensor:
    """A copy in pinned memory."""
    return torch.empty_like(values, pin_memory=True).copy_(values)
