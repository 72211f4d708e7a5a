"""BEEF: a branch per task with prototypes for old tasks and energies, and two numbers to fuse them.

Wang, Zhou, Liu, Ye, Bian, Zhan, Zhao, "BEEF: Bi-Compatible Class-Incremental Learning via
Energy-Based Expansion and Fusion", ICLR 2023; code G-U-N/ICLR23-BEEF 2903601, as in csm9493/GTEP
4cb3895: the variant without compression.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, softmax

from clgym.models.expanding import Branches, BranchesClassifier, empty_linear, fresh_linear

_STEP, _SUPPRESSED = 0.01, 1e-9
"""Step of the sampling along the gradient; logits of the batch's classes in the energy term."""


class BeefClassifier(BranchesClassifier):
    """Branches, of which the newest has heads of its own; all but ``head`` are fresh in each task.

    Attributes:
        head: Merged head of the past: the old classes on the frozen branches; frozen. Its bias is
            added where ``fixed``.
        new_head: Logits of the present task's classes.
        past: One logit for each previous task (backward prototypes); None in the first task.
        energies: One energy logit for each class seen (forward prototypes).
        alpha, beta: The pair of each previous task, which fits its logit to the old head's.
        task_of: Task of every class seen, int64 [c].
    """

    heads, frozen_heads = ("head", "new_head", "past", "energies"), ("head",)
    new_head: nn.Linear | None
    past: nn.Linear | None
    energies: nn.Linear | None
    task_of: Tensor

    def __init__(self, branch: Any, mean: Any = (), std: Any = (), *, fixed: bool = False) -> None:
        """Begin without a class.

        Args:
            branch: The first branch, with a ``width``.
            mean: Per channel, of images in [0, 1].
            std: Per channel.
            fixed: Without the two faults of the released code: the old head's bias is added to
                the logits, and all frozen branches stay in evaluation mode.
        """
        still: Literal["all", "first"] = "all" if fixed else "first"
        super().__init__(Branches(branch, branch.width, still=still), mean, std)
        self.fixed = fixed
        self.alpha, self.beta = nn.Parameter(torch.zeros(0)), nn.Parameter(torch.zeros(0))
        self.register_buffer("task_of", torch.zeros(0, dtype=torch.long))

    @property
    def columns(self) -> int:
        """Number of classes seen."""
        return len(self.task_of)

    @property
    def known(self) -> int:
        """Number of classes of earlier tasks."""
        return self.columns - (0 if self.new_head is None else self.new_head.out_features)

    def expand(self, columns: int, generator: torch.Generator) -> None:
        """Make ready for a task: merge the heads, add a copy of the first branch, make new heads.

        Args:
            columns: Classes seen, those of the task included.
            generator: Decides the weights of the heads.
        """
        known, like, width = self.columns, self.mean, self.backbone.width
        if known:
            self.head = self.merged_head()
            self.backbone.add(source=0)
        task = len(self.backbone) - 1
        self.past = fresh_linear(width, task, generator, like) if task else None
        self.new_head = fresh_linear(width, columns - known, generator, like)
        self.energies = fresh_linear(width, columns, generator, like)
        self.alpha, self.beta = (nn.Parameter(like.new_zeros(task)) for _ in range(2))
        self.task_of = torch.cat([self.task_of, self.task_of.new_full((columns - known,), task)])

    def logits(self, features: Tensor) -> Tensor:
        """Logits [n, c] of all classes seen, of features [n, tasks * d].

        Those of an old class: the old head's, plus the fused logit of its task.
        """
        assert self.new_head is not None
        own, width = self.own(features), self.backbone.width
        if self.past is None:
            return self.new_head(own)
        bias = self.head.bias if self.fixed else None
        old = linear(features[:, :-width], self.head.weight, bias)
        tasks = (1 + self.alpha) * self.past(own) + self.beta
        return torch.cat([old + tasks[:, self.task_of[: self.known]], self.new_head(own)], dim=1)

    @torch.no_grad()
    def merged_head(self) -> nn.Linear:
        """The frozen head of the next task: what `logits` computes, as one layer."""
        assert self.new_head is not None
        width = self.backbone.width
        merged = empty_linear(len(self.backbone) * width, self.columns, self.mean)
        merged.requires_grad_(False)
        weight, bias, known = merged.weight, merged.bias, self.known
        weight[known:, :-width] = 0
        weight[known:, -width:], bias[known:] = self.new_head.weight, self.new_head.bias
        if self.past is not None:
            tasks = self.task_of[:known]
            factor, shift = 1 + self.alpha[tasks], self.beta[tasks]
            weight[:known, :-width] = self.head.weight
            weight[:known, -width:] = factor[:, None] * self.past.weight[tasks]
            bias[:known] = self.head.bias + factor * self.past.bias[tasks] + shift
        return merged

    def train_logits(self, own: Tensor) -> Tensor:
        """Logits [n, tasks + new] of the previous tasks and the new classes.

        Args:
            own: Features of the newest branch, [n, d].
        """
        assert self.new_head is not None
        new = self.new_head(own)
        return new if self.past is None else torch.cat([self.past(own), new], dim=1)

    def joint_logits(self, own: Tensor) -> Tensor:
        """`train_logits` and behind them the energies of all classes seen, [n, tasks + new + c]."""
        assert self.energies is not None
        return torch.cat([self.train_logits(own), self.energies(own)], dim=1)

    def train_targets(self, labels: Tensor) -> Tensor:
        """Outputs of `train_logits` that labels belong to: the task of an old class, or the class.

        Args:
            labels: Classes, int64 [n].
        """
        new = labels - self.known + len(self.backbone) - 1
        return torch.where(labels < self.known, self.task_of[labels], new)

    # --- energies -------------------------------------------------------------------------------

    def samples(self, images: Tensor, noise: Iterable[Tensor]) -> Tensor:
        """Images turned by 180 degrees, then moved to where the energies have less of the softmax.

        The newest branch is asked in evaluation mode; its running statistics stay.

        Args:
            images: As the backbone is fed, [n, C, H, W].
            noise: What is added after each step, in order: as many tensors as steps.
        """
        last, training = self.backbone.last, self.backbone.last.training
        last.eval()
        moved = images.detach().flip((2, 3))
        for added in noise:
            moved.requires_grad_()
            probabilities = softmax(self.joint_logits(last(moved)), dim=1)
            assert self.energies is not None
            mass = probabilities[:, -self.energies.out_features :].sum().log()
            (slope,) = torch.autograd.grad(mass, moved)
            moved = (moved - _STEP * slope + added).detach()
        last.train(training)
        return moved

    def energy_loss(self, samples: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of samples with the energies of their images' classes.

        The logits of all classes and tasks of the batch are suppressed, in all rows.

        Args:
            samples: See `samples`, [n, C, H, W].
            labels: Classes of the images that they come from, int64 [n].
        """
        joint = self.joint_logits(self.backbone.last(samples))
        present = self.train_targets(labels).unique()
        energies = joint.shape[1] - self.columns
        return cross_entropy(joint.index_fill(1, present, _SUPPRESSED), energies + labels)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("alpha", "beta"):
            value = state_dict[f"{prefix}{name}"]
            setattr(self, name, nn.Parameter(self.mean.new_zeros(len(value))))
        self.task_of = self.task_of.new_zeros(len(state_dict[f"{prefix}task_of"]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def aligned(logits: Tensor, tasks: int, divisor: float) -> Tensor:
    """Logits [n, tasks + new] whose first ``tasks`` columns are divided by ``divisor``."""
    return torch.cat([logits[:, :tasks] / divisor, logits[:, tasks:]], dim=1)
