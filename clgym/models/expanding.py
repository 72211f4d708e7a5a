"""Networks that get a branch for every task, and heads that grow in both directions."""

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from clgym.strategy import Classifier

__all__ = [
    "Branches",
    "BranchesClassifier",
    "ExpandingClassifier",
    "align_new_rows",
    "aux_targets",
    "empty_linear",
    "fresh_linear",
    "grown_linear",
]


def fresh_linear(
    width: int, columns: int, generator: torch.Generator, like: Tensor | None = None
) -> nn.Linear:
    """A linear layer as PyCIL draws it: weights uniform in +-sqrt(3 / width), biases 0.

    Args:
        width: Length of a feature vector.
        columns: Number of outputs.
        generator: Decides the weights; on the CPU.
        like: A tensor of the wanted type and device.
    """
    layer, bound = empty_linear(width, columns), math.sqrt(3 / width)
    with torch.no_grad():
        # In float32 whatever the layer's type: the same draws on every device.
        layer.weight.copy_(torch.empty(columns, width).uniform_(-bound, bound, generator=generator))
        nn.init.zeros_(layer.bias)
    return layer if like is None else layer.to(like)


def empty_linear(width: int, columns: int, like: Tensor | None = None) -> nn.Linear:
    """A linear layer whose values are not set; it may have no column yet."""
    layer: Any = nn.utils.skip_init(nn.Linear, width, 1)  # torch warns of layers without a value
    layer.weight = nn.Parameter(torch.empty(columns, width))
    layer.bias, layer.out_features = nn.Parameter(torch.empty(columns)), columns
    return layer if like is None else layer.to(like)


def grown_linear(old: nn.Linear, width: int, columns: int, generator: torch.Generator) -> nn.Linear:
    """A larger layer whose old rows, columns and biases keep their bits; the rest is fresh."""
    layer = fresh_linear(width, columns, generator, old.weight)
    with torch.no_grad():
        layer.weight[: old.out_features, : old.in_features] = old.weight
        layer.bias[: old.out_features] = old.bias
    return layer


class Branches(nn.Module):
    """Backbones side by side, of which the last one is trained; features are concatenated.

    The others are frozen: no gradients, and in evaluation mode, so that their parameters and their
    running statistics stay. Without trained layers below them they take part in no graph. A
    gradient passes through them to a base that is trained.

    Attributes:
        base: Layers that all branches read.
        branches: In the order of the tasks; a parameter of a frozen one needs no gradient.
        width: Features of each branch.
        still: Frozen branches that stay in evaluation mode.
    """

    def __init__(
        self,
        first: nn.Module,
        width: int,
        base: nn.Module | None = None,
        still: Literal["all", "first"] = "all",
    ) -> None:
        """Begin with one branch, which is trained."""
        super().__init__()
        self.base = nn.Identity() if base is None else base
        self.branches = nn.ModuleList([first])
        self.width, self.still = width, still

    def __len__(self) -> int:
        """Count the branches."""
        return len(self.branches)

    @property
    def last(self) -> nn.Module:
        """The branch that is trained."""
        return self.branches[len(self) - 1]

    def add(self, source: int = -1) -> None:
        """Freeze all branches, and go on with a copy of number ``source``."""
        new = copy.deepcopy(self.branches[source]).requires_grad_(True)
        self.branches.requires_grad_(False)
        self.branches.append(new)
        self.train(self.training)

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, len * width] of normalised images."""
        maps = self.base(images)
        return torch.cat([branch(maps) for branch in self.branches], dim=1)

    def train(self, mode: bool = True) -> "Branches":
        """Set the mode of what is not frozen."""
        super().train(mode)
        for branch in self.branches[:-1] if self.still == "all" else self.branches[:-1][:1]:
            branch.eval()
        return self


class BranchesClassifier(Classifier):
    """A classifier over `Branches`; it grows to the size of the state that it loads.

    Subclasses name their linear layers in ``heads``, each but ``head`` may be None, and those of
    them that are not trained in ``frozen_heads``.
    """

    heads: tuple[str, ...] = ("head",)
    frozen_heads: tuple[str, ...] = ()
    backbone: Branches

    def __init__(
        self, branches: Branches, mean: Sequence[float] = (), std: Sequence[float] = ()
    ) -> None:
        """Begin without a class.

        Args:
            branches: The backbone, with one branch.
            mean: Per channel, of images in [0, 1]; empty or zeros if unknown.
            std: Per channel.
        """
        super().__init__(branches, branches.width, 1, mean, std)
        weight = next(branches.parameters())
        self.head = empty_linear(branches.width, 0, weight)
        for name in self.heads[1:]:
            self.register_module(name, None)

    def normalised(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the backbone is fed."""
        return (images - self.mean) / self.std

    def own(self, features: Tensor) -> Tensor:
        """The part [n, width] of features that comes from the last branch."""
        return features[:, -self.backbone.width :]

    def _load_from_state_dict(  # type: ignore[override]
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        """Grow to the state first; torch asks a module before it asks its parts."""
        before = f"{prefix}backbone.branches."
        numbers = [int(k.removeprefix(before).split(".")[0]) for k in state_dict if before in k]
        while numbers and len(self.backbone) <= max(numbers):
            self.backbone.add()
        for name in self.heads:
            weight = state_dict.get(f"{prefix}{name}.weight")
            if weight is None:
                setattr(self, name, None)
                continue
            layer = empty_linear(weight.shape[1], weight.shape[0], self.mean)
            setattr(self, name, layer.requires_grad_(name not in self.frozen_heads))
        super()._load_from_state_dict(state_dict, prefix, *args)


class ExpandingClassifier(BranchesClassifier):
    """A branch for every task, and an auxiliary head on the newest one (DER of Yan et al., MEMO).

    Attributes:
        aux: Linear layer that tells the classes of the present task apart from each other and from
            all earlier ones, output 0; used in training only, None in the first task.
    """

    heads = ("head", "aux")
    aux: nn.Linear | None

    def expand(self, columns: int, generator: torch.Generator) -> None:
        """Make ready for a task.

        The first one trains the first branch. Each later one trains a copy of the branch before;
        the head keeps its old block.

        Args:
            columns: Classes seen, those of the task included.
            generator: Decides the fresh entries.
        """
        known, weight = self.columns, self.mean
        if known:
            self.backbone.add()
            new = columns - known
            self.aux = fresh_linear(self.backbone.width, new + 1, generator, weight)
        width = len(self.backbone) * self.backbone.width
        self.head = grown_linear(self.head, width, columns, generator)

    def aux_logits(self, features: Tensor) -> Tensor:
        """Logits [n, new + 1] of the auxiliary head, of features [n, d]."""
        assert self.aux is not None
        return self.aux(self.own(features))


def aux_targets(labels: Tensor, known: int) -> Tensor:
    """Classes of the auxiliary head: 0 for all old ones, 1, 2, ... for the new ones."""
    return (labels - known + 1).clamp(min=0)


@torch.no_grad()
def align_new_rows(head: nn.Linear, known: int) -> float:
    """Scale the new classes' rows to the old ones' mean norm (WA); biases stay.

    Returns:
        The factor.
    """
    norms = head.weight.norm(dim=1)
    factor = norms[:known].mean() / norms[known:].mean()
    head.weight[known:] *= factor
    return float(factor)
