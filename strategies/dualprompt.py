"""DualPrompt: general prompts for all tasks, expert prompts per task, as prefixes in a frozen ViT.

Wang et al., "DualPrompt: Complementary Prompting for Rehearsal-free Continual Learning", ECCV 2022,
https://arxiv.org/abs/2204.04799; reference code sun-hailong/LAMDA-PILOT 2647455. Keys and values of
the first blocks' attention are lengthened by the general prompt, those of the next blocks by one
expert. In training session t uses expert t; at test the expert is found by the similarity of the
query, the frozen network's feature, with the experts' keys. A new expert begins as a copy of the
one before. Loss, keys and head as in `l2p`.

Where the released code differs: ``--prefix-layout released`` (the port to PyTorch mixes up axes, so
that the first half of a batch gets an expert's key part as key and as value, the second half its
value part as both), ``--selection batch-vote``, ``--schedule-scope released``, ``--query
augmented``.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from clgym.config import Search
from clgym.errors import BadConfig
from clgym.models.prompting import PooledConfig, PooledStrategy, Prompted
from clgym.models.prompts import Prefix, PromptPool, check_blocks, prefixes_attached
from clgym.strategy import Batch, Experience, StreamInfo


@dataclass(frozen=True)
class DualPromptConfig(PooledConfig):
    """Options of `DualPrompt`; the defaults are the reference code's for CIFAR-100."""

    epochs: Annotated[int, Ge(1), Search(3, 5, 10, 15, 20, 25)] = 5
    """Passes over the images of a session."""
    lr: Annotated[float, Gt(0), Search(0.000875, 0.001375, 0.001875, 0.002375, 0.0025)] = 0.001
    """Learning rate at the beginning of a session."""
    batch_size: Annotated[int, Ge(1), Search(8, 16, 24, 48, 64, 128)] = 24
    """Images per batch."""
    pool: Annotated[int, Ge(1), Search(10, 15, 20, 25, 30)] = 10
    """Number of experts. Sessions beyond it choose experts by similarity in training, too."""
    expert_length: Annotated[int, Ge(1), Search(5, 10, 15, 20, 30)] = 5
    """Rows of an expert prompt."""
    general_length: Annotated[int, Ge(1), Search(5, 10, 15, 20, 30)] = 5
    """Rows of the general prompt."""
    top_k: Annotated[int, Ge(1), Search(1)] = 1
    """Number of experts that an image is given; at most pool."""
    general_blocks: tuple[Annotated[int, Ge(0)], ...] = (0, 1)
    """Blocks with the general prompt, counted from 0."""
    expert_blocks: tuple[Annotated[int, Ge(0)], ...] = (2, 3, 4)
    """Blocks with expert prompts, counted from 0."""
    prefix_layout: Literal["correct", "released"] = "correct"
    """Order of an expert's rows: as the paper says, or mixed up as in the released code, where the
    output of an image depends on its place in the batch."""


class DualPrompt(PooledStrategy[DualPromptConfig]):
    """General and expert prefixes.

    Attributes:
        general: [blocks, 2 (key, value), length, heads, width of a head].
        pool: Experts, [blocks, 2, size, length, heads, width of a head], with one key each.
    """

    def setup(self, info: StreamInfo) -> None:
        """Draw both kinds of prompts.

        Raises:
            BadConfig: more experts for an image than there are.
            Incompatible: the backbone is no ViT, or lacks blocks.
        """
        super().setup(info)
        c, vit, width = self.config, self.backbone.model, self.backbone.width
        if c.top_k > c.pool:
            raise BadConfig(
                expected=f"top_k to be at most pool ({c.pool})",
                found=str(c.top_k),
                fix="Give --top-k a smaller value or --pool a greater one",
            )
        check_blocks(vit, c.general_blocks, "general-blocks")
        check_blocks(vit, c.expert_blocks, "expert-blocks")
        heads = vit.blocks[0].attn.num_heads
        size = (heads, width // heads)
        general = torch.empty(len(c.general_blocks), 2, c.general_length, *size).uniform_(-1, 1)
        self.general = nn.Parameter(general.to(info.device))
        experts = (len(c.expert_blocks), 2, c.pool, c.expert_length, *size)
        self.pool = PromptPool(experts, c.pool, width).to(info.device)

    def trained(self) -> list[nn.Parameter]:
        """Both kinds of prompts, keys and head."""
        return [self.general, *super().trained()]

    def _slots(self, index: int) -> slice | None:
        """Experts of session ``index``; None beyond the pool."""
        count = self.config.top_k
        inside = (index + 1) * count <= self.config.pool
        return slice(index * count, (index + 1) * count) if inside else None

    def train(self, experience: Experience) -> None:
        """Copy the last session's experts into the new places, then train."""
        new = self._slots(experience.index)
        if self.training.begin(experience) and experience.index > 0 and new is not None:
            with torch.no_grad():
                prompts = self.pool.prompts
                prompts[:, :, new] = prompts[:, :, self._slots(experience.index - 1)].clone()
        super().train(experience)

    def assigned(self, batch: Batch, index: int) -> Tensor | None:
        """The session's own experts."""
        slots = self._slots(index)
        if slots is None:
            return None
        numbers = torch.arange(slots.start, slots.stop, device=batch.images.device)
        return numbers.expand(len(batch), -1)

    def prefixes(self, chosen: Tensor) -> dict[int, Prefix]:
        """Keys and values for each prompted block, experts ``chosen`` [n, count]."""
        c, count = self.config, len(chosen)
        rows = self.pool.prompts[:, :, chosen]  # blocks, 2, n, count, length, heads, width of one
        if c.prefix_layout == "released":
            rows = rows.reshape(len(rows), count, 2, -1, self.backbone.width)
        else:
            rows = rows.movedim(2, 1).reshape(len(rows), count, 2, -1, self.backbone.width)
        general = self.general.flatten(3)[:, None]
        pairs = [*zip(c.general_blocks, general, strict=True)]
        pairs += zip(c.expert_blocks, rows, strict=True)
        return {number: (both[:, 0], both[:, 1]) for number, both in pairs}

    def tokens(self, images: Tensor, chosen: Tensor) -> Tensor:
        """The sequence after the final norm, [n, tokens, width]."""
        with prefixes_attached(self.backbone.model, self.prefixes(chosen)):
            return self.backbone.model.forward_features(images)

    def prompted(self, images: Tensor, query: Tensor, chosen: Tensor | None = None) -> Prompted:
        """Classify the network's feature; see `PooledStrategy.prompted`."""
        c, vit = self.config, self.backbone.model
        similarity = self.pool.similarity(query)
        if chosen is None:
            chosen = self.pool.choose(similarity, c.top_k, c.selection)
        features = vit.forward_head(self.tokens(images, chosen), pre_logits=True)
        return Prompted(self.head(features), similarity, chosen)
