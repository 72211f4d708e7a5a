"""SD-LoRA: directions of finished tasks' branches stay, their magnitudes are learned again.

Wu et al., "SD-LoRA: Scalable Decoupled Low-Rank Adaptation for Class Incremental Learning", ICLR
2025, https://arxiv.org/abs/2501.13198; code WuYichen-97/SD-Lora-CL 8bacded. Queries and values of
every attention layer get a branch B A per task. Old branches enter as B A / (|B| |A|), times a
magnitude that all layers share; the present one enters as it is, times its own. Trained are the
present branch, all magnitudes, and a linear layer for the task's classes, by the cross-entropy over
these.

At a task's beginning the released code sets all magnitudes to their first value, so that the
network jumps before any step. ``--boundary carry`` keeps what was learned: past magnitudes, and the
length of each layer's branch, which enters undivided.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from clgym.config import Search
from clgym.models.fitting import TrainedConfig, TrainedStrategy, check_new_classes
from clgym.models.heads import SessionHeads
from clgym.models.lowrank import PackedLowRank, target_layers
from clgym.models.rates import ScheduleName
from clgym.strategy import Batch, Experience, StreamInfo, TrainBatch

SPACE = {
    "epochs": [10, 20, 30],
    "lr": [0.004, 0.008, 0.016],
    "rank": [5, 10, 20],
    "boundary": ["released", "carry"],
}

_QUERIES_AND_VALUES = (0, 2)


@dataclass(frozen=True)
class SdLoraConfig(TrainedConfig):
    """Options of `SdLora`; the defaults are the authors' for CIFAR-100 in ten tasks."""

    lr: Annotated[float, Gt(0)] = 8e-3
    """Learning rate at the beginning of a session."""
    batch_size: Annotated[int, Ge(1)] = 128
    """Images per batch."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Weight decay of everything that is trained."""
    schedule: Annotated[ScheduleName, Search("step", "cosine", "constant")] = "constant"
    """Course of the learning rate over the epochs of a session: constant, step (multiplied by
    lr_decay at each milestone), cosine (falling to min_lr), quarter-cosine (nearly to 0 along the
    falling quarter of a cosine), or released-cosine (the same one epoch late, as in CODA-Prompt's
    code)."""
    rank: Annotated[int, Ge(1)] = 10
    """Rank of a task's branch."""
    magnitude: Annotated[float, Ge(0)] = 0.8
    """First value of a magnitude."""
    boundary: Literal["released", "carry"] = "released"
    """Magnitudes at the beginning of a task: all at their first value (the released code; the
    network changes before any step), or as learned, so that the network stays as it was."""


class DecoupledBranches(nn.Module):
    """Branches of all tasks beside one packed layer of queries, keys and values.

    Attributes:
        current: Branch of the present task.
        old_down, old_up: Frozen branches of past tasks, [tasks, parts, rank, width] and
            [tasks, parts, width, rank].
        divisors: What their products are divided by, [tasks, parts].
    """

    old_down: Tensor
    old_up: Tensor
    divisors: Tensor

    def __init__(self, width: int, rank: int) -> None:
        """Begin with the first task."""
        super().__init__()
        self.current = PackedLowRank(width, rank, _QUERIES_AND_VALUES)
        self.register_buffer("old_down", self.current.down.detach()[None][:0].clone())
        self.register_buffer("old_up", self.current.up.detach()[None][:0].clone())
        self.register_buffer("divisors", self.old_up.new_zeros(0, len(_QUERIES_AND_VALUES)))

    def stacked(self, magnitudes: Tensor) -> tuple[Tensor, Tensor]:
        """All branches as one: A [parts, ranks, width] and B [parts, width, ranks].

        Args:
            magnitudes: One per past task, then that of the present one.
        """
        # A branch that was never trained has no direction: it stays 0.
        shares = magnitudes[:-1, None] * torch.where(self.divisors > 0, 1 / self.divisors, 0)
        old = (shares[:, :, None, None] * self.old_down).transpose(0, 1).flatten(1, 2)
        old_up = self.old_up.permute(1, 2, 0, 3).flatten(2)
        down = torch.cat([old, magnitudes[-1] * self.current.down], dim=1)
        return down, torch.cat([old_up, self.current.up], dim=2)

    def forward(self, inputs: Tensor, magnitudes: Tensor) -> Tensor:
        """Change of the packed output [..., 3 width] for inputs [..., width]."""
        pairs = zip(*self.stacked(magnitudes), strict=True)
        return self.current.packed([linear(linear(inputs, a), b) for a, b in pairs])

    def weight_change(self, magnitudes: Tensor) -> Tensor:
        """Change of the packed weight, [3 width, width]."""
        pairs = zip(*self.stacked(magnitudes), strict=True)
        return self.current.packed([(b @ a).T for a, b in pairs]).T

    @torch.no_grad()
    def next_task(self, keep_length: bool) -> None:
        """Freeze the present branch, and begin a new one.

        Args:
            keep_length: Whether the frozen branch keeps its length; else its direction remains.
        """
        norms = torch.linalg.matrix_norm(self.current.down) * torch.linalg.matrix_norm(
            self.current.up
        )
        divisor = torch.ones_like(norms) if keep_length else norms
        self.divisors = torch.cat([self.divisors, divisor.detach()[None]])
        self.old_down = torch.cat([self.old_down, self.current.down.detach()[None]])
        self.old_up = torch.cat([self.old_up, self.current.up.detach()[None]])
        width, rank = self.current.down.shape[2], self.current.down.shape[1]
        fresh = PackedLowRank(width, rank, self.current.parts)
        self.current.load_state_dict(fresh.state_dict())

    def structure(self) -> int:
        """Number of past tasks; see `clgym.attributes`."""
        return len(self.divisors)

    def restructure(self, structure: int) -> None:
        """Have as many past tasks as a `structure` tells of; a state fills them."""
        for name in ("old_down", "old_up", "divisors"):
            rows = getattr(self, name)
            setattr(self, name, rows.new_zeros(structure, *rows.shape[1:]))


