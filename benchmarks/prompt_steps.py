"""Cost of a step of the prompt methods, against the forward and backward passes alone.

    python benchmarks/prompt_steps.py [METHOD ...] [--size 112] [--batch-size 24] [--steps 4]
                                      [--rounds 9] [--json]

The passes alone are written here a second time, on a copy of the same ViT-Tiny: keys and values are
concatenated in the attention, nothing is augmented, chosen or drawn. Both sides take turns, their
order alternating; a round is one experience. Printed is the median over rounds of the ratio of
processor times, with its middle half; the goal is 1.10. Queries come from the feature cache, as in
every run by default, and cost nothing here. Random images and weights: no data set is needed.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clgym.api import make_strategy
from clgym.strategy import Experience, Memory, StreamInfo

SHAPE, CLASSES, WIDTH, EPOCHS = (3, 32, 32), 10, 192, 3
METHODS = ("l2p", "dualprompt", "coda-prompt")
Step = Callable[[], None]


# --- the passes alone, a second time -------------------------------------------------------------


def attention(block: Any, x: Tensor, prefix: tuple[Tensor, Tensor] | None) -> Tensor:
    """A block of a ViT, with rows put before its keys and values."""
    attn = block.attn
    n, count, width = x.shape
    q, k, v = attn.qkv(block.norm1(x)).view(n, count, 3, width).unbind(2)
    if prefix is not None:
        k = torch.cat([prefix[0].expand(n, -1, -1), k], 1)
        v = torch.cat([prefix[1].expand(n, -1, -1), v], 1)
    size = (n, -1, attn.num_heads, width // attn.num_heads)
    q, k, v = (part.reshape(size).transpose(1, 2) for part in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, count, width)
    x = x + attn.proj(out)
    return x + block.mlp(block.norm2(x))


def passes_alone(name: str, strategy: Any, images: Tensor, labels: Tensor) -> Step:
    """Forward and backward passes of a method's network, and its optimiser's step."""
    vit, c = copy.deepcopy(strategy.backbone.model), strategy.config
    length = {"l2p": 25, "dualprompt": 5, "coda-prompt": 4}[name]
    blocks = {"l2p": (), "dualprompt": range(5), "coda-prompt": range(5)}[name]
    rows = torch.nn.Parameter(torch.rand(2, max(len(blocks), 1), length, WIDTH))
    head = torch.nn.Linear(WIDTH, CLASSES)
    optimizer = torch.optim.Adam([rows, *head.parameters()], c.lr)

    def step() -> None:
        x = vit._pos_embed(vit.patch_embed(images))
        if name == "l2p":
            more = rows[0, 0].expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], more, x[:, 1:]], 1)
        for number, block in enumerate(vit.blocks):
            prefix = (rows[0, number], rows[1, number]) if number in blocks else None
            x = attention(block, x, prefix)
        x = vit.norm(x)
        features = x[:, 1 : 1 + length].mean(1) if name == "l2p" else x[:, 0]
        loss = F.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


# --- both sides ----------------------------------------------------------------------------------


class Side:
    """A prompt method that trains on one experience after another, and its passes alone."""

    def __init__(self, name: str, size: int, batch: int, steps: int, experiences: int) -> None:
        """Set up for so many experiences of so many steps an epoch."""
        self.strategy: Any = make_strategy(
            name,
            backbone=f"vit_tiny_patch16_224[img_size={size}]@random",
            image_size=size,
            fit="stretch",
            epochs=EPOCHS,
            batch_size=batch,
        )
        self.strategy.setup(
            StreamInfo(
                SHAPE,
                "class-incremental",
                torch.device("cpu"),
                0,
                (0.5,) * 3,
                (0.25,) * 3,
                total_columns=CLASSES,
                total_experiences=experiences,
                memory=Memory(0),
            )
        )
        self._rows, self.steps, self._index = batch * steps, steps * EPOCHS, 0
        labels = torch.arange(batch) % CLASSES
        self._alone = passes_alone(name, self.strategy, torch.rand(batch, 3, size, size), labels)

    def train(self) -> float:
        """Train on one experience; the processor's seconds."""
        draws = torch.Generator().manual_seed(self._index)
        experience = Experience(
            self._index,
            torch.randint(0, 256, (self._rows, *SHAPE), dtype=torch.uint8, generator=draws),
            torch.arange(self._rows) % CLASSES,
            classes=tuple(range(CLASSES)),
            columns=CLASSES,
            seed=0,
            scale=1 / 255,
            features=torch.randn(self._rows, WIDTH, generator=draws),
        )
        self._index += 1
        started = time.process_time()
        self.strategy.train(experience)
        spent = time.process_time() - started
        experience.close()
        return spent

    def alone(self) -> float:
        """The processor's seconds of as many passes alone."""
        started = time.process_time()
        for _ in range(self.steps):
            self._alone()
        return time.process_time() - started


def measure(name: str, size: int, batch: int, steps: int, rounds: int) -> dict[str, Any]:
    """Ratio of a method's steps to its passes alone."""
    side = Side(name, size, batch, steps, rounds + 1)
    both = (side.train, side.alone)
    spent = np.empty((rounds + 1, 2))
    for number, row in enumerate(spent):
        for place in (0, 1) if number % 2 else (1, 0):
            row[place] = both[place]()
    ratios = spent[1:, 0] / spent[1:, 1]  # the first round warms up
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {
        "name": name,
        "ratio": round(float(middle), 3),
        "middle_half": [round(float(low), 3), round(float(high), 3)],
        "passes_ms": round(1000 * float(np.median(spent[1:, 1])) / side.steps, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure steps of the prompt methods.")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="l2p, dualprompt, coda-prompt")
    parser.add_argument("--size", type=int, default=112, help="side of the images in pixels")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--steps", type=int, default=4, help="steps of an epoch")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (given.size, given.batch_size, given.steps, given.rounds)
    rows = [measure(name, *sizes) for name in given.methods or METHODS]
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'method':14}{'ratio':>8}{'middle half':>18}{'its passes':>14}  goal 1.10")
    for row in rows:
        span = "{:.3f} to {:.3f}".format(*row["middle_half"])
        print(f"{row['name']:14}{row['ratio']:8.3f}{span:>18}{row['passes_ms']:11.1f} ms")


if __name__ == "__main__":
    main()
