"""L2P: learns a pool of prompts, chosen for each image by keys, in front of a frozen ViT.

Wang et al., "Learning to Prompt for Continual Learning", CVPR 2022,
https://arxiv.org/abs/2112.08654; code sun-hailong/LAMDA-PILOT 2647455. A query, the frozen
network's feature of the image, is compared with the keys of the pool; the best prompts become
tokens behind the class token, with its position code, and the mean of their outputs is classified.
Trained in every session: prompts, keys and the head, by the cross-entropy over the session's
classes minus ``--pull`` times the similarity of queries and chosen keys.

Where the released code differs: ``--selection batch-vote``, ``--schedule-scope released``,
``--query augmented``. It does not clip gradients, and its keys and prompts begin in (-1, 1), which
is followed here; the authors' JAX code does otherwise in both.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt
from torch import Tensor

from clgym.config import Search
from clgym.errors import BadConfig
from clgym.models.prompting import PooledConfig, PooledStrategy, Prompted
from clgym.models.prompts import PromptPool, check_blocks, tokens_inserted
from clgym.strategy import StreamInfo


@dataclass(frozen=True)
class L2PConfig(PooledConfig):
    """Options of `L2P`; the defaults are the reference code's for CIFAR-100 in ten tasks."""

    epochs: Annotated[int, Ge(1), Search(3, 5, 10, 15, 20, 25)] = 5
    """Passes over the images of a session."""
    lr: Annotated[float, Gt(0), Search(0.000875, 0.001375, 0.001875, 0.002375, 0.0025)] = 0.001875
    """Learning rate at the beginning of a session."""
    batch_size: Annotated[int, Ge(1), Search(8, 16, 24, 48, 64, 128)] = 16
    """Images per batch."""
    pool: Annotated[int, Ge(1), Search(10, 15, 20, 25, 30)] = 10
    """Number of prompts in the pool."""
    length: Annotated[int, Ge(1), Search(2, 4, 6, 8, 10)] = 5
    """Tokens per prompt."""
    top_k: Annotated[int, Ge(1), Search(2, 4, 6, 8, 10)] = 5
    """Number of prompts that an image is given; at most pool."""


class L2P(PooledStrategy[L2PConfig]):
    """Prompts from a pool as tokens in the sequence."""

    def setup(self, info: StreamInfo) -> None:
        """Draw the pool.

        Raises:
            BadConfig: more prompts for an image than the pool has.
            Incompatible: the backbone is no ViT.
        """
        super().setup(info)
        c, width = self.config, self.backbone.width
        if c.top_k > c.pool:
            raise BadConfig(
                expected=f"top_k to be at most pool ({c.pool})",
                found=str(c.top_k),
                fix="Give --top-k a smaller value or --pool a greater one",
            )
        check_blocks(self.backbone.model, (0,), "backbone")
        self.pool = PromptPool((c.pool, c.length, width), c.pool, width).to(info.device)

    def tokens(self, images: Tensor, chosen: Tensor) -> Tensor:
        """The sequence after the final norm, [n, tokens, width]: class token, prompts, patches."""
        prompts = self.pool.prompts[chosen].flatten(1, 2)
        with tokens_inserted(self.backbone.model, prompts):
            return self.backbone.model.forward_features(images)

    def prompted(self, images: Tensor, query: Tensor, chosen: Tensor | None = None) -> Prompted:
        """Classify the mean of the prompts' outputs; see `PooledStrategy.prompted`."""
        c, vit = self.config, self.backbone.model
        similarity = self.pool.similarity(query)
        if chosen is None:
            chosen = self.pool.choose(similarity, c.top_k, c.selection)
        first, count = vit.num_prefix_tokens, chosen.shape[1] * c.length
        outputs = self.tokens(images, chosen)[:, first : first + count]
        return Prompted(self.head(vit.fc_norm(outputs.mean(1))), similarity, chosen)