class SdLora(TrainedStrategy[SdLoraConfig]):
    """Decoupled magnitudes and directions on queries and values.

    Attributes:
        branches: One module per attention layer.
        magnitudes: One per past task, then that of the present one; shared by all layers.
        heads: A linear layer per task.
    """

    CHECK_CONFIG = {
        "backbone": "vit_tiny_patch16_224[img_size=8,patch_size=4,embed_dim=16,depth=1,num_heads=2]"
        "@random",
        "image_size": 8,
        "fit": "stretch",
        "rank": 2,
        "lr": 0.1,
        "epochs": 1,
    }

    def setup(self, info: StreamInfo) -> None:
        """Make branches that begin as nothing.

        Raises:
            Incompatible: the backbone is no ViT.
        """
        super().setup(info)
        width, layers = self.backbone.width, target_layers(self.backbone.model, "qkv")
        made = [DecoupledBranches(width, self.config.rank) for _ in layers]
        self.layer_names = list(layers)
        self.branches = nn.ModuleList(made).to(info.device)
        self.magnitudes = self._magnitudes(torch.zeros(0, device=info.device))
        self.heads = SessionHeads(width).to(info.device)
        self.seen = 0

    def _magnitudes(self, old: Tensor) -> Tensor:
        """Values of past tasks, and a first one for the present task."""
        new = old.new_full((1,), self.config.magnitude)
        return torch.cat([old.detach(), new]).requires_grad_()

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the backbone compute with all branches."""
        handles = []
        for name, branch in zip(self.layer_names, self.branches, strict=True):

            def add(module: nn.Module, args: Any, out: Tensor, branch: Any = branch) -> Tensor:
                return out + branch(args[0], self.magnitudes)

            handles.append(self.backbone.model.get_submodule(name).register_forward_hook(add))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def trained(self) -> list[Tensor]:
        """All parameters that take a gradient in a session."""
        present = self.branches.parameters()
        return [*present, self.magnitudes, *self.heads.layers[-1].parameters()]

    def train(self, experience: Experience) -> None:
        """Train the present branch, all magnitudes and the new classes' layer."""
        if self.training.begin(experience):
            self.begin(experience)
        layer = self.heads.layers[-1]

        def loss(batch: TrainBatch) -> Tensor:
            with self.attached():
                features = self.backbone.model(self.backbone.normalised(batch.images))
            return cross_entropy(layer(features), batch.labels - experience.classes[0])

        self.training.run(experience, self.trained(), loss)

    def begin(self, experience: Experience) -> None:
        """Freeze the last task's branch, begin a new one, and give the new classes a head."""
        size = check_new_classes(experience, self.seen)
        self.seen = experience.columns
        if experience.index > 0:
            self.next_task()
        self.heads.add(size)

    @torch.no_grad()
    def next_task(self) -> None:
        """Freeze the present branches in all layers, and give the new ones a magnitude."""
        carried = self.config.boundary == "carry"
        for branch in self.branches:
            assert isinstance(branch, DecoupledBranches)
            branch.next_task(keep_length=carried)
        old = self.magnitudes.detach()
        self.magnitudes = self._magnitudes(
            old if carried else torch.full_like(old, self.config.magnitude)
        )

    def predict(self, batch: Batch) -> Tensor:
        """Logits [n, columns] of the classes seen."""
        with self.attached():
            features = self.backbone.model(self.backbone.prepare(batch.images))
        return self.heads(features)
