"""Prompts for a frozen ViT: tokens in its sequence, prefixes in its attention, and pools of both.

No code of the network is copied: hooks on timm's modules insert the prompts for the time of a
``with`` block. A pool chooses prompts by the cosine between a query (the frozen network's feature
of the image) and its keys.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clgym.errors import Incompatible
from clgym.models.peft import check_vit

__all__ = [
    "Prefix",
    "PromptPool",
    "Selection",
    "check_blocks",
    "prefixes_attached",
    "tokens_inserted",
    "unit",
]

Selection = Literal["per-sample", "batch-vote"]
"""Rule by which prompts are chosen: the best ones for each image, or those with most votes in the
batch for all its images, so that a prediction depends on the batch."""

Prefix = tuple[Tensor, Tensor]
"""Rows put before the keys and before the values of an attention, [n, rows, width] each, where n
may be 1."""


def check_blocks(vit: Any, numbers: tuple[int, ...], option: str) -> None:
    """Refuse block numbers that the network does not have.

    Raises:
        Incompatible: The network is no ViT, or has fewer blocks.
    """
    depth = len(check_vit(vit).blocks)
    if any(number >= depth for number in numbers):
        raise Incompatible(
            expected=f"a vision transformer with a block {max(numbers)} (blocks count from 0)",
            found=f"{depth} blocks",
            fix=f"Give --{option} smaller numbers, or --backbone a deeper network",
        )


# --- putting prompts into the network ------------------------------------------------------------


@contextmanager
def tokens_inserted(vit: Any, tokens: Tensor) -> Iterator[None]:
    """Let ``vit`` compute with additional tokens after its class token.

    They pass through all blocks and have the class token's position embedding, so that their order
    does not matter.

    Args:
        vit: A ViT of timm.
        tokens: [n, count, width], where n is the size of the batch or 1.
    """
    embedding = None if getattr(vit, "no_embed_class", False) else vit.pos_embed
    code = 0 if embedding is None else embedding[:, :1]

    def insert(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        sequence, first = args[0], vit.num_prefix_tokens
        more = (tokens + code).expand(len(sequence), -1, -1)
        return (torch.cat([sequence[:, :first], more, sequence[:, first:]], dim=1),)

    handle = vit.norm_pre.register_forward_pre_hook(insert)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def prefixes_attached(vit: Any, prefixes: Mapping[int, Prefix]) -> Iterator[None]:
    """Add keys and values to the attention of some blocks, without adding a token.

    The rows are used directly as keys and values, without the projection's weights.

    Args:
        vit: A ViT of timm.
        prefixes: Prefix by number of the block; heads are concatenated along the width.
    """
    handles = [
        handle
        for number, prefix in prefixes.items()
        for handle in _attach(vit.blocks[number].attn, *prefix)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attach(attention: Any, keys: Tensor, values: Tensor) -> Iterator[Any]:
    """Lengthen the sequence, set keys and values at the new places, and cut off their outputs.

    timm's attention, fused or not, does the rest, so that it need not be copied here.
    """
    count = keys.shape[1]
    rows = torch.cat([torch.zeros_like(keys), keys, values], dim=2)

    def lengthen(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (F.pad(args[0], (0, 0, count, 0)),)

    def fill(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return torch.cat([rows.expand(len(out), -1, -1), out[:, count:]], dim=1)

    def cut(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        return out[:, count:]

    yield attention.register_forward_pre_hook(lengthen)
    yield attention.qkv.register_forward_hook(fill)
    yield attention.register_forward_hook(cut)


# --- choosing prompts ----------------------------------------------------------------------------


def unit(rows: Tensor) -> Tensor:
    """Rows [..., d] scaled to unit length; rows of nearly zero length stay shorter."""
    return rows * rows.square().sum(-1, keepdim=True).clamp(min=1e-12).rsqrt()


def _best(scores: Tensor, count: int) -> Tensor:
    """Indices of the largest scores along the last axis; among equal ones the lower index."""
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :count]


class PromptPool(nn.Module):
    """Prompts with a key each.

    Attributes:
        prompts: Parameter of any shape; the user knows along which axis the prompts are counted.
        keys: Parameter [size, width].
    """

    def __init__(self, shape: tuple[int, ...], size: int, width: int) -> None:
        """Draw prompts of ``shape`` and ``size`` keys of ``width`` uniformly from (-1, 1)."""
        super().__init__()
        self.prompts = nn.Parameter(torch.empty(shape).uniform_(-1, 1))
        self.keys = nn.Parameter(torch.empty(size, width).uniform_(-1, 1))

    def __len__(self) -> int:
        """Count the keys."""
        return len(self.keys)

    def similarity(self, query: Tensor) -> Tensor:
        """Cosines [n, size] of queries [n, width] and keys."""
        return unit(query) @ unit(self.keys).T

    @torch.no_grad()
    def choose(self, similarity: Tensor, count: int, selection: Selection) -> Tensor:
        """Numbers of the chosen prompts, int64 [n, count].

        Each image votes for its ``count`` nearest keys. Ties go to the lower number.
        """
        nearest = _best(similarity, count)
        if selection == "per-sample":
            return nearest
        votes = torch.bincount(nearest.flatten(), minlength=len(self))
        return _best(votes, count).expand(len(similarity), -1)

    def pull(self, similarity: Tensor, chosen: Tensor) -> Tensor:
        """Cosines of queries and chosen keys: summed over the chosen, averaged over the images."""
        return similarity.gather(1, chosen).sum() / len(similarity)
