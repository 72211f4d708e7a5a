"""FOSTER: a second branch is boosted on what the first one lacks, then both become one again.

Wang, Zhou, Ye, Zhan, "FOSTER: Feature Boosting and Compression for Class-Incremental Learning",
ECCV 2022 (arXiv 2204.04662); code G-U-N/ECCV22-FOSTER 555c7f0, as in csm9493/GTEP 4cb3895.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, softmax

from clgym.models.expanding import Branches, BranchesClassifier, fresh_linear, grown_linear


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Effective-number weights of classes, larger for rare ones; their mean is 1.

    Args:
        counts: Training images of each class, [c].
        beta: Between 0 and 1; 0 gives equal weights.

    Returns:
        float64 [c].
    """
    weights = (1 - beta) / (1 - beta ** counts.double())
    return weights * len(weights) / weights.sum()


def balanced_distillation(student: Tensor, teacher: Tensor, weights: Tensor, t: float) -> Tensor:
    """Cross-entropy of a student with its teacher's weighted probabilities.

    Args:
        student: Logits [n, c]; they are not weighted.
        teacher: Logits [n, c].
        weights: Factors of the teacher's probabilities, [c]; each row is then scaled to sum 1.
        t: Temperature of both.
    """
    wanted = softmax(teacher / t, dim=1) * weights.to(teacher)
    wanted = wanted / wanted.sum(1, keepdim=True)
    return -(wanted * log_softmax(student / t, dim=1)).sum(1).mean()


def boosting_terms(
    logits: Tensor, extra: Tensor, old: Tensor, labels: Tensor, weights: Tensor, t: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of the boosting loss, not weighted yet.

    Args:
        logits: Of the whole head, [n, c].
        extra: Of the trained branch's own head, [n, c].
        old: Of the previous task's network, [n, known]; without gradient.
        labels: Classes, int64 [n].
        weights: Divisors of the columns of ``logits``, [c].
        t: Temperature of the distillation.

    Returns:
        Cross-entropy of the balanced logits; cross-entropy of ``extra``; distillation of ``old``.
    """
    balanced = cross_entropy(logits / weights.to(logits), labels)
    student = log_softmax(logits[:, : old.shape[1]] / t, dim=1)
    distilled = -(softmax(old / t, dim=1) * student).sum(1).mean()
    return balanced, cross_entropy(extra, labels), distilled


class BoostedClassifier(BranchesClassifier):
    """One branch, or two of which the first is frozen.

    Attributes:
        old_head: Head of the previous task on the frozen branch; frozen. None with one branch.
        extra: Head of all classes on the trained branch alone; None with one branch.
    """

    heads, frozen_heads = ("head", "old_head", "extra"), ("old_head",)
    old_head: nn.Linear | None
    extra: nn.Linear | None

    def boost(self, columns: int, generator: torch.Generator) -> None:
        """Make ready for a task: a second branch, except in the first one.

        Args:
            columns: Classes seen, those of the task included.
            generator: Decides the fresh entries of the heads.
        """
        width = self.backbone.width
        if self.columns:
            self.old_head = self.head.requires_grad_(False)
            self.backbone.add()
            self.extra = fresh_linear(width, columns, generator, self.mean)
        self.head = grown_linear(self.head, len(self.backbone) * width, columns, generator)

    def old_logits(self, features: Tensor) -> Tensor:
        """Logits [n, known] of the previous task's network, of features [n, 2 d]."""
        assert self.old_head is not None
        return self.old_head(features[:, : self.backbone.width])

    def extra_logits(self, features: Tensor) -> Tensor:
        """Logits [n, c] of the trained branch alone, of features [n, 2 d]."""
        assert self.extra is not None
        return self.extra(self.own(features))

    def student(self, generator: torch.Generator) -> "BoostedClassifier":
        """A network of one branch: a copy of the frozen one, whose head knows the old classes."""
        assert self.old_head is not None
        first = copy.deepcopy(self.backbone.branches[0]).requires_grad_(True)
        student = BoostedClassifier(Branches(first, self.backbone.width))
        student.mean, student.std = self.mean, self.std
        student.head = grown_linear(self.old_head, self.backbone.width, self.columns, generator)
        return student.to(self.mean).train()
