"""Fisher information of a network's weights, from the gradients of single samples."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import log_softmax

__all__ = ["fisher_sum", "fitted"]

_CHUNK_NUMBERS = 2**27
"""Maximum number of gradient values held at once."""


def fisher_sum(
    model: nn.Module, images: Tensor, labels: Tensor, bn_mode: str, weighted: bool = True
) -> dict[str, Tensor]:
    """sum_i pi_i (d log pi_i / dp)^2 by parameter name, pi_i the probability of sample i's label.

    Args:
        model: Network that returns logits; it is not changed.
        images: [n, ...].
        labels: int64 [n].
        weighted: Whether samples are weighted by pi_i; if not, squared gradients of the
            cross-entropy are summed.
        bn_mode: ``eval``; or ``train``, in which batch normalisation gets one sample at a time and
            needs maps of more than one pixel.
    """
    parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    size = sum(p.numel() for p in parameters.values())
    chunk = max(1, min(64, _CHUNK_NUMBERS // size))

    def log_probability(moved: Any, buffers: Any, image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, (moved, frozen, buffers), (image[None],))
        return log_softmax(logits[0], 0).gather(0, label[None])[0]

    each = vmap(grad_and_value(log_probability), in_dims=(None, 0, 0, 0))
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    was_training = model.training
    model.train(bn_mode == "train")
    for x, y in zip(images.split(chunk), labels.split(chunk), strict=True):
        # Each sample gets a copy of the buffers, since batch normalisation writes into them.
        buffers = {n: b.expand(len(x), *b.shape).clone() for n, b in model.named_buffers()}
        gradients, values = each(parameters, buffers, x, y)
        weights = values.exp() if weighted else torch.ones_like(values)
        for name, g in gradients.items():
            total[name] += torch.einsum("i,i...->...", weights, g.square())
    model.train(was_training)
    return total


def fitted(values: Tensor, like: Tensor) -> Tensor:
    """Stored values of a parameter that may have grown since; zeros for new entries."""
    if values.shape == like.shape:
        return values
    wider = torch.zeros_like(like, requires_grad=False)
    wider[tuple(slice(0, n) for n in values.shape)] = values
    return wider
