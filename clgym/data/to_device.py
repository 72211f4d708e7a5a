"""Copies from the host's memory to the device of a run: one way for all of them.

A GPU reads pinned memory by itself. From any other memory the driver copies piece by piece, and the
host waits until the last piece is there, and with it for all work that was queued before.
"""

import torch
from torch import Tensor

__all__ = ["copy_to", "staged", "to_device"]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; the values themselves where they are there already.

    A GPU gets a copy while the host goes on. Work that is queued afterwards finds it there, and the
    caller may change the values at once.

    Args:
        values: A tensor of any shape and type.
        device: Where they go.
    """
    return copy_to(staged(values, device), device)


def staged(values: Tensor, device: torch.device) -> Tensor:
    """A copy of a host's values in pinned memory, if the device is a GPU; else the values.

    The copy is always a new one: a buffer that were used again could be changed before the GPU has
    read it. torch hands pinned memory out again only once the copies out of it are over.
    """
    return pinned(values) if is_sent(values, device) else values


def copy_to(values: Tensor, device: torch.device) -> Tensor:
    """Copy `staged` values, which nobody changes any more, to a device."""
    return values.to(device, non_blocking=is_sent(values, device))


def is_sent(values: Tensor, device: torch.device) -> bool:
    """Whether values lie in the host's memory and the device is a GPU."""
    return device.type == "cuda" and values.device.type == "cpu"


def pinned(values: Tensor) -> Tensor:
    """A copy in pinned memory."""
    return torch.empty_like(values, pin_memory=True).copy_(values)
