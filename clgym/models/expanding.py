"""Networks that get a branch for every task, and heads that grow in inputs and outputs."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from clgym.models.incremental import grown
from clgym.strategy import Classifier

__all__ = [
    "Branches",
    "BranchesClassifier",
    "ExpandingClassifier",
    "MethodOf",
    "aux_targets",
    "empty_linear",
    "fresh_linear",
]


def empty_linear(width: int, columns: int, like: Tensor) -> nn.Linear:
    """Return a linear layer with unset values; it may have no output yet.

    Args:
        width: Length of a feature vector.
        columns: Number of outputs.
        like: A tensor with the type and device of the layer.
    """
    layer: Any = nn.utils.skip_init(nn.Linear, width, 1)  # torch warns about layers without values
    layer.weight = nn.Parameter(like.new_empty(columns, width))
    layer.bias, layer.out_features = nn.Parameter(like.new_empty(columns)), columns
    return layer


def fresh_linear(width: int, columns: int, like: Tensor) -> nn.Linear:
    """Return a linear layer initialised by the rule of `grown`, with no old entries."""
    return grown(empty_linear(width, 0, like), columns)


class Branches(nn.Module):
    """Parallel backbones, of which the last one is trained; features are concatenated.

    The others are frozen: they get no gradients and are in evaluation mode, so that their
    parameters and running statistics stay. Without trained layers below them they are not part of
    the autograd graph. If the base is trained, gradients pass through them to the base.

    Attributes:
        base: Layers whose output is the input of all branches.
        branches: Branches in the order of the tasks; parameters of frozen ones need no gradient.
        width: Number of features of each branch.
        still: Which frozen branches stay in evaluation mode.
        base_learns: Whether the base is trained; if not, it stays in evaluation mode, too.
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
        self.width, self.still, self.base_learns = width, still, True

    def __len__(self) -> int:
        """Count the branches."""
        return len(self.branches)

    @property
    def last(self) -> nn.Module:
        """The branch that is trained."""
        return self.branches[len(self) - 1]

    def add(self, source: int = -1) -> None:
        """Freeze all branches, and append a copy of branch ``source``, which is trained."""
        new = copy.deepcopy(self.branches[source]).requires_grad_(True)
        self.branches.requires_grad_(False)
        self.branches.append(new)
        self.train(self.training)

    def resize(self, count: int) -> None:
        """Change the number of branches to ``count``, with arbitrary values."""
        while len(self) < count:
            self.add()
        if len(self) > count:
            del self.branches[count:]
            self.last.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Features [n, len * width] of normalised images."""
        maps = self.base(images)
        return torch.cat([branch(maps) for branch in self.branches], dim=1)

    def train(self, mode: bool = True) -> "Branches":
        """Set the mode of the modules that are not frozen."""
        super().train(mode)
        for branch in self.branches[:-1] if self.still == "all" else self.branches[:-1][:1]:
            branch.eval()
        if not self.base_learns:
            self.base.eval()
        return self

    def freeze_base(self) -> None:
        """Freeze the base."""
        self.base_learns = False
        self.base.requires_grad_(False).eval()


class BranchesClassifier(Classifier):
    """A classifier over `Branches`; it takes the size of a state that it loads.

    Subclasses override `grow` and list their linear layers in ``heads`` (all but ``head`` may be
    None), and the layers among them that are not trained in ``frozen_heads``.
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
            mean: Mean of images in [0, 1] by channel; empty or zeros if unknown.
            std: Standard deviation by channel.
        """
        super().__init__(branches, branches.width, 1, mean, std)
        self.head = empty_linear(branches.width, 0, next(branches.parameters()))
        self.head.requires_grad_("head" not in self.frozen_heads)
        for name in self.heads[1:]:
            self.register_module(name, None)

    def normalised(self, images: Tensor) -> Tensor:
        """Convert images in [0, 1] to the backbone's input."""
        return (images - self.mean) / self.std

    def own(self, features: Tensor) -> Tensor:
        """The features [n, width] that come from the last branch."""
        return features[:, -self.backbone.width :]

    def trained(self) -> list[nn.Parameter]:
        """Parameters that are not frozen."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _load_from_state_dict(  # type: ignore[override]
        self, state_dict: Any, prefix: str, *args: Any
    ) -> None:
        """Take the size of the state first; torch loads a module before its children."""
        before = f"{prefix}backbone.branches."
        numbers = {int(k.removeprefix(before).split(".")[0]) for k in state_dict if before in k}
        self.backbone.resize(len(numbers))
        for name in self.heads:
            weight = state_dict.get(f"{prefix}{name}.weight")
            if weight is None:
                setattr(self, name, None)
                continue
            layer = empty_linear(weight.shape[1], weight.shape[0], self.mean)
            setattr(self, name, layer.requires_grad_(name not in self.frozen_heads))
        # Sizes are set already, so Classifier's own method, which resizes the head only, is
        # skipped.
        nn.Module._load_from_state_dict(self, state_dict, prefix, *args)


class MethodOf(nn.Module):
    """A module that calls another method of a module instead of its ``forward``."""

    def __init__(self, module: nn.Module, method: str) -> None:
        """Wrap ``module``, whose mode follows this one's."""
        super().__init__()
        self.module, self.method = module, method

    def forward(self, images: Tensor) -> Any:
        """Return the result of the method."""
        return getattr(self.module, self.method)(images)


class ExpandingClassifier(BranchesClassifier):
    """A branch for every task, and an auxiliary head on the newest one (DER of Yan et al., MEMO).

    Attributes:
        aux: Linear layer over the classes of the current task, with output 0 for all earlier
            classes; used only in training, None in the first task.
    """

    heads = ("head", "aux")
    aux: nn.Linear | None

    def grow(self, columns: int) -> None:
        """Prepare for a task after which there are ``columns`` classes.

        The first task trains the first branch. Each later one trains a copy of the branch before;
        the head keeps its old weights, and the auxiliary head is new.
        """
        known, width = self.columns, self.backbone.width
        if columns <= known:
            return
        if known:
            self.backbone.add()
            self.aux = fresh_linear(width, columns - known + 1, self.mean)
        self.head = grown(self.head, columns, len(self.backbone) * width)

    def expansion_loss(self, features: Tensor, labels: Tensor, weight: float) -> Tensor:
        """Cross-entropy of the head, plus ``weight`` times that of the auxiliary head, if any.

        Args:
            features: Features of all branches, [n, d].
            labels: Classes, int64 [n].
            weight: Factor of the auxiliary loss.
        """
        loss = cross_entropy(self.head(features), labels)
        if self.aux is None:
            return loss
        targets = aux_targets(labels, self.columns + 1 - self.aux.out_features)
        return loss + weight * cross_entropy(self.aux_logits(features), targets)

    def aux_logits(self, features: Tensor) -> Tensor:
        """Logits [n, new + 1] of the auxiliary head, of features [n, d]."""
        assert self.aux is not None
        return self.aux(self.own(features))


def aux_targets(labels: Tensor, known: int) -> Tensor:
    """Labels for the auxiliary head: 0 for all old classes, 1, 2, ... for the new ones."""
    return (labels - known + 1).clamp(min=0)
