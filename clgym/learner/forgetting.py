"""Requests to forget on the learner's side: removal of samples from the memory."""

import numpy as np
import torch
from torch import Tensor

from clgym.data.memory import Memory
from clgym.errors import BadPlugin
from clgym.strategy import Experience, ForgetRequest

__all__ = ["check_memory_is_clean", "remove_forgotten"]


def remove_forgotten(memory: Memory, request: ForgetRequest) -> int:
    """Remove the samples of a request from the memory; return their number."""
    gone = _forgotten_slots(memory, request)
    if removed := int(gone.sum()):
        memory.keep((~gone).nonzero()[:, 0])
    return removed


def check_memory_is_clean(memory: Memory, request: ForgetRequest) -> None:
    """Refuse a strategy that stored samples again which it had to forget.

    Raises:
        BadPlugin: The memory contains such samples.
    """
    if found := int(_forgotten_slots(memory, request).sum()):
        raise BadPlugin(
            expected="a memory without samples of the request",
            found=f"{found} of them after forget()",
            fix="Store none of request.forgotten in info.memory",
        )


def _forgotten_slots(memory: Memory, request: ForgetRequest) -> Tensor:
    """Which samples belong to the request, bool [len(memory)]: by label, and by their pixels.

    Raises:
        BadPlugin: The samples have neither.
    """
    gone = torch.zeros(len(memory), dtype=torch.bool)
    if not len(memory):
        return gone
    labelled = "labels" in memory
    if labelled:
        gone |= torch.isin(memory["labels"].cpu(), torch.tensor(request.classes))
    images = [part for part in request.forgotten if len(part)]
    size = images[0].pixels[0].numel()
    pictured = [
        values
        for values in memory.columns().values()
        if values.ndim > 1 and values[0].numel() == size and values.dtype == images[0].pixels.dtype
    ]
    if not labelled and not pictured:
        raise BadPlugin(
            expected="a memory whose samples have a column `labels`, or their pixels as stored",
            found=f"the columns {', '.join(memory.columns())}",
            fix="Store labels=batch.labels with the samples, so that they can be forgotten",
        )
    known = {row.tobytes() for part in images for row in _bytes_of(part)}
    for values in pictured:
        rows = values.reshape(len(values), -1).cpu().numpy()
        gone |= torch.tensor([row.tobytes() in known for row in rows])
    return gone


def _bytes_of(part: Experience) -> np.ndarray:
    """The pixels of each row, [n, C * H * W]."""
    return part.pixels.reshape(len(part), -1).cpu().numpy()
